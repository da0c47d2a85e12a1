//! Owns error handlers: what follows from a failure of a routine, as a decision over the
//! handler, the number of attempts and a random number. Whoever calls acts on it.
//! Imports `failure`.

use std::time::Duration;

use crate::runtime::failure::Failure;

/// What is done when a routine fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorStrategy {
    /// The jobs of the activation fail: nothing else of them runs. The default.
    #[default]
    Stop,
    /// The failure is recorded, and its jobs go on without what was consumed.
    Continue,
    /// The same input is tried again; after the last retry, as `Stop`.
    Retry,
    /// As `Continue`; the routine says that it was skipped.
    Skip,
}

impl ErrorStrategy {
    pub(crate) const ALL: [Self; 4] = [Self::Stop, Self::Continue, Self::Retry, Self::Skip];

    /// As it is written in a document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Retry => "retry",
            Self::Skip => "skip",
        }
    }
}

/// What is done when a routine fails, and how often and when it is tried again.
///
/// The n-th retry comes `delay · backoff^(n-1)` after the failure, never later than
/// `delay_max`; `jitter` moves it by a random part of that to either side.
///
/// ```
/// use evenkeel::ErrorHandler;
/// use std::time::Duration;
/// let handler = ErrorHandler::retry(5)
///     .delay(Duration::from_millis(200))
///     .backoff(1.5)
///     .jitter(0.1)
///     .retryable(["timeout", "network"])
///     .critical();
/// assert_eq!(handler.max_retries, 5);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ErrorHandler {
    /// What is done.
    pub strategy: ErrorStrategy,
    /// How often the same input is tried again. Default 3. A count of 0 tries once.
    pub max_retries: u32,
    /// How long after the first failure it is tried again. Default 1 s.
    pub delay: Duration,
    /// By what the delay grows from one retry to the next. Default 2, at least 1.
    pub backoff: f64,
    /// The longest delay. Default 1 h.
    pub delay_max: Duration,
    /// The part of a delay by which it is moved at random, to either side. Default 0, at
    /// most 1.
    pub jitter: f64,
    /// The kinds of failures that are tried again. Empty, as by default: all that are not
    /// permanent.
    pub retryable: Vec<String>,
    /// Whether the worker fails too where an activation fails for good. Default: it does
    /// not, and goes on with its other jobs.
    pub critical: bool,
}

impl ErrorHandler {
    fn of(strategy: ErrorStrategy) -> Self {
        Self {
            strategy,
            max_retries: 3,
            delay: Duration::from_secs(1),
            backoff: 2.0,
            delay_max: Duration::from_secs(60 * 60),
            jitter: 0.0,
            retryable: Vec::new(),
            critical: false,
        }
    }

    /// The jobs of the activation fail. The default, where neither routine nor flow has
    /// a handler.
    #[must_use]
    pub fn stop() -> Self {
        Self::of(ErrorStrategy::Stop)
    }

    /// The jobs of the activation go on without what it consumed.
    #[must_use]
    pub fn continue_on() -> Self {
        Self::of(ErrorStrategy::Continue)
    }

    /// The jobs of the activation go on, and the routine says that it was skipped.
    #[must_use]
    pub fn skip() -> Self {
        Self::of(ErrorStrategy::Skip)
    }

    /// The same input is tried up to so many times again.
    #[must_use]
    pub fn retry(max_retries: u32) -> Self {
        Self {
            max_retries,
            ..Self::of(ErrorStrategy::Retry)
        }
    }

    /// Sets how long after the first failure it is tried again.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets by what the delay grows from one retry to the next.
    #[must_use]
    pub fn backoff(mut self, backoff: f64) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest delay.
    #[must_use]
    pub fn delay_max(mut self, delay: Duration) -> Self {
        self.delay_max = delay;
        self
    }

