//! Owns the map from scopes to slots. A slot stays as long as a handle holds it
//! or it has anything in memory.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use super::quota::Quota;
use super::table::Slot;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{HashState, RwLock};

const SHARDS: usize = 32;

/// A shard is looked through for idle slots when it has grown to this many, and
/// then each time that it has doubled.
const SWEEP_AT_LEAST: usize = 128;

type Shard = RwLock<Part>;

/// The slots of a shard.
#[derive(Debug, Default)]
struct Part {
    slots: HashMap<Box<[u8]>, Arc<Slot>, HashState>,
    sweep_at: usize,
}

impl Part {
    /// Forgets what holds nothing and nobody holds, if there may be much of it:
    /// what a handle made that only read, for one.
    fn sweep(&mut self) {
        if self.slots.len() < self.sweep_at.max(SWEEP_AT_LEAST) {
            return;
        }
        self.slots
            .retain(|_, slot| Arc::strong_count(slot) > 1 || !slot.read().is_empty());
        self.sweep_at = self.slots.len() * 2;
    }
}

/// All slots, by encoded scope.
#[derive(Debug)]
pub(crate) struct Slots {
    shards: Vec<Shard>,
    hasher: HashState,
    next: AtomicU64,
    /// How long values last by default, by encoded scope, where it is not for ever.
    ttls: RwLock<HashMap<Box<[u8]>, u64, HashState>>,
    /// The quotas of scopes, by encoded scope, where one says anything.
    quotas: RwLock<HashMap<Box<[u8]>, Quota, HashState>>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            hasher: HashState::default(),
            next: AtomicU64::new(1),
            ttls: RwLock::default(),
            quotas: RwLock::default(),
        }
    }
}

impl Slots {
    fn shard(&self, prefix: &[u8]) -> &Shard {
        let hash = self.hasher.hash_one(prefix);
        &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)]
    }

    /// The slot of a scope, made if need be.
    pub(crate) fn get(&self, prefix: &[u8]) -> Arc<Slot> {
        let shard = self.shard(prefix);
        if let Some(slot) = shard.read().slots.get(prefix) {
            return Arc::clone(slot);
        }
        let mut shard = shard.write();
        shard.sweep();
        let slot = shard.slots.entry(prefix.into()).or_insert_with(|| {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let ttl = self.ttls.read().get(prefix).copied().unwrap_or(0);
            let quota = self.quotas.read().get(prefix).copied().unwrap_or_default();
            Arc::new(Slot::new(number, prefix, ttl, quota))
        });
        Arc::clone(slot)
    }

    /// Sets how long values of a scope last that do not say it; 0 for ever.
    pub(crate) fn set_ttl(&self, prefix: &[u8], micros: u64) {
        // Before the slot is looked up: one that is made meanwhile reads it.
        let mut ttls = self.ttls.write();
        match micros {
            0 => ttls.remove(prefix),
            _ => ttls.insert(prefix.into(), micros),
        };
        drop(ttls);
        let shard = self.shard(prefix).read();
        if let Some(slot) = shard.slots.get(prefix) {
            slot.ttl.store(micros, Ordering::Relaxed);
        }
    }

    /// Sets the quota of a scope. Whoever holds its slot is told by it; one that is made
    /// later is told here.
    pub(crate) fn set_quota(&self, slot: &Slot, quota: Quota) {
        let mut quotas = self.quotas.write();
        match quota.is_none() {
            true => quotas.remove(&slot.prefix),
            false => quotas.insert(slot.prefix.clone(), quota),
        };
        drop(quotas);
        slot.write().quota = quota;
    }

    /// The slots of the scopes that have a quota of their own.
    pub(crate) fn with_quotas(&self) -> Vec<Arc<Slot>> {
        let prefixes: Vec<_> = self.quotas.read().keys().cloned().collect();
        prefixes.iter().map(|prefix| self.get(prefix)).collect()
    }

    /// Forgets a slot that holds nothing and that nobody holds.
    pub(crate) fn forget_idle(&self, slot: Arc<Slot>) {
        let shard = self.shard(&slot.prefix);
        let mut shard = shard.write();
        // One reference is the map's, one is ours; new ones need the shard's lock.
        if Arc::strong_count(&slot) == 2 && slot.read().is_empty() {
            shard.slots.remove(&slot.prefix);
        }
    }

    /// Every slot there is.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().slots.values().map(Arc::clone));
        }
        all
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().slots.len())
            .sum()
    }
}
