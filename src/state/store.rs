//! Owns the store: opening, transactions over scopes, and its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::Engine;
use crate::engine::report::{Recovery, Verification};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::commit::Commit;
use crate::state::handle::ScopeHandle;
use crate::state::options::{Builder, Durability};
use crate::state::stats::Stats;
use crate::state::transaction::{self, Transaction};

/// Within this time a commit at [`Durability::Memory`] is written and synced.
const MEMORY_WITHIN: Duration = Duration::from_secs(1);

/// An open store. Cheap to clone; every clone and every handle keeps it open, and
/// dropping the last one closes it.
///
/// ```
/// use evenkeel::{Scope, Store};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::open(&path)?;
/// let order = store.scope(Scope::workflow("order-42"));
/// order.set("retries", 3)?; // durable when it returns
/// assert_eq!(order.get::<u32>("retries")?, Some(3));
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    durability: Durability,
}

/// What all handles of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) settings: Builder,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // There is nobody left to tell; what was acknowledged is durable anyway.
        let _ = self.engine.close();
    }
}

impl Shared {
    /// Checks that the store can be used here and now.
    pub(super) fn enter(&self) -> Result<()> {
        transaction::refuse_nested(&self.engine)?;
        self.engine.check()
    }

    /// Waits until a commit is as durable as it should be.
    pub(super) fn acknowledge(&self, lsn: Lsn, durability: Durability) -> Result<()> {
        match durability {
            Durability::Sync => self.engine.sync(lsn),
            Durability::Interval(within) => {
                self.engine.write(lsn)?;
                self.engine.sync_within(within)
            }
            Durability::Memory => self.engine.sync_within(MEMORY_WITHIN),
        }
    }
}

impl Store {
    pub(super) fn new(engine: Arc<Engine>, settings: Builder) -> Self {
        Self {
            durability: settings.durability,
            shared: Arc::new(Shared { engine, settings }),
        }
    }

