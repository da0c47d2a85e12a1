//! Owns the settings of a backup, and what is told while it is made.

use std::fmt;
use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::state::{ImportAnswer, guarded};

type Answer<'p> = dyn FnMut(&BackupProgress) -> ControlFlow<()> + 'p;

/// What a backup is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackupPhase {
    /// It copies the commits of the log.
    Log,
    /// It copies the state: only a full one does.
    State,
    /// It reads back what it has written.
    Verifying,
}

/// How far a backup has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupProgress {
    /// What it is doing.
    pub phase: BackupPhase,
    /// The bytes that were copied or read back, in this phase.
    pub bytes: u64,
    /// How many there are in this phase; `None` where that is not known beforehand. Of a
    /// state that is written from the image it is about as many.
    pub bytes_total: Option<u64>,
}

/// How a backup is made, for [`Store::backup_with`](crate::Store::backup_with).
///
/// ```
/// use evenkeel::{BackupKind, BackupOptions, Store};
/// # let folder = tempfile::tempdir()?;
/// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
/// let store = Store::open(&path)?;
/// let weekly = store.backup_with(&dest, BackupOptions::new().full().keep(4))?;
/// assert_eq!(weekly.kind, BackupKind::Full);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
#[must_use = "options do nothing until a backup is made with them"]
pub struct BackupOptions<'p> {
    pub(super) full: bool,
    pub(super) keep: Option<usize>,
    progress: Option<Box<Answer<'p>>>,
}

impl fmt::Debug for BackupOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupOptions")
            .field("full", &self.full)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

impl<'p> BackupOptions<'p> {
    /// An incremental backup where there is one that it can go on from; nothing is
    /// removed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a full backup, which needs nothing of the earlier ones.
    pub fn full(mut self) -> Self {
        self.full = true;
        self
    }

    /// Removes all but the newest so many backups once this one is there, which counts
    /// among them. What a kept one needs stays. Default: all are kept. At least 1.
    pub fn keep(mut self, newest: usize) -> Self {
        self.keep = Some(newest);
        self
    }

    /// Calls a function while the backup is made, after about each megabyte; it returns
    /// nothing, or a [`ControlFlow`]: [`ControlFlow::Break`] stops the backup, which
    /// removes what it has written.
    ///
    /// ```
    /// use evenkeel::{BackupOptions, Error, Store};
    /// use std::ops::ControlFlow;
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// let stop = BackupOptions::new().progress(|_| ControlFlow::Break(()));
    /// let stopped = store.backup_with(&dest, stop);
    /// assert!(matches!(stopped, Err(Error::Stopped { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn progress<A: ImportAnswer>(
        mut self,
        mut progress: impl FnMut(&BackupProgress) -> A + 'p,
    ) -> Self {
        self.progress = Some(Box::new(move |told| progress(told).into_flow()));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.keep {
            Some(0) => Err(Error::Invalid {
                what: "keep",
                reason: "a backup keeps itself: at least 1".into(),
            }),
            _ => Ok(()),
        }
    }

    /// What is told from here on.
    pub(super) fn teller(self) -> Teller<'p> {
        Teller {
            progress: self.progress,
            phase: BackupPhase::Log,
            bytes: 0,
            total: None,
            told: 0,
        }
    }
}

/// How many bytes pass before it is told again.
const TOLD_BYTES: u64 = 1024 * 1024;

/// Counts what is done, and tells it.
pub(super) struct Teller<'p> {
    progress: Option<Box<Answer<'p>>>,
    phase: BackupPhase,
    bytes: u64,
    total: Option<u64>,
    told: u64,
}

impl Teller<'_> {
    /// Nobody is told.
    pub(super) fn silent() -> Self {
        BackupOptions::new().teller()
    }

    /// A phase begins.
    pub(super) fn begin(&mut self, phase: BackupPhase, total: Option<u64>) -> Result<()> {
        (self.phase, self.total) = (phase, total);
        (self.bytes, self.told) = (0, 0);
        self.tell()
    }

    /// So many bytes more are done.
    pub(super) fn step(&mut self, bytes: u64) -> Result<()> {
        self.bytes += bytes;
        match self.bytes - self.told >= TOLD_BYTES {
            true => self.tell(),
            false => Ok(()),
        }
    }

    fn tell(&mut self) -> Result<()> {
        self.told = self.bytes;
        let Some(progress) = &mut self.progress else {
            return Ok(());
        };
        let told = BackupProgress {
            phase: self.phase,
            bytes: self.bytes,
            bytes_total: self.total,
        };
        match guarded("the progress of a backup", || Ok(progress(&told)))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped { what: "the backup" }),
        }
    }
}
