//! Tests of idempotency keys: one job for a key, until some time after that job's end.

use std::sync::Arc;

use super::*;
use crate::clock::ManualClock;
use crate::engine::{Batch, SlotBatch};
use crate::sync::thread;

const PLACE: (&str, &str, &str) = ("f", "r", "s");

fn limits() -> CodecLimits {
    CodecLimits::default()
}

fn key(name: &str, data: impl Into<Value>) -> WorkKey {
    WorkKey::new(name, PLACE, &data.into()).unwrap()
}

fn commit(store: &Store, op: (Box<[u8]>, Op)) -> Result<Lsn> {
    let engine = &store.shared.engine;
    let writes = SlotBatch::of(engine.slot(&record::keys().encode()), [op]);
    engine.commit(&Batch::of([writes]))
}

fn take(store: &Store, key: &WorkKey, job: &str) -> Result<Lsn> {
    commit(store, key.take(job, &limits())?)
}

#[test]
fn the_same_key_gives_the_same_job() {
    let store = Store::in_memory();
    let first = key("k", 1);
    assert_eq!(first.find(&store).unwrap(), None);
    take(&store, &first, "job").unwrap();
    assert_eq!(key("k", 1).find(&store).unwrap().as_deref(), Some("job"));
    assert_eq!(key("other", 1).find(&store).unwrap(), None);
}

#[test]
fn the_same_key_for_anything_else_is_an_error() {
    let store = Store::in_memory();
    take(&store, &key("k", 1), "job").unwrap();
    let others = [
        WorkKey::new("k", PLACE, &2.into()),
        WorkKey::new("k", PLACE, &"1".into()),
        WorkKey::new("k", ("g", "r", "s"), &1.into()),
        WorkKey::new("k", ("f", "x", "s"), &1.into()),
        WorkKey::new("k", ("f", "r", "x"), &1.into()),
        WorkKey::new("k", ("fr", "", "s"), &1.into()),
    ];
    for other in others {
        let reused = other.unwrap().find(&store).unwrap_err();
        let Error::Work(WorkError::KeyReused { key, job }) = &reused else {
            panic!("{reused}");
        };
        assert_eq!((key.as_str(), job.as_str()), ("k", "job"));
    }
}

#[test]
fn equal_data_has_one_hash_however_it_was_made() {
    let map = |entries: [(&str, i64); 2]| -> Value { entries.into_iter().collect() };
    let (one, other) = (map([("a", 1), ("b", 2)]), map([("b", 2), ("a", 1)]));
    assert_eq!(
        hash_of(PLACE, &one).unwrap(),
        hash_of(PLACE, &other).unwrap()
    );
    assert_ne!(
        hash_of(PLACE, &one).unwrap(),
        hash_of(PLACE, &Value::Null).unwrap()
    );
    // Kept on disk: it must never change.
    assert_eq!(hash_of(PLACE, &one).unwrap(), GOLDEN_HASH);
    let deep = (0..1_000).fold(Value::Null, |value, _| Value::List(vec![value]));
    assert!(hash_of(PLACE, &deep).is_err());
}

/// XXH3-64 of "f", "r" and "s", each behind 01 and seven zeros, and of the bytes
/// 09 02 01 61 03 02 01 62 03 04, the map.
const GOLDEN_HASH: u64 = 14_514_028_274_086_168_585;

#[test]
fn keys_are_text_of_1_to_512_bytes() {
    for fine in ["k".to_owned(), "x".repeat(512), "\0:\u{1F980}".to_owned()] {
        let store = Store::in_memory();
        take(&store, &key(&fine, 1), "job").unwrap();
        assert_eq!(key(&fine, 1).find(&store).unwrap().as_deref(), Some("job"));
    }
    for wrong in [String::new(), "x".repeat(513)] {
        let error = WorkKey::new(&wrong, PLACE, &Value::Null).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}

#[test]
fn of_two_posts_at_once_one_has_the_key() {
    for _ in 0..20 {
        let store = Store::in_memory();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let store = store.clone();
                thread::spawn(move || {
                    let key = key("k", 1);
                    if let Some(job) = key.find(&store).unwrap() {
                        return job;
                    }
                    match take(&store, &key, &format!("job-{number}")) {
                        Ok(_) => format!("job-{number}"),
                        Err(e) => {
                            assert!(is_taken(&e), "{e}");
                            key.find(&store).unwrap().unwrap()
                        }
                    }
                })
            })
            .collect();
        let jobs: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(jobs.iter().all(|job| *job == jobs[0]), "{jobs:?}");
    }
}

#[test]
fn a_key_is_free_some_time_after_the_end_of_its_job_and_not_before() {
    let clock = Arc::new(ManualClock::new(1_000));
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let key = key("k", 1);
    take(&store, &key, "job").unwrap();
    // However long the job lives.
    clock.set_micros(1 << 60);
    assert_eq!(key.find(&store).unwrap().as_deref(), Some("job"));
    let until = (1 << 60) + 10;
    commit(&store, release("k", "another", 0, &limits())).unwrap();
    commit(&store, release("k", "job", until, &limits())).unwrap();
    commit(&store, release("never", "job", until, &limits())).unwrap();
    clock.set_micros(until - 1);
    assert_eq!(key.find(&store).unwrap().as_deref(), Some("job"));
    assert!(is_taken(&take(&store, &key, "next").unwrap_err()));
    clock.set_micros(until);
    assert_eq!(key.find(&store).unwrap(), None);
    // Whether what expired was removed already or not.
    take(
        &store,
        &WorkKey::new("k", PLACE, &2.into()).unwrap(),
        "next",
    )
    .unwrap();
    commit(&store, release("k", "job", until, &limits())).unwrap();
    assert!(matches!(
        key.find(&store),
        Err(Error::Work(WorkError::KeyReused { .. }))
    ));
}

#[cfg(feature = "testing")]
#[test]
fn keys_are_remembered_over_a_crash() {
    use crate::vfs::sim::{Loss, SimDisk};

    let clock = Arc::new(ManualClock::new(1_000));
    let disk = SimDisk::new(1);
    let open = |disk: &SimDisk| {
        let builder = disk.store_builder().clock(clock.clone());
        builder.open("state").unwrap()
    };
    let store = open(&disk);
    take(&store, &key("k", 1), "job").unwrap();
    take(&store, &key("ended", 1), "other").unwrap();
    commit(&store, release("ended", "other", 2_000, &limits())).unwrap();
    store.barrier().unwrap();
    let found = open(&disk.crash(Loss::Everything));
    assert_eq!(key("k", 1).find(&found).unwrap().as_deref(), Some("job"));
    assert_eq!(
        key("ended", 1).find(&found).unwrap().as_deref(),
        Some("other")
    );
    clock.set_micros(2_000);
    assert_eq!(key("ended", 1).find(&found).unwrap(), None);
}
