//! A store whose image is in files of its own, without sled: stopped at each operation, with
//! calls that fail, on a full disk, damaged, and opened by the other backend. The image alone has
//! most of the state here: without snapshots nothing could be healed.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel::testing::{Failure, Fault, Loss, SimDisk, When};
use evenkeel::{Builder, Error, FileBackend, Result, SledBackend, Store};

const PLACE: &str = "data/store";
const KEYS: u32 = 40;
const ROUNDS: u32 = 7;

fn on(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .image(Arc::new(FileBackend::new(Arc::new(disk.clone()))))
        .memtable_bytes(1024 * 1024)
        .segment_bytes(64 * 1024, 64 * 1024)
        .block_bytes(1024)
        .snapshots(false)
}

/// Much in one round, little in the next: the image moves to a new folder, and changes in place.
fn keys(round: u32) -> u32 {
    if round.is_multiple_of(2) { 5 } else { KEYS }
}

fn text(key: u32, round: u32) -> String {
    format!("{key:04}/{round:04}").repeat(80)
}

fn write(store: &Store, round: u32) -> Result<()> {
    store.transact(|tx| {
        let scope = tx.global();
        (0..keys(round)).try_for_each(|key| scope.set(format!("k{key:03}"), text(key, round)))
    })
}

/// What holds behind these rounds, and nothing else, each of them whole.
fn check(store: &Store, rounds: u32, what: &str) {
    for key in 0..KEYS {
        let of = (1..=rounds).rev().find(|round| key < keys(*round));
        let found: Option<String> = store.global().get(format!("k{key:03}")).unwrap();
        assert!(found == of.map(|of| text(key, of)), "{what}: key {key}");
    }
    assert_eq!(store.verify().unwrap().damage.len(), 0, "{what}");
}

/// How many rounds there are, each of them whole.
fn rounds(store: &Store) -> u32 {
    let found: Option<String> = store.global().get("k000").unwrap();
    let of = |round: &u32| found == Some(text(0, *round));
    (1..=ROUNDS).find(of).unwrap_or(0)
}

/// Writes and checkpoints, and opens the store anew now and then; `written` counts the rounds
/// that were acknowledged.
fn life(disk: &SimDisk, written: &mut u32) -> Result<()> {
    let mut store = on(disk).open(PLACE)?;
    while *written < ROUNDS {
        write(&store, *written + 1)?;
        *written += 1;
        store.checkpoint()?;
        if written.is_multiple_of(3) {
            store.close()?;
            drop(store);
            store = on(disk).open(PLACE)?;
        }
    }
    store.close()
}

/// A crash loses nothing that was acknowledged, and goes on from there.
fn survives(disk: &SimDisk, written: u32, loss: Loss, what: &str) {
    let disk = disk.crash(loss);
    let opened = on(&disk).open(PLACE);
    assert!(opened.is_ok(), "{what}: {opened:?}, {:?}", disk.files());
    let store = opened.unwrap();
    let found = rounds(&store);
    assert!((written..=written + 1).contains(&found), "{what}");
    check(&store, found, what);
    drop(store);
    let mut written = found;
    life(&disk, &mut written).unwrap();
    check(&on(&disk).open(PLACE).unwrap(), ROUNDS, what);
}

#[test]
fn stopped_at_any_operation_it_loses_nothing() {
    let disk = SimDisk::new(1);
    life(&disk, &mut 0).unwrap();
    let operations = disk.operations();
    for at in 1..=operations {
        for when in [When::Before, When::Midway, When::After] {
            let disk = SimDisk::new(1);
            disk.stop_at(at, when);
            let mut written = 0;
            // Its last operations may be behind what it says.
            let _ = life(&disk, &mut written);
            for loss in [Loss::Everything, Loss::Nothing, Loss::Random(at)] {
                let what = format!("stopped at {at} of {operations}, {when:?}, {loss:?}");
                survives(&disk, written, loss, &what);
            }
        }
    }
}

#[test]
fn whatever_call_fails_nothing_is_lost() {
    let disk = SimDisk::new(1);
    life(&disk, &mut 0).unwrap();
    for failure in [Failure::Io, Failure::NoSpace] {
        for at in 1..=disk.operations() {
            let disk = SimDisk::new(1);
            disk.fail(Fault::Operation {
                at,
                failure,
                lasting: false,
            });
            let mut written = 0;
            let _ = life(&disk, &mut written);
            for loss in [Loss::Everything, Loss::Nothing] {
                let what = format!("{failure:?} at {at}, {loss:?}");
                survives(&disk, written, loss, &what);
            }
        }
    }
}

