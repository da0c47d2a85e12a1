//! What is delivered: durable changes, whole commits, in order, as the filter says.

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{
    Durability, Error, Lsn, Previous, Scope, ScopeKind, Store, WatchFilter, WatchValues,
};

use crate::{drain, on, stores, told};

#[test]
fn whole_transactions_come_in_the_order_of_commits() {
    for store in stores() {
        let mut watch = store.watch(WatchFilter::all()).unwrap();
        assert_eq!(store.stats().unwrap().watches, 1);
        let (a, b) = (Scope::workflow("a"), Scope::job("b"));
        store
            .transact(|tx| {
                tx.scope(a.clone()).set("y", 1)?;
                tx.scope(a.clone()).set("x", 1)?;
                tx.scope(b.clone()).set("z", 1)
            })
            .unwrap();
        store.global().increment("n", 1).unwrap();
        store
            .transact(|tx| {
                tx.scope(a.clone()).clear()?;
                tx.scope(a.clone()).set("y", 2)?;
                tx.scope(b.clone()).delete("z")
            })
            .unwrap();
        store.transact(|tx| tx.global().get::<u64>("n")).unwrap();
        let sets = drain(&mut watch);
        assert_eq!(
            told(&sets),
            [
                vec![
                    r#"Put workflow "a" x"#,
                    r#"Put workflow "a" y"#,
                    r#"Put job "b" z"#
                ],
                vec!["Put global n"],
                vec![
                    r#"Clear workflow "a" "#,
                    r#"Put workflow "a" y"#,
                    r#"Delete job "b" z"#
                ],
            ]
        );
        let version = store.global().get_versioned::<i64>("n").unwrap().unwrap();
        assert_eq!(sets[1].changes()[0].version(), version.version);
        assert_eq!(Lsn::from(version.version), sets[1].lsn());
        assert!(sets.is_sorted_by(|a, b| a.lsn() < b.lsn() && a.time_micros() <= b.time_micros()));
        assert_eq!(watch.reached(), sets[2].lsn());
        drop(watch);
        assert_eq!(store.stats().unwrap().watches, 0);
    }
}

#[test]
fn filters_let_through_what_they_name() {
    for store in stores() {
        let open = |filter| store.watch(filter).unwrap();
        let mut scope = open(WatchFilter::scope(Scope::workflow("a")));
        let mut kind = open(WatchFilter::kind(ScopeKind::Step));
        let mut keys = open(WatchFilter::keys(Scope::workflow("a"), "k"));
        let mut both =
            open(WatchFilter::kind(ScopeKind::Step).or(WatchFilter::scope(Scope::Global)));
        for key in ["k", "k1", "j"] {
            store
                .transact(|tx| {
                    tx.scope(Scope::workflow("a")).set(key, 1)?;
                    tx.scope(Scope::workflow("ab")).set(key, 1)?;
                    tx.scope(Scope::step("a", "s")).set(key, 1)
                })
                .unwrap();
        }
        store.global().set("k", 1).unwrap();
        store.scope(Scope::workflow("a")).clear().unwrap();
        store
            .transact(|tx| tx.advance_cursor("c", tx.lsn()))
            .unwrap();
        let flat = |watch: &mut _| told(&drain(watch)).concat();
        let a = |key: &str| format!("Put workflow \"a\" {key}");
        let s = |key: &str| format!("Put step \"s\" of workflow \"a\" {key}");
        let clear = "Clear workflow \"a\" ".to_owned();
        assert_eq!(flat(&mut scope), [a("k"), a("k1"), a("j"), clear.clone()]);
        assert_eq!(flat(&mut kind), [s("k"), s("k1"), s("j")]);
        // A clear concerns each key.
        assert_eq!(flat(&mut keys), [a("k"), a("k1"), clear]);
        assert_eq!(
            flat(&mut both),
            [s("k"), s("k1"), s("j"), "Put global k".into()]
        );
        // What was passed over was passed.
        assert_eq!(keys.reached(), store.stats().unwrap().visible_lsn);
    }
}

