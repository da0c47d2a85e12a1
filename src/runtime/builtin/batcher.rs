//! Owns `Batcher`. Imports `activation`, `builtin`, `options`, `policy`, `routine`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{Seconds, declare_config};
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::options::SlotOptions;
use crate::runtime::policy::ActivationPolicy;
use crate::runtime::routine::{Routine, RoutineSettings};

/// A routine that makes one message, a list, of several, the oldest first.
///
/// It takes `in` and emits `out`. What is not enough for a batch yet waits in its slot.
/// A batch is over jobs: the list belongs to all whose messages are in it. To keep jobs
/// apart use an [`Aggregator`](crate::Aggregator).
///
/// ```
/// use evenkeel::{Batcher, Flow};
/// use std::time::Duration;
/// let mut flow = Flow::new("orders");
/// flow.add_routine("pack", Batcher::new(10).max_wait(Duration::from_secs(5)))?;
/// assert!(flow.validate().is_empty());
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `batcher`, with the config `{size: 10, max_wait: 5}`, in
/// seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batcher {
    size: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<Seconds>,
}

impl Batcher {
    /// A routine that makes batches of so many messages. A flow with a size of 0 is
    /// refused.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            size,
            max_wait: None,
        }
    }

    /// Makes a batch not wait longer than this for its last message: then it is as large
    /// as what there is. Without it, what is not enough waits, and so do its jobs.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(Seconds(wait));
        self
    }
}

impl Routine for Batcher {
    fn declare(&self, settings: &mut RoutineSettings) {
        declare_config(settings, self);
        let options = SlotOptions::new();
        let room = options.capacity.max(self.size);
        let policy = ActivationPolicy::batch_size(self.size);
        let wait = self.max_wait.map(|Seconds(wait)| wait);
        settings
            .slot_with("in", options.capacity(room))
            .event("out")
            .policy(wait.into_iter().fold(policy, ActivationPolicy::max_wait));
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        let batch: Vec<_> = cx.data("in").map(Event::data).collect();
        Ok(cx.emit("out", batch)?)
    }
}
