//! Owns packing entries into the blocks of a snapshot.

use super::{Section, SnapshotInfo, SnapshotWriter};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::block::BlockBuilder;

/// Writes a snapshot entry by entry, in ascending order of the keys.
#[derive(Debug)]
pub(crate) struct Packer {
    writer: SnapshotWriter,
    builder: BlockBuilder,
    block_bytes: usize,
}

impl Packer {
    /// Packs blocks of about this size.
    pub(crate) fn new(writer: SnapshotWriter, block_bytes: usize) -> Self {
        Self {
            writer,
            builder: BlockBuilder::new(),
            block_bytes,
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// As [`SnapshotWriter::push_block`], and [`Error::Invalid`] for a key that is not
    /// higher than all before.
    pub(crate) fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<()> {
        let grown = self.builder.len_bytes_with(key, cell.len());
        if !self.builder.is_empty() && grown > self.block_bytes {
            self.emit()?;
        }
        let pushed = self.builder.push(key, lsn, cell);
        pushed.map_err(|e| Error::Invalid {
            what: "entry",
            reason: e.to_string(),
        })
    }

    /// Adds a block as it is.
    ///
    /// # Errors
    /// As [`SnapshotWriter::push_block`].
    pub(crate) fn push_section(&mut self, section: &Section) -> Result<()> {
        self.emit()?;
        let bytes = section.block.bytes();
        let (entries, live_bytes) = (section.entries, section.live_bytes);
        self.writer
            .push_block(bytes, &section.first_key(), entries, live_bytes)
    }

    /// True where what is gathered is too little for a block of its own.
    pub(crate) fn underfull(&self) -> bool {
        !self.builder.is_empty() && self.builder.len_bytes() < self.block_bytes / 4
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`SnapshotWriter::finish`].
    pub(crate) fn finish(mut self) -> Result<SnapshotInfo> {
        self.emit()?;
        self.writer.finish()
    }

    fn emit(&mut self) -> Result<()> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let builder = std::mem::take(&mut self.builder);
        let first_key = builder.first_key().unwrap_or_default().to_vec();
        let entries = u32::try_from(builder.entry_count()).unwrap_or(u32::MAX);
        let live_bytes = builder.live_bytes();
        let block = builder.finish();
        self.writer
            .push_block(&block, &first_key, entries, live_bytes)
    }
}
