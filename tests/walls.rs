//! Scopes are walls: whatever the bytes of ids and keys, what is written to one
//! scope is read there and nowhere else, cleared with it and with no other.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use evenkeel::testing::SimDisk;
use evenkeel::{Scope, Store};
use proptest::prelude::*;

/// The bytes that encodings trip over: separators, terminators, escapes, prefixes.
fn id() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        Just(String::new()),
        Just(":".to_owned()),
        Just("\0".to_owned()),
        Just("\0\0".to_owned()),
        Just("\u{1}".to_owned()),
        Just("\u{ff}".to_owned()),
        Just("\u{10ffff}".to_owned()),
        Just("a".to_owned()),
        Just("a:b".to_owned()),
        Just("ab".to_owned()),
        Just("e\u{301}".to_owned()),
        Just("é".to_owned()),
        Just("global".to_owned()),
        Just("x".repeat(200)),
    ];
    proptest::collection::vec(parts, 0..4).prop_map(|parts| parts.concat())
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Global),
        id().prop_map(Scope::workflow),
        (id(), id()).prop_map(|(workflow, step)| Scope::step(workflow, step)),
        id().prop_map(Scope::custom),
        id().prop_map(Scope::worker),
        (id(), id()).prop_map(|(worker, routine)| Scope::routine(worker, routine)),
        id().prop_map(Scope::job),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Set(Scope, String, u32),
    Delete(Scope, String),
    Clear(Scope),
    Checkpoint,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (scope(), id(), any::<u32>()).prop_map(|(scope, key, value)| Step::Set(scope, key, value)),
        2 => (scope(), id()).prop_map(|(scope, key)| Step::Delete(scope, key)),
        2 => scope().prop_map(Step::Clear),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ]
}

type Model = HashMap<(Scope, String), u32>;

fn check(store: &Store, model: &Model, touched: &BTreeSet<Scope>) -> Result<(), TestCaseError> {
    let mut by_scope: BTreeMap<&Scope, BTreeMap<&[u8], u32>> = BTreeMap::new();
    for ((scope, key), &value) in model {
        by_scope
            .entry(scope)
            .or_default()
            .insert(key.as_bytes(), value);
    }
    let listed = store.scopes().unwrap();
    let listed_once: BTreeSet<_> = listed.iter().collect();
    prop_assert_eq!(listed.len(), listed_once.len());
    prop_assert_eq!(listed_once, by_scope.keys().copied().collect());
    for scope in touched {
        let handle = store.scope(scope.clone());
        let expected = by_scope.remove(scope).unwrap_or_default();
        let mut found = Vec::new();
        for entry in handle.scan("").unwrap() {
            let entry = entry.unwrap();
            found.push((
                entry.key().as_bytes().to_vec(),
                entry.value::<u32>().unwrap(),
            ));
        }
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(key, value)| (key.to_vec(), value))
            .collect();
        prop_assert_eq!(&found, &expected, "{}", scope);
        prop_assert_eq!(handle.len().unwrap(), expected.len() as u64);
        for (key, value) in &expected {
            let key = str::from_utf8(key).unwrap();
            prop_assert_eq!(handle.get::<u32>(key).unwrap(), Some(*value));
            let begun = handle
                .scan(key)
                .unwrap()
                .map(|entry| entry.unwrap().key().to_owned());
            let begun: Vec<_> = begun.collect();
            let all = expected
                .iter()
                .filter(|(other, _)| other.starts_with(key.as_bytes()));
            prop_assert!(
                all.map(|(other, _)| other.as_slice())
                    .eq(begun.iter().map(String::as_bytes))
            );
        }
    }
    Ok(())
}

fn run(
    steps: &[Step],
    mut store: Store,
    reopen: impl Fn() -> Option<Store>,
) -> Result<(), TestCaseError> {
    let mut model = Model::new();
    let mut touched = BTreeSet::new();
    for step in steps {
        match step {
            Step::Set(scope, key, value) => {
                store.scope(scope.clone()).set(key, value).unwrap();
                model.insert((scope.clone(), key.clone()), *value);
                touched.insert(scope.clone());
            }
            Step::Delete(scope, key) => {
                store.scope(scope.clone()).delete(key).unwrap();
                model.remove(&(scope.clone(), key.clone()));
            }
            Step::Clear(scope) => {
                store.scope(scope.clone()).clear().unwrap();
                model.retain(|(other, _), _| other != scope);
            }
            Step::Checkpoint => drop(store.checkpoint().unwrap()),
            Step::Reopen => {
                store.close().unwrap();
                match reopen() {
                    Some(again) => store = again,
                    None => return Ok(()),
                }
            }
        }
    }
    check(&store, &model, &touched)?;
    store.checkpoint().unwrap();
    check(&store, &model, &touched)?;
    store.close().unwrap();
    match reopen() {
        Some(again) => check(&again, &model, &touched),
        None => Ok(()),
    }
}

/// The same cases in each run; no file of regressions beside the sources.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(42),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn promise_5_no_scope_reaches_another_in_memory(steps in proptest::collection::vec(step(), 1..60)) {
        let steps: Vec<_> = steps.into_iter().filter(|step| !matches!(step, Step::Reopen)).collect();
        run(&steps, Store::in_memory(), || None)?;
    }

    #[test]
    fn promise_5_no_scope_reaches_another_through_image_and_log(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let disk = SimDisk::new(1);
        let open = || {
            let builder = disk.store_builder();
            builder.block_bytes(1024).segment_bytes(8192, 65_536).open("state").unwrap()
        };
        run(&steps, open(), || Some(open()))?;
    }

    #[test]
    fn promise_5_clearing_one_of_two_scopes_leaves_the_other(
        one in scope(), other in scope(), key in id(),
    ) {
        prop_assume!(one != other);
        let store = Store::in_memory();
        store.scope(one.clone()).set(&key, 1).unwrap();
        store.scope(other.clone()).set(&key, 2).unwrap();
        prop_assert_eq!(store.scope(one.clone()).get::<u32>(&key).unwrap(), Some(1));
        store.scope(one.clone()).clear().unwrap();
        prop_assert_eq!(store.scope(one).get::<u32>(&key).unwrap(), None);
        prop_assert_eq!(store.scope(other).get::<u32>(&key).unwrap(), Some(2));
    }
}

#[test]
fn promise_5_a_step_is_not_part_of_its_workflow() {
    let store = Store::in_memory();
    let workflow = store.scope(Scope::workflow("w"));
    let steps = ["", "s", ":s", "s\0", "\0"];
    for (i, step) in steps.iter().enumerate() {
        workflow.step(step).set("k", i).unwrap();
        store
            .scope(Scope::workflow(format!("w:{step}")))
            .set("k", 100 + i)
            .unwrap();
        store
            .scope(Scope::workflow(format!("w\0{step}")))
            .set("k", 200 + i)
            .unwrap();
    }
    workflow.clear().unwrap();
    store.scope(Scope::workflow("")).clear().unwrap();
    for (i, step) in steps.iter().enumerate() {
        assert_eq!(workflow.step(step).get::<usize>("k").unwrap(), Some(i));
        let beside = store.scope(Scope::workflow(format!("w:{step}")));
        assert_eq!(beside.get::<usize>("k").unwrap(), Some(100 + i));
    }
}
