//! A small backup, damaged in every way: each bit of each byte at least once over all
//! bytes, each file cut at each length, each file gone. What is restored is what was
//! backed up, or nothing is, and the error says which file it is.

use std::path::Path;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Error, RestorePoint, Vfs};

use crate::bad_input::history;
use crate::parts::{BACKUPS, COPY, History, builder, files, nothing_at_copy, open_restored};

/// Restores a point from damaged backups. True where the damage was told.
fn check(history: &History, disk: &SimDisk, point: RestorePoint, path: &Path, what: &str) -> bool {
    let wanted = match point {
        RestorePoint::Backup(number) => history.at(history.backups[number as usize - 1].lsn),
        _ => history.last().shown,
    };
    let restored = match builder(disk, &history.clock).restore(BACKUPS, COPY, point) {
        Ok(restored) => restored,
        Err(e) => {
            let names = match &e {
                Error::Corrupt(found) => found.path.starts_with(BACKUPS),
                Error::NewerFormat { path: found, .. } => found == path,
                Error::NotABackup { .. } | Error::NotInBackup { .. } => what == "gone",
                _ => false,
            };
            assert!(names, "{} {what}: {e}", path.display());
            assert!(nothing_at_copy(disk), "{} {what}: {e}", path.display());
            return true;
        }
    };
    let shown = open_restored(disk, &history.clock, &restored);
    assert_eq!(shown, wanted, "{} {what}", path.display());
    let vfs: &dyn Vfs = disk;
    vfs.remove_dir_all(COPY.as_ref()).unwrap();
    false
}

/// Which backups need a file, by its name.
fn needed_by(history: &History, path: &Path) -> Vec<u64> {
    let needs = |backup: &&evenkeel::Backup| backup.files.iter().any(|file| file == path);
    history
        .backups
        .iter()
        .filter(needs)
        .map(|b| b.number)
        .collect()
}

#[test]
fn each_byte_flipped() {
    let history = history();
    let (mut flips, mut told) = (0_u64, 0);
    for (path, bytes) in files(&history.disk, BACKUPS) {
        // BACKUP is needed by all.
        let needed = match path.ends_with("BACKUP") {
            true => vec![3],
            false => needed_by(&history, &path),
        };
        let Some(&number) = needed.last() else {
            assert!(bytes.is_empty(), "nobody needs {}", path.display());
            continue;
        };
        for offset in 0..bytes.len() as u64 {
            let disk = history.disk.crash(Loss::Nothing);
            disk.flip(&path, offset, (offset % 8) as u8).unwrap();
            let point = RestorePoint::Backup(number);
            flips += 1;
            told += u64::from(check(&history, &disk, point, &path, "flipped"));
        }
    }
    assert!(flips > 2_500, "{flips}");
    assert_eq!(told, flips, "every byte is under a checksum");
}

#[test]
fn each_file_cut_or_longer() {
    let history = history();
    for (path, bytes) in files(&history.disk, BACKUPS) {
        let needed = needed_by(&history, &path);
        let Some(&number) = needed.last() else {
            continue;
        };
        let point = RestorePoint::Backup(number);
        let length = bytes.len() as u64;
        let lengths = (0..length).filter(|at| at % 5 == 0 || at + 80 > length);
        for cut in lengths {
            let disk = history.disk.crash(Loss::Nothing);
            disk.truncate(&path, cut).unwrap();
            assert!(check(&history, &disk, point, &path, "cut"), "cut at {cut}");
        }
        let disk = history.disk.crash(Loss::Nothing);
        disk.write(&path, &[&bytes[..], b"x"].concat()).unwrap();
        assert!(check(&history, &disk, point, &path, "longer"));
    }
}

#[test]
fn each_file_gone_or_empty() {
    let history = history();
    let numbers: Vec<_> = history.backups.iter().map(|backup| backup.number).collect();
    for path in files(&history.disk, BACKUPS).into_keys() {
        let needed = needed_by(&history, &path);
        for &number in &numbers {
            let disk = history.disk.crash(Loss::Nothing);
            disk.remove(&path).unwrap();
            let told = check(&history, &disk, RestorePoint::Backup(number), &path, "gone");
            let all = path.ends_with("BACKUP");
            assert_eq!(told, all || needed.contains(&number), "{}", path.display());
            if all || path.ends_with("LOCK") {
                continue;
            }
            let disk = history.disk.crash(Loss::Nothing);
            disk.truncate(&path, 0).unwrap();
            let told = check(
                &history,
                &disk,
                RestorePoint::Backup(number),
                &path,
                "empty",
            );
            assert_eq!(told, needed.contains(&number), "{}", path.display());
        }
    }
}

#[test]
fn a_hole_in_the_log() {
    let mut history = History::new();
    for _ in 0..4 {
        history.many(2);
        history.backup();
    }
    history.close();
    let logs: Vec<_> = files(&history.disk, format!("{BACKUPS}/log"))
        .into_keys()
        .collect();
    assert_eq!(logs.len(), 4);
    for (at, path) in logs.iter().enumerate() {
        let disk = history.disk.crash(Loss::Nothing);
        disk.remove(path).unwrap();
        // What comes before the hole is there, and nothing that comes behind it.
        for (number, _) in history.backups.iter().enumerate() {
            let point = RestorePoint::Backup(number as u64 + 1);
            let told = check(&history, &disk, point, path, "gone");
            assert_eq!(told, number >= at, "archive {at}, backup {number}");
        }
        for other in &logs {
            // A neighbour in its place, whole and of the same store.
            let disk = history.disk.crash(Loss::Nothing);
            disk.write(path, &history.disk.read(other).unwrap())
                .unwrap();
            let told = check(&history, &disk, RestorePoint::Latest, path, "another one");
            assert_eq!(told, path != other);
        }
    }
}
