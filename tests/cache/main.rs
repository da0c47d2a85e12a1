//! Bounded caches: what is evicted and what stays, expiry, restarts, computing once, and
//! the bound under threads and crashes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is how a test fails, and says which seed it ran"
)]

mod bad_input;
mod compute;
mod crashes;
mod parts;
mod restart;
mod rules;
mod threads;
mod walls;
