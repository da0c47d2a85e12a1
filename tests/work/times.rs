//! Timers, intervals and timeouts, on a clock that stands until it is moved.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{ActivationPolicy, ErrorHandler, Flow, JobStatus, Runtime};

use crate::rig::{LONG, finish, gate, start_on, store};

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::yield_now();
    }
}

fn timers(runtime: &Runtime) -> usize {
    runtime.worker_details("f").unwrap().timers_total
}

#[test]
fn a_job_lasts_until_its_timer_has_fired_once() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        match cx.one("in").unwrap().event_name() {
            None => cx.set_timer("later", "in", Duration::from_secs(10), "ring")?,
            Some(name) => cx.result(name)?,
        }
        Ok(())
    })
    .unwrap();
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!((job.status(), timers(&runtime)), (JobStatus::Running, 1));
    clock.advance(Duration::from_secs(10));
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), ["later".into()]);
    assert_eq!(timers(&runtime), 0);
}

#[test]
fn a_timer_of_the_same_name_is_replaced_and_one_that_is_cancelled_holds_nothing() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.set_timer("t", "in", Duration::from_secs(10), ())?;
        if cx.one("in").unwrap().get("cancel").is_some() {
            cx.cancel_timer("t")?;
        }
        Ok(())
    })
    .unwrap();
    let (store, _clock) = store();
    let runtime = start_on(store, flow);
    let first = runtime.post("f", "a", "in", ()).unwrap();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    let second = runtime.post("f", "a", "in", ()).unwrap();
    // The first timer was replaced, so nothing holds the first job.
    first.wait(LONG).unwrap();
    assert_eq!((second.status(), timers(&runtime)), (JobStatus::Running, 1));
    runtime
        .post("f", "a", "in", serde_json::json!({"cancel": 1}))
        .unwrap();
    finish(&runtime);
    assert_eq!(timers(&runtime), 0);
}

#[test]
fn an_interval_belongs_to_the_worker() {
    let rings: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sink = Arc::clone(&rings);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        match cx.one("in").unwrap().event_name() {
            None => cx.set_interval("tick", "in", Duration::from_secs(5), ())?,
            Some(_) => sink.lock().unwrap().push(cx.jobs().len()),
        }
        Ok(())
    })
    .unwrap();
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    for ring in 1..=3 {
        clock.advance(Duration::from_secs(5));
        eventually("it rings", || rings.lock().unwrap().len() == ring);
    }
    // What was missed is sent once.
    clock.advance(Duration::from_secs(500));
    eventually("it rings again", || rings.lock().unwrap().len() == 4);
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!(*rings.lock().unwrap(), [0, 0, 0, 0]);
}

#[test]
fn a_batch_does_not_wait_longer_than_it_may() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.result(cx.data("in").count())?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(3).max_wait(Duration::from_secs(5)));
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    clock.advance(Duration::from_secs(5));
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [1.into()]);
}

#[test]
fn a_time_interval_takes_what_came_in_between_at_its_end() {
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        sink.lock().unwrap().push(cx.data("in").count());
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::time_interval(Duration::from_secs(60)));
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    for _ in 0..3 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    clock.advance(Duration::from_secs(60));
    finish(&runtime);
    assert_eq!(*seen.lock().unwrap(), [1, 3]);
}

#[test]
fn what_takes_too_long_cannot_commit_and_its_retry_waits_for_it() {
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        cx.transaction()?.global().increment("runs", 1)?;
        if cx.attempt() == 1 {
            gate.pass();
        }
        cx.result(cx.attempt())?;
        Ok(())
    })
    .unwrap()
    .timeout(Duration::from_secs(30))
    .on_error(ErrorHandler::retry(1).delay(Duration::ZERO));
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    keeper.wait();
    clock.advance(Duration::from_secs(31));
    eventually("it is stuck", || {
        let details = runtime.worker_details("f").unwrap();
        details.running.iter().any(|run| run.stuck)
    });
    keeper.open();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [2.into()]);
    assert_eq!(
        runtime.store().global().get::<i64>("runs").unwrap(),
        Some(1)
    );
}
