//! Who removes what has expired, in which commits, and the limits that it frees.

use std::sync::Arc;

use evenkeel::{Error, Limits, ManualClock, Scope, Store};

use crate::parts::{PLACES, Place, Rig, SECOND, START, keys, seconds, tokens};

/// Tokens over several scopes.
fn fill(store: &Store, count: u64) {
    store
        .transact(|tx| {
            for n in 0..count {
                let scope = tx.scope(Scope::job(format!("{}", n % 7)));
                scope.set_with(format!("{n:05}"), n, seconds(10))?;
            }
            tx.global().set("forever", 1)
        })
        .unwrap();
}

#[test]
fn removal_is_a_few_commits_and_none_where_nothing_has_expired() {
    for place in PLACES {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        fill(&store, 600);
        let store = place.reach(&rig, store, Limits::default());
        let figures = || {
            let stats = store.stats().unwrap();
            (stats.commits, stats.expired_keys, stats.visible_lsn)
        };
        let before = figures();
        rig.advance(10 * SECOND - 1);
        assert_eq!(store.expire().unwrap(), 0);
        assert_eq!(figures(), before, "{place:?}");
        rig.advance(1);
        // One that was written again is another one.
        store.scope(Scope::job("0")).set("00000", "again").unwrap();
        let before = figures();
        assert_eq!(store.expire().unwrap(), 599, "{place:?}");
        let after = figures();
        assert_eq!((after.0 - before.0, after.1), (3, 599), "{place:?}");
        assert_eq!(store.expire().unwrap(), 0);
        assert_eq!(figures(), after);
        assert_eq!(keys(&store, &Scope::job("0")), ["00000"]);
        if place != Place::InMemory {
            store.checkpoint().unwrap();
            // The settings of no scope, `forever` and the one that was written again.
            assert_eq!(store.stats().unwrap().image_entries, 2, "{place:?}");
        }
        // Nothing is found anew in what was written into the image.
        rig.advance(SECOND);
        assert_eq!(store.expire().unwrap(), 0);
        assert_eq!(keys(&store, &Scope::Global), ["forever"]);
    }
}

#[test]
fn what_expires_later_is_removed_later_wherever_it_went_meanwhile() {
    for place in PLACES {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        for n in 0..50_u64 {
            tokens(&store)
                .set_with(format!("{n:02}"), n, seconds(1 + n))
                .unwrap();
        }
        let store = place.reach(&rig, store, Limits::default());
        for n in 1..=50_u64 {
            rig.advance(SECOND);
            assert_eq!(store.expire().unwrap(), 1, "{place:?}, {n}");
            if n % 7 == 0 {
                store.checkpoint().unwrap();
            }
            assert_eq!(tokens(&store).len().unwrap(), 50 - n);
        }
        store.checkpoint().unwrap();
        assert!(store.scopes().unwrap().is_empty());
    }
}

#[test]
fn without_threads_later_commits_remove_a_batch_each() {
    for place in [Place::InMemory, Place::Memtable, Place::Image] {
        let rig = Rig::new();
        let store = place.store(&rig, Limits::default());
        fill(&store, 600);
        let store = place.reach(&rig, store, Limits::default());
        let mut removed = vec![0];
        rig.advance(10 * SECOND);
        for n in 0..5 {
            store.global().set("n", n).unwrap();
            removed.push(store.stats().unwrap().expired_keys);
            rig.advance(SECOND);
        }
        // A second is given to those that expire at about the same time; a block of the
        // image that is begun is ended.
        let most = if place == Place::Image { 300 } else { 256 };
        let step = |pair: &[u64]| pair[1] - pair[0] <= most;
        assert!(
            removed[1] == 0 && removed[2] >= 256,
            "{place:?}: {removed:?}"
        );
        assert!(removed.windows(2).all(step), "{place:?}: {removed:?}");
        assert_eq!(removed[4..], [600, 600], "{place:?}");
    }
}

#[test]
fn the_thread_removes_what_nobody_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let store = Store::builder()
        .clock(clock.clone())
        .open(folder.path())
        .unwrap();
    fill(&store, 600);
    store.checkpoint().unwrap();
    clock.set_micros(START + 10 * SECOND);
    let removed = || store.stats().unwrap().expired_keys;
    // It looks again and again by itself; this only waits for it.
    for _ in 0..100_000_000_u64 {
        if removed() == 600 {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(removed(), 600);
    store.close().unwrap();
}

#[test]
fn a_limit_counts_what_is_there_and_refuses_exactly() {
    let limits = || {
        let mut limits = Limits::default();
        limits.scope_keys = 20;
        limits
    };
    for place in PLACES {
        for removes in [false, true] {
            let rig = Rig::new();
            let store = place.store(&rig, limits());
            let scope = tokens(&store);
            for n in 0..15 {
                scope.set_with(format!("k{n:02}"), n, seconds(10)).unwrap();
            }
            for n in 15..20 {
                scope.set(format!("k{n:02}"), n).unwrap();
            }
            let full = |scope: &evenkeel::ScopeHandle, key: &str| {
                let refused = scope.set(key, 1).unwrap_err();
                let found = matches!(
                    refused,
                    Error::LimitExceeded {
                        limit: "scope_keys",
                        max: 20,
                        actual: 21,
                        ..
                    }
                );
                assert!(found, "{place:?}: {refused}");
            };
            full(&scope, "more");
            let store = place.reach(&rig, store, limits());
            let scope = tokens(&store);
            full(&scope, "more");
            rig.advance(10 * SECOND);
            if removes {
                assert_eq!(store.expire().unwrap(), 15);
            }
            // Fifteen more, of which some are those that were there.
            for n in 0..15 {
                scope.set(format!("k{:02}", n * 2), n).unwrap();
                if n == 7 {
                    store.expire().unwrap();
                }
            }
            let there = scope.len().unwrap();
            for n in there..20 {
                scope.set_with(format!("n{n}"), n, seconds(5)).unwrap();
            }
            full(&scope, "more");
            scope.delete("k19").unwrap();
            scope.set("more", 1).unwrap();
            full(&scope, "one more");
        }
    }
}
