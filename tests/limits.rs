//! Values and limits: what is no value, what does not match, and what is too much
//! is a typed error before anything is written, and nothing is lost.

#![expect(clippy::panic, reason = "this is how a test fails")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel::testing::SimDisk;
use evenkeel::{Builder, Durability, Error, Limits, Scope, Store, Version};
use serde::{Serialize, Serializer};
use serde_json::json;

fn on(disk: &SimDisk) -> Builder {
    disk.store_builder().segment_bytes(8192, 65_536)
}

struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a socket is not state"))
    }
}

#[test]
fn a_value_that_does_not_serialise_is_refused_by_its_path() {
    #[derive(Serialize)]
    struct Order {
        items: Vec<BTreeMap<&'static str, Refuses>>,
    }
    let order = || Order {
        items: vec![BTreeMap::new(), BTreeMap::from([("socket", Refuses)])],
    };
    let store = Store::in_memory();
    let scope = store.global();
    scope.set("order", 1).unwrap();
    let refused = |result: evenkeel::Result<()>| match result.unwrap_err() {
        Error::Serialize { path, reason } => {
            assert_eq!(path, ".items[1].socket");
            assert!(reason.contains("a socket is not state"), "{reason}");
        }
        other => panic!("{other}"),
    };
    refused(scope.set("order", order()));
    refused(scope.merge("order", order()));
    refused(
        scope
            .compare_and_set("new", Version::ZERO, order())
            .map(drop),
    );
    refused(store.transact(|tx| tx.global().set("order", order())));
    assert_eq!(scope.get::<u32>("order").unwrap(), Some(1));
    assert_eq!(scope.len().unwrap(), 1);
}

#[test]
fn no_number_is_lost() {
    let disk = SimDisk::new(1);
    let floats = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE / 4.0,
    ];
    let check = |store: &Store| {
        let found: Vec<f64> = store.global().get("f64").unwrap().unwrap();
        let bits = |floats: &[f64]| floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&floats));
        assert!(store.global().get::<f32>("f32").unwrap().unwrap().is_nan());
        assert_eq!(store.global().get::<u64>("u64").unwrap(), Some(u64::MAX));
        assert_eq!(store.global().get::<i64>("i64").unwrap(), Some(i64::MIN));
        assert!(!store.global().contains("wide").unwrap());
    };
    let store = on(&disk).open("state").unwrap();
    store.global().set("f64", floats).unwrap();
    store.global().set("f32", f32::NAN).unwrap();
    store.global().set("i64", i64::MIN).unwrap();
    let wide = store.global().set("wide", (1, u128::MAX));
    assert!(matches!(wide, Err(Error::Serialize { .. })), "{wide:?}");
    store.global().set("u64", u64::MAX).unwrap();
    check(&store);
    store.close().unwrap();
    check(&on(&disk).open("state").unwrap());
}

#[test]
fn a_type_that_does_not_match_is_named_and_stays() {
    let store = Store::in_memory();
    let scope = store.scope(Scope::workflow("order-42"));
    scope
        .set("config", json!({"items": [{"price": "a lot"}]}))
        .unwrap();
    #[derive(Debug, serde::Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "it is never read")]
        price: f64,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Config {
        #[expect(dead_code, reason = "it is never read")]
        items: Vec<Item>,
    }
    match scope.get::<Config>("config").unwrap_err() {
        Error::TypeMismatch {
            scope, key, path, ..
        } => {
            assert!(scope.contains("order-42"), "{scope}");
            assert_eq!((key.as_str(), path.as_str()), ("config", ".items[0].price"));
        }
        other => panic!("{other}"),
    }
    scope.set("text", "t").unwrap();
    for error in [
        scope.get::<u32>("text").map(drop).unwrap_err(),
        scope.increment("text", 1).map(drop).unwrap_err(),
        scope
            .update("text", |n: Option<u32>| n.unwrap_or(0))
            .map(drop)
            .unwrap_err(),
        store
            .transact(|tx| tx.scope(Scope::workflow("order-42")).increment("text", 1))
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(error, Error::TypeMismatch { .. }), "{error}");
    }
    assert_eq!(scope.get::<String>("text").unwrap().as_deref(), Some("t"));
    scope.set("big", i64::MAX).unwrap();
    assert!(matches!(
        scope.increment("big", 1),
        Err(Error::LimitExceeded { .. })
    ));
    assert_eq!(scope.get::<i64>("big").unwrap(), Some(i64::MAX));
    scope.set("small", 300).unwrap();
    assert!(matches!(
        scope.get::<u8>("small"),
        Err(Error::TypeMismatch { .. })
    ));
}

