//! Bad input: folders that are no stores, stores of later versions, limits, values
//! that are no values, closed stores. Each is a typed error, and nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel::testing::{FolderBackend, SimDisk};
use evenkeel::{Builder, Commit, Durability, Error, Limits, Scope, Store, Version};
use serde::{Serialize, Serializer};
use serde_json::json;

/// The bytes of every file below a folder, by path.
fn bytes_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => {
                    found.insert(path.clone(), Vec::new());
                    open.push(path);
                }
                false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

fn on(disk: &SimDisk) -> Builder {
    let vfs = Arc::new(disk.clone());
    let image = Arc::new(FolderBackend::new(vfs.clone()));
    Store::builder().vfs(vfs).image(image).background(false).segment_bytes(8192, 65_536)
}

/// A small store with a snapshot and a log behind it, closed.
fn closed_store(path: &Path) {
    let store = Store::open(path).unwrap();
    store.global().set("a", 1).unwrap();
    store.checkpoint().unwrap();
    store.snapshot().unwrap();
    store.scope(Scope::job("j")).set("b", "two").unwrap();
    store.close().unwrap();
}

fn check_closed_store(path: &Path) {
    let store = Store::open(path).unwrap();
    assert_eq!(store.global().get::<u32>("a").unwrap(), Some(1));
    assert_eq!(store.scope(Scope::job("j")).get::<String>("b").unwrap().as_deref(), Some("two"));
    assert_eq!(store.scopes().unwrap().len(), 2);
}

#[test]
fn a_folder_of_somebody_else_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    fs::create_dir(folder.path().join("wal")).unwrap();
    fs::write(folder.path().join("wal/thing"), "mine").unwrap();
    let before = bytes_below(folder.path());
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::NotAStore { path, .. } if path == folder.path()), "{error}");
    assert_eq!(bytes_below(folder.path()), before);
}

#[test]
fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "hello").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(&error, Error::NotAStore { path: at, .. } if *at == path), "{error}");
    let error = Store::open(path.join("below")).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::NotAStore { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).unwrap();
    let error = Store::open(&dangling).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::NotAStore { .. }), "{error}");
}

#[test]
fn fault_25_a_second_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = Store::open(&path).unwrap();
    store.global().set("a", 1).unwrap();
    let clone = store.clone();
    let handle = store.global();
    drop(store);
    let refused = |by: &str| {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(&error, Error::Locked { path: at } if *at == path), "{by}: {error}");
    };
    refused("a clone");
    drop(clone);
    refused("a handle");
    drop(handle);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.global().get::<u32>("a").unwrap(), Some(1));
    let by_another_name = folder.path().join("alias");
    std::os::unix::fs::symlink(&path, &by_another_name).unwrap();
    let error = Store::open(&by_another_name).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

const CHILD: &str = "EVENKEEL_TEST_CHILD";

/// Not a test of its own: holds the store that the environment names until it is
/// killed.
#[test]
fn child_that_holds_a_store() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let store = Store::open(path).unwrap();
    store.global().increment("child", 1).unwrap();
    // Ends with a line of its own, whatever the harness printed before.
    #[expect(clippy::print_stdout, reason = "the parent waits for it")]
    {
        println!("\nholding");
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn fault_25_a_second_process_is_refused_and_a_dead_one_leaves_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for round in 1..=3_i64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_holds_a_store", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let holding = lines.map_while(Result::ok).any(|line| line == "holding");
        assert!(holding, "the child ended early");
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.global().get::<i64>("child").unwrap(), Some(round));
        assert!(!store.recovery().closed_cleanly);
        store.close().unwrap();
    }
}

#[test]
fn fault_30_a_read_only_disk_acknowledges_nothing() {
    let disk = SimDisk::new(1);
    disk.set_read_only(true);
    let error = on(&disk).open("state").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(disk.files().is_empty());
    disk.set_read_only(false);
    let store = on(&disk).open("state").unwrap();
    store.global().set("a", 1).unwrap();
    disk.set_read_only(true);
    let error = store.global().set("a", 2).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::Poisoned { .. }), "{error}");
    let error = store.global().set("a", 3).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::Poisoned { .. }), "{error}");
    assert!(store.close().is_err());
    drop(store);
    let error = on(&disk).open("state").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    disk.set_read_only(false);
    let store = on(&disk).open("state").unwrap();
    let a = store.global().get::<u32>("a").unwrap();
    assert_eq!(a, Some(1), "what was not acknowledged was not written either");
    store.global().set("a", 4).unwrap();
}

