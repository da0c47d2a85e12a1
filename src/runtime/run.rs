//! Owns one run of an activation: what it was given, and what it has done so far, which
//! takes effect with its commit or not at all. `Activation` and the handles that logic
//! has are views of it. Imports `job`, `output`, `plan`, `record`, `worker`.
//!
//! What must stay true: once it is over, whoever still holds a handle of it can read and
//! write nothing through it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};
#[cfg(feature = "tokio")]
use std::task::Waker;

use crate::clock::micros;
use crate::error::{Error, Result, WorkError};
use crate::runtime::core::Core;
use crate::runtime::event::Event;
use crate::runtime::idempotency::WorkKey;
use crate::runtime::job::{Job, Message};
use crate::runtime::job_map::JobMap;
use crate::runtime::output::Printed;
use crate::runtime::plan::{Plan, PlanRoutine};
use crate::runtime::post::Target;
use crate::runtime::record::{ActivationId, Text, TimerRecord, TraceRecord};
use crate::runtime::routine::Logic;
use crate::runtime::worker::{Given, Worker};
use crate::state::{Store, Transaction};
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::sync::{Mutex, OnceLock};
use crate::value::Value;

/// So many messages are found by looking at each.
const FEW: usize = 8;

/// How a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    /// It runs, or waits for its commit.
    Running = 0,
    /// It was committed, or failed, or lost a race.
    Over = 1,
    /// Its job or its worker was cancelled.
    Cancelled = 2,
    /// It took too long.
    TimedOut = 3,
    /// The runtime is being shut down.
    Aborted = 4,
}

impl Fate {
    const ALL: [Self; 5] = [
        Self::Running,
        Self::Over,
        Self::Cancelled,
        Self::TimedOut,
        Self::Aborted,
    ];

    /// Why nothing can be done any more.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Running => "runs",
            Self::Over => "is over",
            Self::Cancelled => "was cancelled",
            Self::TimedOut => "took longer than its timeout",
            Self::Aborted => "was aborted, since the runtime is being shut down",
        }
    }
}

/// One run of an activation.
pub(crate) struct Run {
    /// The runtime that it is of.
    core: Weak<Core>,
    pub(crate) store: Store,
    pub(crate) worker: Arc<Worker>,
    pub(crate) plan: Arc<Plan>,
    /// The number of its routine.
    pub(crate) at: usize,
    pub(crate) id: ActivationId,
    /// 1 for the first attempt. A run after a lost race is of the same attempt.
    pub(crate) attempt: u32,
    /// Whether its messages are fixed in the store.
    claimed: AtomicBool,
    pub(crate) given: Vec<Given>,
    /// The jobs of its messages, each once, in the order of the messages.
    pub(crate) jobs: Vec<Arc<Job>>,
    /// Where a job stands among them, by its id, once somebody has asked.
    places: OnceLock<HashMap<Text, usize>>,
    /// Its messages by the address of their event, once somebody has asked.
    events: OnceLock<HashMap<usize, Message>>,
    /// When it was begun, by store time.
    pub(crate) begun_micros: u64,
    /// When it is too late to commit, by store time.
    pub(crate) deadline_micros: Option<u64>,
    fate: AtomicU8,
    /// Who polls its logic, to be woken when it is ended before that.
    #[cfg(feature = "tokio")]
    poller: Mutex<Option<Waker>>,
    transaction: OnceLock<Transaction>,
    pub(crate) done: Mutex<Done>,
    /// What it printed. It is not a part of `done`, which a commit takes: if that fails, it
    /// is what the failed attempt printed.
    pub(crate) printed: Mutex<Printed>,
}

/// What a run has done so far, beside what its transaction holds.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) emits: Vec<Emit>,
    /// Timers to be set; those of the same name replace each other.
    pub(crate) timers: Vec<NewTimer>,
    /// Names of timers to be removed.
    pub(crate) cancelled_timers: Vec<String>,
    pub(crate) traces: Vec<(Arc<Job>, TraceRecord)>,
    pub(crate) results: Vec<Value>,
    /// The effects that it named.
    pub(crate) effects: HashSet<String>,
    pub(crate) posts: Vec<NewPost>,
    /// Its logic has ended: what another thread of it still adds would be lost.
    pub(crate) sealed: bool,
}

