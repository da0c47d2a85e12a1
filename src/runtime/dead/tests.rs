//! Tests of dead letters: listing, editing, taking out, and their bounds.

use super::*;
use crate::clock::ManualClock;
use crate::runtime::record::MessageRecord;

fn dead(data: impl Into<Value>) -> DeadRecord {
    DeadRecord {
        flow: "f".into(),
        worker: "w".into(),
        routine: "r".into(),
        slot: "in".into(),
        message: MessageRecord {
            data: data.into(),
            at: 3,
            from: Some("a".into()),
            event: Some("out".into()),
            jobs: vec!["j".into()],
        },
        error: "no".into(),
        kind: Some("k".into()),
        attempts: 4,
        at: 5,
        edited: None,
    }
}

fn letters(store: &Store, keep: KeepDeadLetters) -> DeadLetters {
    assert_eq!(keep.fault(), None);
    DeadLetters::open(store, keep).unwrap()
}

fn commit(letters: &DeadLetters, mut change: DeadChange<'_>) -> (Vec<u64>, u64) {
    let batch = Batch::of([change.take_writes()]);
    letters.store.shared.engine.commit(&batch).unwrap();
    change.committed()
}

fn put_all(letters: &DeadLetters, records: Vec<DeadRecord>) -> (Vec<u64>, u64) {
    let now = letters.store.shared.engine.now();
    commit(letters, letters.put(records, now).unwrap())
}

fn put(letters: &DeadLetters, data: impl IntoIterator<Item = i64>) -> (Vec<u64>, u64) {
    put_all(letters, data.into_iter().map(dead).collect())
}

fn ids(letters: &DeadLetters) -> Vec<u64> {
    let all = letters.list(0, usize::MAX).unwrap();
    all.iter().map(DeadLetter::id).collect()
}

#[track_caller]
fn assert_unknown<T>(result: Result<T>) {
    let error = result.map(drop).unwrap_err();
    let unknown =
        matches!(&error, Error::Work(WorkError::Unknown { what, .. }) if *what == "dead letter");
    assert!(unknown, "{error}");
}

#[test]
fn letters_are_listed_in_order_and_looked_at() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new());
    assert!(letters.list(0, 10).unwrap().is_empty());
    assert_eq!(put(&letters, [10, 11]), (vec![0, 1], 0));
    assert_eq!(put(&letters, [12]), (vec![2], 0));
    assert_eq!((ids(&letters), letters.len()), (vec![0, 1, 2], 3));
    let page = letters.list(1, 1).unwrap();
    assert_eq!((page.len(), page[0].id()), (1, 1));
    assert!(letters.list(3, 10).unwrap().is_empty());
    assert!(letters.list(0, 0).unwrap().is_empty());

    let letter = letters.get(2).unwrap();
    assert_eq!((letter.flow_id(), letter.worker_id()), ("f", "w"));
    assert_eq!((letter.routine(), letter.slot()), ("r", "in"));
    assert_eq!(
        (letter.data(), letter.jobs()),
        (&12.into(), &["j".to_owned()][..])
    );
    assert_eq!((letter.error(), letter.kind()), ("no", Some("k")));
    assert_eq!((letter.attempts(), letter.at_micros()), (4, 5));
    assert_eq!(
        (letter.emitted_from(), letter.event_name()),
        (Some("a"), Some("out"))
    );
    assert_eq!((letter.emitted_at_micros(), letter.original()), (3, None));
    assert_eq!(letter.edited_micros(), None);
    assert_eq!(letter.into_record(), dead(12));
    assert_unknown(letters.get(3));
}

#[test]
fn more_letters_than_a_scan_takes_are_all_listed() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new());
    put(&letters, 0..1_200);
    assert_eq!(ids(&letters), (0..1_200).collect::<Vec<_>>());
    assert_eq!(letters.list(600, 550).unwrap().len(), 550);
}

