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
use crate::engine::snapshot::{
    self, Packer, Section, SnapshotHeader, SnapshotInfo, SnapshotReader, SnapshotWriter,
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
            base: reader,
            open: None,
            packer: Packer::new(writer, self.sizes.block_bytes),
            seal,
            user_entries: 0,
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
    base: Option<SnapshotReader>,
    open: Option<Open>,
    packer: Packer,
    seal: Option<Seal<'a>>,
    user_entries: u64,
}

/// The section that is being copied, up to `at`.
struct Open {
    section: Section,
    at: usize,
}

impl Pass<'_> {
    /// Copies all that comes before `key`, or all; what is sealed among it too.
    fn go_to(&mut self, key: Option<&[u8]>) -> Result<()> {
        let due = |seal: &mut Seal<'_>| key.is_none_or(|key| *seal.key < *key);
        if let Some(seal) = self.seal.take_if(due) {
            self.copy_until(Some(&seal.key))?;
            let old = self.take(&seal.key, <[u8]>::to_vec);
            let cell = (seal.amend)(old.as_deref())?;
            self.push(&seal.key, seal.lsn, &cell)?;
        }
        self.copy_until(key)
    }

    fn copy_until(&mut self, key: Option<&[u8]>) -> Result<()> {
        let mut buffer = Vec::new();
        while self.open_section()? {
            let Some(open) = &mut self.open else { break };
            let block = &open.section.block;
            let last = block
                .len()
                .checked_sub(1)
                .and_then(|last| block.entry(last));
            let whole = last.is_some_and(|last| key.is_none_or(|key| last.cmp_key(key).is_lt()));
            if whole && open.at == 0 && !self.packer.underfull() {
                self.packer.push_section(&open.section)?;
                self.user_entries += block.lower_bound(&SYSTEM_BEGIN) as u64;
                self.open = None;
                continue;
            }
            while let Some(entry) = block.entry(open.at) {
                if key.is_some_and(|key| entry.cmp_key(key).is_ge()) {
                    return Ok(());
                }
                entry.key_into(&mut buffer);
                self.packer.push(&buffer, entry.lsn, entry.cell)?;
                self.user_entries += u64::from(!is_system(&buffer));
                open.at += 1;
            }
            self.open = None;
        }
        Ok(())
    }

    /// False behind the last section.
    fn open_section(&mut self) -> Result<bool> {
        if let (None, Some(base)) = (&self.open, &mut self.base) {
            let section = base.next_section()?;
            self.open = section.map(|section| Open { section, at: 0 });
        }
        Ok(self.open.is_some())
    }

    /// Takes the old entry at `key`, which all has been copied up to.
    fn take<T>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let open = self.open.as_mut()?;
        let entry = open.section.block.entry(open.at)?;
        if !entry.cmp_key(key).is_eq() {
            return None;
        }
        open.at += 1;
        Some(read(entry.cell))
    }

    fn push(&mut self, key: &[u8], lsn: Lsn, cell: &[u8]) -> Result<()> {
        self.user_entries += u64::from(!is_system(key));
        self.packer.push(key, lsn, cell)
    }

    fn finish(mut self) -> Result<Folded> {
        self.go_to(None)?;
        Ok(Folded {
            info: self.packer.finish()?,
            user_entries: self.user_entries,
        })
    }
}

impl TakeChanges for Pass<'_> {
    type Error = Error;

    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<()> {
        self.go_to(Some(key))?;
        self.take(key, |_| ());
        match cell {
            Some(cell) => self.push(key, lsn, cell),
            None => Ok(()),
        }
    }

    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<()> {
        self.go_to(Some(from))?;
        while self.open_section()? {
            let Some(open) = &mut self.open else { break };
            let block = &open.section.block;
            open.at = end.map_or(block.len(), |end| block.lower_bound(end).max(open.at));
            if open.at < block.len() {
                break;
            }
            self.open = None;
        }
        Ok(())
    }
}

impl fmt::Debug for Seal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
