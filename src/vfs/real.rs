//! Owns the file system of the machine: each call of [`Vfs`] as the one or two
//! system calls that it is, but for large files, which are removed step by step.
//!
//! What must stay true: nothing is buffered, and no call is made twice but one
//! that a signal interrupted or that moved only a part of the bytes. A failed
//! sync above all is never tried again: Linux reports it once, then forgets it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, AtFlags, StatxFlags, fadvise, fstatvfs, statx};

use super::{DirEntry, OpenMode, Vfs, VfsFile, VfsLock};
use crate::sync::{self, Mutex, thread};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A file that is removed is freed so many bytes at a time, or in so many steps.
const FREED_BYTES: u64 = 1024 * 1024;
const FREED_STEPS: u64 = 1024;

/// How long the disk is left to others behind each.
const FREED_PAUSE: Duration = Duration::from_micros(500);

/// Where a disk has less room than this, a file is freed before the call that removes it
/// returns: whoever removes it may be about to write.
const ROOM_BYTES: u64 = 1024 * 1024 * 1024;

/// So many files wait to be freed, at most: whoever removes more is held up by it.
const FREEING_MAX: usize = 8;

/// What is being freed in the background, by a thread that ends when there is no more.
static FREEING: Mutex<Freeing> = Mutex::new(Freeing {
    files: Vec::new(),
    running: false,
});

struct Freeing {
    /// Files without a name.
    files: Vec<File>,
    running: bool,
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Write => options.read(true).write(true),
            OpenMode::Create => options
                .read(true)
                .write(true)
                .create_new(true)
                .mode(FILE_MODE),
        };
        let file = options.open(path)?;
        // Says to whoever removes it meanwhile that somebody has it open.
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) if file.metadata()?.nlink() == 0 => {
                Err(ErrorKind::NotFound.into())
            }
            // Not every file system has locks, and others may have theirs.
            _ => Ok(Box::new(RealFile(file))),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(FOLDER_MODE).create(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    entries.push(described(name, &metadata));
                }
                // Removed between the listing and the look at it.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Follows a link: a store's folder may be one.
    fn metadata(&self, path: &Path) -> io::Result<Option<DirEntry>> {
        match fs::metadata(path) {
            Ok(metadata) => {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                Ok(Some(described(name, &metadata)))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            // What stays is met again.
            let _ = entry.and_then(|entry| match entry.file_type()?.is_file() {
                true => remove(&entry.path()),
                false => Ok(()),
            });
        }
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { file })),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

/// Removes a file, and has what it took freed piece by piece: a file system that discards what
/// is free holds up every sync for the time that it takes, ten milliseconds for 32 megabytes.
/// Where somebody has the file open, who may read it to its end, it is freed when that is closed.
fn remove(path: &Path) -> io::Result<()> {
    // Nothing but a file is opened: that of a pipe would wait for its other end.
    let large = fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() > FREED_BYTES);
    let opened = large.then(|| OpenOptions::new().write(true).open(path));
    fs::remove_file(path)?;
    // Whoever cannot be asked to go step by step goes at once.
    if let Some(Ok(file)) = opened {
        free_soon(file);
    }
    Ok(())
}

/// Frees a file behind the back of whoever removed it: step by step a large one takes seconds.
fn free_soon(file: File) {
    let room = fstatvfs(&file).map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    let mut freeing = FREEING.lock();
    if room.is_ok_and(|room| room < ROOM_BYTES) || freeing.files.len() >= FREEING_MAX {
        drop(freeing);
        let _ = free(&file);
        return;
    }
    freeing.files.push(file);
    if std::mem::replace(&mut freeing.running, true) {
        return;
    }
    drop(freeing);
    let thread = thread::Builder::new().name("evenkeel-free".into());
    if thread.spawn(free_all).is_err() {
        free_all();
    }
}

fn free_all() {
    loop {
        let mut freeing = FREEING.lock();
        let Some(file) = freeing.files.pop() else {
            freeing.running = false;
            return;
        };
        drop(freeing);
        let _ = free(&file);
    }
}

fn free(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    // It may have another name, that of a copy by a link.
    if found.nlink() > 0 || file.try_lock().is_err() {
        return Ok(());
    }
    let mut len = found.len();
    let step = FREED_BYTES.max(len / FREED_STEPS);
    while len > step {
        len -= step;
        file.set_len(len)?;
        file.sync_data()?;
        sync::pause(FREED_PAUSE);
    }
    Ok(())
}

fn described(name: String, metadata: &fs::Metadata) -> DirEntry {
    let is_dir = metadata.is_dir();
    DirEntry {
        name,
        is_dir,
        len: if is_dir { 0 } else { metadata.len() },
    }
}

