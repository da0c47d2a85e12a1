//! evenkeel's runtime, through its public interface.

use std::path::Path;
use std::time::Duration;

use evenkeel::{
    Activation, ActivationPolicy, AtCapacity, Durability, Failure, Flow, Runtime, SlotOptions,
    Store,
};

use crate::task::Result;

/// Nothing here takes longer, unless it hangs.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);
/// Where it is posted to.
pub(crate) const FIRST: &str = "a";

/// How many messages a routine takes at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// One, so that each message is an activation of its own.
    One,
    /// All that wait.
    All,
}

impl Takes {
    /// The name of the flow whose routines do so.
    pub(crate) const fn flow(self) -> &'static str {
        match self {
            Self::One => "chain",
            Self::All => "chain-all",
        }
    }
}

/// Opens a store and starts a runtime on it.
pub(crate) fn start(folder: &Path, durability: Durability) -> Result<Runtime> {
    let store = Store::builder()
        .durability(durability)
        .open(folder.join("store"))?;
    Ok(Runtime::builder(store).start()?)
}

/// Passes on what came, each message for its own jobs.
fn pass(cx: &mut Activation) -> std::result::Result<(), Failure> {
    for event in cx.data("in") {
        for job in cx.jobs_of(event) {
            cx.emit_for(&job, "out", event.data())?;
        }
    }
    Ok(())
}

/// A chain of two routines that pass on, and a last one; `first` and `last` are called by
/// the first and the last of them.
pub(crate) fn chain(
    takes: Takes,
    capacity: usize,
    first: impl Fn() + Send + Sync + 'static,
    last: impl Fn() + Send + Sync + 'static,
) -> Result<Flow> {
    let mut flow = Flow::new(takes.flow());
    flow.add_fn(FIRST, move |cx| {
        first();
        pass(cx)
    })?;
    flow.add_fn("b", pass)?;
    flow.add_fn("c", move |_| {
        last();
        Ok(())
    })?;
    let slot = SlotOptions::new()
        .capacity(capacity)
        .at_capacity(AtCapacity::Wait);
    for id in [FIRST, "b", "c"] {
        if let Some(routine) = flow.routine_mut(id) {
            routine.slot_with("in", slot);
            if id != "c" {
                routine.event("out");
            }
            if takes == Takes::One {
                routine.policy(ActivationPolicy::batch_size(1));
            }
        }
    }
    flow.pipe([FIRST, "b", "c"])?;
    Ok(flow)
}