/// Linux lets an open file be used when its name is gone, so a process cannot tell
/// by its writes. The log asks after each sync whether its file still has a name.
#[test]
fn fault_30_a_folder_that_vanishes_acknowledges_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = Store::open(&path).unwrap();
    store.global().set("a", 1).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let error = store.global().set("a", 2).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. } | Error::Io { .. }), "{error}");
    for _ in 0..3 {
        let error = store.global().set("a", 3).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert!(store.checkpoint().is_err() && store.snapshot().is_err());
        assert!(store.barrier().is_err() && store.verify().is_err());
    }
    assert!(store.close().is_err());
    assert!(matches!(store.global().set("a", 3), Err(Error::Closed)));
    drop(store);
    let store = Store::open(&path).unwrap();
    assert!(store.global().is_empty().unwrap(), "a new store, for the old one is gone");
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
    refused(scope.compare_and_set("new", Version::ZERO, order()).map(drop));
    refused(store.transact(|tx| tx.global().set("order", order())));
    assert_eq!(scope.get::<u32>("order").unwrap(), Some(1));
    assert_eq!(scope.len().unwrap(), 1);
}

#[test]
fn no_number_is_lost() {
    let disk = SimDisk::new(1);
    let floats = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE / 4.0];
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
    scope.set("config", json!({"items": [{"price": "a lot"}]})).unwrap();
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
        Error::TypeMismatch { scope, key, path, .. } => {
            assert!(scope.contains("order-42"), "{scope}");
            assert_eq!((key.as_str(), path.as_str()), ("config", ".items[0].price"));
        }
        other => panic!("{other}"),
    }
    scope.set("text", "t").unwrap();
    for error in [
        scope.get::<u32>("text").map(drop).unwrap_err(),
        scope.increment("text", 1).map(drop).unwrap_err(),
        scope.update("text", |n: Option<u32>| n.unwrap_or(0)).map(drop).unwrap_err(),
        store.transact(|tx| tx.scope(Scope::workflow("order-42")).increment("text", 1)).map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, Error::TypeMismatch { .. }), "{error}");
    }
    assert_eq!(scope.get::<String>("text").unwrap().as_deref(), Some("t"));
    scope.set("big", i64::MAX).unwrap();
    assert!(matches!(scope.increment("big", 1), Err(Error::LimitExceeded { .. })));
    assert_eq!(scope.get::<i64>("big").unwrap(), Some(i64::MAX));
    scope.set("small", 300).unwrap();
    assert!(matches!(scope.get::<u8>("small"), Err(Error::TypeMismatch { .. })));
}

fn every_method_says_closed(store: &Store, scan: Option<evenkeel::Scan>, commit: &Commit) {
    let scope = store.global();
    let closed = |what: &str, result: evenkeel::Result<()>| {
        assert!(matches!(result, Err(Error::Closed)), "{what}: {result:?}");
    };
    closed("get", scope.get::<u32>("a").map(drop));
    closed("get_versioned", scope.get_versioned::<u32>("a").map(drop));
    closed("contains", scope.contains("a").map(drop));
    closed("set", scope.set("a", 1));
    closed("delete", scope.delete("a"));
    closed("clear", scope.clear());
    closed("increment", scope.increment("a", 1).map(drop));
    closed("merge", scope.merge("a", json!({})));
    closed("compare_and_set", scope.compare_and_set("a", Version::ZERO, 1).map(drop));
    closed("update", scope.update("a", |n: Option<u32>| n.unwrap_or(0)).map(drop));
    closed("scan", scope.scan("").map(drop));
    closed("keys", scope.keys().map(drop));
    closed("len", scope.len().map(drop));
    closed("is_empty", scope.is_empty().map(drop));
    closed("bytes", scope.bytes().map(drop));
    closed("transact", store.transact(|_| Ok(())));
    closed("submit", store.submit(|_| Ok(())).map(drop));
    closed("scopes", store.scopes().map(drop));
    closed("barrier", store.barrier());
    closed("checkpoint", store.checkpoint().map(drop));
    closed("snapshot", store.snapshot().map(drop));
    closed("verify", store.verify().map(drop));
    closed("stats", store.stats().map(drop));
    closed("persist", store.persist("/nowhere/at/all").map(drop));
    if let Some(scan) = scan {
        let mut errors = scan.filter_map(Result::err);
        assert!(matches!(errors.next(), Some(Error::Closed)), "a scan that was open");
        assert!(errors.next().is_none());
    }
    commit.wait().unwrap();
    store.close().unwrap();
}

#[test]
fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for store in [Store::in_memory(), Store::open(&path).unwrap()] {
        for i in 0..2000 {
            let scope = store.with_durability(Durability::Memory).global();
            scope.set(format!("k{i:04}"), "x".repeat(100)).unwrap();
        }
        store.checkpoint().unwrap();
        let (_, commit) = store.submit(|tx| tx.global().set("last", 1)).unwrap();
        let (clone, handle, mut scan) = (store.clone(), store.global(), store.global().scan("").unwrap());
        assert_eq!(scan.next().unwrap().unwrap().key(), "k0000");
        store.close().unwrap();
        store.close().unwrap();
        every_method_says_closed(&store, Some(scan), &commit);
        every_method_says_closed(&clone, None, &commit);
        assert!(matches!(handle.get::<u32>("a"), Err(Error::Closed)));
        assert!(matches!(handle.step("x").set("a", 1), Err(Error::Closed)));
        let _ = (store.recovery(), store.path());
    }
    let store = Store::open(&path).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(store.global().len().unwrap(), 2001);
}

