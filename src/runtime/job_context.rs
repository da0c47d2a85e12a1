//! Owns `JobContext`: what is kept for a job, and how the job is doing. Inside logic it is
//! read and written with the commit of the activation, outside at once. Imports `access`,
//! `event`, `job`, `record`, `run`, `status`.
//!
//! What must stay true: nothing is written for a job that has ended, since it would stay
//! when the job is removed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::CodecLimits;
use crate::error::{Result, WorkError};
use crate::runtime::access::Access;
use crate::runtime::core::Core;
use crate::runtime::event::JobSource;
use crate::runtime::job::Job;
use crate::runtime::output::read_output;
use crate::runtime::record::{self, ActivationId, JobEndRecord, JobPart, TraceRecord};
use crate::runtime::run::Run;
use crate::runtime::status::JobStatus;
use crate::scope::Scope;
use crate::state::{Store, Transaction, TransactionScope};
use crate::value::Value;

/// A job: what it was posted with, what routines keep for it, its trace, and how it is
/// doing.
///
/// `runtime.post` and `runtime.get_job` give one, and so do
/// [`Activation::current_job`](crate::Activation::current_job) and
/// [`Activation::jobs`](crate::Activation::jobs) inside logic. Cheap to clone, and clones
/// may go to other threads. No job reaches the data of another one.
///
/// Inside logic, all of it belongs to the activation: data is read as of one moment with
/// what the activation wrote itself, what it writes takes effect with the activation's
/// commit or not at all, and once the activation is over reading and writing data answers
/// [`WorkError::ActivationOver`]. Outside, each call is a transaction of its own, and what
/// it wrote is as durable as the store says when it returns.
///
/// ```
/// use evenkeel::{Activation, Failure, Flow, PostOptions, Runtime, Store};
/// use serde_json::json;
/// use std::time::Duration;
/// fn process(cx: &mut Activation) -> Result<(), Failure> {
///     let Some(job) = cx.current_job() else {
///         return Ok(()); // a timer's activation, or one of several jobs
///     };
///     let user: Option<String> = job.get_data("user_id")?; // as it was posted with
///     let seen = job.update_data("seen", |seen: Option<u32>| seen.unwrap_or(0) + 1)?;
///     job.trace(cx.routine(), "completed", json!({"user": user, "seen": seen}))?;
///     Ok(())
/// }
/// let mut flow = Flow::new("orders");
/// flow.add_fn("process", process)?;
/// let runtime = Runtime::builder(Store::in_memory()).threads(1).start()?;
/// runtime.register(flow)?;
/// runtime.exec("orders")?;
/// let options = PostOptions::new().meta("user_id", "ada");
/// let job = runtime.post_with("orders", "process", "in", (), options)?;
/// runtime.wait_until_all_jobs_finished(Duration::from_secs(30))?;
/// assert_eq!(job.get_data("seen")?, Some(1));
/// assert_eq!(job.trace_log()?[0].action, "completed");
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// What belongs to a job goes with its record: see the retention of finished jobs. What is
/// to outlive it belongs into a [`WorkerState`](crate::WorkerState).
#[derive(Clone)]
pub struct JobContext {
    access: Access,
    job: Arc<Job>,
    /// The runtime that it is of, to be waited for.
    core: Weak<Core>,
}

/// An entry of a job's trace. Made by [`JobContext::trace_log`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TraceEntry {
    /// When it was noted, in microseconds since 1970 by the store's time.
    pub at_micros: u64,
    /// The routine that it is about.
    pub routine_id: String,
    /// What happened.
    pub action: String,
    /// What else is to be said.
    pub details: Value,
}

impl TraceEntry {
    fn of(record: TraceRecord) -> Self {
        Self {
            at_micros: record.at,
            routine_id: record.routine,
            action: record.action,
            details: record.details,
        }
    }
}

impl JobContext {
    pub(crate) fn inside(run: &Arc<Run>, job: &Arc<Job>) -> Self {
        Self {
            access: Access::Inside(Arc::clone(run)),
            job: Arc::clone(job),
            core: Weak::new(),
        }
    }

    /// A job as it is given to somebody outside.
    pub(crate) fn of(core: &Arc<Core>, job: &Arc<Job>) -> Self {
        Self {
            core: Arc::downgrade(core),
            ..Self::outside(&core.store, job)
        }
    }
    pub(crate) fn outside(store: &Store, job: &Arc<Job>) -> Self {
        Self {
            access: Access::Outside(store.clone()),
            job: Arc::clone(job),
            core: Weak::new(),
        }
    }