/// Something that it emitted.
#[derive(Clone, Debug)]
pub(crate) struct Emit {
    pub(crate) event: Arc<Event>,
    /// `None` for all its jobs.
    pub(crate) job: Option<Arc<Job>>,
    /// Its record, for all those jobs.
    pub(crate) cell: Arc<[u8]>,
}

/// A timer that it sets.
#[derive(Clone, Debug)]
pub(crate) struct NewTimer {
    pub(crate) record: TimerRecord,
    pub(crate) jobs: Vec<Arc<Job>>,
}

/// A job that it posts.
#[derive(Clone, Debug)]
pub(crate) struct NewPost {
    pub(crate) target: Target,
    pub(crate) job: Arc<Job>,
    pub(crate) event: Arc<Event>,
    /// The record of its message.
    pub(crate) cell: Arc<[u8]>,
    /// What the job begins with.
    pub(crate) begun: Arc<[u8]>,
    /// Its idempotency key.
    pub(crate) key: Option<WorkKey>,
}

/// A run that is to begin.
pub(crate) struct Begin {
    pub(crate) core: Weak<Core>,
    pub(crate) store: Store,
    pub(crate) worker: Arc<Worker>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) at: usize,
    pub(crate) id: ActivationId,
    pub(crate) attempt: u32,
    pub(crate) claimed: bool,
    pub(crate) given: Vec<Given>,
    pub(crate) begun_micros: u64,
}

impl Run {
    pub(crate) fn new(begin: Begin) -> Self {
        let mut jobs = JobMap::<()>::default();
        let messages = begin.given.iter().flat_map(|given| &given.consumes);
        for job in messages.flat_map(|message| &message.jobs) {
            if !job.state.lock().status.is_final() {
                jobs.of(job);
            }
        }
        let jobs = jobs.into_entries().into_iter().map(|(job, ())| job);
        let timeout = begin.plan.routines[begin.at].timeout;
        let deadline_micros =
            timeout.map(|timeout| begin.begun_micros.saturating_add(micros(timeout)));
        Self {
            core: begin.core,
            store: begin.store,
            worker: begin.worker,
            plan: begin.plan,
            at: begin.at,
            id: begin.id,
            attempt: begin.attempt,
            claimed: AtomicBool::new(begin.claimed),
            given: begin.given,
            jobs: jobs.collect(),
            places: OnceLock::new(),
            events: OnceLock::new(),
            begun_micros: begin.begun_micros,
            deadline_micros,
            fate: AtomicU8::new(Fate::Running as u8),
            #[cfg(feature = "tokio")]
            poller: Mutex::default(),
            transaction: OnceLock::new(),
            done: Mutex::default(),
            printed: Mutex::default(),
        }
    }

    /// The same activation once more: after a lost race, with what it was given.
    pub(crate) fn again(&self, claimed: bool) -> Self {
        Self::new(Begin {
            core: Weak::clone(&self.core),
            store: self.store.clone(),
            worker: Arc::clone(&self.worker),
            plan: Arc::clone(&self.plan),
            at: self.at,
            id: self.id,
            attempt: self.attempt,
            claimed,
            given: self.given.clone(),
            begun_micros: self.begun_micros,
        })
    }

    /// The runtime that it is of.
    ///
    /// # Errors
    /// [`WorkError::ShutDown`] where that is gone.
    pub(crate) fn core(&self) -> Result<Arc<Core>> {
        Ok(self.core.upgrade().ok_or(WorkError::ShutDown)?)
    }

