//! Tests of `WorkerState` and `RoutineStateAccessor`, over runs made by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::runtime::activation::Activation;
use crate::runtime::fixture::Fixture;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::record::HistoryRecord;
use crate::runtime::run::Fate;
use crate::runtime::state_accessor::RoutineStateAccessor;
use crate::sync::thread;

/// Does something as the logic of a routine, and commits it.
fn inside<T>(fixture: &Fixture, routine: &str, logic: impl FnOnce(&WorkerState) -> T) -> T {
    let run = fixture.run(routine, &[]);
    let value = logic(&WorkerState::inside(&run));
    assert!(fixture.commit(&run));
    value
}

fn value(json: serde_json::Value) -> Value {
    json.into()
}

/// What is under a name, as it is seen from outside.
fn seen(fixture: &Fixture, name: &str) -> Option<Value> {
    fixture.state().get_routine_state(name).unwrap()
}

/// Whose a name is, where it is not of the one who asked.
fn owner_of<T: fmt::Debug>(outcome: Result<T>) -> String {
    match outcome {
        Err(Error::Work(WorkError::NotYours { owner, .. })) => owner,
        other => panic!("{other:?}"),
    }
}

/// Every call that reaches the state of this name.
fn all_calls(state: &WorkerState, name: &str) -> Vec<Result<()>> {
    vec![
        state.get_routine_state(name).map(drop),
        state.get_routine_state_as::<Value>(name).map(drop),
        state.update_routine_state(name, 1),
        state
            .update_routine_state_with(name, |_: Option<Value>| Value::Null)
            .map(drop),
        state.increment_routine_state(name, "n", 1).map(drop),
        state.compare_and_set_routine_state(name, None, 1).map(drop),
        state.merge_routine_state(name, json!({"n": 1})),
        state.remove_routine_state(name),
        state.share_routine_state(name),
    ]
}

#[test]
fn a_name_belongs_to_the_routine_that_wrote_it_first() {
    let fixture = Fixture::new(&["a", "b"]);
    inside(&fixture, "a", |state| {
        state
            .update_routine_state("data", json!({"value": 123}))
            .unwrap();
        state
            .update_routine_state("data", json!({"value": 124}))
            .unwrap();
    });
    inside(&fixture, "b", |state| {
        for outcome in all_calls(state, "data") {
            assert_eq!(owner_of(outcome), "a");
        }
    });
    assert_eq!(seen(&fixture, "data"), Some(value(json!({"value": 124}))));
    let error = inside(&fixture, "b", |state| state.get_routine_state("data"));
    assert_eq!(
        error.unwrap_err().to_string(),
        "state \"data\" belongs to routine \"a\", and \"b\" asks for it; let its owner share it, or begin shared names with `_`"
    );
}

#[test]
fn the_state_under_a_routines_id_is_that_routines_from_the_start() {
    let fixture = Fixture::new(&["a", "b"]);
    // Nobody has written it yet, and from outside no owner is made.
    fixture
        .state()
        .update_routine_state("a", json!({}))
        .unwrap();
    inside(&fixture, "b", |state| {
        for outcome in all_calls(state, "a") {
            assert_eq!(owner_of(outcome), "a");
        }
    });
    inside(&fixture, "a", |state| {
        assert_eq!(state.increment_routine_state("a", "count", 1).unwrap(), 1);
    });
    assert_eq!(seen(&fixture, "a"), Some(value(json!({"count": 1}))));
}

#[test]
fn names_that_begin_with_an_underscore_are_everybodys() {
    let fixture = Fixture::new(&["a", "b", "_c"]);
    for (routine, sum) in [("a", 1), ("b", 2), ("_c", 3), ("a", 4)] {
        for name in ["_shared", "_", "_c"] {
            let found = inside(&fixture, routine, |state| {
                state.increment_routine_state(name, "n", 1).unwrap()
            });
            assert_eq!(found, sum, "{name}");
        }
    }
    inside(&fixture, "b", |state| {
        state.share_routine_state("_shared").unwrap();
        state.remove_routine_state("_shared").unwrap();
    });
    assert_eq!(seen(&fixture, "_shared"), None);
}

