//! Damage on either side: it is named, never restored, and never makes anything go that
//! is good.

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{BackupOptions, Error, RestorePoint};

use crate::parts::{DEST, PLACE, Rig, bytes, content, is_damage};

/// A small folder of backups, with a state and several logs; nothing is open.
fn small() -> Rig {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.store().global().set("a", 1).unwrap();
    rig.store().snapshot().unwrap();
    rig.store().global().set("b", 2).unwrap();
    rig.backup().unwrap();
    rig.store().global().set("c", 3).unwrap();
    rig.backup().unwrap();
    rig.close().unwrap();
    let left = rig.after(Loss::Nothing);
    assert_eq!(left.files(DEST).len(), 7);
    left
}

/// What is damaged is found by whoever looks, and neither listing nor another backup
/// make it worse.
fn check(rig: &mut Rig, what: &str) {
    let builder = rig.builder();
    let backups = builder.backups(DEST);
    let found = backups.as_ref().map_err(ToString::to_string);
    let found = found.and_then(|b| {
        b.verify().map_err(|e| {
            assert!(is_damage(&e), "{what}: {e}");
            e.to_string()
        })
    });
    assert!(found.is_err(), "{what}: nobody noticed");
    if let Ok(backups) = &backups {
        // None of these panics, and what they say is of some type of damage.
        for said in [
            backups.list().map(drop),
            backups.numbers().map(drop),
            backups.get(1).map(drop),
            backups.verify_backup(2).map(drop),
        ] {
            let said = said.err();
            let typed =
                said.is_none_or(|e| is_damage(&e) || matches!(e, Error::NotInBackup { .. }));
            assert!(typed, "{what}");
        }
    } else {
        let error = backups.unwrap_err();
        assert!(is_damage(&error), "{what}: {error}");
    }
    for (number, content) in &rig.kept {
        match rig.restored(RestorePoint::Backup(*number)) {
            Ok(restored) => assert_eq!(restored, *content, "{what}: backup {number}"),
            Err(e) => {
                let typed = is_damage(&e) || matches!(e, Error::NotInBackup { .. });
                assert!(typed, "{what}: {e}");
            }
        }
    }
}

/// Another backup goes its way or says what is wrong; what is there stays.
fn another(rig: &mut Rig, what: &str) {
    let before = bytes(&rig.disk, DEST);
    rig.open().unwrap();
    rig.store().global().set("more", 1).unwrap();
    let content = content(rig.store());
    match rig.store().backup(DEST) {
        Ok(made) => {
            rig.backups()
                .verify_backup(made.number)
                .map(drop)
                .unwrap_or_else(|e| {
                    // An incremental one looks at both ends of what it goes on from.
                    assert!(made.previous.is_some() && is_damage(&e), "{what}: {e}");
                });
            if made.previous.is_none() {
                let restored = rig.restored(RestorePoint::Backup(made.number)).unwrap();
                assert_eq!(restored, content, "{what}");
            }
        }
        Err(e) => assert!(is_damage(&e), "{what}: {e}"),
    }
    let after = bytes(&rig.disk, DEST);
    for (path, bytes) in before {
        let named = path.extension().is_some_and(|end| end != "tmp");
        let there = after.get(&path) == Some(&bytes);
        assert!(there || !named, "{what}: {} is gone", path.display());
    }
}

#[test]
fn every_flipped_byte_of_a_backup_is_noticed() {
    let rig = small();
    for (path, good) in bytes(&rig.disk, DEST) {
        for at in 0..good.len() as u64 {
            let mut damaged = rig.after(Loss::Nothing);
            let bit = (at % 8) as u8;
            damaged.disk.flip(&path, at, bit).unwrap();
            let what = format!("{}, bit {bit} of byte {at}", path.display());
            check(&mut damaged, &what);
            if at % 16 == 0 {
                another(&mut damaged, &what);
            }
        }
    }
}

type Harm<'p> = Box<dyn Fn(&SimDisk) + 'p>;

#[test]
fn every_file_cut_zeroed_removed_or_lengthened_is_noticed() {
    let rig = small();
    for (path, good) in bytes(&rig.disk, DEST) {
        if good.is_empty() {
            continue;
        }
        let len = good.len() as u64;
        let path = path.as_path();
        let mut harms: Vec<(String, Harm<'_>)> = vec![
            (
                "gone".into(),
                Box::new(move |disk| disk.remove(path).unwrap()),
            ),
            (
                "zeroed".into(),
                Box::new(move |disk| disk.zero(path, 0..len).unwrap()),
            ),
            (
                "longer".into(),
                Box::new(move |disk| {
                    let mut more = disk.read(path).unwrap();
                    more.push(0);
                    disk.write(path, &more).unwrap();
                }),
            ),
        ];
        for to in [0, 1, len / 3, len / 2, len - 48, len - 1] {
            let cut = move |disk: &SimDisk| disk.truncate(path, to).unwrap();
            harms.push((format!("cut to {to}"), Box::new(cut)));
        }
        for (name, harm) in harms {
            let mut damaged = rig.after(Loss::Nothing);
            harm(&damaged.disk);
            let what = format!("{} {name}", path.display());
            // Without its catalog a backup was never there.
            let was_one = path.extension().is_some_and(|end| end == "backup");
            if !(was_one && name == "gone") {
                check(&mut damaged, &what);
                another(&mut damaged, &what);
            }
        }
    }
}

