//! Owns the short way from a scope to its blocks in the image: which they are, and where
//! in memory those are that were read, so that a read looks neither the scope up in the
//! whole image nor the block in the cache.
//!
//! It keeps no block alive, nor an image: what the cache gives up is gone here too, and
//! what is of another image than the one that is asked for is not believed.

use std::sync::{Arc, Weak};

use super::image_state::Image;
use crate::ids::BlockId;
use crate::image::block::Block;
use crate::image::cache::BlockCache;
use crate::image::fences::Fences;
use crate::scope::prefix_end;

/// The blocks of a scope in one image.
#[derive(Debug)]
pub(crate) struct Shortcut {
    /// Of which image.
    image: u64,
    /// The first block's number in that image.
    first: usize,
    /// By keys without the scope.
    fences: Fences,
    blocks: Vec<Known>,
    cache: Option<Arc<BlockCache>>,
}

/// A block that may be in memory.
#[derive(Debug)]
struct Known {
    id: BlockId,
    block: Weak<Block>,
}

/// Where the short way leads to.
#[derive(Debug)]
pub(crate) enum Way {
    /// To the block that has the key, if any has.
    Block(Arc<Block>),
    /// To nothing: the image does not have the key.
    Nothing,
    /// Nowhere: the image has to be asked.
    Unknown,
}

impl Shortcut {
    /// To the blocks of an encoded scope, none of which is known to be in memory.
    pub(super) fn new(image: &Image, prefix: &[u8]) -> Self {
        let range = image.fences.range(prefix, prefix_end(prefix).as_deref());
        let metas = image.manifest.blocks.get(range.clone()).unwrap_or_default();
        // The first may begin with another scope's keys, the others do not.
        let others = metas.get(1..).unwrap_or_default().iter();
        let others = others.map(|meta| meta.first_key.get(prefix.len()..).unwrap_or_default());
        let first = metas.first().map(|_| &[][..]);
        let known = |id| Known {
            id,
            block: Weak::new(),
        };
        Self {
            image: image.number,
            first: range.start,
            fences: Fences::of(first.into_iter().chain(others)),
            blocks: metas.iter().map(|meta| known(meta.id)).collect(),
            cache: image.blocks().ok().map(|blocks| Arc::clone(blocks.cache())),
        }
    }

    /// To the block of a key, without its scope, in the image of this number.
    #[inline]
    pub(super) fn way(&self, image: u64, key: &[u8]) -> Way {
        if self.image != image {
            return Way::Unknown;
        }
        let Some(at) = self.fences.find_block(key) else {
            return Way::Nothing;
        };
        let Some((known, cache)) = self.blocks.get(at).zip(self.cache.as_ref()) else {
            return Way::Unknown;
        };
        match known.block.upgrade() {
            Some(block) => {
                cache.used(known.id);
                Way::Block(block)
            }
            None => Way::Unknown,
        }
    }

    /// True where it is of this image, or of a later one.
    pub(super) fn is_of(&self, image: u64) -> bool {
        self.image >= image
    }

    /// Remembers where a block is.
    pub(super) fn remember(&mut self, image: u64, at: usize, block: &Arc<Block>) {
        let place = at.checked_sub(self.first).filter(|_| self.image == image);
        if let Some(known) = place.and_then(|place| self.blocks.get_mut(place)) {
            known.block = Arc::downgrade(block);
        }
    }
}
