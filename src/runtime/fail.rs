//! Owns what follows from an activation that failed or cannot be committed: another
//! attempt, dead letters, the end of its jobs, or its input waiting again.
//! Imports `commit`, `core`, `handler`, `settle`.

use std::sync::Arc;

use crate::clock::micros;
use crate::error::Result;
use crate::runtime::capture::{self, Captured};
use crate::runtime::commit::{TIMEOUT, is_gone, message_of, too_late};
use crate::runtime::core::{Awaited, Core};
use crate::runtime::execute::is_over;
use crate::runtime::failure::Failure;
use crate::runtime::handler::Reaction;
use crate::runtime::history::ExecutionOutcome;
use crate::runtime::job::{Job, Message};
use crate::runtime::record::{ClaimRecord, DeadRecord};
use crate::runtime::run::{Fate, Run};
use crate::runtime::settle::{JobEnd, Settled, Settlement};
use crate::runtime::status::{JobStatus, RoutineStep, WorkerStatus};
use crate::runtime::telemetry::ActivationSpan;
use crate::runtime::worker::{Given, Inner};

impl Core {
    /// The logic of a run failed, or its commit did.
    pub(crate) fn failed(&self, run: &Arc<Run>, failure: Failure, span: &ActivationSpan) {
        // Whoever cancelled it made it fail.
        run.end(Fate::Over);
        let failure = match run.fate() {
            Fate::Running | Fate::Over if is_over(&failure) => return self.give_up(run, span),
            Fate::Running | Fate::Over => failure,
            Fate::TimedOut => too_late(),
            Fate::Cancelled | Fate::Aborted => return self.give_up(run, span),
        };
        let reaction = run
            .routine()
            .handler
            .on_failure(&failure, run.attempt, self.random());
        let Ok(captured) = Captured::of(run) else {
            return self.leave(run, &mut run.worker.inner.lock());
        };
        let mut inner = run.worker.inner.lock();
        if is_gone(run, &inner) {
            drop(inner);
            return self.give_up(run, span);
        }
        let settled = self.settle_failure(run, &mut inner, (&failure, captured), reaction);
        match settled {
            Ok((settled, outcome)) => {
                drop(inner);
                self.ended(run, span, outcome, Some(&failure));
                self.settled(settled);
                if let Reaction::Fail { worker: true } = reaction {
                    let error = failure.to_string();
                    self.hooks
                        .worker_stopped(&run.worker, WorkerStatus::Failed, Some(&error));
                }
            }
            Err(e) => {
                self.store_refuses(&e);
                self.leave(run, &mut inner);
            }
        }
    }

    /// What follows from a failure, in one commit.
    fn settle_failure(
        &self,
        run: &Arc<Run>,
        inner: &mut Inner,
        (failure, captured): (&Failure, Captured),
        reaction: Reaction,
    ) -> Result<(Settled, ExecutionOutcome)> {
        let mut settlement = Settlement::new(self, &run.worker);
        let traces = std::mem::take(&mut run.done.lock().traces);
        settlement.print(run, captured);
        let (ended, step) = match reaction {
            Reaction::Retry { .. } => (ExecutionOutcome::Retried, RoutineStep::GiveBack),
            Reaction::Continue => (ExecutionOutcome::ErrorContinued, RoutineStep::Continue),
            Reaction::Skip => (ExecutionOutcome::Skipped, RoutineStep::Skip),
            Reaction::Fail { .. } if failure.kind_name() == Some(TIMEOUT) => {
                (ExecutionOutcome::TimedOut, RoutineStep::Fail)
            }
            Reaction::Fail { .. } => (ExecutionOutcome::Failed, RoutineStep::Fail),
        };
        match reaction {
            Reaction::Retry { after } => {
                let due = settlement.now().saturating_add(micros(after));
                let mut record = claim_of(run, run.attempt, due);
                record.error = Some(failure.to_string());
                settlement.claim(run, record)?;
            }
            Reaction::Fail { .. } | Reaction::Continue | Reaction::Skip => {
                settlement.consume(run);
                settlement.forget_attempts(inner, run.id, run.is_claimed());
            }
        }
        settlement.note(run, ended);
        if let Reaction::Fail { worker } = reaction {
            let error = format!("routine {:?}: {failure}", run.routine().id);
            let end = JobEnd {
                status: JobStatus::Failed,
                error: Some(error.clone()),
            };
            for job in &run.jobs {
                settlement.end_job(job, end.clone());
            }
            if worker {
                self.end_worker(&mut settlement, inner, WorkerStatus::Failed, Some(error));
            }
        }
        settlement.trace(run.id, &traces)?;
        settlement.prepare(inner)?;
        let mut batch = std::mem::take(&mut settlement.ops).into_batch();
        let letters = match reaction {
            Reaction::Retry { .. } => Vec::new(),
            _ => letters(run, failure, settlement.now()),
        };
        let mut letters = self.dead.put(letters, settlement.now())?;
        let writes = letters.take_writes();
        if !writes.ops.is_empty() {
            batch.writes.push(writes);
        }
        let lsn = self.engine().commit(&batch)?;
        for _ in letters.committed().0 {
            self.figures.dead_letter();
        }
        capture::show(run, &self.printer);
        self.over(run, inner, step);
        let settled = settlement.apply(inner, lsn);
        if let Reaction::Fail { worker: true } = reaction {
            self.apply_worker_end(&run.worker, inner, WorkerStatus::Failed);
        }
        cancel_runs(inner);
        self.line_up(&run.worker, inner, run.has_thread());
        Ok((settled, ended))
    }

