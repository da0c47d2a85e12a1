//! Owns the handle of a scope inside a transaction: the transaction's own writes
//! over the state that it reads, and a record of what it read.

use std::collections::btree_map;
use std::fmt;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::cell::has_expired;
use crate::engine::Cell;
use crate::engine::part::Part;
use crate::engine::small_key::SmallKey;
use crate::engine::table::{Slot, Stored};
use crate::error::{Error, Result};
use crate::ids::{Lsn, Version};
use crate::scope::Scope;
use crate::state::cell;
use crate::state::entry::{Entry, Ready};
use crate::state::handle::{Place, Versioned, added, can_be, check_key, check_version};
use crate::state::options::Limits;
use crate::state::scan::{Keys, prefix_range};
use crate::state::transaction::{Transaction, writes_of_this_thread};
use crate::state::ttl::SetOptions;
use crate::value::Value;

/// A handle of one scope inside a transaction. The methods are those of
/// [`crate::ScopeHandle`]; nothing is written before the transaction commits.
///
/// ```
/// use evenkeel::{Scope, Store};
/// let store = Store::in_memory();
/// store.transact(|tx| {
///     let from = tx.scope(Scope::custom("a"));
///     let to = tx.scope(Scope::custom("b"));
///     from.increment("balance", -5)?;
///     to.increment("balance", 5)?;
///     Ok(())
/// })?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
pub struct TransactionScope<'a> {
    pub(super) transaction: &'a Transaction,
    pub(super) scope: Scope,
    place: Place,
}

