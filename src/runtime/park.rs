//! Owns what somebody outside does about work that is held: a routine at its breakpoint is
//! released, and messages without a place get another one. Imports `core`, `settle`,
//! `workers`.

use std::sync::Arc;

use crate::error::{Error, Result, WorkError};
use crate::runtime::commit::slot_full;
use crate::runtime::core::Core;
use crate::runtime::event::Event;
use crate::runtime::inspect::WorkerDetails;
use crate::runtime::job::Job;
use crate::runtime::record::{self, MessageRecord, WorkerKey};
use crate::runtime::settle::{Delivery, Settlement};
use crate::runtime::slot::Room;
use crate::runtime::worker::Inner;
use crate::runtime::workers::ended;

/// How many parked messages one commit moves.
const MOVED_AT_ONCE: usize = 256;

/// A routine and one of its slots.
pub(crate) type Place<'p> = (&'p str, &'p str);

type Parked = ((Arc<str>, Arc<str>, u64), MessageRecord);

impl Core {
    /// What a worker has at this moment.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub(crate) fn details(&self, id: &str) -> Result<WorkerDetails> {
        Ok(WorkerDetails::of(&self.worker(id)?.inner.lock()))
    }

    /// Lets a routine run that is held at a breakpoint, or holds it there again.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub(crate) fn release(&self, id: &str, routine: &str, released: bool) -> Result<()> {
        self.enter()?;
        let worker = self.worker(id)?;
        let mut inner = worker.inner.lock();
        let at = inner.plan.as_ref().and_then(|plan| plan.routine(routine));
        let state = at.and_then(|at| inner.routines.get_mut(at));
        let Some(state) = state else {
            return Err(Error::from(WorkError::unknown(
                "routine",
                routine,
                format!("worker {id:?} runs no such one"),
            )));
        };
        state.released = released;
        state.candidate = true;
        self.line_up(&worker, &mut inner, false);
        Ok(())
    }

    /// Gives the messages of one place that the flow has no more another place. Gives how
    /// many that were.
    ///
    /// # Errors
    /// [`WorkError::Unknown`], [`WorkError::Ended`], [`WorkError::SlotFull`] where there is
    /// room for a part of them only: the others stay parked. As a commit.
    pub(crate) fn remap(&self, id: &str, from: Place<'_>, to: Place<'_>) -> Result<u64> {
        self.enter()?;
        let worker = self.worker(id)?;
        let mut moved = 0;
        loop {
            let mut inner = worker.inner.lock();
            if inner.record.status.is_final() {
                return Err(ended(&worker, &inner).into());
            }
            let plan = inner.plan.as_ref();
            let place = plan.and_then(|plan| {
                let at = plan.routine(to.0)?;
                Some((at, plan.routines[at].slot(to.1)?))
            });
            let Some((target, slot)) = place else {
                let hint = format!("routine {:?} of worker {id:?} has no such one", to.0);
                return Err(Error::from(WorkError::unknown("slot", to.1, hint)));
            };
            let of = |(key, _): &(&(Arc<str>, Arc<str>, u64), &MessageRecord)| {
                (&*key.0, &*key.1) == from
            };
            let parked: Vec<Parked> = inner
                .parked
                .iter()
                .filter(of)
                .take(MOVED_AT_ONCE)
                .map(|(key, record)| (key.clone(), record.clone()))
                .collect();
            if parked.is_empty() {
                drop(inner);
                self.engine().sync(self.engine().visible())?;
                return Ok(moved);
            }
            let mut settlement = Settlement::new(self, &worker);
            let mut deliveries = Vec::with_capacity(parked.len());
            for ((routine, name, seq), record) in &parked {
                let key = WorkerKey::Message {
                    routine: Arc::clone(routine),
                    slot: Arc::clone(name),
                    seq: *seq,
                };
                settlement.ops.delete(&worker.slot, key.encode());
                let jobs = live_jobs(&inner, record);
                settlement.leaves(&jobs);
                deliveries.push(Delivery {
                    target,
                    slot,
                    event: Arc::new(event_of(record.clone())),
                    jobs,
                    cell: record::encode(record, &self.limits())?,
                });
            }
            if let Err(full) = settlement.deliver(&inner, deliveries, Room::Hard) {
                return Err(slot_full(&worker, &inner, full).into());
            }
            settlement.prepare(&inner)?;
            let batch = std::mem::take(&mut settlement.ops).into_batch();
            let lsn = self.engine().commit(&batch)?;
            let settled = settlement.apply(&mut inner, lsn);
            for (key, _) in &parked {
                inner.parked.remove(key);
            }
            moved += parked.len() as u64;
            self.line_up(&worker, &mut inner, false);
            drop(inner);
            self.settled(settled);
        }
    }
}

/// The jobs of a message that have not ended.
pub(crate) fn live_jobs(inner: &Inner, record: &MessageRecord) -> Vec<Arc<Job>> {
    let jobs = record.jobs.iter();
    jobs.filter_map(|id| inner.jobs.get(id.as_str()))
        .cloned()
        .collect()
}

/// What a message was emitted or posted as.
pub(crate) fn event_of(record: MessageRecord) -> Event {
    match (record.from, record.event) {
        (Some(from), Some(event)) => Event::emitted(from, event, record.data, record.at),
        _ => Event::posted(record.data, record.at),
    }
}
