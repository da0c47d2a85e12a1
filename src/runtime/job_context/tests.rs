//! Tests of `JobContext`, over runs made by hand.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::clock::ManualClock;
use crate::error::Error;
use crate::runtime::event::JobView;
use crate::runtime::job::Notes;
use crate::runtime::run::Fate;
use crate::runtime::tests::Fixture;
use crate::state::Durability;
use crate::sync::thread;

fn value(json: serde_json::Value) -> Value {
    json.into()
}

/// Every call that changes something of the job.
fn all_writes(job: &JobContext) -> Vec<Result<()>> {
    vec![
        job.set_data("n", 1),
        job.update_data("n", |_: Option<i64>| 1).map(drop),
        job.remove_data("n"),
        job.set_routine_data("a", "n", 1),
        job.remove_routine_data("a", "n"),
        job.trace("a", "noted", ()),
    ]
}

/// Every call that reads of the store.
fn all_reads(job: &JobContext) -> Vec<Result<()>> {
    vec![
        job.get_data::<Value>("n").map(drop),
        job.data().map(drop),
        job.get_routine_data::<Value>("a", "n").map(drop),
        job.routine_data("a").map(drop),
        job.trace_log().map(drop),
        job.datum("n").map(drop),
    ]
}

fn actions(job: &JobContext) -> Vec<String> {
    let log = job.trace_log().unwrap();
    log.into_iter().map(|entry| entry.action).collect()
}

#[test]
fn get_data_falls_through_to_the_metadata() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[("tier", "gold".into()), ("n", 3.into())]);
    let run = fixture.run("a", &[&job]);
    for job in [JobContext::inside(&run, &job), fixture.outside(&job)] {
        let tier = || job.get_data::<Option<String>>("tier").unwrap();
        assert_eq!(tier(), Some(Some("gold".into())));
        assert_eq!(job.get_data::<String>("absent").unwrap(), None);
        job.set_data("tier", "silver").unwrap();
        assert_eq!(tier(), Some(Some("silver".into())));
        job.set_data("tier", ()).unwrap();
        assert_eq!(tier(), Some(None), "null is a datum");
        job.remove_data("tier").unwrap();
        assert_eq!(tier(), Some(Some("gold".into())));
        // What was posted is never changed by data, and is no datum.
        assert_eq!(job.metadata("tier"), Some("gold"));
        assert_eq!(
            (job.metadata("n"), job.metadata_value("n")),
            (None, Some(&3.into()))
        );
        assert_eq!(job.metadata_map().len(), 2);
        assert_eq!(job.data().unwrap(), BTreeMap::new());
        assert_eq!(
            job.update_data("n", |n: Option<i64>| n.unwrap_or(0) + 1)
                .unwrap(),
            4
        );
        assert_eq!(
            job.update_data("n", |n: Option<i64>| n.unwrap_or(0) + 1)
                .unwrap(),
            5
        );
        assert_eq!(
            job.data().unwrap(),
            BTreeMap::from([("n".into(), 5.into())])
        );
        job.remove_data("n").unwrap();
    }
}

#[test]
fn jobs_reach_no_data_of_each_other() {
    let fixture = Fixture::new(&["a"]);
    let ids = ["j", "j/k", "j:k", "J", "j\0", "jj", "k"];
    let jobs: Vec<_> = ids.iter().map(|id| fixture.job(id, &[])).collect();
    for (at, job) in jobs.iter().enumerate() {
        let job = fixture.outside(job);
        job.set_data("user", at).unwrap();
        job.set_routine_data("a", "user", at).unwrap();
        job.trace("a", &at.to_string(), ()).unwrap();
    }
    for (at, job) in jobs.iter().enumerate() {
        let job = fixture.outside(job);
        assert_eq!(
            job.data().unwrap(),
            BTreeMap::from([("user".into(), at.into())])
        );
        let found: Option<usize> = job.get_routine_data("a", "user").unwrap();
        assert_eq!(found, Some(at));
        assert_eq!(actions(&job), [at.to_string()]);
    }
}

