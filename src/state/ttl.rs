//! Owns when values expire, as a user says and asks it: the options of a write, the
//! deadline of a key, and the default of a scope.
//!
//! A scope's default is kept in the store's own scope of settings, and in memory
//! beside the scope, so that a write finds it without a look-up.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::cell::{NEVER, deadline};
use crate::engine::Op;
use crate::engine::table::Slot;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::handle::ScopeHandle;
use crate::state::key::KeyHandle;
use crate::state::settings;
use crate::state::store::Shared;
use crate::state::transaction;
use crate::state::transaction_scope::TransactionScope;
use crate::sync::atomic::Ordering;

/// What the key of a scope's default begins with, among the settings.
pub(super) const SETTING: &str = "ttl/";

/// How a value is written: for how long.
///
/// Times are store time: microseconds since 1970 by the clock of the store, which
/// never go back, whatever the clock does. A value whose time has come is absent from
/// then on, and is removed by a commit of the store's own.
///
/// ```
/// use evenkeel::{Scope, SetOptions, Store};
/// use std::time::Duration;
/// let store = Store::in_memory();
/// let order = store.scope(Scope::workflow("order-42"));
/// order.set_with("token", "x", SetOptions::new().ttl(Duration::from_secs(60)))?;
/// assert!(order.ttl("token")? <= Some(Duration::from_secs(60)));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SetOptions {
    lasts: Lasts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lasts {
    #[default]
    AsTheScopeSays,
    For(Duration),
    Until(u64),
    Forever,
}

impl SetOptions {
    /// As `set` does it: the value lasts as long as the scope's default says, or for
    /// ever.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lasts: Lasts::AsTheScopeSays,
        }
    }

    /// The value expires so long after the call that writes it. Zero is refused; a part
    /// of a microsecond counts as a whole one; what is beyond the end of time (the year
    /// 586,524) never expires.
    #[must_use]
    pub const fn ttl(self, ttl: Duration) -> Self {
        Self {
            lasts: Lasts::For(ttl),
        }
    }

    /// The value expires at this store time, in microseconds since 1970. One that is
    /// past already expires at once, so that the key is absent.
    #[must_use]
    pub const fn expires_at(self, micros: u64) -> Self {
        Self {
            lasts: Lasts::Until(micros),
        }
    }

    /// The value never expires, whatever the scope's default is.
    #[must_use]
    pub const fn forever(self) -> Self {
        Self {
            lasts: Lasts::Forever,
        }
    }
}

/// A TTL in microseconds.
fn micros_of(ttl: Duration) -> Result<u64> {
    if ttl.is_zero() {
        return Err(Error::Invalid {
            what: "ttl",
            reason: "it is zero, so the value would never be there; delete the key instead".into(),
        });
    }
    Ok(u64::try_from(ttl.as_nanos().div_ceil(1000)).unwrap_or(NEVER))
}

/// What is written with a deadline at the end of time has none.
fn until(deadline: u64) -> Option<u64> {
    (deadline != NEVER).then_some(deadline)
}

impl Shared {
    /// The deadline of a value that is written to a scope now.
    pub(crate) fn deadline(&self, slot: &Slot, options: SetOptions) -> Result<Option<u64>> {
        let micros = match options.lasts {
            Lasts::AsTheScopeSays => match slot.ttl.load(Ordering::Relaxed) {
                0 => return Ok(None),
                micros => micros,
            },
            Lasts::For(ttl) => micros_of(ttl)?,
            Lasts::Until(deadline) => return Ok(until(deadline)),
            Lasts::Forever => return Ok(None),
        };
        Ok(until(self.engine.now().saturating_add(micros)))
    }

    /// The deadline of a value that is made out of `old`: the same, if there was one.
    pub(crate) fn deadline_after(&self, slot: &Slot, old: Option<&[u8]>) -> Result<Option<u64>> {
        match old {
            Some(old) => Ok(deadline(old)),
            None => self.deadline(slot, SetOptions::new()),
        }
    }

    /// The time that is left to a deadline.
    fn left(&self, deadline: Option<u64>) -> Option<Duration> {
        let left = |deadline: u64| deadline.saturating_sub(self.engine.now());
        deadline.map(left).map(Duration::from_micros)
    }

