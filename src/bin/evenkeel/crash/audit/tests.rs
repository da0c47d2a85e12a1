//! What the audit says of stores that are whole, and of stores in which one thing was
//! changed behind its back.

use evenkeel::{Scope, Store, Value};

use super::super::commit::{claim, commit};
use super::super::lists::{self, jot};
use super::super::record::{self, Head, Shape};
use super::{Finding, audit};

/// Numbers and contradictions.
fn audited(store: &Store) -> (Vec<u64>, Vec<String>) {
    let (mut have, mut wrong) = (Vec::new(), Vec::new());
    audit(store, |finding| match finding {
        Finding::Have(number) => have.push(number),
        Finding::Contradiction(what) => wrong.push(what),
    })
    .unwrap();
    (have, wrong)
}

/// Writes records as a run of one thread does.
fn write(store: &Store, run: u64, numbers: std::ops::Range<u64>, shape: impl Fn(u64) -> Shape) {
    claim(store).unwrap();
    for number in numbers.clone() {
        let head = Head {
            number,
            run,
            shape: shape(number),
            before: (number > numbers.start).then(|| number - 1),
            first: numbers.start,
            floor: number,
        };
        commit(store, &head).unwrap();
        if head.shape == Shape::Single {
            jot(store, &head).unwrap();
        }
    }
}

fn both(number: u64) -> Shape {
    match number % 3 {
        0 => Shape::Single,
        _ => Shape::Transaction,
    }
}

/// A store of three runs that overlap and leave a gap.
fn whole() -> Store {
    let store = Store::in_memory();
    write(&store, 1, 0..120, both);
    write(&store, 2, 90..100, |number| both(number + 1));
    write(&store, 4, 150..200, both);
    store
}

#[test]
fn an_empty_store_is_fine() {
    assert_eq!(audited(&Store::in_memory()), (vec![], vec![]));
    let store = Store::in_memory();
    claim(&store).unwrap();
    assert_eq!(audited(&store), (vec![], vec![]));
}

#[test]
fn a_whole_store_is_whole() {
    let (have, wrong) = audited(&whole());
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(have, (0..120).chain(150..200).collect::<Vec<_>>());
}

#[test]
fn the_last_number_is_a_number() {
    let store = Store::in_memory();
    write(&store, 1, u64::MAX - 9..u64::MAX, both);
    let head = Head {
        number: u64::MAX,
        run: 1,
        shape: Shape::Transaction,
        before: Some(u64::MAX - 1),
        first: u64::MAX - 9,
        floor: u64::MAX,
    };
    commit(&store, &head).unwrap();
    let (have, wrong) = audited(&store);
    assert_eq!((have.len(), wrong), (10, vec![]));
}

#[test]
fn records_are_rewritten_in_every_shape() {
    let shapes = [Shape::Single, Shape::Transaction];
    for (old, new) in shapes
        .iter()
        .flat_map(|old| shapes.iter().map(move |new| (*old, *new)))
    {
        let store = Store::in_memory();
        write(&store, 1, 0..60, |_| old);
        write(&store, 2, 20..40, |_| new);
        let (have, wrong) = audited(&store);
        assert_eq!((have.len(), wrong), (60, vec![]), "{old:?}, {new:?}");
    }
}

/// Changes a whole store and gives what the audit says then; it must say something of
/// `named`, and everything but the records in `but` must still be had.
fn changed(named: &str, but: &[u64], change: impl FnOnce(&Store)) {
    let store = whole();
    let (all, _) = audited(&store);
    change(&store);
    let (have, wrong) = audited(&store);
    assert!(
        wrong.iter().any(|what| what.contains(named)),
        "{named}: {wrong:#?}"
    );
    let rest: Vec<_> = all
        .into_iter()
        .filter(|number| !but.contains(number))
        .collect();
    assert_eq!(have, rest, "{named}: {wrong:#?}");
}

fn head_of(store: &Store, number: u64) -> Head {
    let value: Value = store
        .scope(record::records())
        .get(record::key(number))
        .unwrap()
        .unwrap();
    Head::read(&record::key(number), &value).unwrap()
}

