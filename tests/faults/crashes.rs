//! Faults of power and time: 26, 27 and 34.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evenkeel::testing::{Loss, OperationKind, SimDisk, When};
use evenkeel::{Durability, Error, Result, Scope, Store};

use crate::life::{
    LOSSES, Life, PLACE, content, frames, lose_power, operations, segments, versions,
};

/// What a clock may do, in microseconds.
const HOURS: [u64; 12] = [
    1_000_000,
    1_000_000,
    5_000_000,
    400,
    0,
    u64::MAX / 2,
    7,
    u64::MAX,
    3,
    3,
    2_000_000,
    u64::MAX - 1,
];

#[test]
fn fault_26_a_clock_that_goes_back_jumps_and_stands_still() {
    let mut life = Life::in_one_segment();
    life.open().unwrap();
    let mut last = 0;
    for (round, micros) in HOURS.into_iter().cycle().take(72).enumerate() {
        life.clock.set_micros(micros);
        match round % 12 {
            3 => life.close().and_then(|()| life.open()).unwrap(),
            6 => drop(life.store().checkpoint().unwrap()),
            9 => drop(life.store().snapshot().unwrap()),
            11 => {
                // Killed, and found again at another time.
                life.disk = life.disk.crash(Loss::Everything);
                life.clock.set_micros(micros / 3);
                life.open().unwrap();
            }
            _ => {}
        }
        life.commit().unwrap();
        assert_eq!(content(life.store()).unwrap(), *life.states.last().unwrap());
        let newest = life
            .store()
            .scope(Scope::job("j"))
            .get_versioned::<u64>("n");
        let newest = newest.unwrap().unwrap();
        assert_eq!(newest.value as usize, life.states.len() - 1, "order");
        assert!(newest.version.get() > last, "versions ascend");
        last = newest.version.get();
        life.check_all(&life.disk.crash(Loss::Everything), &round);
    }
    // Store time never goes back. (An opening copies frames, as they are.)
    let mut times = BTreeMap::new();
    for path in segments(&life.disk) {
        for frame in frames(&life.disk.read(&path).unwrap()) {
            let other = times.insert(frame.lsn, frame.time);
            assert!(other.is_none_or(|time| time == frame.time), "{frame:?}");
        }
    }
    let times: Vec<_> = times.into_values().collect();
    assert!(times.len() > 5 && times.is_sorted(), "{times:?}");
}

#[test]
fn fault_26_versions_are_the_same_whatever_the_clock_says() {
    let lived = |hours: &[u64]| {
        let mut life = Life::new();
        life.clock.set_micros(hours[0]);
        life.open().unwrap();
        for round in 0..40 {
            life.clock.set_micros(hours[round % hours.len()]);
            life.commit().unwrap();
            if round % 13 == 12 {
                life.close().unwrap();
                life.open().unwrap();
            }
        }
        versions(life.store())
    };
    let steady: Vec<_> = (1..=40).map(|second| second * 1_000_000).collect();
    assert_eq!(lived(&HOURS), lived(&steady));
    assert_eq!(lived(&[0]), lived(&steady));
}

/// Groups of transactions that are submitted and waited for together.
fn groups(life: &mut Life) -> Result<()> {
    life.open()?;
    for group in 0..6 {
        let mut commits = Vec::new();
        for _ in 0..5 {
            commits.push((life.submit()?, life.states.len() - 1));
        }
        for (commit, number) in commits.into_iter().rev().skip(group % 3) {
            commit.wait()?;
            life.acked = life.acked.max(number);
        }
    }
    Ok(())
}

#[test]
fn fault_27_a_power_cut_with_a_group_commit_in_flight() {
    let calls = operations(Life::new, groups);
    let opened = calls
        .iter()
        .position(|c| c.kind == OperationKind::Rename && c.path.ends_with("marks.tmp"));
    let mut partial = 0;
    let losses: Vec<_> = LOSSES
        .into_iter()
        .chain((20..32).map(Loss::Random))
        .collect();
    lose_power(
        Life::new,
        groups,
        &calls[opened.unwrap()..],
        &losses,
        |life, image, what| {
            let store = life.check(image, &what);
            let at = life.position(&store, &what);
            partial += usize::from(at > life.acked && at + 1 < life.states.len());
        },
    );
    assert!(partial > 10, "groups that were there in part: {partial}");
}