#[test]
fn routine_data_is_walled_whatever_is_in_ids_and_keys() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.outside(&fixture.job("j", &[]));
    let parts = [
        "a", "a:b", "b", "", ":", "1:a", "1:a:b", "a:", ":b", "\0", "é", "3:a:b",
    ];
    let pairs = || {
        parts
            .iter()
            .flat_map(|routine| parts.iter().map(move |key| (routine, key)))
    };
    for (at, (routine, key)) in pairs().enumerate() {
        job.set_routine_data(routine, key, at).unwrap();
    }
    for (at, (routine, key)) in pairs().enumerate() {
        let found: Option<usize> = job.get_routine_data(routine, key).unwrap();
        assert_eq!(found, Some(at), "{routine:?} {key:?}");
    }
    for (at, routine) in parts.iter().enumerate() {
        let data = job.routine_data(routine).unwrap();
        let first = at * parts.len();
        let expected = parts.iter().enumerate();
        let expected = expected.map(|(key, name)| ((*name).to_owned(), (first + key).into()));
        assert_eq!(
            data,
            expected.collect::<BTreeMap<String, Value>>(),
            "{routine:?}"
        );
    }
    job.remove_routine_data("a", "b").unwrap();
    assert_eq!(job.get_routine_data::<usize>("a", "b").unwrap(), None);
    assert!(job.get_routine_data::<usize>("a:b", "").unwrap().is_some());
    // Neither is it among the job's own data.
    assert_eq!(job.data().unwrap(), BTreeMap::new());
}

#[test]
fn what_a_run_did_for_a_job_it_sees_and_nobody_else_before_its_commit() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[]);
    let outside = fixture.outside(&job);
    outside.set_data("n", 1).unwrap();
    outside.trace("main", "posted", ()).unwrap();
    // What the job printed stands beside its trace.
    let piece = JobPart::Output.key(1, fixture.run("a", &[]).id, 0);
    let printed = record::encode(&"printed", &outside.limits()).unwrap();
    let put = |tx: &Transaction| {
        tx.scope(record::job("j"))
            .put_cell(&piece, Arc::clone(&printed))
    };
    fixture.store.transact(put).unwrap();
    for commits in [false, true] {
        let run = fixture.run("a", &[&job]);
        let inside = JobContext::inside(&run, &job);
        inside
            .update_data("n", |n: Option<i64>| n.unwrap_or(0) + 1)
            .unwrap();
        inside.set_routine_data("a", "k", "v").unwrap();
        inside.trace("a", "did", json!({"k": [1, null]})).unwrap();
        assert_eq!(inside.get_data("n").unwrap(), Some(2));
        assert_eq!(
            inside.get_routine_data("a", "k").unwrap(),
            Some("v".to_owned())
        );
        assert_eq!(actions(&inside), ["posted", "did"]);
        assert_eq!(outside.get_data("n").unwrap(), Some(1));
        assert_eq!(outside.routine_data("a").unwrap(), BTreeMap::new());
        assert_eq!(actions(&outside), ["posted"]);
        match commits {
            true => assert!(fixture.commit(&run)),
            false => assert!(run.end(Fate::Over)),
        }
    }
    assert_eq!(outside.get_data("n").unwrap(), Some(2));
    assert_eq!(
        outside.get_routine_data("a", "k").unwrap(),
        Some("v".to_owned())
    );
    let log = outside.trace_log().unwrap();
    assert_eq!(log.len(), 2);
    assert_eq!((&*log[1].routine_id, &*log[1].action), ("a", "did"));
    assert_eq!(log[1].details, value(json!({"k": [1, null]})));
    assert!(log[0].at_micros > 0 && log[0].at_micros <= log[1].at_micros);
}

#[test]
fn a_run_traces_for_the_job_that_it_names() {
    let fixture = Fixture::new(&["a"]);
    let (one, two) = (fixture.job("1", &[]), fixture.job("2", &[]));
    let run = fixture.run("a", &[&one, &two]);
    let contexts = [&one, &two].map(|job| JobContext::inside(&run, job));
    contexts[0].trace("a", "x", ()).unwrap();
    contexts[1].trace("a", "y", ()).unwrap();
    contexts[0].trace("a", "z", ()).unwrap();
    assert_eq!(actions(&contexts[0]), ["x", "z"]);
    assert_eq!(actions(&contexts[1]), ["y"]);
    assert!(fixture.commit(&run));
    assert_eq!(actions(&fixture.outside(&one)), ["x", "z"]);
    assert_eq!(actions(&fixture.outside(&two)), ["y"]);
}

#[test]
fn a_run_that_read_a_trace_loses_where_the_trace_went_on() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[]);
    let run = fixture.run("a", &[&job]);
    let inside = JobContext::inside(&run, &job);
    assert_eq!(actions(&inside), [""; 0]);
    fixture.outside(&job).trace("main", "later", ()).unwrap();
    assert_eq!(actions(&inside), [""; 0]);
    inside.set_data("traced", 0).unwrap();
    assert!(!fixture.commit(&run));
}

