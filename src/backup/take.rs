//! Owns making a backup: what is copied in which order, and what happens where the store
//! goes on meanwhile.
//!
//! The commits are copied first and the state behind which they are last: the file of a
//! snapshot that is open stays as it is, while the log may be trimmed at any time. It is
//! trimmed to a newer snapshot only, so then all begins again with that.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{ArchiveHeader, ArchiveWriter};
use super::catalog::{BaseFile, Catalog, LastCommit, LogFile};
use super::folder::{BackupFolder, Part};
use super::listing::Backup;
use super::options::{BackupOptions, BackupPhase, Teller};
use super::plan::{State, goes_on_from};
use super::restore::without_parents;
use super::retain::{Catalogs, Retention, retain, sweep};
use super::verify::{Named, verify_file};
use crate::engine::body::schema_of;
use crate::engine::snapshot::{self, SnapshotReader};
use crate::engine::source::Source;
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::observe::{self, Work};
use crate::state::Store;
use crate::vfs::{OpenMode, VfsFile, temporary_name, write_file_atomically};

/// How often a backup begins again because what it copies was replaced.
const ATTEMPTS: usize = 8;

/// How much of a snapshot is copied at a time.
const COPY_BYTES: usize = 1024 * 1024;

impl Store {
    /// Makes a backup of the store in a folder of backups, which is made if need be, with
    /// the folders above it. Readers and writers go on meanwhile. All that was
    /// acknowledged before the call is in it, transactions are whole, and it was read
    /// back and is durable when this returns.
    ///
    /// The first one is full. Later ones copy only the commits since, as long as the
    /// store still has these in its log and they are not long against the state. Of the
    /// files that they go on from they look at both ends; [`Backups::verify`](crate::Backups::verify) reads all
    /// through. A folder holds the backups of one store. A backup that fails or is killed
    /// leaves the earlier ones as they were.
    ///
    /// The folder is looked for in the file system that the store is in
    /// ([`Builder::vfs`](crate::Builder::vfs)).
    ///
    /// # Errors
    /// [`Error::Invalid`] for a store without a folder, which can be
    /// [persisted](Store::persist), and where one of the two folders is in the other;
    /// [`Error::NotABackup`] where `dest` is something else, [`Error::ForeignBackup`]
    /// where it has backups of another store, [`Error::NewerFormat`]: it was left alone.
    /// [`Error::Locked`] while another backup is made in `dest`. [`Error::Corrupt`]
    /// where log or image of the store are damaged, which [`Store::verify`] heals if it
    /// can be healed, or what was written reads back differently; [`Error::Io`], as for a full disk
    /// ([`Error::is_disk_full`]); [`Error::Busy`] where the log is trimmed faster than it
    /// can be copied; [`Error::Closed`], [`Error::Poisoned`].
    ///
    /// ```
    /// use evenkeel::{BackupKind, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, dest) = (folder.path().join("state"), folder.path().join("backups"));
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// let first = store.backup(&dest)?;
    /// store.global().set("a", 2)?;
    /// let second = store.backup(&dest)?;
    /// assert_eq!((first.kind, second.kind), (BackupKind::Full, BackupKind::Incremental));
    /// assert_eq!(second.previous, Some(first.number));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn backup(&self, dest: impl AsRef<Path>) -> Result<Backup> {
        self.backup_with(dest, BackupOptions::new())
    }

    /// The same with [options](BackupOptions): a full one, how many are kept, progress.
    ///
    /// # Errors
    /// As [`Store::backup`]; [`Error::Stopped`] where the progress was answered with
    /// `ControlFlow::Break`, [`Error::Panicked`] where its closure panicked. Where only
    /// what [`BackupOptions::keep`] asks for fails, the new backup is there.
    pub fn backup_with(
        &self,
        dest: impl AsRef<Path>,
        options: BackupOptions<'_>,
    ) -> Result<Backup> {
        let engine = self.engine()?;
        options.check()?;
        let source = engine.source().ok_or_else(|| Error::Invalid {
            what: "store",
            reason: "it has no folder, and no log to copy; persist it first".into(),
        })?;
        refuse_overlap(source.root(), dest.as_ref())?;
        take(source, dest.as_ref(), options)
    }
}

