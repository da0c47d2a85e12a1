//! Owns what is done with jobs from outside: found, listed, cancelled and waited for.
//! Imports `core`, `settle`.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Result, WorkError};
use crate::runtime::core::{Awaited, Core, HOLDING_MAX};
use crate::runtime::current::outside_only;
use crate::runtime::fail::cancel_runs;
use crate::runtime::job::{Job, Names};
use crate::runtime::record::{self, JobKey};
use crate::runtime::retention::{self, FinishedJob};
use crate::runtime::settle::{JobEnd, Settlement};
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::runtime::worker::Inner;

/// How many jobs one commit removes.
const REMOVED_AT_ONCE: usize = 256;

impl Core {
    /// A job, also one that has ended, as long as its record is kept.
    ///
    /// # Errors
    /// As a read.
    pub(crate) fn job(&self, id: &str) -> Result<Option<Arc<Job>>> {
        if let Some(job) = self.live.lock().get(id) {
            return Ok(Some(Arc::clone(job)));
        }
        let found = retention::find_job(&self.store, id)?;
        let Some((begin, end)) = found else {
            return Ok(None);
        };
        let last = match end {
            Some(_) => record::job_end_key(id),
            None => record::job_begin_key(id),
        };
        let names = Names::new(&*begin.flow, &*begin.worker);
        let job = retention::job_of((id.into(), names), begin, end);
        if let Some((lsn, _)) = self.engine().read(&self.slots.jobs, &last)? {
            job.state.lock().lsn = lsn;
        }
        Ok(Some(job))
    }

    /// All jobs whose records are kept, in the order of their creation.
    ///
    /// # Errors
    /// As a scan.
    pub(crate) fn list_jobs(&self) -> Result<Vec<Arc<Job>>> {
        let mut ids = Vec::new();
        self.scan(&self.slots.jobs, |key, _| {
            if let Some(JobKey::Begin(id)) = JobKey::decode(key) {
                ids.push(id.to_owned());
            }
            Ok(())
        })?;
        // Visited twice where the view had to make room.
        ids.sort_unstable();
        ids.dedup();
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            jobs.extend(self.job(&id)?);
        }
        jobs.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(jobs)
    }

    /// Jobs have ended: their records are kept for their time.
    pub(crate) fn keep_finished(&self, ended: &[(Arc<Job>, JobEnd)]) {
        let mut finished = self.finished.lock();
        for (job, _) in ended {
            let state = job.state.lock();
            finished.put(FinishedJob {
                id: job.id.clone(),
                completed_micros: state.completed.unwrap_or_default(),
                parts: state.parts,
            });
        }
        let many = finished.len()
            > self
                .settings
                .keep_jobs
                .number
                .saturating_add(REMOVED_AT_ONCE);
        drop(finished);
        if many {
            self.alarm.nudge();
        }
    }

    /// Removes the jobs whose time is over, with all that belongs to them.
    ///
    /// # Errors
    /// As a commit; they are removed another time then.
    pub(crate) fn remove_finished(&self) -> Result<()> {
        loop {
            let due = self.finished.lock().due(self.now(), REMOVED_AT_ONCE);
            if due.is_empty() {
                return Ok(());
            }
            let batch = retention::removal_batch(self.engine(), &due);
            if let Err(e) = self.engine().commit(&batch) {
                let mut finished = self.finished.lock();
                due.into_iter().for_each(|job| finished.put(job));
                return Err(e);
            }
            self.committed()?;
        }
    }

    /// Cancels a job. False where it had ended.
    ///
    /// # Errors
    /// [`WorkError::Unknown`]; as a commit.
    pub(crate) fn cancel_job(&self, id: &str) -> Result<bool> {
        self.enter()?;
        let job = self.job(id)?.ok_or_else(|| unknown_job(id))?;
        if job.state.lock().status.is_final() {
            return Ok(false);
        }
        let worker = self.worker(&job.of.worker)?;
        let mut inner = worker.inner.lock();
        if job.state.lock().status.is_final() {
            return Ok(false);
        }
        if !inner.jobs.contains(&job.id) {
            // Its post waits for room, and may still be refused.
            return Err(unknown_job(id).into());
        }
        let mut settlement = Settlement::new(self, &worker);
        let end = JobEnd {
            status: JobStatus::Cancelled,
            error: None,
        };
        settlement.end_job(&job, end);
        settlement.prepare(&inner)?;
        let batch = std::mem::take(&mut settlement.ops).into_batch();
        let lsn = self.engine().commit(&batch)?;
        let settled = settlement.apply(&mut inner, lsn);
        cancel_runs(&inner);
        self.line_up(&worker, &mut inner, false);
        drop(inner);
        self.settled(settled);
        self.acknowledge(lsn)?;
        Ok(true)
    }

    /// Waits until a job has ended, and until that is durable.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`], [`WorkError::Unknown`]; as the store.
    pub(crate) fn wait_for_job(&self, id: &str, timeout: Duration) -> Result<Arc<Job>> {
        let job = self.job(id)?.ok_or_else(|| unknown_job(id))?;
        self.wait_for(&job, timeout)?;
        Ok(job)
    }

    /// The same for one that is known.
    ///
    /// # Errors
    /// As [`Core::wait_for_job`].
    pub(crate) fn wait_for(&self, job: &Arc<Job>, timeout: Duration) -> Result<()> {
        outside_only("waiting for a job", "emit to a routine that goes on")?;
        self.job_is_awaited();
        let ended = self.wait_until((Awaited::Job, timeout), || {
            self.store.engine()?;
            Ok(job.state.lock().status.is_final())
        })?;
        if !ended {
            return Err(WorkError::TimedOut {
                what: format!("job {:?}", job.id),
                holding: self
                    .refusal()
                    .into_iter()
                    .chain(self.holding_job(job))
                    .collect(),
            }
            .into());
        }
        self.printer.flush();
        let lsn = job.state.lock().lsn;
        self.engine().sync(lsn)
    }

    /// Waits until all jobs have ended, and until that is durable.
    ///
    /// # Errors
    /// As [`Core::wait_for_job`].
    pub(crate) fn wait_for_jobs(&self, timeout: Duration) -> Result<()> {
        let ended = self.wait_until((Awaited::AllJobs, timeout), || {
            self.store.engine()?;
            Ok(self.live.lock().is_empty())
        })?;
        if !ended {
            let mut holding = Vec::from_iter(self.refusal());
            let live: Vec<_> = self.live.lock().iter().cloned().collect();
            for job in live {
                holding.extend(self.holding_job(&job));
                if holding.len() >= HOLDING_MAX {
                    break;
                }
            }
            holding.truncate(HOLDING_MAX);
            let what = "all jobs".into();
            return Err(WorkError::TimedOut { what, holding }.into());
        }
        self.printer.flush();
        self.engine().sync(self.engine().visible())
    }

    /// Waits until nothing of any worker runs or waits, and until that is durable.
    ///
    /// # Errors
    /// As [`Core::wait_for_job`].
    pub(crate) fn wait_for_workers(&self, timeout: Duration, but_paused: bool) -> Result<()> {
        let rests = |inner: &Inner| {
            let status = inner.record.status;
            status.is_final()
                || (but_paused && (status == WorkerStatus::Paused || inner.plan.is_none()))
                    && inner.running.is_empty()
                || inner.is_at_rest()
        };
        let idle = self.wait_until((Awaited::Rest, timeout), || {
            self.store.engine()?;
            let workers = self.all_workers();
            Ok(workers.iter().all(|worker| rests(&worker.inner.lock())))
        })?;
        if !idle {
            let what = "all workers".into();
            let holding = self.holding(None);
            return Err(WorkError::TimedOut { what, holding }.into());
        }
        self.printer.flush();
        self.engine().sync(self.engine().visible())
    }

    /// What holds a job, one line each.
    fn holding_job(&self, job: &Arc<Job>) -> Vec<String> {
        let Ok(worker) = self.worker(&job.of.worker) else {
            return Vec::new();
        };
        let inner = worker.inner.lock();
        let of_job = |line: String| format!("job {:?}: {line}", job.id);
        let lines = lines(&worker.id, &inner, Some(job)).into_iter();
        lines.map(of_job).collect()
    }

    /// What holds workers, one line each: one of them, or all.
    pub(crate) fn holding(&self, id: Option<&str>) -> Vec<String> {
        let mut holding = Vec::from_iter(self.refusal());
        for worker in self.all_workers() {
            if id.is_none_or(|id| *worker.id == *id) {
                let inner = worker.inner.lock();
                holding.extend(lines(&worker.id, &inner, None));
            }
        }
        holding.truncate(HOLDING_MAX);
        holding
    }
}

