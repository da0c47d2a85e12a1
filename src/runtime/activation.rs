//! Owns `Activation`, which the logic of a routine is given: a view of its run.
//! Imports `event`, `job_context`, `record`, `run`, `state_accessor`, `worker_state`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::micros;
use crate::error::{Error, Result, WorkError};
use crate::runtime::commit::message_of;
use crate::runtime::event::{Event, Origin};
use crate::runtime::job::Job;
use crate::runtime::job_context::JobContext;
use crate::runtime::post::PostOptions;
use crate::runtime::record::{self, ActivationId, TimerRecord};
use crate::runtime::run::{Emit, NewPost, NewTimer, Run};
use crate::runtime::state_accessor::RoutineStateAccessor;
use crate::runtime::worker_state::WorkerState;
use crate::state::Transaction;
use crate::value::Value;

/// One activation of a routine: what it was given, and all that it does.
///
/// What it does through this takes effect with the activation's commit, all at once, or not
/// at all: state it changes, events it emits, timers it sets, what it notes in its jobs. It
/// reads the state of one moment, and what it wrote itself. If somebody else changes what
/// it read before it is committed, its logic runs again from the beginning, and nothing is
/// left of the run that lost; so whatever it does outside belongs into
/// [`once`](Self::once).
///
/// ```
/// use evenkeel::{Activation, Failure, Flow};
/// fn count(cx: &mut Activation) -> Result<(), Failure> {
///     for event in cx.data("in") {
///         let by = event.get("by").and_then(|by| by.as_i64()).unwrap_or(1);
///         cx.state_accessor().update("count", |count: Option<i64>| count.unwrap_or(0) + by)?;
///     }
///     cx.emit("out", cx.state_accessor().get::<i64>("count")?)?;
///     Ok(())
/// }
/// let mut flow = Flow::new("counting");
/// flow.add_fn("count", count)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Activation {
    pub(crate) run: Arc<Run>,
}