impl<'a> TransactionScope<'a> {
    pub(super) fn new(transaction: &'a Transaction, scope: Scope, place: Place) -> Self {
        Self {
            transaction,
            scope,
            place,
        }
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The scope of a step of this workflow.
    #[must_use]
    pub fn step(&self, name: impl AsRef<str>) -> Self {
        let shared = &self.transaction.shared;
        let (scope, place) = Place::step(shared, &self.scope, name.as_ref());
        Self::new(self.transaction, scope, place)
    }

    pub(super) fn slot(&self) -> Result<&Arc<Slot>> {
        self.place.slot(&self.scope)
    }

    fn limits(&self) -> &Limits {
        &self.transaction.shared.settings.limits
    }

    pub(super) fn find(&self, key: &str) -> Result<Option<(Version, Cell)>> {
        self.find_cell(key.as_bytes())
    }

    /// The cell of a key that need not be text.
    pub(crate) fn find_cell(&self, key: &[u8]) -> Result<Option<(Version, Cell)>> {
        let slot = self.slot()?;
        let written = self.transaction.state.lock().written(slot, key);
        if let Some(cell) = written {
            // It has no version before the commit gives it one.
            let time = || self.transaction.view().time();
            let cell = cell.filter(|cell| !has_expired(cell, time));
            return Ok(cell.map(|cell| (Version::ZERO, Cell::Memory(cell))));
        }
        let found = self.transaction.view().read(slot, key)?;
        let mut state = self.transaction.state.lock();
        state.read_key(slot, key);
        if let Some((_, cell)) = &found {
            state.read_cell(cell);
        }
        Ok(found.map(|(lsn, cell)| (lsn.into(), cell)))
    }

    /// As [`crate::ScopeHandle::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        Ok(self
            .get_versioned(key)?
            .map(|found: Versioned<T>| found.value))
    }

    /// As [`crate::ScopeHandle::get_versioned`]; what the transaction wrote itself
    /// has version zero.
    ///
    /// # Errors
    /// As there.
    pub fn get_versioned<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
    ) -> Result<Option<Versioned<T>>> {
        let key = key.as_ref();
        let Some((version, cell)) = self.find(key)? else {
            return Ok(None);
        };
        let value = self.decode(key, &cell)?;
        Ok(Some(Versioned { value, version }))
    }

    /// As [`crate::ScopeHandle::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.find(key.as_ref())?.is_some())
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, cell: &[u8]) -> Result<T> {
        cell::decode(cell, &self.limits().codec(), (&self.scope, key))
    }

    /// Writes a value, which expires at this deadline.
    pub(super) fn put<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        deadline: Option<u64>,
    ) -> Result<()> {
        let cell = cell::encode(value, deadline, &self.limits().codec())?;
        self.write(key, Some(cell))
    }

    /// Makes a value out of the one that is there, and keeps its deadline. Gives `None`,
    /// and writes nothing, where the key was written in this transaction meanwhile: by
    /// another thread that has a handle of it, or by `change` itself.
    fn try_change<T: DeserializeOwned, U: Serialize>(
        &self,
        key: &str,
        change: impl FnOnce(Option<T>) -> Result<U>,
    ) -> Result<Option<U>> {
        let slot = self.slot()?;
        let before = self.transaction.state.lock().written(slot, key.as_bytes());
        let found = self.find(key)?;
        let old = found.as_ref().map(|(_, cell)| &**cell);
        let shared = &self.transaction.shared;
        let deadline = shared.deadline_after(slot, old)?;
        let old = old.map(|cell| self.decode(key, cell)).transpose()?;
        let new = change(old)?;
        let cell = cell::encode(&new, deadline, &self.limits().codec())?;
        check_key(key, self.limits(), &self.scope)?;
        let bytes_max = self.limits().transaction_bytes;
        let mut state = self.transaction.state.lock();
        if !same(&before, &state.written(slot, key.as_bytes())) {
            return Ok(None);
        }
        state.write(slot, key.as_bytes(), Some(cell), bytes_max)?;
        Ok(Some(new))
    }

    /// As [`update`](Self::update), with a change that may fail, and that runs again where
    /// other threads wrote the key in this transaction meanwhile.
    ///
    /// # Errors
    /// As there; [`Error::Conflict`] where `change` itself writes the key each time.
    pub(crate) fn change<T: DeserializeOwned, U: Serialize>(
        &self,
        key: &str,
        mut change: impl FnMut(Option<T>) -> Result<U>,
    ) -> Result<U> {
        let mut own = 0;
        while own < self.limits().transaction_attempts {
            let before = writes_of_this_thread();
            if let Some(new) = self.try_change(key, &mut change)? {
                return Ok(new);
            }
            // Other threads come to an end with what they write; a closure that writes the
            // key itself does so each time.
            own += u32::from(writes_of_this_thread() != before);
        }
        Err(self.raced(key))
    }

    fn raced(&self, key: &str) -> Error {
        Error::Conflict {
            scope: self.scope.to_string(),
            key: key.to_owned(),
            expected: Version::ZERO,
            found: Version::ZERO,
        }
    }

    pub(super) fn write(&self, key: &str, cell: Stored) -> Result<()> {
        let slot = self.slot()?;
        if cell.is_some() {
            check_key(key, self.limits(), &self.scope)?;
        }
        let bytes_max = self.limits().transaction_bytes;
        self.transaction
            .state
            .lock()
            .write(slot, key.as_bytes(), cell, bytes_max)
    }

    /// As [`crate::ScopeHandle::set`].
    ///
    /// # Errors
    /// As there, and [`Error::LimitExceeded`] for `transaction_bytes`.
    pub fn set<T: Serialize>(&self, key: impl AsRef<str>, value: T) -> Result<()> {
        self.set_with(key, value, SetOptions::new())
    }

    /// As [`crate::ScopeHandle::delete`].
    ///
    /// # Errors
    /// As there, and [`Error::LimitExceeded`] for `commit_bytes`: what one commit
    /// can be at all, 256 MiB. Delete in several transactions, or clear.
    pub fn delete(&self, key: impl AsRef<str>) -> Result<()> {
        match can_be(key.as_ref()) {
            true => self.write(key.as_ref(), None),
            false => self.slot().map(drop),
        }
    }

    /// As [`crate::ScopeHandle::clear`].
    ///
    /// # Errors
    /// As there.
    pub fn clear(&self) -> Result<()> {
        let slot = self.slot()?;
        let caches = self.transaction.shared.caches_of(&self.scope);
        let mut state = self.transaction.state.lock();
        state.clear(slot)?;
        state.clear(&caches)
    }

    /// As [`crate::ScopeHandle::increment`].
    ///
    /// # Errors
    /// As there.
    pub fn increment(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        let key = key.as_ref();
        self.change(key, |old| added(old, by, &self.scope, key))
    }

    /// As [`crate::ScopeHandle::merge`].
    ///
    /// # Errors
    /// As there.
    pub fn merge<T: Serialize>(&self, key: impl AsRef<str>, patch: T) -> Result<()> {
        let patch = Value::from_serialize(&patch)?;
        let merged = self.change(key.as_ref(), |old: Option<Value>| {
            let mut value = old.unwrap_or_default();
            value.merge(patch.clone());
            Ok(value)
        });
        merged.map(drop)
    }

    /// As [`crate::ScopeHandle::update`], but the closure runs once.
    ///
    /// # Errors
    /// As there, and [`Error::Conflict`], with nothing written, where the same key was
    /// written in this transaction meanwhile, by another thread or by the closure.
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        update: impl FnOnce(Option<T>) -> T,
    ) -> Result<T> {
        let key = key.as_ref();
        self.try_change(key, |old| Ok(update(old)))?
            .ok_or_else(|| self.raced(key))
    }

    /// As [`crate::ScopeHandle::compare_and_set`], but the new version is known only
    /// once the transaction has committed.
    ///
    /// # Errors
    /// As there.
    pub fn compare_and_set<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        expected: Version,
        value: T,
    ) -> Result<()> {
        let key = key.as_ref();
        let found = self
            .find(key)?
            .map_or(Version::ZERO, |(version, _)| version);
        let figures = &self.transaction.shared.engine.figures;
        check_version(&self.scope, key, expected, found).inspect_err(|e| figures.refused(e))?;
        self.set(key, value)
    }

    /// As [`crate::ScopeHandle::scan`], over the transaction's own writes too. The
    /// whole range counts as read: a key that appears in it is a lost race.
    ///
    /// # Errors
    /// As there.
    pub fn scan(&self, prefix: impl AsRef<str>) -> Result<TransactionScan<'a>> {
        let slot = Arc::clone(self.slot()?);
        let (from, to) = prefix_range(prefix.as_ref());
        self.transaction.view();
        let mut state = self.transaction.state.lock();
        state.read_range(&slot, &from, &to);
        let (own, cleared) = state.written_range(&slot, &from, &to);
        Ok(TransactionScan {
            transaction: self.transaction,
            slot,
            ready: Ready::new(Arc::new(self.scope.clone()), self.limits().codec()),
            own: own.into_iter().peekable(),
            part: Part::default(),
            from: (!cleared).then_some(from),
            to,
        })
    }

    /// Writes a cell under a key that need not be text, for the layers above, whose
    /// records have such keys.
    pub(crate) fn put_cell(&self, key: &[u8], cell: Arc<[u8]>) -> Result<()> {
        let slot = self.slot()?;
        let bytes_max = self.limits().transaction_bytes;
        let mut state = self.transaction.state.lock();
        state.write(slot, key, Some(cell), bytes_max)
    }

    /// Visits the cells whose keys begin with these bytes, in order, but for what this
    /// transaction wrote itself. The whole range counts as read.
    pub(crate) fn visit_cells(
        &self,
        prefix: &[u8],
        mut visitor: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let slot = self.slot()?;
        let (mut from, end) = prefix_range(prefix);
        self.transaction.state.lock().read_range(slot, &from, &end);
        loop {
            let (first, to) = (from.as_ref(), end.as_ref());
            let (first, to) = (first.map(Vec::as_slice), to.map(Vec::as_slice));
            let mut part = self.transaction.view().part(slot, first, to)?;
            while let Some(entry) = part.pop() {
                visitor(&entry.key(), entry.cell)?;
            }
            match part.next {
                Some(next) => from = Bound::Excluded(next),
                None => return Ok(()),
            }
        }
    }

    /// As [`crate::ScopeHandle::keys`].
    ///
    /// # Errors
    /// As there.
    pub fn keys(&self) -> Result<Keys> {
        let keys: Result<Vec<_>> = self
            .scan("")?
            .map(|entry| entry.map(|e| e.key().to_owned()))
            .collect();
        Ok(Keys(keys?.into_iter()))
    }

    /// How many keys there are. Reads the whole scope.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn len(&self) -> Result<u64> {
        self.scan("")?
            .try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    /// True where there are no keys. Reads the whole scope.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// True where a key was not written between the two.
