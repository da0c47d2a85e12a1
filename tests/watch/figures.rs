//! What a store tells of its watches: how many, how far the slowest is behind, what they
//! hold in memory, what they delivered, and how often one missed changes.

use evenkeel::testing::SimDisk;
use evenkeel::{Durability, Error, Lsn, Stats, Store, WatchFilter, WatchValues};

use crate::{drain, on, stores};

fn stats(store: &Store) -> Stats {
    store.stats().unwrap()
}

#[test]
fn the_slowest_says_how_far_they_are_behind() {
    for store in stores() {
        let idle = stats(&store);
        assert_eq!((idle.watches, idle.watch_behind_lsns), (0, 0));
        let mut quick = store.watch(WatchFilter::all()).unwrap();
        let mut slow = store.watch(WatchFilter::all()).unwrap();
        assert_eq!(stats(&store).watch_behind_lsns, 0);
        for n in 0..10 {
            store.global().set("k", n).unwrap();
        }
        assert_eq!(drain(&mut quick).len(), 10);
        assert!(slow.try_next().unwrap().is_some());
        let behind = stats(&store);
        assert_eq!((behind.watches, behind.watch_behind_lsns), (2, 9));
        assert_eq!(behind.watch_change_sets, 11);
        // What it does not want is passed over, and then it is not behind.
        let mut other = store
            .watch(WatchFilter::keys(evenkeel::Scope::Global, "other"))
            .unwrap();
        drop(slow);
        store.global().set("k", 10).unwrap();
        assert_eq!(stats(&store).watch_behind_lsns, 1);
        assert!(other.try_next().unwrap().is_none());
        assert_eq!(drain(&mut quick).len(), 1);
        let passed = stats(&store);
        assert_eq!((passed.watches, passed.watch_behind_lsns), (2, 0));
        assert_eq!((passed.watch_change_sets, passed.watch_lagged), (12, 0));
        drop((quick, other));
        assert_eq!(stats(&store).watches, 0);
    }
}

#[test]
fn what_is_not_durable_yet_is_nobodys_delay() {
    let store = on(&SimDisk::new(1)).open("s").unwrap();
    let watch = store.watch(WatchFilter::all()).unwrap();
    let later = store.with_durability(Durability::Memory);
    later.global().set("a", 1).unwrap();
    assert_eq!(stats(&store).watch_behind_lsns, 0);
    store.barrier().unwrap();
    assert_eq!(stats(&store).watch_behind_lsns, 1);
    drop(watch);
}

#[test]
fn what_they_hold_is_bounded_and_told_and_who_missed_something_is_counted() {
    let store = Store::builder().watch_bytes(10_000).in_memory().unwrap();
    let mut slow = store.watch(WatchFilter::all()).unwrap();
    for n in 0..500_u32 {
        store.global().set("k", n).unwrap();
        assert!(stats(&store).watch_bytes <= 10_000);
    }
    assert!(stats(&store).watch_bytes > 5_000);
    assert!(matches!(slow.try_next(), Err(Error::Lagged { .. })));
    assert_eq!(stats(&store).watch_lagged, 1);
    drop(slow);
    assert_eq!(stats(&store).watch_bytes, 0);

    // With a log nothing is held but what was overwritten, for who asks for that.
    let store = on(&SimDisk::new(1)).watch_bytes(10_000).open("s").unwrap();
    let mut begin = store.watch(WatchFilter::all().from(Lsn::ZERO)).unwrap();
    for n in 0..200_u32 {
        store.global().set("k", vec![n; 30]).unwrap();
    }
    assert_eq!(stats(&store).watch_bytes, 0);
    let old = WatchFilter::all().with_values(WatchValues::OldAndNew);
    let old = store.watch(old).unwrap();
    for n in 0..200_u32 {
        store.global().set("k", vec![n; 30]).unwrap();
        assert!(stats(&store).watch_bytes <= 10_000);
    }
    assert!(stats(&store).watch_bytes > 5_000);
    drop(old);
    assert_eq!(stats(&store).watch_bytes, 0);
    store.snapshot().unwrap();
    assert!(matches!(begin.try_next(), Err(Error::Trimmed { .. })));
    assert_eq!(stats(&store).watch_lagged, 1);
}
