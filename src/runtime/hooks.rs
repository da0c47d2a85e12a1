//! Owns hooks: the user's code that is told of what happens, and may refuse some of it.
//! Imports `current`, `event`, `failure`, `history`, `job`, `run`, `status`, `telemetry`,
//! `worker`.
//!
//! What must stay true: whatever a hook does, the runtime goes on. A panic is a refusal
//! where there can be one, and else is counted, told to `tracing`, and left alone.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::WorkError;
use crate::runtime::current::enter_user_code;
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::job::Job;
use crate::runtime::run::Run;
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::runtime::telemetry::{self, Figures};
use crate::runtime::worker::Worker;
use crate::value::Value;

#[cfg(test)]
mod tests;

/// The kind of a failure that is the refusal of a hook.
pub(crate) const REFUSED: &str = "refused";

/// Code of the user's that is told of what happens in a runtime. Each method does nothing
/// unless it is given; four of them may refuse.
///
/// Hooks are called on the threads that do the work, before or after it as each says, in
/// the order in which they were added, and whoever is to be told waits for them: they are
/// quick, and do nothing that waits. Waiting for work, posting, registering a flow and
/// shutting down are errors inside ([`WorkError::InsideLogic`]). After a refusal the hooks behind are not asked. A hook
/// that panics where it may refuse has refused, with the text of the panic; elsewhere the
/// panic is counted, told to `tracing`, and without effect.
///
/// They are told of what is visible, which may not be durable yet; after a crash some of it
/// may happen again. A run that lost a race is run again, and so are the hooks of what it
/// emits.
///
/// ```
/// use evenkeel::{BeforeEnqueue, Hooks, JobEnded, Refusal};
///
/// struct Quiet;
///
/// impl Hooks for Quiet {
///     fn on_job_end(&self, job: &JobEnded<'_>) {
///         eprintln!("{} is {}", job.job_id, job.status);
///     }
///
///     fn before_enqueue(&self, message: &BeforeEnqueue<'_>) -> Result<(), Refusal> {
///         match message.routine_id {
///             "mail" => Err("no mail at night".into()),
///             _ => Ok(()),
///         }
///     }
/// }
/// ```
#[expect(unused_variables, reason = "their names are for whoever writes one")]
pub trait Hooks: Send + Sync {
    /// A worker was started: a new one, not one that is there again after an opening.
    fn on_worker_start(&self, worker: &WorkerStarted<'_>) {}

    /// A worker has ended.
    fn on_worker_stop(&self, worker: &WorkerStopped<'_>) {}

    /// The first activation of a job is about to begin.
    fn on_job_start(&self, job: &JobStarted<'_>) {}

    /// A job has ended.
    fn on_job_end(&self, job: &JobEnded<'_>) {}

    /// An attempt of an activation is about to begin.
    ///
    /// # Errors
    /// A refusal: its logic is not run. It is a failure of the kind `refused`, which no
    /// retry mends: its error handler decides about its jobs, and where that stops them its
    /// messages are dead letters.
    fn on_routine_start(&self, routine: &RoutineStarts<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// An attempt of an activation is over.
    fn on_routine_end(&self, routine: &RoutineEnded<'_>) {}

    /// The logic of an activation succeeded, and this is one of the events that it emitted.
    ///
    /// # Errors
    /// A refusal: it goes nowhere. The activation is committed with all else that it did;
    /// the refusal is counted, and noted in the trace of its jobs.
    fn on_event_emit(&self, event: &EventEmitted<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// A message is about to be put into a slot: one for each connection that an event
    /// passes, and each post.
    ///
    /// # Errors
    /// A refusal: it is not put there. A post is [`WorkError::Refused`] then; of what was
    /// emitted the refusal is counted, and noted in the trace of its jobs.
    fn before_enqueue(&self, message: &BeforeEnqueue<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Why a hook refused something. It comes from text.
///
/// ```
/// use evenkeel::Refusal;
/// let refusal = Refusal::from("closed on Sundays");
/// assert_eq!(refusal.reason(), "closed on Sundays");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    reason: String,
}

impl Refusal {
    /// A refusal for this reason.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The failure of an activation that must not begin.
    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(self).kind(REFUSED).permanent()
    }

    /// The error of whoever posts.
    pub(crate) fn into_error(self, what: impl Into<String>) -> WorkError {
        WorkError::Refused {
            what: what.into(),
            reason: self.reason,
        }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl From<&str> for Refusal {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

/// See [`Hooks::on_worker_start`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerStarted<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// Its id.
    pub worker_id: &'h str,
}

/// See [`Hooks::on_worker_stop`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WorkerStopped<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// Its id.
    pub worker_id: &'h str,
    /// How it ended.
    pub status: WorkerStatus,
    /// Why, where a critical routine of it failed.
    pub error: Option<&'h str>,
}

/// See [`Hooks::on_job_start`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JobStarted<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// The id of its worker.
    pub worker_id: &'h str,
    /// Its id.
    pub job_id: &'h str,
    /// What it was posted with.
    pub metadata: &'h BTreeMap<String, Value>,
}

/// See [`Hooks::on_job_end`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JobEnded<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// The id of its worker.
    pub worker_id: &'h str,
    /// Its id.
    pub job_id: &'h str,
    /// What it was posted with.
    pub metadata: &'h BTreeMap<String, Value>,
    /// How it ended.
    pub status: JobStatus,
    /// Why, where it did not complete.
    pub error: Option<&'h str>,
}

/// See [`Hooks::on_routine_start`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RoutineStarts<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// The id of its worker.
    pub worker_id: &'h str,
    /// Its id.
    pub routine_id: &'h str,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The jobs whose messages it is given.
    pub jobs: JobIds<'h>,
}

/// See [`Hooks::on_routine_end`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RoutineEnded<'h> {
    /// The name of its flow.
    pub flow_id: &'h str,
    /// The id of its worker.
    pub worker_id: &'h str,
    /// Its id.
    pub routine_id: &'h str,
    /// Which attempt this was, from 1.
    pub attempt: u32,
    /// The jobs whose messages it was given.
    pub jobs: JobIds<'h>,
    /// How it ended.
    pub outcome: ExecutionOutcome,
    /// Why it failed, where it did.
    pub error: Option<&'h str>,
}

/// See [`Hooks::on_event_emit`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EventEmitted<'h> {
    /// The name of the flow.
    pub flow_id: &'h str,
    /// The id of the worker.
    pub worker_id: &'h str,
    /// The id of the routine that emitted it.
    pub routine_id: &'h str,
    /// The event, with its name and its data.
    pub event: &'h Event,
    /// The jobs that it is for.
    pub jobs: JobIds<'h>,
}

/// See [`Hooks::before_enqueue`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BeforeEnqueue<'h> {
    /// The name of the flow.
    pub flow_id: &'h str,
    /// The id of the worker.
    pub worker_id: &'h str,
    /// The id of the routine that the slot is of.
    pub routine_id: &'h str,
    /// The name of the slot.
    pub slot: &'h str,
    /// What was posted or emitted.
    pub event: &'h Event,
    /// The jobs that it is for.
    pub jobs: JobIds<'h>,
}

/// The ids of the jobs that something is for: usually one; none for what an interval timer
/// sent.
///
/// ```
/// # use evenkeel::JobIds;
/// fn first(jobs: JobIds<'_>) -> Option<&str> {
///     jobs.iter().next()
/// }
/// # let _ = first;
/// ```
#[derive(Clone, Copy)]
pub struct JobIds<'h>(&'h [Arc<Job>]);

impl<'h> JobIds<'h> {
    /// Each id once.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'h str> {
        self.0.iter().map(|job| &*job.id)
    }
}

