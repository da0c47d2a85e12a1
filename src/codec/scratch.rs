//! Owns the buffers that bytes are put together in before they are copied to where they
//! stay: each thread keeps one, so that an encoding costs no allocation of its own.
//!
//! What must stay true: whoever takes one while another is out on the same thread, as a
//! user's `Serialize` does that calls a store, gets a buffer of its own.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

use crate::sync;

/// A larger buffer is not kept: few values are, and every thread would hold on to it.
const KEPT_BYTES_MAX: usize = 64 * 1024;

sync::thread_local! {
    /// What is not out. Taken with the buffer left empty, which allocates nothing.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer; dropped, it goes back to its thread.
#[derive(Debug)]
pub(crate) struct Scratch(Vec<u8>);

impl Scratch {
    pub(crate) fn take() -> Self {
        // Refused while the thread ends: then there is nothing to save.
        Self(KEPT.try_with(Cell::take).unwrap_or_default())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.capacity() <= KEPT_BYTES_MAX {
            self.0.clear();
            let bytes = std::mem::take(&mut self.0);
            let _ = KEPT.try_with(|kept| kept.set(bytes));
        }
    }
}

impl Deref for Scratch {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_not_by_two_at_once() {
        let mut first = Scratch::take();
        first.extend_from_slice(b"first");
        let place = first.as_ptr();
        let mut second = Scratch::take();
        second.extend_from_slice(b"second");
        assert_eq!(
            (first.as_slice(), second.as_slice()),
            (&b"first"[..], &b"second"[..])
        );
        drop(second);
        drop(first);
        let again = Scratch::take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let mut large = Scratch::take();
        large.resize(KEPT_BYTES_MAX + 1, 0);
        drop(large);
        assert!(Scratch::take().capacity() <= KEPT_BYTES_MAX);
    }
}
