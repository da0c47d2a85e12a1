//! What a clock may do, and what a transaction and a scan see of it.

use std::cell::Cell;

use evenkeel::testing::Loss;
use evenkeel::{Scope, SetOptions};

use crate::parts::{Rig, SECOND, START, seconds, tokens};

#[test]
fn a_clock_that_jumps_back_brings_nothing_back() {
    let mut rig = Rig::new();
    let store = rig.open();
    tokens(&store).set_with("a", 1, seconds(10)).unwrap();
    tokens(&store).set_with("b", 1, seconds(30)).unwrap();
    rig.advance(10 * SECOND);
    assert!(!tokens(&store).contains("a").unwrap());
    // Seen once, and never again: no commit was made meanwhile.
    rig.clock.set_micros(START - 5 * SECOND);
    assert!(!tokens(&store).contains("a").unwrap());
    assert!(tokens(&store).contains("b").unwrap());
    // What is written has the time of the store and not that of the clock.
    tokens(&store).set_with("c", 1, seconds(10)).unwrap();
    assert_eq!(
        tokens(&store).expires_at("c").unwrap(),
        Some(START + 20 * SECOND)
    );
    store.close().unwrap();
    let store = rig.open();
    assert!(!tokens(&store).contains("a").unwrap());
    drop(store);
    // Also where a crash is all that is behind the last commit.
    let store = rig.open();
    assert_eq!(store.expire().unwrap(), 1);
    rig.disk = rig.disk.crash(Loss::Everything);
    rig.clock.set_micros(0);
    let store = rig.open();
    assert!(!tokens(&store).contains("a").unwrap() && tokens(&store).contains("b").unwrap());
}

#[test]
fn what_was_only_looked_at_stays_absent_behind_a_close() {
    let mut rig = Rig::new();
    let store = rig.open();
    tokens(&store).set_with("a", 1, seconds(10)).unwrap();
    store.close().unwrap();
    // Nothing is written by whoever looks, and there is nothing for a checkpoint.
    let store = rig.open();
    rig.advance(10 * SECOND);
    assert!(!tokens(&store).contains("a").unwrap());
    store.close().unwrap();
    rig.clock.set_micros(START);
    let store = rig.open();
    assert!(!tokens(&store).contains("a").unwrap());
    // It is the time of the last close, also behind a crash.
    rig.disk = rig.disk.crash(Loss::Everything);
    let store = rig.open();
    assert!(!tokens(&store).contains("a").unwrap());
    tokens(&store).set_with("b", 1, seconds(1)).unwrap();
    let deadline = tokens(&store).expires_at("b").unwrap();
    assert_eq!(deadline, Some(START + 11 * SECOND));
}

#[test]
fn a_clock_that_jumps_ahead_expires_early_and_for_good() {
    let rig = Rig::new();
    let store = rig.open();
    tokens(&store).set_with("a", 1, seconds(10)).unwrap();
    rig.clock.set_micros(u64::MAX);
    assert!(!tokens(&store).contains("a").unwrap());
    rig.clock.set_micros(START);
    assert!(!tokens(&store).contains("a").unwrap());
    tokens(&store).set("forever", 1).unwrap();
    store.expire().unwrap();
    assert_eq!(store.stats().unwrap().expired_keys, 1);
    assert!(tokens(&store).contains("forever").unwrap());
}

#[test]
fn a_scan_gives_what_is_there_when_it_comes_to_it() {
    let rig = Rig::new();
    let store = rig.open();
    let scope = tokens(&store);
    for n in 0..1000_u64 {
        scope
            .set_with(format!("{n:04}"), n, seconds(10 + n / 100))
            .unwrap();
    }
    let mut scan = scope.scan("").unwrap();
    assert_eq!(scan.next().unwrap().unwrap().key(), "0000");
    rig.advance(12 * SECOND);
    assert_eq!(scan.next().unwrap().unwrap().key(), "0300");
    assert_eq!(scan.count(), 699);
}

#[test]
fn to_a_transaction_time_stands_still_and_what_expires_is_a_lost_race() {
    let rig = Rig::new();
    let store = rig.open();
    let at = |at: u64| rig.clock.set_micros(START + at * SECOND);
    tokens(&store).set_with("lease", "me", seconds(10)).unwrap();
    let runs = Cell::new(0);
    let held = store.transact(|tx| {
        runs.set(runs.get() + 1);
        let scope = tx.scope(Scope::custom("tokens"));
        let held = scope.contains("lease")?;
        at(10);
        // It was there, so it is there, and in no commit.
        assert_eq!(scope.contains("lease")?, held);
        assert_eq!(scope.len()?, u64::from(held));
        tx.global().set("held", held)?;
        Ok(held)
    });
    // The first run was lost.
    assert!(!held.unwrap() && runs.get() == 2);
    assert_eq!(store.global().get::<bool>("held").unwrap(), Some(false));
    // By a scan it is read as well.
    tokens(&store).set_with("lease", "me", seconds(10)).unwrap();
    let runs = Cell::new(0);
    let held = store.transact(|tx| {
        runs.set(runs.get() + 1);
        let held = tx.scope(Scope::custom("tokens")).scan("")?.count();
        at(20);
        tx.global().set("held", held)?;
        Ok(held)
    });
    assert!(held.unwrap() == 0 && runs.get() == 2);
    // One that only reads sees its moment; what it wrote itself expires as well.
    tokens(&store).set_with("lease", "me", seconds(10)).unwrap();
    store
        .transact(|tx| {
            let scope = tx.scope(Scope::custom("tokens"));
            assert!(scope.contains("lease")?);
            at(30);
            assert!(scope.contains("lease")?);
            Ok(())
        })
        .unwrap();
    store
        .transact(|tx| {
            let scope = tx.scope(Scope::custom("tokens"));
            scope.set_with("past", 1, SetOptions::new().expires_at(1))?;
            assert!(!scope.contains("past")? && scope.len()? == 0);
            Ok(())
        })
        .unwrap();
}
