//! Owns what is told to whoever watches a store from outside: figures, which
//! `Store::stats` has and the `metrics` facade is told of, and the events of `tracing`.
//! Both are features, and off by default.
//!
//! What must stay true: no value and no key is in any of it, but where a user asked for
//! that. Without its feature a figure is an atomic of ours, and an event is nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::clock;
use crate::ids::Lsn;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A figure: what it is called, in which unit it is told, and what it says. Those who
/// collect figures show the last to people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    name: &'static str,
    unit: Unit,
    what: &'static str,
    /// What tells it from others of its name, beside the store.
    label: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy, Debug)]
enum Unit {
    Count,
    Bytes,
    Seconds,
}

impl Figure {
    pub(crate) const fn count(name: &'static str, what: &'static str) -> Self {
        Self::new(name, Unit::Count, what)
    }

    pub(crate) const fn bytes(name: &'static str, what: &'static str) -> Self {
        Self::new(name, Unit::Bytes, what)
    }

    pub(crate) const fn seconds(name: &'static str, what: &'static str) -> Self {
        Self::new(name, Unit::Seconds, what)
    }

    const fn new(name: &'static str, unit: Unit, what: &'static str) -> Self {
        Self {
            name,
            unit,
            what,
            label: None,
        }
    }

    /// One of several figures of a name.
    pub(crate) const fn with(self, label: &'static str, value: &'static str) -> Self {
        Self {
            label: Some((label, value)),
            ..self
        }
    }

    #[cfg(feature = "metrics")]
    fn labels(self, of: &str) -> Vec<metrics::Label> {
        let store = metrics::Label::new("store", of.to_owned());
        let label = self.label;
        let label = label.map(|(label, value)| metrics::Label::from_static_parts(label, value));
        [store].into_iter().chain(label).collect()
    }

    #[cfg(feature = "metrics")]
    fn counter(self, of: &str) -> metrics::Counter {
        metrics::describe_counter!(self.name, self.unit.told(), self.what);
        metrics::counter!(self.name, self.labels(of))
    }

    #[cfg(feature = "metrics")]
    fn gauge(self, of: &str) -> metrics::Gauge {
        metrics::describe_gauge!(self.name, self.unit.told(), self.what);
        metrics::gauge!(self.name, self.labels(of))
    }

    #[cfg(feature = "metrics")]
    fn histogram(self, of: &str) -> metrics::Histogram {
        metrics::describe_histogram!(self.name, self.unit.told(), self.what);
        metrics::histogram!(self.name, self.labels(of))
    }

    /// Nobody is told.
    #[cfg(not(feature = "metrics"))]
    fn untold(self, of: &str) {
        let _ = (self.name, self.unit, self.what, self.label, of);
    }
}

#[cfg(feature = "metrics")]
impl Unit {
    fn told(self) -> metrics::Unit {
        match self {
            Self::Count => metrics::Unit::Count,
            Self::Bytes => metrics::Unit::Bytes,
            Self::Seconds => metrics::Unit::Seconds,
        }
    }
}

/// How often something happened.
#[derive(Debug, Default)]
pub(crate) struct Count {
    total: AtomicU64,
    #[cfg(feature = "metrics")]
    told: Option<metrics::Counter>,
}

impl Count {
    /// Told as the figure of this store.
    pub(crate) fn new(figure: Figure, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        figure.untold(of);
        Self {
            total: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            told: Some(figure.counter(of)),
        }
    }

    pub(crate) fn increment(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.tell(1);
    }

    /// For what somebody else counts: it came to so much by now.
    pub(crate) fn reached(&self, total: u64) {
        let before = self.total.fetch_max(total, Ordering::Relaxed);
        self.tell(total.saturating_sub(before));
    }

    fn tell(&self, more: u64) {
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.increment(more);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = more;
    }

