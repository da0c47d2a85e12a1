//! Owns the bytes of a simulated file: sparse, in pages that copies share until one
//! of them writes. A copy costs a reference count, so that hundreds of thousands of
//! disk images can be taken of a disk with megabytes in it.
//!
//! What must stay true: a page holds zeros beyond the length of the file, so that a
//! later extension reads as zeros.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The unit of allocation and of sharing.
pub(super) const PAGE_BYTES: u64 = 4096;

type Page = [u8; PAGE_BYTES as usize];

/// The contents of a file. Absent pages read as zeros and take no room.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: u64,
    pages: Arc<BTreeMap<u64, Arc<Page>>>,
}

impl Pages {
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// The pages that take room.
    pub(super) fn allocated(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn has_page(&self, index: u64) -> bool {
        self.pages.contains_key(&index)
    }

    /// Reads into `buf` from `offset`; how many bytes, which is fewer at the end.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.len.min(offset.saturating_add(buf.len() as u64));
        if end <= offset {
            return 0;
        }
        for (index, within, place) in pieces(offset..end) {
            match self.pages.get(&index) {
                Some(page) => buf[place].copy_from_slice(&page[within]),
                None => buf[place].fill(0),
            }
        }
        (end - offset) as usize
    }

    /// Writes `bytes` at `offset`, growing the file if need be. The caller has made
    /// sure that the end can be counted.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let end = offset.saturating_add(bytes.len() as u64);
        let pages = Arc::make_mut(&mut self.pages);
        for (index, within, place) in pieces(offset..end) {
            writable(pages, index)[within].copy_from_slice(&bytes[place]);
        }
        if !bytes.is_empty() {
            self.len = self.len.max(end);
        }
    }

    /// Cuts or extends.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let pages = Arc::make_mut(&mut self.pages);
            pages.split_off(&len.div_ceil(PAGE_BYTES));
            if let Some(page) = pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(page)[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Takes over the bytes of `other` in `range`, as far as this file reaches.
    pub(super) fn copy_from(&mut self, other: &Self, range: Range<u64>) {
        let range = range.start..range.end.min(self.len);
        if range.is_empty() {
            return;
        }
        let pages = Arc::make_mut(&mut self.pages);
        for (index, within, _) in pieces(range) {
            match other.pages.get(&index) {
                Some(page) if within.len() == page.len() => {
                    pages.insert(index, Arc::clone(page));
                }
                Some(page) => writable(pages, index)[within.clone()].copy_from_slice(&page[within]),
                None => {
                    if let Some(page) = pages.get_mut(&index) {
                        Arc::make_mut(page)[within].fill(0);
                    }
                }
            }
        }
    }

    /// Turns one bit over; false if the file does not reach that far.
    pub(super) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.len {
            return false;
        }
        let page = writable(Arc::make_mut(&mut self.pages), offset / PAGE_BYTES);
        page[(offset % PAGE_BYTES) as usize] ^= 1 << (bit % 8);
        true
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        let read = self.read(&mut bytes, 0);
        bytes.truncate(read);
        bytes
    }
}

fn writable(pages: &mut BTreeMap<u64, Arc<Page>>, index: u64) -> &mut Page {
    Arc::make_mut(
        pages
            .entry(index)
            .or_insert_with(|| Arc::new([0; PAGE_BYTES as usize])),
    )
}

/// A range of a file, page by page: the page, the bytes within it, and their place
/// in a buffer that begins where the range does.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let within = at % PAGE_BYTES;
            let count = (PAGE_BYTES - within).min(range.end - at);
            let place = (at - range.start) as usize;
            let piece = (
                at / PAGE_BYTES,
                within as usize..(within + count) as usize,
                place..place + count as usize,
            );
            at += count;
            piece
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    #[test]
    fn it_does_what_a_vector_does() {
        let mut random = Random::new(3);
        let (mut pages, mut model) = (Pages::default(), Vec::new());
        for round in 0..2000_u64 {
            let offset = random.below(20_000) as usize;
            if random.chance(1, 4) {
                pages.set_len(offset as u64);
                model.resize(offset, 0);
            } else {
                let bytes = vec![round as u8; random.below(9000) as usize];
                pages.write(&bytes, offset as u64);
                if !bytes.is_empty() {
                    model.resize(model.len().max(offset + bytes.len()), 0);
                    model[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
            }
            assert_eq!(pages.to_vec(), model);
        }
    }

    #[test]
    fn a_copy_is_independent() {
        let mut one = Pages::default();
        one.write(&[1; 10_000], 0);
        let mut two = one.clone();
        two.write(&[2], 5000);
        two.set_len(6000);
        assert_eq!(one.to_vec(), [1; 10_000]);
        let mut three = Pages::default();
        three.set_len(5001);
        three.copy_from(&two, 4999..9000);
        assert_eq!(three.to_vec()[4998..], [0, 1, 2]);
        assert_eq!(three.allocated(), 1);
        three.set_len(9000);
        assert_eq!(three.to_vec()[5001..], [0; 3999]);
    }

    #[test]
    fn a_hole_takes_no_room() {
        let mut pages = Pages::default();
        pages.set_len(1 << 40);
        assert_eq!(pages.allocated(), 0);
        pages.write(&[7], 1 << 39);
        assert_eq!(pages.allocated(), 1);
        let mut buf = [9; 3];
        assert_eq!(pages.read(&mut buf, (1 << 39) - 1), 3);
        assert_eq!(buf, [0, 7, 0]);
        assert_eq!(pages.read(&mut buf, 1 << 40), 0);
    }
}
