//! Owns the line of workers that are ready: each stands in it once, and goes to its end
//! after a turn. So a worker with a thousand messages holds up nobody who has one.
//! Imports `worker`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::runtime::worker::Worker;
use crate::sync::{Condvar, Mutex};

/// Workers that may have something to run.
#[derive(Debug, Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    workers: VecDeque<Arc<Worker>>,
    /// Threads that wait for one.
    idle: usize,
    closed: bool,
}

impl Line {
    /// Puts a worker at the end. Whoever calls this has marked it as standing in line,
    /// under the worker's lock. A thread that will ask for the next one itself at once
    /// wakes nobody for the only one.
    pub(crate) fn push(&self, worker: Arc<Worker>, will_ask: bool) {
        let mut state = self.state.lock();
        state.workers.push_back(worker);
        let more = !will_ask || state.workers.len() > 1;
        let wakes = state.idle > 0 && more;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Whether nobody stands in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().workers.is_empty()
    }

    /// The first in line; waits for one. `None` once it is closed.
    pub(crate) fn next(&self) -> Option<Arc<Worker>> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(worker) = state.workers.pop_front() {
                return Some(worker);
            }
            state.idle += 1;
            self.wake.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Sends all threads home.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }
}
