//! Owns what the fields of a flow document mean, and makes a flow of them. Everything
//! that is wrong is found in one pass. Imports `fields`, `registry`, `flow`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::FORMAT;
use super::fields::{At, Fields, Notes};
use super::registry::Registry;
use super::tree::{Content, Tree};
use crate::runtime::activation::Activation;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::event::{Condition, Equality, Subject};
use crate::runtime::flow::Flow;
use crate::runtime::flow::problem::FlowProblem;
use crate::runtime::handler::{ErrorHandler, ErrorStrategy};
use crate::runtime::options::{AtCapacity, SlotOptions};
use crate::runtime::policy::ActivationPolicy;
use crate::runtime::routine::{FnRoutine, Logic, RoutineSettings};
use crate::value::Value;

/// What a flow is called whose document does not say it.
pub(super) const UNNAMED: &str = "(without a name)";

/// The flow that a document describes, with what is wrong with either. Where anything is,
/// the flow lacks it, and is for nothing but its name.
pub(crate) fn flow(tree: &Tree, registry: &Registry) -> (Flow, Vec<FlowProblem>) {
    let mut reader = Reader {
        registry,
        notes: Notes::default(),
    };
    let flow = reader.flow(&At::root(tree));
    let mut problems = reader.notes.0;
    for problem in flow.validate() {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    (flow, problems)
}

struct Reader<'r> {
    registry: &'r Registry,
    notes: Notes,
}

