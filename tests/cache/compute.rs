//! Computing what is not there: once, whoever asks, and again where it failed.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use evenkeel::{Error, Resource, Result, Store};

use crate::parts::{Rig, keys, profiles};

const THREADS: usize = 16;

/// Runs as many threads at once, and gives what each came to.
fn at_once<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS);
    let run = |n: usize| {
        start.wait();
        work(n)
    };
    let run = &run;
    thread::scope(|scope| {
        let threads = (0..THREADS).map(|n| scope.spawn(move || run(n)));
        let threads: Vec<_> = threads.collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().unwrap());
        outcomes.collect()
    })
}

/// Lets others run for a while.
fn linger() {
    for _ in 0..2000 {
        thread::yield_now();
    }
}

#[test]
fn sixteen_threads_compute_once() {
    for store in Rig::new().both() {
        let cache = profiles(&store);
        for round in 0..20_u32 {
            let computed = AtomicU32::new(0);
            let values = at_once(|_| {
                cache.get_or_insert_with(format!("{round}"), || {
                    computed.fetch_add(1, Ordering::SeqCst);
                    linger();
                    round
                })
            });
            assert!(values.into_iter().all(|value| value.unwrap() == round));
            assert_eq!(computed.load(Ordering::SeqCst), 1);
        }
        let stats = cache.stats().unwrap();
        assert_eq!(
            (stats.misses, stats.insertions, stats.entries),
            (20, 20, 20)
        );
        assert_eq!(stats.hits, 20 * (THREADS as u64 - 1));
    }
}

#[test]
fn who_waits_gets_the_value_even_if_it_was_evicted() {
    // One entry fits, and each thread that has its value inserts another key.
    let cache = profiles(&Store::in_memory()).capacity(1);
    for round in 0..50_u32 {
        let computed = AtomicU32::new(0);
        let entered = AtomicU32::new(0);
        let values = at_once(|n| {
            entered.fetch_add(1, Ordering::SeqCst);
            let value = cache.get_or_insert_with(format!("{round}"), || {
                computed.fetch_add(1, Ordering::SeqCst);
                while entered.load(Ordering::SeqCst) < THREADS as u32 {
                    thread::yield_now();
                }
                linger();
                round
            });
            cache.insert(format!("other {n}"), n).unwrap();
            value
        });
        assert!(values.into_iter().all(|value| value.unwrap() == round));
        // One that came too late even for the wait computes anew.
        assert!(computed.load(Ordering::SeqCst) < THREADS as u32);
        assert_eq!(cache.len().unwrap(), 1);
    }
}

#[test]
fn keys_and_caches_do_not_wait_for_each_other() {
    let store = Store::in_memory();
    let inside = Barrier::new(THREADS);
    let values = at_once(|n| {
        let cache = store.global().cache(format!("{}", n / 4));
        cache.get_or_insert_with(format!("{}", n % 4), || {
            // All of them are here at the same time.
            inside.wait();
            n
        })
    });
    let values: Vec<_> = values.into_iter().map(Result::unwrap).collect();
    assert_eq!(values, (0..THREADS).collect::<Vec<_>>());
}

#[test]
fn where_it_panics_the_next_one_computes() {
    let cache = profiles(&Store::in_memory());
    let tried = AtomicU32::new(0);
    let outcomes = at_once(|_| {
        cache.get_or_insert_with("k", || {
            linger();
            match tried.fetch_add(1, Ordering::SeqCst) {
                0..3 => panic!("no luck"),
                _ => 7,
            }
        })
    });
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((good.len(), bad.len()), (THREADS - 3, 3));
    assert!(good.into_iter().all(|value| value.unwrap() == 7));
    for outcome in bad {
        let text = outcome.unwrap_err().to_string();
        let wanted = r#"in the computation of key "k" in cache "profiles" of worker "w": no luck"#;
        assert!(text.ends_with(wanted), "{text}");
    }
    let stats = cache.stats().unwrap();
    assert_eq!((stats.misses, stats.insertions), (4, 1));
}

#[test]
fn an_error_comes_back_as_it_is_and_nothing_is_inserted() {
    let cache = profiles(&Store::in_memory());
    let text = cache.try_get_or_insert_with("k", || Err::<u32, _>("no route"));
    let e = text.unwrap_err();
    assert_eq!(
        e.to_string(),
        r#"computing the value of key "k" in cache "profiles" of worker "w" failed: no route"#
    );
    assert!(matches!(e, Error::ComputeFailed { key, .. } if key == "k"));
    let io = || Err::<u32, _>(std::io::Error::from(std::io::ErrorKind::NotFound));
    let Err(Error::ComputeFailed { source, .. }) = cache.try_get_or_insert_with("k", io) else {
        panic!("not that");
    };
    assert!(source.downcast_ref::<std::io::Error>().is_some());
    let own = || Err::<u32, _>(Error::Closed);
    let own = cache.try_get_or_insert_with("k", own);
    assert!(matches!(own, Err(Error::Closed)));
    assert!(keys(&cache).is_empty());
    let good = || "12".parse::<u32>();
    assert_eq!(cache.try_get_or_insert_with("k", good).unwrap(), 12);
    assert_eq!(keys(&cache), ["k"]);
}

