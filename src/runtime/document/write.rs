//! Owns the document of a flow: what a program says of it, without its code. Settings that
//! are the default are left out, so that a setting that is new in a later version of this
//! crate changes no description. Imports `flow`, `tree`.

use std::time::Duration;

use super::tree::Tree;
use crate::runtime::event::Condition;
use crate::runtime::flow::{Connection, Flow};
use crate::runtime::handler::{ErrorHandler, ErrorStrategy};
use crate::runtime::options::SlotOptions;
use crate::runtime::policy::{ActivationPolicy, Rule};
use crate::runtime::routine::{Node, RoutineSettings};
use crate::value::Value;

/// What stands in a description for a closure without a name. No document has it.
const CLOSURE: &str = "(closure)";

/// The description of a flow, and why it is none that can be read again, for each reason.
pub(crate) fn describe(flow: &Flow) -> (Tree, Vec<String>) {
    let mut writer = Writer {
        lacking: Vec::new(),
    };
    let tree = writer.flow(flow);
    (tree, writer.lacking)
}

struct Writer {
    lacking: Vec<String>,
}

/// A map that is filled field by field.
#[derive(Default)]
struct Map(Vec<(String, Tree)>);

impl Map {
    fn put(&mut self, name: &str, tree: Tree) {
        self.0.push((name.to_owned(), tree));
    }

    fn put_value<T: Into<Value> + PartialEq>(&mut self, name: &str, value: T, default: T) {
        if value != default {
            self.put(name, Tree::scalar(value));
        }
    }

    fn put_seconds(&mut self, name: &str, value: Duration, default: Duration) {
        if value != default {
            self.put(name, seconds(value));
        }
    }

    fn tree(self) -> Tree {
        Tree::map(self.0)
    }
}

fn seconds(time: Duration) -> Tree {
    match time.subsec_nanos() {
        0 => Tree::scalar(time.as_secs()),
        _ => Tree::scalar(time.as_secs_f64()),
    }
}

fn texts<'s>(texts: impl IntoIterator<Item = &'s String>) -> Tree {
    Tree::list(texts.into_iter().map(|text| Tree::scalar(text.as_str())))
}

impl Writer {
    fn flow(&mut self, flow: &Flow) -> Tree {
        let mut map = Map::default();
        map.put("flow_id", Tree::scalar(flow.name.as_str()));
        map.put("version", Tree::scalar(flow.version));
        if flow.handler != ErrorHandler::default() {
            map.put("error_handler", handler(&flow.handler));
        }
        if let Some(timeout) = flow.timeout {
            let timeout = ("timeout".to_owned(), seconds(timeout));
            map.put("execution", Tree::map([timeout]));
        }
        let routine = |node: &Node| (node.id.clone(), self.routine(node));
        let routines: Vec<_> = flow.nodes.iter().map(routine).collect();
        map.put("routines", Tree::map(routines));
        if !flow.connections.is_empty() {
            let connections = flow.connections.iter().map(|one| self.connection(one));
            map.put("connections", Tree::list(connections));
        }
        map.tree()
    }

    fn routine(&mut self, node: &Node) -> Tree {
        let mut map = Map::default();
        match &node.kind {
            Some(kind) => map.put("class", Tree::scalar(kind.as_str())),
            None => self.lacking.push(format!(
                "routine {:?} was made by the program, not of a kind of a registry",
                node.id
            )),
        }
        let settings = &node.settings;
        if !settings.config.is_empty() {
            let entries = settings.config.iter();
            let entries = entries.map(|(key, value)| (key.clone(), Tree::from_value(value)));
            map.put("config", Tree::map(entries));
        }
        if !settings.slots.is_empty() {
            let slots = settings.slots.iter();
            map.put(
                "slots",
                Tree::map(slots.map(|(name, o)| (name.clone(), slot(o)))),
            );
        }
        if !settings.events.is_empty() {
            let events = settings.events.iter();
            map.put(
                "events",
                Tree::map(events.map(|(name, c)| (name.clone(), texts(c)))),
            );
        }
        self.settings(settings, &node.id, &mut map);
        map.tree()
    }

    fn settings(&mut self, settings: &RoutineSettings, id: &str, map: &mut Map) {
        if let Some(policy) = self.policy(&settings.policy, id) {
            map.put("activation_policy", policy);
        }
        map.put_value("breakpoint", settings.policy.breakpoint, false);
        if let Some(own) = &settings.handler {
            map.put("error_handler", handler(own));
        }
        map.put_value("concurrency", settings.concurrency, 1);
        map.put_value("priority", settings.priority, 0);
        if let Some(timeout) = settings.timeout {
            map.put("timeout", seconds(timeout));
        }
        map.put_value("starts_durable", settings.starts_durable, false);
    }

