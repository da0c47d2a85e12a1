//! How a watch waits, is woken, and ends. Nothing here looks at a clock: a wait that is
//! never woken is a test that hangs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use evenkeel::testing::{Failure, Fault, SimDisk};
use evenkeel::{Error, Store, Watch, WatchFilter, WatchStream};
use futures_core::Stream;

use crate::{drain, on, stores};

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_time_may_run_out_and_may_be_as_long_as_it_likes() {
    for store in stores() {
        let mut watch = store.watch(WatchFilter::all()).unwrap();
        for short in [Duration::ZERO, Duration::from_millis(1)] {
            assert!(watch.next_timeout(short).unwrap().is_none());
        }
        store.global().set("a", 1).unwrap();
        assert!(watch.next_timeout(Duration::ZERO).unwrap().is_some());
        store.global().set("a", 2).unwrap();
        assert!(watch.next_timeout(Duration::MAX).unwrap().is_some());
        assert!(watch.try_next().unwrap().is_none());
    }
}

#[test]
fn one_that_waits_is_woken_by_a_commit_and_by_the_end() {
    for store in stores() {
        let mut watch = store.watch(WatchFilter::all()).unwrap();
        let mut timed = store.watch(WatchFilter::all()).unwrap();
        let (seen, saw) = mpsc::channel();
        let also_seen = seen.clone();
        thread::scope(|threads| {
            let waiting = threads.spawn(move || {
                seen.send(watch.next().unwrap().unwrap()).unwrap();
                let end = watch.next().unwrap().unwrap_err();
                let again = watch.try_next().unwrap_err();
                assert!(matches!((end, again), (Error::Closed, Error::Closed)));
                assert!(watch.next().is_none());
            });
            let timing = threads.spawn(move || {
                let first = timed.next_timeout(LONG).unwrap().unwrap();
                also_seen.send(first).unwrap();
                let end = timed.next_timeout(LONG).unwrap_err();
                assert!(matches!(end, Error::Closed));
            });
            store.global().set("a", 1).unwrap();
            for _ in 0..2 {
                assert_eq!(saw.recv().unwrap().changes()[0].key(), "a");
            }
            store.close().unwrap();
            waiting.join().unwrap();
            timing.join().unwrap();
        });
        let refused = store.watch(WatchFilter::all());
        assert!(matches!(refused, Err(Error::Closed)));
    }
}

#[test]
fn a_watch_does_not_keep_the_store_open() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(WatchFilter::all()).unwrap();
    let waiting = thread::spawn(move || (watch.next().unwrap().unwrap_err(), watch));
    drop(store);
    let (end, watch) = waiting.join().unwrap();
    assert!(matches!(end, Error::Closed));
    // The watch is still there; the folder is free, and what is in it is not its.
    let again = on(&disk).open("s").unwrap();
    again.global().set("a", 1).unwrap();
    let mut watch = watch;
    assert!(matches!(watch.try_next(), Err(Error::Closed)));
}

#[test]
fn a_poisoned_store_ends_it_behind_what_was_durable() {
    let disk = SimDisk::new(1);
    let store = on(&disk).open("s").unwrap();
    let mut watch = store.watch(WatchFilter::all()).unwrap();
    let mut waiting = store.watch(WatchFilter::all()).unwrap();
    store.global().set("a", 1).unwrap();
    assert_eq!(drain(&mut waiting).len(), 1);
    let waiting = thread::spawn(move || waiting.next().unwrap().unwrap_err());
    disk.fail(Fault::Operation {
        at: disk.operations() + 1,
        failure: Failure::Io,
        lasting: true,
    });
    assert!(store.global().set("b", 1).is_err());
    assert!(matches!(waiting.join().unwrap(), Error::Poisoned { .. }));
    let first = watch.next().unwrap().unwrap();
    assert_eq!(first.changes()[0].key(), "a");
    assert!(matches!(watch.next(), Some(Err(Error::Poisoned { .. }))));
    assert!(watch.next().is_none());
    let refused = store.watch(WatchFilter::all());
    assert!(matches!(refused, Err(Error::Poisoned { .. })));
}

/// Counts how often its task is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(
    stream: &mut WatchStream,
    woken: &Arc<Woken>,
) -> Poll<Option<evenkeel::Result<Vec<String>>>> {
    let waker = Waker::from(Arc::clone(woken));
    let polled = Pin::new(stream).poll_next(&mut Context::from_waker(&waker));
    polled.map_ok(|set| set.changes().iter().map(|c| c.key().to_owned()).collect())
}

#[test]
fn a_stream_is_woken_once_for_each_time_that_it_waits() {
    for store in stores() {
        let woken = Arc::new(Woken::default());
        let times = || woken.0.load(Ordering::SeqCst);
        let filter = WatchFilter::keys(evenkeel::Scope::Global, "a");
        let mut stream = store.watch(filter).unwrap().into_stream();
        for _ in 0..10 {
            assert!(poll(&mut stream, &woken).is_pending());
        }
        store.global().set("a", 1).unwrap();
        assert_eq!(times(), 1);
        store.global().set("a2", 1).unwrap();
        assert_eq!(times(), 1);
        for key in ["a", "a2"] {
            assert!(
                matches!(poll(&mut stream, &woken), Poll::Ready(Some(Ok(keys))) if keys == [key])
            );
        }
        assert!(poll(&mut stream, &woken).is_pending());
        store.global().set("other", 1).unwrap();
        assert_eq!(times(), 2);
        assert!(poll(&mut stream, &woken).is_pending());
        assert_eq!(stream.reached(), store.stats().unwrap().visible_lsn);
        store.close().unwrap();
        assert_eq!(times(), 3);
        assert!(matches!(
            poll(&mut stream, &woken),
            Poll::Ready(Some(Err(Error::Closed)))
        ));
        assert!(matches!(poll(&mut stream, &woken), Poll::Ready(None)));
    }
}

#[test]
fn a_stream_with_much_to_pass_over_lets_others_have_their_turn() {
    let store = Store::in_memory();
    let woken = Arc::new(Woken::default());
    let mut stream = store
        .watch(WatchFilter::keys(evenkeel::Scope::Global, "a"))
        .unwrap()
        .into_stream();
    for _ in 0..1000 {
        store.global().set("other", 1).unwrap();
    }
    store.global().set("a", 1).unwrap();
    let mut turns = 0;
    while poll(&mut stream, &woken).is_pending() {
        turns += 1;
        assert_eq!(woken.0.load(Ordering::SeqCst), turns);
    }
    assert_eq!(turns, 3);
}

#[test]
fn a_store_with_threads_of_its_own_wakes_for_commits_that_nobody_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("s")).unwrap();
    let mut watch: Watch = store.watch(WatchFilter::all()).unwrap();
    let (_, commit) = store.submit(|tx| tx.global().set("a", 1)).unwrap();
    let set = watch.next().unwrap().unwrap();
    assert_eq!(set.lsn(), commit.lsn());
    assert!(commit.is_durable());
}
