//! Owns what a commit of the runtime writes beside the user's: puts and deletes by scope,
//! each key once. Imports `record`.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::small_key::SmallKey;
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
    /// As they came. Most commits have a few: a map costs them more than it helps.
    keys: Vec<(SmallKey, Op)>,
}

impl Writes {
    /// The keys in order, each once, with what came last for it.
    fn into_ops(self) -> Vec<(SmallKey, Op)> {
        let mut ops = self.keys;
        ops.sort_by(|(a, _), (b, _)| a.cmp(b));
        ops.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
        ops
    }
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
                keys: Vec::with_capacity(4),
            });
            self.scopes.len() - 1
        });
        &mut self.scopes[at]
    }

    /// Writes a cell.
    pub(crate) fn put(&mut self, slot: &Arc<Slot>, key: impl Into<SmallKey>, cell: Arc<[u8]>) {
        self.of(slot).keys.push((key.into(), Op::Put(cell)));
    }

    /// Removes a key.
    pub(crate) fn delete(&mut self, slot: &Arc<Slot>, key: impl Into<SmallKey>) {
        self.of(slot).keys.push((key.into(), Op::Delete));
    }

    /// Writes what is decided by what is there.
    pub(crate) fn change(&mut self, slot: &Arc<Slot>, (key, op): (Box<[u8]>, Op)) {
        self.of(slot).keys.push((key.into(), op));
    }

    /// Removes all that the scope had before.
    pub(crate) fn clear(&mut self, slot: &Arc<Slot>) {
        self.of(slot).clear = true;
    }

    /// All of others too.
    pub(crate) fn merge(&mut self, others: Self) {
        if self.scopes.is_empty() {
            *self = others;
            return;
        }
        for other in others.scopes {
            let writes = self.of(&other.slot);
            writes.clear |= other.clear;
            writes.keys.extend(other.keys);
        }
    }

    /// All of it added to a batch, which has none of these scopes.
    pub(crate) fn add_to(self, batch: &mut Batch) {
        let writes = self.scopes.into_iter().map(|writes| SlotBatch {
            slot: Arc::clone(&writes.slot),
            clear: writes.clear,
            ops: SmallVec::from_vec(writes.into_ops()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_each_has_what_came_last_for_it() {
        let cell = |byte: u8| Op::Put(Arc::from([byte]));
        let calls = [
            (3, cell(1)),
            (1, cell(2)),
            (3, Op::Delete),
            (2, cell(3)),
            (1, cell(4)),
        ];
        let writes = Writes {
            slot: crate::state::Store::in_memory().shared().engine.slot(b"s"),
            clear: false,
            keys: calls
                .into_iter()
                .map(|(key, op)| (SmallKey::from(&[key][..]), op))
                .collect(),
        };
        let seen: Vec<_> = writes
            .into_ops()
            .into_iter()
            .map(|(key, op)| match op {
                Op::Put(cell) => (key[0], Some(cell[0])),
                _ => (key[0], None),
            })
            .collect();
        assert_eq!(seen, [(1, Some(4)), (2, Some(3)), (3, None)]);
    }
}
