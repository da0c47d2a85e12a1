//! Owns reading: the newest version of a key, and views at one LSN.
//!
//! A view keeps what it reads: tables of the memtable by its number in the
//! sequencer, blocks by holding the image. When memory is short the oldest view is
//! expired, and says so at its next read.

use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use super::image_state::{Cell, Image, entry_of};
use super::listing::{FIRST_ENTRIES, Listing, PART_BYTES, PART_ENTRIES};
use super::part::Part;
use super::passage::Passage;
use super::sequencer::{OpenView, Sequencer};
use super::shortcut::{Shortcut, Way};
use super::table::{Found, Slot, Stored};
use crate::codec::cell::has_expired;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::block::Block;
use crate::image::{ImageError, ImageErrorKind};
use crate::scope::{Scope, prefix_end};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
        match self.newest(slot, key)? {
            Some((_, cell)) if has_expired(&cell, || self.now()) => Ok(None),
            found => Ok(found),
        }
    }

    /// The newest version of a key, expired or not.
    #[inline]
    pub(super) fn newest(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        let number = || self.disk.as_ref().map_or(0, |disk| disk.image.number());
        match at_hand(slot, key, NEWEST, number) {
            AtHand::Memory(lsn, cell) => Ok(cell.map(|cell| (lsn, Cell::Memory(cell)))),
            AtHand::Block(block) => Ok(entry_in(block, slot, key)),
            AtHand::Nothing => Ok(None),
            AtHand::Unknown => self.read_image(slot, key),
        }
    }

    /// An entry of the newest image; a damaged one is healed and asked again.
    fn read_image(&self, slot: &Slot, key: &[u8]) -> Result<Option<(Lsn, Cell)>> {
        // Loaded after the miss: what left memory since is in it.
        let image = match self.image() {
            Some(image) if !image.manifest.blocks.is_empty() => image,
            _ => return Ok(None),
        };
        let full = full_key(slot, key);
        find_by(&image, slot, &full).or_else(|e| {
            self.heal(&image, &e)?
                .find(&full)
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

/// Where the version of a key is that counts.
enum AtHand {
    /// In the memtable, or it is deleted there.
    Memory(Lsn, Stored),
    /// In this block of the image, if anywhere.
    Block(Arc<Block>),
    Nothing,
    /// The image has to be asked.
    Unknown,
}

/// Where the version of a key is that counts at `at`, if that is known without asking the
/// image, whose number is asked for once the memtable had nothing.
#[inline]
fn at_hand(slot: &Slot, key: &[u8], at: Lsn, image: impl FnOnce() -> u64) -> AtHand {
    let state = slot.read();
    if let Found::Version(lsn, cell) = state.find(key, at) {
        return AtHand::Memory(lsn, cell);
    }
    let Some(shortcut) = &state.shortcut else {
        return AtHand::Unknown;
    };
    match shortcut.way(image(), key) {
        Way::Block(block) => AtHand::Block(block),
        Way::Nothing => AtHand::Nothing,
        Way::Unknown => AtHand::Unknown,
    }
}

/// The entry of a key in the block that has it, if any has.
#[inline]
fn entry_in(block: Arc<Block>, slot: &Slot, key: &[u8]) -> Option<(Lsn, Cell)> {
    let (lsn, cell) = block.find_joined(&slot.prefix, key)?;
    Some((lsn, Cell::Block(block, cell)))
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
            AtHand::Memory(lsn, cell) => cell.map(|cell| (lsn, Cell::Memory(cell))),
            AtHand::Block(block) => entry_in(block, slot, key),
            AtHand::Nothing => None,
            AtHand::Unknown => {
                let full = full_key(slot, key);
                let found = self.of_image(|image| find_by(image, slot, &full))?;
                found.flatten()
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
    pub(crate) fn part(&self, slot: &Slot, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Result<Part> {
        self.part_of(slot, (from, to), PART_ENTRIES, Image::read)
    }

    /// The same for who may want no more than the first few: what is in memory is copied, and
    /// so few of it are.
    pub(crate) fn first_part(
        &self,
        slot: &Slot,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Part> {
        self.part_of(slot, (from, to), FIRST_ENTRIES, Image::read)
    }

    /// The same as [`part`](Self::part) for who goes through all of it once.
    pub(crate) fn part_in_passing(
        &self,
        slot: &Slot,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        passage: &mut Passage,
    ) -> Result<Part> {
        let read = |image: &Image, at| passage.read(image, at);
        self.part_of(slot, (from, to), PART_ENTRIES, read)
    }

    fn part_of(
        &self,
        slot: &Slot,
        (from, to): (Bound<&[u8]>, Bound<&[u8]>),
        most: usize,
        mut read: impl FnMut(&Image, usize) -> std::result::Result<Arc<Block>, ImageError>,
    ) -> Result<Part> {
        let (memory, until, cleared) = {
            let state = slot.read();
            let (memory, until) = Listing::of(&state, from, to, self.lsn, most);
            let mut tables = state.tables();
            let cleared = tables.find_map(|table| table.cleared(self.lsn));
            (memory, until, cleared)
        };
        let image = match cleared {
            Some(_) => None,
            None => self.of_image(|image| image_entries(image, slot, (from, to), &mut read))?,
        };
        self.check()?;
        let mut part = image.unwrap_or_default();
        let next = match (part.next.take(), until) {
            (Some(image), Some(memory)) => Some(image.min(memory)),
            (image, memory) => image.or(memory),
        };
        if !memory.is_empty() {
            part = part.with(memory, &slot.prefix, next.as_deref());
        }
        part.next = next;
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
                visitor(&entry.key(), entry.lsn, entry.cell)?;
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
            let mut part = self.first_part(slot, from, Bound::Unbounded)?;
            while let Some(entry) = part.pop() {
                if !has_expired(entry.cell, || self.time()) {
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

/// The image's entries in the range, or so many of them as a part has.
fn image_entries(
    image: &Image,
    slot: &Slot,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    mut read: impl FnMut(&Image, usize) -> std::result::Result<Arc<Block>, ImageError>,
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
    let mut part = Part::default();
    let (mut entries, mut bytes) = (0, 0);
    for at in image.fences.range(&start, end.as_deref()) {
        let block = read(image, at)?;
        // Of those between too: a forged block may have keys that are none of this range.
        let first = block.lower_bound(&start);
        let end = end.as_deref().map(|end| block.lower_bound(end));
        let end = end.unwrap_or(block.len());
        let taken = end.saturating_sub(first).min(PART_ENTRIES - entries);
        // What is behind the end in a block is behind it in all that follow.
        let is_last = end < block.len();
        if taken > 0 {
            entries += taken;
            bytes += block.bytes().len();
            part.add(block, slot.prefix.len(), first..first + taken);
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

impl Drop for View {
    fn drop(&mut self) {
        self.engine.close_view(self.number);
    }
}
