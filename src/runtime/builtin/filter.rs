//! Owns `Filter`. Imports `activation`, `builtin`, `event`, `failure`, `routine`.

use std::fmt;

use serde::de::DeserializeOwned;

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{data, emit_as, one_by_one};
use crate::runtime::event::{Event, Verdict};
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};

pub(super) type Test = dyn Fn(&Event) -> Result<bool, Failure> + Send + Sync;

/// A routine that lets pass what a test holds for.
///
/// It takes `in`, one message at a time, and emits it unchanged as `out`, or as
/// `rejected`, which need not be connected. Data that is not of the type that the closure
/// takes is a permanent failure of the kind `data`.
///
/// ```
/// use evenkeel::{Filter, Flow, Value};
/// let mut flow = Flow::new("orders");
/// flow.add_routine("large", Filter::new(|bytes: u64| bytes > 1_000))?;
/// flow.add_routine("named", Filter::new(|data: Value| data.get("name").is_some()))?;
/// flow.connect("large.out", "named.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Filter {
    test: Box<Test>,
}

impl Filter {
    /// A routine that lets pass the data that `test` holds for. It answers `bool`, or a
    /// `Result` of one, whose error fails the activation.
    #[must_use]
    pub fn new<I, V>(test: impl Fn(I) -> V + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        V: Verdict,
    {
        Self {
            test: Box::new(move |event| test(data(event)?).verdict()),
        }
    }
}

impl Routine for Filter {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        settings.event("out").event("rejected");
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            let name = match (self.test)(event)? {
                true => "out",
                false => "rejected",
            };
            emit_as(cx, event, name, event.data())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}