#[test]
fn a_part_that_is_missing_or_changed_is_named() {
    for part in 0..3 {
        changed("record 7: its part", &[7], |store| {
            let part = head_of(store, 7).parts().remove(part);
            store.scope(part.scope).delete(part.key).unwrap();
        });
        changed("is not what was written", &[7], |store| {
            let mut part = head_of(store, 7).parts().remove(part);
            part.value
                .merge([("payload", Value::from("x"))].into_iter().collect());
            store.scope(part.scope).set(part.key, part.value).unwrap();
        });
        changed("they are of different commits", &[7], |store| {
            let part = head_of(store, 7).parts().remove(part);
            store.scope(part.scope).set(part.key, part.value).unwrap();
        });
        changed("is no part of it", &[9], |store| {
            let part = head_of(store, 9).all_parts().remove(part);
            store.scope(part.scope).set(part.key, part.value).unwrap();
        });
        for number in [130, 200] {
            changed("is a part without a record", &[], |store| {
                let orphan = Head {
                    number,
                    shape: Shape::Transaction,
                    ..head_of(store, 7)
                };
                let part = orphan.parts().remove(part);
                store.scope(part.scope).set(part.key, part.value).unwrap();
            });
        }
    }
}

#[test]
fn a_head_that_is_missing_or_changed_is_named() {
    for named in [
        "record 8: run 1 wrote it after record 7, which is missing",
        "record 8: run 1 wrote it after all of 0 to 7, but record 7 is missing",
        "is a part without a record",
        "key \"records\" in global",
        "which is no transaction",
    ] {
        changed(named, &[7], |store| {
            let records = store.scope(record::records());
            records.delete(record::key(7)).unwrap();
        });
    }
    changed("its content is not what was written", &[7], |store| {
        let patch = [("payload", Value::Bytes(vec![0]))];
        let patch: Value = patch.into_iter().collect();
        store
            .scope(record::records())
            .merge(record::key(7), patch)
            .unwrap();
    });
}

#[test]
fn an_older_record_where_a_newer_one_was_is_named() {
    let store = whole();
    let older = head_of(&store, 89);
    let older = Head {
        number: 95,
        before: Some(94),
        floor: 95,
        ..older
    };
    commit(&store, &older).unwrap();
    let (_, wrong) = audited(&store);
    let named = "record 96: run 2 wrote it after record 95, which is still as run 1 wrote it";
    assert!(wrong.iter().any(|what| what == named), "{wrong:#?}");
}

#[test]
fn counters_indexes_and_lists_that_disagree_are_named() {
    changed("key \"records\" in global", &[], |store| {
        store.global().increment("records", 1).unwrap();
    });
    changed("key \"sum\" in worker \"worker-2\"", &[], |store| {
        store.scope(record::worker(2)).increment("sum", 1).unwrap();
    });
    changed("are of different commits", &[], |store| {
        store.scope(record::worker(2)).increment("sum", 0).unwrap();
    });
    changed("key \"last\" in global: it names no record", &[], |store| {
        store.global().set("last", 5).unwrap();
    });
    changed("its key", &[7], |store| {
        let key = head_of(store, 7).index_key();
        store.scope(record::index()).delete(key).unwrap();
    });
    changed("which is no transaction", &[], |store| {
        store
            .scope(record::index())
            .set("0000000000000000", 9)
            .unwrap();
    });
    changed("key \"recent\" in worker", &[], |store| {
        let scope = Scope::job("recent-1");
        let first = store.scope(scope.clone()).keys().unwrap().next().unwrap();
        store.scope(scope).delete(first).unwrap();
    });
    changed("entries", &[], |store| {
        store
            .scope(Scope::routine("worker-3", "queue"))
            .clear()
            .unwrap();
    });
    changed("came with record 130, which is missing", &[], |store| {
        let note = lists::note_of(130, 1);
        store
            .scope(lists::notes())
            .set(lists::note_key(130), note)
            .unwrap();
    });
}

#[test]
fn what_is_not_ours_is_named() {
    changed(
        "workflow \"other\" is no scope of `crash write`",
        &[],
        |store| {
            store.scope(Scope::workflow("other")).set("a", 1).unwrap();
        },
    );
    changed(
        "key \"a\" in global is none of `crash write`",
        &[],
        |store| {
            store.global().set("a", 1).unwrap();
        },
    );
    changed(
        "record at key \"a\" in custom scope \"records\"",
        &[],
        |store| {
            store.scope(record::records()).set("a", 1).unwrap();
        },
    );
    let store = Store::in_memory();
    store.global().set("a", 1).unwrap();
    assert!(claim(&store).is_err());
    let (have, wrong) = audited(&store);
    assert!(have.is_empty());
    assert!(wrong[0].contains("this is no store of"), "{wrong:?}");
}
