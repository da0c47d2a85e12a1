//! Owns reading frames from a segment's file through a window of bounded size.

use std::path::Path;

use super::frame::{self, FRAME_ALIGN, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Frame, NoFrame};
use crate::error::Result;
use crate::ids::{Lsn, SegmentId};
use crate::vfs::Vfs;
use crate::vfs::window::FileWindow;

const ZEROS_SKIPPED: usize = 4096;

/// Reads frames of one segment, at any offset, best in ascending order.
#[derive(Debug)]
pub(super) struct Frames {
    window: FileWindow,
    id: SegmentId,
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
        let window = FileWindow::open(vfs, path)?;
        Ok(Self { window, id })
    }

    /// The same, reading so many bytes at a time: for who reads little, often.
    pub(super) fn with_window(mut self, bytes: usize) -> Self {
        self.window = self.window.with_size(bytes);
        self
    }

    /// Forgets what was read, which may have been written since.
    pub(super) fn forget(&mut self) {
        self.window.forget();
    }

    /// The frame at `offset`.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the file cannot be read: that is not the end of the log.
    pub(super) fn at(&mut self, offset: u64) -> Result<std::result::Result<Frame<'_>, NoFrame>> {
        let header = self.window.get(offset, FRAME_HEADER_BYTES)?;
        let length = frame::u32_at(header, 4) as usize;
        let wanted = match (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            true => length,
            false => FRAME_HEADER_BYTES,
        };
        let id = self.id;
        let bytes = self.window.get(offset, wanted)?;
        Ok(frame::read(bytes, id))
    }

    /// Looks at all that is behind `from`.
    pub(super) fn behind(&mut self, from: u64) -> Result<Behind> {
        let mut found = Behind {
            mark: Lsn::ZERO,
            frames: false,
            last_byte: from,
        };
        let mut at = from.next_multiple_of(FRAME_ALIGN as u64);
        while at < self.window.len() {
            let id = self.id.get();
            let window = self.window.get(at, ZEROS_SKIPPED)?;
            let chunk = &window[..window.len().min(ZEROS_SKIPPED)];
            if chunk.is_empty() {
                break;
            }
            let Some(nonzero) = chunk.iter().position(|&byte| byte != 0) else {
                at += chunk.len() as u64;
                continue;
            };
            at += (nonzero / FRAME_ALIGN * FRAME_ALIGN) as u64;
            let window = self.window.get(at, FRAME_HEADER_BYTES)?;
            let plausible = frame::u64_at(window, 8) == id;
            let mut step = FRAME_ALIGN as u64;
            if plausible && let Ok(frame) = self.at(at)? {
                found.mark = found.mark.max(frame.durable);
                found.frames = true;
                step = frame.length as u64;
            }
            at += step;
            found.last_byte = at.min(self.window.len());
        }
        Ok(found)
    }
}
