//! Owns the commit of an activation: consumed input, changed state, emitted events with
//! their places in the slots, timers, and what its jobs note, all at once.
//! Imports `core`, `run`, `settle`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Batch, Claim};
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::capture::{self, Captured};
use crate::runtime::core::{Awaited, Core};
use crate::runtime::current;
use crate::runtime::event::{Event, JobSource, JobView};
use crate::runtime::failure::Failure;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::idempotency;
use crate::runtime::job::Job;
use crate::runtime::job_context::JobContext;
use crate::runtime::ops::Ops;
use crate::runtime::record::{self, MessageOf, TraceRecord};
use crate::runtime::run::{Done, Emit, Fate, Run};
use crate::runtime::settle::{Delivery, Settled, Settlement};
use crate::runtime::slot::{Full, Room};
use crate::runtime::status::{RoutineStep, WorkerStep};
use crate::runtime::telemetry;
use crate::runtime::worker::{Inner, Worker};
use crate::state::transaction;
use crate::value::Value;

/// The kind of a failure that is a slot without room.
pub(crate) const SLOT_FULL: &str = "slot full";
/// The kind of a failure that took too long.
pub(crate) const TIMEOUT: &str = "timeout";

/// What the end of a run's logic came to.
pub(crate) enum Outcome {
    /// What has ended with it is to be told. With it the next activation of its worker may
    /// have begun, for the same thread.
    Committed(Lsn, Vec<Settled>, Option<Arc<Run>>),
    /// Somebody changed what it read: these keys it touches.
    Lost(Vec<Claim>),
    Failed(Failure),
    /// It cannot be committed any more: its fate says why.
    Gone,
    /// The store takes nothing now: it will be tried again.
    Left,
}

impl Core {
    /// Commits a run whose logic succeeded.
    pub(crate) fn finish(&self, run: &Arc<Run>, ticket: Option<u64>) -> Outcome {
        let deliveries = match self.deliveries(run) {
            Ok(deliveries) => deliveries,
            Err(failure) => return Outcome::Failed(failure),
        };
        if !run.end(Fate::Over) {
            return Outcome::Gone;
        }
        let captured = match Captured::of(run) {
            Ok(captured) => captured,
            Err(e) => return Outcome::Failed(e.into()),
        };
        let transaction = run.begun_transaction();
        let mut batch = transaction.map(|tx| tx.take_batch()).unwrap_or_default();
        let view = transaction.map_or(Lsn::ZERO, |tx| tx.read_lsn());
        let claims = transaction::claims(&batch);
        let engine = self.engine();
        if engine.reservations.any() {
            engine.reservations.wait_for(ticket, &claims);
        }
        // Whoever has reserved a key may need this worker's lock.
        batch.yields = true;
        let done = std::mem::take(&mut *run.done.lock());
        let mut reserved = Vec::new();
        for post in &done.posts {
            if let Err(e) = self.reserve_id(&post.job) {
                self.free_ids(&reserved);
                return Outcome::Failed(e.into());
            }
            reserved.push(Arc::clone(&post.job));
        }
        let outcome = self.commit_run(run, done, deliveries, (batch, view, ticket), captured);
        if !matches!(outcome, Outcome::Committed(..)) {
            self.free_ids(&reserved);
        }
        match outcome {
            Outcome::Lost(_) => Outcome::Lost(claims),
            outcome => outcome,
        }
    }

    fn free_ids(&self, jobs: &[Arc<Job>]) {
        for job in jobs {
            self.free_id(job);
        }
    }

