//! Owns what a migration is given: one scope, as the steps before it left it and with
//! what it has written itself, and the scopes that it joins.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::cell::{deadline, has_expired};
use crate::engine::Cell;
use crate::engine::table::Stored;
use crate::error::{Error, Result};
use crate::migrate::call::Call;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::entry::Ready;
use crate::state::handle::check_key;
use crate::state::scan::prefix_range;
use crate::state::schema::layers::{Entries, scope_of};
use crate::state::{Entry, Keys, SetOptions};

/// A scope as a [migration](crate::StateMigration) sees and changes it: what it writes it
/// reads back, and nobody else sees it before the whole chain has succeeded.
///
/// The methods take `&self`, so handles of several scopes may be used at once. What a call
/// does to its scope and to those that it joins is one transaction.
///
/// Some failures cannot be passed over: reaching for a scope that is not declared, using
/// up the budget, a limit of the store, a value that cannot be written, a read that finds
/// damage. They fail the migration, also where it drops the error and returns `Ok`.
///
/// ```
/// use evenkeel::{MigrationScope, Result, StateMigration, Store};
/// struct SplitName;
/// impl StateMigration for SplitName {
///     fn version(&self) -> u32 { 2 }
///     fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
///         if let Some(name) = state.get::<String>("name")? {
///             let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
///             state.set("first", first)?;
///             state.set("last", last)?;
///             state.remove("name")?;
///         }
///         Ok(())
///     }
/// }
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::open(&path)?;
/// store.global().set("name", "Ada Lovelace")?;
/// store.close()?;
/// let store = Store::builder().migration(SplitName).open(&path)?;
/// assert_eq!(store.global().get("last")?, Some("Lovelace".to_owned()));
/// assert!(!store.global().contains("name")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MigrationScope<'a> {
    call: &'a Call,
    scope: Arc<Scope>,
    prefix: Vec<u8>,
}

