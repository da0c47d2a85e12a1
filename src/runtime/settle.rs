//! Owns a settlement: what one commit of the runtime changes of a worker, first as writes,
//! then, once they are committed, in memory. Both are made from the same list, under the
//! worker's lock, so that memory is what the store has. Imports `core`, `job`, `ops`,
//! `record`, `slot`, `worker`.
//!
//! What must stay true:
//! - Nothing in memory changes before the commit, and nothing can fail after it.
//! - A job ends with the commit that takes its last message and its last timer, or with
//!   the one that fails or cancels it; with that go all messages and timers that are for
//!   no other job.

mod apply;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::Result;
use crate::ids::Lsn;
use crate::runtime::capture::Captured;
use crate::runtime::core::Core;
use crate::runtime::event::Event;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::job::Job;
use crate::runtime::job_map::JobMap;
use crate::runtime::ops::Ops;
use crate::runtime::options::AtCapacity;
use crate::runtime::output::Pieces;
use crate::runtime::record::{
    self, ActivationId, ClaimRecord, HistoryRecord, JobPart, Text, TimerRecord, TraceRecord,
    WorkerKey, WorkerRecord,
};
use crate::runtime::run::Run;
use crate::runtime::slot::{Form, Full, Room, Seq};
use crate::runtime::status::JobStatus;
use crate::runtime::worker::{Claimed, Inner, Worker};
use crate::value::Value;

/// A message on its way to a slot.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The number of the routine.
    pub(crate) target: usize,
    /// The number of its slot.
    pub(crate) slot: usize,
    pub(crate) event: Arc<Event>,
    pub(crate) jobs: Vec<Arc<Job>>,
    /// Its record.
    pub(crate) cell: Arc<[u8]>,
}

/// How a job ends.
#[derive(Clone, Debug)]
pub(crate) struct JobEnd {
    pub(crate) status: JobStatus,
    pub(crate) error: Option<String>,
}

/// What is going to change. See the file's head.
pub(crate) struct Settlement<'c> {
    core: &'c Core,
    worker: &'c Arc<Worker>,
    now: u64,
    pub(crate) ops: Ops,
    jobs: JobMap<JobChange>,
    consumed: Vec<(usize, usize, Vec<Seq>)>,
    given_back: Vec<(usize, usize, Vec<Seq>)>,
    removed: BTreeMap<(usize, usize), BTreeSet<Seq>>,
    arrivals: Vec<Delivery>,
    timers: Vec<(u64, TimerRecord)>,
    timers_gone: BTreeSet<u64>,
    claim: Option<(usize, ActivationId, Claimed)>,
    claims_gone: Vec<(usize, ActivationId)>,
    parked_gone: Vec<(Arc<str>, Arc<str>, u64)>,
    effects_gone: Vec<ActivationId>,
    history: Option<HistoryRecord>,
    /// The record of the worker, which ends.
    worker_end: Option<WorkerRecord>,
    dropped_messages: u64,
    /// What the run printed, and the jobs that it is kept for.
    printed: Option<(Captured, Vec<Arc<Job>>)>,
}

/// What changes of one job.
#[derive(Debug, Default)]
struct JobChange {
    /// It begins.
    begins: bool,
    /// By so many its outstanding messages and timers change; `None` where nothing of it
    /// came or went.
    by: Option<i64>,
    /// So many messages of it are dropped.
    dropped: u64,
    /// What its results are longer by.
    results: Vec<Value>,
    /// It has more beside its record.
    parts: bool,
    /// What it has printed by then.
    output: Option<Pieces>,
    /// It ends.
    end: Option<JobEnd>,
}

/// What has ended with a settlement, to be told outside of the worker's lock.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) lsn: Lsn,
    pub(crate) ended: Vec<(Arc<Job>, JobEnd)>,
    /// Messages that were dropped.
    pub(crate) dropped: u64,
    /// The worker has nothing more to do.
    pub(crate) at_rest: bool,
}

