//! Owns the handles: commits that are waited for, awaited, or dropped, and stores whose
//! last handle goes in some thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Commit, Durability, Store};
use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::driver::explore;
use crate::parts::{Acknowledged, chance, on};

fn submit(store: &Store, key: &str) -> Commit {
    store.submit(|tx| tx.global().set(key, 1)).unwrap().1
}

#[test]
fn commits_are_waited_for_and_awaited_elsewhere_or_dropped() {
    explore(|| {
        let disk = SimDisk::new(1);
        let background = chance(4) > 0;
        let store = on(&disk).background(background).open("s").unwrap();
        let acknowledged = Acknowledged::on(&disk);
        let (first, second) = (submit(&store, "a"), submit(&store, "b"));
        drop(submit(&store, "dropped"));
        let waiting = {
            let acknowledged = acknowledged.clone();
            thread::spawn(move || {
                first.wait().unwrap();
                acknowledged.note("a");
            })
        };
        let awaiting = {
            let (acknowledged, again) = (acknowledged.clone(), second.clone());
            thread::spawn(move || {
                block_on(again).unwrap();
                acknowledged.note("b");
            })
        };
        let both = {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            thread::spawn(move || {
                let third = submit(&store, "c");
                // Polled once and given up: whoever is woken for it is not there.
                let mut given_up = second;
                let mut context = Context::from_waker(Waker::noop());
                let _ = Pin::new(&mut given_up).poll(&mut context);
                drop(given_up);
                block_on(third).unwrap();
                acknowledged.note("c");
            })
        };
        for thread in [waiting, awaiting, both] {
            thread.join().unwrap();
        }
        store.barrier().unwrap();
        acknowledged.note("dropped");
        acknowledged.check();
        store.close().unwrap();
    });
}

#[test]
fn a_barrier_waits_for_all_that_is_visible() {
    explore(|| {
        let disk = SimDisk::new(1);
        let background = chance(2) > 0;
        let handed_over = chance(2) > 0;
        let durability = match handed_over {
            true => Durability::Interval(Duration::from_secs(1)),
            false => Durability::Memory,
        };
        let builder = on(&disk).durability(durability);
        let store = builder.background(background).open("s").unwrap();
        let acknowledged = Acknowledged::on(&disk);
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (store, acknowledged) = (store.clone(), acknowledged.clone());
                thread::spawn(move || {
                    let key = format!("{thread}");
                    store.global().set(&key, thread).unwrap();
                    if handed_over {
                        acknowledged.note_after(Loss::Nothing, &key);
                    }
                    let seen: Vec<_> = store.global().keys().unwrap().collect();
                    store.barrier().unwrap();
                    for key in seen {
                        acknowledged.note(&key);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        acknowledged.check();
        store.close().unwrap();
    });
}

#[test]
fn the_last_handle_closes_in_whatever_thread_it_goes() {
    explore(|| {
        let disk = SimDisk::new(1);
        let background = chance(2) > 0;
        let store = on(&disk).background(background).open("s").unwrap();
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let handle = store.global();
                thread::spawn(move || {
                    if thread == 0 {
                        // Its commit may be what is left when the store has gone.
                        return;
                    }
                    handle.set(format!("{thread}"), thread).unwrap();
                })
            })
            .collect();
        let unwaited = submit(&store, "unwaited");
        drop(store);
        for thread in threads {
            thread.join().unwrap();
        }
        // The store was closed, so it is durable.
        assert!(unwaited.is_durable());
        unwaited.wait().unwrap();
        let again = on(&disk.crash(Loss::Everything)).open("s").unwrap();
        assert!(again.recovery().closed_cleanly && again.recovery().is_clean());
        assert_eq!(again.global().len().unwrap(), 3);
    });
}

/// A task that holds the store, and is gone once it was woken.
struct Task(Mutex<Option<Store>>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let store = self.0.lock().unwrap().take();
        drop(store);
    }
}

#[test]
fn the_last_handle_may_go_where_tasks_are_woken() {
    explore(|| {
        let disk = SimDisk::new(1);
        let store = on(&disk).background(true).open("s").unwrap();
        let other = {
            let store = store.clone();
            thread::spawn(move || store.global().set("other", 1).unwrap())
        };
        let mut commit = submit(&store, "a");
        let task = Arc::new(Task(Mutex::new(Some(store))));
        let waker = Waker::from(Arc::clone(&task));
        let mut context = Context::from_waker(&waker);
        match Pin::new(&mut commit).poll(&mut context) {
            Poll::Ready(done) => {
                done.unwrap();
                waker.wake();
            }
            // Woken by the log's thread, or by whoever else has synced.
            Poll::Pending => drop(waker),
        }
        other.join().unwrap();
        // It is closed by now, or being closed: this is woken by that at the latest.
        commit.wait().unwrap();
        let after = on(&disk.crash(Loss::Everything)).open("s").unwrap();
        assert_eq!(after.global().len().unwrap(), 2);
        // The folder is free once the closing thread is done with it.
        let again = loop {
            match on(&disk).open("s") {
                Err(evenkeel::Error::Locked { .. }) => thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert!(again.recovery().closed_cleanly);
        assert_eq!(again.global().len().unwrap(), 2);
    });
}
