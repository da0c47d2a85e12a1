//! Owns the target `merge`: what runs inside the commit step (merge, increment,
//! compare-and-set), by itself and in a store, against its plainest form.

use std::collections::BTreeMap;

use super::input::Input;
use super::tree;
use crate::error::{Error, Result};
use crate::ids::Version;
use crate::state::{Limits, Store};
use crate::value::Value;

/// How deep the values nest that are merged.
const DEPTH_MADE: usize = 140;

/// How many steps one store sees.
const STEPS_MAX: usize = 40;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.flag() {
        true => laws(&mut input),
        false => in_a_store(&mut input),
    }
}

/// The merge as one would write it if stacks had no end.
fn plain(value: &Value, patch: &Value) -> Value {
    let (Value::Map(map), Value::Map(patch)) = (value, patch) else {
        return patch.clone();
    };
    let mut merged = map.clone();
    for (key, patch) in patch {
        let new = match map.get(key) {
            Some(old) => plain(old, patch),
            None => patch.clone(),
        };
        merged.insert(key.clone(), new);
    }
    Value::Map(merged)
}

fn merged(value: &Value, patch: &Value) -> Value {
    let mut value = value.clone();
    value.merge(patch.clone());
    value
}

fn same(a: &Value, b: &Value, law: &str) {
    assert_eq!(tree::shown(a), tree::shown(b), "{law}");
}

fn laws(input: &mut Input<'_>) {
    let a = tree::value(input, DEPTH_MADE);
    let b = tree::value(input, DEPTH_MADE);
    let c = tree::value(input, DEPTH_MADE);
    let ab = merged(&a, &b);
    same(&ab, &plain(&a, &b), "it is what the plain form gives");
    same(&ab, &merged(&a, &b), "it is the same each time");
    same(&merged(&ab, &b), &ab, "a patch twice is a patch once");
    same(&merged(&a, &a), &a, "a value into itself is itself");
    let empty = Value::Map(BTreeMap::new());
    if matches!(a, Value::Map(_)) {
        same(&merged(&a, &empty), &a, "an empty patch changes nothing");
        same(&merged(&empty, &a), &a, "into an empty map it is the patch");
    }
    assert!(tree::depth(&ab) <= tree::depth(&a).max(tree::depth(&b)));
    if groups(&b, &c) {
        let one = merged(&ab, &c);
        let other = merged(&a, &merged(&b, &c));
        same(&one, &other, "how patches are grouped does not matter");
    }
}

/// True where `c` puts no map in the place of something else in `b`: what was there
/// before `b` would come back into that map if the two were merged first.
fn groups(b: &Value, c: &Value) -> bool {
    match (b, c) {
        (Value::Map(b), Value::Map(c)) => c
            .iter()
            .all(|(key, c)| b.get(key).is_none_or(|b| groups(b, c))),
        (_, Value::Map(_)) => false,
        _ => true,
    }
}

/// What a key holds by the model, or that the store refuses the step.
enum Expected {
    Holds(Value),
    Refused,
}

fn in_a_store(input: &mut Input<'_>) {
    let limits = Limits {
        value_bytes: 16 + usize::from(input.u16()),
        value_depth: 1 + usize::from(input.u8() % 140),
        ..Limits::default()
    };
    let store = Store::builder().limits(limits.clone()).background(false);
    let store = store.in_memory().expect("limits within their bounds");
    let mut model: BTreeMap<&str, (Value, Version)> = BTreeMap::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let key = *input.one_of(&["a", "b"]);
        let before = model.get(key).cloned();
        let (done, expected) = step(input, &store, key, before.as_ref());
        let held = store.global().get_versioned::<Value>(key).expect("a key");
        match (done, expected) {
            (Ok(()), Expected::Holds(value)) => {
                let held = held.expect("it was written");
                same(&held.value, &value, "the store has what the model has");
                let old = before.map_or(Version::ZERO, |(_, version)| version);
                assert!(held.version > old, "a new version");
                model.insert(key, (value, held.version));
            }
            (Err(e), expected) => {
                let refused = match &e {
                    Error::LimitExceeded { limit, .. } => match expected {
                        Expected::Holds(value) => over(&value, &limits, limit),
                        Expected::Refused => true,
                    },
                    Error::TypeMismatch { .. } | Error::Invalid { .. } | Error::Conflict { .. } => {
                        matches!(expected, Expected::Refused)
                    }
                    _ => false,
                };
                assert!(refused, "a step gives {e}");
                let held = held.map(|held| (tree::shown(&held.value), held.version));
                let before = before.map(|(value, version)| (tree::shown(&value), version));
                assert_eq!(held, before, "a step that was refused changes nothing");
            }
            (Ok(()), Expected::Refused) => panic!("the store did what it should refuse"),
        }
    }
}

/// True if a value, or the patch that it came of, may be beyond that limit.
fn over(value: &Value, limits: &Limits, limit: &str) -> bool {
    match limit {
        "value_depth" => tree::depth(value) > limits.value_depth.min(128),
        "value_bytes" => true,
        _ => false,
    }
}

/// One step, in a transaction or not.
fn step(
    input: &mut Input<'_>,
    store: &Store,
    key: &str,
    before: Option<&(Value, Version)>,
) -> (Result<()>, Expected) {
    let (kind, transacted) = (input.u8() % 4, input.flag());
    let global = store.global();
    match kind {
        0 => {
            let value = tree::value(input, DEPTH_MADE);
            let set = global.set(key, &value);
            (set, Expected::Holds(value))
        }
        1 => {
            let patch = tree::value(input, DEPTH_MADE);
            let done = match transacted {
                true => store.transact(|tx| tx.global().merge(key, &patch)),
                false => global.merge(key, &patch),
            };
            let null = Value::Null;
            let old = before.map_or(&null, |(value, _)| value);
            (done, Expected::Holds(plain(old, &patch)))
        }
        2 => {
            let by = input.number().cast_signed();
            let done = match transacted {
                true => store.transact(|tx| tx.global().increment(key, by)),
                false => global.increment(key, by),
            };
            let old = before.map_or(Some(0), |(value, _)| value.as_i64());
            let sum = old.and_then(|old| old.checked_add(by));
            if let (Ok(done), Some(sum)) = (&done, sum) {
                assert_eq!(*done, sum, "an increment gives the sum");
            }
            let expected = sum.map_or(Expected::Refused, |sum| Expected::Holds(sum.into()));
            (done.map(drop), expected)
        }
        _ => {
            let value = tree::value(input, DEPTH_MADE);
            let there = before.map_or(Version::ZERO, |(_, version)| *version);
            let seen = match input.flag() {
                true => Version::new(input.number()),
                false => there,
            };
            let done = match transacted {
                true => store.transact(|tx| tx.global().compare_and_set(key, seen, &value)),
                false => global.compare_and_set(key, seen, &value).map(drop),
            };
            match seen == there {
                true => (done, Expected::Holds(value)),
                false => (done, Expected::Refused),
            }
        }
    }
}
