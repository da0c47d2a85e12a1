//! Owns what a commit of the runtime writes beside the user's: puts and deletes by scope,
//! each key once. Imports `record`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::table::Slot;
use crate::engine::{Batch, Op, SlotBatch};

/// Writes to scopes of the runtime's own.
#[derive(Debug, Default)]
pub(crate) struct Ops {
    scopes: Vec<Writes>,
}

#[derive(Debug)]
struct Writes {
    slot: Arc<Slot>,
    clear: bool,
    keys: BTreeMap<Box<[u8]>, Op>,
}

impl Ops {
    fn of(&mut self, slot: &Arc<Slot>) -> &mut Writes {
        let known = self
            .scopes
            .iter()
            .position(|writes| writes.slot.number == slot.number);
        let at = known.unwrap_or_else(|| {
            self.scopes.push(Writes {
                slot: Arc::clone(slot),
                clear: false,
                keys: BTreeMap::new(),
            });
            self.scopes.len() - 1
        });
        &mut self.scopes[at]
    }

    /// Writes a cell.
    pub(crate) fn put(&mut self, slot: &Arc<Slot>, key: Box<[u8]>, cell: Arc<[u8]>) {
        self.of(slot).keys.insert(key, Op::Put(cell));
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, slot: &Arc<Slot>, key: Box<[u8]>) {
        self.of(slot).keys.insert(key, Op::Delete);
    }

    /// Writes what is decided by what is there.
    pub(crate) fn change(&mut self, slot: &Arc<Slot>, (key, op): (Box<[u8]>, Op)) {
        self.of(slot).keys.insert(key, op);
    }

    /// Removes all that the scope had before.
    pub(crate) fn clear(&mut self, slot: &Arc<Slot>) {
        self.of(slot).clear = true;
    }

    /// All of others too.
    pub(crate) fn merge(&mut self, others: Self) {
        for other in others.scopes {
            let writes = self.of(&other.slot);
            writes.clear |= other.clear;
            writes.keys.extend(other.keys);
        }
    }

    /// All of it added to a batch, which has none of these scopes.
    pub(crate) fn add_to(self, batch: &mut Batch) {
        let writes = self.scopes.into_iter().map(|writes| SlotBatch {
            slot: writes.slot,
            clear: writes.clear,
            ops: writes
                .keys
                .into_iter()
                .map(|(key, op)| (key.into(), op))
                .collect(),
        });
        batch.writes.extend(writes);
    }

    /// A batch of nothing else.
    pub(crate) fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        self.add_to(&mut batch);
        batch
    }
}
