//! Owns whether an image over a file system still answers: until it is closed, or a change of it
//! failed in a way after which nobody knows what the disk holds.

use std::io;
use std::path::Path;

use crate::image::{ImageError, ImageErrorKind};
use crate::sync::Mutex;
use crate::vfs::Vfs;

/// Until it has ended, with the reason.
#[derive(Debug, Default)]
pub(super) struct Life {
    ended: Mutex<Option<String>>,
}

impl Life {
    /// # Errors
    ///
    /// [`ImageErrorKind::Io`] with the reason, once it has ended.
    pub(super) fn check(&self, op: &'static str) -> Result<(), ImageError> {
        match &*self.ended.lock() {
            Some(reason) => Err(ImageError::new(op, ImageErrorKind::Io, reason.clone())),
            None => Ok(()),
        }
    }

    /// Ends it by a change that failed: the error to give.
    pub(super) fn end(&self, op: &'static str, path: &Path, error: &io::Error) -> ImageError {
        let error = ImageError {
            kind: ImageErrorKind::Io,
            ..failed(op, path, error)
        };
        self.ended.lock().get_or_insert_with(|| error.to_string());
        error
    }

    /// Ends it because nobody wants it any more.
    pub(super) fn close(&self) {
        let reason = || "it is closed".to_owned();
        self.ended.lock().get_or_insert_with(reason);
    }
}

/// # Errors
///
/// [`ImageErrorKind::Io`] where there is no such folder.
pub(super) fn require_folder(vfs: &dyn Vfs, folder: &Path) -> Result<(), ImageError> {
    let found = vfs.metadata(folder);
    if found
        .map_err(|e| failed("open", folder, &e))?
        .is_some_and(|found| found.is_dir)
    {
        return Ok(());
    }
    let reason = format!("{} is not a folder", folder.display());
    Err(ImageError::new("open", ImageErrorKind::Io, reason))
}

/// What the file system said, of a call after which the image goes on.
pub(super) fn failed(op: &'static str, path: &Path, error: &io::Error) -> ImageError {
    let kind = match error.kind() {
        // Longer than any file of the kind.
        io::ErrorKind::InvalidData => ImageErrorKind::Damaged,
        io::ErrorKind::StorageFull => ImageErrorKind::Full,
        _ => ImageErrorKind::Io,
    };
    ImageError::new(op, kind, format!("{}: {error}", path.display()))
}
