//! Owns what the driver asks of that which it crashes: to run, to be opened again,
//! and to judge what was recovered.

use crate::error::Result;
use crate::state::{Stats, Store};
use crate::testing::SimDisk;

/// Where the store is on each disk: two folders deep, so that making both is tested.
pub(super) const PLACE: &str = "data/store";

/// What a crash leaves for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Survives {
    /// A kill: all that the kernel was handed.
    Written,
    /// A power cut: all that was acknowledged.
    Acknowledged,
}

/// What stores did, summed over all openings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) checkpoints: u64,
    pub(super) snapshots: u64,
    pub(super) rebuilds: u64,
}

impl Done {
    pub(super) fn add(&mut self, stats: &Stats) {
        self.checkpoints += stats.checkpoints;
        self.snapshots += stats.snapshots;
        self.rebuilds += stats.image_rebuilds;
    }
}

/// What a recovery was like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recovered {
    /// The operations and reads that it took.
    pub(super) operations: u64,
    pub(super) reads: u64,
    /// Something that is the same for the same recovered state, where the state was
    /// recovered at once.
    pub(super) state: Option<u64>,
    /// How many stores were opened.
    pub(super) openings: u64,
    pub(super) done: Done,
}

/// What is crashed.
pub(super) trait Subject {
    /// A run as far as it came: what it was promised, and what it has open.
    type Run;

    fn name(&self) -> &str;

    /// False if two runs may make different calls.
    fn repeats(&self) -> bool;

    /// Runs over an empty disk, to the end or to the first error, which is then
    /// given. A `tolerant` run may go on behind an error.
    ///
    /// # Errors
    /// What is wrong, where a promise was broken on the way.
    fn run(&self, disk: &SimDisk, tolerant: bool) -> Result<(Self::Run, Option<String>), String>;

    /// What the stores of a run did.
    fn done(&self, run: &Self::Run) -> Done;

    /// Lets go of what a run has open, as the end of its process does.
    fn end(&self, run: &mut Self::Run);

    /// The disk of a run works again: goes on as far as it can, and ends.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn after_fault(&self, run: &mut Self::Run) -> Result<(), String>;

    /// Opens the store on a disk.
    ///
    /// # Errors
    /// Those of opening.
    fn open(&self, disk: &SimDisk) -> Result<Store>;

    /// Recovers a copy of `image` and judges it. `dice` decide what else is tried.
    ///
    /// # Errors
    /// What is wrong.
    fn judge(
        &self,
        image: &SimDisk,
        run: &Self::Run,
        survives: Survives,
        dice: u64,
    ) -> Result<Recovered, String>;
}
