//! Faults in and around recovery: 19, 21, 23 and 31.

use std::path::Path;

use evenkeel::testing::{Fault, Loss, OperationKind, SimDisk, When};
use evenkeel::{Error, Result, Store};

use crate::life::{LOSSES, Life, PLACE, extension, lose_power, operations, segments, versions};
use crate::log::recycling;

/// A store with image, snapshot, several segments and a torn tail, killed; and what a
/// power cut left of it.
fn left_behind() -> (Life, Vec<SimDisk>) {
    let mut life = Life::new();
    recycling(&mut life).unwrap();
    life.store().checkpoint().unwrap();
    life.commits(5).unwrap();
    for _ in 0..3 {
        life.written().unwrap();
    }
    let mut images: Vec<_> = LOSSES.map(|loss| life.disk.crash(loss)).into();
    // Without its image, so that it is rebuilt.
    let without = life.disk.crash(Loss::Nothing);
    without.remove(format!("{PLACE}/MANIFEST")).unwrap();
    images.push(without);
    life.leave();
    (life, images)
}

fn copy(image: &SimDisk) -> SimDisk {
    image.crash(Loss::Nothing)
}

#[test]
fn fault_19_a_read_fails_in_recovery() {
    let (life, images) = left_behind();
    let (mut refused, mut of_the_log) = (0, 0);
    for image in &images {
        let disk = copy(image);
        disk.record(true);
        let store = life.check(&disk, &"undisturbed");
        let at = life.position(&store, &"undisturbed");
        let mut reads = disk.trace();
        // Those of the opening: the segment's file is written by it alone.
        reads.retain(|call| call.kind.is_read());
        let disk = copy(image);
        disk.record(true);
        let opened = life.builder(&disk).open(PLACE).unwrap();
        let in_opening = disk.reads() as usize;
        drop(opened);
        for read in &reads[..in_opening] {
            for lasting in [false, true] {
                let disk = copy(image);
                disk.fail(Fault::Read {
                    at: read.ordinal,
                    lasting,
                });
                let opened = life.builder(&disk).open(PLACE);
                if read.path.starts_with(format!("{PLACE}/wal")) {
                    of_the_log += 1;
                    assert!(opened.is_err(), "{read}: taken for the end of the log");
                }
                match opened {
                    Err(Error::Io { .. }) => refused += 1,
                    Err(e) => panic!("{read}: {e}"),
                    // What does not matter to the opening.
                    Ok(store) => drop(store),
                }
                disk.clear_faults();
                let store = life.check(&disk, read);
                assert_eq!(life.position(&store, read), at, "{read}");
            }
        }
    }
    assert!(refused > 200 && of_the_log > 50, "{refused}, {of_the_log}");
}

#[test]
fn fault_21_a_crash_between_the_sync_of_the_image_and_the_trimming() {
    fn to_the_snapshot(life: &mut Life) -> Result<()> {
        life.open()?;
        life.commits(12)?;
        life.store().snapshot()?;
        life.commits(22)
    }
    fn trimming(life: &mut Life) -> Result<()> {
        to_the_snapshot(life)?;
        life.store().snapshot().map(drop)
    }
    let before = operations(Life::new, to_the_snapshot).len();
    let calls = operations(Life::new, trimming);
    let synced = calls
        .iter()
        .position(|c| c.ordinal > before as u64 && c.path.ends_with("MANIFEST.tmp"))
        .unwrap();
    let trimmed = calls.iter().rposition(|c| {
        extension(&c.path) == "log"
            && [OperationKind::RemoveFile, OperationKind::Rename].contains(&c.kind)
    });
    assert!(trimmed > Some(synced + 5));
    let (mut with_old, mut with_new) = (0, 0);
    let mut seen: Option<Vec<_>> = None;
    lose_power(
        Life::new,
        trimming,
        &calls[synced..],
        &LOSSES,
        |life, image, what| {
            let long = segments(image).len();
            let store = life.check_all(image, &what);
            // The same versions, whether they come from the image or from the log.
            let versions = versions(&store);
            assert_eq!(
                *seen.get_or_insert_with(|| versions.clone()),
                versions,
                "{what}"
            );
            let recovery = store.recovery();
            match recovery.replayed_commits {
                0 if long > 2 => with_new += 1,
                0 => {}
                more => {
                    assert_eq!(more, 22, "{what}");
                    with_old += 1;
                }
            }
            drop(store);
            // And from snapshot and log alone, over what the image held.
            let image = copy(image);
            if image.remove(format!("{PLACE}/MANIFEST")).is_ok() {
                life.check_all(&image, &what);
            }
        },
    );
    assert!(with_old > 5 && with_new > 5, "{with_old}, {with_new}");
}

