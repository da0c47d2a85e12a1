//! Tests of the stacks at stops and faults.

use std::path::Path;

use crate::vfs::sim::{Failure, Fault, SimDisk, When};
use crate::vfs::{OpenMode, Vfs as _};

#[test]
fn a_stop_knows_the_line_that_it_hit() {
    let disk = SimDisk::new(0);
    disk.stop_at(2, When::After);
    assert_eq!(disk.stopped_at(), None);
    let file = disk.open(Path::new("a"), OpenMode::Create).unwrap();
    assert_eq!(disk.stopped_at(), None);
    let line = line!() + 1;
    file.write_at(b"a", 0).unwrap_err();
    file.sync().unwrap_err();
    let places = disk.stopped_at().unwrap().places();
    let place = &places[0];
    assert_eq!(
        (place.line, place.calls.as_str()),
        (line, "write_at"),
        "{place}"
    );
    assert!(
        place.file.ends_with("src/vfs/sim/tests/stacks.rs"),
        "{place}"
    );
    assert_eq!(disk.failed_at(), []);
    assert_eq!(
        disk.crash(crate::vfs::sim::Loss::Nothing).stopped_at(),
        None
    );
}

#[test]
fn a_failure_knows_the_line_that_it_hit() {
    let disk = SimDisk::new(0);
    let failure = Failure::Io;
    let lasting = true;
    disk.fail(Fault::Operation {
        at: 2,
        failure,
        lasting,
    });
    let file = disk.open(Path::new("a"), OpenMode::Create).unwrap();
    let line = line!() + 1;
    file.sync().unwrap_err();
    file.set_len(4).unwrap_err();
    let found = disk.failed_at();
    let calls = found.iter().map(|stack| stack.places()[0].clone());
    let calls: Vec<_> = calls.map(|place| (place.line, place.calls)).collect();
    assert_eq!(calls, [(line, "sync".into()), (line + 1, "set_len".into())]);
    assert_eq!(disk.stopped_at(), None);
}
