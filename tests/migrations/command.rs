//! Migrations that are run by command, and not when the store is opened.

use std::ops::ControlFlow;

use evenkeel::{Error, Scope};

use crate::parts::{Made, Place, files, lines};

fn chain() -> Vec<Made> {
    [2, 3]
        .map(|version| {
            let step = Made::to(version, move |state| {
                state.convert("n", |n: u32| Ok(n + version)).map(drop)
            });
            step.back(move |state| state.convert("n", |n: u32| Ok(n - version)).map(drop))
        })
        .to_vec()
}

fn filled() -> Place {
    let place = Place::new();
    place.fill(|store| {
        for n in 0..3 {
            store.scope(Scope::job(format!("{n}"))).set("n", n)?;
        }
        Ok(())
    });
    place
}

#[test]
fn a_store_that_needs_some_is_not_opened_without_the_command() {
    let place = filled();
    let before = place.lines();
    for _ in 0..2 {
        let refused = place
            .with(&chain())
            .migrations_at_open(false)
            .open(&place.path);
        let needed = matches!(
            refused,
            Err(Error::MigrationNeeded {
                found: 1,
                wanted: 3,
                ..
            })
        );
        assert!(needed, "{refused:?}");
    }
    assert_eq!(place.lines(), before);
    let migrations = place.with(&chain()).migrations(&place.path).unwrap();
    assert_eq!(migrations.version(), 1);
    let pending = migrations.pending().unwrap();
    let pending: Vec<_> = pending
        .iter()
        .map(|pending| (pending.version, &*pending.name, &*pending.description))
        .collect();
    assert_eq!(
        pending,
        [(2, "to 2", "brings it to 2"), (3, "to 3", "brings it to 3")]
    );
    let report = migrations.run().unwrap();
    assert_eq!((report.from, report.to, report.steps.len()), (1, 3, 2));
    assert!(migrations.pending().unwrap().is_empty());
    let again = migrations.run().unwrap();
    assert_eq!((again.from, again.to, again.steps.len()), (3, 3, 0));
    migrations.close().unwrap();
    let store = place
        .with(&chain())
        .migrations_at_open(false)
        .open(&place.path)
        .unwrap();
    assert_eq!(store.scope(Scope::job("2")).get("n").unwrap(), Some(7));
    assert!(store.migration_report().is_none());
}

#[test]
fn the_folder_is_held_until_it_is_closed() {
    let place = filled();
    let migrations = place.with(&chain()).migrations(&place.path).unwrap();
    let locked = place.open(&chain());
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    drop(migrations);
    place.open(&chain()).unwrap();
}

#[test]
fn what_a_run_has_staged_stays_for_the_next_command() {
    let place = filled();
    let builder = || place.with(&chain()).migrations_at_open(false);
    let stopping = builder().migration_progress(|progress| match progress.scopes {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let migrations = stopping.migrations(&place.path).unwrap();
    let stopped = migrations.run();
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    migrations.close().unwrap();
    // Looking does not give it up.
    let refused = builder().open(&place.path);
    assert!(
        matches!(refused, Err(Error::MigrationNeeded { .. })),
        "{refused:?}"
    );
    let migrations = builder().migrations(&place.path).unwrap();
    assert_eq!(migrations.pending().unwrap().len(), 2);
    migrations.close().unwrap();
    let migrations = builder().migrations(&place.path).unwrap();
    assert!(migrations.run().unwrap().resumed);
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let place = Place::new();
    let refused = place.with(&chain()).migrations(&place.path);
    assert!(
        matches!(refused, Err(Error::NotAStore { .. })),
        "{refused:?}"
    );
    assert!(!place.path.exists());
    std::fs::create_dir(&place.path).unwrap();
    let refused = place.with(&chain()).migrations(&place.path);
    assert!(
        matches!(refused, Err(Error::NotAStore { .. })),
        "{refused:?}"
    );
    assert!(files(&place.path).is_empty());
}

#[test]
fn an_empty_store_takes_the_newest_version_by_command_too() {
    let place = Place::new();
    place.fill(|_| Ok(()));
    let migrations = place.with(&chain()).migrations(&place.path).unwrap();
    let report = migrations.run().unwrap();
    assert!(report.steps.is_empty());
    assert_eq!(migrations.version(), 3);
    drop(migrations);
    assert!(lines(&place.open(&chain()).unwrap()).is_empty());
}

#[test]
fn a_failure_by_command_can_be_tried_again_in_the_same_session() {
    let place = filled();
    let before = place.lines();
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let sees = std::sync::Arc::clone(&healthy);
    let fails = Made::to(4, move |_| {
        match sees.load(std::sync::atomic::Ordering::SeqCst) {
            true => Ok(()),
            false => Err(Error::abort("not yet")),
        }
    });
    let fails = fails.back(|_| Ok(()));
    let mut chain = chain();
    chain.push(fails);
    let migrations = place.with(&chain).migrations(&place.path).unwrap();
    for _ in 0..2 {
        let failed = migrations.run();
        assert!(
            matches!(failed, Err(Error::MigrationFailed { version: 4, .. })),
            "{failed:?}"
        );
        assert_eq!(migrations.version(), 1);
    }
    healthy.store(true, std::sync::atomic::Ordering::SeqCst);
    let report = migrations.run().unwrap();
    // Nothing of what failed was left to go on with.
    assert_eq!((report.to, report.resumed), (4, false));
    migrations.revert_to(3).unwrap();
    migrations.revert_to(1).unwrap();
    drop(migrations);
    assert_eq!(place.lines(), before);
}
