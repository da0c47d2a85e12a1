//! What is isolated from what: three jobs go through the routines of one worker.
//!
//! ```text
//! cargo run --example isolation_demo
//! cargo run --example isolation_demo -- A→B→C B   # with two jobs more
//! ```
//! Each routine has its state, each job its data, and all of them share what is named with
//! an underscore. The store is made anew in a folder that is removed behind it.

#![expect(clippy::print_stdout, reason = "the example's purpose")]

use std::error::Error;
use std::time::Duration;

use evenkeel::{
    Activation, Failure, Flow, PostOptions, Routine, RoutineSettings, Runtime, Shutdown, Store,
    Value, WorkerState,
};
use serde_json::json;

/// The ways of the jobs through the routines.
const CHAINS: [&str; 3] = ["A→B", "B→C", "C"];

struct StateDemo;

impl Routine for StateDemo {
    fn declare(&self, settings: &mut RoutineSettings) {
        settings
            .slot("input")
            .event_with("output", ["routine", "worker_state_count", "job_data"]);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        let routine = cx.routine();
        let job = cx
            .current_job()
            .ok_or_else(|| Failure::new("it handles one job at a time"))?;

        // The routine's own state, and nobody else's.
        let state = cx.state_accessor();
        let count = state.increment("count", 1)?;

        // The job's own data; what it has not is looked up in what it was posted with.
        let job_data: Option<String> = job.get_data("job_identifier")?;
        let job_data = job_data.unwrap_or_else(|| "not_set".into());
        job.set_data(&format!("processed_by_{routine}"), true)?;

        // What all routines and jobs of the worker share.
        let worker = cx.worker_state();
        if !job.get_data("counted")?.unwrap_or(false) {
            worker.increment_routine_state("_meta", "total_jobs", 1)?;
            job.set_data("counted", true)?;
        }
        let meta = worker.get_routine_state("_meta")?.unwrap_or_default();
        let total_jobs = meta.get("total_jobs").and_then(Value::as_i64);

        cx.println(format_args!(
            "[{routine}] routine_count={count}, job_data={job_data}, worker_total_jobs={}",
            total_jobs.unwrap_or(0),
        ));
        cx.emit(
            "output",
            json!({"routine": routine, "worker_state_count": count, "job_data": job_data}),
        )?;
        Ok(())
    }
}

fn flow() -> evenkeel::Result<Flow> {
    let mut flow = Flow::new("isolation_demo");
    for id in ["routine_a", "routine_b", "routine_c"] {
        flow.add_routine(id, StateDemo)?;
    }
    // A job takes a step if its chain has it.
    for (from, to, step) in [
        ("routine_a", "routine_b", "A→B"),
        ("routine_b", "routine_c", "B→C"),
    ] {
        flow.connect_when((from, "output"), (to, "input"), move |_event, job| {
            job.metadata("chain")
                .is_some_and(|chain| chain.contains(step))
        })?;
    }
    Ok(flow)
}

/// Posts a job and waits for it.
fn run(runtime: &Runtime, number: usize, chain: &str) -> Result<(), Box<dyn Error>> {
    let kind = match chain.contains('→') {
        true => "Chain",
        false => "Routine",
    };
    let blank = if number == 1 { "" } else { "\n" };
    println!("{blank}=== Job {number}: {kind} {chain} ===");
    let first: String = chain.chars().take(1).collect();
    let routine = format!("routine_{}", first.to_lowercase());
    let options = PostOptions {
        metadata: json!({"job_identifier": format!("job_{number}"), "chain": chain}).into(),
        ..PostOptions::default()
    };
    runtime.post_with("isolation_demo", &routine, "input", json!({}), options)?;
    runtime.wait_until_all_jobs_finished(Duration::from_secs(5))?;
    Ok(())
}

fn print_states(worker: &WorkerState) -> evenkeel::Result<()> {
    println!("\n=== Final WorkerState ===");
    for (name, state) in worker.routine_states()? {
        println!("  {name}: {}", as_python(&state));
    }
    Ok(())
}

/// A value as Python prints it.
fn as_python(value: &Value) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::String(text) => format!("'{text}'"),
        Value::List(items) => format!("[{}]", joined(items.iter().map(as_python).collect())),
        Value::Map(fields) => {
            let field = |(name, value)| format!("'{name}': {}", as_python(value));
            format!("{{{}}}", joined(fields.iter().map(field).collect()))
        }
        other => other.to_string(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("state"))?;
    let runtime = Runtime::builder(store).threads(3).start()?;
    runtime.register(flow()?)?;
    let worker = runtime.exec("isolation_demo")?;
    let more: Vec<String> = std::env::args().skip(1).collect();
    let chains = CHAINS.into_iter().chain(more.iter().map(String::as_str));
    for (index, chain) in chains.enumerate() {
        run(&runtime, index + 1, chain)?;
    }
    print_states(&worker)?;
    runtime.shutdown(Shutdown::Drain)?;
    Ok(())
}
