//! Owns `Debouncer`. Imports `activation`, `builtin`, `failure`, `routine`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{Seconds, declare_config, emit_as};
use crate::runtime::failure::Failure;
use crate::runtime::job_context::JobContext;
use crate::runtime::routine::{Routine, RoutineSettings};

/// The slot, and the timer, by which it is told that nothing came for a while.
const QUIET: &str = "quiet";

/// A routine that lets pass the last message of a burst: the one after which nothing came
/// for a while.
///
/// It takes `in` and emits `out`. Those before the last one are consumed, and their jobs
/// go on without them. What waits is a durable timer, so a restart loses nothing, and does
/// not begin the wait again.
///
/// ```
/// use evenkeel::{Debouncer, Flow};
/// use std::time::Duration;
/// let mut flow = Flow::new("search");
/// flow.add_routine("typed", Debouncer::new(Duration::from_millis(300)))?;
/// flow.add_fn("search", |_cx| Ok(()))?;
/// flow.connect("typed.out", "search.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `debouncer`, with the config `{wait: 0.3}`, in seconds,
/// and `per_job: true` if need be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debouncer {
    wait: Seconds,
    #[serde(default)]
    per_job: bool,
}

impl Debouncer {
    /// A routine that waits so long after a message for another one. By default those of
    /// all jobs of a worker are one row: what is posted is a job of its own.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self {
            wait: Seconds(wait),
            per_job: false,
        }
    }

    /// Makes the messages of each job a row of their own.
    #[must_use]
    pub fn per_job(mut self) -> Self {
        self.per_job = true;
        self
    }
}

impl Routine for Debouncer {
    fn declare(&self, settings: &mut RoutineSettings) {
        declare_config(settings, self);
        settings.slot("in").slot(QUIET).event("out");
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data(QUIET) {
            emit_as(cx, event, "out", event.data())?;
        }
        let mut rows = BTreeMap::new();
        for event in cx.data("in") {
            let jobs = cx.jobs_of(event);
            if self.per_job {
                let row = |job: JobContext| (job.job_id().to_owned(), (vec![job], event));
                rows.extend(jobs.into_iter().map(row));
            } else {
                rows.insert(QUIET.to_owned(), (jobs, event));
            }
        }
        let Seconds(wait) = self.wait;
        for (row, (jobs, last)) in rows {
            cx.set_timer_for(&jobs, &row, QUIET, wait, last.data())?;
        }
        Ok(())
    }
}
