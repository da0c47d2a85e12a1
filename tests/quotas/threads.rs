//! Sixteen threads at one quota: never more than it, no refusal while there is room, and
//! a change that counts from its commit on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use evenkeel::{Durability, Error, Quota, ScopeHandle, SetOptions, Store};

use crate::parts::{Rig, job, recount};

const THREADS: u64 = 16;

/// In memory, and on a disk with checkpoints in between.
fn stores() -> [(Rig, Store); 2] {
    let (first, second) = (Rig::new(), Rig::new());
    let memory = first.builder().in_memory().unwrap();
    let disk = second.open().with_durability(Durability::Memory);
    [(first, memory), (second, disk)]
}

/// Looks again and again, beside others.
fn never_more(store: &Store, scope: &ScopeHandle, times: u32) {
    for time in 0..times {
        let usage = scope.usage().unwrap();
        let over = usage.keys > usage.keys_max || usage.bytes > usage.bytes_max;
        assert!(!over && !usage.quarantined, "{usage:?}");
        if time % 8 == 0 {
            store.checkpoint().unwrap();
        }
    }
}

#[test]
fn they_fill_a_scope_exactly() {
    const KEYS: u64 = 1500;
    for (_rig, store) in stores() {
        let scope = job(&store, "a");
        scope.set_quota(Quota::new().keys(KEYS)).unwrap();
        let accepted = AtomicU64::new(0);
        thread::scope(|threads| {
            threads.spawn(|| never_more(&store, &scope, 60));
            for thread in 0..THREADS {
                let (scope, accepted) = (&scope, &accepted);
                threads.spawn(move || {
                    let mut refused = 0;
                    for n in 0.. {
                        match scope.set(format!("{thread}-{n}"), n) {
                            Ok(()) => drop(accepted.fetch_add(1, Ordering::Relaxed)),
                            Err(Error::LimitExceeded {
                                max: KEYS, actual, ..
                            }) => {
                                assert_eq!(actual, KEYS + 1);
                                // Nobody deletes, so it is full from now on.
                                assert_eq!(scope.len().unwrap(), KEYS);
                                refused += 1;
                            }
                            Err(e) => panic!("{e}"),
                        }
                        if refused == 20 {
                            break;
                        }
                    }
                });
            }
        });
        assert_eq!(accepted.into_inner(), KEYS);
        assert_eq!(recount(&store, scope.scope()).0, KEYS);
    }
}

/// Each thread has room for its own keys, so no write of theirs may be refused, though
/// the scope is full again and again.
#[test]
fn who_makes_room_gets_it() {
    const EACH: u64 = 8;
    for (_rig, store) in stores() {
        let scope = job(&store, "a");
        scope.set_quota(Quota::new().keys(EACH * THREADS)).unwrap();
        thread::scope(|threads| {
            threads.spawn(|| never_more(&store, &scope, 60));
            for thread in 0..THREADS {
                let (scope, store) = (&scope, &store);
                threads.spawn(move || {
                    let key = |n: u64| format!("{thread}-{}", n % (EACH * 3));
                    for n in 0..EACH {
                        scope.set(key(n), n).unwrap();
                    }
                    for n in EACH..250 {
                        match n % 3 {
                            0 => {
                                scope.delete(key(n - EACH)).unwrap();
                                scope.set(key(n), n).unwrap();
                            }
                            1 => store
                                .transact(|tx| {
                                    let tx = tx.scope(scope.scope().clone());
                                    tx.set(key(n), n)?;
                                    tx.delete(key(n - EACH))
                                })
                                .unwrap(),
                            _ => {
                                scope.delete(key(n - EACH)).unwrap();
                                scope.increment(key(n), 1).unwrap();
                            }
                        }
                        scope.set(key(n), "written over").unwrap();
                    }
                });
            }
        });
        assert_eq!(recount(&store, scope.scope()).0, EACH * THREADS);
        assert!(scope.set("more", 1).is_err());
    }
}

