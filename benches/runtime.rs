//! The runtime on a durable store: activations of a chain of three, posts, what a job of
//! three hops on its own costs in syncs, from a post to its logic, what jobs that wait cost
//! the others, and a million queued jobs that are there again after SIGKILL. `cargo bench --bench runtime [-- FOLDER]`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use evenkeel::{
    ActivationPolicy, Durability, Flow, JobStatus, KeepJobs, PostOptions, Runtime, SlotOptions,
    Store,
};

const CHAINS: usize = 50_000;
const ALONE: usize = 300;
const QUEUED: usize = 1_000_000;
const LONG: Duration = Duration::from_secs(600);
const REPETITIONS: usize = 5;
/// How many jobs wait beside the chains that are measured.
const LIVE: &str = "EVENKEEL_BENCH_LIVE";

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("queue"), Some(folder)) => queue(Path::new(&folder)),
        (Some("resume"), Some(folder)) => resume(Path::new(&folder)),
        (Some("chains"), Some(folder)) => {
            chains(Path::new(&folder), CHAINS);
        }
        (Some("alone"), Some(folder)) => alone(Path::new(&folder)),
        (Some("beside"), Some(folder)) => beside(Path::new(&folder)),
        (folder, _) => run(folder.map(PathBuf::from)),
    }
}

fn run(folder: Option<PathBuf>) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder.unwrap_or_else(|| temporary.path().to_owned());
    let mut rates: Vec<_> = (0..REPETITIONS)
        .map(|at| chains(&folder.join(format!("chains-{at}")), CHAINS))
        .collect();
    println!(
        "durable activations, chain of three, one poster: {:.0}/s (median of {REPETITIONS}, {:.0} to {:.0})",
        median(&mut rates),
        rates[0],
        rates[rates.len() - 1]
    );
    alone(&folder.join("alone"));
    let mut waits = to_logic(&folder.join("to-logic"));
    println!(
        "from a post that waits for no disk to its logic: p50 {:.1} µs, p99 {:.1} µs",
        median(&mut waits),
        waits[waits.len() * 99 / 100]
    );
    for live in [1, 10, 100, 1_000, 10_000, 100_000] {
        // In a process of its own, so that its memory is its own.
        let folder = folder.join(format!("beside-{live}"));
        let mut measured = child("beside", &folder);
        assert!(
            measured
                .env(LIVE, live.to_string())
                .status()
                .unwrap()
                .success()
        );
    }
    queued(&folder.join("queued"));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Three routines that do nothing but pass on.
fn chain(capacity: usize) -> Flow {
    let mut flow = Flow::new("chain");
    for id in ["a", "b", "c"] {
        let passes = move |cx: &mut evenkeel::Activation| match id {
            "c" => Ok(()),
            _ => Ok(cx.emit("out", ())?),
        };
        flow.add_fn(id, passes)
            .unwrap()
            .slot_with("in", SlotOptions::new().capacity(capacity))
            .policy(ActivationPolicy::batch_size(1));
    }
    flow.connect("a.out", "b.in").unwrap();
    flow.connect("b.out", "c.in").unwrap();
    flow
}

fn start(store: Store, flow: Flow) -> Runtime {
    let keep = KeepJobs::new().number(1_000);
    let runtime = Runtime::builder(store).keep_jobs(keep).start().unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("chain").unwrap();
    runtime
}

/// Activations a second: one thread posts, and waits for the end of all. Durable when that
/// returns; the posts wait for nothing.
fn chains(folder: &Path, chains: usize) -> f64 {
    let store = Store::builder()
        .durability(Durability::Interval(Duration::from_millis(5)))
        .open(folder)
        .unwrap();
    let runtime = start(store, chain(2 * chains));
    let begun = Instant::now();
    for _ in 0..chains {
        runtime.post("chain", "a", "in", ()).unwrap();
    }
    let posted = begun.elapsed();
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
    let taken = begun.elapsed();
    let stats = runtime.stats();
    assert_eq!(stats.activations_completed, 3 * chains as u64);
    println!(
        "  {chains} chains: posted in {posted:.2?}, done in {taken:.2?}, {} syncs",
        runtime.store().stats().unwrap().log_syncs
    );
    3.0 * chains as f64 / taken.as_secs_f64()
}

