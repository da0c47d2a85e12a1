//! Values that expire: the rules, each way of reading, what a clock may do, who frees
//! the space, and all of it at random against a model, under crashes and threads.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod crashes;
mod memory;
mod model;
mod parts;
mod removal;
mod rules;
mod threads;
mod time;