fn same(before: &Option<Stored>, now: &Option<Stored>) -> bool {
    match (before, now) {
        (Some(Some(before)), Some(Some(now))) => Arc::ptr_eq(before, now),
        (Some(None), Some(None)) | (None, None) => true,
        _ => false,
    }
}

/// The entries of a scope as a transaction sees them. Made by
/// [`TransactionScope::scan`].
#[must_use = "a scan does nothing until it is iterated"]
pub struct TransactionScan<'a> {
    transaction: &'a Transaction,
    slot: Arc<Slot>,
    own: Peekable<btree_map::IntoIter<SmallKey, Stored>>,
    part: Part,
    ready: Ready,
    from: Option<Bound<Vec<u8>>>,
    to: Bound<Vec<u8>>,
}

/// What it reads, and not what it has read already.
impl fmt::Debug for TransactionScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionScan")
            .field("scope", self.ready.scope())
            .field("transaction", &self.transaction)
            .finish_non_exhaustive()
    }
}

impl TransactionScan<'_> {
    /// Sees to it that what the state has next is ready.
    fn fill(&mut self) -> Result<()> {
        while self.ready.front_key().is_none()
            && !self.ready.fill(&mut self.part)?
            && let Some(from) = self.from.take()
        {
            let from = from.as_ref().map(Vec::as_slice);
            let to = self.to.as_ref().map(Vec::as_slice);
            self.part = self.transaction.view().part(&self.slot, from, to)?;
            self.from = self.part.next.take().map(Bound::Excluded);
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            self.fill()?;
            let seen = self.ready.front_key();
            let mine = self.own.peek().map(|(key, _)| &**key);
            let (take_mine, same) = match (seen, mine) {
                (_, None) => (false, false),
                (None, Some(_)) => (true, false),
                (Some(seen), Some(mine)) => (mine <= seen, mine == seen),
            };
            let view = self.transaction.view();
            if !take_mine {
                let Some(entry) = self.ready.pop() else {
                    return Ok(None);
                };
                let cell = entry.cell();
                if has_expired(cell, || view.time()) {
                    continue;
                }
                self.transaction.state.lock().read_cell(cell);
                return Ok(Some(entry));
            }
            if same {
                self.ready.pop();
            }
            let Some((key, cell)) = self.own.next() else {
                return Ok(None);
            };
            if let Some(cell) = cell.filter(|cell| !has_expired(cell, || view.time())) {
                let entry = self.ready.one(key, Lsn::ZERO, Cell::Memory(cell));
                return entry.map(Some);
            }
        }
    }
}

impl Iterator for TransactionScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.from = None;
            self.part = Part::default();
            self.ready.clear();
        }
        next.transpose()
    }
}