#[test]
fn an_edited_letter_keeps_what_it_came_with() {
    let clock = Arc::new(ManualClock::new(1_000));
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let letters = letters(
        &store,
        KeepDeadLetters::new().time(Duration::from_micros(500)),
    );
    put(&letters, [1]);
    clock.set_micros(1_100);
    letters.edit(0, 2.into()).unwrap();
    clock.set_micros(1_200);
    letters.edit(0, "three".into()).unwrap();
    let letter = letters.get(0).unwrap();
    assert_eq!(
        (letter.data(), letter.original()),
        (&"three".into(), Some(&1.into()))
    );
    assert_eq!(letter.edited_micros(), Some(1_200));
    assert_eq!(letters.list(0, 9).unwrap(), [letter]);
    // It goes when it would have gone, with all of it.
    clock.set_micros(1_499);
    assert_eq!(ids(&letters), [0]);
    clock.set_micros(1_500);
    assert_eq!(ids(&letters), [0; 0]);
    assert_unknown(letters.get(0));
    assert_unknown(letters.edit(0, 4.into()));
    assert_unknown(letters.discard(0));
    store.expire().unwrap();
    assert_eq!(keys(&letters), [DeadKey::Next]);
}

#[test]
fn an_original_that_is_null_is_an_original() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new());
    put_all(&letters, vec![dead(Value::Null)]);
    letters.edit(0, 1.into()).unwrap();
    letters.edit(0, 2.into()).unwrap();
    assert_eq!(letters.get(0).unwrap().original(), Some(&Value::Null));
}

/// The keys in the store.
fn keys(letters: &DeadLetters) -> Vec<DeadKey> {
    let mut keys = Vec::new();
    let view = letters.store.shared.engine.view();
    let all = view.for_each(&letters.slot, |key, _, _| {
        keys.push(DeadKey::decode(key).unwrap());
        Ok(())
    });
    all.unwrap();
    keys
}

#[test]
fn data_that_is_no_value_changes_nothing() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new());
    put(&letters, [1]);
    let deep = (0..200).fold(Value::Null, |value, _| Value::List(vec![value]));
    let refused = letters.edit(0, deep).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded { .. }), "{refused}");
    assert_eq!(letters.get(0).unwrap().into_record(), dead(1));
}

#[test]
fn what_is_discarded_or_taken_out_is_gone_and_its_number_too() {
    let store = Store::in_memory();
    let letters_of = |store| letters(store, KeepDeadLetters::new());
    let letters = letters_of(&store);
    put(&letters, [1, 2, 3]);
    letters.edit(2, 9.into()).unwrap();
    letters.discard(0).unwrap();
    assert_unknown(letters.discard(0));
    let (letter, change) = letters.take(2).unwrap();
    assert_eq!(letter.data(), &9.into());
    // Meanwhile nobody else has it.
    assert_unknown(letters.take(2));
    assert_unknown(letters.edit(2, 1.into()));
    commit(&letters, change);
    assert_eq!((ids(&letters), letters.len()), (vec![1], 1));
    assert_eq!(keys(&letters), [DeadKey::Next, DeadKey::Letter(1)]);
    letters.discard(1).unwrap();
    // Not by another opening either.
    let again = letters_of(&store);
    assert_eq!(again.len(), 0);
    assert_eq!(put(&again, [4]), (vec![3], 0));
}

