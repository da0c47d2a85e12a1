//! Owns `WorkerState`: what is kept for a worker, and what the worker is doing. Inside
//! logic it is read and written with the commit of the activation, outside at once.
//! Imports `access`, `fields`, `history`, `names`, `plan`, `record`, `run`, `status`,
//! `worker`.
//!
//! What must stay true: what the runtime keeps of a worker (status, counters, times) never
//! stands among its states.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, WorkError};
use crate::runtime::access::Access;
use crate::runtime::fields;
use crate::runtime::history::ExecutionEntry;
use crate::runtime::names::{self, Owner, Wish};
use crate::runtime::plan::Plan;
use crate::runtime::record::{self, OwnerRecord, WorkerRecord};
use crate::runtime::run::Run;
use crate::runtime::status::WorkerStatus;
use crate::runtime::worker::{Inner, Worker};
use crate::scope::Scope;
use crate::state::{Store, Transaction, TransactionScope};
use crate::value::Value;

/// A worker: the states that its routines keep from job to job, and how it is doing.
///
/// `runtime.exec` gives one, and so does
/// [`Activation::worker_state`](crate::Activation::worker_state) inside logic. Cheap to
/// clone, and clones may go to other threads.
///
/// # Inside logic and outside
///
/// Inside, all of it belongs to the activation: it reads the states of one moment and what
/// the activation wrote itself, what it writes takes effect with the activation's commit or
/// not at all, and once the activation is over it answers
/// [`WorkError::ActivationOver`]. Outside, each call is a transaction of its own, and what
/// it wrote is as durable as the store says when it returns.
///
/// # Whose a state is
///
/// A state has a name, of up to 512 bytes. The state under a routine's id is that
/// routine's. Any other name belongs to the routine that writes it first. Another routine
/// that reads or writes it gets [`WorkError::NotYours`], unless its owner
/// [shared](Self::share_routine_state) it. Names that begin with `_`, such as `_shared`,
/// `_cache` and `_meta`, are everybody's from the beginning. Outside of logic everything
/// can be read and written, and that makes no owner.
///
/// ```
/// use evenkeel::{Activation, Failure, Flow, Runtime, Store};
/// use serde_json::json;
/// use std::time::Duration;
/// fn count(cx: &mut Activation) -> Result<(), Failure> {
///     let state = cx.worker_state();
///     let total = state.increment_routine_state("_meta", "total_jobs", 1)?;
///     state.update_routine_state(cx.routine(), json!({"last": total}))?;
///     assert!(state.get_routine_state("audit").is_err()); // it is of the routine `audit`
///     Ok(())
/// }
/// let mut flow = Flow::new("counting");
/// flow.add_fn("count", count)?;
/// flow.add_fn("audit", |_cx| Ok(()))?;
/// let runtime = Runtime::builder(Store::in_memory()).threads(1).start()?;
/// runtime.register(flow)?;
/// let worker_state = runtime.exec("counting")?;
/// runtime.post("counting", "count", "in", ())?;
/// runtime.wait_until_all_jobs_finished(Duration::from_secs(30))?;
/// let states = worker_state.routine_states()?;
/// assert_eq!(states[0], ("count".into(), json!({"last": 1}).into()));
/// assert_eq!(states[1], ("_meta".into(), json!({"total_jobs": 1}).into()));
/// assert_eq!(worker_state.jobs_processed(), 1);
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// Two activations that change one state at once do not lose either change: where what one
/// of them read was changed before its commit, its logic runs again. That holds for reading
/// and [`update_routine_state`](Self::update_routine_state) inside logic. Outside, where
/// each call is a commit of its own, the atomic forms are
/// [`update_routine_state_with`](Self::update_routine_state_with),
/// [`increment_routine_state`](Self::increment_routine_state),
/// [`merge_routine_state`](Self::merge_routine_state) and
/// [`compare_and_set_routine_state`](Self::compare_and_set_routine_state).
#[derive(Clone)]
pub struct WorkerState {
    access: Access,
    worker: Arc<Worker>,
}

impl WorkerState {
    pub(crate) fn inside(run: &Arc<Run>) -> Self {
        Self {
            access: Access::Inside(Arc::clone(run)),
            worker: Arc::clone(&run.worker),
        }
    }

    pub(crate) fn outside(store: &Store, worker: &Arc<Worker>) -> Self {
        Self {
            access: Access::Outside(store.clone()),
            worker: Arc::clone(worker),
        }
    }