/// Which scope it is; neither keys nor values.
impl fmt::Debug for MigrationScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationScope")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl<'a> MigrationScope<'a> {
    pub(super) fn new(call: &'a Call, scope: Scope) -> Self {
        Self {
            prefix: scope.encode(),
            scope: Arc::new(scope),
            call,
        }
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The value of a key; `None` where it is not there or has expired.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`; what reading the store may answer.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let key = key.as_ref();
        let found = self.find(key)?;
        found.map(|cell| self.decode(key, &cell)).transpose()
    }

    /// True where the key is there.
    ///
    /// # Errors
    /// What reading the store may answer.
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        Ok(self.find(key.as_ref())?.is_some())
    }

    /// The keys that are there now, in order. They are all in memory: of a scope with very
    /// many, [`scan`](Self::scan) is the way to see them one by one.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn keys(&self) -> Result<Keys> {
        let keys: Result<Vec<_>> = self
            .scan("")?
            .map(|entry| entry.map(|e| e.key().to_owned()))
            .collect();
        Ok(Keys(keys?.into_iter()))
    }

    /// The entries whose keys begin with `prefix`, in order, one by one; all for `""`. What
    /// is written while it goes on is not in it.
    ///
    /// # Errors
    /// What reading the store may answer.
    pub fn scan(&self, prefix: impl AsRef<str>) -> Result<MigrationScan<'a>> {
        let range = prefix_range(prefix.as_ref());
        let mut own = self.call.written_to(&self.prefix);
        own.retain(|key, _| key.starts_with(prefix.as_ref().as_bytes()));
        Ok(MigrationScan {
            call: self.call,
            // Each entry is by itself.
            ready: Ready::new(
                Arc::clone(&self.scope),
                self.call.shared.settings.limits.codec(),
            ),
            entries: Some(self.call.stack.entries(&self.prefix, range, own)),
        })
    }

    /// How many keys there are. Reads the whole scope.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn len(&self) -> Result<u64> {
        self.scan("")?
            .try_fold(0, |count, entry| entry.map(|_| count + 1))
    }

    /// True where there are no keys.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.scan("")?.next().transpose()?.is_none())
    }

    /// Sets a key. One that is there keeps its deadline; a new one lasts as long as the
    /// scope's default says. What is there already, byte for byte, is not written.
    ///
    /// # Errors
    /// [`Error::Serialize`]; [`Error::LimitExceeded`] for a limit of the store or the
    /// budget of the migration.
    pub fn set<T: Serialize>(&self, key: impl AsRef<str>, value: T) -> Result<()> {
        let key = key.as_ref();
        let old = self.find(key)?;
        let slot = self.call.shared.engine.slot(&self.prefix);
        let deadline = self.call.shared.deadline_after(&slot, old.as_deref());
        self.put(key, (&value, deadline), old)
    }

    /// Sets a key, which lasts as long as the options say, whether it was there or not.
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::Invalid`] for a TTL of zero.
    ///
    /// ```
    /// # use evenkeel::{MigrationScope, Result, SetOptions};
    /// fn migrate(state: &mut MigrationScope) -> Result<()> {
    ///     state.set_with("token", "x", SetOptions::new().forever())
    /// }
    /// ```
    pub fn set_with<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        value: T,
        options: SetOptions,
    ) -> Result<()> {
        let key = key.as_ref();
        let old = self.find(key)?;
        let slot = self.call.shared.engine.slot(&self.prefix);
        let deadline = self.call.shared.deadline(&slot, options);
        self.put(key, (&value, deadline), old)
    }

    fn put<T: Serialize>(
        &self,
        key: &str,
        (value, deadline): (&T, Result<Option<u64>>),
        old: Option<Cell>,
    ) -> Result<()> {
        let codec = self.call.shared.settings.limits.codec();
        let encoded = deadline.and_then(|deadline| cell::encode(value, deadline, &codec));
        let cell = self.call.faulty(encoded)?;
        match old.is_some_and(|old| *old == *cell) {
            true => Ok(()),
            false => self.write(key, Some(cell)),
        }
    }

    /// Removes a key. True where it was there.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] for the budget of the migration; what reading the store may
    /// answer.
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool> {
        let key = key.as_ref();
        let there = self.contains(key)?;
        if there {
            self.write(key, None)?;
        }
        Ok(there)
    }

    /// Gives the value of a key another key, with its deadline. False where `from` is not
    /// there.
    ///
    /// # Errors
    /// [`Error::Invalid`] where `to` is there already, and nothing is changed; otherwise as
    /// [`set`](Self::set).
    pub fn rename(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<bool> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let Some(cell) = self.find(from)? else {
            return Ok(false);
        };
        if from == to {
            return Ok(true);
        }
        if self.contains(to)? {
            return Err(Error::Invalid {
                what: "key",
                reason: format!(
                    "{from:?} cannot be renamed to {to:?}, which is in {} already",
                    self.scope
                ),
            });
        }
        self.write(to, Some(Arc::from(&*cell)))?;
        self.write(from, None)?;
        Ok(true)
    }

    /// Makes a value of another type out of the one that is there, with its deadline.
    /// False where the key is not there.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not an `Old`, what `convert` answers, and as
    /// [`set`](Self::set).
    ///
    /// ```
    /// # use evenkeel::{MigrationScope, Result};
    /// fn migrate(state: &mut MigrationScope) -> Result<()> {
    ///     state.convert("retries", |old: String| Ok(old.parse::<u32>().unwrap_or(0)))?;
    ///     Ok(())
    /// }
    /// ```
    pub fn convert<Old: DeserializeOwned, New: Serialize>(
        &self,
        key: impl AsRef<str>,
        convert: impl FnOnce(Old) -> Result<New>,
    ) -> Result<bool> {
        let key = key.as_ref();
        let Some(old) = self.find(key)? else {
            return Ok(false);
        };
        let new = convert(self.decode(key, &old)?)?;
        self.put(key, (&new, Ok(deadline(&old))), Some(old))?;
        Ok(true)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// As [`remove`](Self::remove), for each of them.
    pub fn clear(&self) -> Result<()> {
        for entry in self.scan("")? {
            self.write(entry?.key(), None)?;
        }
        Ok(())
    }

    /// A further scope, in the same transaction. It need not have keys.
    ///
    /// # Errors
    /// [`Error::Undeclared`] where [`StateMigration::joins`](crate::StateMigration::joins)
    /// does not name it; [`Error::LimitExceeded`] where its ids are too long.
    pub fn joined(&self, scope: Scope) -> Result<Self> {
        let visited = scope == self.call.visited;
        let allowed = match visited || self.call.joins.contains(&scope) {
            true => scope.validate(),
            false => Err(Error::Undeclared {
                scope: scope.to_string(),
            }),
        };
        self.call.faulty(allowed)?;
        Ok(Self::new(self.call, scope))
    }

    /// The scopes that are joined to the visited one and have keys, in order. It looks at
    /// all scopes of the store.
    ///
    /// # Errors
    /// What reading the store may answer.
    pub fn joined_scopes(&self) -> Result<Vec<Scope>> {
        self.call.faulty(self.find_joined())
    }

    fn find_joined(&self) -> Result<Vec<Scope>> {
        let mut joined = Vec::new();
        let mut see = |prefix: &[u8]| {
            let scope = scope_of(prefix)?;
            let other = scope != self.call.visited && self.call.joins.contains(&scope);
            if other
                && self
                    .call
                    .stack
                    .is_live(prefix, self.call.written_to(prefix))?
            {
                joined.push(scope);
            }
            Ok::<_, Error>(())
        };
        // Whoever joins one scope to many does not look at the many each time.
        if let Some(listed) = self.call.joins.listed() {
            for scope in listed {
                see(&scope.encode())?;
            }
            return Ok(joined);
        }
        let mut staged = self.call.stack.scopes(None);
        let mut next = staged.advance()?;
        let mut own = self.call.next_scope_written(&[]);
        loop {
            let first = match (&next, &own) {
                (Some(next), Some(own)) => next.min(own).clone(),
                (Some(one), None) | (None, Some(one)) => one.clone(),
                (None, None) => return Ok(joined),
            };
            see(&first)?;
            if next.as_ref() == Some(&first) {
                next = staged.advance()?;
            }
            if own.as_ref() == Some(&first) {
                own = self.call.next_scope_written(&first);
            }
        }
    }

    /// A value as it is stored, with its deadline.
    pub(crate) fn find(&self, key: &str) -> Result<Option<Cell>> {
        self.call.touch(&self.scope, key)?;
        match self.call.written(&self.full(key)) {
            Some(cell) => {
                let cell = cell.map(Cell::Memory);
                Ok(cell.filter(|cell| !has_expired(cell, || self.call.shared.engine.now())))
            }
            None => {
                let found = self.call.stack.find(&self.prefix, key.as_bytes());
                self.call.faulty(found)
            }
        }
    }

    /// Writes a value as it is stored, with the deadline that is in it; or removes it.
    pub(crate) fn write(&self, key: &str, cell: Stored) -> Result<()> {
        self.call.touch(&self.scope, key)?;
        let limits = &self.call.shared.settings.limits;
        let allowed = match cell {
            Some(_) => check_key(key, limits, &self.scope),
            None => Ok(()),
        };
        let written = allowed.and_then(|()| self.call.write(self.full(key), cell));
        self.call.faulty(written)
    }

    fn full(&self, key: &str) -> Vec<u8> {
        [&self.prefix, key.as_bytes()].concat()
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, cell: &[u8]) -> Result<T> {
        let codec = self.call.shared.settings.limits.codec();
        let decoded = cell::decode(cell, &codec, (&self.scope, key));
        match decoded {
            // A migration may ask for one type and then for another.
            Err(e @ Error::TypeMismatch { .. }) => Err(e),
            outcome => self.call.faulty(outcome),
        }
    }
}

