//! Owns the versions of one scope's keys in memory: a table for each generation
//! of the memtable, and the slot that a scope handle holds on to.
//!
//! What stays true:
//! - Only the newest generation's table changes; an older one is shared and read without
//!   the lock. A key's versions are in descending order.
//! - Where nothing is below, as in a store without a folder, a key that is deleted takes
//!   nothing: what is kept of it for views is noted, and goes with them.

mod chain;
mod sums;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use self::chain::Chain;
pub(crate) use self::chain::{Pins, Stored};
use super::quota::Quota;
use super::shortcut::Shortcut;
use super::small_key::SmallKey;
use super::tally::Tally;
use crate::codec::cell::{NEVER, deadline};
use crate::ids::Lsn;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

const DEADLINE_BYTES: i64 = 64;

/// What a scope costs in memory while anything of it is there, roughly: its slot, its
/// place in the map, a table.
const TABLE_BYTES: u64 = 400;

/// So much of what was kept for closed views is dropped under one lock.
const SETTLED_AT_ONCE: usize = 256;

/// The writes of one generation to one scope.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) generation: u64,
    keys: BTreeMap<SmallKey, Chain>,
    /// Keys whose newest version here has a deadline, by that.
    deadlines: BTreeSet<(u64, SmallKey)>,
    /// When the whole scope was cleared, ascending.
    cleared: Vec<Lsn>,
    /// Keys whose newest version here is a value, and the bytes of those.
    live_keys: u64,
    live_bytes: u64,
    newest: Lsn,
    /// Where nothing is below: what is kept for views, by the commit that made it
    /// useless to later ones; a key, or all that was cleared.
    kept: BTreeSet<(Lsn, Option<SmallKey>)>,
    /// The newest delete or clear of which nothing is left here.
    forgotten: Lsn,
    /// What it takes in memory, roughly.
    pub(crate) bytes: u64,
}

/// What memory knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Written, or deleted, by this commit.
    Version(Lsn, Stored),
    /// Nothing: the image has to be asked.
    Unknown,
}

