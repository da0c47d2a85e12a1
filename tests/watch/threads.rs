//! Writers and watches on threads: each watch sees exactly the commits that match, in
//! order, while checkpoints and snapshots trim what was delivered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use evenkeel::{Durability, Lsn, Scope, ScopeKind, Store, WatchFilter, WatchValues};

const WRITERS: u64 = 8;
const COMMITS: u64 = 150;

/// What a commit wrote: to this job, this number.
type Written = BTreeMap<Lsn, (u64, u64)>;

fn filter(number: usize) -> WatchFilter {
    match number {
        0 => WatchFilter::all(),
        1 => WatchFilter::kind(ScopeKind::Job),
        2 => WatchFilter::scope(Scope::job("3")),
        _ => WatchFilter::keys(Scope::job("3"), "even"),
    }
}

/// Which jobs and numbers the filter lets through.
fn lets_through(number: usize, (job, n): (u64, u64)) -> bool {
    match number {
        0 | 1 => true,
        2 => job == 3,
        _ => job == 3 && n.is_multiple_of(2),
    }
}

fn key(n: u64) -> String {
    let parity = ["even", "odd"][(n % 2) as usize];
    format!("{parity}{}", n % 5)
}

fn write(store: &Store, job: u64, written: &Mutex<Written>) {
    for n in 0..COMMITS {
        let durability = match n % 3 {
            0 => Durability::Sync,
            _ => Durability::Memory,
        };
        let submitted = store
            .with_durability(durability)
            .submit(|tx| tx.scope(Scope::job(job.to_string())).set(key(n), n));
        let (_, commit) = submitted.unwrap();
        written.lock().unwrap().insert(commit.lsn(), (job, n));
        if n % 3 == 0 {
            commit.wait().unwrap();
        }
    }
}

/// Reads until all that was written is read, and checks each item as it comes.
fn read(store: &Store, number: usize, begun: &Barrier) -> Vec<(Lsn, u64, u64)> {
    let filter = filter(number).with_values(WatchValues::OldAndNew);
    let watch = store.watch(filter).unwrap();
    begun.wait();
    let expected = (0..WRITERS).flat_map(|job| (0..COMMITS).map(move |n| (job, n)));
    let mut left = expected
        .filter(|&wrote| lets_through(number, wrote))
        .count();
    let mut seen = Vec::new();
    for set in watch {
        let set = set.unwrap();
        assert!(set.lsn() <= store.stats().unwrap().durable_lsn || store.path().is_none());
        let change = &set.changes()[0];
        assert_eq!(set.changes().len(), 1);
        let Scope::Job(job) = change.scope() else {
            panic!("{}", change.scope());
        };
        let n: u64 = change.value().unwrap().unwrap();
        assert_eq!(change.key(), key(n));
        if let evenkeel::Previous::Value(old) = change.previous::<u64>().unwrap() {
            assert_eq!(old + 10, n, "what was there before {}", change.key());
        }
        seen.push((set.lsn(), job.parse().unwrap(), n));
        left -= 1;
        if left == 0 {
            break;
        }
    }
    seen
}

fn writers_and_watches(store: &Store) {
    let written = Mutex::new(Written::new());
    let begun = Barrier::new(WRITERS as usize + 5);
    let writing = AtomicU64::new(WRITERS);
    let seen = thread::scope(|threads| {
        let watches: Vec<_> = (0..4)
            .map(|number| {
                let begun = &begun;
                threads.spawn(move || read(store, number, begun))
            })
            .collect();
        for job in 0..WRITERS {
            let (begun, written, writing) = (&begun, &written, &writing);
            threads.spawn(move || {
                begun.wait();
                write(store, job, written);
                writing.fetch_sub(1, Ordering::SeqCst);
            });
        }
        begun.wait();
        while store.path().is_some() && writing.load(Ordering::SeqCst) > 0 {
            store.checkpoint().unwrap();
        }
        let seen: Vec<_> = watches
            .into_iter()
            .map(|watch| watch.join().unwrap())
            .collect();
        seen
    });
    let written = written.into_inner().unwrap();
    assert_eq!(written.len() as u64, WRITERS * COMMITS);
    for (number, seen) in seen.iter().enumerate() {
        let expected: Vec<_> = written
            .iter()
            .filter(|&(_, &wrote)| lets_through(number, wrote))
            .map(|(&lsn, &(job, n))| (lsn, job, n))
            .collect();
        assert_eq!(*seen, expected, "watch {number}");
    }
}

