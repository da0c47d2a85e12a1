//! Owns the end of a log by a failed write or sync: all are told, nobody waits on, and
//! nothing is acknowledged any more.

use evenkeel::testing::{Failure, Fault, Loss, SimDisk};
use evenkeel::{Error, Store};
use shuttle::future::block_on;
use shuttle::thread;

use crate::driver::explore;
use crate::parts::{Acknowledged, chance, on};

/// One of the next calls of the disk fails; which one, and how, is part of the schedule.
fn fail_soon(disk: &SimDisk, within: u64) {
    let at = disk.operations() + 1 + chance(within);
    disk.fail(match chance(3) {
        0 => Fault::LostSync { at },
        1 => Fault::Operation {
            at,
            failure: Failure::Io,
            lasting: false,
        },
        _ => Fault::ShortWrite {
            at,
            failure: Failure::NoSpace,
        },
    });
}

/// Commits in one of three ways. True where it was acknowledged.
fn commit(store: &Store, key: &str) -> bool {
    let set = || store.submit(|tx| tx.global().set(key, 1));
    let outcome = match chance(3) {
        0 => store.global().set(key, 1),
        1 => set().and_then(|(_, commit)| commit.wait()),
        _ => set().and_then(|(_, commit)| block_on(commit)),
    };
    match outcome {
        Ok(()) => true,
        Err(Error::Poisoned { .. } | Error::Io { .. }) => false,
        Err(e) => panic!("{e}"),
    }
}

fn commits_on_a_disk_that_fails(background: bool) {
    let disk = SimDisk::new(1);
    let store = on(&disk).background(background).open("s").unwrap();
    let acknowledged = Acknowledged::on(&disk);
    fail_soon(&disk, 12);
    let committers: Vec<_> = (0..3)
        .map(|thread| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            thread::spawn(move || {
                for i in 0..2 {
                    let key = format!("{thread}-{i}");
                    if commit(&store, &key) {
                        acknowledged.note(&key);
                    } else if let Err(Error::Poisoned { .. }) = store.barrier() {
                        assert!(!commit(&store, "more"), "acknowledged after a failure");
                        return;
                    }
                }
            })
        })
        .collect();
    let checkpoint = background.then(|| {
        let store = store.clone();
        thread::spawn(move || {
            // Whether the failure is its own or not, it comes back.
            let _ = store.checkpoint();
        })
    });
    for thread in committers.into_iter().chain(checkpoint) {
        thread.join().unwrap();
    }
    let poisoned = matches!(store.barrier(), Err(Error::Poisoned { .. }));
    disk.clear_faults();
    if poisoned {
        assert!(!commit(&store, "more"));
        assert!(store.checkpoint().is_err());
        assert!(store.close().is_err());
    } else {
        store.close().unwrap();
    }
    acknowledged.check();
    // It recovers what was acknowledged also where the pages are still there.
    let again = on(&disk).open("s").unwrap();
    let kept = again.global().len().unwrap();
    assert!(kept <= 6 && !again.global().contains("never").unwrap());
    assert!(commit(&again, "again"));
    let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
    assert_eq!(after.global().len().unwrap(), again.global().len().unwrap());
}

#[test]
fn all_who_wait_are_told_and_nothing_is_acknowledged_any_more() {
    explore(|| commits_on_a_disk_that_fails(false));
}

#[test]
fn also_with_threads_of_the_store() {
    explore(|| commits_on_a_disk_that_fails(true));
}

#[test]
fn closing_a_poisoned_store_while_others_wait_ends() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).background(true).open("s").unwrap();
        disk.fail(Fault::LostSync {
            at: disk.operations() + 1,
        });
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let store = store.clone();
                thread::spawn(move || match store.global().set(format!("{thread}"), 1) {
                    Ok(()) => panic!("acknowledged without its sync"),
                    Err(Error::Poisoned { .. } | Error::Io { .. } | Error::Closed) => {}
                    Err(e) => panic!("{e}"),
                })
            })
            .collect();
        let closed = store.close();
        for thread in threads {
            thread.join().unwrap();
        }
        // Either somebody had committed, and the sync failed; or nobody had.
        let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
        assert!(closed.is_err() || after.global().is_empty().unwrap());
    });
}
