//! The workflows of the project's fourth seed, "Workflow State Architecture", as flows:
//! sequential, parallel, conditional and loop. Each section says what its snippet became.

use evenkeel::{Activation, Aggregator, Failure, Flow, Scope, Value};
use serde_json::json;

use crate::parts::{Sink, finish, post, start};

/// "Sequential Workflows": a step reads what the one before it wrote, and writes for the
/// next one. The seed's state is that of a workflow: `Scope::workflow`, in the commit of
/// each step.
#[test]
fn sequential() {
    fn step(name: &'static str, before: Option<&'static str>) -> impl Logic {
        move |cx: &mut Activation| {
            let workflow = cx.transaction()?.scope(Scope::workflow("workflow_123"));
            let data: Vec<String> = match before {
                Some(before) => workflow.get(before)?.unwrap_or_default(),
                None => Vec::new(),
            };
            let done: Vec<_> = data.into_iter().chain([name.to_owned()]).collect();
            workflow.set(name, done)?;
            cx.emit("out", ())?;
            Ok(())
        }
    }
    let mut flow = Flow::new("sequential");
    flow.add_fn("load", step("load", None)).unwrap();
    flow.add_fn("process", step("process", Some("load")))
        .unwrap();
    flow.add_fn("save", step("save", Some("process"))).unwrap();
    flow.pipe(["load", "process", "save"]).unwrap();
    let runtime = start(flow);
    post(&runtime, "sequential", "load", json!({}));
    finish(&runtime);
    let saved: Option<Value> = runtime
        .store()
        .scope(Scope::workflow("workflow_123"))
        .get("save")
        .unwrap();
    assert_eq!(saved, Some(json!(["load", "process", "save"]).into()));
}

/// What a closure of a routine is.
trait Logic: Fn(&mut Activation) -> Result<(), Failure> + Send + Sync + 'static {}
impl<F: Fn(&mut Activation) -> Result<(), Failure> + Send + Sync + 'static> Logic for F {}

/// "Parallel Workflows": branches that set `branch_1_done` and `branch_2_done` at once, and
/// see that both are there. In the seed both may see it, or neither; here exactly one
/// commit is the second one, and what joins them runs once.
#[test]
fn parallel() {
    const JOBS: usize = 20;
    let sink = Sink::default();
    let mut flow = Flow::new("parallel");
    let fork = |cx: &mut Activation| Ok(cx.emit("out", ())?);
    flow.add_fn("fork", fork).unwrap();
    let join = Aggregator::all(["branch_1", "branch_2"]).unwrap();
    flow.add_routine("join", join).unwrap();
    flow.add_routine("sink", sink.clone()).unwrap();
    for (own, other) in [("branch_1", "branch_2"), ("branch_2", "branch_1")] {
        let branch = move |cx: &mut Activation| {
            for job in cx.jobs() {
                job.set_data(&format!("{own}_done"), true)?;
                let other: Option<bool> = job.get_data(&format!("{other}_done"))?;
                if other.is_some() {
                    job.set_data("all_done_seen_by", own)?;
                }
                cx.emit_for(&job, "out", own)?;
            }
            Ok(())
        };
        flow.add_fn(own, branch).unwrap();
        flow.connect(("fork", "out"), (own, "in")).unwrap();
        flow.connect((own, "out"), ("join", own)).unwrap();
    }
    flow.connect("join.out", "sink.in").unwrap();
    let runtime = start(flow);
    let jobs: Vec<_> = (0..JOBS)
        .map(|_| post(&runtime, "parallel", "fork", json!({})))
        .collect();
    finish(&runtime);
    let together = json!({"branch_1": "branch_1", "branch_2": "branch_2"});
    let expected = jobs
        .iter()
        .map(|job| format!("{}: {together}", job.job_id()));
    let mut expected: Vec<_> = expected.collect();
    expected.sort();
    assert_eq!(sink.sorted(), expected);
    for job in jobs {
        let job = runtime.get_job(job.job_id()).unwrap().unwrap();
        let seen: Option<String> = job.get_data("all_done_seen_by").unwrap();
        assert!(seen.is_some(), "the second commit sees the first one's");
    }
}

/// "Conditional Workflows": `retry_count` decides which branch is taken. The condition
/// sees what the activation that emits has written.
#[test]
fn conditional() {
    let sink = Sink::default();
    let mut flow = Flow::new("conditional");
    let try_it = |cx: &mut Activation| {
        let job = cx.current_job().ok_or_else(|| Failure::new("one job"))?;
        let count: u64 = job.get_data("retry_count")?.unwrap_or(0);
        job.set_data("retry_count", count + 1)?;
        cx.emit("out", count + 1)?;
        Ok(())
    };
    flow.add_fn("try", try_it).unwrap();
    flow.add_routine("give_up", sink.clone()).unwrap();
    fn should_retry(job: &evenkeel::JobView<'_>) -> evenkeel::Result<bool> {
        let count: Option<u64> = job.get_data("retry_count")?;
        Ok(count.is_none_or(|count| count < 3))
    }
    flow.connect_when("try.out", "try.in", |_, job| should_retry(job))
        .unwrap();
    flow.connect_when("try.out", "give_up.in", |_, job| {
        should_retry(job).map(|yes| !yes)
    })
    .unwrap();
    let runtime = start(flow);
    let job = post(&runtime, "conditional", "try", json!({}));
    finish(&runtime);
    assert_eq!(sink.lines(), [format!("{}: 3", job.job_id())]);
}

/// "Loop Workflows": `iteration` tracks the progress of a cycle, for each job its own.
#[test]
fn looping() {
    const ITERATIONS: u64 = 100;
    let sink = Sink::default();
    let mut flow = Flow::new("loop");
    let body = |cx: &mut Activation| {
        for job in cx.jobs() {
            let iteration: u64 = job.get_data("iteration")?.unwrap_or(0);
            job.set_data("iteration", iteration + 1)?;
            let done = iteration + 1 == ITERATIONS;
            let event = if done { "done" } else { "again" };
            cx.emit_for(&job, event, iteration + 1)?;
        }
        Ok(())
    };
    flow.add_fn("body", body).unwrap();
    flow.add_routine("sink", sink.clone()).unwrap();
    flow.connect("body.again", "body.in").unwrap();
    flow.connect("body.done", "sink.in").unwrap();
    let runtime = start(flow);
    let jobs: Vec<_> = (0..3)
        .map(|_| post(&runtime, "loop", "body", json!({})))
        .collect();
    finish(&runtime);
    let mut expected: Vec<_> = jobs
        .iter()
        .map(|job| format!("{}: {ITERATIONS}", job.job_id()))
        .collect();
    expected.sort();
    assert_eq!(sink.sorted(), expected);
}
