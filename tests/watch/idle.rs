//! A cursor of which little is wanted: the watch moves it over the rest, and never over
//! anything that its consumer has not done.

use evenkeel::testing::SimDisk;
use evenkeel::{Error, Lsn, Scope, Store, Watch, WatchFilter};

use crate::{drain, on, told};

fn quiet() -> WatchFilter {
    WatchFilter::scope(Scope::custom("quiet")).from_cursor("c")
}

/// What others do.
fn noise(store: &Store) {
    for n in 0..100 {
        store
            .global()
            .set(format!("k{}", n % 7), vec![n; 100])
            .unwrap();
    }
}

/// The same beside a watch that follows it, and then the log is trimmed.
fn noise_beside(store: &Store, watch: &mut Watch) {
    noise(store);
    assert!(watch.try_next().unwrap().is_none());
    store.snapshot().unwrap();
}

fn position(store: &Store) -> Lsn {
    store.cursor("c").position().unwrap().unwrap()
}

#[test]
fn a_consumer_that_nothing_concerns_is_not_told_that_it_missed_something() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(quiet()).unwrap();
    for _ in 0..3 {
        noise_beside(&store, &mut watch);
        let commits = store.stats().unwrap().commits;
        for _ in 0..3 {
            assert!(watch.try_next().unwrap().is_none());
        }
        // One small commit for a checkpoint, however often it is asked.
        assert_eq!(store.stats().unwrap().commits, commits + 1);
        assert!(position(&store) >= store.stats().unwrap().image_lsn);
    }
    store.close().unwrap();
    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(quiet()).unwrap();
    assert!(watch.try_next().unwrap().is_none());
    store.scope(Scope::custom("quiet")).set("a", 1).unwrap();
    let sets = drain(&mut watch);
    assert_eq!(told(&sets), [[r#"Put custom scope "quiet" a"#]]);
    store
        .transact(|tx| store.cursor("c").advance(tx, &sets[0]))
        .unwrap();
    assert_eq!(position(&store), sets[0].lsn());
}

/// However often it is asked and whatever is written: the cursor stays.
fn holds(store: &Store, watch: &mut Watch) {
    let at = position(store);
    for _ in 0..3 {
        noise_beside(store, watch);
        assert!(watch.try_next().unwrap().is_none());
        assert_eq!(position(store), at);
    }
}

fn keeps_up(store: &Store, watch: &mut Watch) {
    noise_beside(store, watch);
    assert!(watch.try_next().unwrap().is_none());
    assert!(position(store) >= store.stats().unwrap().image_lsn);
}

#[test]
fn what_is_delivered_and_not_done_holds_it() {
    let store = on(&SimDisk::new(1)).open("s").unwrap();
    let mut watch = store.watch(quiet()).unwrap();
    let scope = store.scope(Scope::custom("quiet"));
    scope.set("a", 1).unwrap();
    scope.set("b", 1).unwrap();
    let sets = drain(&mut watch);
    let cursor = store.cursor("c");
    let done = |set| store.transact(|tx| cursor.advance(tx, set)).unwrap();
    holds(&store, &mut watch);
    done(&sets[0]);
    holds(&store, &mut watch);
    done(&sets[1]);
    keeps_up(&store, &mut watch);
}

#[test]
fn what_was_missed_and_not_read_holds_it() {
    let store = on(&SimDisk::new(1)).open("s").unwrap();
    let mut watch = store.watch(quiet()).unwrap();
    let scope = store.scope(Scope::custom("quiet"));
    scope.set("a", 1).unwrap();
    noise(&store);
    store.snapshot().unwrap();
    assert!(matches!(watch.try_next(), Err(Error::Trimmed { .. })));
    holds(&store, &mut watch);
    // It reads the state, as it is told to.
    store
        .transact(|tx| {
            assert_eq!(tx.scope(Scope::custom("quiet")).len()?, 1);
            tx.advance_cursor("c", tx.lsn())
        })
        .unwrap();
    keeps_up(&store, &mut watch);
}

#[test]
fn one_that_is_gone_is_not_made_and_none_is_moved_inside_a_transaction() {
    let store = on(&SimDisk::new(1)).open("s").unwrap();
    let mut watch = store.watch(quiet()).unwrap();
    noise_beside(&store, &mut watch);
    let before = position(&store);
    store
        .transact(|_| {
            assert!(watch.try_next()?.is_none());
            Ok(())
        })
        .unwrap();
    assert_eq!(position(&store), before);
    store.cursor("c").remove().unwrap();
    assert!(watch.try_next().unwrap().is_none());
    assert_eq!(store.cursor("c").position().unwrap(), None);
}

#[test]
fn one_that_was_away_while_the_log_was_trimmed_is_told_so() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    drop(store.watch(quiet()).unwrap());
    let scope = store.scope(Scope::custom("quiet"));
    scope.set("a", 1).unwrap();
    scope.delete("a").unwrap();
    noise(&store);
    store.snapshot().unwrap();
    // Nothing in the state says that there was anything.
    let mut watch = store.watch(quiet()).unwrap();
    assert!(matches!(watch.try_next(), Err(Error::Trimmed { .. })));
}
