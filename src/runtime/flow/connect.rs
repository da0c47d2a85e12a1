//! Owns how an endpoint becomes the event or the slot of a routine, and two of them a
//! connection. Imports `endpoint`, `flow`, `problem`, `routine`.

use super::problem::FlowProblem;
use super::validate::bad_name;
use super::{Connection, Flow, invalid};
use crate::error::Result;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::event::Condition;
use crate::runtime::routine::{EVENT, Node, SLOT};

/// The end of a connection that an endpoint is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Event,
    Slot,
}

impl Flow {
    pub(super) fn connected(
        &mut self,
        event: &Endpoint,
        slot: &Endpoint,
        condition: Option<Condition>,
    ) -> Result<&mut Self> {
        let added = self.add_connection(event, slot, condition);
        added.map_err(|problem| invalid(&self.name, problem))?;
        Ok(self)
    }

    pub(crate) fn add_connection(
        &mut self,
        event: &Endpoint,
        slot: &Endpoint,
        condition: Option<Condition>,
    ) -> Result<(), FlowProblem> {
        let (source, event) = self.resolve(event, End::Event)?;
        let (target, slot) = self.resolve(slot, End::Slot)?;
        let connection = Connection {
            source: self.nodes[source].id.as_str().into(),
            event: event.into(),
            target: self.nodes[target].id.as_str().into(),
            slot: slot.into(),
            condition,
        };
        let same = |known: &Connection| {
            (&known.source, &known.event, &known.target, &known.slot)
                == (
                    &connection.source,
                    &connection.event,
                    &connection.target,
                    &connection.slot,
                )
        };
        if self.connections.iter().any(same) {
            return Err(FlowProblem::DuplicateConnection {
                from: Endpoint::from((&*connection.source, &*connection.event)).to_string(),
                to: Endpoint::from((&*connection.target, &*connection.slot)).to_string(),
            });
        }
        self.nodes[target].settings.imply_slot(&connection.slot);
        self.connections.push(connection);
        Ok(())
    }

    /// The routine and the name that an endpoint means.
    pub(super) fn resolve(
        &self,
        endpoint: &Endpoint,
        end: End,
    ) -> Result<(usize, String), FlowProblem> {
        let readings = endpoint.readings();
        let Some(&(shortest, _)) = readings.first() else {
            return Err(FlowProblem::BadEndpoint {
                endpoint: endpoint.to_string(),
            });
        };
        let there = |&(routine, name): &(&str, &str)| Some((self.node(routine)?, name.to_owned()));
        let there: Vec<_> = readings.iter().filter_map(there).collect();
        let accepts = |(node, name): &&(usize, String)| self.nodes[*node].accepts(end, name);
        let mut accepted = there.iter().filter(accepts);
        match (accepted.next(), accepted.next(), there.last()) {
            (Some((node, name)), None, _) => match bad_name(end.as_str(), name) {
                None => Ok((*node, name.clone())),
                Some(problem) => Err(problem),
            },
            (Some(_), Some(_), _) => {
                let accepted = there.iter().filter(accepts);
                let pair = |(node, name): &(usize, String)| {
                    Endpoint::from((self.nodes[*node].id.as_str(), name.as_str())).to_string()
                };
                Err(FlowProblem::AmbiguousEndpoint {
                    endpoint: endpoint.to_string(),
                    readings: accepted.map(pair).collect(),
                })
            }
            (None, _, Some((node, name))) => Err(self.nodes[*node].lacks(end, name)),
            (None, _, None) => Err(self.unknown(shortest, &endpoint.to_string())),
        }
    }

    pub(super) fn unknown(&self, routine: &str, endpoint: &str) -> FlowProblem {
        FlowProblem::UnknownRoutine {
            routine: routine.to_owned(),
            endpoint: endpoint.to_owned(),
            known: self.routine_ids().map(str::to_owned).collect(),
        }
    }

    /// The only slot or event of a routine.
    pub(super) fn single(&self, routine: &str, end: End) -> Result<String, FlowProblem> {
        let index = self.node(routine);
        let node = index.map(|index| &self.nodes[index]);
        let node = node.ok_or_else(|| self.unknown(routine, "the pipe"))?;
        match (&node.declared(end)[..], end) {
            ([], End::Event) => Ok(EVENT.to_owned()),
            ([], End::Slot) => Ok(SLOT.to_owned()),
            ([single], _) => Ok(single.clone()),
            (several, _) => Err(FlowProblem::NotSingle {
                routine: routine.to_owned(),
                what: end.as_str(),
                known: several.to_vec(),
            }),
        }
    }
}

impl End {
    fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Slot => "slot",
        }
    }
}

impl Node {
    pub(super) fn accepts(&self, end: End, name: &str) -> bool {
        match end {
            End::Event => self.settings.accepts_event(name),
            End::Slot => self.settings.accepts_slot(name),
        }
    }

    fn declared(&self, end: End) -> Vec<String> {
        match end {
            End::Event => self
                .settings
                .events
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            End::Slot => self
                .settings
                .slots
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
        }
    }

    pub(super) fn lacks(&self, end: End, name: &str) -> FlowProblem {
        let (routine, known) = (self.id.clone(), self.declared(end));
        match end {
            End::Event => FlowProblem::UnknownEvent {
                routine,
                event: name.to_owned(),
                known,
            },
            End::Slot => FlowProblem::UnknownSlot {
                routine,
                slot: name.to_owned(),
                known,
            },
        }
    }
}
