//! Owns looking inside a worker: what waits in its slots, what is to be tried again, its
//! timers, and what has no place any more. Imports `options`, `run`, `worker`.
//!
//! It is copied under the worker's lock, so it is of one moment, and is bounded, so that
//! looking holds up nobody for long.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::options::Pressure;
use crate::runtime::run::Fate;
use crate::runtime::worker::Inner;
use crate::value::Value;

/// What a worker has at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WorkerDetails {
    /// Its slots, in the order of the flow's routines. Empty until the flow is registered.
    pub slots: Vec<SlotDetails>,
    /// The activations that run, those that began first at first.
    pub running: Vec<RunDetails>,
    /// The activations that failed and are to be tried again, in the order of the routines.
    pub retries: Vec<RetryDetails>,
    /// How many timers are set.
    pub timers_total: usize,
    /// The timers, those that are due first at first; the first 1,000.
    pub timers: Vec<TimerDetails>,
    /// How many messages are parked.
    pub parked_total: usize,
    /// Messages whose routine or slot the flow has no more, by routine, slot and number; the
    /// first 1,000.
    pub parked: Vec<ParkedMessage>,
}

/// A slot of a worker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlotDetails {
    /// The id of the routine.
    pub routine: Arc<str>,
    /// The name of the slot.
    pub slot: Arc<str>,
    /// How many messages wait.
    pub waiting: usize,
    /// How many were not consumed: those that wait, and those that activations have taken.
    pub unconsumed: usize,
    /// Those, and the ones that were consumed and are remembered.
    pub total: usize,
    /// How many may wait.
    pub capacity: usize,
    /// How full it is.
    pub pressure: Pressure,
    /// How many messages were dropped at its capacity, since the runtime was started.
    pub dropped: u64,
    /// When the oldest of those came that wait, in microseconds since 1970 by the store's
    /// time.
    pub oldest_micros: Option<u64>,
}

/// An activation that runs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunDetails {
    /// What tells it from all others.
    pub activation: String,
    /// The id of its routine.
    pub routine: Arc<str>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// When it began, in microseconds since 1970 by the store's time.
    pub begun_micros: u64,
    /// The ids of its jobs.
    pub jobs: Vec<Arc<str>>,
    /// Whether it is stuck: it was cancelled, or took too long, can commit nothing any more,
    /// and has not returned. Until it does, its thread and its turn are taken.
    pub stuck: bool,
}

/// An activation that failed, and that is to be tried again.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryDetails {
    /// What tells it from all others.
    pub activation: String,
    /// The id of its routine.
    pub routine: String,
    /// How many attempts have failed; 0 where it was interrupted by the end of its process.
    pub failed: u32,
    /// When the next attempt is due, in microseconds since 1970 by the store's time; 0 for
    /// at once.
    pub due_micros: u64,
    /// The error of the last attempt.
    pub error: Option<String>,
    /// How many messages it has taken.
    pub messages: usize,
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TimerDetails {
    /// Its name.
    pub name: String,
    /// The routine whose slot it fires into.
    pub routine: String,
    /// That slot.
    pub slot: String,
    /// When it fires next, in microseconds since 1970 by the store's time.
    pub due_micros: u64,
    /// The time from one firing to the next; `None` where it fires once.
    pub every: Option<Duration>,
    /// The ids of the jobs that wait for it.
    pub jobs: Vec<String>,
}

/// A message whose routine or slot the flow has no more. It holds its jobs until it is
/// given another place.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ParkedMessage {
    /// The id of the routine that it was for.
    pub routine: Arc<str>,
    /// The slot that it was for.
    pub slot: Arc<str>,
    /// Its number in that slot.
    pub number: u64,
    /// Its data.
    pub data: Value,
    /// When it was emitted or posted, in microseconds since 1970 by the store's time.
    pub emitted_at_micros: u64,
    /// The ids of its jobs.
    pub jobs: Vec<String>,
}

/// How many of a list are shown that nothing else bounds.
const SHOWN_MAX: usize = 1_000;

