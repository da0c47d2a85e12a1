//! Power cuts, kills and failing calls at each call that a backup or a retention makes:
//! what was made before is whole, what was not finished is not there, the store goes on,
//! and the next backup works.

use std::collections::BTreeSet;

use evenkeel::testing::{Failure, Fault, Loss, Operation, OperationKind, When};
use evenkeel::{BackupOptions, Error, Result, Retention};

use crate::parts::{DEST, Rig, content};

const LOSSES: [Loss; 3] = [Loss::Nothing, Loss::Everything, Loss::Random(5)];

/// What is done to a folder of backups, beside the numbers that it may remove.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    prepare: fn(&mut Rig),
    run: fn(&mut Rig) -> Result<()>,
    removes: &'static [u64],
}

fn backups(rig: &mut Rig, count: usize) {
    for _ in 0..count {
        rig.commits(2).unwrap();
        rig.backup().unwrap();
    }
}

fn with_state(rig: &mut Rig) {
    rig.commits(20).unwrap();
    rig.store().snapshot().unwrap();
    rig.commits(2).unwrap();
}

const WORKS: [Work; 6] = [
    Work {
        name: "the first one",
        prepare: |rig| rig.commits(4).unwrap(),
        run: |rig| rig.backup().map(drop),
        removes: &[],
    },
    Work {
        name: "the first one, of a state",
        prepare: with_state,
        run: |rig| rig.backup().map(drop),
        removes: &[],
    },
    Work {
        name: "of the image",
        prepare: |rig| {
            with_state(rig);
            let snapshot = rig.files("data/store/snapshots").remove(0);
            rig.disk.flip(snapshot, 100, 1).unwrap();
            backups(rig, 1);
        },
        run: |rig| rig.backup_with(BackupOptions::new().full()).map(drop),
        removes: &[],
    },
    Work {
        name: "one that goes on",
        prepare: |rig| {
            with_state(rig);
            backups(rig, 2);
            rig.commits(2).unwrap();
        },
        run: |rig| rig.backup().map(drop),
        removes: &[],
    },
    Work {
        name: "a full one that keeps two",
        prepare: |rig| {
            with_state(rig);
            backups(rig, 3);
        },
        run: |rig| {
            rig.backup_with(BackupOptions::new().full().keep(2))
                .map(drop)
        },
        removes: &[1, 2],
    },
    Work {
        name: "a retention and a removal",
        prepare: |rig| {
            with_state(rig);
            backups(rig, 2);
            rig.backup_with(BackupOptions::new().full()).unwrap();
            backups(rig, 2);
        },
        run: |rig| {
            let backups = rig.builder().backups(DEST)?;
            backups.retain(Retention::newest(3))?;
            backups.remove(4)
        },
        removes: &[1, 2, 4],
    },
];

fn prepared(work: Work) -> Rig {
    let mut rig = Rig::with(|builder| builder.check_bytes_on_open(0));
    rig.open().unwrap();
    (work.prepare)(&mut rig);
    rig
}

/// The calls that the work makes, without reads.
fn calls(work: Work) -> Vec<Operation> {
    let mut rig = prepared(work);
    rig.disk.record(true);
    (work.run)(&mut rig).unwrap_or_else(|e| panic!("{}: {e}", work.name));
    let mut calls = rig.disk.trace();
    calls.retain(|call| !call.kind.is_read());
    assert!(calls.len() > 4, "{}", work.name);
    calls
}

/// What may be there after the work was cut short: all that it does not remove is.
fn check(rig: &mut Rig, work: Work, before: &Rig, what: &str) {
    let there: BTreeSet<u64> = match rig.builder().backups(DEST) {
        Ok(backups) => backups.numbers().unwrap().into_iter().collect(),
        Err(Error::NotABackup { .. }) if before.kept.is_empty() => BTreeSet::new(),
        Err(e) => panic!("{what}: {e}"),
    };
    let lost = before
        .kept
        .keys()
        .find(|n| !there.contains(n) && !work.removes.contains(n));
    assert_eq!(lost, None, "{what}");
    // The one that was being made holds what the store had.
    rig.open().unwrap_or_else(|e| panic!("{what}: {e}"));
    let now = content(rig.store());
    assert!(
        now == content(before.store()),
        "{what}: the store has lost something"
    );
    let mut kept = rig.kept.clone();
    kept.retain(|number, _| there.contains(number));
    for &number in &there {
        kept.entry(number).or_insert_with(|| now.clone());
    }
    rig.kept = kept;
    if !there.is_empty() {
        rig.check_contents(&what);
    }
    // And it goes on: nothing of what was left is in the way, or stays.
    rig.commits(1).unwrap();
    rig.backup()
        .unwrap_or_else(|e| panic!("{what}: the next one: {e}"));
    rig.check(&what);
}

