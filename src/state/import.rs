//! Owns imports: a source read once into the store, in large commits, that goes on after
//! a kill where it was. How it is run is in `run`, what is written how in `bulk`, what
//! is read in the others.

mod bulk;
mod entries;
mod entry;
mod line;
mod lines;
mod record;
mod run;
mod trees;

use std::fmt;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::state::store::Store;

pub use bulk::{BulkLoader, BulkReport};
pub use entry::{ImportEntry, ImportItem};
pub use record::ImportStatus;

use entries::Entries;
use entry::Cause;
use lines::Lines;
use run::{Run, Source};
use trees::Trees;

pub(super) use line::{Stored, write};
pub(super) use lines::line_bytes_max;

type Answer<'p> = dyn FnMut(&ImportProgress) -> ControlFlow<()> + 'p;

/// An import of one source into a store, which goes on after a kill where it was. Made
/// by [`Store::import`]; the methods that read a source run it. `docs/importing.md` tells
/// what is read and how.
///
/// The source is read once, from its beginning to its end, and written in batches. Each
/// is one commit, which has in it how far the source was read. So whatever ends the
/// import, running it again with the same name and the same source goes on behind the
/// last batch that survived, and what comes out is what an uninterrupted run gives.
/// Everything is durable when a run returns, whatever the store's durability is.
///
/// A source has to give the same entries in the same order each time. What was taken from
/// it is read again, without writing it, and compared by a hash:
/// [`Error::SourceChanged`](crate::Error::SourceChanged) tells of another. An import that
/// has finished is compared to its end in the same way, and then answers
/// [`ImportOutcome::AlreadyDone`]; [`status`](Self::status) answers without a look at the
/// source.
///
/// Keys that are there are overwritten, unless [`keep_existing`](Self::keep_existing) is
/// said; of a key that comes twice the last one counts. Other keys stay as they are.
///
/// ```
/// use evenkeel::{ImportOutcome, Scope, Store};
/// # let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path().join("state"))?;
/// let path = folder.path().join("orders.jsonl");
/// std::fs::write(&path, concat!(
///     r#"{"scope": {"workflow": "order-42"}, "key": "config", "value": {"region": "eu"}}"#, "\n",
///     r#"{"scope": "global", "key": "orders", "value": 1}"#, "\n",
/// ))?;
/// let report = store
///     .import("orders-2026")
///     .progress(|p| println!("{} of {:?} bytes", p.bytes, p.bytes_total))
///     .json_lines(&path)?;
/// assert_eq!(report.imported, 2);
/// let again = store.import("orders-2026").json_lines(&path)?;
/// assert_eq!((again.outcome, again.imported), (ImportOutcome::AlreadyDone, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "an import does nothing until it is given its source"]
pub struct Import<'p> {
    store: Store,
    name: String,
    batch_bytes: Option<usize>,
    line_bytes: Option<usize>,
    temporary: Option<PathBuf>,
    keep_existing: bool,
    skip_malformed: bool,
    restart: bool,
    progress: Option<Box<Answer<'p>>>,
}

impl fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Import({:?})", self.name)
    }
}

/// What an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportPhase {
    /// It reads without writing: what an earlier run has imported, or all lines, to see
    /// whether one of them is malformed.
    Checking,
    /// It reads and writes.
    Importing,
}

/// How far an import or a [`BulkLoader`] has come. Counts what earlier runs of the same
/// import did too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportProgress {
    /// What it is doing.
    pub phase: ImportPhase,
    /// The entries that were written, and can be seen.
    pub entries: u64,
    /// How many of these are durable: the first ones, whatever happens now.
    pub durable: u64,
    /// The lines or entries of the source that were read.
    pub items: u64,
    /// The bytes of the source that were read: of lines with their ends, or of what the
    /// entries consist of.
    pub bytes: u64,
    /// How many there are, where that is known: for lines.
    pub bytes_total: Option<u64>,
}

