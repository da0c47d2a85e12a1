//! Owns the image as readers see it: a manifest and the blocks that it vouches
//! for, which never change while anybody holds them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::image::block::{Block, CellRef};
use crate::image::fences::Fences;
use crate::image::manifest::Manifest;
use crate::image::store::Blocks;
use crate::image::{ImageError, ImageErrorKind};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockReadGuard};

/// A sealed image. A checkpoint makes another one and leaves this as it is.
#[derive(Debug)]
pub(crate) struct Image {
    /// Tells the images apart that a store has had since it was opened; 0 before anybody
    /// could see it.
    pub(crate) number: u64,
    pub(crate) manifest: Manifest,
    pub(crate) fences: Fences,
    /// `None` while there is nothing in it: the backend is opened when it is needed.
    blocks: Option<Arc<Blocks>>,
    /// The generations of the memtable up to this one are in it.
    pub(crate) generation: u64,
}

/// The bytes of a value, wherever they are; cheap to clone.
#[derive(Clone)]
pub(crate) enum Cell {
    /// In the memtable.
    Memory(Arc<[u8]>),
    /// In a block of the image.
    Block(Arc<Block>, CellRef),
}

/// How large it is: the bytes are a user's.
impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cell({} bytes)", self.len())
    }
}

impl Deref for Cell {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Block(block, cell) => block.cell(*cell),
        }
    }
}

impl Image {
    pub(crate) fn new(manifest: Manifest, blocks: Option<Arc<Blocks>>, generation: u64) -> Self {
        let first_keys = manifest.blocks.iter().map(|block| &*block.first_key);
        Self {
            number: 0,
            fences: Fences::of(first_keys),
            manifest,
            blocks,
            generation,
        }
    }

    /// True where the backend is open.
    pub(crate) fn is_open(&self) -> bool {
        self.blocks.is_some()
    }

    /// True where both are kept by the same open backend.
    pub(crate) fn shares_blocks(&self, other: &Self) -> bool {
        match (&self.blocks, &other.blocks) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        }
    }

    /// True where its blocks are in these.
    pub(crate) fn is_kept_in(&self, blocks: &Blocks) -> bool {
        self.blocks
            .as_ref()
            .is_some_and(|mine| std::ptr::eq(&**mine, blocks))
    }

    /// The blocks.
    pub(crate) fn blocks(&self) -> Result<&Arc<Blocks>, ImageError> {
        let closed = || ImageError::new("read", ImageErrorKind::Io, "it is not open");
        self.blocks.as_ref().ok_or_else(closed)
    }

    /// A block of the manifest.
    pub(crate) fn read(&self, at: usize) -> Result<Arc<Block>, ImageError> {
        self.blocks()?.read(&self.manifest.blocks[at])
    }

    /// The entry of a full key.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<(Lsn, Cell)>, ImageError> {
        let block = self.block_of(key)?;
        Ok(block.and_then(|(_, block)| entry_of(block, key)))
    }

    /// The block that has a full key if any has, and its number in the manifest.
    pub(crate) fn block_of(&self, key: &[u8]) -> Result<Option<(usize, Arc<Block>)>, ImageError> {
        let at = self.fences.find_block(key);
        at.map(|at| Ok((at, self.read(at)?))).transpose()
    }

    /// Visits entries with `from <= full key < end` in order, until `visitor`
    /// says that it has enough by `false`.
    pub(crate) fn visit(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        visitor: &mut dyn FnMut(&[u8], Lsn, Cell) -> bool,
    ) -> Result<(), ImageError> {
        let mut key = Vec::new();
        for at in self.fences.range(from, end) {
            let block = self.read(at)?;
            for entry in block.entries_from(block.lower_bound(from)) {
                key.clear();
                entry.key_into(&mut key);
                if end.is_some_and(|end| key.as_slice() >= end) {
                    return Ok(());
                }
                let cell = Cell::Block(Arc::clone(&block), entry.cell_ref);
                if !visitor(&key, entry.lsn, cell) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The entry of a full key in the block that has it, if any has.
#[inline]
pub(crate) fn entry_of(block: Arc<Block>, key: &[u8]) -> Option<(Lsn, Cell)> {
    let (lsn, cell) = block.find(key)?;
    Some((lsn, Cell::Block(block, cell)))
}

/// The image that readers see.
#[derive(Debug)]
pub(crate) struct Current {
    image: RwLock<Arc<Image>>,
    /// That of the image, for those who only ask whether it is still the same.
    number: AtomicU64,
}

impl Current {
    pub(crate) fn new(image: Image) -> Self {
        Self {
            image: RwLock::new(Arc::new(Image { number: 1, ..image })),
            number: AtomicU64::new(1),
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Arc<Image>> {
        self.image.read()
    }

    /// Lets readers see another image.
    pub(crate) fn publish(&self, image: Image) -> Arc<Image> {
        let mut current = self.image.write();
        let number = current.number + 1;
        let image = Arc::new(Image { number, ..image });
        *current = Arc::clone(&image);
        self.number.store(number, Ordering::Release);
        image
    }

    /// The number of the image. Whoever found nothing in memory and then asks for it is
    /// told that of one that has what left memory before.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }
}
