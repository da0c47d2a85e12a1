//! Owns the versions of one scope's keys in memory: a table for each generation
//! of the memtable, and the slot that a scope handle holds on to.
//!
//! What stays true: only the newest generation's table changes; an older one is
//! shared and read without the lock. A key's versions are in descending order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::codec::cell::{NEVER, deadline, has_expired};
use crate::ids::Lsn;
use crate::sync::atomic::AtomicU64;
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What an entry costs beyond its key and cell, roughly: nodes, chain, allocations.
const ENTRY_OVERHEAD_BYTES: u64 = 120;
const VERSION_OVERHEAD_BYTES: u64 = 48;
const DEADLINE_BYTES: i64 = 64;

/// What a scope costs in memory while anything of it is there, roughly: its slot, its
/// place in the map, a table.
const TABLE_BYTES: i64 = 400;

/// The bytes of a value as stored; `None` where the key is deleted.
pub(crate) type Stored = Option<Arc<[u8]>>;

/// The versions of a key in one table, newest first; there is always one.
#[derive(Debug)]
struct Chain {
    lsn: Lsn,
    cell: Stored,
    older: Vec<(Lsn, Stored)>,
}

impl Chain {
    fn at(&self, at: Lsn) -> Option<(Lsn, &Stored)> {
        if self.lsn <= at {
            return Some((self.lsn, &self.cell));
        }
        self.older
            .iter()
            .find(|(lsn, _)| *lsn <= at)
            .map(|(lsn, cell)| (*lsn, cell))
    }
}

/// The writes of one generation to one scope.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) generation: u64,
    keys: BTreeMap<Arc<[u8]>, Chain>,
    /// Keys whose newest version here has a deadline, by that.
    deadlines: BTreeSet<(u64, Arc<[u8]>)>,
    /// When the whole scope was cleared, ascending.
    cleared: Vec<Lsn>,
    /// Keys whose newest version here is a value, and the bytes of those.
    live_keys: u64,
    live_bytes: u64,
    newest: Lsn,
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

/// Which versions somebody may still read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pins {
    /// The lowest and highest LSN of an open view; `None` where there is none.
    pub(crate) views: Option<(Lsn, Lsn)>,
}

impl Pins {
    fn keeps(self, lsn: Lsn) -> bool {
        self.views.is_some_and(|(_, highest)| lsn <= highest)
    }

    /// Drops what no view can see: all behind the newest one that the oldest sees.
    fn prune(self, older: &mut Vec<(Lsn, Stored)>) -> u64 {
        let keep = match self.views {
            None => 0,
            Some((lowest, _)) => older
                .iter()
                .position(|&(lsn, _)| lsn <= lowest)
                .map_or(older.len(), |oldest| oldest + 1),
        };
        older
            .drain(keep..)
            .map(|(_, cell)| version_bytes(&cell))
            .sum()
    }
}

