//! Owns finding work again: what the store has of workers, jobs, queues, timers and
//! attempts becomes what memory has of them. Imports `core`, `record`, `settle`, `worker`.
//!
//! What must stay true: what is found is looked at as state, never as an edge that may
//! have been missed: a job without anything outstanding is completed, an attempt that was
//! due is due now, and whatever had been taken when the program ended waits again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::table::Slot;
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::agenda::Timers;
use crate::runtime::core::Core;
use crate::runtime::flow::Flow;
use crate::runtime::job::{Job, Message};
use crate::runtime::park::{event_of, live_jobs};
use crate::runtime::plan::Plan;
use crate::runtime::record::{
    self, ClaimRecord, FlowRecord, HistoryRecord, MessageRecord, OnceRecord, TimerRecord,
    WorkerKey, WorkerRecord,
};
use crate::runtime::retention;
use crate::runtime::settle::{Settled, Settlement};
use crate::runtime::slot::{Held, Seq, SlotQueue};
use crate::runtime::status::{JobStatus, WorkerStep};
use crate::runtime::worker::{Claimed, Given, Inner, RoutineState, Worker};
use crate::scope::Scope;

/// A routine and one of its slots.
type Place = (Arc<str>, Arc<str>);

/// What is kept of effects, by activation and name.
type Effects = HashMap<record::ActivationId, BTreeMap<String, OnceRecord>>;

/// What a worker's scope has.
#[derive(Default)]
struct Found {
    /// By routine and slot, with their numbers.
    messages: BTreeMap<Place, Vec<(u64, MessageRecord)>>,
    claims: Vec<(record::ActivationId, ClaimRecord)>,
    effects: Effects,
    timers: BTreeMap<u64, TimerRecord>,
    history: Vec<HistoryRecord>,
}

impl Core {
    /// Loads flows, workers and the jobs that have not ended.
    ///
    /// # Errors
    /// As a scan; [`Error::Corrupt`] for a record that is none.
    pub(crate) fn load(&self) -> Result<()> {
        let limits = self.limits();
        let mut flows = BTreeMap::new();
        self.scan(&self.slots.flows, |key, cell| {
            let record: FlowRecord = record::decode(cell, &limits, &record::flows())?;
            flows.insert(text(key, &record::flows())?, record);
            Ok(())
        })?;
        *self.known_flows.lock() = flows;
        let mut workers = BTreeMap::new();
        self.scan(&self.slots.workers, |key, cell| {
            let record: WorkerRecord = record::decode(cell, &limits, &record::workers())?;
            let worker = self.new_worker(&text(key, &record::workers())?, record);
            workers.insert(Arc::clone(&worker.id), Arc::new(worker));
            Ok(())
        })?;
        let jobs = retention::load_jobs(&self.store)?;
        let mut finished = self.finished.lock();
        for job in jobs.finished {
            finished.put(job);
        }
        drop(finished);
        let mut live = HashMap::with_capacity(jobs.live.len());
        for (id, record) in jobs.live {
            let Some(worker) = workers.get(record.worker.as_str()) else {
                let missing = &record.worker;
                let what = format!("job {id:?} is of worker {missing:?}, which is not there");
                return Err(record::damaged(&record::jobs(), &what));
            };
            let job = retention::job_of((id, worker.names()), record, None);
            let mut inner = worker.inner.lock();
            inner.jobs.insert(Arc::clone(&job.id), Arc::clone(&job));
            live.insert(Arc::clone(&job.id), job);
        }
        *self.live.lock() = live;
        *self.workers.write() = workers;
        Ok(())
    }

    /// Visits the entries of a scope of the runtime's own, as they are at one moment.
    pub(crate) fn scan(
        &self,
        slot: &Slot,
        mut visitor: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        // Nothing else writes to it now, so a view that had to make room can be resumed:
        // what was visited is visited again, and comes to the same.
        loop {
            let view = self.engine().view();
            match view.for_each(slot, |key, _, cell| visitor(key, cell)) {
                Err(Error::ViewExpired) => {}
                outcome => return outcome,
            }
        }
    }

    /// Registers a flow, and goes on with what its workers have.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`], [`WorkError::FlowChanged`], [`WorkError::FlowOutdated`]; as a
    /// commit and a scan.
    pub(crate) fn register(&self, flow: &Flow) -> Result<()> {
        self.enter()?;
        flow.check()?;
        let _registering = self.registering.lock();
        let plan = Arc::new(Plan::of(flow));
        let record = FlowRecord {
            version: flow.version,
            hash: flow.description_hash(),
            routines: flow.routine_ids().map(str::to_owned).collect(),
        };
        let mut known = self.known_flows.lock();
        let seen = known.get(&flow.name);
        if let Some(seen) = seen {
            if seen.version > record.version {
                return Err(WorkError::FlowOutdated {
                    flow: flow.name.clone(),
                    version: record.version,
                    seen: seen.version,
                }
                .into());
            }
            if seen.version == record.version && seen.hash != record.hash {
                return Err(WorkError::FlowChanged {
                    flow: flow.name.clone(),
                    version: record.version,
                }
                .into());
            }
        }
        let mut written = None;
        if seen.is_none_or(|seen| seen.version != record.version) {
            let mut ops = crate::runtime::ops::Ops::default();
            let cell = record::encode(&record, &self.limits())?;
            ops.put(&self.slots.flows, flow.name.as_bytes().into(), cell);
            written = Some(self.engine().commit(&ops.into_batch())?);
            known.insert(flow.name.clone(), record);
        }
        self.flows
            .write()
            .insert(flow.name.clone(), Arc::clone(&plan));
        drop(known);
        for worker in self.all_workers() {
            if *worker.flow == *flow.name {
                self.attach(&worker, &plan)?;
            }
        }
        written.map_or(Ok(()), |lsn| self.acknowledge(lsn))
    }

