//! Owns caches: a bounded number of entries beside a scope, of which the one that was
//! not used for longest makes room for the next. Entries are in the store; which was
//! used when is in memory.
//!
//! The entries of all caches of a scope are in one scope of the store's own, so that
//! clearing the scope clears them in the same commit, without a look at any of them. A
//! key there is the cache's name, behind its length, and the entry's key.

mod compute;
pub(super) mod kept;
mod recency;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::cell::deadline;
use crate::engine::Cell;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::{COMPONENT_BYTES_MAX, Scope};
use crate::state::cell;
use crate::state::handle::{ScopeHandle, check_key};
use crate::state::options::Durability;
use crate::state::scan::{Keys, Scan};
use crate::state::ttl::SetOptions;
use crate::sync::atomic::Ordering;

use kept::{Kept, count};

/// How many entries a cache may have that was not told.
const CAPACITY: u64 = 10_000;

/// How many caches that nobody holds are known at least.
const CACHES_KEPT: usize = 64;

/// A cache beside a scope: persistent entries, so many at most. Made by
/// [`ScopeHandle::cache`]; cheap to clone, and it keeps the store open.
///
/// ```
/// use evenkeel::{Scope, Store};
/// use serde_json::{Value, json};
/// use std::time::Duration;
/// # fn load(user: &str) -> Value { json!({"name": user}) }
/// let store = Store::in_memory();
/// let profiles = store
///     .scope(Scope::worker("w"))
///     .cache("profiles")
///     .capacity(1000)
///     .ttl(Duration::from_secs(3600));
/// profiles.insert("user-1", json!({"name": "Ada"}))?;
/// assert_eq!(profiles.get::<Value>("user-1")?, Some(json!({"name": "Ada"})));
/// let other: Value = profiles.get_or_insert_with("user-2", || load("user-2"))?;
/// assert_eq!(other["name"], "user-2");
/// assert_eq!(profiles.len()?, 2);
/// let stats = profiles.stats()?;
/// assert_eq!((stats.hits, stats.misses), (1, 1));
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// - **Bounded**: there are never more entries than the capacity, for whoever looks. An
///   insertion and the eviction that makes room for it are one commit. What has expired
///   does not count and goes first; then goes the entry that was not used for longest.
///   What is refused, because it is too large for one, evicts nothing.
/// - **Used** is what was inserted, and what [`get`](Self::get) or
///   [`get_or_insert_with`](Self::get_or_insert_with) has found. That is known in memory
///   only: a `get` writes nothing. After a restart the order is that of the insertions.
/// - **Of its own**: the entries are no keys of the scope. They are not in its `keys`,
///   `scan` or `len`, nor in a watch, and no key reaches them. But clearing the scope
///   clears its caches, in the same commit: [`ScopeHandle::clear`]. A default TTL of the
///   scope is not for them.
/// - **Shared**: handles of the same name and scope are one cache: its entries, its
///   recency, its counts, its [capacity](Self::capacity). Only TTL and durability are a
///   handle's own.
/// - **In memory** an entry takes about 150 bytes and its key. The keys are read from the
///   store when something is first inserted or counted, not the values. Of caches that
///   no handle holds at least 64 stay known; of others recency and counts may be
///   forgotten, and the order is then again that of the insertions.
///
/// Like any other call of a store it is refused inside of a transaction's closure.
#[derive(Clone, Debug)]
pub struct Cache {
    /// The scope that it is beside.
    scope: ScopeHandle,
    name: Arc<str>,
    /// `None` where there can be no such cache.
    kept: Option<Arc<Kept>>,
    /// This handle was given a capacity of zero.
    zero: bool,
    ttl: Option<Duration>,
}

/// What became of a cache since the store was opened. Made by [`Cache::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// How many reads found their entry. A call of `get_or_insert_with` that waited for
    /// another one counts as a hit.
    pub hits: u64,
    /// How many reads found none. Each call of `get_or_insert_with` that computed, or
    /// tried to, is one.
    pub misses: u64,
    /// How many entries were inserted, those that were replaced too.
    pub insertions: u64,
    /// How many entries made room for others; not those that expired or were removed.
    pub evictions: u64,
    /// How many entries there are.
    pub entries: u64,
    /// How many there may be.
    pub capacity: u64,
}

