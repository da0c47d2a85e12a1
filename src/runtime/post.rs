//! Owns posting: a job and its first message, in one commit. Imports `core`, `settle`,
//! `workers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::clock;
use crate::engine::SlotBatch;
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::commit::{message_of, slot_full};
use crate::runtime::core::{Awaited, Core};
use crate::runtime::event::Event;
use crate::runtime::idempotency::{self, WorkKey};
use crate::runtime::job::{Job, JobState, Posted};
use crate::runtime::record::{self, JobRecord, Text};
use crate::runtime::run::NewPost;
use crate::runtime::settle::{Delivery, Settlement};
use crate::runtime::slot::Room;
use crate::runtime::status::JobStatus;
use crate::runtime::worker::{Inner, Worker};
use crate::runtime::workers::{check_id, ended};
use crate::sync::atomic::Ordering;
use crate::sync::{Mutex, MutexGuard};
use crate::value::Value;

/// What a post may say beside its data.
///
/// ```
/// use evenkeel::PostOptions;
/// use serde_json::json;
/// let options = PostOptions {
///     metadata: json!({"tier": "gold"}).into(),
///     ..PostOptions::default()
/// };
/// let same = PostOptions::new().meta("tier", "gold");
/// assert_eq!(options.metadata, same.metadata);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PostOptions {
    /// The worker; by default that which `exec` starts for the flow.
    pub worker: Option<String>,
    /// The id of the job, up to 512 bytes, which no other job has; by default one is made.
    pub job_id: Option<String>,
    /// What is known of the job from the beginning: a map, or null for nothing.
    pub metadata: Value,
    /// An idempotency key, up to 512 bytes: the same post under the same key makes no
    /// second job, and gives the first one.
    pub key: Option<String>,
}

impl PostOptions {
    /// Nothing but the data.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the worker.
    #[must_use]
    pub fn worker(mut self, worker: impl Into<String>) -> Self {
        self.worker = Some(worker.into());
        self
    }

    /// Gives the job an id.
    #[must_use]
    pub fn job_id(mut self, id: impl Into<String>) -> Self {
        self.job_id = Some(id.into());
        self
    }

    /// Sets all metadata: a map.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Adds one entry to the metadata.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        let entry: Value = [(name.into(), value.into())].into_iter().collect();
        self.metadata.merge(entry);
        self
    }

    /// Gives the post an idempotency key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Where a post goes to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) worker: Arc<Worker>,
    routine: String,
    slot: String,
}

impl Core {
    /// Posts a job from outside.
    ///
    /// # Errors
    /// As `Runtime::post_with`.
    pub(crate) fn post<T: Serialize>(
        &self,
        flow: &str,
        place: (&str, &str),
        data: &T,
        options: PostOptions,
    ) -> Result<Arc<Job>> {
        self.enter_to_post()?;
        let post = self.make_post(flow, place, data, options)?;
        self.ask_to_post(&post)?;
        loop {
            if let Some(first) = self.first_under(&post)? {
                // Whoever posted it first may not have waited for it.
                self.acknowledge(self.engine().visible())?;
                return Ok(first);
            }
            self.reserve_id(&post.job)?;
            let posted = self.commit_post(&post, None);
            if posted.is_err() {
                self.free_id(&post.job);
            }
            match posted {
                Err(e) if idempotency::is_taken(&e) => {}
                posted => {
                    self.acknowledge_post(&post.job, posted?)?;
                    self.figures.posted();
                    return Ok(post.job);
                }
            }
        }
    }

    /// Asks the hooks.
    ///
    /// # Errors
    /// [`WorkError::Refused`].
    pub(crate) fn ask_to_post(&self, post: &NewPost) -> Result<()> {
        let place = (&*post.target.routine, &*post.target.slot);
        let jobs = std::slice::from_ref(&post.job);
        let worker = &post.target.worker;
        let answer = self.hooks.before_enqueue(worker, place, &post.event, jobs);
        Ok(answer.map_err(|refusal| refusal.into_error("the post"))?)
    }

