//! Owns the handle of a scope: reading and writing single keys.

use std::fmt::{self, Display};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::CodecLimits;
use crate::codec::cell::deadline;
use crate::codec::scratch::Scratch;
use crate::engine::table::Slot;
use crate::engine::{Batch, Op, SlotBatch};
use crate::error::{Error, Result};
use crate::ids::{Lsn, Version};
use crate::scope::Scope;
use crate::state::cell;
use crate::state::key::{Key, KeyHandle};
use crate::state::options::{Durability, KEY_BYTES_BOUND, Limits};
use crate::state::scan::{Keys, Scan};
use crate::state::store::{Begun, Shared, Store};
use crate::state::transaction;
use crate::state::ttl::SetOptions;
use crate::sync::atomic::{AtomicI64, Ordering};
use crate::value::Value;

/// A value and the version of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versioned<T> {
    /// The value.
    pub value: T,
    /// Which commit wrote it.
    pub version: Version,
}

/// A handle of one scope of a store. Cheap to clone; it keeps the store open.
///
/// A key is any string of up to `Limits::key_bytes` bytes. Everything that writes
/// returns when the commit is as durable as the store says.
///
/// ```
/// use evenkeel::{Scope, Store};
/// use serde_json::json;
/// let store = Store::in_memory();
/// let order = store.scope(Scope::workflow("order-42"));
/// order.set("config", json!({"region": "eu"}))?;
/// order.merge("config", json!({"tier": 2}))?;
/// assert_eq!(order.increment("attempts", 1)?, 1);
/// order.update("retries", |n: Option<u32>| n.unwrap_or(0) + 1)?;
/// let seen = order.get_versioned::<u32>("retries")?.expect("set above");
/// order.compare_and_set("retries", seen.version, 9)?;
/// assert!(order.compare_and_set("retries", seen.version, 10).is_err());
/// order.step("charge").set("progress", 0.5)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct ScopeHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) scope: Arc<Scope>,
    place: Place,
    pub(super) durability: Durability,
}

/// Of which scope it is, of which store; neither keys nor values.
impl fmt::Debug for ScopeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeHandle")
            .field("scope", &self.scope)
            .field("durability", &self.durability)
            .field("engine", &self.shared.engine)
            .finish()
    }
}

/// Where a scope's keys are, or why there can be none.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Slot(Arc<Slot>),
    /// Its ids are too long.
    TooLong,
    /// A step was asked of a scope that has no steps.
    NoSteps,
}

impl Place {
    pub(super) fn of(shared: &Shared, scope: &Scope) -> Self {
        if scope.validate().is_err() {
            return Self::TooLong;
        }
        let mut prefix = Scratch::take();
        scope.encode_into(&mut prefix);
        Self::Slot(shared.engine.slot(&prefix))
    }

    #[inline]
    pub(super) fn slot(&self, scope: &Scope) -> Result<&Arc<Slot>> {
        let reason = match self {
            Self::Slot(slot) => return Ok(slot),
            Self::TooLong => {
                scope.validate()?;
                "its ids are too long".into()
            }
            Self::NoSteps => format!("{scope} has no steps; only workflows have"),
        };
        Err(Error::Invalid {
            what: "scope",
            reason,
        })
    }

    /// The scope of a step, and where it is.
    pub(super) fn step(shared: &Shared, scope: &Scope, step: &str) -> (Scope, Self) {
        match scope {
            Scope::Workflow(workflow) => {
                let step = Scope::step(workflow, step);
                let place = Self::of(shared, &step);
                (step, place)
            }
            other => (other.clone(), Self::NoSteps),
        }
    }
}

/// Checks that a key may be written to a scope, or to what is beside it.
pub(crate) fn check_key(key: &str, limits: &Limits, at: &impl Display) -> Result<()> {
    match key.len() > limits.key_bytes {
        false => Ok(()),
        true => Err(Error::LimitExceeded {
            limit: "key_bytes",
            max: limits.key_bytes as u64,
            actual: key.len() as u64,
            at: at.to_string(),
        }),
    }
}

/// True where there may be such a key, under whatever limits it was written.
pub(super) fn can_be(key: &str) -> bool {
    key.len() <= KEY_BYTES_BOUND
}