#[test]
fn closing_inside_a_transaction_is_refused() {
    let store = Store::in_memory();
    let result = store.transact(|_| store.close());
    assert!(matches!(result, Err(Error::Nested)), "{result:?}");
    store.global().set("a", 1).unwrap();
}

/// The limit that a call went over, what it would have needed, and the limit.
fn exceeded<T: std::fmt::Debug>(result: evenkeel::Result<T>) -> (&'static str, u64, u64) {
    match result {
        Err(Error::LimitExceeded { limit, max, actual, at }) => {
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
    assert_eq!(exceeded(scope.set("0123456789abcdefg", 1)), ("key_bytes", 16, 17));
    assert_eq!(exceeded(scope.set("ééééééééx", 1)), ("key_bytes", 16, 17));
    assert_eq!(exceeded(scope.increment("0123456789abcdefg", 1)).0, "key_bytes");
    assert_eq!(exceeded(store.transact(|tx| tx.global().set("0123456789abcdefg", 1))).0, "key_bytes");
    assert_eq!(exceeded(scope.set("v", "x".repeat(1001))).0, "value_bytes");
    assert_eq!(exceeded(scope.merge("v", json!({"x": "x".repeat(1001)}))).0, "value_bytes");
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
        assert!(matches!(handle.set("a", 1), Err(Error::LimitExceeded { .. } | Error::Invalid { .. })));
        assert!(store.transact(|tx| tx.scope(scope.clone()).set("a", 1)).is_err());
    }
    assert!(matches!(store.global().step("x").set("a", 1), Err(Error::Invalid { .. })));
    store.scope(Scope::workflow("x".repeat(1024))).set("a", 1).unwrap();
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
            on(&disk).limits(limits(|limits| limits.scope_keys = KEYS)).open("state").unwrap()
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
            assert_eq!(exceeded(scope.set("more", 1)), ("scope_keys", KEYS, KEYS + 1));
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
    let store = Store::builder().limits(limits(|limits| limits.scope_keys = 2)).in_memory().unwrap();
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
    assert_eq!(exceeded(scope.set("k00000", "y".repeat(290))).0, "scope_bytes");
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
    let store = on(&disk).limits(full).durability(Durability::Memory).open("state").unwrap();
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

/// Files whose format is a `u32` at 12 behind a CRC32 at 8, and the end of what that
/// covers (see the grammars above their encoders).
fn formats(path: &Path) -> Vec<(PathBuf, usize)> {
    let only = |folder: &str| {
        let mut files: Vec<_> =
            fs::read_dir(path.join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let mut files = vec![
        (path.join("FORMAT"), 64),
        (path.join("MANIFEST"), usize::MAX),
        (path.join("marks"), 512),
    ];
    files.extend(only("wal").into_iter().map(|file| (file, 4096)));
    files.extend(only("snapshots").into_iter().map(|file| (file, 72)));
    files
}

#[test]
fn fault_29_a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    closed_store(&path);
    let files = formats(&path);
    assert!(files.len() == 5, "{files:?}");
    for (file, covered) in files {
        let good = fs::read(&file).unwrap();
        let mut newer = good.clone();
        let end = covered.min(newer.len());
        newer[12..16].copy_from_slice(&7_u32.to_le_bytes());
        let crc = crc32fast::hash(&newer[12..end]);
        newer[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(&file, &newer).unwrap();
        let before = bytes_below(&path);
        let salvage = Store::builder().salvage(evenkeel::Salvage::CutLog);
        for error in [Store::open(&path).unwrap_err(), salvage.open(&path).unwrap_err()] {
            match error {
                Error::NewerFormat { path, found, supported } => {
                    assert_eq!((path.as_path(), found, supported), (file.as_path(), 7, 1));
                }
                other => panic!("{}: {other}", file.display()),
            }
        }
        assert!(bytes_below(&path) == before, "{} was not left alone", file.display());
        fs::write(&file, &good).unwrap();
    }
    check_closed_store(&path);
}

#[test]
fn an_empty_or_cut_file_is_noticed_whichever_it_is() {
    for len in [0, 1, 11, 40] {
        for which in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            closed_store(&path);
            let (file, _) = formats(&path).swap_remove(which);
            let good = fs::read(&file).unwrap();
            fs::write(&file, &good[..len]).unwrap();
            match Store::open(&path) {
                Ok(store) => {
                    assert!(!store.recovery().is_clean(), "{} cut to {len}", file.display());
                    store.close().unwrap();
                }
                Err(error) => {
                    let named = |path: &Path| file.starts_with(path);
                    assert!(matches!(&error, Error::Corrupt(damage) if named(&damage.path)), "{error}");
                    fs::write(&file, &good).unwrap();
                }
            }
            check_closed_store(&path);
        }
    }
}
