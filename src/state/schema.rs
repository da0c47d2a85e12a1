//! Owns the schema version of a store as a user asks for it, and the record of a
//! migration that is under way.

use std::time::{Duration, SystemTime};

use crate::ids::Lsn;

/// What a run of migrations did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationReport {
    /// The schema version before.
    pub from: u32,
    /// The schema version now.
    pub to: u32,
    /// Each migration that was run or reverted, in the order in which that was done.
    pub steps: Vec<MigrationStep>,
    /// True where an earlier run had been interrupted, and this one went on.
    pub resumed: bool,
    /// How long this run took.
    pub time: Duration,
}

/// What one migration of a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MigrationStep {
    /// The version of the migration.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// True where it was reverted.
    pub reverted: bool,
    /// The scopes that it visited.
    pub scopes: u64,
    /// The keys that it wrote.
    pub written: u64,
    /// The keys that it removed.
    pub removed: u64,
}

/// A change of the schema version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaChange {
    /// The version before.
    pub from: u32,
    /// The version from then on.
    pub to: u32,
    /// The name of the migration; empty where the store began with this version.
    pub name: String,
    /// The commit: values of this or a later version are of the new schema.
    pub lsn: Lsn,
    /// When that was, by the clock of the store.
    pub at: SystemTime,
}
