//! Owns reading a file through a window of bounded size, so that many small reads cost
//! few calls.

use std::path::{Path, PathBuf};

use super::{OpenMode, Vfs, VfsFile};
use crate::error::{Error, Result};

const WINDOW_BYTES: usize = 1024 * 1024;

/// A file that is read at any offset, best in ascending order.
#[derive(Debug)]
pub(crate) struct FileWindow {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    len: u64,
    bytes: Vec<u8>,
    at: u64,
    size: usize,
}

impl FileWindow {
    /// Opens a file that is there.
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path) -> Result<Self> {
        let io = |e| Error::io("open", path, e);
        let file = vfs.open(path, OpenMode::Read).map_err(io)?;
        Ok(Self {
            len: file.len().map_err(io)?,
            file,
            path: path.to_path_buf(),
            bytes: Vec::new(),
            at: 0,
            size: WINDOW_BYTES,
        })
    }

    /// The same, reading so many bytes at a time: for who reads little, often.
    pub(crate) fn with_size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// The length that the file had when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets what was read, which may have been written since.
    pub(crate) fn forget(&mut self) {
        self.bytes = Vec::new();
    }

    /// At least `wanted` bytes from `offset`, fewer only at the end of the file.
    pub(crate) fn get(&mut self, offset: u64, wanted: usize) -> Result<&[u8]> {
        let there = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(there);
        let skip = offset
            .checked_sub(self.at)
            .and_then(|skip| usize::try_from(skip).ok());
        let covered = skip.is_some_and(|skip| skip.saturating_add(wanted) <= self.bytes.len());
        if !covered {
            let size = wanted.max(self.size).min(there);
            self.bytes.resize(size, 0);
            self.at = offset;
            let read = self
                .file
                .read_at(&mut self.bytes, offset)
                .map_err(|e| Error::io("read", &self.path, e))?;
            self.bytes.truncate(read);
        }
        let skip = usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}