#[test]
fn an_owner_shares_and_then_all_may_read_and_write() {
    let fixture = Fixture::new(&["a", "b"]);
    for name in ["data", "a"] {
        inside(&fixture, "a", |state| {
            state.update_routine_state(name, json!({"n": 1})).unwrap();
            state.share_routine_state(name).unwrap();
            state.share_routine_state(name).unwrap();
        });
        inside(&fixture, "b", |state| {
            assert_eq!(
                state.get_routine_state(name).unwrap(),
                Some(value(json!({"n": 1})))
            );
            assert_eq!(state.increment_routine_state(name, "n", 1).unwrap(), 2);
        });
        inside(&fixture, "a", |state| {
            assert_eq!(state.increment_routine_state(name, "n", 1).unwrap(), 3);
        });
        // Removed, it is as it was at the beginning.
        inside(&fixture, "b", |state| {
            state.remove_routine_state(name).unwrap()
        });
    }
    inside(&fixture, "b", |state| {
        state.update_routine_state("data", 1).unwrap()
    });
    inside(&fixture, "a", |state| {
        assert_eq!(owner_of(state.get_routine_state("data")), "b");
        state.update_routine_state("a", 1).unwrap();
    });
    inside(&fixture, "b", |state| {
        assert_eq!(owner_of(state.get_routine_state("a")), "a");
    });
}

#[test]
fn sharing_what_is_nobodys_makes_an_owner_inside_and_is_refused_outside() {
    let fixture = Fixture::new(&["a", "b"]);
    let refused = fixture.state().share_routine_state("data");
    assert!(
        matches!(&refused, Err(Error::Work(WorkError::Unknown { name, .. })) if name == "data"),
        "{refused:?}"
    );
    fixture.state().share_routine_state("_data").unwrap();
    fixture.state().share_routine_state("b").unwrap();
    inside(&fixture, "a", |state| {
        state.update_routine_state("b", 1).unwrap();
        state.share_routine_state("data").unwrap();
    });
    inside(&fixture, "b", |state| {
        state.update_routine_state("data", 2).unwrap()
    });
    assert_eq!(seen(&fixture, "data"), Some(2.into()));
}

#[test]
fn from_outside_all_is_reached_and_nothing_is_owned() {
    let fixture = Fixture::new(&["a", "b"]);
    let state = fixture.state();
    state.update_routine_state("data", 1).unwrap();
    state.remove_routine_state("data").unwrap();
    state.update_routine_state("data", 2).unwrap();
    // Reading makes no owner either; the first to write does.
    inside(&fixture, "a", |state| {
        assert_eq!(state.get_routine_state("data").unwrap(), Some(2.into()));
    });
    inside(&fixture, "b", |state| {
        state.update_routine_state("data", 3).unwrap()
    });
    inside(&fixture, "a", |state| {
        assert_eq!(owner_of(state.get_routine_state("data")), "b");
    });
    state.update_routine_state("data", 4).unwrap();
    assert_eq!(seen(&fixture, "data"), Some(4.into()));
    inside(&fixture, "a", |state| {
        assert_eq!(owner_of(state.get_routine_state("data")), "b");
    });
    state.remove_routine_state("data").unwrap();
    inside(&fixture, "a", |state| {
        state.update_routine_state("data", 5).unwrap()
    });
}

#[test]
fn of_two_that_write_a_name_first_one_loses() {
    let fixture = Fixture::new(&["a", "b"]);
    let (a, b) = (fixture.run("a", &[]), fixture.run("b", &[]));
    WorkerState::inside(&a)
        .update_routine_state("data", 1)
        .unwrap();
    WorkerState::inside(&b)
        .update_routine_state("data", 2)
        .unwrap();
    assert!(fixture.commit(&b));
    assert!(!fixture.commit(&a), "both own it");
    let again = Arc::new(a.again(false));
    let state = WorkerState::inside(&again);
    assert_eq!(owner_of(state.update_routine_state("data", 1)), "b");
    assert_eq!(seen(&fixture, "data"), Some(2.into()));
}

#[test]
fn what_a_routine_left_that_the_flow_has_no_more_is_nobodys_unless_it_was_shared() {
    let fixture = Fixture::new(&["a", "b"]);
    let record = |routine: &str, shared| OwnerRecord {
        routine: routine.into(),
        shared,
    };
    let owner =
        |name, record: Option<OwnerRecord>| names::owner(name, &fixture.plan, record.as_ref());
    let a = || Owner::Routine("a".into());
    assert_eq!(owner("x", Some(record("gone", false))), Owner::Nobody);
    assert_eq!(owner("x", Some(record("gone", true))), Owner::Everybody);
    assert_eq!(owner("x", Some(record("a", false))), a());
    assert_eq!(owner("x", None), Owner::Nobody);
    // A name that became a routine's id is its own, whoever had it before.
    assert_eq!(owner("a", Some(record("b", false))), a());
    assert_eq!(owner("a", Some(record("b", true))), a());
    assert_eq!(owner("a", Some(record("a", true))), Owner::Everybody);
}

