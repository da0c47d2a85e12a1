//! Faults of names and their order: 12, 13, 14, 18 and 22.

use std::path::Path;

use evenkeel::testing::{Failure, Fault, Loss, Operation, OperationKind, SimDisk, When};
use evenkeel::{Error, Result};

use crate::life::{
    LOSSES, Life, PLACE, extension, frames, lose_power, newest, operations, place, segments, trace,
};
use crate::log::recycling;

fn rotating(life: &mut Life) -> Result<()> {
    life.open()?;
    life.commits(24)
}

fn is_there(disk: &SimDisk, path: &Path) -> bool {
    disk.files().iter().any(|(there, _)| there == path)
}

#[test]
fn fault_12_the_newest_segments_name_was_not_synced() {
    let calls = operations(Life::new, rotating);
    // From each segment's creation on until one behind the sync of the folder.
    let mut around = Vec::new();
    let mut left = 0;
    for call in calls {
        if call.kind == OperationKind::Create && extension(&call.path) == "log" {
            left = 6;
        }
        if left > 0 {
            left -= 1;
            around.push(call);
        }
    }
    let mut lost = 0;
    let losses = [Loss::Everything, Loss::Random(2), Loss::Random(9)];
    let images = lose_power(
        Life::new,
        rotating,
        &around,
        &losses,
        |life, image, what| {
            let names = life.disk.files();
            let gone = |path: &Path| extension(path) == "log" && !is_there(image, path);
            lost += usize::from(names.iter().any(|(path, _)| gone(path)));
            life.check(image, &what);
        },
    );
    assert!(images > 50 && lost > 5, "{lost} of {images} images");
}

#[test]
fn fault_12_the_newest_segment_is_gone() {
    // With it what nobody waited for: the commits before it are there.
    let mut life = Life::new();
    life.open().unwrap();
    life.commits(3).unwrap();
    while segments(&life.disk).len() < 3 {
        life.written().unwrap();
    }
    let image = life.disk.crash(Loss::Nothing);
    let (path, bytes) = newest(&image);
    let in_it = frames(&bytes).len();
    image.remove(&path).unwrap();
    let store = life.check(&image, &"without the newest");
    let at = life.position(&store, &"without the newest");
    assert_eq!(at, life.states.len() - 1 - in_it);
    // With it what was acknowledged: damage, and not a shorter log.
    life.commit().unwrap();
    let image = life.disk.crash(Loss::Nothing);
    image.remove(newest(&image).0).unwrap();
    let error = life.builder(&image).open(PLACE).unwrap_err();
    assert!(place(&error).is_some(), "{error}");
}

/// Files whose names something relies on. The image has a manifest that vouches for
/// it, and unused segments are made again.
fn is_live(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    ["FORMAT", "marks", "MANIFEST"].contains(&name) || extension(path) == "snap"
}

fn a_young_life(life: &mut Life) -> Result<()> {
    life.open()?;
    life.commits(3)?;
    life.store().checkpoint()?;
    life.commits(12)?;
    life.store().snapshot()?;
    life.commits(2)?;
    life.close()?;
    life.open()?;
    life.commits(2)
}

#[test]
fn fault_13_a_strict_disk_drops_every_name_that_was_not_synced() {
    for lived in [a_young_life, recycling] {
        let calls = operations(Life::new, lived);
        lose_power(
            Life::new,
            lived,
            &calls,
            &[Loss::Everything],
            |life, image, what| {
                life.check(image, &what);
            },
        );
    }
}

/// Names that were made or changed, and whose folders were not synced since.
fn unsynced_names(calls: &[Operation]) -> Vec<&Path> {
    let mut names: Vec<&Path> = Vec::new();
    for call in calls {
        match call.kind {
            OperationKind::Create => names.push(&call.path),
            OperationKind::Rename => {
                names.retain(|name| *name != call.path);
                names.push(call.to.as_ref().unwrap());
            }
            OperationKind::RemoveFile => names.retain(|name| *name != call.path),
            OperationKind::SyncDir => names.retain(|name| name.parent() != Some(&call.path)),
            _ => {}
        }
    }
    names
}

#[test]
fn fault_13_no_commit_is_acknowledged_on_a_name_that_was_not_synced() {
    let mut life = Life::new();
    life.disk.record(true);
    life.open().unwrap();
    for round in 0..60 {
        life.commit().unwrap();
        if round % 14 == 13 {
            life.store().snapshot().unwrap();
        }
        let calls = life.disk.trace();
        let unsynced = unsynced_names(&calls);
        assert!(unsynced.is_empty(), "after {round}: {unsynced:?}");
    }
}

#[test]
fn fault_14_no_live_file_is_ever_empty() {
    let calls = operations(Life::new, a_young_life);
    let losses: Vec<_> = [Loss::Everything, Loss::Nothing]
        .into_iter()
        .chain((0..8).map(Loss::Random))
        .collect();
    let mut live = 0;
    lose_power(
        Life::new,
        a_young_life,
        &calls,
        &losses,
        |life, image, what| {
            for (path, len) in image.files().iter().filter(|(path, _)| is_live(path)) {
                assert!(*len >= 48, "{what}: {} has {len} bytes", path.display());
                let bytes = image.read(path).unwrap();
                let whole = bytes.iter().any(|byte| *byte != 0);
                assert!(whole, "{what}: {} is all zeros", path.display());
                live += 1;
            }
            let healed = life.check(image, &what).recovery().healed;
            // The first segment has its name before there are marks.
            let damaged = healed.iter().any(|healed| !healed.path.ends_with("marks"));
            assert!(!damaged, "{what}: {healed:?}");
        },
    );
    assert!(live > 1000, "{live}");
}

