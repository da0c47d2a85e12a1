//! Owns the verified view of an image: blocks instead of pieces. What comes out of a
//! backend is joined, compared with the length and the hash that the manifest names,
//! and parsed; anything else is damage, named by block and by the keys it concerns.
//!
//! Above it stands a bounded cache of parsed blocks (`image::cache`). A number is never
//! given twice, so a cached block is never stale.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::BlockId;
use crate::image::block::Block;
use crate::image::cache::{BlockCache, CacheCounts};
use crate::image::manifest::BlockMeta;
use crate::image::{Image, ImageError, ImageErrorKind, PIECE_BYTES_MAX, Piece};

/// How many bytes go to the backend in one call: enough to share its cost, few enough
/// to stay far from its deadline.
const PUT_BYTES: usize = 1024 * 1024;

/// How many numbers go to the backend in one call to delete.
const DELETE_IDS: usize = 4096;

/// The blocks of an image, each believed only if it is what the manifest says.
pub(crate) struct Blocks {
    image: Box<dyn Image>,
    cache: Arc<BlockCache>,
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("image", &self.image)
            .field("cache", &self.cache)
            .finish()
    }
}

impl Blocks {
    /// A view of `image` that keeps up to `cache_bytes` of blocks in memory.
    pub(crate) fn new(image: Box<dyn Image>, cache_bytes: u64) -> Self {
        Self {
            image,
            cache: Arc::new(BlockCache::new(cache_bytes)),
        }
    }

    /// A view of an image that takes the place of this one, whose blocks have none of
    /// the numbers of this one's: both share the cache and its bound.
    pub(crate) fn succeeded_by(&self, image: Box<dyn Image>) -> Self {
        Self {
            image,
            cache: Arc::clone(&self.cache),
        }
    }

    /// A block that is in the cache is there under its new number too, and so stays
    /// there when it moves to another image.
    pub(crate) fn moved(&self, from: BlockId, to: BlockId) {
        self.cache.copy(from, to);
    }

    /// Lets go of a backend whose successor has the cache: only these blocks leave it.
    ///
    /// # Errors
    ///
    /// What the backend says.
    pub(crate) fn retire(&self, blocks: &[BlockMeta]) -> Result<(), ImageError> {
        for meta in blocks {
            self.cache.remove(meta.id);
        }
        self.image.close()
    }

    /// A block, from the cache if it is there. Threads that miss the same block wait
    /// for the one that reads it.
    ///
    /// # Errors
    ///
    /// [`ImageErrorKind::Damaged`] if the block is missing or not the one that the
    /// manifest names; else what the backend says.
    pub(crate) fn read(&self, meta: &BlockMeta) -> Result<Arc<Block>, ImageError> {
        self.cache.get(meta.id, || {
            let block = self.read_uncached(meta)?;
            Ok(Arc::new(block.indexed()))
        })
    }

    /// The cache, for those who keep the way to what they found there.
    pub(crate) fn cache(&self) -> &Arc<BlockCache> {
        &self.cache
    }

    /// A block from the backend, past the cache: for those who read each block once.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn read_uncached(&self, meta: &BlockMeta) -> Result<Block, ImageError> {
        let ids: Vec<_> = pieces_of(meta.id, meta.pieces).collect();
        verified(self.image.get(&ids)?, meta)
    }

    /// Some blocks in one call of the backend, past the cache.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub(crate) fn read_many(&self, metas: &[BlockMeta]) -> Result<Vec<Block>, ImageError> {
        let ids = metas
            .iter()
            .flat_map(|meta| pieces_of(meta.id, meta.pieces));
        let mut pieces = self.image.get(&ids.collect::<Vec<_>>())?.into_iter();
        let block = |meta: &BlockMeta| {
            let pieces = pieces.by_ref().take(meta.pieces as usize);
            verified(pieces.collect(), meta)
        };
        metas.iter().map(block).collect()
    }

    /// Begins to store new blocks, numbered from `next` on.
    pub(crate) fn sink(&self, next: BlockId) -> BlockSink<'_> {
        BlockSink {
            blocks: self,
            next,
            pending: Vec::new(),
            pending_bytes: 0,
        }
    }

    /// Removes blocks, given by first piece and count of pieces.
    ///
    /// # Errors
    ///
    /// What the backend says; then some may be left.
    pub(crate) fn delete(&self, blocks: &[(BlockId, u32)]) -> Result<(), ImageError> {
        let mut ids = Vec::with_capacity(blocks.len().min(DELETE_IDS));
        for (id, pieces) in blocks {
            self.cache.remove(*id);
            for piece in pieces_of(*id, *pieces) {
                ids.push(piece);
                if ids.len() == DELETE_IDS {
                    self.image.delete(&ids)?;
                    ids.clear();
                }
            }
        }
        if ids.is_empty() {
            Ok(())
        } else {
            self.image.delete(&ids)
        }
    }

    /// Removes every piece whose number is `first` or higher: what a crash left of a
    /// checkpoint that no manifest speaks of.
    ///
    /// # Errors
    ///
    /// What the backend says; then some may be left.
    pub(crate) fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        self.cache.remove_from(first);
        self.image.delete_from(first)
    }

    /// Makes what was stored and removed durable.
    ///
    /// # Errors
    ///
    /// What the backend says; then the image must not be vouched for.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        self.image.sync()
    }

    /// The bytes that the image takes on disk, roughly.
    ///
    /// # Errors
    ///
    /// What the backend says.
    pub(crate) fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        self.image.bytes_on_disk()
    }

    /// Lets go of the backend and of the cache.
    ///
    /// # Errors
    ///
    /// What the backend says.
    pub(crate) fn close(&self) -> Result<(), ImageError> {
        self.cache.clear();
        self.image.close()
    }

    /// What the cache did.
    pub(crate) fn counts(&self) -> CacheCounts {
        self.cache.counts()
    }
}

