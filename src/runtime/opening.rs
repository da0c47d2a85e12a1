//! Owns finding work again: what the store has of workers, jobs, queues, timers and
//! attempts becomes what memory has of them. Imports `ahead`, `core`, `record`,
//! `settle`, `worker`.
//!
//! What must stay true: what is found is looked at as state, never as an edge that may
//! have been missed: a job without anything outstanding is completed, an attempt that was
//! due is due now, and whatever had been taken when the program ended waits again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::engine::small_key::SmallKey;
use crate::engine::table::Slot;
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::agenda::Timers;
use crate::runtime::ahead;
use crate::runtime::core::Core;
use crate::runtime::event::{Event, Origin};
use crate::runtime::flow::Flow;
use crate::runtime::job::{Job, Jobs, Message};
use crate::runtime::job_set::{InOrder, JobSet};
use crate::runtime::plan::Plan;
use crate::runtime::record::{
    self, ClaimRecord, FlowRecord, HistoryRecord, MessageOf, MessageRecord, OnceRecord,
    TimerRecord, WorkerKey, WorkerRecord,
};
use crate::runtime::retention;
use crate::runtime::settle::{Settled, Settlement};
use crate::runtime::slot::{Held, Seq, SlotQueue};
use crate::runtime::status::{JobStatus, WorkerStep};
use crate::runtime::worker::{Claimed, Given, Inner, RoutineState, Worker};
use crate::scope::Scope;

/// What is kept of effects, by activation and name.
type Effects = HashMap<record::ActivationId, BTreeMap<String, OnceRecord>>;

/// What a worker's scope has, by the flow that it is to have.
#[derive(Default)]
struct Found {
    /// By the numbers of routine and slot.
    messages: Vec<Vec<Vec<Held<Message>>>>,
    /// Of places that the flow does not have.
    parked: BTreeMap<(Arc<str>, Arc<str>, u64), MessageRecord>,
    /// Keys of messages whose jobs all have ended.
    orphans: Vec<SmallKey>,
    claims: Vec<(record::ActivationId, ClaimRecord)>,
    effects: Effects,
    timers: BTreeMap<u64, TimerRecord>,
    history: Vec<HistoryRecord>,
}

/// What the messages before had, which most have too.
struct Before<'i> {
    jobs: InOrder<'i>,
    /// The key without its number, and the place that it says.
    key: Vec<u8>,
    place: Option<(usize, usize)>,
    /// Where events came from, by routine and event.
    origins: BTreeMap<Box<str>, BTreeMap<Box<str>, Arc<Origin>>>,
}

impl<'i> Before<'i> {
    fn new(inner: &'i Inner) -> Self {
        Self {
            jobs: InOrder::new(&inner.jobs),
            key: Vec::new(),
            place: None,
            origins: BTreeMap::new(),
        }
    }

    fn origin(&mut self, routine: &str, event: &str) -> Arc<Origin> {
        let of_routine = self.origins.get(routine);
        if let Some(known) = of_routine.and_then(|events| events.get(event)) {
            return Arc::clone(known);
        }
        let origin = Arc::new(Origin {
            routine: routine.into(),
            event: event.into(),
        });
        let events = self.origins.entry(routine.into()).or_default();
        events.insert(event.into(), Arc::clone(&origin));
        origin
    }

