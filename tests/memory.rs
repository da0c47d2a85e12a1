//! What a waiting job takes in memory: counted by the allocator, so that no machine and no
//! other process has a say.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;

use cap::Cap;
use evenkeel::{Durability, FileBackend, Flow, Runtime, SlotOptions, Store};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What each job that waits may take, in bytes that were asked for: 242, and what the image has
/// in memory of its records. `docs/running.md` says what it is with an allocator's share.
const BYTES_MAX: usize = 260;

fn start(folder: &Path) -> Runtime {
    // sled has a cache of its own, which is not full after so few.
    let store = Store::builder().image(Arc::new(FileBackend::default()));
    let store = store.durability(Durability::Memory);
    let store = store.open(folder.join("store")).unwrap();
    let runtime = Runtime::builder(store).start().unwrap();
    let mut flow = Flow::new("f");
    let logic = flow.add_fn("a", |_| Ok(())).unwrap();
    logic.slot_with("in", SlotOptions::new().capacity(1_000_000));
    runtime.register(flow).unwrap();
    runtime
}

/// What is allocated once a store with so many waiting jobs is open.
fn allocated(jobs: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let runtime = start(folder.path());
    let worker = runtime.exec("f").unwrap();
    runtime.pause_worker(worker.worker_id()).unwrap();
    for number in 0..jobs {
        runtime.post("f", "a", "in", number).unwrap();
    }
    // All that waits goes to the image, and nothing to the memtable of the next opening.
    runtime.store().checkpoint().unwrap();
    runtime.store().close().unwrap();
    drop((worker, runtime));
    let before = ALLOCATOR.allocated();
    let runtime = start(folder.path());
    let after = ALLOCATOR.allocated();
    let slots = runtime.worker_details("f").unwrap().slots;
    assert_eq!(slots[0].waiting, jobs);
    after - before
}

#[test]
fn a_job_that_waits_takes_no_more_than_is_said() {
    // Of the first store some of what all share is made.
    allocated(1);
    let (few, many) = (10_000, 40_000);
    let (least, most) = (allocated(few), allocated(many));
    let each = (most - least) / (many - few);
    assert!(each <= BYTES_MAX, "{each} bytes for each job that waits");
}
