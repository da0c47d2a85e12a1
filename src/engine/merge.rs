//! Owns making a new image out of an old one and sorted changes: blocks that
//! change are written anew under new numbers, the others stay as they are.

use std::fmt;

use super::changes::TakeChanges;
use super::image_state::Image;
use super::packer::{Packed, Packer, TakeBlocks};
use super::table::Stored;
use crate::clock;
use crate::ids::{BlockId, Lsn};
use crate::image::ahead::Ahead;
use crate::image::block::Block;
use crate::image::manifest::BlockMeta;
use crate::image::store::{BlockSink, Blocks};
use crate::image::{ImageError, ImageErrorKind};

/// Takes changes in ascending order of keys.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    old: &'a Image,
    packer: Packer<ImageWriter<'a>>,
    /// Blocks that stay as they are have to be copied: the old ones are elsewhere.
    elsewhere: bool,
    ahead: Ahead,
    /// The first old block that nothing is decided about.
    next: usize,
    open: Option<OpenBlock>,
    freed: Vec<(BlockId, u32)>,
    moved: Vec<(BlockId, BlockId)>,
}

/// The old block that is being copied, up to `at`.
#[derive(Debug)]
struct OpenBlock {
    block: Block,
    at: usize,
}

/// A finished merge.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) blocks: Vec<BlockMeta>,
    pub(super) freed: Vec<(BlockId, u32)>,
    /// The blocks that were copied as they are: which became which.
    pub(super) moved: Vec<(BlockId, BlockId)>,
    pub(super) next_block: BlockId,
}

/// Writes the blocks of an image.
#[derive(Debug)]
pub(super) struct ImageWriter<'a> {
    sink: BlockSink<'a>,
    blocks: Vec<BlockMeta>,
}

impl<'a> ImageWriter<'a> {
    /// Writes to `into` from `next_block` on.
    pub(super) fn new(into: &'a Blocks, next_block: BlockId) -> Self {
        Self {
            sink: into.sink(next_block),
            blocks: Vec::new(),
        }
    }

    /// Writes a block; says its number.
    fn write(&mut self, block: Packed<'_>) -> Result<BlockId, ImageError> {
        let (entries, live_bytes) = (block.entries, block.live_bytes);
        let meta = self.sink.put(
            block.bytes,
            block.first_key,
            entries,
            live_bytes,
            block.deadline,
        )?;
        let id = meta.id;
        self.blocks.push(meta);
        Ok(id)
    }

    /// All blocks, and the lowest number that none has.
    pub(super) fn finish(self) -> Result<(Vec<BlockMeta>, BlockId), ImageError> {
        let next_block = self.sink.finish()?;
        Ok((self.blocks, next_block))
    }
}

impl TakeBlocks for ImageWriter<'_> {
    type Error = ImageError;

    fn take(&mut self, block: Packed<'_>) -> Result<(), ImageError> {
        self.write(block).map(drop)
    }

    fn refused(&self, why: impl fmt::Display) -> ImageError {
        ImageError::new("build a block", ImageErrorKind::Damaged, why.to_string())
    }
}

impl<'a> Merge<'a> {
    /// Begins with the blocks of `old`, writing to `into` from `next_block` on.
    pub(super) fn new(
        old: &'a Image,
        into: &'a Blocks,
        next_block: BlockId,
        block_bytes: usize,
    ) -> Self {
        Self {
            old,
            packer: Packer::new(ImageWriter::new(into, next_block), block_bytes),
            elsewhere: !old.is_kept_in(into),
            ahead: Ahead::default(),
            next: 0,
            open: None,
            freed: Vec::new(),
            moved: Vec::new(),
        }
    }

