//! Owns the write-ahead log: frames in segments, group commit, the durable mark,
//! and reading back after a crash.
//!
//! What stays true:
//! - One order: frames lie in LSN order, and durability is a prefix of it.
//! - A frame is written once. Nothing is ever appended behind bytes that another
//!   opening wrote: each opening begins a segment of its own.
//! - Every byte of a used segment is under a checksum; only the preallocated rest
//!   behind the last frame is not, and a clean close cuts that off.

mod frame;
mod log;
mod mark;
mod reader;
mod scan;
mod segment;
#[cfg(feature = "testing")]
pub(crate) mod suite;

pub(crate) use frame::{FRAME_BYTES_MAX, frame_bytes};
pub(crate) use log::{Log, LogPlace, LogStats, Passed, Seat, Wakers};
pub(crate) use mark::create_marks;
pub(crate) use scan::{Known, Room};
pub use scan::{LogLoss, TailCut};

/// The settings of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// Length of the first segment of an opening; later ones double.
    pub(crate) segment_bytes_min: u64,
    /// Length at which segments stop growing; a larger frame gets a larger one.
    pub(crate) segment_bytes_max: u64,
    /// Bytes of frames that are gathered in memory, where nobody waits for them, before whoever
    /// serves the log writes them: so few that they are in the processor's cache still.
    pub(crate) buffer_bytes: usize,
    /// Bytes of frames that may wait in memory before appending has to wait.
    pub(crate) buffer_bytes_max: usize,
    /// Bytes that may be written and not yet synced.
    pub(crate) unsynced_bytes_max: u64,
    /// What all segments may take; a longer log is refused.
    pub(crate) log_bytes_max: u64,
    /// Trimmed segments that are kept to be used again.
    pub(crate) spare_segments_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes_min: 256 * 1024,
            segment_bytes_max: 16 * 1024 * 1024,
            buffer_bytes: 512 * 1024,
            buffer_bytes_max: 32 * 1024 * 1024,
            unsynced_bytes_max: 64 * 1024 * 1024,
            log_bytes_max: 8 * 1024 * 1024 * 1024,
            spare_segments_max: 4,
        }
    }
}