/// Four threads commit, another does something `beside` them again and again, and the
/// power goes at the given operation of each round.
fn threads_commit(stops: impl IntoIterator<Item = u64>, beside: Option<fn(&Store) -> Result<()>>) {
    const THREADS: usize = 4;
    let open = |disk: &SimDisk| Life::new().builder(disk).background(true).open(PLACE);
    for (round, stop) in (0..).zip(stops) {
        let disk = SimDisk::new(round);
        drop(open(&disk).unwrap());
        let store = open(&disk).unwrap();
        let when = [When::Before, When::Midway, When::After][round as usize % 3];
        disk.stop_at(disk.operations() + stop, when);
        let acked: Vec<AtomicU64> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|threads| {
            let besides = store.clone();
            threads.spawn(
                move || {
                    while beside.is_some_and(|beside| beside(&besides).is_ok()) {}
                },
            );
            for (thread, acked) in acked.iter().enumerate() {
                let store = store.clone();
                threads.spawn(move || {
                    for number in 1..10_000_u64 {
                        let made = store.transact(|tx| {
                            let left = tx.scope(Scope::job(format!("left-{thread}")));
                            let right = tx.scope(Scope::worker(format!("right-{thread}")));
                            left.set("n", number)?;
                            right.set("n", number)?;
                            tx.global().increment("all", 1)
                        });
                        match made {
                            Ok(_) => acked.store(number, Ordering::SeqCst),
                            Err(_) => break,
                        }
                    }
                });
            }
        });
        assert!(disk.stopped());
        for loss in LOSSES {
            let store = open(&disk.crash(loss)).unwrap();
            let mut sum = 0;
            for (thread, acked) in acked.iter().enumerate() {
                let of = |scope: Scope| store.scope(scope).get::<u64>("n").unwrap().unwrap_or(0);
                let left = of(Scope::job(format!("left-{thread}")));
                assert_eq!(left, of(Scope::worker(format!("right-{thread}"))), "whole");
                let acked = acked.load(Ordering::SeqCst);
                assert!((acked..=acked + 1).contains(&left), "{acked} acked, {left}");
                sum += left;
            }
            let all = store.global().get::<u64>("all").unwrap().unwrap_or(0);
            assert_eq!(all, sum, "nothing in between is missing");
        }
        drop(store);
    }
}

#[test]
fn fault_27_threads_commit_and_the_power_goes() {
    threads_commit((0..60).map(|round| 5 + round * 3 / 2), None);
}

/// Commits go on between a checkpoint, the snapshot of it and the trimming of the log,
/// so that these three are of different LSNs.
#[test]
fn fault_22_threads_commit_while_the_log_is_trimmed_and_the_power_goes() {
    let snapshots = |store: &Store| store.snapshot().map(drop);
    threads_commit((0..40).map(|round| 60 + round * 15), Some(snapshots));
}

fn creating(life: &mut Life) -> Result<()> {
    life.open()?;
    life.commits(2)?;
    life.close()
}

#[test]
fn fault_34_a_crash_anywhere_in_creation() {
    let calls = operations(Life::new, creating);
    let losses: Vec<_> = LOSSES
        .into_iter()
        .chain((40..46).map(Loss::Random))
        .collect();
    let images = lose_power(Life::new, creating, &calls, &losses, |life, image, what| {
        let store = life.check(image, &what);
        assert!(store.recovery().lost.is_empty());
        // It is a store like any other.
        store.global().set("after", 1).unwrap();
        store.close().unwrap();
        let store = life.builder(image).open(PLACE).unwrap();
        assert_eq!(
            store.global().get::<u32>("after").unwrap(),
            Some(1),
            "{what}"
        );
    });
    assert!(images > 500, "{images}");
}

/// A store in memory over a disk, with something in it.
fn in_memory(disk: &SimDisk) -> Store {
    let store = Life::new().builder(disk).in_memory().unwrap();
    for number in 0..30 {
        let scope = store.scope(Scope::custom(format!("s{}", number % 3)));
        scope.set(format!("k{number}"), "x".repeat(200)).unwrap();
    }
    store
}

#[test]
fn fault_34_a_crash_anywhere_in_persist() {
    let disk = SimDisk::new(1);
    let memory = in_memory(&disk);
    let whole = content(&memory).unwrap();
    memory.persist(PLACE).unwrap().close().unwrap();
    let (mut begun_again, mut done) = (0, 0);
    for at in 1..=disk.operations() {
        for when in [When::Before, When::Midway, When::After] {
            let disk = SimDisk::new(at);
            let memory = in_memory(&disk);
            disk.stop_at(at, when);
            let persisted = memory.persist(PLACE);
            let acked = persisted.is_ok();
            for loss in LOSSES {
                let what = format!("{when:?} operation {at}, {loss:?}");
                let image = disk.crash(loss);
                let there = image.read(format!("{PLACE}/FORMAT")).is_some();
                assert!(there || !acked, "{what}: it was there");
                let again = match there {
                    true => Life::new().builder(&image).open(PLACE),
                    false => in_memory(&image).persist(PLACE),
                };
                let again = again.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(content(&again).unwrap(), whole, "{what}");
                begun_again += usize::from(!there);
                done += usize::from(there);
                drop(again);
                let files = image.files();
                let left = files.iter().find(|(path, _)| !path.starts_with(PLACE));
                assert_eq!(left, None, "{what}: nothing else is left");
            }
            drop(persisted);
        }
    }
    assert!(begun_again > 50 && done > 50, "{begun_again}, {done}");
}

#[test]
fn fault_27_who_did_not_wait_is_told_by_a_barrier() {
    let mut life = Life::new();
    life.open().unwrap();
    life.written().unwrap();
    let store = life
        .store()
        .with_durability(Durability::Interval(Duration::MAX));
    store.barrier().unwrap();
    life.acked = 1;
    life.check_all(&life.disk.crash(Loss::Everything), &"barrier");
    life.written().unwrap();
    life.disk.stop_at(life.disk.operations() + 1, When::Before);
    assert!(matches!(store.barrier(), Err(Error::Poisoned { .. })));
    life.check_crashes(&"no barrier");
}
