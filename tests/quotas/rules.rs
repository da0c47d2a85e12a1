//! Which quota counts and from when, what it refuses, what keeps it, and what `usage()`
//! says of it.

use std::sync::Arc;
use std::time::Duration;

use evenkeel::{Error, Limits, Quota, Scope, ScopeKind, SetOptions, Store};

use crate::parts::{Rig, exceeded, job, limits, recount};

#[test]
fn the_most_particular_one_counts_for_keys_and_for_bytes_each() {
    let rig = Rig::new();
    let store = rig.open_with(|limits| {
        limits.scope_keys = 4;
        limits.scope_bytes = 400;
    });
    let maxima = |id: &str| {
        let usage = job(&store, id).usage().unwrap();
        (usage.keys_max, usage.bytes_max)
    };
    assert_eq!(maxima("a"), (4, 400));
    store
        .set_quota(ScopeKind::Job, Quota::new().keys(3))
        .unwrap();
    assert_eq!(maxima("a"), (3, 400));
    // Higher than the limits, for one scope, and bytes only.
    job(&store, "a")
        .set_quota(Quota::new().bytes(10_000))
        .unwrap();
    assert_eq!(maxima("a"), (3, 10_000));
    assert_eq!(maxima("b"), (3, 400));
    let worker = store.scope(Scope::worker("a")).usage().unwrap();
    assert_eq!((worker.keys_max, worker.bytes_max), (4, 400));
    job(&store, "a").set("large", "x".repeat(2000)).unwrap();
    assert_eq!(
        exceeded(job(&store, "b").set("large", "x".repeat(2000))).0,
        "scope_bytes"
    );
    for key in ["1", "2"] {
        job(&store, "a").set(key, 1).unwrap();
    }
    assert_eq!(exceeded(job(&store, "a").set("3", 1)), ("scope_keys", 3, 4));
    job(&store, "a").set_quota(Quota::new().keys(5)).unwrap();
    job(&store, "a").set_quota(Quota::new()).unwrap();
    assert!(job(&store, "a").quota().unwrap().is_none());
    assert_eq!(maxima("a"), (3, 400));
    store.set_quota(ScopeKind::Job, None).unwrap();
    assert!(store.quota(ScopeKind::Job).unwrap().is_none());
    assert_eq!(maxima("a"), (4, 400));
    // As many as there can be: none is refused for its number.
    let most = Quota::new().keys(u64::MAX).bytes(u64::MAX);
    job(&store, "b").set_quota(most).unwrap();
    assert_eq!(job(&store, "b").quota().unwrap(), most);
    for n in 0..50 {
        job(&store, "b").set(format!("k{n}"), n).unwrap();
    }
}

