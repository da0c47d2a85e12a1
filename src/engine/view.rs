//! Owns reading: the newest version of a key, and views at one LSN.
//!
//! A view keeps what it reads: tables of the memtable by its number in the
//! sequencer, blocks by holding the image. When memory is short the oldest view is
//! expired, and says so at its next read.

use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use super::image_state::{Cell, Image};
use super::sequencer::{OpenView, Sequencer};
use super::table::{Found, Slot, SlotState};
use crate::codec::cell::has_expired;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::{ImageError, ImageErrorKind};
use crate::scope::{Scope, prefix_end};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many entries a scan takes at a time.
const CHUNK_ENTRIES: usize = 512;

/// A scan takes no more at a time once it holds so many bytes of the image's values:
/// each keeps its block in memory.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Of a view whose time nobody has asked for.
const UNASKED: u64 = u64::MAX;

/// The newest version there is.
const NEWEST: Lsn = Lsn::new(u64::MAX);

/// The state as it was after one commit.
#[derive(Debug)]
pub(crate) struct View {
    engine: Arc<Engine>,
    number: u64,
    lsn: Lsn,
    image: Option<Arc<Image>>,
    expired: Arc<AtomicBool>,
    /// Store time when it was first asked for.
    time: AtomicU64,
}

/// An entry of a scan; `cell` is `None` for a key that was deleted, which only
/// those see who ask for it.
pub(crate) type ScanEntry = (Vec<u8>, Lsn, Cell);

/// A part of a scan, and from where to go on.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) entries: Vec<ScanEntry>,
    /// The next part starts behind this key; `None` at the end.
    pub(crate) next: Option<Vec<u8>>,
}

impl Engine {
    /// The newest version of a key, unless it has expired.
    pub(crate) fn read(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let found = self.newest(slot, key)?;
        Ok(found.filter(|(_, cell)| !has_expired(cell, || self.now())))
    }

    /// The newest version of a key, expired or not.
    pub(super) fn newest(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        match slot.find(key, NEWEST) {
            Found::Version(lsn, cell) => Ok(cell.map(|cell| (lsn, Cell::Memory(cell)))),
            // Loaded after the miss: what left memory since is in it.
            Found::Unknown => match self.image() {
                Some(image) if !image.manifest.blocks.is_empty() => {
                    self.read_image(image, &full_key(slot, key))
                }
                _ => Ok(None),
            },
        }
    }

    /// An entry of the newest image; a damaged one is healed and asked again.
    fn read_image(&self, image: Arc<Image>, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        image.find(key).or_else(|e| {
            self.heal(&image, &e)?
                .find(key)
                .map_err(|e| self.beyond_healing(&e))
        })
    }

    /// The encoded scopes that may have anything in memory, in order.
    pub(crate) fn prefixes_in_memory(&self) -> Vec<Box<[u8]>> {
        let slots = self.slots.all();
        let mut prefixes: Vec<_> = slots.iter().map(|slot| slot.prefix.clone()).collect();
        prefixes.sort_unstable();
        prefixes
    }

    /// The state as it is now, held still for reading.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        self.view_of(&mut self.sequencer.lock())
    }

    /// The same, for whoever holds the sequencer's lock. It is not to be dropped under
    /// that lock.
    pub(super) fn view_of(self: &Arc<Self>, sequencer: &mut Sequencer) -> View {
        let image = self.image();
        let expired = Arc::new(AtomicBool::new(false));
        let lsn = sequencer.last;
        let number = sequencer.views.open(OpenView {
            lsn,
            generation: image.as_ref().map_or(0, |image| image.generation),
            expired: Arc::clone(&expired),
        });
        View {
            engine: Arc::clone(self),
            number,
            lsn,
            image,
            expired,
            time: AtomicU64::new(UNASKED),
        }
    }
}

/// The scope's prefix and the key.
pub(crate) fn full_key(slot: &Slot, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(slot.prefix.len() + key.len());
    full.extend_from_slice(&slot.prefix);
    full.extend_from_slice(key);
    full
}