    /// The job that was posted under the key of a post, if there is one. Its key may be
    /// remembered longer than its record: then nothing is known but that it has ended.
    ///
    /// # Errors
    /// [`WorkError::KeyReused`]; as a read.
    pub(crate) fn first_under(&self, post: &NewPost) -> Result<Option<Arc<Job>>> {
        let found = post.key.as_ref().map(|key| key.find(&self.store));
        let Some(id) = found.transpose()?.flatten() else {
            return Ok(None);
        };
        if let Some(job) = self.job(&id)? {
            return Ok(Some(job));
        }
        let state = JobState {
            status: JobStatus::Completed,
            ..JobState::default()
        };
        Ok(Some(Arc::new(Job {
            id: id.into(),
            of: Arc::clone(&post.job.of),
            created: 0,
            posted: Posted::with(BTreeMap::new(), post.job.posted.key.clone()),
            state: Mutex::new(state),
        })))
    }

    /// A post that is checked, and not committed.
    ///
    /// # Errors
    /// As `Runtime::post_with`.
    pub(crate) fn make_post<T: Serialize>(
        &self,
        flow: &str,
        (routine, slot): (&str, &str),
        data: &T,
        options: PostOptions,
    ) -> Result<NewPost> {
        let plan = self.plan(flow)?;
        let at = plan.routine(routine).ok_or_else(|| {
            let known: Vec<_> = plan.routines.iter().map(|routine| &*routine.id).collect();
            Error::from(WorkError::unknown(
                "routine",
                routine,
                format!("flow {flow:?} has {known:?}"),
            ))
        })?;
        if plan.routines[at].slot(slot).is_none() {
            let slots = plan.routines[at].slots.iter();
            let known: Vec<_> = slots.map(|(name, _)| &**name).collect();
            return Err(Error::from(WorkError::unknown(
                "slot",
                slot,
                format!("routine {routine:?} has {known:?}"),
            )));
        }
        let worker = match &options.worker {
            None => self.default_worker(flow)?,
            Some(id) => self.worker(id)?,
        };
        if *worker.flow != *flow {
            let hint = format!("worker {:?} is of flow {:?}", worker.id, worker.flow);
            return Err(Error::from(WorkError::unknown("worker", &worker.id, hint)));
        }
        let id = match options.job_id {
            Some(id) => {
                check_id("job", &id)?;
                id
            }
            None => self.next_job_id(),
        };
        let (now, limits) = (self.now(), self.limits());
        let data = Value::from_serialize(data)?;
        record::check_data(&data, &limits)?;
        let key = options.key.as_deref();
        let key = key.map(|key| WorkKey::new(key, (flow, routine, slot), &data));
        let key = key.transpose()?;
        let begun = JobRecord {
            flow: Text::from(&worker.flow),
            worker: Text::from(&worker.id),
            created: now,
            metadata: metadata(options.metadata)?,
            key: options.key,
            dropped: 0,
            results: Vec::new(),
        };
        let begun_cell = record::encode(&begun, &limits)?;
        let event = Event::posted(data, now);
        let job = Arc::new(Job {
            id: id.into(),
            of: Arc::clone(&worker.names),
            created: now,
            posted: Posted::with(begun.metadata, begun.key),
            state: Mutex::new(JobState::default()),
        });
        Ok(NewPost {
            cell: record::encode(&message_of(&event, std::slice::from_ref(&job)), &limits)?,
            begun: begun_cell,
            event: Arc::new(event),
            key,
            job,
            target: Target {
                worker,
                routine: routine.to_owned(),
                slot: slot.to_owned(),
            },
        })
    }

    /// The flow's default worker, which is started if there is none.
    fn default_worker(&self, flow: &str) -> Result<Arc<Worker>> {
        let known = self.workers.read().get(flow).cloned();
        match known {
            Some(worker) if !worker.has_ended.load(Ordering::SeqCst) => Ok(worker),
            _ => self.exec(flow, flow),
        }
    }

    /// Nobody has this id: its post was not committed.
    pub(crate) fn free_id(&self, job: &Job) {
        self.live.lock().remove(&job.id);
        self.tell(Awaited::ANY);
    }

    /// Makes sure that nobody has this id, and that nobody gets it.
    pub(crate) fn reserve_id(&self, job: &Arc<Job>) -> Result<()> {
        let exists = || {
            Error::from(WorkError::Exists {
                what: "job",
                name: job.id.to_string(),
                hint: "take another id, or an idempotency key to get the first job".into(),
            })
        };
        let mut live = self.live.lock();
        if live.contains(&job.id) {
            return Err(exists());
        }
        live.insert(job);
        drop(live);
        let key = record::job_begin_key(&job.id);
        match self.engine().read(&self.slots.jobs, &key) {
            Ok(None) => Ok(()),
            found => {
                self.live.lock().remove(&job.id);
                found.and(Err(exists()))
            }
        }
    }

