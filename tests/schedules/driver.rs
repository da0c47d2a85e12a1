//! Owns running a scenario under many schedules. Half of them are chosen by chance at
//! each step, half by PCT: a fixed order of the threads with few changes, which finds
//! what needs one thread to stand still for long.
//!
//! - `EVENKEEL_SCHEDULES=N`: N schedules of each kind and scenario, instead of 150.
//! - `EVENKEEL_SCHEDULES_SEED=N`: others than those of seed 1.
//! - `EVENKEEL_SCHEDULE=…`: only this one, as a failure has printed it; with the name of
//!   the test.
//! - With `--nocapture` each scenario prints how much was run.

use std::env;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
    UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, MaxSteps, Runner};

/// More than any schedule of a scenario here takes by ten times.
const STEPS_MAX: usize = 400_000;

/// Opening and closing a store on one of shuttle's stacks takes more than its default.
const STACK_BYTES: usize = 512 * 1024;

/// How many times the order of the threads changes under PCT, and one.
const PCT_DEPTH: usize = 4;

fn number<T: FromStr>(name: &str, default: T) -> T {
    match env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is to be a number, not {text}")),
        Err(_) => default,
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    // It says that orderings of atomics are not explored; `src/sync/scheduled.rs` does.
    config.silence_warnings = true;
    config
}

/// Counts the steps of another scheduler.
#[derive(Debug)]
struct Counted<S> {
    inner: S,
    steps: Arc<AtomicU64>,
}

impl<S: Scheduler> Scheduler for Counted<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.inner.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.inner.next_task(runnable, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.inner.next_u64()
    }
}

/// Says how to run a failure again, where there was one.
struct OnFailure {
    seed: u64,
}

impl Drop for OnFailure {
    fn drop(&mut self) {
        if thread::panicking() {
            let thread = thread::current();
            let name = thread.name().unwrap_or_default();
            eprintln!(
                "{name} failed, seed {}. To run this schedule again:\n  \
                 EVENKEEL_SCHEDULE=<what is printed above as the failing schedule> \
                 RUSTFLAGS=\"--cfg evenkeel_shuttle\" cargo test --test schedules {name}",
                self.seed
            );
        }
    }
}

/// Runs a scenario under the schedules that the environment asks for.
pub(crate) fn explore(scenario: fn()) {
    explore_more(1, scenario);
}

/// As many times more of them: where a bug would take several threads that stand still
/// at just the right places, and a schedule is short.
pub(crate) fn explore_more(times: usize, scenario: fn()) {
    let seed = number("EVENKEEL_SCHEDULES_SEED", 1);
    let _on_failure = OnFailure { seed };
    if let Ok(schedule) = env::var("EVENKEEL_SCHEDULE") {
        let mut scheduler = ReplayScheduler::new_from_encoded(schedule.trim());
        // An engine that was put right leaves the schedule where it failed.
        scheduler.set_allow_incomplete();
        Runner::new(scheduler, config()).run(scenario);
        return;
    }
    let count = times * number("EVENKEEL_SCHEDULES", 150);
    let steps = Arc::new(AtomicU64::new(0));
    let random = Counted {
        inner: RandomScheduler::new_from_seed(seed, count),
        steps: Arc::clone(&steps),
    };
    let mut ran = Runner::new(random, config()).run(scenario);
    let pct = Counted {
        inner: PctScheduler::new_from_seed(seed, PCT_DEPTH, count),
        steps: Arc::clone(&steps),
    };
    ran += Runner::new(pct, config()).run(scenario);
    let name = thread::current();
    println!(
        "{}: {ran} schedules, {} steps",
        name.name().unwrap_or_default(),
        steps.load(Ordering::Relaxed)
    );
}

/// Runs each of a few schedules twice, and fails where the second run differs.
pub(crate) fn repeats_itself(scenario: fn()) {
    let inner = RandomScheduler::new_from_seed(7, 5);
    let scheduler = UncontrolledNondeterminismCheckScheduler::new(inner);
    Runner::new(scheduler, config()).run(scenario);
}
