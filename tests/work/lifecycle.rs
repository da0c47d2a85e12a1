//! Workers and jobs from outside: paused, stopped, cancelled, drained, aborted; what runs
//! then, and what is told to hooks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    ActivationPolicy, Error, Flow, Hooks, JobEnded, JobStarted, JobStatus, KeepJobs, Refusal,
    RoutineStarts, Runtime, Scope, Shutdown, Store, WorkError, WorkerStatus,
};
use serde_json::json;

use crate::rig::{LONG, finish, gate, start, start_on, store};

fn idle() -> Flow {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |_| Ok(())).unwrap();
    flow
}

#[test]
fn a_paused_worker_runs_nothing_and_drains_on_resume() {
    let runtime = start(idle());
    runtime.pause_worker("f").unwrap();
    for _ in 0..5 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    let worker = runtime.get_worker("f").unwrap();
    assert_eq!(worker.status(), WorkerStatus::Paused);
    assert_eq!(runtime.worker_details("f").unwrap().slots[0].waiting, 5);
    runtime.resume_worker("f").unwrap();
    finish(&runtime);
    assert_eq!(worker.jobs_processed(), 5);
}

#[test]
fn completed_is_final_and_an_idle_worker_takes_new_work() {
    let runtime = start(idle());
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
    runtime.exec_as("f", "other").unwrap();
    let other = || evenkeel::PostOptions::new().worker("other");
    runtime
        .post_with("f", "a", "in", (), other())
        .unwrap()
        .wait(LONG)
        .unwrap();
    runtime.complete_worker("other").unwrap();
    let ended = runtime.post_with("f", "a", "in", (), other());
    assert!(
        matches!(ended, Err(Error::Work(WorkError::Ended { .. }))),
        "{ended:?}"
    );
    assert!(runtime.resume_worker("other").is_err());
    assert_eq!(
        runtime.get_worker("other").unwrap().status(),
        WorkerStatus::Completed
    );
}

#[test]
fn stopping_a_worker_cancels_its_jobs() {
    let runtime = start(idle());
    runtime.pause_worker("f").unwrap();
    let job = runtime.post("f", "a", "in", ()).unwrap();
    runtime.stop_worker("f").unwrap();
    assert_eq!(job.status(), JobStatus::Cancelled);
    assert_eq!(
        runtime.get_worker("f").unwrap().status(),
        WorkerStatus::Stopped
    );
    finish(&runtime);
    // The default worker begins anew.
    runtime.exec("f").unwrap();
    runtime
        .post("f", "a", "in", ())
        .unwrap()
        .wait(LONG)
        .unwrap();
}

#[test]
fn a_cancelled_activation_cannot_commit() {
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        cx.transaction()?.global().set("written", true)?;
        gate.pass();
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    keeper.wait();
    assert!(runtime.cancel_job(job.job_id()).unwrap());
    assert_eq!(job.status(), JobStatus::Cancelled);
    assert!(runtime.worker_details("f").unwrap().running[0].stuck);
    keeper.open();
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    assert_eq!(
        runtime.store().global().get::<bool>("written").unwrap(),
        None
    );
    assert!(!runtime.cancel_job(job.job_id()).unwrap());
    assert!(runtime.cancel_job("nobody").is_err());
    finish(&runtime);
}

#[test]
fn a_shared_message_stays_for_the_others() {
    let mut flow = Flow::new("f");
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sink = Arc::clone(&seen);
    flow.add_fn("join", |cx| {
        cx.emit("out", ())?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(2));
    flow.add_fn("held", move |cx| {
        sink.lock().unwrap().push(cx.jobs().len());
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::breakpoint());
    flow.connect("join.out", "held.in").unwrap();
    let runtime = start(flow);
    let one = runtime.post("f", "join", "in", ()).unwrap();
    let other = runtime.post("f", "join", "in", ()).unwrap();
    while runtime.worker_details("f").unwrap().slots[1].waiting == 0 {
        std::thread::yield_now();
    }
    assert!(runtime.cancel_job(one.job_id()).unwrap());
    assert_eq!(other.status(), JobStatus::Running);
    runtime.release("f", "held").unwrap();
    other.wait(LONG).unwrap();
    assert_eq!(other.status(), JobStatus::Completed);
    assert_eq!(one.status(), JobStatus::Cancelled);
    assert_eq!(*seen.lock().unwrap(), [1]);
}

#[test]
fn draining_runs_all_that_waits_and_refuses_more() {
    let store = Store::in_memory();
    let runtime = start_on(store.clone(), idle());
    for _ in 0..200 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    runtime.shutdown(Shutdown::Drain).unwrap();
    assert!(matches!(
        runtime.post("f", "a", "in", ()),
        Err(Error::Work(WorkError::ShutDown))
    ));
    let again = Runtime::builder(store).start().unwrap();
    again.register(idle()).unwrap();
    assert!(
        again
            .list_jobs()
            .unwrap()
            .iter()
            .all(|job| job.status() == JobStatus::Completed)
    );
}

#[test]
fn aborting_leaves_what_was_not_run_for_the_next_start() {
    let store = Store::in_memory();
    let (gate, keeper) = gate();
    let mut flow = Flow::new("f");
    flow.add_fn("a", move |cx| {
        gate.pass();
        cx.result(1)?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    let runtime = start_on(store.clone(), flow);
    for _ in 0..5 {
        runtime.post("f", "a", "in", ()).unwrap();
    }
    keeper.wait();
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| runtime.shutdown(Shutdown::Abort));
        // Whichever were begun before.
        for _ in 0..5 {
            keeper.open();
        }
        ends.join().unwrap().unwrap();
    });
    let again = Runtime::builder(store).threads(1).start().unwrap();
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.result(2)?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(1));
    again.register(flow).unwrap();
    finish(&again);
    let jobs = again.list_jobs().unwrap();
    assert_eq!(jobs.len(), 5);
    assert!(jobs.iter().all(|job| job.results().len() == 1));
}