    /// The part of the commit that is under the locks of the workers: of its own, and of
    /// those that it posts to, in the order of their ids.
    fn commit_run(
        &self,
        run: &Arc<Run>,
        done: Done,
        mut deliveries: Vec<Delivery>,
        (mut batch, view, ticket): (Batch, Lsn, Option<u64>),
        captured: Captured,
    ) -> Outcome {
        let mut captured = Some(captured);
        let mut workers = vec![&run.worker];
        workers.extend(done.posts.iter().map(|post| &post.target.worker));
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        workers.dedup_by(|a, b| a.id == b.id);
        let mut waited = false;
        let mut inners = Vec::with_capacity(workers.len());
        for worker in &workers {
            let (inner, had_to_wait) = worker.lock();
            waited |= had_to_wait;
            inners.push(inner);
        }
        let own = workers.iter().position(|worker| worker.id == run.worker.id);
        let own = own.unwrap_or_default();
        let is_one_too_many = inners[own].crowd.commits(waited) && run.has_thread();
        if is_gone(run, &inners[own]) {
            return Outcome::Gone;
        }
        if run
            .deadline_micros
            .is_some_and(|deadline| deadline <= self.now())
        {
            return Outcome::Failed(too_late());
        }
        let mut settlements: Vec<_> = workers
            .iter()
            .map(|worker| Settlement::new(self, worker))
            .collect();
        let mut ops = Ops::default();
        for (at, worker) in workers.iter().enumerate() {
            let (settlement, inner) = (&mut settlements[at], &inners[at]);
            let mut deliveries = match at == own {
                true => std::mem::take(&mut deliveries),
                false => Vec::new(),
            };
            for post in done
                .posts
                .iter()
                .filter(|post| post.target.worker.id == worker.id)
            {
                match self.settle_post(settlement, inner, post) {
                    Ok(delivery) => deliveries.push(delivery),
                    Err(e) => return Outcome::Failed(e.into()),
                }
            }
            if at == own {
                if let Some(captured) = captured.take() {
                    settlement.print(run, captured);
                }
                settlement.consume(run);
                settlement.forget_attempts(inner, run.id, run.is_claimed());
                settlement.results(&run.jobs, &done.results);
                settlement.note(run, ExecutionOutcome::Completed);
            }
            if let Err(full) = settlement.deliver(inner, deliveries, Room::Hard) {
                return Outcome::Failed(no_room(worker, inner, full));
            }
            let own_done = (at == own).then_some(&done);
            if let Err(e) = prepare(settlement, inner, run, own_done) {
                return Outcome::Failed(e.into());
            }
            ops.merge(std::mem::take(&mut settlement.ops));
        }
        ops.add_to(&mut batch);
        let lsn = match self.engine().commit_read(&batch, view, ticket) {
            Ok(Some(lsn)) => lsn,
            Ok(None) => return Outcome::Lost(Vec::new()),
            Err(e) if idempotency::is_taken(&e) => return Outcome::Lost(Vec::new()),
            Err(e) if !is_passing(&e) => return Outcome::Failed(e.into()),
            Err(e) => {
                self.store_refuses(&e);
                self.leave(run, &mut inners[own]);
                return Outcome::Left;
            }
        };
        for _ in &done.posts {
            self.figures.posted();
        }
        capture::show(run, &self.printer);
        let mut settled = Vec::with_capacity(settlements.len());
        let mut next = None;
        for (at, settlement) in settlements.into_iter().enumerate() {
            let (worker, inner) = (workers[at], &mut inners[at]);
            if at == own {
                self.over(run, inner, RoutineStep::Succeed);
            }
            let mut outcome = settlement.apply(inner, lsn);
            if at == own && !is_one_too_many && self.goes_on_with(run, inner) {
                next = self.choose(worker, inner);
                outcome.at_rest |= next.is_none() && self.rests(inner);
            }
            settled.push(outcome);
            let will_ask = at == own && run.has_thread() && next.is_none();
            self.line_up(worker, inner, will_ask);
        }
        Outcome::Committed(lsn, settled, next)
    }

    /// Whether the thread of a run goes on with its worker at once, under the same lock: if
    /// nobody else waits for a turn, and nothing stands between that may take long.
    fn goes_on_with(&self, run: &Run, inner: &Inner) -> bool {
        run.has_thread()
            && !inner.in_line
            && inner.may_run()
            && self.hooks.is_empty()
            && self.printer.is_empty()
            && self.line.is_empty()
            && self.enter().is_ok()
    }

    /// A worker that had nothing to start may have come to rest.
    pub(crate) fn rests(&self, inner: &mut Inner) -> bool {
        let rests = inner.is_at_rest();
        if rests {
            inner.step(WorkerStep::Drain);
        }
        rests
    }

