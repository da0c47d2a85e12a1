//! The engine under a scheduler that decides at each lock, atomic, wait and call of the
//! disk which thread goes on: many schedules of a few threads with a few calls each.
//! A thread that waits for ever is a deadlock that the scheduler reports; a thread that
//! runs for ever meets the bound on steps.
//!
//! `RUSTFLAGS="--cfg evenkeel_shuttle" cargo test --test schedules`; `driver` says
//! how to run more of them, and how to run one that failed again.

#![cfg(evenkeel_shuttle)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this is how a test fails, and says what it ran"
)]

mod closing;
mod driver;
mod expiry;
mod group_commit;
mod handles;
mod images;
mod memory;
mod parts;
mod poisoning;
mod pressure;
mod transactions;
