//! Which migrations are run, and which chains are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use evenkeel::{Error, MigrationScope, Result, Scope, StateMigration, Store};

use crate::parts::{Made, Place, files, lines};

/// The example of the issue, as it stands there.
struct SplitName;

impl StateMigration for SplitName {
    fn version(&self) -> u32 {
        2
    } // brings 1 to 2
    fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
        state.remove("name")?;
        Ok(())
    }
}

#[test]
fn the_example_compiles_and_runs() {
    let place = Place::new();
    place.fill(|store| store.global().set("name", "Ada"));
    let store = Store::builder()
        .migration(SplitName)
        .open(&place.path)
        .unwrap();
    assert!(store.scopes().unwrap().is_empty());
    assert_eq!(store.schema_version(), 2);
    let report = store.migration_report().unwrap();
    assert_eq!((report.from, report.to, report.steps.len()), (1, 2, 1));
    let step = &report.steps[0];
    assert_eq!(
        (step.name.as_str(), step.scopes, step.removed),
        ("SplitName", 1, 1)
    );
    let history = store.schema_history().unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(
        (history[0].from, history[0].to, history[0].name.as_str()),
        (1, 2, "SplitName")
    );
}

#[test]
fn a_chain_runs_in_the_order_of_its_versions_and_once() {
    let place = Place::new();
    place.fill(|store| store.global().set("n", 1));
    let step = |version: u32, by: i64, of: i64| {
        Made::to(version, move |state| {
            state.convert("n", |n: i64| Ok(n * of + by)).map(drop)
        })
    };
    let chain = [step(4, 5, 1), step(2, 1, 1), step(3, 0, 10)];
    for _ in 0..3 {
        let store = place.open(&chain).unwrap();
        assert_eq!(store.global().get("n").unwrap(), Some(25));
        assert_eq!(store.schema_version(), 4);
        store.close().unwrap();
    }
    let store = place.open(&chain).unwrap();
    assert!(store.migration_report().is_none());
    let history = store.schema_history().unwrap();
    let changes: Vec<_> = history
        .iter()
        .map(|change| (change.from, change.to))
        .collect();
    assert_eq!(changes, [(1, 2), (2, 3), (3, 4)]);
    let written = store
        .global()
        .get_versioned::<i64>("n")
        .unwrap()
        .unwrap()
        .version;
    assert!(
        written.get() > history[0].lsn.get(),
        "the value is of the new schema"
    );
}

#[test]
fn what_was_not_changed_keeps_its_version() {
    let place = Place::new();
    place.fill(|store| {
        store.global().set("same", 1)?;
        store.global().set("other", 1)
    });
    let before = place.open(&[]).unwrap();
    let version = before
        .global()
        .get_versioned::<u32>("same")
        .unwrap()
        .unwrap()
        .version;
    before.close().unwrap();
    let to = Made::to(2, |state| {
        state.set("same", 1)?;
        state.set("other", 2)
    });
    let store = place.open(&[to]).unwrap();
    assert_eq!(store.migration_report().unwrap().steps[0].written, 1);
    let after = store
        .global()
        .get_versioned::<u32>("same")
        .unwrap()
        .unwrap()
        .version;
    assert_eq!(after, version);
}

#[test]
fn an_empty_store_takes_the_newest_version_and_runs_nothing() {
    let place = Place::new();
    let fails = Made::to(7, |_| Err(Error::abort("it was run")));
    let store = place.open(std::slice::from_ref(&fails)).unwrap();
    assert_eq!(store.schema_version(), 7);
    assert!(store.migration_report().is_none());
    store.global().set("a", 1).unwrap();
    store.close().unwrap();
    assert_eq!(
        place
            .open(std::slice::from_ref(&fails))
            .unwrap()
            .schema_version(),
        7
    );
    let memory = place.with(&[fails]).in_memory().unwrap();
    assert_eq!(memory.schema_version(), 7);
    let copy = Place::new();
    memory.global().set("a", 1).unwrap();
    let copied = memory.persist(&copy.path).unwrap();
    assert_eq!(copied.schema_version(), 7);
    assert_eq!(copied.schema_history().unwrap().len(), 1);
}

