//! Owns the life of workers: started, paused, resumed, and ended with all that they have.
//! Imports `core`, `settle`, `worker`.

use std::sync::Arc;

use crate::error::{Error, Result, WorkError};
use crate::runtime::agenda::Timers;
use crate::runtime::core::{Awaited, Core};
use crate::runtime::fail::cancel_runs;
use crate::runtime::flow::validate::NAME_BYTES_MAX;
use crate::runtime::ops::Ops;
use crate::runtime::record::{self, WorkerRecord};
use crate::runtime::settle::{JobEnd, Settlement};
use crate::runtime::status::{JobStatus, RoutineStep, WorkerStatus, WorkerStep};
use crate::runtime::telemetry;
use crate::runtime::worker::{Inner, RoutineState, Worker};
use crate::scope::Scope;
use crate::sync::atomic::Ordering;

impl Core {
    /// The worker of this name and flow: the one that is there, unless it has ended, or a
    /// new one.
    ///
    /// # Errors
    /// [`WorkError::Unknown`] for the flow, [`WorkError::Exists`] where the name is that of
    /// another flow's worker; as a commit.
    pub(crate) fn exec(&self, flow: &str, name: &str) -> Result<Arc<Worker>> {
        self.enter()?;
        check_id("worker", name)?;
        // One at a time, so that no two make the same one, and none is made for a flow that
        // is just being replaced.
        let known = self.known_flows.lock();
        let plan = self.plan(flow)?;
        let found = self.workers.read().get(name).cloned();
        if let Some(worker) = &found {
            if *worker.flow != *flow {
                return Err(WorkError::Exists {
                    what: "worker",
                    name: name.to_owned(),
                    hint: format!("it is of flow {:?}; take another name", worker.flow),
                }
                .into());
            }
            if !worker.inner.lock().record.status.is_final() {
                return Ok(Arc::clone(worker));
            }
        }
        let now = self.now();
        let record = WorkerRecord {
            flow: flow.to_owned(),
            status: WorkerStatus::Starting,
            created: now,
            updated: now,
            started: None,
            completed: None,
            error: None,
            totals: None,
        };
        let worker = Arc::new(self.new_worker(name, record.clone()));
        let mut ops = Ops::default();
        ops.put(
            &self.slots.workers,
            name.as_bytes(),
            record::encode(&record, &self.limits())?,
        );
        if found.is_some() {
            // What the one had that has ended.
            ops.clear(&worker.slot);
            ops.clear(&self.engine().slot(&Scope::worker(name).encode()));
            ops.clear(&self.engine().slot(&record::names(name).encode()));
        }
        let lsn = self.engine().commit(&ops.into_batch())?;
        {
            let mut inner = worker.inner.lock();
            let states = plan
                .routines
                .iter()
                .map(|routine| RoutineState::new(&routine.slots));
            inner.routines = states.collect();
            inner.plan = Some(plan);
        }
        self.workers
            .write()
            .insert(Arc::clone(&worker.id), Arc::clone(&worker));
        drop(known);
        self.acknowledge(lsn)?;
        telemetry::worker_is(&worker, WorkerStatus::Starting);
        self.hooks.worker_started(&worker);
        Ok(worker)
    }

    /// A worker as its record has it, without work.
    pub(crate) fn new_worker(&self, id: &str, record: WorkerRecord) -> Worker {
        let slot = self.engine().slot(&record::worker(id).encode());
        Worker::new(id, slot, Inner::new(record))
    }

    /// Runs nothing of a worker until it is resumed. What runs is not stopped.
    ///
    /// # Errors
    /// [`WorkError::Unknown`], [`WorkError::Ended`]; as a commit.
    pub(crate) fn pause(&self, id: &str) -> Result<()> {
        self.step_worker(id, WorkerStep::Pause)
    }

    /// Lets a worker that is paused run again.
    ///
    /// # Errors
    /// As [`Core::pause`].
    pub(crate) fn resume(&self, id: &str) -> Result<()> {
        self.step_worker(id, WorkerStep::Resume)
    }

    fn step_worker(&self, id: &str, step: WorkerStep) -> Result<()> {
        self.enter()?;
        let worker = self.worker(id)?;
        let mut inner = worker.inner.lock();
        let status = inner.record.status.after(step);
        let mut record = inner.record.clone();
        record.status = status.map_err(|_| ended(&worker, &inner))?;
        record.updated = self.now();
        let mut ops = Ops::default();
        ops.put(
            &self.slots.workers,
            id.as_bytes(),
            record::encode(&record, &self.limits())?,
        );
        let lsn = self.engine().commit(&ops.into_batch())?;
        inner.record = record;
        for routine in &mut inner.routines {
            routine.candidate = true;
        }
        if !inner.is_at_rest() {
            inner.step(WorkerStep::Work);
        }
        self.line_up(&worker, &mut inner, false);
        drop(inner);
        // What was due while it was paused is due now.
        self.alarm.set(0, &worker);
        self.tell(Awaited::ANY);
        self.acknowledge(lsn)
    }