#[test]
fn an_empty_map_and_null_are_states() {
    let fixture = Fixture::new(&["a"]);
    for empty in [json!({}), json!(null), json!([]), json!("")] {
        inside(&fixture, "a", |state| {
            state.update_routine_state("a", &empty).unwrap();
            assert_eq!(
                state.get_routine_state("a").unwrap(),
                Some(value(empty.clone()))
            );
        });
        assert_eq!(seen(&fixture, "a"), Some(value(empty)));
    }
    fixture.state().remove_routine_state("a").unwrap();
    assert_eq!(seen(&fixture, "a"), None);
}

#[test]
fn routine_states_lists_the_routines_in_their_order_and_then_the_others() {
    let fixture = Fixture::new(&["z", "a", "m"]);
    for (routine, name) in [
        ("m", "m"),
        ("a", "zz"),
        ("z", "z"),
        ("a", "_meta"),
        ("z", "b"),
        ("z", "c"),
        ("a", "a"),
    ] {
        inside(&fixture, routine, |state| {
            state
                .update_routine_state(name, json!({"of": routine}))
                .unwrap();
        });
    }
    inside(&fixture, "z", |state| {
        state.share_routine_state("c").unwrap()
    });
    let names = |state: &WorkerState| -> Vec<String> {
        let states = state.routine_states().unwrap();
        states.into_iter().map(|(name, _)| name).collect()
    };
    let all = ["z", "a", "m", "_meta", "b", "c", "zz"];
    assert_eq!(names(&fixture.state()), all);
    assert_eq!(inside(&fixture, "z", names), ["z", "_meta", "b", "c"]);
    assert_eq!(inside(&fixture, "a", names), ["a", "_meta", "c", "zz"]);
    assert_eq!(inside(&fixture, "m", names), ["m", "_meta", "c"]);
    let states = fixture.state().routine_states().unwrap();
    assert_eq!(states[3], ("_meta".into(), value(json!({"of": "a"}))));
    // A flow that is not registered yet has no order.
    fixture.worker.inner.lock().plan = None;
    let all = ["_meta", "a", "b", "c", "m", "z", "zz"];
    assert_eq!(names(&fixture.state()), all);
}

#[test]
fn a_name_may_have_any_characters_and_512_bytes() {
    let fixture = Fixture::new(&["a", "b"]);
    let long = "é".repeat(256);
    let names = [
        "",
        "\0",
        "a\0b",
        "a/b",
        "worker:w:a",
        "\u{10ffff}",
        "status",
        &long,
    ];
    for (at, name) in names.iter().enumerate() {
        inside(&fixture, "a", |state| {
            state.update_routine_state(name, at).unwrap()
        });
    }
    for (at, name) in names.iter().enumerate() {
        assert_eq!(seen(&fixture, name), Some(at.into()), "{name:?}");
        inside(&fixture, "b", |state| {
            assert_eq!(owner_of(state.get_routine_state(name)), "a", "{name:?}");
        });
    }
    assert_eq!(fixture.state().status(), WorkerStatus::Running);
    let too_long = format!("{long}x");
    for outcome in all_calls(&fixture.state(), &too_long) {
        let error = outcome.unwrap_err();
        assert!(
            matches!(
                error,
                Error::LimitExceeded {
                    limit: "state_name_bytes",
                    max: 512,
                    actual: 513,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn eight_threads_lose_no_update() {
    const THREADS: i64 = 8;
    const ROUNDS: i64 = 200;
    let fixture = Fixture::new(&["a"]);
    thread::scope(|scope| {
        for at in 0..THREADS {
            let state = fixture.state();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    state.increment_routine_state("increment", "n", 2).unwrap();
                    state
                        .update_routine_state_with("update", |n: Option<i64>| n.unwrap_or(0) + 3)
                        .unwrap();
                    let field = format!("{at}-{round}");
                    let patch = BTreeMap::from([(field, 1)]);
                    state.merge_routine_state("merge", &patch).unwrap();
                    loop {
                        let seen = state.get_routine_state("swap").unwrap();
                        let next = seen.as_ref().and_then(Value::as_i64).unwrap_or(0) + 1;
                        if state
                            .compare_and_set_routine_state("swap", seen.as_ref(), next)
                            .unwrap()
                        {
                            break;
                        }
                    }
                }
            });
        }
    });
    let all = THREADS * ROUNDS;
    assert_eq!(
        seen(&fixture, "increment"),
        Some(value(json!({"n": 2 * all})))
    );
    assert_eq!(seen(&fixture, "update"), Some((3 * all).into()));
    assert_eq!(seen(&fixture, "swap"), Some(all.into()));
    let merged = seen(&fixture, "merge").unwrap();
    assert_eq!(merged.as_map().unwrap().len() as i64, all);
}

#[test]
fn threads_of_one_activation_lose_no_update() {
    const THREADS: i64 = 4;
    const ROUNDS: i64 = 200;
    let fixture = Fixture::new(&["a"]);
    let run = fixture.run("a", &[]);
    let state = WorkerState::inside(&run);
    let accessor = RoutineStateAccessor::of(&run);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            let (state, accessor) = (state.clone(), accessor.clone());
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    state.increment_routine_state("x", "n", 1).unwrap();
                    accessor.increment("n", 1).unwrap();
                    accessor
                        .update("m", |m: Option<i64>| m.unwrap_or(0) + 1)
                        .unwrap();
                }
            });
        }
    });
    assert!(fixture.commit(&run));
    let all = THREADS * ROUNDS;
    assert_eq!(seen(&fixture, "x"), Some(value(json!({"n": all}))));
    assert_eq!(
        seen(&fixture, "a"),
        Some(value(json!({"n": all, "m": all})))
    );
}

