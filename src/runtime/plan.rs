//! Owns a flow that was registered, in the form that runs: names are looked up once.
//! Imports `event`, `flow`, `handler`, `options`, `routine`.

use std::sync::Arc;
use std::time::Duration;

use crate::runtime::event::Origin;
use crate::runtime::flow::{Connection, Flow};
use crate::runtime::handler::ErrorHandler;
use crate::runtime::options::SlotOptions;
use crate::runtime::routine::{Logic, RoutineSettings};

/// A flow that runs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) flow: Arc<str>,
    pub(crate) routines: Vec<PlanRoutine>,
}

/// A routine of a flow that runs.
pub(crate) struct PlanRoutine {
    pub(crate) id: Arc<str>,
    pub(crate) logic: Logic,
    pub(crate) settings: RoutineSettings,
    pub(crate) slots: Vec<(Arc<str>, SlotOptions)>,
    pub(crate) outs: Vec<Out>,
    pub(crate) handler: ErrorHandler,
    pub(crate) timeout: Option<Duration>,
}

/// Where an event goes to.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) connection: Connection,
    /// Of what goes this way.
    pub(crate) origin: Arc<Origin>,
    /// The number of the routine that receives.
    pub(crate) target: usize,
    /// The number of its slot.
    pub(crate) slot: usize,
    /// Whether both routines lie in a cycle.
    pub(crate) in_cycle: bool,
}

impl std::fmt::Debug for PlanRoutine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanRoutine")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// A flow that was checked.
    pub(crate) fn of(flow: &Flow) -> Self {
        let cycles = flow.find_cycles();
        let slots_of = |node: usize| -> Vec<(Arc<str>, SlotOptions)> {
            let slots = flow.nodes[node].settings.slots().into_iter();
            slots
                .map(|(name, options)| (name.into(), options))
                .collect()
        };
        let routines = (0..flow.nodes.len()).map(|at| {
            let node = &flow.nodes[at];
            let outs = flow.connections.iter().filter_map(|connection| {
                let target = flow.node(connection.target())?;
                let mut slots = slots_of(target).into_iter();
                let slot = slots.position(|(name, _)| *name == *connection.slot())?;
                (connection.source() == node.id).then(|| Out {
                    origin: Arc::new(Origin {
                        routine: Arc::clone(&connection.source),
                        event: Arc::clone(&connection.event),
                    }),
                    connection: connection.clone(),
                    target,
                    slot,
                    in_cycle: cycles.holds(at, target),
                })
            });
            PlanRoutine {
                id: node.id.as_str().into(),
                logic: node.logic.clone(),
                settings: node.settings.clone(),
                slots: slots_of(at),
                outs: outs.collect(),
                handler: node
                    .settings
                    .handler
                    .clone()
                    .unwrap_or_else(|| flow.handler.clone()),
                timeout: node.settings.timeout.or(flow.timeout),
            }
        });
        Self {
            flow: flow.name.as_str().into(),
            routines: routines.collect(),
        }
    }

    /// The number of a routine.
    pub(crate) fn routine(&self, id: &str) -> Option<usize> {
        self.routines.iter().position(|routine| *routine.id == *id)
    }
}

impl PlanRoutine {
    /// The number of a slot.
    pub(crate) fn slot(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|(known, _)| **known == *name)
    }
}
