//! Owns the target `runtime_records`: what the runtime keeps in the store, as any bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::input::Input;
use super::seeds::{Seeds, join, named};
use crate::codec::CodecLimits;
use crate::engine::{Batch, Op, SlotBatch};
use crate::error::{Error, Result, WorkError};
use crate::runtime::dead::{DeadLetters, KeepDeadLetters};
use crate::runtime::idempotency::WorkKey;
use crate::runtime::job::Names;
use crate::runtime::record::{
    self, ActivationId, ClaimRecord, DeadKey, DeadRecord, FlowRecord, HistoryRecord, JobEndRecord,
    JobKey, JobPart, JobRecord, KeyRecord, MessageRecord, OnceRecord, OwnerRecord, TimerRecord,
    TraceRecord, WorkerKey, WorkerRecord,
};
use crate::runtime::retention::{find_job, load_jobs};
use crate::scope::Scope;
use crate::state::Store;
use crate::value::Value;

/// How many records are written to one store.
const WRITES_MAX: usize = 24;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => any_key(input.rest()),
        1 => every_record(input.rest()),
        2 => two_keys(&mut input),
        _ => a_store(&mut input),
    }
}

/// What is read as a key is the key that is written so.
fn any_key(bytes: &[u8]) {
    if let Some(key) = WorkerKey::decode(bytes) {
        assert_eq!(*key.encode(), *bytes, "{key:?}");
    }
    if let Some(key) = JobKey::decode(bytes) {
        assert_eq!(*key.encode(), *bytes, "{key:?}");
    }
    if let Some(key) = DeadKey::decode(bytes) {
        assert_eq!(*key.encode(), *bytes, "{key:?}");
    }
    if let Some((part, at, id, index)) = JobPart::decode(bytes) {
        assert_eq!(*part.key(at, id, index), *bytes, "{part:?}");
    }
}

fn every_record(cell: &[u8]) {
    any_record::<FlowRecord>(cell);
    any_record::<WorkerRecord>(cell);
    any_record::<JobRecord>(cell);
    any_record::<JobEndRecord>(cell);
    any_record::<MessageRecord>(cell);
    any_record::<ClaimRecord>(cell);
    any_record::<OnceRecord>(cell);
    any_record::<TimerRecord>(cell);
    any_record::<HistoryRecord>(cell);
    any_record::<OwnerRecord>(cell);
    any_record::<TraceRecord>(cell);
    any_record::<KeyRecord>(cell);
    any_record::<DeadRecord>(cell);
}

/// A record, which is the same one when it is written and read again; or damage.
fn any_record<T: Serialize + DeserializeOwned>(cell: &[u8]) {
    let (limits, scope) = (CodecLimits::default(), Scope::Global);
    match record::decode::<T>(cell, &limits, &scope) {
        Ok(read) => {
            let written = record::encode(&read, &limits).unwrap_or_else(|e| panic!("{e}"));
            let again = record::decode::<T>(&written, &limits, &scope);
            let again = again.unwrap_or_else(|e| panic!("{e}: {written:02x?}"));
            let twice = record::encode(&again, &limits).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(written, twice);
        }
        Err(Error::Corrupt(_)) => {}
        Err(e) => panic!("{e}"),
    }
}

fn worker_key(input: &mut Input<'_>) -> WorkerKey {
    let id = |input: &mut Input<'_>| ActivationId {
        session: input.number(),
        number: input.number(),
    };
    match input.u8() % 5 {
        0 => WorkerKey::Message {
            routine: input.text().into(),
            slot: input.text().into(),
            seq: input.number(),
        },
        1 => WorkerKey::Claim(id(input)),
        2 => WorkerKey::Once(id(input), input.text()),
        3 => WorkerKey::Timer(input.number()),
        _ => WorkerKey::History(input.u16()),
    }
}

/// No key is another's, nor its beginning, nor in its place; and no name reaches what
/// belongs to another.
fn two_keys(input: &mut Input<'_>) {
    let (one, other) = (worker_key(input), worker_key(input));
    let (a, b) = (one.encode(), other.encode());
    assert_eq!(WorkerKey::decode(&a).as_ref(), Some(&one));
    assert_eq!(one == other, a == b, "{one:?} and {other:?}");
    assert!(a == b || !a.starts_with(&b), "{one:?} and {other:?}");
    let (r, n) = (input.text(), input.text());
    let (s, m) = (input.text(), input.text());
    let same = record::routine_datum(&r, &n) == record::routine_datum(&s, &m);
    assert_eq!(same, (&r, &n) == (&s, &m), "{r:?} {n:?} and {s:?} {m:?}");
    let scopes = |id: &str| [record::worker(id), record::names(id), record::job(id)];
    for (one, other) in scopes(&r).iter().zip(&scopes(&s)) {
        assert_eq!(one.encode() == other.encode(), r == s, "{r:?} and {s:?}");
    }
}

