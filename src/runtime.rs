//! Owns the runtime: flows of routines whose work survives.
//!
//! Here are the parts that neither store nor threads know: what a flow is and what may be
//! wrong with it, its documents, the queue of a slot, when a routine is activated, what
//! follows from a failure, and which status may follow which. They decide; whoever calls
//! them acts.

mod activation;
mod alarm;
mod choose;
mod commit;
mod core;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod document;
mod endpoint;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod event;
mod execute;
mod fail;
mod failure;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod flow;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod handle;
mod handler;
mod job;
mod job_context;
mod jobs;
mod line;
mod once;
mod opening;
mod ops;
mod options;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod policy;
mod plan;
mod post;
mod record;
mod routine;
mod run;
mod settings;
mod settle;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod slot;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod status;
mod timer;
mod worker;
mod worker_state;
mod workers;

pub use activation::Activation;
pub use document::registry::Registry;
pub use endpoint::Endpoint;
pub use event::{Event, JobView, Verdict};
pub use failure::Failure;
pub use flow::problem::{FlowProblem, FlowProblems};
pub use flow::{Connection, Flow};
pub use handle::{Runtime, RuntimeBuilder, Shutdown};
pub use handler::{ErrorHandler, ErrorStrategy};
pub use options::{AtCapacity, Pressure, SlotOptions};
pub use job_context::JobContext;
pub use once::{Resolution, UncertainEffect};
pub use policy::{ActivationPolicy, Decision, IntoDecision, SlotsView};
pub use post::PostOptions;
pub use record::ActivationId;
pub use routine::{Routine, RoutineSettings};
pub use status::{JobStatus, RoutineStatus, WorkerStatus};
pub use worker_state::WorkerState;
