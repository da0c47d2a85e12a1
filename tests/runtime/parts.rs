//! Owns what the tests of the runtime share: a runtime in memory, a routine that keeps
//! what comes to it, and waiting that ends.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use evenkeel::{Activation, Failure, Flow, JobContext, ManualClock, Routine, Runtime, Store};
use serde_json::Value as Json;

/// Far more than anything here takes: a test that waits so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A runtime in memory with two threads that knows one flow.
pub(crate) fn start(flow: Flow) -> Runtime {
    start_on(Store::in_memory(), flow)
}

/// The same by a clock that stands still until it is told otherwise.
pub(crate) fn start_at(clock: &Arc<ManualClock>, flow: Flow) -> Runtime {
    let store = Store::builder().clock(Arc::clone(clock) as _).in_memory();
    start_on(store.unwrap(), flow)
}

/// The same on this store.
pub(crate) fn start_on(store: Store, flow: Flow) -> Runtime {
    let runtime = Runtime::builder(store).threads(2).start().unwrap();
    runtime.register(flow).unwrap();
    runtime
}

/// Waits for all jobs.
pub(crate) fn finish(runtime: &Runtime) {
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
}

/// Posts a job to slot `in` of a routine.
pub(crate) fn post(runtime: &Runtime, flow: &str, routine: &str, data: Json) -> JobContext {
    runtime.post(flow, routine, "in", data).unwrap()
}

/// A routine that keeps what comes to it, in its order: the ids of the jobs and the data.
/// It reads no state, so none of its runs loses a race and keeps something twice.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<(String, Json)>>>);

impl Sink {
    /// What came until now, as text: jobs with commas between them, a colon, the data.
    pub(crate) fn lines(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap();
        seen.iter()
            .map(|(jobs, data)| format!("{jobs}: {data}"))
            .collect()
    }

    /// The same in the order of the text.
    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }
}

impl Routine for Sink {
    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for (_, event) in cx.input() {
            let jobs = cx.jobs_of(event);
            let jobs: Vec<_> = jobs.iter().map(|job| job.job_id().to_owned()).collect();
            let data = Json::from(event.data().clone());
            self.0.lock().unwrap().push((jobs.join(","), data));
        }
        Ok(())
    }
}

/// Where threads wait for each other, until all are there.
pub(crate) struct Meeting {
    here: Mutex<usize>,
    came: Condvar,
    of: usize,
}

impl Meeting {
    pub(crate) fn new(of: usize) -> Self {
        Self {
            here: Mutex::new(0),
            came: Condvar::new(),
            of,
        }
    }

    /// Returns when all are there; an error when one of them does not come.
    pub(crate) fn join(&self) -> Result<(), Failure> {
        let mut here = self.here.lock().unwrap();
        *here += 1;
        self.came.notify_all();
        let waiting = |here: &mut usize| *here < self.of;
        let waited = self.came.wait_timeout_while(here, LONG, waiting);
        match waited.unwrap().1.timed_out() {
            true => Err(Failure::new("the others did not come").permanent()),
            false => Ok(()),
        }
    }
}
