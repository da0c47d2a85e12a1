//! Owns the folder of backups: its names, its lock, and how it comes into being. Who only
//! reads takes no lock and writes nothing, so that a folder on a medium that cannot be
//! written to will do.
//!
//! ```text
//! LOCK                     empty; exclusive while a backup is made or removed
//! BACKUP                   what makes it a folder of backups, written last
//! backups/NUMBER.backup    the catalog of a backup (backup::catalog)
//! snapshots/NUMBER.snap    the state that backup NUMBER wrote (engine::snapshot)
//! log/NUMBER.log           the commits that backup NUMBER wrote (backup::archive)
//!
//! BACKUP := magic   8 bytes "EKBACKUP"
//!           crc     u32  CRC32 of the 52 bytes that follow
//!           format  u32  1
//!           length  u32  64
//!           flags   u32  0
//!           store   16 bytes, whose backups they are
//!           time    u64  store time when it was made
//!           zeros up to 64
//! ```
//! NUMBER is decimal, of eight digits or more, and higher than any that is there, so that
//! nothing here is ever overwritten. What no catalog names is nobody's.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::catalog::Catalog;
use super::head;
use crate::engine::folder::create_dirs;
use crate::error::{Corruption, Error, Result};
use crate::ids::{OUT_OF_REACH, StoreId};
use crate::image::cursor::Malformed;
use crate::vfs::{Vfs, VfsLock, parent, read_file, write_file_atomically};

const MAGIC: &[u8; 8] = b"EKBACKUP";
const BACKUP_BYTES: usize = 64;
const NAMES: [&str; 5] = ["LOCK", "BACKUP", "backups", "snapshots", "log"];

/// What there are files of, and in which folder under which suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Catalog,
    Snapshot,
    Log,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Catalog, Self::Snapshot, Self::Log];

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Catalog => ("backups", ".backup"),
            Self::Snapshot => ("snapshots", ".snap"),
            Self::Log => ("log", ".log"),
        }
    }
}

/// A folder of backups of one store.
#[derive(Clone, Debug)]
pub(crate) struct BackupFolder {
    pub(crate) vfs: Arc<dyn Vfs>,
    root: PathBuf,
    /// Whose backups they are.
    pub(crate) store: StoreId,
}

impl BackupFolder {
    /// Opens a folder for reading.
    ///
    /// # Errors
    /// [`Error::NotABackup`], [`Error::NewerFormat`], [`Error::Corrupt`], [`Error::Io`].
    pub(crate) fn open(vfs: Arc<dyn Vfs>, root: &Path) -> Result<Self> {
        let not = |reason: &str| Error::NotABackup {
            path: root.to_path_buf(),
            reason: reason.into(),
        };
        let found = vfs.metadata(root);
        match found.map_err(|e| Error::io("look at", root, e))? {
            None => return Err(not("there is nothing")),
            Some(found) if !found.is_dir => return Err(not("it is a file, not a folder")),
            Some(_) => {}
        }
        let mut folder = Self {
            vfs,
            root: root.to_path_buf(),
            store: StoreId::from_bytes([0; 16]),
        };
        let path = root.join("BACKUP");
        match folder.there(&path)? {
            true => folder.store = read_backup(&*folder.vfs, &path)?,
            false if folder.there(&root.join("FORMAT"))? => {
                return Err(not("it is the folder of a store"));
            }
            false => {
                folder.refuse_contents()?;
                return Err(not("it has no file BACKUP"));
            }
        }
        Ok(folder)
    }

    /// Opens a folder for making a backup of this store in it, or makes one, with those
    /// above it. Nobody else writes to it while the lock is held.
    ///
    /// # Errors
    /// As [`BackupFolder::open`]; [`Error::Locked`], [`Error::ForeignBackup`].
    pub(super) fn open_or_create(
        vfs: Arc<dyn Vfs>,
        root: &Path,
        store: StoreId,
        now_micros: u64,
    ) -> Result<(Self, Box<dyn VfsLock>)> {
        let io = |op| move |e| Error::io(op, root, e);
        if vfs.metadata(root).map_err(io("look at"))?.is_none() {
            create_dirs(&*vfs, root).map_err(io("create"))?;
        }
        let folder = match Self::open(Arc::clone(&vfs), root) {
            Ok(found) if found.store == store => found,
            Ok(found) => {
                return Err(Error::ForeignBackup {
                    path: root.to_path_buf(),
                    found: found.store,
                    expected: store,
                });
            }
            Err(e @ Error::NotABackup { .. }) => match may_become_one(&*vfs, root)? {
                true => Self {
                    vfs,
                    root: root.to_path_buf(),
                    store,
                },
                false => return Err(e),
            },
            Err(e) => return Err(e),
        };
        let lock = folder.lock()?;
        folder.make(now_micros)?;
        Ok((folder, lock))
    }

    /// Makes what is missing. The names of what is there are made durable too: whoever
    /// made them may have been killed before they were.
    fn make(&self, now_micros: u64) -> Result<()> {
        let path = self.root.join("BACKUP");
        // Where it is there and one of the folders is not, that is damage.
        if !self.there(&path)? {
            for part in Part::ALL {
                let folder = self.folder(part);
                if !self.there(&folder)? {
                    let made = self.vfs.create_dir(&folder);
                    made.map_err(|e| Error::io("create", &folder, e))?;
                }
            }
            self.sync(&self.root)?;
            let bytes = encode_backup(self.store, now_micros);
            let written = write_file_atomically(&*self.vfs, &path, &bytes);
            written.map_err(|e| Error::io("write", &path, e))?;
        }
        self.sync(&self.root)?;
        match self.vfs.sync_dir(parent(&self.root)) {
            // Whoever may not read the folder above has not made a name in it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(|e| Error::io("sync", parent(&self.root), e)),
        }
    }

