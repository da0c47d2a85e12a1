//! Runs that are interrupted go on where they were; what nobody goes on with is given up.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use evenkeel::{Builder, Error, MigrationPhase, MigrationProgress, Result, Scope, ScopeSet, Store};

use crate::parts::{Made, Place, lines};

fn filled() -> Place {
    let place = Place::new();
    place.fill(|store| {
        store.transact(|tx| {
            for n in 0..10 {
                let scope = tx.scope(Scope::job(format!("{n}")));
                scope.set("n", n)?;
                scope.set("big", "x".repeat(1000))?;
            }
            Ok(())
        })
    });
    place
}

/// Three migrations that would show if one was run twice for a scope, or not at all.
fn chain(calls: &Arc<AtomicU32>) -> Vec<Made> {
    let step = |version: u32, of: i64, by: i64| {
        let calls = Arc::clone(calls);
        let step = Made::to(version, move |state| {
            calls.fetch_add(1, Ordering::SeqCst);
            state.convert("n", |n: i64| Ok(n * of + by))?;
            let total = state.joined(Scope::Global)?;
            let sum: i64 = total.get("sum")?.unwrap_or(0);
            total.set("sum", sum + state.get::<i64>("n")?.unwrap_or(0))
        });
        let step = step.scopes(ScopeSet::all().except(ScopeSet::scope(Scope::Global)));
        step.joins(|_| ScopeSet::scope(Scope::Global))
    };
    vec![step(2, 1, 7), step(3, 10, 0), step(4, -1, 1)]
}

fn uninterrupted() -> String {
    let place = filled();
    lines(&place.open(&chain(&Arc::default())).unwrap())
}

