//! The runtime as its user meets it, over its public interface.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

#[path = "runtime/builtins.rs"]
mod builtins;
#[path = "runtime/parts.rs"]
mod parts;
#[path = "runtime/pitfalls.rs"]
mod pitfalls;
#[path = "runtime/workflows.rs"]
mod workflows;
