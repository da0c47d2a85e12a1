//! Owns the block: neighbouring keys in ascending order, each with the LSN that
//! wrote it and an opaque cell. A block is checked as a whole when it is parsed;
//! after that every access is cheap, allocates nothing and cannot fail.
//!
//! A block that is to be kept is indexed: its keys are found by their hashes.
//!
//! A block carries no checksum: who names a block (manifest, snapshot) keeps its
//! hash and compares it before the bytes come here.

mod index;

use std::cmp::Ordering;
use std::hint::black_box;
use std::ops::Range;

use self::index::KeyIndex;

use crate::codec::cell::{NEVER, deadline};
use crate::ids::Lsn;
use crate::image::cursor::{Cursor, Malformed};

const MAGIC: u32 = u32::from_le_bytes(*b"EKB1");
const HEADER_BYTES: usize = 12;
const OFFSET_BYTES: usize = 4;
const ENTRY_HEADER_BYTES: usize = 16;

/// The bytes of one line of the processor's caches.
pub(crate) const LINE_BYTES: usize = 64;

/// A prefix of so many bytes is held in place too.
const SHORT_PREFIX: usize = 40;

/// Why a builder did not take an entry. The builder is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PushError {
    /// The key is not higher than the one before it.
    #[error("the key is not higher than the one before it")]
    Order,
    /// The block would be longer than its offsets can say.
    #[error("the block would exceed 4 GiB")]
    TooLong,
}

/// Collects entries in ascending order of their keys.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    /// Keys and cells one after the other: the prefix is known only at the end,
    /// so entries are laid out in `finish`.
    arena: Vec<u8>,
    entries: Vec<Pending>,
    prefix_len: usize,
    key_bytes: usize,
    deadline: u64,
}

impl Default for BlockBuilder {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            entries: Vec::new(),
            prefix_len: 0,
            key_bytes: 0,
            deadline: NEVER,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    start: usize,
    key_len: usize,
    cell_len: usize,
    lsn: Lsn,
}

impl BlockBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An empty one, with room for as much as this one has.
    pub(crate) fn following(&self) -> Self {
        Self {
            arena: Vec::with_capacity(self.arena.len()),
            entries: Vec::with_capacity(self.entries.len()),
            ..Self::default()
        }
    }

    /// Adds an entry behind all others.
    ///
    /// # Errors
    ///
    /// [`PushError`]; the entry was not added.
    pub(crate) fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<(), PushError> {
        if self
            .entries
            .last()
            .is_some_and(|last| self.key(last) >= key)
        {
            return Err(PushError::Order);
        }
        // The arena holds each key whole, so the block is never longer than this.
        let bound = self
            .arena
            .len()
            .saturating_add(key.len())
            .saturating_add(cell.len());
        let table = (ENTRY_HEADER_BYTES + OFFSET_BYTES).saturating_mul(self.entries.len() + 1);
        if bound.saturating_add(table).saturating_add(HEADER_BYTES) > u32::MAX as usize {
            return Err(PushError::TooLong);
        }
        self.prefix_len = self.prefix_with(key);
        self.entries.push(Pending {
            start: self.arena.len(),
            key_len: key.len(),
            cell_len: cell.len(),
            lsn,
        });
        self.arena.extend_from_slice(key);
        self.arena.extend_from_slice(cell);
        self.key_bytes += key.len();
        self.deadline = self.deadline.min(deadline(cell).unwrap_or(NEVER));
        Ok(())
    }

    /// The length that `finish` would give now.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_of(self.entries.len(), self.arena.len(), self.prefix_len)
    }

    /// The length that `finish` would give once this entry was added, so that a
    /// caller can cut before the entry that is too much.
    pub(crate) fn len_bytes_with(&self, key: &[u8], cell_len: usize) -> usize {
        let arena = self
            .arena
            .len()
            .saturating_add(key.len())
            .saturating_add(cell_len);
        self.len_of(self.entries.len() + 1, arena, self.prefix_with(key))
    }

    /// True before the first entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries there are.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of all keys and cells: what a user would call the size of it.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.arena.len() as u64
    }

    /// The earliest deadline of an entry.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// The lowest key.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        self.entries.first().map(|first| self.key(first))
    }

    /// The block.
    ///
    /// ```text
    /// block  = magic:"EKB1" count:u32 prefix_len:u32
    ///          prefix                     what all keys begin with, once
    ///          offset:u32 * count         of each entry, from the block's first byte
    ///          entry * count              one after the other, nothing between
    /// entry  = suffix_len:u32 lsn:u64 cell_len:u32 suffix cell
    /// ```
    ///
    /// Integers are little-endian. The prefix is the longest that the first and
    /// the last key share, which in ascending order all others share too.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.len_bytes());
        let prefix = self.first_key().and_then(|key| key.get(..self.prefix_len));
        let prefix = prefix.unwrap_or_default();
        block.extend_from_slice(&MAGIC.to_le_bytes());
        put_size(&mut block, self.entries.len());
        put_size(&mut block, prefix.len());
        block.extend_from_slice(prefix);
        let mut offset = block.len() + OFFSET_BYTES * self.entries.len();
        for entry in &self.entries {
            put_size(&mut block, offset);
            offset += ENTRY_HEADER_BYTES + entry.key_len - prefix.len() + entry.cell_len;
        }
        for entry in &self.entries {
            put_size(&mut block, entry.key_len - prefix.len());
            block.extend_from_slice(&entry.lsn.get().to_le_bytes());
            put_size(&mut block, entry.cell_len);
            let end = entry.start + entry.key_len + entry.cell_len;
            let suffix_and_cell = self.arena.get(entry.start + prefix.len()..end);
            block.extend_from_slice(suffix_and_cell.unwrap_or_default());
        }
        block
    }

    fn key(&self, entry: &Pending) -> &[u8] {
        let key = self.arena.get(entry.start..entry.start + entry.key_len);
        key.unwrap_or_default()
    }

    fn prefix_with(&self, key: &[u8]) -> usize {
        match self
            .first_key()
            .and_then(|first| first.get(..self.prefix_len))
        {
            Some(prefix) => shared_len(prefix, key),
            None => key.len(),
        }
    }

    fn len_of(&self, count: usize, arena: usize, prefix_len: usize) -> usize {
        let entries = (OFFSET_BYTES + ENTRY_HEADER_BYTES).saturating_mul(count);
        let shared = prefix_len * count.saturating_sub(1);
        // The prefix stands once, and is missing from each key; with no entry
        // there is no prefix.
        (HEADER_BYTES + entries)
            .saturating_add(arena)
            .saturating_sub(shared)
    }
}

