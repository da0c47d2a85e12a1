//! The way back: under the same rules as the way there.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use evenkeel::{Error, Scope, ScopeKind, ScopeSet};

use crate::parts::{Made, Place, lines};

/// Renames, then moves to another scope, then changes the type; each with its way back.
fn chain() -> Vec<Made> {
    let renames = Made::to(2, |state| state.rename("tries", "attempts").map(drop))
        .back(|state| state.rename("attempts", "tries").map(drop));
    let owner = |scope: &Scope| match scope {
        Scope::Job(id) => Scope::worker(id),
        other => other.clone(),
    };
    let moves = Made::to(3, move |state| {
        let worker = state.joined(owner(state.scope()))?;
        if let Some(load) = state.get::<u32>("load")? {
            worker.set("load", load)?;
            state.remove("load")?;
        }
        Ok(())
    });
    let moves = moves.back(move |state| {
        let worker = state.joined(owner(state.scope()))?;
        if let Some(load) = worker.get::<u32>("load")? {
            state.set("load", load)?;
            worker.remove("load")?;
        }
        Ok(())
    });
    let moves = moves
        .scopes(ScopeSet::kind(ScopeKind::Job))
        .joins(|_| ScopeSet::kind(ScopeKind::Worker));
    let types = Made::to(4, |state| {
        state
            .convert("attempts", |n: u32| Ok(n.to_string()))
            .map(drop)
    });
    let types = types.back(|state| {
        let back = |n: String| n.parse::<u32>().map_err(Error::abort);
        state.convert("attempts", back).map(drop)
    });
    vec![renames, moves, types]
}

fn filled() -> Place {
    let place = Place::new();
    place.fill(|store| {
        for n in 0..5 {
            let job = store.scope(Scope::job(format!("{n}")));
            job.set("tries", n)?;
            job.set("load", 10 + n)?;
        }
        Ok(())
    });
    place
}

#[test]
fn it_brings_back_what_was_version_by_version() {
    let place = filled();
    let mut states = vec![place.lines()];
    for upto in 1..=3 {
        place.open(&chain()[..upto]).unwrap().close().unwrap();
        states.push(place.lines());
    }
    for to in (1..=4).rev() {
        for from in to..=4 {
            let migrations = place.with(&chain()).migrations(&place.path).unwrap();
            migrations.revert_to(1).unwrap();
            drop(migrations);
            place
                .open(&chain()[..from as usize - 1])
                .unwrap()
                .close()
                .unwrap();
            let migrations = place.with(&chain()).migrations(&place.path).unwrap();
            let report = migrations.revert_to(to).unwrap();
            assert_eq!((report.from, report.to), (from, to));
            let versions: Vec<_> = report.steps.iter().map(|step| step.version).collect();
            assert_eq!(versions, (to + 1..=from).rev().collect::<Vec<_>>());
            assert!(report.steps.iter().all(|step| step.reverted));
            assert_eq!(migrations.version(), to);
            migrations.close().unwrap();
            assert_eq!(place.lines(), states[to as usize - 1], "{from} to {to}");
            // The program of that version can open it.
            let older = place.open(&chain()[..to as usize - 1]).unwrap();
            assert_eq!(older.schema_version(), to);
        }
    }
    let store = place.open(&chain()).unwrap();
    let last = store.schema_history().unwrap();
    let last: Vec<_> = last
        .iter()
        .rev()
        .take(2)
        .map(|change| (change.from, change.to))
        .collect();
    assert_eq!(lines(&store), states[3]);
    assert_eq!(last, [(3, 4), (2, 3)]);
}

#[test]
fn what_has_no_way_back_is_named_and_nothing_is_changed() {
    let place = filled();
    let mut chain = chain();
    chain.insert(0, Made::to(1, |_| Ok(())));
    place.open(&chain).unwrap().close().unwrap();
    let before = place.lines();
    let migrations = place.with(&chain).migrations(&place.path).unwrap();
    let refused = migrations.revert_to(0);
    let named = matches!(
        &refused,
        Err(Error::Irreversible { version: 1, name }) if name == "to 1"
    );
    assert!(named, "{refused:?}");
    assert_eq!(migrations.version(), 4);
    let above = migrations.revert_to(5);
    assert!(matches!(above, Err(Error::Invalid { .. })), "{above:?}");
    assert!(migrations.revert_to(4).unwrap().steps.is_empty());
    migrations.close().unwrap();
    assert_eq!(place.lines(), before);
    let short = place.with(&chain[2..]).migrations(&place.path).unwrap();
    let missing = short.revert_to(1);
    assert!(
        matches!(missing, Err(Error::BrokenChain { version: 2, .. })),
        "{missing:?}"
    );
}

#[test]
fn a_way_back_that_fails_leaves_the_state_as_it_was() {
    let place = filled();
    let mut chain = chain();
    place.open(&chain).unwrap().close().unwrap();
    let before = place.lines();
    chain[0] = chain[0].clone().back(|state| {
        state.rename("attempts", "tries")?;
        match *state.scope() == Scope::job("3") {
            true => panic!("not this one"),
            false => Ok(()),
        }
    });
    let migrations = place.with(&chain).migrations(&place.path).unwrap();
    let failed = migrations.revert_to(1);
    let Err(Error::MigrationFailed {
        version,
        scope,
        key,
        ..
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!((version, scope), (2, Scope::job("3").to_string()));
    assert_eq!(key.as_deref(), Some("attempts"));
    migrations.close().unwrap();
    assert_eq!(place.lines(), before);
}

#[test]
fn a_way_back_that_is_stopped_anywhere_goes_on_or_is_given_up() {
    let expected = filled().lines();
    for at in 0.. {
        let place = filled();
        place.open(&chain()).unwrap().close().unwrap();
        let migrated = place.lines();
        let told = AtomicU32::new(0);
        let calls = Arc::new(AtomicU32::new(0));
        let counted: Vec<_> = chain()
            .into_iter()
            .map(|step| {
                let calls = Arc::clone(&calls);
                let inner = step.clone();
                step.back(move |state| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    evenkeel::StateMigration::revert(&inner, state)
                })
            })
            .collect();
        let stopping = place.with(&counted).migration_progress(move |_| {
            match told.fetch_add(1, Ordering::SeqCst) == at {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let migrations = stopping.migrations(&place.path).unwrap();
        let stopped = migrations.revert_to(1);
        migrations.close().unwrap();
        if stopped.is_ok() {
            assert!(at > 15, "it was told too little");
            return;
        }
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        let again = at % 2 == 0;
        if again {
            let migrations = place.with(&counted).migrations(&place.path).unwrap();
            migrations.revert_to(1).unwrap();
            migrations.close().unwrap();
            assert_eq!(place.lines(), expected, "stopped at {at}");
            let visited = 5 + 5 + 10;
            assert_eq!(calls.load(Ordering::SeqCst), visited, "stopped at {at}");
        } else {
            // Whoever opens it goes forward: what was staged of the way back is given up,
            // and a way back that counts already is gone there again.
            let store = place.open(&chain()).unwrap();
            assert_eq!(lines(&store), migrated, "stopped at {at}");
            // What is written now counts, also for the next way back.
            store.scope(Scope::job("2")).set("attempts", "77").unwrap();
            store.close().unwrap();
            let migrations = place.with(&chain()).migrations(&place.path).unwrap();
            assert!(!migrations.revert_to(1).unwrap().resumed, "stopped at {at}");
            migrations.close().unwrap();
            let store = place.open(&[]).unwrap();
            assert_eq!(store.scope(Scope::job("2")).get("tries").unwrap(), Some(77));
        }
    }
}
