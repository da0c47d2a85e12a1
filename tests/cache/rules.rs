//! What goes, what stays, and what is counted.

use std::time::Duration;

use evenkeel::{Cache, CacheStats, Durability, Error, Limits, Scope, Store, Value};
use serde_json::json;

use crate::parts::{Rig, insert_all, keys, profiles, seconds, worker};

#[test]
fn the_form_of_the_issue() {
    let store = Store::in_memory();
    let cache = store
        .scope(Scope::worker("w"))
        .cache("profiles")
        .capacity(1000)
        .ttl(Duration::from_secs(3600));
    cache.insert("user-1", json!({"name": "Ada"})).unwrap();
    let hit: Option<serde_json::Value> = cache.get("user-1").unwrap();
    assert_eq!(hit, Some(json!({"name": "Ada"})));
    let value: Value = cache.get("user-1").unwrap().unwrap();
    assert_eq!(value.to_string(), r#"{"name":"Ada"}"#);
    let computed: u32 = cache.get_or_insert_with("user-2", || 7).unwrap();
    assert_eq!((computed, cache.len().unwrap()), (7, 2));
}

#[test]
fn what_was_not_used_for_longest_goes() {
    for store in Rig::new().both() {
        let cache = profiles(&store).capacity(3);
        insert_all(&cache, &["a", "b", "c"]);
        assert_eq!(cache.get::<String>("a").unwrap().as_deref(), Some("a"));
        // Neither counts as a use.
        assert_eq!(cache.peek::<String>("b").unwrap().as_deref(), Some("b"));
        assert!(cache.contains("b").unwrap());
        cache.insert("d", "d").unwrap();
        assert_eq!(keys(&cache), ["a", "c", "d"]);
        // One that is replaced evicts nothing, and was used.
        cache.insert("c", "again").unwrap();
        cache.insert("e", "e").unwrap();
        assert_eq!(keys(&cache), ["c", "d", "e"]);
        assert_eq!(cache.get_or_insert_with("d", String::new).unwrap(), "d");
        cache.insert("f", "f").unwrap();
        cache.insert("g", "g").unwrap();
        assert_eq!(keys(&cache), ["d", "f", "g"]);
        let stats = cache.stats().unwrap();
        assert_eq!((stats.insertions, stats.evictions), (8, 4));
    }
}

#[test]
fn one_entry_is_enough() {
    let cache = profiles(&Store::in_memory()).capacity(1);
    for key in ["a", "b", "b", "c"] {
        cache.insert(key, key).unwrap();
        assert_eq!(keys(&cache), [key]);
    }
}

#[test]
fn hits_and_misses_are_counted_for_all_handles() {
    let store = Store::in_memory();
    let cache = profiles(&store);
    assert_eq!(cache.stats().unwrap().hit_ratio(), 0.0);
    cache.insert("a", 1).unwrap();
    for (key, found) in [("a", true), ("b", false), ("a", true)] {
        // A handle of its own each time.
        let read = profiles(&store).get::<i32>(key).unwrap();
        assert_eq!(read.is_some(), found);
    }
    assert_eq!(cache.get_or_insert_with("a", || 5).unwrap(), 1);
    assert_eq!(cache.get_or_insert_with("c", || 5).unwrap(), 5);
    let CacheStats {
        hits,
        misses,
        insertions,
        evictions,
        entries,
        capacity,
        ..
    } = profiles(&store).stats().unwrap();
    assert_eq!((hits, misses), (3, 2));
    assert_eq!((insertions, evictions, entries), (2, 0, 2));
    assert_eq!(capacity, 10_000);
    assert_eq!(cache.stats().unwrap().hit_ratio(), 0.6);
}

#[test]
fn what_has_expired_does_not_count_and_goes_first() {
    let rig = Rig::new();
    for store in rig.both() {
        let cache = profiles(&store).capacity(3);
        let short = cache.clone().ttl(seconds(10));
        insert_all(&cache, &["a"]);
        insert_all(&short, &["s", "t"]);
        cache.get::<String>("s").unwrap();
        rig.advance(9);
        assert_eq!(keys(&cache), ["a", "s", "t"]);
        // Reading made nothing last longer; writing does.
        insert_all(&short, &["t"]);
        rig.advance(1);
        assert_eq!(cache.get::<String>("s").unwrap(), None);
        assert_eq!(keys(&cache), ["a", "t"]);
        insert_all(&cache, &["b"]);
        assert_eq!(keys(&cache), ["a", "b", "t"]);
        assert_eq!(cache.stats().unwrap().evictions, 0);
        assert!(!cache.remove("s").unwrap());
        // A handle without a TTL writes for ever.
        insert_all(&cache, &["t"]);
        rig.advance(1_000_000);
        assert_eq!(keys(&cache), ["a", "b", "t"]);
        store.expire().unwrap();
        insert_all(&cache, &["c"]);
        assert_eq!(keys(&cache), ["b", "c", "t"]);
    }
}

#[test]
fn the_default_ttl_of_the_scope_is_not_for_its_caches() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = store.scope(worker());
    scope.set_default_ttl(Some(seconds(5))).unwrap();
    let cache = profiles(&store);
    cache.insert("a", 1).unwrap();
    rig.advance(6);
    assert_eq!(cache.get::<i32>("a").unwrap(), Some(1));
}