/// Syncs of a job on its own: posted durably, and waited for.
fn alone(folder: &Path) {
    let runtime = start(Store::open(folder).unwrap(), chain(1_000));
    let before = runtime.store().stats().unwrap().log_syncs;
    let mut times = Vec::new();
    for _ in 0..ALONE {
        let begun = Instant::now();
        let job = runtime.post("chain", "a", "in", ()).unwrap();
        job.wait(LONG).unwrap();
        assert_eq!(job.status(), JobStatus::Completed);
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    let syncs = runtime.store().stats().unwrap().log_syncs - before;
    println!(
        "a durable job of three hops on its own: {:.2} syncs, p50 {:.0} µs",
        syncs as f64 / ALONE as f64,
        median(&mut times)
    );
}

/// Microseconds from before a post to the beginning of its logic.
fn to_logic(folder: &Path) -> Vec<f64> {
    let store = Store::builder()
        .durability(Durability::Memory)
        .open(folder)
        .unwrap();
    let (tell, told) = channel();
    let mut flow = Flow::new("chain");
    flow.add_fn("a", move |_| {
        let _ = tell.send(Instant::now());
        Ok(())
    })
    .unwrap();
    let runtime = start(store, flow);
    let mut waits = Vec::new();
    for _ in 0..20_000 {
        let begun = Instant::now();
        runtime.post("chain", "a", "in", ()).unwrap();
        let there: Instant = told.recv().unwrap();
        waits.push(there.duration_since(begun).as_secs_f64() * 1e6);
    }
    waits
}

/// Chains beside so many jobs that wait: nothing of theirs may cost the others anything.
fn beside(folder: &Path) {
    let live: usize = std::env::var(LIVE).unwrap().parse().unwrap();
    let store = Store::builder()
        .durability(Durability::Memory)
        .open(folder)
        .unwrap();
    let runtime = start(store, chain(2 * CHAINS.max(live)));
    runtime.exec_as("chain", "held").unwrap();
    runtime.pause_worker("held").unwrap();
    let before = memory("VmRSS:");
    for number in 0..live {
        let held = PostOptions::new().worker("held");
        runtime.post_with("chain", "a", "in", number, held).unwrap();
    }
    let taken = memory("VmRSS:") - before;
    let begun = Instant::now();
    for _ in 0..CHAINS {
        runtime.post("chain", "a", "in", ()).unwrap();
    }
    let all = 3 * CHAINS as u64;
    while runtime.stats().activations_completed < all {
        std::thread::yield_now();
    }
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    println!("beside {live} jobs that wait: {rate:.0} activations/s; they take {taken} KiB");
}

fn child(mode: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).arg(folder);
    command
}

fn queued(folder: &Path) {
    let mut poster = child("queue", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(poster.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        if line.starts_with("queued") {
            break;
        }
    }
    // SIGKILL: no destructor runs.
    poster.kill().unwrap();
    poster.wait().unwrap();
    assert!(child("resume", folder).status().unwrap().success());
}

/// Posts jobs to a worker that is paused.
fn queue(folder: &Path) {
    let store = Store::builder()
        .durability(Durability::Memory)
        .open(folder)
        .unwrap();
    let runtime = start(store, chain(2 * QUEUED));
    runtime.pause_worker("chain").unwrap();
    let begun = Instant::now();
    for number in 0..QUEUED {
        runtime.post("chain", "a", "in", number).unwrap();
    }
    runtime.store().barrier().unwrap();
    println!(
        "queued {QUEUED} jobs, {:.0}/s, peak memory {} MiB",
        QUEUED as f64 / begun.elapsed().as_secs_f64(),
        peak_memory()
    );
    std::thread::park();
}

/// Goes on with them: the first that is done, then all.
fn resume(folder: &Path) {
    let begun = Instant::now();
    let store = Store::builder()
        .durability(Durability::Memory)
        .open(folder)
        .unwrap();
    println!("opened after {:.2} s", begun.elapsed().as_secs_f64());
    let runtime = start(store, chain(2 * QUEUED));
    println!("registered after {:.2} s", begun.elapsed().as_secs_f64());
    runtime.resume_worker("chain").unwrap();
    while runtime.stats().activations_completed == 0 {
        std::thread::yield_now();
    }
    println!(
        "a million queued jobs go on {:.2} s after the opening began, peak memory {} MiB",
        begun.elapsed().as_secs_f64(),
        peak_memory()
    );
    let begun = Instant::now();
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
    let rate = 3.0 * QUEUED as f64 / begun.elapsed().as_secs_f64();
    println!(
        "and are done at {rate:.0} activations/s, peak memory {} MiB",
        peak_memory()
    );
}

/// The most memory that this process ever had, in MiB.
fn peak_memory() -> u64 {
    memory("VmHWM:") / 1024
}

/// One of the figures of the kernel about the memory of this process, in KiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
