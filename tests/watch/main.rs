//! Watches: what is delivered, to whom, in which order, how a watch ends, and cursors,
//! with crashes at every call and a consumer that is killed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "it is a test, helpers and all"
)]

mod crash;
mod cursors;
mod delivery;
mod ends;
mod figures;
mod idle;
#[cfg(unix)]
mod killed;
mod limits;
mod threads;

use std::sync::Arc;

use evenkeel::testing::SimDisk;
use evenkeel::{Builder, ChangeSet, ManualClock, Store, Watch};

/// A store on a simulated disk, without threads of its own, and small.
fn on(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .clock(Arc::new(ManualClock::new(1)))
        .segment_bytes(8 * 1024, 8 * 1024)
        .block_bytes(1024)
}

/// One with a folder, and one without.
fn stores() -> [Store; 2] {
    [on(&SimDisk::new(1)).open("s").unwrap(), Store::in_memory()]
}

/// All that there is now.
fn drain(watch: &mut Watch) -> Vec<ChangeSet> {
    std::iter::from_fn(|| watch.try_next().unwrap()).collect()
}

/// `kind scope key` of each change, by commit.
fn told(sets: &[ChangeSet]) -> Vec<Vec<String>> {
    let change = |change: &evenkeel::Change| {
        format!("{:?} {} {}", change.kind(), change.scope(), change.key())
    };
    sets.iter()
        .map(|set| set.changes().iter().map(change).collect())
        .collect()
}