/// What a closure answers that is told the progress: nothing, to go on, or a
/// [`ControlFlow`], which can stop the import.
pub trait ImportAnswer {
    /// The answer.
    fn into_flow(self) -> ControlFlow<()>;
}

impl ImportAnswer for () {
    fn into_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl ImportAnswer for ControlFlow<()> {
    fn into_flow(self) -> ControlFlow<()> {
        self
    }
}

/// How a run of an import ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportOutcome {
    /// The source was read to its end.
    Finished,
    /// The progress was answered with `ControlFlow::Break`. Run again, it goes on.
    Stopped,
    /// It had been finished before, with the same source. Nothing was written.
    AlreadyDone,
}

/// What a run of an import did. All of it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// How the run ended.
    pub outcome: ImportOutcome,
    /// The entries that this run wrote; a key that came twice counts twice.
    pub imported: u64,
    /// What was done in all runs.
    pub total: ImportStatus,
    /// The malformed entries that this run left out, the first 100 of them. Always empty
    /// without [`Import::skip_malformed`]; `total.malformed` counts them all.
    pub malformed: Vec<MalformedEntry>,
}

/// An entry that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MalformedEntry {
    /// Where it stands: file, line and column, or tree and key.
    pub at: String,
    /// The line, or the number of the entry in its source. The first one is 1.
    pub line: u64,
    /// The byte in the line, from 1; 0 where there is no such place.
    pub column: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl<'p> Import<'p> {
    fn new(store: &Store, name: String) -> Self {
        Self {
            store: store.clone(),
            name,
            batch_bytes: None,
            line_bytes: None,
            temporary: None,
            keep_existing: false,
            skip_malformed: false,
            restart: false,
            progress: None,
        }
    }

    /// How many bytes of keys and values are committed at once. Default 1 MiB, and
    /// never more than 4,096 entries; see [`BulkLoader::batch_bytes`].
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = Some(bytes);
        self
    }

    /// How long a line may be, in bytes. Default twice `Limits::value_bytes` and 1 MiB,
    /// so 33 MiB. A longer one is malformed; no more than this is held in memory of it.
    pub fn line_bytes(mut self, bytes: usize) -> Self {
        self.line_bytes = Some(bytes);
        self
    }

    /// Where temporary copies are made: of what a reader gives, and of sled's folder.
    /// Default the system's temporary folder (`TMPDIR`). They take as much room as their
    /// source does, and go when the run ends; one that was killed leaves its copy of
    /// sled's folder behind.
    pub fn temporary_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.temporary = Some(folder.into());
        self
    }

    /// Leaves keys as they are that are there already, whoever wrote them; so of a key
    /// that comes twice the first one counts. Each key is then looked up.
    pub fn keep_existing(mut self) -> Self {
        self.keep_existing = true;
        self
    }

    /// Leaves malformed entries out, instead of importing nothing: lines that cannot be
    /// read, keys and values beyond their limits, errors of an iterator's item or of a
    /// mapping function. The report counts them and lists the first.
    pub fn skip_malformed(mut self) -> Self {
        self.skip_malformed = true;
        self
    }

    /// Begins again at the beginning, whatever was done under this name. What was imported
    /// stays until it is overwritten; how far it had come is known until the first batch is
    /// committed.
    pub fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Is told how far the import has come: after each batch, and from time to time while
    /// the source is only read. It runs between commits, on the thread that imports, and
    /// may use the store. Answering `ControlFlow::Break(())` stops the import behind what
    /// was committed.
    ///
    /// ```
    /// use evenkeel::{ImportOutcome, Scope, Store};
    /// use std::ops::ControlFlow;
    /// let store = Store::in_memory();
    /// let entries = || (0..9_000).map(|n| (Scope::Global, format!("{n}"), n));
    /// let stopped = store.import("numbers").progress(|p| match p.entries >= 4_000 {
    ///     true => ControlFlow::Break(()),
    ///     false => ControlFlow::Continue(()),
    /// });
    /// let stopped = stopped.entries(entries())?;
    /// assert_eq!(stopped.outcome, ImportOutcome::Stopped);
    /// let rest = store.import("numbers").entries(entries())?;
    /// assert_eq!(stopped.imported + rest.imported, 9_000);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn progress<A: ImportAnswer>(
        mut self,
        mut progress: impl FnMut(&ImportProgress) -> A + 'p,
    ) -> Self {
        self.progress = Some(Box::new(move |told| progress(told).into_flow()));
        self
    }

    /// How far the import of this name has come; `None` if it never ran here.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for an empty name; as
    /// [`crate::ScopeHandle::get`].
    pub fn status(self) -> Result<Option<ImportStatus>> {
        Ok(record::find(&self.store, &self.name)?.map(|record| record.status))
    }

    /// Forgets the import, not what it imported: run again it begins at the beginning.
    /// False where there is none of this name.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub fn forget(self) -> Result<bool> {
        record::forget(&self.store, &self.name)
    }

    fn run<S: Source>(self, open: impl FnOnce(&Self) -> Result<S>) -> Result<ImportReport> {
        // Before the source, which may take long to open.
        let before = record::find(&self.store, &self.name)?;
        let mut source = open(&self)?;
        Run::new(self, &mut source, before).run()
    }

    /// Imports a file of JSON Lines, as [`Store::export_json_lines`] writes it: one entry
    /// a line, for example
    ///
    /// ```json
    /// {"scope": {"workflow": "order-42"}, "key": "config", "value": {"region": "eu"}}
    /// ```
    ///
    /// All lines are read and checked before the first one is imported: form, scope,
    /// limits of key and value.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) names file, line and column, and
    /// nothing was imported; [`Error::SourceChanged`](crate::Error::SourceChanged);
    /// [`Error::Io`](crate::Error::Io) where the file cannot be read;
    /// [`Error::Panicked`](crate::Error::Panicked) where the closure for the progress
    /// panics; [`Error::Busy`](crate::Error::Busy) where the same import is run twice at a
    /// time; and what [`Store::transact`] answers, as for a limit of a scope. After any of
    /// them the import can be run again and goes on.
    pub fn json_lines(self, path: impl AsRef<Path>) -> Result<ImportReport> {
        self.run(|import| Lines::of_file(import, path.as_ref(), line::read))
    }

    /// Imports a file of any JSON Lines through a function, which makes an entry of a
    /// line's value, or none. It is called twice for each line: once to check it.
    ///
    /// # Errors
    /// As [`json_lines`](Self::json_lines); an error of the function makes its line
    /// malformed.
    ///
    /// ```
    /// use evenkeel::{ImportEntry, Scope, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("users.jsonl");
    /// # std::fs::write(&path, "{\"id\": \"u1\", \"age\": 7}\n")?;
    /// let store = Store::in_memory();
    /// let report = store.import("users").json_lines_with(&path, |user| {
    ///     let id = user["id"].as_str().ok_or("a user has an id")?;
    ///     Ok(Some(ImportEntry::new(Scope::custom("users"), id, user.clone())))
    /// })?;
    /// assert_eq!(report.imported, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn json_lines_with<T: ImportItem>(
        self,
        path: impl AsRef<Path>,
        map: impl FnMut(serde_json::Value) -> Result<Option<T>, Cause>,
    ) -> Result<ImportReport> {
        self.run(|import| Lines::of_file(import, path.as_ref(), line::mapped(map)))
    }

    /// The same from a reader, such as a pipe. What it gives is copied to a temporary
    /// file first, so that it is checked as a file is.
    ///
    /// # Errors
    /// As [`json_lines`](Self::json_lines).
    ///
    /// ```
    /// use evenkeel::{Error, Store};
    /// let store = Store::in_memory();
    /// let lines = "{\"scope\": \"global\", \"key\": \"a\", \"value\": 1}\n{\"scope\": ";
    /// let refused = store.import("lines").json_lines_from(lines.as_bytes());
    /// assert!(matches!(refused, Err(Error::Malformed { line: 2, imported: 0, .. })));
    /// assert!(store.global().is_empty()?);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn json_lines_from(self, reader: impl Read) -> Result<ImportReport> {
        self.run(|import| Lines::of_reader(import, reader, line::read))
    }

    /// From a reader, through a function.
    ///
    /// # Errors
    /// As [`json_lines_with`](Self::json_lines_with).
    pub fn json_lines_from_with<T: ImportItem>(
        self,
        reader: impl Read,
        map: impl FnMut(serde_json::Value) -> Result<Option<T>, Cause>,
    ) -> Result<ImportReport> {
        self.run(|import| Lines::of_reader(import, reader, line::mapped(map)))
    }

    /// Imports what an iterator gives: see [`ImportItem`]. It is iterated once, so it is
    /// not checked before: what comes before a malformed item is imported. An import that
    /// goes on takes the items again that it took before, to compare them.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) with the number of an item that is an
    /// error or beyond a limit, and how many were imported before it;
    /// [`Error::Panicked`](crate::Error::Panicked) where the iterator panics; otherwise as
    /// [`json_lines`](Self::json_lines).
    pub fn entries<I>(self, entries: I) -> Result<ImportReport>
    where
        I: IntoIterator,
        I::Item: ImportItem,
    {
        self.run(|import| Ok(Entries::new(&import.store.shared, entries.into_iter())))
    }

    /// Imports a folder of sled 0.34 through a function, which makes an entry of the name
    /// of a tree, a key and its value, or none. Trees come in the order of their names
    /// (the default one is `__sled__default`), keys in theirs.
    ///
    /// The folder itself is not touched: sled writes when it opens one, so it opens a copy
    /// of it (see [`temporary_folder`](Self::temporary_folder)). Nobody else may have it
    /// open meanwhile. The image deadline of the store holds for each call of sled, and
    /// twenty times that for opening.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) names tree and key where the function
    /// fails or the entry is beyond a limit, and what came before is imported;
    /// [`Error::NotAStore`](crate::Error::NotAStore) where there is no database of sled's
    /// in the folder; [`Error::Locked`](crate::Error::Locked) while somebody has it open;
    /// [`Error::Corrupt`](crate::Error::Corrupt) where sled finds it damaged, hangs or
    /// panics; otherwise as [`entries`](Self::entries). What sled has lost without
    /// noticing is not there.
    ///
    /// ```
    /// use evenkeel::{Error, Scope, Store};
    /// # let folder = tempfile::tempdir()?;
    /// let store = Store::in_memory();
    /// let imported = store.import("old").sled(folder.path(), |tree: &[u8], key: &[u8], value: &[u8]| {
    ///     let scope = Scope::custom(std::str::from_utf8(tree)?);
    ///     Ok(Some((scope, std::str::from_utf8(key)?.to_owned(), std::str::from_utf8(value)?.to_owned())))
    /// });
    /// assert!(matches!(imported, Err(Error::NotAStore { .. }))); // it is empty
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sled<T: ImportItem>(
        self,
        folder: impl AsRef<Path>,
        map: impl FnMut(&[u8], &[u8], &[u8]) -> Result<Option<T>, Cause>,
    ) -> Result<ImportReport> {
        self.run(|import| Trees::open(import, folder.as_ref(), map))
    }
}

impl Store {
    /// An import under a name, which makes it restartable: how far it has come is kept in
    /// the store under this name. See [`Import`].
    pub fn import<'p>(&self, name: impl Into<String>) -> Import<'p> {
        Import::new(self, name.into())
    }

    /// The imports that ever ran here, by name, and how far they have come.
    ///
    /// # Errors
    /// As [`crate::ScopeHandle::scan`].
    ///
    /// ```
    /// use evenkeel::{Scope, Store};
    /// let store = Store::in_memory();
    /// store.import("seed").entries([(Scope::Global, "a", 1)])?;
    /// assert_eq!(store.imports()?.len(), 1);
    /// assert!(store.import("seed").forget()?);
    /// assert!(store.imports()?.is_empty());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn imports(&self) -> Result<Vec<(String, ImportStatus)>> {
        record::list(self)
    }
}
