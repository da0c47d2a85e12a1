//! Tests of `WorkerState` and `RoutineStateAccessor`, over runs made by hand.

mod ownership;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::runtime::activation::Activation;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::record::HistoryRecord;
use crate::runtime::run::Fate;
use crate::runtime::state_accessor::RoutineStateAccessor;
use crate::runtime::tests::Fixture;
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
                        .update("m", |m: Option<i64>| {
                            // So that others come between reading and writing.
                            thread::yield_now();
                            m.unwrap_or(0) + 1
                        })
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
    let huge = "x".repeat(crate::state::Limits::default().value_bytes + 1);
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
