//! Owns the removal of what has expired beside transactions that have reserved keys:
//! who commits something else waits for none of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use evenkeel::testing::SimDisk;
use evenkeel::{ManualClock, Scope, SetOptions, Store};
use shuttle::sync::Mutex;
use shuttle::thread::{self, JoinHandle};

use crate::driver::explore;
use crate::parts::on;

/// So many lost races, and a transaction reserves its keys.
const RACES: u32 = 3;

fn tokens() -> Scope {
    Scope::custom("tokens")
}

/// When the keys of the scope expire, and when that is long ago.
const DEADLINE: u64 = 1_000_000;
const LATE: u64 = 10_000_000;

fn expiring() -> SetOptions {
    SetOptions::new().expires_at(DEADLINE)
}

/// Runs a transaction in a store without threads that has reserved all of a scope, as it
/// lost so often before. What is in the scope has expired meanwhile.
fn reserved(then: impl Fn(&Store) -> Vec<JoinHandle<()>>) {
    let clock = Arc::new(ManualClock::new(1));
    let builder = on(&SimDisk::new(1)).clock(clock.clone());
    let store = builder.open("s").unwrap();
    for key in ["a", "b"] {
        store.scope(tokens()).set_with(key, 1, expiring()).unwrap();
    }
    let beside = {
        let store = store.clone();
        thread::spawn(move || store.global().set("beside", 1).unwrap())
    };
    let threads = Mutex::new(vec![beside]);
    let runs = AtomicU32::new(0);
    let outcome = store.transact(|tx| {
        let there = tx.scope(tokens()).scan("")?.count();
        let run = runs.fetch_add(1, Ordering::SeqCst);
        assert_eq!(there, if run <= RACES { 2 } else { 0 });
        if run < RACES {
            let scope = store.scope(tokens());
            let race = thread::spawn(move || scope.set_with("a", 1, expiring()).unwrap());
            race.join().unwrap();
        } else if run == RACES {
            // What was there is not there at the commit: it is lost once more.
            clock.set_micros(LATE);
        } else {
            threads.lock().unwrap().extend(then(&store));
        }
        tx.global().set("done", true)
    });
    outcome.unwrap();
    let threads = threads.into_inner().unwrap();
    let runs = runs.into_inner();
    // Whoever waited long for a reservation goes on without, and the transaction loses.
    let lapses = threads.len() > 1;
    assert!(
        runs == RACES + 2 || lapses && runs > RACES + 2,
        "{runs} runs"
    );
    for thread in threads {
        thread.join().unwrap();
    }
    store.expire().unwrap();
    assert_eq!(store.expire().unwrap(), 0);
    assert_eq!(store.stats().unwrap().expired_keys, 2);
    assert_eq!(store.scopes().unwrap(), [Scope::Global]);
    store.close().unwrap();
}

/// Commits something on another key, for which a transaction may well wait.
fn commit_beside(store: &Store) {
    let store = store.clone();
    let other = thread::spawn(move || store.global().set("other", 1).unwrap());
    other.join().unwrap();
}

#[test]
fn a_transaction_that_removes_in_passing_does_not_wait_for_itself() {
    explore(|| reserved(|_| Vec::new()));
}

#[test]
fn who_removes_in_passing_waits_for_no_reservation() {
    explore(|| {
        reserved(|store| {
            commit_beside(store);
            Vec::new()
        });
    });
}

#[test]
fn nor_for_somebody_who_waits_for_one() {
    explore(|| {
        reserved(|store| {
            let waits = store.clone();
            let waits = thread::spawn(move || assert!(waits.expire().unwrap() <= 2));
            commit_beside(store);
            vec![waits]
        });
    });
}
