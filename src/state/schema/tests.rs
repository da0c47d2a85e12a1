//! Records and layers that nobody wrote, the bound of the history, and layers that are
//! read against a model.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::apply;
use super::layers::{Stack, layer, scope_of, staged};
use super::record::{self, Phase, Record, StepRecord};
use super::{discard, recover};
use crate::codec::CodecLimits;
use crate::engine::table::Stored;
use crate::engine::{Batch, Engine, Op, SlotBatch};
use crate::error::Error;
use crate::scope::Scope;
use crate::state::{Store, cell};

fn cell_of(value: u64) -> Arc<[u8]> {
    cell::encode(&value, None, &CodecLimits::default()).unwrap()
}

fn put(engine: &Arc<Engine>, scope: &Scope, key: &[u8], cell: Stored) {
    let op = cell.map_or(Op::Delete, Op::Put);
    let batch = Batch::of([SlotBatch::of(engine.slot(&scope.encode()), [(key, op)])]);
    engine.commit(&batch).unwrap();
}

fn record(phase: Phase, step: u32, steps: usize) -> Record {
    let filled = StepRecord {
        version: 2,
        written: 1,
        ..StepRecord::default()
    };
    Record {
        phase,
        fingerprint: 7,
        from: 1,
        to: 2,
        steps: vec![filled; steps],
        step,
        at: None,
    }
}

fn is_damage<T: std::fmt::Debug>(outcome: crate::error::Result<T>) {
    assert!(matches!(outcome, Err(Error::Corrupt(_))), "{outcome:?}");
}

#[test]
fn a_record_that_nobody_wrote_is_damage() {
    let schema = Scope::system("schema");
    let store = Store::in_memory();
    let scope = store.scope(schema.clone());
    let engine = &store.shared.engine;
    let forged = [
        record(Phase::Staging, 0, 1),
        record(Phase::Staging, 2, 1),
        record(Phase::Staging, 1, 0),
        record(Phase::Applying, 1, 1),
    ];
    for forged in forged {
        scope.set("state", &forged).unwrap();
        is_damage(recover(engine));
        is_damage(discard(engine));
    }
    for nonsense in ["", "idle"] {
        scope.set("state", nonsense).unwrap();
        is_damage(recover(engine));
    }
    put(
        engine,
        &schema,
        b"state",
        Some(Arc::from(&b"\x00\x09\xff"[..])),
    );
    is_damage(recover(engine));
    scope.delete("state").unwrap();
    recover(engine).unwrap();
    for key in ["history/x", "history/", "history/-1"] {
        scope.set(key, 1).unwrap();
        is_damage(store.schema_history());
        scope.delete(key).unwrap();
    }
    scope.set("history/0000000001", "nothing").unwrap();
    is_damage(store.schema_history());
}

#[test]
fn what_is_staged_for_no_scope_or_is_no_cell_is_damage() {
    let key = |scope: &Scope| [&scope.encode()[..], b"k"].concat();
    let good = staged(&Some(cell_of(1)));
    let cases: [(Vec<u8>, Arc<[u8]>); 6] = [
        (Vec::new(), Arc::clone(&good)),
        (vec![0], Arc::clone(&good)),
        (b"\x02not ended".to_vec(), Arc::clone(&good)),
        (key(&Scope::system("settings")), good),
        (key(&Scope::Global), cell_of(1)),
        (key(&Scope::Global), Arc::from(&b""[..])),
    ];
    for (key, cell) in cases {
        let store = Store::in_memory();
        let engine = &store.shared.engine;
        put(engine, &layer(1), &key, Some(cell));
        store
            .scope(Scope::system("schema"))
            .set("state", record(Phase::Applying, 0, 1))
            .unwrap();
        is_damage(recover(engine));
    }
    is_damage(scope_of(&Scope::system("x").encode()));
    is_damage(scope_of(b"\x02"));
    is_damage(scope_of(&[&Scope::Global.encode()[..], b"more"].concat()));
}

