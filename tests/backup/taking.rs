//! Making backups: what is in them, of which stores, under which load, and what is
//! refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use evenkeel::testing::SimDisk;
use evenkeel::{
    BackupKind, BackupOptions, BackupPhase, Backups, Durability, Error, RestorePoint, Retention,
    Scope, Store, Vfs,
};

use crate::parts::{DEST, PLACE, Rig, bytes, content};

#[test]
fn a_backup_of_every_kind_of_store_holds_all_of_it() {
    let settings: [(&str, crate::parts::Settings); 3] = [
        ("with snapshots", |builder| builder),
        ("without", |builder| builder.snapshots(false)),
        ("often", |builder| builder.snapshot_log_bytes(16 * 1024)),
    ];
    for (name, settings) in settings {
        let mut rig = Rig::with(settings);
        rig.open().unwrap();
        let empty = rig.backup().unwrap();
        assert_eq!((empty.number, empty.kind), (1, BackupKind::Full), "{name}");
        rig.commits(3).unwrap();
        // The log alone, an image, a snapshot, and each with more behind it.
        for step in 0..4 {
            match step {
                1 => drop(rig.store().checkpoint().unwrap()),
                2 => drop(rig.store().snapshot().unwrap()),
                _ => rig.commits(60).unwrap(),
            }
            let full = rig.backup_with(BackupOptions::new().full()).unwrap();
            assert_eq!(full.kind, BackupKind::Full, "{name}, {step}");
            assert_eq!(full.bytes_written, full.bytes_needed, "{name}, {step}");
            rig.commits(2).unwrap();
            rig.backup().unwrap();
        }
        rig.check(&name);
        rig.close().unwrap();
        rig.open().unwrap();
        rig.backup().unwrap();
        rig.check(&name);
    }
}

#[test]
fn what_a_backup_says_of_itself_is_true() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(40).unwrap();
    rig.store().snapshot().unwrap();
    rig.commits(5).unwrap();
    let full = rig.backup().unwrap();
    let lsn = rig.store().stats().unwrap().durable_lsn;
    assert_eq!(full.lsn, lsn);
    assert_eq!(full.time_micros, 1_045_000);
    assert_eq!(
        full.time(),
        std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_045_000)
    );
    assert_eq!(full.previous, None);
    rig.commits(5).unwrap();
    let next = rig.backup().unwrap();
    assert_eq!(
        (next.kind, next.previous),
        (BackupKind::Incremental, Some(1))
    );
    assert!(next.lsn > full.lsn && next.bytes_written < full.bytes_written);
    assert_eq!(next.bytes_needed, full.bytes_needed + next.bytes_written);
    let len = |path| rig.disk.read(path).unwrap().len() as u64;
    for backup in [&full, &next] {
        let files = &backup.files[1..];
        assert_eq!(files.iter().map(len).sum::<u64>(), backup.bytes_needed);
    }
    let backups = rig.backups();
    assert_eq!(backups.list().unwrap(), [full.clone(), next.clone()]);
    assert_eq!(backups.get(2).unwrap(), next);
    assert_eq!(
        (backups.path(), backups.store()),
        (DEST.as_ref(), full.store)
    );
    let absent = backups.get(3).unwrap_err().to_string();
    assert!(absent.contains("from 1 to 2"), "{absent}");
    let verified = backups.verify().unwrap();
    assert_eq!((verified.files, verified.bytes), (3, next.bytes_needed));
    assert_eq!(backups.verify_backup(1).unwrap().backups, [full]);
}

