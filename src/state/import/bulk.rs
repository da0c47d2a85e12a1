//! Owns loading in bulk: entries are gathered into large commits, which are not waited
//! for one by one; the disk is waited for once in a while.
//!
//! What must stay true: a commit that fails leaves its entries where they were, so that
//! the same call can be made again; and no entry is counted before its commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::handle::{Place, check_key};
use crate::state::import::entry::{ImportEntry, ImportItem};
use crate::state::import::{ImportPhase, ImportProgress};
use crate::state::options::Durability;
use crate::state::store::{Shared, Store};
use crate::state::transaction::{self, Transaction};
use crate::state::transaction_scope::TransactionScope;
use crate::state::ttl::SetOptions;

/// The size of a batch, unless something else is said.
const BATCH_BYTES: usize = 1024 * 1024;
/// The most entries of a batch: what is committed at once holds other writers up.
const BATCH_ENTRIES: usize = 4096;
/// What a transaction may need beside its entries: an import's own record.
const RECORD_BYTES: usize = 8 * 1024;
/// What an entry takes in memory beside its key and its value.
const ENTRY_BYTES: usize = 64;
/// After so many bytes the disk is waited for.
const SYNC_BYTES: usize = 16 * 1024 * 1024;

/// A batch is handed to the kernel at once, so that a kill costs at most one.
const WRITTEN: Durability = Durability::Interval(Duration::from_secs(1));

/// An entry that has passed all limits, ready to be written.
#[derive(Debug)]
pub(super) struct Prepared {
    scope: Scope,
    key: String,
    pub(super) cell: Arc<[u8]>,
}

impl Prepared {
    pub(super) fn new<T: Serialize + ?Sized>(
        shared: &Shared,
        (scope, key): (&Scope, &str),
        value: &T,
        options: SetOptions,
    ) -> Result<Self> {
        let limits = &shared.settings.limits;
        let place = Place::of(shared, scope);
        let slot = place.slot(scope)?;
        check_key(key, limits, scope)?;
        let deadline = shared.deadline(slot, options)?;
        let cell = cell::encode(value, deadline, &limits.codec())?;
        let (actual, max) = (key.len() + cell.len(), transaction_bytes(shared));
        if actual > max {
            return Err(Error::LimitExceeded {
                limit: "transaction_bytes",
                max: max as u64,
                actual: actual as u64,
                at: format!("key {key:?} in {scope}"),
            });
        }
        Ok(Self {
            scope: scope.clone(),
            key: key.to_owned(),
            cell,
        })
    }

    pub(super) fn of(shared: &Shared, entry: &ImportEntry) -> Result<Self> {
        let place = (&entry.scope, &*entry.key);
        Self::new(shared, place, &entry.value, entry.options)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.cell.len()
    }
}

/// What entries may take of a transaction.
fn transaction_bytes(shared: &Shared) -> usize {
    let bytes = shared.settings.limits.transaction_bytes;
    bytes.saturating_sub(RECORD_BYTES).max(bytes / 2)
}

/// Entries that wait to be committed, and what became of those before them.
#[derive(Debug)]
pub(super) struct Batches {
    pub(super) shared: Arc<Shared>,
    pub(super) batch_bytes: usize,
    /// Keys that are there already are left as they are.
    pub(super) keep_existing: bool,
    waiting: Vec<Prepared>,
    waiting_bytes: usize,
    pub(super) done: Done,
    /// Committed bytes since the disk was waited for.
    unsynced_bytes: usize,
    /// Commits that may not be durable yet, and the entries up to each.
    pending: VecDeque<(Lsn, u64)>,
    durable: u64,
}

/// What was committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) entries: u64,
    pub(super) kept: u64,
    pub(super) bytes: u64,
}

