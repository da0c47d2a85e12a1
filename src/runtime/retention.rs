//! Owns jobs that have ended: how long their records stay, what goes with them, and how
//! all jobs are found again at opening. Imports `ahead`, `job`, `record`.
//!
//! What must stay true: all that belongs to a job goes in one commit, so that no part of
//! it is ever there without its record.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::micros;
use crate::engine::small_key::SmallKey;
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::engine::{Batch, Engine, Op, SlotBatch};
use crate::error::{Error, Result};
use crate::runtime::ahead;
use crate::runtime::job::{Job, JobState, Names, Notes, Posted};
use crate::runtime::record::{self, JOB_ENDS, JobEndRecord, JobKey, JobRecord, Text};
use crate::scope::Scope;
use crate::state::Store;
use crate::sync::Mutex;
use crate::value::Value;

/// The longest time for which anything about a job that has ended is kept.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The most jobs that are kept when they have ended.
const NUMBER_MAX: usize = 10_000_000;

/// How long jobs stay that have ended. What comes first counts, the time or the number;
/// then a job goes with its data, trace, results and output, in one transaction.
///
/// ```
/// use evenkeel::KeepJobs;
/// use std::time::Duration;
/// let keep = KeepJobs::new().number(500);
/// assert_eq!((keep.number, keep.time), (500, Duration::from_secs(24 * 60 * 60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepJobs {
    /// How long after its end, by store time. Default 24 hours, at most 100 years; zero for
    /// no longer than it takes to remove it.
    pub time: Duration,
    /// How many, over all workers; the one that ended first goes first. Default 10,000, at
    /// most 10 million. Each takes about 70 bytes of memory, and its id where that has more
    /// than 22.
    pub number: usize,
    /// How long after the end of its job an idempotency key is remembered, by store time:
    /// until then the same key gives the same job, whether its record is still there or
    /// not. Default 24 hours, at most 100 years; never less than `time`, whatever it says.
    pub keys: Duration,
}

impl KeepJobs {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self {
            time: day,
            number: 10_000,
            keys: day,
        }
    }

    /// Sets how long after its end a job is kept.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many jobs are kept that have ended.
    #[must_use]
    pub fn number(mut self, number: usize) -> Self {
        self.number = number;
        self
    }

    /// Sets how long after the end of its job an idempotency key is remembered.
    #[must_use]
    pub fn keys(mut self, keys: Duration) -> Self {
        self.keys = keys;
        self
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.number > NUMBER_MAX {
            Some(format!(
                "{} jobs are to be kept that have ended; {NUMBER_MAX} may be",
                self.number
            ))
        } else if self.time.max(self.keys) > TIME_MAX {
            Some(format!(
                "jobs or keys are to be kept for {:?}; {TIME_MAX:?} at most",
                self.time.max(self.keys)
            ))
        } else {
            None
        }
    }

    /// When the record of a job goes that ended then.
    fn until(&self, completed_micros: u64) -> u64 {
        completed_micros.saturating_add(micros(self.time))
    }

    /// When the idempotency key of such a job is free again.
    pub(crate) fn key_until(&self, completed_micros: u64) -> u64 {
        completed_micros.saturating_add(micros(self.time.max(self.keys)))
    }
}

