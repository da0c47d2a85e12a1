//! Scopes that hold more than they may: what goes on, what is refused, and how it ends.

use std::time::Duration;

use evenkeel::{Quota, Scope, ScopeKind, SetOptions, Store};

use crate::parts::{Rig, exceeded, job, quarantined};

fn ten(store: &Store) -> evenkeel::ScopeHandle {
    let scope = job(store, "a");
    for n in 0..10 {
        scope.set(format!("k{n}"), "x".repeat(20)).unwrap();
    }
    scope
}

#[test]
fn what_shrinks_goes_on_and_what_grows_does_not() {
    for checkpoints in [false, true] {
        let rig = Rig::new();
        let store = rig.open();
        let scope = ten(&store);
        let step = || {
            if checkpoints {
                store.checkpoint().unwrap();
            }
        };
        step();
        scope.set_quota(Quota::new().keys(6)).unwrap();
        assert!(scope.usage().unwrap().quarantined);
        assert_eq!(quarantined(scope.set("x", 1)), ("scope_keys", 6, 10, 11));
        assert_eq!(quarantined(scope.increment("x", 1)).3, 11);
        assert_eq!(scope.get::<String>("k3").unwrap().unwrap().len(), 20);
        assert_eq!(scope.scan("k").unwrap().count(), 10);
        // There are too many keys, not too many bytes.
        scope.set("k3", "x".repeat(30)).unwrap();
        step();
        scope.delete("k0").unwrap();
        assert_eq!(quarantined(scope.set("k0", 1)), ("scope_keys", 6, 9, 10));
        // Fewer than before, though more than it may.
        store
            .transact(|tx| {
                let a = tx.scope(Scope::job("a"));
                a.delete("k1")?;
                a.delete("k2")?;
                a.set("k0", 1)
            })
            .unwrap();
        let same = store.transact(|tx| {
            tx.scope(Scope::job("a")).delete("k0")?;
            tx.scope(Scope::job("a")).set("k1", 1)
        });
        same.unwrap();
        step();
        scope.delete("k1").unwrap();
        assert!(scope.usage().unwrap().quarantined);
        scope.delete("k3").unwrap();
        assert!(!scope.usage().unwrap().quarantined);
        // It is full now, and no longer in quarantine.
        assert_eq!(exceeded(scope.set("x", 1)), ("scope_keys", 6, 7));
        scope.delete("k4").unwrap();
        scope.set("x", 1).unwrap();
        scope.set_quota(Quota::new().keys(0)).unwrap();
        scope.clear().unwrap();
        assert_eq!(exceeded(scope.set("x", 1)), ("scope_keys", 0, 1));
    }
}

#[test]
fn too_many_bytes_shrink_by_smaller_values() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = ten(&store);
    store.checkpoint().unwrap();
    let held = scope.bytes().unwrap();
    store
        .set_quota(ScopeKind::Job, Quota::new().bytes(held - 15))
        .unwrap();
    let over = quarantined(scope.set("k1", "x".repeat(21)));
    assert_eq!(over, ("scope_bytes", held - 15, held, held + 1));
    scope.set("k1", "y".repeat(20)).unwrap();
    scope.set("k1", "y".repeat(10)).unwrap();
    assert_eq!(quarantined(scope.set("k1", "x".repeat(11))).3, held - 9);
    scope.set("k2", "y".repeat(10)).unwrap();
    scope.set("k1", "x".repeat(15)).unwrap();
    assert_eq!(exceeded(scope.set("k1", "x".repeat(16))).2, held - 14);
    job(&store, "b").set("k", "x".repeat(40)).unwrap();
}

#[test]
fn what_expires_ends_it() {
    for checkpoints in [false, true] {
        let rig = Rig::new();
        let store = rig.open();
        let scope = job(&store, "a");
        for n in 0..10 {
            let ttl = SetOptions::new().ttl(Duration::from_micros(10 + n));
            scope.set_with(format!("k{n}"), n, ttl).unwrap();
        }
        if checkpoints {
            store.checkpoint().unwrap();
        }
        scope.set_quota(Quota::new().keys(3)).unwrap();
        rig.advance(10);
        // The one that has expired is a new one.
        assert_eq!(quarantined(scope.set("k0", 1)), ("scope_keys", 3, 9, 10));
        rig.advance(5);
        assert_eq!(quarantined(scope.set("x", 1)), ("scope_keys", 3, 4, 5));
        assert_eq!(store.expire().unwrap(), 6);
        assert!(scope.usage().unwrap().quarantined);
        rig.advance(1);
        assert!(!scope.usage().unwrap().quarantined);
        assert_eq!(exceeded(scope.set("x", 1)), ("scope_keys", 3, 4));
        rig.advance(1);
        scope.set("x", 1).unwrap();
        assert_eq!(exceeded(scope.set("k0", 1)), ("scope_keys", 3, 4));
    }
}

#[test]
fn a_store_with_more_than_its_limits_opens_and_all_of_it_goes_on() {
    let mut rig = Rig::new();
    let store = rig.open();
    ten(&store);
    let ttl = SetOptions::new().ttl(Duration::from_micros(10));
    job(&store, "a").set_with("passes", 1, ttl).unwrap();
    job(&store, "small").set("k", 1).unwrap();
    let deep = serde_json::json!([[[[["value"]]]]]);
    store.global().set("deep", &deep).unwrap();
    rig.crash(store);
    let open = |rig: &Rig| {
        rig.open_with(|limits| {
            limits.scope_keys = 5;
            limits.value_bytes = 10;
            limits.value_depth = 1;
            limits.key_bytes = 2;
            limits.transaction_bytes = 10;
        })
    };
    let store = open(&rig);
    assert_eq!(quarantined(job(&store, "a").set("x", 1)).1, 5);
    let small = job(&store, "small");
    for n in 0..4 {
        small.set(format!("{n}"), n).unwrap();
    }
    // What is there is read whatever the limits for writing are.
    assert_eq!(
        store.global().get::<serde_json::Value>("deep").unwrap(),
        Some(deep)
    );
    assert_eq!(
        job(&store, "a").get::<String>("k1").unwrap().unwrap().len(),
        20
    );
    rig.advance(10);
    assert_eq!(store.expire().unwrap(), 1);
    store.checkpoint().unwrap();
    store.snapshot().unwrap();
    assert!(store.verify().is_ok());
    store.close().unwrap();
    let store = open(&rig);
    let usage = store.usage().unwrap();
    let bad: Vec<_> = usage
        .quarantined()
        .map(|usage| usage.scope.clone())
        .collect();
    assert_eq!(bad, [Scope::job("a")]);
    // A quota of its own may be higher than the limits.
    job(&store, "a").set_quota(Quota::new().keys(11)).unwrap();
    job(&store, "a").set("x", 1).unwrap();
    job(&store, "a").set_quota(None).unwrap();
    for key in job(&store, "a").keys().unwrap() {
        job(&store, "a").delete(key).unwrap();
    }
    job(&store, "a").set("x", 1).unwrap();
    assert_eq!(store.usage().unwrap().quarantined().count(), 0);
}
