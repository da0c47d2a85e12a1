//! What restoring refuses: places that are taken, folders that are no backups, backups of
//! another version, and files of another store. Nothing is made then.

use std::io;
use std::path::Path;
use std::sync::Arc;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{
    BackupOptions, DirEntry, Error, OpenMode, RestorePoint, Restored, Result, Vfs, VfsFile, VfsLock,
};

use crate::parts::{BACKUPS, COPY, History, PLACE, builder, files, nothing_at_copy, open_restored};

/// Three backups: one of a log alone, one that goes on, and a full one.
pub(crate) fn history() -> History {
    let mut history = History::new();
    history.many(5);
    history.backup();
    history.many(3);
    history.backup();
    history.many(2);
    history.store().snapshot().unwrap();
    history.many(3);
    history.backup_with(BackupOptions::new().full());
    history.close();
    history
}

fn latest(history: &History, disk: &SimDisk, src: &str, dest: &str) -> Result<Restored> {
    builder(disk, &history.clock).restore(src, dest, RestorePoint::Latest)
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let history = history();
    let disk = &history.disk;
    let vfs: &dyn Vfs = disk;
    for path in ["full/file", "new/.hidden"] {
        vfs.create_dir(Path::new(path).parent().unwrap()).unwrap();
        disk.write(path, b"mine").unwrap();
    }
    let before = files(disk, "");
    for dest in ["full", "full/file", PLACE, BACKUPS, "new"] {
        let refused = latest(&history, disk, BACKUPS, dest);
        assert!(
            matches!(&refused, Err(Error::Occupied { path }) if path == Path::new(dest)),
            "{dest}: {refused:?}"
        );
    }
    for dest in ["full/file/below", "full/file/far/below"] {
        assert!(matches!(
            latest(&history, disk, BACKUPS, dest),
            Err(Error::Io { .. })
        ));
    }
    for dest in ["..", "new/..", "/"] {
        latest(&history, disk, BACKUPS, dest).unwrap_err();
    }
    assert_eq!(files(disk, ""), before);

    // An empty folder will do, and folders that are not there yet.
    vfs.create_dir("empty".as_ref()).unwrap();
    for dest in ["empty", "a/b/c/d"] {
        latest(&history, disk, BACKUPS, dest).unwrap();
        assert!(!files(disk, dest).is_empty());
    }
    let again = latest(&history, disk, BACKUPS, "empty");
    assert!(matches!(again, Err(Error::Occupied { .. })));
}

