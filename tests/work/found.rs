//! What was found by looking for it, and must not come back.

use std::time::Duration;

use evenkeel::testing::{Failure, Fault, SimDisk};
use evenkeel::{
    ActivationPolicy, Error, Event, Flow, JobStatus, JobView, PostOptions, Runtime, Scope,
    Shutdown, Store, Value, WorkError,
};
use serde_json::json;

use crate::rig::{LONG, finish, gate, start, start_on, store};

fn idle() -> Flow {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |_| Ok(())).unwrap();
    flow
}

/// A runtime that knows no flow yet, and a job that an earlier one left waiting.
fn left_waiting() -> (Runtime, String) {
    let store = Store::in_memory();
    let runtime = start_on(store.clone(), idle());
    runtime.pause_worker("f").unwrap();
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    drop(runtime);
    let runtime = Runtime::builder(store).start().unwrap();
    (runtime, id)
}

#[test]
fn results_of_a_job_that_goes_on_survive_a_restart() {
    let flow = || {
        let mut flow = Flow::new("f");
        flow.add_fn("a", |cx| {
            cx.result("first")?;
            cx.emit("out", ())?;
            Ok(())
        })
        .unwrap();
        flow.add_fn("b", |cx| {
            cx.result("second")?;
            Ok(())
        })
        .unwrap()
        .policy(ActivationPolicy::breakpoint());
        flow.connect("a.out", "b.in").unwrap();
        flow
    };
    let store = Store::in_memory();
    let runtime = start_on(store.clone(), flow());
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    drop(runtime);
    let runtime = start_on(store, flow());
    runtime.release("f", "b").unwrap();
    let job = runtime.wait_until_job_finished(&id, LONG).unwrap();
    assert_eq!(job.results(), ["first".into(), "second".into()]);
}

#[test]
fn a_job_that_is_cancelled_before_its_flow_is_registered_does_not_run() {
    let (runtime, id) = left_waiting();
    assert!(runtime.cancel_job(&id).unwrap());
    runtime.register(idle()).unwrap();
    assert_eq!(runtime.worker_details("f").unwrap().slots[0].waiting, 0);
    runtime.resume_worker("f").unwrap();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert!(
        runtime
            .get_worker("f")
            .unwrap()
            .execution_history()
            .is_empty()
    );
}

#[test]
fn a_parked_message_goes_with_its_job() {
    let (runtime, id) = left_waiting();
    let mut other = Flow::new("f").version(2);
    other.add_fn("b", |_| Ok(())).unwrap();
    runtime.register(other).unwrap();
    assert!(runtime.cancel_job(&id).unwrap());
    assert_eq!(runtime.worker_details("f").unwrap().parked_total, 0);
    assert_eq!(
        runtime.remap_parked("f", ("a", "in"), ("b", "in")).unwrap(),
        0
    );
}

#[test]
fn a_timer_that_was_due_while_its_worker_was_paused_fires_on_resume() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        if cx.one("in").unwrap().event_name().is_none() {
            cx.set_timer("t", "in", Duration::from_secs(1), ())?;
        }
        Ok(())
    })
    .unwrap();
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    runtime.pause_worker("f").unwrap();
    clock.advance(Duration::from_secs(5));
    // The clock's thread looks at another worker after this one.
    runtime.exec_as("f", "other").unwrap();
    let other = evenkeel::PostOptions::new().worker("other");
    let other = runtime.post_with("f", "a", "in", (), other).unwrap();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    clock.advance(Duration::from_secs(5));
    other.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Running);
    runtime.resume_worker("f").unwrap();
    job.wait(LONG).unwrap();
}

#[test]
fn logic_posts_while_the_runtime_drains() {
    let (gate, keeper) = gate();
    let mut flow = idle();
    flow.add_fn("b", move |cx| {
        gate.pass();
        cx.post("f", "a", "in", ())?;
        Ok(())
    })
    .unwrap();
    let store = Store::in_memory();
    let runtime = start_on(store.clone(), flow);
    let job = runtime.post("f", "b", "in", ()).unwrap();
    keeper.wait();
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| runtime.shutdown(Shutdown::Drain));
        while !matches!(
            runtime.post("f", "b", "in", ()),
            Err(Error::Work(WorkError::ShutDown))
        ) {
            keeper.open();
            std::thread::yield_now();
        }
        for _ in 0..1_000 {
            keeper.open();
        }
        ends.join().unwrap().unwrap();
    });
    assert_eq!(job.status(), JobStatus::Completed);
    let again = start_on(store, idle().version(2));
    let jobs = again.list_jobs().unwrap();
    assert!(jobs.iter().all(|job| job.status() == JobStatus::Completed));
}

