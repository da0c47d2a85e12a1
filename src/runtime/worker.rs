//! Owns a worker as memory has it: its queues, what runs, and what is ready to run.
//! Imports `crowd`, `job`, `plan`, `record`, `run`, `slot`, `status`.
//!
//! What must stay true: all of it changes under the worker's lock, and in the order of
//! the commits that change the same in the store. So what is emitted stands in the
//! queues in the order of commits, and a worker can be read back at any commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::engine::table::Slot;
use crate::runtime::agenda::{Agenda, Due, Timers};
use crate::runtime::crowd::Crowd;
use crate::runtime::job::{Message, Names};
use crate::runtime::job_set::JobSet;
use crate::runtime::options::SlotOptions;
use crate::runtime::plan::Plan;
use crate::runtime::record::{
    ActivationId, ClaimRecord, HistoryRecord, MessageRecord, OnceRecord, WorkerRecord, WorkerTotals,
};
use crate::runtime::run::Run;
use crate::runtime::slot::{Seq, SlotQueue};
use crate::runtime::status::{RoutineStatus, RoutineStep, WorkerStatus, WorkerStep};
use crate::sync::atomic::AtomicBool;
use crate::sync::{Condvar, Mutex, MutexGuard, lock_patiently};

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    /// Both, as its jobs have them.
    pub(crate) names: Arc<Names>,
    /// Its scope of the runtime's own: see `record::worker`.
    pub(crate) slot: Arc<Slot>,
    pub(crate) inner: Mutex<Inner>,
    /// Room came about in a slot, or it will not any more.
    pub(crate) room: Condvar,
    /// Whether it has ended, for whoever asks without its lock.
    pub(crate) has_ended: AtomicBool,
}

/// What a worker has.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) record: WorkerRecord,
    /// `None` until its flow is registered.
    pub(crate) plan: Option<Arc<Plan>>,
    /// As the plan numbers them.
    pub(crate) routines: Vec<RoutineState>,
    /// Its jobs that have not ended.
    pub(crate) jobs: JobSet,
    /// The threads that run some of them.
    pub(crate) crowd: Crowd,
    /// The activations that run.
    pub(crate) running: HashMap<ActivationId, Arc<Run>>,
    /// Whether its flow is about to be replaced: nothing is started.
    pub(crate) changing: bool,
    /// Whether it stands in the line of those that are ready.
    pub(crate) in_line: bool,
    /// The routine after the one that was activated last.
    pub(crate) turn: usize,
    /// Messages whose routine or slot the flow has no more.
    pub(crate) parked: BTreeMap<(Arc<str>, Arc<str>, u64), MessageRecord>,
    pub(crate) timers: Timers,
    pub(crate) next_timer: u64,
    /// Effects of activations that are not committed, by name.
    pub(crate) effects: HashMap<ActivationId, BTreeMap<String, OnceRecord>>,
    /// The last activations, the oldest first.
    pub(crate) history: VecDeque<HistoryRecord>,
    /// How many activations have ended.
    pub(crate) activations: u64,
    /// Jobs that completed.
    pub(crate) processed: u64,
    /// Jobs that failed.
    pub(crate) failed: u64,
    /// Messages that were dropped from full slots.
    pub(crate) dropped: u64,
}

/// A routine of a worker.
#[derive(Debug)]
pub(crate) struct RoutineState {
    pub(crate) slots: Vec<SlotQueue<Message>>,
    pub(crate) running: usize,
    pub(crate) status: RoutineStatus,
    /// When it was activated last, by store time.
    pub(crate) last_micros: Option<u64>,
    /// Whether somebody released it at its breakpoint.
    pub(crate) released: bool,
    /// Whether there may be something to activate it with.
    pub(crate) candidate: bool,
    /// Whether it waits for room in a slot that it may emit to.
    pub(crate) blocked: bool,
    /// Activations whose messages are fixed and that do not run: their next attempt is
    /// due, or will be.
    pub(crate) claims: Agenda<ActivationId, Claimed>,
    /// Whether something of it could not be committed, and waits for a better time.
    pub(crate) again: bool,
    /// When its policy wants to be asked again.
    pub(crate) ask_at: Option<u64>,
}

/// An activation that is to be tried again with exactly the same messages.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) record: ClaimRecord,
    /// By slot, what it has taken.
    pub(crate) given: Vec<Given>,
}

