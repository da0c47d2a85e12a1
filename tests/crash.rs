//! Crashes, and disks that fail, at every place: run by `evenkeel::testing::crash`.
//!
//! `EVENKEEL_CRASH_POINTS=all` (or a number) tries more than the sample of CI,
//! `EVENKEEL_CRASH_SEED=7` another sample, and
//! `EVENKEEL_CRASH=<case>` one case of the test that is named beside it, as in
//! `EVENKEEL_CRASH=stop:17:after/everything/3 cargo test --test crash creation -- --exact`.

#![expect(clippy::print_stdout, reason = "each test says how much it tried")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use evenkeel::Scope;
use evenkeel::testing::crash::{
    Case, Nested, Plan, Step, Summary, Workload, Write, drive, drive_faults, replay, text,
};
use evenkeel::testing::files_on;

/// How many points CI draws for each workload.
const POINTS: usize = 60;

fn plan(points: usize) -> Plan {
    let seed = std::env::var("EVENKEEL_CRASH_SEED").map_or(1, |seed| seed.parse().unwrap());
    let asked = std::env::var("EVENKEEL_CRASH_POINTS");
    match asked.as_deref() {
        Ok("all") => Plan::all(seed),
        Ok(number) => Plan {
            random_images: 2,
            ..Plan::sample(number.parse().unwrap(), seed)
        },
        Err(_) => Plan::sample(points, seed),
    }
}

fn run(workload: &Workload) -> Summary {
    if let Ok(case) = std::env::var("EVENKEEL_CRASH") {
        let case: Case = case.parse().unwrap();
        match replay(workload, &case) {
            Ok(()) => println!("{}: {case} is as it should be", workload.name()),
            Err(violation) => panic!("{violation}"),
        }
        return Summary::default();
    }
    let mut summary =
        drive(workload, &plan(POINTS)).unwrap_or_else(|violation| panic!("{violation}"));
    println!("crashes, {summary}");
    let faults = drive_faults(workload, &plan(POINTS / 2));
    let faults = faults.unwrap_or_else(|violation| panic!("{violation}"));
    println!("faults, {faults}");
    summary.rebuilds += faults.rebuilds;
    summary
}

fn global(key: impl std::fmt::Display, value: impl Into<evenkeel::Value>) -> Write {
    Write::Set(Scope::Global, key.to_string(), value.into())
}

fn numbered(count: u32, bytes: usize) -> impl Iterator<Item = Step> {
    (0..count).map(move |i| Step::Commit(global(i % 40, text(i, bytes))))
}

#[test]
fn creation() {
    run(&Workload::new("creation"));
}

#[test]
fn single_writes_and_deletes() {
    let mut workload = Workload::new("single");
    for i in 0..30 {
        workload = workload.set(Scope::Global, format!("k{}", i % 7), i);
        if i % 3 == 0 {
            let key = format!("k{}", (i + 2) % 7);
            workload = workload.step(Step::Commit(Write::Delete(Scope::Global, key)));
        }
    }
    run(&workload);
}

#[test]
fn transactions_over_scopes_and_clears() {
    let mut workload = Workload::new("transactions");
    for i in 0..24_u32 {
        let (a, b) = (Scope::workflow("a"), Scope::step("a", "b"));
        let key = format!("k{}", i % 5);
        let mut writes = vec![
            Write::Set(a.clone(), key.clone(), text(i, 200)),
            Write::Set(b.clone(), key.clone(), text(i, 100)),
            Write::Increment(Scope::Global, "n".into(), 1),
        ];
        if i % 6 == 5 {
            writes.insert(0, Write::Clear(a));
            writes.push(Write::Delete(b.clone(), key));
        }
        workload = workload.step(Step::Transact(writes));
        if i % 9 == 8 {
            workload = workload
                .step(Step::Commit(Write::Clear(b)))
                .step(Step::Checkpoint);
        }
    }
    run(&workload);
}

#[test]
fn large_values() {
    let mut workload = Workload::new("large");
    for i in 0..4 {
        workload = workload
            .set(
                Scope::job("j"),
                format!("k{}", i % 2),
                text(i, 90_000 + 40_000 * i),
            )
            .set(Scope::Global, "small", i as u64);
    }
    run(&workload.step(Step::Snapshot).set(Scope::Global, "end", 1));
}