/// The limit that a call went over, what it would have needed, and the limit.
fn exceeded<T: std::fmt::Debug>(result: evenkeel::Result<T>) -> (&'static str, u64, u64) {
    match result {
        Err(Error::LimitExceeded {
            limit,
            max,
            actual,
            at,
        }) => {
            assert!(!at.is_empty());
            (limit, max, actual)
        }
        other => panic!("{other:?}"),
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_written() {
    let small = limits(|limits| {
        limits.value_bytes = 1000;
        limits.value_depth = 8;
        limits.key_bytes = 16;
        limits.transaction_bytes = 4000;
    });
    let disk = SimDisk::new(1);
    let store = on(&disk).limits(small).open("state").unwrap();
    let scope = store.global();
    scope.set("0123456789abcdef", 1).unwrap();
    assert_eq!(
        exceeded(scope.set("0123456789abcdefg", 1)),
        ("key_bytes", 16, 17)
    );
    assert_eq!(exceeded(scope.set("ééééééééx", 1)), ("key_bytes", 16, 17));
    assert_eq!(
        exceeded(scope.increment("0123456789abcdefg", 1)).0,
        "key_bytes"
    );
    assert_eq!(
        exceeded(store.transact(|tx| tx.global().set("0123456789abcdefg", 1))).0,
        "key_bytes"
    );
    assert_eq!(exceeded(scope.set("v", "x".repeat(1001))).0, "value_bytes");
    assert_eq!(
        exceeded(scope.merge("v", json!({"x": "x".repeat(1001)}))).0,
        "value_bytes"
    );
    let mut deep = json!(1);
    for _ in 0..8 {
        deep = json!([deep]);
    }
    scope.set("deep", &deep).unwrap();
    assert_eq!(exceeded(scope.set("v", json!([deep]))).0, "value_depth");
    let many = |count: usize| {
        store.transact(|tx| {
            (0..count).try_for_each(|i| tx.global().set(format!("t{i}"), "x".repeat(900)))
        })
    };
    assert_eq!(exceeded(many(5)).0, "transaction_bytes");
    assert!(!scope.contains("t0").unwrap(), "nothing of it was written");
    many(4).unwrap();
    for scope in [
        Scope::workflow("x".repeat(1025)),
        Scope::step("w", "é".repeat(513)),
        Scope::custom("x".repeat(100_000)),
    ] {
        let handle = store.scope(scope.clone());
        assert!(handle.set("a", 1).is_err() && handle.get::<u32>("a").is_err());
        assert!(matches!(
            handle.set("a", 1),
            Err(Error::LimitExceeded { .. } | Error::Invalid { .. })
        ));
        assert!(
            store
                .transact(|tx| tx.scope(scope.clone()).set("a", 1))
                .is_err()
        );
    }
    assert!(matches!(
        store.global().step("x").set("a", 1),
        Err(Error::Invalid { .. })
    ));
    store
        .scope(Scope::workflow("x".repeat(1024)))
        .set("a", 1)
        .unwrap();
    assert_eq!(scope.len().unwrap(), 6);
    store.close().unwrap();
    assert_eq!(on(&disk).open("state").unwrap().global().len().unwrap(), 6);
}

#[test]
fn a_scope_takes_exactly_its_keys() {
    const KEYS: u64 = 20;
    for checkpoints in [false, true] {
        let disk = SimDisk::new(1);
        let open = || {
            on(&disk)
                .limits(limits(|limits| limits.scope_keys = KEYS))
                .open("state")
                .unwrap()
        };
        let between = |store: &Store| {
            if checkpoints {
                store.checkpoint().unwrap();
            }
        };
        let mut store = open();
        for round in 0..3 {
            let scope = store.scope(Scope::worker("w"));
            for i in 0..KEYS {
                scope.set(format!("k{i}"), round).unwrap();
                between(&store);
            }
            assert_eq!(
                exceeded(scope.set("more", 1)),
                ("scope_keys", KEYS, KEYS + 1)
            );
            assert_eq!(exceeded(scope.increment("more", 1)).0, "scope_keys");
            let two = store.transact(|tx| {
                tx.scope(Scope::worker("w")).delete("k0")?;
                tx.scope(Scope::worker("w")).set("more", 1)?;
                tx.scope(Scope::worker("w")).set("still more", 1)
            });
            assert_eq!(exceeded(two), ("scope_keys", KEYS, KEYS + 1));
            scope.set("k1", "written over").unwrap();
            scope.increment("k2", 1).unwrap();
            between(&store);
            store.scope(Scope::worker("w2")).set("other", 1).unwrap();
            scope.delete("k7").unwrap();
            between(&store);
            scope.set("more", 1).unwrap();
            assert_eq!(exceeded(scope.set("k7", 1)).0, "scope_keys");
            store
                .transact(|tx| {
                    tx.scope(Scope::worker("w")).delete("more")?;
                    tx.scope(Scope::worker("w")).set("k7", 1)
                })
                .unwrap();
            assert_eq!(scope.len().unwrap(), KEYS);
            if round == 1 {
                scope.clear().unwrap();
            }
            store.close().unwrap();
            store = open();
        }
    }
}

#[test]
fn two_full_scopes_can_be_written_over_in_one_transaction() {
    let store = Store::builder()
        .limits(limits(|limits| limits.scope_keys = 2))
        .in_memory()
        .unwrap();
    let (a, b) = (Scope::custom("a"), Scope::custom("b"));
    for scope in [&a, &b] {
        store.scope(scope.clone()).set("1", 0).unwrap();
        store.scope(scope.clone()).set("2", 0).unwrap();
    }
    let both = |key: &'static str| {
        store.transact(|tx| {
            tx.scope(a.clone()).set(key, 1)?;
            tx.scope(b.clone()).set(key, 1)
        })
    };
    both("1").unwrap();
    assert_eq!(exceeded(both("3")), ("scope_keys", 2, 3));
    assert_eq!(store.scope(b.clone()).get::<u32>("1").unwrap(), Some(1));
}

#[test]
fn a_scope_takes_exactly_its_bytes() {
    let disk = SimDisk::new(1);
    let full = limits(|limits| limits.scope_bytes = 2000);
    let store = on(&disk).limits(full).open("state").unwrap();
    let scope = store.scope(Scope::job("j"));
    let mut before = 0;
    let refusal = loop {
        let key = format!("k{before:05}");
        match scope.set(&key, "x".repeat(90)) {
            Ok(()) => before = scope.bytes().unwrap(),
            refused => break exceeded(refused),
        }
    };
    let each = before / scope.len().unwrap();
    assert_eq!(refusal, ("scope_bytes", 2000, before + each));
    assert!(before <= 2000 && before + each > 2000);
    scope.set("k00000", "y".repeat(90)).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(
        exceeded(scope.set("k00000", "y".repeat(290))).0,
        "scope_bytes"
    );
    scope.set("k00000", "short").unwrap();
    scope.delete("k00000").unwrap();
    assert_eq!(scope.bytes().unwrap(), before - each);
    scope.set("kXXXXX", "x".repeat(90)).unwrap();
    assert_eq!(scope.bytes().unwrap(), before);
}

#[test]
fn eight_threads_fill_a_scope_exactly() {
    const KEYS: u64 = 100;
    let disk = SimDisk::new(1);
    let full = limits(|limits| limits.scope_keys = KEYS);
    let store = on(&disk)
        .limits(full)
        .durability(Durability::Memory)
        .open("state")
        .unwrap();
    let accepted = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for thread in 0..8 {
            let (store, accepted) = (&store, &accepted);
            threads.spawn(move || {
                let scope = store.scope(Scope::custom("full"));
                for i in 0..40 {
                    match scope.set(format!("{thread}-{i}"), i) {
                        Ok(()) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                        refused => assert_eq!(exceeded(refused).0, "scope_keys"),
                    }
                    if i % 16 == 0 {
                        store.checkpoint().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(accepted.into_inner(), KEYS);
    assert_eq!(store.scope(Scope::custom("full")).len().unwrap(), KEYS);
}

#[test]
fn limits_out_of_bounds_are_refused_before_a_folder_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let builder = Store::builder;
    for builder in [
        builder().limits(limits(|limits| limits.value_bytes = 0)),
        builder().limits(limits(|limits| limits.value_bytes = 129 << 20)),
        builder().limits(limits(|limits| limits.value_depth = 257)),
        builder().limits(limits(|limits| limits.key_bytes = 65_537)),
        builder().limits(limits(|limits| limits.transaction_bytes = 193 << 20)),
        builder().limits(limits(|limits| limits.transaction_attempts = 0)),
        builder().segment_bytes(4096, 65_536),
        builder().segment_bytes(65_536, 8192),
        builder().block_bytes(100),
        builder().block_bytes(65_537),
        builder().memtable_bytes(1),
    ] {
        let error = builder.clone().open(&path).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        assert!(matches!(builder.in_memory(), Err(Error::Invalid { .. })));
        assert!(!path.exists());
    }
}

#[test]
fn scopes_that_were_only_looked_at_cost_no_memory() {
    let store = Store::in_memory();
    for i in 0..50_000 {
        let scope = store.scope(Scope::job(format!("absent-{i}")));
        assert_eq!(scope.get::<u32>("x").unwrap(), None);
    }
    let held = store.stats().unwrap().scopes_in_memory;
    assert!(held < 10_000, "{held} scopes are held for nothing");
}

#[test]
fn scopes_that_were_cleared_make_room_again() {
    let disk = SimDisk::new(1);
    let store = on(&disk).memtable_bytes(256 * 1024).open("s").unwrap();
    let store = store.with_durability(Durability::Memory);
    for round in 0..10 {
        for i in 0..1_000 {
            let scope = store.scope(Scope::job(format!("{round}-{i}")));
            scope.set("x", 1).unwrap();
            scope.clear().unwrap();
        }
    }
    store.checkpoint().unwrap();
    let stats = store.stats().unwrap();
    assert!(stats.checkpoints > 1, "what scopes cost is not counted");
    assert!(stats.scopes_in_memory < 5_000, "{stats:?}");
    assert!(store.scopes().unwrap().is_empty());
}