#[test]
fn a_chain_that_begins_at_version_1_takes_what_was_never_declared_for_0() {
    let place = Place::new();
    place.fill(|store| store.global().set("a", 1));
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let first = Made::to(1, move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let store = place.open(&[first, Made::idle(2)]).unwrap();
    assert_eq!(
        (store.schema_version(), calls.load(Ordering::SeqCst)),
        (2, 1)
    );
}

fn broken(chain: &[u32]) -> u32 {
    let place = Place::new();
    let chain: Vec<_> = chain.iter().map(|&version| Made::idle(version)).collect();
    let refused = place.open(&chain);
    assert!(!place.path.exists(), "the folder was touched");
    match refused {
        Err(Error::BrokenChain { version, .. }) => version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn gaps_doubles_and_zero_are_refused_before_the_folder_is_touched() {
    assert_eq!(broken(&[2, 4]), 3);
    assert_eq!(broken(&[5, 2, 3]), 4);
    assert_eq!(broken(&[2, 3, 2]), 2);
    assert_eq!(broken(&[0]), 0);
    assert_eq!(broken(&[0, 1]), 0);
    assert_eq!(broken(&[1, u32::MAX]), 2);
    assert_eq!(broken(&[u32::MAX, u32::MAX]), u32::MAX);
}

#[test]
fn the_last_version_there_is_can_be_reached_and_left() {
    let place = Place::new();
    let last = Made::idle(u32::MAX).back(|_| Ok(()));
    place
        .open(std::slice::from_ref(&last))
        .unwrap()
        .close()
        .unwrap();
    let migrations = place
        .with(std::slice::from_ref(&last))
        .migrations(&place.path)
        .unwrap();
    assert_eq!(migrations.version(), u32::MAX);
    assert!(migrations.revert_to(u32::MAX).unwrap().steps.is_empty());
    migrations.revert_to(u32::MAX - 1).unwrap();
    assert_eq!(migrations.run().unwrap().to, u32::MAX);
    let far = migrations.revert_to(3);
    assert!(
        matches!(far, Err(Error::BrokenChain { version: 4, .. })),
        "{far:?}"
    );
}

#[test]
fn a_chain_that_does_not_reach_the_state_names_what_is_missing() {
    let place = Place::new();
    place.fill(|store| store.global().set("a", 1));
    let refused = place.open(&[Made::idle(3), Made::idle(4)]);
    assert!(
        matches!(refused, Err(Error::BrokenChain { version: 2, .. })),
        "{refused:?}"
    );
    place.open(&[Made::idle(2)]).unwrap().close().unwrap();
    // What is behind it need not be there any more.
    let store = place.open(&[Made::idle(3), Made::idle(4)]).unwrap();
    assert_eq!(store.schema_version(), 4);
}

#[test]
fn a_newer_state_is_refused_and_left_untouched() {
    let place = Place::new();
    place.fill(|store| store.global().set("a", 1));
    place
        .open(&[Made::idle(2), Made::idle(3)])
        .unwrap()
        .close()
        .unwrap();
    let before = files(&place.path);
    for older in [&[][..], &[Made::idle(2)]] {
        let refused = place.open(older);
        let newest = older.len() as u32 + 1;
        let named = matches!(
            refused,
            Err(Error::NewerSchema { found: 3, supported, .. }) if supported == newest
        );
        assert!(named, "{refused:?}");
        let refused = place.with(older).migrations(&place.path);
        assert!(
            matches!(refused, Err(Error::NewerSchema { .. })),
            "{refused:?}"
        );
    }
    assert!(files(&place.path) == before, "a file was changed");
    let tool = place.builder().any_schema().open(&place.path).unwrap();
    assert_eq!(
        (tool.schema_version(), tool.global().len().unwrap()),
        (3, 1)
    );
}

#[test]
fn a_migration_that_panics_when_it_is_asked_its_version_is_an_error() {
    struct Panics;
    impl StateMigration for Panics {
        fn version(&self) -> u32 {
            panic!("which version?")
        }
        fn migrate(&self, _: &mut MigrationScope) -> Result<()> {
            Ok(())
        }
    }
    let place = Place::new();
    let refused = place.builder().migration(Panics).open(&place.path);
    assert!(
        matches!(refused, Err(Error::Panicked { .. })),
        "{refused:?}"
    );
    assert!(!place.path.exists());
}

#[test]
fn caches_are_cleared_and_settings_are_kept() {
    let place = Place::new();
    place.fill(|store| {
        for n in 0..600 {
            let scope = store.scope(Scope::job(format!("{n:03}")));
            scope.set("a", 1)?;
            scope.cache("computed").insert("k", 1)?;
        }
        store
            .scope(Scope::job("000"))
            .set_quota(evenkeel::Quota::new().keys(5))
    });
    let store = place.open(&[Made::idle(2)]).unwrap();
    for n in 0..600 {
        let scope = store.scope(Scope::job(format!("{n:03}")));
        assert_eq!(
            scope.cache("computed").get::<u32>("k").unwrap(),
            None,
            "{n}"
        );
    }
    let scope = store.scope(Scope::job("000"));
    assert_eq!(scope.quota().unwrap().keys, Some(5));
    assert!(lines(&store).lines().count() == 600);
}