impl Batches {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            batch_bytes: BATCH_BYTES,
            keep_existing: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            done: Done::default(),
            unsynced_bytes: 0,
            pending: VecDeque::new(),
            durable: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True where the entry would make the batch too large.
    pub(super) fn is_full_for(&self, entry: &Prepared) -> bool {
        let bytes = self.waiting_bytes + entry.bytes() + ENTRY_BYTES * self.waiting.len();
        let most = self.batch_bytes.min(transaction_bytes(&self.shared));
        !self.waiting.is_empty() && (bytes > most || self.waiting.len() >= BATCH_ENTRIES)
    }

    pub(super) fn push(&mut self, entry: Prepared) {
        self.waiting_bytes += entry.bytes();
        self.waiting.push(entry);
    }

    /// Commits what waits, and what `also` writes, as one transaction. `also` is given
    /// what is done once this is.
    pub(super) fn commit(&mut self, also: impl Fn(&Transaction, Done) -> Result<()>) -> Result<()> {
        let mut done = self.done;
        let ((), lsn) = transaction::run(&self.shared, |tx| {
            let mut kept = 0;
            let mut last: Option<TransactionScope<'_>> = None;
            for entry in &self.waiting {
                let same = last.take().filter(|scope| *scope.scope() == entry.scope);
                let scope = same.unwrap_or_else(|| tx.scope(entry.scope.clone()));
                match self.keep_existing && scope.find(&entry.key)?.is_some() {
                    true => kept += 1,
                    false => scope.write(&entry.key, Some(Arc::clone(&entry.cell)))?,
                }
                last = Some(scope);
            }
            done = Done {
                entries: self.done.entries + self.waiting.len() as u64 - kept,
                kept: self.done.kept + kept,
                bytes: self.done.bytes + self.waiting_bytes as u64,
            };
            also(tx, done)
        })?;
        self.done = done;
        self.unsynced_bytes += self.waiting_bytes + ENTRY_BYTES * self.waiting.len();
        self.waiting.clear();
        self.waiting_bytes = 0;
        let Some(lsn) = lsn else { return Ok(()) };
        self.pending.push_back((lsn, done.entries));
        match self.unsynced_bytes >= SYNC_BYTES {
            true => self.settle(),
            false => self.shared.acknowledge(lsn, WRITTEN, None),
        }
    }

    /// Waits until all that was committed is durable.
    pub(super) fn settle(&mut self) -> Result<()> {
        if let Some(&(last, _)) = self.pending.back() {
            self.shared.acknowledge(last, Durability::Sync, None)?;
        }
        self.unsynced_bytes = 0;
        Ok(())
    }

    /// How many of the committed entries are known to be durable.
    pub(super) fn durable(&mut self) -> u64 {
        let durable = self.shared.engine.durable();
        while let Some((_, entries)) = self.pending.pop_front_if(|(lsn, _)| *lsn <= durable) {
            self.durable = entries;
        }
        self.durable
    }
}

/// Loads many entries fast: they are gathered into large commits, and the disk is waited
/// for once in a while instead of once a commit. Made by [`Store::bulk`].
///
/// What it has committed can be seen by all; what it has durable survives, whatever
/// becomes of it: [`progress`](Self::progress) tells both. Each batch is there whole or
/// not at all. Dropping it without [`finish`](Self::finish) gives up what it has not
/// committed yet, at most one batch. It does not know, after a restart, how far it had
/// come: an [import](Store::import) does.
///
/// A call that fails leaves out the entry that it was given and keeps those before it, so
/// it can be made again, for example after [`Error::Busy`].
///
/// ```
/// use evenkeel::{Scope, Store};
/// # let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path().join("state"))?;
/// let mut loader = store.bulk();
/// let stock = Scope::custom("stock");
/// for n in 0..10_000_u32 {
///     loader.set(&stock, format!("part-{n:05}"), n % 7)?;
/// }
/// let report = loader.finish()?; // durable now, all of it
/// assert_eq!(report.entries, 10_000);
/// assert_eq!(store.scope(stock).len()?, 10_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it gives up what it has not committed yet"]
pub struct BulkLoader {
    batches: Batches,
}