fn version_bytes(cell: &Stored) -> u64 {
    VERSION_OVERHEAD_BYTES + cell.as_ref().map_or(0, |cell| cell.len() as u64)
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
        let version = self.keys.get(key).and_then(|chain| chain.at(at));
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
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, Lsn, Stored)> {
        let cleared = self.cleared(at);
        let in_range = self.keys.range::<[u8], _>((from, to));
        in_range.filter_map(move |(key, chain)| {
            let (lsn, cell) = chain.at(at)?;
            match cleared {
                Some(cleared) if lsn < cleared => None,
                _ => Some((key, lsn, cell.clone())),
            }
        })
    }

    /// Adds a version; returns the change in bytes held.
    fn put(&mut self, key: &[u8], lsn: Lsn, cell: Stored, pins: Pins) -> i64 {
        self.newest = lsn;
        let expires = cell.as_deref().and_then(deadline);
        let new_live = cell.as_ref().map(|cell| (key.len() + cell.len()) as u64);
        let cleared = self.cleared.last().copied().unwrap_or_default();
        let Some(chain) = self.keys.get_mut(key) else {
            self.count(None, new_live);
            let added = ENTRY_OVERHEAD_BYTES + key.len() as u64 + version_bytes(&cell);
            let chain = Chain {
                lsn,
                cell,
                older: Vec::new(),
            };
            let key = Arc::from(key);
            let change = added as i64 + self.schedule(&key, None, expires);
            self.keys.insert(key, chain);
            return self.grown(change);
        };
        let visible = chain.lsn >= cleared;
        let old_live = chain.cell.as_ref().filter(|_| visible);
        let old_live = old_live.map(|cell| (key.len() + cell.len()) as u64);
        let mut change = version_bytes(&cell) as i64;
        let old = std::mem::replace(&mut chain.cell, cell);
        let old_lsn = std::mem::replace(&mut chain.lsn, lsn);
        let expired = old.as_deref().and_then(deadline);
        match pins.keeps(old_lsn) {
            true => chain.older.insert(0, (old_lsn, old)),
            false => change -= version_bytes(&old) as i64,
        }
        if !chain.older.is_empty() {
            change -= pins.prune(&mut chain.older) as i64;
        }
        self.count(old_live, new_live);
        if (expired.is_some() || expires.is_some())
            && let Some((key, _)) = self.keys.get_key_value(key)
        {
            change += self.schedule(&Arc::clone(key), expired, expires);
        }
        self.grown(change)
    }

    /// Replaces a key's deadline; returns the change in bytes held.
    fn schedule(&mut self, key: &Arc<[u8]>, old: Option<u64>, new: Option<u64>) -> i64 {
        let entry = |deadline| (deadline, Arc::clone(key));
        let gone = old.is_some_and(|old| self.deadlines.remove(&entry(old)));
        let added = new.is_some_and(|new| self.deadlines.insert(entry(new)));
        (i64::from(added) - i64::from(gone)) * DEADLINE_BYTES
    }

    fn grown(&mut self, change: i64) -> i64 {
        self.bytes = self.bytes.saturating_add_signed(change);
        change
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

    /// Clears the scope; returns the change in bytes held and what can be dropped
    /// outside the lock.
    fn clear(&mut self, lsn: Lsn, pins: Pins) -> (i64, Garbage) {
        self.newest = lsn;
        self.live_keys = 0;
        self.live_bytes = 0;
        let mut change = 8 - DEADLINE_BYTES * self.deadlines.len() as i64;
        self.deadlines.clear();
        let mut garbage = BTreeMap::new();
        if pins.views.is_none() {
            self.cleared.clear();
            garbage = std::mem::take(&mut self.keys);
            change -= garbage
                .iter()
                .map(|(key, chain)| {
                    let older: u64 = chain
                        .older
                        .iter()
                        .map(|(_, cell)| version_bytes(cell))
                        .sum();
                    ENTRY_OVERHEAD_BYTES + key.len() as u64 + version_bytes(&chain.cell) + older
                })
                .sum::<u64>() as i64;
        }
        self.cleared.push(lsn);
        (self.grown(change), Garbage(garbage))
    }

    fn changed_since(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, lsn: Lsn) -> bool {
        self.newest > lsn
            && (self.cleared.last().is_some_and(|&cleared| cleared > lsn)
                || self
                    .keys
                    .range::<[u8], _>((from, to))
                    .any(|(_, chain)| chain.lsn > lsn))
    }
}

/// Entries that are dropped where nobody waits for it.
#[derive(Debug, Default)]
pub(crate) struct Garbage(
    #[expect(dead_code, reason = "held to be dropped later")] BTreeMap<Arc<[u8]>, Chain>,
);

/// A scope in memory. Handles keep it, so that they need not look it up again.
#[derive(Debug)]
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
    /// The LSN of the last clear since the slot is held; 0 for none. For whoever keeps
    /// something beside the scope, and must know.
    pub(crate) cleared: AtomicU64,
    state: RwLock<SlotState>,
}

/// The tables of a slot.
#[derive(Debug, Default)]
pub(crate) struct SlotState {
    active: Table,
    /// Newest first.
    older: Vec<Arc<Table>>,
    pub(crate) usage: Usage,
}

/// What a scope holds, as far as can be known without reading the image.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The image that `image_keys` and `image_bytes` were counted in, from above.
    pub(crate) image: Option<Lsn>,
    /// Tables up to this generation are in that image: a view may keep them here for
    /// a while, but they do not count.
    pub(crate) generation: u64,
    pub(crate) image_keys: u64,
    pub(crate) image_bytes: u64,
    /// How much the upper bound was found to be above the truth.
    pub(crate) slack_keys: u64,
    pub(crate) slack_bytes: u64,
}

