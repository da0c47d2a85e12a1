//! Owns reading the blocks of an image one after the other: some at a time, since each
//! call of a backend has a price of its own.

use std::collections::VecDeque;

use crate::image::block::Block;
use crate::image::manifest::BlockMeta;
use crate::image::store::Blocks;
use crate::image::{ImageError, ImageErrorKind};

/// How many bytes of blocks are read at a time: enough to share the price of a call, few
/// enough that who reads a block meanwhile does not wait for long.
const READ_BYTES: u64 = 64 * 1024;

/// Blocks that were read before they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The place of the first of them among all.
    from: usize,
    ready: VecDeque<Block>,
}

impl Ahead {
    /// The block at this place, past the cache. Places ascend from call to call.
    ///
    /// # Errors
    ///
    /// As [`Blocks::read_uncached`], also for one of those that follow.
    pub(crate) fn take(
        &mut self,
        blocks: &Blocks,
        metas: &[BlockMeta],
        at: usize,
    ) -> Result<Block, ImageError> {
        let passed = at.saturating_sub(self.from).min(self.ready.len());
        self.ready.drain(..passed);
        if self.ready.is_empty() {
            let rest = metas.get(at..).unwrap_or_default();
            let mut bytes = 0;
            let wanted = rest.iter().take_while(|meta| {
                let fits = bytes < READ_BYTES;
                bytes += u64::from(meta.len);
                fits
            });
            let count = wanted.count();
            self.ready = blocks.read_many(&rest[..count])?.into();
        }
        self.from = at + 1;
        let past = || ImageError::new("read", ImageErrorKind::Damaged, "no block");
        self.ready.pop_front().ok_or_else(past)
    }
}
