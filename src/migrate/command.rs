//! Owns migrations by command: a store that is opened to be migrated, and not to be used.

use crate::error::Result;
use crate::state::{Builder, MigrationReport};

/// A store whose migrations are run by command.
#[derive(Debug)]
pub struct Migrations {
    builder: Builder,
}

/// A migration that was not run yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PendingMigration {
    /// The version that it brings the state to.
    pub version: u32,
    /// What it is called.
    pub name: String,
    /// What it does.
    pub description: String,
}

impl Migrations {
    /// The schema version of the state.
    #[must_use]
    pub fn version(&self) -> u32 {
        let _ = &self.builder;
        0
    }

    /// The migrations that the state has not seen yet, in order.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingMigration> {
        Vec::new()
    }

    /// Runs what is pending.
    pub fn run(&self) -> Result<MigrationReport> {
        Err(crate::Error::Closed)
    }

    /// Takes the state back to an earlier version.
    pub fn revert_to(&self, version: u32) -> Result<MigrationReport> {
        let _ = version;
        Err(crate::Error::Closed)
    }

    /// Closes the store.
    pub fn close(self) -> Result<()> {
        Ok(())
    }
}
