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

use std::sync::Arc;

use crate::error::Result;
use crate::ids::Lsn;
use crate::runtime::core::Core;
use crate::runtime::event::Event;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::idempotency;
use crate::runtime::job::{Job, Message};
use crate::runtime::ops::Ops;
use crate::runtime::options::AtCapacity;
use crate::runtime::record::{
    self, ActivationId, ClaimRecord, HistoryRecord, JobEndRecord, JobPart, TimerRecord,
    TraceRecord, WorkerKey,
};
use crate::runtime::run::Run;
use crate::runtime::slot::{Form, Full, Room, Seq};
use crate::runtime::status::{JobStatus, WorkerStep};
use crate::runtime::worker::{Claimed, Given, Inner, Worker};
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
    counts: Vec<(Arc<Job>, i64)>,
    dropped: Vec<Arc<Job>>,
    results: Vec<(Arc<Job>, Vec<Value>)>,
    consumed: Vec<(usize, Given)>,
    given_back: Vec<(usize, Given)>,
    removed: Vec<(usize, usize, Seq)>,
    arrivals: Vec<Delivery>,
    timers: Vec<(u64, TimerRecord)>,
    timers_gone: Vec<u64>,
    claim: Option<(usize, ActivationId, Claimed)>,
    claims_gone: Vec<(usize, ActivationId)>,
    effects_gone: Vec<ActivationId>,
    begins: Vec<Arc<Job>>,
    ends: Vec<(Arc<Job>, JobEnd)>,
    parts: Vec<Arc<Job>>,
    history: Option<HistoryRecord>,
    dropped_messages: u64,
}