/// The entries of a scope as a migration sees them. Made by [`MigrationScope::scan`].
///
/// ```
/// # use evenkeel::{MigrationScope, Result};
/// fn migrate(state: &mut MigrationScope) -> Result<()> {
///     for entry in state.scan("old.")? {
///         let entry = entry?;
///         state.rename(entry.key(), entry.key().replace("old.", "new."))?;
///     }
///     Ok(())
/// }
/// ```
#[must_use = "a scan does nothing until it is iterated"]
pub struct MigrationScan<'a> {
    call: &'a Call,
    ready: Ready,
    /// `None` behind the end.
    entries: Option<Entries>,
}

/// What it reads, and not what it has read already.
impl fmt::Debug for MigrationScan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationScan")
            .field("scope", self.ready.scope())
            .finish_non_exhaustive()
    }
}

impl MigrationScan<'_> {
    fn advance(&mut self) -> Result<Option<Entry>> {
        let Some(entries) = &mut self.entries else {
            return Ok(None);
        };
        let Some((key, lsn, cell)) = entries.advance()? else {
            return Ok(None);
        };
        let entry = self.ready.one(key.into(), lsn, cell)?;
        self.call.touch(self.ready.scope(), entry.key())?;
        Ok(Some(entry))
    }
}

impl Iterator for MigrationScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.call.faulty(self.advance());
        if !matches!(next, Ok(Some(_))) {
            // Asked again it is at its end.
            self.entries = None;
        }
        next.transpose()
    }
}
