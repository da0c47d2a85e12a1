//! Owns migrations: bringing the state of a store from one schema version to another.
//!
//! - `registry`: which there are, that they form a chain, which are due.
//! - `run`: the chain, step by step and scope by scope; `call`, `scope`: one visit.
//! - `command`: the same, and the way back, when somebody says so.
//!
//! What is staged, switched and applied is the business of `state::schema`, so that any
//! opening of a store can finish it, or give it up.

mod call;
mod command;
mod invariant;
mod key_pattern;
mod progress;
mod registry;
mod rehearsal;
mod rehearse;
mod run;
mod scope;
mod scope_set;
mod transforms;
mod visits;

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::scope::Scope;

pub use command::{Migrations, PendingMigration};
pub use invariant::{MigratedScope, MigratedScopes, MigratedState};
pub use key_pattern::KeyPattern;
pub use progress::{MigrationPhase, MigrationProgress};
pub use rehearsal::{
    Rehearsal, RehearsedInvariant, RehearsedMigration, Reverts, Sample, StateSize,
};
pub use scope::{MigrationScan, MigrationScope};
pub use scope_set::ScopeSet;
pub use transforms::Transforms;

/// Brings the state from one schema version to the next.
///
/// A program gives its migrations to [`Builder::migration`](crate::Builder::migration).
/// When the store is opened, those that its state has not been through are run in the order
/// of their versions, and the store is given out when all have succeeded. Until then
/// nobody sees anything of them:
///
/// - A migration is called for each scope of [`scopes`](Self::scopes) that has keys, one
///   by one, in the order of scopes. Each call is one transaction, over that scope and
///   those that it [`joins`](Self::joins).
/// - What calls write is staged in the store, beside the state. The next migration reads
///   the state as the one before it left it.
/// - Behind the last call one commit switches the version, and what was staged is written
///   to the state. So there is either the state before the whole chain or that behind it.
///
/// A run that is interrupted, by a kill or by its progress, goes on with the next opening
/// behind the last scope that was done: no scope is migrated twice. A program without
/// these migrations, or with others, finds the state as it was, and gives up what was staged.
///
/// A migration that returns an error, panics, reaches out of its declared scopes, or
/// exceeds its [`budget`](Self::budget) or a limit of the store fails the whole chain with
/// [`Error::MigrationFailed`], which names it, the scope, the key that it touched last,
/// and the cause. The state is as it was, and the mended chain can be run. The same holds
/// where a scope would end up over its [`Quota`](crate::Quota); in between it may.
///
/// It is given the state and nothing else, and should do nothing else that counts: a call
/// that was interrupted is made again.
///
/// ```
/// use evenkeel::{Error, MigrationScope, Result, ScopeKind, ScopeSet, Scope, StateMigration, Store};
///
/// /// Version 2 keeps first and last name instead of a name.
/// struct SplitName;
///
/// impl StateMigration for SplitName {
///     fn version(&self) -> u32 { 2 }
///
///     fn scopes(&self) -> ScopeSet { ScopeSet::kind(ScopeKind::Worker) }
///
///     fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
///         let Some(name) = state.get::<String>("name")? else { return Ok(()) };
///         let (first, last) = name.split_once(' ').ok_or_else(|| Error::abort("no last name"))?;
///         state.set("first", first)?;
///         state.set("last", last)?;
///         state.remove("name").map(drop)
///     }
///
///     fn revert(&self, state: &mut MigrationScope) -> Result<()> {
///         let first: Option<String> = state.get("first")?;
///         let last: Option<String> = state.get("last")?;
///         if let Some((first, last)) = first.zip(last) {
///             state.set("name", format!("{first} {last}"))?;
///             state.remove("first")?;
///             state.remove("last")?;
///         }
///         Ok(())
///     }
/// }
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::open(&path)?; // version 1 of the program
/// store.scope(Scope::worker("w-1")).set("name", "Ada Lovelace")?;
/// store.close()?;
///
/// let store = Store::builder().migration(SplitName).open(&path)?; // version 2
/// assert_eq!(store.scope(Scope::worker("w-1")).get("first")?, Some("Ada".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateMigration: Send + Sync {
    /// The version that it brings the state to, from the one before: at least 1. The state
    /// of a program without migrations has version 1, so its first migration is 2; a
    /// program whose chain begins at 1 takes that state for version 0.
    fn version(&self) -> u32;

    /// Migrates one scope.
    ///
    /// # Errors
    /// Whatever it fails with, for example [`Error::abort`]: the cause of
    /// [`Error::MigrationFailed`].
    fn migrate(&self, state: &mut MigrationScope<'_>) -> Result<()>;

    /// What it is called in errors and in the history. Default: the name of the type.
    fn name(&self) -> String {
        let name = std::any::type_name::<Self>();
        let plain = name.split('<').next().unwrap_or(name);
        plain.rsplit("::").next().unwrap_or(plain).to_owned()
    }

    /// What it does, for people: see [`Migrations::pending`]. Default: nothing.
    fn description(&self) -> String {
        String::new()
    }

    /// The scopes that it visits: those that have keys before it begins, and, with keys or
    /// without, those that [`ScopeSet::scope`] names. Others that it makes while it visits
    /// some are not visited. Default: all that have keys.
    fn scopes(&self) -> ScopeSet {
        ScopeSet::all()
    }

    /// The further scopes that it may read and write while it visits `scope`: see
    /// [`MigrationScope::joined`]. Default: none.
    fn joins(&self, scope: &Scope) -> ScopeSet {
        let _ = scope;
        ScopeSet::none()
    }

    /// What it may write and how long it may take. Default: see [`MigrationBudget`].
    fn budget(&self) -> MigrationBudget {
        MigrationBudget::default()
    }

    /// What tells this code from another one of the same version, name, description and
    /// scopes. What an interrupted run has staged is gone on with only where all of these
    /// are the same, so a migration that was mended gets another one. (After a failure
    /// nothing is staged.) Default: nothing.
    fn fingerprint(&self) -> String {
        String::new()
    }

    /// The scopes that [`revert`](Self::revert) visits, of those that have keys then. A
    /// migration that moves keys to other scopes finds them there, and those that it
    /// emptied are no longer visited: it names the others here, and joins the emptied ones
    /// to them. Default: those that [`migrate`](Self::migrate) visits.
    fn revert_scopes(&self) -> ScopeSet {
        self.scopes()
    }

    /// Refuses what was not meant so. It is asked when a store is opened, before the folder
    /// is touched. Default: all is well.
    ///
    /// # Errors
    /// Whatever it says, for example [`Error::Invalid`].
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Takes one scope back to the version before: see [`Migrations::revert_to`]. It visits
    /// [`revert_scopes`](Self::revert_scopes) and joins the same sets of scopes as
    /// [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// As [`migrate`](Self::migrate). Default: [`Error::Irreversible`].
    fn revert(&self, state: &mut MigrationScope<'_>) -> Result<()> {
        let _ = state;
        Err(Error::Irreversible {
            version: self.version(),
            name: self.name(),
        })
    }
}