    fn event(&mut self, record: MessageOf<'_>) -> Event {
        let data = record.data.into_owned();
        match (record.from, record.event) {
            (Some(from), Some(event)) => Event::of(self.origin(from, event), data, record.at),
            _ => Event::posted(data, record.at),
        }
    }
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
        let jobs = retention::load_jobs(&self.store, |id, worker| {
            let what = || format!("job {id:?} is of worker {worker:?}, which is not there");
            let found = workers.get(worker).map(|worker| Arc::clone(&worker.names));
            found.ok_or_else(|| record::damaged(&record::jobs(), &what()))
        })?;
        let mut finished = self.finished.lock();
        for job in jobs.finished {
            finished.put(job);
        }
        drop(finished);
        let mut of_worker: BTreeMap<Arc<str>, Vec<Arc<Job>>> = BTreeMap::new();
        *self.live.lock() = JobSet::opened(jobs.live.iter().cloned());
        for job in jobs.live {
            match of_worker.get_mut(&job.of.worker) {
                Some(jobs) => jobs.push(job),
                None => {
                    of_worker.insert(Arc::clone(&job.of.worker), vec![job]);
                }
            }
        }
        for (id, jobs) in of_worker {
            if let Some(worker) = workers.get(&id) {
                worker.inner.lock().jobs = JobSet::opened(jobs);
            }
        }
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
            ops.put(&self.slots.flows, flow.name.as_bytes(), cell);
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
        let found = self.find(worker, &inner, plan)?;
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

    /// Reads the scope of a worker. Nothing of the worker changes: it may fail.
    fn find(&self, worker: &Worker, inner: &Inner, plan: &Plan) -> Result<Found> {
        let scope = record::worker(&worker.id);
        let slots = plan.routines.iter().map(|routine| routine.slots.len());
        let empty = |slots| std::iter::repeat_with(Vec::new).take(slots).collect();
        loop {
            let mut found = Found {
                messages: slots.clone().map(empty).collect(),
                ..Found::default()
            };
            let mut before = Before::new(inner);
            let view = Arc::new(self.engine().view());
            let seen = ahead::for_each(&view, &worker.slot, ahead::ALL, |key, _, cell| {
                self.found(&mut found, &mut before, (&scope, inner, plan), (key, cell))
            });
            match seen {
                // It had to make room: from the beginning, so that nothing is counted twice.
                Err(Error::ViewExpired) => {}
                seen => return seen.map(|()| found),
            }
        }
    }

    /// Adds an entry to what was found.
    fn found(
        &self,
        found: &mut Found,
        before: &mut Before<'_>,
        (scope, inner, plan): (&Scope, &Inner, &Plan),
        (key, cell): (&[u8], &[u8]),
    ) -> Result<()> {
        let limits = self.limits();
        // Its names are not made once more for each message of a slot.
        if let Some((start, seq)) = key.split_last_chunk()
            && *start == *before.key
            && let Some((at, slot)) = before.place
        {
            let record: MessageOf<'_> = record::decode(cell, &limits, scope)?;
            let queue = &mut found.messages[at][slot];
            match held(before, u64::from_be_bytes(*seq), record) {
                Some(held) => queue.push(held),
                None => found.orphans.push(key.into()),
            }
            return Ok(());
        }
        let decoded =
            WorkerKey::decode(key).ok_or_else(|| record::damaged(scope, "a key that is none"))?;
        match decoded {
            WorkerKey::Message { routine, slot, seq } => {
                let record: MessageOf<'_> = record::decode(cell, &limits, scope)?;
                let place = plan.routine(&routine).and_then(|at| {
                    let slot = plan.routines[at].slot(&slot)?;
                    Some((at, slot))
                });
                let start = key.len().saturating_sub(size_of::<u64>());
                before.key = key[..start].to_vec();
                before.place = place;
                match place {
                    Some((at, slot)) => match held(before, seq, record) {
                        Some(held) => found.messages[at][slot].push(held),
                        None => found.orphans.push(key.into()),
                    },
                    None => {
                        let over = |id: &&str| !inner.jobs.contains(id);
                        match !record.jobs.is_empty() && record.jobs.iter().all(over) {
                            true => found.orphans.push(key.into()),
                            false => {
                                let record = record.to_record();
                                found.parked.insert((routine, slot, seq), record);
                            }
                        }
                    }
                }
            }
            WorkerKey::Claim(id) => {
                let record = record::decode(cell, &limits, scope)?;
                found.claims.push((id, record));
            }
            WorkerKey::Once(id, name) => {
                let record = record::decode(cell, &limits, scope)?;
                found.effects.entry(id).or_default().insert(name, record);
            }
            WorkerKey::Timer(number) => {
                let record = record::decode(cell, &limits, scope)?;
                found.timers.insert(number, record);
            }
            WorkerKey::History(_) => {
                found.history.push(record::decode(cell, &limits, scope)?);
            }
        }
        Ok(())
    }

