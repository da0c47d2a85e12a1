//! What the tests of imports share: entries, files of lines, and what a store holds.

use std::fs;
use std::path::PathBuf;

use evenkeel::{Scope, Store, Value};
use serde_json::json;

/// A state as a list: scope, key, value, deadline.
pub(crate) type State = Vec<(Scope, String, Value, Option<u64>)>;

/// All that a store holds.
pub(crate) fn state(store: &Store) -> State {
    let mut state = State::new();
    for scope in store.scopes().unwrap() {
        for entry in store.scope(scope.clone()).scan("").unwrap() {
            let entry = entry.unwrap();
            let key = entry.key().to_owned();
            let value = entry.value().unwrap();
            state.push((scope.clone(), key, value, entry.expires_at()));
        }
    }
    state
}

/// An entry of a source of many, which are spread over scopes of two kinds.
pub(crate) fn entry(n: u64) -> (Scope, String, Value) {
    let scope = match n % 3 {
        0 => Scope::custom("parts"),
        other => Scope::step("w", format!("{other}")),
    };
    let value = json!({"n": n, "text": "x".repeat(n as usize % 40)});
    (
        scope,
        format!("{:05}", n * 7919 % 10_007),
        Value::from(value),
    )
}

/// The same as a line.
pub(crate) fn line(n: u64) -> String {
    let (scope, key, value) = entry(n);
    let scope = match scope {
        Scope::Custom(name) => json!({ "custom": name }),
        Scope::Step {
            workflow_id,
            step_name,
        } => json!({"step": {"workflow_id": workflow_id, "step_name": step_name}}),
        other => unreachable!("{other}"),
    };
    let value = serde_json::Value::from(value);
    json!({"scope": scope, "key": key, "value": value}).to_string()
}

pub(crate) fn lines(count: u64) -> String {
    (0..count).map(|n| line(n) + "\n").collect()
}

/// What a store holds that has the first of the entries.
pub(crate) fn state_of(count: u64) -> State {
    let store = Store::in_memory();
    for n in 0..count {
        let (scope, key, value) = entry(n);
        store.scope(scope).set(key, value).unwrap();
    }
    state(&store)
}

/// A folder with a file in it.
pub(crate) fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.jsonl");
    fs::write(&path, content).unwrap();
    (folder, path)
}