/// Stops at the progress of this number.
fn stopping(builder: Builder, at: u32) -> Builder {
    let told = AtomicU32::new(0);
    builder.migration_progress(move |_| match told.fetch_add(1, Ordering::SeqCst) == at {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    })
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_and_comes_to_the_same() {
    let expected = uninterrupted();
    for at in 0.. {
        let place = filled();
        let calls = Arc::default();
        let stopped = stopping(place.with(&chain(&calls)), at).open(&place.path);
        match stopped {
            Err(Error::Stopped { .. }) => {}
            Ok(store) => {
                assert!(at >= 30, "it was told too little");
                assert_eq!(lines(&store), expected);
                return;
            }
            Err(e) => panic!("{e}"),
        }
        let store = place.open(&chain(&calls)).unwrap();
        assert_eq!(lines(&store), expected, "stopped at {at}");
        assert_eq!(calls.load(Ordering::SeqCst), 30, "stopped at {at}");
        if let Some(report) = store.migration_report() {
            assert_eq!(report.resumed, at > 0, "stopped at {at}");
            let scopes: Vec<_> = report.steps.iter().map(|step| step.scopes).collect();
            assert_eq!(scopes, [10, 10, 10], "stopped at {at}");
        }
        assert_eq!(store.schema_history().unwrap().len(), 3);
    }
}

#[test]
fn a_run_that_is_stopped_again_and_again_comes_to_the_same() {
    let expected = uninterrupted();
    let place = filled();
    let calls = Arc::default();
    for round in 0.. {
        // The first that it is told of is where it is.
        match stopping(place.with(&chain(&calls)), 1).open(&place.path) {
            Err(Error::Stopped { .. }) => assert!(round < 100, "it does not get on"),
            Ok(store) => {
                assert_eq!(lines(&store), expected);
                break;
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 30);
}

/// Each worker makes a job, which sorts behind all workers: a step that goes on finds jobs
/// that it has made itself.
#[test]
fn what_a_step_has_made_before_it_was_stopped_is_not_visited_behind_that() {
    let makes = || {
        let makes = Made::to(2, |state| {
            let Scope::Worker(id) = state.scope() else {
                return state.set("visited", true);
            };
            state.joined(Scope::job(id))?.set("of", id)
        });
        makes.joins(|_| ScopeSet::all())
    };
    for at in 0..=6 {
        let place = Place::new();
        place.fill(|store| {
            for id in 0..5 {
                store.scope(Scope::worker(format!("{id}"))).set("n", id)?;
            }
            store.scope(Scope::job("there")).set("n", 1)
        });
        let stopped = stopping(place.with(&[makes()]), at).open(&place.path);
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        let store = place.open(&[makes()]).unwrap();
        let report = store.migration_report().unwrap();
        assert_eq!(report.steps[0].scopes, 6, "stopped at {at}");
        for id in 0..5 {
            let job = store.scope(Scope::job(format!("{id}")));
            assert_eq!(
                job.keys().unwrap().collect::<Vec<_>>(),
                ["of"],
                "stopped at {at}"
            );
        }
        let there = store.scope(Scope::job("there"));
        assert!(there.contains("visited").unwrap(), "stopped at {at}");
    }
}

fn stopped(at: u32) -> Place {
    let place = filled();
    let stopped = stopping(place.with(&chain(&Arc::default())), at).open(&place.path);
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    place
}

#[test]
fn the_older_program_finds_the_state_as_it_was() {
    let before = filled().lines();
    let place = stopped(20);
    let store = place.open(&[]).unwrap();
    assert_eq!(lines(&store), before);
    // What is written now counts: nothing that was staged before comes back.
    store.scope(Scope::job("3")).set("n", 1000).unwrap();
    store.close().unwrap();
    let store = place.open(&chain(&Arc::default())).unwrap();
    assert!(!store.migration_report().unwrap().resumed);
    assert_eq!(
        store.scope(Scope::job("3")).get("n").unwrap(),
        Some(-(1007 * 10) + 1)
    );
}

/// What makes another chain of one.
type Change = &'static dyn Fn(&mut Vec<Made>);

#[test]
fn another_chain_begins_anew() {
    let changed: [Change; 4] = [
        &|chain| chain[0] = chain[0].clone().fingerprint("mended"),
        &|chain| chain.push(Made::idle(5)),
        &|chain| drop(chain.pop()),
        &|chain| chain[2] = chain[2].clone().scopes(ScopeSet::all()),
    ];
    for (which, change) in changed.iter().enumerate() {
        let mut other = chain(&Arc::default());
        change(&mut other);
        let expected = {
            let place = filled();
            lines(&place.open(&other).unwrap())
        };
        let place = stopped(25);
        let store = place.open(&other).unwrap();
        assert!(!store.migration_report().unwrap().resumed, "{which}");
        assert_eq!(lines(&store), expected, "{which}");
    }
}

#[test]
fn a_chain_that_is_being_applied_is_finished_by_whoever_knows_its_version() {
    let expected = uninterrupted();
    let when_applied = |builder: Builder| {
        builder.migration_progress(|progress| match progress.phase {
            MigrationPhase::Applying => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    };
    let interrupted = || {
        let place = filled();
        let stopped = when_applied(place.with(&chain(&Arc::default()))).open(&place.path);
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        place
    };
    let older = interrupted();
    let refused = older.open(&[Made::idle(2)]);
    assert!(
        matches!(refused, Err(Error::NewerSchema { found: 4, .. })),
        "{refused:?}"
    );
    let calls = Arc::default();
    let store = older.open(&chain(&calls)).unwrap();
    assert_eq!(
        (lines(&store), calls.load(Ordering::SeqCst)),
        (expected.clone(), 0)
    );
    drop(store);
    assert_eq!(interrupted().lines(), expected);
    let place = interrupted();
    let migrations = place.with(&chain(&calls)).migrations(&place.path).unwrap();
    assert_eq!(
        (migrations.version(), migrations.pending().unwrap().len()),
        (4, 0)
    );
    migrations.close().unwrap();
    assert_eq!(place.lines(), expected);
}

#[test]
fn its_progress_says_how_far_it_is() {
    let place = filled();
    let told: Arc<Mutex<Vec<MigrationProgress>>> = Arc::default();
    let tell = Arc::clone(&told);
    let store = place
        .with(&chain(&Arc::default()))
        .migration_progress(move |progress| {
            tell.lock().unwrap().push(progress.clone());
            ControlFlow::Continue(())
        });
    store.open(&place.path).unwrap();
    let told = told.lock().unwrap();
    let (staging, applying): (Vec<_>, Vec<_>) = told
        .iter()
        .partition(|told| told.phase == MigrationPhase::Staging);
    assert_eq!(staging.len(), 33);
    for (at, told) in staging.iter().enumerate() {
        let (step, scopes) = (at / 11, at % 11);
        assert_eq!((told.step as usize, told.steps), (step + 1, 3));
        assert_eq!(told.version as usize, step + 2);
        assert_eq!(told.name, format!("to {}", step + 2));
        assert_eq!((told.scopes as usize, told.scopes_total), (scopes, 10));
        let scope = scopes.checked_sub(1).map(|n| Scope::job(format!("{n}")));
        assert_eq!((&told.scope, told.written), (&scope, 2 * scopes as u64));
    }
    assert_eq!(
        applying.last().map(|told| (told.version, told.written)),
        Some((4, 11))
    );
}

#[test]
fn a_progress_that_panics_is_an_error_and_the_next_run_goes_on() {
    let place = filled();
    let panics = place
        .with(&chain(&Arc::default()))
        .migration_progress(|progress| {
            assert!(progress.scopes < 5, "that is enough");
            ControlFlow::Continue(())
        });
    let panicked = panics.open(&place.path);
    assert!(
        matches!(panicked, Err(Error::Panicked { .. })),
        "{panicked:?}"
    );
    let store = place.open(&chain(&Arc::default())).unwrap();
    assert!(store.migration_report().unwrap().resumed);
    assert_eq!(lines(&store), uninterrupted());
}

/// Every budget of memory and log is far exceeded by what is staged.
#[test]
fn a_state_larger_than_memory_and_log_allow_at_once_is_migrated() {
    let place = Place::new();
    let builder = |background: bool| {
        let builder = Store::builder()
            .background(background)
            .memtable_bytes(256 * 1024);
        builder
            .segment_bytes(16 * 1024, 64 * 1024)
            .log_bytes_max(2 * 1024 * 1024)
    };
    let fill = |store: &Store| -> Result<()> {
        let mut bulk = store.bulk();
        for n in 0..20_000 {
            let scope = Scope::job(format!("{}", n % 200));
            bulk.set(&scope, format!("k{n:06}"), format!("{n:0100}"))?;
        }
        bulk.finish().map(drop)
    };
    let chain = || {
        [2, 3].map(|version| {
            Made::to(version, move |state| {
                for entry in state.scan("")? {
                    let entry = entry?;
                    let value: String = entry.value()?;
                    state.set(entry.key(), format!("{value}.{version}"))?;
                }
                Ok(())
            })
        })
    };
    for background in [false, true] {
        let path = place.path.with_extension(format!("{background}"));
        let store = builder(background).open(&path).unwrap();
        fill(&store).unwrap();
        store.close().unwrap();
        let mut open = builder(background);
        for migration in chain() {
            open = open.migration(migration);
        }
        let store = open.open(&path).unwrap();
        let report = store.migration_report().unwrap();
        assert_eq!(
            [report.steps[0].written, report.steps[1].written],
            [20_000; 2]
        );
        for n in (0..20_000).step_by(97) {
            let scope = store.scope(Scope::job(format!("{}", n % 200)));
            let value: String = scope.get(format!("k{n:06}")).unwrap().unwrap();
            assert_eq!(value, format!("{n:0100}.2.3"));
        }
        assert_eq!(lines(&store).lines().count(), 20_000);
        store.verify().unwrap();
    }
}