    /// Makes memory what was found. Gives the keys of what is for nobody any more: jobs
    /// that were cancelled while their flow was not registered, and attempts whose messages
    /// are gone.
    fn restore(&self, inner: &mut Inner, plan: &Plan, mut found: Found) -> Vec<SmallKey> {
        let mut orphans = std::mem::take(&mut found.orphans);
        remove_orphans(inner, &mut found.timers, &mut orphans);
        for job in inner.jobs.iter() {
            let mut state = job.state.lock();
            state.outstanding = 0;
            state.status = JobStatus::Pending;
        }
        for message in found.messages.iter().flatten().flatten() {
            let emitted = message.item.event.emitted_from().is_some();
            message.item.jobs.iter().for_each(|job| count(job, emitted));
        }
        for record in found.parked.values() {
            let jobs = record.jobs.iter().filter_map(|id| inner.jobs.get(id));
            jobs.for_each(|job| count(job, record.from.is_some()));
        }
        inner.parked = found.parked;
        let mut routines = Vec::with_capacity(plan.routines.len());
        for (routine, messages) in plan.routines.iter().zip(found.messages) {
            let mut state = RoutineState::new(&routine.slots);
            for (at, waiting) in messages.into_iter().enumerate() {
                let options = routine.slots[at].1;
                state.slots[at] = SlotQueue::restore(options, Seq(0), waiting);
            }
            routines.push(state);
        }
        // In the order of their messages, which then are taken from the front.
        let first = |(_, record): &(_, ClaimRecord)| {
            let seqs = record.messages.iter().flat_map(|(_, seqs)| seqs);
            seqs.min().copied()
        };
        found.claims.sort_by_key(first);
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
        orphans: Vec<SmallKey>,
    ) -> Result<Option<Settled>> {
        let mut settlement = Settlement::new(self, worker);
        for key in orphans {
            settlement.ops.delete(&worker.slot, key);
        }
        let empty = |job: &&Arc<Job>| job.state.lock().outstanding == 0;
        for job in inner.jobs.iter().filter(empty) {
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

/// Takes out the timers that are for jobs that all have ended, and adds their keys.
fn remove_orphans(
    inner: &Inner,
    timers: &mut BTreeMap<u64, TimerRecord>,
    orphans: &mut Vec<SmallKey>,
) {
    timers.retain(|number, timer| {
        let over = |id: &String| !inner.jobs.contains(id);
        let gone = !timer.jobs.is_empty() && timer.jobs.iter().all(over);
        if gone {
            orphans.push(WorkerKey::Timer(*number).encode());
        }
        !gone
    });
}

/// An attempt that has no messages any more goes, with what was kept for it.
fn forget(orphans: &mut Vec<SmallKey>, effects: &mut Effects, id: record::ActivationId) {
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

/// A message as it waits; `None` where its jobs all have ended. Those that have are not in
/// it.
fn held(before: &mut Before<'_>, seq: u64, record: MessageOf<'_>) -> Option<Held<Message>> {
    let jobs = record.jobs.iter().filter_map(|id| before.jobs.get(id));
    let jobs: Jobs = jobs.cloned().collect();
    if jobs.is_empty() && !record.jobs.is_empty() {
        return None;
    }
    Some(Held {
        seq: Seq(seq),
        item: Message {
            jobs,
            event: Arc::new(before.event(record)),
            lsn: Lsn::ZERO,
        },
    })
}

/// Counts a message in one of its jobs.
fn count(job: &Job, emitted: bool) {
    let mut state = job.state.lock();
    state.outstanding += 1;
    if emitted {
        state.status = JobStatus::Running;
    }
}

fn text(key: &[u8], scope: &Scope) -> Result<String> {
    let text = std::str::from_utf8(key).map(str::to_owned);
    text.map_err(|_| record::damaged(scope, "a key that is no text"))
}
