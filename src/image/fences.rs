//! Owns finding the block of a key: the first keys of blocks side by side, and how they go
//! on behind what they share in a number each, so that a search stays in a few hundred
//! kilobytes that the processor's caches hold.

use std::ops::Range;

/// So much of what first keys share is held in place.
const SHARED_BYTES: usize = 24;

/// The first keys of neighbouring blocks, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    /// What all of them but the very first begin with, or the beginning of that, in place:
    /// one line of memory less to look at. The very first stands below them anyway.
    shared: [u8; SHARED_BYTES],
    shared_len: usize,
    /// How each goes on behind that; of the very first that is zero.
    heads: Vec<u64>,
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<usize>,
}

impl Fences {
    /// Of blocks with these first keys, which ascend.
    pub(crate) fn of<'k>(first_keys: impl Iterator<Item = &'k [u8]> + Clone) -> Self {
        let mut others = first_keys.clone().skip(1);
        let second = others.next().unwrap_or_default();
        let last = others.last().unwrap_or(second);
        let shared = second.iter().zip(last).take_while(|(a, b)| a == b).count();
        let shared_len = shared.min(SHARED_BYTES);
        let mut fences = Self {
            shared: [0; SHARED_BYTES],
            shared_len,
            heads: Vec::with_capacity(first_keys.clone().count()),
            bytes: Vec::with_capacity(first_keys.clone().map(<[u8]>::len).sum()),
            ends: Vec::with_capacity(first_keys.clone().count()),
        };
        for (shared, key) in fences.shared[..shared_len].iter_mut().zip(second) {
            *shared = *key;
        }
        for (at, first_key) in first_keys.enumerate() {
            fences.heads.push(match at {
                0 => 0,
                _ => head(first_key.get(shared_len..).unwrap_or_default()),
            });
            fences.bytes.extend_from_slice(first_key);
            fences.ends.push(fences.bytes.len());
        }
        fences
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn first_key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(at);
        let range = start.copied().unwrap_or(0)..end.copied().unwrap_or(0);
        self.bytes.get(range).unwrap_or_default()
    }

    /// The number of the first block whose first key is higher than `key`, or also one
    /// that begins with `key` itself.
    #[inline]
    fn first_after(&self, key: &[u8], or_at: bool) -> usize {
        let is_after = |at| match or_at {
            true => self.first_key(at) >= key,
            false => self.first_key(at) > key,
        };
        let others = self.heads.get(1..).unwrap_or_default();
        let mut low = 1;
        let shared = self.shared.get(..self.shared_len).unwrap_or_default();
        match key.strip_prefix(shared) {
            Some(rest) => {
                let head = head(rest);
                low += others.partition_point(|other| *other < head);
                if self.heads.get(low) == Some(&head) {
                    // Few have the same head; they are told apart by the rest.
                    let same = self.heads.get(low..).unwrap_or_default();
                    let mut high = low + same.partition_point(|other| *other == head);
                    while low < high {
                        let middle = low.midpoint(high);
                        match is_after(middle) {
                            true => high = middle,
                            false => low = middle + 1,
                        }
                    }
                }
            }
            None if key < shared => {}
            None => low += others.len(),
        }
        match low {
            1 if self.len() == 0 || is_after(0) => 0,
            low => low,
        }
    }

    /// The number of the block that holds `key`, if any does.
    #[inline]
    pub(crate) fn find_block(&self, key: &[u8]) -> Option<usize> {
        self.first_after(key, false).checked_sub(1)
    }

    /// The numbers of the blocks that may hold keys from `start` on and below
    /// `end`; without `end`, up to the last.
    pub(crate) fn range(&self, start: &[u8], end: Option<&[u8]>) -> Range<usize> {
        let from = self.find_block(start).unwrap_or(0);
        let to = match end {
            Some(end) if end <= start => from,
            Some(end) => self.first_after(end, true),
            None => self.len(),
        };
        from..to.max(from)
    }
}

/// The first bytes of a key in a number of the same order.
#[inline]
fn head(key: &[u8]) -> u64 {
    let mut head = [0; 8];
    match key.first_chunk() {
        Some(first) => head = *first,
        None => head[..key.len()].copy_from_slice(key),
    }
    u64::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_found_as_by_looking_at_each(
            start in vec(any::<u8>(), 0..40),
            keys in btree_set(vec(0..3_u8, 0..11), 0..30),
            probes in vec(vec(0..3_u8, 0..11), 30),
            low in vec(any::<u8>(), 0..3),
        ) {
            let mut keys: Vec<_> = keys.iter().map(|key| [&start[..], key].concat()).collect();
            keys.push(low.clone());
            keys.sort_unstable();
            keys.dedup();
            let fences = Fences::of(keys.iter().map(Vec::as_slice));
            prop_assert_eq!(fences.len(), keys.len());
            let probes = probes.iter().flat_map(|key| [[&start[..], key].concat(), key.clone()]);
            for probe in probes.chain(keys.iter().cloned()).chain([low, start.clone()]) {
                let upto = keys.iter().filter(|key| **key <= probe).count();
                let below = keys.iter().filter(|key| **key < probe).count();
                prop_assert_eq!(fences.find_block(&probe), upto.checked_sub(1));
                prop_assert_eq!(fences.range(b"", Some(&probe)).end, below);
            }
        }
    }
}
