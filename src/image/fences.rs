//! Owns finding the block of a key: the first keys of all blocks side by side, so that a
//! search stays in a few hundred kilobytes that the processor's caches hold.

use std::ops::Range;

use crate::image::manifest::BlockMeta;

/// The first keys of an image's blocks, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    bytes: Vec<u8>,
    /// Where each key ends in `bytes`.
    ends: Vec<usize>,
}

impl Fences {
    pub(crate) fn of(blocks: &[BlockMeta]) -> Self {
        let total = blocks.iter().map(|block| block.first_key.len()).sum();
        let mut fences = Self {
            bytes: Vec::with_capacity(total),
            ends: Vec::with_capacity(blocks.len()),
        };
        for block in blocks {
            fences.bytes.extend_from_slice(&block.first_key);
            fences.ends.push(fences.bytes.len());
        }
        fences
    }

    fn first_key(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before));
        let end = self.ends.get(at);
        let range = start.copied().unwrap_or(0)..end.copied().unwrap_or(0);
        self.bytes.get(range).unwrap_or_default()
    }

    /// The number of the first block whose first key is not so.
    fn first_after(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            match before(self.first_key(middle)) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The number of the block that holds `key`, if any does.
    pub(crate) fn find_block(&self, key: &[u8]) -> Option<usize> {
        self.first_after(|first| first <= key).checked_sub(1)
    }

    /// The numbers of the blocks that may hold keys from `start` on and below
    /// `end`; without `end`, up to the last.
    pub(crate) fn range(&self, start: &[u8], end: Option<&[u8]>) -> Range<usize> {
        let from = self.find_block(start).unwrap_or(0);
        let to = match end {
            Some(end) if end <= start => from,
            Some(end) => self.first_after(|first| first < end),
            None => self.ends.len(),
        };
        from..to.max(from)
    }
}