#[test]
fn files_that_changed_places_are_noticed() {
    let rig = small();
    let mut swapped = 0;
    for part in ["backups", "log"] {
        let files = rig.files(&format!("{DEST}/{part}"));
        assert_eq!(files.len(), 2);
        let [one, two] = [&files[0], &files[1]];
        let contents = [one, two].map(|path| rig.disk.read(path).unwrap());
        for (to_one, to_two) in [(1, 0), (1, 1), (0, 0)] {
            let mut damaged = rig.after(Loss::Nothing);
            damaged.disk.write(one, &contents[to_one]).unwrap();
            damaged.disk.write(two, &contents[to_two]).unwrap();
            let what = format!("{part}: {to_one}, {to_two}");
            check(&mut damaged, &what);
            another(&mut damaged, &what);
            swapped += 1;
        }
    }
    assert_eq!(swapped, 6);
    // Of another folder of the same store: the same names, another past.
    let mut other = rig.after(Loss::Nothing);
    other.open().unwrap();
    for n in 0..2 {
        other.store().global().set("d", n).unwrap();
        other.store().backup("data/other").unwrap();
    }
    for (path, theirs) in bytes(&other.disk, "data/other") {
        let name = path.strip_prefix("data/other").unwrap();
        let ours = std::path::Path::new(DEST).join(name);
        let here = rig.disk.read(&ours);
        if name.components().count() == 2 && here.is_some_and(|here| here != theirs) {
            let mut damaged = rig.after(Loss::Nothing);
            damaged.disk.write(&ours, &theirs).unwrap();
            if name.starts_with("backups") {
                // It names files that are not those of this folder.
                damaged.kept.clear();
            }
            check(
                &mut damaged,
                &format!("{} of another folder", name.display()),
            );
        }
    }
}

#[test]
fn a_damaged_log_of_the_store_is_named_and_no_backup_is_made_of_it() {
    let mut rig = Rig::with(|builder| builder.check_bytes_on_open(0));
    rig.open().unwrap();
    rig.commits(10).unwrap();
    rig.backup().unwrap();
    rig.commits(10).unwrap();
    let wal = rig.files("data/store/wal");
    for path in wal
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
    {
        let len = rig.disk.read(path).unwrap().len() as u64;
        for at in (4096..len).step_by(701) {
            rig.disk.flip(path, at, 2).unwrap();
            for options in [BackupOptions::new(), BackupOptions::new().full()] {
                match rig.store().backup_with(DEST, options) {
                    Err(Error::Corrupt(damage)) => assert_eq!(damage.path, *path),
                    Ok(made) => {
                        // Behind its end, or before what it needs.
                        rig.backups().verify_backup(made.number).unwrap();
                        rig.kept.insert(made.number, content(rig.store()));
                    }
                    other => panic!("byte {at}: {other:?}"),
                }
            }
            rig.disk.flip(path, at, 2).unwrap();
            rig.check(&format!("{}, byte {at}", path.display()));
        }
    }
    // The state is whole in memory: a new snapshot heals the store, and then there is a
    // backup again.
    rig.disk.flip(&wal[0], 5000, 2).unwrap();
    let full = rig.store().backup_with(DEST, BackupOptions::new().full());
    assert!(is_damage(&full.unwrap_err()));
    assert!(!rig.store().verify().unwrap().healed.is_empty());
    rig.backup().unwrap();
    rig.check(&"healed");
}

#[test]
fn a_damaged_snapshot_of_the_store_is_done_without_and_told() {
    let made = || {
        let mut rig = Rig::with(|builder| builder.check_bytes_on_open(0));
        rig.open().unwrap();
        rig.commits(40).unwrap();
        rig.store().snapshot().unwrap();
        rig.commits(5).unwrap();
        rig
    };
    let snapshot = made().files("data/store/snapshots").remove(0);
    let len = made().disk.read(&snapshot).unwrap().len() as u64;
    let mut harms: Vec<Option<u64>> = (0..len).step_by(211).map(Some).collect();
    harms.push(None);
    for harm in harms {
        let mut rig = made();
        match harm {
            Some(at) => rig.disk.flip(&snapshot, at, 5).unwrap(),
            None => rig.disk.remove(&snapshot).unwrap(),
        }
        rig.backup().unwrap();
        let told = rig.store().recovery().healed;
        assert!(
            told.iter().any(|healed| healed.path == snapshot),
            "{harm:?}: {told:?}"
        );
        rig.check(&format!("{harm:?}"));
        rig.commits(1).unwrap();
        rig.backup().unwrap();
        rig.check(&format!("{harm:?}, and one more"));
    }
}

#[test]
fn a_damaged_image_heals_or_is_named() {
    for snapshots in [true, false] {
        let mut rig = match snapshots {
            true => Rig::with(|builder| builder.check_bytes_on_open(0).cache_bytes(0)),
            false => Rig::with(|builder| {
                builder
                    .check_bytes_on_open(0)
                    .cache_bytes(0)
                    .snapshots(false)
            }),
        };
        rig.open().unwrap();
        rig.commits(60).unwrap();
        rig.store().checkpoint().unwrap();
        rig.close().unwrap();
        rig.open().unwrap();
        rig.commits(60).unwrap();
        rig.store().checkpoint().unwrap();
        let image = rig.files(&format!("{PLACE}/image"));
        let piece = image
            .iter()
            .max_by_key(|path| rig.disk.read(path).unwrap().len());
        let piece = piece.unwrap();
        let len = rig.disk.read(piece).unwrap().len() as u64;
        rig.disk.zero(piece, 0..len).unwrap();
        match rig.store().backup(DEST) {
            Ok(made) => drop(rig.backups().verify_backup(made.number).unwrap()),
            Err(e) => {
                assert!(!snapshots && is_damage(&e), "{e}");
                rig.check(&"nothing was made");
            }
        }
    }
}