/// How many operations it takes to open what a disk was left with.
fn opening(life: &Life, image: &SimDisk) -> u64 {
    let disk = copy(image);
    let store = life.builder(&disk).open(PLACE).unwrap();
    let operations = disk.operations();
    drop(store);
    operations
}

#[test]
fn fault_23_a_crash_in_recovery_at_every_operation() {
    let (life, images) = left_behind();
    let mut crashes = 0;
    for image in &images {
        let place = life.position(&life.check(&copy(image), &"undisturbed"), &"undisturbed");
        for at in 1..=opening(&life, image) {
            for when in [When::Before, When::Midway, When::After] {
                let disk = copy(image);
                disk.stop_at(at, when);
                let opened = life.builder(&disk).open(PLACE);
                assert!(disk.stopped());
                drop(opened);
                for loss in LOSSES {
                    let what = format!("{when:?} operation {at} of recovery, {loss:?}");
                    let again = disk.crash(loss.clone());
                    let store = life.check(&again, &what);
                    // A kill leaves what was written and never synced, a power cut
                    // may take it.
                    let same = life.position(&store, &what);
                    assert!(
                        same == place || loss != Loss::Nothing && same < place,
                        "{what}"
                    );
                    crashes += 1;
                }
            }
        }
    }
    assert!(crashes > 1000, "{crashes}");
}

#[test]
fn fault_31_killed_in_recovery_again_and_again() {
    let (mut life, images) = left_behind();
    for (number, mut image) in images.into_iter().enumerate() {
        let mut at = number as u64;
        let mut opened = 0;
        for round in 0..60 {
            let operations = opening(&life, &image);
            at = (at * 7 + 3) % operations + 1;
            let when = [When::Before, When::Midway, When::After][round % 3];
            image.stop_at(at, when);
            let store = life.builder(&image).open(PLACE);
            opened += usize::from(store.is_ok());
            assert!(image.stopped());
            image = image.crash(LOSSES[round % LOSSES.len()].clone());
            drop(store);
        }
        assert!(opened < 60);
        let store = life.check(&image, &format!("image {number}"));
        assert_eq!(store.verify().unwrap().damage, [], "image {number}");
        drop(store);
        life.disk = image;
        life.open().unwrap();
        let at = life.position(life.store(), &number);
        assert!(at >= life.acked);
        let (states, acked) = (life.states.clone(), life.acked);
        life.states.truncate(at + 1);
        life.commits(3).unwrap();
        life.check_crashes(&"it goes on");
        life.leave();
        (life.states, life.acked) = (states, acked);
    }
}

#[test]
fn fault_34_a_log_without_its_format_file_is_an_error() {
    let refused = |life: &Life, image: SimDisk| {
        image.remove(Path::new(PLACE).join("FORMAT")).unwrap();
        let before = image.files();
        let opened: Result<Store> = life.builder(&image).open(PLACE);
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        assert_eq!(image.files(), before, "it is left as it is");
    };
    let mut life = Life::new();
    life.open().unwrap();
    refused(&life, life.disk.crash(Loss::Nothing));
    life.commits(3).unwrap();
    refused(&life, life.disk.crash(Loss::Everything));
    life.open().unwrap();
    life.store().snapshot().unwrap();
    life.close().unwrap();
    refused(&life, life.disk.crash(Loss::Nothing));
    // Whatever else of it is left.
    for left in ["MANIFEST", "image", "snapshots"] {
        let image = life.disk.crash(Loss::Nothing);
        for name in ["MANIFEST", "image", "snapshots", "wal", "marks"] {
            if name != left {
                image.remove(Path::new(PLACE).join(name)).unwrap();
            }
        }
        refused(&life, image);
    }
}

/// Nothing says any more how far the log was durable: that is damage, and no new store.
#[test]
fn fault_34_a_log_that_is_gone_with_its_marks_is_no_new_store() {
    let mut life = Life::new();
    life.open().unwrap();
    life.commits(3).unwrap();
    let image = life.disk.crash(Loss::Nothing);
    for path in segments(&image) {
        image.remove(path).unwrap();
    }
    let marks = Path::new(PLACE).join("marks");
    let zeroed = vec![0; 1024];
    let cut: Vec<u8> = image.read(&marks).unwrap()[..512].to_vec();
    for damaged in [None, Some(zeroed), Some(cut)] {
        image.remove(&marks).unwrap();
        if let Some(bytes) = &damaged {
            image.write(&marks, bytes).unwrap();
        }
        let before = image.files();
        let error = life.builder(&image).open(PLACE).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
        assert_eq!(image.files(), before, "it is left as it is");
        image.write(&marks, &[]).unwrap();
    }
    let salvage = life.builder(&image).salvage(evenkeel::Salvage::CutLog);
    let store = salvage.open(PLACE).unwrap();
    assert_eq!(store.recovery().lost.len(), 1, "{:?}", store.recovery());
    store.global().set("on", 1).unwrap();
    store.close().unwrap();
}
