//! What a store without a folder takes in memory: what is there, and nothing of what was
//! deleted, has expired or was cleared, whoever looked at it meanwhile.

use evenkeel::{Error, Limits, Scope, Store};

use crate::parts::{Place, Rig, SECOND, seconds, tokens};

const KEYS: u64 = 20_000;

fn held(store: &Store) -> u64 {
    store.stats().unwrap().memtable_bytes
}

#[test]
fn deleted_keys_take_nothing() {
    let store = Place::InMemory.store(&Rig::new(), Limits::default());
    let scope = tokens(&store);
    scope.set("kept", 1).unwrap();
    let before = held(&store);
    for n in 0..KEYS {
        scope.set(format!("{n}"), "x".repeat(20)).unwrap();
        scope.delete(format!("{n}")).unwrap();
        scope.delete(format!("never {n}")).unwrap();
        assert_eq!(held(&store), before);
    }
    assert_eq!(scope.keys().unwrap().collect::<Vec<_>>(), ["kept"]);
    scope.delete("kept").unwrap();
    assert_eq!(held(&store), 0);
}

#[test]
fn neither_do_those_that_somebody_looked_at_meanwhile() {
    let store = Place::InMemory.store(&Rig::new(), Limits::default());
    let scope = tokens(&store);
    for n in 0..500_u64 {
        scope.set(format!("{n:03}"), n).unwrap();
    }
    let before = held(&store);
    let mut first = scope.scan("").unwrap();
    let more = |from: u64| {
        for n in from..from + 300 {
            scope.set(format!("{n:03}"), n + 1).unwrap();
            scope.set(format!("more {n}"), n).unwrap();
            scope.delete(format!("{n:03}")).unwrap();
            scope.delete(format!("more {n}")).unwrap();
        }
    };
    more(0);
    let second = scope.scan("").unwrap();
    more(200);
    assert!(held(&store) > before);
    assert_eq!(first.next().unwrap().unwrap().value::<u64>().unwrap(), 0);
    assert_eq!(first.count(), 499);
    assert_eq!(second.count(), 200);
    assert_eq!(held(&store), 0);
    // A transaction that is lost to a delete still is.
    scope.set("a", 1).unwrap();
    let mut runs = 0;
    let found = store.transact(|tx| {
        runs += 1;
        let found: Option<i64> = tx.scope(Scope::custom("tokens")).get("a")?;
        if runs == 1 {
            std::thread::scope(|threads| {
                threads.spawn(|| scope.delete("a").unwrap());
            });
        }
        tx.global().set("found", found.is_some())?;
        Ok(found)
    });
    assert_eq!((found.unwrap(), runs), (None, 2));
    store.global().delete("found").unwrap();
    assert_eq!(held(&store), 0);
}

#[test]
fn nor_what_has_expired_or_was_cleared_and_scopes_are_forgotten() {
    let rig = Rig::new();
    let store = Place::InMemory.store(&rig, Limits::default());
    for n in 0..KEYS {
        let scope = store.scope(Scope::job(format!("{n}")));
        scope.set_with("expires", n, seconds(10)).unwrap();
        let other = store.scope(Scope::worker(format!("{n}")));
        other.set("cleared", n).unwrap();
        let looks = (n % 3 == 0).then(|| other.scan("").unwrap());
        other.clear().unwrap();
        assert_eq!(looks.map_or(0, Iterator::count), usize::from(n % 3 == 0));
        rig.advance(SECOND / 100);
    }
    rig.advance(10 * SECOND);
    store.expire().unwrap();
    assert_eq!(store.stats().unwrap().expired_keys, KEYS);
    assert_eq!(held(&store), 0);
    // Those that are used just now, and as many of the others.
    let scopes = store.stats().unwrap().scopes_in_memory;
    assert!(scopes < KEYS, "{scopes} scopes are in memory");
}

#[test]
fn a_store_that_was_full_has_room_again() {
    let rig = Rig::new();
    let mut limits = Limits::default();
    limits.memory_bytes = 256 * 1024;
    let store = Place::InMemory.store(&rig, limits);
    for round in 0..5 {
        let full = (0..).find_map(|n| {
            let set = tokens(&store).set_with(format!("{round} {n}"), n, seconds(10));
            set.err()
        });
        assert!(matches!(
            full,
            Some(Error::LimitExceeded {
                limit: "memory_bytes",
                ..
            })
        ));
        rig.advance(10 * SECOND);
        store.expire().unwrap();
        assert_eq!(held(&store), 0);
    }
}
