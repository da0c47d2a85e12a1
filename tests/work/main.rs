//! Flows that run, as their user meets them: what is posted is run, in the order and as
//! often as it should be, and is still there after a restart.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is how a test fails"
)]

mod awaiting;
mod basics;
mod capacity;
mod crashes;
mod effects;
mod errors;
mod found;
mod killed;
mod lifecycle;
mod order;
mod outside;
mod restart;
mod rig;
mod times;
