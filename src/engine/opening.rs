//! Owns opening: from a folder in whatever state to an engine that serves.
//!
//! The order: read what vouches (format, snapshots, manifest), refusing anything
//! newer before a byte is changed; open the log, which seals what it kept under a
//! new epoch; open or rebuild the image; replay the log behind it; put right what
//! is missing for the next time.

use std::path::Path;
use std::sync::Arc;

use super::body::schema_of;
use super::checkpoint::Switching;
use super::expiry::Expiry;
use super::feed::Feed;
use super::folder::Folder;
use super::image_state::{Current, Image};
use super::maintenance::Threads;
use super::options::EngineOptions;
use super::place::remove_unfinished;
use super::pressure::Pressure;
use super::rebuild::cleared;
use super::report::{Healed, Recovery};
use super::sequencer::Sequencer;
use super::slots::Slots;
use super::snapshot::{self, SnapshotReader};
use super::{Disk, Engine, Figures};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ids::{BlockId, Lsn, StoreId};
use crate::image::choice::Choice;
use crate::image::manifest::Manifest;
use crate::image::store::Blocks;
use crate::image::{ImageBackend, ImageError, ImageErrorKind};
use crate::observe::{self, Work};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::vfs::Vfs;
use crate::wal::{Known, Log, Room};

/// What sled may write before it is open: a snapshot of its own, and a segment of 2 MiB
/// that it fills with zeros where it was torn.
const IMAGE_ROOM_BYTES: u64 = 8 * 1024 * 1024;

/// The parts that an engine works with.
#[derive(Clone, Debug)]
pub(crate) struct Components {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) image: Choice,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What the folder says before the log is read.
struct Vouched {
    manifest: Option<Manifest>,
    /// The newest snapshot by name, and the newest that is whole at both ends.
    snapshot_named: Lsn,
    snapshot: Lsn,
    /// Up to which LSN manifest or snapshot hold the state, and its schema version there.
    schema: (Lsn, u32),
    healed: Vec<Healed>,
}

impl Engine {
    /// An engine without a folder.
    pub(crate) fn in_memory(options: EngineOptions, clock: Arc<dyn Clock>) -> Arc<Self> {
        let store = crate::clock::random_bytes().map(StoreId::from_bytes);
        // Nothing on disk carries this id, so it need not be unique.
        let store = store.unwrap_or(StoreId::from_bytes([0; 16]));
        Arc::new(Self::assemble(options, store, clock, None))
    }

    fn assemble(
        options: EngineOptions,
        store: StoreId,
        clock: Arc<dyn Clock>,
        disk: Option<Disk>,
    ) -> Self {
        let figures = Figures::new(disk.as_ref().map(|disk| disk.folder.root()));
        Self {
            options,
            store,
            clock,
            disk,
            sequencer: Mutex::new(Sequencer {
                generation: 1,
                ..Sequencer::default()
            }),
            visible: AtomicU64::new(0),
            schema: AtomicU32::new(0),
            slots: Slots::default(),
            reservations: Arc::default(),
            held: AtomicU64::new(0),
            active: AtomicU64::new(0),
            unmerged: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            room: Condvar::new(),
            room_lock: Mutex::new(Pressure::default()),
            closed: AtomicBool::new(false),
            threads: Mutex::new(Threads::default()),
            figures,
            feed: Feed::default(),
            expiry: Expiry::default(),
        }
    }

    /// Opens the store in `root`, or makes one.
    ///
    /// # Errors
    /// [`Error::DiskFull`] where there is no room even after all that the store does
    /// without was removed.
    pub(crate) fn open(
        root: &Path,
        options: EngineOptions,
        components: Components,
    ) -> Result<Arc<Self>> {
        let span = observe::span(Work::Open, Some(root));
        let vfs = Arc::clone(&components.vfs);
        let opened = match Self::open_with(root, options.clone(), components.clone(), Room::Ample) {
            Err(e) if e.is_disk_full() => {
                let scarce = Self::open_with(root, options, components, Room::Scarce);
                scarce.map_err(|e| match e {
                    Error::Io { ref path, .. } if e.is_disk_full() => Error::DiskFull {
                        path: path.clone(),
                        needed: IMAGE_ROOM_BYTES,
                    },
                    e => e,
                })
            }
            opened => opened,
        }?;
        remove_unfinished(&*vfs, root);
        span.reached(opened.visible());
        Ok(opened)
    }