#[test]
fn a_change_that_is_not_committed_never_was() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new().number(2));
    put(&letters, [1, 2]);
    drop(letters.take(0).unwrap());
    drop(letters.put(vec![dead(3), dead(4), dead(5)], 0).unwrap());
    assert_eq!(
        (ids(&letters), letters.len(), letters.dropped()),
        (vec![0, 1], 2, 0)
    );
    letters.edit(0, 7.into()).unwrap();
    let (added, dropped) = put(&letters, [6]);
    assert_eq!((added.len(), dropped, letters.len()), (1, 1, 2));
    assert_eq!(ids(&letters), [1, added[0]]);
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new().number(3));
    put(&letters, [1, 2]);
    letters.edit(0, 8.into()).unwrap();
    assert_eq!(put(&letters, [3, 4]), (vec![2, 3], 1));
    assert_eq!((ids(&letters), letters.dropped()), (vec![1, 2, 3], 1));
    // More at once than there may be.
    assert_eq!(put(&letters, 0..5), (vec![6, 7, 8], 5));
    assert_eq!((ids(&letters), letters.dropped()), (vec![6, 7, 8], 6));
    let left: Vec<_> = [6, 7, 8].map(DeadKey::Letter).into();
    assert_eq!(keys(&letters)[1..], left);
}

#[test]
fn what_has_expired_makes_room_first_and_is_not_counted() {
    let clock = Arc::new(ManualClock::new(0));
    let store = Store::builder().clock(clock.clone()).in_memory().unwrap();
    let keep = KeepDeadLetters::new()
        .number(2)
        .time(Duration::from_micros(10));
    let letters = letters(&store, keep);
    put(&letters, [1, 2]);
    clock.set_micros(10);
    assert_eq!(put(&letters, [3]), (vec![2], 0));
    assert_eq!((ids(&letters), letters.dropped()), (vec![2], 0));
}

#[test]
fn a_long_error_is_cut_between_characters() {
    let store = Store::in_memory();
    let letters = letters(&store, KeepDeadLetters::new());
    let record = DeadRecord {
        error: format!("x{}", "\u{e9}".repeat(ERROR_BYTES_MAX)),
        ..dead(1)
    };
    put_all(&letters, vec![record]);
    let letter = letters.get(0).unwrap();
    assert_eq!(letter.error().len(), ERROR_BYTES_MAX - 1);
}

#[test]
fn bounds_are_said() {
    let century = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let wrong = [
        KeepDeadLetters::new().number(0),
        KeepDeadLetters::new().number(1_000_001),
        KeepDeadLetters::new().time(century + Duration::from_secs(1)),
    ];
    assert!(wrong.iter().all(|keep| keep.fault().is_some()));
    assert_eq!(
        KeepDeadLetters::default()
            .time(century)
            .number(1_000_000)
            .fault(),
        None
    );
}

#[test]
fn what_is_no_letter_is_damage() {
    let store = Store::in_memory();
    let one = letters(&store, KeepDeadLetters::new());
    let cell = record::encode(&1, &one.limits).unwrap();
    let write = |key: Box<[u8]>| {
        let batch = one.batch(vec![(key, Op::Put(Arc::clone(&cell)))]);
        store.shared.engine.commit(&batch).unwrap();
    };
    write(DeadKey::Letter(0).encode());
    assert!(matches!(one.list(0, 9), Err(Error::Corrupt(_))));
    write([7].into());
    let opened = DeadLetters::open(&store, KeepDeadLetters::new());
    assert!(matches!(opened, Err(Error::Corrupt(_))));
}

#[cfg(feature = "testing")]
#[test]
fn letters_and_their_numbers_outlive_a_crash() {
    use crate::vfs::sim::{Loss, SimDisk};

    let disk = SimDisk::new(1);
    let store = disk.store_builder().open("state").unwrap();
    let one = letters(&store, KeepDeadLetters::new());
    put(&one, [1, 2]);
    one.edit(0, 5.into()).unwrap();
    store.shared.engine.sync(one.discard(1).unwrap()).unwrap();
    put(&one, [3]); // is not synced
    let found = disk.crash(Loss::Everything).store_builder();
    let found = found.open("state").unwrap();
    let again = letters(&found, KeepDeadLetters::new());
    assert_eq!(ids(&again), [0]);
    let letter = again.get(0).unwrap();
    assert_eq!(
        (letter.data(), letter.original()),
        (&5.into(), Some(&1.into()))
    );
    assert_eq!(put(&again, [4]), (vec![2], 0));
}
