//! Owns the commit pipeline, the memtable, checkpoints, snapshots and recovery:
//! what makes keys and cells durable. It knows neither values nor types.
//!
//! What stays true:
//! - The order of the log is the order of the commits; both are decided under one
//!   short lock, the sequencer's.
//! - What is visible is in the log's buffer; what is acknowledged is durable.
//! - The image holds exactly the state at its manifest's LSN, and the log behind
//!   the newest verified snapshot is never given up.

pub(crate) mod body;
pub(crate) mod changes;
mod checkpoint;
mod commit;
mod events;
mod expiry;
pub(crate) mod feed;
mod figures;
pub(crate) mod folder;
mod image_state;
mod listing;
mod maintenance;
mod merge;
pub(crate) mod opening;
pub(crate) mod options;
pub(crate) mod overlay;
pub(crate) mod packer;
pub(crate) mod part;
pub(crate) mod passage;
mod persist;
pub(crate) mod place;
mod pressure;
pub(crate) mod quota;
pub(crate) mod rebuild;
mod renewal;
mod replay;
pub(crate) mod report;
mod reservation;
mod sequencer;
pub(crate) mod shortcut;
mod slots;
pub(crate) mod small_key;
pub(crate) mod snapshot;
mod snapshots;
pub(crate) mod source;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod tap;
pub(crate) mod usage;
mod verify;
pub(crate) mod view;

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::image::cache::CacheCounts;
use crate::observe::Summary;
use crate::scope::ScopeKind;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::wal::{Log, LogStats, Seat};

pub(crate) use commit::{Batch, KeyOp, Op, Ops, Read, SlotBatch};
use feed::WatchStats;
use figures::Figures;
pub(crate) use image_state::Cell;
use image_state::Image;
use maintenance::Threads;
use options::EngineOptions;
use quota::{Quota, QuotaChange};
use report::Recovery;
use reservation::Reservations;
pub(crate) use reservation::{Claim, Ticket};
use sequencer::Sequencer;
use slots::Slots;
use table::Slot;

/// The engine of one open store.
pub(crate) struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) store: StoreId,
    clock: Arc<dyn Clock>,
    /// `None` for a store without a folder.
    disk: Option<Disk>,
    sequencer: Mutex<Sequencer>,
    /// The LSN of the last commit that was applied.
    visible: AtomicU64,
    /// The schema version of the state; changed under the sequencer's lock.
    schema: AtomicU32,
    slots: Slots,
    pub(crate) reservations: Arc<Reservations>,
    /// What the memtable takes, in bytes: of all generations, and of the newest.
    held: AtomicU64,
    active: AtomicU64,
    /// Bytes of log that the image does not have yet: all of them, and since the newest
    /// generation began.
    unmerged: AtomicU64,
    logged: AtomicU64,
    room: Condvar,
    room_lock: Mutex<pressure::Pressure>,
    closed: AtomicBool,
    threads: Mutex<Threads>,
    pub(crate) figures: Figures,
    feed: feed::Feed,
    expiry: expiry::Expiry,
}

/// What a store with a folder has beyond memory.
#[derive(Debug)]
struct Disk {
    folder: folder::Folder,
    log: Log,
    image: image_state::Current,
    backend: Arc<dyn crate::image::ImageBackend>,
    /// Held by whoever switches the manifest: checkpoint or rebuild.
    switching: Mutex<checkpoint::Switching>,
    /// Held by whoever writes a snapshot.
    snapshotting: Mutex<()>,
    /// The newest verified snapshot.
    snapshot: AtomicU64,
    recovery: Mutex<Recovery>,
}

/// Figures of an open engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineStats {
    pub(crate) commits: u64,
    pub(crate) conflicts: u64,
    pub(crate) checkpoints: u64,
    pub(crate) snapshots: u64,
    pub(crate) rebuilds: u64,
    pub(crate) expired: u64,
    pub(crate) visible: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) image_lsn: Lsn,
    pub(crate) snapshot_lsn: Lsn,
    pub(crate) memtable_bytes: u64,
    pub(crate) scopes_in_memory: u64,
    pub(crate) views: u64,
    pub(crate) watches: WatchStats,
    pub(crate) log: LogStats,
    pub(crate) image_blocks: u64,
    pub(crate) image_entries: u64,
    pub(crate) image_live_bytes: u64,
    pub(crate) image_bytes_on_disk: u64,
    pub(crate) cache: CacheCounts,
    pub(crate) commit: Summary,
    pub(crate) checkpoint: Summary,
    pub(crate) snapshot: Summary,
    pub(crate) last_failure: Option<String>,
}

