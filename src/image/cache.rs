//! Owns the bounded cache of parsed blocks. It decides which of them stay, by how often
//! they are used; whoever found a block there may keep the way to it, and says so each
//! time that it goes that way.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::ids::BlockId;
use crate::image::block::Block;
use crate::sync;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a cached block costs beside its bytes, roughly.
const CACHED_BYTES: u64 = 176;

/// The size of a common block, from which the cache guesses how many it will hold.
const COMMON_BLOCK_BYTES: u64 = 16 * 1024;

/// Of so many uses of blocks that are known to be there one is told to the cache: enough
/// for it to know which are used often. A prime, so that who asks for the same keys over and
/// over does not tell of the same block each time.
const TOLD_OF: u64 = 31;

sync::thread_local! {
    /// Which of the counts is this thread's; `usize::MAX` before it has one.
    static OWN_HITS: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<BlockId, Arc<Block>> for ByBytes {
    fn weight(&self, _: &BlockId, block: &Arc<Block>) -> u64 {
        block.bytes().len() as u64 + block.index_bytes() + CACHED_BYTES
    }
}

/// How often a block was in the cache, since the image was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheCounts {
    /// Reads that the cache answered.
    pub(crate) hits: u64,
    /// Reads that went to the backend.
    pub(crate) misses: u64,
    /// The bytes of the blocks that are in it.
    pub(crate) bytes: u64,
}

/// How often a block was found, on a line of the processor's cache of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hits(AtomicU64);

/// Blocks by number, up to so many bytes.
pub(crate) struct BlockCache {
    cache: Cache<BlockId, Arc<Block>, ByBytes>,
    /// By thread, so that threads that read seldom meet at one.
    hits: [Hits; 16],
    /// How many threads have begun to count here.
    threads: AtomicUsize,
    misses: AtomicU64,
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BlockCache").field(&self.counts()).finish()
    }
}

impl BlockCache {
    pub(crate) fn new(bytes: u64) -> Self {
        let guess = usize::try_from(bytes / COMMON_BLOCK_BYTES).unwrap_or(usize::MAX);
        Self {
            cache: Cache::with_weighter(guess.clamp(16, 1 << 20), bytes, ByBytes),
            hits: Default::default(),
            threads: AtomicUsize::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// A block, or what `read` gives. Threads that miss the same block wait for the one
    /// that reads it.
    pub(crate) fn get<E>(
        &self,
        id: BlockId,
        read: impl FnOnce() -> Result<Arc<Block>, E>,
    ) -> Result<Arc<Block>, E> {
        if let Some(block) = self.cache.get(&id) {
            self.hit();
            return Ok(block);
        }
        let mut missed = false;
        let block = sync::read_through(&self.cache, &id, || {
            missed = true;
            read()
        });
        match missed {
            true => drop(self.misses.fetch_add(1, Ordering::Relaxed)),
            false => drop(self.hit()),
        }
        block
    }

    /// Counts the use of a block that somebody knew to be there.
    #[inline]
    pub(crate) fn used(&self, id: BlockId) {
        if self.hit().is_multiple_of(TOLD_OF) {
            // What is asked for is used, as far as the cache is concerned.
            self.cache.get(&id);
        }
    }

    #[inline]
    fn hit(&self) -> u64 {
        // Refused while the thread ends.
        let own = OWN_HITS.try_with(|own| {
            if own.get() == usize::MAX {
                own.set(self.threads.fetch_add(1, Ordering::Relaxed));
            }
            own.get()
        });
        let hits = &self.hits[own.unwrap_or_default() % self.hits.len()];
        hits.0.fetch_add(1, Ordering::Relaxed)
    }

    /// A block that is there is there under another number too.
    pub(crate) fn copy(&self, from: BlockId, to: BlockId) {
        if let Some(block) = self.cache.peek(&from) {
            self.cache.insert(to, block);
        }
    }

    /// Forgets a block.
    pub(crate) fn remove(&self, id: BlockId) {
        self.cache.remove(&id);
    }

    /// Forgets all blocks from this number on.
    pub(crate) fn remove_from(&self, first: BlockId) {
        self.cache.retain(|id, _| *id < first);
    }

    /// Forgets all blocks.
    pub(crate) fn clear(&self) {
        self.cache.clear();
    }

    /// What it did.
    pub(crate) fn counts(&self) -> CacheCounts {
        let hits = self.hits.iter().map(|hits| hits.0.load(Ordering::Relaxed));
        CacheCounts {
            hits: hits.sum(),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.cache.weight(),
        }
    }
}