impl CacheStats {
    /// The part of the reads that found their entry, from 0 to 1; 0 where there were
    /// none.
    ///
    /// ```
    /// let cache = evenkeel::Store::in_memory().global().cache("c");
    /// cache.insert("a", 1)?;
    /// let (_, _) = (cache.get::<i32>("a")?, cache.get::<i32>("b")?);
    /// assert_eq!(cache.stats()?.hit_ratio(), 0.5);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn hit_ratio(&self) -> f64 {
        match self.hits.saturating_add(self.misses) {
            0 => 0.0,
            reads => self.hits as f64 / reads as f64,
        }
    }
}

/// A cache as errors name it.
impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cache {:?} of {}", self.name, self.scope.scope())
    }
}

impl ScopeHandle {
    /// The cache of this name beside this scope, with a capacity of 10,000 entries that
    /// do not expire, unless it is told otherwise. It need not be made, and this reads
    /// nothing. See [`Cache`].
    ///
    /// A name has up to 1,024 bytes; one that is longer, and a scope that cannot be, are
    /// refused when the cache is used.
    ///
    /// ```
    /// let store = evenkeel::Store::in_memory();
    /// let pages = store.global().cache("pages").capacity(2);
    /// for (page, text) in [("/a", "A"), ("/b", "B"), ("/c", "C")] {
    ///     pages.insert(page, text)?;
    /// }
    /// assert_eq!(pages.get::<String>("/a")?, None);
    /// assert_eq!(pages.len()?, 2);
    /// assert!(store.global().is_empty()?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn cache(&self, name: impl AsRef<str>) -> Cache {
        let name = name.as_ref();
        let possible = self.check().is_ok() && name.len() <= COMPONENT_BYTES_MAX;
        let kept = possible.then(|| {
            let shared = self.shared();
            shared.caches.get(&shared.caches_of(self.scope()), name)
        });
        Cache {
            scope: self.clone(),
            name: name.into(),
            kept,
            zero: false,
            ttl: None,
        }
    }
}

impl Cache {
    /// How many entries there may be: from now on, for all handles of this cache, until
    /// one is given another capacity. Where there are more, the next insertion evicts
    /// down to it.
    ///
    /// It is not stored: a program gives it whenever it opens the store, before it
    /// inserts anything. Default 10,000. Zero is refused with [`Error::Invalid`] when
    /// this handle is used.
    #[must_use]
    pub fn capacity(mut self, entries: u64) -> Self {
        self.zero = entries == 0;
        if let Some(kept) = &self.kept
            && entries > 0
        {
            kept.set_capacity(entries);
        }
        self
    }

