//! Owns the image of the state: blocks of neighbouring keys, and the backend that
//! keeps them. The image is never believed: a block counts only if the manifest
//! names it and its hash is right.

pub(crate) mod ahead;
pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod choice;
pub(crate) mod cursor;
pub(crate) mod fences;
#[cfg(any(test, feature = "file-image"))]
pub(crate) mod files;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod folder;
#[cfg(any(test, feature = "file-image"))]
mod life;
pub(crate) mod manifest;
pub(crate) mod sled;
pub(crate) mod store;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod suite;

use std::fmt;
use std::path::Path;

use crate::ids::BlockId;

/// A piece of a block, as a backend keeps it: at most
/// 24 KiB of opaque bytes under a number.
pub type Piece = (BlockId, Vec<u8>);

/// The most bytes that one entry of a backend holds; longer blocks are cut.
///
/// sled writes a leaf of up to 17 entries as a whole, and puts a leaf above a
/// quarter of its segment into a file of its own, which it neither syncs nor keeps
/// until the file that replaces it is durable. With this size 17 entries stay below
/// that, at segments of 2 MiB. With 64 KiB it would take segments of 8 MiB, the
/// least that an image would then take on disk.
pub(crate) const PIECE_BYTES_MAX: usize = 24 * 1024;

/// An open backend. Calls may come from any thread. No call may hang for ever or
/// panic: a backend that cannot say what became of a call answers with an error.
pub trait Image: Send + Sync + fmt::Debug {
    /// The pieces with these numbers, in this order; `None` where there is none.
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError>;

    /// Stores pieces; durable after the next [`sync`](Self::sync).
    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError>;

    /// Removes pieces; a number without a piece is no error.
    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError>;

    /// Removes every piece whose number is `first` or higher.
    fn delete_from(&self, first: BlockId) -> Result<(), ImageError>;

    /// Makes all that was put or deleted before durable, names in folders included.
    fn sync(&self) -> Result<(), ImageError>;

    /// The bytes that it takes on disk, roughly.
    fn bytes_on_disk(&self) -> Result<u64, ImageError>;

    /// Lets go of files, threads and locks, so that the folder can be opened or
    /// removed. Calls that come after it answer with an error.
    fn close(&self) -> Result<(), ImageError>;
}

/// What opens an image in a folder of its own, which exists and may be empty.
pub trait ImageBackend: Send + Sync + fmt::Debug {
    /// Opens what is in `folder`, or an empty image if it is empty.
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError>;
}

/// Why an image did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the image cannot {op}: {reason}")]
pub struct ImageError {
    /// What was tried, as a verb.
    pub op: &'static str,
    /// What became of it.
    pub kind: ImageErrorKind,
    /// What the backend said.
    pub reason: String,
}

impl ImageError {
    /// The error that says that `op` failed with this.
    #[must_use]
    pub fn new(op: &'static str, kind: ImageErrorKind, reason: impl Into<String>) -> Self {
        Self {
            op,
            kind,
            reason: reason.into(),
        }
    }
}

/// What an [`ImageError`] means for the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageErrorKind {
    /// The disk refused (full, gone, read-only): the same image may work later,
    /// once it was closed and opened again.
    Io,
    /// The image is not what was written, or the backend panicked: rebuild it.
    Damaged,
    /// No answer in time: the backend is given up, and rebuilt.
    TimedOut,
    /// The disk has no room for it. Nothing of the call counts, and the image goes on
    /// answering as it did before; the same call may work when there is room.
    Full,
}

impl ImageErrorKind {
    /// True where the disk is at fault, and not what is on it.
    pub(crate) const fn is_of_the_disk(self) -> bool {
        matches!(self, Self::Io | Self::Full)
    }
}