/// While a large scope is counted again and again, others go on in it, and what they do
/// meanwhile is in the figures.
#[test]
fn what_is_written_during_a_count_is_counted() {
    const STILL: u64 = 5_000;
    const TICKS: u64 = 20;
    for (rig, store) in stores() {
        let scope = job(&store, "a");
        for n in 0..STILL {
            scope.set(format!("still{n}"), n).unwrap();
        }
        scope.set_quota(Quota::new().keys(STILL + 4 + 1)).unwrap();
        let (ticks, turns) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|threads| {
            let (scope, ticks, turns) = (&scope, &ticks, &turns);
            for thread in 0..4 {
                threads.spawn(move || {
                    // There is room for one of each thread.
                    for n in 0..1_000_000 {
                        let key = format!("{thread}-{}", n % 8);
                        scope.set(&key, n).unwrap();
                        if ticks.load(Ordering::Relaxed) == TICKS {
                            break;
                        }
                        scope.delete(&key).unwrap();
                        turns.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for n in 0..TICKS {
                // It takes the last room until it expires; then it takes a count to see.
                let until = SetOptions::new().expires_at(rig.now() + 1);
                scope.set_with(format!("tick{n}"), n, until).unwrap();
                // The others go on by what was counted. Should they have failed, this ends.
                let enough = turns.load(Ordering::Relaxed) + 100;
                let there = || turns.load(Ordering::Relaxed) >= enough;
                for _ in 0..100_000 {
                    if there() {
                        break;
                    }
                    thread::yield_now();
                }
                rig.advance(2);
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let usage = scope.usage().unwrap();
        for n in usage.keys..usage.keys_max {
            scope.set(format!("rest{n}"), n).unwrap();
        }
        assert!(scope.set("more", 1).is_err());
        assert_eq!(recount(&store, scope.scope()).0, usage.keys_max);
    }
}

/// The same while things expire, and are removed meanwhile.
#[test]
fn what_expires_is_room_for_somebody() {
    const KEYS: u64 = 200;
    for (rig, store) in stores() {
        let scope = job(&store, "a");
        scope.set_quota(Quota::new().keys(KEYS)).unwrap();
        let now = rig.now();
        thread::scope(|threads| {
            threads.spawn(|| {
                for _ in 0..60 {
                    rig.advance(10);
                    never_more(&store, &scope, 2);
                    store.expire().unwrap();
                }
            });
            for thread in 0..THREADS {
                let scope = &scope;
                threads.spawn(move || {
                    for n in 0..150 {
                        let until = SetOptions::new().expires_at(now + n * 7);
                        match scope.set_with(format!("{thread}-{n}"), n, until) {
                            Ok(()) | Err(Error::LimitExceeded { max: KEYS, .. }) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
        });
        rig.advance(10_000);
        assert_eq!(scope.len().unwrap(), 0);
        let ttl = SetOptions::new().ttl(Duration::from_secs(1));
        for n in 0..KEYS {
            scope.set_with(format!("n{n}"), n, ttl).unwrap();
        }
        assert!(scope.set("more", 1).is_err());
        store.expire().unwrap();
        assert_eq!(recount(&store, scope.scope()).0, KEYS);
    }
}

/// Whoever commits behind a change is judged by it, while others write.
#[test]
fn a_change_counts_from_its_commit_on() {
    for (_rig, store) in stores() {
        let scope = job(&store, "a");
        thread::scope(|threads| {
            for thread in 0..THREADS {
                let scope = &scope;
                threads.spawn(move || {
                    for n in 0..300 {
                        match scope.set(format!("{thread}-{n}"), n) {
                            Ok(()) => {}
                            Err(Error::LimitExceeded { max, .. }) => assert_eq!(max, 0),
                            Err(Error::Quarantined { max, .. }) => assert_eq!(max, 0),
                            Err(e) => panic!("{e}"),
                        }
                    }
                });
            }
            for _ in 0..40 {
                scope.set_quota(Quota::new().keys(0)).unwrap();
                let held = scope.len().unwrap();
                store.checkpoint().unwrap();
                assert_eq!(scope.usage().unwrap().keys, held);
                assert_eq!(scope.usage().unwrap().quarantined, held > 0);
                scope.set_quota(None).unwrap();
            }
        });
        let held = scope.len().unwrap();
        scope.set_quota(Quota::new().keys(held + 1)).unwrap();
        scope.set("last", 1).unwrap();
        assert!(scope.set("more", 1).is_err());
    }
}