impl View {
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.expired.load(Ordering::Acquire) {
            true => Err(Error::ViewExpired),
            false if self.engine.is_closed() => Err(Error::Closed),
            false => Ok(()),
        }
    }

    /// Store time as this view sees it: that of the first time that it was asked for,
    /// so that what it shows does not change.
    pub(crate) fn time(&self) -> u64 {
        match self.time.load(Ordering::SeqCst) {
            UNASKED => {}
            time => return time,
        }
        let now = self.engine.now();
        let first = self
            .time
            .compare_exchange(UNASKED, now, Ordering::SeqCst, Ordering::SeqCst);
        first.map_or_else(|earlier| earlier, |_| now)
    }

    /// The version of a key in this view, unless it has expired.
    pub(crate) fn read(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let found = self.version(slot, key)?;
        Ok(found.filter(|(_, cell)| !has_expired(cell, || self.time())))
    }

    /// The version of a key in this view, expired or not.
    pub(crate) fn version(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let found = match slot.find(key, self.lsn) {
            Found::Version(lsn, cell) => cell.map(|cell| (lsn, Cell::Memory(cell))),
            Found::Unknown => {
                let full = full_key(slot, key);
                self.of_image(|image| image.find(&full))?.flatten()
            }
        };
        // After the read: what made room meanwhile had expired this view first.
        self.check()?;
        Ok(found)
    }

    /// Asks the image of this view, or, where that was damaged and rebuilt with
    /// the same content, the rebuilt one.
    pub(super) fn of_image<T>(
        &self,
        mut ask: impl FnMut(&Image) -> std::result::Result<T, ImageError>,
    ) -> Result<Option<T>> {
        let Some(image) = self
            .image
            .as_ref()
            .filter(|i| !i.manifest.blocks.is_empty())
        else {
            return Ok(None);
        };
        let error = match ask(image) {
            Ok(answer) => return Ok(Some(answer)),
            Err(e) => e,
        };
        let healed = self.engine.heal(image, &error)?;
        if healed.manifest.lsn != image.manifest.lsn {
            return Err(Error::ViewExpired);
        }
        ask(&healed)
            .map(Some)
            .map_err(|e| self.engine.beyond_healing(&e))
    }

    /// The next entries of a scope with `from < key` (or `<=`) and `key < to`, those
    /// that have expired too.
    pub(crate) fn chunk(&self, slot: &Slot, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Chunk> {
        let (memory, mut until) = memory_entries(&slot.read(), from, to, self.lsn);
        let cleared = slot
            .read()
            .tables()
            .find_map(|table| table.cleared(self.lsn));
        let mut image = Vec::new();
        if cleared.is_none() {
            self.of_image(|state| {
                image = image_entries(state, slot, from, to, &mut until)?;
                Ok(())
            })?;
        }
        self.check()?;
        let entries = merged(memory, image, until.as_deref());
        Ok(Chunk {
            entries,
            next: until,
        })
    }

    /// Visits all entries of a scope in order, those that have expired too.
    pub(crate) fn for_each(
        &self,
        slot: &Slot,
        visitor: impl FnMut(&[u8], Lsn, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        self.for_each_of(slot, all, visitor)
    }

    /// The same, of those in a range.
    pub(crate) fn for_each_of(
        &self,
        slot: &Slot,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        mut visitor: impl FnMut(&[u8], Lsn, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(from, Bound::Excluded);
            let chunk = self.chunk(slot, from, to)?;
            for (key, lsn, cell) in &chunk.entries {
                visitor(key, *lsn, cell)?;
            }
            match chunk.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// The scopes that have keys, in order.
    pub(crate) fn scopes(&self) -> Result<Vec<Arc<Slot>>> {
        let mut slots = self.engine.slots.all();
        let mut from = Vec::new();
        while let Some(prefix) = self.next_image_scope(&from)? {
            slots.push(self.engine.slot(&prefix));
            match prefix_end(&prefix) {
                Some(end) => from = end,
                None => break,
            }
        }
        slots.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix));
        slots.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut live = Vec::new();
        for slot in slots {
            if !self.is_empty(&slot)? {
                live.push(slot);
            }
        }
        Ok(live)
    }

    /// The first encoded scope of the image at or behind `from`. What is in memory only
    /// is not among them: see [`Engine::prefixes_in_memory`].
    pub(crate) fn next_image_scope(&self, from: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut key) = self.next_image_key(from)? else {
            return Ok(None);
        };
        let len = self.scope_len(&key)?;
        key.truncate(len);
        Ok(Some(key))
    }

    /// How long the scope is that a key of the image begins with.
    fn scope_len(&self, key: &[u8]) -> Result<usize> {
        let scope = Scope::decode(key).map(|(_, len)| len);
        scope.ok_or_else(|| {
            let what = "a key begins with no scope";
            let error = ImageError::new("list scopes", ImageErrorKind::Damaged, what);
            self.engine.beyond_healing(&error)
        })
    }

    fn is_empty(&self, slot: &Slot) -> Result<bool> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let chunk = self.chunk(slot, from, Bound::Unbounded)?;
            let expired = |(_, _, cell): &ScanEntry| has_expired(cell, || self.time());
            match (chunk.entries.iter().all(expired), chunk.next) {
                (false, _) => return Ok(false),
                (true, Some(next)) => after = Some(next),
                (true, None) => return Ok(true),
            }
        }
    }

    /// The first key of the image at or behind `from`.
    fn next_image_key(&self, from: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.of_image(|image| {
            found = None;
            image.visit(from, None, &mut |key, _, _| {
                found = Some(key.to_vec());
                false
            })
        })?;
        self.check()?;
        Ok(found)
    }
}

