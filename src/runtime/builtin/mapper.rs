//! Owns `Mapper`. Imports `activation`, `builtin`, `event`, `failure`, `routine`.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{data, emit_as, one_by_one};
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

pub(super) type Map = dyn Fn(&Event) -> Result<Value, Failure> + Send + Sync;

/// A routine that makes something else of each message.
///
/// It takes `in` and emits `out`, one message at a time. Data that is not of the type that
/// the closure takes is a permanent failure of the kind `data`.
///
/// ```
/// use evenkeel::{Flow, Mapper};
/// let mut flow = Flow::new("orders");
/// flow.add_routine("double", Mapper::new(|n: i64| Ok(n * 2)))?;
/// flow.add_routine("parse", Mapper::new(|text: String| Ok(text.parse::<i64>()?)))?;
/// flow.pipe(["parse", "double"])?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub struct Mapper {
    map: Box<Map>,
}

impl Mapper {
    /// A routine that emits what `map` makes of the data of a message.
    #[must_use]
    pub fn new<I, O>(map: impl Fn(I) -> Result<O, Failure> + Send + Sync + 'static) -> Self
    where
        I: DeserializeOwned,
        O: Serialize,
    {
        Self { map: boxed(map) }
    }
}

/// A closure over types as one over events and values.
pub(super) fn boxed<I, O>(map: impl Fn(I) -> Result<O, Failure> + Send + Sync + 'static) -> Box<Map>
where
    I: DeserializeOwned,
    O: Serialize,
{
    Box::new(move |event| {
        let mapped = map(data(event)?)?;
        Ok(Value::from_serialize(&mapped)?)
    })
}

impl Routine for Mapper {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        settings.event("out");
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            emit_as(cx, event, "out", (self.map)(event)?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapper").finish_non_exhaustive()
    }
}