impl WorkerDetails {
    /// Of what a worker has now.
    pub(crate) fn of(inner: &Inner) -> Self {
        let mut running = running(inner);
        running.sort_by_key(|run| run.begun_micros);
        let timers = inner.timers.agenda().in_time();
        let timers = timers.map(|(_, timer)| timer).take(SHOWN_MAX);
        let parked = inner.parked.iter().take(SHOWN_MAX);
        Self {
            slots: slots(inner),
            running,
            retries: retries(inner),
            timers_total: inner.timers.agenda().len(),
            timers: timers
                .map(|timer| TimerDetails {
                    name: timer.name.clone(),
                    routine: timer.routine.clone(),
                    slot: timer.slot.clone(),
                    due_micros: timer.due,
                    every: timer.every.map(Duration::from_micros),
                    jobs: timer.jobs.clone(),
                })
                .collect(),
            parked_total: inner.parked.len(),
            parked: parked
                .map(|((routine, slot, number), message)| ParkedMessage {
                    routine: Arc::clone(routine),
                    slot: Arc::clone(slot),
                    number: *number,
                    data: message.data.clone(),
                    emitted_at_micros: message.at,
                    jobs: message.jobs.clone(),
                })
                .collect(),
        }
    }
}

fn slots(inner: &Inner) -> Vec<SlotDetails> {
    let planned = inner.plan.iter().flat_map(|plan| &plan.routines);
    let both = planned.zip(&inner.routines).flat_map(|(routine, state)| {
        let slots = routine.slots.iter().zip(&state.slots);
        slots.map(|((name, _), queue)| SlotDetails {
            routine: Arc::clone(&routine.id),
            slot: Arc::clone(name),
            waiting: queue.waiting(),
            unconsumed: queue.unconsumed(),
            total: queue.total(),
            capacity: queue.options().capacity,
            pressure: queue.pressure(),
            dropped: queue.dropped(),
            oldest_micros: queue
                .oldest()
                .map(|message| message.event.emitted_at_micros()),
        })
    });
    both.collect()
}

fn running(inner: &Inner) -> Vec<RunDetails> {
    let runs = inner.running.iter().map(|(id, run)| RunDetails {
        activation: id.to_string(),
        routine: Arc::clone(&run.routine().id),
        attempt: run.attempt,
        begun_micros: run.begun_micros,
        jobs: run.jobs.iter().map(|job| Arc::from(&*job.id)).collect(),
        stuck: matches!(run.fate(), Fate::Cancelled | Fate::TimedOut | Fate::Aborted),
    });
    runs.collect()
}

