//! Owns what all handles of one cache share while the store is open, and where they
//! find it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::recency::Recency;
use super::{CACHES_KEPT, CAPACITY};
use crate::engine::table::Slot;
use crate::ids::Version;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// One cache of an open store.
#[derive(Debug)]
pub(in crate::state) struct Kept {
    /// Tells caches apart.
    pub(super) number: u64,
    /// Where the caches of its scope have their entries.
    pub(super) slot: Arc<Slot>,
    /// What its keys begin with there.
    pub(super) prefix: Box<str>,
    capacity: AtomicU64,
    /// Held by whoever writes, until memory knows what the commit did. So the keys that
    /// are counted are those that are there, and no commit loses a race. No user's code
    /// runs behind it, and nobody waits for the disk.
    pub(super) writing: Mutex<()>,
    /// Held for moments only.
    pub(super) recency: Mutex<Recency>,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) insertions: AtomicU64,
    pub(super) evictions: AtomicU64,
}

/// Counts one more of something, or more.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

impl Kept {
    fn new(number: u64, slot: &Arc<Slot>, name: &str) -> Self {
        Self {
            number,
            slot: Arc::clone(slot),
            // The length keeps names apart: none is the beginning of another.
            prefix: format!("{}:{name}", name.len()).into(),
            capacity: AtomicU64::new(CAPACITY),
            writing: Mutex::default(),
            recency: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            insertions: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// A key of the cache as the store has it.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn set_capacity(&self, entries: u64) {
        self.capacity.store(entries, Ordering::Relaxed);
    }

    /// A key was found, and counts as used.
    pub(super) fn used(&self, key: &str, version: Version, deadline: Option<u64>) {
        count(&self.hits, 1);
        let at_most = self.capacity();
        self.recency.lock().used(key, version, deadline, at_most);
    }

    /// Leaves out of the recency what is gone from the store.
    pub(super) fn refresh(&self, now: impl FnOnce() -> u64) {
        let cleared = self.slot.cleared.load(Ordering::SeqCst);
        self.recency.lock().refresh(cleared, now);
    }
}

/// The caches of an open store that are known.
#[derive(Debug, Default)]
pub(in crate::state) struct Caches(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the number of the slot, which each holds, and by name.
    caches: BTreeMap<(u64, Box<str>), Arc<Kept>>,
    made: u64,
    sweep_at: usize,
}

impl Caches {
    /// The cache of this name; made known if need be.
    pub(super) fn get(&self, slot: &Arc<Slot>, name: &str) -> Arc<Kept> {
        let mut known = self.0.lock();
        let place = (slot.number, Box::from(name));
        if let Some(kept) = known.caches.get(&place) {
            return Arc::clone(kept);
        }
        known.sweep();
        known.made += 1;
        let kept = Arc::new(Kept::new(known.made, slot, name));
        known.caches.insert(place, Arc::clone(&kept));
        kept
    }
}

impl Known {
    /// Forgets the recency of caches that nobody holds, if there may be many of them.
    /// What they have in the store stays.
    fn sweep(&mut self) {
        if self.caches.len() < self.sweep_at.max(CACHES_KEPT) {
            return;
        }
        self.caches.retain(|_, kept| Arc::strong_count(kept) > 1);
        self.sweep_at = self.caches.len() * 2;
    }
}