    /// A run is over, and its routine can go on, once its settlement is applied.
    pub(crate) fn over(&self, run: &Run, inner: &mut Inner, step: RoutineStep) {
        if inner.running.remove(&run.id).is_some() {
            inner.crowd.ends(run.has_thread());
        }
        let routine = &mut inner.routines[run.at];
        routine.running = routine.running.saturating_sub(1);
        routine.candidate |= routine.has_input();
        if routine.running == 0 || step != RoutineStep::Succeed {
            routine.step(step);
        }
        if inner.changing && inner.running.is_empty() {
            run.worker.room.notify_all();
        }
        if run.deadline_micros.is_some() {
            self.timed.lock().retain(|timed| timed.id != run.id);
        }
    }

    /// Tells what has ended with a settlement, outside of the worker's lock.
    pub(crate) fn settled(&self, settled: Settled) {
        self.printer.flush_waiting();
        let mut none_left = false;
        if !settled.ended.is_empty() {
            // Before anybody who waits for them goes on.
            for (job, end) in &settled.ended {
                self.figures.job_ended(end.status);
                telemetry::job_ended(job, end.status, settled.lsn);
                self.hooks.job_ended(job, end.status, end.error.as_deref());
            }
            let mut live = self.live.lock();
            for (job, _) in &settled.ended {
                live.remove(&job.id);
            }
            none_left = live.is_empty();
            drop(live);
            self.keep_finished(&settled.ended);
        }
        for _ in 0..settled.dropped {
            self.figures.dropped();
        }
        self.store_takes();
        // What fails here has poisoned the store, and the next call says so.
        let _ = self.committed();
        let told = [
            (Awaited::Job, !settled.ended.is_empty()),
            (Awaited::AllJobs, none_left),
            (Awaited::Rest, settled.at_rest),
        ];
        self.tell(told.into_iter().filter_map(|(what, is)| is.then_some(what)));
    }

    /// Where what a run emitted goes to. Conditions see what it has written.
    fn deliveries(&self, run: &Arc<Run>) -> Result<Vec<Delivery>, Failure> {
        let emits = {
            let mut done = run.done.lock();
            done.sealed = true;
            std::mem::take(&mut done.emits)
        };
        let mut deliveries = Vec::with_capacity(emits.len());
        for emit in emits {
            let jobs = emit
                .job
                .as_ref()
                .map_or(&run.jobs[..], std::slice::from_ref);
            if let Err(refusal) = self.hooks.event_emitted(run, &emit.event, jobs) {
                refused(run, jobs, "emit", refusal.reason());
                continue;
            }
            let of_event = |out: &&crate::runtime::plan::Out| {
                Some(out.connection.event()) == emit.event.event_name()
            };
            for out in run.routine().outs.iter().filter(of_event) {
                let passing = match out.connection.is_conditional() {
                    false => Some(jobs.to_vec()),
                    true => passing(run, &emit, jobs, &out.connection)?,
                };
                let Some(passing) = passing else { continue };
                let place = (out.connection.target(), out.connection.slot());
                let asked = self
                    .hooks
                    .before_enqueue(&run.worker, place, &emit.event, &passing);
                if let Err(refusal) = asked {
                    refused(run, &passing, "enqueue", refusal.reason());
                    continue;
                }
                let (event, cell) = match passing.len() == jobs.len() {
                    true => (Arc::clone(&emit.event), Arc::clone(&emit.cell)),
                    false => {
                        let cell = message_of(&emit.event, &passing);
                        let cell = record::encode(&cell, &self.limits())?;
                        // One of its own: messages are told apart by their events.
                        (Arc::new(Event::clone(&emit.event)), cell)
                    }
                };
                deliveries.push(Delivery {
                    target: out.target,
                    slot: out.slot,
                    event,
                    jobs: passing,
                    cell,
                });
            }
        }
        Ok(deliveries)
    }
}

/// A hook refused something: its jobs say so.
fn refused(run: &Run, jobs: &[Arc<Job>], what: &str, reason: &str) {
    let mut done = run.done.lock();
    for job in jobs {
        let trace = TraceRecord {
            at: run.begun_micros,
            routine: run.routine().id.to_string(),
            action: format!("{what} refused"),
            details: Value::from(reason),
        };
        done.traces.push((Arc::clone(job), trace));
    }
}

