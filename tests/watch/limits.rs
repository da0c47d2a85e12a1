//! What a slow watch costs and is told: nothing that grows, `Trimmed` and `Lagged`.

use evenkeel::testing::SimDisk;
use evenkeel::{Error, Lsn, Previous, Store, WatchFilter, WatchValues};

use crate::{drain, on, told};

fn fill(store: &Store, count: u32) {
    for n in 0..count {
        store
            .global()
            .set(format!("k{}", n % 7), vec![n; 100])
            .unwrap();
    }
}

#[test]
fn behind_the_trimmed_log_it_says_from_where_to_go_on() {
    let store = on(&SimDisk::new(1)).open("s").unwrap();
    let mut slow = store.watch(WatchFilter::all()).unwrap();
    fill(&store, 3);
    // It has a segment open when that is given up and used again.
    assert!(slow.try_next().unwrap().is_some());
    let mut begin = store.watch(WatchFilter::all().from(Lsn::ZERO)).unwrap();
    for _ in 0..4 {
        fill(&store, 60);
        store.snapshot().unwrap();
    }
    for watch in [&mut slow, &mut begin] {
        // What it has read ahead is still delivered.
        let (position, end) = loop {
            let position = watch.reached();
            match watch.try_next() {
                Ok(Some(set)) => assert_eq!(set.lsn(), position.next()),
                end => break (position, end),
            }
        };
        let Err(Error::Trimmed { oldest, scan_from }) = end else {
            panic!("the log was trimmed: {end:?}");
        };
        assert!(
            position < scan_from && scan_from.next() == oldest,
            "{position} {oldest}"
        );
        assert_eq!(watch.reached(), scan_from);
        // It goes on behind what was missed, and with what is read there nothing is.
        let next = watch.try_next().unwrap().unwrap();
        assert!(next.lsn() >= oldest);
        let rest = drain(watch);
        assert_eq!(
            rest.last().unwrap().lsn(),
            store.stats().unwrap().visible_lsn
        );
        let from = store.watch(WatchFilter::all().from(scan_from)).unwrap();
        assert_eq!(drain(&mut { from }).len(), rest.len() + 1);
    }
    // As an iterator it goes on too.
    let mut items = store.watch(WatchFilter::all().from(Lsn::ZERO)).unwrap();
    assert!(matches!(items.next(), Some(Err(Error::Trimmed { .. }))));
    assert!(matches!(items.next(), Some(Ok(_))));
}

#[test]
fn without_a_log_one_that_is_too_slow_is_told() {
    let store = Store::builder().watch_bytes(10_000).in_memory().unwrap();
    let mut slow = store.watch(WatchFilter::all()).unwrap();
    let mut quick = store.watch(WatchFilter::all()).unwrap();
    let begin = slow.reached();
    for n in 0..200_u32 {
        store.global().set("k", n).unwrap();
        assert_eq!(drain(&mut quick).len(), 1);
    }
    let Err(Error::Lagged { after, scan_from }) = slow.try_next() else {
        panic!("the notes take more than is allowed");
    };
    assert_eq!((after, slow.reached()), (begin, scan_from));
    let rest = drain(&mut slow);
    assert!(rest.len() > 20 && rest.len() < 200, "{}", rest.len());
    assert_eq!(rest[0].lsn(), scan_from.next());
    assert_eq!(rest.last().unwrap().lsn(), quick.reached());

    // One commit that is larger than all of it.
    store.global().set("k", vec![1_u8; 20_000]).unwrap();
    for watch in [&mut slow, &mut quick] {
        assert!(matches!(watch.try_next(), Err(Error::Lagged { .. })));
        assert!(watch.try_next().unwrap().is_none());
    }
    // What was before anybody watched is gone, and nothing is noted for nobody.
    drop((slow, quick));
    store.global().set("k", 1).unwrap();
    let mut late = store.watch(WatchFilter::all().from(begin)).unwrap();
    assert!(matches!(late.try_next(), Err(Error::Lagged { .. })));
    store.global().set("k", 2).unwrap();
    assert_eq!(told(&drain(&mut late)), [["Put global k"]]);
}

#[test]
fn what_was_overwritten_is_unknown_rather_than_wrong() {
    let store = on(&SimDisk::new(1)).watch_bytes(4_000).open("s").unwrap();
    store.global().set("k", 0_u32).unwrap();
    let with_old = || WatchFilter::all().with_values(WatchValues::OldAndNew);
    let before = store.stats().unwrap().durable_lsn;
    store.global().set("k", 1_u32).unwrap();
    // Not noted: nobody asked when it was made.
    let mut watch = store.watch(with_old().from(before)).unwrap();
    for n in 2..200_u32 {
        store.global().set("k", n).unwrap();
        if n % 50 == 0 {
            store.checkpoint().unwrap();
        }
    }
    let (mut known, mut unknown) = (0, 0);
    for set in drain(&mut watch) {
        let change = &set.changes()[0];
        let new = change.value::<u32>().unwrap().unwrap();
        match change.previous::<u32>().unwrap() {
            Previous::Unknown => unknown += 1,
            Previous::Absent => panic!("{new} overwrote something"),
            Previous::Value(old) => {
                assert_eq!(old + 1, new);
                known += 1;
            }
        }
    }
    assert!(
        known > 10 && unknown > 10,
        "{known} known, {unknown} unknown"
    );
    assert_eq!(known + unknown, 199);
}