#[test]
fn eight_threads_lose_no_trace_and_no_update_at_one_moment_of_store_time() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    let builder = Store::builder().clock(Arc::new(ManualClock::new(1_000)));
    let fixture = Fixture::over(builder.in_memory().unwrap(), &["a"]);
    let job = fixture.outside(&fixture.job("j", &[]));
    thread::scope(|scope| {
        for at in 0..THREADS {
            let job = job.clone();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    job.trace("main", &format!("{at}-{round}"), ()).unwrap();
                    job.update_data("n", |n: Option<usize>| n.unwrap_or(0) + 1)
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(job.get_data("n").unwrap(), Some(THREADS * ROUNDS));
    let actions = actions(&job);
    assert_eq!(actions.len(), THREADS * ROUNDS);
    // Of each thread in the order in which it noted them.
    for at in 0..THREADS {
        let own = actions
            .iter()
            .filter(|action| action.starts_with(&format!("{at}-")));
        let expected = (0..ROUNDS).map(|round| format!("{at}-{round}"));
        assert!(own.cloned().eq(expected), "{at}: {actions:?}");
    }
}

#[test]
fn of_two_traces_at_one_moment_and_behind_one_commit_one_runs_again() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.outside(&fixture.job("j", &[]));
    let trace = TraceRecord {
        at: 5,
        routine: "main".into(),
        action: "noted".into(),
        details: Value::Null,
    };
    let cell = record::encode(&trace, &job.limits()).unwrap();
    let both = [fixture.store.begin(), fixture.store.begin()];
    for tx in &both {
        job.note(tx, 5, &cell).unwrap();
    }
    let engine = &fixture.store.shared().engine;
    let committed = both.map(|tx| engine.commit_read(&tx.take_batch(), tx.lsn(), None));
    let committed = committed.map(|outcome| outcome.unwrap().is_some());
    assert_eq!(committed, [true, false]);
    fixture.store.transact(|tx| job.note(tx, 5, &cell)).unwrap();
    assert_eq!(actions(&job), ["noted", "noted"]);
}

#[test]
fn once_a_run_is_over_its_jobs_are_out_of_reach() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[("tier", "gold".into())]);
    let run = fixture.run("a", &[&job]);
    let inside = JobContext::inside(&run, &job);
    run.end(Fate::TimedOut);
    for outcome in all_writes(&inside).into_iter().chain(all_reads(&inside)) {
        assert!(
            matches!(outcome, Err(Error::Work(WorkError::ActivationOver { .. }))),
            "{outcome:?}"
        );
    }
    // What needs no store is there all the same.
    assert_eq!(
        (inside.job_id(), inside.metadata("tier")),
        ("j", Some("gold"))
    );
    assert_eq!(inside.status(), JobStatus::Running);
}

#[test]
fn a_job_that_has_ended_takes_nothing_more_from_outside() {
    let fixture = Fixture::new(&["a"]);
    let refused = |job: &JobContext, expected: &str| {
        for outcome in all_writes(job) {
            assert!(
                matches!(
                    &outcome,
                    Err(Error::Work(WorkError::Ended { what: "job", name, status }))
                        if name == "j" && status == expected
                ),
                "{outcome:?}"
            );
        }
    };
    let job = fixture.job("j", &[]);
    let outside = fixture.outside(&job);
    outside.set_data("n", 1).unwrap();
    // Its end is committed, and memory is not told yet.
    fixture.end_in_store(&job, JobStatus::Cancelled);
    refused(&outside, "cancelled");
    fixture.remove_in_store(&job);
    refused(&outside, "removed");
    job.state.lock().status = JobStatus::Completed;
    refused(&outside, "completed");
    assert_eq!(outside.get_data("n").unwrap(), Some(1));
    assert_eq!(outside.data().unwrap().len(), 1);
    assert_eq!(actions(&outside), [""; 0]);
}

#[test]
fn whatever_is_written_for_a_job_marks_that_it_has_parts() {
    let fixture = Fixture::new(&["a"]);
    for at in 0..6 {
        let job = fixture.job(&at.to_string(), &[]);
        let run = fixture.run("a", &[&job]);
        for context in [JobContext::inside(&run, &job), fixture.outside(&job)] {
            job.state.lock().parts = false;
            for outcome in all_reads(&context) {
                outcome.unwrap();
            }
            assert!(!job.state.lock().parts);
            let write: [fn(&JobContext) -> Result<()>; 6] = [
                |job| job.set_data("n", 1),
                |job| job.update_data("n", |_: Option<i64>| 1).map(drop),
                |job| job.remove_data("n"),
                |job| job.set_routine_data("a", "n", 1),
                |job| job.remove_routine_data("a", "n"),
                |job| job.trace("a", "noted", ()),
            ];
            write[at](&context).unwrap();
            assert!(job.state.lock().parts, "{at}");
        }
    }
}

