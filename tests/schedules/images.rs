//! Owns checkpoints and snapshots beside commits and readers: each reader sees one LSN,
//! and what was acknowledged is in log, image or snapshot.

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Durability, Error, Scope, Store, Transaction};
use shuttle::thread;

use crate::driver::{explore, explore_more};
use crate::parts::{Acknowledged, chance, on};

/// Both keys in one commit, in two scopes.
fn write_pair(store: &Store, round: u64) {
    let pair = |tx: &Transaction| {
        tx.global().set("one", round)?;
        tx.global().set(format!("round-{round}"), "x".repeat(700))?;
        tx.scope(Scope::job("j")).set("two", round)
    };
    store.transact(pair).unwrap();
}

fn reads_agree(store: &Store) {
    let pair = store.transact(|tx| {
        let one: u64 = tx.global().get("one")?.unwrap_or(0);
        let rounds = tx.global().scan("round-")?;
        let two: u64 = tx.scope(Scope::job("j")).get("two")?.unwrap_or(0);
        let count = rounds
            .map(|entry| entry.map(drop))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((one, two, count.len() as u64))
    });
    let (one, two, rounds) = pair.unwrap();
    assert_eq!((one, one), (two, rounds), "parts of a commit");
    let mut names = Vec::new();
    for entry in store.global().scan("").unwrap() {
        match entry {
            Ok(entry) => names.push(entry.key().to_owned()),
            Err(Error::ViewExpired) => return,
            Err(e) => panic!("{e}"),
        }
    }
    let one = names.iter().filter(|name| *name == "one").count();
    let rounds = names.len() - one;
    assert!(one == usize::from(rounds > 0), "{names:?}");
}

#[test]
fn readers_see_one_lsn_in_memory() {
    explore_more(10, || {
        let store = Store::in_memory();
        let writer = {
            let store = store.clone();
            thread::spawn(move || (1..4).for_each(|round| write_pair(&store, round)))
        };
        let reader = {
            let store = store.clone();
            thread::spawn(move || (0..2).for_each(|_| reads_agree(&store)))
        };
        writer.join().unwrap();
        reader.join().unwrap();
        reads_agree(&store);
    });
}

#[test]
fn readers_see_one_lsn_as_an_image_takes_the_place_of_another() {
    explore_more(10, || {
        let disk = SimDisk::new(1);
        let builder = on(&disk).durability(Durability::Memory);
        let store = builder.open("s").unwrap();
        write_pair(&store, 1);
        store.checkpoint().unwrap();
        let writer = {
            let store = store.clone();
            thread::spawn(move || {
                write_pair(&store, 2);
                store.checkpoint().unwrap();
            })
        };
        reads_agree(&store);
        writer.join().unwrap();
        reads_agree(&store);
        store.close().unwrap();
    });
}

fn at_once(background: bool, copying: fn(&Store) -> evenkeel::Result<()>) {
    let disk = SimDisk::new(1);
    let store = on(&disk).background(background).open("s").unwrap();
    let acknowledged = Acknowledged::on(&disk);
    write_pair(&store, 1);
    let writer = {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        thread::spawn(move || {
            for round in 2..4 {
                write_pair(&store, round);
                acknowledged.note(&format!("round-{round}"));
            }
        })
    };
    let copier = {
        let store = store.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                copying(&store).unwrap();
            }
        })
    };
    let reader = {
        let store = store.clone();
        thread::spawn(move || {
            for _ in 0..3 {
                reads_agree(&store);
            }
        })
    };
    let power = {
        let disk = disk.clone();
        thread::spawn(move || {
            let cut = |_| disk.crash(Loss::Random(chance(u64::MAX)));
            (0..3).map(cut).collect::<Vec<_>>()
        })
    };
    for thread in [writer, copier, reader] {
        thread.join().unwrap();
    }
    // Wherever the power was cut, whole commits are there or none of them.
    for after in power.join().unwrap() {
        reads_agree(&on(&after).open("s").unwrap());
    }
    reads_agree(&store);
    acknowledged.note("round-1");
    acknowledged.check();
    store.close().unwrap();
    let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
    assert!(after.recovery().is_clean());
    reads_agree(&after);
    assert_eq!(after.global().get::<u64>("one").unwrap(), Some(3));
}

#[test]
fn readers_see_one_lsn_while_checkpoints_are_written() {
    explore(|| at_once(chance(2) > 0, |store| store.checkpoint().map(drop)));
}

#[test]
fn readers_see_one_lsn_while_snapshots_are_written() {
    explore(|| at_once(chance(2) > 0, |store| store.snapshot().map(drop)));
}

#[test]
fn verifying_beside_a_checkpoint_finds_nothing() {
    explore(|| {
        at_once(false, |store| {
            assert!(store.verify()?.is_clean());
            store.checkpoint().map(drop)
        });
    });
}
