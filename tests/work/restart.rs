//! What is there after a restart: jobs, queues, timers, attempts, effects; under the same
//! flow, and under a newer one.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    Activation, Error, ErrorHandler, Failure, Flow, JobStatus, ManualClock, Runtime, Store, Value,
    WorkError, WorkerStatus,
};
use serde_json::json;

use crate::rig::{LONG, finish, gate};

fn open(path: &Path, clock: &Arc<ManualClock>) -> Store {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    Store::builder().clock(clock).open(path).unwrap()
}

/// Runs part of a life on a folder: opened, and closed at its end.
fn life<T>(path: &Path, clock: &Arc<ManualClock>, live: impl FnOnce(Runtime) -> T) -> T {
    let store = open(path, clock);
    let runtime = Runtime::builder(store.clone()).threads(2).start().unwrap();
    let lived = live(runtime);
    store.close().unwrap();
    lived
}

fn folder() -> (tempfile::TempDir, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    (tempfile::tempdir().unwrap(), clock)
}

fn sum() -> Flow {
    let mut flow = Flow::new("f");
    let by = |cx: &mut Activation| {
        for event in cx.data("in") {
            let n = event.get("n").and_then(Value::as_i64).unwrap();
            cx.state_accessor().increment("sum", n)?;
        }
        Ok(())
    };
    flow.add_fn("a", by).unwrap();
    flow
}

#[test]
fn queued_jobs_run_after_a_restart_and_state_is_there() {
    let (folder, clock) = folder();
    life(folder.path(), &clock, |runtime| {
        runtime.register(sum()).unwrap();
        runtime.exec("f").unwrap();
        let job = runtime.post("f", "a", "in", json!({"n": 1})).unwrap();
        job.wait(LONG).unwrap();
        assert!(job.is_durable());
        runtime.pause_worker("f").unwrap();
        for n in 2..=10 {
            runtime.post("f", "a", "in", json!({"n": n})).unwrap();
        }
    });
    life(folder.path(), &clock, |runtime| {
        let jobs = runtime.list_jobs().unwrap();
        assert_eq!(jobs.len(), 10);
        let held = runtime.wait_until_all_jobs_finished(Duration::ZERO);
        assert!(matches!(held, Err(Error::Work(WorkError::TimedOut { .. }))));
        runtime.register(sum()).unwrap();
        let worker = runtime.exec("f").unwrap();
        assert_eq!(worker.status(), WorkerStatus::Paused);
        assert_eq!(worker.jobs_processed(), 1);
        assert_eq!(worker.execution_history().len(), 1);
        runtime.resume_worker("f").unwrap();
        finish(&runtime);
        let state = worker.get_routine_state("a").unwrap();
        assert_eq!(state, Some(json!({"sum": 55}).into()));
        assert_eq!(worker.jobs_processed(), 10);
    });
}

#[test]
fn timers_fire_once_after_a_restart() {
    let flow = || {
        let mut flow = Flow::new("f");
        flow.add_fn("a", |cx| {
            match cx.one("in").unwrap().event_name() {
                None => cx.set_timer("t", "in", Duration::from_secs(100), "late")?,
                Some(_) => cx.result(cx.one("in").unwrap().data())?,
            }
            Ok(())
        })
        .unwrap();
        flow
    };
    let (folder, clock) = folder();
    let id = life(folder.path(), &clock, |runtime| {
        runtime.register(flow()).unwrap();
        let job = runtime.post("f", "a", "in", ()).unwrap();
        runtime.wait_until_all_workers_idle(LONG).unwrap();
        assert_eq!(job.status(), JobStatus::Running);
        job.job_id().to_owned()
    });
    clock.advance(Duration::from_secs(1_000));
    for _ in 0..2 {
        life(folder.path(), &clock, |runtime| {
            runtime.register(flow()).unwrap();
            let job = runtime.get_job(&id).unwrap().unwrap();
            job.wait(LONG).unwrap();
            assert_eq!(job.results(), ["late".into()]);
            assert_eq!(runtime.worker_details("f").unwrap().timers_total, 0);
        });
    }
}