    /// A run that cannot be committed any more. What took too long has failed.
    pub(crate) fn gone(&self, run: &Arc<Run>, span: &ActivationSpan) {
        match run.fate() {
            Fate::TimedOut => self.failed(run, too_late(), span),
            _ => self.give_up(run, span),
        }
    }

    /// What it had taken of jobs that all have ended goes with them, all else waits again.
    fn give_up(&self, run: &Arc<Run>, span: &ActivationSpan) {
        let mut inner = run.worker.inner.lock();
        if !inner.running.contains_key(&run.id) {
            return;
        }
        match self.settle_gone(run, &mut inner) {
            Err(e) => {
                self.store_refuses(&e);
                self.leave(run, &mut inner);
            }
            Ok(settled) => {
                drop(inner);
                self.ended(run, span, ExecutionOutcome::Cancelled, None);
                self.settled(settled);
            }
        }
    }

    fn settle_gone(&self, run: &Arc<Run>, inner: &mut Inner) -> Result<Settled> {
        let over = |job: &Arc<Job>| job.state.lock().status.is_final();
        let mut settlement = Settlement::new(self, &run.worker);
        let orphaned = !run.jobs.is_empty() && run.jobs.iter().all(over);
        match orphaned {
            // All that it had went with its worker, and another one may have its name.
            _ if inner.record.status.is_final() => {}
            true => {
                settlement.consume(run);
                settlement.forget_attempts(inner, run.id, run.is_claimed());
                settlement.note(run, ExecutionOutcome::Cancelled);
            }
            // Its messages are fixed: the next run has them again.
            false if run.is_claimed() => {
                let record = claim_of(run, run.attempt.saturating_sub(1), settlement.now());
                settlement.claim(run, record)?;
            }
            false => settlement.give_back(run),
        }
        settlement.prepare(inner)?;
        let batch = std::mem::take(&mut settlement.ops).into_batch();
        let lsn = match batch.writes.is_empty() {
            true => self.engine().visible(),
            false => self.engine().commit(&batch)?,
        };
        self.over(run, inner, RoutineStep::GiveBack);
        let settled = settlement.apply(inner, lsn);
        self.line_up(&run.worker, inner, run.has_thread());
        Ok(settled)
    }

    /// Nothing can be committed: the store is closed, poisoned or full. In memory the run
    /// is over; the store has all that it had before, and the next opening goes on there.
    pub(crate) fn leave(&self, run: &Arc<Run>, inner: &mut Inner) {
        let mut settlement = Settlement::new(self, &run.worker);
        let record = claim_of(run, run.attempt.saturating_sub(1), settlement.now());
        // What cannot be encoded was never claimed.
        if !run.is_claimed() || settlement.claim(run, record).is_err() {
            settlement.give_back(run);
        }
        self.over(run, inner, RoutineStep::GiveBack);
        settlement.apply(inner, self.engine().visible());
        let routine = &mut inner.routines[run.at];
        routine.candidate = false;
        routine.again = true;
        self.alarm.set_again(&run.worker);
        self.tell(Awaited::ANY);
    }
}

/// The messages of a run that failed for good.
fn letters(run: &Run, failure: &Failure, now: u64) -> Vec<DeadRecord> {
    let slots = &run.routine().slots;
    let given = run.given.iter().flat_map(|given| {
        let messages = given.consumes.iter();
        messages.map(move |message| (given.slot, message))
    });
    let letter = |(slot, message): (usize, &Message)| DeadRecord {
        flow: run.plan.flow.to_string(),
        worker: run.worker.id.to_string(),
        routine: run.routine().id.to_string(),
        slot: slots[slot].0.to_string(),
        message: message_of(&message.event, &message.jobs).to_record(),
        error: failure.to_string(),
        kind: failure.kind_name().map(str::to_owned),
        attempts: run.attempt,
        at: now,
        edited: None,
    };
    given.map(letter).collect()
}

/// Which messages an activation consumes, as the store keeps it.
pub(crate) fn claim_of(run: &Run, failed: u32, due: u64) -> ClaimRecord {
    let slots = &run.routine().slots;
    let of = |given: &Given| {
        let seqs = given.taken.iter().map(|seq| seq.0).collect();
        (slots[given.slot].0.to_string(), seqs)
    };
    ClaimRecord {
        routine: run.routine().id.to_string(),
        failed,
        due,
        error: None,
        messages: run.given.iter().map(of).collect(),
    }
}

/// Runs whose jobs all have ended, and those of a worker that has, cannot commit.
pub(crate) fn cancel_runs(inner: &Inner) {
    let over = |job: &Arc<Job>| job.state.lock().status.is_final();
    for run in inner.running.values() {
        let orphaned = !run.jobs.is_empty() && run.jobs.iter().all(over);
        if orphaned || inner.record.status.is_final() {
            run.end(Fate::Cancelled);
        }
    }
}
