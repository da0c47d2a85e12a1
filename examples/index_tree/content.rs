//! Owns reading a file: size, lines, SHA-256 and time of change, in one pass and in
//! the memory of one buffer however large the file is.
//!
//! Lines are what an editor would number: the line breaks (`\n`), plus one where
//! the last byte is not a line break and the file is not empty.
//!
//! What must stay true: what is returned belongs to one state of the file. Size and
//! time are those of the open file, before and after; where they differ, it was
//! written meanwhile and is read again.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::walk::Folder;

/// How often a file that is being written is read before it is given up.
const ATTEMPTS: u32 = 3;
const BUFFER_BYTES: usize = 128 * 1024;

/// What tells, without reading it, that a file was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    /// Seconds since 1970, rounded down, and nanoseconds.
    pub(crate) modified: (i64, u32),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> io::Result<Self> {
        let modified = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
            Err(e) => {
                let before = e.duration();
                let (secs, nanos) = (-before.as_secs().cast_signed(), before.subsec_nanos());
                match nanos {
                    0 => (secs, 0),
                    _ => (secs - 1, 1_000_000_000 - nanos),
                }
            }
        };
        Ok(Self {
            size: metadata.len(),
            modified,
        })
    }
}

/// What is kept of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) stamp: Stamp,
    pub(crate) lines: u64,
    /// In hexadecimal.
    pub(crate) sha256: String,
    /// The key of its extension, so that what the record added to the totals can be
    /// taken back from the record alone.
    pub(crate) extension: String,
}

/// What came of reading a file.
#[derive(Debug)]
pub(crate) enum Content {
    Read(Box<Record>),
    /// There is no regular file (any more).
    Gone,
    /// It is there and could not be read.
    Unreadable(String),
}

/// Reads files, one after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Reads the file of a key.
    pub(crate) fn read(&mut self, folder: &Folder, key: &str) -> Content {
        let Some(path) = folder.path_of(key) else {
            return Content::Unreadable("no path is written so".into());
        };
        for _ in 0..ATTEMPTS {
            match self.try_read(&path) {
                Ok(Some(record)) => return Content::Read(Box::new(record)),
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Content::Gone,
                Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Content::Gone,
                Err(e) => return Content::Unreadable(e.to_string()),
            }
        }
        Content::Unreadable("it keeps changing while it is read".into())
    }

    /// `None` where the file was written meanwhile.
    fn try_read(&mut self, path: &Path) -> io::Result<Option<Record>> {
        // It may have been replaced since it was listed, and opening a pipe would
        // wait for its other end.
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let before = Stamp::of(&metadata)?;
        let mut hash = Sha256::new();
        let (mut size, mut breaks, mut last) = (0_u64, 0_u64, b'\n');
        loop {
            let bytes = match file.read(&mut self.buffer) {
                Ok(count) => self.buffer.get(..count).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let Some(&end) = bytes.last() else {
                break;
            };
            hash.update(bytes);
            size += bytes.len() as u64;
            breaks += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
            last = end;
        }
        if Stamp::of(&file.metadata()?)? != before || size != before.size {
            return Ok(None);
        }
        Ok(Some(Record {
            stamp: before,
            lines: breaks + u64::from(last != b'\n'),
            sha256: hash
                .finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            extension: crate::paths::extension_of(path),
        }))
    }
}