impl Default for KeepJobs {
    fn default() -> Self {
        Self::new()
    }
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FinishedJob {
    pub(crate) id: Text,
    pub(crate) completed_micros: u64,
    /// Whether it may have anything beside its record.
    pub(crate) parts: bool,
}

/// The jobs that have ended and are still there, in the order in which they ended; of
/// those that ended in the same microsecond, in the order of their ids.
#[derive(Debug)]
pub(crate) struct FinishedJobs {
    keep: KeepJobs,
    jobs: BTreeMap<(u64, Text), bool>,
}

impl FinishedJobs {
    /// None yet.
    pub(crate) fn new(keep: KeepJobs) -> Self {
        let jobs = BTreeMap::new();
        Self { keep, jobs }
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// A job has ended; or could not be removed, and is to be removed another time.
    pub(crate) fn put(&mut self, job: FinishedJob) {
        self.jobs.insert((job.completed_micros, job.id), job.parts);
    }

    /// Takes out those that are to go now: the first that ended, and no more than
    /// `at_most`. Whoever cannot remove them [puts](Self::put) them back.
    pub(crate) fn due(&mut self, now_micros: u64, at_most: usize) -> Vec<FinishedJob> {
        let mut due = Vec::new();
        while due.len() < at_most
            && let Some(first) = self.jobs.first_entry()
            && (self.keep.until(first.key().0) <= now_micros || self.jobs.len() > self.keep.number)
            && let Some(((completed_micros, id), parts)) = self.jobs.pop_first()
        {
            due.push(FinishedJob {
                id,
                completed_micros,
                parts,
            });
        }
        due
    }
}

/// What removes these jobs and all that belongs to them.
pub(crate) fn removal_batch(engine: &Engine, jobs: &[FinishedJob]) -> Batch {
    let mut ops: BTreeMap<SmallKey, Op> = BTreeMap::new();
    let mut writes = Vec::new();
    for job in jobs {
        let keys = [JobKey::Begin(&job.id), JobKey::End(&job.id)];
        // A job stands at most once in the batch, and so does each of its scopes.
        let known = keys.map(|key| ops.insert(key.encode(), Op::Delete));
        if job.parts && known.iter().all(Option::is_none) {
            let scopes = scopes_of(&job.id);
            writes.extend(scopes.iter().map(|scope| clear(engine, scope)));
        }
    }
    let records = engine.slot(&record::jobs().encode());
    writes.push(SlotBatch::of(records, ops));
    Batch::of(writes)
}

/// All that belongs to a job beside its record.
fn scopes_of(id: &str) -> [Scope; 4] {
    let data = Scope::job(id);
    let caches = data.caches();
    [data, caches, record::job(id), record::routine_data(id)]
}

fn clear(engine: &Engine, scope: &Scope) -> SlotBatch {
    SlotBatch::clearing(engine.slot(&scope.encode()))
}

/// All jobs of a store.
#[derive(Debug, Default)]
pub(crate) struct LoadedJobs {
    /// Those that have not ended, in the order of their ids. How much of them is outstanding
    /// their records do not say.
    pub(crate) live: Vec<Arc<Job>>,
    /// Those that have, in the same order.
    pub(crate) finished: Vec<FinishedJob>,
}

/// Of a [`JobEndRecord`], what is wanted of all of them.
#[derive(Deserialize)]
struct Ended {
    #[serde(rename = "z")]
    completed: u64,
}

/// Of a [`JobRecord`], the same; its flow is that of its worker.
#[derive(Deserialize)]
struct Begun<'r> {
    #[serde(borrow, rename = "w")]
    worker: &'r str,
    #[serde(rename = "c")]
    created: u64,
    #[serde(rename = "m", default)]
    metadata: BTreeMap<String, Value>,
    #[serde(rename = "k", default)]
    key: Option<String>,
    #[serde(rename = "d", default)]
    dropped: u64,
    #[serde(rename = "r", default)]
    results: Vec<Value>,
}

/// Reads all jobs. Both kinds of keys are in the order of ids, so ends and beginnings are
/// gone through side by side. `names` is asked with a job and the id of its worker.
///
/// # Errors
/// As reading has them; [`crate::Error::Corrupt`] where something is no record, or there
/// is an end without a beginning; and those of `names`.
pub(crate) fn load_jobs(
    store: &Store,
    names: impl Fn(&str, &str) -> Result<Arc<Names>>,
) -> Result<LoadedJobs> {
    loop {
        match load_jobs_once(store, &names) {
            // The view had to make room: from the beginning.
            Err(Error::ViewExpired) => {}
            outcome => return outcome,
        }
    }
}

/// Whether any job may have anything beside its record. Of many that an opening finds mostly
/// none has, and then nothing is looked for and cleared for each of them.
fn any_parts(engine: &Engine, view: &View) -> Result<bool> {
    let job_caches = Scope::all_caches();
    let own = [Scope::job(""), record::job(""), record::routine_data("")];
    let beginnings = own.iter().map(Scope::beginning).chain([job_caches]);
    let in_memory = engine.prefixes_in_memory();
    for beginning in beginnings {
        let image = view.next_image_scope(&beginning)?;
        let is_of = |scope: &[u8]| scope.starts_with(&beginning);
        if image.is_some_and(|scope| is_of(&scope)) || in_memory.iter().any(|one| is_of(one)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn load_jobs_once(
    store: &Store,
    names: &impl Fn(&str, &str) -> Result<Arc<Names>>,
) -> Result<LoadedJobs> {
    let (scope, limits) = (record::jobs(), store.shared.settings.limits.codec());
    let engine = &store.shared.engine;
    let slot = engine.slot(&scope.encode());
    let view = Arc::new(engine.view());
    let (none, ends) = (Bound::Unbounded, &JOB_ENDS[..]);
    let damaged = |what: String| record::damaged(&scope, &what);
    let other = |key: &[u8]| damaged(format!("{key:02x?} is no key of a job"));

    let parts = any_parts(engine, &view)?;
    let mut loaded = LoadedJobs::default();
    let finished = &mut loaded.finished;
    let range = (Bound::Included(ends), none);
    ahead::for_each(&view, &slot, range, |key, _, cell| {
        let Some(JobKey::End(id)) = JobKey::decode(key) else {
            return Err(other(key));
        };
        let end: Ended = record::decode(cell, &limits, &scope)?;
        finished.push(FinishedJob {
            id: id.into(),
            completed_micros: end.completed,
            parts,
        });
        Ok(())
    })?;

    let live = &mut loaded.live;
    let mut ended = finished.iter().map(|job| &*job.id).peekable();
    let without = |id: &str| damaged(format!("job {id:?} ended and never began"));
    let range = (none, Bound::Excluded(ends));
    ahead::for_each(&view, &slot, range, |key, _, cell| {
        let Some(JobKey::Begin(id)) = JobKey::decode(key) else {
            return Err(other(key));
        };
        if let Some(lost) = ended.next_if(|ended| **ended < *id) {
            return Err(without(lost));
        }
        if ended.next_if_eq(&id).is_none() {
            let begun: Begun<'_> = record::decode(cell, &limits, &scope)?;
            live.push(Arc::new(Job {
                id: id.into(),
                of: names(id, begun.worker)?,
                created: begun.created,
                posted: Posted::with(begun.metadata, begun.key),
                state: Mutex::new(JobState {
                    notes: Notes::of(begun.dropped, begun.results, None),
                    parts,
                    ..JobState::default()
                }),
            }));
        }
        Ok(())
    })?;
    if let Some(lost) = ended.next() {
        return Err(without(lost));
    }
    Ok(loaded)
}

/// What the store has of a job, both as of the same commit; `None` where it has none of
/// this id.
///
/// # Errors
/// As reading has them; [`crate::Error::Corrupt`] where it is no record of a job.
pub(crate) fn find_job(
    store: &Store,
    id: &str,
) -> Result<Option<(JobRecord, Option<JobEndRecord>)>> {
    let (scope, limits) = (record::jobs(), store.shared.settings.limits.codec());
    let engine = &store.shared.engine;
    let slot: Arc<Slot> = engine.slot(&scope.encode());
    let view = engine.view();
    let Some((_, begin)) = view.read(&slot, &JobKey::Begin(id).encode())? else {
        return Ok(None);
    };
    let begin = record::decode(&begin, &limits, &scope)?;
    let end = view.read(&slot, &JobKey::End(id).encode())?;
    let end = end.map(|(_, cell)| record::decode(&cell, &limits, &scope));
    Ok(Some((begin, end.transpose()?)))
}

/// A job as its records have it, to be looked at: how much of it is outstanding they do
/// not say.
pub(crate) fn job_of(
    (id, of): (Text, Arc<Names>),
    begin: JobRecord,
    end: Option<JobEndRecord>,
) -> Arc<Job> {
    let state = match end {
        None => JobState {
            notes: Notes::of(begin.dropped, begin.results, None),
            // Nobody has looked whether it has.
            parts: true,
            ..JobState::default()
        },
        Some(end) => JobState {
            status: end.status,
            completed: Some(end.completed),
            notes: Notes::of(end.dropped, end.results, end.error),
            parts: true,
            ..JobState::default()
        },
    };
    Arc::new(Job {
        id,
        of,
        created: begin.created,
        posted: Posted::with(begin.metadata, begin.key),
        state: Mutex::new(state),
    })
}

#[cfg(test)]
mod tests;