    /// Takes up the default of a scope, when a store is opened.
    pub(super) fn load_default_ttl(&self, cell: &[u8]) -> Result<()> {
        let (prefix, micros) = settings::decode::<(Vec<u8>, u64)>(cell)?;
        self.engine.set_default_ttl(&prefix, micros);
        Ok(())
    }

    /// Writes the default of a scope; 0 for none.
    fn set_default_ttl(&self, slot: &Slot, micros: u64) -> Result<Lsn> {
        let setting = (micros > 0).then(|| (slot.prefix.to_vec(), micros));
        // Held until memory says the same as the last commit.
        let _one_at_a_time = self.setting.lock();
        let key = settings::key(SETTING, &slot.prefix);
        let lsn = self.change_setting(key, setting.as_ref(), None)?;
        self.engine.set_default_ttl(&slot.prefix, micros);
        Ok(lsn)
    }
}

/// When values expire. Whoever writes a whole value (`set`, `set_with`,
/// `compare_and_set`) says anew how long it lasts; whoever changes one (`increment`,
/// `merge`, `update`) keeps its deadline. A key that has expired is absent to all of
/// them.
impl ScopeHandle {
    /// Sets a key, with options: see [`SetOptions`].
    ///
    /// # Errors
    /// As [`set`](Self::set), and [`Error::Invalid`] for a TTL of zero.
    ///
    /// ```
    /// use evenkeel::{SetOptions, Store};
    /// let store = Store::in_memory();
    /// let past = SetOptions::new().expires_at(1);
    /// store.global().set_with("token", "x", past)?;
    /// assert_eq!(store.global().get::<String>("token")?, None);
    /// assert_eq!(store.global().len()?, 0);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn set_with<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        value: T,
        options: SetOptions,
    ) -> Result<()> {
        let deadline = self.shared.deadline(self.enter()?, options)?;
        let cell = cell::encode(&value, deadline, &self.codec())?;
        self.write(key.as_ref(), Op::Put(cell)).map(drop)
    }

    /// When a key expires, in microseconds of store time since 1970. `None` where it
    /// does not, and where there is no such key.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`], [`Error::Corrupt`].
    pub fn expires_at(&self, key: impl AsRef<str>) -> Result<Option<u64>> {
        let slot = self.enter()?;
        let found = self.shared.engine.read(slot, key.as_ref().as_bytes())?;
        Ok(found.and_then(|(_, cell)| deadline(&cell)))
    }

    /// How long a key is still there. `None` where it does not expire, and where there
    /// is no such key.
    ///
    /// # Errors
    /// As [`expires_at`](Self::expires_at).
    pub fn ttl(&self, key: impl AsRef<str>) -> Result<Option<Duration>> {
        let deadline = self.expires_at(key)?;
        Ok(self.shared.left(deadline))
    }

    /// Lets a key expire so long after this call, or never. Its value stays; its version
    /// is a new one. False, and nothing is written, where there is no such key.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a TTL of zero; as [`crate::Store::transact`].
    ///
    /// ```
    /// use std::time::Duration;
    /// let store = evenkeel::Store::in_memory();
    /// store.global().set("lease", "worker-1")?;
    /// assert!(store.global().set_ttl("lease", Some(Duration::from_secs(30)))?);
    /// assert!(store.global().set_ttl("lease", None)?);
    /// assert_eq!(store.global().ttl("lease")?, None);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn set_ttl(&self, key: impl AsRef<str>, ttl: Option<Duration>) -> Result<bool> {
        let key = key.as_ref();
        self.enter()?;
        let begun = self.shared.begin(self.durability);
        let (there, lsn) = transaction::run(&self.shared, |tx| {
            tx.scope(Scope::clone(&self.scope)).set_ttl(key, ttl)
        })?;
        if let Some(lsn) = lsn {
            self.shared.acknowledge(lsn, self.durability, begun)?;
        }
        Ok(there)
    }

    /// Sets how long values of this scope last that are written without a TTL of their
    /// own from now on; `None` for ever, as it is at first. Durable, and not a key of the
    /// scope: `clear` leaves it. A step of a workflow is a scope of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a TTL of zero; [`Error::Busy`], [`Error::Closed`],
    /// [`Error::Poisoned`].
    ///
    /// ```
    /// use evenkeel::{Scope, SetOptions, Store};
    /// use std::time::Duration;
    /// let sessions = Store::in_memory().scope(Scope::custom("sessions"));
    /// sessions.set_default_ttl(Some(Duration::from_secs(3600)))?;
    /// sessions.set("alice", 1)?;
    /// sessions.set_with("root", 1, SetOptions::new().forever())?;
    /// assert!(sessions.ttl("alice")?.is_some() && sessions.ttl("root")?.is_none());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn set_default_ttl(&self, ttl: Option<Duration>) -> Result<()> {
        let slot = self.enter()?;
        let micros = ttl.map_or(Ok(0), micros_of)?;
        let begun = self.shared.begin(self.durability);
        let lsn = self.shared.set_default_ttl(slot, micros)?;
        self.shared.acknowledge(lsn, self.durability, begun)
    }

    /// How long values of this scope last that are written without a TTL of their own.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Poisoned`].
    pub fn default_ttl(&self) -> Result<Option<Duration>> {
        let micros = self.enter()?.ttl.load(Ordering::Relaxed);
        Ok((micros > 0).then(|| Duration::from_micros(micros)))
    }
}