    /// Opens the store in a folder with default settings, or makes one there.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Builder::default().open(path)
    }

    /// Settings for opening a store.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A store without a folder and with default settings: the same in all but
    /// durability. It is gone with its last handle, unless it is
    /// [persisted](Self::persist).
    #[must_use]
    pub fn in_memory() -> Self {
        let settings = Builder::default();
        let engine = Engine::in_memory(settings.engine_options(), settings.components().clock);
        Self::new(engine, settings)
    }

    /// Makes a durable copy of all that is visible, and opens it: for a store that
    /// began in memory. It is there whole when this returns, and not at all when
    /// it fails or is interrupted. Keys keep their versions. This store goes on as
    /// it is.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] where there is something at `path` already that is not
    /// an empty folder; otherwise as [`Builder::open`].
    ///
    /// ```
    /// use evenkeel::Store;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let scratch = Store::in_memory();
    /// scratch.global().set("a", 1)?;
    /// let store = scratch.persist(&path)?;
    /// assert_eq!(store.global().get::<u32>("a")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn persist(&self, path: impl AsRef<Path>) -> Result<Self> {
        self.shared.enter()?;
        let settings = self.shared.settings.clone();
        let (options, components) = (settings.engine_options(), settings.components());
        let engine = self
            .shared
            .engine
            .persist(path.as_ref(), options, components)?;
        Ok(Self::new(engine, settings))
    }

    /// The same store, whose commits are acknowledged at another durability.
    #[must_use]
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            durability,
        }
    }

    /// A handle of a scope. Scopes need not be made: one is there while it has keys.
    ///
    /// A scope whose ids are too long (1,024 bytes each) is refused when the handle
    /// is used.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> ScopeHandle {
        ScopeHandle::new(Arc::clone(&self.shared), scope, self.durability)
    }

    /// The scope that all share.
    #[must_use]
    pub fn global(&self) -> ScopeHandle {
        self.scope(Scope::Global)
    }

    /// The scopes that have keys, in order.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Poisoned`], or [`crate::Error::Corrupt`] where the image is damaged
    /// and cannot be healed.
    pub fn scopes(&self) -> Result<Vec<Scope>> {
        let slots = loop {
            self.shared.enter()?;
            match self.shared.engine.view().scopes() {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) => {}
                outcome => break outcome?,
            }
        };
        Ok(slots
            .iter()
            .filter_map(|slot| Scope::decode(&slot.prefix))
            .map(|(s, _)| s)
            .collect())
    }

    /// Runs a transaction: all that the closure writes is committed at once, or
    /// nothing. It reads the state of one moment, and is serialisable: if anything
    /// that it read was changed meanwhile, it runs again. After a few lost races it
    /// queues for the keys it read, and then cannot lose.
    ///
    /// The closure may run several times, so it should do nothing else that counts;
    /// it holds no lock. Returns when the commit is as durable as the store says.
    ///
    /// # Errors
    /// What the closure returns, with nothing written: [`crate::Error::abort`] is made for
    /// that. [`crate::Error::Panicked`] where it panics; [`crate::Error::Conflict`] once
    /// `transaction_attempts` is used up; [`crate::Error::LimitExceeded`], [`crate::Error::Busy`],
    /// [`crate::Error::Poisoned`], [`crate::Error::Closed`].
    ///
    /// ```
    /// use evenkeel::{Error, Scope, Store};
    /// let store = Store::in_memory();
    /// let left = store.transact(|tx| {
    ///     let stock = tx.scope(Scope::custom("stock"));
    ///     let left: i64 = stock.get("widget")?.unwrap_or(10);
    ///     stock.set("widget", left - 1)?;
    ///     tx.scope(Scope::workflow("order-42")).set("reserved", true)?;
    ///     Ok(left - 1)
    /// })?;
    /// assert_eq!(left, 9);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn transact<T>(&self, closure: impl FnMut(&Transaction) -> Result<T>) -> Result<T> {
        let (value, lsn) = transaction::run(&self.shared, closure)?;
        if let Some(lsn) = lsn {
            self.shared.acknowledge(lsn, self.durability)?;
        }
        Ok(value)
    }

    /// Runs a transaction and returns as soon as it is visible, with a handle to
    /// wait for its durability.
    ///
    /// # Errors
    /// As [`Store::transact`].
    pub fn submit<T>(&self, closure: impl FnMut(&Transaction) -> Result<T>) -> Result<(T, Commit)> {
        let engine = &self.shared.engine;
        let (value, lsn) = transaction::run(&self.shared, closure)?;
        if lsn.is_some() {
            let within = match self.durability {
                Durability::Sync => Duration::ZERO,
                Durability::Interval(within) => within,
                Durability::Memory => MEMORY_WITHIN,
            };
            engine.sync_within(within)?;
        }
        let commit = Commit {
            lsn: lsn.unwrap_or_else(|| engine.visible()),
            engine: Arc::clone(engine),
        };
        Ok((value, commit))
    }

    /// Returns once all that is visible now is durable.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`], [`crate::Error::Closed`].
    pub fn barrier(&self) -> Result<()> {
        self.shared.enter()?;
        self.shared.engine.sync(self.shared.engine.visible())
    }

    /// Writes what is committed into the image, so that reopening need not replay
    /// it. Happens by itself; readers and writers go on meanwhile. Returns the
    /// image's LSN.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the disk refuses: then the older image stays, and
    /// nothing is lost.
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.shared.enter()?;
        self.shared.engine.checkpoint()
    }

    /// Writes a checkpoint and a snapshot of it, verifies that, and gives up the log
    /// behind it. Happens by itself. Returns the snapshot's LSN.
    ///
    /// # Errors
    /// [`crate::Error::Io`] where the disk refuses: then the older snapshot and the log
    /// stay.
    pub fn snapshot(&self) -> Result<Lsn> {
        self.shared.enter()?;
        self.shared.engine.checkpoint()?;
        self.shared.engine.snapshot()
    }

    /// Reads image, snapshot and log through, says what is damaged, and heals it.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] where it cannot be healed.
    pub fn verify(&self) -> Result<Verification> {
        self.shared.enter()?;
        self.shared.engine.verify()
    }

    /// What opening found and did, and what was healed since.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.shared.engine.recovery()
    }

    /// Figures for a look inside.
    ///
    /// # Errors
    /// [`crate::Error::Closed`].
    pub fn stats(&self) -> Result<Stats> {
        self.shared.enter()?;
        Ok(self.shared.engine.stats().into())
    }

    /// The store's folder; `None` for a store without one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.shared.engine.path()
    }

    /// Ends the store for all its handles, which answer [`crate::Error::Closed`] from then
    /// on. When it returns, all that was committed is durable and the folder can be
    /// opened again. Closing a closed store does nothing.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`] where an earlier write failed, [`crate::Error::Io`] where the last
    /// checkpoint or sync fails; the folder is free all the same.
    pub fn close(&self) -> Result<()> {
        transaction::refuse_nested(&self.shared.engine)?;
        self.shared.engine.close()
    }
}
