//! Crashes while entries are evicted: whatever is left is what the cache was at one
//! moment, at the last one that was acknowledged or later.

use std::error::Error;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{Cache, Durability, Store};

use crate::parts::{keys, profiles};

type Outcome = Result<(), Box<dyn Error>>;

/// What the program does to the cache, one commit each.
#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(u64),
    Compute(u64),
    Remove(u64),
    Clear,
    ClearScope,
}

use Step::{Clear, ClearScope, Compute, Insert, Remove};

const CAPACITY: u64 = 4;
/// What it is after the store was opened again.
const LOWERED: u64 = 2;

const BEFORE: &[Step] = &[
    Insert(1),
    Insert(2),
    Insert(3),
    Insert(4),
    Insert(5),
    Compute(6),
    Insert(7),
    Remove(6),
    Insert(8),
    Insert(9),
    Insert(7),
    Insert(10),
    Clear,
    Insert(11),
    Insert(12),
    ClearScope,
    Insert(13),
    Insert(14),
    Insert(15),
    Insert(16),
    Insert(17),
    Insert(18),
];
const AFTER: &[Step] = &[Insert(19), Insert(20), Compute(21), Remove(20), Insert(22)];

fn key(n: u64) -> String {
    format!("{n:02}")
}

/// The keys after so many steps, the oldest first.
fn model(steps: usize) -> Vec<u64> {
    let mut there: Vec<u64> = Vec::new();
    let all = BEFORE.iter().map(|step| (step, CAPACITY));
    let all = all.chain(AFTER.iter().map(|step| (step, LOWERED)));
    for (step, capacity) in all.take(steps) {
        match *step {
            Insert(n) | Compute(n) => {
                there.retain(|other| *other != n);
                there.push(n);
                let surplus = there.len().saturating_sub(capacity as usize);
                there.drain(..surplus);
            }
            Remove(n) => there.retain(|other| *other != n),
            Clear | ClearScope => there.clear(),
        }
    }
    there.sort_unstable();
    there
}

fn take(store: &Store, cache: &Cache, step: Step) -> Outcome {
    // Large enough that the image has several blocks.
    let value = |n| format!("{n}").repeat(100);
    match step {
        Insert(n) => cache.insert(key(n), value(n))?,
        Compute(n) => drop(cache.get_or_insert_with(key(n), || value(n))?),
        Remove(n) => assert!(cache.remove(key(n))?),
        Clear => cache.clear()?,
        ClearScope => store.scope(cache.scope().clone()).clear()?,
    }
    Ok(())
}

fn program(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    let cache = profiles(&store).capacity(CAPACITY);
    for (done, step) in (1_u64..).zip(BEFORE) {
        take(&store, &cache, *step)?;
        run.witness("done", done);
        if done % 7 == 0 {
            store.checkpoint()?;
        }
    }
    store.snapshot()?;
    drop((cache, store));
    let store = run.reopen()?;
    let cache = profiles(&store).capacity(LOWERED);
    for (done, step) in (BEFORE.len() as u64 + 1..).zip(AFTER) {
        take(&store, &cache, *step)?;
        run.witness("done", done);
    }
    Ok(())
}

fn as_it_was(found: &AfterCrash<'_>) -> Outcome {
    let cache = profiles(found.store()).capacity(CAPACITY);
    let there = keys(&cache);
    let done = found.witnessed("done").and_then(|done| done.as_u64());
    let done = usize::try_from(done.unwrap_or(0))?;
    // The step that was not acknowledged may be there.
    let possible = [done, done + 1].map(|steps| {
        let keys: Vec<String> = model(steps).into_iter().map(key).collect();
        keys
    });
    if !possible.contains(&there) {
        return Err(format!("{there:?} are there after {done} steps, not {possible:?}").into());
    }
    for found in &there {
        let n: u64 = found.parse()?;
        let value = cache.get::<String>(found)?.ok_or("it went")?;
        assert_eq!(value, format!("{n}").repeat(100));
    }
    Ok(())
}

fn goes_on(found: &AfterCrash<'_>) -> Outcome {
    let cache = profiles(found.store()).capacity(3);
    for n in 90..95 {
        cache.insert(key(n), n)?;
        assert!(cache.len()? <= 3);
    }
    assert_eq!(keys(&cache), ["92", "93", "94"]);
    Ok(())
}

fn run(test: CrashTest<'_>, sample: usize) {
    let points = std::env::var("EVENKEEL_CRASH_POINTS");
    let test = match points.as_deref() {
        Ok("all") => test,
        Ok(number) => test.sample(number.parse().unwrap()),
        Err(_) => test.sample(sample),
    };
    let certificate = test.run().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(certificate.summary.points > 0);
}

#[test]
fn a_crash_leaves_the_cache_as_it_was_at_one_moment() {
    let test = CrashTest::new("eviction", program)
        .invariant("it is as it was after a step", as_it_was)
        .invariant("it goes on, within its capacity", goes_on);
    run(test, 250);
}

/// Evicting down from 300 entries to 3 takes two commits.
#[test]
fn a_crash_while_it_evicts_down_leaves_the_newest() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        let store = run.store()?;
        let cache = profiles(&store).with_durability(Durability::Memory);
        for n in 0..300 {
            cache.insert(format!("{n:03}"), n)?;
        }
        store.barrier()?;
        run.witness("filled", 300);
        let cache = profiles(&store).capacity(3);
        cache.insert("new", 1)?;
        run.witness("lowered", 3);
        Ok(())
    };
    let newest = |found: &AfterCrash<'_>| -> Outcome {
        let there = keys(&profiles(found.store()));
        if found.witnessed("filled").is_none() {
            return Ok(());
        }
        let first = match (there.len(), found.witnessed("lowered").is_some()) {
            (300, false) => 0,
            (44, false) => 256,
            (3, _) => 298,
            (len, lowered) => return Err(format!("{len} are there, {lowered}").into()),
        };
        let mut wanted: Vec<String> = (first..300).map(|n| format!("{n:03}")).collect();
        wanted.extend((there.len() == 3).then(|| "new".to_owned()));
        assert_eq!(there, wanted);
        Ok(())
    };
    let test = CrashTest::new("evicting down", program)
        .invariant("the newest are there", newest)
        .random_images(2);
    run(test, 60);
}

/// The mistake that these tests are for: the victim goes in a commit of its own.
#[test]
fn a_victim_that_goes_in_a_commit_of_its_own_is_found() {
    let program = |run: &CrashRun<'_>| -> Outcome {
        let store = run.store()?;
        let cache = profiles(&store).capacity(CAPACITY);
        for (done, n) in (1_u64..=6).enumerate() {
            if n > CAPACITY {
                cache.remove(key(n - CAPACITY))?;
            }
            cache.insert(key(n), format!("{n}").repeat(100))?;
            run.witness("done", done as u64 + 1);
        }
        Ok(())
    };
    let as_inserted = |found: &AfterCrash<'_>| -> Outcome {
        let there = keys(&profiles(found.store()));
        let last = there.last().map_or(Ok(0), |key| key.parse::<u64>())?;
        assert_eq!(there.len() as u64, last.min(CAPACITY), "after {last}");
        Ok(())
    };
    let test = CrashTest::new("hasty", program).invariant("a victim has a successor", as_inserted);
    let found = test.run().expect_err("there is a moment with neither");
    assert!(found.what.contains("a victim has a successor"), "{found}");
}
