//! Owns what all parts of a runtime share: the store, the flows that are registered, the
//! workers, the jobs that have not ended, and the threads. Imports `alarm`, `job`, `line`,
//! `plan`, `record`, `settings`, `worker`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::clock;
use crate::codec::CodecLimits;
use crate::engine::Engine;
use crate::engine::table::Slot;
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::alarm::Alarm;
use crate::runtime::dead::DeadLetters;
#[cfg(feature = "tokio")]
use crate::runtime::driver::Driver;
use crate::runtime::hooks::HookSet;
use crate::runtime::job::Job;
use crate::runtime::job_set::JobSet;
use crate::runtime::line::Line;
use crate::runtime::output::Printer;
use crate::runtime::plan::Plan;
use crate::runtime::record::{self, ActivationId, FlowRecord};
use crate::runtime::retention::FinishedJobs;
use crate::runtime::run::{Fate, Run};
use crate::runtime::settings::Settings;
use crate::runtime::telemetry::Figures;
use crate::runtime::worker::{Inner, Worker};
use crate::state::{Durability, Store};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, RwLock};

/// Within this time what activations committed is synced, if nobody waits for it: so a
/// chain of hops costs a sync at its end and not one for each.
const SYNCED_WITHIN: Duration = Duration::from_millis(5);

/// How long a post that is alone waits for the end of its job before it syncs: what many
/// disks take for a sync. Whoever waits for the job itself loses nothing by it, unless the
/// job takes just longer.
const ENDS_WITHIN: Duration = Duration::from_micros(200);

/// How long who waits does not look at whether the store can still be used.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many lines say what holds something up.
pub(crate) const HOLDING_MAX: usize = 100;

/// A runtime that runs.
#[derive(Debug)]
pub(crate) struct Core {
    /// Itself, for what it gives out.
    pub(crate) me: Weak<Self>,
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) flows: RwLock<HashMap<String, Arc<Plan>>>,
    /// Held while a flow is registered, which waits for what runs: so nothing that logic
    /// needs is held meanwhile.
    pub(crate) registering: Mutex<()>,
    /// As the store has them, also those that are not registered now.
    pub(crate) known_flows: Mutex<BTreeMap<String, FlowRecord>>,
    pub(crate) workers: RwLock<BTreeMap<Arc<str>, Arc<Worker>>>,
    /// Jobs that have not ended.
    pub(crate) live: Mutex<JobSet>,
    /// How often a job ended, a worker came to rest, or the runtime was shut down, while
    /// somebody waited for that.
    changes: Mutex<u64>,
    changed: Condvar,
    /// How many wait for what, as [`Awaited`] numbers it.
    watchers: [AtomicU64; 3],
    pub(crate) hooks: HookSet,
    pub(crate) figures: Arc<Figures>,
    pub(crate) printer: Printer,
    pub(crate) line: Line,
    pub(crate) alarm: Alarm,
    /// Who polls async logic.
    #[cfg(feature = "tokio")]
    pub(crate) driver: crate::sync::OnceLock<Driver>,
    /// Why the store took nothing from the runtime when it was asked last, and whether that
    /// is so.
    refusal: Mutex<String>,
    refused: AtomicBool,
    /// Runs that have a timeout.
    pub(crate) timed: Mutex<Vec<Arc<Run>>>,
    /// Jobs that have ended and whose records are kept.
    pub(crate) finished: Mutex<FinishedJobs>,
    pub(crate) dead: DeadLetters,
    pub(crate) slots: Slots,
    /// The number of this start: no other one of this store has it.
    pub(crate) session: u64,
    next_activation: AtomicU64,
    next_job: AtomicU64,
    /// Nothing is posted any more.
    draining: AtomicBool,
    /// No activation is started any more.
    closing: AtomicBool,
    random: AtomicU64,
    /// How many jobs were posted from outside since somebody began to wait for one.
    unawaited: AtomicU64,
}

/// What somebody waits for, and is told of when it may have come about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Awaited {
    /// A job has ended.
    Job,
    /// No job is left.
    AllJobs,
    /// A worker has come to rest.
    Rest,
}

impl Awaited {
    /// Whoever waits is to look.
    pub(crate) const ANY: [Self; 3] = [Self::Job, Self::AllJobs, Self::Rest];
}

/// The scopes that all share.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) flows: Arc<Slot>,
    pub(crate) workers: Arc<Slot>,
    pub(crate) jobs: Arc<Slot>,
    pub(crate) keys: Arc<Slot>,
}

