//! Owns the store: opening, transactions over scopes, and its end.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::engine::report::{Recovery, Verification};
use crate::engine::table::Slot;
use crate::engine::{Batch, Engine};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::observe::{self, Span, Work};
use crate::scope::Scope;
use crate::state::cache::kept::Caches;
use crate::state::commit::Commit;
use crate::state::flight::Flights;
use crate::state::handle::ScopeHandle;
use crate::state::options::{Builder, Durability};
use crate::state::origin::{self, Origin};
use crate::state::resource::Resources;
use crate::state::schema::MigrationReport;
use crate::state::stats::Stats;
use crate::state::trace;
use crate::state::transaction::{self, Transaction};
use crate::state::watch::cursor::{self, Cursor};
use crate::state::watch::filter::WatchFilter;
use crate::state::watch::{self, Watch};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use crate::wal::Seat;

/// Within this time a commit at [`Durability::Memory`] is written and synced.
pub(crate) const MEMORY_WITHIN: Duration = Duration::from_secs(1);

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
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    durability: Durability,
}

/// Where it is and how far it came; neither keys nor values.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("durability", &self.durability)
            .field("engine", &self.shared.engine)
            .finish()
    }
}

/// When a call that commits began, if that is measured, and the span that it is in.
pub(crate) struct Begun {
    at: Option<Instant>,
    span: Span,
}

impl Begun {
    /// Its commit has this LSN.
    pub(super) fn committed(&self, lsn: Lsn) {
        self.span.reached(lsn);
    }
}

/// What all handles of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: Builder,
    pub(super) resources: Resources,
    /// What is being made just now, of resources and in caches.
    pub(super) flights: Flights,
    pub(super) caches: Caches,
    /// Held by whoever changes a setting that is kept in the store.
    pub(super) setting: Mutex<()>,
    /// What migrations did when it was opened.
    pub(super) migrated: Mutex<Option<MigrationReport>>,
    /// What it was restored from, the latest first.
    pub(super) origins: Vec<Origin>,
    /// A runtime runs on it.
    pub(crate) runs: AtomicBool,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // There is nobody left to tell; what was acknowledged is durable anyway.
        let _ = self.let_go();
        let _ = self.engine.close();
    }
}

impl Shared {
    /// Drops the resources; whoever waits for one that is being made waits no longer.
    fn let_go(&self) -> Result<()> {
        self.flights.close();
        self.resources.close()
    }

    /// Checks that the store can be used here and now.
    #[inline]
    pub(crate) fn enter(&self) -> Result<()> {
        transaction::refuse_nested(&self.engine)?;
        self.engine.check()
    }

    /// Where the entries of the caches of a scope are.
    pub(super) fn caches_of(&self, scope: &Scope) -> Arc<Slot> {
        self.engine.slot(&scope.caches().encode())
    }

    /// Commits what reads nothing, so that there is no race to lose. Visible when it
    /// returns.
    pub(super) fn commit(&self, batch: Batch) -> Result<Lsn> {
        let lsn = self.engine.commit(&batch)?;
        trace::committed(self, &batch, lsn);
        Ok(lsn)
    }

    /// A call begins that commits. It is timed if it waits for the disk: of the others
    /// the two looks at the clock would be a good part.
    pub(super) fn begin(&self, durability: Durability) -> Option<Begun> {
        let path = self.engine.path();
        let waits = durability == Durability::Sync && path.is_some();
        Some(Begun {
            at: waits.then(clock::monotonic),
            span: observe::span(Work::Commit, path),
        })
    }

    /// Waits until a commit is as durable as it should be.
    pub(crate) fn acknowledge(
        &self,
        lsn: Lsn,
        durability: Durability,
        begun: Option<Begun>,
    ) -> Result<()> {
        if let Some(begun) = &begun {
            begun.committed(lsn);
        }
        match durability {
            Durability::Sync => {
                self.engine.sync(lsn)?;
                if let Some(begun) = begun.and_then(|begun| begun.at) {
                    self.engine.figures.commit.record_since(begun);
                }
                Ok(())
            }
            Durability::Interval(within) => {
                self.engine.write(lsn)?;
                self.engine.sync_within(within)
            }
            Durability::Memory => self.engine.sync_within(MEMORY_WITHIN),
        }
    }
}

impl Store {
    /// A store whose engine holds nothing yet.
    pub(super) fn new(engine: Arc<Engine>, settings: Builder) -> Self {
        Self::with_origins(engine, settings, Vec::new())
    }

    fn with_origins(engine: Arc<Engine>, settings: Builder, origins: Vec<Origin>) -> Self {
        Self {
            durability: settings.durability,
            shared: Arc::new(Shared {
                engine,
                settings,
                resources: Resources::default(),
                flights: Flights::default(),
                caches: Caches::default(),
                setting: Mutex::default(),
                migrated: Mutex::default(),
                origins,
                runs: AtomicBool::new(false),
            }),
        }
    }