/// Neither folder may be in the other: a store keeps its own folder to itself.
fn refuse_overlap(store: &Path, dest: &Path) -> Result<()> {
    let (of_store, of_dest) = (plain(store)?, plain(dest)?);
    if of_store.starts_with(&of_dest) || of_dest.starts_with(&of_store) {
        let (store, dest) = (store.display(), dest.display());
        return Err(Error::Invalid {
            what: "folder of backups",
            reason: format!("{dest} and the folder of the store, {store}, overlap"),
        });
    }
    Ok(())
}

/// The absolute path as it is written: links are not followed.
fn plain(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| Error::Invalid {
        what: "path",
        reason: format!("{:?}: {e}", path.display().to_string()),
    })?;
    Ok(without_parents(&absolute))
}

fn take(source: Source<'_>, dest: &Path, options: BackupOptions<'_>) -> Result<Backup> {
    let span = observe::span(Work::Backup, Some(source.root()));
    let now = source.now();
    let vfs = Arc::clone(source.vfs());
    let (folder, _lock) = BackupFolder::open_or_create(vfs, dest, source.store(), now)?;
    let catalogs = Catalogs::read(&folder)?;
    let mut number = 0;
    for part in Part::ALL {
        number = folder.numbers_of(part)?.into_iter().fold(number, u64::max);
    }
    sweep(&folder, &catalogs)?;
    // Where one is damaged nobody knows what the newest was: a full one needs none.
    let newest = catalogs.whole.last();
    let goes_on = !options.full && catalogs.damage.is_none();
    let keep = options.keep;
    let mut taking = Taking {
        source,
        folder: &folder,
        number: number + 1,
        earlier: newest.filter(|_| goes_on),
        teller: options.teller(),
        damaged: None,
    };
    let catalog = match taking.run() {
        Ok(catalog) => catalog,
        Err(e) => {
            taking.clean_up();
            return Err(e);
        }
    };
    span.reached(catalog.lsn);
    if let Some(keep) = keep {
        retain(&folder, Retention::newest(keep))?;
    }
    Ok(Backup::new(&folder, &catalog))
}

/// A backup that is being made.
struct Taking<'a, 'p> {
    source: Source<'a>,
    folder: &'a BackupFolder,
    number: u64,
    /// The one that it may go on from.
    earlier: Option<&'a Catalog>,
    teller: Teller<'p>,
    /// A snapshot of the store that turned out to be damaged.
    damaged: Option<Lsn>,
}

/// The commits that were archived.
struct Copied {
    file: Option<LogFile>,
    /// The last of them, and the schema version that it says.
    last: Option<(LastCommit, u32)>,
}

impl Taking<'_, '_> {
    fn run(&mut self) -> Result<Catalog> {
        let catalog = self.copy()?;
        let vfs = &*self.folder.vfs;
        let own = |file: &Named| file.name().1 == self.number;
        self.source.check()?;
        for file in catalog.files().filter(own) {
            let path = file.path(self.folder);
            let named = vfs.rename(&temporary_name(&path), &path);
            named.map_err(|e| Error::io("name", &path, e))?;
            self.folder.sync(&self.folder.folder(file.name().0))?;
        }
        let path = self.folder.file(Part::Catalog, self.number);
        let written = write_file_atomically(vfs, &path, &catalog.encode());
        written.map_err(|e| Error::io("write", &path, e))?;
        match self.folder.catalog(self.number)? == catalog {
            true => Ok(catalog),
            false => {
                let what = "a catalog that was just written reads back differently";
                Err(Corruption::new(path, what).into())
            }
        }
    }

    /// Copies what is needed, under temporary names.
    fn copy(&mut self) -> Result<Catalog> {
        for _ in 0..ATTEMPTS {
            if let Some(catalog) = self.attempt()? {
                return Ok(catalog);
            }
        }
        Err(Error::Busy {
            reason: "its log is trimmed faster than it can be copied".into(),
        })
    }