/// Lengths were bounded by `push`, so they fit.
fn put_size(block: &mut Vec<u8>, size: usize) {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    block.extend_from_slice(&size.to_le_bytes());
}

fn shared_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where in a block a cell is. It means something only for the block it came from,
/// and lets a caller keep an `Arc<Block>` instead of a copy of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellRef {
    start: u32,
    len: u32,
}

impl CellRef {
    /// The place of the cell in [`Block::bytes`].
    pub(crate) const fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// An entry of a block, in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRef<'a> {
    /// What the key begins with: the same for all entries of a block.
    pub(crate) prefix: &'a [u8],
    /// The rest of the key.
    pub(crate) suffix: &'a [u8],
    /// The LSN that wrote it.
    pub(crate) lsn: Lsn,
    /// The value's bytes.
    pub(crate) cell: &'a [u8],
    /// The place of the cell in the block.
    pub(crate) cell_ref: CellRef,
}

impl EntryRef<'_> {
    /// Replaces what is in `key` by the whole key.
    pub(crate) fn key_into(&self, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix);
        key.extend_from_slice(self.suffix);
    }

    /// The whole key, as a copy.
    pub(crate) fn key(&self) -> Vec<u8> {
        [self.prefix, self.suffix].concat()
    }

    /// How the whole key compares with `key`.
    pub(crate) fn cmp_key(&self, key: &[u8]) -> Ordering {
        match key.get(..self.prefix.len()) {
            Some(start) => self.prefix.cmp(start).then_with(|| {
                let rest = key.get(self.prefix.len()..).unwrap_or_default();
                self.suffix.cmp(rest)
            }),
            // A key shorter than the prefix is lower than all that begin with it.
            None => self.prefix.cmp(key),
        }
    }
}

/// A block that was checked.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Box<[u8]>,
    /// Empty in a block that is read through once.
    index: KeyIndex,
    count: usize,
    prefix_len: usize,
    /// The prefix where it is short: a line less to look at than where it stands.
    short_prefix: [u8; SHORT_PREFIX],
    deadline: u64,
    /// The keys are ASCII behind the prefix.
    ascii: bool,
}

