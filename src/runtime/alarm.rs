//! Owns the times at which workers want to be looked at: a timer is due, or an attempt,
//! or a policy wants to be asked again. What exactly is due the worker knows.
//! Imports `worker`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::runtime::worker::Worker;
use crate::sync::{Condvar, Mutex};

/// How long the clock of the store is not looked at while something is due later. It may
/// be another clock than the machine's, which tells nobody that it was set.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The same, where nothing is due at all: retention wants a look now and then.
const IDLE: Duration = Duration::from_millis(500);

/// After this time what could not be committed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Who is to be looked at when.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    due: BTreeMap<(u64, Arc<str>), Arc<Worker>>,
    /// What could not be committed for no fault of its own: by the machine's time, since the
    /// store's may stand.
    again: Vec<(Instant, Arc<Worker>)>,
    /// Somebody has something to do that has no time.
    nudged: bool,
    closed: bool,
}

impl Alarm {
    /// Looks at a worker at this store time.
    pub(crate) fn set(&self, at_micros: u64, worker: &Arc<Worker>) {
        let mut state = self.state.lock();
        let first = state.due.first_key_value().map(|((at, _), _)| *at);
        let key = (at_micros, Arc::clone(&worker.id));
        state.due.insert(key, Arc::clone(worker));
        if first.is_none_or(|first| at_micros < first) {
            self.wake.notify_one();
        }
    }

    /// Looks at a worker a little later, whatever the store's clock shows.
    pub(crate) fn set_again(&self, worker: &Arc<Worker>) {
        let at = clock::deadline(AGAIN_AFTER);
        let mut state = self.state.lock();
        state.again.push((at, Arc::clone(worker)));
        self.wake.notify_one();
    }

    /// Waits until something may be due, and gives whom to look at by this time. `None`
    /// once it is closed.
    pub(crate) fn next(&self, now: impl Fn() -> u64) -> Option<Vec<Arc<Worker>>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        let wait = match state.due.first_key_value() {
            None => IDLE,
            Some(((at, _), _)) => Duration::from_micros(at.saturating_sub(now())).min(LOOK_EVERY),
        };
        let first = state.again.iter().map(|(at, _)| *at).min();
        let wait = first.map_or(wait, |at| {
            wait.min(at.saturating_duration_since(clock::monotonic()))
        });
        if !wait.is_zero() && !state.nudged {
            self.wake.wait_for(&mut state, wait);
        }
        state.nudged = false;
        let now = now();
        let mut due = Vec::new();
        let machine = clock::monotonic();
        state.again.retain(|(at, worker)| {
            let is_due = *at <= machine;
            if is_due {
                due.push(Arc::clone(worker));
            }
            !is_due
        });
        while let Some(entry) = state.due.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        Some(due)
    }

    /// Lets whoever waits look around now.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.wake.notify_one();
    }

    /// Sends its thread home.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }
}