fn blocks_changed_in_place() -> Workload {
    Workload::new("checkpoints")
        .steps(numbered(20, 300))
        .step(Step::Checkpoint)
        .steps(numbered(60, 900))
        .step(Step::Checkpoint)
        .step(Step::Checkpoint)
        .steps(numbered(10, 300))
}

#[test]
fn checkpoints() {
    let summary = run(&blocks_changed_in_place());
    assert!(replayed() || summary.checkpoints >= 3, "{summary}");
}

fn an_image_that_moves() -> Workload {
    Workload::new("renewal")
        .steps(numbered(40, 900))
        .step(Step::Checkpoint)
        .steps(numbered(40, 800))
        .step(Step::Checkpoint)
        .step(Step::Snapshot)
        .steps(numbered(3, 100))
        .step(Step::Checkpoint)
        .step(Step::Commit(Write::Clear(Scope::Global)))
        .steps(numbered(30, 700))
        .step(Step::Checkpoint)
        .step(Step::Reopen)
        .steps(numbered(30, 900))
}

#[test]
fn an_image_that_moves_to_a_new_folder() {
    let summary = run(&an_image_that_moves());
    assert!(replayed() || summary.checkpoints >= 4, "{summary}");
}

#[test]
fn rotation_recycling_and_trimming() {
    let workload = Workload::new("rotation")
        .steps(numbered(60, 2000))
        .step(Step::Checkpoint)
        .step(Step::Snapshot)
        .steps(numbered(60, 2000))
        .step(Step::Snapshot)
        .steps(numbered(60, 2000));
    let summary = run(&workload);
    assert!(
        replayed() || summary.snapshots >= 2 && summary.trimmed >= 2,
        "{summary}"
    );
    assert!(replayed() || summary.recycled >= 1, "{summary}");
    assert!(replayed() || summary.rebuilds >= 1, "{summary}");
}

fn no_second_copy() -> Workload {
    Workload::new("without-snapshots")
        .without_snapshots()
        .steps(numbered(50, 2000))
        .step(Step::Reopen)
        .steps(numbered(80, 2000))
}

#[test]
fn without_snapshots() {
    let summary = run(&no_second_copy());
    assert!(
        replayed() || summary.trimmed >= 2 && summary.snapshots == 0,
        "{summary}"
    );
}

#[test]
fn reopening() {
    let workload = Workload::new("reopening")
        .steps(numbered(5, 100))
        .step(Step::Reopen)
        .steps(numbered(8, 3000))
        .step(Step::DropAndOpen)
        .step(Step::Reopen)
        .step(Step::Snapshot)
        .steps(numbered(4, 100))
        .step(Step::DropAndOpen)
        .step(Step::Submit(vec![global("a", 1)]))
        .step(Step::Reopen)
        .steps(numbered(4, 100));
    run(&workload);
}

fn an_image_that_is_taken_away() -> Workload {
    Workload::new("lost-image")
        .steps(numbered(30, 900))
        .step(Step::Snapshot)
        .steps(numbered(30, 900))
        .step(Step::Checkpoint)
        .steps(numbered(3, 100))
        .step(Step::LoseImage)
        .steps(numbered(3, 100))
        .step(Step::LoseImage)
        .step(Step::DropAndOpen)
}

#[test]
fn a_lost_image_is_rebuilt() {
    let summary = run(&an_image_that_is_taken_away());
    assert!(replayed() || summary.rebuilds >= 50, "{summary}");
}

fn failing_syncs() -> Workload {
    let mut workload = Workload::new("failed-syncs");
    for i in 0..8_u32 {
        let writes = vec![global("lost", i), global(i, text(i, 1500))];
        workload = workload
            .steps(numbered(3, 700))
            .step(Step::LoseSync(writes))
            .set(Scope::Global, "behind", i);
        if i % 3 == 1 {
            workload = workload.step(Step::Checkpoint).step(Step::Snapshot);
        }
    }
    workload
}

#[test]
fn failed_syncs_reopening_and_another_crash() {
    run(&failing_syncs());
}