    fn open_with(
        root: &Path,
        options: EngineOptions,
        components: Components,
        room: Room,
    ) -> Result<Arc<Self>> {
        let now = components.clock.now_micros();
        let folder = Folder::open(Arc::clone(&components.vfs), root, now)?;
        let vouched = read_vouched(&folder)?;
        let image_lsn = vouched.manifest.as_ref().map(|manifest| manifest.lsn);
        // To where the log was being trimmed: without snapshots, to the image.
        let trimmed = match (options.snapshots, image_lsn) {
            (false, Some(lsn)) => vouched.snapshot_named.max(lsn),
            _ => vouched.snapshot_named,
        };
        let known = Known {
            store: folder.store,
            snapshot: trimmed,
            vouched: image_lsn
                .unwrap_or(vouched.snapshot)
                .max(vouched.snapshot_named),
            reach: image_lsn.unwrap_or(vouched.snapshot),
            fresh_base: None,
            salvage: options.salvage,
            room,
        };
        let vfs = Arc::clone(&components.vfs);
        let (wal, marks) = (folder.wal(), folder.marks());
        let (behind, mut schema) = vouched.schema;
        let found = Log::find(&*vfs, &wal, &marks, known, &mut |lsn, body| {
            if lsn > behind {
                schema = schema_of(body).unwrap_or(schema);
            }
        })?;
        refuse_newer_schema(&folder, schema, options.schema_max)?;
        let backend = backend_of(&folder, vouched.manifest.as_ref(), &components)?;
        // From here on it is changed.
        folder.settle()?;
        if room == Room::Scarce {
            give_back(&folder, vouched.manifest.as_ref())?;
        }
        let opening = Log::open(vfs, &wal, &marks, options.log.clone(), found)?;
        let mut recovery = Recovery {
            epoch: opening.epoch,
            last_lsn: opening.last,
            durable_mark: opening.mark,
            snapshot_lsn: vouched.snapshot,
            closed_cleanly: opening.closed_cleanly,
            cut: opening.cut,
            healed: vouched.healed,
            lost: opening.loss.into_iter().collect(),
            ..Recovery::default()
        };
        if let Some(what) = opening.mark_damage {
            recovery.healed.push(Healed {
                path: folder.marks(),
                what,
                action: "the marks in the log were used, and the file was written anew".into(),
            });
        }
        let mut log = opening.log;
        log.tell_as(&folder.root().display().to_string());
        let disk = Disk {
            image: Current::new(Image::new(empty_manifest(folder.store, 1), None, 0)),
            log,
            backend,
            switching: Mutex::new(Switching::default()),
            snapshotting: Mutex::new(()),
            snapshot: AtomicU64::new(vouched.snapshot.get()),
            recovery: Mutex::new(recovery),
            folder,
        };
        let store = disk.folder.store;
        let engine = Self::assemble(options, store, components.clock, Some(disk));
        let engine = Arc::new(engine);
        for healed in &engine.recovery().healed {
            engine.tell_healed(healed);
        }
        engine.recover(vouched.manifest, opening.last, opening.last_time_micros)?;
        engine.tell_opened(root, &engine.recovery());
        engine.tell_levels();
        engine.start_threads()?;
        Ok(engine)
    }