    /// Whether it is of this runtime.
    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        std::ptr::eq(self.core.as_ptr(), Arc::as_ptr(core))
    }

    /// Whether its messages are fixed in the store, so that each further run of it has
    /// exactly those.
    pub(crate) fn is_claimed(&self) -> bool {
        self.claimed.load(Ordering::SeqCst)
    }

    /// Its messages were fixed.
    pub(crate) fn set_claimed(&self) {
        self.claimed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn routine(&self) -> &PlanRoutine {
        &self.plan.routines[self.at]
    }

    /// Whether a thread of the runtime runs it, which asks for the next one after it.
    pub(crate) fn has_thread(&self) -> bool {
        matches!(self.routine().logic, Logic::Plain(_))
    }

    /// Its only job; `None` where it has several, or none.
    pub(crate) fn only_job(&self) -> Option<&Arc<Job>> {
        match &self.jobs[..] {
            [job] => Some(job),
            _ => None,
        }
    }

    /// One of its jobs.
    pub(crate) fn job(&self, id: &str) -> Option<&Arc<Job>> {
        if let [job] = &self.jobs[..] {
            return (*job.id == *id).then_some(job);
        }
        let places = self.places.get_or_init(|| {
            let jobs = self.jobs.iter().enumerate();
            jobs.map(|(at, job)| (job.id.clone(), at)).collect()
        });
        self.jobs.get(*places.get(id)?)
    }

    /// The message of its input that an event came with.
    pub(crate) fn message_of(&self, event: &Event) -> Option<&Message> {
        let messages = || self.given.iter().flat_map(|given| &given.messages);
        if messages().nth(FEW).is_none() {
            return messages().find(|message| std::ptr::eq(&*message.event, event));
        }
        let events = self.events.get_or_init(|| {
            let address = |message: &Message| Arc::as_ptr(&message.event).addr();
            let entry = |message: &Message| (address(message), message.clone());
            messages().map(entry).collect()
        });
        events.get(&std::ptr::from_ref(event).addr())
    }

    pub(crate) fn fate(&self) -> Fate {
        let fate = usize::from(self.fate.load(Ordering::SeqCst));
        Fate::ALL.get(fate).copied().unwrap_or(Fate::Over)
    }

    /// Ends it, if it runs. Whoever ends it first decides.
    pub(crate) fn end(&self, fate: Fate) -> bool {
        let running = Fate::Running as u8;
        let ended = self
            .fate
            .compare_exchange(running, fate as u8, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok();
        #[cfg(feature = "tokio")]
        if ended && fate != Fate::Over {
            let poller = self.poller.lock().take();
            poller.into_iter().for_each(Waker::wake);
        }
        ended
    }

    /// Somebody polls its logic, and is woken when it is ended from elsewhere. Whether that
    /// has been is to be asked after this.
    #[cfg(feature = "tokio")]
    pub(crate) fn polled_by(&self, waker: &Waker) {
        let mut poller = self.poller.lock();
        if !poller.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *poller = Some(waker.clone());
        }
    }

    /// Whether it can still read and write.
    ///
    /// # Errors
    /// [`WorkError::ActivationOver`].
    pub(crate) fn check(&self) -> Result<()> {
        match self.fate() {
            Fate::Running => Ok(()),
            fate => Err(self.over(fate)),
        }
    }

    fn over(&self, fate: Fate) -> Error {
        let over = WorkError::ActivationOver {
            routine: self.routine().id.to_string(),
            reason: fate.reason(),
        };
        over.into()
    }

    /// What it reads and writes of the store, which is begun with the first use.
    ///
    /// # Errors
    /// As [`Run::check`].
    pub(crate) fn transaction(&self) -> Result<&Transaction> {
        self.check()?;
        Ok(self.transaction.get_or_init(|| self.store.begin()))
    }

    /// The transaction, if it was begun.
    pub(crate) fn begun_transaction(&self) -> Option<&Transaction> {
        self.transaction.get()
    }

    /// What it has done so far, to be added to.
    ///
    /// # Errors
    /// As [`Run::check`].
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Done) -> T) -> Result<T> {
        let mut done = self.done.lock();
        // Under the lock: what is done to it is still there when it is committed.
        self.check()?;
        match done.sealed {
            true => Err(self.over(Fate::Over)),
            false => Ok(change(&mut done)),
        }
    }

    /// The same of what it printed.
    ///
    /// # Errors
    /// As [`Run::check`].
    pub(crate) fn print<T>(&self, print: impl FnOnce(&mut Printed) -> T) -> Result<T> {
        let mut printed = self.printed.lock();
        self.check()?;
        Ok(print(&mut printed))
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("id", &self.id)
            .field("routine", &self.routine().id)
            .field("worker", &self.worker.id)
            .field("attempt", &self.attempt)
            .field("fate", &self.fate())
            .finish_non_exhaustive()
    }
}