#[derive(Debug)]
struct RealFile(File);

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, advanced(offset, done)?) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.0.write_at(rest, advanced(offset, done)?) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()?;
        // Linux writes and syncs a file whose last name is gone as if nothing had
        // happened, and what was written goes with the process. Nothing but the number
        // of names is asked for: since Linux 6.13 whoever asks for the times as well makes
        // the next write log a change of them, which took a third of each commit.
        let names = statx(&self.0, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK)
            .map(|found| u64::from(found.stx_nlink))
            // Not every kernel and sandbox knows this call.
            .or_else(|_| self.0.metadata().map(|found| found.nlink()))?;
        match names {
            0 => Err(io::Error::new(ErrorKind::NotFound, "the file was removed")),
            _ => Ok(()),
        }
    }

    fn write_out(&self, offset: u64, len: u64) {
        // Of what it is to forget, the kernel writes out what it has not written yet.
        let _ = fadvise(&self.0, offset, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

fn advanced(offset: u64, done: usize) -> io::Result<u64> {
    u64::try_from(done)
        .ok()
        .and_then(|done| offset.checked_add(done))
        .ok_or_else(|| ErrorKind::FileTooLarge.into())
}

/// The kernel lets go of the lock when the last handle of this opening is closed, at
/// the latest by the end of the process. A process that is being started has copies
/// of all handles for a moment, so the drop lets go of it by word.
#[derive(Debug)]
struct RealLock {
    file: File,
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // Closing the handle does the same, if perhaps a little later.
        let _ = self.file.unlock();
    }
}

impl VfsLock for RealLock {}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_created_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let missing = RealVfs.open(&path, OpenMode::Write).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let file = RealVfs.open(&path, OpenMode::Create).unwrap();
        let taken = RealVfs.open(&path, OpenMode::Create).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(mode(&path), 0o600);
        file.write_at(b"hello", 3).unwrap();
        file.sync().unwrap();
        let mut buf = [9; 16];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
        assert_eq!(&buf[..9], b"\0\0\0hello\x09");
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert!(!file.is_empty().unwrap());
        let reader = RealVfs.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_at(b"x", 0).is_err());
        assert!(file.write_at(b"x", u64::MAX).is_err());
    }

    /// A file of three steps and a half under this name.
    fn large(path: &Path) -> Vec<u8> {
        let bytes: Vec<u8> = (0..FREED_BYTES * 7 / 2).map(|at| at as u8 | 1).collect();
        fs::write(path, &bytes).unwrap();
        bytes
    }

    #[test]
    fn what_a_large_file_took_is_freed_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let paths = [folder.path().join("file"), inside.join("file")];
        // Opened past the trait, so nobody knows.
        let [alone, below] = paths.map(|path| {
            large(&path);
            File::open(path).unwrap()
        });
        RealVfs.remove_file(&folder.path().join("file")).unwrap();
        RealVfs.remove_dir_all(&inside).unwrap();
        assert_eq!(RealVfs.read_dir(folder.path()).unwrap(), []);
        // The names are gone; of the room nobody is told.
        while FREEING.lock().running {
            thread::yield_now();
        }
        for left in [alone, below] {
            let left = left.metadata().unwrap().len();
            assert!((1..=FREED_BYTES).contains(&left), "{left} bytes");
        }
    }

    #[test]
    fn a_removed_file_is_read_to_its_end_by_who_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes = large(&path);
        let file = RealVfs.open(&path, OpenMode::Read).unwrap();
        RealVfs.remove_file(&path).unwrap();
        let mut read = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut read, 0).unwrap(), bytes.len());
        assert!(read == bytes);
    }

    #[test]
    fn a_file_with_another_name_keeps_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("file"), folder.path().join("copy"));
        let bytes = large(&path);
        fs::hard_link(&path, &copy).unwrap();
        symlink(&copy, folder.path().join("link")).unwrap();
        RealVfs.remove_file(&path).unwrap();
        RealVfs.remove_file(&folder.path().join("link")).unwrap();
        assert!(fs::read(&copy).unwrap() == bytes);
    }

    #[test]
    fn a_pipe_is_removed_without_its_other_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        RealVfs.remove_file(&path).unwrap();
        assert_eq!(RealVfs.metadata(&path).unwrap(), None);
    }

    #[test]
    fn folders_are_private_listed_in_order_and_removed_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        RealVfs.create_dir(&store).unwrap();
        let taken = RealVfs.create_dir(&store).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        assert_eq!(mode(&store), 0o700);
        RealVfs.create_dir(&store.join("b")).unwrap();
        for name in ["c", "a"] {
            let file = RealVfs.open(&store.join(name), OpenMode::Create).unwrap();
            file.write_at(b"12", 0).unwrap();
        }
        RealVfs.sync_dir(&store).unwrap();
        let entries: Vec<_> = RealVfs.read_dir(&store).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.is_dir, e.len))
            .collect();
        assert_eq!(seen, [("a", false, 2), ("b", true, 0), ("c", false, 2)]);
        RealVfs.rename(&store.join("a"), &store.join("c")).unwrap();
        RealVfs.remove_file(&store.join("c")).unwrap();
        RealVfs.remove_dir_all(&store).unwrap();
        assert_eq!(RealVfs.metadata(&store).unwrap(), None);
    }

    #[test]
    fn a_link_is_followed_when_asked_for_and_not_when_listed() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        fs::create_dir(folder.path().join("store")).unwrap();
        symlink(folder.path().join("store"), &link).unwrap();
        assert!(RealVfs.metadata(&link).unwrap().unwrap().is_dir);
        assert!(!RealVfs.read_dir(folder.path()).unwrap()[0].is_dir);
    }

    #[test]
    fn a_lock_is_exclusive_within_the_process_and_let_go_by_the_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = RealVfs.lock(&path).unwrap();
        let held = RealVfs.lock(&path).unwrap_err();
        assert_eq!(held.kind(), ErrorKind::WouldBlock);
        drop(lock);
        RealVfs.lock(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
    }
}
