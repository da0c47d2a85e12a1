//! Backups: what is copied, what a damaged or a crashed one comes to, and what is kept.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "this is how a test fails"
)]

mod crashes;
mod damage;
mod fixture;
mod history;
mod incremental;
mod parts;
mod reading;
mod retention;
mod taking;