impl Reader<'_> {
    fn flow(&mut self, at: &At<'_>) -> Flow {
        let Some(mut fields) = at.fields(&mut self.notes) else {
            return Flow::new(UNNAMED);
        };
        if let Some(at) = fields.get("format")
            && let Some(format) = at.integer::<u32>(&mut self.notes)
            && format != FORMAT
        {
            let reason = format!("format {format} is not known; this version reads {FORMAT}");
            self.notes.wrong(&at.path, at.tree.line, reason);
        }
        let name = fields.need("flow_id", &mut self.notes);
        let name = name.and_then(|at| at.text(&mut self.notes));
        let mut flow = Flow::new(name.unwrap_or(UNNAMED));
        if let Some(version) = self.integer(&mut fields, "version") {
            flow.version = version;
        }
        if let Some(handler) = self.handler(&mut fields) {
            flow.handler = handler;
        }
        if let Some(at) = fields.get("execution")
            && let Some(mut execution) = at.fields(&mut self.notes)
        {
            let timeout = execution.get("timeout");
            flow.timeout = timeout.and_then(|at| at.seconds(&mut self.notes));
            execution.finish(&mut self.notes);
        }
        if let Some(at) = fields.need("routines", &mut self.notes) {
            for (id, at) in at.entries(&mut self.notes) {
                self.routine(&mut flow, id, &at);
            }
        }
        if let Some(at) = fields.get("connections") {
            for at in at.items(&mut self.notes) {
                self.connection(&mut flow, &at);
            }
        }
        fields.finish(&mut self.notes);
        flow
    }

    fn integer<T: TryFrom<i64> + TryFrom<u64>>(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
    ) -> Option<T> {
        fields.get(name)?.integer(&mut self.notes)
    }

    fn routine(&mut self, flow: &mut Flow, id: &str, at: &At<'_>) {
        let Some(mut fields) = at.fields(&mut self.notes) else {
            return;
        };
        let kind = fields.need("class", &mut self.notes);
        let kind = kind.and_then(|at| Some((at.text(&mut self.notes)?, at.path.clone())));
        let config = fields.get("config").map(|at| {
            let entries = at.entries(&mut self.notes).into_iter();
            entries
                .map(|(key, at)| (key.to_owned(), at.tree.to_value()))
                .collect::<BTreeMap<_, _>>()
        });
        let config = config.unwrap_or_default();
        if let Some((kind, path)) = &kind {
            self.add(flow, id, kind, path.clone(), &config);
        }
        if flow.node(id).is_none() {
            // In place of what could not be made, so that all else is looked at.
            let nothing = Logic::Plain(Arc::new(FnRoutine(|_: &mut Activation| Ok(()))));
            let added = flow.add(id.to_owned(), None, nothing);
            if kind.is_none() {
                self.notes.0.extend(added.err());
            }
        }
        let mut nowhere = RoutineSettings::new();
        let settings = flow.routine_mut(id).unwrap_or(&mut nowhere);
        settings.config.extend(config);
        if let Some(at) = fields.get("slots") {
            for (name, at) in at.entries(&mut self.notes) {
                settings.slot_with(name, self.slot(&at));
            }
        }
        if let Some(at) = fields.get("events") {
            for (name, carries) in self.events(&at) {
                settings.event_with(name, carries);
            }
        }
        if let Some(at) = fields.get("activation_policy")
            && let Some(policy) = self.policy(&at)
        {
            settings.policy = policy;
        }
        if let Some(at) = fields.get("breakpoint")
            && let Some(breakpoint) = at.bool(&mut self.notes)
        {
            settings.policy.breakpoint = breakpoint;
        }
        if let Some(handler) = self.handler(&mut fields) {
            settings.handler = Some(handler);
        }
        if let Some(concurrency) = self.integer(&mut fields, "concurrency") {
            settings.concurrency = concurrency;
        }
        if let Some(priority) = self.integer(&mut fields, "priority") {
            settings.priority = priority;
        }
        if let Some(at) = fields.get("timeout") {
            settings.timeout = at.seconds(&mut self.notes);
        }
        if let Some(at) = fields.get("starts_durable")
            && let Some(durable) = at.bool(&mut self.notes)
        {
            settings.starts_durable = durable;
        }
        fields.finish(&mut self.notes);
    }

    fn add(
        &mut self,
        flow: &mut Flow,
        id: &str,
        kind: &str,
        path: String,
        config: &BTreeMap<String, Value>,
    ) {
        let problem = match self.registry.make(kind, &Value::Map(config.clone())) {
            None => FlowProblem::NotRegistered {
                path,
                what: "kind of routine",
                name: kind.to_owned(),
                known: self.registry.kinds(),
            },
            Some(Err(failure)) => FlowProblem::BadRoutine {
                routine: id.to_owned(),
                reason: format!("it could not be made of kind {kind:?}: {failure}"),
            },
            Some(Ok(logic)) => {
                match flow.add(id.to_owned(), Some(kind.to_owned()), Logic::Plain(logic)) {
                    Ok(()) => return,
                    Err(problem) => problem,
                }
            }
        };
        self.notes.0.push(problem);
    }

    fn slot(&mut self, at: &At<'_>) -> SlotOptions {
        let mut options = SlotOptions::new();
        let is_null = matches!(at.tree.content, Content::Scalar(Value::Null));
        let fields = (!is_null).then(|| at.fields(&mut self.notes)).flatten();
        let Some(mut fields) = fields else {
            return options;
        };
        if let Some(capacity) = self.integer(&mut fields, "max_queue_length") {
            options.capacity = capacity;
        }
        if let Some(at) = fields.get("watermark")
            && let Some(watermark) = at.number(&mut self.notes)
        {
            options.watermark = watermark;
        }
        if let Some(at) = fields.get("at_capacity")
            && let Some(word) = at.word(&mut self.notes, &AtCapacity::ALL, AtCapacity::as_str)
        {
            options.at_capacity = word;
        }
        if let Some(factor) = self.integer(&mut fields, "hard_limit_factor") {
            options.hard_limit_factor = factor;
        }
        fields.finish(&mut self.notes);
        options
    }

    /// A list of names, or a map from names to what they carry.
    fn events(&mut self, at: &At<'_>) -> Vec<(String, Vec<String>)> {
        if at.is_list() {
            let names = self.texts(at).into_iter();
            return names.map(|name| (name, Vec::new())).collect();
        }
        let mut events = Vec::new();
        for (name, at) in at.entries(&mut self.notes) {
            let carries = match at.tree.content {
                Content::Scalar(Value::Null) => Vec::new(),
                _ => self.texts(&at),
            };
            events.push((name.to_owned(), carries));
        }
        events
    }

    fn texts(&mut self, at: &At<'_>) -> Vec<String> {
        let mut texts = Vec::new();
        for at in at.items(&mut self.notes) {
            texts.extend(at.text(&mut self.notes).map(str::to_owned));
        }
        texts
    }

    fn policy(&mut self, at: &At<'_>) -> Option<ActivationPolicy> {
        if !at.is_map() {
            let words = ["immediate", "all_slots_ready", "breakpoint"];
            let make = match at.word(&mut self.notes, &words, |word| word)? {
                "immediate" => ActivationPolicy::immediate,
                "all_slots_ready" => ActivationPolicy::all_slots_ready,
                _ => ActivationPolicy::breakpoint,
            };
            return Some(make());
        }
        let mut fields = at.fields(&mut self.notes)?;
        let size = fields.get("batch_size");
        let wait = fields.get("max_wait");
        let interval = fields.get("time_interval");
        let custom = fields.get("custom");
        fields.finish(&mut self.notes);
        match (size, interval, custom) {
            (Some(size), None, None) => {
                let policy = ActivationPolicy::batch_size(size.integer(&mut self.notes)?);
                let wait = wait.and_then(|at| at.seconds(&mut self.notes));
                Some(wait.into_iter().fold(policy, ActivationPolicy::max_wait))
            }
            (None, Some(interval), None) if wait.is_none() => {
                let interval = interval.seconds(&mut self.notes)?;
                Some(ActivationPolicy::time_interval(interval))
            }
            (None, None, Some(custom)) if wait.is_none() => {
                let name = custom.text(&mut self.notes)?;
                let found = self.registry.check_named(name).cloned();
                if found.is_none() {
                    let known = self.registry.checks();
                    self.not_registered(&custom, "check", name, known);
                }
                found
            }
            _ => {
                let reason = "this is one of: `immediate`, `all_slots_ready`, `breakpoint`, or a map with `batch_size` (and `max_wait`), `time_interval`, or `custom`";
                self.notes.wrong(&at.path, at.tree.line, reason);
                None
            }
        }
    }

    fn handler(&mut self, fields: &mut Fields<'_>) -> Option<ErrorHandler> {
        let at = fields.get("error_handler")?;
        let mut handler = ErrorHandler::stop();
        let all = &ErrorStrategy::ALL;
        if !at.is_map() {
            handler.strategy = at.word(&mut self.notes, all, ErrorStrategy::as_str)?;
            return Some(handler);
        }
        let mut fields = at.fields(&mut self.notes)?;
        if let Some(at) = fields.need("strategy", &mut self.notes)
            && let Some(word) = at.word(&mut self.notes, all, ErrorStrategy::as_str)
        {
            handler.strategy = word;
        }
        if let Some(retries) = self.integer(&mut fields, "max_retries") {
            handler.max_retries = retries;
        }
        let seconds = [
            ("retry_delay", &mut handler.delay),
            ("retry_delay_max", &mut handler.delay_max),
        ];
        for (name, delay) in seconds {
            let read = fields.get(name);
            if let Some(read) = read.and_then(|at| at.seconds(&mut self.notes)) {
                *delay = read;
            }
        }
        let numbers = [
            ("retry_backoff", &mut handler.backoff),
            ("jitter", &mut handler.jitter),
        ];
        for (name, number) in numbers {
            let read = fields.get(name);
            if let Some(read) = read.and_then(|at| at.number(&mut self.notes)) {
                *number = read;
            }
        }
        if let Some(at) = fields.get("retryable_kinds") {
            handler.retryable = self.texts(&at);
        }
        if let Some(at) = fields.get("is_critical")
            && let Some(critical) = at.bool(&mut self.notes)
        {
            handler.critical = critical;
        }
        fields.finish(&mut self.notes);
        Some(handler)
    }

    fn connection(&mut self, flow: &mut Flow, at: &At<'_>) {
        let Some(mut fields) = at.fields(&mut self.notes) else {
            return;
        };
        let from = fields.need("from", &mut self.notes);
        let from = from.and_then(|at| self.endpoint(&at));
        let to = fields.need("to", &mut self.notes);
        let to = to.and_then(|at| self.endpoint(&at));
        let condition = fields.get("when").map(|at| self.condition(&at));
        fields.finish(&mut self.notes);
        // What is wrong with a condition was noted; the connection is checked without it.
        let condition = condition.flatten();
        if let (Some(from), Some(to)) = (from, to) {
            let added = flow.add_connection(&from, &to, condition);
            self.notes.0.extend(added.err());
        }
    }

    /// Text, or a list of routine and name.
    fn endpoint(&mut self, at: &At<'_>) -> Option<Endpoint> {
        if !at.is_list() {
            return at.text(&mut self.notes).map(Endpoint::from);
        }
        match &self.texts(at)[..] {
            [routine, name] => Some((routine.as_str(), name.as_str()).into()),
            _ => {
                let reason = "a list as an endpoint has two items: routine and name";
                self.notes.wrong(&at.path, at.tree.line, reason);
                None
            }
        }
    }

    /// The name of a condition, or a map of what is to be equal.
    fn condition(&mut self, at: &At<'_>) -> Option<Condition> {
        if !at.is_map() {
            let name = at.text(&mut self.notes)?;
            let found = self.registry.condition_named(name).cloned();
            if found.is_none() {
                let known = self.registry.conditions();
                self.not_registered(at, "condition", name, known);
            }
            return found;
        }
        let mut all = Vec::new();
        let entries = at.entries(&mut self.notes);
        if entries.is_empty() {
            let reason = "a condition without a comparison; leave it out";
            self.notes.wrong(&at.path, at.tree.line, reason);
        }
        for (key, at) in entries {
            match Subject::parse(key) {
                Some(subject) => all.push(Equality {
                    subject,
                    value: at.tree.to_value(),
                }),
                None => {
                    let reason = "what is compared is `job.<name>` or `event.<field>`";
                    self.notes.wrong(&at.path, at.tree.line, reason);
                }
            }
        }
        Some(Condition::Equal(all))
    }

    fn not_registered(&mut self, at: &At<'_>, what: &'static str, name: &str, known: Vec<String>) {
        self.notes.0.push(FlowProblem::NotRegistered {
            path: at.path.clone(),
            what,
            name: name.to_owned(),
            known,
        });
    }
}