#[test]
fn the_capacity_given_last_counts_for_all() {
    for store in Rig::new().both() {
        let cache = profiles(&store).capacity(1000);
        let names: Vec<String> = (0..900).map(|n| format!("{n:03}")).collect();
        for name in &names {
            cache.insert(name, 1).unwrap();
        }
        let lowered = profiles(&store).capacity(2);
        assert_eq!(cache.len().unwrap(), 900);
        cache.insert("new", 1).unwrap();
        assert_eq!(keys(&lowered), ["899", "new"]);
        assert_eq!(cache.stats().unwrap().evictions, 899);
        assert_eq!(cache.stats().unwrap().capacity, 2);
        let _raised = lowered.capacity(u64::MAX);
        insert_all(&cache, &["x", "y", "z"]);
        assert_eq!(keys(&cache).len(), 5);
    }
}

#[test]
fn remove_and_clear() {
    for store in Rig::new().both() {
        let cache = profiles(&store).capacity(20_000);
        insert_all(&cache, &["a", "b"]);
        assert!(cache.remove("a").unwrap());
        assert!(!cache.remove("a").unwrap());
        assert_eq!(keys(&cache), ["b"]);
        cache.clear().unwrap();
        assert_eq!(keys(&cache), Vec::<String>::new());
        let before = store.stats().unwrap().commits;
        cache.clear().unwrap();
        assert_eq!(store.stats().unwrap().commits, before, "nothing to clear");
        insert_all(&cache, &["c"]);
        assert_eq!(keys(&cache), ["c"]);
    }
}

#[test]
fn clearing_the_scope_clears_its_caches_in_the_same_commit() {
    for store in Rig::new().both() {
        let scope = store.scope(worker());
        let (one, two) = (scope.cache("one").capacity(3), scope.cache("two"));
        let beside = store.scope(Scope::worker("v")).cache("one");
        insert_all(&one, &["a", "b"]);
        insert_all(&two, &["c"]);
        insert_all(&beside, &["d"]);
        scope.set("key", 1).unwrap();
        let before = store.stats().unwrap().commits;
        scope.clear().unwrap();
        assert_eq!(store.stats().unwrap().commits, before + 1);
        assert!(keys(&one).is_empty() && keys(&two).is_empty());
        assert_eq!(keys(&beside), ["d"]);
        // What was cleared takes no room.
        insert_all(&one, &["x", "y", "z"]);
        assert_eq!(keys(&one), ["x", "y", "z"]);
        assert_eq!(one.stats().unwrap().evictions, 0);
        store.transact(|tx| tx.scope(worker()).clear()).unwrap();
        assert_eq!(keys(&one), Vec::<String>::new());
        let given_up = store.transact(|tx| {
            tx.scope(Scope::worker("v")).clear()?;
            Err::<(), _>(Error::abort("no"))
        });
        assert!(given_up.is_err());
        assert_eq!(keys(&beside), ["d"]);
    }
}