    /// Gives a worker its flow, and with it its queues. What it had in memory is read back
    /// from the store, so nothing of it runs meanwhile: what runs is waited for.
    fn attach(&self, worker: &Arc<Worker>, plan: &Arc<Plan>) -> Result<()> {
        let mut inner = worker.inner.lock();
        // What runs commits under the flow that it began with.
        inner.changing = true;
        while !inner.running.is_empty() && !self.is_closing() {
            worker.room.wait(&mut inner);
        }
        inner.changing = false;
        self.enter()?;
        if inner.record.status.is_final() {
            inner.routines = plan
                .routines
                .iter()
                .map(|r| RoutineState::new(&r.slots))
                .collect();
            inner.plan = Some(Arc::clone(plan));
            return Ok(());
        }
        let found = self.find(worker)?;
        inner.plan = Some(Arc::clone(plan));
        let orphans = self.restore(&mut inner, plan, found);
        let settled = self.complete_empty(worker, &mut inner, orphans)?;
        for routine in &mut inner.routines {
            routine.candidate = true;
            for claimed in routine.claims.values() {
                self.alarm.set(claimed.record.due, worker);
            }
        }
        for timer in inner.timers.agenda().values() {
            self.alarm.set(timer.due, worker);
        }
        inner.step(WorkerStep::Drain);
        if !inner.is_at_rest() {
            inner.step(WorkerStep::Work);
        }
        self.line_up(worker, &mut inner, false);
        drop(inner);
        if let Some(settled) = settled {
            self.settled(settled);
        }
        Ok(())
    }

