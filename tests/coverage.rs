//! Every call in the sources that changes a disk is crashed: the calls are found by
//! reading the sources, and not by what was reached. One situation for each that few
//! workloads come to.

#![expect(clippy::print_stdout, reason = "the table of the calls is printed")]
#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::testing::crash::Coverage;
use evenkeel::testing::{Failure, Fault, Loss, Operation, OperationKind, SimDisk, When};
use evenkeel::{
    BackupOptions, Builder, FileBackend, RestorePoint, Result, Salvage, Scope, Store, Vfs,
};

const PLACE: &str = "data/store";
const BACKUPS: &str = "data/backups";

/// What is done to a disk.
type Work = fn(&SimDisk) -> Result<()>;

fn builder(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 8 * 1024)
        .block_bytes(8 * 1024)
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(Loss::Nothing)
}

fn commits(store: &Store, keys: Range<u32>) -> Result<()> {
    let scope = store.scope(Scope::Global);
    let value = "x".repeat(900);
    keys.into_iter()
        .try_for_each(|key| scope.set(format!("k{key}"), value.as_str()))
}

/// Stops the work on copies of a disk at each operation, or at the first ones, and
/// gives the disks as each stop left them.
fn stops(coverage: &mut Coverage, most: u64, image: &SimDisk, work: Work) -> Vec<SimDisk> {
    let mut left = Vec::new();
    for at in 1..=most {
        let disk = copy(image);
        disk.stop_at(at, When::Midway);
        let done = work(&disk);
        let Some(stack) = disk.stopped_at() else {
            done.unwrap();
            break;
        };
        coverage.crashed(&stack);
        left.push(disk);
    }
    left
}

/// Lets each operation of the work fail, and stops it at the next one.
fn stops_behind_failures(coverage: &mut Coverage, image: &SimDisk, work: Work) {
    for at in 1.. {
        let disk = copy(image);
        let (failure, lasting) = (Failure::Io, false);
        disk.fail(Fault::Operation {
            at,
            failure,
            lasting,
        });
        disk.stop_at(at + 1, When::Before);
        // What it says does not matter here.
        let _ = work(&disk);
        let failed = disk.failed_at();
        failed.iter().for_each(|stack| coverage.failed(stack));
        if let Some(stack) = disk.stopped_at() {
            coverage.crashed(&stack);
        }
        if failed.is_empty() {
            break;
        }
    }
}

fn open(disk: &SimDisk) -> Result<()> {
    builder(disk).open(PLACE)?.close()
}

/// Segments are begun, trimmed, set aside and used again; snapshots follow each other.
fn life(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    for round in 0..3 {
        commits(&store, 0..16)?;
        store.snapshot()?;
        commits(&store, round..round + 6)?;
        store.checkpoint()?;
    }
    store.close()
}

/// The image is in files of its own, which go when nothing in them counts any more.
fn in_files(disk: &SimDisk) -> Result<()> {
    for _ in 0..2 {
        let image = Arc::new(FileBackend::new(Arc::new(disk.clone())));
        let store = builder(disk).image(image).open(PLACE)?;
        commits(&store, 0..16)?;
        store.checkpoint()?;
        store.close()?;
    }
    Ok(())
}

/// Leaves a manifest that names a folder and no block.
fn emptied(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..4)?;
    store.checkpoint()?;
    store.scope(Scope::Global).clear()?;
    store.close()
}

fn filled_again(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..4)?;
    store.close()
}

fn persist(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).in_memory()?;
    commits(&store, 0..4)?;
    store.persist(PLACE)?.close()
}

/// Leaves a backup whose commits are too many to be merged at once.
fn backed_up(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..180)?;
    store.backup(BACKUPS)?;
    store.close()
}

fn restore(disk: &SimDisk) -> Result<()> {
    let point = RestorePoint::Latest;
    builder(disk).restore(BACKUPS, "new/copy", point)?;
    Ok(())
}

/// What fails is tried once more.
fn stubborn(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    for key in 0..16 {
        commits(&store, key..key + 1).or_else(|_| commits(&store, key..key + 1))?;
    }
    store.snapshot().or_else(|_| store.snapshot())?;
    store.close()
}

