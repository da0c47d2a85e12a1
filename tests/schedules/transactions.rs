//! Owns transactions that meet: lost races, the queue behind them, and sums that hold.

use evenkeel::testing::SimDisk;
use evenkeel::{Durability, Store, Transaction};
use shuttle::thread;

use crate::driver::{explore, explore_more, repeats_itself};
use crate::parts::{chance, on};

/// Over a disk or in memory; the disk has more points at which others go on.
fn store(disk: &SimDisk) -> Store {
    match chance(3) {
        0 => on(disk).durability(Durability::Memory).open("s").unwrap(),
        _ => Store::in_memory(),
    }
}

fn together(store: &Store, count: u64, work: fn(&Store, u64)) {
    let threads: Vec<_> = (0..count)
        .map(|thread| {
            let store = store.clone();
            thread::spawn(move || work(&store, thread))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn sums() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    together(&store, 3, |store, thread| {
        for i in 0..3 {
            match (thread + i) % 3 {
                0 => drop(store.global().increment("n", 1).unwrap()),
                1 => drop(
                    store
                        .global()
                        .update("n", |n: Option<i64>| n.unwrap_or(0) + 1),
                ),
                _ => store
                    .transact(|tx| {
                        let n: i64 = tx.global().get("n")?.unwrap_or(0);
                        tx.global().set("n", n + 1)
                    })
                    .unwrap(),
            }
        }
    });
    assert_eq!(store.global().get::<i64>("n").unwrap(), Some(9));
    store.close().unwrap();
}

#[test]
fn increments_are_exact() {
    explore(sums);
}

#[test]
fn increments_are_exact_beside_checkpoints() {
    explore_more(20, || {
        let disk = SimDisk::new(1);
        let store = on(&disk).durability(Durability::Memory).open("s").unwrap();
        store.global().set("n", 0).unwrap();
        // What they start from is in the image, and may leave memory again meanwhile.
        store.checkpoint().unwrap();
        together(&store, 3, |store, thread| {
            for _ in 0..2 {
                match thread {
                    0 => assert!(store.checkpoint().is_ok()),
                    _ => assert!(store.global().increment("n", 1).unwrap() <= 4),
                }
            }
        });
        assert_eq!(store.global().get::<i64>("n").unwrap(), Some(4));
        store.close().unwrap();
    });
}

#[test]
fn a_schedule_runs_the_same_again() {
    repeats_itself(sums);
    repeats_itself(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).background(true).open("s").unwrap();
        together(&store, 3, |store, thread| match thread {
            0 => drop(store.snapshot().unwrap()),
            _ => store.global().set(format!("{thread}"), thread).unwrap(),
        });
        store.close().unwrap();
    });
}

#[test]
fn who_loses_too_often_queues_and_all_come_through() {
    explore(|| {
        let store = Store::in_memory();
        together(&store, 4, |store, thread| {
            // Two that read much and lose, and two that write what they read.
            let rounds = [1, 1, 6, 6][thread as usize];
            for i in 0..rounds {
                if thread > 1 {
                    let key = ["a", "b"][(i % 2) as usize];
                    store.global().increment(key, 1).unwrap();
                    continue;
                }
                let sum = |tx: &Transaction| {
                    let all = tx.global();
                    let a: i64 = all.get("a")?.unwrap_or(0);
                    thread::yield_now();
                    let b: i64 = all.get("b")?.unwrap_or(0);
                    all.set(format!("sum-{thread}"), a + b)?;
                    all.set("a", a + 1)
                };
                store.transact(sum).unwrap();
            }
        });
        let all = store.global();
        assert_eq!(all.get::<i64>("a").unwrap(), Some(8));
        assert_eq!(all.get::<i64>("b").unwrap(), Some(6));
    });
}

#[test]
fn neither_write_skew_nor_phantoms() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = store(&disk);
        store.global().set("a", 1).unwrap();
        store.global().set("b", 1).unwrap();
        together(&store, 3, |store, thread| {
            // One of both has to stay.
            let leave = |tx: &Transaction| {
                let all = tx.global();
                let both = [all.get::<u32>("a")?, all.get::<u32>("b")?];
                if both.iter().flatten().sum::<u32>() > 1 {
                    all.set(["a", "b"][(thread % 2) as usize], 0)?;
                }
                Ok(())
            };
            store.transact(leave).unwrap();
            // One seat.
            let sit = |tx: &Transaction| {
                let all = tx.global();
                if all.scan("seat")?.next().is_none() {
                    all.set(format!("seat{thread}"), 1)?;
                }
                Ok(())
            };
            store.transact(sit).unwrap();
            // One leader, by a key that is not there.
            let lead = |tx: &Transaction| {
                let all = tx.global();
                if !all.contains("leader")? {
                    all.set("leader", thread)?;
                    all.increment("leaders", 1)?;
                }
                Ok(())
            };
            store.transact(lead).unwrap();
        });
        let all = store.global();
        let left = ["a", "b"].map(|key| all.get::<u32>(key).unwrap().unwrap());
        assert_eq!(left.iter().sum::<u32>(), 1, "write skew");
        assert_eq!(all.scan("seat").unwrap().count(), 1, "a phantom");
        assert_eq!(all.get::<u32>("leaders").unwrap(), Some(1));
        store.close().unwrap();
    });
}
