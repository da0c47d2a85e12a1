//! Owns a part of a scan: stretches of entries that stand in blocks of the image, where
//! nothing is copied before it is asked for, between those that memory has a say about.
//! Which entries count is decided for stretches and not for each entry, so that a scan goes
//! through what nobody has changed as fast as through a block.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::image_state::Cell;
use super::listing::{Listing, ask_for};
use super::small_key::SmallKey;
use crate::codec::cell::{NEVER, deadline};
use crate::ids::Lsn;
use crate::image::block::{Block, EntryRef};

/// Of entries that take no more than this, all is brought near that they have.
const NEAR_BYTES: usize = 16 * 1024;

/// What entries are in.
#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    Nothing,
    /// A block of the image, whose keys begin with so many bytes of the scope.
    Block(Arc<Block>, usize),
    /// What was found in memory.
    Listing(Arc<Listing>),
    /// One entry by itself.
    One(SmallKey, Lsn, Cell),
}

/// An entry, in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartEntry<'a> {
    /// What the key begins with, without the scope.
    pub(crate) start: &'a [u8],
    /// The rest of the key.
    pub(crate) rest: &'a [u8],
    /// The LSN that wrote it.
    pub(crate) lsn: Lsn,
    /// The value's bytes.
    pub(crate) cell: &'a [u8],
    source: &'a Source,
    number: usize,
}

/// Neighbouring entries of one source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretch {
    source: Source,
    range: Range<usize>,
}

/// A part of a scan, and from where to go on. Its entries are taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// In order; none is empty.
    stretches: VecDeque<Stretch>,
    /// Of the entry that was taken last.
    taken: Option<Source>,
    /// The key at the front, once somebody has looked at it.
    front: Option<SmallKey>,
    /// The next part starts behind this key; `None` at the end.
    pub(crate) next: Option<Vec<u8>>,
}

impl Source {
    #[inline]
    fn entry(&self, number: usize) -> Option<PartEntry<'_>> {
        let Self::Block(block, skip) = self else {
            return self.entry_of_memory(number);
        };
        let EntryRef {
            prefix,
            suffix,
            lsn,
            cell,
            ..
        } = block.entry(number)?;
        let (start, rest) = match prefix.get(*skip..) {
            Some(start) => (start, suffix),
            None => {
                let rest = suffix.get(skip - prefix.len()..);
                (&[][..], rest.unwrap_or_default())
            }
        };
        Some(PartEntry {
            start,
            rest,
            lsn,
            cell,
            source: self,
            number,
        })
    }

    fn entry_of_memory(&self, number: usize) -> Option<PartEntry<'_>> {
        let (rest, lsn, cell) = match self {
            Self::Listing(listing) => listing.entry(number)?,
            Self::One(key, lsn, cell) => (&**key, *lsn, &**cell),
            Self::Nothing | Self::Block(..) => return None,
        };
        Some(PartEntry {
            start: &[],
            rest,
            lsn,
            cell,
            source: self,
            number,
        })
    }

    /// The value's bytes of an entry.
    #[inline]
    fn cell(&self, number: usize) -> Option<&[u8]> {
        match self {
            Self::Block(block, _) => block.entry(number).map(|entry| entry.cell),
            _ => self.entry_of_memory(number).map(|entry| entry.cell),
        }
    }
}

impl PartEntry<'_> {
    /// The whole key, without the scope.
    #[inline]
    pub(crate) fn key(&self) -> SmallKey {
        SmallKey::joined(self.start, self.rest)
    }

    /// The value by itself.
    pub(crate) fn to_cell(self) -> Cell {
        let in_block = |block: &Block| block.entry(self.number).map(|entry| entry.cell_ref);
        match self.source {
            Source::Block(block, _) if let Some(cell) = in_block(block) => {
                Cell::Block(Arc::clone(block), cell)
            }
            Source::Listing(listing) => Cell::Memory(listing.cell(self.number)),
            Source::One(_, _, cell) => cell.clone(),
            Source::Block(..) | Source::Nothing => Cell::Memory(Arc::default()),
        }
    }
}

impl Stretch {
    /// An entry that is in no part.
    pub(crate) fn of_one(key: SmallKey, lsn: Lsn, cell: Cell) -> Self {
        Self {
            source: Source::One(key, lsn, cell),
            range: 0..1,
        }
    }

