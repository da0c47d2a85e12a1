//! Faults of opening while the disk is full: 15 and 16. What recovery needs is never
//! given up for room, wherever the opening itself is stopped.

#![expect(clippy::print_stdout, reason = "each test says how much it tried")]

use std::path::Path;

use evenkeel::testing::{Loss, Operation, SimDisk, When};
use evenkeel::{Error, OpenMode, Result, Vfs};

use crate::life::{LOSSES, Life, operations};

/// Segments are trimmed, set aside and used again, and snapshots follow each other.
fn long(life: &mut Life) -> Result<()> {
    life.open()?;
    for _ in 0..3 {
        life.commits(9)?;
        life.store().snapshot()?;
        life.commits(5)?;
        life.store().checkpoint()?;
    }
    life.open()?;
    life.commits(3)
}

/// Fills a disk with another file, up to its last page; gives its capacity.
fn fill(disk: &SimDisk) -> u64 {
    let used: u64 = disk.files().iter().map(|(_, len)| len.div_ceil(4096)).sum();
    let capacity = (used + 64) * 4096;
    disk.set_capacity(Some(capacity));
    let filler = disk.open(Path::new("filler"), OpenMode::Create).unwrap();
    let mut at = 0;
    while filler.write_at(&[1; 4096], at).is_ok() {
        at += 4096;
    }
    assert!(at > 0, "there was room for more");
    filler.sync().unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    capacity
}

/// What a crash leaves of a full disk, full again: files whose removal was not durable
/// are back, and where the power was lost others are shorter.
fn full_again(disk: &SimDisk, loss: Loss) -> SimDisk {
    let disk = disk.crash(loss);
    disk.remove("filler").unwrap();
    fill(&disk);
    disk
}

/// Opens what a full disk is left with. Where that needs room, it says how much, and
/// opens once it has that. True where it needed none.
fn opens(life: &Life, disk: &SimDisk, what: &str) -> bool {
    let needed = match life.builder(disk).open("state") {
        Ok(store) => {
            let at = life.position(&store, &what);
            assert!(at >= life.acked, "{what}: {at} of {}", life.acked);
            return true;
        }
        Err(Error::DiskFull { needed, .. }) => needed,
        Err(e) => panic!("{what}: {e}"),
    };
    let filler = disk.open(Path::new("filler"), OpenMode::Write).unwrap();
    filler.set_len(filler.len().unwrap() - needed).unwrap();
    life.check(disk, &format!("{what}, and {needed} bytes more"));
    false
}

fn stopped(new: fn() -> Life, lived: fn(&mut Life) -> Result<()>, at: &Operation) -> Life {
    let mut life = new();
    life.disk.stop_at(at.ordinal, When::Midway);
    let done = lived(&mut life);
    assert!(life.disk.stopped(), "{at}: {done:?}");
    life
}

#[test]
fn fault_15_a_killed_store_opens_on_a_full_disk() {
    for (new, lived) in [
        (
            Life::new as fn() -> Life,
            long as fn(&mut Life) -> Result<()>,
        ),
        (Life::in_one_segment, long),
    ] {
        let (mut opened, mut refused) = (0, 0);
        // Before the format file there is nothing to open.
        for call in operations(new, lived).iter().skip(40) {
            let mut life = stopped(new, lived, call);
            life.leave();
            for loss in LOSSES {
                let what = format!("{call}, {loss:?}");
                let disk = life.disk.crash(loss);
                fill(&disk);
                match opens(&life, &disk, &what) {
                    true => opened += 1,
                    false => refused += 1,
                }
            }
        }
        println!("{opened} opened, {refused} asked for room");
        assert!(opened > 100, "{opened}, {refused}");
    }
}

#[test]
fn fault_23_a_crash_in_an_opening_on_a_full_disk() {
    let calls = operations(Life::in_one_segment, long);
    let (mut opened, mut images) = (0, 0);
    for call in calls.iter().skip(40).step_by(19) {
        let mut life = stopped(Life::in_one_segment, long, call);
        life.leave();
        for loss in [Loss::Nothing, Loss::Random(5)] {
            let full = life.disk.crash(loss.clone());
            let capacity = fill(&full);
            for at in 1.. {
                let disk = full.crash(Loss::Nothing);
                disk.set_capacity(Some(capacity));
                disk.stop_at(at, When::Midway);
                opened += u64::from(life.builder(&disk).open("state").is_ok());
                if !disk.stopped() {
                    break;
                }
                for again in LOSSES {
                    let what = format!("{call}, {loss:?}, opening stopped at {at}, {again:?}");
                    opens(&life, &full_again(&disk, again.clone()), &what);
                    life.check(&disk.crash(again), &what);
                    images += 1;
                }
            }
        }
    }
    println!("{images} images, {opened} openings came to their end");
    assert!(images > 400 && opened > 5, "{images}, {opened}");
}
