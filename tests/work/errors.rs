//! What follows from failures: retries, dead letters, jobs and workers that fail.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    Activation, ErrorHandler, ExecutionOutcome, Failure, Flow, JobStatus, Runtime, Value,
    WorkerStatus,
};
use serde_json::json;

use crate::rig::{LONG, finish, start, start_on, store};

fn failing(times: usize, handler: ErrorHandler) -> (Flow, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx: &mut Activation| {
        let run = count.fetch_add(1, Ordering::SeqCst);
        cx.emit("out", json!({"run": run}))?;
        match run < times {
            true => Err(Failure::new("no answer").kind("net")),
            false => Ok(()),
        }
    })
    .unwrap()
    .on_error(handler);
    flow.add_fn("b", |cx| {
        cx.result(cx.one("in").unwrap().get("run").cloned().unwrap())?;
        Ok(())
    })
    .unwrap();
    flow.connect("a.out", "b.in").unwrap();
    (flow, runs)
}

fn outcomes(runtime: &Runtime) -> Vec<ExecutionOutcome> {
    let worker = runtime.get_worker("f").unwrap();
    let history = worker.execution_history();
    history.iter().map(|entry| entry.outcome).collect()
}

#[test]
fn a_retry_runs_again_and_drops_what_the_failed_attempt_emitted() {
    let (flow, runs) = failing(2, ErrorHandler::retry(3).delay(Duration::ZERO));
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
    assert_eq!(job.results(), [Value::from(2)]);
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    use ExecutionOutcome::{Completed, Retried};
    assert_eq!(outcomes(&runtime), [Retried, Retried, Completed, Completed]);
}

#[test]
fn delays_grow_on_the_clock_of_the_store() {
    let handler = ErrorHandler::retry(2)
        .delay(Duration::from_secs(1))
        .backoff(2.0);
    let (flow, runs) = failing(2, handler);
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    for (attempt, after) in [(1, 1), (2, 2)] {
        runtime.wait_until_all_workers_idle(LONG).unwrap();
        let details = runtime.worker_details("f").unwrap();
        assert_eq!(details.retries[0].failed, attempt);
        assert_eq!(runs.load(Ordering::SeqCst), attempt as usize);
        clock.advance(Duration::from_secs(after));
        // The clock tells nobody that it was set, so somebody looks soon.
        while runs.load(Ordering::SeqCst) == attempt as usize {
            std::thread::yield_now();
        }
    }
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
}

#[test]
fn what_is_not_retryable_stops_and_its_jobs_fail() {
    let handlers = [
        ErrorHandler::stop(),
        ErrorHandler::retry(3)
            .delay(Duration::ZERO)
            .retryable(["disk"]),
        ErrorHandler::retry(0),
    ];
    for handler in handlers {
        let (flow, runs) = failing(9, handler);
        let runtime = start(flow);
        let job = runtime.post("f", "a", "in", json!({"n": 1})).unwrap();
        job.wait(LONG).unwrap();
        assert_eq!(job.status(), JobStatus::Failed);
        assert!(job.error().unwrap().contains("no answer"));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let letters = runtime.dead_letters(0, 10).unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].data(), &Value::from(json!({"n": 1})));
        assert_eq!(
            (letters[0].kind(), letters[0].routine()),
            (Some("net"), "a")
        );
        assert_eq!(runtime.get_worker("f").unwrap().jobs_failed(), 1);
        assert_eq!(
            runtime.get_worker("f").unwrap().status(),
            WorkerStatus::Idle
        );
    }
}

#[test]
fn continue_and_skip_let_the_job_go_on() {
    for (handler, outcome) in [
        (
            ErrorHandler::continue_on(),
            ExecutionOutcome::ErrorContinued,
        ),
        (ErrorHandler::skip(), ExecutionOutcome::Skipped),
    ] {
        let (flow, _) = failing(9, handler);
        let runtime = start(flow);
        let job = runtime.post("f", "a", "in", ()).unwrap();
        job.wait(LONG).unwrap();
        assert_eq!(job.status(), JobStatus::Completed);
        assert_eq!(runtime.dead_letters(0, 10).unwrap().len(), 1);
        assert_eq!(outcomes(&runtime), [outcome]);
    }
}