#[test]
fn what_cannot_be_stored_leaves_nobody_waiting() {
    let cache = profiles(&Store::in_memory());
    let outcomes = at_once(|_| {
        // Deeper than a value may be.
        let deep = (0..200).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        cache.get_or_insert_with("k", || deep)
    });
    assert!(
        outcomes
            .into_iter()
            .all(|outcome| matches!(outcome, Err(Error::LimitExceeded { .. })))
    );
    assert_eq!(cache.get_or_insert_with("k", || 1).unwrap(), 1);
}

#[test]
fn a_computation_that_needs_itself_is_refused() {
    let store = Store::in_memory();
    let cache = profiles(&store);
    let outcome = cache.try_get_or_insert_with("k", || {
        // Other keys, and the same one of another cache, are no matter.
        let other = store
            .global()
            .cache("profiles")
            .get_or_insert_with("k", || 1)?;
        let more = cache.get_or_insert_with("l", || other + 1)?;
        assert_eq!(more, 2);
        profiles(&store).get_or_insert_with("k", || 3)
    });
    assert!(
        matches!(
            outcome,
            Err(Error::Invalid {
                what: "computation",
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(keys(&cache), ["l"]);
    assert_eq!(cache.get_or_insert_with("k", || 4).unwrap(), 4);
}

#[test]
fn two_that_need_each_other_do_not_wait_for_ever() {
    let cache = profiles(&Store::in_memory());
    let both = Barrier::new(2);
    let needs = |key: &'static str, other: &'static str| {
        cache.try_get_or_insert_with(key, || {
            both.wait();
            cache.get_or_insert_with(other, || 1)
        })
    };
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| needs("a", "b"));
        let two = scope.spawn(|| needs("b", "a"));
        (one.join().unwrap(), two.join().unwrap())
    });
    // The one that would have closed the circle is refused; the other one computes what
    // that one did not.
    let refused = |outcome: &Result<i32>| matches!(outcome, Err(Error::Invalid { .. }));
    assert_eq!(
        [&one, &two]
            .map(refused)
            .into_iter()
            .filter(|&yes| yes)
            .count(),
        1
    );
    assert!(one.is_ok() || two.is_ok());
}

#[test]
fn a_resource_and_a_computation_that_need_each_other_do_not_wait_for_ever() {
    struct Client;
    let both = std::sync::Arc::new(Barrier::new(2));
    let inside = std::sync::Arc::clone(&both);
    let made = AtomicU32::new(0);
    let store = Store::builder()
        .resource(move |store| {
            // The second time the other one was refused already.
            if made.fetch_add(1, Ordering::SeqCst) == 0 {
                inside.wait();
            }
            let _: i32 = profiles(store).get_or_insert_with("k", || 1)?;
            Ok::<_, Error>(Client)
        })
        .in_memory()
        .unwrap();
    let (resource, computed) = thread::scope(|scope| {
        let resource = scope.spawn(|| store.resource::<Client>());
        let computed = scope.spawn(|| {
            profiles(&store).try_get_or_insert_with("k", || {
                both.wait();
                store.resource::<Client>().map(|_: Resource<Client>| 2)
            })
        });
        (resource.join().unwrap(), computed.join().unwrap())
    });
    // Whoever of the two was refused: the computation needs what needs it.
    assert!(computed.is_err());
    drop(resource);
    let _: Resource<Client> = store.resource().unwrap();
    assert_eq!(profiles(&store).get::<i32>("k").unwrap(), Some(1));
}

#[test]
fn what_was_inserted_meanwhile_stays() {
    let cache = profiles(&Store::in_memory());
    let value = cache.try_get_or_insert_with("k", || {
        cache.insert("k", 1)?;
        Ok::<_, Error>(2)
    });
    assert_eq!(value.unwrap(), 1);
    assert_eq!(cache.get::<i32>("k").unwrap(), Some(1));
}

#[test]
fn who_waits_when_the_store_is_closed_waits_no_longer() {
    let store = Store::in_memory();
    let cache = profiles(&store);
    let begun = Barrier::new(2);
    let closed = Barrier::new(2);
    thread::scope(|scope| {
        let computes = scope.spawn(|| {
            cache.get_or_insert_with("k", || {
                begun.wait();
                closed.wait();
                1
            })
        });
        begun.wait();
        let waits = scope.spawn(|| cache.get_or_insert_with("k", || 2));
        linger();
        store.close().unwrap();
        assert!(matches!(waits.join().unwrap(), Err(Error::Closed)));
        closed.wait();
        assert!(matches!(computes.join().unwrap(), Err(Error::Closed)));
    });
}
