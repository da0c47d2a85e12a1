//! Owns what can be wrong with a whole flow, and with each routine by itself. Imports
//! `flow`, `problem`, `routine`.

use std::time::Duration;

use super::connect::End;
use super::problem::{FlowProblem, FlowProblems};
use super::{Connection, Flow};
use crate::error::{Error, Result};
use crate::runtime::handler::ErrorHandler;
use crate::runtime::routine::Node;

/// The most bytes of the name of a flow, a routine, a slot or an event: as much as a part
/// of a scope's name may have.
pub(crate) const NAME_BYTES_MAX: usize = 512;

impl Flow {
    /// What is wrong with it: all of it, each with its name. A flow without problems can
    /// be registered.
    #[must_use]
    pub fn validate(&self) -> Vec<FlowProblem> {
        let mut problems = Vec::new();
        problems.extend(bad_name("flow", &self.name));
        if self.nodes.is_empty() {
            problems.push(FlowProblem::NoRoutines);
        }
        problems.extend(self.handler.fault().map(|reason| FlowProblem::BadHandler {
            routine: None,
            reason,
        }));
        problems.extend(no_time(self.timeout).map(|reason| FlowProblem::BadFlow { reason }));
        problems.extend(self.nodes.iter().flat_map(Node::problems));
        // A routine may declare after it was connected.
        for connection in &self.connections {
            problems.extend(self.undeclared(connection));
        }
        problems
    }

    /// Whether it can be registered.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`], whose source is [`FlowProblems`], all of them.
    pub fn check(&self) -> Result<()> {
        match self.validate() {
            problems if problems.is_empty() => Ok(()),
            problems => Err(Error::InvalidFlow {
                flow: self.name.clone(),
                source: Box::new(FlowProblems(problems)),
            }),
        }
    }

    /// What a connection names and its routines do not have, since they declared others
    /// after they were connected.
    fn undeclared(&self, connection: &Connection) -> Vec<FlowProblem> {
        let ends = [
            (&connection.source, &connection.event, End::Event),
            (&connection.target, &connection.slot, End::Slot),
        ];
        let lacking = ends.into_iter().filter_map(|(routine, name, end)| {
            let node = &self.nodes[self.node(routine)?];
            (!node.accepts(end, name)).then(|| node.lacks(end, name))
        });
        lacking.collect()
    }
}

impl Node {
    /// What is wrong with this routine by itself.
    fn problems(&self) -> Vec<FlowProblem> {
        let (id, settings) = (&self.id, &self.settings);
        let mut problems = Vec::new();
        let events = settings
            .events
            .iter()
            .map(|(name, _)| ("event", name.as_str()));
        let slots = settings
            .slots
            .iter()
            .map(|(name, _)| ("slot", name.as_str()));
        let names = slots.chain(events);
        problems.extend(names.filter_map(|(what, name)| bad_name(what, name)));
        for (slot, options) in &settings.slots {
            problems.extend(options.fault().map(|reason| FlowProblem::BadSlot {
                routine: id.clone(),
                slot: slot.clone(),
                reason,
            }));
        }
        let slots = settings.slots();
        let capacities = slots
            .iter()
            .map(|(name, options)| (*name, options.capacity));
        let fault = settings.policy.fault(capacities);
        problems.extend(fault.map(|reason| FlowProblem::BadPolicy {
            routine: id.clone(),
            reason,
        }));
        let fault = settings.handler.as_ref().and_then(ErrorHandler::fault);
        problems.extend(fault.map(|reason| FlowProblem::BadHandler {
            routine: Some(id.clone()),
            reason,
        }));
        let none = "its concurrency is 0; at least one activation must run";
        let none = (settings.concurrency == 0).then(|| none.to_owned());
        let reasons = none.into_iter().chain(no_time(settings.timeout));
        problems.extend(reasons.map(|reason| FlowProblem::BadRoutine {
            routine: id.clone(),
            reason,
        }));
        problems
    }
}

fn no_time(timeout: Option<Duration>) -> Option<String> {
    let none = timeout.is_some_and(|timeout| timeout.is_zero());
    none.then(|| "its timeout is 0, so no activation could ever end in time".into())
}

/// What is wrong with a name. Any character may be in it.
pub(crate) fn bad_name(what: &'static str, name: &str) -> Option<FlowProblem> {
    let reason = match name.len() {
        0 => "is empty".to_owned(),
        1..=NAME_BYTES_MAX => return None,
        bytes => format!("has {bytes} bytes, of {NAME_BYTES_MAX} at most"),
    };
    Some(FlowProblem::BadName {
        what,
        name: name.chars().take(64).collect(),
        reason,
    })
}