pub(crate) fn unknown_job(id: &str) -> WorkError {
    let hint = "it was never posted, or its record was removed after its time";
    WorkError::unknown("job", id, hint)
}

/// What a worker has to do, of one job or of all.
fn lines(id: &str, inner: &Inner, job: Option<&Arc<Job>>) -> Vec<String> {
    let Some(plan) = &inner.plan else {
        return vec![format!(
            "worker {id:?} waits for flow {:?} to be registered",
            inner.record.flow
        )];
    };
    let is_of =
        |jobs: &[Arc<Job>]| job.is_none_or(|job| jobs.iter().any(|of| Arc::ptr_eq(of, job)));
    let mut lines = Vec::new();
    let state = match inner.record.status {
        WorkerStatus::Paused => ", which is paused",
        _ => "",
    };
    for run in inner.running.values().filter(|run| is_of(&run.jobs)) {
        let fate = run
            .check()
            .err()
            .map_or_else(String::new, |_| format!(", which {}", run.fate().reason()));
        lines.push(format!(
            "an activation of routine {:?} of worker {id:?} runs{fate}",
            run.routine().id
        ));
    }
    for (routine, state_of) in plan.routines.iter().zip(&inner.routines) {
        for ((slot, _), queue) in routine.slots.iter().zip(&state_of.slots) {
            let count = queue.iter().filter(|held| is_of(&held.item.jobs)).count();
            if count > 0 {
                lines.push(format!(
                    "{count} messages wait in slot {slot:?} of routine {:?} of worker {id:?}{state}",
                    routine.id
                ));
            }
        }
        for claimed in state_of.claims.values() {
            let mut messages = claimed.given.iter().flat_map(|given| &given.consumes);
            if messages.any(|message| is_of(&message.jobs)) {
                lines.push(format!(
                    "attempt {} of routine {:?} of worker {id:?} is due at {} microseconds",
                    claimed.record.failed + 1,
                    routine.id,
                    claimed.record.due
                ));
            }
        }
    }
    for timer in inner
        .timers
        .agenda()
        .values()
        .filter(|timer| timer.every.is_none())
    {
        if job.is_none_or(|job| timer.jobs.iter().any(|of| **of == *job.id)) {
            lines.push(format!(
                "timer {:?} of routine {:?} of worker {id:?} is due at {} microseconds",
                timer.name, timer.routine, timer.due
            ));
        }
    }
    let parked = inner
        .parked
        .iter()
        .filter(|(_, record)| job.is_none_or(|job| record.jobs.iter().any(|of| **of == *job.id)));
    let parked = parked.map(|((routine, slot, _), _)| {
        format!(
            "a message is parked: the flow has no slot {slot:?} of routine {routine:?} any more"
        )
    });
    lines.extend(parked);
    lines
}