    /// The same once; `None` where what was copied has been replaced meanwhile.
    fn attempt(&mut self) -> Result<Option<Catalog>> {
        self.remove_begun()?;
        let source = self.source;
        // Before what it is the time of: whatever is committed behind that is later.
        let time_micros = source.now();
        if let Some(earlier) = self.earlier {
            let upto = source.reach()?;
            if goes_on_from(source, self.folder, earlier, upto)? {
                let Some(copied) = again_where_trimmed(self.copy_log(earlier.end(), upto))? else {
                    return Ok(None);
                };
                let mut next = Catalog {
                    number: self.number,
                    previous: Some(earlier.number),
                    lsn: upto,
                    time_micros,
                    epoch: source.epoch(),
                    ..earlier.clone()
                };
                next.go_on(copied);
                self.read_back(&next)?;
                return Ok(Some(next));
            }
        }
        let state = State::choose(source, self.damaged);
        let upto = source.reach()?;
        let opened = match &state {
            State::Snapshot(lsn) => match self.open_snapshot(*lsn)? {
                Some(file) => Some(file),
                None => return Ok(None),
            },
            _ => None,
        };
        let before = self.last_commit(state.lsn());
        let Some(copied) = again_where_trimmed(self.copy_log(state.lsn(), upto))? else {
            return Ok(None);
        };
        let mut catalog = Catalog {
            store: source.store(),
            number: self.number,
            previous: None,
            lsn: upto,
            time_micros,
            epoch: source.epoch(),
            last: before,
            schema: 0,
            base: None,
            logs: Vec::new(),
        };
        if !matches!(state, State::Nothing) {
            let Some((base, schema)) = self.copy_state(&state, opened)? else {
                return Ok(None);
            };
            (catalog.base, catalog.schema) = (Some(base), schema);
        }
        catalog.go_on(copied);
        match (self.read_back(&catalog), &state) {
            (Ok(()), _) => Ok(Some(catalog)),
            (Err(e @ Error::Corrupt(_)), State::Snapshot(lsn)) => self.whose_fault(*lsn, e),
            (Err(e), _) => Err(e),
        }
    }

    /// Reads what was written through.
    fn read_back(&mut self, catalog: &Catalog) -> Result<()> {
        for file in catalog.files() {
            if file.name().1 == self.number {
                let path = temporary_name(&file.path(self.folder));
                verify_file(&*self.folder.vfs, &path, file, catalog, &mut self.teller)?;
            }
        }
        Ok(())
    }

    /// The last commit that is in a state, where the log still has it.
    fn last_commit(&self, upto: Lsn) -> Option<LastCommit> {
        let base = self.source.log_base();
        let mut last = None;
        if base < upto {
            // What it is for can do without: another backup is a full one then. And what
            // is damaged here is not needed for this one.
            let _ = self.source.commits((base, upto), |lsn, time, body| {
                last = Some(LastCommit::of(lsn, time, body));
                self.source.check()
            });
        }
        last
    }

