//! An image that moves to a new folder because much of it changed: what still reads the
//! old one, what is left behind, and a disk without room for both. That a crash on the
//! way leaves one of the two is in `tests/crash.rs`.

use std::collections::BTreeSet;

use evenkeel::testing::{Failure, Fault, Loss, SimDisk};
use evenkeel::{Builder, Store};

use crate::life::PLACE;

const KEYS: u32 = 40;

fn builder(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .memtable_bytes(1024 * 1024)
        .block_bytes(1024)
}

fn text(key: u32, round: u32) -> String {
    format!("{key:04}/{round:04}").repeat(80)
}

fn write(store: &Store, keys: u32, round: u32) {
    for key in 0..keys {
        let set = store.global().set(format!("k{key:03}"), text(key, round));
        set.unwrap();
    }
}

fn check(store: &Store, changed: u32, round: u32) {
    for key in 0..KEYS {
        let found: Option<String> = store.global().get(format!("k{key:03}")).unwrap();
        let round = if key < changed { round } else { round - 1 };
        assert_eq!(found, Some(text(key, round)), "key {key}");
    }
}

/// The numbers of the folders that have anything in them.
fn folders(disk: &SimDisk) -> BTreeSet<String> {
    let images = format!("{PLACE}/image");
    let files = disk.files().into_iter();
    let names = files.filter_map(|(path, _)| {
        let inside = path.strip_prefix(&images).ok()?;
        Some(inside.iter().next()?.to_string_lossy().into_owned())
    });
    names.collect()
}

fn only(number: u32) -> BTreeSet<String> {
    BTreeSet::from([number.to_string()])
}

#[test]
fn it_moves_when_much_has_changed_and_stays_when_little_has() {
    let disk = SimDisk::new(1);
    let store = builder(&disk).open(PLACE).unwrap();
    write(&store, KEYS, 1);
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(1));
    write(&store, KEYS, 2);
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(2));
    check(&store, KEYS, 2);
    write(&store, 3, 3);
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(2));
    check(&store, 3, 3);
    // Of what stays as it is, the copies are what is read.
    write(&store, KEYS / 2, 3);
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(3));
    check(&store, KEYS / 2, 3);
    assert!(store.verify().unwrap().is_clean());
    store.close().unwrap();
    let store = builder(&disk).open(PLACE).unwrap();
    assert!(store.recovery().healed.is_empty());
    check(&store, KEYS / 2, 3);
}

#[test]
fn a_scope_that_is_cleared_counts_as_changed() {
    let disk = SimDisk::new(1);
    let store = builder(&disk).open(PLACE).unwrap();
    write(&store, KEYS, 1);
    store.checkpoint().unwrap();
    store.global().clear().unwrap();
    store.checkpoint().unwrap();
    assert!(!folders(&disk).contains("1"));
    assert_eq!(store.global().len().unwrap(), 0);
}

#[test]
fn a_scan_goes_on_in_the_folder_that_it_began_in() {
    let disk = SimDisk::new(1);
    let store = builder(&disk).open(PLACE).unwrap();
    write(&store, KEYS, 1);
    store.checkpoint().unwrap();
    let mut scan = store.global().scan("").unwrap();
    let first: String = scan.next().unwrap().unwrap().value().unwrap();
    assert_eq!(first, text(0, 1));
    for round in 2..5 {
        write(&store, KEYS, round);
        store.checkpoint().unwrap();
    }
    // While it reads there, the image moves once and no further: each takes memory.
    assert_eq!(folders(&disk), &only(1) | &only(2));
    for key in 1..KEYS {
        let value: String = scan.next().unwrap().unwrap().value().unwrap();
        assert_eq!(value, text(key, 1));
    }
    assert!(scan.next().is_none());
    drop(scan);
    write(&store, 1, 5);
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(2));
    // One that is open when the store is closed keeps nothing there.
    let scan = store.global().scan("").unwrap();
    write(&store, KEYS, 6);
    store.checkpoint().unwrap();
    store.close().unwrap();
    assert_eq!(folders(&disk), only(3));
    drop(scan);
}

#[test]
fn without_room_for_both_it_changes_in_place() {
    let disk = SimDisk::new(1);
    let store = builder(&disk).open(PLACE).unwrap();
    write(&store, KEYS, 1);
    store.checkpoint().unwrap();
    store.snapshot().unwrap();
    write(&store, KEYS / 2, 2);
    let used: u64 = disk.files().iter().map(|(_, len)| len.div_ceil(4096)).sum();
    // Each piece is a file, so a page: for those that changed, and not for all.
    disk.set_capacity(Some((used + 34) * 4096));
    store.checkpoint().unwrap();
    assert_eq!(folders(&disk), only(1));
    check(&store, KEYS / 2, 2);
    disk.set_capacity(None);
    write(&store, KEYS, 3);
    store.checkpoint().unwrap();
    assert!(!folders(&disk).contains("1"));
    check(&store, KEYS, 3);
}

#[test]
fn a_move_that_fails_anywhere_leaves_one_of_both() {
    // Without snapshots nothing could be healed.
    let open = |disk: &SimDisk| builder(disk).snapshots(false).open(PLACE).unwrap();
    let begun = || {
        let disk = SimDisk::new(1);
        let store = open(&disk);
        // So much that the log no longer begins with the first commit.
        for _ in 0..20 {
            write(&store, KEYS, 1);
        }
        store.checkpoint().unwrap();
        write(&store, KEYS, 2);
        let at = disk.operations();
        (disk, store, at)
    };
    let (disk, store, from) = begun();
    store.checkpoint().unwrap();
    let until = disk.operations();
    assert!(!folders(&disk).contains("1"));
    for at in from + 1..=until {
        let (disk, store, _) = begun();
        disk.fail(Fault::Operation {
            at,
            failure: Failure::Io,
            lasting: false,
        });
        // It may have done all but the last of it, so either answer is right.
        let _ = store.checkpoint();
        for loss in [Loss::Nothing, Loss::Everything] {
            check(&open(&disk.crash(loss)), KEYS, 2);
        }
        // And goes on, if it can.
        if store.checkpoint().is_ok() {
            check(&store, KEYS, 2);
            check(&open(&disk.crash(Loss::Everything)), KEYS, 2);
        }
    }
}
