//! Owns reading: the newest version of a key, and views at one LSN.
//!
//! A view keeps what it reads: tables of the memtable by its number in the
//! sequencer, blocks by holding the image. When memory is short the oldest view is
//! expired, and says so at its next read.

use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use super::image_state::{Cell, Image, entry_of};
use super::part::{Copied, Part, ScanCell, ScanEntry};
use super::sequencer::{OpenView, Sequencer};
use super::shortcut::{Shortcut, Way};
use super::small_key::SmallKey;
use super::table::{Found, Slot, SlotState};
use crate::codec::cell::has_expired;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::{ImageError, ImageErrorKind};
use crate::scope::{Scope, prefix_end};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many entries a scan takes at a time.
const PART_ENTRIES: usize = 512;

/// A scan takes no more at a time once it holds so many bytes of blocks of the image.
const PART_BYTES: usize = 1024 * 1024;

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

impl Engine {
    /// The newest version of a key, unless it has expired.
    pub(crate) fn read(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let found = self.newest(slot, key)?;
        Ok(found.filter(|(_, cell)| !has_expired(cell, || self.now())))
    }

    /// The newest version of a key, expired or not.
    pub(super) fn newest(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let number = || self.disk.as_ref().map_or(0, |disk| disk.image.number());
        match at_hand(slot, key, NEWEST, number) {
            Some(found) => Ok(found),
            None => self.read_image(slot, key),
        }
    }

