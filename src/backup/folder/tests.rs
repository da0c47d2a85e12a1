//! The folder of backups: how it is made, and what is refused.

use std::fs;

use super::*;
use crate::vfs::RealVfs;

const STORE: StoreId = StoreId::from_bytes(*b"0123456789abcdef");

fn make(root: &Path, store: StoreId) -> Result<(BackupFolder, Box<dyn VfsLock>)> {
    BackupFolder::open_or_create(Arc::new(RealVfs), root, store, 5)
}

fn open(root: &Path) -> Result<BackupFolder> {
    BackupFolder::open(Arc::new(RealVfs), root)
}

/// Everything under a folder, with its bytes.
fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap_or_default();
        found.push((entry.into_path(), bytes));
    }
    found
}

#[test]
fn a_folder_is_made_with_those_above_it() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("a/b/backups");
    let (folder, lock) = make(&root, STORE).unwrap();
    assert!(matches!(make(&root, STORE), Err(Error::Locked { .. })));
    drop(lock);
    make(&root, STORE).unwrap();
    assert_eq!(open(&root).unwrap().store, STORE);
    assert_eq!(folder.numbers().unwrap(), [0; 0]);
    let absent = folder.catalog(1);
    assert!(matches!(absent, Err(Error::NotInBackup { .. })));
}

#[test]
fn what_is_something_else_is_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path();
    let missing = open(&root.join("missing"));
    assert!(matches!(missing, Err(Error::NotABackup { .. })));
    for (name, inside) in [
        ("text", "notes.txt"),
        ("store", "FORMAT"),
        ("more", "log/x"),
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.join("log")).unwrap();
        fs::write(path.join(inside), "x").unwrap();
        let before = files(&path);
        for refused in [open(&path).map(drop), make(&path, STORE).map(drop)] {
            assert!(
                matches!(refused, Err(Error::NotABackup { .. })),
                "{name}: {refused:?}"
            );
        }
        assert_eq!(files(&path), before, "{name}");
    }
    let file = root.join("text/notes.txt");
    for refused in [open(&file).map(drop), make(&file, STORE).map(drop)] {
        assert!(matches!(refused, Err(Error::NotABackup { .. })));
    }
}

#[test]
fn another_stores_and_a_newer_one_are_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("backups");
    make(&root, STORE).unwrap();
    let before = files(&root);
    let foreign = make(&root, StoreId::from_bytes([1; 16]));
    assert!(matches!(foreign, Err(Error::ForeignBackup { found, .. }) if found == STORE));
    assert_eq!(files(&root), before);
    let path = root.join("BACKUP");
    let mut bytes = fs::read(&path).unwrap();
    bytes[12] = 2;
    head::seal(&mut bytes);
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(root.join("LOCK")).unwrap();
    let before = files(&root);
    for refused in [open(&root).map(drop), make(&root, STORE).map(drop)] {
        assert!(matches!(refused, Err(Error::NewerFormat { found: 2, .. })));
    }
    assert_eq!(files(&root), before);
}

#[test]
fn every_flipped_bit_and_every_cut_of_its_file_is_noticed() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("backups");
    make(&root, STORE).unwrap();
    let path = root.join("BACKUP");
    let good = fs::read(&path).unwrap();
    let refused = |what: &str| {
        for refused in [open(&root).map(drop), make(&root, STORE).map(drop)] {
            assert!(
                matches!(refused, Err(Error::Corrupt(_))),
                "{what}: {refused:?}"
            );
        }
    };
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        refused(&format!("bit {bit}"));
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        refused(&format!("cut to {len}"));
    }
    fs::remove_file(&path).unwrap();
    fs::write(root.join("log/00000001.log"), "x").unwrap();
    refused("gone, and there is a log");
}

#[test]
fn names_are_read_back_and_others_are_not() {
    let folder = BackupFolder {
        vfs: Arc::new(RealVfs),
        root: PathBuf::from("r"),
        store: STORE,
    };
    for number in [1, 12_345_678, 123_456_789_012] {
        for part in Part::ALL {
            let path = folder.file(part, number);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(parse_name(part, name), Some(number));
        }
    }
    for other in [
        "00000000.log",
        "1.log",
        "000000001.log",
        "+0000001.log",
        "00000001.log.tmp",
        "00000001.snap",
        "4611686018427387904.log",
        ".log",
        "",
    ] {
        assert_eq!(parse_name(Part::Log, other), None, "{other}");
    }
}
