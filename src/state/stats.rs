//! Owns the figures of an open store, as a user sees them.

use crate::engine::EngineStats;
use crate::ids::Lsn;

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
    /// Transactions that lost a race and were run again.
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
    /// Checkpoints that were written.
    pub checkpoints: u64,
    /// Snapshots that were written.
    pub snapshots: u64,
    /// Times that the image was rebuilt.
    pub image_rebuilds: u64,
    /// Blocks of the image.
    pub image_blocks: u64,
    /// Entries of the image.
    pub image_entries: u64,
    /// Bytes of keys and values in the image.
    pub image_live_bytes: u64,
    /// What the image takes on disk, roughly.
    pub image_bytes_on_disk: u64,
    /// Block reads that the cache answered.
    pub cache_hits: u64,
    /// Block reads that went to the image.
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
            log_writes: stats.log.writes,
            log_bytes: stats.log.bytes,
            log_segments: stats.log.segments,
            log_bytes_on_disk: stats.log.segment_bytes,
            memtable_bytes: stats.memtable_bytes,
            scopes_in_memory: stats.scopes_in_memory,
            open_views: stats.views,
            checkpoints: stats.checkpoints,
            snapshots: stats.snapshots,
            image_rebuilds: stats.rebuilds,
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