    /// Reads the scope of a worker.
    fn find(&self, worker: &Worker) -> Result<Found> {
        let (scope, limits) = (record::worker(&worker.id), self.limits());
        let mut found = Found::default();
        self.scan(&worker.slot, |key, cell| {
            let key = WorkerKey::decode(key)
                .ok_or_else(|| record::damaged(&scope, "a key that is none"))?;
            match key {
                WorkerKey::Message { routine, slot, seq } => {
                    let record = record::decode(cell, &limits, &scope)?;
                    found
                        .messages
                        .entry((routine, slot))
                        .or_default()
                        .push((seq, record));
                }
                WorkerKey::Claim(id) => {
                    found
                        .claims
                        .push((id, record::decode(cell, &limits, &scope)?));
                }
                WorkerKey::Once(id, name) => {
                    let record = record::decode(cell, &limits, &scope)?;
                    found.effects.entry(id).or_default().insert(name, record);
                }
                WorkerKey::Timer(number) => {
                    found
                        .timers
                        .insert(number, record::decode(cell, &limits, &scope)?);
                }
                WorkerKey::History(_) => {
                    found.history.push(record::decode(cell, &limits, &scope)?);
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Makes memory what was found. Gives the keys of what is for nobody any more: jobs
    /// that were cancelled while their flow was not registered, and attempts whose messages
    /// are gone.
    fn restore(&self, inner: &mut Inner, plan: &Plan, mut found: Found) -> Vec<Box<[u8]>> {
        let mut orphans = remove_orphans(inner, &mut found);
        for job in inner.jobs.values() {
            let mut state = job.state.lock();
            state.outstanding = 0;
            state.status = JobStatus::Pending;
        }
        inner.parked.clear();
        let mut routines = Vec::with_capacity(plan.routines.len());
        for routine in &plan.routines {
            let mut state = RoutineState::new(&routine.slots);
            for (at, (name, options)) in routine.slots.iter().enumerate() {
                let key = (Arc::clone(&routine.id), Arc::clone(name));
                let records = found.messages.remove(&key).unwrap_or_default();
                let waiting = records
                    .into_iter()
                    .map(|(seq, record)| held(inner, seq, record));
                let waiting: Vec<_> = waiting.collect();
                state.slots[at] = SlotQueue::restore(*options, Seq(0), waiting);
            }
            routines.push(state);
        }
        for ((routine, slot), records) in found.messages {
            for (seq, record) in records {
                count(inner, &record);
                let key = (Arc::clone(&routine), Arc::clone(&slot), seq);
                inner.parked.insert(key, record);
            }
        }
        for (id, record) in found.claims {
            let Some(at) = plan.routine(&record.routine) else {
                forget(&mut orphans, &mut found.effects, id);
                continue;
            };
            let state = &mut routines[at];
            let mut given = Vec::new();
            for (name, seqs) in &record.messages {
                let Some(slot) = plan.routines[at].slot(name) else {
                    continue;
                };
                let seqs: Vec<_> = seqs.iter().map(|seq| Seq(*seq)).collect();
                let taking = state.slots[slot].take_again(&seqs);
                let messages: Vec<_> = taking.given.into_iter().map(|held| held.item).collect();
                given.push(Given {
                    slot,
                    consumes: messages.clone(),
                    messages,
                    taken: taking.taken,
                });
            }
            if given.iter().all(|given| given.taken.is_empty()) {
                forget(&mut orphans, &mut found.effects, id);
                continue;
            }
            for job in given
                .iter()
                .flat_map(|given| &given.consumes)
                .flat_map(|m| &m.jobs)
            {
                job.state.lock().status = JobStatus::Running;
            }
            state.claims.insert(id, Claimed { record, given });
        }
        for timer in found.timers.values() {
            for id in &timer.jobs {
                if let Some(job) = inner.jobs.get(id.as_str()) {
                    let mut state = job.state.lock();
                    state.outstanding += 1;
                    state.status = JobStatus::Running;
                }
            }
        }
        inner.routines = routines;
        inner.effects = found.effects;
        inner.next_timer = found
            .timers
            .last_key_value()
            .map_or(0, |(number, _)| number + 1);
        inner.timers = Timers::of(found.timers);
        found.history.sort_unstable_by_key(|entry| entry.number);
        if let Some(last) = found.history.last() {
            inner.activations = last.number;
            inner.processed = last.processed;
            inner.failed = last.failed;
            inner.dropped = last.dropped;
        }
        inner.history = found.history.into();
        while inner.history.len() > self.settings.history {
            inner.history.pop_front();
        }
        orphans
    }

    /// Completes the jobs that have nothing outstanding.
    fn complete_empty(
        &self,
        worker: &Arc<Worker>,
        inner: &mut Inner,
        orphans: Vec<Box<[u8]>>,
    ) -> Result<Option<Settled>> {
        let mut settlement = Settlement::new(self, worker);
        for key in orphans {
            settlement.ops.delete(&worker.slot, key);
        }
        let empty = |job: &&Arc<Job>| job.state.lock().outstanding == 0;
        for job in inner.jobs.values().filter(empty) {
            settlement.look_at(job);
        }
        settlement.prepare(inner)?;
        let batch = std::mem::take(&mut settlement.ops).into_batch();
        if batch.writes.is_empty() {
            return Ok(None);
        }
        let lsn = self.engine().commit(&batch)?;
        Ok(Some(settlement.apply(inner, lsn)))
    }
}

/// A job that has not ended. What it has beside its record nobody knows; it goes with it
/// anyway.
/// Takes out what is for jobs that all have ended, and gives its keys.
fn remove_orphans(inner: &Inner, found: &mut Found) -> Vec<Box<[u8]>> {
    let over = |jobs: &[String]| {
        !jobs.is_empty() && !jobs.iter().any(|id| inner.jobs.contains_key(id.as_str()))
    };
    let mut orphans = Vec::new();
    for ((routine, slot), records) in &mut found.messages {
        records.retain(|(seq, record)| {
            let gone = over(&record.jobs);
            if gone {
                orphans.push(record::message_key(routine, slot, *seq));
            }
            !gone
        });
    }
    found.timers.retain(|number, timer| {
        let gone = over(&timer.jobs);
        if gone {
            orphans.push(WorkerKey::Timer(*number).encode());
        }
        !gone
    });
    orphans
}

/// An attempt that has no messages any more goes, with what was kept for it.
fn forget(orphans: &mut Vec<Box<[u8]>>, effects: &mut Effects, id: record::ActivationId) {
    orphans.push(WorkerKey::Claim(id).encode());
    for name in effects
        .remove(&id)
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
    {
        orphans.push(WorkerKey::Once(id, name).encode());
    }
}

/// A message as it waits, counted in its jobs. Jobs that have ended are not in it.
fn held(inner: &Inner, seq: u64, record: MessageRecord) -> Held<Arc<Message>> {
    count(inner, &record);
    Held {
        seq: Seq(seq),
        at_micros: record.at,
        item: Arc::new(Message {
            jobs: live_jobs(inner, &record),
            event: Arc::new(event_of(record)),
            lsn: Lsn::ZERO,
        }),
    }
}

/// Counts a message in its jobs.
fn count(inner: &Inner, record: &MessageRecord) {
    for id in &record.jobs {
        if let Some(job) = inner.jobs.get(id.as_str()) {
            let mut state = job.state.lock();
            state.outstanding += 1;
            if record.from.is_some() {
                state.status = JobStatus::Running;
            }
        }
    }
}

fn text(key: &[u8], scope: &Scope) -> Result<String> {
    let text = std::str::from_utf8(key).map(str::to_owned);
    text.map_err(|_| record::damaged(scope, "a key that is no text"))
}
