//! Owns the figures of an open store, as a user sees them.

use std::time::Duration;

use crate::engine::EngineStats;
use crate::ids::Lsn;
use crate::observe::Summary;

/// How long something took, each time it was done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// How often it was done.
    pub count: u64,
    /// What it took all together.
    pub total: Duration,
    /// What it took at most.
    pub longest: Duration,
    /// What half of them took at most; this and the next two up to an eighth too high.
    pub p50: Duration,
    /// What 99 of 100 took at most.
    pub p99: Duration,
    /// What 999 of 1,000 took at most.
    pub p999: Duration,
}

impl Timing {
    /// What it takes on average; zero where it was never done.
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// let store = evenkeel::Store::open(folder.path().join("state"))?;
    /// store.global().set("a", 1)?;
    /// let stats = store.stats()?;
    /// assert!(stats.commit_time.mean() <= stats.commit_time.longest);
    /// assert!(stats.commit_time.p50 <= stats.commit_time.p99);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn mean(&self) -> Duration {
        let count = u32::try_from(self.count.max(1)).unwrap_or(u32::MAX);
        self.total / count
    }
}

impl From<Summary> for Timing {
    fn from(summary: Summary) -> Self {
        let nanos = Duration::from_nanos;
        Self {
            count: summary.count,
            total: nanos(summary.sum),
            longest: nanos(summary.largest),
            p50: nanos(summary.half),
            p99: nanos(summary.most),
            p999: nanos(summary.nearly_all),
        }
    }
}

/// Figures of an open store, counted since it was opened.
///
/// ```
/// let store = evenkeel::Store::in_memory();
/// store.global().set("a", 1)?;
/// assert_eq!(store.stats()?.commits, 1);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Commits that were made.
    pub commits: u64,
    /// Races that were lost: transactions that were run again, and compare-and-sets that
    /// were refused.
    pub conflicts: u64,
    /// The LSN of the last commit that can be seen.
    pub visible_lsn: Lsn,
    /// Everything up to this LSN is durable.
    pub durable_lsn: Lsn,
    /// The LSN of the image; what is behind it is replayed after a crash.
    pub image_lsn: Lsn,
    /// The LSN of the newest snapshot.
    pub snapshot_lsn: Lsn,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Commits that those made durable: so many a sync, on average, is the size of a
    /// group.
    pub synced_commits: u64,
    /// Commits that one sync made durable, at most.
    pub largest_group: u64,
    /// From the call to its acknowledgement, of commits at
    /// [`Durability::Sync`](crate::Durability::Sync) to a store with a folder; others
    /// wait for no disk, and are not timed. With the closure of a transaction, and all
    /// of its attempts.
    pub commit_time: Timing,
    /// What syncs of the log took.
    pub sync_time: Timing,
    /// What checkpoints took.
    pub checkpoint_time: Timing,
    /// What snapshots took.
    pub snapshot_time: Timing,
    /// Writes to the log.
    pub log_writes: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Segments of the log that are there.
    pub log_segments: u64,
    /// What they take on disk.
    pub log_bytes_on_disk: u64,
    /// Bytes of the memtable, roughly.
    pub memtable_bytes: u64,
    /// Scopes that are held in memory.
    pub scopes_in_memory: u64,
    /// Scans and transactions that are open.
    pub open_views: u64,
    /// Watches that are open.
    pub watches: u64,
    /// How many LSNs the slowest of them is behind what is durable (in a store without a
    /// folder: visible); 0 where none is open. At least as many as the commits that it
    /// has not passed: openings take LSNs too, and after a crash they go on 2^24 higher.
    pub watch_behind_lsns: u64,
    /// Bytes held in memory for watches, of [`watch_bytes`](crate::Builder::watch_bytes)
    /// at most: values that were overwritten, and, without a folder, commits. With one
    /// they read the log, and hold nothing.
    pub watch_bytes: u64,
    /// Times that a watch was too slow and missed changes:
    /// [`Error::Lagged`](crate::Error::Lagged) and
    /// [`Error::Trimmed`](crate::Error::Trimmed).
    pub watch_lagged: u64,
    /// Change sets that watches delivered, all together.
    pub watch_change_sets: u64,
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Snapshots that were written.
    pub snapshots: u64,
    /// Times that the image was rebuilt.
    pub image_rebuilds: u64,
    /// Keys that were removed because they had expired.
    pub expired_keys: u64,
    /// Blocks of the image.
    pub image_blocks: u64,
    /// Entries of the image.
    pub image_entries: u64,
    /// Bytes of keys and values in the image.
    pub image_live_bytes: u64,
    /// What the image takes on disk, roughly.
    pub image_bytes_on_disk: u64,
    /// Block reads that the cache answered, since the image was opened or rebuilt.
    pub cache_hits: u64,
    /// Block reads that went to the image, since it was opened or rebuilt.
    pub cache_misses: u64,
    /// Bytes of the blocks in the cache.
    pub cache_bytes: u64,
    /// Why the last checkpoint or snapshot failed, until one succeeds.
    pub last_failure: Option<String>,
}

impl From<EngineStats> for Stats {
    fn from(stats: EngineStats) -> Self {
        Self {
            commits: stats.commits,
            conflicts: stats.conflicts,
            visible_lsn: stats.visible,
            durable_lsn: stats.durable,
            image_lsn: stats.image_lsn,
            snapshot_lsn: stats.snapshot_lsn,
            log_syncs: stats.log.syncs,
            synced_commits: stats.log.group.sum,
            largest_group: stats.log.group.largest,
            commit_time: stats.commit.into(),
            sync_time: stats.log.sync.into(),
            checkpoint_time: stats.checkpoint.into(),
            snapshot_time: stats.snapshot.into(),
            log_writes: stats.log.writes,
            log_bytes: stats.log.bytes,
            log_segments: stats.log.segments,
            log_bytes_on_disk: stats.log.segment_bytes,
            memtable_bytes: stats.memtable_bytes,
            scopes_in_memory: stats.scopes_in_memory,
            open_views: stats.views,
            watches: stats.watches.open,
            watch_behind_lsns: stats.watches.behind,
            watch_bytes: stats.watches.bytes,
            watch_lagged: stats.watches.lagged,
            watch_change_sets: stats.watches.change_sets,
            checkpoints: stats.checkpoints,
            snapshots: stats.snapshots,
            image_rebuilds: stats.rebuilds,
            expired_keys: stats.expired,
            image_blocks: stats.image_blocks,
            image_entries: stats.image_entries,
            image_live_bytes: stats.image_live_bytes,
            image_bytes_on_disk: stats.image_bytes_on_disk,
            cache_hits: stats.cache.hits,
            cache_misses: stats.cache.misses,
            cache_bytes: stats.cache.bytes,
            last_failure: stats.last_failure,
        }
    }
}