impl<'c> Settlement<'c> {
    pub(crate) fn new(core: &'c Core, worker: &'c Arc<Worker>) -> Self {
        Self {
            core,
            worker,
            now: core.now(),
            ops: Ops::default(),
            jobs: JobMap::default(),
            consumed: Vec::new(),
            given_back: Vec::new(),
            removed: BTreeMap::new(),
            arrivals: Vec::new(),
            timers: Vec::new(),
            timers_gone: BTreeSet::new(),
            claim: None,
            claims_gone: Vec::new(),
            parked_gone: Vec::new(),
            effects_gone: Vec::new(),
            history: None,
            worker_end: None,
            dropped_messages: 0,
            printed: None,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The worker ends, and all that it had in its scope goes.
    pub(crate) fn end_worker(&mut self, record: WorkerRecord) {
        self.ops.clear(&self.worker.slot);
        self.worker_end = Some(record);
    }

    fn count(&mut self, job: &Arc<Job>, by: i64) {
        *self.jobs.of(job).by.get_or_insert(0) += by;
    }

    fn worker_key(&mut self, key: &WorkerKey) {
        self.ops.delete(&self.worker.slot, key.encode());
    }

    /// The input of a run is consumed: its messages go, and all that was kept for its
    /// attempts.
    pub(crate) fn consume(&mut self, run: &Run) {
        let routine = run.routine();
        for given in &run.given {
            let slot = &routine.slots[given.slot].0;
            for seq in &given.taken {
                let key = record::message_key(&routine.id, slot, seq.0);
                self.ops.delete(&self.worker.slot, key);
            }
            for message in &given.consumes {
                for job in &message.jobs {
                    self.count(job, -1);
                }
            }
            let taken = given.taken.clone();
            self.consumed.push((run.at, given.slot, taken));
        }
    }

    /// What was kept for the attempts of an activation goes.
    pub(crate) fn forget_attempts(&mut self, inner: &Inner, id: ActivationId, claimed: bool) {
        if claimed {
            self.worker_key(&WorkerKey::Claim(id));
        }
        if let Some(effects) = inner.effects.get(&id) {
            for name in effects.keys() {
                self.worker_key(&WorkerKey::Once(id, name.clone()));
            }
            self.effects_gone.push(id);
        }
    }

    /// The input of a run is not consumed: it waits again, where it stood.
    pub(crate) fn give_back(&mut self, run: &Run) {
        let given = run.given.iter();
        let taken = given.map(|given| (run.at, given.slot, given.taken.clone()));
        self.given_back.extend(taken);
    }

    /// The input of a run waits for another attempt, and stays taken.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn claim(&mut self, run: &Run, record: ClaimRecord) -> Result<()> {
        let cell = record::encode(&record, &self.core.limits())?;
        let key = WorkerKey::Claim(run.id).encode();
        self.ops.put(&self.worker.slot, key, cell);
        let given = run.given.clone();
        self.claim = Some((run.at, run.id, Claimed { record, given }));
        Ok(())
    }

    /// A message arrives at each of these slots. Once for a settlement: it gives out the
    /// places in the slots.
    ///
    /// # Errors
    /// The number of the routine and of its slot that has no room, and how full it is.
    pub(crate) fn deliver(
        &mut self,
        inner: &Inner,
        deliveries: Vec<Delivery>,
        room: Room,
    ) -> std::result::Result<(), (usize, usize, Full)> {
        let Some(plan) = &inner.plan else {
            return Ok(());
        };
        let mut begun: Vec<(usize, usize)> = Vec::new();
        for at in 0..deliveries.len() {
            let (target, slot) = (deliveries[at].target, deliveries[at].slot);
            if begun.contains(&(target, slot)) {
                continue;
            }
            begun.push((target, slot));
            let queue = &inner.routines[target].slots[slot];
            let here = |delivery: &&Delivery| (delivery.target, delivery.slot) == (target, slot);
            let arriving: Vec<_> = deliveries[at..].iter().filter(here).collect();
            queue
                .room_for(arriving.len(), room)
                .map_err(|full| (target, slot, full))?;
            let routine = &plan.routines[target];
            let name = &routine.slots[slot].0;
            // As the queue will do it, one by one: the oldest of both go.
            let over = match queue.options().at_capacity {
                AtCapacity::DropOldest => {
                    (queue.waiting() + arriving.len()).saturating_sub(queue.options().capacity)
                }
                _ => 0,
            };
            for held in queue.peek(Form::New(over)) {
                let key = record::message_key(&routine.id, name, held.seq.0);
                self.ops.delete(&self.worker.slot, key);
                self.drop_message(&held.item.jobs);
            }
            let over_arriving = over.saturating_sub(queue.waiting());
            let numbered = (queue.next_seq().0..).zip(&arriving);
            for (place, (seq, delivery)) in numbered.enumerate() {
                for job in &delivery.jobs {
                    self.count(job, 1);
                }
                if place < over_arriving {
                    self.drop_message(&delivery.jobs);
                } else {
                    let key = record::message_key(&routine.id, name, seq);
                    self.ops
                        .put(&self.worker.slot, key, Arc::clone(&delivery.cell));
                }
            }
        }
        self.arrivals.extend(deliveries);
        Ok(())
    }

    /// A message is dropped from a full slot, and counted in its jobs.
    fn drop_message(&mut self, jobs: &[Arc<Job>]) {
        self.dropped_messages += 1;
        for job in jobs {
            self.count(job, -1);
            self.jobs.of(job).dropped += 1;
        }
    }

    /// Sets a timer. One of the same name, of the same routine, is replaced.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn set_timer(
        &mut self,
        inner: &Inner,
        timer: TimerRecord,
        jobs: &[Arc<Job>],
    ) -> Result<()> {
        self.remove_timer(inner, &timer.routine, &timer.name);
        for job in jobs {
            self.count(job, 1);
        }
        self.add_timer(inner, timer)
    }