    /// The store that a handle is of.
    pub(super) fn of(shared: Arc<Shared>, durability: Durability) -> Self {
        Self { shared, durability }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// A transaction for whoever commits it by other means than [`Store::transact`].
    pub(crate) fn begin(&self) -> Transaction {
        Transaction::begin(&self.shared)
    }

    /// Its engine, if the store can be used here and now.
    pub(crate) fn engine(&self) -> Result<&Engine> {
        self.shared.enter()?;
        Ok(&self.shared.engine)
    }

    /// The same, of an engine that may hold something.
    pub(crate) fn load(engine: Arc<Engine>, settings: Builder) -> Result<Self> {
        let origins = origin::load(&engine)?;
        let store = Self::with_origins(engine, settings, origins);
        store.shared.load_settings()?;
        Ok(store)
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
    /// [`crate::Error::Occupied`] where there is something at `path` already that is not
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
        Self::load(engine, settings)?.prepare()
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
            .map(|(scope, _)| scope)
            .filter(|scope| !matches!(scope, Scope::System(_)))
            .collect())
    }

    /// Runs a transaction: all that the closure writes is committed at once, or
    /// nothing. It reads the state of one moment, that of its first read or of
    /// [`Transaction::lsn`], and is serialisable: if anything that it read was changed
    /// meanwhile, it runs again. After a few lost races it queues for the keys it read,
    /// and then cannot lose.
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
        let begun = self.shared.begin(self.durability);
        let (value, lsn) = transaction::run(&self.shared, closure)?;
        if let Some(lsn) = lsn {
            self.shared.acknowledge(lsn, self.durability, begun)?;
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
        let begun = self.shared.begin(self.durability);
        let (value, lsn) = transaction::run(&self.shared, closure)?;
        if let Some(lsn) = lsn {
            if let Some(begun) = begun {
                begun.committed(lsn);
            }
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
            seat: Seat::default(),
        };
        Ok((value, commit))
    }

    /// Follows the changes of this store: those that are durable, in the order of their
    /// commits, whole transactions. Begins now, unless the filter says otherwise. See
    /// [`Watch`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for an LSN that this store never gave and for a scope whose
    /// ids are too long; [`Error::Closed`], [`Error::Poisoned`], and [`Error::Nested`]
    /// for one that begins at a cursor.
    pub fn watch(&self, filter: WatchFilter) -> Result<Watch> {
        watch::open(self, filter)
    }

    /// A handle of the durable cursor of this name: the LSN up to which a consumer has
    /// seen the changes, advanced in the consumer's own transaction. See [`Cursor`].
    #[must_use]
    pub fn cursor(&self, name: impl Into<String>) -> Cursor {
        Cursor::new(self, name.into())
    }

    /// The durable cursors, by name, and where they stand.
    ///
    /// # Errors
    /// As [`ScopeHandle::scan`].
    ///
    /// ```
    /// let store = evenkeel::Store::in_memory();
    /// store.transact(|tx| tx.advance_cursor("audit", tx.lsn()))?;
    /// assert_eq!(store.cursors()?.len(), 1);
    /// store.cursor("audit").remove()?;
    /// assert!(store.cursors()?.is_empty());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn cursors(&self) -> Result<Vec<(String, Lsn)>> {
        cursor::list(self)
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

    /// Removes what has expired, in commits of up to 256 keys, and returns how many keys
    /// that were. Happens by itself: within about a second in the background, or, in a
    /// store without threads, by the commits that come later. Nobody sees what has
    /// expired before it is removed either; removing it frees its space.
    ///
    /// # Errors
    /// [`crate::Error::Closed`], [`crate::Error::Poisoned`], [`crate::Error::Busy`].
    ///
    /// ```
    /// use evenkeel::{ManualClock, SetOptions, Store};
    /// use std::{sync::Arc, time::Duration};
    /// let clock = Arc::new(ManualClock::new(0));
    /// let builder = Store::builder().background(false).clock(clock.clone());
    /// let store = builder.in_memory()?;
    /// let minute = SetOptions::new().ttl(Duration::from_secs(60));
    /// store.global().set_with("token", "x", minute)?;
    /// clock.set_micros(60_000_000);
    /// assert!(!store.global().contains("token")?);
    /// assert_eq!(store.expire()?, 1);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn expire(&self) -> Result<u64> {
        self.shared.enter()?;
        let removed = self.shared.engine.expire()?;
        if removed > 0 {
            let last = self.shared.engine.visible();
            self.shared.acknowledge(last, self.durability, None)?;
        }
        Ok(removed)
    }

    /// Reads image, snapshot and log through, says what is damaged, and heals it.
    ///
    /// The image is read through sled, which may answer from its own memory. What
    /// happened to its files since the store was opened is then found at the next opening.
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
    /// opened again. Its [resources](crate::Resource) are dropped first, while it can
    /// still be used. Closing a closed store does nothing.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`] where an earlier write failed, [`crate::Error::Io`] where the last
    /// checkpoint or sync fails, [`crate::Error::Panicked`] where dropping a resource panics; the
    /// folder is free all the same.
    pub fn close(&self) -> Result<()> {
        transaction::refuse_nested(&self.shared.engine)?;
        let dropped = self.shared.let_go();
        self.shared.engine.close().and(dropped)
    }
}
