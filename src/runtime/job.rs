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
    /// Shared with all jobs of its worker.
    pub(crate) of: Arc<Names>,
    pub(crate) created: u64,
    pub(crate) metadata: Metadata,
    pub(crate) key: Option<String>,
    pub(crate) state: Mutex<JobState>,
}

/// The names of a worker and its flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) flow: Arc<str>,
    pub(crate) worker: Arc<str>,
}

impl Names {
    pub(crate) fn new(flow: impl Into<Arc<str>>, worker: impl Into<Arc<str>>) -> Arc<Self> {
        let (flow, worker) = (flow.into(), worker.into());
        Arc::new(Self { flow, worker })
    }
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
    pub(crate) completed: Option<u64>,
    /// The last commit that concerned it.
    pub(crate) lsn: Lsn,
    /// Whether it has anything beside its record that has to go with it.
    pub(crate) parts: bool,
    pub(crate) notes: Notes,
}

/// What few jobs have. Most have nothing of it, and take no memory for it.
#[derive(Debug, Default)]
pub(crate) struct Notes(Option<Box<JobNotes>>);

/// See [`Notes`].
#[derive(Debug, Default)]
pub(crate) struct JobNotes {
    pub(crate) dropped: u64,
    pub(crate) results: Vec<Value>,
    pub(crate) error: Option<String>,
    /// What is stored of its output; `None` until somebody has looked.
    pub(crate) output: Option<Pieces>,
}

static NO_NOTES: JobNotes = JobNotes {
    dropped: 0,
    results: Vec::new(),
    error: None,
    output: None,
};

impl Notes {
    /// What the records of a job have of it.
    pub(crate) fn of(dropped: u64, results: Vec<Value>, error: Option<String>) -> Self {
        let some = dropped > 0 || !results.is_empty() || error.is_some();
        Self(some.then(|| {
            Box::new(JobNotes {
                dropped,
                results,
                error,
                output: None,
            })
        }))
    }

    /// The same, to be added to.
    pub(crate) fn add(&mut self) -> &mut JobNotes {
        self.0.get_or_insert_default()
    }
}

impl Deref for Notes {
    type Target = JobNotes;

    fn deref(&self) -> &JobNotes {
        self.0.as_deref().unwrap_or(&NO_NOTES)
    }
}

impl Default for JobState {
    fn default() -> Self {
        Self {
            status: JobStatus::Pending,
            outstanding: 0,
            completed: None,
            lsn: Lsn::ZERO,
            parts: false,
            notes: Notes::default(),
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
