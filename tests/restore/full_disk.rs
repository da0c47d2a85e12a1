//! A disk that refuses: full, or failing at any call. Nothing is left of what was begun,
//! the backups are as they were, and the same call works once there is room.

use evenkeel::testing::{Failure, Fault, Loss};
use evenkeel::{Error, RestorePoint};

use crate::bad_input::history;
use crate::parts::{BACKUPS, COPY, builder, files, nothing_at_copy, open_restored};

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let history = history();
    let before = files(&history.disk, "");
    let pages = |len: u64| len.div_ceil(4096);
    let used: u64 = before.values().map(|bytes| pages(bytes.len() as u64)).sum();
    let mut refused = 0;
    for more in 0.. {
        let disk = history.disk.crash(Loss::Nothing);
        disk.set_capacity(Some((used + more) * 4096));
        let builder = builder(&disk, &history.clock);
        match builder.restore(BACKUPS, COPY, RestorePoint::Latest) {
            Err(e) => assert!(e.is_disk_full(), "{e}"),
            Ok(_) => break,
        }
        refused += 1;
        assert_eq!(files(&disk, ""), before, "with {more} pages");
        disk.set_capacity(None);
        let restored = builder
            .restore(BACKUPS, COPY, RestorePoint::Latest)
            .unwrap();
        let shown = open_restored(&disk, &history.clock, &restored);
        assert_eq!(shown, history.last().shown);
    }
    assert!(refused >= 3, "{refused}");
}

#[test]
fn any_call_that_fails_is_told() {
    let history = history();
    let before = files(&history.disk, BACKUPS);
    for lasting in [false, true] {
        let mut failed = 0;
        for at in 1.. {
            let disk = history.disk.crash(Loss::Nothing);
            let failure = Failure::Io;
            disk.fail(Fault::Operation {
                at,
                failure,
                lasting,
            });
            let builder = builder(&disk, &history.clock);
            let outcome = builder.restore(BACKUPS, COPY, RestorePoint::Latest);
            if disk.failed_at().is_empty() {
                outcome.unwrap();
                break;
            }
            disk.clear_faults();
            assert_eq!(files(&disk, BACKUPS), before);
            match outcome {
                Ok(restored) => {
                    let shown = open_restored(&disk, &history.clock, &restored);
                    assert_eq!(shown, history.last().shown, "failure {at}");
                    continue;
                }
                Err(Error::Io { .. } | Error::Poisoned { .. }) => failed += 1,
                Err(e) => panic!("failure {at}: {e}"),
            }
            let whole = disk.read(format!("{COPY}/FORMAT")).is_some();
            // What could not be removed is in nobody's way.
            assert!(whole || lasting || nothing_at_copy(&disk), "failure {at}");
            if !whole {
                let restored = builder
                    .restore(BACKUPS, COPY, RestorePoint::Latest)
                    .unwrap();
                let shown = open_restored(&disk, &history.clock, &restored);
                assert_eq!(shown, history.last().shown, "after failure {at}");
            }
        }
        assert!(failed > 15, "{failed}");
    }
}

#[test]
fn a_read_that_fails_is_told() {
    let history = history();
    let before = files(&history.disk, "");
    let mut failed = 0;
    for at in 1.. {
        let disk = history.disk.crash(Loss::Nothing);
        disk.fail(Fault::Read { at, lasting: false });
        let builder = builder(&disk, &history.clock);
        match builder.restore(BACKUPS, COPY, RestorePoint::Latest) {
            Ok(_) => break,
            Err(Error::Io { .. }) => failed += 1,
            Err(e) => panic!("read {at}: {e}"),
        }
        assert_eq!(files(&disk, ""), before, "read {at}");
    }
    assert!(failed > 10, "{failed}");
}
