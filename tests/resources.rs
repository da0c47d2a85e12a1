//! Resources: made by type on first use, once, again after a restart, never stored, and
//! dropped with the store.

#![expect(clippy::panic, reason = "a factory that breaks")]
#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use evenkeel::{Builder, Error, Result, Scope, ScopeHandle, Store};

/// Counts what is made and what is dropped.
#[derive(Clone, Debug, Default)]
struct Counts(Arc<(AtomicU32, AtomicU32)>);

impl Counts {
    fn make(&self) -> Pool {
        let number = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        Pool {
            number,
            counts: self.clone(),
        }
    }

    fn made(&self) -> u32 {
        self.0.0.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> u32 {
        self.0.1.load(Ordering::SeqCst)
    }
}

struct Pool {
    number: u32,
    counts: Counts,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.counts.0.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn with_pool(counts: &Counts) -> Builder {
    let counts = counts.clone();
    Store::builder().resource(move |_| -> Result<Pool> { Ok(counts.make()) })
}

#[test]
fn it_is_made_on_first_use_and_shared_by_all_handles() {
    let counts = Counts::default();
    let store = with_pool(&counts).in_memory().unwrap();
    assert_eq!(counts.made(), 0);
    let first = store.resource::<Pool>().unwrap();
    let scope = store.scope(Scope::workflow("w"));
    assert_eq!(scope.resource::<Pool>().unwrap().number, first.number);
    assert_eq!(scope.step("s").resource::<Pool>().unwrap().number, 1);
    assert_eq!(store.clone().resource::<Pool>().unwrap().number, 1);
    assert_eq!(counts.made(), 1);
}

#[test]
fn sixteen_threads_make_it_once() {
    let counts = Counts::default();
    let make = counts.clone();
    let store = Store::builder()
        .resource(move |_| -> Result<Pool> {
            let pool = make.make();
            // Time for another one to come in here, if it could.
            let alone = (0..20_000).all(|_| {
                thread::yield_now();
                make.made() == 1
            });
            assert!(alone, "two are making it");
            Ok(pool)
        })
        .in_memory()
        .unwrap();
    let start = Barrier::new(16);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                assert_eq!(store.resource::<Pool>().unwrap().number, 1);
            });
        }
    });
    assert_eq!(counts.made(), 1);
}

#[test]
fn each_scope_has_its_own() {
    let counts = Counts::default();
    let make = counts.clone();
    let store = Store::builder()
        .scope_resource(move |_: &ScopeHandle| -> Result<Pool> { Ok(make.make()) })
        .in_memory()
        .unwrap();
    let of = |id: &str| store.scope(Scope::worker(id)).resource::<Pool>();
    assert_eq!(of("a").unwrap().number, 1);
    assert_eq!(of("b").unwrap().number, 2);
    assert_eq!(of("a").unwrap().number, 1);
    assert!(matches!(
        store.resource::<Pool>(),
        Err(Error::Invalid { .. })
    ));
    let a = store.scope(Scope::worker("a"));
    assert!(a.release_resource::<Pool>().unwrap());
    assert!(!a.release_resource::<Pool>().unwrap());
    assert_eq!(counts.dropped(), 1);
    assert_eq!(of("a").unwrap().number, 3);
    let long = of(&"x".repeat(2000));
    assert!(matches!(long, Err(Error::LimitExceeded { .. })), "{long:?}");
}

#[test]
fn it_is_never_stored_and_is_made_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    for round in 1..=3 {
        let store = with_pool(&counts).open(folder.path()).unwrap();
        assert_eq!(store.resource::<Pool>().unwrap().number, round);
        assert_eq!(store.stats().unwrap().commits, 0);
        assert_eq!(store.scopes().unwrap(), []);
        store.close().unwrap();
        assert_eq!(counts.dropped(), round);
    }
}

#[test]
fn a_durable_copy_makes_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Counts::default();
    let store = with_pool(&counts).in_memory().unwrap();
    assert_eq!(store.resource::<Pool>().unwrap().number, 1);
    let copy = store.persist(folder.path().join("copy")).unwrap();
    assert_eq!(copy.resource::<Pool>().unwrap().number, 2);
}

#[test]
fn it_is_dropped_with_the_store_and_with_whoever_still_has_it() {
    let counts = Counts::default();
    let store = with_pool(&counts).in_memory().unwrap();
    drop(store.resource::<Pool>().unwrap());
    assert_eq!(counts.dropped(), 0);
    drop(store);
    assert_eq!(counts.dropped(), 1);

    let store = with_pool(&counts).in_memory().unwrap();
    let kept = store.resource::<Pool>().unwrap();
    store.close().unwrap();
    assert!(matches!(store.resource::<Pool>(), Err(Error::Closed)));
    assert_eq!((kept.number, counts.dropped()), (2, 1));
    drop(kept);
    assert_eq!(counts.dropped(), 2);
}

/// Keeps its store open: only `close` ends that circle.
struct Keeper(Store);

impl Drop for Keeper {
    fn drop(&mut self) {
        // The store is still there for what is to be written last.
        self.0.global().set("last", true).unwrap();
    }
}