    /// Posts a dead letter again.
    ///
    /// # Errors
    /// As `Runtime::repost_dead_letter`.
    pub(crate) fn repost(&self, number: u64) -> Result<Arc<Job>> {
        self.enter_to_post()?;
        let (letter, mut change) = self.dead.take(number)?;
        let metadata = match letter.jobs() {
            [job] => self
                .job(job)?
                .map(|job| Value::Map(job.posted.metadata.clone())),
            _ => None,
        };
        let options = PostOptions {
            worker: Some(letter.worker_id().to_owned()),
            metadata: metadata.unwrap_or_default(),
            ..PostOptions::default()
        };
        let place = (letter.routine(), letter.slot());
        let post = self.make_post(letter.flow_id(), place, letter.data(), options)?;
        self.reserve_id(&post.job)?;
        let posted = self.commit_post(&post, Some(change.take_writes()));
        if posted.is_err() {
            self.free_id(&post.job);
        }
        let lsn = posted?;
        change.committed();
        self.acknowledge(lsn)?;
        Ok(post.job)
    }

    /// Commits a post, with other writes if there are any.
    fn commit_post(&self, post: &NewPost, with: Option<SlotBatch>) -> Result<Lsn> {
        let worker = &post.target.worker;
        let deadline = clock::deadline(self.settings.post_wait);
        let (mut inner, _) = worker.lock();
        let mut settlement = loop {
            self.enter_to_post()?;
            let mut settlement = Settlement::new(self, worker);
            let delivery = self.settle_post(&mut settlement, &inner, post)?;
            match settlement.deliver(&inner, vec![delivery], Room::Capacity) {
                Ok(()) => break settlement,
                Err((at, slot, full)) => {
                    let error = slot_full(worker, &inner, (at, slot, full));
                    if !full.wait || wait_for_room(worker, &mut inner, deadline) {
                        return Err(error.into());
                    }
                }
            }
        };
        settlement.prepare(&inner)?;
        let mut batch = std::mem::take(&mut settlement.ops).into_batch();
        batch.writes.extend(with);
        let lsn = self.engine().commit(&batch)?;
        let settled = settlement.apply(&mut inner, lsn);
        self.line_up(worker, &mut inner, false);
        drop(inner);
        self.settled(settled);
        Ok(lsn)
    }

    /// Adds a post to what a commit settles, but for its delivery, which comes back.
    ///
    /// # Errors
    /// [`WorkError::Ended`], [`WorkError::Unknown`].
    pub(crate) fn settle_post(
        &self,
        settlement: &mut Settlement<'_>,
        inner: &Inner,
        post: &NewPost,
    ) -> Result<Delivery> {
        if inner.record.status.is_final() {
            return Err(ended(&post.target.worker, inner).into());
        }
        let (target, slot) = place(&post.target, inner)?;
        let key = record::job_begin_key(&post.job.id);
        settlement
            .ops
            .put(&self.slots.jobs, key, Arc::clone(&post.begun));
        if let Some(key) = &post.key {
            let taken = key.take(&post.job.id, &self.limits())?;
            settlement.ops.change(&self.slots.keys, taken);
        }
        settlement.begin_job(&post.job);
        Ok(Delivery {
            target,
            slot,
            event: Arc::clone(&post.event),
            jobs: vec![Arc::clone(&post.job)],
            cell: Arc::clone(&post.cell),
        })
    }
}

/// Waits until room may have come about; true where the time is over.
fn wait_for_room(
    worker: &Worker,
    inner: &mut MutexGuard<'_, Inner>,
    deadline: std::time::Instant,
) -> bool {
    worker.room.wait_until(inner, deadline).timed_out()
}

/// The numbers of routine and slot, as the worker has them now.
fn place(target: &Target, inner: &Inner) -> Result<(usize, usize)> {
    let plan = inner.plan.as_ref();
    let found = plan.and_then(|plan| {
        let at = plan.routine(&target.routine)?;
        Some((at, plan.routines[at].slot(&target.slot)?))
    });
    let hint = "its flow was registered with another version meanwhile";
    found.ok_or_else(|| Error::from(WorkError::unknown("slot", &target.slot, hint)))
}

fn metadata(value: Value) -> Result<BTreeMap<String, Value>> {
    match value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Map(map) => Ok(map),
        _ => Err(Error::Invalid {
            what: "metadata",
            reason: "it is no map; give it as names with values".into(),
        }),
    }
}
