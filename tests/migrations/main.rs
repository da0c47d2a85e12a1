//! Migrations: chains, what a migration may do to scopes, failures, interruptions, by
//! command, the way back, transforms, and rehearsals.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod chain;
mod command;
mod crashes;
mod disk;
mod example;
mod failures;
mod fixture;
mod parts;
mod random;
mod rehearsal;
mod resume;
mod revert;
mod scope;
mod transforms;
#[path = "../fixtures/unpack.rs"]
mod unpack;