    /// Ends a worker with all its work.
    ///
    /// # Errors
    /// [`WorkError::Unknown`], [`WorkError::Ended`]; as a commit. To be completed it must be
    /// at rest, and have no job that has not ended: otherwise [`WorkError::TimedOut`] says
    /// what is left.
    pub(crate) fn stop(&self, id: &str, status: WorkerStatus) -> Result<()> {
        self.enter()?;
        let worker = self.worker(id)?;
        let mut inner = worker.inner.lock();
        if inner.record.status.is_final() {
            return Err(ended(&worker, &inner).into());
        }
        if status == WorkerStatus::Completed && !(inner.is_at_rest() && inner.jobs.is_empty()) {
            drop(inner);
            return Err(WorkError::TimedOut {
                what: format!("worker {id:?}"),
                holding: self.holding(Some(id)),
            }
            .into());
        }
        let mut settlement = Settlement::new(self, &worker);
        self.end_worker(&mut settlement, &inner, status, None);
        settlement.prepare(&inner)?;
        let batch = std::mem::take(&mut settlement.ops).into_batch();
        let lsn = self.engine().commit(&batch)?;
        let settled = settlement.apply(&mut inner, lsn);
        self.apply_worker_end(&worker, &mut inner, status);
        cancel_runs(&inner);
        drop(inner);
        worker.room.notify_all();
        self.settled(settled);
        self.tell(Awaited::ANY);
        self.acknowledge(lsn)?;
        telemetry::worker_is(&worker, status);
        self.hooks.worker_stopped(&worker, status, None);
        Ok(())
    }

    /// The writes of a worker's end: its jobs end, and its queues, timers and attempts go.
    ///
    /// # Errors
    /// As the codec.
    pub(crate) fn end_worker(
        &self,
        settlement: &mut Settlement<'_>,
        inner: &Inner,
        status: WorkerStatus,
        error: Option<String>,
    ) {
        let end = JobEnd {
            status: match status {
                WorkerStatus::Failed => JobStatus::Failed,
                _ => JobStatus::Cancelled,
            },
            error: Some(
                error
                    .clone()
                    .unwrap_or_else(|| format!("its worker is {status}")),
            ),
        };
        for job in inner.jobs.iter() {
            settlement.end_job(job, end.clone());
        }
        let mut record = inner.record.clone();
        record.status = status;
        record.completed = Some(settlement.now());
        record.updated = settlement.now();
        record.error = error;
        settlement.end_worker(record);
    }

    /// What a worker's end is in memory.
    pub(crate) fn apply_worker_end(
        &self,
        worker: &Worker,
        inner: &mut Inner,
        status: WorkerStatus,
    ) {
        let now = self.now();
        worker.has_ended.store(true, Ordering::SeqCst);
        inner.step(match status {
            WorkerStatus::Completed => WorkerStep::Complete,
            WorkerStatus::Failed => WorkerStep::Fail,
            WorkerStatus::Cancelled => WorkerStep::Cancel,
            _ => WorkerStep::Stop,
        });
        inner.record.completed = Some(now);
        inner.timers = Timers::default();
        inner.effects.clear();
        inner.parked.clear();
        if let Some(plan) = &inner.plan {
            for (state, routine) in inner.routines.iter_mut().zip(&plan.routines) {
                let running = state.running;
                *state = RoutineState::new(&routine.slots);
                state.running = running;
                state.step(RoutineStep::Complete);
            }
        }
    }
}

/// The error of a worker that has ended.
pub(crate) fn ended(worker: &Worker, inner: &Inner) -> WorkError {
    WorkError::Ended {
        what: "worker",
        name: worker.id.to_string(),
        status: inner.record.status.to_string(),
    }
}

/// Checks an id that a user gave.
///
/// # Errors
/// [`Error::Invalid`] where it is empty, [`Error::LimitExceeded`] where it is too long.
pub(crate) fn check_id(what: &'static str, id: &str) -> Result<()> {
    match id.len() {
        0 => Err(Error::Invalid {
            what,
            reason: "its id is empty".into(),
        }),
        1..=NAME_BYTES_MAX => Ok(()),
        bytes => Err(Error::LimitExceeded {
            limit: "id_bytes",
            max: NAME_BYTES_MAX as u64,
            actual: bytes as u64,
            at: format!("the id of a {what}"),
        }),
    }
}
