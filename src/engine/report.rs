//! Owns what opening and verifying tell: plain data, nothing else.

use std::path::PathBuf;

use crate::error::Corruption;
use crate::ids::{Epoch, Lsn};
use crate::wal::{LogLoss, TailCut};

/// What opening a store found and did, and what was healed since.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// The number of this opening; zero for a store without a folder.
    pub epoch: Epoch,
    /// The last commit that was recovered.
    pub last_lsn: Lsn,
    /// The highest LSN that a durable mark vouched for.
    pub durable_mark: Lsn,
    /// The LSN of the image that opening started from.
    pub image_lsn: Lsn,
    /// The LSN of the newest snapshot.
    pub snapshot_lsn: Lsn,
    /// Whether the store had been closed, not killed.
    pub closed_cleanly: bool,
    /// Commits that were read back from the log.
    pub replayed_commits: u64,
    /// The torn tail that was cut off, if there was one.
    pub cut: Option<TailCut>,
    /// What was damaged and is whole again.
    pub healed: Vec<Healed>,
    /// What salvage gave up; empty unless it was asked for.
    pub lost: Vec<LogLoss>,
}

/// Damage that was put right without any loss.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healed {
    /// The file or folder.
    pub path: PathBuf,
    /// What was found.
    pub what: String,
    /// What was done about it.
    pub action: String,
}

impl Recovery {
    /// True where nothing was cut off, healed or lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.cut.is_none() && self.healed.is_empty() && self.lost.is_empty()
    }
}

/// What reading through everything found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Blocks of the image that were read.
    pub blocks: u64,
    /// Entries of the image that were read.
    pub entries: u64,
    /// Bytes of snapshots that were read.
    pub snapshot_bytes: u64,
    /// Commits of the log that were read.
    pub commits: u64,
    /// The damage that was found, in the order it was found.
    pub damage: Vec<Corruption>,
    /// What of it was put right at once.
    pub healed: Vec<Healed>,
}

impl Verification {
    /// True where no damage was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty()
    }
}
