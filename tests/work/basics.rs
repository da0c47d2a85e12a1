//! Posting, hops, fan-out and fan-in, cycles, state, and where a job ends.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use evenkeel::{
    ActivationPolicy, Error, Flow, JobStatus, PostOptions, Runtime, Scope, Store, Value, WorkError,
    WorkerStatus, current_job,
};
use serde_json::json;

use crate::rig::{LONG, finish, gate, start};

fn number(value: &Value) -> i64 {
    value.get("n").and_then(Value::as_i64).unwrap()
}

/// Adds a routine that emits its number plus one.
fn add(flow: &mut Flow, id: &str) {
    let logic = |cx: &mut evenkeel::Activation| {
        for event in cx.data("in") {
            cx.emit("out", json!({"n": number(event.data()) + 1}))?;
        }
        Ok(())
    };
    let routine = flow.add_fn(id, logic).unwrap();
    routine.policy(ActivationPolicy::batch_size(1));
}

/// Adds a routine that gives what it gets as a result of its job.
fn end(flow: &mut Flow, id: &str) {
    let logic = |cx: &mut evenkeel::Activation| {
        for event in cx.data("in") {
            cx.result(number(event.data()))?;
        }
        Ok(())
    };
    flow.add_fn(id, logic).unwrap();
}

#[test]
fn many_hops_deliver_once_and_the_job_is_the_same_downstream() {
    let mut flow = Flow::new("chain");
    let hops: Vec<String> = (0..10).map(|hop| format!("hop-{hop}")).collect();
    for hop in &hops {
        add(&mut flow, hop);
    }
    end(&mut flow, "end");
    flow.pipe(hops.iter().map(String::as_str).chain(["end"]))
        .unwrap();
    let runtime = start(flow);
    let job = runtime
        .post("chain", "hop-0", "in", json!({"n": 0}))
        .unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
    assert_eq!(job.results(), [Value::from(10)]);
    let worker = runtime.get_worker("chain").unwrap();
    assert_eq!((worker.jobs_processed(), worker.jobs_failed()), (1, 0));
    assert_eq!(worker.execution_history().len(), 11);
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!(worker.status(), WorkerStatus::Idle);
}

#[test]
fn fan_out_reaches_each_consumer_once_and_fan_in_waits_for_both() {
    let mut flow = Flow::new("fan");
    add(&mut flow, "source");
    add(&mut flow, "left");
    add(&mut flow, "right");
    let joined = |cx: &mut evenkeel::Activation| {
        let left = number(cx.one("left").unwrap().data());
        let right = number(cx.one("right").unwrap().data());
        cx.result(left * 100 + right)?;
        Ok(())
    };
    let join = flow.add_fn("join", joined).unwrap();
    join.slot("left").slot("right");
    join.policy(ActivationPolicy::all_slots_ready());
    flow.connect("source.out", "left.in").unwrap();
    flow.connect("source.out", "right.in").unwrap();
    flow.connect("left.out", "join.left").unwrap();
    flow.connect("right.out", "join.right").unwrap();
    let runtime = start(flow);
    let jobs: Vec<_> = (0..20)
        .map(|n| {
            runtime
                .post("fan", "source", "in", json!({"n": n}))
                .unwrap()
        })
        .collect();
    finish(&runtime);
    let results: Vec<_> = jobs.iter().flat_map(|job| job.results()).collect();
    assert_eq!(results.len(), 20);
}

#[test]
fn a_cycle_ends_when_it_emits_no_more() {
    let mut flow = Flow::new("cycle");
    let logic = |cx: &mut evenkeel::Activation| {
        for event in cx.data("in") {
            match number(event.data()) {
                50 => cx.result(50)?,
                n => cx.emit("out", json!({"n": n + 1}))?,
            }
        }
        Ok(())
    };
    flow.add_fn("loop", logic).unwrap();
    flow.connect("loop.out", "loop.in").unwrap();
    let runtime = start(flow);
    let job = runtime
        .post("cycle", "loop", "in", json!({"n": 0}))
        .unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from(50)]);
}

#[test]
fn conditions_see_the_activations_own_writes_and_fall_through_to_metadata() {
    let mut flow = Flow::new("orders");
    let logic = |cx: &mut evenkeel::Activation| {
        let job = cx.current_job().unwrap();
        cx.emit("out", json!({"n": 1}))?;
        job.set_data("checked", true)?;
        Ok(())
    };
    let check = flow.add_fn("check", logic).unwrap();
    check.policy(ActivationPolicy::batch_size(1));
    end(&mut flow, "gold");
    end(&mut flow, "checked");
    flow.connect_when("check.out", "gold.in", |_, job| {
        job.metadata("tier") == Some("gold")
    })
    .unwrap();
    let checked = |_: &evenkeel::Event, job: &evenkeel::JobView<'_>| {
        job.get_data::<bool>("checked")
            .map(|checked| checked == Some(true))
    };
    flow.connect_when("check.out", "checked.in", checked)
        .unwrap();
    let runtime = start(flow);
    let gold = PostOptions::new().meta("tier", "gold");
    let gold = runtime
        .post_with("orders", "check", "in", (), gold)
        .unwrap();
    let plain = runtime.post("orders", "check", "in", ()).unwrap();
    finish(&runtime);
    assert_eq!(gold.results().len(), 2);
    assert_eq!(plain.results().len(), 1);
    assert_eq!(
        gold.get_data::<String>("tier").unwrap().as_deref(),
        Some("gold")
    );
}