#[test]
fn attempts_are_counted_over_a_restart() {
    let flow = |seen: Arc<Mutex<Vec<u32>>>| {
        let mut flow = Flow::new("f");
        flow.add_fn("a", move |cx| {
            seen.lock().unwrap().push(cx.attempt());
            Err(Failure::new("no"))
        })
        .unwrap()
        .on_error(ErrorHandler::retry(2).delay(Duration::from_secs(60)));
        flow
    };
    let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
    let (folder, clock) = folder();
    let id = life(folder.path(), &clock, |runtime| {
        runtime.register(flow(Arc::clone(&seen))).unwrap();
        let job = runtime.post("f", "a", "in", ()).unwrap();
        runtime.wait_until_all_workers_idle(LONG).unwrap();
        job.job_id().to_owned()
    });
    clock.advance(Duration::from_secs(3_600));
    life(folder.path(), &clock, |runtime| {
        runtime.register(flow(Arc::clone(&seen))).unwrap();
        runtime.wait_until_all_workers_idle(LONG).unwrap();
        let failed = || {
            let details = runtime.worker_details("f").unwrap();
            details.retries.first().map_or(0, |retry| retry.failed)
        };
        while failed() < 2 {
            std::thread::yield_now();
        }
        clock.advance(Duration::from_secs(3_600));
        let job = runtime.get_job(&id).unwrap().unwrap();
        job.wait(LONG).unwrap();
        assert_eq!(job.status(), JobStatus::Failed);
        assert_eq!(runtime.dead_letters(0, 1).unwrap()[0].attempts(), 3);
    });
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3]);
}

#[test]
fn an_effect_is_remembered_over_a_restart_with_the_same_messages() {
    let effects = Arc::new(AtomicUsize::new(0));
    let flow = |effects: Arc<AtomicUsize>, gate: Option<crate::rig::Gate>| {
        let mut flow = Flow::new("f");
        flow.add_fn("a", move |cx| {
            let many = cx.data("in").count();
            let done: usize = cx.once("send", || {
                effects.fetch_add(1, Ordering::SeqCst);
                Ok::<_, Failure>(many)
            })?;
            assert_eq!(done, many);
            if let Some(gate) = &gate {
                gate.pass();
            }
            cx.result(many)?;
            Ok(())
        })
        .unwrap();
        flow
    };
    let (folder, clock) = folder();
    let (gate, keeper) = gate();
    let id = life(folder.path(), &clock, |runtime| {
        runtime
            .register(flow(Arc::clone(&effects), Some(gate)))
            .unwrap();
        let job = runtime.post("f", "a", "in", ()).unwrap();
        keeper.wait();
        // It comes when the first activation has its messages.
        runtime.post("f", "a", "in", ()).unwrap();
        std::thread::scope(|scope| {
            let ends = scope.spawn(|| runtime.shutdown(evenkeel::Shutdown::Abort));
            // The second one too, if it was begun before.
            keeper.open();
            keeper.open();
            ends.join().unwrap().unwrap();
        });
        job.job_id().to_owned()
    });
    life(folder.path(), &clock, |runtime| {
        runtime.register(flow(Arc::clone(&effects), None)).unwrap();
        finish(&runtime);
        let job = runtime.get_job(&id).unwrap().unwrap();
        assert_eq!(job.results(), [1.into()]);
    });
    assert_eq!(effects.load(Ordering::SeqCst), 2);
}

