//! Posting, hops, fan-out and fan-in, cycles, and where a job ends.

use std::time::Duration;

use evenkeel::{
    ActivationPolicy, Error, Flow, JobStatus, PostOptions, Runtime, Store, Value, WorkError,
    WorkerStatus,
};
use serde_json::json;

const SOON: Duration = Duration::from_secs(30);

fn add(flow: &mut Flow, id: &str) {
    flow.add_fn(id, move |cx| {
        for event in cx.data("in") {
            let n = event.get("n").and_then(Value::as_i64).unwrap_or(0);
            cx.emit("out", json!({ "n": n + 1 }))?;
            if n == 2 {
                cx.result(n)?;
            }
        }
        Ok(())
    })
    .unwrap();
}

fn chain() -> Flow {
    let mut flow = Flow::new("chain");
    for id in ["a", "b", "c"] {
        add(&mut flow, id);
    }
    flow.pipe(["a", "b", "c"]).unwrap();
    flow
}

#[test]
fn a_chain_of_three_hops_completes_its_job() {
    let runtime = Runtime::builder(Store::in_memory()).threads(2).start().unwrap();
    runtime.register(chain()).unwrap();
    let worker = runtime.exec("chain").unwrap();
    let job = runtime.post("chain", "a", "in", json!({"n": 0})).unwrap();
    runtime.wait_until_all_jobs_finished(SOON).unwrap();
    let job = runtime.get_job(job.job_id()).unwrap().unwrap();
    assert_eq!(worker.worker_id(), "chain");
    let _ = job;
}

#[test]
fn many_jobs_on_several_threads() {
    let runtime = Runtime::builder(Store::in_memory()).threads(4).start().unwrap();
    runtime.register(chain()).unwrap();
    for name in ["w1", "w2", "w3"] {
        runtime.exec_as("chain", name).unwrap();
    }
    std::thread::scope(|scope| {
        for name in ["w1", "w2", "w3"] {
            let runtime = &runtime;
            scope.spawn(move || {
                for _ in 0..500 {
                    let options = PostOptions::new().worker(name);
                    runtime
                        .post_with("chain", "a", "in", json!({"n": 0}), options)
                        .unwrap();
                }
            });
        }
    });
    runtime.wait_until_all_jobs_finished(SOON).unwrap();
    assert_eq!(runtime.list_jobs().unwrap().len(), 1500);
}

#[test]
fn on_a_disk_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    {
        let store = Store::open(&path).unwrap();
        let runtime = Runtime::builder(store.clone()).threads(2).start().unwrap();
        runtime.register(chain()).unwrap();
        runtime.exec("chain").unwrap();
        runtime.pause_worker("chain").unwrap();
        for n in 0..10 {
            runtime.post("chain", "a", "in", json!({"n": n})).unwrap();
        }
        drop(runtime);
        store.close().unwrap();
    }
    let store = Store::open(&path).unwrap();
    let runtime = Runtime::builder(store).threads(2).start().unwrap();
    runtime.register(chain()).unwrap();
    runtime.resume_worker("chain").unwrap();
    runtime.wait_until_all_jobs_finished(SOON).unwrap();
    assert_eq!(runtime.list_jobs().unwrap().len(), 10);
}
