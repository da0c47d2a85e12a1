//! Commits: of one key and of batches, under each promise, and of a counter.

use std::sync::Arc;

use crate::data::{Key, Values, mixed, owned};
use crate::engines;
use crate::measure::{self, Timed, flushes, now};
use crate::task::{Figure, Left, Outcome, Promise, Result, Task};

/// True where a step writes, of the steps of which one of so many does.
pub(crate) fn writes_at(one_of: u64, step: u64) -> bool {
    one_of == 1 || mixed(step).is_multiple_of(one_of)
}

/// Keys that commits are spread over.
fn keys(task: &Task) -> u64 {
    task.scale.keys / 10
}

/// Threads commit keys of their own, so many at once.
pub(super) fn run(task: &Task, threads: u64, batch: u64, promise: Promise) -> Result<Outcome> {
    let keys = keys(task);
    let engine = engines::open(&task.engine, &task.folder, promise, keys)?;
    let engine = Box::leak(engine);
    let values = Arc::new(Values::new());
    let waits = promise == Promise::Sync;
    let timed = if waits { Timed::Each } else { Timed::Together };
    let (syncs, flushes) = (engine.syncs()?, flushes(&task.folder));
    let mut counted = measure::run(threads, task.scale.seconds, timed, |thread| {
        let mut session = engine.session()?;
        let values = Arc::clone(&values);
        let mut writes = Vec::new();
        Ok(move |step: u64| {
            if batch == 1 {
                let number = owned(thread, threads, keys, step);
                return session.put(&Key::new(number), &values.value(number, step));
            }
            writes.clear();
            writes.extend((step * batch..(step + 1) * batch).map(|step| {
                let number = owned(thread, threads, keys, step);
                (Key::new(number), values.value(number, step))
            }));
            session.batch(&writes)
        })
    })?;
    let commits: u64 = counted.steps.iter().sum();
    let flushes = measure::flushes(&task.folder).zip(flushes);
    let syncs = engine
        .syncs()?
        .zip(syncs)
        .map(|(after, before)| after - before);
    if promise == Promise::Process {
        engine.session()?.sync()?;
    }
    let plural = if threads == 1 { "" } else { "s" };
    let what = match promise {
        Promise::Process => "commits/s kept in the process".to_owned(),
        Promise::Kernel => "commits/s handed to the kernel".to_owned(),
        _ if batch > 1 => format!("durable batches of {batch}, keys/s, {threads} thread{plural}"),
        _ => format!("durable commits/s, {threads} thread{plural}"),
    };
    let mut figure = Figure::new(what, "/s", counted.rate * batch as f64);
    if waits {
        figure = figure.with(counted.latency());
    }
    let mut figures = vec![figure];
    if let Some(syncs) = syncs.filter(|_| waits) {
        // One thread has nobody to share a sync with.
        if syncs == 0 || (threads == 1 && syncs < commits) {
            return Err(format!("{commits} commits were acknowledged by {syncs} syncs").into());
        }
        let name = format!("commits of {batch} a sync, {threads} thread{plural}");
        figures.push(Figure::new(name, "a sync", commits as f64 / syncs as f64));
    }
    if let Some((after, before)) = flushes.filter(|_| waits && threads == 1 && batch == 1) {
        let each = (after - before) as f64 / commits as f64;
        let name = "flushes of the disk a commit, 1 thread (of the whole machine)";
        figures.push(Figure::new(name, "", each));
    }
    let acknowledged = counted.steps.iter().map(|steps| steps * batch);
    Ok(Outcome {
        figures,
        left: Some(Left::Steps {
            keys,
            one_of: 1,
            acknowledged: acknowledged.collect(),
        }),
        ..Outcome::default()
    })
}

/// How many commits pass between two looks at the clock.
const SUBMITTED_STRIDE: u64 = 64;

/// One thread commits and waits for the last only.
pub(super) fn submitted(task: &Task) -> Result<Outcome> {
    let keys = keys(task);
    let engine = engines::open(&task.engine, &task.folder, Promise::Submitted, keys)?;
    let engine = Box::leak(engine);
    let values = Values::new();
    let mut session = engine.session()?;
    let begun = now();
    let mut step: u64 = 0;
    while !step.is_multiple_of(SUBMITTED_STRIDE)
        || begun.elapsed().as_secs_f64() < task.scale.seconds
    {
        let number = owned(0, 1, keys, step);
        session.put(&Key::new(number), &values.value(number, step))?;
        step += 1;
    }
    session.sync()?;
    let rate = step as f64 / begun.elapsed().as_secs_f64();
    Ok(Outcome {
        figures: vec![Figure::new(
            "commits/s submitted, the last awaited",
            "/s",
            rate,
        )],
        left: Some(Left::Steps {
            keys,
            one_of: 1,
            acknowledged: vec![step],
        }),
        ..Outcome::default()
    })
}

/// Threads add to one counter.
pub(super) fn increments(task: &Task) -> Result<Outcome> {
    const THREADS: u64 = 16;
    let engine = engines::open(&task.engine, &task.folder, Promise::Sync, 1)?;
    let engine = Box::leak(engine);
    let is_floor = task.engine == engines::FLOOR;
    let value = Values::new().value(0, 0);
    let mut counted = measure::run(THREADS, task.scale.seconds, Timed::Each, |_| {
        let mut session = engine.session()?;
        Ok(move |_| match is_floor {
            true => session.put(&Key::new(0), &value),
            false => session.increment(),
        })
    })?;
    let sum = i64::try_from(counted.steps.iter().sum::<u64>())?;
    let name = format!("durable increments/s of one key, {THREADS} threads");
    Ok(Outcome {
        figures: vec![Figure::new(name, "/s", counted.rate).with(counted.latency())],
        left: Some(Left::Counter { sum }),
        ..Outcome::default()
    })
}