impl Table {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            ..Self::default()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.cleared.is_empty()
    }

    /// The last clear up to `at`.
    pub(crate) fn cleared(&self, at: Lsn) -> Option<Lsn> {
        self.cleared.iter().rev().copied().find(|&lsn| lsn <= at)
    }

    fn find(&self, key: &[u8], at: Lsn) -> Found {
        let chain = match SmallKey::short(key) {
            Some(key) => self.keys.get(&key),
            None => self.keys.get(key),
        };
        let version = chain.and_then(|chain| chain.at(at));
        let cleared = self.cleared(at);
        match (version, cleared) {
            // In one commit a clear comes before the writes.
            (Some((lsn, cell)), cleared) if cleared.is_none_or(|cleared| lsn >= cleared) => {
                Found::Version(lsn, cell.clone())
            }
            (_, Some(cleared)) => Found::Version(cleared, None),
            (_, None) => Found::Unknown,
        }
    }

    /// Keys in a range with the version that counts at `at`, deleted ones too.
    pub(crate) fn range<'a>(
        &'a self,
        from: Bound<&'a [u8]>,
        to: Bound<&'a [u8]>,
        at: Lsn,
    ) -> impl Iterator<Item = (&'a SmallKey, Lsn, &'a Stored)> {
        let cleared = self.cleared(at);
        let in_range = self.keys.range::<[u8], _>((from, to));
        in_range.filter_map(move |(key, chain)| {
            let (lsn, cell) = chain.at(at)?;
            match cleared {
                Some(cleared) if lsn < cleared => None,
                _ => Some((key, lsn, cell)),
            }
        })
    }

    /// Adds a version; returns the change in bytes held.
    fn put(
        &mut self,
        key: &SmallKey,
        (lsn, cell): (Lsn, Stored),
        pins: Pins,
        garbage: &mut Garbage,
    ) -> i64 {
        if pins.bottom && cell.is_none() && (pins.views.is_none() || !self.keys.contains_key(key)) {
            return self.forget(key, lsn);
        }
        self.newest = lsn;
        let expires = cell.as_deref().and_then(deadline);
        let new_live = cell.as_ref().map(|cell| (key.len() + cell.len()) as u64);
        let cleared = self.cleared.last().copied().unwrap_or_default();
        let mut change;
        let mut old_live = None;
        let mut expired = None;
        let mut keeps = false;
        // Where none has a deadline, what is replaced is not looked at: it is seldom near.
        let lasting = self.deadlines.is_empty();
        match self.keys.entry(key.clone()) {
            Entry::Vacant(place) => {
                let chain = place.insert(Chain::new(lsn, cell));
                change = chain.bytes(key) as i64;
            }
            Entry::Occupied(mut place) => {
                let chain = place.get_mut();
                let before = chain.cell.as_deref();
                let visible = before.filter(|_| chain.lsn >= cleared);
                old_live = visible.map(|cell| (key.len() + cell.len()) as u64);
                expired = before.filter(|_| !lasting).and_then(deadline);
                let gone;
                (change, gone) = chain.replace(lsn, cell, pins);
                garbage.replaced.extend(gone);
                keeps = pins.bottom && chain.is_kept() && !chain.note(true);
            }
        }
        self.count(old_live, new_live);
        if expired.is_some() || expires.is_some() {
            change += self.schedule(key, expired, expires);
        }
        if keeps {
            self.kept.insert((lsn, Some(key.clone())));
        }
        self.grown(change)
    }

    /// Takes a key out that no view reads and that nothing is below; returns the change
    /// in bytes held. Where it is not there, nothing changes.
    fn forget(&mut self, key: &SmallKey, lsn: Lsn) -> i64 {
        let Some((key, chain)) = self.keys.remove_entry(key) else {
            return self.grown(0);
        };
        self.newest = lsn;
        self.forgotten = lsn;
        let cleared = self
            .cleared
            .last()
            .is_some_and(|&cleared| chain.lsn < cleared);
        let live = chain.cell.as_ref().filter(|_| !cleared);
        self.count(live.map(|cell| (key.len() + cell.len()) as u64), None);
        let expired = chain.cell.as_deref().and_then(deadline);
        let change = self.schedule(&key, expired, None) - chain.bytes(&key) as i64;
        self.grown(change)
    }

    /// Drops what was kept for views that are closed, a part of it if there is much: all
    /// views that are open or will be are at `lowest` or later. Returns the change in
    /// bytes held.
    fn settle(&mut self, lowest: Lsn) -> i64 {
        let mut change = 0;
        for _ in 0..SETTLED_AT_ONCE {
            if self.kept.first().is_none_or(|&(since, _)| since > lowest) {
                break;
            }
            match self.kept.pop_first() {
                Some((_, Some(key))) => change -= self.settle_key(&key, lowest) as i64,
                Some((_, None)) => change -= self.settle_clears(lowest) as i64,
                None => break,
            }
        }
        self.grown(change)
    }

    fn settle_key(&mut self, key: &SmallKey, lowest: Lsn) -> u64 {
        let Some(chain) = self.keys.get_mut(key) else {
            return 0;
        };
        if chain.lsn > lowest {
            let freed = chain.keep_from(lowest);
            if chain.is_kept() {
                chain.note(true);
                self.kept.insert((chain.lsn, Some(key.clone())));
            } else {
                chain.note(false);
            }
            return freed;
        }
        chain.note(false);
        if chain.cell.is_some() {
            return chain.cut(0);
        }
        self.forgotten = self.forgotten.max(chain.lsn);
        let gone = self.keys.remove(key);
        gone.map_or(0, |chain| chain.bytes(key))
    }

    fn settle_clears(&mut self, lowest: Lsn) -> u64 {
        let Some(cleared) = self.cleared(lowest) else {
            return 0;
        };
        self.cleared.retain(|&other| other > cleared);
        self.forgotten = self.forgotten.max(cleared);
        let mut freed = 0;
        self.keys.retain(|key, chain| {
            if chain.lsn < cleared {
                freed += chain.bytes(key);
                return false;
            }
            let keep = chain.older().iter().take_while(|(lsn, _)| *lsn >= cleared);
            freed += chain.cut(keep.count());
            true
        });
        freed
    }

    /// Replaces a key's deadline; returns the change in bytes held.
    fn schedule(&mut self, key: &SmallKey, old: Option<u64>, new: Option<u64>) -> i64 {
        let entry = |deadline| (deadline, key.clone());
        let gone = old.is_some_and(|old| self.deadlines.remove(&entry(old)));
        let added = new.is_some_and(|new| self.deadlines.insert(entry(new)));
        (i64::from(added) - i64::from(gone)) * DEADLINE_BYTES
    }

    /// Counts a change in bytes held, and returns it. What holds nothing takes nothing.
    fn grown(&mut self, change: i64) -> i64 {
        let before = self.bytes;
        self.bytes = match self.is_empty() {
            true => 0,
            false => before.saturating_add_signed(change),
        };
        self.bytes as i64 - before as i64
    }

    fn count(&mut self, old: Option<u64>, new: Option<u64>) {
        if let Some(bytes) = old {
            self.live_keys -= 1;
            self.live_bytes -= bytes;
        }
        if let Some(bytes) = new {
            self.live_keys += 1;
            self.live_bytes += bytes;
        }
    }

    /// Clears the scope; returns the change in bytes held.
    fn clear(&mut self, lsn: Lsn, pins: Pins, garbage: &mut Garbage) -> i64 {
        self.newest = lsn;
        self.live_keys = 0;
        self.live_bytes = 0;
        let mut change = 8 - DEADLINE_BYTES * self.deadlines.len() as i64;
        self.deadlines.clear();
        if pins.views.is_none() {
            self.cleared.clear();
            self.kept.clear();
            let freed = self.keys.iter().map(|(key, chain)| chain.bytes(key));
            change -= freed.sum::<u64>() as i64;
            garbage.cleared.push(mem::take(&mut self.keys));
        }
        match (pins.bottom, pins.views) {
            (true, None) => self.forgotten = lsn,
            (true, Some(_)) => {
                self.cleared.push(lsn);
                self.kept.insert((lsn, None));
            }
            (false, _) => self.cleared.push(lsn),
        }
        self.grown(change)
    }

    fn changed_since(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, lsn: Lsn) -> bool {
        if self.newest <= lsn {
            return false;
        }
        let mut chains = self.keys.range::<[u8], _>((from, to)).peekable();
        // Of a delete that nothing is left of it is not known which key it was. An open
        // view keeps what is deleted behind it, so only those hear of it who closed theirs.
        let one = matches!((from, to), (Bound::Included(a), Bound::Included(b)) if a == b);
        let forgotten = self.forgotten > lsn && !(one && chains.peek().is_some());
        forgotten
            || self.cleared.last().is_some_and(|&cleared| cleared > lsn)
            || chains.any(|(_, chain)| chain.lsn > lsn)
    }
}

