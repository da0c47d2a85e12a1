//! Durable cursors: where they begin, that they only go forward, and whose they are.

use evenkeel::testing::SimDisk;
use evenkeel::{Error, Lsn, Scope, Store, WatchFilter};

use crate::{drain, on, stores, told};

#[test]
fn a_cursor_begins_now_and_survives_reopening() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    store.global().set("before", 1).unwrap();
    let filter = || WatchFilter::all().from_cursor("c");
    drop(store.watch(filter()).unwrap());
    store.global().set("a", 1).unwrap();
    let mut watch = store.watch(filter()).unwrap();
    let sets = drain(&mut watch);
    assert_eq!(told(&sets), [["Put global a"]]);
    store.close().unwrap();

    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(filter()).unwrap();
    let set = watch.try_next().unwrap().unwrap();
    assert_eq!(set.lsn(), sets[0].lsn());
    let cursor = store.cursor("c");
    store.transact(|tx| cursor.advance(tx, &set)).unwrap();
    assert_eq!(cursor.position().unwrap(), Some(set.lsn()));
    assert!(store.watch(filter()).unwrap().try_next().unwrap().is_none());
    // Neither listed nor reached by any name.
    assert_eq!(store.scopes().unwrap(), [Scope::Global]);
    assert!(!store.scope(Scope::custom("cursors")).contains("c").unwrap());
}

#[test]
fn a_cursor_never_goes_back() {
    for store in stores() {
        for n in 0..3 {
            store.global().set("k", n).unwrap();
        }
        let at = store.stats().unwrap().visible_lsn;
        let advance = |to: Lsn| {
            store.transact(|tx| {
                tx.global().increment("done", 1)?;
                tx.advance_cursor("c", to)
            })
        };
        advance(Lsn::ZERO).unwrap();
        advance(at).unwrap();
        for back in [at, Lsn::new(at.get() - 1), Lsn::ZERO] {
            let refused = advance(back).unwrap_err();
            assert!(!refused.is_retryable());
            let Error::CursorPassed { name, at: is, to } = refused else {
                panic!("{refused}");
            };
            assert_eq!((name.as_str(), is, to), ("c", at, back));
        }
        // A refusal that is not passed on still writes nothing to the cursor.
        let never = advance(store.stats().unwrap().visible_lsn.next());
        assert!(matches!(never, Err(Error::Invalid { what: "LSN", .. })));
        assert_eq!(store.global().get::<u64>("done").unwrap(), Some(2));
        assert_eq!(store.cursors().unwrap(), [("c".to_owned(), at)]);
        store.cursor("c").remove().unwrap();
        store.cursor("c").remove().unwrap();
        assert!(store.cursors().unwrap().is_empty());
        assert_eq!(store.cursor("c").position().unwrap(), None);
    }
}

#[test]
fn two_consumers_of_one_cursor_do_each_change_once() {
    for store in stores() {
        let filter = || WatchFilter::kind(evenkeel::ScopeKind::Job).from_cursor("c");
        let mut watches = [
            store.watch(filter()).unwrap(),
            store.watch(filter()).unwrap(),
        ];
        for n in 0..20 {
            store.scope(Scope::job("j")).set("n", n).unwrap();
        }
        let cursor = store.cursor("c");
        let (mut done, mut refused) = (0, 0);
        for turn in 0..60 {
            let watch = &mut watches[(turn / 3) % 2];
            let Some(set) = watch.try_next().unwrap() else {
                continue;
            };
            let outcome = store.transact(|tx| {
                tx.global().increment("done", 1)?;
                cursor.advance(tx, &set)
            });
            match outcome {
                Ok(()) => done += 1,
                Err(Error::CursorPassed { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        assert_eq!((done, refused), (20, 20));
        assert_eq!(store.global().get::<u64>("done").unwrap(), Some(20));
    }
}

#[test]
fn cursors_of_another_store_are_refused() {
    let (mine, other) = (Store::in_memory(), Store::in_memory());
    let mut watch = mine.watch(WatchFilter::all()).unwrap();
    mine.global().set("a", 1).unwrap();
    other.global().set("a", 1).unwrap();
    let set = watch.try_next().unwrap().unwrap();
    let invalid = |outcome| matches!(outcome, Err(Error::Invalid { what: "cursor", .. }));
    assert!(invalid(
        mine.transact(|tx| other.cursor("c").advance(tx, &set))
    ));
    assert!(invalid(
        other.transact(|tx| mine.cursor("c").advance(tx, &set))
    ));
    assert!(invalid(
        other.transact(|tx| other.cursor("c").advance(tx, &set))
    ));
    assert!(mine.cursors().unwrap().is_empty() && other.cursors().unwrap().is_empty());
    mine.transact(|tx| mine.cursor("c").advance(tx, &set))
        .unwrap();

    // A copy goes on with the same LSNs, and so do the cursors in it.
    let folder = tempfile::tempdir().unwrap();
    mine.global().set("b", 1).unwrap();
    let copy = mine.persist(folder.path().join("copy")).unwrap();
    let mut watch = copy.watch(WatchFilter::all().from_cursor("c")).unwrap();
    // What it has not seen is in the copy's snapshot, and not in its log.
    let Err(Error::Trimmed { scan_from, .. }) = watch.try_next() else {
        panic!("a copy has no old log");
    };
    assert_eq!(scan_from, mine.stats().unwrap().visible_lsn);
    copy.global().set("c", 1).unwrap();
    assert_eq!(told(&drain(&mut watch)), [["Put global c"]]);
}

#[test]
fn a_cursor_and_a_watch_inside_a_transaction() {
    for store in stores() {
        let nested = store.transact(|_| store.watch(WatchFilter::all().from_cursor("c")).map(drop));
        assert!(matches!(nested, Err(Error::Nested)));
        let aborted = store.transact(|tx| {
            tx.advance_cursor("c", tx.lsn())?;
            Err::<(), _>(Error::abort("no"))
        });
        assert!(matches!(aborted, Err(Error::Aborted(_))));
        assert!(store.cursors().unwrap().is_empty());
        let long = store.watch(WatchFilter::all().from_cursor("c".repeat(1 << 20)));
        assert!(matches!(long, Err(Error::LimitExceeded { .. })), "{long:?}");
    }
}
