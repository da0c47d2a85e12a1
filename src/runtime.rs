//! Owns the runtime: flows of routines whose work survives.
//!
//! Here are the parts that neither store nor threads know: what a flow is and what may be
//! wrong with it, its documents, the queue of a slot, when a routine is activated, what
//! follows from a failure, and which status may follow which. They decide; whoever calls
//! them acts.

mod activation;
mod capture;
mod current;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod document;
mod endpoint;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod event;
mod failure;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod flow;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod handler;
mod job;
mod job_context;
mod history;
mod hooks;
mod options;
mod output;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod policy;
mod plan;
mod record;
mod routine;
mod run;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod slot;
#[cfg_attr(not(test), expect(dead_code, reason = "the core that acts comes next"))]
mod status;
mod telemetry;
mod worker;
mod worker_state;

pub use activation::Activation;
pub use capture::job_print_line;
#[cfg(feature = "tracing")]
pub use capture::layer::JobOutputLayer;
pub use current::current_job;
pub use document::registry::Registry;
pub use endpoint::Endpoint;
pub use event::{Event, JobView, Verdict};
pub use failure::Failure;
pub use flow::problem::{FlowProblem, FlowProblems};
pub use flow::{Connection, Flow};
pub use handler::{ErrorHandler, ErrorStrategy};
pub use history::ExecutionOutcome;
pub use hooks::{
    BeforeEnqueue, EventEmitted, Hooks, JobEnded, JobIds, JobStarted, Refusal, RoutineEnded,
    RoutineStarts, WorkerStarted, WorkerStopped,
};
pub use options::{AtCapacity, Pressure, SlotOptions};
pub use policy::{ActivationPolicy, Decision, IntoDecision, SlotsView};
pub use routine::{Routine, RoutineSettings};
pub use status::{JobStatus, RoutineStatus, WorkerStatus};
pub use telemetry::RuntimeStats;