#[test]
fn a_closure_that_writes_what_it_changes_is_told_so() {
    let fixture = Fixture::new(&["a"]);
    let run = fixture.run("a", &[]);
    let state = WorkerState::inside(&run);
    let outcome = state.update_routine_state_with("a", |n: Option<i64>| {
        state.update_routine_state("a", n.unwrap_or(0) + 1).unwrap();
        7
    });
    assert!(
        matches!(outcome, Err(Error::Conflict { .. })),
        "{outcome:?}"
    );
}

#[test]
fn compare_and_set_sets_only_what_was_seen() {
    let fixture = Fixture::new(&["a"]);
    let state = fixture.state();
    let set = |expected: Option<Value>, new: i64| {
        state
            .compare_and_set_routine_state("a", expected.as_ref(), new)
            .unwrap()
    };
    assert!(
        !set(Some(Value::Null), 1),
        "there is nothing, which is not null"
    );
    assert!(set(None, 1));
    assert!(!set(None, 2));
    assert!(!set(Some(2.into()), 3));
    assert!(set(Some(1.into()), 4));
    assert_eq!(seen(&fixture, "a"), Some(4.into()));
    inside(&fixture, "a", |state| {
        let seen = state.get_routine_state("a").unwrap();
        assert!(!state.compare_and_set_routine_state("a", None, 5).unwrap());
        assert!(
            state
                .compare_and_set_routine_state("a", seen.as_ref(), 5)
                .unwrap()
        );
        assert!(
            !state
                .compare_and_set_routine_state("a", seen.as_ref(), 6)
                .unwrap()
        );
    });
    assert_eq!(seen(&fixture, "a"), Some(5.into()));
}

#[test]
fn what_a_run_wrote_it_reads_and_nobody_else_before_its_commit() {
    let fixture = Fixture::new(&["a", "b"]);
    fixture
        .state()
        .update_routine_state("_shared", json!({"n": 1}))
        .unwrap();
    let lost = fixture.run("a", &[]);
    let state = WorkerState::inside(&lost);
    assert_eq!(state.increment_routine_state("_shared", "n", 1).unwrap(), 2);
    state.update_routine_state("data", 1).unwrap();
    state
        .merge_routine_state("_shared", json!({"m": {"k": 1}}))
        .unwrap();
    let read = state.get_routine_state("_shared").unwrap();
    assert_eq!(read, Some(value(json!({"n": 2, "m": {"k": 1}}))));
    assert_eq!(state.routine_states().unwrap().len(), 2);
    assert_eq!(seen(&fixture, "_shared"), Some(value(json!({"n": 1}))));
    assert_eq!(seen(&fixture, "data"), None);
    // It is never committed: nothing is left of it, and nothing is owned.
    lost.end(Fate::Over);
    drop((state, lost));
    inside(&fixture, "b", |state| {
        state.update_routine_state("data", 2).unwrap()
    });
    assert_eq!(seen(&fixture, "_shared"), Some(value(json!({"n": 1}))));
}

