//! Tests of jobs that have ended: which go when, that all of one goes or nothing, and that
//! each opening finds them.

use std::collections::BTreeMap;

use super::*;
use crate::codec::CodecLimits;
use crate::error::Error;
use crate::runtime::record::{ActivationId, JobPart};
use crate::runtime::status::JobStatus;
use crate::value::Value;

fn limits() -> CodecLimits {
    CodecLimits::default()
}

fn finished(id: &str, completed_micros: u64) -> FinishedJob {
    FinishedJob {
        id: id.into(),
        completed_micros,
        parts: false,
    }
}

fn ids(jobs: &[FinishedJob]) -> Vec<&str> {
    jobs.iter().map(|job| &*job.id).collect()
}

fn begin(flow: &str) -> JobRecord {
    JobRecord {
        flow: flow.into(),
        worker: "w".into(),
        created: 5,
        metadata: BTreeMap::from([("tier".to_owned(), Value::from("gold"))]),
        key: Some("k".into()),
        dropped: 0,
        results: Vec::new(),
    }
}

fn end(completed: u64) -> JobEndRecord {
    JobEndRecord {
        status: JobStatus::Failed,
        completed,
        error: Some("no".into()),
        dropped: 2,
        results: vec![7.into()],
    }
}

/// Writes records of a job, as the core does.
fn write(store: &Store, id: &str, begin: Option<JobRecord>, end: Option<JobEndRecord>) {
    let begin = begin.map(|record| record::encode(&record, &limits()).unwrap());
    let end = end.map(|record| record::encode(&record, &limits()).unwrap());
    let begin = begin.map(|cell| (JobKey::Begin(id).encode(), Op::Put(cell)));
    let end = end.map(|cell| (JobKey::End(id).encode(), Op::Put(cell)));
    put(
        store,
        &record::jobs(),
        begin.into_iter().chain(end).collect(),
    );
}

fn put(store: &Store, scope: &Scope, ops: Vec<(SmallKey, Op)>) {
    let engine = &store.shared.engine;
    let writes = SlotBatch::of(engine.slot(&scope.encode()), ops);
    let batch = Batch::of([writes]);
    engine.commit(&batch).unwrap();
}

/// Something in each scope of a job.
fn give_parts(store: &Store, id: &str) {
    let data = store.scope(Scope::job(id));
    data.set("a", 1).unwrap();
    let part = JobPart::Trace.key(
        1,
        ActivationId {
            session: 1,
            number: 1,
        },
        0,
    );
    let cell = record::encode(&Value::from("text"), &limits()).unwrap();
    put(
        store,
        &record::job(id),
        vec![(part.into(), Op::Put(cell.clone()))],
    );
    let name = record::routine_datum("r", "n").into_bytes().into();
    put(
        store,
        &record::routine_data(id),
        vec![(name, Op::Put(cell))],
    );
    let cached = Scope::job(id).caches();
    let cell = record::encode(&1, &limits()).unwrap();
    put(
        store,
        &cached,
        vec![(b"c".as_slice().into(), Op::Put(cell))],
    );
}

/// How many keys a job has: of its record, and of all else.
fn keys_of(store: &Store, id: &str) -> (usize, usize) {
    let engine = &store.shared.engine;
    let view = engine.view();
    let count = |scope: &Scope| {
        let mut keys = Vec::new();
        let slot = engine.slot(&scope.encode());
        let list = view.for_each(&slot, |key, _, _| {
            keys.push(key.to_vec());
            Ok(())
        });
        list.unwrap();
        keys
    };
    let own = [JobKey::Begin(id).encode(), JobKey::End(id).encode()];
    let records = count(&record::jobs());
    let records = records
        .iter()
        .filter(|key| own.iter().any(|own| **own == ***key));
    let data = Scope::job(id);
    let cached = data.caches();
    let parts = [data, cached, record::job(id), record::routine_data(id)];
    let parts = parts.iter().map(|scope| count(scope).len()).sum();
    (records.count(), parts)
}

