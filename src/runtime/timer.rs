//! Owns what is due: timers that send their message, attempts that come again, policies
//! that want to be asked, and runs that take too long. Imports `core`, `settle`, `worker`.

use std::sync::Arc;

use crate::error::Result;
use crate::runtime::core::Core;
use crate::runtime::event::Event;
use crate::runtime::job::Job;
use crate::runtime::record::{self, MessageRecord, TimerRecord};
use crate::runtime::run::Fate;
use crate::runtime::settle::{Delivery, Settled, Settlement};
use crate::runtime::slot::Room;
use crate::runtime::status::WorkerStatus;
use crate::runtime::worker::{Inner, Worker};

impl Core {
    /// What the thread of the clock does until the runtime is closed.
    pub(crate) fn watch_clock(&self) {
        while let Some(due) = self.alarm.next(|| self.now()) {
            self.time_out();
            for worker in due {
                self.look_at(&worker);
            }
            // What cannot be removed now is removed another time.
            let _ = self.remove_finished();
        }
    }

    /// Ends the runs whose time is over.
    fn time_out(&self) {
        let now = self.now();
        let timed = self.timed.lock();
        for run in timed.iter() {
            if run.deadline_micros.is_some_and(|deadline| deadline <= now) {
                run.end(Fate::TimedOut);
            }
        }
    }

    /// Does what is due at a worker.
    fn look_at(&self, worker: &Arc<Worker>) {
        let mut settled = Vec::new();
        let mut inner = worker.inner.lock();
        if inner.plan.is_none() || inner.record.status.is_final() {
            return;
        }
        let now = self.now();
        for routine in &mut inner.routines {
            let asks = routine.ask_at.is_some_and(|at| at <= now);
            let due = routine.claims.due(now).next().is_some();
            if asks {
                routine.ask_at = None;
            }
            routine.candidate |= asks || due || std::mem::take(&mut routine.again);
        }
        // A worker that is paused gets what is due when it is resumed.
        if inner.record.status != WorkerStatus::Paused {
            let due = inner.timers.agenda().due(now);
            let due: Vec<_> = due.map(|(number, timer)| (number, timer.clone())).collect();
            for (number, timer) in due {
                match self.fire(worker, &mut inner, number, &timer) {
                    Ok(fired) => settled.push(fired),
                    Err(e) => {
                        self.store_refuses(&e);
                        self.alarm.set_again(worker);
                    }
                }
            }
        }
        self.line_up(worker, &mut inner, false);
        drop(inner);
        for settled in settled {
            self.settled(settled);
        }
    }

    /// Sends the message of a timer, and in the same commit ends it or moves it on.
    fn fire(
        &self,
        worker: &Arc<Worker>,
        inner: &mut Inner,
        number: u64,
        timer: &TimerRecord,
    ) -> Result<Settled> {
        let mut settlement = Settlement::new(self, worker);
        let now = settlement.now();
        settlement.timer_gone(inner, number, timer);
        let place = inner.plan.as_ref().and_then(|plan| {
            let at = plan.routine(&timer.routine)?;
            Some((at, plan.routines[at].slot(&timer.slot)?))
        });
        // One whose routine or slot is gone ends without a message.
        if let Some((target, slot)) = place {
            let jobs = timer
                .jobs
                .iter()
                .filter_map(|id| inner.jobs.get(id.as_str()));
            let jobs: Vec<Arc<Job>> = jobs.cloned().collect();
            let record = MessageRecord {
                data: timer.data.clone(),
                at: now,
                from: Some(timer.routine.clone()),
                event: Some(timer.name.clone()),
                jobs: jobs.iter().map(|job| job.id.to_string()).collect(),
            };
            let cell = record::encode(&record, &self.limits())?;
            let (from, name) = (timer.routine.as_str(), timer.name.as_str());
            let delivery = Delivery {
                target,
                slot,
                event: Arc::new(Event::emitted(from, name, record.data, now)),
                jobs,
                cell,
            };
            let delivered = settlement.deliver(inner, vec![delivery], Room::Hard);
            delivered.map_err(|full| crate::runtime::commit::slot_full(worker, inner, full))?;
            if let Some(every) = timer.every {
                let missed = now.saturating_sub(timer.due) / every.max(1);
                let mut next = timer.clone();
                let passed = every.saturating_mul(missed.saturating_add(1));
                next.due = timer.due.saturating_add(passed);
                settlement.add_timer(inner, next)?;
            }
        }
        settlement.prepare(inner)?;
        let batch = std::mem::take(&mut settlement.ops).into_batch();
        let lsn = self.engine().commit(&batch)?;
        let settled = settlement.apply(inner, lsn);
        self.figures.timer_fired();
        Ok(settled)
    }
}