/// All that was acknowledged before is in it, no transaction is half in it, and nobody
/// waits: under many writers, with checkpoints, snapshots and trimming on their way.
#[test]
fn a_store_under_writers_is_backed_up_between_two_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
    let store = Store::builder()
        .memtable_bytes(256 * 1024)
        .segment_bytes(8 * 1024, 64 * 1024)
        .snapshot_log_bytes(128 * 1024)
        .durability(Durability::Interval(std::time::Duration::from_millis(1)))
        .open(&path)
        .unwrap();
    let (stop, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let acknowledged: Vec<AtomicU64> = (0..6).map(|_| AtomicU64::new(0)).collect();
    let mut floors = BTreeMap::new();
    std::thread::scope(|scope| {
        for (thread, acknowledged) in acknowledged.iter().enumerate() {
            let (store, stop, failed) = (store.clone(), &stop, &failed);
            scope.spawn(move || {
                for n in 1_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let done = store.transact(|tx| {
                        tx.scope(Scope::worker(format!("{thread}"))).set("n", n)?;
                        tx.scope(Scope::job(format!("{thread}"))).set("n", n)?;
                        tx.global()
                            .set(format!("{thread}/{:03}", n % 200), "x".repeat(300))
                    });
                    match done {
                        Ok(()) => acknowledged.store(n, Ordering::Release),
                        Err(_) => {
                            failed.store(true, Ordering::Relaxed);
                            break;
                        }
                    }
                }
            });
        }
        let stopped = (|| {
            for round in 0..12 {
                let floor: Vec<u64> = acknowledged
                    .iter()
                    .map(|n| n.load(Ordering::Acquire))
                    .collect();
                let options = BackupOptions::new();
                let options = if round % 4 == 3 {
                    options.full()
                } else {
                    options
                };
                let backup = store.backup_with(&dest, options)?;
                floors.insert(backup.number, floor);
            }
            Ok::<(), Error>(())
        })();
        stop.store(true, Ordering::Relaxed);
        stopped.unwrap();
    });
    assert!(!failed.load(Ordering::Relaxed), "a writer failed");
    Backups::open(&dest).unwrap().verify().unwrap();
    for (number, floor) in floors {
        let copy = folder.path().join(format!("copy-{number}"));
        Store::restore_to(&dest, &copy, RestorePoint::Backup(number)).unwrap();
        let copy = Store::open(&copy).unwrap();
        for (thread, floor) in floor.iter().enumerate() {
            let of = |scope: Scope| copy.scope(scope).get::<u64>("n").unwrap();
            let one = of(Scope::worker(format!("{thread}")));
            assert_eq!(one, of(Scope::job(format!("{thread}"))), "backup {number}");
            assert!(
                one.unwrap_or(0) >= *floor,
                "backup {number}: {one:?}, {floor}"
            );
        }
    }
}

#[test]
fn large_values_and_what_nobody_waited_for_are_in_it() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    let large = "large".repeat(700_000);
    rig.store().global().set("large", &large).unwrap();
    rig.backup().unwrap();
    let later = rig.store().with_durability(Durability::Memory);
    later.global().set("later", &large[1..]).unwrap();
    rig.backup().unwrap();
    rig.store().snapshot().unwrap();
    rig.backup_with(BackupOptions::new().full()).unwrap();
    rig.check(&"large");
}

#[test]
fn progress_is_told_and_can_stop_it() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    let value = "v".repeat(300_000);
    for n in 0..8 {
        rig.store().global().set(format!("{n}"), &value).unwrap();
    }
    rig.store().snapshot().unwrap();
    for n in 0..8 {
        rig.store().global().set(format!("{n}"), &value).unwrap();
    }
    let mut told = Vec::new();
    let full = rig.backup_with(BackupOptions::new().progress(|p| told.push(*p)));
    let full = full.unwrap();
    let phases: Vec<_> = told.iter().map(|p| p.phase).collect();
    for phase in [BackupPhase::Log, BackupPhase::State, BackupPhase::Verifying] {
        assert!(phases.contains(&phase), "{phases:?}");
    }
    let read_back: u64 = told
        .iter()
        .filter(|p| p.phase == BackupPhase::Verifying && p.bytes == 0)
        .filter_map(|p| p.bytes_total)
        .sum();
    assert_eq!(read_back, full.bytes_written);
    for times in 0..told.len() {
        let mut left = times;
        let stop = BackupOptions::new().full().progress(|_| match left {
            0 => ControlFlow::Break(()),
            _ => {
                left -= 1;
                ControlFlow::Continue(())
            }
        });
        let stopped = rig.backup_with(stop);
        assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
        rig.check(&format!("stopped at call {times}"));
    }
    let panics = BackupOptions::new().progress(|_| -> () { panic!("no") });
    let panicked = rig.backup_with(panics);
    assert!(matches!(panicked, Err(Error::Panicked { message }) if message.contains("no")));
    rig.backup().unwrap();
    rig.check(&"after all that");
}

