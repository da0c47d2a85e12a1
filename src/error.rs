//! Owns the error type of the crate. One kind for each thing that a caller can do
//! about it; what exactly happened is in the fields and in `source()`.
//! Imports only `ids`.

mod work;

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use crate::ids::{Lsn, SegmentId, StoreId, Version};

pub use work::WorkError;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, sorted by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else wrote what this operation relied on. Read again and try again.
    #[error(
        "conflict in {scope} at key {key:?}: expected version {expected}, found {found}; read it again and retry"
    )]
    Conflict {
        /// The scope of the key, as text.
        scope: String,
        /// The key.
        key: String,
        /// The version that the caller expected; zero for "absent".
        expected: Version,
        /// The version that is there; zero for "absent".
        found: Version,
    },

    /// The store was closed. Open it again.
    #[error("the store is closed; open it again")]
    Closed,

    /// A write or a sync failed, so nothing is acknowledged any more. Drop the
    /// store and open it again: that recovers all that was acknowledged.
    #[error("the store stopped after a failed write ({reason}); close it and reopen the folder")]
    Poisoned {
        /// The failure that stopped it.
        reason: String,
    },

    /// The folder is in use, by another process or by another `Store` in this one.
    #[error("{} is in use by another store; close that one first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },

    /// The path is not a store, and not a place where one can be made.
    #[error("{} is not a store: {reason}", path.display())]
    NotAStore {
        /// The path.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },

    /// The folder was written by a newer version of this crate. It was left untouched.
    #[error(
        "{} has format {found}, this version reads up to {supported}; use a newer version of evenkeel",
        path.display()
    )]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },

    /// Bytes on disk are not what was written. Restore a backup, or open with
    /// `Salvage` to keep what can be kept and be told what cannot.
    #[error(transparent)]
    Corrupt(Box<Corruption>),

    /// The operating system refused something.
    #[error("cannot {op} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The disk is too full to open the store; all that was acknowledged is still in
    /// it. Make room, then open it again.
    #[error(
        "the disk is full: opening {} needs {needed} bytes of room; make room, then open it again",
        path.display()
    )]
    DiskFull {
        /// The folder that has to be written to.
        path: PathBuf,
        /// Free bytes with which it opens.
        needed: u64,
    },

    /// A limit would be exceeded; nothing was written. Raise the limit, or write less.
    #[error("{limit} is limited to {max}, this would need {actual} ({at})")]
    LimitExceeded {
        /// The name of the limit, as in `Limits`.
        limit: &'static str,
        /// The limit in force.
        max: u64,
        /// What would be needed.
        actual: u64,
        /// Where: the scope, key or path inside a value.
        at: String,
    },

    /// A scope holds more than it may, because its quota or the store's limits were
    /// lowered, and this would make it hold even more; nothing was written. Reads,
    /// deletes, clears, and whatever makes it no larger go on. Delete from it, or raise
    /// its quota.
    #[error(
        "{scope} is quarantined: its {limit} are {held} and limited to {max} by {by}, this would make it {actual}; delete from it, or raise its quota"
    )]
    Quarantined {
        /// The scope, as text.
        scope: String,
        /// The name of the limit, as in `Limits`.
        limit: &'static str,
        /// The limit in force.
        max: u64,
        /// Who set it: the scope's own quota, that of its kind, or the store's limits.
        by: &'static str,
        /// What the scope holds.
        held: u64,
        /// What it would hold.
        actual: u64,
    },

    /// An argument has no meaning here; nothing was done.
    #[error("invalid {what}: {reason}")]
    Invalid {
        /// The argument.
        what: &'static str,
        /// Why it cannot be.
        reason: String,
    },

    /// A value cannot be represented; nothing was written.
    #[error("cannot serialise the value at {path}: {reason}")]
    Serialize {
        /// Where inside the value, as in `.items[3].price`; `.` for the whole.
        path: String,
        /// Why.
        reason: String,
    },

    /// A stored value is not of the type that was asked for. It is unchanged.
    #[error("the value of key {key:?} in {scope} does not match at {path}: {reason}")]
    TypeMismatch {
        /// The scope of the key, as text.
        scope: String,
        /// The key.
        key: String,
        /// Where inside the value, as in `.items[3].price`; `.` for the whole.
        path: String,
        /// What was found and what was expected.
        reason: String,
    },

    /// The closure of a transaction gave up by [`Error::abort`]; nothing was written.
    #[error("the transaction was rolled back: {0}")]
    Aborted(Box<dyn StdError + Send + Sync>),

    /// A closure panicked; nothing was written and the store goes on.
    #[error("a closure panicked and was rolled back: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },

    /// No factory makes a resource of this type. Register one with
    /// `Builder::resource` or `Builder::scope_resource`.
    #[error("no factory makes {resource}; register one before the store is opened")]
    NoResource {
        /// The type that was asked for.
        resource: &'static str,
    },

    /// The factory of a resource failed. Nothing was kept; it may be asked for again.
    #[error("the factory of {resource} failed: {source}")]
    ResourceFailed {
        /// The type that it makes.
        resource: &'static str,
        /// What the factory said.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The closure that was to compute a value of a cache failed. Nothing was inserted;
    /// it may be asked for again.
    #[error("computing the value of key {key:?} in {cache} failed: {source}")]
    ComputeFailed {
        /// The cache, as text.
        cache: String,
        /// The key.
        key: String,
        /// What the closure said.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A store was used inside a closure of its own transaction. Use the
    /// transaction's handle, or move the call out of the closure.
    #[error("the store was used inside its own transaction; use the transaction's handle")]
    Nested,

    /// A scan or transaction was open for so long that what it reads had to make
    /// room. Start it again.
    #[error("the view is too old and its versions are gone; start the scan or transaction again")]
    ViewExpired,

    /// The log does not reach back to where a watch stands: it was trimmed behind a
    /// snapshot, and what was in it is not known, not even whether the watch wanted any of
    /// it. Read the state in a transaction and go on from its LSN; a consumer with a cursor
    /// moves it there in that transaction, by `Transaction::advance_cursor`. Asked again,
    /// the watch goes on behind `scan_from`.
    #[error(
        "the log begins at LSN {oldest}, the changes before it are gone; read the state at LSN {scan_from} or later, and watch from there"
    )]
    Trimmed {
        /// The first LSN that the log still has.
        oldest: Lsn,
        /// What was missed is in every state of this LSN or a later one.
        scan_from: Lsn,
    },

    /// A watch of a store without a folder was slower than its buffer is large. Read
    /// the state in a transaction and go on from its LSN; asked again, the watch goes
    /// on behind `scan_from`.
    #[error(
        "the watch was too slow: the changes behind LSN {after} are gone up to LSN {scan_from}; read the state at that LSN or later, and watch from there"
    )]
    Lagged {
        /// The last LSN that the watch had passed.
        after: Lsn,
        /// What was missed is in every state of this LSN or a later one.
        scan_from: Lsn,
    },

    /// A cursor only moves forward: another consumer, or this one before it was
    /// restarted, has been there. What this transaction did is done already; nothing
    /// was written.
    #[error("cursor {name:?} is at LSN {at} and cannot be advanced to {to}: that is done already")]
    CursorPassed {
        /// The name of the cursor.
        name: String,
        /// Where it stands.
        at: Lsn,
        /// Where it was to go.
        to: Lsn,
    },

    /// An entry of an import is not what can be imported: a line that is no JSON or of
    /// another form, a key, scope or value beyond its limit, what an iterator or a mapping
    /// function answered. Mend it, or say [`skip_malformed`](crate::Import::skip_malformed).
    ///
    /// Lines are checked before the first one is imported, so `imported` is then what an
    /// earlier run of the same import had done, and 0 in the first. An iterator and a
    /// folder of sled's are not: what came before the entry is imported.
    #[error("cannot import {at}: {source}; {}", so_far(*imported))]
    Malformed {
        /// Where it stands: file, line and column, or tree and key.
        at: String,
        /// The line, or the number of the entry in its source. The first one is 1.
        line: u64,
        /// The byte in the line, from 1; 0 where there is no such place.
        column: u64,
        /// The entries that were imported before it, in all runs.
        imported: u64,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The source of an import is not the one that it was begun with. What was imported
    /// stays. Say [`restart`](crate::Import::restart) to begin again with this one, or
    /// give the import another name.
    #[error(
        "import {name:?} cannot go on: {reason}; restart it, or import this source under another name"
    )]
    SourceChanged {
        /// The name of the import.
        name: String,
        /// What differs.
        reason: String,
    },

    /// The image is one of a backend that this program was built without. The store was left
    /// untouched. Build it with the feature, or choose a backend by `Builder::image`: the
    /// image is built anew with it, where a snapshot and the log behind it are there.
    #[error(
        "the image in {} is one of a FileBackend; build with evenkeel's feature `{feature}`",
        path.display()
    )]
    MissingFeature {
        /// The folder of the image.
        path: PathBuf,
        /// The feature of this crate that brings the backend.
        feature: &'static str,
    },

    /// The state was written by a newer version of the program than this one, which knows
    /// migrations up to `supported` only. It was left untouched. Use the newer program, or
    /// take the state back with it first, by `Migrations::revert_to`.
    #[error(
        "the state in {} has schema version {found}, this program knows versions up to {supported}; use the newer program, or revert the state with it",
        path.display()
    )]
    NewerSchema {
        /// The folder of the store.
        path: PathBuf,
        /// The schema version of the state.
        found: u32,
        /// The newest one that the program knows.
        supported: u32,
    },

    /// The migrations of a program do not form a chain without gaps and doubles that
    /// reaches the state; nothing was done. Register what is missing, or give it another
    /// version.
    #[error("the migrations do not form a chain at version {version}: {reason}")]
    BrokenChain {
        /// The version that is missing, double, or cannot be.
        version: u32,
        /// What is wrong with it.
        reason: String,
    },

    /// The state is of an older version than the program, and migrations run by command
    /// only. Run them by `Migrations::run`.
    #[error(
        "the state in {} has schema version {found}, this program needs {wanted}; run its migrations first",
        path.display()
    )]
    MigrationNeeded {
        /// The folder of the store.
        path: PathBuf,
        /// The schema version of the state.
        found: u32,
        /// The one that the program needs.
        wanted: u32,
    },

    /// A migration, or its way back, failed. The state is as it was before the first
    /// migration of the chain began. Mend the migration, and try again.
    #[error("migration {version} ({name}) failed in {scope}{}: {source}", at_key(key.as_deref()))]
    MigrationFailed {
        /// The version that the migration brings the state to, or from which it was to go
        /// back.
        version: u32,
        /// The name of the migration.
        name: String,
        /// The scope that it was in, as text.
        scope: String,
        /// The key that it read or wrote last there.
        key: Option<String>,
        /// What went wrong: what the migration returned, a panic, a write outside of its
        /// scopes, a limit or its budget.
        source: Box<Error>,
    },

    /// A migration reached for a scope that it did not declare; nothing was written. Name
    /// the scope in `StateMigration::scopes` or `StateMigration::joins`.
    #[error("{scope} is not among the scopes that the migration declares; declare it")]
    Undeclared {
        /// The scope, as text.
        scope: String,
    },

    /// A migration has no way back. The state is as it was. Write its `revert`, or restore
    /// a backup.
    #[error("migration {version} ({name}) has no way back; write its revert, or restore a backup")]
    Irreversible {
        /// The version that the migration brings the state to.
        version: u32,
        /// The name of the migration.
        name: String,
    },

    /// What has to hold of the state did not hold after the migrations. The state is as it
    /// was.
    #[error("the migrated state breaks the invariant {name:?}: {reason}")]
    InvariantBroken {
        /// The name of the invariant.
        name: String,
        /// What the invariant said.
        reason: String,
    },

    /// Work was stopped by the answer to its progress. What it does is whole or not at
    /// all; call it again to go on.
    #[error("{what} was stopped as its progress was answered; call it again to go on")]
    Stopped {
        /// The work.
        what: &'static str,
    },

    /// There is something where a folder was to be made; it was left alone. Choose another
    /// place, or remove it.
    #[error("{} is there already and is not an empty folder; choose another place", path.display())]
    Occupied {
        /// The place.
        path: PathBuf,
    },

    /// The folder holds no backups. It was left alone.
    #[error("{} holds no backups: {reason}", path.display())]
    NotABackup {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },

    /// The folder holds backups of another store. It was left alone. Give each store a
    /// folder of its own.
    #[error("{} holds backups of store {found}, not of {expected}; use another folder", path.display())]
    ForeignBackup {
        /// The folder.
        path: PathBuf,
        /// The store that the backups are of.
        found: StoreId,
        /// The store that was to be backed up.
        expected: StoreId,
    },

    /// The backups do not reach what was asked for; nothing was made. Ask for something
    /// that they have.
    #[error("the backups in {} have no {wanted}: {reason}", path.display())]
    NotInBackup {
        /// The folder of the backups.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// What there is.
        reason: String,
    },

    /// A flow cannot be as it is described; nothing was added, connected or registered.
    /// `source` is a [`FlowProblem`](crate::FlowProblem), or
    /// [`FlowProblems`](crate::FlowProblems) where all of them are told.
    #[error("flow {flow:?} cannot be: {source}")]
    InvalidFlow {
        /// The name of the flow.
        flow: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// Something cannot be done with a flow, a worker or a job.
    #[error(transparent)]
    Work(#[from] WorkError),

    /// The store cannot take more at the moment. Wait, then try again.
    #[error("the store is busy: {reason}; try again later")]
    Busy {
        /// What it waits for.
        reason: String,
    },
}

/// The key that something was done at, if it was at one.
fn at_key(key: Option<&str>) -> String {
    key.map_or_else(String::new, |key| format!(" at key {key:?}"))
}

/// How far an import had come.
fn so_far(imported: u64) -> String {
    match imported {
        0 => "nothing was imported".into(),
        1 => "1 entry was imported before it".into(),
        more => format!("{more} entries were imported before it"),
    }
}

/// Damage: which file, where in it, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged{}: {what}", path.display(), self.place())]
#[non_exhaustive]
pub struct Corruption {
    /// The file or folder.
    pub path: PathBuf,
    /// The segment of the log, where it is one.
    pub segment: Option<SegmentId>,
    /// The byte offset in the file, where there is one.
    pub offset: Option<u64>,
    /// The first LSN that the damage concerns, where it is known.
    pub lsn: Option<Lsn>,
    /// What was found.
    pub what: String,
}

impl Corruption {
    pub(crate) fn new(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            segment: None,
            offset: None,
            lsn: None,
            what: what.into(),
        }
    }

    pub(crate) fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    pub(crate) fn segment(mut self, segment: SegmentId) -> Self {
        self.segment = Some(segment);
        self
    }

    pub(crate) fn lsn(mut self, lsn: Lsn) -> Self {
        self.lsn = Some(lsn);
        self
    }

    fn place(&self) -> String {
        let mut place = String::new();
        if let Some(segment) = self.segment {
            place.push_str(&format!(", segment {segment}"));
        }
        if let Some(offset) = self.offset {
            place.push_str(&format!(", offset {offset}"));
        }
        if let Some(lsn) = self.lsn {
            place.push_str(&format!(", LSN {lsn}"));
        }
        place
    }
}

impl From<Corruption> for Error {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(Box::new(corruption))
    }
}

impl Error {
    /// Gives up a transaction: returned from the closure, it rolls everything
    /// back, and the caller of `transact` gets `e` in [`Error::Aborted`].
    ///
    /// ```
    /// use evenkeel::{Error, Store};
    /// let store = Store::in_memory();
    /// let result = store.transact(|tx| {
    ///     tx.global().set("a", 1)?;
    ///     Err::<(), _>(Error::abort("out of stock"))
    /// });
    /// assert!(matches!(result, Err(Error::Aborted(e)) if e.to_string() == "out of stock"));
    /// assert_eq!(store.global().get::<u32>("a")?, None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn abort(e: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Aborted(e.into())
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io {
            op,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// True where the disk had no room, or its user may not have more of it.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::DiskFull { .. } => true,
            Self::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }

    /// True where the same call may succeed if it is made again as it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Conflict { .. }
                | Self::ViewExpired
                | Self::Busy { .. }
                | Self::Work(WorkError::SlotFull { .. })
        )
    }
}
