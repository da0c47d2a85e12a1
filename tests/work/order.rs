//! Who comes first: priorities within a worker, fairness between workers, and the order in
//! which messages came.

use std::sync::{Arc, Condvar, Mutex};

use evenkeel::{Activation, ActivationPolicy, Failure, Flow, PostOptions, Runtime, Store};
use serde_json::json;

use crate::rig::{LONG, builder, finish};

type Log = Arc<Mutex<Vec<String>>>;

fn logged(flow: &mut Flow, id: &'static str, log: &Log, priority: i32) {
    let log = Arc::clone(log);
    flow.add_fn(id, move |cx: &mut Activation| {
        let n = cx.one("in").and_then(|event| event.get("n")?.as_i64());
        let line = format!("{} {id} {}", cx.worker_id(), n.unwrap_or(-1));
        log.lock().unwrap().push(line);
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1))
    .priority(priority);
}

fn one_thread(flow: Flow) -> Runtime {
    let runtime = Runtime::builder(Store::in_memory()).threads(1).start();
    let runtime = runtime.unwrap();
    runtime.register(flow).unwrap();
    runtime
}

#[test]
fn the_highest_priority_goes_first_and_messages_in_their_order() {
    let log = Log::default();
    let mut flow = Flow::new("f");
    logged(&mut flow, "low", &log, -1);
    logged(&mut flow, "high", &log, 5);
    logged(&mut flow, "middle", &log, 0);
    let runtime = one_thread(flow);
    runtime.exec("f").unwrap();
    runtime.pause_worker("f").unwrap();
    for n in 0..3 {
        for routine in ["low", "middle", "high"] {
            runtime.post("f", routine, "in", json!({"n": n})).unwrap();
        }
    }
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    let expected: Vec<_> = ["high", "middle", "low"]
        .iter()
        .flat_map(|routine| (0..3).map(move |n| format!("f {routine} {n}")))
        .collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn routines_of_one_priority_take_turns() {
    let log = Log::default();
    let mut flow = Flow::new("f");
    logged(&mut flow, "a", &log, 0);
    logged(&mut flow, "b", &log, 0);
    let runtime = one_thread(flow);
    runtime.exec("f").unwrap();
    runtime.pause_worker("f").unwrap();
    for n in 0..3 {
        runtime.post("f", "a", "in", json!({"n": n})).unwrap();
        runtime.post("f", "b", "in", json!({"n": n})).unwrap();
    }
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    let expected = ["a 0", "b 0", "a 1", "b 1", "a 2", "b 2"];
    let expected: Vec<_> = expected.iter().map(|line| format!("f {line}")).collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn a_worker_with_much_to_do_holds_up_nobody() {
    let log = Log::default();
    let mut flow = Flow::new("f");
    logged(&mut flow, "a", &log, 0);
    let (gate, keeper) = crate::rig::gate();
    flow.add_fn("gate", move |_| {
        gate.pass();
        Ok(())
    })
    .unwrap();
    let runtime = one_thread(flow);
    for name in ["gate", "much", "little"] {
        runtime.exec_as("f", name).unwrap();
    }
    // The only thread stands at the gate while both get their work.
    let at = |worker: &str| PostOptions::new().worker(worker);
    runtime
        .post_with("f", "gate", "in", (), at("gate"))
        .unwrap();
    keeper.wait();
    for n in 0..50 {
        runtime
            .post_with("f", "a", "in", json!({"n": n}), at("much"))
            .unwrap();
    }
    for n in 0..2 {
        runtime
            .post_with("f", "a", "in", json!({"n": n}), at("little"))
            .unwrap();
    }
    keeper.open();
    finish(&runtime);
    let log = log.lock().unwrap();
    assert_eq!(
        log[..4],
        ["much a 0", "little a 0", "much a 1", "little a 1"]
    );
    assert_eq!(log.len(), 52);
}

#[test]
fn all_threads_come_to_logic_that_takes_its_time_whatever_they_did_before() {
    const THREADS: usize = 3;
    // Logic that meets waits until all threads are in it.
    let meeting: Arc<(Mutex<usize>, Condvar)> = Arc::default();
    let mut flow = Flow::new("f");
    let step = move |cx: &mut Activation| {
        let meets = cx.one("in").and_then(|event| event.data().as_bool());
        if meets != Some(true) {
            return Ok(());
        }
        let (count, changed) = &*meeting;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let all = count.div_ceil(THREADS) * THREADS;
        let (_count, waited) = changed
            .wait_timeout_while(count, LONG / 4, |count| *count < all)
            .unwrap();
        match waited.timed_out() {
            true => Err(Failure::new("the others did not come")),
            false => Ok(()),
        }
    };
    flow.add_fn("step", step)
        .unwrap()
        .policy(ActivationPolicy::batch_size(1))
        .concurrency(THREADS);
    let runtime = builder().threads(THREADS).start().unwrap();
    runtime.register(flow).unwrap();
    for _ in 0..10 {
        // These are over so soon that threads stand in each other's way.
        for at in 0..300 + THREADS {
            runtime.post("f", "step", "in", at >= 300).unwrap();
        }
        finish(&runtime);
    }
    let worker = runtime.get_worker("f").unwrap();
    assert_eq!((worker.jobs_processed(), worker.jobs_failed()), (3030, 0));
}
