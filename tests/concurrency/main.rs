//! Many threads at once: nothing is lost, nobody sees half of anything, nobody
//! waits for what is not theirs. What has to wait is held up by gates and
//! channels, not by the clock.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod checker;
mod commits;
mod history;
mod parts;
mod reads;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use evenkeel::testing::{FolderBackend, Loss, Random, SimDisk};
use evenkeel::{Builder, Durability, Error, Result, Scope, Store, Transaction};

use crate::parts::{GatedDisk, Refusing, watched};

fn on(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .background(true)
        .segment_bytes(16 * 1024, 256 * 1024)
        .block_bytes(1024)
}

fn gated(disk: &GatedDisk) -> Builder {
    let image = Arc::new(FolderBackend::new(Arc::new(disk.disk.clone())));
    Store::builder().vfs(Arc::new(disk.clone())).image(image)
}

const ACCOUNTS: u64 = 20;
const EACH: i64 = 100;

fn accounts() -> Scope {
    Scope::custom("accounts")
}

fn transfer(store: &Store, random: &mut Random) -> Result<()> {
    let from = format!("{:02}", random.below(ACCOUNTS));
    let to = format!("{:02}", random.below(ACCOUNTS));
    let amount = random.below(50) as i64;
    store.transact(|tx| {
        let accounts = tx.scope(accounts());
        let left = accounts.get::<i64>(&from)?.unwrap() - amount;
        if left < 0 {
            return Err(Error::abort("not enough"));
        }
        accounts.set(&from, left)?;
        accounts.increment(&to, amount).map(drop)
    })
}

fn sums_hold(store: &Store) {
    let (mut sum, mut count) = (0, 0);
    for entry in store.scope(accounts()).scan("").unwrap() {
        match entry {
            Ok(entry) => {
                let value: i64 = entry.value().unwrap();
                assert!(value >= 0);
                (sum, count) = (sum + value, count + 1);
            }
            Err(Error::ViewExpired) => return,
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!((sum, count), (EACH * ACCOUNTS as i64, ACCOUNTS));
    let sum = store.transact(|tx| {
        let mut sum = 0;
        for entry in tx.scope(accounts()).scan("")? {
            sum += entry?.value::<i64>()?;
        }
        Ok(sum)
    });
    assert_eq!(sum.unwrap(), EACH * ACCOUNTS as i64);
}

#[test]
fn promise_6_sixteen_threads_transfer_and_every_view_adds_up() {
    watched(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk)
            .memtable_bytes(64 * 1024)
            .durability(Durability::Memory);
        let store = store.open("state").unwrap();
        for account in 0..ACCOUNTS {
            store
                .scope(accounts())
                .set(format!("{account:02}"), EACH)
                .unwrap();
        }
        let done = AtomicBool::new(false);
        thread::scope(|threads| {
            let mut writers = Vec::new();
            for seed in 0..16 {
                let store = &store;
                writers.push(threads.spawn(move || {
                    let mut random = Random::new(seed);
                    for _ in 0..2000 {
                        match transfer(store, &mut random) {
                            Ok(()) | Err(Error::Aborted(_)) => {}
                            Err(e) => panic!("{e}"),
                        }
                    }
                }));
            }
            let (store, done) = (&store, &done);
            let reader = threads.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    sums_hold(store);
                }
            });
            let checkpoints = threads.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    store.checkpoint().unwrap();
                }
            });
            let writers: Vec<_> = writers
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::SeqCst);
            reader.join().unwrap();
            checkpoints.join().unwrap();
            writers.into_iter().for_each(std::result::Result::unwrap);
        });
        sums_hold(&store);
        store.close().unwrap();
        sums_hold(&on(&disk).open("state").unwrap());
    });
}

/// A count that is taken away and begun anew all the time, with and without an image
/// below: what was taken and what is left is all that was counted.
#[test]
fn promise_6_nothing_is_counted_from_before_a_delete() {
    const EACH: i64 = 4000;
    watched(|| {
        let disk = SimDisk::new(1);
        let stores = [on(&disk).in_memory(), on(&disk).open("state")];
        for store in stores.map(|store| store.unwrap().with_durability(Durability::Memory)) {
            let take = || {
                let taken = store.transact(|tx| {
                    let count = tx.global().get::<i64>("count")?;
                    tx.global().delete("count")?;
                    Ok(count.unwrap_or(0))
                });
                taken.unwrap()
            };
            let taken: i64 = thread::scope(|threads| {
                let count = || {
                    let handle = store.global();
                    for _ in 0..EACH {
                        handle.increment("count", 1).unwrap();
                    }
                };
                let counters = [(); 4].map(|()| threads.spawn(count));
                let mut taken = 0;
                while counters.iter().any(|counter| !counter.is_finished()) {
                    taken += take();
                }
                taken
            });
            assert_eq!(taken + take(), 4 * EACH);
        }
    });
}