    fn old_blocks(&self) -> &'a [BlockMeta] {
        &self.old.manifest.blocks
    }

    /// Copies or keeps all that comes before `key`, and opens the block that `key`
    /// belongs to.
    fn go_to(&mut self, key: &[u8]) -> Result<(), ImageError> {
        loop {
            self.copy_until(Some(key))?;
            if self.open.is_some() {
                return Ok(());
            }
            let blocks = self.old_blocks();
            let Some(meta) = blocks.get(self.next) else {
                return Ok(());
            };
            let following = blocks.get(self.next + 1);
            let reaches = following.is_none_or(|following| key < &*following.first_key);
            // A key before the very first block belongs into it too.
            match reaches || &*meta.first_key > key || self.packer.underfull() {
                true => self.open_next()?,
                false => self.keep(blocks, key)?,
            }
        }
    }

    /// Keeps blocks as they are, up to the one that `key` belongs to.
    fn keep(&mut self, blocks: &[BlockMeta], key: &[u8]) -> Result<(), ImageError> {
        self.packer.emit()?;
        let upto = blocks
            .partition_point(|meta| &*meta.first_key <= key)
            .saturating_sub(1);
        self.take_over(upto.max(self.next + 1))
    }

    /// Takes over the old blocks up to this one as they are.
    fn take_over(&mut self, upto: usize) -> Result<(), ImageError> {
        let metas = self.old_blocks();
        let from = std::mem::replace(&mut self.next, upto);
        if !self.elsewhere {
            self.packer.to.blocks.extend_from_slice(&metas[from..upto]);
            return Ok(());
        }
        for (at, meta) in metas.iter().enumerate().take(upto).skip(from) {
            let block = self.ahead.take(self.old.blocks()?, metas, at)?;
            let copy = self.packer.to.write(Packed {
                bytes: block.bytes().into(),
                first_key: &meta.first_key,
                entries: meta.entries,
                live_bytes: meta.live_bytes,
                deadline: meta.deadline,
            })?;
            clock::give_way();
            self.moved.push((meta.id, copy));
        }
        Ok(())
    }

    fn open_next(&mut self) -> Result<(), ImageError> {
        let Some(meta) = self.old_blocks().get(self.next) else {
            return Ok(());
        };
        let block = match self.elsewhere {
            // All are read, or nearly so.
            true => self
                .ahead
                .take(self.old.blocks()?, self.old_blocks(), self.next)?,
            false => self.old.blocks()?.read_uncached(meta)?,
        };
        self.free();
        self.open = Some(OpenBlock { block, at: 0 });
        Ok(())
    }

    fn free(&mut self) {
        if let Some(meta) = self.old_blocks().get(self.next) {
            self.freed.push((meta.id, meta.pieces));
            self.next += 1;
        }
    }

    /// Copies the open block's entries before `key`, or all; closes it if another
    /// block holds what follows.
    fn copy_until(&mut self, key: Option<&[u8]>) -> Result<(), ImageError> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let mut buffer = Vec::new();
        while let Some(entry) = open.block.entry(open.at) {
            if key.is_some_and(|key| entry.cmp_key(key).is_ge()) {
                self.open = Some(open);
                return Ok(());
            }
            buffer.clear();
            entry.key_into(&mut buffer);
            let (lsn, cell) = (entry.lsn, entry.cell);
            self.push(&buffer, lsn, cell)?;
            open.at += 1;
        }
        let following = self.old_blocks().get(self.next);
        let beyond = match (following, key) {
            (Some(following), Some(key)) => &*following.first_key <= key,
            (None, Some(_)) => false,
            (_, None) => true,
        };
        if !beyond {
            self.open = Some(open);
        }
        Ok(())
    }

    fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<(), ImageError> {
        if self.packer.push(key, lsn, cell)? {
            clock::give_way();
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<Merged, ImageError> {
        self.copy_until(None)?;
        while self.packer.underfull() && self.next < self.old_blocks().len() {
            self.open_next()?;
            self.copy_until(None)?;
        }
        self.packer.emit()?;
        self.take_over(self.old_blocks().len())?;
        let (blocks, next_block) = self.packer.finish()?.finish()?;
        Ok(Merged {
            blocks,
            freed: self.freed,
            moved: self.moved,
            next_block,
        })
    }
}

impl TakeChanges for Merge<'_> {
    type Error = ImageError;

    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<(), ImageError> {
        self.go_to(key)?;
        if let Some(open) = &mut self.open {
            let same = open
                .block
                .entry(open.at)
                .is_some_and(|old| old.cmp_key(key).is_eq());
            open.at += usize::from(same);
        }
        match cell {
            Some(cell) => self.push(key, lsn, cell),
            None => Ok(()),
        }
    }

    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<(), ImageError> {
        self.go_to(from)?;
        loop {
            if let Some(open) = &mut self.open {
                open.at = end.map_or(open.block.len(), |end| {
                    open.block.lower_bound(end).max(open.at)
                });
                if open.at < open.block.len() {
                    return Ok(());
                }
                self.open = None;
            }
            let Some(meta) = self.old_blocks().get(self.next) else {
                return Ok(());
            };
            if end.is_some_and(|end| &*meta.first_key >= end) {
                return Ok(());
            }
            let following = self.old_blocks().get(self.next + 1);
            let whole = match (following, end) {
                (Some(following), Some(end)) => &*following.first_key <= end,
                (_, None) => true,
                (None, Some(_)) => false,
            };
            match whole {
                true => self.free(),
                false => self.open_next()?,
            }
        }
    }
}