/// What a [`BulkLoader`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BulkReport {
    /// The entries that were written; a key that was set twice counts twice.
    pub entries: u64,
    /// The bytes of their keys and encoded values.
    pub bytes: u64,
}

impl BulkLoader {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            batches: Batches::new(shared),
        }
    }

    /// How many bytes of keys and values are committed at once, at most; an entry that is
    /// larger by itself is a commit. Default 1 MiB, and never more than 4,096 entries or
    /// `transaction_bytes`. It is also what waits in memory.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batches.batch_bytes = bytes;
        self
    }

    /// Sets a key, soon: it is seen once its batch is committed.
    ///
    /// # Errors
    /// For this entry [`Error::Serialize`] and [`Error::LimitExceeded`]; for the batch
    /// before it what [`Store::transact`] answers. The entry is then left out.
    pub fn set<T: Serialize>(
        &mut self,
        scope: &Scope,
        key: impl AsRef<str>,
        value: T,
    ) -> Result<()> {
        self.set_with(scope, key, value, SetOptions::new())
    }

    /// The same with options: see [`SetOptions`]. A TTL counts from this call.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::Invalid`] for a TTL of zero.
    pub fn set_with<T: Serialize>(
        &mut self,
        scope: &Scope,
        key: impl AsRef<str>,
        value: T,
        options: SetOptions,
    ) -> Result<()> {
        self.batches.shared.enter()?;
        let place = (scope, key.as_ref());
        let entry = Prepared::new(&self.batches.shared, place, &value, options)?;
        self.put(entry)
    }

    fn put(&mut self, entry: Prepared) -> Result<()> {
        if self.batches.is_full_for(&entry) {
            self.batches.commit(|_, _| Ok(()))?;
        }
        self.batches.push(entry);
        Ok(())
    }

    /// Sets all of an iterator's, in its order: see [`ImportItem`].
    ///
    /// # Errors
    /// As [`set`](Self::set); [`Error::Aborted`] with what an item itself failed with.
    /// The items before that one are kept.
    ///
    /// ```
    /// use evenkeel::{Scope, Store};
    /// let store = Store::in_memory();
    /// let mut loader = store.bulk();
    /// loader.extend((0..3).map(|n| (Scope::Global, format!("n{n}"), n)))?;
    /// assert_eq!(loader.finish()?.entries, 3);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn extend<I>(&mut self, items: I) -> Result<()>
    where
        I: IntoIterator,
        I::Item: ImportItem,
    {
        for item in items {
            self.batches.shared.enter()?;
            let entry = item.into_entry().map_err(own)?;
            self.put(Prepared::of(&self.batches.shared, &entry)?)?;
        }
        Ok(())
    }

    /// Commits what waits and returns when all is durable.
    ///
    /// # Errors
    /// As [`Store::transact`]; the entries wait on.
    pub fn flush(&mut self) -> Result<()> {
        self.batches.commit(|_, _| Ok(()))?;
        self.batches.settle()
    }

    /// How far it has come.
    pub fn progress(&mut self) -> ImportProgress {
        let Done { entries, bytes, .. } = self.batches.done;
        ImportProgress {
            phase: ImportPhase::Importing,
            entries,
            durable: self.batches.durable(),
            items: entries,
            bytes,
            bytes_total: None,
        }
    }

    /// Commits what waits and ends. All is durable when it returns.
    ///
    /// # Errors
    /// As [`Store::transact`]. What waited is then given up: call
    /// [`flush`](Self::flush) before it where that is to be tried again.
    pub fn finish(mut self) -> Result<BulkReport> {
        self.flush()?;
        let Done { entries, bytes, .. } = self.batches.done;
        Ok(BulkReport { entries, bytes })
    }
}

/// An error of an item, which may be one of ours.
fn own(cause: super::entry::Cause) -> Error {
    match cause.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::Aborted(other),
    }
}

impl Store {
    /// A loader for many entries at once. See [`BulkLoader`].
    pub fn bulk(&self) -> BulkLoader {
        BulkLoader::new(&self.shared)
    }
}
