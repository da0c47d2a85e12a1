//! Owns what is asked of all tables of a slot together: what has expired, and how much
//! there is at most.

use std::collections::BTreeSet;

use super::{Found, SlotState, Table};
use crate::codec::cell::{NEVER, has_expired};
use crate::engine::small_key::SmallKey;
use crate::ids::Lsn;

impl SlotState {
    /// Keys whose newest version has expired, so many at most, and when the next
    /// version in memory expires; `now` where there may be more.
    pub(crate) fn expired(&self, now: u64, at_most: usize) -> (Vec<SmallKey>, u64) {
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
                    keys.insert(key.clone());
                }
            }
        }
        (keys.into_iter().collect(), next)
    }

    /// Keys and bytes at most: those in memory and those in the image may overlap.
    pub(crate) fn upper_bound(&self) -> (u64, u64) {
        let mut keys = 0;
        let mut bytes = 0;
        let counted = |table: &&Table| table.generation > self.tally.generation;
        for table in self.tables().take_while(counted) {
            keys += table.live_keys;
            bytes += table.live_bytes;
            if !table.cleared.is_empty() {
                return (keys, bytes);
            }
        }
        (keys + self.tally.image_keys, bytes + self.tally.image_bytes)
    }
}
