//! Owns the two halves of a settlement: the writes completed before the commit, and memory
//! changed after it. Imports `settle`.

use std::sync::Arc;

use super::{JobChange, JobEnd, Settled, Settlement};
use crate::error::Result;
use crate::ids::Lsn;
use crate::runtime::capture;
use crate::runtime::core::Core;
use crate::runtime::idempotency;
use crate::runtime::job::{Job, JobState, Message};
use crate::runtime::ops::Ops;
use crate::runtime::output::{OutputChange, Pieces};
use crate::runtime::record::{
    self, JobEndRecord, JobRecord, Text, WorkerKey, WorkerRecord, WorkerTotals,
};
use crate::runtime::slot::Room;
use crate::runtime::status::{JobStatus, JobStep, WorkerStatus, WorkerStep};
use crate::runtime::worker::Inner;
use crate::value::Value;

impl Settlement<'_> {
    /// Completes the writes: the jobs that end, what goes with them, and the counters.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn prepare(&mut self, inner: &Inner) -> Result<()> {
        if self.leaves_something() {
            self.remove_orphans(inner);
        }
        let completed = JobEnd {
            status: JobStatus::Completed,
            error: None,
        };
        for (job, change) in self.jobs.iter_mut() {
            let state = job.state.lock();
            let Some(by) = change.by.filter(|_| change.end.is_none()) else {
                continue;
            };
            let left = state.outstanding.saturating_add_signed(by);
            if left == 0 && !state.status.is_final() {
                change.end = Some(completed.clone());
            }
        }
        self.prepare_ends()?;
        self.prepare_progress()?;
        self.prepare_output()?;
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
        self.prepare_worker(inner)
    }

    /// The record of the worker, where it ends, and where its first activation says when it
    /// was started.
    fn prepare_worker(&mut self, inner: &Inner) -> Result<()> {
        let first = self.history.is_some() && inner.activations == 0;
        let record = match self.worker_end.take() {
            Some(ended) => {
                let (completed, failed) = self.ended_counts();
                let totals = WorkerTotals {
                    activations: inner.activations + u64::from(self.history.is_some()),
                    processed: inner.processed + completed,
                    failed: inner.failed + failed,
                    dropped: inner.dropped + self.dropped_messages,
                };
                WorkerRecord {
                    totals: Some(totals),
                    ..ended
                }
            }
            // Whether it works or rests is found again at the next opening.
            None if first => WorkerRecord {
                status: match inner.record.status {
                    WorkerStatus::Paused => WorkerStatus::Paused,
                    _ => WorkerStatus::Idle,
                },
                ..inner.record.clone()
            },
            None => return Ok(()),
        };
        let cell = record::encode(&record, &self.core.limits())?;
        let id = self.worker.id.as_bytes();
        self.ops.put(&self.core.slots.workers, id, cell);
        Ok(())
    }

    /// Whether a job ends of which something is left, which goes with it. Where a job
    /// ends with its last message there is nothing to look for.
    fn leaves_something(&self) -> bool {
        self.jobs.iter().any(|(job, change)| {
            let by = change.by.unwrap_or(0);
            let left = || job.state.lock().outstanding.saturating_add_signed(by);
            change.end.is_some() && left() > 0
        })
    }

    /// The jobs that end.
    fn prepare_ends(&mut self) -> Result<()> {
        let limits = self.core.limits();
        for (job, change) in self.jobs.iter() {
            let Some(end) = &change.end else { continue };
            let state = job.state.lock();
            let record = JobEndRecord {
                status: end.status,
                completed: self.now,
                error: end.error.clone(),
                dropped: state.notes.dropped + change.dropped,
                results: results(&state, change),
            };
            drop(state);
            let cell = record::encode(&record, &limits)?;
            self.ops
                .put(&self.core.slots.jobs, record::job_end_key(&job.id), cell);
            if let Some(key) = &job.posted.key {
                let until = self.core.settings.keep_jobs.key_until(self.now);
                let release = idempotency::release(key, &job.id, until, &limits);
                self.ops.change(&self.core.slots.keys, release);
            }
        }
        Ok(())
    }

    /// What a job that goes on has come to so far, beside what it began with.
    fn prepare_progress(&mut self) -> Result<()> {
        let limits = self.core.limits();
        for (job, change) in self.jobs.iter() {
            let changes = change.dropped > 0 || !change.results.is_empty();
            if !changes || change.end.is_some() {
                continue;
            }
            let state = job.state.lock();
            if state.status.is_final() {
                continue;
            }
            let record = JobRecord {
                flow: Text::from(&job.of.flow),
                worker: Text::from(&job.of.worker),
                created: job.created,
                metadata: job.posted.metadata.clone(),
                key: job.posted.key.clone(),
                dropped: state.notes.dropped + change.dropped,
                results: results(&state, change),
            };
            drop(state);
            let cell = record::encode(&record, &limits)?;
            self.ops
                .put(&self.core.slots.jobs, record::job_begin_key(&job.id), cell);
        }
        Ok(())
    }

    /// What the run printed, for each of its jobs, and how long the output of those lasts
    /// that end.
    fn prepare_output(&mut self) -> Result<()> {
        let (store, now) = (&self.core.store, self.now);
        if let Some((captured, jobs)) = &self.printed {
            for job in jobs {
                let ends = self
                    .jobs
                    .get(job)
                    .is_some_and(|change| change.end.is_some());
                let change = captured.change(store, job, now, ends.then_some(now))?;
                if let Some(change) = change {
                    self.jobs.of(job).output = Some(write(self.core, &mut self.ops, job, change));
                }
            }
        }
        for (job, of) in self.jobs.iter_mut() {
            if of.end.is_some() && of.output.is_none() {
                let change = capture::at_end(store, job, now)?;
                of.output = change.map(|change| write(self.core, &mut self.ops, job, change));
            }
        }
        Ok(())
    }

    fn ended_counts(&self) -> (u64, u64) {
        let of = |status| {
            let ends = self
                .jobs
                .iter()
                .filter_map(|(_, change)| change.end.as_ref());
            ends.filter(|end| end.status == status).count() as u64
        };
        (of(JobStatus::Completed), of(JobStatus::Failed))
    }

    /// What waits for jobs that all have ended goes with them.
    fn remove_orphans(&mut self, inner: &Inner) {
        let Some(plan) = &inner.plan else { return };
        let over = |job: &Arc<Job>| {
            let ends = self
                .jobs
                .get(job)
                .is_some_and(|change| change.end.is_some());
            ends || job.state.lock().status.is_final()
        };
        let orphaned = |jobs: &[Arc<Job>]| !jobs.is_empty() && jobs.iter().all(over);
        let mut messages = Vec::new();
        let mut claims = Vec::new();
        for (at, routine) in inner.routines.iter().enumerate() {
            for (slot, queue) in routine.slots.iter().enumerate() {
                let gone = queue.iter().filter(|held| orphaned(&held.item.jobs));
                messages.extend(gone.map(|held| (at, slot, held.seq)));
            }
            for (id, claimed) in routine.claims.iter() {
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
            .agenda()
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
        let parked = inner.parked.iter().filter(|(_, record)| {
            let jobs = &record.jobs;
            !jobs.is_empty()
                && jobs
                    .iter()
                    .all(|id| inner.jobs.get(id.as_str()).is_none_or(over))
        });
        let parked: Vec<_> = parked.map(|(place, _)| place.clone()).collect();
        for (routine, slot, seq) in parked {
            let key = record::message_key(&routine, &slot, seq);
            self.ops.delete(&self.worker.slot, key);
            self.parked_gone.push((routine, slot, seq));
        }
        for (at, slot, seq) in messages {
            let routine = &plan.routines[at];
            let key = record::message_key(&routine.id, &routine.slots[slot].0, seq.0);
            self.ops.delete(&self.worker.slot, key);
            self.removed.entry((at, slot)).or_default().insert(seq);
        }
        for (at, id) in claims {
            self.forget_attempts(inner, id, true);
            let routine = &plan.routines[at];
            if let Some(claimed) = inner.routines[at].claims.get(id) {
                for given in &claimed.given {
                    for seq in &given.taken {
                        let name = &routine.slots[given.slot].0;
                        let key = record::message_key(&routine.id, name, seq.0);
                        self.ops.delete(&self.worker.slot, key);
                        let place = (at, given.slot);
                        self.removed.entry(place).or_default().insert(*seq);
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
        for (at, slot, taken) in &self.consumed {
            inner.routines[*at].slots[*slot].consume(taken);
        }
        for (at, slot, taken) in &self.given_back {
            inner.routines[*at].slots[*slot].give_back(taken);
            inner.routines[*at].candidate = true;
        }
        for (&(at, slot), gone) in &self.removed {
            let queue = &mut inner.routines[at].slots[slot];
            made_room |= queue.is_full();
            queue.remove(gone);
        }
        for place in &self.parked_gone {
            inner.parked.remove(place);
        }
        for (at, id) in &self.claims_gone {
            inner.routines[*at].claims.remove(*id);
        }
        for id in &self.effects_gone {
            inner.effects.remove(id);
        }
        if let Some((at, id, claimed)) = self.claim.take() {
            self.core.alarm.set(claimed.record.due, self.worker);
            inner.routines[at].claims.insert(id, claimed);
        }
        for delivery in self.arrivals.drain(..) {
            let message = Message {
                event: delivery.event,
                jobs: delivery.jobs.into_iter().collect(),
                lsn,
            };
            let routine = &mut inner.routines[delivery.target];
            // There is room: it was asked under the same lock.
            let _ = routine.slots[delivery.slot].enqueue(message, Room::Hard);
            routine.candidate = true;
        }
        for number in &self.timers_gone {
            inner.timers.remove(*number);
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
        let changes = self.jobs.into_entries().into_iter();
        Settled {
            lsn,
            dropped: self.dropped_messages,
            ended: changes
                .filter_map(|(job, change)| Some((job, change.end?)))
                .collect(),
            at_rest,
        }
    }

    fn apply_to_jobs(&mut self, inner: &mut Inner, lsn: Lsn) {
        let (completed, failed) = self.ended_counts();
        inner.processed += completed;
        inner.failed += failed;
        for (job, change) in self.jobs.iter_mut() {
            if change.begins {
                inner.jobs.insert(job);
            }
            let mut state = job.state.lock();
            if let Some(by) = change.by {
                state.outstanding = state.outstanding.saturating_add_signed(by);
                state.lsn = lsn;
            }
            if change.dropped > 0 || !change.results.is_empty() {
                let notes = state.notes.add();
                notes.dropped += change.dropped;
                notes.results.append(&mut change.results);
            }
            state.parts |= change.parts || change.output.is_some();
            if let Some(output) = change.output.take() {
                state.notes.add().output = Some(output);
            }
            let Some(end) = &change.end else { continue };
            let step = match end.status {
                JobStatus::Failed => JobStep::Fail,
                JobStatus::Cancelled => JobStep::Cancel,
                _ => JobStep::Drain,
            };
            // It had not ended: that was looked at under the same lock.
            state.status = state.status.after(step).unwrap_or(end.status);
            state.completed = Some(self.now);
            if let Some(error) = &end.error {
                state.notes.add().error = Some(error.clone());
            }
            state.lsn = lsn;
            inner.jobs.remove(&job.id);
        }
    }
}

/// The results of a job once a settlement is committed.
fn results(state: &JobState, change: &JobChange) -> Vec<Value> {
    state
        .notes
        .results
        .iter()
        .chain(&change.results)
        .cloned()
        .collect()
}

/// Writes a change of what a job printed; gives what is stored of it then.
fn write(core: &Core, ops: &mut Ops, job: &Job, change: OutputChange) -> Pieces {
    let slot = core.engine().slot(&record::job(&job.id).encode());
    for (key, cell) in change.writes {
        match cell {
            Some(cell) => ops.put(&slot, key, cell),
            None => ops.delete(&slot, key),
        }
    }
    change.after
}
