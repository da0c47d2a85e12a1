//! Owns what a user sees of a folder of backups: which there are, what each one is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::catalog::Catalog;
use super::folder::{BackupFolder, Part};
use crate::error::Result;
use crate::ids::{Lsn, StoreId};
use crate::state::Builder;
use crate::vfs::{RealVfs, Vfs};

impl Builder {
    /// Opens a folder of backups in the file system of these settings ([`Builder::vfs`]).
    ///
    /// # Errors
    /// As [`Backups::open`].
    ///
    /// ```
    /// use evenkeel::testing::SimDisk;
    /// let disk = SimDisk::new(1);
    /// let store = disk.store_builder().open("state")?;
    /// store.backup("backups")?;
    /// assert_eq!(disk.store_builder().backups("backups")?.list()?.len(), 1);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn backups(&self, path: impl AsRef<Path>) -> Result<Backups> {
        Backups::open_with(self.components().vfs, path.as_ref())
    }
}

/// How a backup came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackupKind {
    /// It holds all of the state itself.
    Full,
    /// It holds the commits behind an earlier one, and needs the files of that.
    Incremental,
}

/// A backup: the state of a store at one moment.
///
/// Made by [`Store::backup`](crate::Store::backup), listed by [`Backups::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The store that it is of.
    pub store: StoreId,
    /// Its number in the folder: from 1, and higher than that of all that were there when
    /// it was made.
    pub number: u64,
    /// The LSN whose state it holds: every commit up to it, and none behind it.
    pub lsn: Lsn,
    /// Store time when it was taken, in microseconds since 1970. No commit behind `lsn`
    /// has a lower one.
    pub time_micros: u64,
    /// Full or incremental.
    pub kind: BackupKind,
    /// The backup that it goes on from; `None` for a full one.
    pub previous: Option<u64>,
    /// The schema version of the state.
    pub schema_version: u32,
    /// The bytes of the files that it wrote, without its catalog of at most 64 KiB.
    pub bytes_written: u64,
    /// The bytes of all files that it needs.
    pub bytes_needed: u64,
    /// All files that it needs, with the path of the folder: its catalog, the state that it
    /// begins with, and the commits behind that, in order. The file `BACKUP` is needed by
    /// all.
    pub files: Vec<PathBuf>,
}

impl Backup {
    pub(super) fn new(folder: &BackupFolder, catalog: &Catalog) -> Self {
        let (bytes_needed, bytes_written) = catalog.bytes();
        let base = catalog
            .base
            .iter()
            .map(|base| (Part::Snapshot, base.number));
        let logs = catalog.logs.iter().map(|log| (Part::Log, log.number));
        let files = [(Part::Catalog, catalog.number)].into_iter();
        let files = files.chain(base).chain(logs);
        Self {
            store: catalog.store,
            number: catalog.number,
            lsn: catalog.lsn,
            time_micros: catalog.time_micros,
            kind: match catalog.previous {
                None => BackupKind::Full,
                Some(_) => BackupKind::Incremental,
            },
            previous: catalog.previous,
            schema_version: catalog.schema,
            bytes_written,
            bytes_needed,
            files: files
                .map(|(part, number)| folder.file(part, number))
                .collect(),
        }
    }

    /// Store time when it was taken.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let since = Duration::from_micros(self.time_micros);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }
}

/// A folder of backups of one store.
///
/// It is read anew by each call, and nothing is locked or written: another process may
/// make backups meanwhile, and the folder may be on a medium that is read-only. Only
/// [`retain`](Self::retain) and [`remove`](Self::remove) write to it.
///
/// ```
/// use evenkeel::{Backups, Store};
/// # let folder = tempfile::tempdir()?;
/// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
/// let store = Store::open(&path)?;
/// let made = store.backup(&dest)?;
/// let backups = Backups::open(&dest)?;
/// assert_eq!(backups.list()?, [made.clone()]);
/// assert_eq!(backups.get(made.number)?, made);
/// backups.remove(made.number)?;
/// assert!(backups.numbers()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Backups {
    pub(super) folder: BackupFolder,
}

impl Backups {
    /// Opens a folder of backups.
    ///
    /// # Errors
    /// [`Error::NotABackup`](crate::Error::NotABackup) where there is nothing, or something
    /// else; [`Error::NewerFormat`](crate::Error::NewerFormat),
    /// [`Error::Corrupt`](crate::Error::Corrupt), [`Error::Io`](crate::Error::Io).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(Arc::new(RealVfs), path.as_ref())
    }

    fn open_with(vfs: Arc<dyn Vfs>, path: &Path) -> Result<Self> {
        let folder = BackupFolder::open(vfs, path)?;
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.root()
    }

    /// The store that the backups are of.
    #[must_use]
    pub fn store(&self) -> StoreId {
        self.folder.store
    }

    /// The numbers of the backups, oldest first: of those too whose catalog is damaged.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::Corrupt`](crate::Error::Corrupt).
    pub fn numbers(&self) -> Result<Vec<u64>> {
        self.folder.numbers()
    }

    /// The backups, oldest first, as their catalogs say; whether their files are whole is
    /// for [`verify`](Self::verify) to see.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) where a catalog is damaged, which names
    /// it: the others are found by [`numbers`](Self::numbers) and [`get`](Self::get).
    /// [`Error::NewerFormat`](crate::Error::NewerFormat), [`Error::Io`](crate::Error::Io).
    pub fn list(&self) -> Result<Vec<Backup>> {
        let numbers = self.numbers()?.into_iter();
        numbers.map(|number| self.get(number)).collect()
    }

    /// The backup of a number.
    ///
    /// # Errors
    /// [`Error::NotInBackup`](crate::Error::NotInBackup) where there is none;
    /// [`Error::Corrupt`](crate::Error::Corrupt),
    /// [`Error::NewerFormat`](crate::Error::NewerFormat), [`Error::Io`](crate::Error::Io).
    pub fn get(&self, number: u64) -> Result<Backup> {
        let catalog = self.folder.catalog(number)?;
        Ok(Backup::new(&self.folder, &catalog))
    }
}
