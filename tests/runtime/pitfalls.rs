//! The pitfalls of the project's third seed, "State Management Pitfalls": what goes wrong
//! there does not here.

use std::sync::Arc;

use evenkeel::{
    Activation, ActivationPolicy, Error, Failure, Flow, JobStatus, Limits, PostOptions, Store,
    Value, WorkError,
};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::json;

use crate::parts::{Meeting, finish, post, start, start_on};

/// Pitfall 1, "Using Deprecated JobState": there is no such name, and what the seed says
/// to use in its place works as it is printed there.
#[test]
fn there_is_no_job_state() {
    let public = include_str!("../../src/lib.rs");
    assert!(public.contains("JobContext") && public.contains("WorkerState"));
    assert!(!public.contains("JobState"));

    let mut flow = Flow::new("pitfall_1");
    let logic = |cx: &mut Activation| -> Result<(), Failure> {
        let worker_state = cx.worker_state();
        let state = worker_state.get_routine_state("my_routine")?;
        assert_eq!(state, None);
        worker_state.update_routine_state("my_routine", json!({"key": "value"}))?;
        let job = cx.current_job().unwrap();
        job.set_data("key", "value")?;
        let value: Option<String> = job.get_data("key")?;
        assert_eq!(value.as_deref(), Some("value"));
        Ok(())
    };
    flow.add_fn("my_routine", logic).unwrap();
    let runtime = start(flow);
    let job = post(&runtime, "pitfall_1", "my_routine", json!({}));
    finish(&runtime);
    let worker = runtime.exec("pitfall_1").unwrap();
    let state = worker.get_routine_state("my_routine").unwrap();
    assert_eq!(state, Some(json!({"key": "value"}).into()));
    let job = runtime.get_job(job.job_id()).unwrap().unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
    assert_eq!(job.get_data("key").unwrap(), Some("value".to_owned()));
}

/// Pitfall 2, "Confusing WorkerState and JobContext": two requests at once, each of which
/// reads its own user, before and after the other one wrote.
#[test]
fn two_jobs_at_once_each_read_their_own() {
    let meeting = Arc::new((Meeting::new(2), Meeting::new(2)));
    let mut flow = Flow::new("pitfall_2");
    let logic = move |cx: &mut Activation| -> Result<(), Failure> {
        let job = cx.current_job().unwrap();
        let user: Option<i64> = job.get_data("user_id")?;
        meeting.0.join()?; // both run
        job.set_data("current_user", user)?;
        meeting.1.join()?; // both have written
        let read: Option<i64> = job.get_data("current_user")?;
        cx.result(json!({"job": job.job_id(), "user": user, "read": read}))?;
        Ok(())
    };
    let policy = ActivationPolicy::batch_size(1);
    let settings = flow.add_fn("processor", logic).unwrap();
    settings.policy(policy).concurrency(2);
    let runtime = start(flow);
    for user in [1, 2] {
        let id = format!("request-{user}");
        let options = PostOptions::new().job_id(id).meta("user_id", user);
        runtime
            .post_with("pitfall_2", "processor", "in", (), options)
            .unwrap();
    }
    finish(&runtime);
    for user in [1, 2] {
        let id = format!("request-{user}");
        let job = runtime.get_job(&id).unwrap().unwrap();
        assert_eq!(job.get_data("current_user").unwrap(), Some(user));
        let expected = json!({"job": id, "user": user, "read": user});
        assert_eq!(job.results(), [Value::from(expected)]);
    }
}

/// A connection to a database: nothing that can be kept.
struct Connection;

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a connection cannot be kept"))
    }
}

/// Pitfall 3, "Non-Serializable State": a typed error that names the place, and nothing is
/// written.
#[test]
fn what_cannot_be_kept_is_an_error_that_names_the_place() {
    #[derive(Serialize)]
    struct Db {
        connection: Connection,
    }
    let mut flow = Flow::new("pitfall_3");
    let logic = |cx: &mut Activation| -> Result<(), Failure> {
        let state = cx.worker_state();
        let refused = state.update_routine_state(
            "db",
            Db {
                connection: Connection,
            },
        );
        let error = refused.unwrap_err();
        let Error::Serialize { path, reason } = &error else {
            return Err(Failure::new(format!("another error: {error}")));
        };
        cx.result(format!("{path}: {reason}"))?;
        assert_eq!(state.get_routine_state("db")?, None);
        let job = cx.current_job().unwrap();
        assert!(matches!(
            job.set_data("connection", Connection),
            Err(Error::Serialize { .. })
        ));
        assert!(matches!(
            cx.emit("out", Connection),
            Err(Error::Serialize { .. })
        ));
        Ok(())
    };
    flow.add_fn("init", logic).unwrap();
    let runtime = start(flow);
    let job = post(&runtime, "pitfall_3", "init", json!({}));
    finish(&runtime);
    let job = runtime.get_job(job.job_id()).unwrap().unwrap();
    assert_eq!(job.status(), JobStatus::Completed, "{:?}", job.error());
    let expected = ".connection: a connection cannot be kept";
    assert_eq!(job.results(), [Value::from(expected)]);
    let worker = runtime.exec("pitfall_3").unwrap();
    assert_eq!(worker.get_routine_state("db").unwrap(), None);
}