#[test]
fn what_cannot_be_a_value_is_refused_with_its_place() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[("n", "x".into())]);
    let run = fixture.run("a", &[&job]);
    let bad = BTreeMap::from([("at", BTreeMap::from([((1, 2), 3)]))]);
    // A record of a trace may be a little larger than a value.
    let huge = "x".repeat(2 * crate::state::Limits::default().value_bytes);
    for job in [JobContext::inside(&run, &job), fixture.outside(&job)] {
        for outcome in [
            job.set_data("n", &bad),
            job.set_routine_data("a", "n", &bad),
            job.trace("a", "noted", &bad),
        ] {
            match outcome {
                Err(Error::Serialize { path, .. }) => assert_eq!(path, ".at"),
                other => panic!("{other:?}"),
            }
        }
        for outcome in [
            job.set_data("n", &huge),
            job.set_data(&huge, 1),
            job.set_routine_data("a", "n", &huge),
            job.set_routine_data(&huge, "n", 1),
            job.trace("a", "noted", &huge),
            job.trace(&huge, "noted", ()),
            job.trace("a", &huge, ()),
        ] {
            assert!(
                matches!(outcome, Err(Error::LimitExceeded { .. })),
                "{outcome:?}"
            );
        }
        assert!(matches!(
            job.get_data::<i64>("n"),
            Err(Error::Invalid { .. })
        ));
        assert_eq!(job.data().unwrap(), BTreeMap::new());
        assert_eq!(actions(&job), [""; 0]);
        job.set_data("m", "x").unwrap();
        let mismatch = job.get_data::<i64>("m");
        assert!(
            matches!(mismatch, Err(Error::TypeMismatch { .. })),
            "{mismatch:?}"
        );
        job.remove_data("m").unwrap();
    }
}

#[test]
fn a_condition_sees_the_job_with_the_runs_own_writes() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[("tier", "gold".into())]);
    let run = fixture.run("a", &[&job]);
    let inside = JobContext::inside(&run, &job);
    let view = JobView::new(&inside);
    assert_eq!((view.id(), view.metadata("tier")), ("j", Some("gold")));
    assert_eq!(
        view.get_data::<String>("tier").unwrap().as_deref(),
        Some("gold")
    );
    inside.set_data("tier", "silver").unwrap();
    assert_eq!(
        view.get_data::<String>("tier").unwrap().as_deref(),
        Some("silver")
    );
    let outside = fixture.outside(&job);
    let view = JobView::new(&outside);
    assert_eq!(
        view.get_data::<String>("tier").unwrap().as_deref(),
        Some("gold")
    );
}

#[test]
fn what_is_visible_is_durable_once_its_commit_is() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Store::builder().durability(Durability::Memory);
    let fixture = Fixture::over(builder.open(folder.path().join("state")).unwrap(), &["a"]);
    let job = fixture.job("j", &[]);
    let outside = fixture.outside(&job);
    // A commit that no store has given yet.
    job.state.lock().lsn = fixture.store.shared().engine.visible().next();
    assert!(!outside.is_durable());
    fixture.store.global().set("n", 1).unwrap();
    fixture.store.barrier().unwrap();
    assert!(outside.is_durable());
    let memory = Fixture::new(&["a"]);
    let job = memory.job("j", &[]);
    assert!(!memory.outside(&job).is_durable());
}

#[test]
fn how_a_job_is_doing_is_what_memory_has() {
    let fixture = Fixture::new(&["a"]);
    let job = fixture.job("j", &[]);
    let context = fixture.outside(&job);
    let ids = (context.job_id(), context.worker_id(), context.flow_id());
    assert_eq!(ids, ("j", "w", "flow"));
    assert_eq!(
        (context.status(), context.created_at_micros()),
        (JobStatus::Running, 7)
    );
    assert_eq!(
        (context.completed_at_micros(), context.error()),
        (None, None)
    );
    {
        let mut state = job.state.lock();
        state.status = JobStatus::Failed;
        state.completed = Some(9);
        state.notes = Notes::of(2, vec![1.into()], Some("no".into()));
    }
    assert_eq!(
        (context.status(), context.dropped()),
        (JobStatus::Failed, 2)
    );
    assert_eq!(context.completed_at_micros(), Some(9));
    assert_eq!(context.error().as_deref(), Some("no"));
    assert_eq!(context.results(), [Value::from(1)]);
    // It prints which one it is, and no data.
    assert!(format!("{context:?}").contains("job_id: \"j\""));
    fn goes<T: Send + Sync + Clone + 'static>() {}
    goes::<JobContext>();
}