/// What a commit replaced or cleared, and is dropped where nobody waits for it: outside of all
/// locks. To let go of a value is to look at it, and what is replaced was written long ago.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    cleared: Vec<BTreeMap<SmallKey, Chain>>,
    /// Most commits replace one.
    replaced: SmallVec<[Arc<[u8]>; 1]>,
}

impl Garbage {
    /// With room for what so many writes replace, so that none is made under the locks.
    pub(crate) fn of(writes: usize) -> Self {
        Self {
            cleared: Vec::new(),
            replaced: SmallVec::with_capacity(writes),
        }
    }
}

/// A scope in memory. Handles keep it, so that they need not look it up again.
pub(crate) struct Slot {
    /// Tells slots apart, and orders them.
    pub(crate) number: u64,
    /// The encoded scope: what its full keys begin with.
    pub(crate) prefix: Box<[u8]>,
    /// No version in memory expires before this, or it was removed. Changed under the
    /// lock of the state.
    pub(crate) earliest: AtomicU64,
    /// How long values of this scope last that do not say it, in microseconds; 0 for
    /// ever. Set by whoever knows; nothing here looks at it.
    pub(crate) ttl: AtomicU64,
    /// What a commit replaces has to be known: its exact figures are followed. Changed
    /// under the lock of the state, which says the same.
    pub(crate) followed: AtomicBool,
    /// Held by whoever counts what is in the scope.
    pub(super) counting: Mutex<()>,
    /// The LSN of the last clear since the slot is held; 0 for none. For whoever keeps
    /// something beside the scope, and must know.
    pub(crate) cleared: AtomicU64,
    state: RwLock<SlotState>,
}

/// Which one it is, and nothing of what is in it.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.number).finish()
    }
}

