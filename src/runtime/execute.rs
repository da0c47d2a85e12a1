//! Owns running the logic of an activation: panics, races that were lost, and what its end
//! comes to. Imports `commit`, `core`, `fail`, `line`, `run`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::engine::{Claim, Ticket};
use crate::error::{Error, WorkError};
use crate::runtime::activation::Activation;
use crate::runtime::commit::{Outcome, is_gone};
use crate::runtime::core::{Awaited, Core};
use crate::runtime::current;
use crate::runtime::failure::Failure;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::line::Turn;
use crate::runtime::routine::{Logic, Routine};
use crate::runtime::run::{Fate, Run};
use crate::runtime::telemetry::{self, ActivationSpan};
use crate::state::transaction::RACES_BEFORE_QUEUEING;

impl Core {
    /// What a thread of the runtime does until the runtime is closed.
    pub(crate) fn work(&self) {
        while let Some(turn) = self.line.next() {
            let mut next = self.begin(&turn);
            while let Some(run) = next {
                next = self.dispatch(run);
            }
        }
    }

    /// The turn of a worker.
    fn begin(&self, turn: &Turn) -> Option<Arc<Run>> {
        let (Turn::First(worker) | Turn::Called(worker)) = turn;
        let (mut inner, _) = worker.lock();
        match turn {
            Turn::First(_) => inner.in_line = false,
            Turn::Called(_) => inner.crowd.came(),
        }
        if self.enter().is_err() {
            // Whoever waits for its work is told why it does not come.
            drop(inner);
            self.tell(Awaited::ANY);
            return None;
        }
        let run = self.choose(worker, &mut inner);
        // It may have more, for other threads.
        self.line_up(worker, &mut inner, false);
        if run.is_none() && self.rests(&mut inner) {
            drop(inner);
            self.tell([Awaited::Rest]);
        }
        run
    }

    /// Starts a run: here, or with whoever polls async logic. Gives the run that this
    /// thread has begun with the end of it.
    fn dispatch(&self, run: Arc<Run>) -> Option<Arc<Run>> {
        match &run.routine().logic {
            Logic::Plain(logic) => {
                let logic = Arc::clone(logic);
                self.execute(run, &*logic)
            }
            #[cfg(feature = "tokio")]
            Logic::Async(logic) => {
                let logic = Arc::clone(logic);
                self.hand_over(run, logic);
                None
            }
        }
    }

    /// Runs an activation until it is committed, has failed, or cannot be committed any
    /// more. Gives the next one, if that has begun.
    fn execute(&self, run: Arc<Run>, routine: &dyn Routine) -> Option<Arc<Run>> {
        let mut execution = Execution::begin(self, run)?;
        loop {
            let span = telemetry::activation(&execution.run);
            let entered = span.enter();
            let ended = self.hooks.routine_starts(&execution.run);
            let ended = ended.and_then(|()| logic(&execution.run, routine));
            drop(entered);
            if !execution.goes_on(self, &span, ended) {
                return execution.next;
            }
        }
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

/// The runs of one activation, one after the other, until one of them is committed or it
/// has failed. Who has it calls the logic; what may wait is in here.
pub(crate) struct Execution {
    /// The run whose logic is to be called.
    pub(crate) run: Arc<Run>,
    races: u32,
    claims: Vec<Claim>,
    /// What it reserved, since it lost too often.
    ticket: Option<Ticket>,
    /// What its thread has begun with its commit.
    next: Option<Arc<Run>>,
}

impl Execution {
    /// `None` where it cannot begin now.
    pub(crate) fn begin(core: &Core, run: Arc<Run>) -> Option<Self> {
        core.watch_time(&run);
        if run.routine().settings.starts_durable && !core.has_durable_cause(&run) {
            core.leave(&run, &mut run.worker.inner.lock());
            return None;
        }
        core.tell_begin(&run);
        Some(Self {
            run,
            races: 0,
            claims: Vec::new(),
            ticket: None,
            next: None,
        })
    }

    /// The logic has ended: commits what it did, or does what follows from its failure. True
    /// where it lost a race, and is to be called once more, for the run that is here now.
    pub(crate) fn goes_on(
        &mut self,
        core: &Core,
        span: &ActivationSpan,
        ended: Result<(), Failure>,
    ) -> bool {
        let run = Arc::clone(&self.run);
        let entered = span.enter();
        let outcome = match ended {
            Ok(()) => core.finish(&run, self.ticket.as_ref().map(Ticket::number)),
            Err(failure) if lost_its_view(&failure) => Outcome::Lost(Vec::new()),
            Err(failure) => Outcome::Failed(failure),
        };
        drop(entered);
        match outcome {
            Outcome::Committed(lsn, settled, next) => {
                self.next = next;
                drop(self.ticket.take());
                span.committed(lsn);
                // Before anybody who waits for its jobs is told.
                core.ended(&run, span, ExecutionOutcome::Completed, None);
                settled
                    .into_iter()
                    .for_each(|settled| core.settled(settled));
                core.engine().expire_in_passing();
            }
            Outcome::Gone => core.gone(&run, span),
            Outcome::Left => {}
            Outcome::Failed(failure) => core.failed(&run, failure, span),
            Outcome::Lost(lost) => {
                span.lost();
                core.figures.race_lost();
                return self.lost(core, span, lost);
            }
        }
        false
    }

    fn lost(&mut self, core: &Core, span: &ActivationSpan, lost: Vec<Claim>) -> bool {
        self.races += 1;
        let attempts = core.store.shared().settings.limits.transaction_attempts;
        if self.races >= attempts {
            let tried = format!("tried {attempts} times, each time with other keys");
            core.failed(&self.run, Failure::new(tried).kind("conflict"), span);
            return false;
        }
        if self.races >= RACES_BEFORE_QUEUEING {
            // Let go before queueing again, so that nobody waits for two at once.
            drop(self.ticket.take());
            self.claims.extend(lost);
            let reservations = &core.engine().reservations;
            self.ticket = Some(reservations.reserve(self.claims.clone()));
        }
        match core.again(&self.run) {
            Some(next) => self.run = next,
            None => {
                core.gone(&self.run, span);
                return false;
            }
        }
        true
    }
}

/// Calls the user's code.
fn logic(run: &Arc<Run>, routine: &dyn Routine) -> Result<(), Failure> {
    let _inside = current::enter(run);
    let mut activation = Activation::of(run);
    let ended = catch_unwind(AssertUnwindSafe(|| routine.run(&mut activation)));
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
