//! Owns packing entries into blocks, for a snapshot as for an image.

use std::borrow::Cow;
use std::fmt;

use super::snapshot::Section;
use crate::ids::Lsn;
use crate::image::block::BlockBuilder;

/// A whole block, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Packed<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) first_key: &'a [u8],
    pub(crate) entries: u32,
    /// The bytes of its keys and cells.
    pub(crate) live_bytes: u64,
    /// The earliest deadline of an entry.
    pub(crate) deadline: u64,
}

/// What takes blocks, in ascending order of their keys.
pub(crate) trait TakeBlocks {
    /// How it fails.
    type Error;

    /// Writes a block.
    fn take(&mut self, block: Packed<'_>) -> Result<(), Self::Error>;

    /// The error for an entry that no block holds: it is not higher than all before, or
    /// too long.
    fn refused(&self, why: impl fmt::Display) -> Self::Error;
}

/// Makes blocks of entries in ascending order of their keys, between others that are
/// whole already.
#[derive(Debug)]
pub(crate) struct Packer<T> {
    pub(crate) to: T,
    builder: BlockBuilder,
    block_bytes: usize,
}

impl<T: TakeBlocks> Packer<T> {
    /// Packs blocks of about this size.
    pub(crate) fn new(to: T, block_bytes: usize) -> Self {
        Self {
            to,
            builder: BlockBuilder::new(),
            block_bytes,
        }
    }

    /// Adds an entry; true where it filled a block, which was written.
    ///
    /// # Errors
    /// As [`TakeBlocks`].
    pub(crate) fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<bool, T::Error> {
        let grown = self.builder.len_bytes_with(key, cell.len());
        let full = !self.builder.is_empty() && grown > self.block_bytes;
        if full {
            self.emit()?;
        }
        let pushed = self.builder.push(key, lsn, cell);
        pushed.map_err(|e| self.to.refused(e))?;
        Ok(full)
    }

    /// Adds a block as it is.
    ///
    /// # Errors
    /// As [`TakeBlocks`].
    pub(crate) fn push_section(&mut self, section: &Section) -> Result<(), T::Error> {
        self.emit()?;
        self.to.take(Packed {
            bytes: section.block.bytes().into(),
            first_key: &section.first_key(),
            entries: section.entries,
            live_bytes: section.live_bytes,
            deadline: section.block.deadline(),
        })
    }

    /// True where what is gathered is too little for a block of its own.
    pub(crate) fn underfull(&self) -> bool {
        !self.builder.is_empty() && self.builder.len_bytes() < self.block_bytes / 4
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// As [`TakeBlocks`].
    pub(crate) fn emit(&mut self) -> Result<(), T::Error> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let following = self.builder.following();
        let builder = std::mem::replace(&mut self.builder, following);
        let first_key = builder.first_key().unwrap_or_default().to_vec();
        let entries = u32::try_from(builder.entry_count()).unwrap_or(u32::MAX);
        let (live_bytes, deadline) = (builder.live_bytes(), builder.deadline());
        self.to.take(Packed {
            bytes: builder.finish().into(),
            first_key: &first_key,
            entries,
            live_bytes,
            deadline,
        })
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`TakeBlocks`].
    pub(crate) fn finish(mut self) -> Result<T, T::Error> {
        self.emit()?;
        Ok(self.to)
    }
}
