//! Crashes anywhere: a flow with fan-out, a cycle, a retry, a timer and an effect
//! runs on a simulated disk that is stopped at its calls. Whatever is found, every job that
//! was posted ends, and each thing was counted once.

use std::time::Duration;

use evenkeel::testing::CrashTest;
use evenkeel::{
    Activation, ActivationPolicy, ErrorHandler, Failure, Flow, JobStatus, Runtime, Store, Value,
};
use serde_json::json;

use crate::rig::LONG;

const JOBS: u64 = 5;

/// The number in the message of a slot.
pub(crate) fn n_of(cx: &Activation, slot: &str) -> i64 {
    let n = cx.one(slot).and_then(|event| event.get("n"));
    n.and_then(Value::as_i64).unwrap_or(0)
}

/// How many places to stop at are tried.
pub(crate) fn points() -> usize {
    let points = std::env::var("EVENKEEL_CRASH_POINTS").ok();
    points.and_then(|points| points.parse().ok()).unwrap_or(60)
}

fn flow() -> evenkeel::Result<Flow> {
    let mut flow = Flow::new("f");
    let single = ActivationPolicy::batch_size(1);
    flow.add_fn("source", |cx| {
        cx.emit("out", json!({"n": 3}))?;
        Ok(())
    })?
    .policy(single.clone());
    // Counts down by emitting to itself.
    flow.add_fn("loop", |cx| {
        match n_of(cx, "in") {
            0 => cx.emit("end", json!({"n": 1}))?,
            n => cx.emit("again", json!({"n": n - 1}))?,
        }
        Ok(())
    })?
    .policy(single.clone())
    .event("again")
    .event("end");
    // Fails once, after an effect.
    flow.add_fn("retry", |cx| {
        let seen: i64 = cx.once("effect", || Ok::<_, Failure>(7))?;
        if cx.attempt() == 1 {
            return Err(Failure::new("not yet"));
        }
        cx.emit("out", json!({"n": seen - 6}))?;
        Ok(())
    })?
    .policy(single.clone())
    .on_error(ErrorHandler::retry(3).delay(Duration::ZERO));
    // Goes on by a timer.
    flow.add_fn("later", |cx| {
        let timer = format!("t-{}", cx.current_job().map_or("", |_| "of a job"));
        match cx.one("in").and_then(|event| event.event_name()) {
            Some("out") => {
                let name = format!("{timer} {}", cx.id());
                cx.set_timer(&name, "in", Duration::ZERO, json!({"n": 1}))?;
            }
            _ => cx.emit("end", json!({"n": 1}))?,
        }
        Ok(())
    })?
    .policy(single.clone());
    flow.add_fn("total", |cx| {
        cx.state_accessor().increment("count", n_of(cx, "in"))?;
        for job in cx.jobs() {
            job.update_data("seen", |seen: Option<i64>| seen.unwrap_or(0) + 1)?;
        }
        Ok(())
    })?
    .policy(single);
    for target in ["loop.in", "retry.in", "later.in"] {
        flow.connect("source.out", target)?;
    }
    flow.connect("loop.again", "loop.in")?;
    for end in ["loop.end", "retry.out", "later.end"] {
        flow.connect(end, "total.in")?;
    }
    Ok(flow)
}

fn begin(store: Store) -> evenkeel::Result<Runtime> {
    let runtime = Runtime::builder(store).threads(2).start()?;
    runtime.register(flow()?)?;
    Ok(runtime)
}

#[test]
fn every_job_ends_and_counts_once_wherever_the_program_is_stopped() {
    let certificate = CrashTest::new("a flow", |run| {
        let runtime = begin(run.store()?)?;
        runtime.exec("f")?;
        for n in 1..=JOBS {
            runtime.post("f", "source", "in", json!({"n": n}))?;
            run.witness("posted", n);
        }
        // Where the disk is full for ever it would wait for ever.
        runtime.wait_until_all_jobs_finished(Duration::from_secs(1))?;
        run.witness("finished", JOBS);
        Ok(())
    })
    .varies()
    .sample(points())
    // First, as the other one goes on with what it finds.
    .invariant("what was finished stays so", |found| {
        if found.witnessed("finished").is_some() {
            let runtime = Runtime::builder(found.store().clone()).threads(1).start()?;
            let jobs = runtime.list_jobs()?;
            assert_eq!(jobs.len() as u64, JOBS);
            assert!(jobs.iter().all(|job| job.status() == JobStatus::Completed));
        }
        Ok(())
    })
    .invariant("every job ends, and counts once", |found| {
        let runtime = begin(found.store().clone())?;
        runtime.wait_until_all_jobs_finished(LONG)?;
        let jobs = runtime.list_jobs()?;
        let posted = found.witnessed("posted").and_then(|n| n.as_u64());
        assert!(jobs.len() as u64 >= posted.unwrap_or(0), "{posted:?}");
        for job in &jobs {
            assert_eq!(job.status(), JobStatus::Completed);
            assert_eq!(job.get_data::<i64>("seen")?, Some(3));
        }
        let count = match runtime.get_worker("f") {
            Some(worker) => worker.get_routine_state("total")?,
            None => None,
        };
        let count = count.and_then(|state| state.get("count").and_then(Value::as_i64));
        assert_eq!(count.unwrap_or(0), 3 * jobs.len() as i64);
        assert!(runtime.dead_letters(0, 10)?.is_empty());
        Ok(())
    })
    .run();
    println!("{}", certificate.unwrap());
}
