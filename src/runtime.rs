//! Owns the runtime: flows of routines whose work survives.
//!
//! Some parts know neither store nor threads: what a flow is and what may be wrong with it
//! (`flow`, `document`), the queue of a slot (`slot`), when a routine is activated
//! (`policy`), what follows from a failure (`handler`), and which status may follow which
//! (`status`). They decide. `core` and what imports it act: they choose, run, commit and
//! settle activations, and find work again. What a user holds is on top: `handle`,
//! `activation`, `worker_state`, `job_context`.

mod access;
mod activation;
mod agenda;
mod ahead;
mod alarm;
#[cfg(feature = "tokio")]
mod async_activation;
mod builtin;
mod capture;
mod choose;
mod commit;
mod core;
mod crowd;
mod current;
pub(crate) mod dead;
mod document;
#[cfg(feature = "tokio")]
mod driver;
mod endpoint;
mod event;
mod execute;
mod fail;
mod failure;
mod fields;
mod flow;
mod handle;
mod handler;
mod history;
mod hooks;
pub(crate) mod idempotency;
mod inspect;
pub(crate) mod job;
mod job_context;
mod job_map;
mod job_set;
mod jobs;
mod line;
mod names;
mod once;
mod opening;
mod ops;
mod options;
mod output;
mod park;
mod peek;
mod plan;
mod policy;
mod post;
pub(crate) mod record;
pub(crate) mod retention;
mod routine;
mod run;
mod settings;
mod settle;
mod slot;
mod state_accessor;
mod status;
mod telemetry;
#[cfg(test)]
mod tests;
mod threads;
mod timer;
mod worker;
mod worker_state;
mod workers;

pub use activation::Activation;
#[cfg(feature = "tokio")]
pub use async_activation::AsyncActivation;
pub use builtin::aggregator::Aggregator;
pub use builtin::batcher::Batcher;
pub use builtin::debouncer::Debouncer;
pub use builtin::extractor::ResultExtractor;
pub use builtin::filter::Filter;
pub use builtin::mapper::Mapper;
pub use builtin::retry::Retry;
pub use builtin::router::Router;
pub use builtin::splitter::Splitter;
pub use builtin::validator::{FieldType, SchemaValidator};
pub use capture::job_print_line;
#[cfg(feature = "tracing")]
pub use capture::layer::JobOutputLayer;
pub use current::current_job;
pub use dead::{DeadLetter, KeepDeadLetters};
pub use document::registry::Registry;
pub use endpoint::Endpoint;
pub use event::{Event, JobView, Verdict};
pub use failure::Failure;
pub use flow::problem::{FlowProblem, FlowProblems};
pub use flow::{Connection, Flow};
pub use handle::{Runtime, RuntimeBuilder, Shutdown};
pub use handler::{ErrorHandler, ErrorStrategy};
pub use history::{ExecutionEntry, ExecutionOutcome};
pub use hooks::{
    BeforeEnqueue, EventEmitted, Hooks, JobEnded, JobIds, JobStarted, Refusal, RoutineEnded,
    RoutineStarts, WorkerStarted, WorkerStopped,
};
pub use inspect::{
    ParkedMessage, RetryDetails, RunDetails, SlotDetails, TimerDetails, WorkerDetails,
};
pub use job_context::{JobContext, TraceEntry};
pub use once::{Resolution, UncertainEffect};
pub use options::{AtCapacity, Pressure, SlotOptions};
pub use policy::{ActivationPolicy, Decision, IntoDecision, SlotsView};
pub use post::PostOptions;
pub use record::ActivationId;
pub use retention::KeepJobs;
pub use routine::{Routine, RoutineSettings};
pub use state_accessor::RoutineStateAccessor;
pub use status::{JobStatus, RoutineStatus, WorkerStatus};
pub use telemetry::RuntimeStats;
pub use worker_state::WorkerState;