    /// Takes the lock, which keeps all others from making and removing backups here.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Io`].
    pub(super) fn lock(&self) -> Result<Box<dyn VfsLock>> {
        let path = self.root.join("LOCK");
        self.vfs.lock(&path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked {
                path: self.root.clone(),
            },
            _ => Error::io("lock", &path, e),
        })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a part.
    pub(super) fn folder(&self, part: Part) -> PathBuf {
        self.root.join(part.names().0)
    }

    /// The file of a part that backup `number` wrote.
    pub(crate) fn file(&self, part: Part, number: u64) -> PathBuf {
        let (folder, suffix) = part.names();
        self.root.join(folder).join(format!("{number:08}{suffix}"))
    }

    /// The numbers of the backups, oldest first.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>> {
        Ok(self.numbers_of(Part::Catalog)?.into_iter().collect())
    }

    /// The numbers that stand in the names of a part's files.
    pub(super) fn numbers_of(&self, part: Part) -> Result<BTreeSet<u64>> {
        let names = self.names(part)?;
        let numbers = names.iter().filter_map(|name| parse_name(part, name));
        Ok(numbers.collect())
    }

    /// The names in the folder of a part.
    pub(super) fn names(&self, part: Part) -> Result<Vec<String>> {
        let path = self.folder(part);
        let entries = self.vfs.read_dir(&path);
        let entries = entries.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Corruption::new(&path, "the folder is missing").into(),
            _ => Error::io("list", &path, e),
        })?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }

    /// The catalog of a backup.
    ///
    /// # Errors
    /// As [`Catalog::read`]; [`Error::NotInBackup`] where there is none of this number.
    pub(crate) fn catalog(&self, number: u64) -> Result<Catalog> {
        let path = self.file(Part::Catalog, number);
        match self.there(&path)? {
            true => Catalog::read(&*self.vfs, &path, self.store, number),
            false => Err(Error::NotInBackup {
                path: self.root.clone(),
                wanted: format!("backup {number}"),
                reason: match self.numbers()?.as_slice() {
                    [] => "there is none".into(),
                    [only] => format!("there is backup {only} alone"),
                    [first, .., last] => format!("there are some from {first} to {last}"),
                },
            }),
        }
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync(&self, folder: &Path) -> Result<()> {
        let synced = self.vfs.sync_dir(folder);
        synced.map_err(|e| Error::io("sync", folder, e))
    }

    fn there(&self, path: &Path) -> Result<bool> {
        let found = self.vfs.metadata(path);
        Ok(found.map_err(|e| Error::io("look at", path, e))?.is_some())
    }

    /// BACKUP is written before anything is in the folders: where it is missing and there
    /// is something, it was lost.
    fn refuse_contents(&self) -> Result<()> {
        for part in Part::ALL {
            let folder = self.folder(part);
            if self.there(&folder)? && !self.numbers_of(part)?.is_empty() {
                let what = "the file is missing, but there are backups";
                return Err(Corruption::new(self.root.join("BACKUP"), what).into());
            }
        }
        Ok(())
    }
}

/// The number in the name of a file.
pub(super) fn parse_name(part: Part, name: &str) -> Option<u64> {
    let suffix = part.names().1;
    let number = name.strip_suffix(suffix)?.parse().ok();
    number.filter(|&n: &u64| {
        // A stranger: no backup could come after it.
        n > 0 && n < OUT_OF_REACH && name == format!("{n:08}{suffix}")
    })
}

/// True for an empty folder, and for what an interrupted making has left.
fn may_become_one(vfs: &dyn Vfs, root: &Path) -> Result<bool> {
    let list = |path: &Path| {
        let entries = vfs.read_dir(path);
        entries.map_err(|e| Error::io("list", path, e))
    };
    let ours = |name: &str| NAMES.contains(&name.strip_suffix(".tmp").unwrap_or(name));
    let found = vfs.metadata(root);
    let found = found.map_err(|e| Error::io("look at", root, e))?;
    if !found.is_some_and(|found| found.is_dir) {
        return Ok(false);
    }
    for entry in list(root)? {
        let empty = !entry.is_dir || list(&root.join(&entry.name))?.is_empty();
        if !(ours(&entry.name) && empty) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn encode_backup(store: StoreId, now_micros: u64) -> Vec<u8> {
    let mut bytes = head::begin(MAGIC, BACKUP_BYTES);
    bytes.extend_from_slice(&(BACKUP_BYTES as u32).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(store.as_bytes());
    bytes.extend_from_slice(&now_micros.to_le_bytes());
    bytes.resize(BACKUP_BYTES, 0);
    head::seal(&mut bytes);
    bytes
}

fn read_backup(vfs: &dyn Vfs, path: &Path) -> Result<StoreId> {
    let bytes = read_file(vfs, path, 4096).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => Corruption::new(path, e.to_string()).into(),
        _ => Error::io("read", path, e),
    })?;
    let mut cursor = head::open(path, &bytes, MAGIC)?;
    let mut fields = || {
        let (length, flags) = (cursor.size()?, cursor.u32()?);
        let store = StoreId::from_bytes(cursor.array()?);
        match length == BACKUP_BYTES && bytes.len() == length && flags == 0 {
            true => Ok(store),
            false => Err(Malformed {
                what: "length or flags are unknown",
                at: 16,
            }),
        }
    };
    fields().map_err(head::malformed(path, 0))
}

#[cfg(test)]
mod tests;