#[test]
fn a_run_reads_one_moment_and_loses_where_that_has_changed() {
    let fixture = Fixture::new(&["a"]);
    let run = fixture.run("a", &[]);
    let state = WorkerState::inside(&run);
    assert_eq!(state.routine_states().unwrap(), []);
    fixture.state().update_routine_state("_other", 1).unwrap();
    assert_eq!(state.get_routine_state("_other").unwrap(), None);
    state.update_routine_state("a", 1).unwrap();
    assert!(!fixture.commit(&run), "it listed what has changed since");
}

#[test]
fn once_a_run_is_over_its_handles_reach_nothing() {
    for fate in [Fate::Over, Fate::Cancelled, Fate::TimedOut, Fate::Aborted] {
        let fixture = Fixture::new(&["a"]);
        let run = fixture.run("a", &[]);
        let state = WorkerState::inside(&run);
        let accessor = RoutineStateAccessor::of(&run);
        accessor.set("n", 1).unwrap();
        run.end(fate);
        let mut outcomes = all_calls(&state, "a");
        outcomes.extend(all_calls(&state, "_shared"));
        outcomes.push(state.routine_states().map(drop));
        outcomes.push(accessor.get::<i64>("n").map(drop));
        outcomes.push(accessor.set("n", 2));
        outcomes.push(accessor.update("n", |_: Option<i64>| 3).map(drop));
        outcomes.push(accessor.increment("n", 1).map(drop));
        outcomes.push(accessor.contains("n").map(drop));
        outcomes.push(accessor.remove("n"));
        for outcome in outcomes {
            assert!(
                matches!(
                    &outcome,
                    Err(Error::Work(WorkError::ActivationOver { routine, reason }))
                        if routine == "a" && *reason == fate.reason()
                ),
                "{outcome:?}"
            );
        }
    }
}

#[test]
fn the_accessor_has_the_fields_of_the_routines_own_state() {
    let fixture = Fixture::new(&["a", "b"]);
    let run = fixture.run("a", &[]);
    let state = Activation::of(&run).state_accessor();
    assert_eq!(state.get::<i64>("count").unwrap(), None);
    state.set("count", 1).unwrap();
    state.set("name", "x").unwrap();
    state.set("none", None::<i64>).unwrap();
    assert_eq!(state.increment("count", 2).unwrap(), 3);
    assert_eq!(state.increment("new", -1).unwrap(), -1);
    assert_eq!(
        state
            .update("name", |name: Option<String>| name.unwrap() + "y")
            .unwrap(),
        "xy"
    );
    assert!(state.contains("none").unwrap() && !state.contains("absent").unwrap());
    assert_eq!(state.get::<Option<i64>>("none").unwrap(), Some(None));
    state.remove("new").unwrap();
    state.remove("absent").unwrap();
    assert!(fixture.commit(&run));
    let expected = value(json!({"count": 3, "name": "xy", "none": null}));
    assert_eq!(seen(&fixture, "a"), Some(expected));
    assert_eq!(seen(&fixture, "b"), None);
    // The next activation goes on from there; removing the last field leaves a state.
    let run = fixture.run("a", &[]);
    let state = Activation::of(&run).state_accessor();
    assert_eq!(state.increment("count", 1).unwrap(), 4);
    for key in ["count", "name", "none"] {
        state.remove(key).unwrap();
    }
    assert!(fixture.commit(&run));
    assert_eq!(seen(&fixture, "a"), Some(value(json!({}))));
}

#[test]
fn what_is_of_another_type_is_named_with_its_place() {
    let fixture = Fixture::new(&["a"]);
    let outside = fixture.state();
    outside
        .update_routine_state("a", json!({"name": "x"}))
        .unwrap();
    let run = fixture.run("a", &[]);
    let accessor = RoutineStateAccessor::of(&run);
    let mismatch = |outcome: Result<()>, place: &str| match outcome {
        Err(Error::TypeMismatch {
            scope, key, path, ..
        }) => {
            assert_eq!(path, place);
            assert_eq!((scope, &*key), (Scope::worker("w").to_string(), "a"));
        }
        other => panic!("{other:?}"),
    };
    mismatch(accessor.get::<i64>("name").map(drop), ".name");
    mismatch(accessor.increment("name", 1).map(drop), ".name");
    mismatch(
        accessor
            .update("name", |n: Option<i64>| n.unwrap_or(0))
            .map(drop),
        ".name",
    );
    mismatch(
        outside.increment_routine_state("a", "name", 1).map(drop),
        ".name",
    );
    mismatch(outside.get_routine_state_as::<i64>("a").map(drop), ".");
    outside.update_routine_state("a", 1).unwrap();
    let run = fixture.run("a", &[]);
    let accessor = RoutineStateAccessor::of(&run);
    mismatch(accessor.get::<i64>("name").map(drop), ".");
    mismatch(accessor.set("name", 1), ".");
    mismatch(
        outside.increment_routine_state("a", "name", 1).map(drop),
        ".",
    );
}

