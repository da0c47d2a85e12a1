//! Owns reading frames from a segment's file through a window of bounded size.

use std::path::{Path, PathBuf};

use super::frame::{self, FRAME_ALIGN, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Frame, NoFrame};
use crate::error::{Error, Result};
use crate::ids::{Lsn, SegmentId};
use crate::vfs::{OpenMode, Vfs, VfsFile};

const WINDOW_BYTES: usize = 1024 * 1024;
const ZEROS_SKIPPED: usize = 4096;

/// Reads frames of one segment, at any offset, best in ascending order.
#[derive(Debug)]
pub(super) struct Frames {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    id: SegmentId,
    len: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

/// What lies behind the end of the frames.
#[derive(Debug)]
pub(super) struct Behind {
    /// The highest mark in whole frames of this segment.
    pub(super) mark: Lsn,
    /// Whether there are such frames.
    pub(super) frames: bool,
    /// The end of the last byte that is not zero.
    pub(super) last_byte: u64,
}

impl Frames {
    pub(super) fn open(vfs: &dyn Vfs, path: &Path, id: SegmentId) -> Result<Self> {
        let io = |e| Error::io("open", path, e);
        let file = vfs.open(path, OpenMode::Read).map_err(io)?;
        Ok(Self {
            len: file.len().map_err(io)?,
            file,
            path: path.to_path_buf(),
            id,
            window: Vec::new(),
            window_at: 0,
            window_bytes: WINDOW_BYTES,
        })
    }

    /// The same, reading so many bytes at a time: for who reads little, often.
    pub(super) fn with_window(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Forgets what was read, which may have been written since.
    pub(super) fn forget(&mut self) {
        self.window = Vec::new();
    }

    /// The frame at `offset`.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read: that is not the end of the log.
    pub(super) fn at(&mut self, offset: u64) -> Result<std::result::Result<Frame<'_>, NoFrame>> {
        let header = self.window(offset, FRAME_HEADER_BYTES)?;
        let length = frame::u32_at(header, 4) as usize;
        let wanted = match (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            true => length,
            false => FRAME_HEADER_BYTES,
        };
        let id = self.id;
        let bytes = self.window(offset, wanted)?;
        Ok(frame::read(bytes, id))
    }

    /// At least `wanted` bytes from `offset`, fewer only at the end of the file.
    fn window(&mut self, offset: u64, wanted: usize) -> Result<&[u8]> {
        let there = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = wanted.min(there);
        let skip = offset
            .checked_sub(self.window_at)
            .and_then(|skip| usize::try_from(skip).ok());
        let covered = skip.is_some_and(|skip| skip.saturating_add(wanted) <= self.window.len());
        if !covered {
            let size = wanted.max(self.window_bytes).min(there);
            self.window.resize(size, 0);
            self.window_at = offset;
            let read = self
                .file
                .read_at(&mut self.window, offset)
                .map_err(|e| Error::io("read", &self.path, e))?;
            self.window.truncate(read);
        }
        let skip = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.get(skip..).unwrap_or_default())
    }

    /// Looks at all that is behind `from`.
    pub(super) fn behind(&mut self, from: u64) -> Result<Behind> {
        let mut found = Behind {
            mark: Lsn::ZERO,
            frames: false,
            last_byte: from,
        };
        let mut at = from.next_multiple_of(FRAME_ALIGN as u64);
        while at < self.len {
            let id = self.id.get();
            let window = self.window(at, ZEROS_SKIPPED)?;
            let chunk = &window[..window.len().min(ZEROS_SKIPPED)];
            if chunk.is_empty() {
                break;
            }
            let Some(nonzero) = chunk.iter().position(|&byte| byte != 0) else {
                at += chunk.len() as u64;
                continue;
            };
            at += (nonzero / FRAME_ALIGN * FRAME_ALIGN) as u64;
            let window = self.window(at, FRAME_HEADER_BYTES)?;
            let plausible = frame::u64_at(window, 8) == id;
            let mut step = FRAME_ALIGN as u64;
            if plausible && let Ok(frame) = self.at(at)? {
                found.mark = found.mark.max(frame.durable);
                found.frames = true;
                step = frame.length as u64;
            }
            at += step;
            found.last_byte = at.min(self.len);
        }
        Ok(found)
    }
}