#[test]
fn two_at_once_into_one_folder_are_refused_and_elsewhere_are_not() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    let store = rig.store().clone();
    let mut inner = Vec::new();
    let options = BackupOptions::new().progress(|_| {
        inner.push(store.backup(DEST));
        inner.push(
            rig.builder()
                .backups(DEST)
                .unwrap()
                .remove(1)
                .map(|()| unreachable!()),
        );
        drop(store.backup("data/elsewhere").unwrap());
    });
    let outer = store.backup_with(DEST, options);
    outer.unwrap();
    assert!(inner.len() >= 2);
    for refused in inner {
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    }
    rig.builder()
        .backups("data/elsewhere")
        .unwrap()
        .verify()
        .unwrap();
}

#[test]
fn what_cannot_be_backed_up_there_is_refused_and_left_alone() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    let refused = |dest: &str| rig.store().backup(dest).unwrap_err();
    for dest in [
        "data/store",
        "data/store/backups",
        "data/store/../store/x",
        "data",
        "./data/./store/x",
        "",
        "data/x/../../data/store",
    ] {
        let before = bytes(&rig.disk, "");
        let error = refused(dest);
        assert!(matches!(error, Error::Invalid { .. }), "{dest}: {error}");
        assert_eq!(bytes(&rig.disk, ""), before, "{dest}");
    }
    let vfs: &dyn Vfs = &rig.disk;
    vfs.create_dir("data/other".as_ref()).unwrap();
    rig.disk.write("data/other/file", b"x").unwrap();
    let other = rig.builder().open("data/second").unwrap();
    other.backup("data/theirs").unwrap();
    drop(other);
    let before = bytes(&rig.disk, "");
    let not = [
        refused("data/other"),
        refused("data/other/file"),
        refused("data/second"),
    ];
    for error in not {
        assert!(matches!(error, Error::NotABackup { .. }), "{error}");
    }
    let error = refused("data/theirs");
    assert!(matches!(error, Error::ForeignBackup { .. }), "{error}");
    assert_eq!(bytes(&rig.disk, ""), before);
    let memory = Store::in_memory().backup("data/new").unwrap_err();
    assert!(matches!(memory, Error::Invalid { .. }), "{memory}");
    let none = rig.store().backup_with(DEST, BackupOptions::new().keep(0));
    assert!(matches!(none, Err(Error::Invalid { .. })));
    let nested = rig.store().transact(|_| rig.store().backup(DEST).map(drop));
    assert!(matches!(nested, Err(Error::Nested)), "{nested:?}");
    let store = rig.store().clone();
    rig.close().unwrap();
    assert!(matches!(store.backup(DEST), Err(Error::Closed)));
    assert_eq!(rig.files(DEST), [] as [std::path::PathBuf; 0]);
}

#[test]
fn missing_parents_and_relative_paths_will_do() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    for dest in ["a/b/c", "./x/../y/z", "/abs/olute", "plain"] {
        rig.store().backup(dest).unwrap();
        rig.store().backup(dest).unwrap();
        rig.builder().backups(dest).unwrap().verify().unwrap();
    }
}

/// The log is trimmed and the snapshot replaced while they are copied.
#[test]
fn what_is_replaced_while_it_is_copied_is_copied_again() {
    for times in [1, 3, 7, u32::MAX] {
        let mut rig = Rig::new();
        rig.open().unwrap();
        rig.commits(40).unwrap();
        rig.store().snapshot().unwrap();
        rig.commits(5).unwrap();
        let store = rig.store().clone();
        let mut attempts = 0;
        let options = BackupOptions::new().progress(|p| {
            if p.phase == BackupPhase::Log && p.bytes == 0 && attempts < times {
                attempts += 1;
                for n in 0..60 {
                    store
                        .global()
                        .set("more", format!("{n}").repeat(200))
                        .unwrap();
                }
                store.snapshot().unwrap();
                store.global().set("behind", attempts).unwrap();
            }
        });
        let made = rig.store().backup_with(DEST, options);
        if times == u32::MAX {
            assert!(matches!(made, Err(Error::Busy { .. })), "{made:?}");
        } else {
            let made = made.unwrap();
            assert_eq!(attempts, times);
            rig.kept.insert(made.number, content(&store));
        }
        rig.check(&times);
    }
    // One that goes on cannot: its log is gone. It becomes a full one.
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    rig.backup().unwrap();
    rig.commits(3).unwrap();
    let store = rig.store().clone();
    let mut begun = false;
    let options = BackupOptions::new().progress(|_| {
        if !std::mem::replace(&mut begun, true) {
            for n in 0..60 {
                store
                    .global()
                    .set("more", format!("{n}").repeat(200))
                    .unwrap();
            }
            store.snapshot().unwrap();
        }
    });
    let made = store.backup_with(DEST, options).unwrap();
    assert_eq!(made.kind, BackupKind::Full);
    rig.kept.insert(made.number, content(&store));
    rig.check(&"trimmed under it");
}