#[test]
fn what_cannot_be_a_value_is_refused_with_its_place_and_nothing_is_written() {
    let fixture = Fixture::new(&["a"]);
    fixture
        .state()
        .update_routine_state("a", json!({"n": 1}))
        .unwrap();
    let bad = BTreeMap::from([("db", BTreeMap::from([((1, 2), "connection")]))]);
    let run = fixture.run("a", &[]);
    let inside = WorkerState::inside(&run);
    let accessor = RoutineStateAccessor::of(&run);
    for outcome in [
        inside.update_routine_state("a", &bad),
        inside.merge_routine_state("a", &bad),
        inside
            .compare_and_set_routine_state("b", None, &bad)
            .map(drop),
        accessor.set("n", &bad["db"]),
        fixture.state().update_routine_state("a", &bad),
    ] {
        match outcome {
            Err(Error::Serialize { path, .. }) => assert!([".db", "."].contains(&&*path), "{path}"),
            other => panic!("{other:?}"),
        }
    }
    let huge = "x".repeat(crate::Limits::default().value_bytes + 1);
    for outcome in [
        inside.update_routine_state("a", &huge),
        accessor.set("n", &huge),
    ] {
        assert!(
            matches!(outcome, Err(Error::LimitExceeded { .. })),
            "{outcome:?}"
        );
    }
    let overflow = accessor.increment("n", i64::MAX);
    assert!(
        matches!(overflow, Err(Error::LimitExceeded { .. })),
        "{overflow:?}"
    );
    assert!(fixture.commit(&run));
    assert_eq!(seen(&fixture, "a"), Some(value(json!({"n": 1}))));
}

#[test]
fn a_worker_that_has_ended_takes_nothing_more_from_outside() {
    let fixture = Fixture::new(&["a"]);
    fixture.state().update_routine_state("a", 1).unwrap();
    fixture.worker.inner.lock().record.status = WorkerStatus::Stopped;
    let state = fixture.state();
    assert_eq!(state.get_routine_state("a").unwrap(), Some(1.into()));
    assert_eq!(state.routine_states().unwrap().len(), 1);
    for outcome in all_calls(&state, "a").into_iter().skip(2) {
        assert!(
            matches!(
                &outcome,
                Err(Error::Work(WorkError::Ended { what: "worker", name, status }))
                    if name == "w" && status == "stopped"
            ),
            "{outcome:?}"
        );
    }
}

#[test]
fn counters_times_and_history_are_the_workers() {
    let fixture = Fixture::new(&["a"]);
    let state = fixture.state();
    assert_eq!((state.worker_id(), state.flow_id()), ("w", "flow"));
    {
        let mut inner = fixture.worker.inner.lock();
        (inner.processed, inner.failed) = (5, 2);
        inner.record.error = Some("no".into());
        inner.record.completed = Some(4);
        inner.history.push_back(HistoryRecord {
            number: 8,
            routine: "a".into(),
            at: 6,
            outcome: ExecutionOutcome::Skipped.number(),
            attempt: 2,
            jobs: vec!["j".into()],
            processed: 5,
            failed: 2,
            dropped: 0,
        });
    }
    assert_eq!((state.jobs_processed(), state.jobs_failed()), (5, 2));
    assert_eq!(
        (state.created_at_micros(), state.updated_at_micros()),
        (1, 2)
    );
    assert_eq!(state.started_at_micros(), Some(3));
    assert_eq!(state.completed_at_micros(), Some(4));
    assert_eq!(state.error().as_deref(), Some("no"));
    let history = state.execution_history();
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].number, history[0].at_micros), (8, 6));
    assert_eq!(history[0].outcome, ExecutionOutcome::Skipped);
    assert_eq!((&*history[0].routine_id, history[0].attempt), ("a", 2));
    assert_eq!(history[0].job_ids, ["j"]);
}

#[test]
fn handles_go_to_other_threads() {
    fn goes<T: Send + Sync + Clone + 'static>() {}
    goes::<WorkerState>();
    goes::<RoutineStateAccessor>();
}
