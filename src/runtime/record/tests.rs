//! Tests of keys and records: no two names share a key, any bytes are one or damage, and
//! the bytes are those that `docs/format.md` draws.

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;
use crate::codec::DecodeErrorKind;

const ID: ActivationId = ActivationId {
    session: 3,
    number: 0x0102,
};

fn limits() -> CodecLimits {
    CodecLimits::default()
}

/// Names up to the longest, and short ones of what separates parts elsewhere, so that two
/// of them are often neighbours.
fn name() -> impl Strategy<Value = String> {
    let long = vec(any::<char>(), 0..512).prop_map(|chars| {
        let mut name: String = chars.into_iter().collect();
        name.truncate(name.floor_char_boundary(512));
        name
    });
    let near = vec(
        prop::sample::select(vec!['\0', '\u{1}', ':', '/', '1', 'a', '\u{ff}']),
        0..4,
    );
    prop_oneof![1 => long, 4 => near.prop_map(|chars| chars.into_iter().collect())]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_u64, any::<u64>(), Just(u64::MAX)]
}

fn activation() -> impl Strategy<Value = ActivationId> {
    (number(), number()).prop_map(|(session, number)| ActivationId { session, number })
}

fn worker_key() -> impl Strategy<Value = WorkerKey> {
    prop_oneof![
        (name(), name(), number()).prop_map(|(routine, slot, seq)| WorkerKey::Message {
            routine: routine.into(),
            slot: slot.into(),
            seq,
        }),
        activation().prop_map(WorkerKey::Claim),
        (activation(), name()).prop_map(|(id, effect)| WorkerKey::Once(id, effect)),
        number().prop_map(WorkerKey::Timer),
        any::<u16>().prop_map(WorkerKey::History),
    ]
}

fn dead_key() -> impl Strategy<Value = DeadKey> {
    prop_oneof![
        Just(DeadKey::Next),
        number().prop_map(DeadKey::Letter),
        number().prop_map(DeadKey::Original),
    ]
}

/// Neither is the other's beginning, so that no scan of one finds the other.
fn apart(a: &[u8], b: &[u8]) -> bool {
    !a.starts_with(b) && !b.starts_with(a)
}

