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

/// How often something happened.
#[derive(Debug, Default)]
pub(crate) struct Count {
    total: AtomicU64,
    #[cfg(feature = "metrics")]
    told: Option<metrics::Counter>,
}

impl Count {
    /// Told under this name, as the figure of this store.
    pub(crate) fn new(name: &'static str, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = (name, of);
        Self {
            total: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            told: Some(metrics::counter!(name, "store" => of.to_owned())),
        }
    }

    pub(crate) fn increment(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.increment(1);
        }
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
    /// Told under this name, as the figure of this store.
    pub(crate) fn new(name: &'static str, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = (name, of);
        Self {
            #[cfg(feature = "metrics")]
            told: Some(metrics::gauge!(name, "store" => of.to_owned())),
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

/// How large something is each time it happens, or how long it takes.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    count: AtomicU64,
    sum: AtomicU64,
    largest: AtomicU64,
    #[cfg(feature = "metrics")]
    told: Option<metrics::Histogram>,
}

/// What a [`Spread`] came to. Read one by one, so it may be of two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) largest: u64,
}

impl Spread {
    /// Told under this name, as the figure of this store.
    pub(crate) fn new(name: &'static str, of: &str) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = (name, of);
        Self {
            #[cfg(feature = "metrics")]
            told: Some(metrics::histogram!(name, "store" => of.to_owned())),
            ..Self::default()
        }
    }

    fn note(&self, size: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(size, Ordering::Relaxed);
        self.largest.fetch_max(size, Ordering::Relaxed);
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
        let taken = clock::monotonic().saturating_duration_since(begun);
        self.note(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
        #[cfg(feature = "metrics")]
        if let Some(told) = &self.told {
            told.record(taken.as_secs_f64());
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            count: self.count.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
            largest: self.largest.load(Ordering::Relaxed),
        }
    }
}

impl Summary {
    /// As times, where nanoseconds were recorded: all together, and the longest.
    pub(crate) fn times(&self) -> (Duration, Duration) {
        (
            Duration::from_nanos(self.sum),
            Duration::from_nanos(self.largest),
        )
    }
}

/// While it lives, what happens on this thread happens inside it.
#[must_use = "a span ends when it is dropped"]
pub(crate) struct Span {
    #[cfg(feature = "tracing")]
    _entered: tracing::span::EnteredSpan,
}

/// Work of an engine, as spans.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Open,
    Checkpoint,
    Snapshot,
    Rebuild,
    Verify,
    Close,
}

/// Begins a span of the store in this folder.
pub(crate) fn span(work: Work, store: &Path) -> Span {
    #[cfg(not(feature = "tracing"))]
    {
        let _ = (work, store);
        Span {}
    }
    #[cfg(feature = "tracing")]
    {
        use tracing::info_span;
        let store = store.display();
        let span = match work {
            Work::Open => info_span!(target: "evenkeel", "open", %store),
            Work::Checkpoint => info_span!(target: "evenkeel", "checkpoint", %store),
            Work::Snapshot => info_span!(target: "evenkeel", "snapshot", %store),
            Work::Rebuild => info_span!(target: "evenkeel", "rebuild", %store),
            Work::Verify => info_span!(target: "evenkeel", "verify", %store),
            Work::Close => info_span!(target: "evenkeel", "close", %store),
        };
        Span {
            _entered: span.entered(),
        }
    }
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