    /// What is inserted by this handle, or a clone of it, expires so long after its
    /// insertion; reading it does not make that later. Default never. Zero is refused with
    /// [`Error::Invalid`] when the handle is used; what is beyond the end of time never
    /// expires ([`SetOptions::ttl`]).
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self {
            ttl: Some(ttl),
            ..self
        }
    }

    /// The same cache, whose commits are acknowledged at another durability.
    ///
    /// ```
    /// use evenkeel::{Durability, Store};
    /// let cache = Store::in_memory().global().cache("c").with_durability(Durability::Memory);
    /// cache.insert("a", 1)?; // what a crash may take is no loss
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            scope: self.scope.with_durability(durability),
            ..self.clone()
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The scope that it is beside.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.scope.scope()
    }

    /// Checks that it can be used here and now.
    fn enter(&self) -> Result<&Kept> {
        self.scope.enter()?;
        let invalid = |what, reason: &str| Error::Invalid {
            what,
            reason: format!("that of {self} is zero, {reason}"),
        };
        if self.zero {
            return Err(invalid("capacity", "so it could hold nothing; give it 1"));
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(invalid("ttl", "so its entries would never be there"));
        }
        self.kept.as_deref().ok_or_else(|| Error::LimitExceeded {
            limit: "cache_name_bytes",
            max: COMPONENT_BYTES_MAX as u64,
            actual: self.name.len() as u64,
            at: self.scope.scope().to_string(),
        })
    }

    fn find(&self, kept: &Kept, key: &str) -> Result<Option<(Lsn, Cell)>> {
        let engine = &self.scope.shared().engine;
        engine.read(&kept.slot, kept.full(key).as_bytes())
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, cell: &[u8]) -> Result<T> {
        cell::decode(cell, &self.scope.codec(), (self, key))
    }

    /// The value of an entry; `None` where there is none. Counts as a hit or a miss, and
    /// the entry as used. Writes nothing.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`; [`Error::Invalid`] for a capacity
    /// or a TTL of zero; [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let (kept, key) = (self.enter()?, key.as_ref());
        let Some((lsn, cell)) = self.find(kept, key)? else {
            count(&kept.misses, 1);
            return Ok(None);
        };
        kept.used(key, lsn.into(), deadline(&cell));
        self.decode(key, &cell).map(Some)
    }

    /// The value of an entry, without a trace: it counts neither as a hit or a miss nor
    /// as used.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn peek<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let (kept, key) = (self.enter()?, key.as_ref());
        let found = self.find(kept, key)?;
        found.map(|(_, cell)| self.decode(key, &cell)).transpose()
    }

    /// True where there is an entry, of whatever type. Without a trace, as
    /// [`peek`](Self::peek).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        let found = self.find(self.enter()?, key.as_ref())?;
        Ok(found.is_some())
    }

    /// Inserts an entry, or replaces the one that is there, and evicts what has to make
    /// room for it: one commit, as durable as the store or the handle says when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Serialize`] and [`Error::LimitExceeded`] before anything is written or
    /// evicted; [`Error::Invalid`] for a capacity or a TTL of zero; [`Error::Busy`],
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn insert<T: Serialize>(&self, key: impl AsRef<str>, value: T) -> Result<()> {
        let (kept, key) = (self.enter()?, key.as_ref());
        self.check_key(key)?;
        let cell = self.encode(kept, &value)?;
        let begun = self.scope.begin();
        let lsn = {
            let _writing = kept.writing.lock();
            self.write(kept, key, cell)?
        };
        self.scope.acknowledge(lsn, begun)
    }

    fn check_key(&self, key: &str) -> Result<()> {
        check_key(key, self.scope.limits(), self)
    }

    fn encode<T: Serialize>(&self, kept: &Kept, value: &T) -> Result<Arc<[u8]>> {
        let options = match self.ttl {
            Some(ttl) => SetOptions::new().ttl(ttl),
            None => SetOptions::new().forever(),
        };
        let deadline = self.scope.shared().deadline(&kept.slot, options)?;
        cell::encode(value, deadline, &self.scope.codec())
    }

    /// How many entries there are, without those that have expired.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a capacity or a TTL of zero; [`Error::Closed`],
    /// [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn len(&self) -> Result<u64> {
        self.entries(self.enter()?)
    }

    /// True where there are no entries.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The keys of all entries, in the order of their bytes. They are gathered before this
    /// returns.
    ///
    /// # Errors
    /// As [`ScopeHandle::keys`].
    pub fn keys(&self) -> Result<Keys> {
        let kept = self.enter()?;
        let keys = self
            .scan(kept)?
            .map(|entry| Ok(write::own_key(kept, &entry?).to_owned()));
        let keys: Result<Vec<_>> = keys.collect();
        Ok(Keys(keys?.into_iter()))
    }

    fn scan(&self, kept: &Kept) -> Result<Scan> {
        let scope = Arc::new(self.scope.scope().caches());
        let slot = Arc::clone(&kept.slot);
        Scan::new(&self.scope.shared, slot, scope, &kept.prefix)
    }

    /// What became of it since the store was opened.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn stats(&self) -> Result<CacheStats> {
        let kept = self.enter()?;
        Ok(CacheStats {
            hits: kept.hits.load(Ordering::Relaxed),
            misses: kept.misses.load(Ordering::Relaxed),
            insertions: kept.insertions.load(Ordering::Relaxed),
            evictions: kept.evictions.load(Ordering::Relaxed),
            entries: self.entries(kept)?,
            capacity: kept.capacity(),
        })
    }
}
