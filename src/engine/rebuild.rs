//! Owns healing: opening the image again after the disk refused, and building it
//! anew from snapshot and log where it is damaged.

mod progress;

use std::io;
use std::sync::Arc;

use super::body::schema_of;
use super::changes::Changes;
use super::checkpoint::Switching;
use super::image_state::Image;
use super::merge::ImageWriter;
use super::overlay::{Overlay, TakeEntries};
use super::packer::Packer;
use super::report::Healed;
use super::snapshot::{Section, SnapshotReader};
use super::{Disk, Engine};
use crate::error::{Corruption, Error, Result};
use crate::ids::{BlockId, Lsn};
use crate::image::manifest::{BlockMeta, Manifest};
use crate::image::store::Blocks;
use crate::image::{ImageError, ImageErrorKind};
use crate::observe::{self, Work};
use crate::sync::atomic::Ordering;

pub(crate) use self::progress::RebuildWatcher;
use self::progress::Teller;
pub use self::progress::{RebuildPhase, RebuildProgress};

/// What changes of the log may take in memory at least, where the cache may take less.
const CHANGES_BYTES_MIN: usize = 16 * 1024 * 1024;

/// What an image was filled with.
struct Restored {
    blocks: Vec<BlockMeta>,
    next_block: BlockId,
    /// Store time and schema version of the last commit in it.
    time_micros: u64,
    schema: u32,
}

impl Engine {
    /// After a read of `broken` failed: an image with the same content or a newer
    /// one that can be read.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where neither snapshot nor log can replace what is lost.
    pub(super) fn heal(&self, broken: &Arc<Image>, error: &ImageError) -> Result<Arc<Image>> {
        let Some(disk) = &self.disk else {
            return Err(self.beyond_healing(error));
        };
        let mut switching = disk.switching.lock();
        // Of a closed store too: the folder may be somebody else's by now, and a scan
        // that is still open must not open the image again.
        self.check()?;
        let current = Arc::clone(&disk.image.read());
        if !current.shares_blocks(broken) {
            // Somebody else was here first.
            return Ok(current);
        }
        let damage = switching.damage.take();
        let damage = damage.or_else(|| (!error.kind.is_of_the_disk()).then(|| error.to_string()));
        match damage {
            Some(why) => self.rebuild(disk, &mut switching, &current, &why),
            None => {
                self.reopen_image(disk, &mut switching)?;
                Ok(Arc::clone(&disk.image.read()))
            }
        }
    }

    /// What a caller is told where healing did not help.
    pub(super) fn beyond_healing(&self, error: &ImageError) -> Error {
        let path = self
            .disk
            .as_ref()
            .map(|disk| disk.folder.images())
            .unwrap_or_default();
        match error.kind {
            ImageErrorKind::Io => Error::io(error.op, path, io::Error::other(error.reason.clone())),
            ImageErrorKind::Full => {
                let full = io::Error::new(io::ErrorKind::StorageFull, error.reason.clone());
                Error::io(error.op, path, full)
            }
            _ => Corruption::new(path, error.reason.clone()).into(),
        }
    }

    /// Opens the backend again, with the same manifest.
    pub(super) fn reopen_image(&self, disk: &Disk, switching: &mut Switching) -> Result<()> {
        let old = Arc::clone(&disk.image.read());
        // Until it is open again it is closed, whoever comes next.
        switching.suspect = true;
        if let Ok(blocks) = old.blocks() {
            // It failed already; all that matters is that it lets go of its files.
            let _ = blocks.close();
        }
        let folder = disk.folder.image(old.manifest.folder);
        let blocks = disk.backend.open(&folder).and_then(|image| {
            let blocks = Blocks::new(image, self.options.cache_bytes);
            let cleared = cleared(blocks.delete_from(old.manifest.next_block))?;
            Ok((blocks, cleared))
        });
        match blocks {
            Ok((blocks, cleared)) => {
                switching.leftovers = !cleared;
                let manifest = old.manifest.clone();
                let image = Image::new(manifest, Some(Arc::new(blocks)), old.generation);
                disk.image.publish(image);
                switching.suspect = false;
                Ok(())
            }
            Err(e) if e.kind.is_of_the_disk() => Err(self.beyond_healing(&e)),
            Err(e) => self
                .rebuild(disk, switching, &old, &e.to_string())
                .map(drop),
        }
    }