fn retries(inner: &Inner) -> Vec<RetryDetails> {
    let claims = inner.routines.iter().flat_map(|state| state.claims.iter());
    let claims = claims.map(|(id, claimed)| RetryDetails {
        activation: id.to_string(),
        routine: claimed.record.routine.clone(),
        failed: claimed.record.failed,
        due_micros: claimed.record.due,
        error: claimed.record.error.clone(),
        messages: claimed
            .record
            .messages
            .iter()
            .map(|(_, numbers)| numbers.len())
            .sum(),
    });
    claims.collect()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::engine::Engine;
    use crate::runtime::agenda::Agenda;
    use crate::runtime::event::Event;
    use crate::runtime::flow::Flow;
    use crate::runtime::job::{Jobs, Message};
    use crate::runtime::options::SlotOptions;
    use crate::runtime::plan::Plan;
    use crate::runtime::record::{
        self, ActivationId, ClaimRecord, MessageRecord, TimerRecord, WorkerRecord,
    };
    use crate::runtime::run::{Begin, Run};
    use crate::runtime::slot::{Form, Room, SlotQueue};
    use crate::runtime::status::{RoutineStatus, WorkerStatus};
    use crate::runtime::worker::{Claimed, RoutineState, Worker};
    use crate::state::Store;

    const ID: ActivationId = ActivationId {
        session: 2,
        number: 255,
    };

    fn timer(name: &str, due: u64) -> TimerRecord {
        TimerRecord {
            name: name.into(),
            routine: "r".into(),
            slot: "in".into(),
            due,
            every: (due == 5).then_some(1_000),
            data: Value::Null,
            jobs: vec!["j".into()],
        }
    }

    fn inner() -> Inner {
        Inner::new(WorkerRecord {
            flow: "f".into(),
            status: WorkerStatus::Idle,
            created: 0,
            updated: 0,
            started: None,
            completed: None,
            error: None,
            totals: None,
        })
    }

    fn routine() -> RoutineState {
        let message = |at| Message {
            event: Arc::new(Event::posted(Value::Null, at)),
            jobs: Jobs::Many(Arc::default()),
            lsn: crate::ids::Lsn::ZERO,
        };
        let mut queue = SlotQueue::new(SlotOptions::new().capacity(2));
        for at in [7, 8] {
            queue.enqueue(message(at), Room::Capacity).unwrap();
        }
        queue.take(Form::OneNew);
        let claim = ClaimRecord {
            routine: "r".into(),
            failed: 2,
            due: 30,
            error: Some("no".into()),
            messages: vec![("in".into(), vec![0])],
        };
        let mut claims = Agenda::default();
        let (record, given) = (claim, Vec::new());
        claims.insert(ID, Claimed { record, given });
        RoutineState {
            slots: vec![queue],
            running: 0,
            status: RoutineStatus::Idle,
            last_micros: None,
            released: false,
            candidate: false,
            blocked: false,
            again: false,
            claims,
            ask_at: None,
        }
    }

    #[test]
    fn a_worker_without_its_flow_shows_what_it_has() {
        let mut inner = inner();
        assert_eq!(WorkerDetails::of(&inner), WorkerDetails::default());
        for number in 0..1_001 {
            inner.timers.insert(number, timer("t", 2_000 - number));
            let message = MessageRecord {
                data: 7.into(),
                at: 3,
                from: None,
                event: None,
                jobs: vec!["j".into()],
            };
            inner
                .parked
                .insert(("gone".into(), "in".into(), number), message);
        }
        inner.timers.insert(9_999, timer("first", 5));
        let details = WorkerDetails::of(&inner);
        assert_eq!((details.timers_total, details.timers.len()), (1_002, 1_000));
        let first = &details.timers[0];
        assert_eq!((&*first.name, first.due_micros), ("first", 5));
        assert_eq!(first.every, Some(Duration::from_millis(1)));
        assert!(details.timers.is_sorted_by_key(|timer| timer.due_micros));
        assert_eq!((details.parked_total, details.parked.len()), (1_001, 1_000));
        let parked = &details.parked[1];
        assert_eq!(
            (&*parked.routine, &*parked.slot, parked.number),
            ("gone", "in", 1)
        );
        assert_eq!(
            (&parked.data, &*parked.jobs),
            (&7.into(), &["j".to_owned()][..])
        );
    }

    #[test]
    fn slots_retries_and_what_is_stuck_are_shown() {
        let store = Store::in_memory();
        let engine: &Arc<Engine> = &store.shared.engine;
        let mut flow = Flow::new("f").version(1);
        flow.add_fn("r", |_| Ok(())).unwrap();
        let plan = Arc::new(Plan::of(&flow));
        let mut inner = inner();
        inner.plan = Some(Arc::clone(&plan));
        inner.routines = vec![routine()];
        let slot = engine.slot(&record::worker("w").encode());
        let worker = Arc::new(Worker::new("w", slot, self::inner()));
        let run = |number, begun_micros| {
            let id = ActivationId { number, ..ID };
            let run = Run::new(Begin {
                core: std::sync::Weak::new(),
                store: store.clone(),
                worker: Arc::clone(&worker),
                plan: Arc::clone(&plan),
                at: 0,
                id,
                attempt: 3,
                claimed: false,
                given: Vec::new(),
                begun_micros,
            });
            (id, Arc::new(run))
        };
        let (id, stuck) = run(1, 20);
        assert!(stuck.end(Fate::TimedOut));
        inner.running.insert(id, stuck);
        inner.running.extend([run(2, 10)]);

        let details = WorkerDetails::of(&inner);
        let slot = &details.slots[0];
        assert_eq!((details.slots.len(), &*slot.routine), (1, "r"));
        assert_eq!((slot.waiting, slot.unconsumed, slot.total), (1, 2, 2));
        assert_eq!((slot.capacity, slot.pressure), (2, Pressure::Low));
        assert_eq!((slot.dropped, slot.oldest_micros), (0, Some(8)));
        let retry = &details.retries[0];
        assert_eq!((&*retry.activation, &*retry.routine), ("2-ff", "r"));
        assert_eq!((retry.failed, retry.due_micros, retry.messages), (2, 30, 1));
        assert_eq!(retry.error.as_deref(), Some("no"));
        let runs = details.running.iter();
        let runs: Vec<_> = runs
            .map(|run| (run.begun_micros, run.stuck, run.attempt))
            .collect();
        assert_eq!(runs, [(10, false, 3), (20, true, 3)]);
    }
}