#[test]
fn the_history_is_bounded() {
    let store = Store::in_memory();
    let engine = &store.shared.engine;
    for version in 1..=1003 {
        apply::declare(engine, version).unwrap();
    }
    let history = store.schema_history().unwrap();
    assert_eq!(history.len(), 1000);
    assert_eq!((history[0].to, history[999].to), (4, 1003));
    assert!(history.is_sorted_by_key(|change| change.lsn));
    let mut steps = record(Phase::Staging, 1, 1500).steps;
    for (version, step) in (2..).zip(&mut steps) {
        step.version = version;
    }
    let ops = record::history_ops(engine, &steps, (1, 1501)).unwrap();
    let kept = ops
        .iter()
        .filter(|(_, op)| matches!(op, Op::Put(_)))
        .count();
    assert_eq!((ops.len(), kept), (2000, 1000));
    assert!(ops.is_sorted_by(|a, b| a.0 < b.0));
}

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The state of a scope over random layers, by the merge and by a model, across the
/// borders of the parts in which it is read.
#[test]
fn layers_are_read_as_if_they_were_applied_one_after_the_other() {
    for seed in 1..=20_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let store = Store::in_memory();
        let engine = &store.shared.engine;
        let scopes = [
            Scope::Global,
            Scope::job(""),
            Scope::job("a"),
            Scope::job("a\0"),
        ];
        let keys = [3, 40, 1500][random.below(3) as usize];
        let mut model: BTreeMap<(usize, Vec<u8>), u64> = BTreeMap::new();
        let mut real = model.clone();
        for step in 0..=3_u32 {
            for _ in 0..keys {
                let (which, key) = (random.below(4) as usize, random.below(keys));
                let key = format!("k{key}").into_bytes();
                let value = (random.below(3) > 0).then(|| random.below(1000));
                let cell = value.map(cell_of);
                match step {
                    0 => put(engine, &scopes[which], &key, cell),
                    _ => {
                        let full = [&scopes[which].encode()[..], &key].concat();
                        put(engine, &layer(step), &full, Some(staged(&cell)));
                    }
                }
                match value {
                    Some(value) => drop(model.insert((which, key), value)),
                    None => drop(model.remove(&(which, key))),
                }
            }
            if step == 0 {
                real = model.clone();
            }
        }
        let stack = Stack::new(engine, engine, [2, 1]).with(3);
        let mut live = Vec::new();
        for (which, scope) in scopes.iter().enumerate() {
            let prefix = scope.encode();
            let all = (Bound::Unbounded, Bound::Unbounded);
            let mut entries = stack.entries(&prefix, all, BTreeMap::new());
            let mut found = BTreeMap::new();
            while let Some((key, _, cell)) = entries.advance().unwrap() {
                let value: u64 =
                    cell::decode(&cell, &CodecLimits::default(), (scope, "k")).unwrap();
                assert_eq!(found.insert((which, key), value), None, "seed {seed}");
            }
            let of_scope = model.iter().filter(|((other, _), _)| *other == which);
            let expected: BTreeMap<_, _> = of_scope.map(|(at, v)| (at.clone(), *v)).collect();
            assert!(found == expected, "seed {seed}: {scope}");
            for key in 0..keys {
                let key = format!("k{key}").into_bytes();
                let there = stack.find(&prefix, &key).unwrap().is_some();
                assert_eq!(
                    there,
                    expected.contains_key(&(which, key.clone())),
                    "seed {seed}"
                );
                let below = stack.find_real(&prefix, &key).unwrap().is_some();
                assert_eq!(below, real.contains_key(&(which, key)), "seed {seed}");
            }
            let is_live = stack.is_live(&prefix, BTreeMap::new()).unwrap();
            assert_eq!(is_live, !expected.is_empty(), "seed {seed}");
            live.extend(is_live.then_some(prefix));
        }
        let mut seen = Vec::new();
        let mut all = stack.scopes(None);
        while let Some(prefix) = all.advance().unwrap() {
            if stack.is_live(&prefix, BTreeMap::new()).unwrap() {
                seen.push(prefix);
            }
        }
        assert!(seen == live, "seed {seed}: the scopes");
        let mut done = record(Phase::Applying, 0, 3);
        done.to = 5;
        apply::apply(engine, done, |_| Ok(())).unwrap();
        let mut applied = BTreeMap::new();
        for (which, scope) in scopes.iter().enumerate() {
            for entry in store.scope(scope.clone()).scan("").unwrap() {
                let entry = entry.unwrap();
                let key = entry.key().as_bytes().to_vec();
                applied.insert((which, key), entry.value::<u64>().unwrap());
            }
        }
        assert!(applied == model, "seed {seed}: what was applied");
        for step in 1..=3 {
            assert_eq!(store.scope(layer(step)).len().unwrap(), 0, "seed {seed}");
        }
    }
}