impl Due for Claimed {
    fn due(&self) -> u64 {
        self.record.due
    }
}

/// What an activation was given of one slot.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The number of the slot.
    pub(crate) slot: usize,
    /// What it sees.
    pub(crate) messages: Vec<Message>,
    /// What its commit consumes, as much as `taken`: of the latest message all older ones
    /// too, of all messages only those that were new.
    pub(crate) consumes: Vec<Message>,
    pub(crate) taken: Vec<Seq>,
}

impl Worker {
    /// A worker of this name, as it is in memory.
    pub(crate) fn new(id: &str, slot: Arc<Slot>, inner: Inner) -> Self {
        let (id, flow): (Arc<str>, Arc<str>) = (id.into(), inner.record.flow.as_str().into());
        Self {
            names: Names::new(Arc::clone(&flow), Arc::clone(&id)),
            id,
            flow,
            slot,
            has_ended: AtomicBool::new(inner.record.status.is_final()),
            inner: Mutex::new(inner),
            room: Condvar::default(),
        }
    }

    /// What it has, and whether somebody had the lock. Those who commit hold it for some
    /// microseconds, one after the other.
    pub(crate) fn lock(&self) -> (MutexGuard<'_, Inner>, bool) {
        match self.inner.try_lock() {
            Some(inner) => (inner, false),
            None => (lock_patiently(&self.inner), true),
        }
    }
}

impl Inner {
    /// A worker without work, as its record has it.
    pub(crate) fn new(record: WorkerRecord) -> Self {
        let totals = record.totals;
        let total = |of: fn(WorkerTotals) -> u64| totals.map_or(0, of);
        Self {
            record,
            plan: None,
            routines: Vec::new(),
            jobs: JobSet::default(),
            crowd: Crowd::default(),
            running: HashMap::new(),
            changing: false,
            in_line: false,
            turn: 0,
            parked: BTreeMap::new(),
            timers: Timers::default(),
            next_timer: 0,
            effects: HashMap::new(),
            history: VecDeque::new(),
            activations: total(|totals| totals.activations),
            processed: total(|totals| totals.processed),
            failed: total(|totals| totals.failed),
            dropped: total(|totals| totals.dropped),
        }
    }

    /// Whether it may have an activation to start.
    pub(crate) fn may_run(&self) -> bool {
        let Some(plan) = &self.plan else { return false };
        let open = !self.changing
            && !self.record.status.is_final()
            && self.record.status != WorkerStatus::Paused;
        let of = |(at, routine): (usize, &RoutineState)| {
            routine.candidate && routine.running < plan.routines[at].settings.concurrency
        };
        open && self.routines.iter().enumerate().any(of)
    }

    /// Whether it has nothing to run now: nothing runs, and nothing that waits is ready to.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running.is_empty() && !self.may_run() && !self.routines.iter().any(|r| r.again)
    }

    /// Something that may hold up or let go any routine has changed: room in a slot.
    pub(crate) fn unblock(&mut self) {
        for routine in &mut self.routines {
            routine.candidate |= std::mem::take(&mut routine.blocked);
        }
    }

    /// A step of the worker's status. One that cannot be changes nothing: what comes and
    /// goes at a worker that has ended is no error of anybody's.
    pub(crate) fn step(&mut self, step: WorkerStep) {
        if let Ok(status) = self.record.status.after(step) {
            self.record.status = status;
        }
    }
}

impl RoutineState {
    /// One without work.
    pub(crate) fn new(slots: &[(Arc<str>, SlotOptions)]) -> Self {
        Self {
            slots: slots
                .iter()
                .map(|(_, options)| SlotQueue::new(*options))
                .collect(),
            running: 0,
            status: RoutineStatus::Pending,
            last_micros: None,
            released: false,
            candidate: false,
            blocked: false,
            claims: Agenda::default(),
            again: false,
            ask_at: None,
        }
    }

    /// Whether there is anything to ask its policy about.
    pub(crate) fn has_input(&self) -> bool {
        !self.claims.is_empty() || self.slots.iter().any(|slot| slot.waiting() > 0)
    }

    pub(crate) fn step(&mut self, step: RoutineStep) {
        if let Ok(status) = self.status.after(step) {
            self.status = status;
        }
    }
}
