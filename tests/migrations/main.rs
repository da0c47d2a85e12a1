//! Migrations: chains, what a migration may do to scopes, failures, interruptions, by
//! command, and the way back.

mod chain;
mod command;
mod crashes;
mod failures;
mod parts;
mod resume;
mod revert;
mod scope;
