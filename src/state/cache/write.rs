//! Owns the commits of a cache: insertion, eviction and removal, and reading its keys
//! before the first of them.
//!
//! Whatever writes holds `Kept::writing` from its look at the recency until the recency
//! knows of its commit. What else changes the entries, expiry and a clear of the scope,
//! only takes some away.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Cache;
use super::kept::{Kept, count};
use crate::codec::cell::deadline;
use crate::engine::{Batch, Op, SlotBatch};
use crate::error::{Error, Result};
use crate::ids::{Lsn, Version};
use crate::state::entry::Entry;
use crate::sync::atomic::Ordering;

/// The most entries that one commit evicts.
const EVICTED_AT_ONCE: usize = 256;

/// The most entries that one commit clears, and bytes of their keys.
const CLEARED_AT_ONCE: usize = 16_384;
const CLEARED_BYTES: usize = 1024 * 1024;

/// Whether a key was used since the store was opened, its version, it, its deadline.
type OldestFirst = Reverse<(bool, Version, Arc<str>, Option<u64>)>;

impl Cache {
    fn now(&self) -> u64 {
        self.scope.shared().engine.now()
    }

    /// Commits what becomes of some keys of the cache.
    fn commit(&self, kept: &Kept, ops: Vec<(String, Op)>) -> Result<Lsn> {
        let mut ops: Vec<_> = ops
            .into_iter()
            .map(|(key, op)| (kept.full(&key).into_bytes(), op))
            .collect();
        ops.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let writes = SlotBatch::of(Arc::clone(&kept.slot), ops);
        let committed = self.scope.shared().commit(Batch::of([writes]));
        committed.map_err(|e| match e {
            Error::LimitExceeded {
                limit, max, actual, ..
            } => Error::LimitExceeded {
                limit,
                max,
                actual,
                at: self.to_string(),
            },
            other => other,
        })
    }

    /// Writes an entry and evicts what makes room for it. Called with the right to write.
    pub(super) fn write(&self, kept: &Kept, key: &str, cell: Arc<[u8]>) -> Result<Lsn> {
        self.load(kept, true)?;
        loop {
            kept.refresh(|| self.now());
            let capacity = kept.capacity();
            let (victims, enough) = kept.recency.lock().victims(key, capacity, EVICTED_AT_ONCE);
            if !enough {
                // Only where the capacity was lowered: they go in any case.
                self.evict(kept, &victims)?;
                continue;
            }
            let mut ops = deletes(&victims);
            ops.push((key.to_owned(), Op::Put(Arc::clone(&cell))));
            let lsn = self.commit(kept, ops)?;
            let mut recency = kept.recency.lock();
            victims.iter().for_each(|victim| recency.remove(victim));
            recency.insert(key.into(), lsn.into(), deadline(&cell));
            count(&kept.insertions, 1);
            count(&kept.evictions, victims.len() as u64);
            return Ok(lsn);
        }
    }

    /// Removes keys to make room, in one commit.
    fn evict(&self, kept: &Kept, victims: &[Arc<str>]) -> Result<()> {
        self.commit(kept, deletes(victims))?;
        let mut recency = kept.recency.lock();
        victims.iter().for_each(|victim| recency.remove(victim));
        count(&kept.evictions, victims.len() as u64);
        Ok(())
    }