#[test]
fn a_post_to_what_is_not_there_is_an_error_and_leaves_no_job_behind() {
    let mut flow = Flow::new("f");
    end(&mut flow, "a");
    let runtime = start(flow);
    let unknown = |outcome: evenkeel::Result<evenkeel::JobContext>, what: &str| {
        assert!(
            matches!(&outcome, Err(Error::Work(WorkError::Unknown { what: w, .. })) if *w == what),
            "{outcome:?}"
        );
    };
    unknown(runtime.post("g", "a", "in", ()), "flow");
    unknown(runtime.post("f", "b", "in", ()), "routine");
    unknown(runtime.post("f", "a", "other", ()), "slot");
    let nobody = PostOptions::new().worker("nobody");
    unknown(runtime.post_with("f", "a", "in", (), nobody), "worker");
    let list = PostOptions::new().metadata(json!([1]));
    assert!(matches!(
        runtime.post_with("f", "a", "in", (), list),
        Err(Error::Invalid { .. })
    ));
    assert_eq!(runtime.list_jobs().unwrap().len(), 0);
    finish(&runtime);
}

#[test]
fn a_given_id_is_kept_and_a_second_one_is_refused() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |_| Ok(())).unwrap();
    let runtime = start(flow);
    let with_id = || PostOptions::new().job_id("order-1").meta("user", 7);
    let job = runtime.post_with("f", "a", "in", (), with_id()).unwrap();
    assert_eq!(job.job_id(), "order-1");
    assert_eq!(job.metadata_value("user"), Some(&Value::from(7)));
    let again = runtime.post_with("f", "a", "in", (), with_id());
    assert!(matches!(again, Err(Error::Work(WorkError::Exists { .. }))));
    finish(&runtime);
    let again = runtime.post_with("f", "a", "in", (), with_id());
    assert!(matches!(again, Err(Error::Work(WorkError::Exists { .. }))));
    assert_eq!(runtime.list_jobs().unwrap().len(), 1);
}

#[test]
fn an_idempotency_key_gives_the_first_job_and_refuses_other_data() {
    let mut flow = Flow::new("f");
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&runs);
    let count = move |_: &mut evenkeel::Activation| {
        seen.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    flow.add_fn("a", count).unwrap();
    let runtime = start(flow);
    let post = |n: i64| {
        let key = PostOptions::new().key("order-42");
        runtime.post_with("f", "a", "in", json!({"n": n}), key)
    };
    let first = post(1).unwrap();
    assert_eq!(post(1).unwrap().job_id(), first.job_id());
    finish(&runtime);
    assert_eq!(post(1).unwrap().job_id(), first.job_id());
    assert!(matches!(
        post(2),
        Err(Error::Work(WorkError::KeyReused { .. }))
    ));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn the_current_job_is_none_outside_and_where_there_are_several() {
    let mut flow = Flow::new("batches");
    let seen: Arc<Mutex<Vec<(usize, bool)>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let logic = move |cx: &mut evenkeel::Activation| {
        let here = current_job().is_some();
        assert_eq!(here, cx.current_job().is_some());
        sink.lock().unwrap().push((cx.jobs().len(), here));
        Ok(())
    };
    let batch = flow.add_fn("batch", logic).unwrap();
    batch.policy(ActivationPolicy::batch_size(3));
    flow.add_fn("single", |cx| {
        assert_eq!(
            current_job().unwrap().job_id(),
            cx.current_job().unwrap().job_id()
        );
        cx.emit("out", ())?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    flow.connect("single.out", "batch.in").unwrap();
    let runtime = start(flow);
    assert!(current_job().is_none());
    for _ in 0..6 {
        runtime.post("batches", "single", "in", ()).unwrap();
    }
    finish(&runtime);
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, [(3, false), (3, false)]);
    assert!(
        runtime
            .list_jobs()
            .unwrap()
            .iter()
            .all(|job| job.status() == JobStatus::Completed)
    );
}

#[test]
fn no_update_is_lost_under_threads_and_lost_runs_leave_nothing() {
    let mut flow = Flow::new("count");
    let logic = |cx: &mut evenkeel::Activation| {
        let tx = cx.transaction()?;
        let global = tx.global();
        let n: i64 = global.get("n")?.unwrap_or(0);
        global.set("n", n + 1)?;
        cx.emit("out", ())?;
        Ok(())
    };
    flow.add_fn("count", logic).unwrap().concurrency(4);
    flow.add_fn("sink", |cx| {
        let many = cx.data("in").count() as i64;
        cx.state_accessor()
            .update("n", |n: Option<i64>| n.unwrap_or(0) + many)?;
        Ok(())
    })
    .unwrap();
    flow.connect("count.out", "sink.in").unwrap();
    let runtime = Runtime::builder(Store::in_memory())
        .threads(4)
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    for worker in ["a", "b", "c"] {
        runtime.exec_as("count", worker).unwrap();
    }
    for n in 0..600 {
        let worker = PostOptions::new().worker(["a", "b", "c"][n % 3]);
        runtime
            .post_with("count", "count", "in", (), worker)
            .unwrap();
    }
    finish(&runtime);
    // A count takes all that wait, so there may be fewer than posts; each is there once.
    let counted: i64 = runtime.store().global().get("n").unwrap().unwrap();
    let sunk: i64 = ["a", "b", "c"]
        .iter()
        .map(|worker| {
            let worker = runtime.get_worker(worker).unwrap();
            let state = worker.get_routine_state("sink").unwrap().unwrap();
            number(&state)
        })
        .sum();
    assert_eq!(counted, sunk);
    assert!(counted > 0);
}

#[test]
fn what_is_posted_inside_of_logic_is_part_of_its_commit() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.post("f", "b", "in", json!({"n": 7}))?;
        match cx.attempt() {
            1 => Err(evenkeel::Failure::new("not yet")),
            _ => Ok(()),
        }
    })
    .unwrap()
    .on_error(evenkeel::ErrorHandler::retry(1).delay(std::time::Duration::ZERO));
    end(&mut flow, "b");
    let runtime = start(flow);
    runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    let jobs = runtime.list_jobs().unwrap();
    let results: Vec<_> = jobs.iter().flat_map(|job| job.results()).collect();
    assert_eq!((jobs.len(), results), (2, vec![Value::from(7)]));
}