#[test]
fn what_is_refused_evicts_nothing() {
    let limits = || {
        let mut limits = Limits::default();
        limits.value_bytes = 1000;
        limits.key_bytes = 50;
        limits
    };
    let full = |cache: &Cache| {
        for key in ["a", "b", "c"] {
            cache.insert(key, "x".repeat(900)).unwrap();
        }
    };
    let rig = Rig::new();
    for store in [
        rig.builder().limits(limits()).in_memory().unwrap(),
        rig.builder().limits(limits()).open("/store").unwrap(),
    ] {
        let cache = profiles(&store).capacity(3);
        full(&cache);
        let refused = |key: &str, value: String, limit: &str, at: &str| {
            let computed = value.clone();
            let outcomes = [
                cache.insert(key, value),
                cache.get_or_insert_with(key, || computed).map(drop),
            ];
            for outcome in outcomes {
                match outcome {
                    Err(Error::LimitExceeded {
                        limit: of,
                        at: place,
                        ..
                    }) => {
                        assert_eq!(of, limit);
                        assert!(place.contains(at), "{place}");
                    }
                    other => panic!("{limit}: {other:?}"),
                }
            }
            assert_eq!(keys(&cache), ["a", "b", "c"], "{limit}");
        };
        let here = r#"cache "profiles" of worker "w""#;
        refused("d", "x".repeat(2000), "value_bytes", "");
        refused(&"k".repeat(51), "x".into(), "key_bytes", here);
        // One that fits only because another goes is no harm.
        cache.insert("d", "x".repeat(900)).unwrap();
        assert_eq!(keys(&cache), ["b", "c", "d"]);
        assert_eq!(cache.stats().unwrap().evictions, 1);
    }
}

#[test]
fn another_type_is_an_error_that_names_the_cache() {
    let cache = profiles(&Store::in_memory());
    cache.insert("a", "text").unwrap();
    for outcome in [cache.get::<u32>("a"), cache.peek::<u32>("a")] {
        let text = outcome.unwrap_err().to_string();
        assert!(
            text.starts_with(r#"the value of key "a" in cache "profiles" of worker "w" does not"#),
            "{text}"
        );
    }
    // A value that is nothing is there all the same.
    cache.insert("none", None::<u32>).unwrap();
    assert_eq!(cache.get::<Option<u32>>("none").unwrap(), Some(None));
}

#[test]
fn a_commit_is_as_durable_as_the_handle_says() {
    let mut rig = Rig::new();
    let store = rig.open();
    let cache = profiles(&store);
    cache.insert("kept", 1).unwrap();
    let in_memory = cache.with_durability(Durability::Memory);
    in_memory.insert("lost", 1).unwrap();
    in_memory.get_or_insert_with("lost too", || 1).unwrap();
    // While it is open: closing it writes all.
    let after = rig.cut();
    drop((store, cache, in_memory));
    let store = after;
    assert_eq!(keys(&profiles(&store)), ["kept"]);
    assert_eq!(
        profiles(&store)
            .get_or_insert_with("computed", || 1)
            .unwrap(),
        1
    );
    profiles(&store).remove("kept").unwrap();
    assert_eq!(keys(&profiles(&rig.cut())), ["computed"]);
}

#[test]
fn a_handle_may_go_anywhere() {
    fn goes<T: Clone + Send + Sync + 'static>(_: &T) {}
    let cache = profiles(&Store::in_memory());
    goes(&cache);
    assert_eq!((cache.name(), cache.scope()), ("profiles", &worker()));
}