    /// True where no value has a deadline.
    pub(crate) fn is_lasting(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::Block(block, _) => block.deadline() == NEVER,
            Source::Listing(listing) => !listing.expires(),
            Source::One(_, _, cell) => deadline(cell).is_none(),
        }
    }

    /// True where all keys are known to be ASCII.
    pub(crate) fn is_ascii(&self) -> bool {
        match &self.source {
            Source::Nothing => true,
            Source::Block(block, skip) => block.is_ascii_behind(*skip),
            Source::Listing(listing) => listing.is_ascii(),
            Source::One(key, ..) => key.is_ascii(),
        }
    }

    /// Has the lines of a block brought near that short entries are in, all at once: whoever
    /// takes one after the other waits for one after the other.
    pub(crate) fn bring_near(&self) {
        if let Source::Block(block, _) = &self.source {
            let bytes = block.bytes_of(self.range.clone());
            if bytes.len() <= NEAR_BYTES {
                ask_for(std::iter::once(bytes));
            }
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// The entry with this number, from zero.
    #[inline]
    pub(crate) fn entry(&self, number: usize) -> Option<PartEntry<'_>> {
        self.source.entry(self.range.start + number)
    }

    /// The value's bytes of the entry with this number.
    #[inline]
    pub(crate) fn cell(&self, number: usize) -> Option<&[u8]> {
        self.source.cell(self.range.start + number)
    }

    /// Takes the first entries off, so many if there are as many.
    fn split_off_front(&mut self, most: usize) -> Self {
        let end = self.range.end.min(self.range.start + most);
        let range = self.range.start..end;
        self.range.start = end;
        let source = self.source.clone();
        Self { source, range }
    }
}

impl Part {
    /// Adds entries of a block whose keys begin with so many bytes of the scope.
    pub(crate) fn add(&mut self, block: Arc<Block>, skip: usize, range: Range<usize>) {
        let source = Source::Block(block, skip);
        self.push(Stretch { source, range });
    }

    fn push(&mut self, stretch: Stretch) {
        if !stretch.range.is_empty() {
            self.stretches.push_back(stretch);
        }
    }

    /// The key of the last entry.
    pub(crate) fn last_key(&self) -> Option<SmallKey> {
        let last = self.stretches.back()?;
        Some(last.source.entry(last.range.end.checked_sub(1)?)?.key())
    }

    /// What counts of this, which is of the image, and of what memory has, up to the key
    /// until which both are complete.
    pub(super) fn with(mut self, memory: Listing, prefix: &[u8], until: Option<&[u8]>) -> Self {
        let memory = Arc::new(memory);
        let mut part = Self::default();
        let mut full = prefix.to_vec();
        for number in 0..memory.len() {
            let key = memory.key(number);
            if until.is_some_and(|until| key > until) {
                break;
            }
            full.truncate(prefix.len());
            full.extend_from_slice(key);
            let same = self.move_until(&full, &mut part);
            if same {
                self.skip_one();
            }
            if !memory.is_deleted(number) {
                part.push_listed(&memory, number);
            }
        }
        match until {
            None => part.stretches.append(&mut self.stretches),
            Some(until) => {
                full.truncate(prefix.len());
                full.extend_from_slice(until);
                // Up to this key, and this key too.
                if self.move_until(&full, &mut part)
                    && let Some(front) = self.stretches.front_mut()
                {
                    part.push(front.split_off_front(1));
                }
            }
        }
        part
    }

    /// Moves all before a full key to another part; true where that key is at the front
    /// then.
    fn move_until(&mut self, full: &[u8], to: &mut Self) -> bool {
        while let Some(front) = self.stretches.front_mut() {
            let Source::Block(block, _) = &front.source else {
                return false;
            };
            let upto = block.lower_bound_in(front.range.clone(), full);
            let same = upto < front.range.end
                && block
                    .entry(upto)
                    .is_some_and(|entry| entry.cmp_key(full).is_eq());
            let count = upto - front.range.start;
            match upto == front.range.end {
                true => {
                    let all = self.stretches.pop_front();
                    to.stretches.extend(all);
                }
                false => {
                    if count > 0 {
                        to.push(front.split_off_front(count));
                    }
                    return same;
                }
            }
        }
        false
    }

    fn skip_one(&mut self) {
        if let Some(front) = self.stretches.front_mut() {
            front.range.start += 1;
            if front.range.is_empty() {
                self.stretches.pop_front();
            }
        }
    }

    fn push_listed(&mut self, memory: &Arc<Listing>, number: usize) {
        if let Some(Stretch {
            source: Source::Listing(_),
            range,
        }) = self.stretches.back_mut()
            && range.end == number
        {
            range.end += 1;
            return;
        }
        self.push(Stretch {
            source: Source::Listing(Arc::clone(memory)),
            range: number..number + 1,
        });
    }

    /// The key of the first entry.
    pub(crate) fn front_key(&mut self) -> Option<&[u8]> {
        if self.front.is_none() {
            let first = self.stretches.front()?;
            self.front = first.entry(0).map(|entry| entry.key());
        }
        self.front.as_deref()
    }

    /// Takes the first entry.
    pub(crate) fn pop(&mut self) -> Option<PartEntry<'_>> {
        self.front = None;
        let front = self.stretches.front_mut()?;
        let number = front.range.start;
        front.range.start += 1;
        match front.range.is_empty() {
            true => {
                self.taken = self.stretches.pop_front().map(|stretch| stretch.source);
                self.taken.as_ref()?.entry(number)
            }
            false => self.stretches.front()?.source.entry(number),
        }
    }

    /// Takes neighbouring entries off the front, no more than so many.
    pub(crate) fn pop_stretch(&mut self, most: usize) -> Option<Stretch> {
        self.front = None;
        let front = self.stretches.front_mut()?;
        match front.len() <= most {
            true => self.stretches.pop_front(),
            false => Some(front.split_off_front(most)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }
}

#[cfg(test)]
mod tests;