fn what_began_in_memory() -> Workload {
    Workload::new("persisting")
        .steps(numbered(40, 400))
        .step(Step::Commit(Write::Set(
            Scope::job("j"),
            "large".into(),
            text("l", 90_000),
        )))
        .step(Step::Persist)
        .steps(numbered(5, 400))
}

#[test]
fn persisting() {
    run(&what_began_in_memory());
}

#[test]
fn persisting_nothing() {
    run(&Workload::new("persisting-nothing")
        .step(Step::Persist)
        .set(Scope::Global, "a", 1));
}

#[test]
fn submitting_and_waiting() {
    let mut workload = Workload::new("submitting");
    for i in 0..40_u32 {
        workload = workload.step(Step::Submit(vec![
            global(i % 7, text(i, 700)),
            global("n", i),
        ]));
        match i % 8 {
            3 => workload = workload.step(Step::Wait),
            5 => workload = workload.step(Step::Written(global("w", i))),
            7 => workload = workload.step(Step::Barrier),
            _ => {}
        }
    }
    run(&workload);
}

#[test]
fn increments_merges_and_compare_and_set() {
    let mut workload = Workload::new("atomic");
    for i in 0..30_u32 {
        let patch = evenkeel::Value::from_iter([(format!("f{}", i % 4), i)]);
        workload = workload.steps([
            Step::Commit(Write::Increment(Scope::Global, "n".into(), 2)),
            Step::Commit(Write::Merge(Scope::worker("w"), "m".into(), patch)),
            Step::Commit(Write::Replace(Scope::Global, "r".into(), text(i, 50))),
        ]);
        if i % 10 == 9 {
            workload = workload.step(Step::Checkpoint);
        }
    }
    run(&workload);
}

#[test]
fn at_random() {
    let mut all = Summary::default();
    for seed in 0..3 {
        all.add(&run(&Workload::random(seed, 220)));
    }
    let covered = all.checkpoints > 0 && all.snapshots > 0 && all.recycled > 0 && all.rebuilds > 0;
    assert!(replayed() || covered, "{all}");
}

/// Every recovery is stopped at every call as well.
#[test]
fn every_call_of_every_recovery() {
    let workload = Workload::new("twice")
        .set(Scope::Global, "a", 1)
        .step(Step::Transact(vec![
            global("a", 2),
            Write::Set(Scope::job("j"), "b".into(), text("b", 3000)),
        ]))
        .step(Step::Checkpoint)
        .set(Scope::Global, "a", 3);
    if replayed() {
        run(&workload);
        return;
    }
    let every = Plan {
        random_images: 0,
        ..Plan::all(1)
    };
    let sampled = Plan {
        points: Some(40),
        ..every
    };
    let all = std::env::var("EVENKEEL_CRASH_POINTS").is_ok_and(|points| points == "all");
    let found = drive(&workload, if all { &every } else { &sampled });
    let found = found.unwrap_or_else(|violation| panic!("{violation}"));
    println!("every call of every recovery, {found}");
    assert!(found.nested > 50 * found.points, "{found}");
}

/// Everything that a store does, so short that every call of it is tried and not a
/// sample.
fn whole_life() -> Workload {
    let (a, b) = (Scope::workflow("a"), Scope::step("a", "b"));
    let round = |i: u32| {
        Step::Transact(vec![
            Write::Set(a.clone(), format!("k{}", i % 5), text(i, 900)),
            Write::Set(b.clone(), format!("k{}", i % 3), text(i, 300)),
            Write::Increment(Scope::Global, "n".into(), 1),
        ])
    };
    Workload::new("whole-life")
        .settings(|builder| {
            builder
                .memtable_bytes(64 * 1024)
                .segment_bytes(8 * 1024, 8 * 1024)
                .block_bytes(1024)
        })
        .steps((0..8).map(round))
        .step(Step::Checkpoint)
        .step(Step::Commit(Write::Clear(b.clone())))
        .steps((8..10).map(round))
        .step(Step::Snapshot)
        .steps((10..17).map(round))
        .step(Step::Commit(Write::Delete(a.clone(), "k1".into())))
        .step(Step::Snapshot)
        .step(Step::Submit(vec![global("s", 1), global("t", 2)]))
        .step(Step::Written(global("w", 1)))
        .step(Step::Wait)
        .step(Step::Reopen)
        .steps((17..19).map(round))
        .step(Step::Transact(vec![
            Write::Clear(a.clone()),
            global("c", 1),
        ]))
        .step(Step::Submit(vec![global("s", 3)]))
        .step(Step::DropAndOpen)
        .steps((19..21).map(round))
}

