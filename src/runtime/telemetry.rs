//! Owns what is told of a runtime to whoever watches it from outside: figures, which
//! `Runtime::stats` has and the facade `metrics` is told of, and spans and events of
//! `tracing`. `docs/observing.md` lists them. Imports `failure`, `history`, `job`, `run`,
//! `status`, `worker`.
//!
//! What must stay true: the names of flows and routines and the ids of workers and jobs are
//! in it; data is not, and no text of a failure, which may quote some. Without its feature
//! a figure is an atomic of ours, and a span or an event is nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::ids::Lsn;
use crate::observe::{Count, Figure, Spread};
use crate::runtime::failure::Failure;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::job::Job;
use crate::runtime::run::Run;
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::runtime::worker::Worker;
use crate::state::{Store, Timing};

#[cfg(test)]
mod tests;

/// The target of all that this crate tells.
#[cfg(feature = "tracing")]
pub(crate) const TARGET: &str = "evenkeel";

/// The name of the span of an activation.
#[cfg(feature = "tracing")]
pub(crate) const ACTIVATION: &str = "activation";

/// Figures of a runtime, counted since it was started.
///
/// ```
/// # use evenkeel::RuntimeStats;
/// let stats = RuntimeStats::default(); // `Runtime::stats` has those of a runtime
/// assert_eq!((stats.posts, stats.activation_time.count), (0, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuntimeStats {
    /// Jobs that were posted.
    pub posts: u64,
    /// Jobs that completed.
    pub jobs_completed: u64,
    /// Jobs that failed.
    pub jobs_failed: u64,
    /// Jobs that were cancelled.
    pub jobs_cancelled: u64,
    /// Activations that were committed.
    pub activations_completed: u64,
    /// Activations that failed for good, timeouts aside.
    pub activations_failed: u64,
    /// Activations that failed, and whose error handler skipped their messages.
    pub activations_skipped: u64,
    /// Activations that failed, and whose error handler let the flow go on.
    pub activations_continued: u64,
    /// Attempts that failed and were tried again.
    pub activations_retried: u64,
    /// Activations that were cancelled with their jobs, their worker or the runtime.
    pub activations_cancelled: u64,
    /// Activations that took longer than their timeout, and failed for good.
    pub activations_timed_out: u64,
    /// Races that were lost: runs of an activation whose logic was run again.
    pub races_lost: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Dead letters that made room for others.
    pub dead_letters_dropped: u64,
    /// Messages that were dropped from full slots.
    pub dropped_messages: u64,
    /// Times that a timer has fired.
    pub timers_fired: u64,
    /// Times that a hook refused something.
    pub hook_refusals: u64,
    /// Times that a hook panicked.
    pub hook_panics: u64,
    /// How long messages waited, from when they were emitted or posted to when their
    /// activation began, by the store's time.
    pub queue_time: Timing,
    /// How long attempts took, from the beginning of their last run to the commit that ended
    /// them.
    pub activation_time: Timing,
}

/// What a runtime counts and measures. Times are in nanoseconds.
#[derive(Debug)]
pub(crate) struct Figures {
    posts: Count,
    jobs: [Count; 3],
    activations: [Count; OUTCOMES.len()],
    races_lost: Count,
    dead_letters: Count,
    dropped: Count,
    timers_fired: Count,
    hook_refusals: Count,
    hook_panics: Count,
    queue: Spread,
    activation: Spread,
}

/// The outcomes that are counted apart; any other one is a failure.
const OUTCOMES: [ExecutionOutcome; 7] = [
    ExecutionOutcome::Failed,
    ExecutionOutcome::Completed,
    ExecutionOutcome::Skipped,
    ExecutionOutcome::ErrorContinued,
    ExecutionOutcome::Retried,
    ExecutionOutcome::Cancelled,
    ExecutionOutcome::TimedOut,
];

/// The ends of jobs that are counted apart; any other one is a failure.
const ENDS: [JobStatus; 3] = [
    JobStatus::Failed,
    JobStatus::Completed,
    JobStatus::Cancelled,
];