impl Activation {
    pub(crate) fn of(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
        }
    }

    /// The name of the flow.
    #[must_use]
    pub fn flow(&self) -> &str {
        &self.run.plan.flow
    }

    /// The id of the routine.
    #[must_use]
    pub fn routine(&self) -> &str {
        &self.run.routine().id
    }

    /// The id of the worker.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.run.worker.id
    }

    /// What tells this activation from all others: the same over all its attempts and
    /// re-runs, also over a crash once its messages are fixed.
    #[must_use]
    pub fn id(&self) -> ActivationId {
        self.run.id
    }

    /// Which attempt this is: 1 for the first. A re-run after a lost race is the same
    /// attempt.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.run.attempt
    }

    /// What it was given of a slot, oldest first; nothing where the routine has no such
    /// slot.
    pub fn data(&self, slot: &str) -> impl Iterator<Item = &Event> {
        let slots = &self.run.routine().slots;
        let given = self.run.given.iter();
        given
            .filter(move |given| {
                slots
                    .get(given.slot)
                    .is_some_and(|(name, _)| **name == *slot)
            })
            .flat_map(|given| &given.messages)
            .map(|message| &*message.event)
    }

    /// The first message that it was given of a slot.
    #[must_use]
    pub fn one(&self, slot: &str) -> Option<&Event> {
        self.data(slot).next()
    }

    /// The last message that it was given of a slot.
    #[must_use]
    pub fn latest(&self, slot: &str) -> Option<&Event> {
        self.data(slot).last()
    }

    /// All that it was given, with the slot of each: slot by slot, oldest first.
    pub fn input(&self) -> impl Iterator<Item = (&str, &Event)> {
        let slots = &self.run.routine().slots;
        self.run.given.iter().flat_map(move |given| {
            let name = slots.get(given.slot).map_or("", |(name, _)| &**name);
            let messages = given.messages.iter();
            messages.map(move |message| (name, &*message.event))
        })
    }

    /// The jobs that a message of its input is for.
    #[must_use]
    pub fn jobs_of(&self, event: &Event) -> Vec<JobContext> {
        let jobs = self.run.message_of(event).map(|message| &message.jobs);
        // Those that had ended before are none of this activation's.
        let own = jobs.into_iter().flatten();
        let own = own.filter_map(|job| self.run.job(&job.id));
        own.map(|job| self.context(job)).collect()
    }

    /// The jobs whose data it consumes, each once, in the order of its input. None where
    /// an interval timer sent it.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobContext> {
        self.run.jobs.iter().map(|job| self.context(job)).collect()
    }

    /// Its only job; `None` where it has several, or none.
    #[must_use]
    pub fn current_job(&self) -> Option<JobContext> {
        self.run.only_job().map(|job| self.context(job))
    }

    fn context(&self, job: &Arc<Job>) -> JobContext {
        JobContext::inside(&self.run, job)
    }

    /// One entry of the routine's config, which logic can read and not write.
    #[must_use]
    pub fn config(&self, key: &str) -> Option<&Value> {
        self.run.routine().settings.config.get(key)
    }

    /// One entry of the routine's config as a type that serde can deserialise; `None` where
    /// there is none.
    ///
    /// # Errors
    /// As [`Value::deserialize`].
    pub fn config_as<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.config(key).map(Value::deserialize).transpose()
    }

    /// The state of its worker: its own part of it, and what routines share.
    #[must_use]
    pub fn worker_state(&self) -> WorkerState {
        WorkerState::inside(&self.run)
    }

    /// The fields of the routine's own state, which is a map and stays from activation to
    /// activation, whatever their jobs.
    #[must_use]
    pub fn state_accessor(&self) -> RoutineStateAccessor {
        RoutineStateAccessor::of(&self.run)
    }

    /// All scopes of the store, to be read and written in the commit of this activation.
    /// The routine's own state is at [`state_accessor`](Self::state_accessor).
    ///
    /// # Errors
    /// [`WorkError::ActivationOver`].
    pub fn transaction(&self) -> Result<&Transaction> {
        self.run.transaction()
    }

    /// Store time, in microseconds since 1970, at which the activation began.
    #[must_use]
    pub fn begun_micros(&self) -> u64 {
        self.run.begun_micros
    }

    /// When it is too late to commit, in microseconds since 1970 by the store's time;
    /// `None` where it has no timeout.
    #[must_use]
    pub fn deadline_micros(&self) -> Option<u64> {
        self.run.deadline_micros
    }

    /// Whether it can no longer commit: its jobs were cancelled, its worker was stopped, it
    /// took longer than its timeout, or the runtime is being shut down. Logic that takes
    /// long asks this now and then, and returns.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.run.check().is_err()
    }

    /// Emits an event: it goes to each slot that the event is connected to when the
    /// activation is committed, for all jobs of this activation.
    ///
    /// # Errors
    /// [`WorkError::Unknown`] where the routine declares events and this is none of them,
    /// [`Error::Serialize`] with the path of what has no form as a value,
    /// [`Error::LimitExceeded`] for data that is too large, [`WorkError::ActivationOver`].
    pub fn emit(&self, event: &str, data: impl Serialize) -> Result<()> {
        self.emitted(event, &data, None)
    }

    /// Emits an event for one of its jobs only.
    ///
    /// # Errors
    /// As [`emit`](Self::emit), and [`WorkError::Unknown`] for a job that is none of this
    /// activation.
    pub fn emit_for(&self, job: &JobContext, event: &str, data: impl Serialize) -> Result<()> {
        self.emitted(event, &data, Some(self.own(job)?))
    }

    /// A job of this activation.
    fn own(&self, job: &JobContext) -> Result<&Arc<Job>> {
        let found = self.run.job(job.job_id());
        let unknown = || WorkError::Unknown {
            what: "job",
            name: job.job_id().to_owned(),
            hint: "an activation acts for one of its `jobs()`".into(),
        };
        Ok(found.ok_or_else(unknown)?)
    }

    fn emitted<T: Serialize>(&self, event: &str, data: &T, job: Option<&Arc<Job>>) -> Result<()> {
        let run = &self.run;
        run.check()?;
        let routine = run.routine();
        if !routine.settings.accepts_event(event) {
            return Err(self.unknown("event", event, routine.settings.event_names()));
        }
        let connected = routine
            .outs
            .iter()
            .find(|out| out.connection.event() == event);
        let origin = match connected {
            Some(out) => Arc::clone(&out.origin),
            // Nobody receives it; hooks are told of it all the same.
            None => Arc::new(Origin {
                routine: Arc::clone(&routine.id),
                event: event.into(),
            }),
        };
        let limits = run.store.shared().settings.limits.codec();
        let jobs = job.map_or(&run.jobs[..], std::slice::from_ref);
        let at = run.store.shared().engine.now();
        let data = Value::from_serialize(data)?;
        record::check_data(&data, &limits)?;
        let event = Event::of(origin, data, at);
        let cell = record::encode(&message_of(&event, jobs), &limits)?;
        run.change(|done| {
            done.emits.push(Emit {
                event: Arc::new(event),
                job: job.cloned(),
                cell,
            });
        })
    }

    fn unknown(&self, what: &'static str, name: &str, known: Vec<&str>) -> Error {
        let hint = format!("routine {:?} has {known:?}", self.routine());
        WorkError::unknown(what, name, hint).into()
    }

    /// Posts a job to a flow: it begins with the commit of this activation, or not at all.
    /// What `Runtime::post` does inside of logic is the same.
    ///
    /// # Errors
    /// As [`Runtime::post_with`](crate::Runtime::post_with), and
    /// [`WorkError::ActivationOver`]. A slot that is full, and an id that there is already,
    /// fail the activation, when it is committed.
    pub fn post(
        &self,
        flow: &str,
        routine: &str,
        slot: &str,
        data: impl Serialize,
    ) -> Result<JobContext> {
        self.post_with(flow, routine, slot, data, PostOptions::default())
    }

    /// The same, with more said about the job.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub fn post_with(
        &self,
        flow: &str,
        routine: &str,
        slot: &str,
        data: impl Serialize,
        options: PostOptions,
    ) -> Result<JobContext> {
        let core = self.run.core()?;
        let post = core.make_post(flow, (routine, slot), &data, options)?;
        core.ask_to_post(&post)?;
        if let Some(first) = core.first_under(&post)? {
            return Ok(JobContext::of(&core, &first));
        }
        let context = JobContext::inside(&self.run, &post.job);
        let key = &post.job.posted.key;
        let same = |known: &&NewPost| key.is_some() && known.job.posted.key == *key;
        let known = self.run.done.lock().posts.iter().find(same).cloned();
        match known {
            Some(known) if known.key == post.key => {
                return Ok(JobContext::inside(&self.run, &known.job));
            }
            Some(known) => {
                return Err(WorkError::KeyReused {
                    key: known.job.posted.key.clone().unwrap_or_default(),
                    job: known.job.id.to_string(),
                }
                .into());
            }
            None => {}
        }
        self.run.change(|done| done.posts.push(post))?;
        Ok(context)
    }

    /// Adds a value to the results of its jobs.
    ///
    /// # Errors
    /// [`Error::Serialize`], [`WorkError::ActivationOver`].
    pub fn result(&self, value: impl Serialize) -> Result<()> {
        let value = Value::from_serialize(&value)?;
        self.run.change(|done| done.results.push(value))
    }

    /// Sets a timer that sends one message, to one of its own slots, after this time. The
    /// message is for the jobs of this activation, which last at least until then. A timer
    /// of the same name, of the same routine and worker, is replaced.
    ///
    /// # Errors
    /// [`WorkError::Unknown`] where the routine has no such slot; otherwise as
    /// [`emit`](Self::emit).
    pub fn set_timer(
        &self,
        name: &str,
        slot: &str,
        after: Duration,
        data: impl Serialize,
    ) -> Result<()> {
        self.timer(name, slot, self.later(after), None, &self.run.jobs, &data)
    }

    /// The same for some of the jobs of this activation only. A timer for none of them
    /// belongs to the worker.
    ///
    /// # Errors
    /// As [`set_timer`](Self::set_timer), and [`WorkError::Unknown`] for a job that is none
    /// of this activation.
    pub fn set_timer_for(
        &self,
        jobs: &[JobContext],
        name: &str,
        slot: &str,
        after: Duration,
        data: impl Serialize,
    ) -> Result<()> {
        let jobs = jobs.iter().map(|job| self.own(job).cloned());
        let jobs: Vec<_> = jobs.collect::<Result<_>>()?;
        self.timer(name, slot, self.later(after), None, &jobs, &data)
    }

    fn later(&self, after: Duration) -> u64 {
        self.run
            .store
            .shared()
            .engine
            .now()
            .saturating_add(micros(after))
    }

    /// The same at a point of time, in microseconds since 1970 by the store's time.
    ///
    /// # Errors
    /// As [`set_timer`](Self::set_timer).
    pub fn set_deadline(
        &self,
        name: &str,
        slot: &str,
        at_micros: u64,
        data: impl Serialize,
    ) -> Result<()> {
        self.timer(name, slot, at_micros, None, &self.run.jobs, &data)
    }

    /// Sets a timer that sends a message each time that so much has passed, until it is
    /// cancelled. It belongs to the worker: its messages are for no job. What was missed
    /// while nothing ran is sent once.
    ///
    /// # Errors
    /// As [`set_timer`](Self::set_timer), and [`Error::Invalid`] for an interval of no time.
    pub fn set_interval(
        &self,
        name: &str,
        slot: &str,
        every: Duration,
        data: impl Serialize,
    ) -> Result<()> {
        let every = micros(every);
        if every == 0 {
            return Err(Error::Invalid {
                what: "interval",
                reason: format!(
                    "timer {name:?} would send without end; a microsecond is the least"
                ),
            });
        }
        let at = self.run.store.shared().engine.now().saturating_add(every);
        self.timer(name, slot, at, Some(every), &[], &data)
    }

    /// Removes a timer of this routine and worker, if there is one of this name.
    ///
    /// # Errors
    /// [`WorkError::ActivationOver`].
    pub fn cancel_timer(&self, name: &str) -> Result<()> {
        self.run.change(|done| {
            done.timers.retain(|timer| timer.record.name != name);
            done.cancelled_timers.push(name.to_owned());
        })
    }

    fn timer<T: Serialize>(
        &self,
        name: &str,
        slot: &str,
        due: u64,
        every: Option<u64>,
        jobs: &[Arc<Job>],
        data: &T,
    ) -> Result<()> {
        let routine = self.run.routine();
        if routine.slot(slot).is_none() {
            let known = routine.slots.iter().map(|(name, _)| &**name).collect();
            return Err(self.unknown("slot", slot, known));
        }
        let record = TimerRecord {
            name: name.to_owned(),
            routine: routine.id.to_string(),
            slot: slot.to_owned(),
            due,
            every,
            data: Value::from_serialize(data)?,
            jobs: jobs.iter().map(|job| job.id.to_string()).collect(),
        };
        record::encode(&record, &self.run.store.shared().settings.limits.codec())?;
        self.run.change(|done| {
            done.timers.retain(|timer| timer.record.name != name);
            done.timers.push(NewTimer {
                record,
                jobs: jobs.to_vec(),
            });
        })
    }
}

impl fmt::Debug for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.run.fmt(f)
    }
}
