//! Owns time and randomness. Nothing else in the crate asks the machine for
//! either, so that a test can supply its own.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sync;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Where a store takes the time of its commits from.
///
/// A store never lets its own time go back, whatever the clock says.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Microseconds since 1970-01-01 00:00 UTC.
    fn now_micros(&self) -> u64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn now_micros(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            })
    }
}

/// A clock that stands still until it is told otherwise.
///
/// ```
/// use evenkeel::{Clock, ManualClock};
/// let clock = ManualClock::new(1_000);
/// clock.set_micros(5_000);
/// assert_eq!(clock.now_micros(), 5_000);
/// ```
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `micros` since 1970.
    #[must_use]
    pub const fn new(micros: u64) -> Self {
        Self(AtomicU64::new(micros))
    }

    /// Sets it, forward or backward.
    pub fn set_micros(&self, micros: u64) {
        self.0.store(micros, Ordering::SeqCst);
    }

    /// Moves it forward, by whole microseconds: what is less is dropped. It stops at the
    /// last one that a `u64` counts. When several threads advance it, each counts.
    ///
    /// ```
    /// use evenkeel::{Clock, ManualClock};
    /// use std::time::Duration;
    /// let clock = ManualClock::new(1_000);
    /// clock.advance(Duration::from_nanos(2_999));
    /// assert_eq!(clock.now_micros(), 1_002);
    /// clock.advance(Duration::MAX);
    /// assert_eq!(clock.now_micros(), u64::MAX);
    /// ```
    pub fn advance(&self, by: Duration) {
        let micros = micros(by);
        let later = |now: u64| Some(now.saturating_add(micros));
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The monotonic instant, for waiting and for measuring, never for state.
#[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
pub(crate) fn monotonic() -> Instant {
    sync::instant(Instant::now)
}

/// The instant after `wait` from now; one that is further away than any process
/// lives counts as a year.
pub(crate) fn deadline(wait: Duration) -> Instant {
    monotonic() + wait.min(Duration::from_secs(365 * 24 * 60 * 60))
}

/// As the store counts time; what is longer than it can count is as long as it can.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A pause between two looks at something that gives no signal, such as a lock
/// that another library lets go of late.
pub(crate) fn pause(duration: Duration) {
    sync::pause(duration);
}

/// How long work goes on that nobody waits for, before others have the processor.
const TURN: Duration = Duration::from_millis(2);

/// How long they have it, at least.
const AWAY: Duration = Duration::from_micros(50);

/// Who was away for longer goes on for so many times as long: where the processors are wanted
/// by many, it is given one late, and what nobody waits for must come to its end all the same.
const TURNS: u32 = 10;

sync::thread_local! {
    /// When this thread gives way next.
    static GIVES_WAY: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets others have the processor now and then. Work that nobody waits for calls it between two
/// steps of some dozen microseconds: else, where there are more threads than processors, whoever
/// makes a commit waits for a slice of the scheduler, four milliseconds and more. By a short
/// sleep and not by a yield, which on Linux costs the thread a slice each time. It takes a
/// tenth of the thread's time at most.
pub(crate) fn give_way() {
    GIVES_WAY.with(|gives_way| {
        let now = monotonic();
        let next = match gives_way.get() {
            Some(due) if now < due => return,
            Some(_) => {
                pause(AWAY);
                let back = monotonic();
                back + TURN.max(back.duration_since(now) * TURNS)
            }
            None => now + TURN,
        };
        gives_way.set(Some(next));
    });
}

/// Sixteen random bytes from the operating system.
pub(crate) fn random_bytes() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}
