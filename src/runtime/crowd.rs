//! Owns how many threads go on with one worker. Each commits under the worker's lock, so
//! where logic takes no longer than commits a second one only waits for the first; where logic
//! takes its time, every thread helps. Which it is shows at the lock. Imports nothing.
//!
//! What must stay true: while a worker has something to start and a thread is with it, another
//! one is called, or was called and has not come yet. So nothing waits for ever behind logic
//! that takes long.

use std::time::Duration;

/// After this time another thread comes, where those that are there have not done by then
/// what there is to do.
const CALLED_AFTER: Duration = Duration::from_micros(50);

/// The same, at most: where others came and stood in the way again and again.
const CALLED_AFTER_MAX: Duration = Duration::from_millis(3);

/// Weights: where more than one commit of three has to wait for the lock, a thread too many
/// is there. Two threads whose logic takes twice as long as their commits stay together.
const WAITED: u8 = 2;
const FREE: u8 = 1;
/// With so much a thread goes. One that comes starts in the middle.
const PRESSED_MAX: u8 = 8;

/// The threads at a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// How many have begun an activation of it that is not over.
    threads: usize,
    /// Another one is called.
    called: bool,
    /// How often they had to wait for each other of late.
    pressed: u8,
    calls_after: Duration,
}

impl Default for Crowd {
    fn default() -> Self {
        Self {
            threads: 0,
            called: false,
            pressed: PRESSED_MAX / 2,
            calls_after: CALLED_AFTER,
        }
    }
}

impl Crowd {
    /// Whether a thread is with the worker.
    pub(crate) fn has_thread(&self) -> bool {
        self.threads > 0
    }

    /// An activation begins, and a thread is with it or not.
    pub(crate) fn begins(&mut self, has_thread: bool) {
        self.threads += usize::from(has_thread);
    }

    /// An activation is over that a thread was with or not.
    pub(crate) fn ends(&mut self, has_thread: bool) {
        self.threads = self.threads.saturating_sub(usize::from(has_thread));
    }

    /// A thread commits an activation, and had to wait for the lock of the worker, or not.
    /// True where it is one too many, and is not to go on with this worker.
    pub(crate) fn commits(&mut self, waited: bool) -> bool {
        if self.threads < 2 {
            return false;
        }
        self.pressed = match waited {
            true => self.pressed + WAITED,
            false => self.pressed.saturating_sub(FREE),
        };
        if self.pressed == 0 {
            self.calls_after = CALLED_AFTER;
        }
        let goes = self.pressed >= PRESSED_MAX;
        if goes {
            self.pressed = PRESSED_MAX / 2;
            self.calls_after = (self.calls_after * 2).min(CALLED_AFTER_MAX);
        }
        goes
    }

    /// There is more to do than the threads that are there have begun. In what time another
    /// one is to come; `None` where one is called already.
    pub(crate) fn call(&mut self) -> Option<Duration> {
        let is_first = !std::mem::replace(&mut self.called, true);
        is_first.then_some(self.calls_after)
    }

    /// The thread that was called has come.
    pub(crate) fn came(&mut self) {
        self.called = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Crowd {
        let mut crowd = Crowd::default();
        crowd.begins(true);
        crowd.begins(true);
        crowd
    }

    #[test]
    fn one_is_called_at_a_time() {
        let mut crowd = Crowd::default();
        assert!(!crowd.has_thread());
        crowd.begins(true);
        assert!(crowd.has_thread());
        assert_eq!(crowd.call(), Some(CALLED_AFTER));
        assert_eq!(crowd.call(), None);
        crowd.came();
        assert_eq!(crowd.call(), Some(CALLED_AFTER));
        crowd.ends(true);
        assert!(!crowd.has_thread());
    }

    #[test]
    fn who_waits_alone_stays() {
        let mut crowd = Crowd::default();
        crowd.begins(true);
        assert!((0..100).all(|_| !crowd.commits(true)));
    }

    #[test]
    fn threads_that_wait_for_each_other_part_for_longer_and_longer() {
        let mut crowd = two();
        let mut last = Duration::ZERO;
        for _ in 0..10 {
            let stayed = (0..100).take_while(|_| !crowd.commits(true)).count();
            assert_eq!(stayed, 1);
            crowd.came();
            let after = crowd.call().unwrap();
            assert!(after > last || after == CALLED_AFTER_MAX, "{after:?}");
            last = after;
        }
        assert_eq!(last, CALLED_AFTER_MAX);
    }

    #[test]
    fn threads_that_seldom_meet_stay_together_and_are_called_soon() {
        let mut crowd = two();
        while !crowd.commits(true) {}
        let waits = |at: usize| at.is_multiple_of(4);
        assert!((1..1000).all(|at| !crowd.commits(waits(at))));
        assert_eq!(crowd.call(), Some(CALLED_AFTER));
    }
}
