//! Owns running the logic of an activation: panics, races that were lost, and what its end
//! comes to. Imports `commit`, `core`, `fail`, `run`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::engine::{Claim, Ticket};
use crate::error::{Error, WorkError};
use crate::runtime::activation::Activation;
use crate::runtime::commit::{Outcome, is_gone};
use crate::runtime::core::Core;
use crate::runtime::current;
use crate::runtime::failure::Failure;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::run::{Fate, Run};
use crate::runtime::status::WorkerStep;
use crate::runtime::telemetry::{self, ActivationSpan};
use crate::runtime::worker::Worker;
use crate::state::transaction::RACES_BEFORE_QUEUEING;

impl Core {
    /// What a thread of the runtime does until the runtime is closed.
    pub(crate) fn work(&self) {
        while let Some(worker) = self.line.next() {
            if let Some(run) = self.begin(&worker) {
                self.execute(run);
            }
        }
    }

    /// The turn of a worker that stands first in line.
    fn begin(&self, worker: &Arc<Worker>) -> Option<Arc<Run>> {
        let mut inner = worker.inner.lock();
        inner.in_line = false;
        if self.enter().is_err() {
            // Whoever waits for its work is told why it does not come.
            drop(inner);
            self.tell();
            return None;
        }
        let run = self.choose(worker, &mut inner);
        // It may have more, for other threads.
        self.line_up(worker, &mut inner, false);
        if run.is_none() && inner.is_at_rest() {
            inner.step(WorkerStep::Drain);
            drop(inner);
            self.tell();
        }
        run
    }

    /// Runs an activation until it is committed, has failed, or cannot be committed any
    /// more.
    pub(crate) fn execute(&self, mut run: Arc<Run>) {
        self.watch_time(&run);
        let engine = Arc::clone(self.engine());
        let attempts = self.store.shared().settings.limits.transaction_attempts;
        let mut ticket: Option<Ticket<'_>> = None;
        let mut claims: Vec<Claim> = Vec::new();
        if run.routine().settings.starts_durable && !self.has_durable_cause(&run) {
            return self.leave(&run, &mut run.worker.inner.lock());
        }
        self.tell_begin(&run);
        for races in 1..=attempts {
            let span = telemetry::activation(&run);
            let entered = span.enter();
            let outcome = match self.hooks.routine_starts(&run).and_then(|()| logic(&run)) {
                Ok(()) => self.finish(&run, ticket.as_ref().map(Ticket::number)),
                Err(failure) if lost_its_view(&failure) => Outcome::Lost(Vec::new()),
                Err(failure) => Outcome::Failed(failure),
            };
            drop(entered);
            match outcome {
                Outcome::Committed(lsn) => {
                    drop(ticket);
                    span.committed(lsn);
                    self.ended(&run, &span, ExecutionOutcome::Completed, None);
                    return engine.expire_in_passing();
                }
                Outcome::Gone => return self.gone(&run, &span),
                Outcome::Left => return,
                Outcome::Failed(failure) => return self.failed(&run, failure, &span),
                Outcome::Lost(lost) => {
                    span.lost();
                    self.figures.race_lost();
                    if races >= RACES_BEFORE_QUEUEING {
                        // Let go before queueing again, so that nobody waits for two at once.
                        drop(ticket.take());
                        claims.extend(lost);
                        ticket = Some(engine.reservations.reserve(claims.clone()));
                    }
                    match self.again(&run) {
                        Some(next) => run = next,
                        None => return self.gone(&run, &span),
                    }
                }
            }
        }
        let tried = format!("tried {attempts} times, each time with other keys");
        let span = telemetry::activation(&run);
        self.failed(&run, Failure::new(tried).kind("conflict"), &span);
    }

    /// Tells that an activation begins, and with it perhaps jobs.
    fn tell_begin(&self, run: &Run) {
        if run.attempt > 1 || run.is_claimed() {
            return;
        }
        self.figures.begun(run);
        let messages = run.given.iter().flat_map(|given| &given.consumes);
        for message in messages.filter(|message| message.event.emitted_from().is_none()) {
            for job in &message.jobs {
                self.hooks.job_started(job);
            }
        }
    }

    /// Tells that an attempt has ended.
    pub(crate) fn ended(
        &self,
        run: &Run,
        span: &ActivationSpan,
        outcome: ExecutionOutcome,
        failure: Option<&Failure>,
    ) {
        span.ended(outcome);
        self.figures.ended(span, outcome);
        if let Some(failure) = failure {
            telemetry::attempt_failed(run, failure, outcome);
        }
        self.hooks.routine_ended(run, outcome, failure);
    }

    /// Waits until the commits are durable that its messages came with; false where they
    /// cannot be.
    fn has_durable_cause(&self, run: &Run) -> bool {
        let messages = run.given.iter().flat_map(|given| &given.consumes);
        let last = messages.map(|message| message.lsn).max();
        last.is_none_or(|lsn| self.engine().sync(lsn).is_ok())
    }

    /// The run after one that lost a race.
    fn again(&self, run: &Arc<Run>) -> Option<Arc<Run>> {
        run.end(Fate::Over);
        let mut inner = run.worker.inner.lock();
        // Its jobs may have ended since: a run without them would be one of no job.
        if run.fate() != Fate::Over || self.is_closing() || is_gone(run, &inner) {
            return None;
        }
        let next = Arc::new(run.again(run.is_claimed()));
        inner.running.insert(run.id, Arc::clone(&next));
        drop(inner);
        self.watch_time(&next);
        Some(next)
    }

    /// A run with a timeout is ended when that is over.
    fn watch_time(&self, run: &Arc<Run>) {
        if let Some(deadline) = run.deadline_micros {
            self.timed.lock().push(Arc::clone(run));
            self.alarm.set(deadline, &run.worker);
        }
    }
}

/// Calls the user's code.
fn logic(run: &Arc<Run>) -> Result<(), Failure> {
    let _inside = current::enter(run);
    let mut activation = Activation::of(run);
    let routine = run.routine();
    let ended = catch_unwind(AssertUnwindSafe(|| routine.logic.run(&mut activation)));
    ended.unwrap_or_else(|panic| Err(Failure::panicked("its logic", &*panic)))
}

/// Whether it failed since the state that it read had to make room.
fn lost_its_view(failure: &Failure) -> bool {
    matches!(failure.downcast_ref::<Error>(), Some(Error::ViewExpired))
}

/// Whether it failed since it was over already, by no fault of its own.
pub(crate) fn is_over(failure: &Failure) -> bool {
    let error = failure.downcast_ref::<Error>();
    matches!(error, Some(Error::Work(WorkError::ActivationOver { .. })))
}