/// A store in which any keys and cells are where the runtime's are.
fn a_store(input: &mut Input<'_>) {
    let store = Store::in_memory();
    let engine = store.shared.engine.clone();
    for _ in 0..WRITES_MAX {
        if input.is_empty() {
            break;
        }
        let scope = match input.u8() % 3 {
            0 => record::jobs(),
            1 => record::keys(),
            _ => record::dead(),
        };
        let put = (input.chunk(), Op::Put(input.long_chunk().into()));
        let writes = SlotBatch::of(engine.slot(&scope.encode()), [put]);
        engine
            .commit(&Batch::of([writes]))
            .unwrap_or_else(|e| panic!("{e}"));
    }
    let id = input.text();
    if let Some(jobs) = found(load_jobs(&store, |_, worker| {
        Ok(Names::new(worker, worker))
    })) {
        for job in jobs.finished {
            found(find_job(&store, &job.id));
        }
    }
    found(find_job(&store, &id));
    if let Ok(key) = WorkKey::new(&id, ("f", "r", "s"), &Value::Null) {
        found(key.find(&store));
    }
    if let Some(letters) = found(DeadLetters::open(&store, KeepDeadLetters::new())) {
        found(letters.list(0, usize::MAX));
        found(letters.get(0));
        if found(letters.edit(0, Value::Null)).is_some() {
            let edited = found(letters.get(0));
            assert!(edited.is_some_and(|letter| letter.data().is_null()));
            found(letters.discard(0));
            assert!(found(letters.get(0)).is_none());
        }
        if let Some(mut change) = found(letters.put(vec![letter()], engine.now())) {
            let batch = Batch::of([change.take_writes()]);
            // Where the next number is damaged, opening said so.
            engine.commit(&batch).unwrap_or_else(|e| panic!("{e}"));
            let (added, _) = change.committed();
            let got = found(letters.get(added[0])).map(|letter| letter.into_record());
            assert_eq!(got, Some(letter()));
        }
    }
}

fn letter() -> DeadRecord {
    DeadRecord {
        flow: "f".into(),
        worker: "w".into(),
        routine: "r".into(),
        slot: "s".into(),
        message: MessageRecord {
            data: 7.into(),
            at: 1,
            from: Some("a".into()),
            event: None,
            jobs: vec!["j".into()],
        },
        error: "e".into(),
        kind: None,
        attempts: 1,
        at: 2,
        edited: None,
    }
}

/// What was found, if it is not damaged.
fn found<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(found) => Some(found),
        Err(Error::Corrupt(_) | Error::Work(WorkError::Unknown { .. })) => None,
        Err(Error::Work(WorkError::KeyReused { .. })) => None,
        Err(e) => panic!("{e}"),
    }
}

/// What begins each mode, with records that are whole.
pub(super) fn seeds() -> Seeds {
    let limits = CodecLimits::default();
    let begin = JobRecord {
        flow: "f".into(),
        worker: "w".into(),
        created: 1,
        metadata: [("tier".to_owned(), "gold".into())].into(),
        key: None,
        dropped: 0,
        results: Vec::new(),
    };
    let end = JobEndRecord {
        status: crate::runtime::JobStatus::Completed,
        completed: 2,
        error: None,
        dropped: 0,
        results: vec![Value::Null],
    };
    let key = KeyRecord {
        job: "j".into(),
        hash: 1,
    };
    let once = OnceRecord {
        session: 1,
        result: Some(Value::Null),
    };
    fn cell<T: Serialize>(record: &T, limits: &CodecLimits) -> Vec<u8> {
        record::encode(record, limits)
            .unwrap_or_else(|e| panic!("{e}"))
            .to_vec()
    }
    // As `Input::chunk` and `Input::long_chunk` read them.
    let write = |scope: u8, key: &[u8], cell: &[u8]| {
        let len = (cell.len() as u16).to_le_bytes();
        join(&[&[scope, key.len() as u8], key, &len, cell])
    };
    let (begin, end) = (cell(&begin, &limits), cell(&end, &limits));
    let message = cell(&letter().message, &limits);
    let letter = cell(&letter(), &limits);
    let number = DeadKey::Letter(0).encode();
    let both = [
        write(0, &JobKey::Begin("j").encode(), &begin),
        write(0, &JobKey::End("j").encode(), &end),
    ];
    let message_key = record::message_key("a", "in", 1);
    named([
        ("key", join(&[&[0], &message_key])),
        ("job", join(&[&[1], &begin])),
        ("job-end", join(&[&[1], &end])),
        ("message", join(&[&[1], &message])),
        ("once", join(&[&[1], &cell(&once, &limits)])),
        ("dead-letter", join(&[&[1], &letter])),
        (
            "two-keys",
            b"\x02\x00\x01a\x02in\x0d\x00\x02ai\x01n\x0d".to_vec(),
        ),
        ("jobs", join(&[&[3], &both.concat()])),
        (
            "an-end-alone",
            join(&[&[3], &write(0, &JobKey::End("j").encode(), &end)]),
        ),
        (
            "a-key",
            join(&[&[3], &write(1, b"k", &cell(&key, &limits))]),
        ),
        ("letters", join(&[&[3], &write(2, &number, &letter)])),
    ])
}