/// Pitfall 4, "Memory Leaks in State": a cache that only grows meets a limit, and is as it
/// was before that.
#[test]
fn state_that_only_grows_meets_a_limit() {
    let mut limits = Limits::default();
    limits.value_bytes = 16 * 1024;
    let store = Store::builder().limits(limits).in_memory().unwrap();
    let mut flow = Flow::new("pitfall_4");
    let logic = |cx: &mut Activation| -> Result<(), Failure> {
        for event in cx.data("in") {
            let key = event.data().to_string();
            let patch = json!({"data": {key: "x".repeat(1024)}});
            cx.worker_state().merge_routine_state("cache", patch)?;
        }
        Ok(())
    };
    let one = ActivationPolicy::batch_size(1);
    flow.add_fn("cache", logic).unwrap().policy(one);
    let runtime = start_on(store, flow);
    let jobs: Vec<_> = (0..20)
        .map(|key| post(&runtime, "pitfall_4", "cache", json!(key)))
        .collect();
    finish(&runtime);
    let failed: Vec<_> = jobs
        .iter()
        .map(|job| runtime.get_job(job.job_id()).unwrap().unwrap())
        .filter_map(|job| job.error())
        .collect();
    assert_eq!(failed.len(), 5, "15 of 1 KiB fit: {failed:?}");
    for error in &failed {
        assert!(error.to_string().contains("value_bytes"), "{error}");
    }
    let worker = runtime.exec("pitfall_4").unwrap();
    let cache = worker.get_routine_state("cache").unwrap().unwrap();
    let data = cache.get("data").and_then(Value::as_map).unwrap();
    assert_eq!(data.len(), 15);
}

/// Pitfall 5, "Race Conditions on Shared State": the code that the seed calls wrong, by
/// two threads and two routines. Nothing is lost.
#[test]
fn no_update_of_shared_state_is_lost() {
    const JOBS: i64 = 200;
    let mut flow = Flow::new("pitfall_5");
    for id in ["left", "right"] {
        let logic = |cx: &mut Activation| -> Result<(), Failure> {
            let worker_state = cx.worker_state();
            let state = worker_state.get_routine_state("_counter")?;
            let count = state.unwrap_or_default();
            let count = count.get("count").and_then(Value::as_i64).unwrap_or(0);
            std::thread::yield_now(); // ... some processing ...
            worker_state.update_routine_state("_counter", json!({"count": count + 1}))?;
            Ok(())
        };
        let one = ActivationPolicy::batch_size(1);
        let settings = flow.add_fn(id, logic).unwrap();
        settings.policy(one).concurrency(2);
    }
    let runtime = start(flow);
    for _ in 0..JOBS / 2 {
        for id in ["left", "right"] {
            post(&runtime, "pitfall_5", id, json!({}));
        }
    }
    finish(&runtime);
    let worker = runtime.exec("pitfall_5").unwrap();
    let state = worker.get_routine_state("_counter").unwrap();
    assert_eq!(state, Some(json!({"count": JOBS}).into()));
    assert_eq!(worker.jobs_processed(), JOBS as u64);
}

/// Pitfall 6, "State Pollution": two routines with the same generic name. The second one
/// is told whose it is, and changes nothing.
#[test]
fn a_state_name_belongs_to_the_routine_that_wrote_it_first() {
    let mut flow = Flow::new("pitfall_6");
    for id in ["processor_a", "processor_b"] {
        let logic = |cx: &mut Activation| -> Result<(), Failure> {
            let state = json!({"value": cx.routine()});
            cx.worker_state().update_routine_state("data", state)?;
            Ok(())
        };
        flow.add_fn(id, logic).unwrap();
    }
    let read = |cx: &mut Activation| -> Result<(), Failure> {
        let read = cx.worker_state().get_routine_state("data");
        let Err(Error::Work(WorkError::NotYours {
            name,
            owner,
            asking,
        })) = read
        else {
            return Err(Failure::new(format!("not refused: {read:?}")));
        };
        assert_eq!(
            [&*name, &*owner, &*asking],
            ["data", "processor_a", "reader"]
        );
        Ok(())
    };
    flow.add_fn("reader", read).unwrap();
    let runtime = start(flow);
    let mut jobs = Vec::new();
    for id in ["processor_a", "processor_b", "reader"] {
        let job = post(&runtime, "pitfall_6", id, json!({}));
        finish(&runtime);
        jobs.push(runtime.get_job(job.job_id()).unwrap().unwrap());
    }
    assert_eq!(jobs[0].status(), JobStatus::Completed);
    assert_eq!(jobs[1].status(), JobStatus::Failed);
    let error = jobs[1].error().unwrap();
    assert!(
        error.contains("belongs to routine \"processor_a\""),
        "{error}"
    );
    assert_eq!(
        jobs[2].status(),
        JobStatus::Completed,
        "{:?}",
        jobs[2].error()
    );
    let worker = runtime.exec("pitfall_6").unwrap();
    let state = worker.get_routine_state("data").unwrap();
    assert_eq!(state, Some(json!({"value": "processor_a"}).into()));
}