impl Block {
    /// Checks bytes once and for all: lengths, offsets, order.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are not exactly one block.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Malformed {
                what: "the block is longer than 4 GiB",
                at: 0,
            });
        }
        let mut cursor = Cursor::new(&bytes);
        if cursor.u32()? != MAGIC {
            return Err(Malformed {
                what: "this is not a block",
                at: 0,
            });
        }
        let count = cursor.size()?;
        let prefix_len = cursor.size()?;
        let prefix = cursor.take(prefix_len)?;
        let mut short_prefix = [0; SHORT_PREFIX];
        if let Some(short) = short_prefix.get_mut(..prefix_len) {
            short.copy_from_slice(prefix);
        }
        cursor.check_count(count, OFFSET_BYTES + ENTRY_HEADER_BYTES)?;
        let mut offsets = Cursor::new(cursor.take(count * OFFSET_BYTES)?);
        let mut last: Option<&[u8]> = None;
        let (mut earliest, mut ascii) = (NEVER, true);
        for _ in 0..count {
            if offsets.size()? != cursor.at() {
                return Err(cursor.malformed("an entry is not where the table says"));
            }
            let suffix_len = cursor.size()?;
            let _lsn = cursor.u64()?;
            let cell_len = cursor.size()?;
            let suffix = cursor.take(suffix_len)?;
            let cell = cursor.take(cell_len)?;
            earliest = earliest.min(deadline(cell).unwrap_or(NEVER));
            ascii &= suffix.is_ascii();
            if last.is_some_and(|last| last >= suffix) {
                return Err(cursor.malformed("the keys are not in ascending order"));
            }
            last = Some(suffix);
        }
        if cursor.remaining() != 0 {
            return Err(cursor.malformed("bytes follow the last entry"));
        }
        Ok(Self {
            bytes: bytes.into_boxed_slice(),
            index: KeyIndex::default(),
            count,
            prefix_len,
            short_prefix,
            deadline: earliest,
            ascii,
        })
    }

    /// The same block, of which single keys are asked for again and again.
    pub(crate) fn indexed(mut self) -> Self {
        let mut index = KeyIndex::new(self.count, self.bytes.len());
        if !index.is_empty() {
            for (number, entry) in self.entries_from(0).enumerate() {
                index.insert(entry.suffix, self.start_of(number));
            }
        }
        self.index = index;
        self
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The earliest deadline of an entry.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline
    }

    /// True where what follows so many bytes in the keys is ASCII; false where nobody has
    /// looked.
    pub(crate) fn is_ascii_behind(&self, skip: usize) -> bool {
        let start = self.prefix().get(skip..);
        self.ascii && start.is_none_or(<[u8]>::is_ascii)
    }

    /// The bytes of the entries with these numbers.
    pub(crate) fn bytes_of(&self, range: Range<usize>) -> &[u8] {
        let start = self.start_of(range.start);
        let bytes = match range.end < self.count {
            true => self.bytes.get(start..self.start_of(range.end)),
            false => self.bytes.get(start..),
        };
        bytes.unwrap_or_default()
    }

    /// What it takes in memory beside its bytes, roughly.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index.bytes() as u64
    }

    /// The block as it is stored.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of all keys and cells.
    pub(crate) fn live_bytes(&self) -> u64 {
        let frame =
            HEADER_BYTES + self.prefix_len + (OFFSET_BYTES + ENTRY_HEADER_BYTES) * self.count;
        let suffixes_and_cells = self.bytes.len().saturating_sub(frame);
        suffixes_and_cells as u64 + self.prefix_len as u64 * self.count as u64
    }

    /// The entry with this number, from zero, in order of the keys.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Option<EntryRef<'_>> {
        self.entry_at(self.start_of(index))
    }

    /// Where the entry with this number begins; behind all bytes where there is none.
    #[inline]
    fn start_of(&self, index: usize) -> usize {
        let at = HEADER_BYTES + self.prefix_len + index * OFFSET_BYTES;
        let offset = self.bytes.get(at..).filter(|_| index < self.count);
        let offset = offset.and_then(<[u8]>::first_chunk);
        offset.map_or(usize::MAX, |offset| u32::from_le_bytes(*offset) as usize)
    }

    #[inline]
    fn entry_at(&self, start: usize) -> Option<EntryRef<'_>> {
        let (header, rest) = self
            .bytes
            .get(start..)?
            .split_first_chunk::<ENTRY_HEADER_BYTES>()?;
        let [a, b, c, d, lsn @ .., e, f, g, h] = *header;
        let suffix_len = u32::from_le_bytes([a, b, c, d]);
        let cell_len = u32::from_le_bytes([e, f, g, h]);
        let (suffix, rest) = rest.split_at_checked(suffix_len as usize)?;
        let cell = rest.get(..cell_len as usize)?;
        let cell_ref = CellRef {
            start: (start + ENTRY_HEADER_BYTES + suffix.len()) as u32,
            len: cell_len,
        };
        Some(EntryRef {
            prefix: self.prefix(),
            suffix,
            lsn: Lsn::new(u64::from_le_bytes(lsn)),
            cell,
            cell_ref,
        })
    }

    /// All entries from `index` on, in order.
    pub(crate) fn entries_from(&self, index: usize) -> impl Iterator<Item = EntryRef<'_>> {
        (index..self.count).filter_map(|index| self.entry(index))
    }

    /// The bytes of a cell that this block gave out.
    #[inline]
    pub(crate) fn cell(&self, cell: CellRef) -> &[u8] {
        self.bytes.get(cell.range()).unwrap_or_default()
    }

    /// The LSN and the cell of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<(Lsn, CellRef)> {
        self.find_suffix(key.strip_prefix(self.prefix())?)
    }

    /// The same of a key that is given in two pieces.
    #[inline]
    pub(crate) fn find_joined(&self, start: &[u8], rest: &[u8]) -> Option<(Lsn, CellRef)> {
        let prefix = self.prefix();
        match prefix.get(start.len()..) {
            Some(begin) if prefix.starts_with(start) => self.find_suffix(rest.strip_prefix(begin)?),
            _ => self.find_as_one(start, rest),
        }
    }

    /// The same where the block is not of one scope, without memory of its own for a short
    /// key.
    fn find_as_one(&self, start: &[u8], rest: &[u8]) -> Option<(Lsn, CellRef)> {
        let mut short = [0; 96];
        match short.get_mut(..start.len() + rest.len()) {
            None => self.find(&[start, rest].concat()),
            Some(key) => {
                let (first, last) = key.split_at_mut(start.len());
                first.copy_from_slice(start);
                last.copy_from_slice(rest);
                self.find(key)
            }
        }
    }

    /// Looks at the lines that a short entry has, so that the waits for them are one wait.
    #[inline]
    fn ask_for_entry(&self, start: usize) {
        let entry = self.bytes.get(start..).unwrap_or_default();
        black_box([1, 2].map(|line| entry.get(line * LINE_BYTES).copied()));
    }

    #[inline]
    fn find_suffix(&self, suffix: &[u8]) -> Option<(Lsn, CellRef)> {
        let look = |start| {
            self.ask_for_entry(start);
            let entry = self.entry_at(start)?;
            (entry.suffix == suffix).then_some((entry.lsn, entry.cell_ref))
        };
        match self.index.is_empty() {
            true => look(self.start_of(self.lower_bound_suffix(suffix))),
            false => self.index.find(suffix, look),
        }
    }

    /// The number of the first entry whose key is not lower than `key`.
    pub(crate) fn lower_bound(&self, key: &[u8]) -> usize {
        let prefix = self.prefix();
        if let Some(suffix) = key.strip_prefix(prefix) {
            return self.lower_bound_suffix(suffix);
        }
        if key < prefix { 0 } else { self.count }
    }

    /// The same among the entries with these numbers, for one that is near their beginning.
    pub(crate) fn lower_bound_in(&self, range: Range<usize>, key: &[u8]) -> usize {
        let Some(suffix) = key.strip_prefix(self.prefix()) else {
            return self.lower_bound(key).clamp(range.start, range.end);
        };
        let (mut low, mut step) = (range.start, 1);
        while let Some(at) = (low + step - 1 < range.end).then_some(low + step - 1)
            && self.is_below(at, suffix)
        {
            low = at + 1;
            step *= 2;
        }
        self.search(low..range.end.min(low + step - 1), suffix)
    }

    fn lower_bound_suffix(&self, suffix: &[u8]) -> usize {
        self.search(0..self.count, suffix)
    }

    /// The number of the first entry of these that is not below a suffix, or of the one
    /// behind them.
    fn search(&self, range: Range<usize>, suffix: &[u8]) -> usize {
        let (mut low, mut high) = (range.start, range.end);
        while low < high {
            let middle = low.midpoint(high);
            match self.is_below(middle, suffix) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn is_below(&self, number: usize, suffix: &[u8]) -> bool {
        let entry = self.entry(number);
        entry.is_some_and(|entry| entry.suffix < suffix)
    }

    #[inline]
    fn prefix(&self) -> &[u8] {
        let short = self.short_prefix.get(..self.prefix_len);
        short.unwrap_or_else(|| {
            let prefix = self.bytes.get(HEADER_BYTES..HEADER_BYTES + self.prefix_len);
            prefix.unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests;