impl ScopeHandle {
    pub(super) fn new(shared: Arc<Shared>, scope: Scope, durability: Durability) -> Self {
        Self {
            place: Place::of(&shared, &scope),
            shared,
            scope: Arc::new(scope),
            durability,
        }
    }

    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same scope, whose commits are acknowledged at another durability.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability,
            ..self.clone()
        }
    }

    /// The scope of a step of this workflow. A handle of another kind of scope
    /// gives one that answers [`Error::Invalid`].
    #[must_use]
    pub fn step(&self, name: impl AsRef<str>) -> Self {
        let (scope, place) = Place::step(&self.shared, &self.scope, name.as_ref());
        Self {
            scope: Arc::new(scope),
            place,
            ..self.clone()
        }
    }

    /// A handle of a key that was declared with its type.
    #[must_use]
    pub fn key<T>(&self, key: Key<T>) -> KeyHandle<'_, T> {
        KeyHandle { scope: self, key }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn store(&self) -> Store {
        Store::of(Arc::clone(&self.shared), self.durability)
    }

    /// Checks that there can be such a scope.
    pub(super) fn check(&self) -> Result<()> {
        self.place.slot(&self.scope).map(drop)
    }

    #[inline]
    pub(super) fn enter(&self) -> Result<&Arc<Slot>> {
        self.shared.enter()?;
        self.place.slot(&self.scope)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.shared.settings.limits
    }

    pub(super) fn codec(&self) -> CodecLimits {
        self.limits().codec()
    }

    /// The value of a key; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let key = key.as_ref();
        let slot = self.enter()?;
        let Some((_, cell)) = self.shared.engine.read(slot, key.as_bytes())? else {
            return Ok(None);
        };
        let value = cell::read(&cell, &self.codec()).map(Some);
        value.map_err(|unread| unread.of(&self.scope, key))
    }

    /// The value of a key and its version.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn get_versioned<T: DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
    ) -> Result<Option<Versioned<T>>> {
        let key = key.as_ref();
        let slot = self.enter()?;
        let Some((lsn, cell)) = self.shared.engine.read(slot, key.as_bytes())? else {
            return Ok(None);
        };
        let value = cell::read(&cell, &self.codec());
        let value = value.map_err(|unread| unread.of(&self.scope, key))?;
        Ok(Some(Versioned {
            value,
            version: lsn.into(),
        }))
    }

    /// True where the key has a value, of whatever type.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        let slot = self.enter()?;
        Ok(self
            .shared
            .engine
            .read(slot, key.as_ref().as_bytes())?
            .is_some())
    }

    /// Sets a key to any value that serde can serialise. `None` is a value, null. It
    /// lasts as long as the scope's default says, or for ever.
    ///
    /// # Errors
    /// [`Error::Serialize`] and [`Error::LimitExceeded`] before anything is written.
    pub fn set<T: Serialize>(&self, key: impl AsRef<str>, value: T) -> Result<()> {
        self.set_with(key, value, SetOptions::new())
    }

    /// Removes a key. No error where there is none. It is never refused for its size,
    /// whatever the limits are and however full the scope is.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`]; [`Error::Busy`] while the memtable cannot
    /// be emptied or the log not be trimmed, as for any commit.
    pub fn delete(&self, key: impl AsRef<str>) -> Result<()> {
        let key = key.as_ref();
        let slot = self.enter()?;
        match can_be(key) {
            true => self.write_to(slot, key, Op::Delete).map(drop),
            false => Ok(()),
        }
    }

    /// Removes all keys of this scope, and the entries of its [caches](Self::cache), at
    /// once. A workflow's steps are scopes of their own and stay.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn clear(&self) -> Result<()> {
        let slot = Arc::clone(self.enter()?);
        let caches = self.shared.caches_of(&self.scope);
        self.commit([slot, caches].map(SlotBatch::clearing))
            .map(drop)
    }

    /// Adds to an integer and returns the new value; a key without a value counts
    /// as 0. Never loses a race, so it never runs twice. The key's deadline stays.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where the value is not an integer,
    /// [`Error::LimitExceeded`] where the sum does not fit an `i64`.
    pub fn increment(&self, key: impl AsRef<str>, by: i64) -> Result<i64> {
        let key = key.as_ref();
        let fresh = self.shared.deadline_after(self.enter()?, None)?;
        let (scope, limits) = (Arc::clone(&self.scope), self.codec());
        let name = key.to_owned();
        let outcome = Arc::new(AtomicI64::new(0));
        let sum = Arc::clone(&outcome);
        let modify = move |old: Option<(Lsn, &[u8])>| {
            let deadline = old.map_or(fresh, |(_, old)| deadline(old));
            let old = old.map(|(_, old)| cell::decode::<i64>(old, &limits, (&scope, &name)));
            let new = added(old.transpose()?, by, &scope, &name)?;
            sum.store(new, Ordering::SeqCst);
            cell::encode(&new, deadline, &limits).map(Some)
        };
        self.write(key, Op::Modify(Box::new(modify)))?;
        Ok(outcome.load(Ordering::SeqCst))
    }

    /// Merges into a value: a map key by key, at every depth; anything else is
    /// replaced. Never loses a race. The key's deadline stays.
    ///
    /// # Errors
    /// [`Error::Serialize`], [`Error::LimitExceeded`].
    pub fn merge<T: Serialize>(&self, key: impl AsRef<str>, patch: T) -> Result<()> {
        let key = key.as_ref();
        let fresh = self.shared.deadline_after(self.enter()?, None)?;
        let (scope, limits) = (Arc::clone(&self.scope), self.codec());
        let name = key.to_owned();
        let patch = Value::from_serialize(&patch)?;
        let modify = move |old: Option<(Lsn, &[u8])>| {
            let deadline = old.map_or(fresh, |(_, old)| deadline(old));
            let mut value = match old {
                Some((_, old)) => cell::decode(old, &limits, (&scope, &name))?,
                None => Value::Null,
            };
            value.merge(patch.clone());
            cell::encode(&value, deadline, &limits).map(Some)
        };
        self.write(key, Op::Modify(Box::new(modify))).map(drop)
    }

    /// Sets a key if it still has the version that was seen; [`Version::ZERO`] for
    /// "if there is no such key". Returns the new version.
    ///
    /// # Errors
    /// [`Error::Conflict`] where somebody wrote it since.
    pub fn compare_and_set<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        expected: Version,
        value: T,
    ) -> Result<Version> {
        let key = key.as_ref();
        let (scope, name) = (Arc::clone(&self.scope), key.to_owned());
        let deadline = self.shared.deadline(self.enter()?, SetOptions::new())?;
        let cell = cell::encode(&value, deadline, &self.codec())?;
        let modify = move |old: Option<(Lsn, &[u8])>| {
            let found = old.map_or(Version::ZERO, |(lsn, _)| lsn.into());
            check_version(&scope, &name, expected, found)?;
            Ok(Some(Arc::clone(&cell)))
        };
        self.write(key, Op::Modify(Box::new(modify)))
            .map(Version::from)
    }

    /// Reads a key, computes and writes it, all or nothing. The closure gets `None`
    /// where there is no value, may run several times, and holds no lock. Returns
    /// what was written. The key's deadline stays.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`], [`Error::Serialize`], [`Error::LimitExceeded`],
    /// [`Error::Panicked`].
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: impl AsRef<str>,
        mut update: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        let key = key.as_ref();
        self.enter()?;
        let begun = self.shared.begin(self.durability);
        let (value, lsn) = transaction::run(&self.shared, |tx| {
            let scope = tx.scope(Scope::clone(&self.scope));
            scope.update(key, &mut update)
        })?;
        if let Some(lsn) = lsn {
            self.shared.acknowledge(lsn, self.durability, begun)?;
        }
        Ok(value)
    }

    /// The entries whose keys begin with `prefix`, in the order of their bytes, as
    /// they are now: what is written later is not seen. An empty prefix gives all. The
    /// first of them are read at once, the others as they come up.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`]; each entry may be an
    /// error too, as [`Error::ViewExpired`] once the memory that the scan holds is needed.
    pub fn scan(&self, prefix: impl AsRef<str>) -> Result<Scan> {
        let slot = Arc::clone(self.enter()?);
        let scope = Arc::clone(&self.scope);
        Scan::new(&self.shared, slot, scope, prefix.as_ref())
    }

    /// All keys, in order, as they are now. They are gathered before this returns.
    ///
    /// # Errors
    /// As [`scan`](Self::scan) and its entries.
    pub fn keys(&self) -> Result<Keys> {
        self.scan("")?.into_keys()
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn len(&self) -> Result<u64> {
        let slot = self.enter()?;
        Ok(self.shared.engine.size_now(slot)?.keys())
    }

    /// True where there are no keys.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The bytes of keys and stored values.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn bytes(&self) -> Result<u64> {
        let slot = self.enter()?;
        Ok(self.shared.engine.size_now(slot)?.bytes())
    }

    pub(super) fn write(&self, key: &str, op: Op) -> Result<Lsn> {
        let slot = self.enter()?;
        check_key(key, self.limits(), &self.scope)?;
        self.write_to(slot, key, op)
    }

    fn write_to(&self, slot: &Arc<Slot>, key: &str, op: Op) -> Result<Lsn> {
        let writes = SlotBatch::of(Arc::clone(slot), [(key.as_bytes(), op)]);
        self.commit([writes])
    }

    fn commit(&self, writes: impl IntoIterator<Item = SlotBatch>) -> Result<Lsn> {
        let begun = self.begin();
        let lsn = self.shared.commit(Batch::of(writes))?;
        self.acknowledge(lsn, begun)?;
        Ok(lsn)
    }

    /// As [`Shared::begin`], at the durability of this handle.
    pub(super) fn begin(&self) -> Option<Begun> {
        self.shared.begin(self.durability)
    }

    /// As [`Shared::acknowledge`].
    pub(super) fn acknowledge(&self, lsn: Lsn, begun: Option<Begun>) -> Result<()> {
        self.shared.acknowledge(lsn, self.durability, begun)
    }
}

/// The sum, if it fits.
pub(crate) fn added(old: Option<i64>, by: i64, scope: &Scope, key: &str) -> Result<i64> {
    let old = old.unwrap_or(0);
    old.checked_add(by).ok_or_else(|| Error::LimitExceeded {
        limit: "integer",
        max: i64::MAX.unsigned_abs(),
        actual: old.unsigned_abs().saturating_add(by.unsigned_abs()),
        at: format!("key {key:?} in {scope}"),
    })
}

/// A conflict, unless the version is the one that was expected.
pub(super) fn check_version(
    scope: &Scope,
    key: &str,
    expected: Version,
    found: Version,
) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::Conflict {
            scope: scope.to_string(),
            key: key.to_owned(),
            expected,
            found,
        }),
    }
}
