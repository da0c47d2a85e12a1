//! Owns the file-system trait: the few calls by which log, marks, manifest and
//! snapshots reach a disk. All of them go through it, so that the simulated disk
//! can crash at each one. sled opens its own files and is the one exception.
//!
//! Nothing here buffers, retries or hides an error.

mod real;
#[cfg(feature = "testing")]
pub(crate) mod sim;
pub(crate) mod window;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sync;

pub use real::RealVfs;

/// What nobody waits for goes to the disk in pieces of so many bytes: some tenths of a
/// millisecond of its time.
const PIECE_BYTES: usize = 256 * 1024;

/// How long the disk is left to others behind each piece.
const PIECE_PAUSE: Duration = Duration::from_micros(300);

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an error if the name is taken.
    Create,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the folder. Names that are not UTF-8 are given lossily.
    pub name: String,
    /// True for a folder (links are not followed).
    pub is_dir: bool,
    /// The length in bytes; 0 for a folder.
    pub len: u64,
}

/// A file system, as far as a store needs one.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a file. A created file has mode 0600.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>>;

    /// Creates one folder, mode 0700. An error if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// What a path is; `None` if there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Option<DirEntry>>;

    /// Gives a file or folder another name. A file of that name is replaced;
    /// so is an empty folder by a folder.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: creates, renames and deletes.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock on a file, creating it if need be, without waiting.
    /// `WouldBlock` if somebody has it. It is let go when the value is dropped,
    /// or when the process ends, however it ends.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>>;
}

/// An open file. Offsets are in bytes; there is no cursor.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// Reads into `buf` from `offset`; returns how many bytes, which is fewer
    /// than asked for only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`, or fails having written some of them.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the data of the file durable, and as much of the metadata as is
    /// needed to read them back (`fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Has what was written there go to the disk soon, and waits for nothing. A hint: nothing
    /// is durable because of it, and it may do nothing.
    fn write_out(&self, _offset: u64, _len: u64) {}

    /// Cuts or extends the file; an extension reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// True for a file without bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A lock on a folder, held until it is dropped.
pub trait VfsLock: Send + Sync + fmt::Debug {}

/// The names in a folder, sorted; none where there is no such folder.
pub(crate) fn list(vfs: &dyn Vfs, folder: &Path) -> io::Result<Vec<DirEntry>> {
    match vfs.metadata(folder)? {
        None => Ok(Vec::new()),
        Some(_) => vfs.read_dir(folder),
    }
}

/// Reads a whole file of at most `len_max` bytes.
pub(crate) fn read_file(vfs: &dyn Vfs, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > len_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the file has {len} bytes, at most {len_max} make sense"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a file so that it is there whole under its name, or not at all:
/// temporary name, sync, rename, sync of the folder.
pub(crate) fn write_file_atomically(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    if vfs.metadata(&temporary)?.is_some() {
        vfs.remove_file(&temporary)?;
    }
    let file = vfs.open(&temporary, OpenMode::Create)?;
    write_gently(&*file, bytes, 0)?;
    file.sync()?;
    drop(file);
    vfs.rename(&temporary, path)?;
    vfs.sync_dir(parent(path))
}

/// Writes much beside those who wait for the disk. A sync waits until the disk has all that it
/// was given before, whoever gave it: thirty megabytes at once hold up each commit meanwhile for
/// thirty milliseconds. So they go piece by piece, each of which is given to the disk at once, and
/// it is free in between. Nothing is durable yet.
pub(crate) fn write_gently(file: &dyn VfsFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_by_pieces(file, bytes, offset, || sync::pause(PIECE_PAUSE))
}

/// The same by somebody who has other work to do between two pieces, which is pause enough.
pub(crate) fn write_by_pieces(
    file: &dyn VfsFile,
    bytes: &[u8],
    offset: u64,
    between: impl Fn(),
) -> io::Result<()> {
    let mut at = offset;
    for piece in bytes.chunks(PIECE_BYTES) {
        file.write_at(piece, at)?;
        // What is less than a piece holds up nobody.
        if piece.len() == PIECE_BYTES {
            file.write_out(at, piece.len() as u64);
            between();
        }
        at += piece.len() as u64;
    }
    Ok(())
}

/// The name that a file has while it is being written.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// The folder that a path is in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