    fn recover(self: &Arc<Self>, manifest: Option<Manifest>, last: Lsn, time: u64) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let vouched = manifest.is_some();
        self.load_image(disk, manifest)?;
        let image_lsn = disk.image.read().manifest.lsn;
        {
            let mut sequencer = self.sequencer.lock();
            sequencer.last = image_lsn;
            sequencer.time_micros = time.max(disk.image.read().manifest.time_micros);
            self.expiry.see(sequencer.time_micros);
            let schema = disk.image.read().manifest.schema;
            self.schema.store(schema, Ordering::Release);
            self.visible.store(image_lsn.get(), Ordering::Release);
        }
        for block in &disk.image.read().manifest.blocks {
            self.expiry.note(block.deadline);
        }
        let replayed = self.replay_log(disk, (image_lsn, last))?;
        // The log went on by a frame that says that it was opened.
        let opened = disk.log.last();
        self.sequencer.lock().last = opened;
        self.visible.store(opened.get(), Ordering::Release);
        {
            let mut recovery = disk.recovery.lock();
            recovery.image_lsn = image_lsn;
            recovery.replayed_commits = replayed;
            // A clean close leaves a manifest, unless nothing was ever written.
            let missing = !vouched && recovery.closed_cleanly && replayed > 0;
            if missing && recovery.healed.is_empty() {
                let healed = Healed {
                    path: disk.folder.manifest(),
                    what: "the manifest is missing, though the store was closed".into(),
                    action: "the state was read back from the log".into(),
                };
                self.tell_healed(&healed);
                recovery.healed.push(healed);
            }
        }
        self.check_copies(disk)
    }

    /// Opens the image that the manifest vouches for, or builds one.
    fn load_image(&self, disk: &Disk, manifest: Option<Manifest>) -> Result<()> {
        let mut switching = disk.switching.lock();
        let snapshot = Lsn::new(disk.snapshot.load(Ordering::Acquire));
        let folders = disk.folder.list_images()?;
        let highest = folders.iter().max().copied().unwrap_or(0);
        match manifest {
            Some(manifest) if !manifest.blocks.is_empty() => {
                self.open_image(disk, &mut switching, manifest)?;
            }
            Some(manifest) => {
                disk.image.publish(Image::new(manifest, None, 0));
            }
            None => {
                let mut stale = empty_manifest(self.store, highest);
                stale.lsn = snapshot;
                let stale = Arc::new(Image::new(stale, None, 0));
                let why = "the manifest is missing or damaged";
                if snapshot > Lsn::ZERO && folders.is_empty() {
                    // A store that was persisted begins with a snapshot alone.
                    self.build_image(disk, &mut switching, &stale, why, snapshot)?;
                } else if snapshot > Lsn::ZERO {
                    self.rebuild(disk, &mut switching, &stale, why)?;
                } else {
                    let fresh = empty_manifest(self.store, highest + 1);
                    disk.image.publish(Image::new(fresh, None, 0));
                }
            }
        }
        let used = disk.image.read().manifest.folder;
        for number in folders.into_iter().filter(|&number| number != used) {
            // Best effort: what is left of an earlier image is in nobody's way.
            let _ = disk.folder.remove_image(number);
        }
        Ok(())
    }

    fn open_image(&self, disk: &Disk, switching: &mut Switching, manifest: Manifest) -> Result<()> {
        let folder = disk.folder.image(manifest.folder);
        let small = manifest.live_bytes() <= self.options.check_bytes_on_open;
        let opened = open_blocks(disk, &folder, self.options.cache_bytes).and_then(|blocks| {
            if small {
                for meta in &manifest.blocks {
                    blocks.read_uncached(meta)?;
                }
            }
            let doomed = cleared(blocks.delete(&manifest.doomed))?;
            let leftovers = cleared(blocks.delete_from(manifest.next_block))?;
            Ok((blocks, doomed, leftovers))
        });
        match opened {
            Ok((blocks, doomed, leftovers)) => {
                if !doomed {
                    *switching = Switching::new(manifest.doomed.clone());
                }
                switching.leftovers = !leftovers;
                disk.image
                    .publish(Image::new(manifest, Some(Arc::new(blocks)), 0));
                Ok(())
            }
            Err(e) if e.kind.is_of_the_disk() => Err(self.beyond_healing(&e)),
            Err(e) => {
                let broken = Arc::new(Image::new(manifest, None, 0));
                self.rebuild(disk, switching, &broken, &e.to_string())
                    .map(drop)
            }
        }
    }

    /// Sees to it that snapshot and log can rebuild the image the next time.
    fn check_copies(&self, disk: &Disk) -> Result<()> {
        if !self.options.snapshots {
            return Ok(());
        }
        let snapshot = Lsn::new(disk.snapshot.load(Ordering::Acquire));
        let mut problem = None;
        if let Some(loss) = disk.recovery.lock().lost.first() {
            problem = Some(format!("the log was cut: {}", loss.damage));
        } else if disk.log.base() > snapshot {
            problem = Some("the snapshot that the log begins behind is missing or damaged".into());
        } else if let Some(named) = disk
            .folder
            .list_snapshots()?
            .last()
            .filter(|&&n| n > snapshot)
        {
            // The log may reach back far enough to do without.
            problem = Some(format!("the snapshot at LSN {named} is damaged"));
        } else if snapshot > Lsn::ZERO {
            let path = disk.folder.snapshot(snapshot);
            let vfs = &*disk.folder.vfs;
            let len = vfs
                .metadata(&path)
                .map_err(|e| Error::io("look at", &path, e))?;
            if len.is_some_and(|entry| entry.len <= self.options.check_bytes_on_open) {
                match snapshot::verify(vfs, &path, Some(self.store)) {
                    Ok(_) => {}
                    Err(Error::Corrupt(damage)) => problem = Some(damage.to_string()),
                    Err(e) => return Err(e),
                }
            }
        }
        let Some(what) = problem else {
            return self.remove_older_snapshots(disk, snapshot);
        };
        // The state is whole in image and log; only its copy is not.
        self.checkpoint()?;
        let lsn = self.snapshot()?;
        let mut recovery = disk.recovery.lock();
        recovery.snapshot_lsn = lsn;
        let healed = Healed {
            path: disk.folder.snapshots(),
            what,
            action: format!("a new snapshot was written at LSN {lsn}"),
        };
        self.tell_healed(&healed);
        recovery.healed.push(healed);
        Ok(())
    }
}