#[test]
fn a_runtime_that_was_shut_down_does_not_let_go_of_what_another_one_has() {
    let store = Store::in_memory();
    let first = Runtime::builder(store.clone()).start().unwrap();
    first.shutdown(Shutdown::Abort).unwrap();
    let second = Runtime::builder(store.clone()).start().unwrap();
    drop(first);
    let third = Runtime::builder(store).start();
    assert!(matches!(third, Err(Error::Work(WorkError::AlreadyRunning))));
    drop(second);
}

#[test]
fn what_ran_of_a_stopped_worker_touches_nothing_of_the_next_one() {
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        if cx.one("in").unwrap().get("wait").is_some() {
            gate.pass();
        }
        cx.result("ran")?;
        Ok(())
    })
    .unwrap();
    let store = Store::in_memory();
    let runtime = start_on(store.clone(), flow);
    runtime.post("f", "a", "in", json!({"wait": 1})).unwrap();
    keeper.wait();
    runtime.stop_worker("f").unwrap();
    runtime.exec("f").unwrap();
    runtime.pause_worker("f").unwrap();
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    keeper.open();
    drop(runtime);
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.result("ran")?;
        Ok(())
    })
    .unwrap();
    let runtime = start_on(store, flow);
    runtime.resume_worker("f").unwrap();
    let job = runtime.wait_until_job_finished(&id, LONG).unwrap();
    assert_eq!(job.results(), ["ran".into()]);
}

#[test]
fn a_flow_is_registered_while_its_logic_posts() {
    let (gate, keeper) = gate();
    let flow = |version: u32, gate: Option<crate::rig::Gate>| {
        let mut flow = idle().version(version);
        flow.add_fn("b", move |cx| {
            if let Some(gate) = &gate {
                gate.pass();
            }
            cx.post("f", "a", "in", ())?;
            Ok(())
        })
        .unwrap();
        flow
    };
    let runtime = start(flow(1, Some(gate)));
    runtime.post("f", "b", "in", ()).unwrap();
    keeper.wait();
    std::thread::scope(|scope| {
        let registers = scope.spawn(|| runtime.register(flow(2, None)));
        keeper.open();
        registers.join().unwrap().unwrap();
    });
    finish(&runtime);
    assert_eq!(runtime.list_jobs().unwrap().len(), 2);
}

#[test]
fn a_condition_is_asked_about_messages_of_no_job() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        match cx.one("in").unwrap().event_name() {
            None => cx.set_interval("tick", "in", Duration::from_secs(1), ())?,
            Some(_) => cx.emit("out", json!({"from": "tick"}))?,
        }
        Ok(())
    })
    .unwrap();
    flow.add_fn("b", |cx| {
        cx.transaction()?.global().increment("b", 1)?;
        Ok(())
    })
    .unwrap();
    flow.connect_when("a.out", "b.in", |_, _| false).unwrap();
    let (store, clock) = store();
    let runtime = start_on(store, flow);
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    clock.advance(Duration::from_secs(1));
    let worker = runtime.get_worker("f").unwrap();
    while worker.execution_history().len() < 2 {
        std::thread::yield_now();
    }
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!(runtime.store().global().get::<i64>("b").unwrap(), None);
}

#[test]
fn a_job_that_is_read_back_says_whether_it_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("state")).unwrap();
    let runtime = start_on(store, idle());
    let id = runtime
        .post("f", "a", "in", ())
        .unwrap()
        .job_id()
        .to_owned();
    runtime.wait_until_job_finished(&id, LONG).unwrap();
    let job = runtime.get_job(&id).unwrap().unwrap();
    assert!(job.is_durable());
}

