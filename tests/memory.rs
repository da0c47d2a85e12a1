//! What a job takes in memory while it waits and once it has ended: counted by the allocator, so that no machine and no
//! other process has a say.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap::Cap;
use evenkeel::{Durability, FileBackend, Flow, KeepJobs, Runtime, SlotOptions, Store};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What each job that waits may take, in bytes that were asked for: 242, and what the image has
/// in memory of its records. `docs/running.md` says what it is with an allocator's share.
const WAITING_BYTES_MAX: usize = 260;

/// The same of each that has ended and is kept: `KeepJobs::number` says about 70.
const ENDED_BYTES_MAX: usize = 75;

const LONG: Duration = Duration::from_secs(600);

fn start(folder: &Path) -> Runtime {
    // sled has a cache of its own, which is not full after so few.
    let store = Store::builder().image(Arc::new(FileBackend::default()));
    let store = store.durability(Durability::Memory);
    let store = store.open(folder.join("store")).unwrap();
    let keep = KeepJobs::new().number(1_000_000);
    let builder = Runtime::builder(store).keep_jobs(keep);
    let runtime = builder.start().unwrap();
    let mut flow = Flow::new("f");
    let logic = flow.add_fn("a", |_| Ok(())).unwrap();
    logic.slot_with("in", SlotOptions::new().capacity(1_000_000));
    runtime.register(flow).unwrap();
    runtime
}

/// What is allocated once a store is open that has so many jobs, which wait or have ended.
fn allocated(jobs: usize, end: bool) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let runtime = start(folder.path());
    let worker = runtime.exec("f").unwrap();
    runtime.pause_worker(worker.worker_id()).unwrap();
    for number in 0..jobs {
        runtime.post("f", "a", "in", number).unwrap();
    }
    if end {
        runtime.resume_worker(worker.worker_id()).unwrap();
        runtime.wait_until_all_jobs_finished(LONG).unwrap();
    }
    // All goes to the image, and nothing to the memtable of the next opening.
    runtime.store().checkpoint().unwrap();
    runtime.store().close().unwrap();
    drop((worker, runtime));
    let before = ALLOCATOR.allocated();
    let runtime = start(folder.path());
    let after = ALLOCATOR.allocated();
    let slots = runtime.worker_details("f").unwrap().slots;
    assert_eq!(slots[0].waiting, if end { 0 } else { jobs });
    after - before
}

// One test: what another one does meanwhile would be counted too.
#[test]
fn a_job_takes_no_more_than_is_said_while_it_waits_and_once_it_has_ended() {
    for (end, most) in [(false, WAITING_BYTES_MAX), (true, ENDED_BYTES_MAX)] {
        // Of the first store some of what all share is made.
        allocated(1, end);
        let (few, many) = (10_000, 40_000);
        let each = (allocated(many, end) - allocated(few, end)) / (many - few);
        assert!(each <= most, "{each} bytes for each job, ended: {end}");
    }
}