impl Slot {
    pub(crate) fn new(number: u64, prefix: &[u8], ttl: u64) -> Self {
        Self {
            number,
            prefix: prefix.into(),
            earliest: AtomicU64::new(NEVER),
            ttl: AtomicU64::new(ttl),
            cleared: AtomicU64::new(0),
            state: RwLock::default(),
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
    pub(crate) fn find(&self, key: &[u8], at: Lsn) -> Found {
        for table in self.tables() {
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
        fresh.then(|| self.active.grown(TABLE_BYTES))
    }

    fn seal(&mut self) {
        let active = std::mem::take(&mut self.active);
        self.active.generation = active.generation;
        if !active.is_empty() {
            self.older.insert(0, Arc::new(active));
        }
    }

    pub(crate) fn put(&mut self, key: &[u8], lsn: Lsn, cell: Stored, pins: Pins) -> i64 {
        self.active.put(key, lsn, cell, pins)
    }

    pub(crate) fn clear(&mut self, lsn: Lsn, pins: Pins) -> (i64, Garbage) {
        self.active.clear(lsn, pins)
    }

    /// Keys whose newest version has expired, so many at most, and when the next
    /// version in memory expires; `now` where there may be more.
    pub(crate) fn expired(&self, now: u64, at_most: usize) -> (Vec<Arc<[u8]>>, u64) {
        let mut keys = BTreeSet::new();
        let mut next = NEVER;
        for table in self.tables() {
            for (deadline, key) in &table.deadlines {
                if *deadline > now {
                    next = next.min(*deadline);
                    break;
                }
                let found = self.find(key, Lsn::new(u64::MAX));
                if matches!(found, Found::Version(_, Some(cell)) if has_expired(&cell, || now))
                    && !keys.contains(key)
                {
                    if keys.len() == at_most {
                        return (keys.into_iter().collect(), now);
                    }
                    keys.insert(Arc::clone(key));
                }
            }
        }
        (keys.into_iter().collect(), next)
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

    /// Keys and bytes at most: those in memory and those in the image may overlap.
    pub(crate) fn upper_bound(&self) -> (u64, u64) {
        let mut keys = 0;
        let mut bytes = 0;
        let counted = |table: &&Table| table.generation > self.usage.generation;
        for table in self.tables().take_while(counted) {
            keys += table.live_keys;
            bytes += table.live_bytes;
            if !table.cleared.is_empty() {
                return (keys, bytes);
            }
        }
        (
            (keys + self.usage.image_keys).saturating_sub(self.usage.slack_keys),
            (bytes + self.usage.image_bytes).saturating_sub(self.usage.slack_bytes),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_VIEWS: Pins = Pins { views: None };

    fn cell(byte: u8) -> Stored {
        Some(Arc::from([byte].as_slice()))
    }

    fn lsn(raw: u64) -> Lsn {
        Lsn::new(raw)
    }

    #[test]
    fn the_newest_version_up_to_an_lsn_counts() {
        let pins = Pins {
            views: Some((lsn(1), lsn(9))),
        };
        let slot = Slot::new(0, b"", 0);
        slot.write().put(b"k", lsn(2), cell(2), pins);
        slot.write().put(b"k", lsn(5), cell(5), pins);
        assert_eq!(slot.find(b"k", lsn(1)), Found::Unknown);
        assert_eq!(slot.find(b"k", lsn(4)), Found::Version(lsn(2), cell(2)));
        assert_eq!(slot.find(b"k", lsn(5)), Found::Version(lsn(5), cell(5)));
    }

    #[test]
    fn a_clear_hides_what_was_before_it_and_nothing_after() {
        let slot = Slot::new(0, b"", 0);
        slot.write().put(b"a", lsn(1), cell(1), NO_VIEWS);
        slot.write().clear(lsn(2), NO_VIEWS);
        slot.write().put(b"b", lsn(2), cell(2), NO_VIEWS);
        assert_eq!(slot.find(b"a", lsn(9)), Found::Version(lsn(2), None));
        assert_eq!(slot.find(b"z", lsn(9)), Found::Version(lsn(2), None));
        assert_eq!(slot.find(b"b", lsn(9)), Found::Version(lsn(2), cell(2)));
    }

    #[test]
    fn versions_go_when_no_view_needs_them() {
        let slot = Slot::new(0, b"", 0);
        let pins = Pins {
            views: Some((lsn(1), lsn(3))),
        };
        slot.write().put(b"k", lsn(1), cell(1), pins);
        slot.write().put(b"k", lsn(4), cell(4), pins);
        assert_eq!(slot.find(b"k", lsn(3)), Found::Version(lsn(1), cell(1)));
        slot.write().put(b"k", lsn(5), cell(5), NO_VIEWS);
        assert_eq!(slot.find(b"k", lsn(3)), Found::Unknown);
    }

    #[test]
    fn generations_are_sealed_in_order_and_retired() {
        let slot = Slot::new(0, b"", 0);
        slot.write().enter(1);
        slot.write().put(b"k", lsn(1), cell(1), NO_VIEWS);
        assert!(slot.write().enter(2).is_some());
        slot.write().put(b"k", lsn(2), cell(2), NO_VIEWS);
        assert_eq!(slot.find(b"k", lsn(9)), Found::Version(lsn(2), cell(2)));
        let sealed = slot.write().sealed(0, 1);
        assert_eq!(sealed.len(), 1);
        slot.write().retire(1);
        assert_eq!(slot.find(b"k", lsn(1)), Found::Unknown);
        assert_eq!(slot.find(b"k", lsn(2)), Found::Version(lsn(2), cell(2)));
    }

    #[test]
    fn a_range_knows_what_changed_in_it() {
        let slot = Slot::new(0, b"", 0);
        slot.write().put(b"k", lsn(5), cell(1), NO_VIEWS);
        let changed = |from: &[u8], to: &[u8], since| {
            slot.read()
                .changed_since(Bound::Included(from), Bound::Excluded(to), lsn(since))
        };
        assert!(changed(b"a", b"z", 4));
        assert!(!changed(b"a", b"z", 5));
        assert!(!changed(b"l", b"z", 4));
    }
}
