//! Owns making a store from a backup. The backup is only read, each file of it that
//! counts to its end, and the store is there once all of it was checked and read back.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::archive::ArchiveReader;
use super::catalog::{Catalog, LogFile};
use super::fold::{Fold, Folded, Seal, Sizes};
use super::folder::{BackupFolder, Part};
use super::point::{Found, RestorePoint};
use super::verify;
use crate::engine::body::schema_of;
use crate::engine::folder::snapshot_path;
use crate::engine::place::{Beginning, Place};
use crate::engine::snapshot::SnapshotHeader;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::observe::{self, Work};
use crate::state::origin::{self, Origin};
use crate::state::{Builder, Store};
use crate::vfs::Vfs;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The id of the new store.
    pub store: StoreId,
    /// What it came from, as [`Store::origin`] says from now on.
    pub origin: Origin,
    /// The number of the backup that had it.
    pub backup: u64,
    /// Its state is that at this LSN, and its own commits come behind it.
    pub lsn: Lsn,
    /// Store time of its state, in microseconds since 1970.
    pub time_micros: u64,
    /// How many keys it has, those included that have expired and were not removed yet.
    pub entries: u64,
    /// The bytes of all keys and values, and of what the store keeps for itself.
    pub bytes: u64,
    /// The schema version of its state.
    pub schema_version: u32,
}

impl Restored {
    /// Store time of its state.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        let since = Duration::from_micros(self.time_micros);
        UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
    }
}

impl Store {
    /// Makes a store in the folder `dest` from the newest backup in the folder `src`. Open
    /// it as any other.
    ///
    /// Everything is read, checked and written under another name beside `dest`, and read
    /// back, before it is renamed. So when this returns the store is there whole, and
    /// durable, and when it fails or is interrupted there is nothing at `dest`; call it
    /// again. Missing folders above `dest` are made. `src` is only read: nothing in it is
    /// locked, made or changed, and it may be on a medium that is read-only.
    ///
    /// Keys keep their versions and deadlines, and what the store keeps for its user is
    /// there too: default lifetimes, quotas, cursors, caches, imports. The store has an id
    /// of its own, and [`Store::origin`] says what it came from. What a restored store is
    /// not told of is in `docs/backup.md`.
    ///
    /// # Errors
    /// [`Error::Occupied`] where there is something at `dest` that is not an empty folder;
    /// [`Error::Invalid`] for a `dest` inside of a folder of backups; [`Error::Locked`]
    /// while somebody else restores to it; [`Error::NotABackup`]; [`Error::NotInBackup`]
    /// where there is no backup yet; [`Error::NewerFormat`]; [`Error::Corrupt`] with file
    /// and offset where what is needed is damaged or missing; [`Error::Io`].
    ///
    /// ```
    /// use evenkeel::Store;
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, backups) = (folder.path().join("state"), folder.path().join("backups"));
    /// # let copy = folder.path().join("copy");
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// store.backup(&backups)?;
    /// store.global().set("a", 2)?;
    ///
    /// Store::restore(&backups, &copy)?;
    /// let copy = Store::open(&copy)?;
    /// assert_eq!(copy.global().get("a")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore(src: impl AsRef<Path>, dest: impl AsRef<Path>) -> Result<Restored> {
        Builder::default().restore(src, dest, RestorePoint::Latest)
    }

    /// The same, as of a point in time: the state after the last commit at or before it.
    ///
    /// # Errors
    /// As [`Store::restore`], and [`Error::NotInBackup`] for a point that lies before the
    /// oldest or behind the newest state in the backups, or in a gap between them; it says
    /// what there is.
    ///
    /// ```
    /// use evenkeel::{RestorePoint, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, backups) = (folder.path().join("state"), folder.path().join("backups"));
    /// # let (copy, other) = (folder.path().join("copy"), folder.path().join("other"));
    /// let store = Store::open(&path)?;
    /// let (_, first) = store.submit(|tx| tx.global().set("a", 1))?;
    /// store.global().set("a", 2)?;
    /// let backup = store.backup(&backups)?;
    ///
    /// Store::restore_to(&backups, &copy, first.lsn())?;
    /// assert_eq!(Store::open(&copy)?.global().get("a")?, Some(1));
    /// Store::restore_to(&backups, &other, RestorePoint::Time(backup.time()))?;
    /// assert_eq!(Store::open(&other)?.global().get("a")?, Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn restore_to(
        src: impl AsRef<Path>,
        dest: impl AsRef<Path>,
        point: impl Into<RestorePoint>,
    ) -> Result<Restored> {
        Builder::default().restore(src, dest, point)
    }
}