fn crash(work: Work) -> u64 {
    let before = prepared(work);
    let mut images = 0;
    for call in calls(work) {
        for when in [When::Before, When::Midway, When::After] {
            if when == When::Midway && call.kind != OperationKind::Write {
                continue;
            }
            let mut rig = prepared(work);
            rig.disk.stop_at(call.ordinal, when);
            let run = (work.run)(&mut rig);
            assert!(rig.disk.stopped(), "{call}: {run:?}");
            for loss in LOSSES {
                let what = format!("{}: {when:?} {call}, {loss:?}", work.name);
                let mut found = rig.after(loss);
                check(&mut found, work, &before, &what);
                images += 1;
            }
        }
    }
    images
}

#[test]
fn a_crash_at_each_call_of_a_first_backup() {
    assert!(crash(WORKS[0]) > 100);
}

#[test]
fn a_crash_at_each_call_of_a_first_backup_of_a_state() {
    assert!(crash(WORKS[1]) > 100);
}

#[test]
fn a_crash_at_each_call_of_a_backup_of_the_image() {
    assert!(crash(WORKS[2]) > 80);
}

#[test]
fn a_crash_at_each_call_of_one_that_goes_on() {
    assert!(crash(WORKS[3]) > 50);
}

#[test]
fn a_crash_at_each_call_of_a_full_one_that_keeps_two() {
    assert!(crash(WORKS[4]) > 100);
}

#[test]
fn a_crash_at_each_call_of_a_retention() {
    assert!(crash(WORKS[5]) > 30);
}

/// An error, or not even that where it did not matter; the store takes no harm.
fn failed(rig: &mut Rig, work: Work, before: &Rig, run: &Result<()>, what: &str) {
    rig.disk.clear_faults();
    if let Err(e) = run {
        assert!(matches!(e, Error::Io { .. }), "{what}: {e}");
    }
    assert!(content(rig.store()) == content(before.store()), "{what}");
    rig.store()
        .global()
        .set("it goes on", true)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    rig.store().global().delete("it goes on").unwrap();
    let mut left = rig.after(Loss::Nothing);
    check(&mut left, work, before, what);
}

#[test]
fn each_call_of_the_work_fails_or_finds_no_room() {
    let mut refused = 0;
    for work in WORKS {
        let before = prepared(work);
        for call in calls(work) {
            for (failure, lasting) in [
                (Failure::Io, false),
                (Failure::NoSpace, false),
                (Failure::NoSpace, true),
            ] {
                let mut rig = prepared(work);
                rig.disk.fail(Fault::Operation {
                    at: call.ordinal,
                    failure,
                    lasting,
                });
                let run = (work.run)(&mut rig);
                let what = format!("{}: {failure:?} at {call}", work.name);
                if let Err(e) = &run {
                    refused += 1;
                    let full = failure == Failure::NoSpace;
                    assert_eq!(e.is_disk_full(), full, "{what}: {e}");
                }
                if run.is_err() && failure == Failure::NoSpace {
                    // What was begun does not take the room that others need.
                    let files = rig.files(DEST);
                    let begun = files.iter().find(|path| {
                        path.extension().is_some_and(|end| end == "tmp")
                            && path.parent().is_some_and(|above| above != DEST)
                    });
                    assert_eq!(begun, None, "{what}");
                }
                failed(&mut rig, work, &before, &run, &what);
            }
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn each_read_of_the_work_fails() {
    let mut refused = 0;
    for work in WORKS {
        let before = prepared(work);
        for at in 1.. {
            let mut rig = prepared(work);
            let reads = rig.disk.reads();
            rig.disk.fail(Fault::Read {
                at: reads + at,
                lasting: false,
            });
            let run = (work.run)(&mut rig);
            let hit = !rig.disk.failed_at().is_empty();
            let what = format!("{}: read {at} fails", work.name);
            refused += u64::from(run.is_err());
            failed(&mut rig, work, &before, &run, &what);
            if !hit {
                break;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

/// A disk that has room for some pages more than there are.
#[test]
fn a_disk_that_fills_up_while_a_backup_is_made_and_is_given_room() {
    let mut refused = 0;
    for pages in 0..24 {
        let work = WORKS[3];
        let before = prepared(work);
        let mut rig = prepared(work);
        rig.commits(1).unwrap();
        let files = rig.disk.files();
        let used: u64 = files.iter().map(|(_, len)| len.div_ceil(4096)).sum();
        let mut before = before;
        before.commits(1).unwrap();
        rig.disk.set_capacity(Some((used + pages) * 4096));
        let run = rig.backup_with(BackupOptions::new().full()).map(drop);
        if let Err(e) = &run {
            refused += 1;
            assert!(e.is_disk_full(), "{pages}: {e}");
        }
        rig.disk.set_capacity(None);
        failed(&mut rig, work, &before, &run, &format!("{pages} pages"));
    }
    assert!((2..24).contains(&refused), "{refused}");
}
