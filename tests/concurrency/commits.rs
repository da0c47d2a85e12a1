//! Owns the tests of commits, their handles and the end of a store.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Commit, Durability, Error, Scope};

use crate::parts::{GatedDisk, block_on, watched};
use crate::{gated, on};

#[test]
fn the_last_handle_closes_in_whatever_thread_it_is_dropped() {
    watched(|| {
        let disk = SimDisk::new(1);
        for round in 0..20_u64 {
            let store = on(&disk).open("state").unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_eq!(store.global().len().unwrap(), round * 6);
            let threads: Vec<_> = (0..6)
                .map(|i| {
                    let handle = store.global();
                    thread::spawn(move || handle.set(format!("{round}-{i}"), i).unwrap())
                })
                .collect();
            drop(store);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn closing_while_eight_threads_write_loses_nothing_that_was_acknowledged() {
    watched(|| {
        for round in 0..40_u64 {
            let disk = SimDisk::new(round);
            let store = on(&disk).open("state").unwrap();
            let written = AtomicU64::new(0);
            let acknowledged: Vec<Vec<String>> = thread::scope(|threads| {
                let writers: Vec<_> = (0..8)
                    .map(|thread| {
                        let (store, written) = (&store, &written);
                        threads.spawn(move || {
                            let mut acknowledged = Vec::new();
                            for i in 0.. {
                                let key = format!("{thread}-{i}");
                                let result = match i % 3 {
                                    0 => store.global().set(&key, i),
                                    1 => store.transact(|tx| tx.global().set(&key, i)),
                                    _ => store
                                        .submit(|tx| tx.global().set(&key, i))
                                        .and_then(|(_, commit)| commit.wait()),
                                };
                                match result {
                                    Ok(()) => acknowledged.push(key),
                                    Err(Error::Closed) => return acknowledged,
                                    Err(e) => panic!("{e}"),
                                }
                                written.fetch_add(1, Ordering::SeqCst);
                            }
                            acknowledged
                        })
                    })
                    .collect();
                while written.load(Ordering::SeqCst) < 40 * (round + 1) {
                    thread::yield_now();
                }
                store.close().unwrap();
                writers
                    .into_iter()
                    .map(|writer| writer.join().unwrap())
                    .collect()
            });
            let after = on(&disk.crash(Loss::Everything)).open("state").unwrap();
            assert!(after.recovery().closed_cleanly && after.recovery().is_clean());
            for key in acknowledged.iter().flatten() {
                assert!(
                    after.global().contains(key).unwrap(),
                    "round {round}: {key} was acknowledged"
                );
            }
        }
    });
}

/// All of some futures, polled each time that any of them may have got on.
struct All(Vec<Option<Commit>>);

impl Future for All {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<usize> {
        for place in &mut self.0 {
            if let Some(commit) = place
                && let Poll::Ready(done) = Pin::new(commit).poll(context)
            {
                done.unwrap();
                *place = None;
            }
        }
        match self.0.iter().all(Option::is_none) {
            true => Poll::Ready(self.0.len()),
            false => Poll::Pending,
        }
    }
}

#[test]
fn commits_are_awaited_under_any_executor() {
    watched(|| {
        for background in [true, false] {
            let disk = SimDisk::new(1);
            let store = on(&disk).background(background).open("state").unwrap();
            for i in 0..50 {
                let (_, commit) = store.submit(|tx| tx.global().set("one", i)).unwrap();
                let lsn = commit.lsn();
                block_on(commit).unwrap();
                assert!(store.stats().unwrap().durable_lsn >= lsn);
            }
            let many: Vec<_> = (0..500)
                .map(|i| {
                    Some(
                        store
                            .submit(|tx| tx.global().set(format!("{i}"), i))
                            .unwrap()
                            .1,
                    )
                })
                .collect();
            assert_eq!(block_on(All(many)), 500);
            let after = disk.crash(Loss::Everything);
            assert_eq!(
                on(&after).open("state").unwrap().global().len().unwrap(),
                501
            );
            let (_, last) = store.submit(|tx| tx.global().set("last", 1)).unwrap();
            store.close().unwrap();
            block_on(last.clone()).unwrap();
            assert!(last.is_durable());
        }
    });
}

#[test]
fn an_awaited_commit_is_woken_when_its_sync_comes_or_the_store_is_closed() {
    watched(|| {
        let disk = GatedDisk::new();
        let store = gated(&disk).open("state").unwrap();
        let shut = disk.gate.shut();
        let (_, commit) = store.submit(|tx| tx.global().set("a", 1)).unwrap();
        let waiting = thread::spawn(move || block_on(commit));
        disk.gate.await_somebody();
        assert!(!waiting.is_finished());
        let closing = {
            let store = store.clone();
            thread::spawn(move || store.close())
        };
        drop(shut);
        waiting.join().unwrap().unwrap();
        closing.join().unwrap().unwrap();
        let after = disk.disk.crash(Loss::Everything);
        assert_eq!(
            on(&after)
                .open("state")
                .unwrap()
                .global()
                .get::<u32>("a")
                .unwrap(),
            Some(1)
        );
    });
}

#[test]
fn after_a_barrier_everything_is_durable_at_any_durability() {
    watched(|| {
        for durability in [
            Durability::Interval(Duration::from_secs(3600)),
            Durability::Memory,
        ] {
            let disk = SimDisk::new(1);
            let store = on(&disk).durability(durability).open("state").unwrap();
            thread::scope(|threads| {
                for thread in 0..4 {
                    let scope = store.scope(Scope::worker(format!("{thread}")));
                    threads.spawn(move || {
                        for i in 0..200 {
                            scope.set(format!("{i}"), i).unwrap();
                        }
                    });
                }
            });
            if durability != Durability::Memory {
                let killed = on(&disk.crash(Loss::Nothing)).open("state").unwrap();
                assert_eq!(
                    killed.scope(Scope::worker("3")).len().unwrap(),
                    200,
                    "handed to the kernel"
                );
            }
            store.barrier().unwrap();
            let after = on(&disk.crash(Loss::Everything)).open("state").unwrap();
            for thread in 0..4 {
                assert_eq!(
                    after
                        .scope(Scope::worker(format!("{thread}")))
                        .len()
                        .unwrap(),
                    200
                );
            }
        }
    });
}

/// A task that only counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_as<F: Future + Unpin>(future: &mut F, task: &Arc<Woken>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(task));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn a_commit_that_is_polled_again_and_again_keeps_the_last_waker_only() {
    watched(|| {
        let disk = GatedDisk::new();
        let store = gated(&disk).open("state").unwrap();
        let shut = disk.gate.shut();
        let (_, mut commit) = store.submit(|tx| tx.global().set("a", 1)).unwrap();
        let (first, last) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for _ in 0..1000 {
            assert!(poll_as(&mut commit, &first).is_pending());
            assert_eq!(Arc::strong_count(&first), 2);
        }
        // Another task goes on with it, and a third one waits for a clone.
        let (mut copy, third) = (commit.clone(), Arc::<Woken>::default());
        for _ in 0..10 {
            assert!(poll_as(&mut commit, &last).is_pending());
            assert!(poll_as(&mut copy, &third).is_pending());
        }
        let kept = [&first, &last, &third].map(Arc::strong_count);
        assert_eq!(kept, [1, 2, 2]);
        // Who gives up leaves nothing.
        let given_up = (0..100).map(|_| {
            let mut commit = commit.clone();
            assert!(poll_as(&mut commit, &first).is_pending());
        });
        assert_eq!((given_up.count(), Arc::strong_count(&first)), (100, 1));
        drop(shut);
        block_on(commit.clone()).unwrap();
        // Behind this the thread that wakes them is gone.
        store.close().unwrap();
        let woken = [&first, &last, &third].map(|task| task.0.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 1, 1]);
        assert!(poll_as(&mut commit, &last).is_ready() && poll_as(&mut copy, &third).is_ready());
        assert_eq!(Arc::strong_count(&last), 1);
    });
}