#[test]
fn one_of_two_jobs_of_an_activation_may_end_and_the_other_goes_on() {
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("pair", move |cx| {
        gate.pass();
        let events: Vec<_> = cx.data("in").collect();
        for event in events {
            for job in cx.jobs_of(event) {
                cx.emit_for(&job, "out", event.data())?;
            }
        }
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(2));
    flow.add_fn("end", |cx| {
        for event in cx.data("in") {
            cx.result(event.data())?;
        }
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    flow.connect("pair.out", "end.in").unwrap();
    let runtime = start(flow);
    let one = runtime.post("f", "pair", "in", 1).unwrap();
    let other = runtime.post("f", "pair", "in", 2).unwrap();
    keeper.wait();
    assert!(runtime.cancel_job(one.job_id()).unwrap());
    keeper.open();
    other.wait(LONG).unwrap();
    assert_eq!(
        (one.status(), other.status()),
        (JobStatus::Cancelled, JobStatus::Completed)
    );
    assert_eq!(other.results(), [2.into()]);
}

#[test]
fn one_event_in_two_slots_of_a_routine_is_in_each_for_the_jobs_that_it_passed_for() {
    let (tell, told) = std::sync::mpsc::channel();
    let mut flow = Flow::new("f");
    flow.add_fn("both", |cx| Ok(cx.emit("out", ())?))
        .unwrap()
        .policy(ActivationPolicy::batch_size(2));
    flow.add_fn("sorted", move |cx| {
        for slot in ["gold", "silver"] {
            for event in cx.data(slot) {
                let jobs = cx.jobs_of(event).into_iter();
                let ids: Vec<_> = jobs.map(|job| job.job_id().to_owned()).collect();
                tell.send((slot, ids)).unwrap();
            }
        }
        Ok(())
    })
    .unwrap()
    .slot("gold")
    .slot("silver")
    .policy(ActivationPolicy::all_slots_ready());
    for tier in ["gold", "silver"] {
        let passes = move |_: &Event, job: &JobView<'_>| job.metadata("tier") == Some(tier);
        flow.connect_when("both.out", format!("sorted.{tier}").as_str(), passes)
            .unwrap();
    }
    let runtime = start(flow);
    for tier in ["gold", "silver"] {
        let options = PostOptions::new().job_id(tier).meta("tier", tier);
        runtime.post_with("f", "both", "in", (), options).unwrap();
    }
    finish(&runtime);
    let expected = ["gold", "silver"].map(|tier| (tier, vec![tier.to_owned()]));
    assert!(told.try_iter().eq(expected));
}

#[test]
fn waiting_ends_while_the_disk_takes_nothing() {
    let disk = SimDisk::new(1);
    let store = disk.store_builder().open("data/store").unwrap();
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.emit("out", ())?;
        Ok(())
    })
    .unwrap();
    flow.connect("a.out", "a.in").unwrap();
    let runtime = start_on(store, flow);
    runtime.post("f", "a", "in", ()).unwrap();
    disk.fail(Fault::Operation {
        at: disk.operations() + 1,
        failure: Failure::Io,
        lasting: true,
    });
    // Some meet the end of the store, others that of their time; all of them come back.
    let waits = || {
        runtime
            .wait_until_all_workers_idle(Duration::from_millis(300))
            .is_err()
    };
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(waits)).collect();
        assert!(waiting.into_iter().all(|waited| waited.join().unwrap()));
    });
}

#[test]
fn who_waits_is_told_that_the_store_takes_nothing() {
    let disk = SimDisk::new(1);
    let store = disk.store_builder().open("data/store").unwrap();
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        // More than what is left of any segment of the log.
        let state = cx.transaction()?.scope(Scope::Global);
        for part in 0..30 {
            state.set(format!("part {part}"), Value::Bytes(vec![7; 1_000_000]))?;
        }
        Ok(())
    })
    .unwrap();
    let runtime = start_on(store, flow);
    disk.set_capacity(Some(0));
    let job = runtime.post("f", "a", "in", ()).unwrap();
    loop {
        match job.wait(Duration::from_millis(1)) {
            Err(Error::Work(WorkError::TimedOut { holding, .. }))
                if holding
                    .iter()
                    .any(|line| line.contains("the store takes nothing")) =>
            {
                break;
            }
            Err(Error::Work(WorkError::TimedOut { .. })) => {}
            other => panic!("{other:?}: {:?}", job.error()),
        }
    }
    disk.set_capacity(None);
    job.wait(LONG).unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
    // It takes everything again, and nobody is told otherwise.
    runtime.pause_worker("f").unwrap();
    let job = runtime.post("f", "a", "in", ()).unwrap();
    match job.wait(Duration::ZERO) {
        Err(Error::Work(WorkError::TimedOut { holding, .. })) => {
            let told = holding.iter().any(|line| line.contains("takes nothing"));
            assert!(!told, "{holding:?}");
        }
        other => panic!("{other:?}"),
    }
}
