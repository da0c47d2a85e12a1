//! Points in time: whatever LSN, time or backup is asked for, the store is what it was.

use evenkeel::{BackupKind, BackupOptions, Error, Lsn, RestorePoint, Retention, Store};

use crate::parts::{BACKUPS, History, builder, time};

/// A store that was backed up, trimmed, closed and killed on its way. All of its commits
/// are in its backups.
fn history() -> History {
    let mut history = History::new();
    history.many(9);
    history.backup();
    history.many(5);
    history.store().checkpoint().unwrap();
    history.many(4);
    history.backup();
    history.store().snapshot().unwrap();
    history.many(6);
    history.backup();
    history.close();
    history.many(3);
    history.kill();
    history.many(4);
    history.backup_with(BackupOptions::new().full());
    history.many(5);
    history.backup();
    history
}

#[test]
fn each_lsn_of_a_history() {
    let history = history();
    let last = history.backups.last().unwrap().lsn;
    let mut lsns: Vec<_> = (1..=30).map(Lsn::new).collect();
    for moment in &history.moments {
        let lsn = moment.lsn.get();
        lsns.extend([lsn - 1, lsn, lsn + 1].map(Lsn::new));
    }
    lsns.push(last);
    lsns.sort_unstable();
    lsns.dedup();
    lsns.retain(|&lsn| lsn > Lsn::ZERO && lsn <= last);
    assert!(lsns.len() > 36, "{lsns:?}");
    for lsn in lsns {
        let (restored, shown) = history.restored(lsn).unwrap();
        assert_eq!(shown, history.at(lsn), "at LSN {lsn}");
        assert_eq!(restored.lsn, lsn);
        let before = history.moments.iter().rev().find(|m| m.lsn <= lsn);
        // A base is of a moment too, and may be of a later one than its last commit.
        let least = before.map_or(0, |before| before.micros);
        assert!(restored.time_micros >= least, "at LSN {lsn}");
    }
}

#[test]
fn each_time_of_a_history() {
    let history = history();
    let first = history.moments[0].micros;
    let last = history.backups.last().unwrap().time_micros;
    for micros in first..=last {
        let (restored, shown) = history.restored(time(micros)).unwrap();
        assert_eq!(shown, history.at_time(micros), "at {micros}");
        assert_eq!(restored.time_micros, micros);
    }
    // A part of a microsecond does not count.
    let later = time(first) + std::time::Duration::from_nanos(999);
    assert_eq!(history.restored(later).unwrap().0.time_micros, first);
}

#[test]
fn each_backup_of_a_history() {
    let history = history();
    assert!(
        history
            .backups
            .iter()
            .any(|b| b.kind == BackupKind::Incremental)
    );
    for backup in &history.backups {
        let point = RestorePoint::Backup(backup.number);
        let (restored, shown) = history.restored(point).unwrap();
        assert_eq!(shown, history.at(backup.lsn));
        assert_eq!((restored.lsn, restored.backup), (backup.lsn, backup.number));
        assert_eq!(restored.time_micros, backup.time_micros);
        assert_eq!(restored.origin.store, backup.store);
        assert_eq!(restored.origin.time(), backup.time());
    }
    let (restored, shown) = history.restored(RestorePoint::Latest).unwrap();
    assert_eq!(shown, history.last().shown);
    assert_eq!(restored.backup, history.backups.last().unwrap().number);
}

fn refused(history: &History, point: impl Into<RestorePoint>) -> String {
    let point = point.into();
    let e = history.restored(point).expect_err("it is not there");
    assert!(matches!(e, Error::NotInBackup { .. }), "{point:?}: {e}");
    e.to_string()
}

#[test]
fn before_and_behind_what_there_is() {
    let mut history = History::new();
    history.many(9);
    history.store().snapshot().unwrap();
    let trimmed = history.last().lsn;
    history.many(3);
    history.backup();
    history.many(2);
    history.backup();
    let newest = history.backups[1].clone();
    history.many(2);

    // The first backup begins with the snapshot.
    assert!(history.restored(trimmed).is_ok());
    let told = refused(&history, Lsn::new(trimmed.get() - 1));
    let wanted = format!("LSN {trimmed} to LSN {}", newest.lsn);
    assert!(told.contains(&wanted), "{told}");
    for lsn in [0, newest.lsn.get() + 1, u64::MAX] {
        refused(&history, Lsn::new(lsn));
    }
    for micros in [0, history.moments[0].micros, newest.time_micros + 1] {
        let told = refused(&history, time(micros));
        assert!(told.contains("seconds since 1970"), "{told}");
    }
    refused(&history, time(0) - std::time::Duration::from_secs(1));
    for number in [0, 3, u64::MAX] {
        refused(&history, RestorePoint::Backup(number));
    }
}