#[test]
fn closing_ends_what_holds_the_store_and_lets_it_write_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .resource(|store| -> Result<Keeper> { Ok(Keeper(store.clone())) })
        .open(folder.path())
        .unwrap();
    drop(store.resource::<Keeper>().unwrap());
    store.close().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.global().get("last").unwrap(), Some(true));
}

#[test]
fn without_a_factory_the_error_names_the_type() {
    let store = Store::in_memory();
    let error = store.resource::<Pool>().unwrap_err();
    assert!(matches!(error, Error::NoResource { .. }));
    assert!(error.to_string().contains("resources::Pool"), "{error}");
    let scope = store.global();
    assert!(matches!(
        scope.release_resource::<Pool>(),
        Err(Error::NoResource { .. })
    ));
}

#[test]
fn two_factories_of_one_type_are_refused() {
    let opened = with_pool(&Counts::default())
        .scope_resource(|_| -> Result<Pool> { Err(Error::Closed) })
        .in_memory();
    assert!(matches!(opened, Err(Error::Invalid { what, .. }) if what == "resource"));
}

#[test]
fn a_factory_that_fails_or_panics_may_be_tried_again() {
    let counts = Counts::default();
    let tries = AtomicU32::new(0);
    let make = counts.clone();
    let store = Store::builder()
        .resource(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Err(std::io::Error::other("no route")),
            1 => panic!("out of cheese"),
            _ => Ok(make.make()),
        })
        .in_memory()
        .unwrap();
    let error = store.resource::<Pool>().unwrap_err();
    assert!(matches!(error, Error::ResourceFailed { .. }));
    assert!(error.to_string().contains("resources::Pool"), "{error}");
    let source = std::error::Error::source(&error).expect("what the factory said");
    assert_eq!(source.to_string(), "no route");
    let error = store.resource::<Pool>().unwrap_err();
    assert!(matches!(&error, Error::Panicked { message } if message.contains("out of cheese")));
    store.global().set("it goes", "on").unwrap();
    assert_eq!(store.resource::<Pool>().unwrap().number, 1);
}

#[test]
fn whoever_waits_for_a_factory_that_fails_tries_in_turn() {
    let counts = Counts::default();
    let (make, failed) = (counts.clone(), AtomicBool::new(false));
    let store = Store::builder()
        .resource(move |_| match failed.swap(true, Ordering::SeqCst) {
            false => Err("not yet"),
            true => Ok(make.make()),
        })
        .in_memory()
        .unwrap();
    let start = Barrier::new(8);
    let outcomes: Vec<bool> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    store.resource::<Pool>().is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|ok| !**ok).count(), 1);
    assert_eq!(counts.made(), 1);
}

struct A;
struct B;
struct Itself;

#[test]
fn factories_that_need_each_other_are_refused_and_not_waited_for() {
    let meet = Arc::new(Barrier::new(2));
    let (of_a, of_b) = (Arc::clone(&meet), meet);
    let together = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let [a_waits, b_waits] = together.clone();
    let store = Store::builder()
        .resource(|store| store.resource::<Itself>().map(|_| Itself))
        .resource(move |store| {
            if a_waits.swap(false, Ordering::SeqCst) {
                of_a.wait();
            }
            store.resource::<B>().map(|_| A)
        })
        .resource(move |store| {
            if b_waits.swap(false, Ordering::SeqCst) {
                of_b.wait();
            }
            store.resource::<A>().map(|_| B)
        })
        .in_memory()
        .unwrap();
    let failed = |error: Error| matches!(error, Error::ResourceFailed { .. });
    assert!(failed(store.resource::<Itself>().unwrap_err()));
    assert!(failed(store.resource::<A>().unwrap_err()));
    // On two threads, each of which has begun one when it asks for the other's.
    for waits in &together {
        waits.store(true, Ordering::SeqCst);
    }
    thread::scope(|scope| {
        let a = scope.spawn(|| store.resource::<A>().map(drop));
        let b = scope.spawn(|| store.resource::<B>().map(drop));
        let outcomes = [a.join().unwrap(), b.join().unwrap()];
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    });
}

struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("it broke");
    }
}

#[test]
fn a_resource_that_panics_when_dropped_stops_no_close() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .resource(|_| -> Result<Fragile> { Ok(Fragile) })
        .open(folder.path())
        .unwrap();
    drop(store.resource::<Fragile>().unwrap());
    store.global().set("a", 1).unwrap();
    let closed = store.close();
    assert!(matches!(closed, Err(Error::Panicked { message }) if message.contains("it broke")));
    let store = Store::open(folder.path()).unwrap();
    assert!(store.recovery().closed_cleanly);
    assert_eq!(store.global().get("a").unwrap(), Some(1));
}

#[test]
fn it_is_there_inside_a_transaction() {
    let counts = Counts::default();
    let store = with_pool(&counts).in_memory().unwrap();
    let number = store.transact(|tx| {
        tx.global().set("a", 1)?;
        Ok(store.resource::<Pool>()?.number)
    });
    assert_eq!(number.unwrap(), 1);
}

#[test]
fn what_it_holds_is_not_printed() {
    let store = Store::builder()
        .resource(|_| -> Result<String> { Ok("password".into()) })
        .in_memory()
        .unwrap();
    let printed = format!("{:?} {store:?}", store.resource::<String>().unwrap());
    assert!(!printed.contains("password"), "{printed}");
    assert!(printed.contains("String"), "{printed}");
}