impl fmt::Debug for JobIds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The hooks of a runtime. Where there are none, nothing is made to ask them.
pub(crate) struct HookSet {
    hooks: Vec<Arc<dyn Hooks>>,
    figures: Arc<Figures>,
}

impl fmt::Debug for HookSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSet")
            .field("hooks", &self.hooks.len())
            .finish_non_exhaustive()
    }
}

impl HookSet {
    pub(crate) fn new(hooks: Vec<Arc<dyn Hooks>>, figures: &Arc<Figures>) -> Self {
        Self {
            hooks,
            figures: Arc::clone(figures),
        }
    }

    /// Whether there is none, so that nobody's code is called.
    pub(crate) fn is_empty(&self) -> bool {
        self.hooks.is_empty()
    }

    /// Tells each of them.
    fn tell(&self, hook: &'static str, call: impl Fn(&dyn Hooks)) {
        for hooks in &self.hooks {
            let _inside = enter_user_code();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| call(&**hooks))) {
                let text = Failure::panicked(hook, &*panic).to_string();
                self.figures.hook_panicked();
                telemetry::hook_panicked(&text);
            }
        }
    }

    /// Asks each of them, until one refuses.
    fn ask(
        &self,
        hook: &'static str,
        call: impl Fn(&dyn Hooks) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for hooks in &self.hooks {
            let _inside = enter_user_code();
            let answer = catch_unwind(AssertUnwindSafe(|| call(&**hooks)));
            let refusal = match answer {
                Ok(Ok(())) => continue,
                Ok(Err(refusal)) => refusal,
                Err(panic) => {
                    self.figures.hook_panicked();
                    Refusal::new(Failure::panicked(hook, &*panic).to_string())
                }
            };
            self.figures.hook_refused();
            telemetry::hook_refused(hook, refusal.reason());
            return Err(refusal);
        }
        Ok(())
    }

    pub(crate) fn worker_started(&self, worker: &Worker) {
        let started = WorkerStarted {
            flow_id: &worker.flow,
            worker_id: &worker.id,
        };
        self.tell("on_worker_start", |hooks| hooks.on_worker_start(&started));
    }

    pub(crate) fn worker_stopped(
        &self,
        worker: &Worker,
        status: WorkerStatus,
        error: Option<&str>,
    ) {
        let stopped = WorkerStopped {
            flow_id: &worker.flow,
            worker_id: &worker.id,
            status,
            error,
        };
        self.tell("on_worker_stop", |hooks| hooks.on_worker_stop(&stopped));
    }

    pub(crate) fn job_started(&self, job: &Job) {
        let started = JobStarted {
            flow_id: &job.of.flow,
            worker_id: &job.of.worker,
            job_id: &job.id,
            metadata: &job.posted.metadata,
        };
        self.tell("on_job_start", |hooks| hooks.on_job_start(&started));
    }

    pub(crate) fn job_ended(&self, job: &Job, status: JobStatus, error: Option<&str>) {
        let ended = JobEnded {
            flow_id: &job.of.flow,
            worker_id: &job.of.worker,
            job_id: &job.id,
            metadata: &job.posted.metadata,
            status,
            error,
        };
        self.tell("on_job_end", |hooks| hooks.on_job_end(&ended));
    }

    /// # Errors
    /// The failure that the attempt comes to, where it must not begin.
    pub(crate) fn routine_starts(&self, run: &Run) -> Result<(), Failure> {
        let starts = RoutineStarts {
            flow_id: &run.plan.flow,
            worker_id: &run.worker.id,
            routine_id: &run.routine().id,
            attempt: run.attempt,
            jobs: JobIds(&run.jobs),
        };
        let answer = self.ask("on_routine_start", |hooks| hooks.on_routine_start(&starts));
        answer.map_err(Refusal::into_failure)
    }

    pub(crate) fn routine_ended(
        &self,
        run: &Run,
        outcome: ExecutionOutcome,
        error: Option<&Failure>,
    ) {
        if self.hooks.is_empty() {
            return;
        }
        let error = error.map(Failure::to_string);
        let ended = RoutineEnded {
            flow_id: &run.plan.flow,
            worker_id: &run.worker.id,
            routine_id: &run.routine().id,
            attempt: run.attempt,
            jobs: JobIds(&run.jobs),
            outcome,
            error: error.as_deref(),
        };
        self.tell("on_routine_end", |hooks| hooks.on_routine_end(&ended));
    }

    /// # Errors
    /// What is to be noted in the jobs; the event goes nowhere.
    pub(crate) fn event_emitted(
        &self,
        run: &Run,
        event: &Event,
        jobs: &[Arc<Job>],
    ) -> Result<(), Refusal> {
        let emitted = EventEmitted {
            flow_id: &run.plan.flow,
            worker_id: &run.worker.id,
            routine_id: &run.routine().id,
            event,
            jobs: JobIds(jobs),
        };
        self.ask("on_event_emit", |hooks| hooks.on_event_emit(&emitted))
    }

    /// # Errors
    /// What is to be noted in the jobs, or told to the poster; the message goes not there.
    pub(crate) fn before_enqueue(
        &self,
        worker: &Worker,
        (routine, slot): (&str, &str),
        event: &Event,
        jobs: &[Arc<Job>],
    ) -> Result<(), Refusal> {
        let message = BeforeEnqueue {
            flow_id: &worker.flow,
            worker_id: &worker.id,
            routine_id: routine,
            slot,
            event,
            jobs: JobIds(jobs),
        };
        self.ask("before_enqueue", |hooks| hooks.before_enqueue(&message))
    }
}
