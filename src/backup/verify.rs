//! Owns reading backups through: every byte that one needs, against what its catalog says.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::ArchiveReader;
use super::catalog::{BaseFile, Catalog, LogFile};
use super::folder::{BackupFolder, Part};
use super::listing::{Backup, Backups};
use super::options::{BackupPhase, Teller};
use crate::engine::snapshot::SnapshotReader;
use crate::error::{Corruption, Error, Result};
use crate::vfs::Vfs;

/// What [`Backups::verify`] read, all of it whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupVerification {
    /// The backups, oldest first.
    pub backups: Vec<Backup>,
    /// How many files of states and commits they need; one that several need counts once.
    pub files: u64,
    /// The bytes of those files.
    pub bytes: u64,
}

impl Backups {
    /// Reads every file that a backup needs, and compares it with what its catalog says:
    /// checksums, order, and that nothing is left out. Backups that are made or removed
    /// meanwhile may be missed, or reported as missing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with file and offset of the first damage;
    /// [`Error::NewerFormat`], [`Error::Io`].
    ///
    /// ```
    /// use evenkeel::{Backups, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// store.backup(&dest)?;
    /// let found = Backups::open(&dest)?.verify()?;
    /// assert_eq!(found.backups.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self) -> Result<BackupVerification> {
        self.verify_all(&self.numbers()?)
    }

    /// The same for all that one backup needs.
    ///
    /// # Errors
    /// As [`Backups::verify`]; [`Error::NotInBackup`] where there is none of this number.
    pub fn verify_backup(&self, number: u64) -> Result<BackupVerification> {
        self.verify_all(&[number])
    }

    fn verify_all(&self, numbers: &[u64]) -> Result<BackupVerification> {
        let folder = &self.folder;
        let mut found = BackupVerification::default();
        let mut read = BTreeSet::new();
        let teller = &mut Teller::silent();
        for &number in numbers {
            let catalog = folder.catalog(number)?;
            for file in catalog.files() {
                if read.insert(file.name()) {
                    verify_file(&*folder.vfs, &file.path(folder), file, &catalog, teller)?;
                    found.bytes += file.length();
                }
            }
            // What several need was read once: each must say the same of it.
            check_ends(folder, &catalog)?;
            found.backups.push(Backup::new(folder, &catalog));
        }
        found.files = read.len() as u64;
        Ok(found)
    }
}

/// A file that a catalog names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Base(BaseFile),
    Log(LogFile),
}

impl Catalog {
    /// The files that it needs, in the order in which they are read.
    pub(crate) fn files(&self) -> impl Iterator<Item = Named> {
        let logs = self.logs.iter().map(|log| Named::Log(*log));
        self.base.iter().map(|base| Named::Base(*base)).chain(logs)
    }
}

impl Named {
    /// What tells it from all other files of the folder.
    pub(super) fn name(&self) -> (Part, u64) {
        match self {
            Self::Base(base) => (Part::Snapshot, base.number),
            Self::Log(log) => (Part::Log, log.number),
        }
    }

    pub(crate) fn path(&self, folder: &BackupFolder) -> PathBuf {
        let (part, number) = self.name();
        folder.file(part, number)
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Base(base) => base.length,
            Self::Log(log) => log.length,
        }
    }
}

/// Opens the state that a backup begins with, and compares its ends with what the catalog
/// says.
///
/// # Errors
/// [`Error::Corrupt`] where it is missing or another one, [`Error::NewerFormat`],
/// [`Error::Io`].
pub(super) fn open_base(
    vfs: &dyn Vfs,
    path: &Path,
    base: &BaseFile,
    catalog: &Catalog,
) -> Result<SnapshotReader> {
    let reader = SnapshotReader::open(vfs, path, Some(catalog.store));
    let reader = reader.map_err(|e| missing(path, e))?;
    match BaseFile::new(base.number, reader.info()) == *base {
        true => Ok(reader),
        false => Err(not_named(path, catalog)),
    }
}

/// The same for archived commits.
///
/// # Errors
/// As [`open_base`].
pub(super) fn open_log(
    vfs: &dyn Vfs,
    path: &Path,
    log: &LogFile,
    catalog: &Catalog,
) -> Result<ArchiveReader> {
    let reader = ArchiveReader::open(vfs, path, catalog.store);
    let reader = reader.map_err(|e| missing(path, e))?;
    match LogFile::new(log.number, reader.info()) == *log {
        true => Ok(reader),
        false => Err(not_named(path, catalog)),
    }
}

/// Opens each file that a backup needs, and compares its ends with what the catalog says.
///
/// # Errors
/// As [`open_base`].
pub(super) fn check_ends(folder: &BackupFolder, catalog: &Catalog) -> Result<()> {
    catalog.files().try_for_each(|file| {
        let path = file.path(folder);
        match file {
            Named::Base(base) => open_base(&*folder.vfs, &path, &base, catalog).map(drop),
            Named::Log(log) => open_log(&*folder.vfs, &path, &log, catalog).map(drop),
        }
    })
}

/// Reads a file through.
///
/// # Errors
/// As [`check_ends`], and what the teller answers.
pub(super) fn verify_file(
    vfs: &dyn Vfs,
    path: &Path,
    file: Named,
    catalog: &Catalog,
    teller: &mut Teller<'_>,
) -> Result<()> {
    teller.begin(BackupPhase::Verifying, Some(file.length()))?;
    let mut at = 0;
    match file {
        Named::Base(base) => {
            let mut reader = open_base(vfs, path, &base, catalog)?;
            while reader.next_section()?.is_some() {
                teller.step(reader.offset() - at)?;
                at = reader.offset();
            }
        }
        Named::Log(log) => {
            let mut reader = open_log(vfs, path, &log, catalog)?;
            while reader.next()?.is_some() {
                teller.step(reader.offset() - at)?;
                at = reader.offset();
            }
        }
    }
    Ok(())
}

fn not_named(path: &Path, catalog: &Catalog) -> Error {
    let what = format!("it is not the file that backup {} names", catalog.number);
    Corruption::new(path, what).offset(0).into()
}

/// A file that a catalog names and that is not there is damage of the backup.
fn missing(path: &Path, e: Error) -> Error {
    match e {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Corruption::new(path, "the file is missing").into()
        }
        e => e,
    }
}
