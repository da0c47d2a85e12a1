//! Work that survives: chains of steps that do nothing, what one costs alone, and what is
//! queued when the process is killed.

use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use evenkeel::{Durability, Runtime, RuntimeStats};

use crate::engines::OURS;
use crate::measure::{now, on_disk, peak_memory, percentiles};
use crate::runtimes::ours::{FIRST, LONGEST, Takes, chain, start};
use crate::runtimes::{STEPS, chains};
use crate::task::{Figure, Left, Outcome, Result, Task};

const MIB: u64 = 1 << 20;
/// How many chains of a peer are under way at a time.
const AT_A_TIME: u64 = 16;
/// The flow of most of these.
const ONE: &str = Takes::One.flow();

/// How many messages may wait in a slot: whatever is posted.
fn capacity(task: &Task) -> usize {
    usize::try_from(task.scale.jobs).unwrap_or(usize::MAX)
}

/// The figures of a runtime, once they count so many jobs as completed: they follow the
/// end of a job, which whoever waits sees first.
fn counted(runtime: &Runtime, jobs: u64) -> RuntimeStats {
    const WITHIN: Duration = Duration::from_secs(10);
    let begun = now();
    loop {
        let stats = runtime.stats();
        if stats.jobs_completed >= jobs || begun.elapsed() > WITHIN {
            return stats;
        }
        std::thread::yield_now();
    }
}

/// Chains of three steps: as many as can be.
pub(super) fn many(task: &Task) -> Result<Outcome> {
    let name = "durable steps/s, chains of three";
    if task.engine != OURS {
        let chained = chains(&task.engine, &task.folder, AT_A_TIME, task.scale.seconds)?;
        let figure = Figure::new(name, "/s", chained.rate).with(chained.latency);
        return Ok(Outcome {
            figures: vec![figure],
            ..Outcome::default()
        });
    }
    let jobs = task.scale.jobs / 10;
    let runtime = start(&task.folder, Durability::Memory)?;
    let mut figures = Vec::new();
    let ways = [
        (
            Takes::One,
            "activations/s, one message each, chains of three",
        ),
        (Takes::All, name),
    ];
    for (takes, name) in ways {
        let done = runtime.stats();
        runtime.register(chain(takes, capacity(task), || (), || ())?)?;
        let begun = now();
        for number in 0..jobs {
            runtime.post(takes.flow(), FIRST, "in", number)?;
        }
        runtime.wait_until_all_jobs_finished(LONGEST)?;
        let seconds = begun.elapsed().as_secs_f64();
        let stats = counted(&runtime, done.jobs_completed + jobs);
        let ended = stats.jobs_completed - done.jobs_completed;
        let activations = stats.activations_completed - done.activations_completed;
        if ended != jobs || (takes == Takes::One && activations != jobs * STEPS) {
            let why = runtime.dead_letters(0, 1)?;
            return Err(format!(
                "{jobs} jobs: {ended} completed by {activations} activations; {stats:?}; {why:?}"
            )
            .into());
        }
        figures.push(Figure::new(name, "/s", (jobs * STEPS) as f64 / seconds));
    }
    let peak = (peak_memory() / MIB) as f64;
    figures.push(Figure::new(
        "chains of three, peak memory, MiB",
        "MiB",
        peak,
    ));
    let _running = Box::leak(Box::new(runtime));
    Ok(Outcome {
        figures,
        left: Some(Left::Jobs { waiting: 0 }),
        ..Outcome::default()
    })
}