    /// Builds the image at the LSN of `broken` anew, in another folder, from the
    /// newest snapshot and the log behind it.
    pub(super) fn rebuild(
        &self,
        disk: &Disk,
        switching: &mut Switching,
        broken: &Arc<Image>,
        why: &str,
    ) -> Result<Arc<Image>> {
        let span = observe::span(Work::Rebuild, Some(disk.folder.root()));
        let snapshot = Lsn::new(disk.snapshot.load(Ordering::Acquire));
        let built = match self.build_image(disk, switching, broken, why, snapshot) {
            // A newer snapshot took the place of the one that was being read.
            Err(_) if disk.snapshot.load(Ordering::Acquire) != snapshot.get() => {
                let snapshot = Lsn::new(disk.snapshot.load(Ordering::Acquire));
                self.build_image(disk, switching, broken, why, snapshot)
            }
            built => built,
        };
        let image = built.inspect_err(|_| switching.damage = Some(why.to_owned()))?;
        self.figures.rebuilds.increment();
        let lsn = image.manifest.lsn;
        span.reached(lsn);
        self.tell_done("image rebuilt", lsn);
        let healed = Healed {
            path: disk.folder.image(broken.manifest.folder),
            what: why.to_owned(),
            action: format!("rebuilt from snapshot {snapshot} and the log up to LSN {lsn}"),
        };
        self.tell_healed(&healed);
        disk.recovery.lock().healed.push(healed);
        Ok(image)
    }

    /// Builds an image at the LSN of `broken` and switches to it.
    pub(super) fn build_image(
        &self,
        disk: &Disk,
        switching: &mut Switching,
        broken: &Arc<Image>,
        why: &str,
        snapshot: Lsn,
    ) -> Result<Arc<Image>> {
        let lsn = broken.manifest.lsn;
        if disk.log.base() > snapshot || snapshot > lsn {
            return Err(Corruption::new(
                disk.folder.images(),
                format!("{why}; there is no snapshot and log to rebuild it from"),
            )
            .lsn(snapshot.next())
            .into());
        }
        if let Ok(blocks) = broken.blocks() {
            // Damaged already; all that matters is that it lets go of its files.
            let _ = blocks.close();
        }
        let number = self.next_folder(disk, broken.manifest.folder)?;
        let blocks = self.new_image(disk, number)?;
        let restored = self.restore(disk, &blocks, snapshot, &broken.manifest);
        // Whoever stops it again and again would fill the disk.
        let restored = restored.inspect_err(|_| self.give_up_folder(disk, number, &blocks))?;
        blocks.sync().map_err(|e| self.beyond_healing(&e))?;
        let manifest = Manifest {
            store: self.store,
            folder: number,
            lsn,
            time_micros: restored.time_micros.max(broken.manifest.time_micros),
            schema: restored.schema,
            next_block: restored.next_block,
            doomed: Vec::new(),
            blocks: restored.blocks,
        };
        let image = self.switch(disk, manifest, blocks, broken.generation)?;
        *switching = Switching::default();
        // The old folder is of no use; if it cannot be removed now, opening does it.
        let _ = disk.folder.remove_image(broken.manifest.folder);
        Ok(image)
    }

    /// The first image of a store, or the one in a new folder: empty.
    pub(super) fn new_image(&self, disk: &Disk, number: u64) -> Result<Arc<Blocks>> {
        let image = self.open_new_folder(disk, number)?;
        Ok(Arc::new(Blocks::new(image, self.options.cache_bytes)))
    }

    /// Opens the backend in an empty folder of this number.
    pub(super) fn open_new_folder(
        &self,
        disk: &Disk,
        number: u64,
    ) -> Result<Box<dyn crate::image::Image>> {
        let folder = disk.folder.image(number);
        let vfs = &*disk.folder.vfs;
        let fresh = (|| {
            if vfs.metadata(&folder)?.is_some() {
                vfs.remove_dir_all(&folder)?;
            }
            vfs.create_dir(&folder)?;
            vfs.sync_dir(&disk.folder.images())
        })();
        fresh.map_err(|e| Error::io("make the folder", &folder, e))?;
        let opened = disk.backend.open(&folder);
        opened.map_err(|e| self.beyond_healing(&e))
    }

