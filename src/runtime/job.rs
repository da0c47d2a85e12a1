//! Owns a job that has not ended, as memory has it, and the messages that belong to it.
//! Imports `event`, `output`, `policy`, `status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::runtime::event::Event;
use crate::runtime::output::Pieces;
use crate::runtime::policy::Carries;
use crate::runtime::status::JobStatus;
use crate::sync::Mutex;
use crate::value::Value;

/// A job that has not ended, or has just ended. Its state changes under the lock of its
/// worker only, and can be looked at without that one.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Arc<str>,
    pub(crate) flow: Arc<str>,
    pub(crate) worker: Arc<str>,
    pub(crate) created: u64,
    pub(crate) metadata: Arc<BTreeMap<String, Value>>,
    pub(crate) key: Option<String>,
    pub(crate) state: Mutex<JobState>,
}

/// What changes of a job.
#[derive(Debug)]
pub(crate) struct JobState {
    pub(crate) status: JobStatus,
    /// Messages that wait or are being handled, and timers that fire once.
    pub(crate) outstanding: u64,
    pub(crate) dropped: u64,
    pub(crate) results: Vec<Value>,
    pub(crate) completed: Option<u64>,
    pub(crate) error: Option<String>,
    /// The last commit that concerned it.
    pub(crate) lsn: Lsn,
    /// Whether it has anything beside its record that has to go with it.
    pub(crate) parts: bool,
    /// What is stored of its output; `None` until somebody has looked.
    pub(crate) output: Option<Pieces>,
}

impl Default for JobState {
    fn default() -> Self {
        Self {
            status: JobStatus::Pending,
            outstanding: 0,
            dropped: 0,
            results: Vec::new(),
            completed: None,
            error: None,
            lsn: Lsn::ZERO,
            parts: false,
            output: None,
        }
    }
}

/// A message that waits in a slot or was taken from it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) event: Arc<Event>,
    /// The jobs that it is for; none for what an interval timer sent.
    pub(crate) jobs: Vec<Arc<Job>>,
    /// The commit that it came with.
    pub(crate) lsn: Lsn,
}

impl Carries for Arc<Message> {
    fn event(&self) -> &Arc<Event> {
        &self.event
    }
}