impl Core {
    pub(crate) fn new(store: Store, settings: Settings) -> Result<Arc<Self>> {
        let engine = store.engine()?;
        let slot = |scope: crate::scope::Scope| engine.slot(&scope.encode());
        let slots = Slots {
            flows: slot(record::flows()),
            workers: slot(record::workers()),
            jobs: slot(record::jobs()),
            keys: slot(record::keys()),
        };
        let session = begin_session(&store)?;
        let seed = clock::random_bytes().map_err(|e| Error::io("read random bytes", "", e))?;
        let random = u64::from_le_bytes(*seed.first_chunk().unwrap_or(&[1; 8])) | 1;
        let finished = Mutex::new(FinishedJobs::new(settings.keep_jobs));
        let dead = DeadLetters::open(&store, settings.keep_dead)?;
        let figures = Arc::new(Figures::new(&store));
        let hooks = HookSet::new(settings.hooks.clone(), &figures);
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            store,
            settings,
            flows: RwLock::default(),
            registering: Mutex::default(),
            known_flows: Mutex::default(),
            workers: RwLock::default(),
            live: Mutex::default(),
            changes: Mutex::default(),
            changed: Condvar::default(),
            watchers: Default::default(),
            hooks,
            figures,
            printer: Printer::default(),
            line: Line::new(),
            alarm: Alarm::default(),
            #[cfg(feature = "tokio")]
            driver: crate::sync::OnceLock::new(),
            refusal: Mutex::default(),
            refused: AtomicBool::new(false),
            timed: Mutex::default(),
            finished,
            dead,
            slots,
            session,
            next_activation: AtomicU64::new(1),
            next_job: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            random: AtomicU64::new(random),
            unawaited: AtomicU64::new(u64::MAX / 2),
        }))
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.store.shared().engine
    }

    pub(crate) fn limits(&self) -> CodecLimits {
        self.store.shared().settings.limits.codec()
    }

    /// Store time.
    pub(crate) fn now(&self) -> u64 {
        self.engine().now()
    }

    pub(crate) fn next_activation(&self) -> ActivationId {
        ActivationId {
            session: self.session,
            number: self.next_activation.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// An id that no job of this store has had, unless somebody gave it one like it.
    pub(crate) fn next_job_id(&self) -> String {
        let number = self.next_job.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{number:08x}", self.session)
    }

    /// A random number, for jitter: xorshift, since it is no secret.
    pub(crate) fn random(&self) -> u64 {
        let next = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^ (x << 17)
        };
        let stirred = |x| Some(next(x));
        let before = self
            .random
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, stirred);
        next(before.unwrap_or(1))
    }

    /// Whether it takes anything.
    ///
    /// # Errors
    /// [`WorkError::ShutDown`], and as the store.
    pub(crate) fn enter(&self) -> Result<()> {
        match self.is_closing() {
            true => Err(WorkError::ShutDown.into()),
            false => self.store.engine().map(|_| ()),
        }
    }

    /// Whether anything can be posted.
    ///
    /// # Errors
    /// As [`Core::enter`].
    pub(crate) fn enter_to_post(&self) -> Result<()> {
        match self.draining.load(Ordering::SeqCst) {
            true => Err(WorkError::ShutDown.into()),
            false => self.enter(),
        }
    }

    /// Takes nothing more from outside, and waits until all that waits was run.
    ///
    /// # Errors
    /// As `Runtime::shutdown`.
    pub(crate) fn drain(&self) -> Result<()> {
        self.draining.store(true, Ordering::SeqCst);
        let drained = self.wait_for_workers(self.settings.drain_wait, true);
        if drained.is_err() {
            self.draining.store(false, Ordering::SeqCst);
        }
        drained
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Starts no activation any more, and wakes all that wait.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.line.close();
        #[cfg(feature = "tokio")]
        self.close_driver();
        self.alarm.close();
        for worker in self.all_workers() {
            drop(worker.inner.lock());
            worker.room.notify_all();
        }
        *self.changes.lock() += 1;
        self.changed.notify_all();
    }

    /// Ends all runs: they cannot commit any more.
    pub(crate) fn abort(&self) {
        for worker in self.all_workers() {
            let inner = worker.inner.lock();
            for run in inner.running.values() {
                run.end(Fate::Aborted);
            }
        }
    }

    pub(crate) fn all_workers(&self) -> Vec<Arc<Worker>> {
        self.workers.read().values().cloned().collect()
    }

    /// A worker.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub(crate) fn worker(&self, id: &str) -> Result<Arc<Worker>> {
        let found = self.workers.read().get(id).cloned();
        let hint = "`exec` or `exec_as` starts one";
        Ok(found.ok_or_else(|| WorkError::unknown("worker", id, hint))?)
    }

    /// A flow that is registered.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub(crate) fn plan(&self, flow: &str) -> Result<Arc<Plan>> {
        let found = self.flows.read().get(flow).cloned();
        Ok(found.ok_or_else(|| WorkError::unknown("flow", flow, "register it first"))?)
    }

    /// Puts a worker in line, if it may have something to run and does not stand there. Where
    /// a thread is with it, that one goes on with it, and another one is called for the case
    /// that this takes long.
    pub(crate) fn line_up(&self, worker: &Arc<Worker>, inner: &mut Inner, will_ask: bool) {
        if inner.in_line || !inner.may_run() {
            return;
        }
        if !inner.crowd.has_thread() {
            inner.in_line = true;
            self.line.push(Arc::clone(worker), will_ask);
        } else if let Some(after) = inner.crowd.call() {
            self.line.call(Arc::clone(worker), clock::deadline(after));
        }
    }

    /// Something was committed that nobody waits for here.
    ///
    /// # Errors
    /// As the store.
    pub(crate) fn committed(&self) -> Result<()> {
        let within = match self.store.durability() {
            Durability::Sync => SYNCED_WITHIN,
            Durability::Interval(within) => within,
            Durability::Memory => crate::state::store::MEMORY_WITHIN,
        };
        self.engine().sync_within(within)
    }

    /// Waits until a commit is as durable as the store says.
    ///
    /// # Errors
    /// As the store.
    pub(crate) fn acknowledge(&self, lsn: Lsn) -> Result<()> {
        let shared = self.store.shared();
        shared.acknowledge(lsn, self.store.durability(), None)
    }

    /// Acknowledges a post. Where jobs are posted one by one and waited for, the end of this
    /// one is likely to be waited for next, and to need a sync of its own, if this one began
    /// at once: so it waits for that a little, and one sync has both. It never does where
    /// the last post was not waited for, so whoever only posts is not held up.
    ///
    /// # Errors
    /// As the store.
    pub(crate) fn acknowledge_post(&self, job: &Job, lsn: Lsn) -> Result<()> {
        let alone = self.unawaited.fetch_add(1, Ordering::Relaxed) == 0;
        if alone && self.store.durability() == Durability::Sync {
            let ended = || Ok(job.state.lock().status.is_final());
            // Whatever becomes of the wait, the post is committed.
            let _ = self.wait_until((Awaited::Job, ENDS_WITHIN), ended);
        }
        self.acknowledge(lsn)
    }

    /// Somebody begins to wait for a job.
    pub(crate) fn job_is_awaited(&self) {
        self.unawaited.store(0, Ordering::Relaxed);
    }

    /// Tells those that wait for any of these that it may have come about. It may be called
    /// under the lock of a worker.
    pub(crate) fn tell(&self, what: impl IntoIterator<Item = Awaited>) {
        let waits = |what: Awaited| self.watchers[what as usize].load(Ordering::SeqCst) > 0;
        if what.into_iter().any(waits) {
            *self.changes.lock() += 1;
            self.changed.notify_all();
        }
    }

    /// The store did not take a commit, which will be tried again.
    pub(crate) fn store_refuses(&self, error: &Error) {
        *self.refusal.lock() = error.to_string();
        self.refused.store(true, Ordering::SeqCst);
    }

    /// The store took one.
    pub(crate) fn store_takes(&self) {
        // Read first: it is asked with each activation, and seldom changes.
        if self.refused.load(Ordering::Relaxed) {
            self.refused.store(false, Ordering::SeqCst);
        }
    }

    /// Why the store takes nothing now, if it does not, as a line of what holds work up.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused = self.refused.load(Ordering::SeqCst);
        refused.then(|| {
            let reason = self.refusal.lock().clone();
            format!("the store takes nothing, and is asked again and again: {reason}")
        })
    }

    /// Waits until something holds; `false` where the time is over. What is asked is asked
    /// whenever that may have come about, under no lock.
    ///
    /// # Errors
    /// [`WorkError::ShutDown`], and what is asked fails with.
    pub(crate) fn wait_until(
        &self,
        (what, timeout): (Awaited, Duration),
        holds: impl Fn() -> Result<bool>,
    ) -> Result<bool> {
        let deadline: Instant = clock::deadline(timeout);
        let watchers = &self.watchers[what as usize];
        watchers.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            let seen = *self.changes.lock();
            match holds() {
                Ok(false) => {}
                outcome => break outcome,
            }
            if self.is_closing() {
                break Err(WorkError::ShutDown.into());
            }
            // A store that takes nothing any more tells nobody, so it is asked now and then.
            let look = deadline.min(clock::deadline(LOOK_EVERY));
            let mut changes = self.changes.lock();
            let late = *changes == seen
                && self.changed.wait_until(&mut changes, look).timed_out()
                && look == deadline;
            drop(changes);
            if late {
                break holds();
            }
        };
        watchers.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

/// Counts the starts of runtimes on this store.
///
/// # Errors
/// As a commit.
fn begin_session(store: &Store) -> Result<u64> {
    let sessions = store.scope(record::sessions());
    let number = sessions.increment("started", 1)?;
    u64::try_from(number).map_err(|_| record::damaged(&record::sessions(), "a negative number"))
}