    /// Opens the backend for a store that had no image yet.
    pub(super) fn first_image(&self, disk: &Disk, old: &Arc<Image>) -> Result<Arc<Image>> {
        let blocks = self.new_image(disk, old.manifest.folder)?;
        let image = Image::new(old.manifest.clone(), Some(blocks), old.generation);
        Ok(disk.image.publish(image))
    }

    /// Fills an empty image with a snapshot and the log behind it, up to the LSN of the image
    /// that it replaces, block by block. Changes that memory has no room for are gathered by
    /// ranges of their keys: to read the log again costs less than to write a block again.
    fn restore(
        &self,
        disk: &Disk,
        blocks: &Arc<Blocks>,
        snapshot: Lsn,
        broken: &Manifest,
    ) -> Result<Restored> {
        let upto = broken.lsn;
        let (mut time, mut schema) = (0, 0);
        let mut totals = (broken.entries(), broken.live_bytes());
        let mut reader = None;
        if snapshot > Lsn::ZERO {
            let path = disk.folder.snapshot(snapshot);
            let opened = SnapshotReader::open(&*disk.folder.vfs, &path, Some(self.store))?;
            let header = opened.info().header;
            (time, schema) = (header.time_micros, header.schema);
            if upto == snapshot {
                totals = (opened.info().entries, opened.info().live_bytes);
            }
            reader = Some(opened);
        }
        let writer = ImageWriter::new(blocks, BlockId::new(1));
        let mut overlay = Overlay::new(
            reader,
            Filling {
                engine: self,
                packer: Packer::new(writer, self.options.block_bytes),
                teller: Teller::new(self, totals),
            },
        );
        // The cache of the image that is being made is empty meanwhile.
        let room = usize::try_from(self.options.cache_bytes).unwrap_or(usize::MAX);
        let room = room.max(CHANGES_BYTES_MIN);
        // Without a log behind the snapshot there is nothing to lay over it.
        let mut next = (upto > snapshot).then(Changes::default);
        if next.is_none() {
            overlay.to.teller.image()?;
        }
        while let Some(mut changes) = next {
            overlay.to.teller.log(disk.log.bytes_behind(snapshot).0)?;
            disk.log.replay((snapshot, upto), |lsn, micros, body| {
                time = time.max(micros);
                schema = schema_of(body).unwrap_or(schema);
                changes.add(body, lsn, disk.folder.root())?;
                while changes.bytes() > room && changes.halve() {}
                overlay.to.teller.read(body.len())
            })?;
            overlay.to.teller.image()?;
            next = changes.behind();
            changes.give(&mut overlay)?;
        }
        let mut filled = overlay.finish()?;
        filled.teller.tell()?;
        let failed = |e: ImageError| self.beyond_healing(&e);
        let writer = filled.packer.finish().map_err(failed)?;
        let (blocks, next_block) = writer.finish().map_err(failed)?;
        Ok(Restored {
            blocks,
            next_block,
            time_micros: time,
            schema,
        })
    }
}

/// An image that is being filled.
struct Filling<'a> {
    engine: &'a Engine,
    packer: Packer<ImageWriter<'a>>,
    teller: Teller<'a>,
}

impl TakeEntries for Filling<'_> {
    fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<()> {
        let pushed = self.packer.push(key, lsn, cell);
        pushed.map_err(|e| self.engine.beyond_healing(&e))?;
        self.teller.wrote(1, (key.len() + cell.len()) as u64)
    }

    fn push_section(&mut self, section: &Section) -> Result<()> {
        let pushed = self.packer.push_section(section);
        pushed.map_err(|e| self.engine.beyond_healing(&e))?;
        self.teller
            .wrote(u64::from(section.entries), section.live_bytes)
    }

    fn underfull(&self) -> bool {
        self.packer.underfull()
    }
}

/// Whether what is of no use was removed: on a full disk it stays for now, and what is
/// of use can be read.
pub(super) fn cleared(outcome: Result<(), ImageError>) -> Result<bool, ImageError> {
    match outcome {
        Err(e) if e.kind == ImageErrorKind::Full => Ok(false),
        outcome => outcome.map(|()| true),
    }
}