#[test]
fn a_refusal_says_which_scope_what_it_has_and_who_says_so() {
    let store = Store::in_memory();
    let said = |error: Error| error.to_string();
    let scope = job(&store, "7");
    scope.set("a", 1).unwrap();
    store
        .set_quota(ScopeKind::Job, Quota::new().keys(1))
        .unwrap();
    let text = said(scope.set("b", 1).unwrap_err());
    for part in [
        "scope_keys",
        "limited to 1",
        "need 2",
        "job \"7\"",
        "has 1",
        "of its kind",
    ] {
        assert!(text.contains(part), "{text}");
    }
    scope.set_quota(Quota::new().keys(0)).unwrap();
    let refused = scope.set("b", 1).unwrap_err();
    assert!(!refused.is_retryable());
    let text = said(refused);
    for part in [
        "job \"7\"",
        "quarantined",
        "are 1",
        "limited to 0",
        "own quota",
        "delete",
        "raise",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn bytes_are_exact_wherever_they_are() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = job(&store, "j");
    scope.set("probe", "x".repeat(50)).unwrap();
    let each = scope.bytes().unwrap();
    scope.clear().unwrap();
    scope.set_quota(Quota::new().bytes(each * 10 + 1)).unwrap();
    for round in 0..3 {
        for n in 0..10 {
            scope.set(format!("key{n:02}"), "x".repeat(50)).unwrap();
            if n % 4 == round {
                store.checkpoint().unwrap();
            }
        }
        let over = ("scope_bytes", each * 10 + 1, each * 11);
        assert_eq!(exceeded(scope.set("key10", "x".repeat(50))), over);
        scope.set("key03", "y".repeat(51)).unwrap();
        assert_eq!(
            exceeded(scope.set("key03", "y".repeat(52))).0,
            "scope_bytes"
        );
        scope.delete("key05").unwrap();
        scope.set("key99", "x".repeat(49)).unwrap();
        assert_eq!(recount(&store, scope.scope()), (10, each * 10));
        scope.clear().unwrap();
    }
}

#[test]
fn a_transaction_is_judged_by_what_it_leaves_and_refused_as_a_whole() {
    let rig = Rig::new();
    let store = rig.open();
    store
        .set_quota(ScopeKind::Job, Quota::new().keys(3))
        .unwrap();
    let scope = job(&store, "a");
    for key in ["1", "2", "3"] {
        scope.set(key, 1).unwrap();
    }
    store.checkpoint().unwrap();
    store
        .transact(|tx| {
            let a = tx.scope(Scope::job("a"));
            // In between it has five.
            a.set("4", 1)?;
            a.set("5", 1)?;
            a.delete("1")?;
            a.delete("2")
        })
        .unwrap();
    store
        .transact(|tx| {
            let a = tx.scope(Scope::job("a"));
            a.clear()?;
            (0..3).try_for_each(|n| a.set(format!("n{n}"), n))
        })
        .unwrap();
    let whole = store.transact(|tx| {
        tx.scope(Scope::job("b")).set("1", 1)?;
        tx.global().set("1", 1)?;
        tx.scope(Scope::job("a")).set("more", 1)
    });
    assert_eq!(exceeded(whole), ("scope_keys", 3, 4));
    assert!(!job(&store, "b").contains("1").unwrap() && store.global().is_empty().unwrap());
    let cleared = store.transact(|tx| {
        let a = tx.scope(Scope::job("a"));
        a.clear()?;
        (0..4).try_for_each(|n| a.set(format!("n{n}"), n))
    });
    assert_eq!(exceeded(cleared), ("scope_keys", 3, 4));
    assert_eq!(scope.get::<u32>("n2").unwrap(), Some(2));
}

/// Every way of writing is judged alike, and none is refused that adds no key.
#[test]
fn each_way_of_writing_is_judged() {
    for checkpoints in [false, true] {
        let rig = Rig::new();
        let store = rig.open();
        let scope = job(&store, "a");
        scope.set_quota(Quota::new().keys(2)).unwrap();
        scope.set("n", 1).unwrap();
        scope.set("m", serde_json::json!({"a": 1})).unwrap();
        if checkpoints {
            store.checkpoint().unwrap();
        }
        let over = ("scope_keys", 2, 3);
        let zero = evenkeel::Version::ZERO;
        assert_eq!(exceeded(scope.increment("x", 1)), over);
        assert_eq!(exceeded(scope.merge("x", 1)), over);
        assert_eq!(exceeded(scope.compare_and_set("x", zero, 1)), over);
        assert_eq!(exceeded(scope.update("x", |_: Option<u8>| 1)), over);
        let ttl = SetOptions::new().ttl(Duration::from_secs(1));
        assert_eq!(exceeded(scope.set_with("x", 1, ttl)), over);
        assert_eq!(
            exceeded(store.submit(|tx| tx.scope(Scope::job("a")).set("x", 1))),
            over
        );
        // What has expired when it is written takes no room.
        scope
            .set_with("x", 1, SetOptions::new().expires_at(1))
            .unwrap();
        assert_eq!(scope.increment("n", 1).unwrap(), 2);
        scope.merge("m", serde_json::json!({"b": 1})).unwrap();
        scope
            .update("n", |n: Option<i64>| n.unwrap_or(0) + 1)
            .unwrap();
        assert!(scope.set_ttl("n", Some(Duration::from_secs(1))).unwrap());
        assert_eq!(scope.len().unwrap(), 2);
    }
}

#[test]
fn what_has_expired_takes_no_room() {
    for checkpoints in [false, true] {
        let rig = Rig::new();
        let store = rig.open();
        let scope = job(&store, "a");
        scope.set_quota(Quota::new().keys(10)).unwrap();
        let soon = SetOptions::new().ttl(Duration::from_micros(10));
        for n in 0..10 {
            match n < 6 {
                true => scope.set_with(format!("k{n}"), n, soon).unwrap(),
                false => scope.set(format!("k{n}"), n).unwrap(),
            }
        }
        if checkpoints {
            store.checkpoint().unwrap();
        }
        assert_eq!(exceeded(scope.set("x", 1)), ("scope_keys", 10, 11));
        rig.advance(10);
        assert_eq!(scope.usage().unwrap().keys, 4);
        // Nobody has removed them yet. Some are written over, others are not.
        for n in 0..6 {
            scope.set(format!("k{}", n * 2 + 1), n).unwrap();
        }
        let left = 10 - scope.len().unwrap();
        for n in 0..left {
            scope.set(format!("x{n}"), n).unwrap();
        }
        assert_eq!(exceeded(scope.set("y", 1)), ("scope_keys", 10, 11));
        store.expire().unwrap();
        assert_eq!(recount(&store, scope.scope()).0, 10);
        assert_eq!(exceeded(scope.set("y", 1)), ("scope_keys", 10, 11));
    }
}

#[test]
fn quotas_outlive_crashes_rebuilding_and_copying() {
    let mut rig = Rig::new();
    let store = rig.open();
    let set = |store: &Store| {
        let bytes = Quota::new().bytes(77);
        store.set_quota(ScopeKind::Custom, bytes).unwrap();
        job(store, "\u{0}odd/\u{ff}")
            .set_quota(Quota::new().keys(2))
            .unwrap();
        job(store, "gone").set_quota(Quota::new().keys(9)).unwrap();
        job(store, "gone").set_quota(None).unwrap();
        store.global().set_quota(Quota::new().keys(5)).unwrap();
        store
            .set_quota(ScopeKind::Global, Quota::new().keys(6))
            .unwrap();
    };
    let check = |store: &Store| {
        let quota = store.quota(ScopeKind::Custom).unwrap();
        assert_eq!(quota, Quota::new().bytes(77));
        assert_eq!(
            job(store, "\u{0}odd/\u{ff}").quota().unwrap(),
            Quota::new().keys(2)
        );
        assert!(job(store, "gone").quota().unwrap().is_none());
        assert_eq!(store.global().quota().unwrap(), Quota::new().keys(5));
        assert_eq!(
            store.quota(ScopeKind::Global).unwrap(),
            Quota::new().keys(6)
        );
        let custom = store.scope(Scope::custom("c"));
        assert_eq!(exceeded(custom.set("x", "x".repeat(99))).1, 77);
    };
    set(&store);
    check(&store);
    rig.crash(store);
    let store = rig.open();
    check(&store);
    store.snapshot().unwrap();
    store.close().unwrap();
    let vfs: &dyn evenkeel::Vfs = &rig.disk;
    vfs.remove_file("/s/MANIFEST".as_ref()).unwrap();
    vfs.sync_dir("/s".as_ref()).unwrap();
    let store = rig.open();
    assert_eq!(store.stats().unwrap().image_rebuilds, 1);
    check(&store);
    let memory = rig.builder().in_memory().unwrap();
    set(&memory);
    check(&memory.persist("/copy").unwrap());
}

/// What the store keeps for itself is under nobody's quota, and no limit is so small
/// that the settings cannot be written and read.
#[test]
fn the_stores_own_bookkeeping_is_exempt() {
    let rig = Rig::new();
    let small = |limits: &mut Limits| {
        limits.scope_keys = 1;
        limits.scope_bytes = 20;
        limits.value_bytes = 1;
        limits.value_depth = 1;
        limits.key_bytes = 1;
        limits.transaction_bytes = 100;
    };
    for round in 1..4_u64 {
        let store = rig.open_with(small);
        for n in 0..20 {
            let scope = job(&store, &format!("{n}"));
            scope
                .set_default_ttl(Some(Duration::from_secs(round)))
                .unwrap();
            scope.set_quota(Quota::new().keys(round)).unwrap();
        }
        store
            .set_quota(ScopeKind::Job, Quota::new().bytes(round))
            .unwrap();
        store.close().unwrap();
        let store = rig.open_with(small);
        assert_eq!(job(&store, "19").quota().unwrap(), Quota::new().keys(round));
        let ttl = job(&store, "19").default_ttl().unwrap();
        assert_eq!(ttl, Some(Duration::from_secs(round)));
        assert_eq!(store.usage().unwrap().keys, 0);
        store.close().unwrap();
    }
    let memory = rig.builder().limits(limits(|limits| limits.scope_keys = 1));
    let store = memory.in_memory().unwrap();
    for name in ["a", "b", "c"] {
        store
            .transact(|tx| tx.advance_cursor(name, tx.lsn()))
            .unwrap();
    }
    assert_eq!(store.cursors().unwrap().len(), 3);
}

#[test]
fn usage_tells_what_is_there() {
    let rig = Rig::new();
    let store = rig.open();
    let scopes = [
        Scope::Global,
        Scope::workflow("w"),
        Scope::step("w", "s"),
        Scope::job("1"),
        Scope::job("2"),
    ];
    for (n, scope) in scopes.iter().enumerate() {
        let handle = store.scope(scope.clone());
        for key in 0..=n * 20 {
            handle.set(format!("k{key}"), "x".repeat(key)).unwrap();
        }
        if n == 2 {
            store.checkpoint().unwrap();
        }
        let ttl = SetOptions::new().ttl(Duration::from_micros(5));
        handle.set_with("passes", 1, ttl).unwrap();
    }
    rig.advance(5);
    job(&store, "empty")
        .set_quota(Quota::new().keys(3))
        .unwrap();
    store
        .set_quota(ScopeKind::Worker, Quota::new().keys(4))
        .unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(usage.lsn, store.stats().unwrap().visible_lsn);
    let mut listed: Vec<_> = scopes.to_vec();
    listed.insert(listed.len(), Scope::job("empty"));
    let found: Vec<_> = usage
        .scopes
        .iter()
        .map(|usage| usage.scope.clone())
        .collect();
    assert_eq!(found, listed);
    let mut sum = (0, 0);
    for scope in &usage.scopes {
        let there = recount(&store, &scope.scope);
        assert_eq!((scope.keys, scope.bytes), there, "{}", scope.scope);
        assert_eq!(&store.scope(scope.scope.clone()).usage().unwrap(), scope);
        assert!(!scope.quarantined);
        sum = (sum.0 + there.0, sum.1 + there.1);
    }
    assert_eq!((usage.keys, usage.bytes), sum);
    let jobs = usage.kinds[&ScopeKind::Job];
    assert_eq!((jobs.scopes, jobs.keys), (2, 61 + 81));
    assert_eq!(usage.kinds[&ScopeKind::Worker].quota, Quota::new().keys(4));
    let kinds = usage.kinds.values().map(|kind| (kind.keys, kind.bytes));
    assert_eq!(kinds.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)), sum);
    job(&store, "2").set_quota(Quota::new().keys(80)).unwrap();
    let usage = store.usage().unwrap();
    let bad: Vec<_> = usage
        .quarantined()
        .map(|usage| usage.scope.clone())
        .collect();
    assert_eq!(bad, [Scope::job("2")]);
    assert_eq!(usage.kinds[&ScopeKind::Job].quarantined, 1);
    store.close().unwrap();
    assert!(matches!(store.usage(), Err(Error::Closed)));
    assert!(matches!(
        store.set_quota(ScopeKind::Job, None),
        Err(Error::Closed)
    ));
    assert!(matches!(
        job(&store, "2").set_quota(None),
        Err(Error::Closed)
    ));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let store = Store::in_memory();
    let long = job(&store, &"x".repeat(2000));
    let refused = long.set_quota(Quota::new().keys(1));
    assert!(
        matches!(refused, Err(Error::LimitExceeded { .. })),
        "{refused:?}"
    );
    assert!(long.usage().is_err() && long.quota().is_err());
    let inside = store.transact(|_| store.set_quota(ScopeKind::Job, Quota::new().keys(1)));
    assert!(matches!(inside, Err(Error::Nested)), "{inside:?}");
    assert!(store.quota(ScopeKind::Job).unwrap().is_none());
}

/// A scope that is at its quota is not counted again and again.
#[test]
fn a_full_scope_is_written_to_at_the_price_of_an_empty_one() {
    let store = Store::in_memory().with_durability(evenkeel::Durability::Memory);
    let scope = Arc::new(job(&store, "a"));
    const KEYS: u64 = 20_000;
    scope.set_quota(Quota::new().keys(KEYS)).unwrap();
    for n in 0..KEYS {
        scope.set(format!("k{n}"), n).unwrap();
    }
    // Each of these would take a millisecond and more if it counted the scope.
    for n in 0..KEYS {
        scope.set(format!("k{n}"), n + 1).unwrap();
        scope.delete(format!("k{n}")).unwrap();
        scope.set(format!("n{n}"), n).unwrap();
        assert!(scope.set("more", n).is_err());
    }
    assert_eq!(scope.len().unwrap(), KEYS);
}
