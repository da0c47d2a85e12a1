//! Owns a worker as memory has it: its queues, what runs, and what is ready to run.
//! Imports `job`, `plan`, `record`, `run`, `slot`, `status`.
//!
//! What must stay true: all of it changes under the worker's lock, and in the order of
//! the commits that change the same in the store. So what is emitted stands in the
//! queues in the order of commits, and a worker can be read back at any commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::engine::table::Slot;
use crate::runtime::job::{Job, Message};
use crate::runtime::plan::Plan;
use crate::runtime::record::{ActivationId, ClaimRecord, HistoryRecord, MessageRecord, TimerRecord};
use crate::runtime::record::WorkerRecord;
use crate::runtime::run::Run;
use crate::runtime::slot::{Seq, SlotQueue};
use crate::runtime::status::RoutineStatus;
use crate::sync::{Condvar, Mutex};

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    /// Its scope of the runtime's own: see `record::worker`.
    pub(crate) slot: Arc<Slot>,
    pub(crate) inner: Mutex<Inner>,
    /// Room came about in a slot, or it will not any more.
    pub(crate) room: Condvar,
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
    pub(crate) jobs: HashMap<Arc<str>, Arc<Job>>,
    /// The activations that run.
    pub(crate) running: HashMap<ActivationId, Arc<Run>>,
    /// Whether it stands in the line of those that are ready.
    pub(crate) in_line: bool,
    /// The routine after the one that was activated last.
    pub(crate) turn: usize,
    /// Messages whose routine or slot the flow has no more.
    pub(crate) parked: BTreeMap<(Arc<str>, Arc<str>, u64), MessageRecord>,
    pub(crate) timers: BTreeMap<u64, TimerRecord>,
    pub(crate) next_timer: u64,
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
    pub(crate) slots: Vec<SlotQueue<Arc<Message>>>,
    pub(crate) running: usize,
    pub(crate) status: RoutineStatus,
    /// When it was activated last, by store time.
    pub(crate) last_micros: Option<u64>,
    /// Whether somebody released it at its breakpoint.
    pub(crate) released: bool,
    /// Whether there may be something to activate it with.
    pub(crate) candidate: bool,
    /// Activations whose messages are fixed and that do not run: their next attempt is
    /// due, or will be.
    pub(crate) claims: BTreeMap<ActivationId, Claimed>,
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

/// What an activation was given of one slot.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// The number of the slot.
    pub(crate) slot: usize,
    pub(crate) messages: Vec<Arc<Message>>,
    /// What its commit consumes.
    pub(crate) taken: Vec<Seq>,
}