#[test]
fn promise_6_no_write_skew_and_no_phantoms() {
    watched(|| {
        let store = Store::in_memory();
        for round in 0..400 {
            let scope = Scope::custom(format!("round{round}"));
            store.scope(scope.clone()).set("a", 50).unwrap();
            store.scope(scope.clone()).set("b", 50).unwrap();
            let (start, leaders) = (Barrier::new(8), AtomicU64::new(0));
            thread::scope(|threads| {
                for thread in 0..8 {
                    let (store, scope) = (&store, &scope);
                    let (start, leaders) = (&start, &leaders);
                    threads.spawn(move || {
                        start.wait();
                        // Each may be overdrawn as long as both together are not.
                        let withdraw = |tx: &Transaction| {
                            let both = tx.scope(scope.clone());
                            let a: i64 = both.get("a")?.unwrap();
                            let b: i64 = both.get("b")?.unwrap();
                            if a + b >= 100 {
                                let (key, old) = if thread % 2 == 0 { ("a", a) } else { ("b", b) };
                                both.set(key, old - 100)?;
                            }
                            Ok(())
                        };
                        store.transact(withdraw).unwrap();
                        // At most three seats, and each thread wants its own.
                        let sit = |tx: &Transaction| {
                            let seats = tx.scope(scope.clone());
                            if seats.scan("seat")?.count() < 3 {
                                seats.set(format!("seat{thread}"), thread)?;
                            }
                            Ok(())
                        };
                        store.transact(sit).unwrap();
                        // One leader, by a key that is not there yet.
                        let lead = |tx: &Transaction| {
                            let seats = tx.scope(scope.clone());
                            let free = !seats.contains("leader")?;
                            if free {
                                seats.set("leader", thread)?;
                            }
                            Ok(free)
                        };
                        let leads = store.transact(lead).unwrap();
                        leaders.fetch_add(u64::from(leads), Ordering::SeqCst);
                    });
                }
            });
            let scope = store.scope(scope);
            let (a, b) = (
                scope.get::<i64>("a").unwrap().unwrap(),
                scope.get::<i64>("b").unwrap().unwrap(),
            );
            assert_eq!(a + b, 0, "round {round}: {a} and {b}");
            assert_eq!(scope.scan("seat").unwrap().count(), 3, "round {round}");
            // What each was told, for the key itself cannot say how many set it.
            assert_eq!(leaders.into_inner(), 1, "round {round}");
        }
    });
}

#[test]
fn a_scan_sees_one_moment_while_writers_go_on() {
    watched(|| {
        let store = on(&SimDisk::new(1))
            .durability(Durability::Memory)
            .open("state")
            .unwrap();
        let scope = store.scope(Scope::job("j"));
        let write_all = |round: u32| {
            store.transact(|tx| {
                (0..1500).try_for_each(|i| tx.scope(Scope::job("j")).set(format!("{i:04}"), round))
            })
        };
        write_all(0).unwrap();
        for round in 1..6 {
            let mut scan = scope.scan("").unwrap();
            assert_eq!(
                scan.next().unwrap().unwrap().value::<u32>().unwrap(),
                round - 1
            );
            write_all(round).unwrap();
            scope.set(format!("{round}-new"), round).unwrap();
            scope.delete(format!("{:04}", 1400 + round)).unwrap();
            store.checkpoint().unwrap();
            write_all(round).unwrap();
            scope.delete(format!("{round}-new")).unwrap();
            let rest: Vec<_> = scan.map(Result::unwrap).collect();
            assert_eq!(rest.len(), 1499, "round {round}");
            assert!(
                rest.iter()
                    .all(|entry| entry.value::<u32>().unwrap() == round - 1)
            );
        }
    });
}