    /// Removes an entry, durably when this returns. False, and nothing is written, where
    /// there is none.
    ///
    /// A computation of [`get_or_insert_with`](Self::get_or_insert_with) that is under
    /// way goes on, and inserts what it gives.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a capacity or a TTL of zero; [`Error::Closed`],
    /// [`Error::Poisoned`], [`Error::Corrupt`].
    ///
    /// ```
    /// let cache = evenkeel::Store::in_memory().global().cache("c");
    /// cache.insert("a", 1)?;
    /// assert!(cache.remove("a")?);
    /// assert!(!cache.remove("a")?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool> {
        let (kept, key) = (self.enter()?, key.as_ref());
        let begun = self.scope.begin();
        let lsn = {
            let _writing = kept.writing.lock();
            let there = self.find(kept, key)?.is_some();
            let ops = vec![(key.to_owned(), Op::Delete)];
            let lsn = there.then(|| self.commit(kept, ops)).transpose()?;
            kept.recency.lock().remove(key);
            lsn
        };
        match lsn {
            Some(lsn) => self.scope.acknowledge(lsn, begun).map(|()| true),
            None => Ok(false),
        }
    }

    /// Removes all entries, durably when this returns: in one commit up to 16,384 of them
    /// whose keys have up to 1 MiB, in several where there are more.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    ///
    /// ```
    /// let cache = evenkeel::Store::in_memory().global().cache("c");
    /// cache.insert("a", 1)?;
    /// cache.clear()?;
    /// assert!(cache.is_empty()?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn clear(&self) -> Result<()> {
        let kept = self.enter()?;
        let begun = self.scope.begin();
        let mut last = None;
        {
            let _writing = kept.writing.lock();
            loop {
                match self.clear_from(kept, &mut last) {
                    // It had to make room; the next view begins at the newer image.
                    Err(Error::ViewExpired) => {}
                    outcome => break outcome?,
                }
            }
        }
        last.map_or(Ok(()), |lsn| self.scope.acknowledge(lsn, begun))
    }

    fn clear_from(&self, kept: &Kept, last: &mut Option<Lsn>) -> Result<()> {
        let mut keys: Vec<Arc<str>> = Vec::new();
        let mut bytes = 0;
        let mut clear = |keys: &mut Vec<Arc<str>>| {
            *last = Some(self.commit(kept, deletes(keys))?);
            let mut recency = kept.recency.lock();
            keys.drain(..).for_each(|key| recency.remove(&key));
            Ok::<(), Error>(())
        };
        for entry in self.scan(kept)? {
            let key: Arc<str> = own_key(kept, &entry?).into();
            if keys.len() == CLEARED_AT_ONCE || bytes + key.len() > CLEARED_BYTES {
                clear(&mut keys)?;
                bytes = 0;
            }
            bytes += key.len();
            keys.push(key);
        }
        match keys.is_empty() {
            true => Ok(()),
            false => clear(&mut keys),
        }
    }

    /// How many entries there are. Who writes just now is waited for, so that whoever
    /// has seen an entry counts it.
    pub(super) fn entries(&self, kept: &Kept) -> Result<u64> {
        let _writing = kept.writing.lock();
        self.load(kept, false)
    }

    /// Reads the keys that the store has, if they are not known, and gives how many there
    /// are. Where there are more than the capacity they are evicted down to what goes in
    /// one commit with an insertion, or, where that is not asked for, only counted. Called
    /// with the right to write.
    fn load(&self, kept: &Kept, evict: bool) -> Result<u64> {
        loop {
            if kept.recency.lock().is_complete() {
                kept.refresh(|| self.now());
                return Ok(kept.recency.lock().len());
            }
            match self.read_keys(kept, evict) {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) | Ok(None) => {}
                Ok(Some(beyond)) => return Ok(beyond),
                Err(e) => return Err(e),
            }
        }
    }

    /// One attempt at that; holds hardly more keys than the capacity in memory. The number
    /// of keys where they are too many, and only counted.
    fn read_keys(&self, kept: &Kept, evict: bool) -> Result<Option<u64>> {
        // Before the scan: of what comes later nothing was read.
        let cleared = kept.slot.cleared.load(Ordering::SeqCst);
        let capacity = kept.capacity();
        // The oldest is on top. What was used since the store was opened is newer.
        let mut newest: BinaryHeap<OldestFirst> = BinaryHeap::new();
        // So many more that they go in one commit with an insertion.
        let at_most = capacity.saturating_add(EVICTED_AT_ONCE as u64 - 1);
        let mut there = 0;
        for entry in self.scan(kept)? {
            let entry = entry?;
            let key: Arc<str> = own_key(kept, &entry).into();
            let used = kept.recency.lock().contains(&key);
            newest.push(Reverse((used, entry.version(), key, entry.expires_at())));
            there += 1;
            if newest.len() as u64 > at_most {
                let oldest = std::iter::from_fn(|| newest.pop()).take(EVICTED_AT_ONCE);
                let surplus: Vec<_> = oldest.map(|Reverse((_, _, key, _))| key).collect();
                if evict {
                    self.evict(kept, &surplus)?;
                }
            }
        }
        if there > capacity && !evict {
            return Ok(Some(there));
        }
        let mut newest = newest.into_vec();
        newest.sort_unstable_by(|one, other| other.cmp(one));
        let stored = newest
            .into_iter()
            .map(|Reverse((_, version, key, deadline))| (key, version, deadline));
        let mut recency = kept.recency.lock();
        recency.complete(stored.collect(), cleared);
        Ok(None)
    }
}

fn deletes(keys: &[Arc<str>]) -> Vec<(String, Op)> {
    let delete = |key: &Arc<str>| (String::from(&**key), Op::Delete);
    keys.iter().map(delete).collect()
}

/// The key of an entry as the cache's user knows it.
pub(super) fn own_key<'e>(kept: &Kept, entry: &'e Entry) -> &'e str {
    entry.key().get(kept.prefix.len()..).unwrap_or_default()
}
