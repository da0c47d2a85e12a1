//! Owns the fold: a snapshot, and the commits behind it, into one snapshot.
//!
//! Memory is bounded: changes are gathered and sorted until they are too many, then they
//! are merged with the snapshot into another one, from which the next ones go on. Blocks
//! that nothing changed are taken over as they are. Keys keep the LSNs that wrote them,
//! whatever was merged when.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::changes::{Changes, TakeChanges};
use crate::engine::overlay::{Overlay, TakeEntries};
use crate::engine::packer::Packer;
use crate::engine::snapshot::{
    self, Section, SnapshotHeader, SnapshotInfo, SnapshotReader, SnapshotWriter,
};
use crate::engine::table::Stored;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::scope::{SYSTEM_BEGIN, is_system};
use crate::vfs::Vfs;

/// What becomes of a key that is written last, given its cell.
type Amend<'a> = dyn FnOnce(Option<&[u8]>) -> Result<Arc<[u8]>> + 'a;

/// Takes commits, in order.
#[derive(Debug)]
pub(crate) struct Fold<'a> {
    vfs: &'a dyn Vfs,
    folder: &'a Path,
    store: StoreId,
    sizes: Sizes,
    base: Option<Base>,
    changes: Changes,
    passes: u64,
}

/// How large things may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// About so large are the blocks that are made.
    pub(crate) block_bytes: usize,
    /// So much changes may take in memory before they are merged.
    pub(crate) pass_bytes: u64,
}

/// The snapshot that is merged with.
#[derive(Debug)]
struct Base {
    path: PathBuf,
    store: StoreId,
    /// A pass wrote it.
    temporary: bool,
}

/// A key that is written last, behind all commits.
pub(crate) struct Seal<'a> {
    pub(crate) key: Vec<u8>,
    pub(crate) lsn: Lsn,
    pub(crate) amend: Box<Amend<'a>>,
}

/// What came of a fold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Folded {
    pub(crate) info: SnapshotInfo,
    /// The entries that are not the store's own bookkeeping.
    pub(crate) user_entries: u64,
}

impl<'a> Fold<'a> {
    /// Begins with nothing. Everything is written in `folder`, for the new store of this
    /// id.
    pub(crate) fn new(vfs: &'a dyn Vfs, folder: &'a Path, store: StoreId, sizes: Sizes) -> Self {
        Self {
            vfs,
            folder,
            store,
            sizes,
            base: None,
            changes: Changes::default(),
            passes: 0,
        }
    }

    /// Begins with a snapshot of this store.
    pub(crate) fn with_base(mut self, path: &Path, store: StoreId) -> Self {
        self.base = Some(Base {
            path: path.to_path_buf(),
            store,
            temporary: false,
        });
        self
    }

    /// Adds what a commit did, read from `path`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the body makes no sense, or the snapshot is damaged;
    /// [`Error::Io`].
    pub(crate) fn commit(&mut self, lsn: Lsn, body: &[u8], path: &Path) -> Result<()> {
        self.changes.add(body, lsn, path)?;
        if (self.changes.bytes() as u64) < self.sizes.pass_bytes {
            return Ok(());
        }
        let path = self.folder.join(format!("fold-{}.tmp", self.passes % 2));
        let header = SnapshotHeader {
            store: self.store,
            origin: None,
            lsn,
            time_micros: 0,
            schema: 0,
        };
        self.pass(&path, header, None)?;
        self.base = Some(Base {
            path,
            store: self.store,
            temporary: true,
        });
        Ok(())
    }

    /// Writes the whole as the snapshot at `path`, and reads it back.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and what sealing returns.
    pub(crate) fn finish(
        mut self,
        path: &Path,
        header: SnapshotHeader,
        seal: Option<Seal<'_>>,
    ) -> Result<Folded> {
        let folded = self.pass(path, header, seal)?;
        snapshot::read_back(self.vfs, path, &folded.info)?;
        Ok(folded)
    }

    fn pass(
        &mut self,
        path: &Path,
        header: SnapshotHeader,
        seal: Option<Seal<'_>>,
    ) -> Result<Folded> {
        let base = self.base.take();
        let reader = base.as_ref().map(|base| base.open(self.vfs)).transpose()?;
        let writer = SnapshotWriter::create(self.vfs, path, header)?;
        let mut pass = Pass {
            overlay: Overlay::new(
                reader,
                Counting {
                    packer: Packer::new(writer, self.sizes.block_bytes),
                    user_entries: 0,
                },
            ),
            seal,
        };
        std::mem::take(&mut self.changes).give(&mut pass)?;
        let folded = pass.finish()?;
        self.passes += 1;
        if let Some(base) = base.filter(|base| base.temporary) {
            let removed = self.vfs.remove_file(&base.path);
            removed.map_err(|e| Error::io("remove", &base.path, e))?;
        }
        Ok(folded)
    }
}

impl Base {
    fn open(&self, vfs: &dyn Vfs) -> Result<SnapshotReader> {
        SnapshotReader::open(vfs, &self.path, Some(self.store))
    }
}

/// A merge of a snapshot with sorted changes, into another snapshot.
struct Pass<'a> {
    overlay: Overlay<Counting>,
    seal: Option<Seal<'a>>,
}

/// Counts the entries of a snapshot that is being written.
struct Counting {
    packer: Packer<SnapshotWriter>,
    user_entries: u64,
}

impl Pass<'_> {
    /// Where what is sealed comes before `key`, or last: copies up to there, and writes it.
    fn seal(&mut self, key: Option<&[u8]>) -> Result<()> {
        let due = |seal: &mut Seal<'_>| key.is_none_or(|key| *seal.key < *key);
        if let Some(seal) = self.seal.take_if(due) {
            self.overlay.copy_until(Some(&seal.key))?;
            let old = self.overlay.take(&seal.key, <[u8]>::to_vec);
            let cell = (seal.amend)(old.as_deref())?;
            self.overlay.to.push(&seal.key, seal.lsn, &cell)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Folded> {
        self.seal(None)?;
        let written = self.overlay.finish()?;
        Ok(Folded {
            info: written.packer.finish()?.finish()?,
            user_entries: written.user_entries,
        })
    }
}

impl TakeEntries for Counting {
    fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<()> {
        self.user_entries += u64::from(!is_system(key));
        self.packer.push(key, lsn, cell).map(drop)
    }

    fn push_section(&mut self, section: &Section) -> Result<()> {
        self.user_entries += section.block.lower_bound(&SYSTEM_BEGIN) as u64;
        self.packer.push_section(section)
    }

    fn underfull(&self) -> bool {
        self.packer.underfull()
    }
}

impl TakeChanges for Pass<'_> {
    type Error = Error;

    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<()> {
        self.seal(Some(key))?;
        self.overlay.put(key, lsn, cell)
    }

    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<()> {
        self.seal(Some(from))?;
        self.overlay.clear(from, end)
    }
}

impl fmt::Debug for Seal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
