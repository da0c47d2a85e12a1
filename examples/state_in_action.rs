//! State of a worker and data of its jobs: a cache that all jobs share, and what each of
//! them did.
//!
//! ```text
//! cargo run --example state_in_action
//! cargo run --example state_in_action -- other new   # with two jobs more
//! ```
//! The store is made anew in a folder that is removed behind it.

use std::error::Error;
use std::time::Duration;

use evenkeel::{
    Activation, Failure, Flow, Routine, RoutineSettings, Runtime, Shutdown, Store, Value,
};
use serde_json::json;

/// What the jobs ask for.
const KEYS: [&str; 3] = ["test", "test", "other"];

struct DataProcessor;

impl Routine for DataProcessor {
    fn declare(&self, settings: &mut RoutineSettings) {
        settings.slot("input").event_with("output", ["result"]);
    }

    fn run(&self, cx: &mut Activation) -> Result<(), Failure> {
        for item in cx.data("input") {
            let key = item.get("key").and_then(Value::as_str);
            let key = key.ok_or_else(|| Failure::new("an item has a key").permanent())?;

            // The worker's: a cache that lives as long as it does.
            let state = cx.state_accessor();
            let mut cache: Value = state.get("cache")?.unwrap_or_else(|| json!({}).into());
            let known = cache.get(key).and_then(Value::as_str).map(str::to_owned);
            let is_hit = known.is_some();
            let result = match known {
                Some(result) => {
                    cx.println(format_args!("[WorkerState] Cache HIT: {key}"));
                    state.increment("cache_hits", 1)?;
                    result
                }
                None => {
                    cx.println(format_args!("[WorkerState] Cache MISS: {key}"));
                    let result = format!("processed_{key}");
                    cache.merge([(key, result.as_str())].into_iter().collect());
                    state.set("cache", &cache)?;
                    state.increment("cache_misses", 1)?;
                    result
                }
            };

            // The job's: what it asked for, and what came of it.
            for job in cx.jobs_of(item) {
                job.set_data("processed_key", key)?;
                job.set_data("result", &result)?;
                let details = json!({"key": key, "cache_hit": is_hit});
                job.trace(cx.routine(), "completed", details)?;
                cx.emit_for(&job, "output", json!({"result": result}))?;
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path().join("state"))?;
    let runtime = Runtime::builder(store).start()?;
    let mut flow = Flow::new("state_demo");
    flow.add_routine("processor", DataProcessor)?;
    runtime.register(flow)?;
    runtime.exec("state_demo")?;

    let more: Vec<String> = std::env::args().skip(1).collect();
    for key in KEYS.into_iter().chain(more.iter().map(String::as_str)) {
        runtime.post("state_demo", "processor", "input", json!({"key": key}))?;
        runtime.wait_until_all_jobs_finished(Duration::from_secs(5))?;
    }
    runtime.shutdown(Shutdown::Drain)?;
    Ok(())
}
