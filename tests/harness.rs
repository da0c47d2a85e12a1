//! The crash test for programs, used as its users do: on programs that are right,
//! and on programs with a mistake of each kind that it is there to find.

#![expect(clippy::panic, reason = "this is how a test fails")]

use std::cell::Cell;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::crash::{Case, Violation};
use evenkeel::testing::{AfterCrash, CrashRun, CrashTest, Loss, SimDisk, files_on};
use evenkeel::{BlockId, Durability, Image, ImageBackend, ImageError, Piece, Scope};

type Outcome = Result<(), Box<dyn Error>>;

/// Commits numbers one after the other, and says so.
fn count(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    for n in 1..=6_u64 {
        store.global().set("n", n)?;
        run.witness("n", n);
    }
    Ok(())
}

/// What was witnessed is there; more may be.
fn counted(found: &AfterCrash<'_>) -> Outcome {
    let n = found.store().global().get::<u64>("n")?;
    let least = found.witnessed("n").and_then(|value| value.as_u64());
    match n >= least {
        true => Ok(()),
        false => Err(format!("{n:?} is there of {least:?}").into()),
    }
}

fn violation(test: CrashTest<'_>) -> Box<Violation> {
    match test.run() {
        Ok(certificate) => panic!("nothing was found: {certificate}"),
        Err(violation) => violation,
    }
}

#[test]
fn a_program_that_is_right_gets_a_certificate() {
    let test = CrashTest::new("count", count).invariant("no number is lost", counted);
    let certificate = test.run().unwrap();
    let figures = &certificate.summary;
    assert!(figures.points == figures.points_of && figures.points > 200);
    assert!(figures.images > 4 * figures.points && figures.nested > figures.points);
    let told = certificate.to_string();
    for part in [
        "\"count\" passed, seed 1",
        "no number is lost",
        "not covered: sled",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[test]
fn two_commits_in_place_of_one_are_found_and_found_again() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        let global = run.store()?.global();
        for n in 1..=4 {
            global.set("a", n)?;
            global.set("b", n)?;
        }
        Ok(())
    };
    let together = |found: &AfterCrash<'_>| -> Outcome {
        let global = found.store().global();
        let (a, b) = (global.get::<i64>("a")?, global.get::<i64>("b")?);
        assert_eq!(a, b);
        Ok(())
    };
    let test = || CrashTest::new("pairs", program).invariant("a is b", together);
    let found = violation(test());
    // The first of the pairs, by a kill, with nothing else going wrong.
    let case = found.case.clone().unwrap();
    assert!(
        case.loss == Loss::Nothing && case.nested.is_none(),
        "{found}"
    );
    assert!(
        found.what.contains("Some(1)") && found.what.contains("None"),
        "{found}"
    );
    assert!(
        found.to_string().contains("1. the program is stopped"),
        "{found}"
    );
    let again: Case = case.to_string().parse().unwrap();
    assert_eq!(test().replay(&again).unwrap_err().what, found.what);
    let elsewhere: Case = "stop:1:before/nothing/0".parse().unwrap();
    test().replay(&elsewhere).unwrap();
}

#[test]
fn a_promise_before_its_commit_is_found() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        let global = run.store()?.global();
        for n in 1..=3_u64 {
            run.witness("n", n);
            global.set("n", n)?;
        }
        Ok(())
    };
    let found = violation(CrashTest::new("hasty", program).invariant("all is there", counted));
    assert!(found.what.contains("None is there of Some(1)"), "{found}");
}

#[test]
fn a_promise_without_a_sync_is_found_by_a_power_cut_only() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        let store = run.store()?;
        let later = Durability::Interval(Duration::from_secs(60));
        for n in 1..=3_u64 {
            store.with_durability(later).global().set("n", n)?;
            run.witness("n", n);
        }
        Ok(())
    };
    let test = || CrashTest::new("unsynced", program);
    let found = violation(test().invariant("all is there", counted));
    let case = found.case.clone().unwrap();
    assert!(
        case.loss == Loss::Everything && case.nested.is_none(),
        "{found}"
    );
    let after_a_kill = |found: &AfterCrash<'_>| match found.was_killed() {
        true => counted(found),
        false => Ok(()),
    };
    test()
        .invariant("a kill loses nothing", after_a_kill)
        .run()
        .unwrap();
}

#[test]
fn a_program_may_reopen_checkpoint_and_fall_over_errors() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        for round in 1..=3_u64 {
            // A program that unwraps dies of the first error, as many do.
            let store = run.reopen().unwrap();
            store
                .scope(Scope::worker("w"))
                .set("round", vec![round; 300])
                .unwrap();
            store.global().set("n", round).unwrap();
            run.witness("n", round);
            run.advance(Duration::from_secs(round));
            store.checkpoint().unwrap();
            store.snapshot().unwrap();
        }
        Ok(())
    };
    let certificate = CrashTest::new("rounds", program)
        .invariant("no round is lost", counted)
        .sample(250)
        .seed(7)
        .run()
        .unwrap();
    let figures = &certificate.summary;
    assert!(
        figures.checkpoints >= 3 && figures.snapshots >= 3,
        "{certificate}"
    );
    assert!(
        certificate.to_string().contains("not covered: "),
        "{certificate}"
    );
}