#[test]
fn a_slow_closure_stalls_nobody() {
    watched(|| {
        let store = Store::in_memory();
        store.global().set("slow", 0).unwrap();
        let (inside, wait_inside) = mpsc::channel();
        let (go, wait_go) = mpsc::channel::<()>();
        let runs = AtomicU64::new(0);
        thread::scope(|threads| {
            let (store, runs) = (&store, &runs);
            let slow = threads.spawn(move || {
                store.transact(|tx| {
                    let old: u32 = tx.global().get("slow")?.unwrap();
                    if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                        inside.send(()).unwrap();
                        wait_go.recv().unwrap();
                    }
                    tx.global().set("slow", old + 1)?;
                    tx.global().set("other", old)
                })
            });
            wait_inside.recv().unwrap();
            for i in 0..100 {
                store.global().set("other", i).unwrap();
                store.global().increment("slow", 10).unwrap();
                store.transact(|tx| tx.global().set("third", i)).unwrap();
                assert_eq!(store.global().scan("").unwrap().count(), 3);
            }
            store.checkpoint().unwrap();
            go.send(()).unwrap();
            slow.join().unwrap().unwrap();
        });
        assert_eq!(
            runs.into_inner(),
            2,
            "what it read was changed, so it ran again"
        );
        assert_eq!(store.global().get::<u32>("slow").unwrap(), Some(1001));
    });
}

#[test]
fn readers_do_not_wait_for_a_sync_and_one_sync_serves_many() {
    watched(|| {
        let disk = GatedDisk::new();
        let store = gated(&disk).open("state").unwrap();
        store.global().set("a", 1).unwrap();
        let submitted = Barrier::new(17);
        thread::scope(|threads| {
            let shut = disk.gate.shut();
            let first = threads.spawn(|| store.global().set("a", 2));
            disk.gate.await_somebody();
            assert_eq!(
                store.global().get::<u32>("a").unwrap(),
                Some(2),
                "visible before durable"
            );
            assert_eq!(store.global().scan("").unwrap().count(), 1);
            assert_eq!(
                store.transact(|tx| tx.global().get::<u32>("a")).unwrap(),
                Some(2)
            );
            assert_eq!(store.global().len().unwrap(), 1);
            assert_eq!(store.scopes().unwrap().len(), 1);
            let (_, commit) = store.submit(|tx| tx.global().set("b", 1)).unwrap();
            assert!(!commit.is_durable());
            store
                .with_durability(Durability::Memory)
                .global()
                .set("c", 1)
                .unwrap();
            assert_eq!(store.global().len().unwrap(), 3);
            let before = disk.gate.passed();
            let mut group = Vec::new();
            for i in 0..16 {
                let (store, submitted) = (&store, &submitted);
                group.push(threads.spawn(move || {
                    let set = |tx: &Transaction| tx.global().set(format!("group{i:02}"), i);
                    let (_, commit) = store.submit(set).unwrap();
                    submitted.wait();
                    commit.wait()
                }));
            }
            submitted.wait();
            assert!(!first.is_finished());
            drop(shut);
            first.join().unwrap().unwrap();
            group
                .into_iter()
                .for_each(|thread| thread.join().unwrap().unwrap());
            commit.wait().unwrap();
            let syncs = disk.gate.passed() - before;
            assert!(syncs <= 3, "{syncs} syncs for 19 commits");
        });
        let after = disk.disk.crash(Loss::Everything);
        assert_eq!(
            on(&after).open("state").unwrap().global().len().unwrap(),
            19
        );
    });
}