impl Builder {
    /// As [`Store::restore_to`], on this builder's file system, with its clock, its sizes of
    /// blocks and segments, and [`memtable_bytes`](Self::memtable_bytes) for what is held
    /// in memory of the commits behind a snapshot. Nothing is opened.
    ///
    /// # Errors
    /// As [`Store::restore_to`], and [`Error::Invalid`] for settings out of bounds.
    ///
    /// ```
    /// use evenkeel::RestorePoint;
    /// use evenkeel::testing::SimDisk;
    /// let disk = SimDisk::new(1);
    /// let store = disk.store_builder().open("state")?;
    /// store.global().set("a", 1)?;
    /// let backup = store.backup("backups")?;
    /// let point = RestorePoint::Backup(backup.number);
    /// let restored = disk.store_builder().restore("backups", "copy", point)?;
    /// assert_eq!((restored.entries, restored.lsn), (1, backup.lsn));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn restore(
        &self,
        src: impl AsRef<Path>,
        dest: impl AsRef<Path>,
        point: impl Into<RestorePoint>,
    ) -> Result<Restored> {
        self.check()?;
        let span = observe::span(Work::Restore, Some(dest.as_ref()));
        let (options, components) = (self.engine_options(), self.components());
        let place = Place {
            vfs: &components.vfs,
            path: dest.as_ref(),
            log: &options.log,
            now_micros: components.clock.now_micros(),
        };
        place.require_free()?;
        refuse_inside(&*components.vfs, dest.as_ref())?;
        let folder = BackupFolder::open(Arc::clone(&components.vfs), src.as_ref())?;
        let point = point.into();
        let found = point.find(&folder)?;
        check_ends(&folder, &found)?;
        let sizes = Sizes {
            block_bytes: options.block_bytes,
            pass_bytes: options.memtable_bytes,
        };
        let mut restored = None;
        place.make(|snapshots, store| {
            let source = Source {
                folder: &folder,
                point,
                found: &found,
            };
            let done = source.fold(snapshots, store, sizes, place.now_micros)?;
            let (lsn, time_micros) = (done.lsn, done.time_micros);
            restored = Some(done);
            Ok(Beginning { lsn, time_micros })
        })?;
        let restored = restored.ok_or_else(|| Error::Invalid {
            what: "restore",
            reason: "nothing was restored".into(),
        })?;
        span.reached(restored.lsn);
        Ok(restored)
    }
}

/// Refuses a place that is inside of a folder of backups: making a store there would write
/// to it.
fn refuse_inside(vfs: &dyn Vfs, dest: &Path) -> Result<()> {
    let whole = std::path::absolute(dest).unwrap_or_default();
    for path in [dest, &whole] {
        let mut path = without_parents(path);
        while path.pop() {
            let backup = path.join("BACKUP");
            let found = vfs.metadata(&backup);
            let found = found.map_err(|e| Error::io("look at", &backup, e))?;
            if found.is_some_and(|found| !found.is_dir) {
                return Err(Error::Invalid {
                    what: "destination",
                    reason: format!("it is inside of the backups in {}", path.display()),
                });
            }
        }
    }
    Ok(())
}

/// The same path without `..`, as far as it says what is above.
pub(super) fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if plain.file_name().is_some() => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

/// Opens each file that is needed, so that what is missing, of another store or not what
/// the catalog says is known before anything is written.
fn check_ends(folder: &BackupFolder, found: &Found) -> Result<()> {
    open_base(folder, &found.catalog)?;
    needed(found).try_for_each(|log| open_log(folder, &found.catalog, log).map(drop))
}

/// The archives with commits up to the point, in order.
fn needed(found: &Found) -> impl Iterator<Item = &LogFile> {
    let logs = found.catalog.logs.iter();
    logs.filter(|log| log.from < found.lsn)
}

