//! Owns migrations by command: a store that is opened to be migrated, and not to be used.

use std::fmt;
use std::path::Path;

use crate::engine::Engine;
use crate::engine::folder::require_store;
use crate::error::{Error, Result};
use crate::migrate::registry::Registry;
use crate::migrate::run::{self, Step};
use crate::state::schema;
use crate::state::store::Store;
use crate::state::{Builder, MigrationReport};

/// A store whose migrations are run by command. Made by [`Builder::migrations`]. It holds
/// the folder until it is closed or dropped, and shows nothing of the state.
///
/// ```
/// use evenkeel::{MigrationScope, Result, StateMigration, Store};
/// struct Renamed;
/// impl StateMigration for Renamed {
///     fn version(&self) -> u32 { 2 }
///     fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
///         state.rename("tries", "attempts").map(drop)
///     }
///     fn revert(&self, state: &mut MigrationScope) -> Result<()> {
///         state.rename("attempts", "tries").map(drop)
///     }
/// }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::open(&path)?;
/// store.global().set("tries", 3)?;
/// store.close()?;
/// let migrations = Store::builder().migration(Renamed).migrations(&path)?;
/// assert_eq!((migrations.version(), migrations.pending()?.len()), (1, 1));
/// migrations.run()?;
/// migrations.revert_to(1)?;
/// migrations.close()?;
/// assert_eq!(Store::open(&path)?.global().get("tries")?, Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Migrations {
    pub(super) store: Store,
    pub(super) registry: Registry,
}

/// Where it is, and which migrations there are.
impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations")
            .field("store", &self.store)
            .field("registry", &self.registry)
            .finish()
    }
}

/// A migration that the state has not been through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingMigration {
    /// The version that it brings the state to.
    pub version: u32,
    /// What it is called.
    pub name: String,
    /// What it does, for people.
    pub description: String,
}

impl Builder {
    /// Opens a store to run its migrations by command, or to take them back: see
    /// [`Migrations`]. It is opened like by [`Builder::open`], but no migration is run, and
    /// what an interrupted run has staged stays for the next one. A run that was
    /// interrupted when it was being applied is finished.
    ///
    /// # Errors
    /// As [`Builder::open`]; [`Error::NotAStore`] where there is no store yet.
    pub fn migrations(self, path: impl AsRef<Path>) -> Result<Migrations> {
        let path = path.as_ref();
        self.check()?;
        let registry = Registry::of(&self);
        let components = self.components();
        require_store(&*components.vfs, path)?;
        let engine = Engine::open(path, self.engine_options(), components)?;
        let store = Store::load(engine, self)?;
        schema::recover(&store.shared.engine)?;
        Ok(Migrations { store, registry })
    }
}

impl Migrations {
    /// The schema version of the state. Of a state that never declared one it is the
    /// version that the first of these migrations begins at, or 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.registry.version_of(&self.store.shared.engine)
    }

    /// The migrations that the state has not been through, in order.
    ///
    /// # Errors
    /// [`Error::BrokenChain`] where they do not reach the state.
    pub fn pending(&self) -> Result<Vec<PendingMigration>> {
        let pending = self.registry.pending(self.version())?;
        let told = pending.into_iter().map(|registered| PendingMigration {
            version: registered.version,
            name: registered.name,
            description: registered.description,
        });
        Ok(told.collect())
    }

    /// Runs what is pending, all of it or nothing; goes on where an earlier run was
    /// interrupted. Durable when it returns. With nothing pending it does nothing.
    ///
    /// # Errors
    /// [`Error::MigrationFailed`], [`Error::InvariantBroken`], with the state as it was;
    /// [`Error::Stopped`]; [`Error::BrokenChain`].
    pub fn run(&self) -> Result<MigrationReport> {
        self.store.shared.enter()?;
        self.registry.begin(&self.store.shared.engine)?;
        let version = self.version();
        let report = self.registry.migrate(&self.store)?;
        Ok(report.unwrap_or_else(|| nothing(version)))
    }

    /// Takes the state back to an earlier version, by the
    /// [`revert`](crate::StateMigration::revert) of each migration above it, the newest
    /// first; all of them or none, under the rules of [`run`](Self::run). Programs that
    /// know that version can then open the store.
    ///
    /// # Errors
    /// [`Error::Irreversible`] where one has no way back, [`Error::MigrationFailed`],
    /// [`Error::Stopped`]; [`Error::Invalid`] for a version above that of the state, and
    /// [`Error::BrokenChain`] for one that the migrations do not reach.
    pub fn revert_to(&self, version: u32) -> Result<MigrationReport> {
        self.store.shared.enter()?;
        let from = self.version();
        if version > from {
            return Err(Error::Invalid {
                what: "version",
                reason: format!("the state has version {from}, which is before {version}"),
            });
        }
        let mut chain = self.registry.chain()?;
        chain.retain(|registered| registered.version > version && registered.version <= from);
        let wanted = from - version;
        if u32::try_from(chain.len()) != Ok(wanted) {
            let there = |version: &u32| chain.iter().any(|other| other.version == *version);
            let missing = (version + 1..=from).find(|version| !there(version));
            return Err(Error::BrokenChain {
                version: missing.unwrap_or(from),
                reason: format!(
                    "none is registered, and the way from {from} back to {version} needs it"
                ),
            });
        }
        if chain.is_empty() {
            return Ok(nothing(version));
        }
        let steps: Vec<_> = chain
            .into_iter()
            .rev()
            .map(|of| Step { of, reverted: true })
            .collect();
        // What the older program has need not hold what this one wants.
        let heed = (&self.registry.watcher, &[][..]);
        run::run(&self.store, &steps, (from, version), heed)
    }

    /// Closes the store; the folder is free when it returns.
    ///
    /// # Errors
    /// As [`Store::close`].
    pub fn close(self) -> Result<()> {
        self.store.close()
    }
}

fn nothing(version: u32) -> MigrationReport {
    MigrationReport {
        from: version,
        to: version,
        steps: Vec::new(),
        resumed: false,
        time: std::time::Duration::ZERO,
    }
}