/// A snapshot fails, and so does taking away what it left; then it is made again.
fn snapshot_over_another(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..4)?;
    store.checkpoint()?;
    let (at, failure, lasting) = (disk.operations() + 2, Failure::Io, true);
    disk.fail(Fault::Operation {
        at,
        failure,
        lasting,
    });
    store.snapshot().unwrap_err();
    disk.clear_faults();
    store.snapshot()?;
    store.close()
}

/// Full backups and ones that go on, of a log, a snapshot and an image; retention.
fn backups(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..2)?;
    store.backup(BACKUPS)?;
    store.snapshot()?;
    commits(&store, 2..4)?;
    store.backup(BACKUPS)?;
    let options = || BackupOptions::new().full();
    store.backup_with(BACKUPS, options().keep(1))?;
    for file in disk.files() {
        if file.0.starts_with(format!("{PLACE}/snapshots")) {
            disk.remove(file.0).unwrap();
        }
    }
    store.backup_with(BACKUPS, options())?;
    builder(disk).backups(BACKUPS)?.remove(3)?;
    store.close()
}

/// What a backup copies is replaced while it is made, so it begins again.
fn backup_twice(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).open(PLACE)?;
    commits(&store, 0..16)?;
    store.snapshot()?;
    let mut begun = false;
    let options = BackupOptions::new().progress(|_| {
        if !std::mem::replace(&mut begun, true) {
            // A disk that is stopped says so to the backup too.
            let _ = commits(&store, 0..24).and_then(|()| store.snapshot());
        }
    });
    store.backup_with(BACKUPS, options)?;
    store.close()
}

fn salvage(disk: &SimDisk) -> Result<()> {
    let store = builder(disk).salvage(Salvage::CutLog).open(PLACE)?;
    assert!(!store.recovery().lost.is_empty());
    store.close()
}

/// Stops openings on a disk that has only a few pages left.
fn stops_on_a_full_disk(coverage: &mut Coverage) {
    let unfinished = SimDisk::new(1);
    let store = builder(&unfinished).open(PLACE).unwrap();
    commits(&store, 0..40).unwrap();
    store.snapshot().unwrap();
    commits(&store, 0..5).unwrap();
    let unfinished = copy(&unfinished);
    drop(store);
    for name in ["image/9", "snapshots"] {
        let vfs: &dyn Vfs = &unfinished;
        let _ = vfs.create_dir(format!("{PLACE}/{name}").as_ref());
    }
    for name in [
        "snapshots/0000000000000009.snap.tmp",
        "wal/0000000000000001.spare",
    ] {
        unfinished
            .write(format!("{PLACE}/{name}"), &[7; 4096])
            .unwrap();
    }
    for at in 1.. {
        let disk = copy(&unfinished);
        let files = disk.files();
        let used: u64 = files.iter().map(|(_, len)| len.div_ceil(4096)).sum();
        disk.set_capacity(Some(used * 4096));
        disk.stop_at(at, When::Midway);
        let done = open(&disk);
        let Some(stack) = disk.stopped_at() else {
            // It opened; its last checkpoint found no room.
            assert!(done.unwrap_err().is_disk_full());
            break;
        };
        coverage.crashed(&stack);
    }
}

/// Stops the log's own thread, which syncs the mark when nothing happens.
#[expect(
    clippy::disallowed_methods,
    reason = "a thread that never does it ends the test too"
)]
fn stop_when_idle(coverage: &mut Coverage) {
    let idle = |disk: &SimDisk, happened: &dyn Fn() -> bool| {
        let store = builder(disk).background(true).open(PLACE).unwrap();
        commits(&store, 0..1).unwrap();
        let limit = Instant::now() + Duration::from_secs(60);
        while !happened() && Instant::now() < limit {
            std::thread::yield_now();
        }
    };
    let disk = SimDisk::new(1);
    disk.record(true);
    // The first one: closing the store syncs it too.
    let is_sync =
        |call: &&Operation| call.kind == OperationKind::Sync && call.path.ends_with("marks");
    let synced = || disk.trace().iter().find(is_sync).map(|call| call.ordinal);
    idle(&disk, &|| synced().is_some());
    let at = synced().expect("a sync of the mark");
    let disk = SimDisk::new(1);
    disk.stop_at(at, When::Before);
    idle(&disk, &|| disk.stopped());
    coverage.crashed(&disk.stopped_at().unwrap());
}

