//! Owns telling how far a rebuild of the image is, and stopping it.

use std::fmt;
use std::sync::Arc;

use crate::engine::Engine;
use crate::error::Result;

/// How many bytes pass before it is told again, and before there is another event of
/// `tracing`.
const TOLD_BYTES: u64 = 1024 * 1024;
const EVENT_BYTES: u64 = 16 * 1024 * 1024;

/// What a rebuild of the image is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RebuildPhase {
    /// It reads the log behind the snapshot. Where memory has no room for all changes in
    /// it, the two phases take turns, each time for another range of keys.
    Log,
    /// It writes the image.
    Image,
}

/// How far a rebuild of the image is: told when a phase begins, after about each megabyte,
/// and when all is written, before it is synced. See
/// [`Builder::rebuild_progress`](crate::Builder::rebuild_progress).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RebuildProgress {
    /// What it is doing.
    pub phase: RebuildPhase,
    /// The keys that it has written.
    pub keys: u64,
    /// The keys that there will be.
    pub keys_total: u64,
    /// The bytes of what it has read in this turn, or of the keys and values that it has
    /// written.
    pub bytes: u64,
    /// How many there will be; of the log it is about as many.
    pub bytes_total: u64,
}

/// What calls whoever is told; an error stops the rebuild.
type Told = dyn Fn(&Engine, &RebuildProgress) -> Result<()> + Send + Sync;

/// Whoever is told, if anybody is.
#[derive(Clone, Default)]
pub(crate) struct RebuildWatcher(Option<Arc<Told>>);

impl fmt::Debug for RebuildWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RebuildWatcher({})", self.0.is_some())
    }
}

impl RebuildWatcher {
    pub(crate) fn new(
        told: impl Fn(&Engine, &RebuildProgress) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(told)))
    }
}

/// Counts what is done, and tells it.
pub(super) struct Teller<'a> {
    engine: &'a Engine,
    now: RebuildProgress,
    /// What was written: it goes on where the log was read in between.
    written: u64,
    written_total: u64,
    told: u64,
    event: u64,
}

impl<'a> Teller<'a> {
    /// Of a rebuild that writes so many keys, and so many bytes of them and their values.
    pub(super) fn new(engine: &'a Engine, (keys_total, bytes_total): (u64, u64)) -> Self {
        Self {
            engine,
            now: RebuildProgress {
                phase: RebuildPhase::Log,
                keys: 0,
                keys_total,
                bytes: 0,
                bytes_total: 0,
            },
            written: 0,
            written_total: bytes_total,
            told: 0,
            event: 0,
        }
    }

    /// About so many bytes of the log are to be read.
    pub(super) fn log(&mut self, bytes_total: u64) -> Result<()> {
        self.begin(RebuildPhase::Log, (0, bytes_total))
    }

    /// The image goes on.
    pub(super) fn image(&mut self) -> Result<()> {
        self.begin(RebuildPhase::Image, (self.written, self.written_total))
    }

    fn begin(&mut self, phase: RebuildPhase, (bytes, bytes_total): (u64, u64)) -> Result<()> {
        self.now.phase = phase;
        (self.now.bytes, self.now.bytes_total) = (bytes, bytes_total);
        (self.told, self.event) = (bytes, bytes);
        self.engine.tell_rebuilding(&self.now);
        self.tell()
    }

    /// So much of the log was read.
    pub(super) fn read(&mut self, bytes: usize) -> Result<()> {
        self.passed(bytes as u64)
    }

    /// So much was written.
    pub(super) fn wrote(&mut self, keys: u64, bytes: u64) -> Result<()> {
        self.now.keys += keys;
        self.written += bytes;
        self.passed(bytes)
    }

    fn passed(&mut self, bytes: u64) -> Result<()> {
        self.now.bytes += bytes;
        if self.now.bytes - self.event >= EVENT_BYTES {
            self.event = self.now.bytes;
            self.engine.tell_rebuilding(&self.now);
        }
        match self.now.bytes - self.told >= TOLD_BYTES {
            true => self.tell(),
            false => Ok(()),
        }
    }

    /// Tells it as it is now.
    pub(super) fn tell(&mut self) -> Result<()> {
        self.told = self.now.bytes;
        match &self.engine.options.rebuild_watcher.0 {
            Some(told) => told(self.engine, &self.now),
            None => Ok(()),
        }
    }
}
