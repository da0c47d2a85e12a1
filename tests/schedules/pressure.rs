//! Owns writers that are made to wait: they go on when there is room again, or are
//! refused when their time is over; none is forgotten.

use evenkeel::testing::{Failure, Fault, Loss, SimDisk};
use evenkeel::{Builder, Durability, Error, Transaction};
use shuttle::thread;

use crate::driver::explore;
use crate::parts::on;

/// Three threads write more than there is room for. Who is refused because the time
/// that it may wait is over tries again.
fn write_much(builder: Builder, disk: &SimDisk, bytes: usize, each: u32) {
    let store = builder.background(true).open("s").unwrap();
    let writers: Vec<_> = (0..3)
        .map(|thread| {
            let store = store.clone();
            thread::spawn(move || {
                for i in 0..each {
                    let value = "x".repeat(bytes);
                    loop {
                        match store.global().set(format!("{thread}-{i}"), &value) {
                            Ok(()) => break,
                            Err(Error::Busy { .. }) => thread::yield_now(),
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    store.close().unwrap();
    let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
    assert_eq!(after.global().len().unwrap(), 3 * u64::from(each));
}

#[test]
fn writers_go_on_when_the_memtable_has_room() {
    explore(|| {
        let disk = SimDisk::new(1);
        let builder = on(&disk).memtable_bytes(64 * 1024);
        write_much(builder.durability(Durability::Memory), &disk, 25_000, 2);
    });
}

#[test]
fn writers_of_one_key_wait_for_its_log_and_none_is_refused() {
    explore(|| {
        let disk = SimDisk::new(1);
        let builder = on(&disk).durability(Durability::Memory).background(true);
        let store = builder.memtable_bytes(64 * 1024).open("s").unwrap();
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let store = store.clone();
                // The memtable holds one of them, so that it is never what is waited for.
                let write = move || store.global().set("hot", "x".repeat(25_000)).unwrap();
                thread::spawn(move || (0..2).for_each(|_| write()))
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        store.close().unwrap();
    });
}

#[test]
fn writers_go_on_when_the_log_has_room() {
    explore(|| {
        let disk = SimDisk::new(1);
        let builder = on(&disk).log_bytes_max(32 * 1024);
        let builder = builder.snapshot_log_bytes(8 * 1024);
        write_much(builder, &disk, 2000, 5);
    });
}

#[test]
fn a_transaction_whose_view_has_to_go_loses_nothing() {
    explore(|| {
        let disk = SimDisk::new(1);
        let builder = on(&disk).durability(Durability::Memory);
        let store = builder.memtable_bytes(64 * 1024).open("s").unwrap();
        store.global().set("n", 0).unwrap();
        let counting = {
            let store = store.clone();
            thread::spawn(move || {
                let count = |tx: &Transaction| {
                    let n: i64 = tx.global().get("n")?.unwrap_or(0);
                    (0..8).for_each(|_| thread::yield_now());
                    tx.global().set("n", n + 1)
                };
                store.transact(count).unwrap();
                store.transact(count).unwrap();
            })
        };
        let filling = {
            let store = store.clone();
            thread::spawn(move || {
                for i in 0..4 {
                    let value = "x".repeat(25_000);
                    store.global().increment("n", 1).unwrap();
                    store.global().set(format!("{i}"), value).unwrap();
                    // The view that a transaction holds is what it makes room from.
                    store.checkpoint().unwrap();
                }
            })
        };
        counting.join().unwrap();
        filling.join().unwrap();
        assert_eq!(store.global().get::<i64>("n").unwrap(), Some(6));
        store.close().unwrap();
    });
}

#[test]
fn writers_are_refused_while_no_checkpoint_succeeds() {
    explore(|| {
        let disk = SimDisk::new(1);
        let builder = on(&disk).durability(Durability::Memory);
        let builder = builder.memtable_bytes(64 * 1024).background(true);
        let store = builder.open("s").unwrap();
        // What a full disk does, from somewhere within what follows.
        disk.fail(Fault::Operation {
            at: disk.operations() + 20,
            failure: Failure::NoSpace,
            lasting: true,
        });
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let store = store.clone();
                thread::spawn(move || {
                    for i in 0..3 {
                        let value = "x".repeat(25_000);
                        match store.global().set(format!("{thread}-{i}"), value) {
                            Ok(()) => {}
                            Err(Error::Busy { .. } | Error::Io { .. } | Error::Poisoned { .. }) => {
                                return;
                            }
                            Err(e) => panic!("{e}"),
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        // However it went, it ends.
        let _ = store.close();
        disk.clear_faults();
        on(&disk).open("s").unwrap().close().unwrap();
    });
}