#[test]
fn a_store_has_one_runtime_at_a_time() {
    let store = Store::in_memory();
    let runtime = Runtime::builder(store.clone()).start().unwrap();
    let second = Runtime::builder(store.clone()).start();
    assert!(matches!(
        second,
        Err(Error::Work(WorkError::AlreadyRunning))
    ));
    drop(runtime);
    Runtime::builder(store).start().unwrap();
}

#[test]
fn finished_jobs_go_after_their_time_with_all_that_belongs_to_them() {
    let (store, clock) = store();
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.current_job().unwrap().set_data("x", 1)?;
        Ok(())
    })
    .unwrap();
    let keep = KeepJobs::new().time(Duration::from_secs(60)).number(100);
    let runtime = Runtime::builder(store).keep_jobs(keep).start().unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    let job = runtime.post("f", "a", "in", ()).unwrap();
    finish(&runtime);
    let scope = runtime.store().scope(Scope::job(job.job_id()));
    assert!(!scope.is_empty().unwrap());
    clock.advance(Duration::from_secs(61));
    while runtime.get_job(job.job_id()).unwrap().is_some() {
        std::thread::yield_now();
    }
    assert!(scope.is_empty().unwrap());
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

struct Logged(Arc<Log>);

impl Hooks for Logged {
    fn on_job_start(&self, job: &JobStarted<'_>) {
        self.0
            .0
            .lock()
            .unwrap()
            .push(format!("start {}", job.job_id));
    }

    fn on_job_end(&self, job: &JobEnded<'_>) {
        let line = format!("end {} {}", job.job_id, job.status);
        self.0.0.lock().unwrap().push(line);
    }

    fn on_routine_start(&self, start: &RoutineStarts<'_>) -> Result<(), Refusal> {
        match start.routine_id {
            "refused" => Err(Refusal::new("not at night")),
            _ => Ok(()),
        }
    }
}

#[test]
fn hooks_are_told_and_may_refuse() {
    let log: Arc<Log> = Arc::default();
    let mut flow = idle();
    flow.add_fn("refused", |_| Ok(())).unwrap();
    let runtime = Runtime::builder(Store::in_memory())
        .threads(1)
        .hooks(Logged(Arc::clone(&log)))
        .start()
        .unwrap();
    runtime.register(flow).unwrap();
    runtime.exec("f").unwrap();
    let with = |id: &str| evenkeel::PostOptions::new().job_id(id);
    runtime
        .post_with("f", "a", "in", json!(1), with("one"))
        .unwrap()
        .wait(LONG)
        .unwrap();
    let two = runtime
        .post_with("f", "refused", "in", json!(1), with("two"))
        .unwrap();
    two.wait(LONG).unwrap();
    assert_eq!(two.status(), JobStatus::Failed);
    runtime.shutdown(Shutdown::Drain).unwrap();
    let log = log.0.lock().unwrap();
    assert_eq!(
        *log,
        [
            "start one",
            "end one completed",
            "start two",
            "end two failed"
        ]
    );
}

#[test]
fn what_a_job_prints_is_captured() {
    let mut flow = Flow::new("f");
    flow.add_fn("a", |cx| {
        cx.print("one ");
        evenkeel::job_println!("two {}", 2);
        Ok(())
    })
    .unwrap();
    let runtime = start(flow);
    let job = runtime.post("f", "a", "in", ()).unwrap();
    job.wait(LONG).unwrap();
    assert_eq!(job.output().unwrap(), "one two 2\n");
}
