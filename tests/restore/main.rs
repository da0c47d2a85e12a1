//! Restoring: every point of a history, what a restored store keeps, bad input, damage,
//! and crashes at every call.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test, helpers and all"
)]

mod bad_input;
mod crashes;
mod damage;
mod full_disk;
mod kept;
mod migrations;
mod parts;
mod points;