/// When values expire: as for [`ScopeHandle`]. To a transaction time stands still from
/// the first time that it matters; if something that it read has expired when it
/// commits, that is a lost race.
impl TransactionScope<'_> {
    /// As [`ScopeHandle::set_with`]. The time counts from this call, not from the commit.
    ///
    /// # Errors
    /// As there, and as [`set`](Self::set).
    pub fn set_with<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        value: T,
        options: SetOptions,
    ) -> Result<()> {
        let deadline = self.transaction.shared.deadline(self.slot()?, options)?;
        self.put(key.as_ref(), &value, deadline)
    }

    /// As [`ScopeHandle::expires_at`].
    ///
    /// # Errors
    /// As there.
    pub fn expires_at(&self, key: impl AsRef<str>) -> Result<Option<u64>> {
        let found = self.find(key.as_ref())?;
        Ok(found.and_then(|(_, cell)| deadline(&cell)))
    }

    /// As [`ScopeHandle::ttl`].
    ///
    /// # Errors
    /// As there.
    pub fn ttl(&self, key: impl AsRef<str>) -> Result<Option<Duration>> {
        let deadline = self.expires_at(key)?;
        Ok(self.transaction.shared.left(deadline))
    }

    /// As [`ScopeHandle::set_ttl`].
    ///
    /// # Errors
    /// As there.
    pub fn set_ttl(&self, key: impl AsRef<str>, ttl: Option<Duration>) -> Result<bool> {
        let key = key.as_ref();
        let options = match ttl {
            Some(ttl) => SetOptions::new().ttl(ttl),
            None => SetOptions::new().forever(),
        };
        let deadline = self.transaction.shared.deadline(self.slot()?, options)?;
        let Some((_, old)) = self.find(key)? else {
            return Ok(false);
        };
        let cell = cell::with_deadline(&old, deadline, (&self.scope, key))?;
        self.write(key, Some(cell)).map(|()| true)
    }
}

impl<T: Serialize + DeserializeOwned> KeyHandle<'_, T> {
    /// As [`ScopeHandle::set_with`].
    ///
    /// # Errors
    /// As there.
    pub fn set_with(&self, value: T, options: SetOptions) -> Result<()> {
        self.scope.set_with(&self.key, value, options)
    }

    /// As [`ScopeHandle::expires_at`].
    ///
    /// # Errors
    /// As there.
    pub fn expires_at(&self) -> Result<Option<u64>> {
        self.scope.expires_at(&self.key)
    }

    /// As [`ScopeHandle::ttl`].
    ///
    /// # Errors
    /// As there.
    pub fn ttl(&self) -> Result<Option<Duration>> {
        self.scope.ttl(&self.key)
    }

    /// As [`ScopeHandle::set_ttl`].
    ///
    /// # Errors
    /// As there.
    pub fn set_ttl(&self, ttl: Option<Duration>) -> Result<bool> {
        self.scope.set_ttl(&self.key, ttl)
    }
}