    /// Archives the commits behind `from` up to `to`.
    fn copy_log(&mut self, from: Lsn, to: Lsn) -> Result<Copied> {
        self.teller.begin(BackupPhase::Log, None)?;
        let mut copied = Copied {
            file: None,
            last: None,
        };
        if from >= to {
            return Ok(copied);
        }
        let path = temporary_name(&self.folder.file(Part::Log, self.number));
        let header = ArchiveHeader {
            store: self.source.store(),
            from,
            to,
        };
        let (vfs, source, teller) = (&*self.folder.vfs, self.source, &mut self.teller);
        let mut writer: Option<ArchiveWriter> = None;
        source.commits((from, to), |lsn, time, body| {
            source.check()?;
            // No file for nothing.
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(ArchiveWriter::create(vfs, &path, header)?),
            };
            let bytes = writer.push(lsn, time, body)?;
            let last = LastCommit::of(lsn, time, body);
            copied.last = Some((last, schema_of(body).unwrap_or(0)));
            teller.step(bytes)
        })?;
        copied.file = match writer {
            Some(writer) => Some(LogFile::new(self.number, &writer.finish()?)),
            None => None,
        };
        Ok(copied)
    }

    /// Opens the store's snapshot, which can be read to its end, even where it is removed.
    /// `None` where that has happened already, or it is damaged.
    fn open_snapshot(&mut self, lsn: Lsn) -> Result<Option<Box<dyn VfsFile>>> {
        let path = self.source.snapshot_path(lsn);
        let vfs = &**self.source.vfs();
        let file = vfs.open(&path, OpenMode::Read);
        let file = file.map_err(|e| Error::io("open", &path, e));
        let ends = |file| {
            let reader = SnapshotReader::open(vfs, &path, Some(self.source.store()))?;
            match reader.info().header.lsn == lsn {
                true => Ok(file),
                false => Err(Corruption::new(&path, "it is of another LSN").into()),
            }
        };
        match file.and_then(ends) {
            Ok(file) => Ok(Some(file)),
            Err(e) => self.without_snapshot(lsn, e),
        }
    }

    /// The snapshot cannot be read: unless it was replaced, the backup does without it.
    fn without_snapshot<T>(&mut self, lsn: Lsn, e: Error) -> Result<Option<T>> {
        if self.source.snapshot() != Some(lsn) {
            return Ok(None);
        }
        match &e {
            Error::Corrupt(_) => {}
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(e),
        }
        self.source.tell_damaged_snapshot(lsn, &e);
        self.damaged = Some(lsn);
        Ok(None)
    }

    /// What was copied is damaged: so may be the snapshot that it was copied from.
    fn whose_fault<T>(&mut self, lsn: Lsn, of_copy: Error) -> Result<Option<T>> {
        let path = self.source.snapshot_path(lsn);
        let store = Some(self.source.store());
        match snapshot::verify(&**self.source.vfs(), &path, store) {
            Ok(_) => Err(of_copy),
            Err(e) => self.without_snapshot(lsn, e),
        }
    }

    /// Copies the state, and gives its schema version too; `None` where it was replaced
    /// meanwhile.
    fn copy_state(
        &mut self,
        state: &State,
        opened: Option<Box<dyn VfsFile>>,
    ) -> Result<Option<(BaseFile, u32)>> {
        let path = temporary_name(&self.folder.file(Part::Snapshot, self.number));
        let info = match (state, opened) {
            (State::Image(image), _) => {
                let total = Some(image.live_bytes());
                self.teller.begin(BackupPhase::State, total)?;
                let teller = &mut self.teller;
                let mut told = |bytes| teller.step(bytes);
                self.source.write_image(image, &path, &mut told)?
            }
            (state, Some(file)) => {
                self.copy_file(&*file, &path)?;
                let store = Some(self.source.store());
                let copy = SnapshotReader::open(&*self.folder.vfs, &path, store);
                match copy.map(|copy| *copy.info()) {
                    Ok(info) => Some(info),
                    Err(e @ Error::Corrupt(_)) => self.whose_fault(state.lsn(), e)?,
                    Err(e) => return Err(e),
                }
            }
            (_, None) => None,
        };
        Ok(info.map(|info| (BaseFile::new(self.number, &info), info.header.schema)))
    }

    fn copy_file(&mut self, from: &dyn VfsFile, path: &Path) -> Result<()> {
        let read = |e| Error::io("read the snapshot for", path, e);
        let write = |e| Error::io("write", path, e);
        let length = from.len().map_err(read)?;
        self.teller.begin(BackupPhase::State, Some(length))?;
        let to = self.folder.vfs.open(path, OpenMode::Create);
        let to = to.map_err(|e| Error::io("create", path, e))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = 0;
        loop {
            self.source.check()?;
            let bytes = from.read_at(&mut buffer, at).map_err(read)?;
            let Some(part) = buffer.get(..bytes).filter(|part| !part.is_empty()) else {
                break;
            };
            to.write_at(part, at).map_err(write)?;
            at += bytes as u64;
            self.teller.step(bytes as u64)?;
        }
        to.sync().map_err(|e| Error::io("sync", path, e))
    }

    /// Removes what an attempt has written.
    fn remove_begun(&self) -> Result<()> {
        for part in [Part::Log, Part::Snapshot] {
            let path = temporary_name(&self.folder.file(part, self.number));
            match self.folder.vfs.remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|e| Error::io("remove", &path, e))?,
            }
        }
        Ok(())
    }

    /// After a failure: on a full disk what was begun takes room that others need. Best
    /// effort, since the next backup does it too.
    fn clean_up(&self) {
        let _ = Part::ALL.into_iter().try_for_each(|part| {
            let path = self.folder.file(part, self.number);
            for path in [temporary_name(&path), path] {
                // Mostly there is nothing of that name.
                let _ = self.folder.vfs.remove_file(&path);
            }
            // What the catalog names must not go before it.
            self.folder.sync(&self.folder.folder(part))
        });
    }
}

impl Catalog {
    /// Takes up the commits behind what it has.
    fn go_on(&mut self, copied: Copied) {
        self.logs.extend(copied.file);
        if let Some((last, schema)) = copied.last {
            (self.last, self.schema) = (Some(last), schema);
        }
    }
}

/// A log that was trimmed meanwhile is a reason to begin again.
fn again_where_trimmed<T>(copied: Result<T>) -> Result<Option<T>> {
    match copied {
        Ok(copied) => Ok(Some(copied)),
        Err(Error::Trimmed { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}
