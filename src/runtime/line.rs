//! Owns the line of workers that are ready: each stands in it once, and goes to its end
//! after a turn. So a worker with a thousand messages holds up nobody who has one. Beside it
//! are workers that have a thread, and get another one when their time has come.
//! Imports `worker`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock;
use crate::runtime::worker::Worker;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, cores};

/// So long a thread without work looks for some before it sleeps, one at a time. To wake one
/// that sleeps costs whoever posts some 5 microseconds, and on an idle machine 10 more pass
/// until it runs; where jobs come one after another the next one comes sooner.
const LINGERS: Duration = Duration::from_micros(30);

/// How often it looks between two looks at the clock.
const LOOKS: usize = 16;

/// Workers that may have something to run.
#[derive(Debug)]
pub(crate) struct Line {
    state: Mutex<State>,
    wake: Condvar,
    /// Whether somebody stands in it, for whoever looks without the lock.
    ready: AtomicBool,
    /// Whether a thread that looks leaves a core to the others.
    lingers: bool,
}

#[derive(Debug, Default)]
struct State {
    workers: VecDeque<Arc<Worker>>,
    /// Those that have a thread, and when they get another one.
    called: Vec<(Instant, Arc<Worker>)>,
    /// Threads that sleep until there is one.
    idle: usize,
    /// A thread looks for one before it sleeps.
    lingering: bool,
    closed: bool,
}

/// A worker whose turn it is.
pub(crate) enum Turn {
    /// It stood first in line.
    First(Arc<Worker>),
    /// It has a thread, and the time has come for another one.
    Called(Arc<Worker>),
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::default(),
            ready: AtomicBool::new(false),
            lingers: cores() > 1,
        }
    }

    /// Puts a worker at the end. Whoever calls this has marked it as standing in line,
    /// under the worker's lock. A thread that will ask for the next one itself at once
    /// wakes nobody for the only one.
    pub(crate) fn push(&self, worker: Arc<Worker>, will_ask: bool) {
        let mut state = self.state.lock();
        state.workers.push_back(worker);
        self.ready.store(true, Ordering::Release);
        let taken = usize::from(will_ask) + usize::from(state.lingering);
        let wakes = state.idle > 0 && state.workers.len() > taken;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Calls another thread to a worker that has one, for this time.
    pub(crate) fn call(&self, worker: Arc<Worker>, at: Instant) {
        let mut state = self.state.lock();
        let is_first = state.called.iter().all(|(other, _)| at < *other);
        state.called.push((at, worker));
        // Somebody has to sleep until then, and no longer.
        let wakes = is_first && state.idle > 0;
        drop(state);
        if wakes {
            self.wake.notify_one();
        }
    }

    /// Whether nobody stands in it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.ready.load(Ordering::Acquire)
    }

    /// Whose turn it is; waits for one. `None` once it is closed.
    pub(crate) fn next(&self) -> Option<Turn> {
        let mut lingers = self.lingers;
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            let first = state.first_called();
            if let Some((at, place)) = first
                && at <= clock::monotonic()
            {
                let (_, worker) = state.called.swap_remove(place);
                self.pass_on(&state);
                return Some(Turn::Called(worker));
            }
            if let Some(worker) = state.workers.pop_front() {
                self.ready
                    .store(!state.workers.is_empty(), Ordering::Release);
                self.pass_on(&state);
                return Some(Turn::First(worker));
            }
            if lingers && !state.lingering {
                lingers = false;
                state.lingering = true;
                drop(state);
                self.linger();
                state = self.state.lock();
                state.lingering = false;
                continue;
            }
            state.idle += 1;
            match first {
                None => self.wake.wait(&mut state),
                Some((at, _)) => {
                    self.wake.wait_until(&mut state, at);
                }
            }
            state.idle -= 1;
        }
    }

    /// Whoever goes may be the one that slept until the time of those that are called:
    /// somebody else does so from now on.
    fn pass_on(&self, state: &State) {
        if state.idle > 0 && !state.called.is_empty() {
            self.wake.notify_one();
        }
    }

    /// Looks whether somebody comes, for a little while.
    fn linger(&self) {
        let until = clock::deadline(LINGERS);
        while clock::monotonic() < until {
            for _ in 0..LOOKS {
                if self.ready.load(Ordering::Acquire) {
                    return;
                }
                std::hint::spin_loop();
            }
        }
    }

    /// Sends all threads home.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_all();
    }
}

impl State {
    /// When the first one of those gets a thread that are called, and its place.
    fn first_called(&self) -> Option<(Instant, usize)> {
        let called = self.called.iter().enumerate();
        called.map(|(place, (at, _))| (*at, place)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tests::Fixture;
    use crate::sync::thread;

    fn worker() -> Arc<Worker> {
        Fixture::new(&["a"]).worker
    }

    fn is_called(turn: Option<Turn>) -> Option<bool> {
        turn.map(|turn| matches!(turn, Turn::Called(_)))
    }

    #[test]
    fn a_worker_that_is_called_comes_at_its_time_and_others_do_not_wait_for_it() {
        let line = Line::new();
        line.call(worker(), clock::deadline(Duration::from_secs(3600)));
        line.push(worker(), false);
        assert_eq!(is_called(line.next()), Some(false));
        // Nobody is in line: it is waited for.
        line.call(worker(), clock::deadline(Duration::from_millis(2)));
        assert!(line.is_empty());
        assert_eq!(is_called(line.next()), Some(true));
        // Those who stand in line never keep it from its turn.
        line.push(worker(), false);
        line.call(worker(), clock::monotonic());
        assert!(!line.is_empty());
        assert_eq!(is_called(line.next()), Some(true));
        assert_eq!(is_called(line.next()), Some(false));
        line.close();
        assert_eq!(is_called(line.next()), None);
    }

    #[test]
    fn threads_that_sleep_get_all_that_comes() {
        const TURNS: usize = 300;
        let line = Line::new();
        let worker = worker();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| std::iter::from_fn(|| line.next()).count()))
                .collect();
            for at in 0..TURNS {
                match at % 3 {
                    0 => line.call(Arc::clone(&worker), clock::deadline(LINGERS * 2)),
                    _ => line.push(Arc::clone(&worker), false),
                }
                if at % 50 == 0 {
                    // They go to sleep meanwhile, or not.
                    clock::pause(LINGERS);
                }
            }
            let late = clock::deadline(Duration::from_secs(60));
            while line.state.lock().holds_some() && clock::monotonic() < late {
                thread::yield_now();
            }
            line.close();
            let turns: usize = threads.into_iter().filter_map(|t| t.join().ok()).sum();
            assert_eq!(turns, TURNS);
        });
    }

    impl State {
        fn holds_some(&self) -> bool {
            !self.workers.is_empty() || !self.called.is_empty()
        }
    }
}