    /// Sets the part of a delay by which it is moved at random.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Tries again only failures of these kinds. A failure without a kind is then not
    /// tried again; a panic is of the kind `panic`.
    #[must_use]
    pub fn retryable(mut self, kinds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.retryable = kinds.into_iter().map(Into::into).collect();
        self
    }

    /// Makes the worker fail too where an activation fails for good.
    #[must_use]
    pub fn critical(mut self) -> Self {
        self.critical = true;
        self
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(self.backoff >= 1.0 && self.backoff.is_finite()) {
            Some(format!(
                "its backoff is {}; a delay must not shrink, so at least 1",
                self.backoff
            ))
        } else if !(0.0..=1.0).contains(&self.jitter) {
            Some(format!(
                "its jitter is {}; it is a part of the delay, from 0 to 1",
                self.jitter
            ))
        } else {
            None
        }
    }

    /// How long after a failure the n-th retry comes. `random` is any number; each of
    /// its values is as likely as any other.
    pub(crate) fn delay_before(&self, retry: u32, random: u64) -> Duration {
        if self.delay.is_zero() {
            // Grown without end it would be no number.
            return Duration::ZERO;
        }
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.delay.as_secs_f64() * self.backoff.powi(exponent);
        let bounded = grown.min(self.delay_max.as_secs_f64());
        // From -1 to 1; both ends can be.
        let shift = random as f64 / u64::MAX as f64 * 2.0 - 1.0;
        let moved = (bounded * (1.0 + self.jitter * shift)).max(0.0);
        let delay = Duration::try_from_secs_f64(moved).unwrap_or(Duration::MAX);
        delay.min(self.delay_max)
    }

    /// What follows from a failure of the attempt with this number; the first one is 1.
    pub(crate) fn on_failure(&self, failure: &Failure, attempt: u32, random: u64) -> Reaction {
        let retries = attempt.max(1) - 1;
        let for_good = Reaction::Fail {
            worker: self.critical,
        };
        match self.strategy {
            ErrorStrategy::Stop => for_good,
            ErrorStrategy::Continue => Reaction::Continue,
            ErrorStrategy::Skip => Reaction::Skip,
            ErrorStrategy::Retry if retries < self.max_retries && self.is_retryable(failure) => {
                Reaction::Retry {
                    after: self.delay_before(retries + 1, random),
                }
            }
            ErrorStrategy::Retry => for_good,
        }
    }

    fn is_retryable(&self, failure: &Failure) -> bool {
        let is_of = |kind: &str| self.retryable.iter().any(|known| known == kind);
        let listed = self.retryable.is_empty() || failure.kind_name().is_some_and(is_of);
        listed && !failure.is_permanent()
    }
}

