//! Owns when a snapshot is written, and giving up the log behind it.
//!
//! A snapshot is a copy of a sealed image, block by block, so it holds up neither
//! checkpoints nor writers. The log is trimmed only to a snapshot that was read
//! back and found whole.

use std::path::Path;

use super::image_state::Image;
use super::snapshot::{self, SnapshotHeader, SnapshotInfo, SnapshotWriter};
use super::{Disk, Engine};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::ahead::Ahead;
use crate::observe::{self, Work};
use crate::sync::atomic::Ordering;
use crate::vfs::temporary_name;

/// So many segments that are not full make a snapshot due: each opening begins one.
const SEGMENTS_MAX: u64 = 64;

impl Engine {
    /// Writes a snapshot if the log has grown enough since the last one, and trims
    /// the log.
    pub(super) fn snapshot_if_due(&self) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let Some(image) = self.image() else {
            return Ok(());
        };
        if !self.options.snapshots {
            disk.log.trim(image.manifest.lsn)?;
            self.room_lock.lock().snapshot_failure = None;
            return Ok(());
        }
        let snapshot = Lsn::new(disk.snapshot.load(Ordering::Acquire));
        let (behind, segments) = disk.log.bytes_behind(snapshot);
        let least = self
            .options
            .snapshot_log_bytes_min
            .max(image.manifest.live_bytes() / 2);
        let least = least.min(self.options.log.log_bytes_max / 2);
        let full = behind / self.options.log.segment_bytes_max.max(1);
        let small = (segments as u64).saturating_sub(full);
        if image.manifest.lsn > snapshot && (behind > least || small > SEGMENTS_MAX) {
            self.snapshot()?;
        }
        Ok(())
    }

    /// Writes a snapshot of the image as it is, verifies it, and trims the log.
    pub(crate) fn snapshot(&self) -> Result<Lsn> {
        let Some(disk) = &self.disk else {
            return Ok(self.visible());
        };
        let outcome = self.snapshot_and_trim(disk);
        self.room_lock.lock().snapshot_failure = outcome.as_ref().err().map(Error::to_string);
        outcome
    }

    fn snapshot_and_trim(&self, disk: &Disk) -> Result<Lsn> {
        let _one_at_a_time = disk.snapshotting.lock();
        disk.log.check()?;
        let begun = clock::monotonic();
        let span = observe::span(Work::Snapshot, Some(disk.folder.root()));
        let mut attempts = 0;
        let lsn = loop {
            let Some(image) = self.image() else {
                return Ok(Lsn::ZERO);
            };
            match self.write_snapshot(disk, &image) {
                Ok(()) => break image.manifest.lsn,
                Err(Failed::Image(e)) if attempts < 2 => {
                    attempts += 1;
                    self.heal(&image, &e)?;
                }
                Err(failed) => {
                    // Each attempt has a name of its own: on a disk that is nearly full
                    // they would take what the log needs. Where that fails too there is
                    // nothing to add to the first failure.
                    let _ = disk.folder.remove_snapshots(|_| false);
                    return Err(match failed {
                        Failed::Image(e) => self.beyond_healing(&e),
                        Failed::Other(e) => e,
                    });
                }
            }
        };
        disk.snapshot.store(lsn.get(), Ordering::Release);
        self.figures.snapshot.record_since(begun);
        span.reached(lsn);
        self.tell_done("snapshot written", lsn);
        self.remove_older_snapshots(disk, lsn)?;
        disk.log.trim(lsn)?;
        self.tell_levels();
        Ok(lsn)
    }

    fn write_snapshot(&self, disk: &Disk, image: &Image) -> std::result::Result<(), Failed> {
        let vfs = &*disk.folder.vfs;
        let path = disk.folder.snapshot(image.manifest.lsn);
        let temporary = temporary_name(&path);
        let written = self.write_blocks(disk, image, &temporary, &mut |_| Ok(()))?;
        snapshot::read_back(vfs, &temporary, &written)?;
        let named = vfs
            .rename(&temporary, &path)
            .and_then(|()| vfs.sync_dir(&disk.folder.snapshots()));
        named.map_err(|e| Error::io("name the snapshot", &path, e))?;
        Ok(())
    }

    /// Writes a snapshot of an image under a temporary name, and syncs it. `told` hears
    /// the bytes of each block.
    pub(super) fn write_blocks(
        &self,
        disk: &Disk,
        image: &Image,
        temporary: &Path,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> std::result::Result<SnapshotInfo, Failed> {
        let header = SnapshotHeader {
            store: self.store,
            origin: None,
            lsn: image.manifest.lsn,
            time_micros: image.manifest.time_micros,
            schema: image.manifest.schema,
        };
        let mut writer = SnapshotWriter::create(&*disk.folder.vfs, temporary, header)?;
        let metas = &image.manifest.blocks;
        let mut ahead = Ahead::default();
        for (at, meta) in metas.iter().enumerate() {
            if self.is_closed() {
                return Err(Error::Closed.into());
            }
            let blocks = image.blocks();
            let block = blocks.and_then(|blocks| ahead.take(blocks, metas, at));
            let block = block.map_err(Failed::Image)?;
            writer.push_block(
                block.bytes(),
                &meta.first_key,
                meta.entries,
                meta.live_bytes,
            )?;
            told(block.bytes().len() as u64)?;
            clock::give_way();
        }
        Ok(writer.finish()?)
    }

    /// Removes snapshots before `newest`, and files that were never finished.
    pub(super) fn remove_older_snapshots(&self, disk: &Disk, newest: Lsn) -> Result<()> {
        disk.folder.remove_snapshots(|lsn| lsn != newest)
    }
}

/// Why a snapshot did not come about.
pub(super) enum Failed {
    Image(crate::image::ImageError),
    Other(Error),
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}
