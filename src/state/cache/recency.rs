//! Owns which keys a cache has and which of them was used last, in memory. The store
//! knows nothing of it: what is lost with it is an order.
//!
//! What stays true: once it is complete, every key of the cache that can be read is in
//! it. There may be others, which are gone from the store by themselves: they expired,
//! or the scope was cleared. Those are left out before anything is counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashlink::LinkedHashMap;

use crate::codec::cell::NEVER;
use crate::ids::Version;
use crate::sync::HashState;

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
struct Known {
    version: Version,
    /// In store time; `NEVER` where it does not expire.
    deadline: u64,
}

/// The keys of a cache, by when they were used.
#[derive(Debug, Default)]
pub(super) struct Recency {
    /// The one that was not used for longest comes first.
    keys: LinkedHashMap<Arc<str>, Known, HashState>,
    /// Those that expire, by when they do.
    deadlines: BTreeSet<(u64, Arc<str>)>,
    complete: bool,
    /// The last clear of the scope that was looked at.
    cleared: u64,
}

/// A key that was read from the store.
pub(super) type Stored = (Arc<str>, Version, Option<u64>);

impl Recency {
    /// True once all keys were read from the store.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(super) fn len(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Takes all keys of the store, the oldest first, as they were after the clear at
    /// `cleared`. What was read meanwhile counts as used later than the others.
    pub(super) fn complete(&mut self, stored: Vec<Stored>, cleared: u64) {
        let used = std::mem::take(self);
        self.cleared = cleared;
        self.complete = true;
        for (key, version, deadline) in stored {
            self.insert(key, version, deadline);
        }
        for key in used.keys.keys() {
            self.keys.to_back(key);
        }
    }

    /// A key was written; it is the last one that was used.
    pub(super) fn insert(&mut self, key: Arc<str>, version: Version, deadline: Option<u64>) {
        let deadline = deadline.unwrap_or(NEVER);
        let known = Known { version, deadline };
        let old = self.keys.insert(Arc::clone(&key), known);
        self.forget_deadline(&key, old);
        if deadline != NEVER {
            self.deadlines.insert((deadline, key));
        }
    }

    /// A key was read, whose version this is. As long as not all keys are known, those
    /// that were used are noted, so many at most.
    pub(super) fn used(
        &mut self,
        key: &str,
        version: Version,
        deadline: Option<u64>,
        at_most: u64,
    ) {
        // One that is not there any more was removed since it was read.
        if self.keys.to_back(key).is_some() || self.complete {
            return;
        }
        self.insert(key.into(), version, deadline);
        if self.len() > at_most
            && let Some((key, known)) = self.keys.pop_front()
        {
            self.forget_deadline(&key, Some(known));
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        let old = self.keys.remove(key);
        if let Some(known) = old {
            self.forget_deadline(&Arc::from(key), Some(known));
        }
    }

    fn forget_deadline(&mut self, key: &Arc<str>, old: Option<Known>) {
        if let Some(Known { deadline, .. }) = old
            && deadline != NEVER
        {
            self.deadlines.remove(&(deadline, Arc::clone(key)));
        }
    }

    /// Leaves out what is gone from the store: what was written before the scope was
    /// cleared the last time, and what has expired.
    pub(super) fn refresh(&mut self, cleared: u64, now: impl FnOnce() -> u64) {
        if cleared > self.cleared {
            self.cleared = cleared;
            let gone = |known: &Known| known.version.get() <= cleared;
            let gone = self.keys.iter().filter(|(_, known)| gone(known));
            let gone: Vec<_> = gone.map(|(key, _)| Arc::clone(key)).collect();
            gone.iter().for_each(|key| self.remove(key));
        }
        if self.deadlines.is_empty() {
            return;
        }
        let now = now();
        while let Some((deadline, _)) = self.deadlines.first()
            && *deadline <= now
            && let Some((_, key)) = self.deadlines.pop_first()
        {
            self.keys.remove(&key);
        }
    }

    /// Those that make room for `key` where there may be so many: those that were not
    /// used for longest, up to `at_most` of them, and whether that is enough.
    pub(super) fn victims(
        &self,
        key: &str,
        capacity: u64,
        at_most: usize,
    ) -> (Vec<Arc<str>>, bool) {
        let with_it = self.len() + u64::from(!self.contains(key));
        let surplus = usize::try_from(with_it.saturating_sub(capacity)).unwrap_or(usize::MAX);
        let oldest = self.keys.keys().filter(|other| &***other != key);
        let victims = oldest.take(surplus.min(at_most)).map(Arc::clone).collect();
        (victims, surplus <= at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lsn;

    fn version(raw: u64) -> Version {
        Lsn::new(raw).into()
    }

    fn order(recency: &Recency) -> Vec<&str> {
        recency.keys.keys().map(|key| &**key).collect()
    }

    fn stored(keys: &[&str]) -> Vec<Stored> {
        let stored = keys.iter().zip(1..);
        stored
            .map(|(key, at)| (Arc::from(*key), version(at), None))
            .collect()
    }

    #[test]
    fn what_was_read_before_all_is_known_comes_last() {
        let mut recency = Recency::default();
        for (key, at) in [("a", 1), ("gone", 9), ("b", 2), ("a", 1)] {
            recency.used(key, version(at), Some(100), 2);
        }
        assert_eq!(order(&recency), ["b", "a"]);
        assert_eq!(recency.deadlines.len(), 2);
        recency.complete(stored(&["b", "a", "c"]), 0);
        assert_eq!(order(&recency), ["c", "b", "a"]);
        recency.used("gone", version(9), None, 9);
        assert!(recency.deadlines.is_empty() && !recency.contains("gone"));
    }

    #[test]
    fn victims_are_the_oldest_and_never_the_key_itself() {
        let mut recency = Recency::default();
        recency.complete(stored(&["a", "b", "c"]), 0);
        let victims = |key, capacity| {
            let (victims, enough) = recency.victims(key, capacity, 2);
            (victims.iter().map(|key| key.to_string()).collect(), enough)
        };
        let named = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(victims("d", 4), (named(&[]), true));
        assert_eq!(victims("d", 3), (named(&["a"]), true));
        assert_eq!(victims("a", 2), (named(&["b"]), true));
        assert_eq!(victims("d", 1), (named(&["a", "b"]), false));
        assert_eq!(victims("d", u64::MAX), (named(&[]), true));
    }

    #[test]
    fn what_expired_or_was_cleared_is_left_out() {
        let mut recency = Recency::default();
        recency.complete(stored(&["a", "b"]), 0);
        recency.insert("c".into(), version(5), Some(70));
        recency.insert("d".into(), version(6), Some(80));
        recency.insert("d".into(), version(7), Some(90));
        recency.refresh(1, || 80);
        assert_eq!(order(&recency), ["b", "d"]);
        recency.refresh(1, || 90);
        assert_eq!(order(&recency), ["b"]);
        recency.refresh(2, || 90);
        assert_eq!((recency.len(), recency.deadlines.len()), (0, 0));
    }
}
