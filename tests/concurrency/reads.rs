//! What a transaction relies on: whatever it read in whatever way, a commit of somebody
//! else that changes it before the transaction's own makes it run again, and a commit
//! beside it does not. In this order each time, so that no race has to be met.

use std::thread;

use evenkeel::testing::SimDisk;
use evenkeel::{Result, Scope, ScopeHandle, Store, TransactionScope, Value, Version};

use crate::on;
use crate::parts::watched;

type Look = fn(&TransactionScope<'_>) -> Result<()>;
type Change = fn(&ScopeHandle) -> Result<()>;

/// The scope holds `a` and `b1`. A way to read, and a change of what was read.
const RELIED_ON: &[(&str, Look, Change)] = &[
    ("a value", |s| get(s, "a"), |s| s.set("a", 2)),
    ("a value, deleted", |s| get(s, "a"), |s| s.delete("a")),
    ("a value, cleared", |s| get(s, "a"), ScopeHandle::clear),
    ("an absence", |s| get(s, "k"), |s| s.set("k", 1)),
    ("no key", |s| s.contains("k").map(drop), |s| s.set("k", 1)),
    (
        "no version",
        |s| s.get_versioned::<Value>("k").map(drop),
        |s| s.set("k", 1),
    ),
    (
        "nothing to replace",
        |s| s.compare_and_set("k", Version::ZERO, 1).or(Ok(())),
        |s| s.set("k", 1),
    ),
    (
        "nothing to add to",
        |s| s.increment("k", 1).map(drop),
        |s| s.set("k", 1),
    ),
    (
        "nothing to merge with",
        |s| s.merge("k", Value::from_iter([("x", 1)])),
        |s| s.set("k", 1),
    ),
    ("an empty range", |s| scan(s, "k"), |s| s.set("k1", 1)),
    (
        "the beginning of a range",
        |s| scan(s, "b"),
        |s| s.set("b", 1),
    ),
    ("the end of a range", |s| scan(s, "b"), |s| s.set("b9", 1)),
    ("a range, less", |s| scan(s, "b"), |s| s.delete("b1")),
    ("a range, cleared", |s| scan(s, "b"), ScopeHandle::clear),
    ("all keys", |s| s.keys().map(drop), |s| s.set("z", 1)),
    ("how many", |s| s.len().map(drop), |s| s.set("z", 1)),
    ("whether any", |s| s.is_empty().map(drop), |s| s.set("z", 1)),
];

/// What is beside it.
const NOT_RELIED_ON: &[(&str, Look, Change)] = &[
    ("another key", |s| get(s, "a"), |s| s.set("b1", 2)),
    ("a key that appears", |s| get(s, "a"), |s| s.set("k", 2)),
    ("before the range", |s| scan(s, "b"), |s| s.set("a", 2)),
    ("behind the range", |s| scan(s, "b"), |s| s.set("c", 2)),
    ("a write", |s| s.set("k", 1), |s| s.set("k", 2)),
];

fn get(scope: &TransactionScope<'_>, key: &str) -> Result<()> {
    scope.get::<Value>(key).map(drop)
}

fn scan(scope: &TransactionScope<'_>, prefix: &str) -> Result<()> {
    scope.scan(prefix)?.try_for_each(|entry| entry.map(drop))
}

/// How often the closure ran.
fn runs(store: &Store, scope: &Scope, look: Look, change: Change) -> u32 {
    let mut runs = 0;
    let made = store.transact(|tx| {
        runs += 1;
        look(&tx.scope(scope.clone()))?;
        if runs == 1 {
            let other = store.scope(scope.clone());
            thread::scope(|threads| threads.spawn(|| change(&other)).join().unwrap())?;
        }
        tx.scope(Scope::custom("done")).set(scope.to_string(), runs)
    });
    made.unwrap();
    runs
}

#[test]
fn promise_6_every_way_to_read_is_validated_and_nothing_else() {
    watched(|| {
        let disk = SimDisk::new(3);
        for (place, store) in [
            ("in memory", Store::in_memory()),
            ("in the image", on(&disk).open("state").unwrap()),
        ] {
            let all = RELIED_ON.iter().map(|case| (case, 2));
            let all = all.chain(NOT_RELIED_ON.iter().map(|case| (case, 1)));
            for (number, (&(name, look, change), expected)) in all.enumerate() {
                let scope = Scope::custom(format!("case {number}"));
                store.scope(scope.clone()).set("a", 1).unwrap();
                store.scope(scope.clone()).set("b1", 1).unwrap();
                store.checkpoint().unwrap();
                let runs = runs(&store, &scope, look, change);
                assert_eq!(runs, expected, "{name}, {place}");
            }
            store.close().unwrap();
        }
    });
}