    /// An entry of the newest image; a damaged one is healed and asked again.
    fn read_image(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        // Loaded after the miss: what left memory since is in it.
        let image = match self.image() {
            Some(image) if !image.manifest.blocks.is_empty() => image,
            _ => return Ok(None),
        };
        with_full_key(slot, key, |key| {
            find_by(&image, slot, key).or_else(|e| {
                self.heal(&image, &e)?
                    .find(key)
                    .map_err(|e| self.beyond_healing(&e))
            })
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

/// The version of a key that counts at `at`, where it is in memory, be it the memtable or
/// a block of the image of this number, which is asked for once the memtable had nothing.
/// The outer `None` where the image has to be asked.
#[inline]
fn at_hand(
    slot: &Slot,
    key: &[u8],
    at: Lsn,
    image: impl FnOnce() -> u64,
) -> Option<Option<(Lsn, Cell)>> {
    let way = {
        let state = slot.read();
        match state.find(key, at) {
            Found::Version(lsn, cell) => return Some(cell.map(|cell| (lsn, Cell::Memory(cell)))),
            Found::Unknown => state.shortcut.as_ref()?.way(image(), key),
        }
    };
    match way {
        Way::Block(block) => Some(with_full_key(slot, key, |full| entry_of(block, full))),
        Way::Nothing => Some(None),
        Way::Unknown => None,
    }
}

/// The entry of a full key in an image; the way to its block is remembered.
fn find_by(
    image: &Image,
    slot: &Slot,
    key: &[u8],
) -> std::result::Result<Option<(Lsn, Cell)>, ImageError> {
    let Some((at, block)) = image.block_of(key)? else {
        return Ok(None);
    };
    let is_known = |shortcut: &Shortcut| shortcut.is_of(image.number);
    let known = slot.read().shortcut.as_deref().is_some_and(is_known);
    let fresh = (!known).then(|| Box::new(Shortcut::new(image, &slot.prefix)));
    let mut state = slot.write();
    if let Some(fresh) = fresh
        && !state.shortcut.as_deref().is_some_and(is_known)
    {
        state.shortcut = Some(fresh);
    }
    if let Some(shortcut) = &mut state.shortcut {
        shortcut.remember(image.number, at, &block);
    }
    drop(state);
    Ok(entry_of(block, key))
}

/// The scope's prefix and the key.
pub(crate) fn full_key(slot: &Slot, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(slot.prefix.len() + key.len());
    full.extend_from_slice(&slot.prefix);
    full.extend_from_slice(key);
    full
}

/// The same for a look at it, without memory of its own where it is short.
fn with_full_key<T>(slot: &Slot, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> T {
    let mut short = [0; 96];
    let (start, len) = (slot.prefix.len(), slot.prefix.len() + key.len());
    match short.get_mut(..len) {
        None => look(&full_key(slot, key)),
        Some(full) => {
            full[..start].copy_from_slice(&slot.prefix);
            full[start..].copy_from_slice(key);
            look(full)
        }
    }
}

impl View {
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Which of the open views it is.
    pub(crate) fn number(&self) -> u64 {
        self.number
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
        let number = || self.image.as_ref().map_or(0, |image| image.number);
        let found = match at_hand(slot, key, self.lsn, number) {
            Some(found) => found,
            None => with_full_key(slot, key, |full| {
                self.of_image(|image| find_by(image, slot, full))
            })?
            .flatten(),
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
    pub(crate) fn part(&self, slot: &Slot, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Part> {
        let mut copied = Copied::default();
        let (memory, until, cleared) = {
            let state = slot.read();
            let (memory, until) = memory_entries(&state, from, to, self.lsn, &mut copied);
            let mut tables = state.tables();
            let cleared = tables.find_map(|table| table.cleared(self.lsn));
            (memory, until, cleared)
        };
        let image = match cleared {
            Some(_) => None,
            None => self.of_image(|image| image_entries(image, slot, from, to))?,
        };
        self.check()?;
        let mut part = image.unwrap_or_else(|| Part::new(slot.prefix.len()));
        part.next = match (part.next.take(), until) {
            (Some(image), Some(memory)) => Some(image.min(memory)),
            (image, memory) => image.or(memory),
        };
        if !memory.is_empty() {
            let next = part.next.take();
            let entries = merged(memory, &mut part, next.as_deref());
            part.list(entries, copied);
            part.next = next;
        }
        Ok(part)
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
            let mut part = self.part(slot, from, to)?;
            while let Some(entry) = part.pop() {
                visitor(&entry.key, entry.lsn, part.blocks().bytes(&entry.cell))?;
            }
            match part.next {
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
            let mut part = self.part(slot, from, Bound::Unbounded)?;
            while let Some(entry) = part.pop() {
                if !has_expired(part.blocks().bytes(&entry.cell), || self.time()) {
                    return Ok(false);
                }
            }
            match part.next {
                Some(next) => after = Some(next),
                None => return Ok(true),
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

type MemoryEntry = (SmallKey, Lsn, Option<ScanCell>);

/// What memory has in the range, and up to which key that is all, if not to the end.
fn memory_entries(
    state: &SlotState,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    at: Lsn,
    copied: &mut Copied,
) -> (Vec<MemoryEntry>, Option<Vec<u8>>) {
    let mut until: Option<Vec<u8>> = None;
    let mut entries: Vec<MemoryEntry> = Vec::new();
    let mut cleared = None;
    for table in state.tables() {
        let mut count = 0;
        let own: Vec<MemoryEntry> = table
            .range(from, to, at)
            .inspect(|_| count += 1)
            .take(PART_ENTRIES)
            .map(|(key, lsn, cell)| {
                let cell = cell.as_ref().map(|cell| copied.keep(cell));
                (key.clone(), lsn, cell)
            })
            .collect();
        if count == PART_ENTRIES
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

/// The image's entries in the range, or so many of them as a part has.
fn image_entries(
    image: &Image,
    slot: &Slot,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
) -> std::result::Result<Part, ImageError> {
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
    let mut part = Part::new(slot.prefix.len());
    let (mut entries, mut bytes) = (0, 0);
    for at in image.fences.range(&start, end.as_deref()) {
        let block = image.read(at)?;
        let first = block.lower_bound(&start);
        let end = end.as_deref().map(|end| block.lower_bound(end));
        let end = end.unwrap_or(block.len());
        let taken = end.saturating_sub(first).min(PART_ENTRIES - entries);
        // What is behind the end in a block is behind it in all that follow.
        let is_last = end < block.len();
        if taken > 0 {
            entries += taken;
            bytes += block.bytes().len();
            part.add_run(block, first, first + taken);
        }
        if entries == PART_ENTRIES || bytes >= PART_BYTES {
            part.next = part.last_key().map(|key| key.to_vec());
            break;
        }
        if is_last {
            break;
        }
    }
    Ok(part)
}

/// What counts of both, up to the key until which both are complete.
fn merged(memory: Vec<MemoryEntry>, image: &mut Part, until: Option<&[u8]>) -> Vec<ScanEntry> {
    let mut entries = Vec::with_capacity(memory.len());
    let within = |key: &[u8]| until.is_none_or(|until| key <= until);
    for (key, lsn, cell) in memory.into_iter().filter(|(key, ..)| within(key)) {
        while image.front().is_some_and(|front| front.key < key) {
            entries.extend(image.pop());
        }
        if image.front().is_some_and(|front| front.key == key) {
            image.pop();
        }
        if let Some(cell) = cell {
            entries.push(ScanEntry { key, lsn, cell });
        }
    }
    while let Some(entry) = image.pop().filter(|entry| within(&entry.key)) {
        entries.push(entry);
    }
    entries
}

impl Drop for View {
    fn drop(&mut self) {
        self.engine.close_view(self.number);
    }
}