#[test]
fn a_panicking_closure_rolls_back_under_threads() {
    watched(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk)
            .durability(Durability::Memory)
            .open("state")
            .unwrap();
        thread::scope(|threads| {
            for thread in 0..8 {
                let store = &store;
                threads.spawn(move || {
                    for i in 0..50 {
                        let result = store.transact(|tx| {
                            tx.global().increment("n", 1)?;
                            tx.global().set(format!("{thread}-{i}"), i)?;
                            assert!(i % 2 == 0, "odd");
                            Ok(())
                        });
                        match i % 2 {
                            0 => result.unwrap(),
                            _ => assert!(matches!(result, Err(Error::Panicked { message }) if message == "odd")),
                        }
                        let panics = |_: Option<i64>| -> i64 { panic!("in an update") };
                        let result = store.global().update("n", panics);
                        assert!(matches!(result, Err(Error::Panicked { .. })));
                        store.global().increment("plain", 1).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.global().get::<i64>("n").unwrap(), Some(200));
        assert_eq!(store.global().get::<i64>("plain").unwrap(), Some(400));
        assert_eq!(store.global().len().unwrap(), 202);
        store.close().unwrap();
        assert_eq!(
            on(&disk).open("state").unwrap().global().len().unwrap(),
            202
        );
    });
}

#[test]
fn a_scan_that_is_held_open_is_right_or_expires() {
    watched(|| {
        let mut expired = 0;
        for background in [true, false] {
            let builder = on(&SimDisk::new(1))
                .memtable_bytes(64 * 1024)
                .durability(Durability::Memory);
            let store = builder.background(background).open("state").unwrap();
            let scope = store.scope(Scope::job("j"));
            for i in 0..1200 {
                scope.set(format!("{i:04}"), 0).unwrap();
            }
            for round in 1..8_u32 {
                let mut scan = scope.scan("").unwrap();
                let first = scan.next().unwrap().unwrap().value::<u32>().unwrap();
                assert_eq!(first, round - 1);
                for i in 0..1200 {
                    scope.set(format!("{i:04}"), round).unwrap();
                    scope
                        .set(format!("{i:04}-{round}"), "x".repeat(100))
                        .unwrap();
                    scope.delete(format!("{i:04}-{round}")).unwrap();
                }
                let mut count = 1;
                for entry in scan {
                    match entry {
                        Ok(entry) => {
                            assert_eq!(entry.value::<u32>().unwrap(), round - 1, "{}", entry.key());
                            count += 1;
                        }
                        Err(Error::ViewExpired) => {
                            expired += 1;
                            count = 1200;
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
                assert_eq!(count, 1200);
                assert_eq!(scope.len().unwrap(), 1200);
            }
        }
        assert!(expired > 0, "memory was never short");
    });
}

#[test]
fn promise_8_writers_are_refused_while_the_image_cannot_be_written() {
    watched(|| {
        for background in [false, true] {
            let disk = SimDisk::new(1);
            let image = Refusing::new(&disk);
            let refuses = Arc::clone(&image.refuses);
            let store = on(&disk)
                .image(Arc::new(image))
                .memtable_bytes(64 * 1024)
                .background(background)
                .durability(Durability::Memory)
                .open("state")
                .unwrap();
            let scope = store.scope(Scope::job("j"));
            scope.set("first", 1).unwrap();
            store.checkpoint().unwrap();
            refuses.store(true, Ordering::SeqCst);
            let mut kept = 1;
            let reason = loop {
                match scope.set(format!("{kept:05}"), "x".repeat(200)) {
                    Ok(()) => kept += 1,
                    Err(Error::Busy { reason }) => break reason,
                    Err(e) => panic!("{e}"),
                }
                assert!(kept < 10_000, "memory is not bounded");
            };
            assert!(reason.contains("no room, says the test"), "{reason}");
            let held = store.stats().unwrap().memtable_bytes;
            assert!(held < 72 * 1024, "{held}");
            assert_eq!(scope.len().unwrap(), kept);
            assert_eq!(scope.get::<u32>("first").unwrap(), Some(1));
            assert!(store.checkpoint().is_err());
            refuses.store(false, Ordering::SeqCst);
            store.checkpoint().unwrap();
            scope.set("again", 1).unwrap();
            for i in 0..1000 {
                scope.set(format!("later{i:05}"), "x".repeat(200)).unwrap();
            }
            assert_eq!(scope.len().unwrap(), kept + 1001);
            store.close().unwrap();
            let store = on(&disk).open("state").unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_eq!(store.scope(Scope::job("j")).len().unwrap(), kept + 1001);
        }
    });
}

#[test]
fn promise_8_a_log_at_its_limit_makes_writers_wait_for_the_snapshot() {
    let disk = SimDisk::new(9);
    let store = on(&disk)
        .background(true)
        .segment_bytes(8192, 8192)
        .log_bytes_max(64 * 1024)
        .snapshot_log_bytes(16 * 1024)
        .memtable_bytes(64 * 1024)
        .open("s")
        .unwrap();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let scope = store.scope(Scope::worker(thread.to_string()));
            threads.spawn(move || {
                for i in 0..100_u32 {
                    // 2 KB each, 800 KB in all: the log is trimmed many times.
                    scope.set(format!("{}", i % 10), "x".repeat(2000)).unwrap();
                }
            });
        }
    });
    let stats = store.stats().unwrap();
    assert!(
        stats.snapshots > 0 && stats.log_bytes_on_disk <= 64 * 1024,
        "{stats:?}"
    );
}