#[test]
fn a_changed_flow_wants_a_new_version_and_messages_without_a_place_are_parked() {
    let (folder, clock) = folder();
    life(folder.path(), &clock, |runtime| {
        runtime.register(sum()).unwrap();
        runtime.exec("f").unwrap();
        runtime.pause_worker("f").unwrap();
        runtime.post("f", "a", "in", json!({"n": 5})).unwrap();
    });
    let renamed = |version| {
        let mut flow = Flow::new("f").version(version);
        flow.add_fn("b", |cx| {
            cx.result(cx.one("in").unwrap().get("n").cloned().unwrap())?;
            Ok(())
        })
        .unwrap();
        flow
    };
    life(folder.path(), &clock, |runtime| {
        let changed = runtime.register(renamed(1));
        assert!(matches!(
            changed,
            Err(Error::Work(WorkError::FlowChanged { .. }))
        ));
        runtime.register(renamed(2)).unwrap();
        let outdated = runtime.register(sum());
        assert!(matches!(
            outdated,
            Err(Error::Work(WorkError::FlowOutdated { .. }))
        ));
        runtime.resume_worker("f").unwrap();
        assert_eq!(runtime.worker_details("f").unwrap().parked_total, 1);
        let held = runtime
            .wait_until_all_jobs_finished(Duration::ZERO)
            .unwrap_err();
        assert!(held.to_string().contains("parked"), "{held}");
        assert_eq!(
            runtime.remap_parked("f", ("a", "in"), ("b", "in")).unwrap(),
            1
        );
        finish(&runtime);
        let job = runtime.list_jobs().unwrap().remove(0);
        assert_eq!(job.results(), [5.into()]);
    });
}

#[test]
fn a_newer_version_takes_over_while_the_runtime_runs() {
    let (folder, clock) = folder();
    life(folder.path(), &clock, |runtime| {
        runtime.register(sum()).unwrap();
        runtime.exec("f").unwrap();
        for n in 0..50 {
            runtime.post("f", "a", "in", json!({"n": n})).unwrap();
        }
        let mut newer = sum().version(2);
        newer.add_fn("more", |_| Ok(())).unwrap();
        runtime.register(newer).unwrap();
        runtime.post("f", "more", "in", ()).unwrap();
        finish(&runtime);
        let worker = runtime.get_worker("f").unwrap();
        let state = worker.get_routine_state("a").unwrap();
        assert_eq!(state, Some(json!({"sum": 49 * 50 / 2}).into()));
    });
}

#[test]
fn what_a_worker_came_to_is_known_after_a_restart() {
    let (folder, clock) = folder();
    let came_to = |runtime: &Runtime| {
        let worker = runtime.get_worker("f").unwrap();
        (
            worker.started_at_micros(),
            (worker.jobs_processed(), worker.jobs_failed()),
        )
    };
    let flow = || {
        let mut flow = Flow::new("f");
        flow.add_fn("a", |cx: &mut Activation| match cx.data("in").count() {
            1 => Ok(()),
            _ => Err(Failure::new("too many")),
        })
        .unwrap();
        flow
    };
    let before = life(folder.path(), &clock, |runtime| {
        runtime.register(flow()).unwrap();
        let worker = runtime.exec("f").unwrap();
        assert_eq!(worker.started_at_micros(), None);
        clock.advance(Duration::from_secs(1));
        for _ in 0..2 {
            runtime
                .post("f", "a", "in", ())
                .unwrap()
                .wait(LONG)
                .unwrap();
        }
        runtime.pause_worker("f").unwrap();
        runtime.post("f", "a", "in", ()).unwrap();
        runtime.post("f", "a", "in", ()).unwrap();
        runtime.resume_worker("f").unwrap();
        finish(&runtime);
        came_to(&runtime)
    });
    assert_eq!(before, (Some(2_000_000), (2, 2)));
    clock.advance(Duration::from_secs(5));
    // While it goes on, and when it has ended.
    life(folder.path(), &clock, |runtime| {
        runtime.register(flow()).unwrap();
        assert_eq!(came_to(&runtime), before);
        runtime.stop_worker("f").unwrap();
    });
    life(folder.path(), &clock, |runtime| {
        assert_eq!(came_to(&runtime), before);
        let worker = runtime.get_worker("f").unwrap();
        assert_eq!(worker.status(), WorkerStatus::Stopped);
        runtime.register(flow()).unwrap();
        assert_eq!(came_to(&runtime), before);
    });
}