/// A migration behind a pointer is one.
macro_rules! behind {
    ($pointer:ident) => {
        impl<M: StateMigration + ?Sized> StateMigration for $pointer<M> {
            fn version(&self) -> u32 {
                (**self).version()
            }

            fn migrate(&self, state: &mut MigrationScope<'_>) -> Result<()> {
                (**self).migrate(state)
            }

            fn name(&self) -> String {
                (**self).name()
            }

            fn description(&self) -> String {
                (**self).description()
            }

            fn scopes(&self) -> ScopeSet {
                (**self).scopes()
            }

            fn joins(&self, scope: &Scope) -> ScopeSet {
                (**self).joins(scope)
            }

            fn budget(&self) -> MigrationBudget {
                (**self).budget()
            }

            fn fingerprint(&self) -> String {
                (**self).fingerprint()
            }

            fn revert_scopes(&self) -> ScopeSet {
                (**self).revert_scopes()
            }

            fn check(&self) -> Result<()> {
                (**self).check()
            }

            fn revert(&self, state: &mut MigrationScope<'_>) -> Result<()> {
                (**self).revert(state)
            }
        }
    };
}

behind!(Arc);
behind!(Box);

/// What one call of a migration may write, and how long all calls of it may take together.
/// Beyond it the migration fails, with [`Error::LimitExceeded`] as the cause.
///
/// ```
/// use evenkeel::MigrationBudget;
/// use std::time::Duration;
/// let budget = MigrationBudget::new().writes(1_000).time(Duration::from_secs(60));
/// assert_eq!(budget.bytes, 64 * 1024 * 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationBudget {
    /// The most keys that one call writes or removes: `migration_writes`. Default 1
    /// million.
    pub writes: u64,
    /// The most bytes that one call takes in the log and, while it runs, in memory: those
    /// of keys, with their scope, and of values, and 32 for each: `migration_bytes`.
    /// Default 64 MiB; more than 192 MiB has no effect.
    pub bytes: u64,
    /// How long the migration may take over all its scopes, by the clock of the store:
    /// `migration_micros`. It is looked at when a scope is read or written, and behind each
    /// call; a call that does neither is not interrupted. What an interrupted run took
    /// counts. Default: no limit.
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
