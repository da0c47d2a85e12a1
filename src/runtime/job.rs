//! Owns a job that has not ended, as memory has it, and the messages that belong to it.
//! Imports `event`, `output`, `policy`, `record`, `status`.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::ids::Lsn;
use crate::runtime::event::Event;
use crate::runtime::output::Pieces;
use crate::runtime::policy::Carries;
use crate::runtime::record::Text;
use crate::runtime::status::JobStatus;
use crate::sync::Mutex;
use crate::value::Value;

/// A job that has not ended, or has just ended. Its state changes under the lock of its
/// worker only, and can be looked at without that one.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Text,
    /// Shared with all jobs of its worker.
    pub(crate) of: Arc<Names>,
    pub(crate) created: u64,
    pub(crate) posted: Posted,
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

/// What a job was posted with beside its data. Most have nothing of it, and take no memory
/// for it.
#[derive(Debug, Default)]
pub(crate) struct Posted(Option<Box<PostedWith>>);

/// See [`Posted`].
#[derive(Debug)]
pub(crate) struct PostedWith {
    pub(crate) metadata: BTreeMap<String, Value>,
    /// The idempotency key.
    pub(crate) key: Option<String>,
}

static NOTHING_POSTED: PostedWith = PostedWith {
    metadata: BTreeMap::new(),
    key: None,
};

impl Posted {
    pub(crate) fn with(metadata: BTreeMap<String, Value>, key: Option<String>) -> Self {
        let some = !metadata.is_empty() || key.is_some();
        Self(some.then(|| Box::new(PostedWith { metadata, key })))
    }
}

impl Deref for Posted {
    type Target = PostedWith;

    fn deref(&self) -> &PostedWith {
        self.0.as_deref().unwrap_or(&NOTHING_POSTED)
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

/// A message that waits in a slot or was taken from it. What is large of it is shared.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) event: Arc<Event>,
    /// The jobs that it is for; none for what an interval timer sent.
    pub(crate) jobs: Jobs,
    /// The commit that it came with.
    pub(crate) lsn: Lsn,
}

/// The jobs of a message: mostly one, which takes no memory of its own.
#[derive(Clone, Debug)]
pub(crate) enum Jobs {
    One(Arc<Job>),
    Many(Arc<[Arc<Job>]>),
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

impl Carries for Message {
    fn event(&self) -> &Arc<Event> {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::slot::Held;

    /// There may be a million of each. What few of them have is behind a pointer, and is not
    /// allocated where they do not: an allocation of its own costs some 50 bytes and more.
    #[test]
    fn what_waits_is_small() {
        assert!(size_of::<Job>() <= 104, "{}", size_of::<Job>());
        assert!(size_of::<Event>() <= 48, "{}", size_of::<Event>());
        let held = size_of::<Held<Message>>();
        assert!(held <= 40, "{held}");
    }
}
