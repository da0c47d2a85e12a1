//! Owns the schema version of a store as a user asks for it, and what becomes of a chain
//! of migrations that was interrupted. Who runs migrations is above: see
//! [`SchemaKeeper`].

pub(crate) mod apply;
pub(crate) mod layers;
pub(crate) mod record;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::engine::Engine;
use crate::error::Result;
use crate::ids::{Lsn, Version};
use crate::state::schema::record::{Phase, Record, StepRecord};
use crate::state::store::Store;

/// What brings the state of a store to the version that its program has.
pub(crate) trait SchemaKeeper: Any + fmt::Debug + Send + Sync {
    /// The newest version that the program knows.
    fn newest(&self) -> u32;

    /// Refuses what cannot be, before the folder is touched.
    fn check(&self) -> Result<()>;

    /// Brings a store to that version, before anybody is given it. What was interrupted
    /// while it was applied is applied already.
    fn prepare(&self, store: &Store) -> Result<Option<MigrationReport>>;
}

/// Goes on with a chain that was interrupted while it was applied: whoever opens the
/// store finds it whole.
///
/// Tells what the chain did, where there was one.
pub(crate) fn recover(engine: &Arc<Engine>) -> Result<Option<MigrationReport>> {
    let begun = clock::monotonic();
    match record::read(engine)? {
        Some(record) if record.phase == Phase::Applying => {
            let mut report = MigrationReport::new(&record, true);
            apply::apply(engine, record, |_| Ok(()))?;
            report.time = clock::monotonic().duration_since(begun);
            Ok(Some(report))
        }
        _ => Ok(None),
    }
}

/// Gives up what an interrupted chain has staged, if one has.
pub(crate) fn discard(engine: &Arc<Engine>) -> Result<()> {
    match record::read(engine)? {
        Some(record) => apply::discard(engine, &record),
        None => Ok(()),
    }
}

impl Store {
    /// Brings the state to the version of the program, or gives up what another program
    /// has begun.
    pub(super) fn prepare(self) -> Result<Self> {
        let engine = &self.shared.engine;
        let recovered = recover(engine)?;
        let report = match &self.shared.settings.schema {
            Some(keeper) => keeper.prepare(&self)?,
            None => {
                discard(engine)?;
                None
            }
        };
        *self.shared.migrated.lock() = report.or(recovered);
        Ok(self)
    }

