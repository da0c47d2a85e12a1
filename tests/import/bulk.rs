//! Loading in bulk by a program: batches, what is seen and durable when, what fails.

use std::time::Duration;

use evenkeel::{Error, Limits, Scope, SetOptions, Store, Value};

use crate::parts::{entry, state, state_of};

#[test]
fn all_is_there_and_durable_when_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    let mut loader = store.bulk().batch_bytes(3000);
    let mut seen = 0;
    for n in 0..2000 {
        let (scope, key, value) = entry(n);
        loader.set(&scope, key, value).unwrap();
        let progress = loader.progress();
        assert!(progress.entries >= seen && progress.durable <= progress.entries);
        seen = progress.entries;
    }
    assert!(seen > 1900 && seen < 2000, "{seen}");
    assert_eq!(state(&store), state_of(seen));
    loader.flush().unwrap();
    assert_eq!(
        (loader.progress().entries, loader.progress().durable),
        (2000, 2000)
    );
    loader.extend((2000..2010).map(entry)).unwrap();
    let report = loader.finish().unwrap();
    assert_eq!(report.entries, 2010);
    // A sync for each commit it is not.
    let stats = store.stats().unwrap();
    assert!(stats.log_syncs < stats.commits / 2, "{stats:?}");
    assert_eq!(state(&store), state_of(2010));
    drop(store);
    assert_eq!(state(&Store::open(&path).unwrap()), state_of(2010));
}

#[test]
fn dropped_it_leaves_whole_batches() {
    let store = Store::in_memory();
    let mut loader = store.bulk().batch_bytes(1000);
    loader.extend((0..100).map(entry)).unwrap();
    let committed = loader.progress().entries;
    drop(loader);
    assert!(committed > 50 && committed < 100, "{committed}");
    assert_eq!(state(&store), state_of(committed));
    assert_eq!(store.imports().unwrap(), []);
}

#[test]
fn what_is_refused_is_left_out_and_the_loader_goes_on() {
    let mut limits = Limits::default();
    (limits.value_bytes, limits.scope_keys) = (500, 10);
    (limits.key_bytes, limits.transaction_bytes) = (100, 20_000);
    let store = Store::builder().limits(limits).in_memory().unwrap();
    let mut loader = store.bulk().batch_bytes(usize::MAX);
    let global = Scope::Global;
    loader.set(&global, "a", 1).unwrap();
    let limit = |outcome: evenkeel::Result<()>| match outcome.unwrap_err() {
        Error::LimitExceeded { limit, .. } => limit,
        other => panic!("{other}"),
    };
    assert_eq!(limit(loader.set(&global, "k".repeat(101), 1)), "key_bytes");
    assert_eq!(
        limit(loader.set(&global, "v", "x".repeat(501))),
        "value_bytes"
    );
    let long = Scope::job("x".repeat(2000));
    assert_eq!(limit(loader.set(&long, "k", 1)), "scope_component_bytes");
    let zero = SetOptions::new().ttl(Duration::ZERO);
    let refused = loader.set_with(&global, "k", 1, zero);
    assert!(matches!(refused, Err(Error::Invalid { what: "ttl", .. })));
    let failing = [Ok((Scope::Global, "b", 2)), Err("out of paper")];
    let failed = loader.extend(failing);
    assert!(matches!(failed, Err(Error::Aborted(e)) if e.to_string() == "out of paper"));
    loader.flush().unwrap();
    assert_eq!(
        store.global().keys().unwrap().collect::<Vec<_>>(),
        ["a", "b"]
    );

    // More than a transaction takes goes into several.
    let many = (0..100).map(|n| (Scope::job(format!("{n}")), "k", "x".repeat(400)));
    loader.extend(many).unwrap();
    loader.flush().unwrap();
    assert_eq!(store.scopes().unwrap().len(), 101);

    // A limit of the scope is met by the batch, which waits for room.
    loader
        .extend((0..9).map(|n| (Scope::Global, format!("n{n}"), n)))
        .unwrap();
    assert_eq!(limit(loader.flush()), "scope_keys");
    assert_eq!(limit(loader.flush()), "scope_keys");
    assert_eq!(store.global().len().unwrap(), 2);
    store.global().delete("a").unwrap();
    loader.flush().unwrap();
    assert_eq!(store.global().len().unwrap(), 10);
    assert_eq!(loader.finish().unwrap().entries, 2 + 100 + 9);
}

#[test]
fn an_entry_larger_than_a_batch_is_one() {
    let store = Store::in_memory();
    let mut loader = store.bulk().batch_bytes(0);
    let value = Value::Bytes(vec![7; 3_000_000]);
    for n in 0..3 {
        loader.set(&Scope::Global, format!("{n}"), &value).unwrap();
        assert_eq!(loader.progress().entries, n);
    }
    assert_eq!(loader.finish().unwrap().entries, 3);
    assert_eq!(store.global().get("2").unwrap(), Some(value));
}

#[test]
fn a_store_inside_its_own_transaction_is_not_loaded() {
    let store = Store::in_memory();
    let nested = store.transact(|_| store.bulk().set(&Scope::Global, "a", 1));
    assert!(matches!(nested, Err(Error::Nested)));
    let nested = store.transact(|_| store.import("a").entries([entry(1)]).map(drop));
    assert!(matches!(nested, Err(Error::Nested)));
}

#[test]
fn readers_see_batches_as_a_whole() {
    let store = Store::in_memory();
    let counts = std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            let mut counts = Vec::new();
            while counts.last() != Some(&10_000) {
                let count = store.transact(|tx| tx.global().len()).unwrap();
                if counts.last() != Some(&count) {
                    counts.push(count);
                }
            }
            counts
        });
        let entries = (0..10_000).map(|n| (Scope::Global, format!("{n:05}"), n));
        let mut loader = store.bulk().batch_bytes(usize::MAX);
        let loaded = loader.extend(entries).and_then(|()| loader.finish());
        if loaded.is_err() {
            // Or the reader would wait for ever.
            store.close().unwrap();
        }
        loaded.unwrap();
        reader.join().unwrap()
    });
    let whole = [0, 4096, 8192, 10_000];
    assert!(
        counts.iter().all(|count| whole.contains(count)),
        "{counts:?}"
    );
}
