//! Owns which activation of a worker is started next, and with what. All of it happens
//! under the worker's lock, in memory. Imports `core`, `policy`, `run`, `worker`.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::runtime::core::Core;
use crate::runtime::current;
use crate::runtime::job::Message;
use crate::runtime::plan::{Plan, PlanRoutine};
use crate::runtime::policy::{Inner as Decided, SlotView, SlotsView, When};
use crate::runtime::record::ActivationId;
use crate::runtime::run::{Begin, Run};
use crate::runtime::slot::{Form, Held};
use crate::runtime::status::{JobStep, RoutineStep, WorkerStatus, WorkerStep};
use crate::runtime::worker::{Claimed, Given, Inner, RoutineState, Worker};

impl Core {
    /// The next activation of a worker that is ready, which counts as running from now on.
    pub(crate) fn choose(&self, worker: &Arc<Worker>, inner: &mut Inner) -> Option<Arc<Run>> {
        let plan = Arc::clone(inner.plan.as_ref()?);
        let status = inner.record.status;
        if inner.changing || status.is_final() || status == WorkerStatus::Paused {
            return None;
        }
        for at in in_turn(&plan, inner.turn) {
            let settings = &plan.routines[at].settings;
            let state = &inner.routines[at];
            if !state.candidate || state.running >= settings.concurrency {
                continue;
            }
            if let Some(run) = self.start(worker, inner, &plan, at) {
                inner.turn = at + 1;
                inner.step(WorkerStep::Work);
                if inner.record.started.is_none() {
                    inner.record.started = Some(run.begun_micros);
                }
                inner.crowd.begins(run.has_thread());
                inner.running.insert(run.id, Arc::clone(&run));
                return Some(run);
            }
        }
        None
    }

    /// An activation of this routine, if it is to be started.
    fn start(
        &self,
        worker: &Arc<Worker>,
        inner: &mut Inner,
        plan: &Arc<Plan>,
        at: usize,
    ) -> Option<Arc<Run>> {
        let routine = &plan.routines[at];
        if is_held_back(routine, &inner.routines) {
            inner.routines[at].candidate = false;
            inner.routines[at].blocked = true;
            return None;
        }
        let now = self.now();
        let (id, attempt, given) = match due_claim(&mut inner.routines[at], now) {
            Some((id, claimed)) => (id, Some(claimed.record.failed + 1), claimed.given),
            None => {
                let given = self.take(worker, inner, routine, at, now)?;
                (self.next_activation(), None, given)
            }
        };
        let state = &mut inner.routines[at];
        state.candidate = state.has_input();
        state.running += 1;
        state.last_micros = Some(now);
        state.step(RoutineStep::Start);
        let run = Run::new(Begin {
            core: self.me.clone(),
            store: self.store.clone(),
            worker: Arc::clone(worker),
            plan: Arc::clone(plan),
            at,
            id,
            attempt: attempt.unwrap_or(1),
            claimed: attempt.is_some(),
            given,
            begun_micros: now,
        });
        for job in &run.jobs {
            let mut state = job.state.lock();
            if let Ok(status) = state.status.after(JobStep::Start) {
                state.status = status;
            }
        }
        Some(Arc::new(run))
    }

    /// What the policy gives to a new activation, taken from its slots.
    fn take(
        &self,
        worker: &Arc<Worker>,
        inner: &mut Inner,
        routine: &PlanRoutine,
        at: usize,
        now: u64,
    ) -> Option<Vec<Given>> {
        let state = &mut inner.routines[at];
        let names = routine.slots.iter().map(|(name, _)| &**name);
        let views: Vec<_> = names
            .zip(&state.slots)
            .map(|(name, queue)| SlotView { name, queue })
            .collect();
        let when = When {
            now_micros: now,
            last_micros: state.last_micros,
            released: state.released,
        };
        let inside = current::enter_user_code();
        let decision = routine
            .settings
            .policy
            .decide(&SlotsView::new(&views), when);
        drop(inside);
        drop(views);
        let forms: Vec<(usize, Form)> = match decision.map(|decision| decision.0) {
            Ok(Decided::Hold { until_micros }) => {
                state.candidate = false;
                state.ask_at = until_micros;
                if let Some(until) = until_micros {
                    self.alarm.set(until, worker);
                }
                return None;
            }
            Ok(Decided::TakeAll) => (0..state.slots.len())
                .map(|slot| (slot, Form::AllNew))
                .collect(),
            Ok(Decided::Take(forms)) => forms
                .into_iter()
                .filter_map(|(name, form)| Some((routine.slot(&name)?, form)))
                .collect(),
            Err(failure) => {
                // It is asked again with the next message; until then it holds.
                state.candidate = false;
                inner.record.error = Some(format!(
                    "the policy of routine {:?} failed: {failure}",
                    routine.id
                ));
                return None;
            }
        };
        let mut given = Vec::new();
        let mut made_room = false;
        for (slot, form) in forms {
            let queue = &mut state.slots[slot];
            let was_full = queue.is_full();
            let waiting = match form {
                Form::Latest | Form::All => queue.peek(Form::AllNew),
                _ => Vec::new(),
            };
            let taking = queue.take(form);
            made_room |= was_full && !queue.is_full();
            if !taking.taken.is_empty() || !taking.given.is_empty() {
                let items = |held: Vec<Held<Message>>| held.into_iter().map(|held| held.item);
                let messages: Vec<_> = items(taking.given).collect();
                given.push(Given {
                    slot,
                    consumes: match form {
                        Form::Latest | Form::All => items(waiting).collect(),
                        _ => messages.clone(),
                    },
                    messages,
                    taken: taking.taken,
                });
            }
        }
        if made_room {
            inner.unblock();
            worker.room.notify_all();
        }
        if given.iter().all(|given| given.taken.is_empty()) {
            inner.routines[at].candidate = false;
            return None;
        }
        Some(given)
    }
}

/// The routines in the order in which they are asked: those with the highest priority
/// first, and among equals the one whose turn it is.
fn in_turn(plan: &Plan, turn: usize) -> SmallVec<[usize; 16]> {
    let count = plan.routines.len().max(1);
    let mut order: SmallVec<[usize; 16]> = (0..plan.routines.len()).collect();
    order.sort_by_key(|&at| {
        let behind = (at + count - turn % count) % count;
        (-i64::from(plan.routines[at].settings.priority), behind)
    });
    order
}

/// Whether a slot that it may emit to is full, and does not lie in a cycle with it.
fn is_held_back(routine: &PlanRoutine, routines: &[RoutineState]) -> bool {
    let mut outs = routine.outs.iter().filter(|out| !out.in_cycle);
    outs.any(|out| routines[out.target].slots[out.slot].holds_back())
}

/// The first attempt that is due.
fn due_claim(state: &mut RoutineState, now: u64) -> Option<(ActivationId, Claimed)> {
    let (id, _) = state.claims.due(now).next()?;
    Some((id, state.claims.remove(id)?))
}