    /// Waits until the job has ended, and until that is durable. How it ended,
    /// [`status`](Self::status) says then.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`], which says what holds it; [`WorkError::ShutDown`];
    /// [`WorkError::InsideLogic`] inside of a routine, where it would wait for itself.
    pub fn wait(&self, timeout: Duration) -> Result<()> {
        if let Access::Inside(_) = self.access {
            let (call, instead) = ("waiting for a job", "emit to a routine that goes on");
            return Err(WorkError::InsideLogic { call, instead }.into());
        }
        let core = self.core.upgrade().ok_or(WorkError::ShutDown)?;
        core.wait_for(&self.job, timeout)
    }

    /// Its id.
    #[must_use]
    pub fn job_id(&self) -> &str {
        &self.job.id
    }

    /// The id of the worker that it was posted to.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.job.of.worker
    }

    /// The name of the flow that it was posted to.
    #[must_use]
    pub fn flow_id(&self) -> &str {
        &self.job.of.flow
    }

    /// What it printed, as far as that is committed: by
    /// [`Activation::print`](crate::Activation::print), [`job_println!`](crate::job_println)
    /// and, with the feature `tracing`, events of `tracing`. The last 200,000 characters,
    /// until an hour after its end; then it is empty.
    ///
    /// # Errors
    /// As a scan of the store.
    pub fn output(&self) -> Result<String> {
        read_output(self.access.store(), &self.job.id)
    }

    /// When it was posted, in microseconds since 1970 by the store's time.
    #[must_use]
    pub fn created_at_micros(&self) -> u64 {
        self.job.created
    }

    /// When it ended, in microseconds since 1970 by the store's time; `None` before.
    #[must_use]
    pub fn completed_at_micros(&self) -> Option<u64> {
        self.job.state.lock().completed
    }

    /// How it is now.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        self.job.state.lock().status
    }

    /// What it failed with; `None` where it did not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.job.state.lock().notes.error.clone()
    }

    /// Whether all that is visible of it is durable: a crash would not undo it. Never in a
    /// store without a folder.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        let lsn = self.job.state.lock().lsn;
        self.access.store().shared().engine.durable() >= lsn
    }

    /// What activations gave as its results, in the order of their commits.
    #[must_use]
    pub fn results(&self) -> Vec<Value> {
        self.job.state.lock().notes.results.clone()
    }

    /// How many of its messages were dropped from full slots.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.job.state.lock().notes.dropped
    }

    /// The text that it was posted with under this name; `None` where there is nothing, or
    /// no text: [`metadata_value`](Self::metadata_value) has every type.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata_value(name).and_then(Value::as_str)
    }

    /// What it was posted with under this name.
    #[must_use]
    pub fn metadata_value(&self, name: &str) -> Option<&Value> {
        self.job.posted.metadata.get(name)
    }

    /// All that it was posted with.
    #[must_use]
    pub fn metadata_map(&self) -> &BTreeMap<String, Value> {
        &self.job.posted.metadata
    }

    fn scope<'t>(&self, tx: &'t Transaction) -> TransactionScope<'t> {
        tx.scope(Scope::job(&*self.job.id))
    }

    fn routine_scope<'t>(&self, tx: &'t Transaction) -> TransactionScope<'t> {
        tx.scope(record::routine_data(&self.job.id))
    }

    fn limits(&self) -> CodecLimits {
        self.access.store().shared().settings.limits.codec()
    }

    /// Changes something that belongs to the job.
    fn write<T>(&self, mut step: impl FnMut(&Transaction) -> Result<T>) -> Result<T> {
        let inside = self.access.run().is_some();
        {
            let mut state = self.job.state.lock();
            if !inside && state.status.is_final() {
                return Err(self.ended(state.status.as_str()));
            }
            // Before the commit, so that whoever removes the job knows of it in time.
            state.parts = true;
        }
        self.access.transact(|tx| {
            if !inside {
                self.refuse_ended(tx)?;
            }
            step(tx)
        })
    }

    fn ended(&self, status: &str) -> crate::error::Error {
        WorkError::Ended {
            what: "job",
            name: self.job.id.to_string(),
            status: status.to_owned(),
        }
        .into()
    }

    /// Asked in the transaction that writes, this cannot be passed by a job that ends
    /// meanwhile.
    fn refuse_ended(&self, tx: &Transaction) -> Result<()> {
        let scope = record::jobs();
        let jobs = tx.scope(scope.clone());
        if let Some((_, cell)) = jobs.find_cell(&record::job_end_key(&self.job.id))? {
            let end: JobEndRecord = record::decode(&cell, &self.limits(), &scope)?;
            return Err(self.ended(end.status.as_str()));
        }
        match jobs.find_cell(&record::job_begin_key(&self.job.id))? {
            Some(_) => Ok(()),
            None => Err(self.ended("removed")),
        }
    }

    /// What the job has under this name, its datum; where it has none, what it was posted
    /// with. `None` where there is neither. A datum that is null is one.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) for a datum, and
    /// [`Error::Invalid`](crate::Error::Invalid) for metadata, that is no `T`; inside logic
    /// [`WorkError::ActivationOver`]; otherwise as
    /// [`ScopeHandle::get`](crate::ScopeHandle::get).
    pub fn get_data<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let datum = self.access.transact(|tx| self.scope(tx).get(name))?;
        match datum {
            Some(datum) => Ok(Some(datum)),
            None => self.metadata_as(name),
        }
    }

    fn metadata_as<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.metadata_value(name)
            .map(Value::deserialize)
            .transpose()
    }

    /// All data of the job, by name, as of one moment; without the metadata.
    ///
    /// # Errors
    /// Inside logic [`WorkError::ActivationOver`]; otherwise as
    /// [`ScopeHandle::scan`](crate::ScopeHandle::scan).
    pub fn data(&self) -> Result<BTreeMap<String, Value>> {
        self.access.transact(|tx| values(&self.scope(tx), ""))
    }

    /// Sets the datum of this name, of up to `Limits::key_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::Serialize`](crate::Error::Serialize) with the path of what has no form as a
    /// value, [`Error::LimitExceeded`](crate::Error::LimitExceeded) for what is too large;
    /// inside logic [`WorkError::ActivationOver`], outside [`WorkError::Ended`] for a job
    /// that has ended. Nothing is written then.
    pub fn set_data(&self, name: &str, value: impl Serialize) -> Result<()> {
        self.write(|tx| self.scope(tx).set(name, &value))
    }

    /// Makes the datum of this name out of what [`get_data`](Self::get_data) gives, and
    /// gives what was written. No change of others is lost. The closure may run several
    /// times, and does nothing else with this job.
    ///
    /// # Errors
    /// As [`get_data`](Self::get_data) and [`set_data`](Self::set_data).
    pub fn update_data<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        mut update: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        self.write(|tx| {
            self.scope(tx).change(name, |old| {
                let old = match old {
                    Some(old) => Some(old),
                    None => self.metadata_as(name)?,
                };
                Ok(update(old))
            })
        })
    }

    /// Removes the datum of this name; what the job was posted with stays. Does nothing
    /// where there is none.
    ///
    /// # Errors
    /// Inside logic [`WorkError::ActivationOver`], outside [`WorkError::Ended`] for a job
    /// that has ended; otherwise as [`ScopeHandle::delete`](crate::ScopeHandle::delete).
    pub fn remove_data(&self, name: &str) -> Result<()> {
        self.write(|tx| self.scope(tx).delete(name))
    }

    /// What a routine keeps for this job under this key; `None` where there is nothing. No
    /// routine's data reaches another's, whatever is in ids and keys.
    ///
    /// # Errors
    /// As [`get_data`](Self::get_data).
    pub fn get_routine_data<T: DeserializeOwned>(
        &self,
        routine_id: &str,
        key: &str,
    ) -> Result<Option<T>> {
        let name = record::routine_datum(routine_id, key);
        self.access.transact(|tx| self.routine_scope(tx).get(&name))
    }

    /// Sets what a routine keeps for this job under this key. Id and key together have up
    /// to `Limits::key_bytes` bytes, less six.
    ///
    /// # Errors
    /// As [`set_data`](Self::set_data).
    pub fn set_routine_data(
        &self,
        routine_id: &str,
        key: &str,
        value: impl Serialize,
    ) -> Result<()> {
        let name = record::routine_datum(routine_id, key);
        self.write(|tx| self.routine_scope(tx).set(&name, &value))
    }

    /// Removes what a routine keeps for this job under this key. Does nothing where there
    /// is nothing.
    ///
    /// # Errors
    /// As [`remove_data`](Self::remove_data).
    pub fn remove_routine_data(&self, routine_id: &str, key: &str) -> Result<()> {
        let name = record::routine_datum(routine_id, key);
        self.write(|tx| self.routine_scope(tx).delete(&name))
    }

    /// All that a routine keeps for this job, by key.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn routine_data(&self, routine_id: &str) -> Result<BTreeMap<String, Value>> {
        let prefix = record::routine_datum(routine_id, "");
        self.access
            .transact(|tx| values(&self.routine_scope(tx), &prefix))
    }

    /// Notes something in the trace of the job: which routine it is about, what happened,
    /// and whatever else is to be said. Inside logic it is noted with the activation's
    /// commit.
    ///
    /// # Errors
    /// As [`set_data`](Self::set_data).
    pub fn trace(&self, routine_id: &str, action: &str, details: impl Serialize) -> Result<()> {
        let trace = TraceRecord {
            at: self.access.store().shared().engine.now(),
            routine: routine_id.to_owned(),
            action: action.to_owned(),
            details: Value::from_serialize(&details)?,
        };
        // All of it counts: routine and action are the user's too.
        record::check_data(&Value::from_serialize(&trace)?, &self.limits())?;
        let cell = record::encode(&trace, &self.limits())?;
        if let Access::Inside(run) = &self.access {
            run.change(|done| done.traces.push((Arc::clone(&self.job), trace)))?;
            self.job.state.lock().parts = true;
            return Ok(());
        }
        self.write(|tx| self.note(tx, trace.at, &cell))
    }

    /// Puts an entry into the trace.
    fn note(&self, tx: &Transaction, at_micros: u64, cell: &Arc<[u8]>) -> Result<()> {
        // Two that are noted at one moment have keys of their own: that this one is not
        // there is read, so whoever comes second runs again, behind another LSN. No
        // activation is of session 0.
        let id = ActivationId {
            session: 0,
            number: tx.lsn().get(),
        };
        let key = JobPart::Trace.key(at_micros, id, 0);
        let parts = tx.scope(record::job(&self.job.id));
        parts.find_cell(&key)?;
        parts.put_cell(&key, Arc::clone(cell))
    }

    /// The trace of the job, the oldest entry first; inside logic with what the activation
    /// noted itself.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn trace_log(&self) -> Result<Vec<TraceEntry>> {
        let scope = record::job(&self.job.id);
        let limits = self.limits();
        let mut log = self.access.transact(|tx| {
            let mut log = Vec::new();
            let prefix = [JobPart::Trace as u8];
            tx.scope(scope.clone()).visit_cells(&prefix, |_, cell| {
                log.push(TraceEntry::of(record::decode(cell, &limits, &scope)?));
                Ok(())
            })?;
            Ok(log)
        })?;
        if let Some(run) = self.access.run() {
            let done = run.done.lock();
            let own = done.traces.iter();
            let own = own.filter(|(job, _)| Arc::ptr_eq(job, &self.job));
            log.extend(own.map(|(_, trace)| TraceEntry::of(trace.clone())));
            // Others may have noted something since this activation began.
            log.sort_by_key(|entry| entry.at_micros);
        }
        Ok(log)
    }
}

/// The entries whose keys begin with `prefix`, by the rest of their keys.
fn values(scope: &TransactionScope<'_>, prefix: &str) -> Result<BTreeMap<String, Value>> {
    let entries = scope.scan(prefix)?;
    let entries = entries.map(|entry| {
        let entry = entry?;
        let name = entry.key().strip_prefix(prefix).unwrap_or(entry.key());
        Ok((name.to_owned(), entry.value()?))
    });
    entries.collect()
}

impl JobSource for JobContext {
    fn id(&self) -> &str {
        &self.job.id
    }

    fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.job.posted.metadata
    }

    fn datum(&self, name: &str) -> Result<Option<Value>> {
        self.access.transact(|tx| self.scope(tx).get(name))
    }
}

/// Which job it is; no data.
impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext")
            .field("job_id", &self.job.id)
            .field("worker_id", &self.job.of.worker)
            .field("flow_id", &self.job.of.flow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