impl Figures {
    /// Those of a runtime on this store.
    pub(crate) fn new(store: &Store) -> Self {
        let path = store.shared().engine.path();
        let of = path.map_or("memory".into(), |path| path.display().to_string());
        let count = |name, what| Count::new(Figure::count(name, what), &of);
        let seconds = |name, what| Spread::new(Figure::seconds(name, what), &of);
        let jobs = Figure::count("evenkeel_jobs_total", "Jobs that ended");
        let activations = "Activations, and attempts of them, that ended";
        let activations = Figure::count("evenkeel_activations_total", activations);
        let queue = "From when a message was emitted or posted to its activation";
        let dropped = "Messages that were dropped from full slots";
        Self {
            posts: count("evenkeel_posts_total", "Jobs that were posted"),
            jobs: ENDS.map(|end| Count::new(jobs.with("status", end.as_str()), &of)),
            activations: OUTCOMES
                .map(|end| Count::new(activations.with("outcome", end.as_str()), &of)),
            races_lost: count("evenkeel_races_lost_total", "Activations that ran again"),
            dead_letters: count(
                "evenkeel_dead_letters_total",
                "Dead letters that came about",
            ),
            dropped: count("evenkeel_messages_dropped_total", dropped),
            timers_fired: count("evenkeel_timers_fired_total", "Timers that fired"),
            hook_refusals: count("evenkeel_hook_refusals_total", "Refusals of hooks"),
            hook_panics: count("evenkeel_hook_panics_total", "Panics of hooks"),
            queue: seconds("evenkeel_queue_seconds", queue),
            activation: seconds(
                "evenkeel_activation_seconds",
                "One attempt of an activation",
            ),
        }
    }

    pub(crate) fn posted(&self) {
        self.posts.increment();
    }

    /// A job has ended.
    pub(crate) fn job_ended(&self, status: JobStatus) {
        let end = ENDS.iter().position(|end| *end == status);
        self.jobs[end.unwrap_or(0)].increment();
    }

    /// An activation begins: this is how long its messages have waited. Not told of another
    /// attempt, nor of a run after a lost race.
    pub(crate) fn begun(&self, run: &Run) {
        for message in run.given.iter().flat_map(|given| &given.messages) {
            let waited = run
                .begun_micros
                .saturating_sub(message.event.emitted_at_micros());
            self.queue.record_taken(Duration::from_micros(waited));
        }
    }

    /// An attempt of an activation has ended.
    pub(crate) fn ended(&self, span: &ActivationSpan, outcome: ExecutionOutcome) {
        let end = OUTCOMES.iter().position(|end| *end == outcome);
        self.activations[end.unwrap_or(0)].increment();
        self.activation.record_since(span.begun);
    }

    pub(crate) fn race_lost(&self) {
        self.races_lost.increment();
    }

    pub(crate) fn dead_letter(&self) {
        self.dead_letters.increment();
    }

    /// A message was dropped from a full slot.
    pub(crate) fn dropped(&self) {
        self.dropped.increment();
    }

    pub(crate) fn timer_fired(&self) {
        self.timers_fired.increment();
    }

    pub(crate) fn hook_refused(&self) {
        self.hook_refusals.increment();
    }

    pub(crate) fn hook_panicked(&self) {
        self.hook_panics.increment();
    }

    pub(crate) fn stats(&self) -> RuntimeStats {
        let [
            failed,
            completed,
            skipped,
            continued,
            retried,
            cancelled,
            timed_out,
        ] = self.activations.each_ref().map(Count::get);
        let [jobs_failed, jobs_completed, jobs_cancelled] = self.jobs.each_ref().map(Count::get);
        RuntimeStats {
            posts: self.posts.get(),
            jobs_completed,
            jobs_failed,
            jobs_cancelled,
            activations_completed: completed,
            activations_failed: failed,
            activations_skipped: skipped,
            activations_continued: continued,
            activations_retried: retried,
            activations_cancelled: cancelled,
            activations_timed_out: timed_out,
            races_lost: self.races_lost.get(),
            dead_letters: self.dead_letters.get(),
            dropped_messages: self.dropped.get(),
            dead_letters_dropped: 0,
            timers_fired: self.timers_fired.get(),
            hook_refusals: self.hook_refusals.get(),
            hook_panics: self.hook_panics.get(),
            queue_time: self.queue.summary().into(),
            activation_time: self.activation.summary().into(),
        }
    }
}

/// One run of an activation, as a span: what happens on a thread that has entered it
/// happens inside. It has flow, worker, job, routine and attempt from its beginning, and
/// LSN and outcome once they are known.
pub(crate) struct ActivationSpan {
    begun: Instant,
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

/// While it lives, its thread is inside the span.
#[must_use = "the span is left when this is dropped"]
pub(crate) struct Entered<'s> {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::Entered<'s>,
    #[cfg(not(feature = "tracing"))]
    _entered: std::marker::PhantomData<&'s ()>,
}