#[test]
fn a_full_disk_ends_nothing() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open(PLACE).unwrap();
    for round in 1..=2 {
        write(&store, round).unwrap();
        store.checkpoint().unwrap();
    }
    write(&store, 3).unwrap();
    let used: u64 = disk.files().iter().map(|(_, len)| len.div_ceil(4096)).sum();
    for free in 0..12 {
        disk.set_capacity(Some((used + free) * 4096));
        if let Err(e) = store.checkpoint() {
            assert!(e.is_disk_full(), "{e}");
        }
        check(&store, 3, "on a full disk");
        check(
            &on(&disk.crash(Loss::Nothing)).open(PLACE).unwrap(),
            3,
            "killed on a full disk",
        );
    }
    disk.set_capacity(None);
    store.checkpoint().unwrap();
    check(&store, 3, "with room again");
    check(
        &on(&disk.crash(Loss::Everything)).open(PLACE).unwrap(),
        3,
        "with room again",
    );
}

/// The files of the image.
fn image_files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let images = Path::new(PLACE).join("image");
    let files = disk.files().into_iter();
    files
        .filter(|(path, _)| path.starts_with(&images))
        .collect()
}

#[test]
fn damage_heals_where_there_is_a_snapshot_and_is_told_where_there_is_none() {
    for snapshots in [true, false] {
        let disk = SimDisk::new(1);
        let builder = |disk: &SimDisk| on(disk).snapshots(snapshots).cache_bytes(0);
        let store = builder(&disk).open(PLACE).unwrap();
        for round in 1..=3 {
            // So much that the log no longer begins with the first commit.
            for _ in 0..4 {
                write(&store, round).unwrap();
            }
            store.checkpoint().unwrap();
            if snapshots {
                store.snapshot().unwrap();
            }
        }
        store.close().unwrap();
        let files = image_files(&disk);
        assert_eq!(files.len(), 2, "{files:?}");
        for (path, len) in files {
            for offset in [0, len / 2, len - 1] {
                let damaged = disk.crash(Loss::Nothing);
                damaged.flip(&path, offset, 5).unwrap();
                found_damaged(&damaged, &builder, snapshots);
            }
            for cut in [0, len / 2, len - 1] {
                let damaged = disk.crash(Loss::Nothing);
                damaged.truncate(&path, cut).unwrap();
                found_damaged(&damaged, &builder, snapshots);
            }
            let damaged = disk.crash(Loss::Nothing);
            damaged.remove(&path).unwrap();
            found_damaged(&damaged, &builder, snapshots);
        }
    }
}

fn found_damaged(disk: &SimDisk, builder: &dyn Fn(&SimDisk) -> Builder, snapshots: bool) {
    let read = || -> Result<Store> {
        let store = builder(disk).open(PLACE)?;
        for entry in store.global().scan("")? {
            entry?;
        }
        Ok(store)
    };
    match read() {
        Ok(store) => {
            assert!(snapshots);
            check(&store, 3, "damaged");
            assert_eq!(store.recovery().healed.len(), 1);
        }
        Err(e) => assert!(!snapshots && matches!(e, Error::Corrupt(_)), "{e}"),
    }
}

/// On the real disk, with sled, threads and all.
#[test]
fn a_store_of_the_other_backend_is_built_anew_or_refused() {
    let builder = |files: bool, snapshots: bool| {
        let builder = Store::builder().snapshots(snapshots).block_bytes(1024);
        match files {
            true => builder.image(Arc::new(FileBackend::default())),
            false => builder.image(Arc::new(SledBackend::default())),
        }
    };
    for first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        for (turn, files) in [first, !first, first].into_iter().enumerate() {
            let store = builder(files, true).open(dir.path()).unwrap();
            check(&store, turn as u32, "by the other backend");
            let healed = store.recovery().healed;
            assert_eq!(healed.len(), usize::from(turn > 0), "{healed:?}");
            write(&store, turn as u32 + 1).unwrap();
            store.checkpoint().unwrap();
            store.close().unwrap();
        }

        let dir = tempfile::tempdir().unwrap();
        let store = builder(first, false).open(dir.path()).unwrap();
        // So much that the log no longer begins with the first commit.
        store.global().set("large", vec![7_u8; 9 << 20]).unwrap();
        write(&store, 1).unwrap();
        store.checkpoint().unwrap();
        store.global().set("large", 0).unwrap();
        store.close().unwrap();
        drop(store);
        let error = builder(!first, false).open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        assert!(error.to_string().contains("has an image of"), "{error}");
        let store = builder(first, false).open(dir.path()).unwrap();
        check(&store, 1, "by the right backend again");
    }
}
