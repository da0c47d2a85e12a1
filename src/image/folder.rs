//! Owns the image whose pieces are files in its folder, one each, through the
//! file-system trait: over the simulated disk it crashes with everything else, so
//! that the order of image and manifest can be tested.
//!
//! No piece is durable before `sync`; a file of a piece may then be cut or missing,
//! as with any backend: the manifest's hashes say so.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ids::BlockId;
use crate::image::life::{self, Life, failed};
use crate::image::{Image, ImageBackend, ImageError, ImageErrorKind, PIECE_BYTES_MAX, Piece};
use crate::sync::Mutex;
use crate::vfs::{self, OpenMode, Vfs};

const SUFFIX: &str = ".piece";

/// Opens images of files in a folder.
#[derive(Clone, Debug)]
pub struct FolderBackend {
    vfs: Arc<dyn Vfs>,
}

impl FolderBackend {
    /// A backend that keeps its files there.
    #[must_use]
    pub fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self { vfs }
    }
}

impl ImageBackend for FolderBackend {
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError> {
        life::require_folder(&*self.vfs, folder)?;
        Ok(Box::new(FolderImage {
            vfs: Arc::clone(&self.vfs),
            folder: folder.to_path_buf(),
            life: Life::default(),
            unsynced: Mutex::new(BTreeSet::new()),
        }))
    }
}

#[derive(Debug)]
struct FolderImage {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    life: Life,
    /// Written since the last sync.
    unsynced: Mutex<BTreeSet<BlockId>>,
}

impl FolderImage {
    fn path(&self, id: BlockId) -> PathBuf {
        self.folder.join(format!("{:016x}{SUFFIX}", id.get()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // A crash may have left a file of that number.
        if self.vfs.metadata(path)?.is_some() {
            self.vfs.remove_file(path)?;
        }
        self.vfs.open(path, OpenMode::Create)?.write_at(bytes, 0)
    }

    /// Takes back a piece that the disk had no room for.
    fn refuse(&self, id: BlockId, error: &io::Error) -> ImageError {
        match self.remove(id) {
            Ok(()) => ImageError::new("put", ImageErrorKind::Full, error.to_string()),
            Err(e) => e,
        }
    }

    fn remove(&self, id: BlockId) -> Result<(), ImageError> {
        self.unsynced.lock().remove(&id);
        let path = self.path(id);
        match self.vfs.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(self.life.end("delete", &path, &e))
            }
            _ => Ok(()),
        }
    }
}

impl Image for FolderImage {
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError> {
        self.life.check("get")?;
        let piece = |id: &BlockId| {
            let path = self.path(*id);
            match vfs::read_file(self.vfs.as_ref(), &path, PIECE_BYTES_MAX as u64) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(failed("get", &path, &e)),
            }
        };
        ids.iter().map(piece).collect()
    }

    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError> {
        self.life.check("put")?;
        for (id, bytes) in pieces {
            let path = self.path(id);
            self.unsynced.lock().insert(id);
            match self.write(&path, &bytes) {
                Err(e) if e.kind() == io::ErrorKind::StorageFull => {
                    return Err(self.refuse(id, &e));
                }
                written => written.map_err(|e| self.life.end("put", &path, &e))?,
            }
        }
        Ok(())
    }

    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError> {
        self.life.check("delete")?;
        ids.iter().try_for_each(|id| self.remove(*id))
    }

    fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        self.life.check("delete")?;
        let names = self.vfs.read_dir(&self.folder);
        let names = names.map_err(|e| failed("list", &self.folder, &e))?;
        let ids = names.iter().filter_map(|entry| id_of(&entry.name));
        ids.filter(|id| *id >= first)
            .try_for_each(|id| self.remove(id))
    }

    fn sync(&self) -> Result<(), ImageError> {
        self.life.check("sync")?;
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        for path in unsynced.into_iter().map(|id| self.path(id)) {
            let synced = match self.vfs.open(&path, OpenMode::Write) {
                Ok(file) => file.sync(),
                // Deleted meanwhile, by another thread.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(e),
            };
            synced.map_err(|e| self.life.end("sync", &path, &e))?;
        }
        let synced = self.vfs.sync_dir(&self.folder);
        synced.map_err(|e| self.life.end("sync", &self.folder, &e))
    }

    fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        self.life.check("measure")?;
        let names = self.vfs.read_dir(&self.folder);
        let names = names.map_err(|e| failed("list", &self.folder, &e))?;
        Ok(names.iter().map(|entry| entry.len).sum())
    }

    fn close(&self) -> Result<(), ImageError> {
        self.life.close();
        Ok(())
    }
}

fn id_of(name: &str) -> Option<BlockId> {
    let digits = name
        .strip_suffix(SUFFIX)
        .filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(BlockId::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::suite;
    use crate::vfs::RealVfs;

    #[test]
    fn it_is_an_image() {
        let dir = tempfile::tempdir().unwrap();
        suite::suite(&FolderBackend::new(Arc::new(RealVfs)), dir.path());
    }

    #[test]
    fn names_that_are_no_pieces_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "x",
            "0.piece",
            "zzzzzzzzzzzzzzzz.piece",
            "0000000000000001.piec",
        ] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let image = FolderBackend::new(Arc::new(RealVfs))
            .open(dir.path())
            .unwrap();
        image.put(vec![(BlockId::new(255), vec![1])]).unwrap();
        image.delete_from(BlockId::ZERO).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_missing_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let error = FolderBackend::new(Arc::new(RealVfs))
            .open(&missing)
            .unwrap_err();
        assert_eq!(error.kind, ImageErrorKind::Io);
    }
}
