//! Owns what a store without a folder keeps of deleted keys for those who look at them:
//! it is there as long as they look, and gone behind the last of them.

use evenkeel::{Scope, Store, Transaction};
use shuttle::thread;

use crate::driver::explore;
use crate::parts::chance;

const KEYS: [&str; 2] = ["a", "b"];

fn jobs() -> Scope {
    Scope::custom("jobs")
}

/// Both keys come and go together, in one of the ways in which keys go.
fn come_and_go(store: &Store, number: u64) {
    let both = |tx: &Transaction| {
        let scope = tx.scope(jobs());
        KEYS.iter().try_for_each(|key| scope.set(key, number))
    };
    let none = |tx: &Transaction| {
        let scope = tx.scope(jobs());
        KEYS.iter().try_for_each(|key| scope.delete(key))
    };
    for _ in 0..2 {
        store.transact(both).unwrap();
        match chance(3) {
            0 => store.scope(jobs()).clear().unwrap(),
            _ => store.transact(none).unwrap(),
        }
    }
}

/// However long it takes, it sees one moment.
fn look(store: &Store) {
    for _ in 0..2 {
        let scan = store.scope(jobs()).scan("").unwrap();
        let seen: Vec<u64> = scan.map(|entry| entry.unwrap().value().unwrap()).collect();
        assert!(
            seen.is_empty() || seen.len() == 2 && seen[0] == seen[1],
            "{seen:?}"
        );
        let (a, b) = store
            .transact(|tx| {
                let read = |key| tx.scope(jobs()).get::<u64>(key);
                Ok((read(KEYS[0])?, read(KEYS[1])?))
            })
            .unwrap();
        assert_eq!(a, b);
        // One that writes is lost where what it read has gone since.
        let found = store.transact(|tx| {
            let found = tx.scope(jobs()).get::<u64>(KEYS[0])?;
            tx.global().set("found", found)?;
            assert_eq!(tx.scope(jobs()).get::<u64>(KEYS[1])?, found);
            Ok(())
        });
        found.unwrap();
    }
}

#[test]
fn what_is_kept_for_those_who_look_goes_with_them() {
    explore(|| {
        let store = Store::in_memory();
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let store = store.clone();
                thread::spawn(move || match number % 2 {
                    0 => come_and_go(&store, number),
                    _ => look(&store),
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        store.scope(jobs()).clear().unwrap();
        store.global().clear().unwrap();
        assert!(store.scopes().unwrap().is_empty());
        assert_eq!(store.stats().unwrap().memtable_bytes, 0);
    });
}

/// Takes what was counted and deletes the key, which takes nothing then.
fn take(store: &Store) -> i64 {
    let taken = store.transact(|tx| {
        let count = tx.scope(jobs()).get::<i64>("count")?;
        tx.scope(jobs()).delete("count")?;
        Ok(count.unwrap_or(0))
    });
    taken.unwrap()
}

#[test]
fn nothing_is_counted_from_before_a_delete() {
    const TIMES: i64 = 3;
    explore(|| {
        let store = Store::in_memory();
        let counters: Vec<_> = (0..2)
            .map(|_| {
                let jobs = store.scope(jobs());
                thread::spawn(move || {
                    for _ in 0..TIMES {
                        jobs.increment("count", 1).unwrap();
                    }
                })
            })
            .collect();
        let taken: i64 = (0..TIMES).map(|_| take(&store)).sum();
        for counter in counters {
            counter.join().unwrap();
        }
        assert_eq!(taken + take(&store), 2 * TIMES);
    });
}
