//! Owns `Router`. Imports `activation`, `builtin`, `event`, `failure`, `routine`, `value`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::runtime::activation::Activation;
use crate::runtime::builtin::filter::Test;
use crate::runtime::builtin::{declare_config, emit_as, one_by_one, path};
use crate::runtime::event::{Event, Verdict};
use crate::runtime::failure::Failure;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

/// The event of what no route takes.
const UNMATCHED: &str = "unmatched";

/// A routine that sends each message one of several ways: it emits it, unchanged, as the
/// event of the first route that takes it, and as `unmatched` where none does.
///
/// It takes `in`, one message at a time. It looks at the message only; where the job
/// decides, use [`Flow::connect_when`](crate::Flow::connect_when).
///
/// ```
/// use evenkeel::{Flow, Router, Value};
/// let router = Router::new()
///     .when_equal("gold", "customer.tier", "gold")
///     .when("large", |event| event.get("bytes").and_then(Value::as_u64) > Some(1_000));
/// let mut flow = Flow::new("orders");
/// flow.add_routine("route", router)?;
/// flow.add_fn("express", |_cx| Ok(()))?;
/// flow.connect("route.gold", "express.in")?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// In a document it is the kind `router`. All fields of a `when` must be equal, with their
/// types, and a route without `when` takes whatever comes to it:
///
/// ```yaml
/// class: router
/// config:
///   routes:
///   - { event: gold, when: { customer.tier: gold } }
///   - { event: rest }
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Router {
    routes: Vec<Route>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Route {
    event: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    when: BTreeMap<String, Value>,
    #[serde(skip)]
    test: Option<Arc<Test>>,
}

impl Router {
    /// A router without routes: all is `unmatched`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route, behind those that it has: what `test` holds for is emitted as
    /// `event`. It answers `bool`, or a `Result` of one, whose error fails the activation.
    #[must_use]
    pub fn when<V: Verdict>(
        self,
        event: impl Into<String>,
        test: impl Fn(&Event) -> V + Send + Sync + 'static,
    ) -> Self {
        self.route(Route {
            event: event.into(),
            when: BTreeMap::new(),
            test: Some(Arc::new(move |event| test(event).verdict())),
        })
    }

    /// Adds a route, behind those that it has, for data with this value at `path`: names
    /// of fields and numbers of list elements, with dots between them.
    #[must_use]
    pub fn when_equal(
        self,
        event: impl Into<String>,
        path: impl Into<String>,
        value: impl Into<Value>,
    ) -> Self {
        self.route(Route {
            event: event.into(),
            when: BTreeMap::from([(path.into(), value.into())]),
            test: None,
        })
    }

    fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// The event that a message goes on as.
    fn choose(&self, event: &Event) -> Result<&str, Failure> {
        for route in &self.routes {
            if route.takes(event)? {
                return Ok(&route.event);
            }
        }
        Ok(UNMATCHED)
    }
}

impl Route {
    fn takes(&self, event: &Event) -> Result<bool, Failure> {
        let mut equalities = self.when.iter();
        let equal = equalities.all(|(path, value)| path::at(event.data(), path) == Some(value));
        match &self.test {
            Some(test) if equal => test(event),
            _ => Ok(equal),
        }
    }
}

impl Routine for Router {
    fn declare(&self, settings: &mut RoutineSettings) {
        one_by_one(settings);
        declare_config(settings, self);
        for route in &self.routes {
            settings.event(&route.event);
        }
        settings.event(UNMATCHED);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for event in cx.data("in") {
            emit_as(cx, event, self.choose(event)?, event.data())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("event", &self.event)
            .field("when", &self.when)
            .field("has_test", &self.test.is_some())
            .finish()
    }
}
