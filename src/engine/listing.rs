//! Owns what a part of a scan has of memory: a copy of keys and of short values, one after
//! the other. A count for each value, on a line of memory that nobody has looked at yet, is
//! waited for one after the other, and bytes are not.

use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;

use super::small_key::SmallKey;
use super::table::{SlotState, Stored, Table};
use crate::codec::cell::deadline;
use crate::ids::Lsn;
use crate::image::block::LINE_BYTES;

/// How many entries a scan takes at a time.
pub(super) const PART_ENTRIES: usize = 512;

/// How many of memory it takes first: many want no more than a few.
pub(super) const FIRST_ENTRIES: usize = 32;

/// A scan takes no more at a time once it holds so many bytes.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// A value that is no longer than this is copied.
const COPIED_BYTES: usize = 512;

/// So many values are asked for at once before they are copied.
const ASKED_AT_ONCE: usize = 32;

/// Entries of memory in order, with keys that are deleted.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    items: Vec<Item>,
    /// Each key, and behind it its value where that is short.
    bytes: Vec<u8>,
    long: Vec<Arc<[u8]>>,
    /// A value has a deadline.
    expires: bool,
    /// A key is not ASCII.
    beyond_ascii: bool,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    lsn: Lsn,
    key: u32,
    /// Where the key ends and the value begins.
    value: u32,
    kept: Kept,
}

/// What is kept of a value.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// Nothing: it is deleted.
    Deleted,
    /// A copy behind the key, of this length.
    Copy(u32),
    /// A share of it, by its number among the long ones.
    Share(u32),
}

/// A key of a table, with its version that counts.
type Seen<'a> = (&'a SmallKey, Lsn, &'a Stored);

impl Listing {
    /// What memory has in the range, of each table so many entries at most, and up to which
    /// key that is all, if not to the end.
    pub(super) fn of<'a>(
        state: &'a SlotState,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
        at: Lsn,
        most: usize,
    ) -> (Self, Option<Vec<u8>>) {
        let mut until: Option<&[u8]> = None;
        let mut seen = Vec::new();
        let mut cleared = None;
        for table in state.tables() {
            let (own, more) = first_of(table, from, to, at, most);
            if more
                && let Some((last, ..)) = own.last()
                && until.is_none_or(|until| ***last < *until)
            {
                until = Some(last);
            }
            // What is behind a clear of a newer table does not count.
            if cleared.is_none() {
                seen = newer_first(seen, own);
            }
            cleared = cleared.or(table.cleared(at));
        }
        (Self::copied(&seen), until.map(<[u8]>::to_vec))
    }

    fn copied(seen: &[Seen<'_>]) -> Self {
        let len = |(key, _, cell): &Seen<'_>| {
            let cell = cell.as_ref().map_or(0, |cell| cell.len());
            key.len() + if cell > COPIED_BYTES { 0 } else { cell }
        };
        let mut listing = Self {
            items: Vec::with_capacity(seen.len()),
            bytes: Vec::with_capacity(seen.iter().map(len).sum()),
            ..Self::default()
        };
        for seen in seen.chunks(ASKED_AT_ONCE) {
            let cells = seen.iter().filter_map(|(.., cell)| cell.as_deref());
            ask_for(cells.filter(|cell| cell.len() <= COPIED_BYTES));
            seen.iter().for_each(|seen| listing.push(*seen));
        }
        listing
    }

    fn push(&mut self, (key, lsn, cell): Seen<'_>) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(key);
        self.beyond_ascii |= !key.is_ascii();
        self.expires |= cell.as_deref().and_then(deadline).is_some();
        let value = self.bytes.len() as u32;
        let kept = match cell {
            None => Kept::Deleted,
            Some(cell) if cell.len() > COPIED_BYTES => {
                self.long.push(Arc::clone(cell));
                Kept::Share(self.long.len() as u32 - 1)
            }
            Some(cell) => {
                self.bytes.extend_from_slice(cell);
                Kept::Copy(cell.len() as u32)
            }
        };
        self.items.push(Item {
            lsn,
            key: start,
            value,
            kept,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// True where a value has a deadline.
    pub(super) fn expires(&self) -> bool {
        self.expires
    }

    /// True where all keys are.
    pub(super) fn is_ascii(&self) -> bool {
        !self.beyond_ascii
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn key(&self, number: usize) -> &[u8] {
        let item = self.items.get(number);
        item.map_or(&[], |item| self.key_of(item))
    }

    #[inline]
    fn key_of(&self, item: &Item) -> &[u8] {
        let key = self.bytes.get(item.key as usize..item.value as usize);
        key.unwrap_or_default()
    }

    pub(super) fn is_deleted(&self, number: usize) -> bool {
        let item = self.items.get(number);
        item.is_none_or(|item| matches!(item.kept, Kept::Deleted))
    }

    /// Key, version and value; of a key that is deleted the value is empty.
    #[inline]
    pub(super) fn entry(&self, number: usize) -> Option<(&[u8], Lsn, &[u8])> {
        let item = self.items.get(number)?;
        let value = match item.kept {
            Kept::Deleted => &[],
            Kept::Copy(len) => {
                let value = self.bytes.get(item.value as usize..);
                value.and_then(|value| value.get(..len as usize))?
            }
            Kept::Share(at) => self.long.get(at as usize)?,
        };
        Some((self.key_of(item), item.lsn, value))
    }

    /// The value by itself.
    pub(super) fn cell(&self, number: usize) -> Arc<[u8]> {
        let item = self.items.get(number);
        match item.map(|item| item.kept) {
            Some(Kept::Share(at)) => self.long.get(at as usize).cloned().unwrap_or_default(),
            _ => self
                .entry(number)
                .map(|(.., cell)| cell.into())
                .unwrap_or_default(),
        }
    }
}

/// The first entries of a table in a range, and whether there may be more.
fn first_of<'a>(
    table: &'a Table,
    from: Bound<&'a [u8]>,
    to: Bound<&'a [u8]>,
    at: Lsn,
    most: usize,
) -> (Vec<Seen<'a>>, bool) {
    let mut bytes = 0;
    let mut seen = Vec::new();
    for (key, lsn, cell) in table.range(from, to, at) {
        bytes += key.len();
        seen.push((key, lsn, cell));
        if seen.len() == most || bytes >= PART_BYTES {
            return (seen, true);
        }
    }
    (seen, false)
}

/// Looks at each line of short values, so that the waits for them are one wait.
pub(super) fn ask_for<'a>(cells: impl Iterator<Item = &'a [u8]>) {
    let mut seen = 0;
    for cell in cells {
        let lines = cell.iter().step_by(LINE_BYTES).chain(cell.last());
        seen = lines.fold(seen, |seen, byte| seen ^ byte);
    }
    black_box(seen);
}

/// Merges two sorted lists; where both have a key, the first list's entry counts.
fn newer_first<'a>(newer: Vec<Seen<'a>>, older: Vec<Seen<'a>>) -> Vec<Seen<'a>> {
    if newer.is_empty() {
        return older;
    }
    let mut merged = Vec::with_capacity(newer.len() + older.len());
    let mut newer = newer.into_iter().peekable();
    let mut older = older.into_iter().peekable();
    while let (Some(new), Some(old)) = (newer.peek(), older.peek()) {
        let order = new.0.cmp(old.0);
        if order.is_le() {
            merged.extend(newer.next());
        } else {
            merged.extend(older.next());
            continue;
        }
        if order.is_eq() {
            older.next();
        }
    }
    merged.extend(newer);
    merged.extend(older);
    merged
}