/// What has ended with a settlement, to be told outside of the worker's lock.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) lsn: Lsn,
    pub(crate) ended: Vec<(Arc<Job>, JobEnd)>,
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
            counts: Vec::new(),
            dropped: Vec::new(),
            results: Vec::new(),
            consumed: Vec::new(),
            given_back: Vec::new(),
            removed: Vec::new(),
            arrivals: Vec::new(),
            timers: Vec::new(),
            timers_gone: Vec::new(),
            claim: None,
            claims_gone: Vec::new(),
            effects_gone: Vec::new(),
            begins: Vec::new(),
            ends: Vec::new(),
            parts: Vec::new(),
            history: None,
            dropped_messages: 0,
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn worker_id(&self) -> &str {
        &self.worker.id
    }

    /// All that the worker had in its scope goes.
    pub(crate) fn clear_worker(&mut self) {
        self.ops.clear(&self.worker.slot);
    }

    fn count(&mut self, job: &Arc<Job>, by: i64) {
        match self
            .counts
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, job))
        {
            Some((_, count)) => *count += by,
            None => self.counts.push((Arc::clone(job), by)),
        }
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
            self.consumed.push((run.at, given.clone()));
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
        let given = run.given.iter().cloned();
        self.given_back.extend(given.map(|given| (run.at, given)));
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
            let mut seq = queue.next_seq().0;
            for (place, delivery) in arriving.iter().enumerate() {
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
                seq += 1;
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
            self.dropped.push(Arc::clone(job));
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
        let of = |(_, timer): &(&u64, &TimerRecord)| timer.routine == routine && timer.name == name;
        if let Some((&number, timer)) = inner.timers.iter().find(of) {
            self.timer_gone(inner, number, timer);
        }
    }

    /// A timer goes.
    pub(crate) fn timer_gone(&mut self, inner: &Inner, number: u64, timer: &TimerRecord) {
        if self.timers_gone.contains(&number) {
            return;
        }
        self.worker_key(&WorkerKey::Timer(number));
        for id in &timer.jobs {
            if let Some(job) = inner.jobs.get(id.as_str()) {
                self.count(&Arc::clone(job), -1);
            }
        }
        self.timers_gone.push(number);
    }

    /// A timer that sends again and again goes on to its next time.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn timer_moves(&mut self, inner: &Inner, timer: TimerRecord) -> Result<()> {
        self.add_timer(inner, timer)
    }

    fn add_timer(&mut self, inner: &Inner, timer: TimerRecord) -> Result<()> {
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
        self.begins.push(Arc::clone(job));
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
            let slot = self.core.engine().slot(&record::job(&job.id).encode());
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let cell = record::encode(trace, &self.core.limits())?;
            self.ops
                .put(&slot, JobPart::Trace.key(trace.at, id, index), cell);
            self.parts.push(Arc::clone(job));
        }
        Ok(())
    }

    /// Values for the results of these jobs.
    pub(crate) fn results(&mut self, jobs: &[Arc<Job>], results: &[Value]) {
        if !results.is_empty() {
            let of = |job: &Arc<Job>| (Arc::clone(job), results.to_vec());
            self.results.extend(jobs.iter().map(of));
        }
    }

    /// A job ends now, whatever of it is left; that goes with it, where it is for no other
    /// job.
    pub(crate) fn end_job(&mut self, job: &Arc<Job>, end: JobEnd) {
        let ends = self.ends.iter().any(|(known, _)| Arc::ptr_eq(known, job));
        if !ends && !job.state.lock().status.is_final() {
            self.ends.push((Arc::clone(job), end));
        }
    }

    /// An activation of the worker is over.
    pub(crate) fn note(&mut self, run: &Run, outcome: ExecutionOutcome) {
        self.history = Some(HistoryRecord {
            number: 0,
            routine: run.routine().id.to_string(),
            at: self.now,
            outcome: outcome.number(),
            attempt: run.attempt,
            jobs: run
                .jobs
                .iter()
                .take(8)
                .map(|job| job.id.to_string())
                .collect(),
            processed: 0,
            failed: 0,
            dropped: 0,
        });
    }

    /// Completes the writes: the jobs that end, what goes with them, and the counters.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn prepare(&mut self, inner: &Inner) -> Result<()> {
        if !self.ends.is_empty() {
            self.remove_orphans(inner);
        }
        for (job, by) in &self.counts {
            let state = job.state.lock();
            let left = state.outstanding.saturating_add_signed(*by);
            let ends = self.ends.iter().any(|(known, _)| Arc::ptr_eq(known, job));
            if left == 0 && !ends && !state.status.is_final() {
                let status = JobStatus::Completed;
                self.ends.push((
                    Arc::clone(job),
                    JobEnd {
                        status,
                        error: None,
                    },
                ));
            }
        }
        for (job, end) in &self.ends {
            let state = job.state.lock();
            let mut results = state.results.clone();
            let own = self.results.iter().filter(|(of, _)| Arc::ptr_eq(of, job));
            results.extend(own.flat_map(|(_, results)| results.clone()));
            let dropped = self
                .dropped
                .iter()
                .filter(|of| Arc::ptr_eq(of, job))
                .count();
            let record = JobEndRecord {
                status: end.status,
                completed: self.now,
                error: end.error.clone(),
                dropped: state.dropped + dropped as u64,
                results,
            };
            let cell = record::encode(&record, &self.core.limits())?;
            self.ops
                .put(&self.core.slots.jobs, record::job_end_key(&job.id), cell);
            if let Some(key) = &job.key {
                let until = self.core.settings.keep_jobs.key_until(self.now);
                let limits = self.core.limits();
                let release = idempotency::release(key, &job.id, until, &limits);
                self.ops.change(&self.core.slots.keys, release);
            }
        }
        let (completed, failed) = self.ended_counts();
        if let Some(history) = &mut self.history {
            history.number = inner.activations + 1;
            history.processed = inner.processed + completed;
            history.failed = inner.failed + failed;
            history.dropped = inner.dropped + self.dropped_messages;
            let places = self.core.settings.history.clamp(1, usize::from(u16::MAX)) as u64;
            let place = (history.number % places) as u16;
            let cell = record::encode(history, &self.core.limits())?;
            self.ops
                .put(&self.worker.slot, WorkerKey::History(place).encode(), cell);
        }
        Ok(())
    }

    fn ended_counts(&self) -> (u64, u64) {
        let of = |status| {
            self.ends
                .iter()
                .filter(|(_, end)| end.status == status)
                .count() as u64
        };
        (of(JobStatus::Completed), of(JobStatus::Failed))
    }

    /// What waits for jobs that all have ended goes with them.
    fn remove_orphans(&mut self, inner: &Inner) {
        let Some(plan) = &inner.plan else { return };
        let over = |job: &Arc<Job>| {
            self.ends.iter().any(|(known, _)| Arc::ptr_eq(known, job))
                || job.state.lock().status.is_final()
        };
        let orphaned = |jobs: &[Arc<Job>]| !jobs.is_empty() && jobs.iter().all(over);
        let mut messages = Vec::new();
        let mut claims = Vec::new();
        for (at, routine) in inner.routines.iter().enumerate() {
            for (slot, queue) in routine.slots.iter().enumerate() {
                let waiting = queue.peek(Form::AllNew).into_iter();
                let gone = waiting.filter(|held| orphaned(&held.item.jobs));
                messages.extend(gone.map(|held| (at, slot, held.seq)));
            }
            for (id, claimed) in &routine.claims {
                let all: Vec<_> = claimed
                    .given
                    .iter()
                    .flat_map(|given| &given.consumes)
                    .collect();
                if all.iter().all(|message| orphaned(&message.jobs)) {
                    claims.push((at, *id));
                }
            }
        }
        let timers: Vec<_> = inner
            .timers
            .iter()
            .filter(|(_, timer)| {
                let jobs: Vec<_> = timer.jobs.iter().collect();
                !jobs.is_empty()
                    && jobs
                        .iter()
                        .all(|id| inner.jobs.get(id.as_str()).is_none_or(over))
            })
            .map(|(number, timer)| (*number, timer.clone()))
            .collect();
        for (at, slot, seq) in messages {
            let routine = &plan.routines[at];
            let key = record::message_key(&routine.id, &routine.slots[slot].0, seq.0);
            self.ops.delete(&self.worker.slot, key);
            self.removed.push((at, slot, seq));
        }
        for (at, id) in claims {
            self.forget_attempts(inner, id, true);
            let routine = &plan.routines[at];
            if let Some(claimed) = inner.routines[at].claims.get(&id) {
                for given in &claimed.given {
                    for seq in &given.taken {
                        let name = &routine.slots[given.slot].0;
                        let key = record::message_key(&routine.id, name, seq.0);
                        self.ops.delete(&self.worker.slot, key);
                        self.removed.push((at, given.slot, *seq));
                    }
                }
            }
            self.claims_gone.push((at, id));
        }
        for (number, timer) in timers {
            self.timer_gone(inner, number, &timer);
        }
    }

    /// Makes memory what was committed. Only what is under the worker's lock: see
    /// [`Core::settled`] for the rest.
    pub(crate) fn apply(mut self, inner: &mut Inner, lsn: Lsn) -> Settled {
        let mut made_room = false;
        for (at, given) in &self.consumed {
            inner.routines[*at].slots[given.slot].consume(&given.taken);
        }
        for (at, given) in &self.given_back {
            inner.routines[*at].slots[given.slot].give_back(&given.taken);
            inner.routines[*at].candidate = true;
        }
        for (at, slot, seq) in &self.removed {
            let queue = &mut inner.routines[*at].slots[*slot];
            made_room |= queue.is_full();
            queue.remove(*seq);
        }
        for (at, id) in &self.claims_gone {
            inner.routines[*at].claims.remove(id);
        }
        for id in &self.effects_gone {
            inner.effects.remove(id);
        }
        if let Some((at, id, claimed)) = self.claim.take() {
            self.core.alarm.set(claimed.record.due, self.worker);
            inner.routines[at].claims.insert(id, claimed);
        }
        for delivery in self.arrivals.drain(..) {
            let message = Arc::new(Message {
                event: delivery.event,
                jobs: delivery.jobs,
                lsn,
            });
            let at = message.event.emitted_at_micros();
            let routine = &mut inner.routines[delivery.target];
            // There is room: it was asked under the same lock.
            let _ = routine.slots[delivery.slot].enqueue(message, at, Room::Hard);
            routine.candidate = true;
        }
        for number in &self.timers_gone {
            inner.timers.remove(number);
        }
        for (number, timer) in self.timers.drain(..) {
            self.core.alarm.set(timer.due, self.worker);
            inner.next_timer = inner.next_timer.max(number + 1);
            inner.timers.insert(number, timer);
        }
        self.apply_to_jobs(inner, lsn);
        if let Some(history) = self.history.take() {
            inner.activations = history.number;
            inner.history.push_back(history);
            while inner.history.len() > self.core.settings.history {
                inner.history.pop_front();
            }
        }
        inner.dropped += self.dropped_messages;
        inner.record.updated = self.now;
        if made_room {
            inner.unblock();
            self.worker.room.notify_all();
        }
        let at_rest = inner.is_at_rest();
        inner.step(match at_rest {
            true => WorkerStep::Drain,
            false => WorkerStep::Work,
        });
        Settled {
            lsn,
            ended: self.ends,
            at_rest,
        }
    }

    fn apply_to_jobs(&mut self, inner: &mut Inner, lsn: Lsn) {
        for job in self.begins.drain(..) {
            inner.jobs.insert(Arc::clone(&job.id), job);
        }
        for (job, by) in &self.counts {
            let mut state = job.state.lock();
            state.outstanding = state.outstanding.saturating_add_signed(*by);
            state.lsn = lsn;
        }
        for job in &self.dropped {
            job.state.lock().dropped += 1;
        }
        for (job, results) in self.results.drain(..) {
            job.state.lock().results.extend(results);
        }
        for job in &self.parts {
            job.state.lock().parts = true;
        }
        let (completed, failed) = self.ended_counts();
        inner.processed += completed;
        inner.failed += failed;
        for (job, end) in &self.ends {
            let mut state = job.state.lock();
            state.status = end.status;
            state.completed = Some(self.now);
            state.error.clone_from(&end.error);
            state.lsn = lsn;
            inner.jobs.remove(&job.id);
        }
    }
}