    pub(crate) fn get(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// How much something is at the moment. Only told; whoever asks us counts it himself.
#[derive(Debug, Default)]
pub(crate) struct Level {
    #[cfg(feature = "metrics")]
    told: Option<metrics::Gauge>,
}

impl Level {
    /// Told as the figure of this store.
    pub(crate) fn new(figure: Figure, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        figure.untold(of);
        Self {
            #[cfg(feature = "metrics")]
            told: Some(figure.gauge(of)),
        }
    }

    pub(crate) fn set(&self, level: u64) {
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.set(level as f64);
        }
        #[cfg(not(feature = "metrics"))]
        let _ = level;
    }
}

/// Steps of a spread for each doubling of a size.
const STEPS: u64 = 8;

/// The last step is for all sizes from 2^42 on: more than an hour, in nanoseconds.
const DOUBLINGS: u64 = 40;

/// How large something is each time it happens, or how long it takes.
#[derive(Debug)]
pub(crate) struct Spread {
    sum: AtomicU64,
    largest: AtomicU64,
    /// How often, by steps of the size, so that memory is bounded and a size is known to
    /// an eighth of itself.
    steps: Box<[AtomicU64]>,
    #[cfg(feature = "metrics")]
    told: Option<metrics::Histogram>,
}

/// What a [`Spread`] came to. Read one by one, so it may be of two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) largest: u64,
    /// So large is it at most in half of the cases, in 99 of 100, and in 999 of 1,000; up
    /// to an eighth too high.
    pub(crate) half: u64,
    pub(crate) most: u64,
    pub(crate) nearly_all: u64,
}

impl Default for Spread {
    /// Told to nobody.
    fn default() -> Self {
        Self {
            sum: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            steps: (0..STEPS * DOUBLINGS).map(|_| AtomicU64::new(0)).collect(),
            #[cfg(feature = "metrics")]
            told: None,
        }
    }
}

/// The step that a size is in: sizes below 8 have one each, and then each doubling has
/// eight.
fn step_of(size: u64) -> usize {
    let doubling = size.checked_ilog2().map_or(0, u64::from).saturating_sub(3);
    let step = STEPS * doubling + (size >> doubling);
    step.min(STEPS * DOUBLINGS - 1) as usize
}

/// The largest size that is in a step.
fn largest_in(step: usize) -> u64 {
    let step = step as u64;
    let doubling = (step / STEPS).saturating_sub(1);
    ((step - STEPS * doubling + 1) << doubling) - 1
}

impl Spread {
    /// Told as the figure of this store.
    pub(crate) fn new(figure: Figure, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        figure.untold(of);
        Self {
            #[cfg(feature = "metrics")]
            told: Some(figure.histogram(of)),
            ..Self::default()
        }
    }

    fn note(&self, size: u64) {
        self.sum.fetch_add(size, Ordering::Relaxed);
        self.largest.fetch_max(size, Ordering::Relaxed);
        self.steps[step_of(size)].fetch_add(1, Ordering::Relaxed);
    }

    /// Once more, of this size.
    pub(crate) fn record(&self, size: u64) {
        self.note(size);
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.record(size as f64);
        }
    }

    /// Once more, begun at this instant and done now. Kept in nanoseconds, told in
    /// seconds.
    pub(crate) fn record_since(&self, begun: Instant) {
        self.record_taken(clock::monotonic().saturating_duration_since(begun));
    }

    /// Once more, and it took so long.
    pub(crate) fn record_taken(&self, taken: Duration) {
        self.note(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.record(taken.as_secs_f64());
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let steps = self.steps.iter().map(|step| step.load(Ordering::Relaxed));
        let steps: Vec<u64> = steps.collect();
        let count: u64 = steps.iter().sum();
        let largest = self.largest.load(Ordering::Relaxed);
        // So large is it at most in all but one of `out_of` cases.
        let all_but = |out_of: u64| {
            let mut left = count - count / out_of;
            let reached = steps.iter().position(|&times| {
                left = left.saturating_sub(times);
                left == 0
            });
            reached.map_or(0, largest_in).min(largest)
        };
        Summary {
            count,
            sum: self.sum.load(Ordering::Relaxed),
            largest,
            half: all_but(2),
            most: all_but(100),
            nearly_all: all_but(1000),
        }
    }
}

/// While it lives, what happens on this thread happens inside it.
#[must_use = "a span ends when it is dropped"]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    entered: tracing::span::EnteredSpan,
}