    /// The schema version of the state: the version of the newest
    /// [migration](crate::StateMigration) that it has been through. 0 where no program
    /// ever had migrations for it; the first chain then takes it for the version that it
    /// begins at.
    ///
    /// ```
    /// use evenkeel::{MigrationScope, Result, StateMigration, Store};
    /// struct SplitName;
    /// impl StateMigration for SplitName {
    ///     fn version(&self) -> u32 { 2 }
    ///     fn migrate(&self, _: &mut MigrationScope) -> Result<()> { Ok(()) }
    /// }
    /// let store = Store::builder().migration(SplitName).in_memory()?;
    /// assert_eq!(store.schema_version(), 2);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        self.shared.engine.schema()
    }

    /// The changes of the schema version, oldest first: the newest 1,000. A value whose
    /// [version](crate::Version) is that of a change or later was written under the
    /// version that it led to; what a migration had no reason to write keeps its own.
    ///
    /// # Errors
    /// As [`crate::ScopeHandle::scan`].
    ///
    /// ```
    /// use evenkeel::{MigrationScope, Result, StateMigration, Store};
    /// struct SplitName;
    /// impl StateMigration for SplitName {
    ///     fn version(&self) -> u32 { 2 }
    ///     fn migrate(&self, _: &mut MigrationScope) -> Result<()> { Ok(()) }
    /// }
    /// let store = Store::builder().migration(SplitName).in_memory()?;
    /// let history = store.schema_history()?;
    /// assert_eq!((history[0].from, history[0].to), (0, 2));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn schema_history(&self) -> Result<Vec<SchemaChange>> {
        self.shared.enter()?;
        record::history(&self.shared.engine)
    }

    /// The schema version under which a value of this [version](Version) was written: that
    /// of the newest change behind which it came. A value that a migration had no reason to
    /// write keeps the one that it was written under. Reads the history, so ask once and
    /// compare with [`SchemaChange::lsn`] where there are many.
    ///
    /// # Errors
    /// As [`Store::schema_history`].
    ///
    /// ```
    /// use evenkeel::{MigrationScope, Result, StateMigration, Store};
    /// struct Renamed;
    /// impl StateMigration for Renamed {
    ///     fn version(&self) -> u32 { 2 }
    ///     fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
    ///         state.rename("tries", "attempts").map(drop)
    ///     }
    /// }
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let store = Store::open(&path)?;
    /// store.global().set("tries", 3)?;
    /// store.global().set("name", "a")?;
    /// store.close()?;
    /// let store = Store::builder().migration(Renamed).open(&path)?;
    /// let version = |key: &str| store.global().get_versioned::<evenkeel::Value>(key);
    /// let migrated = version("attempts")?.expect("it was renamed").version;
    /// let untouched = version("name")?.expect("it is there").version;
    /// assert_eq!(store.schema_version_of(migrated)?, 2);
    /// assert_eq!(store.schema_version_of(untouched)?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn schema_version_of(&self, version: Version) -> Result<u32> {
        let history = self.schema_history()?;
        let change = history.iter().rfind(|change| change.lsn <= version.into());
        let before = || history.first().map_or(0, |first| first.from);
        Ok(change.map_or_else(before, |change| change.to))
    }

    /// What migrations did when this store was opened, or an opening before that was
    /// interrupted; `None` where there was nothing to be done.
    ///
    /// ```
    /// assert!(evenkeel::Store::in_memory().migration_report().is_none());
    /// ```
    #[must_use]
    pub fn migration_report(&self) -> Option<MigrationReport> {
        self.shared.migrated.lock().clone()
    }
}

/// What a run of migrations did. Made by [`Store::migration_report`],
/// [`Migrations::run`](crate::Migrations::run) and
/// [`Migrations::revert_to`](crate::Migrations::revert_to).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The schema version before.
    pub from: u32,
    /// The schema version now.
    pub to: u32,
    /// Each migration that was run or reverted, in the order in which that was done.
    pub steps: Vec<MigrationStep>,
    /// True where an earlier run had been interrupted, and this one went on.
    pub resumed: bool,
    /// How long this run took, without what earlier ones of the same chain did.
    pub time: Duration,
}

impl MigrationReport {
    pub(crate) fn new(record: &Record, resumed: bool) -> Self {
        Self {
            from: record.from,
            to: record.to,
            steps: record.steps.iter().map(MigrationStep::new).collect(),
            resumed,
            time: Duration::ZERO,
        }
    }
}

/// What one migration of a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStep {
    /// The version of the migration.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// True where it was reverted.
    pub reverted: bool,
    /// The scopes that it visited, in all runs of the chain.
    pub scopes: u64,
    /// The keys that it wrote; one that several of its calls wrote counts for each.
    pub written: u64,
    /// The keys that it removed, counted likewise.
    pub removed: u64,
}

impl MigrationStep {
    pub(crate) fn new(step: &StepRecord) -> Self {
        Self {
            version: step.version,
            name: step.name.clone(),
            reverted: step.reverted,
            scopes: step.scopes,
            written: step.written,
            removed: step.removed,
        }
    }
}

/// A change of the schema version. See [`Store::schema_history`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaChange {
    /// The version before.
    pub from: u32,
    /// The version from then on.
    pub to: u32,
    /// The name of the migration; empty where the store began with this version.
    pub name: String,
    /// The commit: values of this or a later version are of the new schema.
    pub lsn: Lsn,
    /// When that was, by the clock of the store.
    pub at: SystemTime,
}

#[cfg(test)]
mod tests;