proptest! {
    #[test]
    fn every_key_of_a_worker_reads_back_and_none_reaches_another(
        a in worker_key(), b in worker_key()
    ) {
        let (one, other) = (a.encode(), b.encode());
        prop_assert_eq!(WorkerKey::decode(&one), Some(a.clone()));
        prop_assert_eq!(a == b, one == other);
        prop_assert!(a == b || apart(&one, &other), "{a:?} and {b:?}");
    }

    #[test]
    fn a_scan_of_a_slot_finds_its_own_messages_only(
        (routine, slot) in (name(), name()), (other, its) in (name(), name()), seq in number()
    ) {
        let prefix = message_key(&routine, &slot, 0);
        let prefix = &prefix[..prefix.len() - 8];
        let found = message_key(&other, &its, seq).starts_with(prefix);
        prop_assert_eq!(found, (routine, slot) == (other, its));
    }

    #[test]
    fn a_scan_of_effects_finds_those_of_its_activation_only(
        id in activation(), key in worker_key()
    ) {
        let own = matches!(&key, WorkerKey::Once(of, _) if *of == id);
        let prefix = WorkerKey::Once(id, String::new()).encode();
        prop_assert_eq!(key.encode().starts_with(&prefix[..prefix.len() - 2]), own);
    }

    #[test]
    fn messages_of_a_slot_are_in_the_order_of_their_numbers(
        routine in name(), slot in name(), a in number(), b in number()
    ) {
        let key = |seq| message_key(&routine, &slot, seq);
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
    }

    #[test]
    fn keys_of_jobs_read_back_and_keep_apart(a in name(), b in name()) {
        let (begin, end) = (job_begin_key(&a), job_end_key(&b));
        prop_assert_eq!(JobKey::decode(&begin), Some(JobKey::Begin(&a)));
        prop_assert_eq!(JobKey::decode(&end), Some(JobKey::End(&b)));
        prop_assert!(begin < end && end.starts_with(&JOB_ENDS));
        prop_assert_eq!(job_begin_key(&a) == job_begin_key(&b), a == b);
        prop_assert_eq!(job_begin_key(&a).cmp(&job_begin_key(&b)), a.cmp(&b));
    }

    #[test]
    fn keys_of_parts_of_jobs_read_back_in_the_order_of_time(
        (at, id, index) in (number(), activation(), any::<u32>()),
        (then, by, other) in (number(), activation(), any::<u32>()),
        (a, b) in (any::<bool>(), any::<bool>()),
    ) {
        let part = |output| if output { JobPart::Output } else { JobPart::Trace };
        let (a, b) = (part(a), part(b));
        let (one, two) = (a.key(at, id, index), b.key(then, by, other));
        prop_assert_eq!(JobPart::decode(&one), Some((a, at, id, index)));
        prop_assert_eq!(one.cmp(&two), (a, at, id, index).cmp(&(b, then, by, other)));
    }

    #[test]
    fn keys_of_dead_letters_read_back_and_keep_apart(a in dead_key(), b in dead_key()) {
        let (one, other) = (a.encode(), b.encode());
        prop_assert_eq!(DeadKey::decode(&one), Some(a));
        prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        prop_assert!(a == b || apart(&one, &other));
    }

    #[test]
    fn data_of_routines_keep_apart(
        (routine, datum) in (name(), name()), (other, its) in (name(), name())
    ) {
        let same = routine_datum(&routine, &datum) == routine_datum(&other, &its);
        prop_assert_eq!(same, (routine, datum) == (other, its));
    }

    #[test]
    fn scopes_of_workers_and_jobs_keep_apart(a in name(), b in name()) {
        let of = |id: &str| [worker(id), names(id), job(id), routine_data(id)];
        let shared = [flows(), workers(), jobs(), keys(), dead()];
        let all: Vec<_> = of(&a).into_iter().chain(shared).map(|scope| scope.encode()).collect();
        for (at, one) in all.iter().enumerate() {
            prop_assert!(all[at + 1..].iter().all(|other| apart(one, other)));
        }
        if a != b {
            for other in of(&b) {
                prop_assert!(all.iter().take(4).all(|one| apart(one, &other.encode())));
            }
        }
    }

    #[test]
    fn any_bytes_are_the_one_key_that_is_written_so_or_none(
        tag in 0..7_u8, rest in vec(prop_oneof![Just(0_u8), 0..4_u8, any::<u8>()], 0..40)
    ) {
        let bytes = [&[tag][..], &rest].concat();
        if let Some(key) = WorkerKey::decode(&bytes) {
            prop_assert_eq!(&*key.encode(), &*bytes);
        }
        if let Some(key) = JobKey::decode(&bytes) {
            prop_assert_eq!(&*key.encode(), &*bytes);
        }
        if let Some(key) = DeadKey::decode(&bytes) {
            prop_assert_eq!(&*key.encode(), &*bytes);
        }
        if let Some((part, at, id, index)) = JobPart::decode(&bytes) {
            prop_assert_eq!(&*part.key(at, id, index), &*bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_damage(bytes in vec(any::<u8>(), 0..64)) {
        every_kind(&bytes);
    }

    #[test]
    fn a_record_with_some_bytes_changed_is_a_record_or_damage(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let all = golden();
        let (_, cell, _) = &all[which.index(all.len())];
        let mut bytes = cell.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        every_kind(&bytes);
    }
}

/// Reads bytes as each kind of record; what is one is written and read again.
fn every_kind(bytes: &[u8]) {
    fn read<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
        match decode::<T>(bytes, &limits(), &jobs()) {
            Ok(record) => {
                let cell = encode(&record, &limits()).expect("what was read can be written");
                decode::<T>(&cell, &limits(), &jobs()).expect("what was written can be read");
            }
            Err(Error::Corrupt(_)) => {}
            Err(e) => panic!("{bytes:02x?}: {e}"),
        }
    }
    read::<FlowRecord>(bytes);
    read::<WorkerRecord>(bytes);
    read::<JobRecord>(bytes);
    read::<JobEndRecord>(bytes);
    read::<MessageRecord>(bytes);
    read::<ClaimRecord>(bytes);
    read::<OnceRecord>(bytes);
    read::<TimerRecord>(bytes);
    read::<HistoryRecord>(bytes);
    read::<OwnerRecord>(bytes);
    read::<TraceRecord>(bytes);
    read::<KeyRecord>(bytes);
    read::<DeadRecord>(bytes);
}

fn message() -> MessageRecord {
    MessageRecord {
        data: 7.into(),
        at: 1_000,
        from: Some("a".into()),
        event: Some("out".into()),
        jobs: vec!["j".into()],
    }
}

/// One of each kind, with every field, and how it is written.
fn golden() -> Vec<(&'static str, Arc<[u8]>, &'static str)> {
    let name = |name: &str| Some(name.to_owned());
    let one = |kind, cell: Result<Arc<[u8]>>, bytes| (kind, cell.expect(kind), bytes);
    vec![
        one(
            "flow",
            encode(
                &FlowRecord {
                    version: 2,
                    hash: u64::MAX,
                    routines: vec!["a".into(), "b".into()],
                },
                &limits(),
            ),
            "00090301760304016804fdffffffffffffffff01720802060161060162",
        ),
        one(
            "worker",
            encode(
                &WorkerRecord {
                    flow: "f".into(),
                    status: WorkerStatus::Idle,
                    created: 1,
                    updated: 2,
                    started: Some(3),
                    completed: None,
                    error: name("e"),
                    totals: None,
                },
                &limits(),
            ),
            "00090701660601660173060469646c65016303020175030401620306017a000165060165",
        ),
        one(
            "job",
            encode(
                &JobRecord {
                    flow: "f".into(),
                    worker: "w".into(),
                    created: 1,
                    metadata: [("tier".to_owned(), "gold".into())].into(),
                    key: name("k"),
                    dropped: 0,
                    results: Vec::new(),
                },
                &limits(),
            ),
            "0009050166060166017706017701630302016d090104746965720604676f6c64016b06016b",
        ),
        one(
            "job end",
            encode(
                &JobEndRecord {
                    status: JobStatus::Failed,
                    completed: 300,
                    error: name("e"),
                    dropped: 1,
                    results: vec![true.into()],
                },
                &limits(),
            ),
            "000905017306066661696c6564017a03fb58020165060165016403020172080102",
        ),
        one(
            "message",
            encode(&message(), &limits()),
            "0009050164030e017403fbd0070172060161016506036f7574016a080106016a",
        ),
        one(
            "claim",
            encode(
                &ClaimRecord {
                    routine: "a".into(),
                    failed: 1,
                    due: 2,
                    error: name("e"),
                    messages: vec![("in".into(), vec![0, 1])],
                },
                &limits(),
            ),
            "0009050172060161016e0302017403040165060165016d080108020602696e080203000302",
        ),
        one(
            "intent",
            encode(
                &OnceRecord {
                    session: 3,
                    result: None,
                },
                &limits(),
            ),
            "000901016f0306",
        ),
        one(
            "done",
            encode(
                &OnceRecord {
                    session: 3,
                    result: Some(Value::Null),
                },
                &limits(),
            ),
            "000902016f03060172080100",
        ),
        one(
            "timer",
            encode(
                &TimerRecord {
                    name: "n".into(),
                    routine: "a".into(),
                    slot: "in".into(),
                    due: 2,
                    every: Some(3),
                    data: 7.into(),
                    jobs: vec!["j".into()],
                },
                &limits(),
            ),
            "000907016e06016e017206016101730602696e01740304016903060164030e016a080106016a",
        ),
        one(
            "history",
            encode(
                &HistoryRecord {
                    number: 1,
                    routine: "a".into(),
                    at: 2,
                    outcome: 0,
                    attempt: 1,
                    jobs: vec!["j".into()],
                    processed: 3,
                    failed: 4,
                    dropped: 5,
                },
                &limits(),
            ),
            "000909016e0302017206016101740304016f030001610302016a080106016a01700306016603080164030a",
        ),
        one(
            "owner",
            encode(
                &OwnerRecord {
                    routine: "a".into(),
                    shared: true,
                },
                &limits(),
            ),
            "0009020172060161017302",
        ),
        one(
            "trace",
            encode(
                &TraceRecord {
                    at: 1,
                    routine: "a".into(),
                    action: "b".into(),
                    details: 7.into(),
                },
                &limits(),
            ),
            "00090401740302017206016101610601620164030e",
        ),
        one(
            "key",
            encode_until(
                &KeyRecord {
                    job: "j".into(),
                    hash: 1,
                },
                Some(2),
                &limits(),
            ),
            "01020902016a06016a01680302",
        ),
        one(
            "dead letter",
            encode_until(
                &DeadRecord {
                    flow: "f".into(),
                    worker: "w".into(),
                    routine: "a".into(),
                    slot: "in".into(),
                    message: message(),
                    error: "e".into(),
                    kind: name("k"),
                    attempts: 3,
                    at: 4,
                    edited: Some(5),
                },
                Some(9),
                &limits(),
            ),
            "0109090a01660601660177060177017206016101730602696e016d09050164030e017403fbd0070172060161016506036f7574016a080106016a0165060165016b06016b016e0306017403080178030a",
        ),
    ]
}

#[test]
fn records_have_the_bytes_that_the_format_fixes() {
    let hex = |cell: &[u8]| -> String { cell.iter().map(|byte| format!("{byte:02x}")).collect() };
    let wrong: Vec<_> = golden()
        .into_iter()
        .map(|(kind, cell, expected)| (kind, hex(&cell), expected))
        .filter(|(_, found, expected)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn keys_have_the_bytes_that_the_format_fixes() {
    let message = message_key("ab", "in", 258);
    assert_eq!(&*message, b"\x01\0\x02ab\0\x02in\0\0\0\0\0\0\x01\x02");
    let id = b"\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x02";
    assert_eq!(*WorkerKey::Claim(ID).encode(), *[&b"\x02"[..], id].concat());
    let once = WorkerKey::Once(ID, "e".into()).encode();
    assert_eq!(*once, *[b"\x03", &id[..], b"\0\x01e"].concat());
    assert_eq!(*WorkerKey::Timer(1).encode(), *b"\x04\0\0\0\0\0\0\0\x01");
    assert_eq!(*WorkerKey::History(2).encode(), *b"\x05\0\x02");
    assert_eq!(*job_begin_key("j"), *b"\x01j");
    assert_eq!(*job_end_key("j"), *b"\x02j");
    assert_eq!(*DeadKey::Next.encode(), *b"\0");
    assert_eq!(*DeadKey::Letter(1).encode(), *b"\x01\0\0\0\0\0\0\0\x01");
    assert_eq!(*DeadKey::Original(1).encode(), *b"\x02\0\0\0\0\0\0\0\x01");
    let output = JobPart::Output.key(5, ID, 6);
    let expected = [b"\x02\0\0\0\0\0\0\0\x05", &id[..], b"\0\0\0\x06"].concat();
    assert_eq!(*output, *expected);
    assert_eq!(routine_datum("a:b", "c"), "3:a:b:c");
    assert_eq!(ID.to_string(), "3-102");
}

#[test]
fn a_result_that_is_null_is_a_result() {
    for result in [
        None,
        Some(Value::Null),
        Some(7.into()),
        Some(Value::List(vec![])),
    ] {
        let record = OnceRecord { session: 1, result };
        let cell = encode(&record, &limits()).unwrap();
        let read: OnceRecord = decode(&cell, &limits(), &jobs()).unwrap();
        assert_eq!(read, record);
    }
}

#[test]
fn what_a_later_version_adds_is_left_alone_and_what_it_leaves_out_has_a_default() {
    let later: Value = [
        ("f", Value::from("flow")),
        ("w", "worker".into()),
        ("c", 5.into()),
        ("new", Value::List(vec![1.into()])),
    ]
    .into_iter()
    .collect();
    let cell = cell::encode(&later, None, &limits()).unwrap();
    let read: JobRecord = decode(&cell, &limits(), &jobs()).unwrap();
    assert_eq!((read.created, read.metadata.len(), read.key), (5, 0, None));
    // What has no default has to be there.
    let less: Value = [("f", "flow")].into_iter().collect();
    let cell = cell::encode(&less, None, &limits()).unwrap();
    let missing = decode::<JobRecord>(&cell, &limits(), &jobs()).unwrap_err();
    assert!(matches!(missing, Error::Corrupt(_)), "{missing}");
    assert!(missing.to_string().contains("runtime/jobs"), "{missing}");
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |value, _| Value::List(vec![value]))
}

#[test]
fn data_as_deep_and_as_large_as_a_value_may_be_fits_every_record() {
    for depth in [1, 4, 128, 248, CodecLimits::DEPTH_BOUND] {
        let limits = CodecLimits {
            value_bytes_max: 1024,
            value_depth_max: depth,
        };
        // So deep that nothing else could stand around it, no data may be.
        let deepest = depth.min(CodecLimits::DEPTH_BOUND - 8);
        let refused = check_data(&nested(deepest + 1), &limits).unwrap_err();
        assert!(matches!(refused, Error::LimitExceeded { .. }), "{refused}");
        let data = nested(deepest);
        check_data(&data, &limits).unwrap();
        let message = MessageRecord { data, ..message() };
        let cell = encode(&message, &limits).unwrap();
        let read: MessageRecord = decode(&cell, &limits, &jobs()).unwrap();
        assert_eq!(read, message);
        let end = JobEndRecord {
            status: JobStatus::Completed,
            completed: 0,
            error: None,
            dropped: 0,
            results: vec![message.data.clone()],
        };
        encode(&end, &limits).unwrap();
        encode_until(&(message,), None, &limits).unwrap();
    }
    let limits = CodecLimits {
        value_bytes_max: 64,
        value_depth_max: 4,
    };
    check_data(&"x".repeat(60).into(), &limits).unwrap();
    for too_much in ["x".repeat(65).into(), nested(5)] {
        let refused = check_data(&too_much, &limits).unwrap_err();
        assert!(matches!(refused, Error::LimitExceeded { .. }), "{refused}");
    }
}

#[test]
fn damage_names_the_scope() {
    let error = decode::<KeyRecord>(b"\0\xff", &limits(), &keys()).unwrap_err();
    assert!(error.to_string().contains("runtime/keys"), "{error}");
    let kind = codec::decode::<KeyRecord>(b"\xff", &limits())
        .unwrap_err()
        .kind;
    assert_eq!(kind, DecodeErrorKind::Damaged);
}

#[test]
fn a_message_of_what_others_have_is_the_same_record() {
    for (data, from, jobs) in [
        (Value::Null, None, vec![]),
        (7.into(), Some("r"), vec!["a", "b"]),
    ] {
        let message = MessageOf {
            data: Cow::Borrowed(&data),
            at: 3,
            from,
            event: from,
            jobs,
        };
        let record = message.to_record();
        let cell = encode(&record, &limits()).unwrap();
        assert_eq!(encode(&message, &limits()).unwrap(), cell);
        let read: MessageOf<'_> = decode(&cell, &limits(), &worker("w")).unwrap();
        assert_eq!(read.to_record(), record);
    }
}