/// Threads count for themselves and, in the same transactions, together.
fn with_threads(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    std::thread::scope(|threads| {
        for thread in 0..4_u64 {
            let store = store.clone();
            threads.spawn(move || {
                for n in 1..=5_u64 {
                    let committed = store.transact(|tx| {
                        tx.scope(Scope::worker(format!("{thread}"))).set("n", n)?;
                        tx.global().increment("all", 1)?;
                        Ok(())
                    });
                    if committed.is_err() {
                        return;
                    }
                    run.witness(format!("{thread}"), n);
                }
            });
        }
    });
    Ok(())
}

#[test]
fn threads_are_tested_at_places_that_vary() {
    let exact = |found: &AfterCrash<'_>| -> Outcome {
        let mut sum = 0;
        for thread in 0..4 {
            let name = format!("{thread}");
            let scope = found.store().scope(Scope::worker(&name));
            let n = scope.get::<u64>("n")?.unwrap_or(0);
            let least = found.witnessed(&name).and_then(|value| value.as_u64());
            assert!(Some(n) >= least, "thread {thread} has {n} of {least:?}");
            sum += n;
        }
        let all = found.store().global().get::<u64>("all")?.unwrap_or(0);
        assert_eq!(all, sum);
        Ok(())
    };
    let certificate = CrashTest::new("threads", with_threads)
        .varies()
        .invariant("each count is there, and the sum of all is exact", exact)
        .sample(400)
        .run()
        .unwrap();
    assert_eq!(certificate.summary.points, 400);
}

#[test]
fn a_program_that_fails_by_itself_is_told_so() {
    let fails = violation(CrashTest::new("fails", |_| Err("no luck".into())));
    assert!(
        fails.case.is_none() && fails.what.contains("no luck"),
        "{fails}"
    );
    let panics = violation(CrashTest::new("panics", |_| panic!("dead")));
    assert!(panics.what.contains("it panics: dead"), "{panics}");
    let never =
        violation(CrashTest::new("never", count).invariant("nothing", |_| Err("no".into())));
    assert!(never.what.contains("nothing: no"), "{never}");
    let rounds = Cell::new(0_u64);
    let moods = violation(CrashTest::new("moods", |run| {
        rounds.set(rounds.get() + 1);
        for n in 0..rounds.get() {
            run.store()?.global().set("n", n)?;
        }
        Ok(())
    }));
    assert!(moods.what.contains("two runs differ"), "{moods}");
}

#[test]
fn a_test_can_be_watched_and_ended() {
    let seen = Cell::new(0);
    let certificate = CrashTest::new("watched", count)
        .sample(50)
        .progress(|progress| {
            assert!(progress.of == 50 && progress.done == seen.get());
            seen.set(progress.done + 1);
            match progress.done {
                9 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .run()
        .unwrap();
    assert!(certificate.summary.points == 9 && certificate.summary.stopped_early);
}

/// A backend that forgets to sync.
#[derive(Debug)]
struct Lazy<T>(T);

fn lazy_on(disk: &SimDisk) -> Arc<dyn ImageBackend> {
    Arc::new(Lazy(files_on(disk)))
}

impl ImageBackend for Lazy<Arc<dyn ImageBackend>> {
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError> {
        Ok(Box::new(Lazy(self.0.open(folder)?)))
    }
}

impl Image for Lazy<Box<dyn Image>> {
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError> {
        self.0.get(ids)
    }

    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError> {
        self.0.put(pieces)
    }

    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError> {
        self.0.delete(ids)
    }

    fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        self.0.delete_from(first)
    }

    fn sync(&self) -> Result<(), ImageError> {
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        self.0.bytes_on_disk()
    }

    fn close(&self) -> Result<(), ImageError> {
        self.0.close()
    }
}

#[test]
fn the_image_is_the_one_that_was_asked_for() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        count(run)?;
        // So much that the log no longer begins with the first commit.
        for _ in 0..20 {
            run.store()?.global().set("large", "x".repeat(9_000))?;
        }
        run.store()?.checkpoint()?;
        Ok(run.store()?.global().set("behind it", 1)?)
    };
    let test = |image| {
        CrashTest::new("count in an image", program)
            .invariant("no number is lost", counted)
            .settings(|builder| builder.snapshots(false))
            .image(image)
            .sample(60)
    };
    let certificate = test(files_on).run().unwrap();
    assert!(certificate.summary.checkpoints > 0, "{certificate}");
    let violation = violation(test(lazy_on));
    assert!(violation.what.contains("image"), "{violation}");
}