impl Span {
    /// Says up to which LSN it came.
    pub(crate) fn reached(&self, lsn: Lsn) {
        #[cfg(feature = "tracing")]
        self.entered.record("lsn", lsn.get());
        #[cfg(not(feature = "tracing"))]
        let _ = lsn;
    }
}

/// Work of an engine, as spans.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Open,
    Commit,
    Sync,
    Checkpoint,
    Snapshot,
    Rebuild,
    Verify,
    Backup,
    Restore,
    Close,
}

/// Begins a span of the store in this folder; `None` for one without.
pub(crate) fn span(work: Work, store: Option<&Path>) -> Span {
    #[cfg(not(feature = "tracing"))]
    {
        let _ = (work, store);
        Span {}
    }
    #[cfg(feature = "tracing")]
    {
        use tracing::field::{Empty, display};
        use tracing::{info_span, trace_span};
        let store = store.map(|store| display(store.display()));
        let span = match work {
            Work::Open => info_span!(target: "evenkeel", "open", store, lsn = Empty),
            Work::Commit => trace_span!(target: "evenkeel", "commit", store, lsn = Empty),
            Work::Sync => trace_span!(target: "evenkeel", "sync", store, lsn = Empty),
            Work::Checkpoint => info_span!(target: "evenkeel", "checkpoint", store, lsn = Empty),
            Work::Snapshot => info_span!(target: "evenkeel", "snapshot", store, lsn = Empty),
            Work::Rebuild => info_span!(target: "evenkeel", "rebuild", store, lsn = Empty),
            Work::Verify => info_span!(target: "evenkeel", "verify", store, lsn = Empty),
            Work::Backup => info_span!(target: "evenkeel", "backup", store, lsn = Empty),
            Work::Restore => info_span!(target: "evenkeel", "restore", store, lsn = Empty),
            Work::Close => info_span!(target: "evenkeel", "close", store, lsn = Empty),
        };
        Span {
            entered: span.entered(),
        }
    }
}

/// A watch was too slow for what is kept, and goes on behind what it missed.
pub(crate) fn missed(store: Option<&Path>, after: Lsn, scan_from: Lsn) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        target: "evenkeel",
        store = store.map(|store| tracing::field::display(store.display())),
        after_lsn = after.get(),
        scan_from_lsn = scan_from.get(),
        "a watch has missed changes"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (store, after, scan_from);
}

/// A write or a sync of the log failed. `durable` is what was acknowledged at most.
pub(crate) fn poisoned(log: &Path, durable: Lsn, reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: "evenkeel",
        log = %log.display(),
        durable_lsn = durable.get(),
        reason,
        "stopped after a failed write; reopen the folder"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (log, durable, reason);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_known_to_an_eighth_of_itself() {
        let mut sizes: Vec<u64> = (0..5000).collect();
        sizes.extend((12..40).flat_map(|by| [(1 << by) - 1, 1 << by, (1 << by) + 1]));
        for size in sizes {
            let step = step_of(size);
            let told = largest_in(step);
            assert!(size <= told && told - size <= size / 8, "{size}: {told}");
            assert!(step == 0 || largest_in(step - 1) < size, "{size}");
        }
        assert_eq!(step_of(u64::MAX), (STEPS * DOUBLINGS - 1) as usize);
    }

    #[test]
    fn a_spread_tells_what_most_and_nearly_all_take() {
        let spread = Spread::default();
        assert_eq!(spread.summary(), Summary::default());
        spread.record(100);
        let one = spread.summary();
        assert_eq!((one.half, one.most, one.nearly_all), (100, 100, 100));
        (1..1000).for_each(|size| spread.record(size * 1000));
        let summary = spread.summary();
        assert_eq!((summary.count, summary.largest), (1000, 999_000));
        let near = |told: u64, size: u64| told >= size && told - size <= size / 8;
        assert!(near(summary.half, 499_000), "{summary:?}");
        assert!(near(summary.most, 989_000), "{summary:?}");
        assert!(near(summary.nearly_all, 998_000), "{summary:?}");
        spread.record(u64::MAX);
        assert_eq!(spread.summary().largest, u64::MAX);
    }
}
