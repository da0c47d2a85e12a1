//! Owns what goes: backups that are not kept, and files that no backup names.
//!
//! What stays true: a catalog goes before what it names, and that only if no other one
//! names it too. Where a catalog cannot be read nobody knows what it names, and nothing
//! goes but files that were never finished.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalog::Catalog;
use super::folder::{BackupFolder, Part, parse_name};
use super::listing::Backups;
use crate::error::{Error, Result};

/// Which backups are kept: those that any of its rules keeps.
///
/// ```
/// use evenkeel::{Backups, Retention, Store};
/// use std::time::{Duration, SystemTime};
/// # let folder = tempfile::tempdir()?;
/// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
/// let store = Store::open(&path)?;
/// for n in 0..4 {
///     store.global().set("n", n)?;
///     store.backup(&dest)?;
/// }
/// let backups = Backups::open(&dest)?;
/// let month = SystemTime::now() - Duration::from_secs(30 * 24 * 60 * 60);
/// assert!(backups.retain(Retention::newest(2).since(month))?.is_empty());
/// assert_eq!(backups.retain(Retention::newest(2))?, [1, 2]);
/// assert_eq!(backups.numbers()?, [3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to Backups::retain"]
pub struct Retention {
    newest: usize,
    since_micros: Option<u64>,
}

impl Retention {
    /// Keeps the newest so many; at least 1.
    pub fn newest(count: usize) -> Self {
        Self {
            newest: count,
            since_micros: None,
        }
    }

    /// Keeps those too that were taken at this time or later.
    pub fn since(mut self, time: SystemTime) -> Self {
        let micros = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros());
        self.since_micros = Some(u64::try_from(micros).unwrap_or(u64::MAX));
        self
    }

    fn keeps(&self, catalog: &Catalog, newer: usize) -> bool {
        let since = self.since_micros;
        newer < self.newest || since.is_some_and(|since| catalog.time_micros >= since)
    }
}

impl Backups {
    /// Removes the backups that are not to be kept; returns their numbers. What a kept
    /// one needs stays, whoever wrote it. Killed on its way it has removed some of them,
    /// each whole, and called again it goes on.
    ///
    /// # Errors
    /// [`Error::Invalid`] for keeping none; [`Error::Locked`] while a backup is made;
    /// [`Error::Corrupt`] where a catalog is damaged: nothing was removed then.
    /// [`Error::NewerFormat`], [`Error::Io`].
    pub fn retain(&self, retention: Retention) -> Result<Vec<u64>> {
        if retention.newest == 0 {
            return Err(Error::Invalid {
                what: "retention",
                reason: "one backup is kept at least; remove the folder instead".into(),
            });
        }
        let _lock = self.folder.lock()?;
        retain(&self.folder, retention)
    }

    /// Removes a backup, and what no other one needs. One whose catalog is damaged can be
    /// removed too; what only it needs goes once every catalog can be read.
    ///
    /// # Errors
    /// [`Error::NotInBackup`] where there is none of this number; [`Error::Locked`]
    /// while a backup is made; [`Error::NewerFormat`], [`Error::Io`].
    pub fn remove(&self, number: u64) -> Result<()> {
        let _lock = self.folder.lock()?;
        match self.folder.catalog(number) {
            Ok(_) | Err(Error::Corrupt(_)) => {}
            Err(e) => return Err(e),
        }
        remove(&self.folder, &[number])?;
        sweep(&self.folder, &Catalogs::read(&self.folder)?)
    }
}

/// The catalogs of a folder.
#[derive(Debug, Default)]
pub(super) struct Catalogs {
    /// Those that are whole, oldest first.
    pub(super) whole: Vec<Catalog>,
    /// What is wrong with the first that is not.
    pub(super) damage: Option<Error>,
}

impl Catalogs {
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::Io`].
    pub(super) fn read(folder: &BackupFolder) -> Result<Self> {
        let mut catalogs = Self::default();
        for number in folder.numbers()? {
            match folder.catalog(number) {
                Ok(catalog) => catalogs.whole.push(catalog),
                Err(e @ Error::Corrupt(_)) => {
                    catalogs.damage.get_or_insert(e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(catalogs)
    }
}

/// Removes what is not kept; who calls it has the lock.
pub(super) fn retain(folder: &BackupFolder, retention: Retention) -> Result<Vec<u64>> {
    let catalogs = Catalogs::read(folder)?;
    if let Some(damage) = catalogs.damage {
        return Err(damage);
    }
    let newest_first = catalogs.whole.iter().rev().enumerate();
    let gone = newest_first.filter(|(newer, catalog)| !retention.keeps(catalog, *newer));
    let mut gone: Vec<u64> = gone.map(|(_, catalog)| catalog.number).collect();
    // Oldest first: what is left is always the newest.
    gone.reverse();
    remove(folder, &gone)?;
    sweep(folder, &Catalogs::read(folder)?)?;
    Ok(gone)
}

/// Removes catalogs, for good before anything that they name goes.
fn remove(folder: &BackupFolder, numbers: &[u64]) -> Result<()> {
    let paths = numbers.iter().map(|&n| folder.file(Part::Catalog, n));
    remove_files(folder, Part::Catalog, paths.collect())
}

/// Removes files that were never finished, and those that no catalog names.
pub(super) fn sweep(folder: &BackupFolder, catalogs: &Catalogs) -> Result<()> {
    let named = catalogs.whole.iter().flat_map(Catalog::files);
    let named: BTreeSet<_> = named.map(|file| file.name()).collect();
    // That a catalog is gone may not be durable yet, and its files must not go before it.
    folder.sync(&folder.folder(Part::Catalog))?;
    for part in Part::ALL {
        let names = folder.names(part)?;
        let unfinished = names.iter().filter(|name| {
            let begun = name.strip_suffix(".tmp");
            begun.is_some_and(|name| parse_name(part, name).is_some())
        });
        let mut paths: Vec<_> = unfinished.map(|n| folder.folder(part).join(n)).collect();
        if part != Part::Catalog && catalogs.damage.is_none() {
            let numbers = folder.numbers_of(part)?.into_iter();
            let unnamed = numbers.filter(|&number| !named.contains(&(part, number)));
            paths.extend(unnamed.map(|number| folder.file(part, number)));
        }
        remove_files(folder, part, paths)?;
    }
    Ok(())
}

fn remove_files(folder: &BackupFolder, part: Part, paths: Vec<PathBuf>) -> Result<()> {
    for path in &paths {
        let removed = folder.vfs.remove_file(path);
        removed.map_err(|e| Error::io("remove", path, e))?;
    }
    match paths.is_empty() {
        true => Ok(()),
        false => folder.sync(&folder.folder(part)),
    }
}