/// Where it is and how far it came, and nothing of what it holds: buffer and memtable
/// have keys and values in them.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path())
            .field("store", &self.store)
            .field("visible", &self.visible())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// The slot of an encoded scope.
    pub(crate) fn slot(&self, prefix: &[u8]) -> Arc<Slot> {
        self.slots.get(prefix)
    }

    /// Sets how long values of an encoded scope last that do not say it; 0 for ever.
    pub(crate) fn set_default_ttl(&self, prefix: &[u8], micros: u64) {
        self.slots.set_ttl(prefix, micros);
    }

    /// Sets a quota that was read from the store, when that is opened.
    pub(crate) fn load_quota(&self, change: &QuotaChange) {
        self.set_quota(&mut self.sequencer.lock(), change);
    }

    /// The quota that was set for all scopes of a kind.
    pub(crate) fn kind_quota(&self, kind: ScopeKind) -> Quota {
        self.sequencer.lock().kinds.get(kind)
    }

    /// The LSN of the last commit that can be read.
    pub(crate) fn visible(&self) -> Lsn {
        Lsn::new(self.visible.load(Ordering::Acquire))
    }

    /// The schema version of the state; 0 where none was declared.
    pub(crate) fn schema(&self) -> u32 {
        self.schema.load(Ordering::Acquire)
    }

    /// An error once the store is closed or poisoned.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        match &self.disk {
            Some(disk) => disk.log.check(),
            None => Ok(()),
        }
    }

    /// Returns once everything up to `lsn` is durable.
    pub(crate) fn sync(&self, lsn: Lsn) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.log.sync(lsn),
            None => Ok(()),
        }
    }

    /// Returns once everything up to `lsn` was handed to the kernel.
    pub(crate) fn write(&self, lsn: Lsn) -> Result<()> {
        match &self.disk {
            Some(disk) => disk.log.write(lsn),
            None => Ok(()),
        }
    }

    /// Like [`Engine::sync`], for a task.
    pub(crate) fn poll_sync(
        &self,
        lsn: Lsn,
        seat: &mut Seat,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<()>> {
        let Some(disk) = &self.disk else {
            return std::task::Poll::Ready(Ok(()));
        };
        if self.options.background && !self.closed.load(Ordering::Acquire) {
            return disk.log.poll_sync(lsn, seat, context);
        }
        std::task::Poll::Ready(disk.log.sync(lsn))
    }

    /// Forgets who asked by [`Engine::poll_sync`], and is gone.
    pub(crate) fn leave(&self, seat: &mut Seat) {
        if let Some(disk) = &self.disk {
            disk.log.leave(seat);
        }
    }

    /// Sees to it that what is visible now is synced within this time.
    pub(crate) fn sync_within(&self, within: std::time::Duration) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        disk.log.sync_within(within);
        match self.options.background {
            true => Ok(()),
            false => disk.log.sync_if_due(),
        }
    }

    /// Everything up to this LSN is durable.
    pub(crate) fn durable(&self) -> Lsn {
        match &self.disk {
            Some(disk) => disk.log.durable(),
            None => Lsn::ZERO,
        }
    }

    /// What opening found and did, and what was healed since.
    pub(crate) fn recovery(&self) -> Recovery {
        match &self.disk {
            Some(disk) => disk.recovery.lock().clone(),
            None => Recovery::default(),
        }
    }

    /// Figures for a look inside.
    pub(crate) fn stats(&self) -> EngineStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let checkpoint = self.figures.checkpoint.summary();
        let snapshot = self.figures.snapshot.summary();
        let mut stats = EngineStats {
            commits: self.figures.commits.get(),
            conflicts: self.figures.conflicts.get(),
            checkpoints: checkpoint.count,
            snapshots: snapshot.count,
            rebuilds: self.figures.rebuilds.get(),
            commit: self.figures.commit.summary(),
            checkpoint,
            snapshot,
            expired: count(&self.expiry.removed),
            visible: self.visible(),
            durable: self.durable(),
            memtable_bytes: count(&self.held),
            scopes_in_memory: self.slots.len() as u64,
            views: self.sequencer.lock().views.len() as u64,
            watches: self.watch_stats(),
            ..EngineStats::default()
        };
        if let Some(disk) = &self.disk {
            let image = self.image();
            stats.image_lsn = self.image_lsn();
            stats.snapshot_lsn = Lsn::new(count(&disk.snapshot));
            stats.log = disk.log.stats();
            if let Some(image) = image {
                stats.image_blocks = image.manifest.blocks.len() as u64;
                stats.image_entries = image.manifest.entries();
                stats.image_live_bytes = image.manifest.live_bytes();
                let on_disk = image.blocks().and_then(|blocks| blocks.bytes_on_disk());
                stats.image_bytes_on_disk = on_disk.unwrap_or(0);
                stats.cache = image
                    .blocks()
                    .map(|blocks| blocks.counts())
                    .unwrap_or_default();
            }
            let pressure = self.room_lock.lock();
            stats.last_failure = pressure
                .failure
                .as_ref()
                .or(pressure.snapshot_failure.as_ref())
                .cloned();
        }
        self.figures.tell(&stats);
        stats
    }

    /// Tells how much is held now. That is asked of each part, so it happens after
    /// checkpoints and snapshots, and not with each commit.
    fn tell_levels(&self) {
        if cfg!(feature = "metrics") {
            self.stats();
        }
    }

    /// Up to here everything is in the image; zero for a store without a folder.
    pub(crate) fn image_lsn(&self) -> Lsn {
        self.image().map_or(Lsn::ZERO, |image| image.manifest.lsn)
    }

    /// The image as it is now; `None` for a store without a folder.
    fn image(&self) -> Option<Arc<Image>> {
        self.disk
            .as_ref()
            .map(|disk| Arc::clone(&disk.image.read()))
    }

    /// The folder of the store.
    pub(crate) fn path(&self) -> Option<&std::path::Path> {
        self.disk.as_ref().map(|disk| disk.folder.root())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
