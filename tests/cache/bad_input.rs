//! What a cache cannot be: typed errors at the first use, that name it.

use std::time::Duration;

use evenkeel::{Cache, Error, Result, Scope, Store};

use crate::parts::{Rig, keys, profiles, worker};

/// Every call of a handle.
fn calls(cache: &Cache) -> Vec<(&'static str, Result<()>)> {
    vec![
        ("insert", cache.insert("a", 1)),
        ("get", cache.get::<i32>("a").map(drop)),
        ("peek", cache.peek::<i32>("a").map(drop)),
        ("contains", cache.contains("a").map(drop)),
        ("compute", cache.get_or_insert_with("a", || 1).map(drop)),
        ("remove", cache.remove("a").map(drop)),
        ("clear", cache.clear()),
        ("len", cache.len().map(drop)),
        ("is_empty", cache.is_empty().map(drop)),
        ("keys", cache.keys().map(drop)),
        ("stats", cache.stats().map(drop)),
    ]
}

fn refused(cache: &Cache, wanted: impl Fn(&Error) -> bool) {
    for (call, outcome) in calls(cache) {
        match outcome {
            Err(e) if wanted(&e) => {}
            other => panic!("{call}: {other:?}"),
        }
    }
}

fn invalid(of: &'static str) -> impl Fn(&Error) -> bool {
    move |e| {
        let named = e.to_string().contains(r#"cache "profiles" of worker "w""#);
        named && matches!(e, Error::Invalid { what, .. } if *what == of)
    }
}

#[test]
fn a_capacity_of_zero() {
    let store = Store::in_memory();
    let cache = profiles(&store).capacity(5);
    cache.insert("a", 1).unwrap();
    refused(&cache.clone().capacity(0), invalid("capacity"));
    // The handle is of no use; the cache is as it was.
    assert_eq!(keys(&cache), ["a"]);
    assert_eq!(cache.stats().unwrap().capacity, 5);
    let mended = cache.capacity(0).capacity(7);
    assert_eq!(mended.stats().unwrap().capacity, 7);
}

#[test]
fn a_capacity_without_end() {
    let cache = profiles(&Store::in_memory()).capacity(u64::MAX);
    cache.insert("a", 1).unwrap();
    assert_eq!(keys(&cache), ["a"]);
    let cache = cache.capacity(usize::MAX as u64);
    cache.insert("b", 1).unwrap();
    assert_eq!(keys(&cache), ["a", "b"]);
}

#[test]
fn a_ttl_of_zero() {
    let cache = profiles(&Store::in_memory());
    refused(&cache.clone().ttl(Duration::ZERO), invalid("ttl"));
    let mended = cache.ttl(Duration::ZERO).ttl(Duration::from_secs(1));
    mended.insert("a", 1).unwrap();
}

#[test]
fn a_ttl_of_centuries_and_one_beyond_the_end_of_time() {
    let rig = Rig::new();
    let store = rig.open();
    let cache = profiles(&store);
    let centuries = Duration::from_secs(300 * 365 * 24 * 60 * 60);
    let shortest = Duration::from_nanos(1);
    for (key, ttl) in [
        ("centuries", centuries),
        ("overflowing", Duration::MAX),
        ("u64", Duration::from_secs(u64::MAX)),
        ("shortest", shortest),
    ] {
        cache.clone().ttl(ttl).insert(key, 1).unwrap();
    }
    rig.advance(100 * 365 * 24 * 60 * 60);
    assert_eq!(keys(&cache), ["centuries", "overflowing", "u64"]);
    rig.advance(201 * 365 * 24 * 60 * 60);
    assert_eq!(keys(&cache), ["overflowing", "u64"]);
}

#[test]
fn names_and_scopes_that_cannot_be() {
    let store = Store::in_memory();
    let long = store.scope(worker()).cache("n".repeat(1025)).capacity(3);
    let too_long = |e: &Error| {
        matches!(
            e,
            Error::LimitExceeded {
                limit: "cache_name_bytes",
                max: 1024,
                actual: 1025,
                ..
            }
        )
    };
    refused(&long, too_long);
    let longest = store.scope(worker()).cache("n".repeat(1024));
    longest.insert("a", 1).unwrap();
    store.scope(worker()).cache("").insert("", 1).unwrap();
    let nowhere = store.scope(Scope::job("j".repeat(1025))).cache("c");
    refused(&nowhere, |e| {
        matches!(
            e,
            Error::LimitExceeded {
                limit: "scope_component_bytes",
                ..
            }
        )
    });
    let no_steps = store.scope(Scope::job("j")).step("s").cache("c");
    refused(&no_steps, |e| {
        matches!(e, Error::Invalid { what: "scope", .. })
    });
    // The longest scope that there is has caches too.
    let longest = Scope::step("\0".repeat(1024), "\0".repeat(1021));
    let cache = store.scope(longest).cache("\0".repeat(1024));
    cache.insert("k".repeat(4096), 1).unwrap();
    assert_eq!(cache.len().unwrap(), 1);
}

#[test]
fn in_a_transaction_and_after_the_end() {
    let store = Store::in_memory();
    let cache = profiles(&store);
    store
        .transact(|_| {
            refused(&cache, |e| matches!(e, Error::Nested));
            Ok(())
        })
        .unwrap();
    store.close().unwrap();
    refused(&cache, |e| matches!(e, Error::Closed));
    refused(&profiles(&store), |e| matches!(e, Error::Closed));
}
