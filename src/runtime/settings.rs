//! Owns the settings of a runtime. Imports `once`.

use std::fmt;
use std::time::Duration;

use crate::runtime::once::OnUncertain;
use crate::sync;

/// What a runtime is told when it starts.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) threads: usize,
    /// How many of its last activations a worker remembers.
    pub(crate) history: usize,
    /// How long a post waits for room in a slot.
    pub(crate) post_wait: Duration,
    /// How long a shutdown drains.
    pub(crate) drain_wait: Duration,
    /// Who decides about effects that are uncertain.
    pub(crate) on_uncertain: Option<OnUncertain>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: sync::cores(),
            history: 100,
            post_wait: Duration::from_secs(30),
            drain_wait: Duration::from_secs(60),
            on_uncertain: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("threads", &self.threads)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}