    /// Removes a timer, if there is one of this name.
    pub(crate) fn remove_timer(&mut self, inner: &Inner, routine: &str, name: &str) {
        if let Some((number, timer)) = inner.timers.named(routine, name) {
            self.timer_gone(inner, number, timer);
        }
    }

    /// A timer goes.
    pub(crate) fn timer_gone(&mut self, inner: &Inner, number: u64, timer: &TimerRecord) {
        if !self.timers_gone.insert(number) {
            return;
        }
        self.worker_key(&WorkerKey::Timer(number));
        for id in &timer.jobs {
            if let Some(job) = inner.jobs.get(id.as_str()) {
                self.count(&Arc::clone(job), -1);
            }
        }
    }

    /// Adds a timer, whose jobs are counted already.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn add_timer(&mut self, inner: &Inner, timer: TimerRecord) -> Result<()> {
        let number = inner.next_timer + self.timers.len() as u64;
        let cell = record::encode(&timer, &self.core.limits())?;
        self.ops
            .put(&self.worker.slot, WorkerKey::Timer(number).encode(), cell);
        self.timers.push((number, timer));
        Ok(())
    }

    /// A message of these jobs leaves the place where it was.
    pub(crate) fn leaves(&mut self, jobs: &[Arc<Job>]) {
        for job in jobs {
            self.count(job, -1);
        }
    }

    /// A job begins.
    pub(crate) fn begin_job(&mut self, job: &Arc<Job>) {
        self.jobs.of(job).begins = true;
    }

    /// A job is completed if nothing of it is outstanding.
    pub(crate) fn look_at(&mut self, job: &Arc<Job>) {
        self.count(job, 0);
    }

    /// Entries of traces, in the order in which they were made.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn trace(
        &mut self,
        id: ActivationId,
        traces: &[(Arc<Job>, TraceRecord)],
    ) -> Result<()> {
        for (index, (job, trace)) in traces.iter().enumerate() {
            // One that ended meanwhile may be gone already.
            if job.state.lock().status.is_final() {
                continue;
            }
            let slot = self.core.engine().slot(&record::job(&job.id).encode());
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let cell = record::encode(trace, &self.core.limits())?;
            self.ops
                .put(&slot, JobPart::Trace.key(trace.at, id, index), cell);
            self.jobs.of(job).parts = true;
        }
        Ok(())
    }

    /// Values for the results of these jobs.
    pub(crate) fn results(&mut self, jobs: &[Arc<Job>], results: &[Value]) {
        if !results.is_empty() {
            let live = |job: &&Arc<Job>| !job.state.lock().status.is_final();
            for job in jobs.iter().filter(live) {
                self.jobs.of(job).results.extend_from_slice(results);
            }
        }
    }

    /// What a run printed is kept for its jobs.
    pub(crate) fn print(&mut self, run: &Run, captured: Captured) {
        self.printed = Some((captured, run.jobs.clone()));
    }

    /// A job ends now, whatever of it is left; that goes with it, where it is for no other
    /// job.
    pub(crate) fn end_job(&mut self, job: &Arc<Job>, end: JobEnd) {
        if !job.state.lock().status.is_final() {
            self.jobs.of(job).end.get_or_insert(end);
        }
    }

    /// An activation of the worker is over.
    pub(crate) fn note(&mut self, run: &Run, outcome: ExecutionOutcome) {
        self.history = Some(HistoryRecord {
            number: 0,
            routine: Text::from(&run.routine().id),
            at: self.now,
            outcome: outcome.number(),
            attempt: run.attempt,
            jobs: run.jobs.iter().take(8).map(|job| job.id.clone()).collect(),
            processed: 0,
            failed: 0,
            dropped: 0,
        });
    }
}