#[test]
fn a_critical_failure_fails_the_worker_and_all_its_jobs() {
    let (flow, _) = failing(9, ErrorHandler::stop().critical());
    let runtime = start(flow);
    runtime.pause_worker("f").unwrap();
    let jobs: Vec<_> = (0..3)
        .map(|_| runtime.post("f", "a", "in", ()).unwrap())
        .collect();
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    assert!(jobs.iter().all(|job| job.status() == JobStatus::Failed));
    assert_eq!(
        runtime.get_worker("f").unwrap().status(),
        WorkerStatus::Failed
    );
    assert!(
        runtime.post("f", "a", "in", ()).is_ok(),
        "a new default worker takes over"
    );
}

#[test]
fn a_panic_is_an_error_of_that_activation() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |_| panic!("at the wrong moment")).unwrap();
    flow.add_fn("b", |_| Ok(())).unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Failed);
    assert!(job.error().unwrap().contains("at the wrong moment"));
    assert_eq!(runtime.dead_letters(0, 1).unwrap()[0].kind(), Some("panic"));
    let job = runtime.post("f", "b", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
}

#[test]
fn a_dead_letter_is_edited_and_posted_again() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| match cx.one("in").unwrap().get("ok") {
        Some(_) => {
            cx.result("done")?;
            Ok(())
        }
        None => Err(Failure::new("bad input").permanent()),
    })
    .unwrap();
    let runtime = start(flow);
    let gold = evenkeel::PostOptions::new().meta("tier", "gold");
    runtime
        .post_with("f", "a", "in", json!({"n": 1}), gold)
        .unwrap()
        .wait(LONG)
        .unwrap();
    let letter = runtime.dead_letters(0, 10).unwrap().remove(0);
    runtime
        .edit_dead_letter(letter.id(), json!({"ok": true}))
        .unwrap();
    let edited = runtime.dead_letter(letter.id()).unwrap();
    assert_eq!(edited.original(), Some(&Value::from(json!({"n": 1}))));
    let job = runtime.repost_dead_letter(letter.id()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from("done")]);
    assert_eq!(job.metadata("tier"), Some("gold"));
    assert!(runtime.dead_letters(0, 10).unwrap().is_empty());
    assert!(runtime.repost_dead_letter(letter.id()).is_err());
}

#[test]
fn a_failing_job_takes_its_other_messages_along_and_leaves_those_of_others() {
    let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let mut flow = Flow::new("f");
    flow.add_fn("fails", |cx| {
        match cx.current_job().unwrap().metadata("bad") {
            Some(_) => Err(Failure::new("bad")),
            None => Ok(()),
        }
    })
    .unwrap()
    .priority(1);
    flow.add_fn("source", |cx| {
        cx.emit("out", ())?;
        Ok(())
    })
    .unwrap()
    .priority(2);
    flow.add_fn("late", move |cx| {
        sink.lock().unwrap().push(cx.data("in").count() as i64);
        Ok(())
    })
    .unwrap();
    flow.connect("source.out", "fails.in").unwrap();
    flow.connect("source.out", "late.in").unwrap();
    let runtime = Runtime::builder(evenkeel::Store::in_memory())
        .threads(1)
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    let bad = evenkeel::PostOptions::new().meta("bad", "yes");
    let bad = runtime.post_with("f", "source", "in", (), bad).unwrap();
    bad.wait(LONG).unwrap();
    assert_eq!(bad.status(), JobStatus::Failed);
    let good = runtime.post("f", "source", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(good.status(), JobStatus::Completed);
    assert_eq!(*seen.lock().unwrap(), [1]);
}
