//! Owns finding an entry of a block by the hash of its key, behind what all keys of the
//! block begin with: one look beside the block and one at the entry, where a search looks
//! at one entry after the other.

use xxhash_rust::xxh3::xxh3_64;

/// An entry that begins behind so many bytes has no place in a word.
const START_BITS: u32 = 22;
const START_MASK: u32 = (1 << START_BITS) - 1;

/// Where the entries of a block begin, by the hash of their keys. A word is the place, and
/// above it some bits of the hash, so that few entries are looked at in vain; no entry
/// begins at zero. There are a power of two of them, and some are free.
#[derive(Debug, Default)]
pub(super) struct KeyIndex(Box<[u32]>);

impl KeyIndex {
    /// Room for so many entries of a block of this length; none where it is too long.
    pub(super) fn new(count: usize, block_bytes: usize) -> Self {
        match block_bytes <= START_MASK as usize {
            true => Self(vec![0; (count + count / 4 + 1).next_power_of_two()].into()),
            false => Self::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<u32>()
    }

    /// Adds the entry that begins at `start`.
    pub(super) fn insert(&mut self, suffix: &[u8], start: usize) {
        let hash = xxh3_64(suffix);
        let mask = self.0.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(word) = self.0.get_mut(at) {
            if *word == 0 {
                *word = tag(hash) | start as u32 & START_MASK;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// What `look` makes of where an entry begins that may have this suffix.
    #[inline]
    pub(super) fn find<T>(&self, suffix: &[u8], look: impl Fn(usize) -> Option<T>) -> Option<T> {
        let hash = xxh3_64(suffix);
        let mask = self.0.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            let word = *self.0.get(at)?;
            if word == 0 {
                return None;
            }
            if word & !START_MASK == tag(hash)
                && let Some(found) = look((word & START_MASK) as usize)
            {
                return Some(found);
            }
            at = (at + 1) & mask;
        }
    }
}

/// The bits of a hash that stand in a word, none of which decides about its place.
#[inline]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32 & !START_MASK
}
