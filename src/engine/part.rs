//! Owns a part of a scan: entries that stand in blocks of the image, where nothing is copied
//! before it is asked for, and entries that memory has a say about. Of those short values are
//! copied: a count for each, on a line of memory that nobody has looked at yet, is waited for
//! one after the other, and bytes are not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::image_state::Cell;
use super::small_key::SmallKey;
use crate::ids::Lsn;
use crate::image::block::{Block, CellRef, EntryRef};

/// A value of memory that is no longer than this is copied into the part.
const COPIED_BYTES: usize = 512;

/// An entry of a part.
#[derive(Clone, Debug)]
pub(crate) struct ScanEntry {
    /// Without the scope's prefix.
    pub(crate) key: SmallKey,
    pub(crate) lsn: Lsn,
    pub(crate) cell: ScanCell,
}

/// Where the bytes of a value are.
#[derive(Clone, Debug)]
pub(crate) enum ScanCell {
    /// In a block of the part, by its number.
    Block(u32, CellRef),
    /// Among what the part has copied.
    Copied { start: u32, len: u32 },
    /// By itself.
    Own(Cell),
}

/// Neighbouring entries of one block.
#[derive(Clone, Copy, Debug)]
struct Run {
    block: usize,
    next: usize,
    end: usize,
}

/// A part of a scan, and from where to go on. Its entries are taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Part {
    blocks: Blocks,
    /// So many bytes of the keys in blocks are the scope's.
    skip: usize,
    runs: VecDeque<Run>,
    /// In their place, where memory has entries too.
    listed: VecDeque<ScanEntry>,
    /// The entry at the front, once somebody has looked at it.
    front: Option<ScanEntry>,
    /// The next part starts behind this key; `None` at the end.
    pub(crate) next: Option<Vec<u8>>,
}

/// The blocks that a part's entries are in, and what else it keeps of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks(Vec<Arc<Block>>, Arc<Copied>);

/// Values of memory, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Copied(Vec<u8>);

impl Copied {
    /// A value of memory as the part has it: a copy, or, of a long one, a share.
    pub(super) fn keep(&mut self, cell: &Arc<[u8]>) -> ScanCell {
        if cell.len() > COPIED_BYTES {
            return ScanCell::Own(Cell::Memory(Arc::clone(cell)));
        }
        let start = self.0.len() as u32;
        self.0.extend_from_slice(cell);
        let len = cell.len() as u32;
        ScanCell::Copied { start, len }
    }
}

impl Blocks {
    /// The bytes of a value of the part.
    #[inline]
    pub(crate) fn bytes<'c>(&'c self, cell: &'c ScanCell) -> &'c [u8] {
        match cell {
            ScanCell::Own(cell) => cell,
            ScanCell::Block(block, cell) => {
                let block = self.0.get(*block as usize);
                block.map_or(&[], |block| block.cell(*cell))
            }
            ScanCell::Copied { start, len } => self.copied(*start, *len),
        }
    }

    fn copied(&self, start: u32, len: u32) -> &[u8] {
        let copied = self.1.0.get(start as usize..);
        copied
            .and_then(|copied| copied.get(..len as usize))
            .unwrap_or_default()
    }

    /// The value by itself.
    pub(crate) fn cell(&self, cell: ScanCell) -> Cell {
        match cell {
            ScanCell::Own(cell) => cell,
            ScanCell::Block(block, cell) => match self.0.get(block as usize) {
                Some(block) => Cell::Block(Arc::clone(block), cell),
                None => Cell::Memory(Arc::default()),
            },
            ScanCell::Copied { start, len } => Cell::Memory(self.copied(start, len).into()),
        }
    }
}

impl Part {
    /// An empty part of a scope whose prefix has this length.
    pub(crate) fn new(skip: usize) -> Self {
        Self {
            skip,
            ..Self::default()
        }
    }

    /// Adds the entries of a block from one number up to another one.
    pub(crate) fn add_run(&mut self, block: Arc<Block>, next: usize, end: usize) {
        let at = self.blocks.0.len();
        self.blocks.0.push(block);
        let run = Run {
            block: at,
            next,
            end,
        };
        self.runs.push_back(run);
    }

    /// The key of the last entry that stands in a block.
    pub(crate) fn last_key(&self) -> Option<SmallKey> {
        let run = self.runs.back()?;
        let last = self
            .blocks
            .0
            .get(run.block)?
            .entry(run.end.checked_sub(1)?)?;
        Some(key_of(last, self.skip))
    }

    /// Puts these in the place of all entries; the blocks stay, and this is kept.
    pub(crate) fn list(&mut self, entries: Vec<ScanEntry>, copied: Copied) {
        self.blocks.1 = Arc::new(copied);
        self.runs.clear();
        self.front = None;
        self.listed = entries.into();
    }

    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The first entry.
    pub(crate) fn front(&mut self) -> Option<&ScanEntry> {
        if self.front.is_none() {
            self.front = self.take();
        }
        self.front.as_ref()
    }

    /// Takes the first entry.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<ScanEntry> {
        match self.front.is_some() {
            true => self.front.take(),
            false => self.take(),
        }
    }

    #[inline]
    fn take(&mut self) -> Option<ScanEntry> {
        while let Some(run) = self.runs.front_mut() {
            let at = run.next;
            if at >= run.end {
                self.runs.pop_front();
                continue;
            }
            let number = run.block;
            let block = self.blocks.0.get(number)?;
            run.next += 1;
            let entry = block.entry(at)?;
            return Some(ScanEntry {
                lsn: entry.lsn,
                cell: ScanCell::Block(number as u32, entry.cell_ref),
                key: key_of(entry, self.skip),
            });
        }
        self.listed.pop_front()
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.front().is_none()
    }
}

/// The key of an entry without its scope.
#[inline]
fn key_of(entry: EntryRef<'_>, skip: usize) -> SmallKey {
    match entry.prefix.get(skip..) {
        Some(start) => SmallKey::joined(start, entry.suffix),
        None => {
            let rest = entry.suffix.get(skip - entry.prefix.len()..);
            SmallKey::from(rest.unwrap_or_default())
        }
    }
}
