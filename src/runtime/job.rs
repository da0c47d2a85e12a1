//! Owns a job that has not ended, as memory has it, and the messages that belong to it.
//! Imports `event`, `output`, `policy`, `status`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
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
    pub(crate) metadata: Metadata,
    pub(crate) key: Option<String>,
    pub(crate) state: Mutex<JobState>,
}

/// What a job was posted with beside its data. Most have none, and take no memory for it.
#[derive(Clone, Default)]
pub(crate) struct Metadata(Option<Arc<BTreeMap<String, Value>>>);

static NO_METADATA: BTreeMap<String, Value> = BTreeMap::new();

impl From<BTreeMap<String, Value>> for Metadata {
    fn from(map: BTreeMap<String, Value>) -> Self {
        Self((!map.is_empty()).then(|| Arc::new(map)))
    }
}

impl Deref for Metadata {
    type Target = BTreeMap<String, Value>;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NO_METADATA)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
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
    pub(crate) output: Option<Box<Pieces>>,
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
    pub(crate) jobs: Jobs,
    /// The commit that it came with.
    pub(crate) lsn: Lsn,
}

/// The jobs of a message: mostly one, which takes no memory of its own.
#[derive(Debug)]
pub(crate) enum Jobs {
    One(Arc<Job>),
    Many(Box<[Arc<Job>]>),
}

impl FromIterator<Arc<Job>> for Jobs {
    fn from_iter<I: IntoIterator<Item = Arc<Job>>>(jobs: I) -> Self {
        let mut jobs = jobs.into_iter();
        match (jobs.next(), jobs.next()) {
            (Some(only), None) => Self::One(only),
            (first, second) => Self::Many(first.into_iter().chain(second).chain(jobs).collect()),
        }
    }
}

impl Deref for Jobs {
    type Target = [Arc<Job>];

    fn deref(&self) -> &[Arc<Job>] {
        match self {
            Self::One(job) => std::slice::from_ref(job),
            Self::Many(jobs) => jobs,
        }
    }
}

impl<'j> IntoIterator for &'j Jobs {
    type Item = &'j Arc<Job>;
    type IntoIter = std::slice::Iter<'j, Arc<Job>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Carries for Arc<Message> {
    fn event(&self) -> &Arc<Event> {
        &self.event
    }
}