#[test]
fn values_come_where_they_are_asked_for() {
    for store in stores() {
        let all = |values| store.watch(WatchFilter::all().with_values(values)).unwrap();
        store.global().set("there", "before").unwrap();
        store.global().set("gone", "before").unwrap();
        if store.path().is_some() {
            // Only the image has them, so they are looked up in it.
            store.checkpoint().unwrap();
        }
        let mut keys = all(WatchValues::Keys);
        let mut new = all(WatchValues::New);
        let mut both = all(WatchValues::OldAndNew);
        store
            .transact(|tx| {
                tx.global().set("fresh", "after")?;
                tx.global().delete("gone")?;
                tx.global().set("there", "after")
            })
            .unwrap();
        store.global().set("there", 7).unwrap();
        let read = |watch: &mut _| -> Vec<_> {
            let sets = drain(watch);
            let changes = sets.iter().flat_map(evenkeel::ChangeSet::changes);
            changes
                .map(|change| {
                    let value: Option<evenkeel::Value> = change.value().unwrap();
                    let previous: Previous<evenkeel::Value> = change.previous().unwrap();
                    (value, previous)
                })
                .collect()
        };
        let value = |text: &str| evenkeel::Value::from(text);
        let (after, before) = (Some(value("after")), Previous::Value(value("before")));
        let seven = Some(evenkeel::Value::from(7));
        assert!(
            read(&mut keys)
                .iter()
                .all(|read| *read == (None, Previous::Unknown))
        );
        let unknown = |value: &Option<evenkeel::Value>| (value.clone(), Previous::Unknown);
        let expected = [after.clone(), None, after.clone(), seven.clone()];
        assert_eq!(read(&mut new), expected.each_ref().map(unknown));
        assert_eq!(
            read(&mut both),
            [
                (after.clone(), Previous::Absent),
                (None, before.clone()),
                (after, before),
                (seven, Previous::Value(value("after"))),
            ]
        );
        let mut typed = all(WatchValues::New);
        store.global().set("there", "text").unwrap();
        let set = typed.try_next().unwrap().unwrap();
        let mismatch = set.changes()[0].value::<u64>();
        assert!(matches!(mismatch, Err(Error::TypeMismatch { .. })));
    }
}

#[test]
fn what_is_visible_and_not_durable_is_not_delivered() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(WatchFilter::all()).unwrap();
    let later = store.with_durability(Durability::Memory);
    later.global().set("a", 1).unwrap();
    later.global().set("b", 1).unwrap();
    assert_eq!(store.global().get::<u64>("b").unwrap(), Some(1));
    assert!(watch.try_next().unwrap().is_none());
    // Two that begin between: behind what is durable, and behind what is visible.
    let mut now = store.watch(WatchFilter::all()).unwrap();
    let visible = store.stats().unwrap().visible_lsn;
    let mut behind = store.watch(WatchFilter::all().from(visible)).unwrap();
    store.barrier().unwrap();
    let sets = drain(&mut watch);
    assert_eq!(told(&sets).concat(), ["Put global a", "Put global b"]);
    assert_eq!(told(&drain(&mut now)), told(&sets));
    assert!(behind.try_next().unwrap().is_none());

    // What a power cut takes was delivered to nobody, and what was delivered stays.
    later.global().set("lost", 1).unwrap();
    assert!(watch.try_next().unwrap().is_none());
    let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
    let all = WatchFilter::all().from(Lsn::ZERO);
    let again = drain(&mut after.watch(all).unwrap());
    assert_eq!(told(&again), told(&sets));
    assert!(
        again
            .iter()
            .map(|set| set.lsn())
            .eq(sets.iter().map(|set| set.lsn()))
    );
}

#[test]
fn from_an_lsn_all_behind_it_is_read_over_segments_and_openings() {
    let disk = SimDisk::new(1);
    let mut lsns = Vec::new();
    for opening in 0..3 {
        let store = on(&disk).open("s").unwrap();
        for n in 0..40 {
            let set = |tx: &evenkeel::Transaction| {
                tx.global().set(format!("{opening}/{n}"), vec![7_u8; 700])
            };
            lsns.push(store.submit(set).unwrap().1.lsn());
        }
        match opening {
            0 => store.close().unwrap(),
            _ => store.barrier().unwrap(),
        }
    }
    let store = on(&disk.crash(Loss::Nothing)).open("s").unwrap();
    assert!(store.stats().unwrap().log_segments > 5);
    for (skip, from) in [Lsn::ZERO].iter().chain(&lsns).enumerate() {
        let watch = store.watch(WatchFilter::all().from(*from));
        let read = drain(&mut watch.unwrap());
        let read: Vec<_> = read.iter().map(|set| set.lsn()).collect();
        assert_eq!(read, lsns[skip..], "from {from}");
    }
}

#[test]
fn an_lsn_that_was_never_given_is_refused() {
    for store in stores() {
        let beyond = store.stats().unwrap().visible_lsn.next();
        let refused = store.watch(WatchFilter::all().from(beyond));
        assert!(
            matches!(refused, Err(Error::Invalid { what: "LSN", .. })),
            "{refused:?}"
        );
        let far = store.watch(WatchFilter::all().from(Lsn::new(u64::MAX)));
        assert!(matches!(far, Err(Error::Invalid { .. })));
        let long = WatchFilter::keys(Scope::job("j".repeat(2000)), "k");
        assert!(matches!(
            store.watch(long),
            Err(Error::LimitExceeded { .. })
        ));
    }
    assert_eq!(Store::in_memory().stats().unwrap().watches, 0);
}