/// What a run did, as writes; of a worker that it only posts to, nothing but the posts.
fn prepare(
    settlement: &mut Settlement<'_>,
    inner: &Inner,
    run: &Run,
    done: Option<&Done>,
) -> Result<()> {
    if let Some(done) = done {
        for name in &done.cancelled_timers {
            settlement.remove_timer(inner, &run.routine().id, name);
        }
        for timer in &done.timers {
            settlement.set_timer(inner, timer.record.clone(), &timer.jobs)?;
        }
        settlement.trace(run.id, &done.traces)?;
    }
    settlement.prepare(inner)
}

/// The jobs for which a condition holds; `None` where the message does not pass.
fn passing(
    run: &Arc<Run>,
    emit: &Emit,
    jobs: &[Arc<Job>],
    connection: &crate::runtime::flow::Connection,
) -> Result<Option<Vec<Arc<Job>>>, Failure> {
    if jobs.is_empty() {
        // Who asks is not here: the answer is about the message alone.
        let _inside = current::enter_user_code();
        let passes = connection.passes(&emit.event, &JobView::new(&NoJob::default()))?;
        return Ok(passes.then(Vec::new));
    }
    let mut passing = Vec::new();
    for job in jobs {
        let context = JobContext::inside(run, job);
        let _inside = current::enter_user_code();
        if connection.passes(&emit.event, &JobView::new(&context))? {
            passing.push(Arc::clone(job));
        }
    }
    Ok((!passing.is_empty()).then_some(passing))
}

/// What a condition sees where a message is for no job.
#[derive(Default)]
struct NoJob(BTreeMap<String, Value>);

impl JobSource for NoJob {
    fn id(&self) -> &str {
        ""
    }

    fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.0
    }

    fn datum(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}

/// An event as a slot has it, to be written.
pub(crate) fn message_of<'m>(event: &'m Event, jobs: &'m [Arc<Job>]) -> MessageOf<'m> {
    MessageOf {
        data: Cow::Borrowed(event.data()),
        at: event.emitted_at_micros(),
        from: event.emitted_from(),
        event: event.event_name(),
        jobs: jobs.iter().map(|job| &*job.id).collect(),
    }
}

/// Whether a run can be committed no more: it is not its worker's any more, or all its
/// jobs have ended.
pub(crate) fn is_gone(run: &Run, inner: &Inner) -> bool {
    let over = |job: &Arc<Job>| job.state.lock().status.is_final();
    inner.record.status.is_final()
        || !inner.running.contains_key(&run.id)
        || (!run.jobs.is_empty() && run.jobs.iter().all(over))
}

/// Whether a commit failed since the store takes nothing now, and not by what is in it.
fn is_passing(error: &Error) -> bool {
    use Error::{Busy, Closed, Corrupt, DiskFull, Io, Poisoned};
    matches!(
        error,
        Busy { .. } | Closed | Corrupt(_) | DiskFull { .. } | Io { .. } | Poisoned { .. }
    )
}

/// The failure of what took longer than its timeout.
pub(crate) fn too_late() -> Failure {
    Failure::new("it took longer than its timeout").kind(TIMEOUT)
}

fn no_room(worker: &Worker, inner: &Inner, (at, slot, full): (usize, usize, Full)) -> Failure {
    let error = slot_full(worker, inner, (at, slot, full));
    Failure::from(Error::from(error)).kind(SLOT_FULL)
}

/// The error of a slot without room.
pub(crate) fn slot_full(
    worker: &Worker,
    inner: &Inner,
    (at, slot, full): (usize, usize, Full),
) -> WorkError {
    let routine = inner.plan.as_ref().map(|plan| &plan.routines[at]);
    WorkError::SlotFull {
        worker: worker.id.to_string(),
        routine: routine.map_or_else(String::new, |routine| routine.id.to_string()),
        slot: routine.map_or_else(String::new, |routine| routine.slots[slot].0.to_string()),
        waiting: full.waiting,
        max: full.max,
    }
}
