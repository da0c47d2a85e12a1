//! Owns `Retry`. Imports `activation`, `builtin`, `failure`, `handler`, `routine`.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::runtime::activation::Activation;
use crate::runtime::builtin::mapper::{Map, boxed};
use crate::runtime::builtin::{emit_as, one_by_one};
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::handler::{ErrorHandler, Reaction};
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// A routine that tries something again while it fails, and goes on without it when it
/// gives up.
///
/// It takes `in`, one message at a time, and emits what the closure makes of it as `out`.
/// Where that fails, or panics, the same message is tried again after the delay of the
/// error handler; attempts are counted in the store. After the last one, and at once where
/// the failure is permanent, it emits `failed`, a map with `data`, `error`, `kind` and
/// `attempts`, and its job goes on. So failing is a way through the flow, where an error
/// handler alone ends the job.
///
/// The closure may run again after a crash, like all logic. What must not be done twice
/// belongs into `once` of a routine of your own.
///
/// ```
/// use evenkeel::{ErrorHandler, Failure, Flow, Retry};
/// use std::time::Duration;
/// # fn fetch(url: &str) -> Result<String, std::io::Error> { Ok(url.to_owned()) }
/// let fetch = Retry::new(|url: String| Ok(fetch(&url)?))
///     .handler(ErrorHandler::retry(5).delay(Duration::from_millis(200)).jitter(0.1));
/// let mut flow = Flow::new("crawl");
/// flow.add_routine("fetch", fetch)?;
/// flow.add_fn("alert", |_cx| Ok(()))?;
/// flow.connect("fetch.failed", "alert.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Retry {
    operation: Box<Map>,
    handler: ErrorHandler,
}

/// What is emitted when it gives up.
#[derive(Serialize)]
struct GivenUp<'e> {
    data: &'e Value,
    error: String,
    kind: Option<&'e str>,
    attempts: u32,
}

impl Retry {
    /// A routine that tries `operation` up to three times again, the first time after a
    /// second: see [`ErrorHandler::retry`].
    #[must_use]
    pub fn new<I, O>(operation: impl Fn(I) -> Result<O, Failure> + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
    {
        Self {
            operation: boxed(operation),
            handler: ErrorHandler::retry(3),
        }
    }

    /// Sets how often and when it is tried again. It is set here, and not by
    /// [`RoutineSettings::on_error`]: when this one gives up, `failed` is emitted.
    #[must_use]
    pub fn handler(mut self, handler: ErrorHandler) -> Self {
        self.handler = handler;
        self
    }

    fn attempt(&self, event: &Event) -> Result<Value, Failure> {
        catch_unwind(AssertUnwindSafe(|| (self.operation)(event)))
            .unwrap_or_else(|panic| Err(Failure::panicked("what is retried", &*panic)))
    }
}

impl Routine for Retry {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        settings
            .event("out")
            .event_with("failed", ["data", "error", "kind", "attempts"])
            .on_error(self.handler.clone());
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            let failure = match self.attempt(event) {
                Ok(value) => {
                    emit_as(cx, event, "out", value)?;
                    continue;
                }
                Err(failure) => failure,
            };
            let attempts = cx.attempt();
            if let Reaction::Retry { .. } = self.handler.on_failure(&failure, attempts, 0) {
                return Err(failure);
            }
            let given_up = GivenUp {
                data: event.data(),
                error: failure.to_string(),
                kind: failure.kind_name(),
                attempts,
            };
            emit_as(cx, event, "failed", given_up)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}
