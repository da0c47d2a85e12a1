//! Owns the settings of a runtime. Imports nothing.

use std::time::Duration;

use crate::sync;

/// What a runtime is told when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) threads: usize,
    /// How many of its last activations a worker remembers.
    pub(crate) history: usize,
    /// How long a post waits for room in a slot.
    pub(crate) post_wait: Duration,
    /// How long a shutdown drains.
    pub(crate) drain_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: sync::cores(),
            history: 100,
            post_wait: Duration::from_secs(30),
            drain_wait: Duration::from_secs(60),
        }
    }
}
