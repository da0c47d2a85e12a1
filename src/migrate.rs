//! Owns migrations: bringing the state of a store from one schema version to another.

mod call;
mod command;
mod invariant;
mod key_pattern;
mod progress;
mod registry;
mod run;
mod scope;
mod scope_set;
mod transforms;

use std::time::Duration;

use crate::error::{Error, Result};
use crate::scope::Scope;

pub use command::{Migrations, PendingMigration};
pub use invariant::{MigratedScope, MigratedScopes, MigratedState};
pub use key_pattern::KeyPattern;
pub use progress::{MigrationPhase, MigrationProgress};
pub use scope::{MigrationScan, MigrationScope};
pub use scope_set::ScopeSet;
pub use transforms::Transforms;

/// What one call of a migration may do, and how long all calls of it may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationBudget {
    /// The most keys that one call writes or removes. Default 1 million.
    pub writes: u64,
    /// The most bytes of keys and values that one call writes. Default 64 MiB, at most
    /// 192 MiB.
    pub bytes: u64,
    /// How long the migration may take, over all its scopes, by the clock of the store.
    /// Default: no limit.
    pub time: Option<Duration>,
}

impl Default for MigrationBudget {
    fn default() -> Self {
        Self {
            writes: 1_000_000,
            bytes: 64 * 1024 * 1024,
            time: None,
        }
    }
}

impl MigrationBudget {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So many keys at most that one call writes or removes.
    #[must_use]
    pub fn writes(self, most: u64) -> Self {
        Self {
            writes: most,
            ..self
        }
    }

    /// So many bytes at most of what one call writes.
    #[must_use]
    pub fn bytes(self, most: u64) -> Self {
        Self {
            bytes: most,
            ..self
        }
    }

    /// So long at most, for all calls together.
    #[must_use]
    pub fn time(self, most: Duration) -> Self {
        Self {
            time: Some(most),
            ..self
        }
    }
}

/// Brings the state from one schema version to the next.
pub trait StateMigration: Send + Sync {
    /// The version that it brings the state to, from the one before.
    fn version(&self) -> u32;

    /// Migrates one scope.
    ///
    /// # Errors
    /// Whatever it fails with.
    fn migrate(&self, state: &mut MigrationScope<'_>) -> Result<()>;

    /// What it is called in errors and in the history. Default: the name of the type.
    fn name(&self) -> String {
        let name = std::any::type_name::<Self>();
        name.rsplit("::").next().unwrap_or(name).to_owned()
    }

    /// What it does, for people. Default: nothing.
    fn description(&self) -> String {
        String::new()
    }

    /// The scopes that it visits. Default: all.
    fn scopes(&self) -> ScopeSet {
        ScopeSet::all()
    }

    /// The further scopes that it may read and write while it visits `scope`. Default:
    /// none.
    fn joins(&self, scope: &Scope) -> ScopeSet {
        let _ = scope;
        ScopeSet::none()
    }

    /// What it may do. Default: see [`MigrationBudget`].
    fn budget(&self) -> MigrationBudget {
        MigrationBudget::default()
    }

    /// The scopes that [`revert`](Self::revert) visits. Default: those that
    /// [`migrate`](Self::migrate) does. A migration that moves keys to other scopes finds
    /// them there, and the ones that it emptied are no longer there to be visited: it
    /// names the others here, and joins the ones that were left.
    fn revert_scopes(&self) -> ScopeSet {
        self.scopes()
    }

    /// Refuses what was not meant so, before anything is touched: it is asked when the
    /// store is opened. Default: all is well.
    ///
    /// # Errors
    /// [`Error::Invalid`], or whatever says it.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What tells this code from an earlier one of the same version and name. Default:
    /// nothing.
    fn fingerprint(&self) -> String {
        String::new()
    }

    /// Takes one scope back to the version before.
    ///
    /// # Errors
    /// [`Error::Irreversible`] unless it is written.
    fn revert(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        let _ = state;
        Err(Error::Irreversible {
            version: self.version(),
            name: self.name(),
        })
    }
}