fn open_base(
    folder: &BackupFolder,
    catalog: &Catalog,
) -> Result<Option<(PathBuf, SnapshotHeader)>> {
    let Some(base) = &catalog.base else {
        return Ok(None);
    };
    let path = folder.file(Part::Snapshot, base.number);
    let reader = verify::open_base(&*folder.vfs, &path, base, catalog)?;
    Ok(Some((path, reader.info().header)))
}

fn open_log(
    folder: &BackupFolder,
    catalog: &Catalog,
    log: &LogFile,
) -> Result<(PathBuf, ArchiveReader)> {
    let path = folder.file(Part::Log, log.number);
    let reader = verify::open_log(&*folder.vfs, &path, log, catalog)?;
    Ok((path, reader))
}

/// A state in a folder of backups.
struct Source<'a> {
    folder: &'a BackupFolder,
    point: RestorePoint,
    found: &'a Found,
}

/// How far the commits came.
#[derive(Clone, Copy, Default)]
struct Reached {
    lsn: Lsn,
    time_micros: u64,
    schema: u32,
}

impl Source<'_> {
    /// Writes the state as the first snapshot of a store.
    fn fold(
        &self,
        snapshots: &Path,
        store: StoreId,
        sizes: Sizes,
        now_micros: u64,
    ) -> Result<Restored> {
        let (folder, found) = (self.folder, self.found);
        let mut fold = Fold::new(&*folder.vfs, snapshots, store, sizes);
        let mut reached = Reached::default();
        if let Some((path, header)) = open_base(folder, &found.catalog)? {
            fold = fold.with_base(&path, folder.store);
            reached = Reached {
                lsn: header.lsn,
                time_micros: header.time_micros,
                schema: header.schema,
            };
        }
        for log in needed(found) {
            if !self.take(log, &mut fold, &mut reached)? {
                break;
            }
        }
        let (lsn, time_micros) = match self.point {
            RestorePoint::Latest | RestorePoint::Backup(_) => {
                let taken = found.catalog.time_micros;
                (found.lsn, taken.max(reached.time_micros))
            }
            RestorePoint::Lsn(lsn) => (lsn, reached.time_micros),
            RestorePoint::Time(_) if reached.lsn == Lsn::ZERO => {
                let reason = "nothing was committed by then".to_owned();
                return Err(self.point.not_in(folder, reason));
            }
            RestorePoint::Time(_) => (reached.lsn, found.until_micros),
        };
        // LSN 1 is that of the first opening, before any commit.
        let lsn = lsn.max(Lsn::new(1));
        let header = SnapshotHeader {
            store,
            origin: Some(folder.store),
            lsn,
            time_micros,
            schema: reached.schema,
        };
        let origin = Origin {
            store: folder.store,
            lsn,
            time_micros,
            restored_at_micros: now_micros,
        };
        let seal = Seal {
            key: origin::full_key(),
            lsn,
            amend: Box::new(|old| origin::kept(old, &origin)),
        };
        let path = snapshot_path(snapshots, lsn);
        let Folded { info, user_entries } = fold.finish(&path, header, Some(seal))?;
        Ok(Restored {
            store,
            origin,
            backup: found.catalog.number,
            lsn,
            time_micros,
            entries: user_entries,
            bytes: info.live_bytes,
            schema_version: reached.schema,
        })
    }

    /// Folds the commits of an archive, up to the point. Reads it to its end all the same:
    /// only then it is known to be whole. False once the point was passed.
    fn take(&self, log: &LogFile, fold: &mut Fold<'_>, reached: &mut Reached) -> Result<bool> {
        let (path, mut reader) = open_log(self.folder, &self.found.catalog, log)?;
        let mut before = true;
        while let Some(record) = reader.next()? {
            let (lsn, time_micros) = (record.lsn, record.time_micros);
            before &= lsn <= self.found.lsn && time_micros <= self.found.until_micros;
            if before {
                fold.commit(lsn, record.body, &path)?;
                let schema = schema_of(record.body).unwrap_or(reached.schema);
                *reached = Reached {
                    lsn,
                    time_micros,
                    schema,
                };
            }
        }
        Ok(before)
    }
}
