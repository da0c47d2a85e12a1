//! Owns `Splitter`. Imports `activation`, `builtin`, `event`, `failure`, `routine`.

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::{declare_config, emit_as, one_by_one, path};
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// A routine that makes of one message with a list one message for each element, in the
/// order of the list.
///
/// It takes `in`, one message at a time, and emits `out`; of an empty list nothing. What
/// has no list where it should be is a permanent failure of the kind `data`. More elements
/// than the hard limit of a slot behind it allows fail the activation, so give that slot
/// the room that it needs.
///
/// ```
/// use evenkeel::{Flow, Splitter};
/// let mut flow = Flow::new("orders");
/// flow.add_routine("elements", Splitter::new())?;
/// flow.add_routine("lines", Splitter::new().field("order.lines"))?;
/// flow.add_fn("line", |_cx| Ok(()))?;
/// flow.connect("lines.out", "line.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `splitter`, with the config `{field: order.lines}`, or
/// without one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splitter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}

impl Splitter {
    /// A routine that splits data that is a list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Splits the list at this path of the data: names of fields and numbers of list
    /// elements, with dots between them.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>) -> Self {
        self.field = Some(path.into());
        self
    }

    fn elements<'e>(&self, event: &'e Event) -> Result<&'e [Value], Failure> {
        let found = match &self.field {
            None => Some(event.data()),
            Some(path) => path::at(event.data(), path),
        };
        found.and_then(Value::as_list).ok_or_else(|| {
            let place = self.field.as_deref().unwrap_or(".");
            let failure = Failure::new(format!("there is no list at {place:?} to be split"));
            failure.kind("data").permanent()
        })
    }
}

impl Routine for Splitter {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        declare_config(settings, self);
        settings.event("out");
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            for element in self.elements(event)? {
                emit_as(cx, event, "out", element)?;
            }
        }
        Ok(())
    }
}
