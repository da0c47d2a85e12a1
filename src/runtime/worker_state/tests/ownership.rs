//! Tests of whose a state is.

use serde_json::json;

use super::*;

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
