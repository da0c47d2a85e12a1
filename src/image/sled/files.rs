//! Owns what is done to sled's files behind its back, because its own flush is no
//! barrier: on Linux it flushes neither metadata nor the drive, and never syncs its
//! `conf` or a folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::clock;
use crate::error::{Error, Result};

/// Removes the half-written snapshots that a kill leaves behind: sled would take one
/// for its newest, and not open.
pub(super) fn remove_half_written(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs every file in a folder, the folders in it, and the folder itself. A name that
/// goes away meanwhile is none of ours any more.
pub(super) fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let synced = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => sync_tree(&path),
            Ok(found) if found.is_file() => sync_one(&path),
            Ok(_) => Ok(()),
            Err(e) => Err(e),
        };
        match synced {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    sync_one(folder)
}

/// Syncs one file, or the names in one folder.
pub(super) fn sync_one(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The bytes of all files in a folder and below it.
pub(super) fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => bytes += bytes_in(&path)?,
            Ok(found) => bytes += found.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// The bytes that this process may still take of the disk.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Waits until nobody holds the lock on a file. False if somebody still does after
/// `limit`.
pub(super) fn wait_until_unlocked(path: &Path, limit: Duration) -> io::Result<bool> {
    match lock_within(path, limit) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        locked => Ok(locked?.is_some()),
    }
}

/// Takes the lock on a file, and keeps it for as long as the file is open. `None` if
/// somebody else still has it after `limit`. sled lets go of its lock some time after it
/// was dropped, when its last thread or deferred destruction does, and tells nobody.
pub(super) fn lock_within(path: &Path, limit: Duration) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    let start = clock::monotonic();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(fs::TryLockError::Error(e)) => return Err(e),
            Err(fs::TryLockError::WouldBlock) if start.elapsed() >= limit => return Ok(None),
            Err(fs::TryLockError::WouldBlock) => clock::pause(Duration::from_millis(1)),
        }
    }
}

/// Copies what belongs to a database of sled's into a folder that is empty. Half-written
/// snapshots stay behind: see [`remove_half_written`].
pub(super) fn copy_database(from: &Path, to: &Path) -> Result<()> {
    let io = |op, path: &Path| {
        let path = path.to_path_buf();
        move |e| Error::io(op, path, e)
    };
    for entry in fs::read_dir(from).map_err(io("list", from))? {
        let entry = entry.map_err(io("list", from))?;
        let (name, path) = (entry.file_name(), entry.path());
        let target = to.join(&name);
        let text = name.to_string_lossy();
        if text == "blobs" {
            fs::create_dir(&target).map_err(io("make", &target))?;
            for blob in fs::read_dir(&path).map_err(io("list", &path))? {
                let blob = blob.map_err(io("list", &path))?;
                copy_file(&blob.path(), &target.join(blob.file_name()))?;
            }
        } else if ["conf", "db"].contains(&&*text)
            || text.starts_with("snap.") && !text.ends_with(".generating")
        {
            copy_file(&path, &target)?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    // Read first, so that an error names the file that it is about.
    File::open(from).map_err(|e| Error::io("open", from, e))?;
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|e| Error::io("copy to", to, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_half_written_snapshots_go() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["db", "snap.0001", "snap.0002.generating"] {
            fs::write(dir.path().join(name), "12345").unwrap();
        }
        fs::create_dir(dir.path().join("blobs")).unwrap();
        fs::write(dir.path().join("blobs/1"), "1").unwrap();
        remove_half_written(dir.path()).unwrap();
        sync_tree(dir.path()).unwrap();
        assert_eq!(bytes_in(dir.path()).unwrap(), 11);
    }

    #[test]
    fn a_held_lock_is_waited_for_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let limit = Duration::from_millis(10);
        assert!(wait_until_unlocked(&path, limit).unwrap());
        let holder = File::create(&path).unwrap();
        holder.lock().unwrap();
        assert!(!wait_until_unlocked(&path, limit).unwrap());
        drop(holder);
        assert!(wait_until_unlocked(&path, limit).unwrap());
    }
}