    /// The policy without its breakpoint; none where it is the default.
    fn policy(&mut self, policy: &ActivationPolicy, id: &str) -> Option<Tree> {
        let mut map = Map::default();
        match &policy.rule {
            Rule::Immediate => return None,
            Rule::AllSlotsReady => return Some(Tree::scalar("all_slots_ready")),
            Rule::BatchSize { size, max_wait } => {
                map.put("batch_size", Tree::scalar(*size));
                if let Some(wait) = max_wait {
                    map.put("max_wait", seconds(*wait));
                }
            }
            Rule::TimeInterval(interval) => map.put("time_interval", seconds(*interval)),
            Rule::Custom { name, .. } => {
                if name.is_none() {
                    let what = format!("the check of routine {id:?} is not registered");
                    self.lacking.push(what);
                }
                map.put("custom", Tree::scalar(name.as_deref().unwrap_or(CLOSURE)));
            }
        }
        Some(map.tree())
    }

    fn connection(&mut self, connection: &Connection) -> Tree {
        let mut map = Map::default();
        map.put("from", endpoint(connection.source(), connection.event()));
        map.put("to", endpoint(connection.target(), connection.slot()));
        match &connection.condition {
            None => {}
            Some(Condition::Closure { name, .. }) => {
                if name.is_none() {
                    self.lacking.push(format!(
                        "the condition from {:?} to {:?} is not registered",
                        connection.source(),
                        connection.target()
                    ));
                }
                map.put("when", Tree::scalar(name.as_deref().unwrap_or(CLOSURE)));
            }
            Some(Condition::Equal(all)) => {
                let all = all.iter();
                let all = all.map(|one| (one.subject.text(), Tree::from_value(&one.value)));
                map.put("when", Tree::map(all));
            }
        }
        map.tree()
    }
}

/// Text where it can be read in one way only, whatever routines there are.
fn endpoint(routine: &str, name: &str) -> Tree {
    match routine.contains('.') || name.contains('.') {
        false => Tree::scalar(format!("{routine}.{name}")),
        true => Tree::list([Tree::scalar(routine), Tree::scalar(name)]),
    }
}

fn slot(options: &SlotOptions) -> Tree {
    let default = SlotOptions::new();
    let mut map = Map::default();
    map.put_value("max_queue_length", options.capacity, default.capacity);
    map.put_value("watermark", options.watermark, default.watermark);
    let at = (options.at_capacity.as_str(), default.at_capacity.as_str());
    map.put_value("at_capacity", at.0, at.1);
    let factors = (options.hard_limit_factor, default.hard_limit_factor);
    map.put_value("hard_limit_factor", factors.0, factors.1);
    map.tree()
}

fn handler(handler: &ErrorHandler) -> Tree {
    let default = ErrorHandler::stop();
    let mut map = Map::default();
    map.put("strategy", Tree::scalar(handler.strategy.as_str()));
    let is_retry = handler.strategy == ErrorStrategy::Retry;
    // The number of retries is what a retry is about.
    let retries = (!is_retry).then_some(default.max_retries);
    if retries != Some(handler.max_retries) {
        map.put("max_retries", Tree::scalar(handler.max_retries));
    }
    map.put_seconds("retry_delay", handler.delay, default.delay);
    map.put_value("retry_backoff", handler.backoff, default.backoff);
    map.put_seconds("retry_delay_max", handler.delay_max, default.delay_max);
    map.put_value("jitter", handler.jitter, default.jitter);
    if !handler.retryable.is_empty() {
        map.put("retryable_kinds", texts(&handler.retryable));
    }
    map.put_value("is_critical", handler.critical, false);
    map.tree()
}

/// Whether a tree has what JSON or YAML has no form for.
pub(crate) fn unwritable(tree: &Tree, json: bool) -> Option<&'static str> {
    use super::tree::Content;
    match &tree.content {
        Content::Scalar(Value::Bytes(_)) => Some("bytes, which have no form in a document"),
        Content::Scalar(Value::Float(float)) if json && !float.is_finite() => {
            Some("a float that is not finite, which has no form in JSON")
        }
        Content::Scalar(_) => None,
        Content::List(items) => items.iter().find_map(|item| unwritable(item, json)),
        Content::Map(entries) => entries
            .iter()
            .find_map(|entry| unwritable(&entry.value, json)),
    }
}
