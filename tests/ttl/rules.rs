//! The rules of a deadline, wherever the key is.

use std::time::Duration;

use evenkeel::{Error, Key, Limits, Scope, SetOptions, Store, Version};
use serde_json::json;

use crate::parts::{PLACES, Place, Rig, SECOND, START, keys, seconds, tokens};

#[test]
fn what_has_expired_is_absent_to_everybody_wherever_it_is() {
    for place in PLACES {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        let scope = tokens(&store);
        for n in 0..60 {
            scope.set_with(format!("k{n:02}"), n, seconds(10)).unwrap();
        }
        scope.set("l", 1).unwrap();
        scope.set_with("m", 1, seconds(20)).unwrap();
        let alone = Scope::workflow("alone");
        store
            .scope(alone.clone())
            .set_with("a", 7, seconds(10))
            .unwrap();
        let store = place.reach(&rig, store, Limits::default());
        let scope = tokens(&store);
        rig.advance(10 * SECOND - 1);
        assert_eq!(keys(&store, scope.scope()).len(), 62, "{place:?}");
        assert_eq!(scope.ttl("k07").unwrap(), Some(Duration::from_micros(1)));
        assert_eq!(scope.expires_at("m").unwrap(), Some(START + 20 * SECOND));
        rig.advance(1);
        assert_eq!(keys(&store, scope.scope()), ["l", "m"], "{place:?}");
        assert!(keys(&store, &alone).is_empty());
        let global: Vec<Scope> = store.scopes().unwrap();
        assert_eq!(global, [scope.scope().clone()], "{place:?}");
        assert_eq!(scope.get::<u64>("k07").unwrap(), None);
        assert_eq!(scope.get_versioned::<u64>("k07").unwrap(), None);
        assert!(!scope.contains("k07").unwrap());
        assert_eq!(scope.ttl("k07").unwrap(), None);
        assert!(!scope.set_ttl("k07", None).unwrap());
        // Whoever writes finds nothing there either.
        scope.compare_and_set("k00", Version::ZERO, 5).unwrap();
        assert_eq!(scope.increment("k01", 3).unwrap(), 3);
        scope.merge("k02", json!({"a": 1})).unwrap();
        assert_eq!(scope.get("k02").unwrap(), Some(json!({"a": 1})));
        scope
            .update("k03", |old: Option<u32>| old.map_or(8, |_| 9))
            .unwrap();
        store
            .transact(|tx| {
                let scope = tx.scope(Scope::custom("tokens"));
                assert_eq!(scope.get::<u64>("k04")?, None);
                scope.compare_and_set("k04", Version::ZERO, 5)?;
                assert_eq!(scope.increment("k05", 3)?, 3);
                assert_eq!(scope.expires_at("k05")?, None);
                Ok(())
            })
            .unwrap();
        let there = ["k00", "k01", "k02", "k03", "k04", "k05", "l", "m"];
        assert_eq!(keys(&store, scope.scope()), there, "{place:?}");
        assert!(
            there[..6]
                .iter()
                .all(|key| scope.expires_at(key).unwrap().is_none())
        );
    }
}

#[test]
fn whole_values_are_given_a_deadline_and_changes_keep_it() {
    for place in PLACES {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        for key in ["increment", "merge", "update", "set", "replace", "set_with"] {
            tokens(&store).set_with(key, 1, seconds(10)).unwrap();
        }
        tokens(&store)
            .set_with("merge", json!({}), seconds(10))
            .unwrap();
        let store = place.reach(&rig, store, Limits::default());
        let scope = tokens(&store);
        let deadline = |key: &str| {
            scope
                .expires_at(key)
                .unwrap()
                .map(|at| (at - START) / SECOND)
        };
        scope.increment("increment", 1).unwrap();
        scope.merge("merge", json!({"a": 2})).unwrap();
        scope
            .update("update", |n: Option<i64>| n.unwrap_or(0) + 1)
            .unwrap();
        scope.set("set", 2).unwrap();
        let seen = scope.get_versioned::<i64>("replace").unwrap().unwrap();
        scope.compare_and_set("replace", seen.version, 2).unwrap();
        scope.set_with("set_with", 2, seconds(30)).unwrap();
        let found = ["increment", "merge", "update", "set", "replace", "set_with"].map(deadline);
        let wanted = [Some(10), Some(10), Some(10), None, None, Some(30)];
        assert_eq!(found, wanted, "{place:?}");
        store
            .transact(|tx| {
                let scope = tx.scope(Scope::custom("tokens"));
                scope.increment("increment", 1)?;
                scope.merge("merge", json!({"b": 2}))?;
                scope.update("update", |n: Option<i64>| n.unwrap_or(0) + 1)?;
                assert_eq!(scope.expires_at("update")?, Some(START + 10 * SECOND));
                assert_eq!(scope.ttl("update")?, Some(Duration::from_secs(10)));
                scope.set_with("set", 3, SetOptions::new().expires_at(START + 40 * SECOND))?;
                assert!(scope.set_ttl("replace", Some(Duration::from_secs(50)))?);
                assert!(scope.set_ttl("set_with", None)?);
                assert!(!scope.set_ttl("missing", None)?);
                Ok(())
            })
            .unwrap();
        let found = ["increment", "merge", "update", "set", "replace", "set_with"].map(deadline);
        let wanted = [Some(10), Some(10), Some(10), Some(40), Some(50), None];
        assert_eq!(found, wanted, "{place:?}");
        assert_eq!(scope.get::<i64>("update").unwrap(), Some(3));
        // A declared key can all of it too.
        let key = scope.key(Key::<i64>::new("update"));
        assert!(key.set_ttl(Some(Duration::from_secs(5))).unwrap());
        assert_eq!(key.ttl().unwrap(), Some(Duration::from_secs(5)));
        key.set_with(4, seconds(6)).unwrap();
        assert_eq!(key.expires_at().unwrap(), Some(START + 6 * SECOND));
    }
}