    /// Its id.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.worker.id
    }

    /// The name of the flow that it runs.
    #[must_use]
    pub fn flow_id(&self) -> &str {
        &self.worker.flow
    }

    fn inner<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.worker.inner.lock())
    }

    fn record<T>(&self, look: impl FnOnce(&WorkerRecord) -> T) -> T {
        self.inner(|inner| look(&inner.record))
    }

    /// How it is now. That is the runtime's own knowledge: no state of the worker has it,
    /// and none is changed by it.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        self.record(|record| record.status)
    }

    /// How many of its jobs completed.
    #[must_use]
    pub fn jobs_processed(&self) -> u64 {
        self.inner(|inner| inner.processed)
    }

    /// How many of its jobs failed.
    #[must_use]
    pub fn jobs_failed(&self) -> u64 {
        self.inner(|inner| inner.failed)
    }

    /// When it was made, in microseconds since 1970 by the store's time, as all times here.
    #[must_use]
    pub fn created_at_micros(&self) -> u64 {
        self.record(|record| record.created)
    }

    /// When its status changed last.
    #[must_use]
    pub fn updated_at_micros(&self) -> u64 {
        self.record(|record| record.updated)
    }

    /// When it had work for the first time; `None` before.
    #[must_use]
    pub fn started_at_micros(&self) -> Option<u64> {
        self.record(|record| record.started)
    }

    /// When it ended; `None` before.
    #[must_use]
    pub fn completed_at_micros(&self) -> Option<u64> {
        self.record(|record| record.completed)
    }

    /// What it failed with; `None` where it did not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.record(|record| record.error.clone())
    }

    /// Its last activations, the oldest first. How many are kept is bounded.
    #[must_use]
    pub fn execution_history(&self) -> Vec<ExecutionEntry> {
        self.inner(|inner| inner.history.iter().map(ExecutionEntry::of).collect())
    }

    /// The flow as its worker runs it; `None` where it is not registered yet.
    fn plan(&self) -> Option<Arc<Plan>> {
        match self.access.run() {
            Some(run) => Some(Arc::clone(&run.plan)),
            None => self.inner(|inner| inner.plan.clone()),
        }
    }

    fn states<'t>(&self, tx: &'t Transaction) -> TransactionScope<'t> {
        tx.scope(Scope::worker(&*self.worker.id))
    }

    /// Does something with the state of this name, if it may.
    fn read<T>(&self, name: &str, step: impl Fn(&TransactionScope<'_>) -> Result<T>) -> Result<T> {
        names::check_name(&self.worker.id, name)?;
        self.access.transact(|tx| {
            if let Some(run) = self.access.run() {
                names::ask(tx, run, name, Wish::Read)?;
            }
            step(&self.states(tx))
        })
    }

    /// Changes something of the state of this name, if it may.
    fn write<T>(
        &self,
        name: &str,
        mut step: impl FnMut(&Transaction, &TransactionScope<'_>) -> Result<T>,
    ) -> Result<T> {
        names::check_name(&self.worker.id, name)?;
        if self.access.run().is_none() {
            self.refuse_ended()?;
        }
        self.access.transact(|tx| {
            if let Some(run) = self.access.run() {
                names::ask(tx, run, name, Wish::Write)?;
            }
            step(tx, &self.states(tx))
        })
    }

    /// What is written to a worker that has ended could outlive it.
    fn refuse_ended(&self) -> Result<()> {
        let status = self.status();
        match status.is_final() {
            false => Ok(()),
            true => Err(WorkError::Ended {
                what: "worker",
                name: self.worker.id.to_string(),
                status: status.to_string(),
            }
            .into()),
        }
    }

    /// All states: first those of the flow's routines, in the order in which the routines
    /// were added, then the others, by name. Inside logic those that the routine may see.
    /// They are of one moment.
    ///
    /// # Errors
    /// As [`ScopeHandle::scan`](crate::ScopeHandle::scan); inside logic
    /// [`WorkError::ActivationOver`].
    pub fn routine_states(&self) -> Result<Vec<(String, Value)>> {
        let plan = self.plan();
        let (mut states, owners) = self.access.transact(|tx| {
            let states = self.states(tx).scan("")?;
            let states = states.map(|entry| {
                let entry = entry?;
                Ok((entry.key().to_owned(), entry.value()?))
            });
            let states: BTreeMap<String, Value> = states.collect::<Result<_>>()?;
            let owners = match self.access.run() {
                Some(_) => self.owners(tx)?,
                None => BTreeMap::new(),
            };
            Ok((states, owners))
        })?;
        if let Some(run) = self.access.run() {
            let asking = &*run.routine().id;
            states.retain(|name, _| {
                let owner = names::owner(name, &run.plan, owners.get(name));
                !matches!(owner, Owner::Routine(owner) if owner != asking)
            });
        }
        let mut ordered = Vec::with_capacity(states.len());
        for routine in plan.iter().flat_map(|plan| &plan.routines) {
            ordered.extend(states.remove_entry(&*routine.id));
        }
        ordered.extend(states);
        Ok(ordered)
    }

    fn owners(&self, tx: &Transaction) -> Result<BTreeMap<String, OwnerRecord>> {
        let records = tx.scope(record::names(&self.worker.id)).scan("")?;
        let records = records.map(|entry| {
            let entry = entry?;
            Ok((entry.key().to_owned(), entry.value()?))
        });
        records.collect()
    }

    /// The state of this name; `None` where there is none. An empty map is a state.
    ///
    /// # Errors
    /// Inside logic [`WorkError::NotYours`] and [`WorkError::ActivationOver`];
    /// [`Error::LimitExceeded`] for a name of more than 512
    /// bytes; otherwise as [`ScopeHandle::get`](crate::ScopeHandle::get).
    pub fn get_routine_state(&self, name: &str) -> Result<Option<Value>> {
        self.get_routine_state_as(name)
    }

    /// The state of this name as a type that serde can deserialise.
    ///
    /// # Errors
    /// As [`get_routine_state`](Self::get_routine_state), and
    /// [`Error::TypeMismatch`] where it is no `T`.
    pub fn get_routine_state_as<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        self.read(name, |states| states.get(name))
    }

    /// Sets the state of this name, whatever it was before.
    ///
    /// # Errors
    /// As [`get_routine_state`](Self::get_routine_state);
    /// [`Error::Serialize`] with the path of what has no form as a
    /// value, [`Error::LimitExceeded`] for what is too large,
    /// [`WorkError::Ended`] from outside for a worker that has ended. Nothing is written
    /// then.
    pub fn update_routine_state(&self, name: &str, state: impl Serialize) -> Result<()> {
        self.write(name, |_, states| states.set(name, &state))
    }

    /// Makes the state of this name out of the one that is there, `None` where there is
    /// none, and gives what was written. No change of others is lost. The closure may run
    /// several times, and does nothing else with this worker.
    ///
    /// # Errors
    /// As [`update_routine_state`](Self::update_routine_state), and
    /// [`Error::TypeMismatch`] where what is there is no `T`.
    pub fn update_routine_state_with<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        mut update: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        self.write(name, |_, states| states.change(name, |old| Ok(update(old))))
    }

    /// Adds to a field of the state of this name, and gives the sum. A state and a field
    /// that are not there count as an empty map and as 0. No change of others is lost.
    ///
    /// # Errors
    /// As [`update_routine_state`](Self::update_routine_state);
    /// [`Error::TypeMismatch`] where the state is no map or the
    /// field no integer, [`Error::LimitExceeded`] where the
    /// sum does not fit an `i64`.
    pub fn increment_routine_state(&self, name: &str, field: &str, by: i64) -> Result<i64> {
        self.write(name, |_, states| fields::increment(states, name, field, by))
    }

    /// Sets the state of this name if it still is what was seen; `None` stands for "if
    /// there is none". True where it was set.
    ///
    /// # Errors
    /// As [`update_routine_state`](Self::update_routine_state). That it is another one is
    /// no error.
    pub fn compare_and_set_routine_state(
        &self,
        name: &str,
        expected: Option<&Value>,
        state: impl Serialize,
    ) -> Result<bool> {
        self.write(name, |_, states| {
            let mut fits = true;
            let outcome = states.change(name, |old: Option<Value>| {
                fits = old.as_ref() == expected;
                match fits {
                    true => Ok(&state),
                    false => Err(Error::abort("it is another state")),
                }
            });
            match fits {
                true => outcome.map(|_| true),
                false => Ok(false),
            }
        })
    }

    /// Merges a patch into the state of this name: a map field by field, at every depth;
    /// anything else is replaced. No change of others is lost.
    ///
    /// # Errors
    /// As [`update_routine_state`](Self::update_routine_state).
    pub fn merge_routine_state(&self, name: &str, patch: impl Serialize) -> Result<()> {
        let patch = Value::from_serialize(&patch)?;
        self.write(name, |_, states| states.merge(name, &patch))
    }

    /// Removes the state of this name, and whose it was: the next routine that writes it
    /// owns it. Does nothing where there is none.
    ///
    /// # Errors
    /// As [`get_routine_state`](Self::get_routine_state); [`WorkError::Ended`] from outside
    /// for a worker that has ended.
    pub fn remove_routine_state(&self, name: &str) -> Result<()> {
        self.write(name, |tx, states| {
            states.delete(name)?;
            tx.scope(record::names(&self.worker.id)).delete(name)
        })
    }

    /// Shares the state of this name: from now on all routines may read and write it.
    /// Inside logic its owner does that; a name that is nobody's becomes the routine's own
    /// first. Outside it shares what a routine owns. Does nothing where it is shared.
    ///
    /// # Errors
    /// As [`get_routine_state`](Self::get_routine_state); [`WorkError::Ended`] from outside
    /// for a worker that has ended, and [`WorkError::Unknown`] for a name that is nobody's.
    pub fn share_routine_state(&self, name: &str) -> Result<()> {
        names::check_name(&self.worker.id, name)?;
        let run = self.access.run();
        if run.is_none() {
            self.refuse_ended()?;
        }
        let plan = self.plan();
        self.access
            .transact(|tx| names::share(tx, &self.worker.id, plan.as_deref(), run, name))
    }
}

/// Of which worker it is, and how that is; no states.
impl fmt::Debug for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerState")
            .field("worker_id", &self.worker.id)
            .field("flow_id", &self.worker.flow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