/// The tables of a slot.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    active: Table,
    /// Newest first.
    older: Vec<Arc<Table>>,
    pub(crate) tally: Tally,
    /// The scope's own quota. Changed by a commit, under the sequencer's lock.
    pub(crate) quota: Quota,
    /// To what is not in these tables, once somebody has asked for it.
    pub(super) shortcut: Option<Box<Shortcut>>,
}

impl Slot {
    pub(crate) fn new(number: u64, prefix: &[u8], ttl: u64, quota: Quota) -> Self {
        Self {
            number,
            prefix: prefix.into(),
            earliest: AtomicU64::new(NEVER),
            ttl: AtomicU64::new(ttl),
            cleared: AtomicU64::new(0),
            followed: AtomicBool::new(false),
            counting: Mutex::default(),
            state: RwLock::new(SlotState {
                quota,
                ..SlotState::default()
            }),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, SlotState> {
        self.state.read()
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, SlotState> {
        self.state.write()
    }

    /// The version of a key that counts at `at`.
    pub(crate) fn find(&self, key: &[u8], at: Lsn) -> Found {
        self.state.read().find(key, at)
    }
}

impl SlotState {
    /// The version of a key that counts at `at`.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], at: Lsn) -> Found {
        for table in self.tables().filter(|table| !table.is_empty()) {
            match table.find(key, at) {
                Found::Unknown => {}
                found => return found,
            }
        }
        Found::Unknown
    }

    /// All tables, newest first.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.active).chain(self.older.iter().map(|table| &**table))
    }

    /// True where nothing is held in memory.
    pub(crate) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.older.is_empty()
    }

    /// Goes on to a newer generation. Where this one has nothing of it yet, what the
    /// table takes in memory before it holds anything.
    pub(crate) fn enter(&mut self, generation: u64) -> Option<i64> {
        if self.active.generation < generation {
            self.seal();
            self.active.generation = generation;
        }
        let fresh = self.active.is_empty();
        self.active.bytes += if fresh { TABLE_BYTES } else { 0 };
        fresh.then_some(TABLE_BYTES as i64)
    }

    fn seal(&mut self) {
        let active = std::mem::take(&mut self.active);
        self.active.generation = active.generation;
        if !active.is_empty() {
            self.older.insert(0, Arc::new(active));
        }
    }

    pub(crate) fn put(
        &mut self,
        key: &SmallKey,
        version: (Lsn, Stored),
        pins: Pins,
        garbage: &mut Garbage,
    ) -> i64 {
        self.active.put(key, version, pins, garbage)
    }

    pub(crate) fn clear(&mut self, lsn: Lsn, pins: Pins, garbage: &mut Garbage) -> i64 {
        self.active.clear(lsn, pins, garbage)
    }

    /// Since when something is kept that goes with the views before it, where nothing is
    /// below.
    pub(crate) fn keeps_since(&self) -> Option<Lsn> {
        self.active.kept.first().map(|&(since, _)| since)
    }

    /// Drops a part of what is kept for views before `lowest`, which are all closed.
    /// Returns the change in bytes held.
    pub(crate) fn settle(&mut self, lowest: Lsn) -> i64 {
        self.active.settle(lowest)
    }

    /// The sealed tables of generations in `(after, upto]`, newest first.
    pub(crate) fn sealed(&mut self, after: u64, upto: u64) -> Vec<Arc<Table>> {
        if self.active.generation <= upto {
            self.seal();
            // What is written from now on belongs to a later generation.
            self.active = Table::new(upto + 1);
        }
        let wanted = |table: &&Arc<Table>| table.generation > after && table.generation <= upto;
        self.older.iter().filter(wanted).map(Arc::clone).collect()
    }

    /// Drops the tables of generations up to this one.
    pub(crate) fn retire(&mut self, upto: u64) -> Vec<Arc<Table>> {
        let keep = self
            .older
            .iter()
            .take_while(|table| table.generation > upto)
            .count();
        self.older.split_off(keep)
    }

    /// True where any key in the range was written after `lsn`.
    pub(crate) fn changed_since(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, lsn: Lsn) -> bool {
        self.tables()
            .any(|table| table.changed_since(from, to, lsn))
    }
}

#[cfg(test)]
mod tests;