#[test]
fn a_default_is_durable_and_no_key_of_the_scope() {
    for place in PLACES {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        // An id with bytes that an encoded scope has to escape.
        let odd = Scope::custom("a\0b\u{1}é");
        let (early, other) = (store.scope(odd.clone()), tokens(&store));
        early
            .set_default_ttl(Some(Duration::from_secs(10)))
            .unwrap();
        other
            .set_default_ttl(Some(Duration::from_secs(99)))
            .unwrap();
        other.set_default_ttl(None).unwrap();
        assert!(store.scopes().unwrap().is_empty() && early.is_empty().unwrap());
        early.set("before", 1).unwrap();
        early.clear().unwrap();
        let store = place.reach(&rig, store, Limits::default());
        let scope = store.scope(odd.clone());
        assert_eq!(scope.default_ttl().unwrap(), Some(Duration::from_secs(10)));
        scope.set("set", 1).unwrap();
        scope.increment("increment", 1).unwrap();
        scope.merge("merge", json!({})).unwrap();
        scope.update("update", |_: Option<i64>| 1).unwrap();
        scope.compare_and_set("replace", Version::ZERO, 1).unwrap();
        store
            .transact(|tx| tx.scope(odd.clone()).set("transact", 1))
            .unwrap();
        for key in ["set", "increment", "merge", "update", "replace", "transact"] {
            let at = scope.expires_at(key).unwrap();
            assert_eq!(at, Some(START + 10 * SECOND), "{place:?} {key}");
        }
        scope
            .set_with("forever", 1, SetOptions::new().forever())
            .unwrap();
        assert_eq!(scope.expires_at("forever").unwrap(), None);
        tokens(&store).set("a", 1).unwrap();
        assert_eq!(tokens(&store).ttl("a").unwrap(), None);
        scope.set_default_ttl(None).unwrap();
        scope.set("set", 1).unwrap();
        assert_eq!(scope.expires_at("set").unwrap(), None);
    }
}

#[test]
fn a_handle_that_was_made_before_knows_the_default() {
    let rig = Rig::new();
    let store = rig.open();
    let (a, b) = (tokens(&store), tokens(&store));
    a.set_default_ttl(Some(Duration::from_secs(1))).unwrap();
    b.set("k", 1).unwrap();
    assert_eq!(a.expires_at("k").unwrap(), Some(START + SECOND));
}

#[test]
fn bad_times_are_refused_or_have_a_meaning() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = tokens(&store);
    let refused = |result: evenkeel::Result<()>| match result.unwrap_err() {
        Error::Invalid {
            what: "ttl",
            reason,
        } => assert!(reason.contains("zero"), "{reason}"),
        other => panic!("{other}"),
    };
    scope.set("k", 1).unwrap();
    refused(scope.set_with("k", 2, SetOptions::new().ttl(Duration::ZERO)));
    refused(scope.set_ttl("k", Some(Duration::ZERO)).map(drop));
    refused(scope.set_default_ttl(Some(Duration::ZERO)));
    refused(store.transact(|tx| {
        let scope = tx.scope(Scope::custom("tokens"));
        scope.set_with("k", 2, SetOptions::new().ttl(Duration::ZERO))
    }));
    assert_eq!(scope.get::<u32>("k").unwrap(), Some(1));
    // Less than a microsecond is one; longer than time is for ever.
    let after = |ttl| {
        scope.set_with("k", 2, SetOptions::new().ttl(ttl)).unwrap();
        scope.expires_at("k").unwrap()
    };
    assert_eq!(after(Duration::from_nanos(1)), Some(START + 1));
    assert_eq!(after(Duration::from_nanos(1001)), Some(START + 2));
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    assert_eq!(after(century), Some(START + century.as_micros() as u64));
    assert_eq!(after(Duration::MAX), None);
    assert_eq!(after(Duration::from_micros(u64::MAX - START)), None);
    scope.set_default_ttl(Some(Duration::MAX)).unwrap();
    scope.set("k", 3).unwrap();
    assert_eq!(scope.expires_at("k").unwrap(), None);
    // What is past has expired.
    for past in [0, 1, START] {
        scope.set("k", 4).unwrap();
        scope
            .set_with("k", 4, SetOptions::new().expires_at(past))
            .unwrap();
        assert!(!scope.contains("k").unwrap());
    }
    store.close().unwrap();
    assert!(matches!(
        scope.set_with("k", 1, seconds(1)),
        Err(Error::Closed)
    ));
    assert!(matches!(scope.set_default_ttl(None), Err(Error::Closed)));
    assert!(matches!(scope.default_ttl(), Err(Error::Closed)));
    assert!(matches!(store.expire(), Err(Error::Closed)));
}

#[test]
fn a_copy_keeps_deadlines_and_defaults() {
    let rig = Rig::new();
    let scratch = Place::InMemory.store(&rig, Limits::default());
    tokens(&scratch).set_with("short", 1, seconds(10)).unwrap();
    tokens(&scratch).set_with("long", 1, seconds(20)).unwrap();
    tokens(&scratch)
        .set_default_ttl(Some(Duration::from_secs(30)))
        .unwrap();
    let store: Store = scratch.persist("/copy").unwrap();
    let scope = tokens(&store);
    assert_eq!(scope.expires_at("long").unwrap(), Some(START + 20 * SECOND));
    assert_eq!(scope.default_ttl().unwrap(), Some(Duration::from_secs(30)));
    rig.advance(10 * SECOND);
    assert_eq!(keys(&store, scope.scope()), ["long"]);
}