/// One chain after another, each awaited: what it takes, and how many syncs.
pub(super) fn alone(task: &Task) -> Result<Outcome> {
    let name = "durable chains/s of three steps, one after another";
    if task.engine != OURS {
        let chained = chains(&task.engine, &task.folder, 1, task.scale.seconds)?;
        let rate = chained.rate / STEPS as f64;
        return Ok(Outcome {
            figures: vec![Figure::new(name, "/s", rate).with(chained.latency)],
            ..Outcome::default()
        });
    }
    let runtime = start(&task.folder, Durability::Memory)?;
    runtime.register(chain(Takes::One, capacity(task), || (), || ())?)?;
    let syncs = runtime.store().stats()?.log_syncs;
    let mut nanos = Vec::new();
    let begun = now();
    while begun.elapsed().as_secs_f64() < task.scale.seconds {
        let from = now();
        let job = runtime.post(ONE, FIRST, "in", 7)?;
        job.wait(LONGEST)?;
        nanos.push(u32::try_from(from.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    let jobs = nanos.len() as f64;
    let rate = jobs / begun.elapsed().as_secs_f64();
    let syncs = (runtime.store().stats()?.log_syncs - syncs) as f64;
    let _running = Box::leak(Box::new(runtime));
    Ok(Outcome {
        figures: vec![
            Figure::new(name, "/s", rate).with(percentiles(&mut nanos)),
            Figure::new("syncs for a chain on its own", "", syncs / jobs),
        ],
        left: Some(Left::Jobs { waiting: 0 }),
        ..Outcome::default()
    })
}

/// From a post to the logic that it reaches, which nothing else keeps from running.
pub(super) fn post(task: &Task) -> Result<Outcome> {
    let runtime = start(&task.folder, Durability::Memory)?;
    let (sender, reached) = mpsc::channel::<Instant>();
    let mut flow = evenkeel::Flow::new(ONE);
    flow.add_fn(FIRST, move |_| {
        // Nobody waits any more where the workload has ended.
        let _ = sender.send(now());
        Ok(())
    })?;
    runtime.register(flow)?;
    let (mut nanos, mut posting) = (Vec::new(), Vec::new());
    let begun = now();
    while begun.elapsed().as_secs_f64() < task.scale.seconds {
        let from = now();
        runtime.post(ONE, FIRST, "in", 7)?;
        let posted = from.elapsed();
        let reached = reached.recv_timeout(LONGEST)?;
        let took = reached.saturating_duration_since(from);
        nanos.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
        posting.push(u32::try_from(posted.as_nanos()).unwrap_or(u32::MAX));
    }
    let (took, posting) = (percentiles(&mut nanos), percentiles(&mut posting));
    Ok(Outcome {
        figures: vec![
            Figure::new("from post to logic, p50 in µs, not durable", "µs", took.p50).with(took),
            Figure::new("the post alone, p50 in µs, not durable", "µs", posting.p50).with(posting),
        ],
        ..Outcome::default()
    })
}

/// Jobs that wait in a slot when the process is killed.
pub(super) fn queued(task: &Task) -> Result<Outcome> {
    let jobs = task.scale.jobs;
    let runtime = start(&task.folder, Durability::Memory)?;
    runtime.register(chain(Takes::One, capacity(task), || (), || ())?)?;
    let worker = runtime.exec(ONE)?;
    runtime.pause_worker(worker.worker_id())?;
    let begun = now();
    for number in 0..jobs {
        runtime.post(ONE, FIRST, "in", number)?;
    }
    runtime.store().barrier()?;
    let rate = jobs as f64 / begun.elapsed().as_secs_f64();
    let peak = (peak_memory() / MIB) as f64;
    let _running = Box::leak(Box::new(runtime));
    Ok(Outcome {
        figures: vec![
            Figure::new("queued jobs: posts/s, then one barrier", "/s", rate),
            Figure::new("queued jobs: peak memory, MiB", "MiB", peak),
        ],
        left: Some(Left::Jobs { waiting: jobs }),
        ..Outcome::default()
    })
}

/// Opens what was left, and runs what waits; nothing may run that had ended.
pub(super) fn resume(task: &Task, waiting: u64) -> Result<Outcome> {
    let ((first, started), (last, ended)) = (mpsc::channel(), mpsc::channel());
    let begun = now();
    let runtime = start(&task.folder, Durability::Memory)?;
    let opened = begun.elapsed();
    runtime.register(chain(Takes::All, capacity(task), || (), || ())?)?;
    let tell = |sender: Sender<Instant>| {
        move || {
            // Only the first of each is waited for.
            let _ = sender.send(now());
        }
    };
    runtime.register(chain(Takes::One, capacity(task), tell(first), tell(last))?)?;
    let mut figures = Vec::new();
    let mut figure = |what: &str, unit: &str, value: f64| {
        let name = format!("queued jobs after SIGKILL: {what}");
        figures.push(Figure::new(name, unit, value));
    };
    if waiting > 0 {
        for worker in runtime.list_workers() {
            runtime.resume_worker(worker.worker_id())?;
        }
        let since = |reached: Instant| reached.saturating_duration_since(begun).as_secs_f64();
        let started = since(started.recv_timeout(LONGEST)?);
        let ended = since(ended.recv_timeout(LONGEST)?);
        figure("s until the store is open", "s", opened.as_secs_f64());
        figure("s to the first activation", "s", started);
        figure("s to the last activation of the first job", "s", ended);
        figure("peak memory, MiB", "MiB", (peak_memory() / MIB) as f64);
    }
    runtime.wait_until_all_jobs_finished(LONGEST)?;
    let completed = counted(&runtime, waiting).jobs_completed;
    if completed != waiting {
        return Err(format!("{waiting} jobs waited, and {completed} were run").into());
    }
    if waiting > 0 {
        let rate = (waiting * STEPS) as f64 / begun.elapsed().as_secs_f64();
        figure("activations/s until all end", "/s", rate);
        let bytes = on_disk(&task.folder) / MIB;
        figure("MiB on disk at the end", "MiB", bytes as f64);
    }
    Ok(Outcome {
        figures,
        ..Outcome::default()
    })
}