/// Stores blocks under ascending numbers, gathered into calls of about 1 MiB. Dropped
/// without [`finish`](Self::finish), some of them are in the backend, where no
/// manifest names them.
#[derive(Debug)]
pub(crate) struct BlockSink<'a> {
    blocks: &'a Blocks,
    next: BlockId,
    pending: Vec<Piece>,
    pending_bytes: usize,
}

impl BlockSink<'_> {
    /// Stores a block's bytes; what it gives back is its line in the manifest.
    ///
    /// # Errors
    ///
    /// [`ImageErrorKind::Io`] for a block of 4 GiB; else what the backend says.
    pub(crate) fn put(
        &mut self,
        bytes: Cow<'_, [u8]>,
        first_key: &[u8],
        entries: u32,
        live_bytes: u64,
        deadline: u64,
    ) -> Result<BlockMeta, ImageError> {
        let len = u32::try_from(bytes.len());
        let len = len.map_err(|e| ImageError::new("put", ImageErrorKind::Io, e.to_string()))?;
        let (id, hash) = (self.next, xxh3_64(&bytes));
        if bytes.len() <= PIECE_BYTES_MAX {
            // Most blocks are one piece, and need no copy.
            self.add(bytes.into_owned())?;
        } else {
            let mut pieces = bytes.chunks(PIECE_BYTES_MAX);
            pieces.try_for_each(|piece| self.add(piece.to_vec()))?;
        }
        Ok(BlockMeta {
            first_key: first_key.into(),
            id,
            pieces: u32::try_from(self.next.get() - id.get()).unwrap_or(u32::MAX),
            len,
            hash,
            entries,
            live_bytes,
            deadline,
        })
    }

    fn add(&mut self, piece: Vec<u8>) -> Result<(), ImageError> {
        self.pending_bytes += piece.len();
        self.pending.push((self.next, piece));
        self.next = self.next.next();
        match self.pending_bytes >= PUT_BYTES {
            true => self.hand_over(),
            false => Ok(()),
        }
    }

    /// Hands over what is left; gives the lowest number that no piece has. Durable
    /// after the next [`Blocks::sync`].
    ///
    /// # Errors
    ///
    /// What the backend says.
    pub(crate) fn finish(mut self) -> Result<BlockId, ImageError> {
        self.hand_over()?;
        Ok(self.next)
    }

    fn hand_over(&mut self) -> Result<(), ImageError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.pending_bytes = 0;
        self.blocks.image.put(std::mem::take(&mut self.pending))
    }
}

/// The block that these pieces are, if they are what the manifest names.
fn verified(pieces: Vec<Option<Vec<u8>>>, meta: &BlockMeta) -> Result<Block, ImageError> {
    let bytes = join(pieces, meta)?;
    if xxh3_64(&bytes) != meta.hash {
        return Err(damaged(meta, "its bytes are not those that were written"));
    }
    let block = Block::parse(bytes).map_err(|e| damaged(meta, &e.to_string()))?;
    let first = block
        .entry(0)
        .filter(|first| first.cmp_key(&meta.first_key).is_eq());
    if first.is_none() || block.len() != meta.entries as usize {
        return Err(damaged(meta, "it does not hold the keys that it should"));
    }
    if block.deadline() != meta.deadline {
        return Err(damaged(meta, "its values do not expire when they should"));
    }
    Ok(block)
}

fn pieces_of(id: BlockId, pieces: u32) -> impl Iterator<Item = BlockId> {
    (0..u64::from(pieces)).map(move |piece| id.advanced(piece))
}

fn join(pieces: Vec<Option<Vec<u8>>>, meta: &BlockMeta) -> Result<Vec<u8>, ImageError> {
    if pieces.len() != meta.pieces as usize {
        return Err(damaged(meta, "the backend gave another count of pieces"));
    }
    let pieces: Option<Vec<_>> = pieces.into_iter().collect();
    let pieces = pieces.ok_or_else(|| damaged(meta, "it is missing, or a piece of it is"))?;
    if pieces.iter().map(Vec::len).sum::<usize>() != meta.len as usize {
        return Err(damaged(meta, "it has not the length that was written"));
    }
    // As most are.
    Ok(<[_; 1]>::try_from(pieces).map_or_else(|pieces| pieces.concat(), |[piece]| piece))
}

fn damaged(meta: &BlockMeta, what: &str) -> ImageError {
    let key = meta.first_key.escape_ascii();
    let reason = format!("block {} (keys from \"{key}\" on): {what}", meta.id);
    ImageError::new("read", ImageErrorKind::Damaged, reason)
}

#[cfg(test)]
mod tests;
