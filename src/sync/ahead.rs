//! Owns a thread that makes things ahead of whoever takes them, in order, and not too many.

use std::collections::VecDeque;
use std::sync::Arc;

use super::thread::{self, JoinHandle};
use super::{Condvar, Mutex};

/// So many are made ahead at most.
const MADE_MAX: usize = 8;

/// With no more of them left the maker goes on: who of both is faster does not wake the
/// other one for each.
const MADE_LOW: usize = MADE_MAX / 2;

/// What a thread makes. Dropped, the thread ends.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    shared: Arc<Shared<T>>,
    thread: Option<JoinHandle<()>>,
}

/// Where a maker gives what it has made.
#[derive(Debug)]
pub(crate) struct Giver<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    made: VecDeque<T>,
    /// Nothing more comes, or nobody wants it.
    over: bool,
}

impl<T: Send + 'static> Ahead<T> {
    /// Starts a thread that makes things; it ends when it is told that nobody wants more.
    /// `None` where there is no thread for it.
    pub(crate) fn start(name: &str, make: impl FnOnce(&Giver<T>) + Send + 'static) -> Option<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                made: VecDeque::new(),
                over: false,
            }),
            changed: Condvar::default(),
        });
        let giver = Giver(Arc::clone(&shared));
        let thread = thread::Builder::new().name(name.into());
        let thread = Some(thread.spawn(move || make(&giver)).ok()?);
        Some(Self { shared, thread })
    }

    /// The next one; `None` where no more comes, be it that the thread has panicked.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.shared.state.lock();
        while state.made.is_empty() && !state.over {
            self.shared.changed.wait(&mut state);
        }
        let next = state.made.pop_front();
        if state.made.len() == MADE_LOW {
            self.shared.changed.notify_all();
        }
        next
    }
}

impl<T> Giver<T> {
    /// Adds one, once there is room; false where nobody wants it.
    pub(crate) fn give(&self, made: T) -> bool {
        let mut state = self.0.state.lock();
        while state.made.len() >= MADE_MAX && !state.over {
            self.0.changed.wait(&mut state);
        }
        if state.over {
            return false;
        }
        state.made.push_back(made);
        if state.made.len() == 1 {
            self.0.changed.notify_all();
        }
        true
    }
}

impl<T> Shared<T> {
    fn end(&self) {
        self.state.lock().over = true;
        self.changed.notify_all();
    }
}

/// However it ended.
impl<T> Drop for Giver<T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> Drop for Ahead<T> {
    fn drop(&mut self) {
        self.shared.end();
        if let Some(thread) = self.thread.take() {
            // One that panicked has told so, and what it had not made is made without it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_in_order_whoever_is_faster() {
        let count = 10 * MADE_MAX;
        let ahead = Ahead::start("ahead", move |giver| {
            assert!((0..count).all(|number| giver.give(number)));
        });
        let ahead = ahead.unwrap();
        let taken: Vec<_> = std::iter::from_fn(|| ahead.take()).collect();
        assert!(taken.into_iter().eq(0..count));
    }

    #[test]
    fn who_is_not_wanted_any_more_is_told() {
        let (told, hears) = std::sync::mpsc::channel();
        let ahead = Ahead::start("ahead", move |giver| {
            while giver.give(0) {}
            told.send(()).unwrap();
        });
        let ahead = ahead.unwrap();
        assert_eq!(ahead.take(), Some(0));
        drop(ahead);
        hears.recv().unwrap();
    }

    #[test]
    fn a_maker_that_panics_ends_what_comes() {
        let ahead = Ahead::start("ahead", |giver| {
            giver.give(1);
            panic!("on purpose");
        });
        let ahead = ahead.unwrap();
        assert_eq!((ahead.take(), ahead.take()), (Some(1), None));
    }
}
