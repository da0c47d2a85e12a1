//! Owns the end of a store while others are at work in it.

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Error, Store};
use shuttle::thread;

use crate::driver::explore;
use crate::parts::{Acknowledged, chance, on};

/// Commits until the store is closed, a few times at most.
fn commit_until_closed(store: &Store, acknowledged: &Acknowledged, thread: u32) {
    for i in 0..3 {
        let key = format!("{thread}-{i}");
        match store.global().set(&key, i) {
            Ok(()) => acknowledged.note(&key),
            Err(Error::Closed) => return,
            Err(e) => panic!("{e}"),
        }
    }
}

fn is_clean(disk: &SimDisk) {
    let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
    let recovery = after.recovery();
    assert!(
        recovery.closed_cleanly && recovery.is_clean(),
        "{recovery:?}"
    );
}

#[test]
fn closing_while_others_commit() {
    explore(|| {
        let disk = SimDisk::new(1);
        let background = chance(2) > 0;
        let store = on(&disk).background(background).open("s").unwrap();
        let acknowledged = Acknowledged::on(&disk);
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let (store, acknowledged) = (store.clone(), acknowledged.clone());
                thread::spawn(move || commit_until_closed(&store, &acknowledged, thread))
            })
            .collect();
        store.close().unwrap();
        // At once: the folder is free.
        let again = on(&disk).open("s").unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(matches!(store.global().set("late", 1), Err(Error::Closed)));
        acknowledged.check();
        again.global().set("again", 1).unwrap();
        again.close().unwrap();
        is_clean(&disk);
    });
}

#[test]
fn closing_while_images_and_snapshots_are_written() {
    explore(|| {
        let disk = SimDisk::new(1);
        let background = chance(4) > 0;
        let store = on(&disk).background(background).open("s").unwrap();
        store.global().set("before", "x".repeat(3000)).unwrap();
        let acknowledged = Acknowledged::on(&disk);
        let worker = |work: fn(&Store) -> evenkeel::Result<()>| {
            let store = store.clone();
            thread::spawn(move || match work(&store) {
                Ok(()) | Err(Error::Closed | Error::ViewExpired) => {}
                Err(e) => panic!("{e}"),
            })
        };
        let mut threads = vec![
            worker(|store| store.checkpoint().map(drop)),
            worker(|store| store.snapshot().map(drop)),
        ];
        let (writer, noted) = (store.clone(), acknowledged.clone());
        threads.push(thread::spawn(move || {
            commit_until_closed(&writer, &noted, 0);
        }));
        store.close().unwrap();
        let after = disk.crash(Loss::Everything);
        for thread in threads {
            thread.join().unwrap();
        }
        is_clean(&after);
        is_clean(&disk);
        acknowledged.note("before");
        acknowledged.check();
    });
}

#[test]
fn who_closes_second_returns_when_all_is_done() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).background(true).open("s").unwrap();
        store.global().set("a", 1).unwrap();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (store, disk) = (store.clone(), disk.clone());
                thread::spawn(move || {
                    store.close().unwrap();
                    is_clean(&disk);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(store);
        assert_eq!(on(&disk).open("s").unwrap().global().len().unwrap(), 1);
    });
}

#[test]
fn one_of_those_who_open_at_once_has_it() {
    explore(|| {
        let disk = SimDisk::new(1);
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let disk = disk.clone();
                thread::spawn(move || match on(&disk).open("s") {
                    Ok(store) => {
                        let before: Option<u32> = store.global().get("a").unwrap();
                        store.global().set("a", thread).unwrap();
                        store.close().unwrap();
                        (true, before.is_some())
                    }
                    Err(Error::Locked { .. }) => (false, false),
                    Err(e) => panic!("{e}"),
                })
            })
            .collect();
        let mut opened = (0, 0);
        for thread in threads {
            let (had, found) = thread.join().unwrap();
            opened = (opened.0 + u32::from(had), opened.1 + u32::from(found));
        }
        assert!(opened.0 > 0 && opened.0 - opened.1 == 1, "{opened:?}");
        is_clean(&disk);
    });
}