impl Default for ErrorHandler {
    fn default() -> Self {
        Self::stop()
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The same input again, after this time.
    Retry { after: Duration },
    /// What was consumed goes to the dead letters, and its jobs fail; the worker too, if
    /// the routine is critical.
    Fail { worker: bool },
    /// What was consumed goes to the dead letters, and its jobs go on.
    Continue,
    /// The same, and the routine was skipped.
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(handler: &ErrorHandler, retries: u32) -> Vec<f64> {
        let middle = u64::MAX / 2;
        let delay = |retry| handler.delay_before(retry, middle).as_secs_f64();
        (1..=retries).map(delay).collect()
    }

    fn failure() -> Failure {
        Failure::new("no answer")
    }

    #[test]
    fn a_retry_comes_after_delay_times_backoff_to_the_power_of_the_retries_before() {
        let handler = ErrorHandler::retry(9)
            .delay(Duration::from_millis(500))
            .backoff(3.0);
        assert_eq!(seconds(&handler, 4), [0.5, 1.5, 4.5, 13.5]);
    }

    #[test]
    fn delays_are_bounded_and_nothing_overflows() {
        let handler = ErrorHandler::retry(u32::MAX).delay_max(Duration::from_secs(5));
        assert_eq!(seconds(&handler, 5), [1.0, 2.0, 4.0, 5.0, 5.0]);
        let last = handler.delay_before(u32::MAX, u64::MAX);
        assert_eq!(last, Duration::from_secs(5));
        let none = ErrorHandler::retry(9).delay(Duration::ZERO);
        assert_eq!(none.delay_before(u32::MAX, 0), Duration::ZERO);
        let forever = ErrorHandler::retry(9)
            .delay(Duration::MAX)
            .delay_max(Duration::MAX);
        assert_eq!(forever.delay_before(9, u64::MAX), Duration::MAX);
    }

    #[test]
    fn jitter_moves_a_delay_to_either_side_and_no_further() {
        let handler = ErrorHandler::retry(9)
            .jitter(0.25)
            .delay(Duration::from_secs(4));
        let delay = |random| handler.delay_before(1, random).as_secs_f64();
        assert_eq!((delay(0), delay(u64::MAX)), (3.0, 5.0));
        assert!((delay(u64::MAX / 2) - 4.0).abs() < 1e-9);
        let whole = ErrorHandler::retry(9).jitter(1.0);
        assert_eq!(whole.delay_before(1, 0), Duration::ZERO);
    }

    #[test]
    fn retries_are_counted_and_then_it_fails_for_good() {
        let handler = ErrorHandler::retry(2);
        let reactions: Vec<_> = (1..=4)
            .map(|attempt| handler.on_failure(&failure(), attempt, 0))
            .map(|reaction| matches!(reaction, Reaction::Retry { .. }))
            .collect();
        assert_eq!(reactions, [true, true, false, false]);
        let none = ErrorHandler::retry(0).on_failure(&failure(), 1, 0);
        assert_eq!(none, Reaction::Fail { worker: false });
    }

    #[test]
    fn what_is_not_retryable_stops() {
        let stops = Reaction::Fail { worker: false };
        let handler = ErrorHandler::retry(3);
        let reaction =
            |handler: &ErrorHandler, failure: Failure| handler.on_failure(&failure, 1, 0);
        assert_eq!(reaction(&handler, failure().permanent()), stops);
        assert_ne!(reaction(&handler, failure().kind("any")), stops);
        let handler = handler.retryable(["net"]);
        assert_ne!(reaction(&handler, failure().kind("net")), stops);
        assert_eq!(reaction(&handler, failure().kind("net").permanent()), stops);
        assert_eq!(reaction(&handler, failure().kind("disk")), stops);
        assert_eq!(reaction(&handler, failure()), stops);
    }

    #[test]
    fn critical_fails_the_worker() {
        let fails = Reaction::Fail { worker: true };
        let stop = ErrorHandler::stop().critical();
        assert_eq!(stop.on_failure(&failure(), 1, 0), fails);
        let retry = ErrorHandler::retry(1).critical();
        assert_ne!(retry.on_failure(&failure(), 1, 0), fails);
        assert_eq!(retry.on_failure(&failure(), 2, 0), fails);
    }

    #[test]
    fn stop_continue_and_skip() {
        let reaction = |handler: ErrorHandler| handler.on_failure(&failure(), 1, 0);
        assert_eq!(
            reaction(ErrorHandler::stop()),
            Reaction::Fail { worker: false }
        );
        assert_eq!(
            reaction(ErrorHandler::default()),
            Reaction::Fail { worker: false }
        );
        assert_eq!(reaction(ErrorHandler::continue_on()), Reaction::Continue);
        assert_eq!(reaction(ErrorHandler::skip()), Reaction::Skip);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let wrong = [
            ErrorHandler::retry(1).backoff(0.5),
            ErrorHandler::retry(1).backoff(f64::NAN),
            ErrorHandler::retry(1).backoff(f64::INFINITY),
            ErrorHandler::retry(1).jitter(1.5),
            ErrorHandler::retry(1).jitter(f64::NAN),
        ];
        assert!(wrong.iter().all(|handler| handler.fault().is_some()));
        assert_eq!(ErrorHandler::default().fault(), None);
    }
}