#[test]
fn a_place_inside_of_backups_is_refused() {
    let history = history();
    let before = files(&history.disk, "");
    let inside = [
        "far/backups/copy",
        "far/backups/log/a/copy",
        "far/x/../backups/copy",
    ];
    for dest in inside {
        let refused = latest(&history, &history.disk, BACKUPS, dest);
        let invalid = matches!(
            &refused,
            Err(Error::Invalid {
                what: "destination",
                ..
            })
        );
        assert!(invalid, "{dest}: {refused:?}");
    }
    assert_eq!(files(&history.disk, ""), before);
    latest(&history, &history.disk, BACKUPS, "far/backups/../copy").unwrap();

    // On a real disk, by a path from here and by a whole one.
    let folder = tempfile::tempdir().unwrap();
    let store = evenkeel::Store::open(folder.path().join("state")).unwrap();
    let backups = folder.path().join("backups");
    store.backup(&backups).unwrap();
    let refused = evenkeel::Store::restore(&backups, backups.join("copy"));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

#[test]
fn what_holds_no_backups_is_told() {
    let history = history();
    let disk = &history.disk;
    let vfs: &dyn Vfs = disk;
    for folder in ["empty", "other"] {
        vfs.create_dir(folder.as_ref()).unwrap();
    }
    disk.write("other/file", b"mine").unwrap();
    for src in ["nothing", "empty", "other", "other/file", PLACE, "far"] {
        let refused = latest(&history, disk, src, COPY);
        assert!(
            matches!(&refused, Err(Error::NotABackup { path, .. }) if path == Path::new(src)),
            "{src}: {refused:?}"
        );
    }
    // One whose first backup was never finished.
    for number in 1..=3 {
        disk.remove(format!("{BACKUPS}/backups/{number:08}.backup"))
            .unwrap();
    }
    for point in [RestorePoint::Latest, evenkeel::Lsn::new(3).into()] {
        let refused = builder(disk, &history.clock).restore(BACKUPS, COPY, point);
        assert!(
            matches!(refused, Err(Error::NotInBackup { .. })),
            "{refused:?}"
        );
    }
    assert!(nothing_at_copy(disk));
}

#[test]
fn settings_are_checked_first() {
    let history = history();
    let before = files(&history.disk, "");
    let builder = history.builder().block_bytes(1);
    let refused = builder.restore(BACKUPS, COPY, RestorePoint::Latest);
    assert!(matches!(
        refused,
        Err(Error::Invalid {
            what: "block_bytes",
            ..
        })
    ));
    assert_eq!(files(&history.disk, ""), before);
}

#[test]
fn a_place_where_somebody_else_restores_is_locked() {
    let history = history();
    let vfs: &dyn Vfs = &history.disk;
    vfs.create_dir("new".as_ref()).unwrap();
    vfs.create_dir("new/.copy.building".as_ref()).unwrap();
    let lock = vfs.lock("new/.copy.building/LOCK".as_ref()).unwrap();
    let refused = latest(&history, &history.disk, BACKUPS, COPY);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    // Killed: what it left is in nobody's way.
    drop(lock);
    latest(&history, &history.disk, BACKUPS, COPY).unwrap();
    assert!(files(&history.disk, "new/.copy.building").is_empty());
}

/// Raises the format of a file, as a newer version would write it.
fn newer(bytes: &mut [u8]) {
    // All of them begin alike; a snapshot and an archive have more behind their head.
    let whole = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    bytes[12..16].copy_from_slice(&2_u32.to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..whole]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn a_newer_format_is_named_and_left_alone() {
    let history = history();
    let mut told = 0;
    for (path, mut bytes) in files(&history.disk, BACKUPS) {
        if bytes.is_empty() {
            continue;
        }
        newer(&mut bytes);
        let disk = history.disk.crash(Loss::Nothing);
        disk.write(&path, &bytes).unwrap();
        let before = files(&disk, "");
        for number in 1..=3 {
            let point = RestorePoint::Backup(number);
            match builder(&disk, &history.clock).restore(BACKUPS, COPY, point) {
                Err(Error::NewerFormat {
                    path: found,
                    found: 2,
                    supported: 1,
                }) if found == path => told += 1,
                Err(e) => panic!("{}: {e}", path.display()),
                // It does not need the file.
                Ok(_) => {
                    let vfs: &dyn Vfs = &disk;
                    vfs.remove_dir_all(COPY.as_ref()).unwrap();
                }
            }
            assert_eq!(files(&disk, ""), before);
        }
    }
    // BACKUP three times, each catalog once, a base, and archives.
    assert!(told >= 3 + 3 + 1 + 3, "{told}");
}

#[test]
fn files_of_another_store_or_place_are_noticed() {
    let (ours, theirs) = (history(), history());
    let paths: Vec<_> = files(&ours.disk, BACKUPS).into_keys().collect();
    let mut noticed = 0;
    for to in &paths {
        for (disk, from) in [(&ours.disk, &paths), (&theirs.disk, &paths)]
            .into_iter()
            .flat_map(|(disk, from)| from.iter().map(move |from| (disk, from)))
        {
            let mixed = ours.disk.crash(Loss::Nothing);
            mixed.write(to, &disk.read(from).unwrap()).unwrap();
            let before = files(&mixed, BACKUPS);
            match latest(&ours, &mixed, BACKUPS, COPY) {
                Ok(restored) => {
                    let shown = open_restored(&mixed, &ours.clock, &restored);
                    assert_eq!(shown, ours.last().shown, "{from:?} as {to:?}");
                }
                Err(Error::Corrupt(_)) => {
                    noticed += 1;
                    assert!(nothing_at_copy(&mixed));
                }
                Err(e) => panic!("{} as {}: {e}", from.display(), to.display()),
            }
            assert_eq!(files(&mixed, BACKUPS), before);
        }
    }
    assert!(noticed > 2 * paths.len(), "{noticed}");
}

/// A file system that lets nobody change what is in the backups.
#[derive(Debug)]
struct ReadOnlyBackups(SimDisk);

fn refuse(path: &Path) -> io::Result<()> {
    match path.starts_with(BACKUPS) {
        true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        false => Ok(()),
    }
}

impl Vfs for ReadOnlyBackups {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        if mode != OpenMode::Read {
            refuse(path)?;
        }
        self.0.open(path, mode)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        refuse(path)?;
        self.0.create_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<DirEntry>> {
        self.0.metadata(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        refuse(from).and_then(|()| refuse(to))?;
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        refuse(path)?;
        self.0.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        refuse(path)?;
        self.0.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        refuse(path)?;
        self.0.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        refuse(path)?;
        self.0.lock(path)
    }
}

#[test]
fn backups_on_a_medium_that_cannot_be_written_to() {
    let history = history();
    history.disk.remove(format!("{BACKUPS}/LOCK")).unwrap();
    let before = files(&history.disk, BACKUPS);
    let vfs = Arc::new(ReadOnlyBackups(history.disk.clone()));
    let builder = history.builder().vfs(vfs);
    let restored = builder
        .restore(BACKUPS, COPY, RestorePoint::Latest)
        .unwrap();
    assert_eq!(files(&history.disk, BACKUPS), before);
    let shown = open_restored(&history.disk, &history.clock, &restored);
    assert_eq!(shown, history.last().shown);
}

/// A backup whose files were read while somebody else held its lock.
#[test]
fn a_backup_that_is_being_made_is_no_obstacle() {
    let history = history();
    let vfs: &dyn Vfs = &history.disk;
    let lock = vfs.lock(format!("{BACKUPS}/LOCK").as_ref()).unwrap();
    latest(&history, &history.disk, BACKUPS, COPY).unwrap();
    drop(lock);
}