type MemoryEntry = (Arc<[u8]>, Lsn, super::table::Stored);

/// What memory has in the range, and up to which key that is all, if not to the end.
fn memory_entries(
    state: &SlotState,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    at: Lsn,
) -> (Vec<MemoryEntry>, Option<Vec<u8>>) {
    let mut until: Option<Vec<u8>> = None;
    let mut entries: Vec<MemoryEntry> = Vec::new();
    let mut cleared = None;
    for table in state.tables() {
        let mut count = 0;
        let own: Vec<MemoryEntry> = table
            .range(from, to, at)
            .inspect(|_| count += 1)
            .take(CHUNK_ENTRIES)
            .map(|(key, lsn, cell)| (Arc::clone(key), lsn, cell))
            .collect();
        if count == CHUNK_ENTRIES
            && let Some((last, ..)) = own.last()
            && until.as_deref().is_none_or(|until| &**last < until)
        {
            until = Some(last.to_vec());
        }
        // What is behind a clear of a newer table does not count.
        if cleared.is_none() {
            entries = newer_first(entries, own);
        }
        cleared = cleared.or(table.cleared(at));
    }
    (entries, until)
}

/// Merges two sorted lists; where both have a key, the first list's entry counts.
fn newer_first(newer: Vec<MemoryEntry>, older: Vec<MemoryEntry>) -> Vec<MemoryEntry> {
    if newer.is_empty() {
        return older;
    }
    let mut merged = Vec::with_capacity(newer.len() + older.len());
    let mut newer = newer.into_iter().peekable();
    let mut older = older.into_iter().peekable();
    while let (Some(new), Some(old)) = (newer.peek(), older.peek()) {
        let order = new.0.cmp(&old.0);
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

/// The image's entries in the range, keys without the scope's prefix; lowers
/// `until` where there are more.
fn image_entries(
    image: &Image,
    slot: &Slot,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    until: &mut Option<Vec<u8>>,
) -> std::result::Result<Vec<ScanEntry>, ImageError> {
    let start = match from {
        Bound::Included(key) => full_key(slot, key),
        Bound::Excluded(key) => {
            let mut full = full_key(slot, key);
            full.push(0);
            full
        }
        Bound::Unbounded => slot.prefix.to_vec(),
    };
    let end = match to {
        Bound::Excluded(key) | Bound::Included(key) => Some(full_key(slot, key)),
        Bound::Unbounded => prefix_end(&slot.prefix),
    };
    let skip = slot.prefix.len();
    let mut entries = Vec::new();
    let limit = until.clone();
    let mut bytes = 0;
    let mut more = false;
    image.visit(&start, end.as_deref(), &mut |key, lsn, cell| {
        let key = key.get(skip..).unwrap_or_default();
        if limit.as_deref().is_some_and(|limit| key > limit) {
            return false;
        }
        if entries.len() == CHUNK_ENTRIES || bytes >= CHUNK_BYTES {
            more = true;
            return false;
        }
        bytes += cell.len();
        entries.push((key.to_vec(), lsn, cell));
        true
    })?;
    if more && let Some((last, ..)) = entries.last() {
        *until = Some(last.clone());
    }
    Ok(entries)
}

/// What counts of both, up to the key until which both are complete.
fn merged(memory: Vec<MemoryEntry>, image: Vec<ScanEntry>, until: Option<&[u8]>) -> Vec<ScanEntry> {
    let mut entries = Vec::with_capacity(memory.len() + image.len());
    let within = |key: &[u8]| until.is_none_or(|until| key <= until);
    let mut image = image.into_iter().filter(|(key, ..)| within(key)).peekable();
    for (key, lsn, cell) in memory.into_iter().filter(|(key, ..)| within(key)) {
        while let Some(entry) = image.next_if(|(other, ..)| other.as_slice() < &*key) {
            entries.push(entry);
        }
        image.next_if(|(other, ..)| other.as_slice() == &*key);
        if let Some(cell) = cell {
            entries.push((key.to_vec(), lsn, Cell::Memory(cell)));
        }
    }
    entries.extend(image);
    entries
}

impl Drop for View {
    fn drop(&mut self) {
        self.engine.close_view(self.number);
    }
}
