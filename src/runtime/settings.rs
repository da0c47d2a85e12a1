//! Owns the settings of a runtime. Imports `dead`, `once`, `retention`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::dead::KeepDeadLetters;
use crate::runtime::hooks::Hooks;
use crate::runtime::once::OnUncertain;
use crate::runtime::retention::KeepJobs;
use crate::sync;

/// What a runtime is told when it starts.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) threads: usize,
    /// How many activations of async logic run at once.
    #[cfg(feature = "tokio")]
    pub(crate) async_activations: usize,
    /// How many of its last activations a worker remembers.
    pub(crate) history: usize,
    /// How long a post waits for room in a slot.
    pub(crate) post_wait: Duration,
    /// How long a shutdown drains.
    pub(crate) drain_wait: Duration,
    /// How long records of finished jobs are kept.
    pub(crate) keep_jobs: KeepJobs,
    /// How long dead letters are kept.
    pub(crate) keep_dead: KeepDeadLetters,
    /// Who is told and asked.
    pub(crate) hooks: Vec<Arc<dyn Hooks>>,
    /// Who decides about effects that are uncertain.
    pub(crate) on_uncertain: Option<OnUncertain>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threads: sync::cores(),
            #[cfg(feature = "tokio")]
            async_activations: 1024,
            history: 100,
            post_wait: Duration::from_secs(30),
            drain_wait: Duration::from_secs(60),
            keep_jobs: KeepJobs::default(),
            keep_dead: KeepDeadLetters::default(),
            hooks: Vec::new(),
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
