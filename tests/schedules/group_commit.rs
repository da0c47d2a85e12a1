//! Owns group commit: who leads, who waits, and what is acknowledged when.

use std::sync::Arc;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Durability, Lsn, Store};
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::driver::explore;
use crate::parts::{Acknowledged, on};

/// Three threads commit; each looks at the disk when it is told that it is there.
fn commit_in_groups(store: &Store, disk: &SimDisk, bytes: usize) {
    let acknowledged = Acknowledged::on(disk);
    let committers: Vec<_> = (0..3)
        .map(|thread| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            thread::spawn(move || {
                for i in 0..2 {
                    let key = format!("{thread}-{i}");
                    store.global().set(&key, "x".repeat(bytes)).unwrap();
                    acknowledged.note(&key);
                }
            })
        })
        .collect();
    for committer in committers {
        committer.join().unwrap();
    }
    acknowledged.check();
}

#[test]
fn no_acknowledgement_comes_before_its_sync() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).open("s").unwrap();
        commit_in_groups(&store, &disk, 1);
        let stats = store.stats().unwrap();
        assert_eq!(stats.durable_lsn, stats.visible_lsn);
        store.close().unwrap();
    });
}

#[test]
fn nor_where_the_log_goes_on_to_other_segments() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).open("s").unwrap();
        commit_in_groups(&store, &disk, 1500);
        assert!(store.stats().unwrap().log_segments > 1);
        store.close().unwrap();
    });
}

#[test]
fn nor_with_threads_that_sync_for_others() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).background(true).open("s").unwrap();
        let later = store.with_durability(Durability::Memory);
        let other = thread::spawn(move || {
            for i in 0..2 {
                later.global().set(format!("later-{i}"), i).unwrap();
            }
            drop(later);
        });
        commit_in_groups(&store, &disk, 1500);
        other.join().unwrap();
        store.close().unwrap();
        let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
        assert_eq!(after.global().len().unwrap(), 8);
    });
}

/// The keys that somebody saw at an LSN.
type Seen = Vec<(Lsn, Vec<String>)>;

#[test]
fn what_is_visible_is_what_the_log_has_up_to_one_lsn() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).open("s").unwrap();
        let commits: Arc<Mutex<Vec<(Lsn, String)>>> = Arc::default();
        let writers: Vec<_> = (0..2)
            .map(|thread| {
                let (store, commits) = (store.clone(), Arc::clone(&commits));
                thread::spawn(move || {
                    let mut last = Lsn::ZERO;
                    for i in 0..2 {
                        let key = format!("{thread}-{i}");
                        let (seen, commit) = store
                            .submit(|tx| {
                                tx.global().set(&key, i)?;
                                Ok(tx.lsn())
                            })
                            .unwrap();
                        assert!(
                            last <= seen && seen < commit.lsn(),
                            "it reads what it wrote"
                        );
                        last = commit.lsn();
                        commits.lock().unwrap().push((last, key));
                        commit.wait().unwrap();
                        assert!(commit.is_durable());
                    }
                })
            })
            .collect();
        let mut seen: Seen = Vec::new();
        for _ in 0..3 {
            let view = store.transact(|tx| {
                let keys: Vec<_> = tx.global().keys()?.collect();
                Ok((tx.lsn(), keys))
            });
            seen.push(view.unwrap());
        }
        let cut = disk.crash(Loss::Everything);
        for writer in writers {
            writer.join().unwrap();
        }
        let mut commits = commits.lock().unwrap().clone();
        commits.sort();
        let upto = |lsn: Lsn| {
            let until = commits.iter().filter(|(at, _)| *at <= lsn);
            let mut keys: Vec<_> = until.map(|(_, key)| key.clone()).collect();
            keys.sort();
            keys
        };
        for (lsn, keys) in &seen {
            assert_eq!(*keys, upto(*lsn), "seen at {lsn}");
        }
        // After a power cut at any moment it is a state that there was, and each key
        // has the version of its commit.
        let after = on(&cut).open("s").unwrap();
        let mut kept: Vec<(Lsn, String)> = Vec::new();
        for entry in after.global().scan("").unwrap() {
            let entry = entry.unwrap();
            kept.push((Lsn::from(entry.version()), entry.key().to_owned()));
        }
        kept.sort();
        assert_eq!(kept, commits[..kept.len()], "a prefix of the commits");
        store.close().unwrap();
    });
}
