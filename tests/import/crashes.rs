//! Crashes while a store is loaded: what is found is the first entries of the source, at
//! least those that were told as durable, with a record that says so; and running the
//! import again completes it.

use std::error::Error;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{ImportOutcome, Store};

use crate::parts::{entry, state, state_of};

type Outcome = Result<(), Box<dyn Error>>;

const COUNT: u64 = 60;
const BATCH: usize = 300;

fn load(store: &Store, mut told: impl FnMut(&evenkeel::ImportProgress)) -> evenkeel::Result<()> {
    let import = store.import("load").batch_bytes(BATCH);
    let report = import
        .progress(|p| told(p))
        .entries((0..COUNT).map(entry))?;
    assert_ne!(report.outcome, ImportOutcome::Stopped);
    Ok(())
}

fn program(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    let mut batches = 0;
    load(&store, |p| {
        run.witness("durable", p.durable);
        batches += 1;
        // A poisoned store says so at the next batch.
        if batches % 4 == 0 && store.barrier().is_ok() {
            run.witness("durable", p.entries);
        }
        if batches == 6 {
            let _ = store.checkpoint();
        }
        if batches == 9 {
            let _ = store.snapshot();
        }
    })?;
    run.witness("durable", COUNT);
    Ok(())
}

fn first_entries(found: &AfterCrash<'_>) -> Outcome {
    let store = found.store();
    let status = store.import("load").status()?.unwrap_or_default();
    let durable = found
        .all_witnessed("durable")
        .filter_map(|n| n.as_u64())
        .max();
    if status.imported < durable.unwrap_or(0) {
        return Err(format!("{} of {durable:?} are there", status.imported).into());
    }
    match state(store) == state_of(status.imported) {
        true => Ok(()),
        false => Err(format!("not the first {}", status.imported).into()),
    }
}

/// On a copy: an invariant changes nothing, and a copy knows its imports too.
fn goes_on(found: &AfterCrash<'_>) -> Outcome {
    let store = &found.store().persist("data/copy")?;
    load(store, |_| ())?;
    let status = store.import("load").status()?.ok_or("it is not known")?;
    assert!(status.finished && status.imported == COUNT, "{status:?}");
    match state(store) == state_of(COUNT) {
        true => Ok(()),
        false => Err("it is not complete".into()),
    }
}

#[test]
fn after_any_crash_the_first_entries_are_there_and_the_rest_can_be_loaded() {
    let points = std::env::var("EVENKEEL_CRASH_POINTS");
    let mut test = CrashTest::new("import", program)
        .invariant(
            "the first entries are there, and those told as durable",
            first_entries,
        )
        .invariant("running it again completes it", goes_on);
    match points.as_deref() {
        Ok("all") => {}
        Ok(number) => test = test.sample(number.parse().unwrap()),
        Err(_) => test = test.sample(250),
    }
    let certificate = test.run().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(certificate.summary.points > 0);
}