/// Begins the span of a run.
pub(crate) fn activation(run: &Arc<Run>) -> ActivationSpan {
    #[cfg(not(feature = "tracing"))]
    let _ = run;
    ActivationSpan {
        begun: clock::monotonic(),
        #[cfg(feature = "tracing")]
        span: span_of(run),
    }
}

#[cfg(feature = "tracing")]
fn span_of(run: &Arc<Run>) -> tracing::Span {
    use tracing::field::Empty;
    use tracing::{Level, Span, info_span, span_enabled};
    if !span_enabled!(target: TARGET, Level::INFO) {
        return Span::none();
    }
    // So the layer that captures output knows whose span it is.
    let _inside = crate::runtime::current::enter(run);
    let path = run.store.shared().engine.path();
    info_span!(
        target: TARGET,
        parent: None,
        ACTIVATION,
        store = path.map(|path| display(path.display())),
        flow = &*run.plan.flow,
        worker = &*run.worker.id,
        job = jobs(run),
        routine = &*run.routine().id,
        attempt = run.attempt,
        lsn = Empty,
        outcome = Empty,
    )
}

/// Its jobs in a line; there may be many.
#[cfg(feature = "tracing")]
fn jobs(run: &Run) -> String {
    const NAMED: usize = 8;
    let mut line = String::new();
    for job in run.jobs.iter().take(NAMED) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&job.id);
    }
    let more = run.jobs.len().saturating_sub(NAMED);
    if more > 0 {
        line.push_str(&format!(" and {more} more"));
    }
    line
}

impl ActivationSpan {
    /// This thread goes on with it: around synchronous logic and its commit, and around
    /// each poll of async logic.
    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered {
            #[cfg(feature = "tracing")]
            _entered: self.span.enter(),
            #[cfg(not(feature = "tracing"))]
            _entered: std::marker::PhantomData,
        }
    }

    /// The commit that ends it has this LSN.
    pub(crate) fn committed(&self, lsn: Lsn) {
        #[cfg(feature = "tracing")]
        self.span.record("lsn", lsn.get());
        #[cfg(not(feature = "tracing"))]
        let _ = lsn;
    }

    /// The attempt came to this.
    pub(crate) fn ended(&self, outcome: ExecutionOutcome) {
        self.came_to(outcome.as_str());
    }

    /// The run lost a race, and its logic is run again, in another span.
    pub(crate) fn lost(&self) {
        self.came_to("lost");
    }

    fn came_to(&self, outcome: &'static str) {
        #[cfg(feature = "tracing")]
        self.span.record("outcome", outcome);
        #[cfg(not(feature = "tracing"))]
        let _ = outcome;
    }
}

/// An attempt failed. Why is in the job, the claim or the dead letter.
pub(crate) fn attempt_failed(run: &Run, failure: &Failure, outcome: ExecutionOutcome) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: TARGET,
        flow = &*run.plan.flow,
        worker = &*run.worker.id,
        job = jobs(run),
        routine = &*run.routine().id,
        attempt = run.attempt,
        kind = failure.kind_name(),
        outcome = outcome.as_str(),
        "an attempt failed"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (run, failure, outcome);
}

/// A job has ended.
pub(crate) fn job_ended(job: &Job, status: JobStatus, lsn: Lsn) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        target: TARGET,
        flow = &*job.of.flow,
        worker = &*job.of.worker,
        job = &*job.id,
        status = status.as_str(),
        lsn = lsn.get(),
        "a job has ended"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (job, status, lsn);
}

/// A worker was started, paused, resumed, or has ended.
pub(crate) fn worker_is(worker: &Worker, status: WorkerStatus) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        target: TARGET,
        flow = &*worker.flow,
        worker = &*worker.id,
        status = status.as_str(),
        "a worker has another status"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (worker, status);
}

/// A hook refused something. What it says is its own.
pub(crate) fn hook_refused(hook: &'static str, reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TARGET, hook, reason, "a hook refused");
    #[cfg(not(feature = "tracing"))]
    let _ = (hook, reason);
}

/// A hook panicked where it cannot refuse.
pub(crate) fn hook_panicked(reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(target: TARGET, reason, "a hook panicked");
    #[cfg(not(feature = "tracing"))]
    let _ = reason;
}