#[test]
fn before_the_first_commit() {
    let mut history = History::new();
    history.clock.set_micros(5_000_000);
    history.store();
    history.backup();
    let (restored, shown) = history.restored(RestorePoint::Latest).unwrap();
    assert_eq!((restored.entries, shown.lines.as_str()), (0, ""));
    history.many(2);
    history.backup();
    // The store was there, with nothing in it.
    let (_, shown) = history.restored(Lsn::new(1)).unwrap();
    assert_eq!(shown.lines, "");
    refused(&history, Lsn::ZERO);
    let first = history.moments[0].micros;
    let told = refused(&history, time(first - 1));
    assert!(told.contains("nothing was committed by then"), "{told}");
    assert_eq!(
        history.restored(time(first)).unwrap().1,
        history.at_time(first)
    );
}

#[test]
fn a_gap_between_backups_is_no_state() {
    let mut history = History::new();
    history.many(4);
    history.backup();
    let end = history.backups[0].lsn;
    history.many(4);
    let lost = history.last().lsn;
    // Several segments: the log behind the first backup is trimmed, and the next one has a
    // base of its own.
    for n in 0..40 {
        history.commit(|tx| tx.global().set("large", format!("{n:900}")));
    }
    history.store().snapshot().unwrap();
    let base = history.last().lsn;
    history.many(2);
    let second = history.backup();
    assert_eq!(second.kind, BackupKind::Full);
    let told = refused(&history, lost);
    assert!(told.contains(&format!("to LSN {end}, and LSN ")), "{told}");
    assert!(base < second.lsn);
    for moment in history.moments.clone() {
        if let Ok((_, shown)) = history.restored(moment.lsn) {
            assert_eq!(shown, moment.shown);
        }
    }
    assert_eq!(history.restored(end).unwrap().1, history.at(end));
}

#[test]
fn after_retention_what_is_kept_is_all_there() {
    let mut history = history();
    let disk = history.disk.crash(evenkeel::testing::Loss::Nothing);
    let backups = builder(&disk, &history.clock).backups(BACKUPS).unwrap();
    let gone = backups.retain(Retention::newest(2)).unwrap();
    assert_eq!(gone.len(), history.backups.len() - 2);
    history.disk = disk;
    for backup in history.backups.clone() {
        let point = RestorePoint::Backup(backup.number);
        match gone.contains(&backup.number) {
            true => drop(refused(&history, point)),
            false => assert_eq!(history.restored(point).unwrap().1, history.at(backup.lsn)),
        }
    }
    // And points between them.
    let last = history.last();
    assert_eq!(history.restored(last.lsn).unwrap().1, last.shown);
}

#[test]
fn on_a_real_disk_with_threads() {
    let folder = tempfile::tempdir().unwrap();
    let [path, backups, copy, other] =
        ["state", "backups", "a/b/copy", "other"].map(|name| folder.path().join(name));
    let store = Store::open(&path).unwrap();
    let (_, first) = store.submit(|tx| tx.global().set("n", 0)).unwrap();
    for n in 1..500 {
        store.global().set("n", n).unwrap();
    }
    let taken = store.backup(&backups).unwrap();
    store.global().set("n", 1_000).unwrap();

    let restored = Store::restore(&backups, &copy).unwrap();
    assert_eq!((restored.lsn, restored.entries), (taken.lsn, 1));
    let found = Store::open(&copy).unwrap();
    assert_eq!(found.global().get("n").unwrap(), Some(499));
    assert_eq!(found.origin().unwrap().store, taken.store);
    Store::restore_to(&backups, &other, first.lsn()).unwrap();
    let found = Store::open(&other).unwrap();
    assert_eq!(found.global().get("n").unwrap(), Some(0));
    assert!(found.verify().unwrap().is_clean());
}