#[test]
fn fault_18_a_sync_of_a_folder_fails() {
    let calls = operations(Life::new, recycling);
    let mut refused = 0;
    for call in calls.iter().filter(|c| c.kind == OperationKind::SyncDir) {
        for lasting in [false, true] {
            let mut life = Life::new();
            life.disk.fail(Fault::Operation {
                at: call.ordinal,
                failure: Failure::Io,
                lasting,
            });
            let error = match recycling(&mut life) {
                Ok(()) => panic!("{call}: nobody heard of it"),
                Err(e) => e,
            };
            let typed = matches!(error, Error::Io { .. } | Error::Poisoned { .. });
            assert!(typed, "{call}: {error}");
            refused += 1;
            life.check_crashes(call);
            life.disk.clear_faults();
            // It goes on, without the name that may not be there, or says that it
            // must be opened again.
            if !life.works() {
                life.open().unwrap();
            }
            life.commits(20).unwrap();
            life.check_crashes(call);
        }
    }
    assert!(refused > 20, "{refused}");
}

/// What a call does to a name of the log: its segment goes.
fn gives_up(call: &Operation) -> bool {
    let spare = call
        .to
        .as_deref()
        .is_some_and(|to| extension(to) == "spare");
    extension(&call.path) == "log"
        && (call.kind == OperationKind::RemoveFile || call.kind == OperationKind::Rename && spare)
}

/// Where something was last done before `end`.
fn last(calls: &[Operation], end: usize, what: impl Fn(&Operation) -> bool) -> usize {
    let at = calls[..end].iter().rposition(what);
    at.unwrap_or_else(|| panic!("not before {}", calls[end]))
}

#[test]
fn fault_22_the_log_is_trimmed_to_what_is_durable_and_verified() {
    let calls = trace(Life::new, recycling);
    let given_up: Vec<_> = (0..calls.len())
        .filter(|&at| gives_up(&calls[at]))
        .collect();
    assert!(given_up.len() >= 3, "{given_up:?}");
    for at in given_up {
        // Backwards from the removal: each before the next.
        let is = |kind, path: &str| {
            let path = Path::new(PLACE).join(path);
            move |call: &Operation| call.kind == kind && call.path == path
        };
        let synced = last(&calls, at, is(OperationKind::SyncDir, "snapshots"));
        let named = last(&calls, synced + 1, |call| {
            call.kind == OperationKind::Rename
                && call.to.as_deref().is_some_and(|to| extension(to) == "snap")
        });
        let on_it = |kind| {
            let path = calls[named].path.clone();
            move |call: &Operation| call.kind == kind && call.path == path
        };
        let read_back = last(&calls, named, on_it(OperationKind::Read));
        let whole = last(&calls, read_back, on_it(OperationKind::Sync));
        assert!(last(&calls, named, on_it(OperationKind::Write)) < whole);
        let begun = last(&calls, whole, on_it(OperationKind::Create));
        let switched = last(&calls, begun, is(OperationKind::SyncDir, ""));
        let manifest = last(&calls, switched, is(OperationKind::Rename, "MANIFEST.tmp"));
        let written = last(&calls, manifest, is(OperationKind::Sync, "MANIFEST.tmp"));
        let image = last(&calls, written, |call| {
            call.kind == OperationKind::SyncDir && call.path.starts_with(format!("{PLACE}/image"))
        });
        assert!(image < written);
        // And all that is in it is in the snapshot.
        let mut life = Life::new();
        life.disk.stop_at(calls[at].ordinal, When::Before);
        recycling(&mut life).unwrap_err();
        let disk = life.disk.crash(Loss::Nothing);
        let bytes = disk.read(&calls[at].path).unwrap();
        let newest = frames(&bytes).last().unwrap().lsn;
        let stem = calls[named].to.as_ref().unwrap().file_stem().unwrap();
        let snapshot = u64::from_str_radix(stem.to_str().unwrap(), 16).unwrap();
        assert!(newest <= snapshot, "{newest} is not in {snapshot}");
        for loss in LOSSES {
            life.check(&life.disk.crash(loss), &calls[at]);
        }
    }
}

#[test]
fn fault_22_no_image_is_ahead_of_the_durable_log() {
    fn ahead(life: &mut Life) -> Result<()> {
        life.open()?;
        life.commits(2)?;
        for _ in 0..3 {
            life.written()?;
        }
        life.store().checkpoint()?;
        life.acked = life.states.len() - 1;
        Ok(())
    }
    let calls = operations(Life::new, ahead);
    lose_power(Life::new, ahead, &calls, &LOSSES, |life, image, what| {
        life.check(image, &what);
    });
}