/// The snapshot that is copied is replaced, and so removed, halfway through.
#[test]
fn a_snapshot_that_is_removed_while_it_is_copied_is_copied_to_its_end() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    let value = "v".repeat(500_000);
    for n in 0..8 {
        rig.store().global().set(format!("{n}"), &value).unwrap();
    }
    let copied = rig.store().snapshot().unwrap();
    let before = content(rig.store());
    let store = rig.store().clone();
    let mut replaced = None;
    let options = BackupOptions::new().progress(|p| {
        if p.phase == BackupPhase::State && p.bytes > 0 && replaced.is_none() {
            store.global().set("0", 1).unwrap();
            replaced = Some(store.snapshot().unwrap());
        }
    });
    let made = rig.store().backup_with(DEST, options).unwrap();
    assert!(replaced.is_some_and(|newer| newer > copied));
    assert_eq!(rig.files("data/store/snapshots").len(), 1);
    rig.kept.insert(made.number, before);
    rig.check(&"replaced");
}

#[test]
fn a_newer_folder_is_refused_and_left_alone() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    rig.backup().unwrap();
    for name in ["BACKUP", "backups/00000001.backup"] {
        let path = format!("{DEST}/{name}");
        let good = rig.disk.read(&path).unwrap();
        let mut newer = good.clone();
        newer[12] = 2;
        let crc = crc32fast::hash(&newer[12..]);
        newer[8..12].copy_from_slice(&crc.to_le_bytes());
        rig.disk.write(&path, &newer).unwrap();
        let before = bytes(&rig.disk, DEST);
        let backups = || rig.builder().backups(DEST);
        let keep = BackupOptions::new().keep(1);
        for refused in [
            rig.store().backup(DEST).map(drop),
            rig.store().backup_with(DEST, keep).map(drop),
            backups().and_then(|b| b.list()).map(drop),
            backups().and_then(|b| b.verify()).map(drop),
            backups()
                .and_then(|b| b.retain(Retention::newest(1)))
                .map(drop),
            backups().and_then(|b| b.remove(1)),
            rig.builder()
                .restore(DEST, "data/copy", RestorePoint::Latest)
                .map(drop),
        ] {
            let newer = matches!(refused, Err(Error::NewerFormat { found: 2, .. }));
            assert!(newer, "{name}: {refused:?}");
        }
        assert_eq!(bytes(&rig.disk, DEST), before, "{name}");
        rig.disk.write(&path, &good).unwrap();
    }
    rig.check(&"as it was");
}

/// Beside a store that was opened with threads, on the real disk, and by default.
#[test]
fn the_source_stays_as_it_is() {
    let disk = SimDisk::new(3);
    let mut rig = Rig::on(disk, |builder| builder);
    rig.open().unwrap();
    rig.commits(30).unwrap();
    rig.store().snapshot().unwrap();
    rig.commits(5).unwrap();
    let before = (bytes(&rig.disk, PLACE), content(rig.store()));
    rig.backup().unwrap();
    rig.backup().unwrap();
    assert_eq!((bytes(&rig.disk, PLACE), content(rig.store())), before);
    // Nor is it written to by who only reads.
    let before = bytes(&rig.disk, DEST);
    rig.disk.set_read_only(true);
    rig.backups().list().unwrap();
    rig.backups().verify().unwrap();
    rig.disk.set_read_only(false);
    assert_eq!(bytes(&rig.disk, DEST), before);
}