#[test]
fn jobs_go_by_time_and_by_number_the_first_that_ended_first() {
    let keep = KeepJobs::new().time(Duration::from_micros(100)).number(3);
    let mut jobs = FinishedJobs::new(keep);
    for (id, at) in [("c", 30), ("a", 10), ("b", 20)] {
        jobs.put(finished(id, at));
    }
    assert_eq!(jobs.len(), 3);
    assert_eq!(ids(&jobs.due(109, 10)), [""; 0]);
    assert_eq!(ids(&jobs.due(110, 10)), ["a"]);
    // Of those that are due no more than were asked for, and the others next time.
    assert_eq!(ids(&jobs.due(200, 1)), ["b"]);
    assert_eq!(ids(&jobs.due(200, 1)), ["c"]);
    for (at, id) in ["p", "q", "r", "s", "t"].into_iter().enumerate() {
        jobs.put(finished(id, 1_000 + at as u64));
    }
    assert_eq!(ids(&jobs.due(1_000, 10)), ["p", "q"]);
    assert_eq!(jobs.len(), 3);
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be() {
    for keep in [
        KeepJobs::new().time(Duration::ZERO),
        KeepJobs::new().number(0),
    ] {
        let mut jobs = FinishedJobs::new(keep);
        jobs.put(finished("a", 7));
        assert_eq!(ids(&jobs.due(7, 10)), ["a"]);
    }
}

#[test]
fn a_job_that_could_not_be_removed_comes_again() {
    let mut jobs = FinishedJobs::new(KeepJobs::new().number(0));
    let job = FinishedJob {
        parts: true,
        ..finished("a", 7)
    };
    jobs.put(job.clone());
    let due = jobs.due(7, 10);
    assert_eq!(due, std::slice::from_ref(&job));
    assert_eq!(jobs.len(), 0);
    due.into_iter().for_each(|job| jobs.put(job));
    assert_eq!(jobs.due(7, 10), [job]);
}

#[test]
fn what_cannot_be_kept_is_said() {
    assert_eq!(KeepJobs::default().fault(), None);
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let second = Duration::from_secs(1);
    assert_eq!(
        KeepJobs::new().time(century).number(10_000_000).fault(),
        None
    );
    let wrong = [
        KeepJobs::new().time(century + second),
        KeepJobs::new().keys(century + second),
        KeepJobs::new().number(10_000_001),
        KeepJobs::new().time(Duration::MAX),
    ];
    assert!(wrong.iter().all(|keep| keep.fault().is_some()));
}

#[test]
fn a_key_outlives_the_record_of_its_job() {
    let keep = KeepJobs::new()
        .time(Duration::from_micros(5))
        .keys(Duration::from_micros(3));
    assert_eq!((keep.until(10), keep.key_until(10)), (15, 15));
    let keep = keep.keys(Duration::from_micros(9));
    assert_eq!((keep.until(10), keep.key_until(10)), (15, 19));
    assert_eq!(keep.key_until(u64::MAX), u64::MAX);
}

#[test]
fn all_of_a_job_goes_in_one_commit_and_nothing_of_another() {
    let store = Store::in_memory();
    for id in ["a", "ab", "b", "c"] {
        write(&store, id, Some(begin("f")), Some(end(7)));
        give_parts(&store, id);
        assert_eq!(keys_of(&store, id), (2, 4));
    }
    let engine = &store.shared.engine;
    let before = engine.visible();
    let parts = |id: &str| FinishedJob {
        parts: true,
        ..finished(id, 7)
    };
    // Twice in one list is once.
    let batch = removal_batch(engine, &[parts("a"), parts("b"), parts("a")]);
    assert_eq!(engine.commit(&batch).unwrap(), before.next());
    for (id, left) in [("a", (0, 0)), ("b", (0, 0)), ("ab", (2, 4)), ("c", (2, 4))] {
        assert_eq!(keys_of(&store, id), left, "{id}");
    }
    assert_eq!(find_job(&store, "a").unwrap(), None);
}

#[test]
fn a_job_without_parts_costs_two_deletes() {
    let store = Store::in_memory();
    let batch = removal_batch(&store.shared.engine, &[finished("a", 7), finished("b", 7)]);
    assert_eq!(batch.writes.len(), 1);
    assert_eq!(batch.writes[0].ops.len(), 4);
    assert!(!batch.writes[0].clear);
    assert!(batch.writes[0].ops.is_sorted_by(|a, b| a.0 < b.0));
}

/// The names of any worker.
fn any(_: &str, worker: &str) -> Result<Arc<Names>> {
    Ok(Names::new("flow", worker))
}

#[test]
fn jobs_are_found_again_those_that_ended_and_those_that_live() {
    let store = Store::in_memory();
    assert!(load_jobs(&store, any).unwrap().live.is_empty());
    // More than a scan takes at a time, and ids that are neighbours.
    let ids: Vec<String> = (0..3_000).map(|n| format!("{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let end = (n % 3 != 0).then(|| end(n as u64));
        write(&store, id, Some(begin(id)), end);
    }
    let loaded = load_jobs(&store, any).unwrap();
    assert_eq!((loaded.live.len(), loaded.finished.len()), (1_000, 2_000));
    for job in &loaded.live {
        let n: u64 = job.id.parse().unwrap();
        assert_eq!((n % 3, &*job.of.flow, &*job.of.worker), (0, "flow", "w"));
        assert_eq!((job.created, job.posted.key.as_deref()), (5, Some("k")));
        let state = job.state.lock();
        assert_eq!((state.status, state.notes.dropped), (JobStatus::Pending, 0));
        assert!(find_job(&store, &job.id).unwrap().unwrap().1.is_none());
    }
    for job in &loaded.finished {
        let n: u64 = job.id.parse().unwrap();
        assert!(!n.is_multiple_of(3) && job.completed_micros == n && !job.parts);
    }
}

#[test]
fn where_one_job_has_something_beside_its_record_all_are_taken_to_have() {
    for place in 0..5 {
        let store = Store::in_memory();
        write(&store, "a", Some(begin("f")), None);
        write(&store, "b", Some(begin("f")), Some(end(1)));
        let data = Scope::job("b");
        let scopes = [
            data.caches(),
            record::job("b"),
            record::routine_data("b"),
            data,
        ];
        // The last round writes what is no job's.
        let other = Scope::worker("b");
        let scope = scopes.get(place).unwrap_or(&other);
        let cell = record::encode(&1, &limits()).unwrap();
        put(&store, scope, vec![(b"k".as_slice().into(), Op::Put(cell))]);
        let loaded = load_jobs(&store, any).unwrap();
        let parts = (loaded.finished[0].parts, loaded.live[0].state.lock().parts);
        assert_eq!(parts, (place < 4, place < 4), "{scope}");
    }
}

#[test]
fn a_job_is_shown_as_its_records_have_it() {
    let store = Store::in_memory();
    write(&store, "a", Some(begin("f")), Some(end(9)));
    let (record, ended) = find_job(&store, "a").unwrap().unwrap();
    assert_eq!((&record, &ended), (&begin("f"), &Some(end(9))));
    let job = job_of(("a".into(), Names::new("f", "w")), record, ended);
    assert_eq!((&*job.id, &*job.of.flow, &*job.of.worker), ("a", "f", "w"));
    assert_eq!((job.created, job.posted.key.as_deref()), (5, Some("k")));
    let state = job.state.lock();
    assert_eq!(
        (state.status, state.completed),
        (JobStatus::Failed, Some(9))
    );
    assert_eq!(
        (state.notes.dropped, state.notes.error.as_deref()),
        (2, Some("no"))
    );
    assert_eq!(state.notes.results, [Value::from(7)]);
    drop(state);
    let live = job_of(("a".into(), Names::new("f", "w")), begin("f"), None);
    assert_eq!(live.state.lock().status, JobStatus::Pending);
}

#[test]
fn what_is_no_job_is_damage() {
    type Damage = fn(&Store);
    let wrong: [Damage; 4] = [
        |store| write(store, "b", None, Some(end(1))),
        |store| {
            write(store, "a", Some(begin("f")), Some(end(1)));
            write(store, "0", None, Some(end(1)));
        },
        |store| {
            let cell = record::encode(&1, &limits()).unwrap();
            let key = JobKey::Begin("x").encode();
            put(store, &record::jobs(), vec![(key, Op::Put(cell))]);
        },
        |store| {
            let cell = record::encode(&begin("f"), &limits()).unwrap();
            let key = b"\x01\xff".as_slice().into();
            put(store, &record::jobs(), vec![(key, Op::Put(cell))]);
        },
    ];
    for damage in wrong {
        let store = Store::in_memory();
        damage(&store);
        let error = load_jobs(&store, any).unwrap_err();
        assert!(matches!(error, Error::Corrupt(_)), "{error}");
    }
}

#[cfg(feature = "testing")]
#[test]
fn a_crash_leaves_all_of_a_job_or_nothing() {
    use crate::vfs::sim::{Loss, SimDisk};

    let disk = SimDisk::new(1);
    let store = disk.store_builder().open("state").unwrap();
    for id in ["a", "b"] {
        write(&store, id, Some(begin("f")), Some(end(7)));
        give_parts(&store, id);
    }
    store.barrier().unwrap();
    let mut jobs = FinishedJobs::new(KeepJobs::new().number(0));
    for job in load_jobs(&store, any).unwrap().finished {
        jobs.put(job);
    }
    let due = jobs.due(7, 1);
    let engine = &store.shared.engine;
    let removed = engine.commit(&removal_batch(engine, &due)).unwrap();
    for (synced, left) in [(false, (2, 4)), (true, (0, 0))] {
        if synced {
            engine.sync(removed).unwrap();
        }
        let found = disk.crash(Loss::Everything);
        let again = found.store_builder().open("state").unwrap();
        assert_eq!((keys_of(&again, "a"), keys_of(&again, "b")), (left, (2, 4)));
        let loaded = load_jobs(&again, any).unwrap();
        assert_eq!(loaded.finished.len(), if synced { 1 } else { 2 });
    }
}
