//! Owns the settings of the engine. Defaults and bounds are documented where a
//! user sets them, in `state::options`.

use std::time::Duration;

use super::quota::{SCOPE_BYTES_MAX, SCOPE_KEYS_MAX};
use super::rebuild::RebuildWatcher;
use crate::wal::LogOptions;

/// The settings of the engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineOptions {
    pub(crate) log: LogOptions,
    /// What all versions in memory may take before writers wait.
    pub(crate) memtable_bytes: u64,
    pub(crate) cache_bytes: u64,
    /// The size that blocks of the image are built for.
    pub(crate) block_bytes: usize,
    /// Keep snapshots, so that a damaged image heals.
    pub(crate) snapshots: bool,
    /// The least log behind a snapshot that makes a new one due.
    pub(crate) snapshot_log_bytes_min: u64,
    /// What opening reads through to find damage, beyond what it needs.
    pub(crate) check_bytes_on_open: u64,
    /// How long a writer waits for room before it is refused.
    pub(crate) stall: Duration,
    /// Log, checkpoints and snapshots have threads of their own; otherwise the
    /// caller that crosses a threshold does the work.
    pub(crate) background: bool,
    /// What a store without a folder may hold.
    pub(crate) memory_bytes_max: u64,
    pub(crate) scope_keys_max: u64,
    pub(crate) scope_bytes_max: u64,
    /// What commits that are noted for watches may take.
    pub(crate) watch_bytes: usize,
    pub(crate) salvage: bool,
    /// Events may name keys.
    pub(crate) tell_keys: bool,
    /// The newest schema version that the program knows; a store with a newer one is
    /// refused and left as it is. `None`: it may have any.
    pub(crate) schema_max: Option<u32>,
    /// Who is told how far a rebuild of the image is.
    pub(crate) rebuild_watcher: RebuildWatcher,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            memtable_bytes: 64 * 1024 * 1024,
            cache_bytes: 256 * 1024 * 1024,
            block_bytes: 8 * 1024,
            snapshots: true,
            snapshot_log_bytes_min: 64 * 1024 * 1024,
            check_bytes_on_open: 64 * 1024 * 1024,
            stall: Duration::from_secs(10),
            background: true,
            memory_bytes_max: 4 * 1024 * 1024 * 1024,
            scope_keys_max: SCOPE_KEYS_MAX,
            scope_bytes_max: SCOPE_BYTES_MAX,
            watch_bytes: 8 * 1024 * 1024,
            salvage: false,
            tell_keys: false,
            schema_max: None,
            rebuild_watcher: RebuildWatcher::default(),
        }
    }
}