#[test]
fn each_watch_sees_the_commits_that_match_in_order_once() {
    let folder = tempfile::tempdir().unwrap();
    let builder = Store::builder().segment_bytes(8 * 1024, 16 * 1024);
    let store = builder.open(folder.path().join("s")).unwrap();
    writers_and_watches(&store);
    store.close().unwrap();
}

#[test]
fn and_so_it_is_in_memory() {
    writers_and_watches(&Store::in_memory());
}

#[test]
fn watches_that_come_and_go_leave_nothing() {
    let store = Store::in_memory();
    thread::scope(|threads| {
        for number in 0..4 {
            let store = &store;
            threads.spawn(move || {
                for n in 0..200_u64 {
                    let values = [WatchValues::Keys, WatchValues::OldAndNew][(n % 2) as usize];
                    let filter = WatchFilter::scope(Scope::job(number.to_string()));
                    let mut watch = store.watch(filter.with_values(values)).unwrap();
                    store
                        .scope(Scope::job(number.to_string()))
                        .set("n", n)
                        .unwrap();
                    let set = watch.next().unwrap().unwrap();
                    assert_eq!(set.changes()[0].key(), "n");
                }
            });
        }
    });
    assert_eq!(store.stats().unwrap().watches, 0);
}

/// Reads from the beginning, over and over, until all is written. What it gets is one
/// number after the other, or that the log was trimmed.
fn read_beside_trimming(store: &Store, commits: u64, slow: bool) -> u64 {
    let filter = || WatchFilter::all().with_values(WatchValues::New);
    let (mut trimmed, mut last) = (0, None);
    let mut watch = store.watch(filter().from(Lsn::ZERO)).unwrap();
    while last != Some(commits - 1) {
        match watch.next() {
            Some(Ok(set)) => {
                let n = set.changes()[0].value::<u64>().unwrap().unwrap();
                assert!(last.is_none_or(|last| n == last + 1), "{n} after {last:?}");
                last = Some(n);
            }
            Some(Err(evenkeel::Error::Trimmed { scan_from, .. })) => {
                assert_eq!(watch.reached(), scan_from);
                (trimmed, last) = (trimmed + 1, None);
                if slow && trimmed % 2 == 1 {
                    watch = store.watch(filter().from(Lsn::ZERO)).unwrap();
                }
            }
            other => panic!("{other:?}"),
        }
        if slow {
            thread::yield_now();
        }
    }
    trimmed
}

#[test]
fn beside_trimming_nothing_is_taken_for_damage() {
    const COMMITS: u64 = 10_000;
    let store = crate::on(&evenkeel::testing::SimDisk::new(1))
        .open("s")
        .unwrap();
    let commit = |n: u64| {
        let scope = store.scope(Scope::job(format!("{:0>300}", n % 5)));
        scope.set("n", n).unwrap();
    };
    // The beginning is gone before anybody reads from it, however the threads run.
    const BEFORE: u64 = 1000;
    for n in 0..BEFORE {
        commit(n);
        if n % (BEFORE / 4) == 0 {
            store.snapshot().unwrap();
        }
    }
    store.snapshot().unwrap();
    let written = AtomicU64::new(BEFORE);
    let trimmed: u64 = thread::scope(|threads| {
        let store = &store;
        let watches = [true, false, true]
            .map(|slow| threads.spawn(move || read_beside_trimming(store, COMMITS, slow)));
        let written = &written;
        threads.spawn(move || {
            for n in BEFORE..COMMITS {
                commit(n);
                written.store(n + 1, Ordering::SeqCst);
            }
        });
        while written.load(Ordering::SeqCst) < COMMITS {
            store.snapshot().unwrap();
        }
        watches.map(|watch| watch.join().unwrap()).iter().sum()
    });
    println!("trimmed {trimmed} times");
    assert!(trimmed > 0);
}
