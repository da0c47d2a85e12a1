//! Deleting is never refused for size, whichever limit it is.

use evenkeel::{Error, Quota, Store};

use crate::parts::{Rig, exceeded, job, limits};

#[test]
fn no_limit_is_too_small_for_a_delete() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = job(&store, "a");
    let key = |n: u32| format!("{n:0>1000}");
    for n in 0..40 {
        scope.set(key(n), n).unwrap();
    }
    store.close().unwrap();
    let store = rig.open_with(|limits| {
        limits.key_bytes = 10;
        limits.transaction_bytes = 100;
        limits.scope_keys = 1;
        limits.scope_bytes = 1;
    });
    let scope = job(&store, "a");
    scope.set_quota(Quota::new().keys(0).bytes(0)).unwrap();
    assert_eq!(exceeded(scope.set(key(1), 1)).0, "key_bytes");
    scope.delete(key(0)).unwrap();
    store
        .transact(|tx| (1..20).try_for_each(|n| tx.scope(scope.scope().clone()).delete(key(n))))
        .unwrap();
    assert_eq!(scope.len().unwrap(), 20);
    // There can be no such key, so it is not there.
    scope.delete("x".repeat(1 << 20)).unwrap();
    store
        .transact(|tx| tx.scope(scope.scope().clone()).delete("x".repeat(1 << 20)))
        .unwrap();
    scope.clear().unwrap();
    assert!(scope.is_empty().unwrap());
}

#[test]
fn a_store_without_a_folder_that_is_full_takes_deletes() {
    let full = limits(|limits| limits.memory_bytes = 100_000);
    let store = Store::builder().limits(full).in_memory().unwrap();
    let scope = job(&store, "a");
    let mut n = 0;
    let refused = loop {
        match scope.set(format!("{n}"), "x".repeat(1000)) {
            Ok(()) => n += 1,
            refused => break exceeded(refused),
        }
    };
    assert_eq!(refused.0, "memory_bytes");
    for n in 0..n {
        scope.delete(format!("{n}")).unwrap();
    }
    scope.set("again", "x".repeat(1000)).unwrap();
}

/// The log and the memtable have their bounds. They are a matter of time, not of what is
/// stored: far more is deleted here than either takes.
#[test]
fn deletes_go_on_where_log_and_memtable_are_small() {
    let rig = Rig::new();
    let small = rig
        .builder()
        .memtable_bytes(64 * 1024)
        .segment_bytes(8192, 16_384)
        .log_bytes_max(65_536)
        .snapshot_log_bytes(16_384);
    let store = small.open("/s").unwrap();
    let scope = job(&store, "a");
    let key = |n: u32| format!("{n:0>100}");
    for n in 0..3000 {
        scope.set(key(n), n).unwrap();
    }
    scope.set_quota(Quota::new().keys(0)).unwrap();
    for n in 0..3000 {
        scope.delete(key(n)).unwrap();
    }
    assert!(scope.is_empty().unwrap());
}

/// One commit is one frame of the log: that is the only bound for deletes.
#[test]
fn what_no_frame_can_hold_is_refused_before_anything_is_written() {
    let store = Store::in_memory();
    let scope = job(&store, "a");
    scope.set("k", 1).unwrap();
    let key = "x".repeat(60_000);
    let refused = store.transact(|tx| {
        let scope = tx.scope(scope.scope().clone());
        scope.delete("k")?;
        (0..5_000).try_for_each(|n| scope.delete(format!("{key}{n}")))
    });
    let found = matches!(
        &refused,
        Err(Error::LimitExceeded {
            limit: "commit_bytes",
            ..
        })
    );
    assert!(found, "{refused:?}");
    assert!(scope.contains("k").unwrap());
}