/// A disk on which the work was done.
fn after(work: Work) -> SimDisk {
    let disk = SimDisk::new(1);
    work(&disk).unwrap();
    disk
}

#[test]
fn every_call_that_changes_a_disk_is_crashed() {
    let mut coverage = Coverage::new();
    let new = SimDisk::new(1);
    let all = u64::MAX;

    // A making that was interrupted, and its recovery too.
    for left in stops(&mut coverage, all, &new, open) {
        stops(&mut coverage, all, &left, open);
    }
    // A persisting that was interrupted is done again: what is left goes first.
    for left in stops(&mut coverage, all, &new, persist) {
        let there = left
            .files()
            .iter()
            .any(|(path, _)| path.ends_with("store/FORMAT"));
        if !there {
            stops(&mut coverage, 6, &copy(&left), persist);
            // So it does when a store is made at its place by other means.
            let made = copy(&left);
            builder(&made).open(PLACE).map(drop).unwrap();
            let leftover = |disk: &SimDisk| {
                disk.files()
                    .iter()
                    .any(|(path, _)| path.starts_with("data/.store.building"))
            };
            assert!(!leftover(&made));
            stops(&mut coverage, all, &copy(&left), open);
        }
    }
    // A restore, and one whose calls fail: what it has begun is removed.
    let taken = after(backed_up);
    stops(&mut coverage, all, &taken, restore);
    stops_behind_failures(&mut coverage, &taken, restore);

    stops(&mut coverage, all, &new, life);
    stops_behind_failures(&mut coverage, &new, stubborn);
    // What is in no index goes at the next opening.
    for left in stops(&mut coverage, all, &new, in_files) {
        stops(&mut coverage, 24, &left, in_files);
    }
    stops(&mut coverage, all, &after(emptied), filled_again);
    stops(&mut coverage, all, &after(emptied), backups);
    stops(&mut coverage, all, &new, backup_twice);
    stops_behind_failures(&mut coverage, &after(emptied), backups);

    stops(&mut coverage, all, &new, snapshot_over_another);

    // The manifest is gone: the image is built anew, and the old one removed.
    let without = after(life);
    without.remove(format!("{PLACE}/MANIFEST")).unwrap();
    stops(&mut coverage, all, &without, open);

    // The log is damaged: what is behind that is put aside.
    let damaged = SimDisk::new(1);
    let store = builder(&damaged).open(PLACE).unwrap();
    commits(&store, 0..16).unwrap();
    let damaged = copy(&damaged);
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|end| end == "log");
    let log = damaged.files().into_iter().find(|(path, _)| is_log(path));
    damaged.flip(log.unwrap().0, 2000, 0).unwrap();
    stops(&mut coverage, all, &damaged, salvage);
    // The snapshot that is written then was begun before.
    let written = copy(&damaged);
    salvage(&written).unwrap();
    for (path, _) in written.files() {
        if path.extension().is_some_and(|end| end == "snap") {
            damaged
                .write(path.with_extension("snap.tmp"), &[7; 64])
                .unwrap();
        }
    }
    stops(&mut coverage, all, &damaged, salvage);

    stops_on_a_full_disk(&mut coverage);
    stop_when_idle(&mut coverage);

    println!("{coverage:#}");
    coverage.check().unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(coverage.unread().count(), 0, "{coverage}");
}

#[test]
fn coverages_add_up() {
    let new = SimDisk::new(1);
    let (mut a, mut b, mut both) = (Coverage::new(), Coverage::new(), Coverage::new());
    stops(&mut a, 4, &new, open);
    stops(&mut b, 9, &new, open);
    for _ in 0..2 {
        stops(&mut both, 4, &new, open);
    }
    stops(&mut a, 1, &new, life);
    both.add(&a);
    both.add(&b);
    let crashed = |coverage: &Coverage| coverage.sites().map(|(_, met)| met.crashed).sum::<u64>();
    let summed = [&a, &b].map(crashed).iter().sum::<u64>() + 2 * (crashed(&a) - 1);
    assert_eq!(crashed(&both), summed);
    assert!(a.check().unwrap_err().contains("src/vfs.rs"), "{a}");
    let lines: Vec<_> = both.lines().map(|(file, _, count)| (file, count)).collect();
    let file = std::path::PathBuf::from(file!());
    assert_eq!(lines, [(file.clone(), 4 * 3 + 9), (file, 1)], "{both}");
}
