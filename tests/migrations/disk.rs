//! Owns a simulated disk with one store, as programs of several versions open it.

use std::collections::BTreeMap;
use std::sync::Arc;

use evenkeel::testing::SimDisk;
use evenkeel::{
    Builder, Error, ManualClock, MigrationReport, Migrations, Result, Scope, SetOptions,
    StateMigration, Store, Value,
};

pub(crate) const PATH: &str = "/store";

/// A value, and when it expires.
pub(crate) type Held = (Value, Option<u64>);

/// All that a store has.
pub(crate) type Contents = BTreeMap<(Scope, String), Held>;

pub(crate) struct Disk {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
}

impl Disk {
    /// With a store that a program without migrations has filled.
    pub(crate) fn with(contents: &Contents) -> Self {
        let disk = Self {
            disk: SimDisk::new(1),
            clock: Arc::new(ManualClock::new(1_000_000)),
        };
        let store = disk.builder().open(PATH).unwrap();
        for ((scope, key), (value, until)) in contents {
            let lasts = match until {
                Some(until) => SetOptions::new().expires_at(*until),
                None => SetOptions::new(),
            };
            let scope = store.scope(scope.clone());
            scope.set_with(key, value, lasts).unwrap();
        }
        store.close().unwrap();
        disk
    }

    pub(crate) fn builder(&self) -> Builder {
        self.disk.store_builder().clock(self.clock.clone())
    }

    /// What is in the store, whatever its version.
    pub(crate) fn contents(&self) -> Contents {
        let store = self.builder().any_schema().open(PATH).unwrap();
        let contents = contents(&store);
        store.close().unwrap();
        contents
    }

    pub(crate) fn migrations(&self, migration: impl StateMigration + 'static) -> Migrations {
        let builder = self.builder().migration(migration);
        builder.migrations(PATH).unwrap()
    }

    /// Opens the store by the program that has this migration, and closes it.
    pub(crate) fn migrate(&self, migration: impl StateMigration + 'static) -> Result<()> {
        self.builder().migration(migration).open(PATH)?.close()
    }

    /// Takes the store back to before the migration.
    pub(crate) fn revert(
        &self,
        migration: impl StateMigration + 'static,
    ) -> Result<MigrationReport> {
        let below = migration.version() - 1;
        let migrations = self.migrations(migration);
        let report = migrations.revert_to(below);
        migrations.close().unwrap();
        report
    }
}

pub(crate) fn contents(store: &Store) -> Contents {
    let mut contents = Contents::new();
    for scope in store.scopes().unwrap() {
        for entry in store.scope(scope.clone()).scan("").unwrap() {
            let entry = entry.unwrap();
            let held = (entry.value().unwrap(), entry.expires_at());
            contents.insert((scope.clone(), entry.key().to_owned()), held);
        }
    }
    contents
}

/// Contents of values that do not expire.
pub(crate) fn lasting<V: Into<Value>>(
    entries: impl IntoIterator<Item = (Scope, &'static str, V)>,
) -> Contents {
    let entries = entries.into_iter();
    entries
        .map(|(scope, key, value)| ((scope, key.to_owned()), (value.into(), None)))
        .collect()
}

/// The scope and key that a migration failed at, and why.
pub(crate) fn failure(outcome: Result<()>) -> (String, Option<String>, Error) {
    match outcome {
        Err(Error::MigrationFailed {
            scope, key, source, ..
        }) => (scope, key, *source),
        other => panic!("{other:?}"),
    }
}
