//! Owns telling how far a chain of migrations is, and stopping it.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::state::transaction::guarded;

/// What a chain of migrations is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationPhase {
    /// Migrations run; what they write is staged, and the state is as it was.
    Staging,
    /// All have run, and it is checked whether they may count: limits and invariants. A
    /// rehearsal also counts and compares.
    Checking,
    /// All have run, and what they wrote is being written to the state.
    Applying,
}

/// How far a chain of migrations is: told before the first scope of each migration, after
/// each scope, while it is checked, and after each part that is applied. See
/// [`Builder::migration_progress`](crate::Builder::migration_progress).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationProgress {
    /// What it is doing.
    pub phase: MigrationPhase,
    /// The version of the migration; while it is applied, the one that the state gets.
    pub version: u32,
    /// The name of the migration; empty while it is applied.
    pub name: String,
    /// True where the migration is being reverted.
    pub reverted: bool,
    /// Which migration of the chain it is, from 1; 0 while it is applied.
    pub step: u32,
    /// How many there are.
    pub steps: u32,
    /// The scope that was done last.
    pub scope: Option<Scope>,
    /// The scopes that this migration has done.
    pub scopes: u64,
    /// The scopes that it is for, and that may have keys.
    pub scopes_total: u64,
    /// The keys that it wrote; while it is applied, those that were written or removed.
    pub written: u64,
    /// The keys that it removed.
    pub removed: u64,
}

type Answer = dyn Fn(&MigrationProgress) -> ControlFlow<()> + Send + Sync;

/// Whoever is told, if anybody is.
#[derive(Clone, Default)]
pub(super) struct Watcher(Option<Arc<Answer>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watcher({})", self.watches())
    }
}

impl Watcher {
    pub(super) fn new(
        watcher: impl Fn(&MigrationProgress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(watcher)))
    }

    /// True where there is somebody.
    pub(super) fn watches(&self) -> bool {
        self.0.is_some()
    }

    /// Tells it.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the answer is to stop, [`Error::Panicked`].
    pub(super) fn tell(&self, progress: impl FnOnce() -> MigrationProgress) -> Result<()> {
        let Some(watcher) = &self.0 else {
            return Ok(());
        };
        let progress = progress();
        match guarded("in the progress of migrations", || Ok(watcher(&progress)))? {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped {
                what: "the migration",
            }),
        }
    }
}