#[test]
fn waiting_inside_of_logic_is_an_error() {
    let (runtime_in, runtime_out) = std::sync::mpsc::channel::<Runtime>();
    let runtime_out = Mutex::new(runtime_out);
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        let runtime = runtime_out.lock().unwrap().recv_timeout(LONG)?;
        let waited = runtime.wait_until_all_jobs_finished(LONG);
        assert!(matches!(
            waited,
            Err(Error::Work(WorkError::InsideLogic { .. }))
        ));
        cx.result("waited not")?;
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    runtime_in.send(runtime.clone()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from("waited not")]);
}

#[test]
fn queues_of_two_workers_know_nothing_of_each_other() {
    let mut flow = Flow::new("f");
    end(&mut flow, "a");
    let runtime = start(flow);
    runtime.exec_as("f", "other").unwrap();
    runtime.pause_worker("other").unwrap();
    let other = PostOptions::new().worker("other");
    let waiting = runtime
        .post_with("f", "a", "in", json!({"n": 1}), other)
        .unwrap();
    let job = runtime.post("f", "a", "in", json!({"n": 2})).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.results(), [Value::from(2)]);
    assert_eq!(waiting.status(), JobStatus::Pending);
    runtime.resume_worker("other").unwrap();
    waiting.wait(LONG).unwrap();
}

#[test]
fn threads_bound_how_much_runs_at_once() {
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |_| {
        gate.pass();
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1))
    .concurrency(10);
    let runtime = start(flow);
    for _ in 0..6 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    keeper.wait();
    keeper.wait();
    assert_eq!(runtime.worker_details("f").unwrap().running.len(), 2);
    assert!(keeper.nobody_came());
    for _ in 0..6 {
        keeper.open();
    }
    finish(&runtime);
}

#[test]
fn one_workers_activations_of_one_routine_run_one_at_a_time() {
    let inside = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (inside_of, most_of) = (Arc::clone(&inside), Arc::clone(&most));
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |_| {
        let now = inside_of.fetch_add(1, Ordering::SeqCst) + 1;
        most_of.fetch_max(now, Ordering::SeqCst);
        std::thread::yield_now();
        inside_of.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    let runtime = Runtime::builder(Store::in_memory())
        .threads(4)
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    for _ in 0..300 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    finish(&runtime);
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn job_data_and_state_go_to_their_scopes() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        let job = cx.current_job().unwrap();
        job.set_data("seen", true)?;
        job.trace("a", "looked", json!({"at": 1}))?;
        cx.worker_state()
            .update_routine_state("_shared", json!({"n": 1}))?;
        cx.state_accessor().set("count", 1)?;
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.get_data("seen").unwrap(), Some(true));
    assert_eq!(job.trace_log().unwrap().len(), 1);
    let worker = runtime.get_worker("f").unwrap();
    let names: Vec<_> = worker
        .routine_states()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["a", "_shared"]);
    let scopes: BTreeSet<_> = runtime.store().scopes().unwrap().into_iter().collect();
    let expected = [Scope::worker("f"), Scope::job(job.job_id())];
    assert_eq!(scopes, BTreeSet::from(expected));
}