#[test]
fn every_call_of_a_whole_life() {
    at_every_call(&whole_life());
}

fn at_every_call(workload: &Workload) {
    if replayed() {
        run(workload);
        return;
    }
    // Before, in and after every call; then recoveries that are stopped themselves.
    let every = Plan {
        nested: Nested::Sample(0),
        random_images: 2,
        violations: 1,
        ..Plan::all(1)
    };
    let found = drive(workload, &every).unwrap_or_else(|violation| panic!("{violation}"));
    println!("every call, {found}");
    assert!(found.points >= 2 * found.operations, "{found}");
    let nested = drive(workload, &plan(4 * POINTS));
    let nested = nested.unwrap_or_else(|violation| panic!("{violation}"));
    println!("and stopped again, {nested}");
    let covered = found.checkpoints >= 3 && found.snapshots >= 2 && nested.nested > 0;
    assert!(covered, "{found}; {nested}");
    assert!(found.recycled >= 1 && found.trimmed >= 3, "{found}");
}

/// A promise that the store was told not to keep is found, with the one commit that
/// shows it.
#[test]
fn what_is_found_is_reduced_to_the_steps_that_it_needs() {
    let lax = |builder: evenkeel::Builder| {
        builder.durability(evenkeel::Durability::Interval(
            std::time::Duration::from_secs(1_000_000),
        ))
    };
    let workload = Workload::random(5, 40).settings(lax);
    let Err(found) = drive(&workload, &Plan::sample(30, 1)) else {
        panic!("commits that are not synced survive every power cut");
    };
    let (steps, shortest) = found.shortest.as_ref().unwrap();
    assert!(steps.len() <= 2, "{found}");
    assert!(
        shortest.what.contains("acknowledged ones are lost"),
        "{found}"
    );
    assert!(found.to_string().contains("these steps alone"), "{found}");
}

/// The workloads that are about the image, with one that a `FileBackend` keeps.
mod in_files {
    use super::*;

    fn in_files(workload: Workload) -> Workload {
        workload.image(files_on)
    }

    #[test]
    fn checkpoints() {
        let summary = run(&in_files(blocks_changed_in_place()));
        assert!(replayed() || summary.checkpoints >= 3, "{summary}");
    }

    #[test]
    fn an_image_that_moves_to_a_new_folder() {
        let summary = run(&in_files(an_image_that_moves()));
        assert!(replayed() || summary.checkpoints >= 4, "{summary}");
    }

    #[test]
    fn without_snapshots() {
        let summary = run(&in_files(no_second_copy()));
        let covered = summary.checkpoints >= 2 && summary.rebuilds == 0;
        assert!(replayed() || covered, "{summary}");
    }

    #[test]
    fn a_lost_image_is_rebuilt() {
        let summary = run(&in_files(an_image_that_is_taken_away()));
        assert!(replayed() || summary.rebuilds >= 50, "{summary}");
    }

    #[test]
    fn failed_syncs_reopening_and_another_crash() {
        run(&in_files(failing_syncs()));
    }

    #[test]
    fn persisting() {
        run(&in_files(what_began_in_memory()));
    }

    #[test]
    fn at_random() {
        let mut all = Summary::default();
        for seed in 10..12 {
            all.add(&run(&in_files(Workload::random(seed, 220))));
        }
        let covered = all.checkpoints > 0 && all.snapshots > 0 && all.rebuilds > 0;
        assert!(replayed() || covered, "{all}");
    }

    #[test]
    fn every_call_of_a_whole_life() {
        at_every_call(&in_files(whole_life()));
    }
}

/// Only one case was run.
fn replayed() -> bool {
    std::env::var("EVENKEEL_CRASH").is_ok()
}
