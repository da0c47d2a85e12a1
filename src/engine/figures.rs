//! Owns which figures are told of an engine, and by what names.

use std::path::Path;

use super::EngineStats;
use crate::error::Error;
use crate::observe::{Count, Figure, Level, Spread};

/// What an engine counts and measures. Times are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(super) commits: Count,
    pub(super) conflicts: Count,
    pub(super) rebuilds: Count,
    /// Commits of which a watch delivered something.
    pub(super) change_sets: Count,
    /// Times that a watch missed changes.
    pub(super) lagged: Count,
    /// From the call to its acknowledgement, of commits that wait for the disk.
    pub(crate) commit: Spread,
    pub(super) checkpoint: Spread,
    pub(super) snapshot: Spread,
    asked: Asked,
}

/// What is counted elsewhere, and told when somebody asks for it.
#[derive(Debug)]
struct Asked {
    log_writes: Count,
    log_bytes: Count,
    expired_keys: Count,
    cache_hits: Count,
    cache_misses: Count,
    memtable_bytes: Level,
    scopes_in_memory: Level,
    open_views: Level,
    cache_bytes: Level,
    image_bytes: Level,
    image_entries: Level,
    log_bytes_on_disk: Level,
    log_segments: Level,
    watches: Level,
    watch_behind: Level,
    watch_bytes: Level,
}

impl Figures {
    /// Those of the store in this folder.
    pub(super) fn new(root: Option<&Path>) -> Self {
        let of = root.map_or("memory".into(), |root| root.display().to_string());
        let count = |name, what| Count::new(Figure::count(name, what), &of);
        let seconds = |name, what| Spread::new(Figure::seconds(name, what), &of);
        Self {
            commits: count("evenkeel_commits_total", "Commits that were made"),
            conflicts: count(
                "evenkeel_conflicts_total",
                "Transactions that ran again, and compare-and-sets that were refused",
            ),
            rebuilds: count(
                "evenkeel_image_rebuilds_total",
                "Times that the image was rebuilt",
            ),
            change_sets: count(
                "evenkeel_watch_change_sets_total",
                "Change sets that watches delivered",
            ),
            lagged: count(
                "evenkeel_watch_lagged_total",
                "Times that a watch was too slow and missed changes",
            ),
            commit: seconds(
                "evenkeel_commit_seconds",
                "From the call of a durable commit to its acknowledgement",
            ),
            checkpoint: seconds("evenkeel_checkpoint_seconds", "Writing a checkpoint"),
            snapshot: seconds(
                "evenkeel_snapshot_seconds",
                "Writing and verifying a snapshot",
            ),
            asked: Asked::new(&of),
        }
    }

    /// Counts a compare-and-set that was refused.
    pub(crate) fn refused(&self, error: &Error) {
        if let Error::Conflict { .. } = error {
            self.conflicts.increment();
        }
    }

    /// Tells what was asked for.
    pub(super) fn tell(&self, stats: &EngineStats) {
        let asked = &self.asked;
        asked.log_writes.reached(stats.log.writes);
        asked.log_bytes.reached(stats.log.bytes);
        asked.expired_keys.reached(stats.expired);
        asked.cache_hits.reached(stats.cache.hits);
        asked.cache_misses.reached(stats.cache.misses);
        asked.memtable_bytes.set(stats.memtable_bytes);
        asked.scopes_in_memory.set(stats.scopes_in_memory);
        asked.open_views.set(stats.views);
        asked.cache_bytes.set(stats.cache.bytes);
        asked.image_bytes.set(stats.image_bytes_on_disk);
        asked.image_entries.set(stats.image_entries);
        asked.log_bytes_on_disk.set(stats.log.segment_bytes);
        asked.log_segments.set(stats.log.segments);
        asked.watches.set(stats.watches.open);
        asked.watch_behind.set(stats.watches.behind);
        asked.watch_bytes.set(stats.watches.bytes);
    }
}

impl Asked {
    fn new(of: &str) -> Self {
        let total = |name, what| Count::new(Figure::count(name, what), of);
        let level = |name, what| Level::new(Figure::count(name, what), of);
        let bytes = |name, what| Level::new(Figure::bytes(name, what), of);
        Self {
            log_writes: total("evenkeel_log_writes_total", "Writes to the log"),
            log_bytes: Count::new(
                Figure::bytes("evenkeel_log_written_bytes_total", "Written to the log"),
                of,
            ),
            expired_keys: total(
                "evenkeel_expired_keys_total",
                "Keys that were removed because they had expired",
            ),
            cache_hits: total(
                "evenkeel_cache_hits_total",
                "Block reads that the cache answered",
            ),
            cache_misses: total(
                "evenkeel_cache_misses_total",
                "Block reads that went to the image",
            ),
            memtable_bytes: bytes("evenkeel_memtable_bytes", "The memtable"),
            scopes_in_memory: level("evenkeel_scopes_in_memory", "Scopes held in memory"),
            open_views: level("evenkeel_open_views", "Open scans and transactions"),
            cache_bytes: bytes("evenkeel_cache_bytes", "The cache of blocks"),
            image_bytes: bytes("evenkeel_image_bytes", "The image on disk"),
            image_entries: level("evenkeel_image_entries", "Entries of the image"),
            log_bytes_on_disk: bytes("evenkeel_log_bytes", "The log on disk"),
            log_segments: level("evenkeel_log_segments", "Segments of the log"),
            watches: level("evenkeel_watches", "Open watches"),
            watch_behind: level(
                "evenkeel_watch_behind_lsns",
                "LSNs that the slowest watch is behind",
            ),
            watch_bytes: bytes("evenkeel_watch_bytes", "Held in memory for watches"),
        }
    }
}