fn open_blocks(disk: &Disk, folder: &Path, cache_bytes: u64) -> Result<Blocks, ImageError> {
    let there = disk.folder.vfs.metadata(folder);
    let there = there.map_err(|e| ImageError::new("open", ImageErrorKind::Io, e.to_string()))?;
    if there.is_none() {
        let kind = ImageErrorKind::Damaged;
        return Err(ImageError::new("open", kind, "its folder is missing"));
    }
    Ok(Blocks::new(disk.backend.open(folder)?, cache_bytes))
}

fn empty_manifest(store: StoreId, folder: u64) -> Manifest {
    Manifest {
        store,
        folder,
        lsn: Lsn::ZERO,
        time_micros: 0,
        schema: 0,
        next_block: BlockId::new(1),
        doomed: Vec::new(),
        blocks: Vec::new(),
    }
}

/// What keeps the image of the store: where the program leaves it open, what made the one that
/// the manifest names or, without it, the newest one.
fn backend_of(
    folder: &Folder,
    manifest: Option<&Manifest>,
    components: &Components,
) -> Result<Arc<dyn ImageBackend>> {
    components.image.backend(&components.vfs, || {
        let mut numbers = folder.list_images()?;
        numbers.sort_unstable();
        numbers.extend(manifest.map(|manifest| manifest.folder));
        let newest_first = numbers.into_iter().rev();
        Ok(newest_first.map(|number| folder.image(number)).collect())
    })
}

/// A state that a newer program wrote is not for this one, and stays as it is.
fn refuse_newer_schema(folder: &Folder, found: u32, supported: Option<u32>) -> Result<()> {
    match supported {
        Some(supported) if found > supported => Err(Error::NewerSchema {
            path: folder.root().to_path_buf(),
            found,
            supported,
        }),
        _ => Ok(()),
    }
}

/// Removes, before anything is written, what no opening would read.
fn give_back(folder: &Folder, manifest: Option<&Manifest>) -> Result<()> {
    folder.remove_snapshots(|_| false)?;
    // Without a manifest nobody knows yet.
    let Some(manifest) = manifest else {
        return Ok(());
    };
    for number in folder.list_images()? {
        if number != manifest.folder {
            let removed = folder.remove_image(number);
            removed.map_err(|e| Error::io("remove", folder.image(number), e))?;
        }
    }
    Ok(())
}

fn read_vouched(folder: &Folder) -> Result<Vouched> {
    let vfs = &*folder.vfs;
    let mut healed = Vec::new();
    let mut found = None;
    let path = folder.manifest();
    let manifest = match Manifest::read(vfs, &path, folder.store) {
        Ok(manifest) => manifest,
        Err(Error::Corrupt(damage)) => {
            healed.push(Healed {
                path,
                what: damage.to_string(),
                action: "the image was rebuilt from snapshot and log".into(),
            });
            None
        }
        Err(e) => return Err(e),
    };
    let named = folder.list_snapshots()?;
    for &lsn in named.iter().rev() {
        match SnapshotReader::open(vfs, &folder.snapshot(lsn), Some(folder.store)) {
            Ok(reader) if reader.info().header.lsn == lsn => {
                found = Some(reader.info().header);
                break;
            }
            Ok(_) | Err(Error::Corrupt(_)) => {}
            Err(e) => return Err(e),
        }
    }
    let manifest = manifest.filter(|manifest| {
        // A snapshot is of an image whose manifest was durable before.
        let stale = found.is_some_and(|snapshot| manifest.lsn < snapshot.lsn);
        if stale {
            healed.push(Healed {
                path: folder.manifest(),
                what: format!("it is of LSN {}, and older than the snapshot", manifest.lsn),
                action: "the image was rebuilt from snapshot and log".into(),
            });
        }
        !stale
    });
    let of_snapshot = found.map(|snapshot| (snapshot.lsn, snapshot.schema));
    let schema = match &manifest {
        Some(manifest) => (manifest.lsn, manifest.schema),
        None => of_snapshot.unwrap_or_default(),
    };
    Ok(Vouched {
        manifest,
        snapshot_named: named.last().copied().unwrap_or_default(),
        snapshot: found.map_or(Lsn::ZERO, |snapshot| snapshot.lsn),
        schema,
        healed,
    })
}

#[cfg(test)]
mod tests;
