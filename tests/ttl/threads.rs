//! Threads that write keys with deadlines and read them in every way, while another
//! one moves the clock, removes what has expired and writes checkpoints: nothing
//! expired is returned, and nothing that lives is missing.
//!
//! What a reader may see is exact by construction. Store time is the clock's here, and
//! the clock only goes ahead, so the moment at which a call looks at it lies between
//! what the clock shows before the call and after it. A key whose deadline lies in
//! between may be there or not; each other one has to be, or must not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use evenkeel::testing::Random;
use evenkeel::{Clock, Durability, Error, ManualClock, Scope, ScopeHandle, SetOptions, Store};

use crate::parts::{Rig, SECOND, START};

const WORKERS: u64 = 16;
const STEPS: u64 = 600;
const KEYS: u64 = 24;

/// By how much the clock goes ahead, or a few of it: so that there are things which
/// expired more than a second ago.
const TICK: u64 = SECOND / 10;

/// No deadline lies more ticks ahead.
const LASTS_MAX: u64 = 60;

/// What the workers and whoever moves the clock tell each other.
#[derive(Default)]
struct Course {
    working: AtomicU64,
    failed: AtomicBool,
}

/// Held by a thread while it works. However it ends, the others hear of it, so that
/// none waits for one that is gone.
struct Works<'a>(&'a Course);

impl Drop for Works<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::SeqCst);
        }
        self.0.working.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A worker: it alone writes the keys of its scope, so it knows what is there.
struct Worker<'a> {
    store: &'a Store,
    clock: &'a ManualClock,
    number: u64,
    random: Random,
    /// The keys that it wrote: value and deadline.
    wrote: BTreeMap<String, (u64, u64)>,
}

impl Worker<'_> {
    fn own(&self) -> ScopeHandle {
        self.store.scope(Scope::job(self.number.to_string()))
    }

    fn shared(&self) -> ScopeHandle {
        self.store.scope(Scope::custom("shared"))
    }

    /// What the clock showed before a call, what the call gave, and what the clock
    /// showed behind it.
    fn during<T>(&self, call: impl FnOnce() -> T) -> (u64, T, u64) {
        let before = self.clock.now_micros();
        let outcome = call();
        (before, outcome, self.clock.now_micros())
    }

    fn any_key(&mut self) -> String {
        format!("{:02}", self.random.below(KEYS))
    }

    /// What is read from one view, which says so where the memory that it holds is needed
    /// for what is written; then it is read from a later one.
    fn retried<T>(mut call: impl FnMut() -> evenkeel::Result<T>) -> T {
        loop {
            match call() {
                Err(Error::ViewExpired) => {}
                outcome => return outcome.unwrap(),
            }
        }
    }

    fn write(&mut self, n: u64) {
        let key = self.any_key();
        let until = self.clock.now_micros() + TICK * (1 + self.random.below(LASTS_MAX));
        let value = "x".repeat(self.random.below(600) as usize);
        self.own()
            .set_with(&key, (n, value), SetOptions::new().expires_at(until))
            .unwrap();
        self.wrote.insert(key, (n, until));
    }

    fn write_in_a_transaction(&mut self, n: u64) {
        let keys = [self.any_key(), self.any_key()];
        let until = self.clock.now_micros() + TICK * (1 + self.random.below(LASTS_MAX));
        let options = SetOptions::new().expires_at(until);
        let scope = Scope::job(self.number.to_string());
        let written = self.store.transact(|tx| {
            for key in &keys {
                tx.scope(scope.clone()).set_with(key, (n, ""), options)?;
            }
            // Whoever reads what others change may lose, and runs again.
            let shared = tx.scope(Scope::custom("shared"));
            shared.update("commits", |n: Option<u64>| n.unwrap_or(0) + 1)?;
            shared.set_with(format!("of {}", self.number), until, options)
        });
        written.unwrap();
        self.wrote.extend(keys.map(|key| (key, (n, until))));
    }

    fn check(&self, key: &str, (before, found, after): (u64, Option<u64>, u64), what: &str) {
        let (n, until) = self.wrote.get(key).copied().unzip();
        let until = until.unwrap_or(0);
        let told = || {
            format!(
                "{what} of {}/{key}: found {found:?}, wrote {n:?} until {until}, \
                 asked from {before} to {after}",
                self.number
            )
        };
        assert!(found.is_none() || found == n, "{}", told());
        assert!(before < until || found.is_none(), "expired: {}", told());
        assert!(until <= after || found.is_some(), "missing: {}", told());
    }

    fn read(&mut self) {
        let key = self.any_key();
        let own = self.own();
        let (before, found, after) = self.during(|| own.get::<(u64, String)>(&key).unwrap());
        self.check(&key, (before, found.map(|(n, _)| n), after), "get");
        let (before, there, after) = self.during(|| own.contains(&key).unwrap());
        let wrote = self.wrote.get(&key).map(|(n, _)| *n);
        let found = wrote.filter(|_| there);
        assert!(
            !there || wrote.is_some(),
            "{key} is there and nobody wrote it"
        );
        self.check(&key, (before, found, after), "contains");
        let (before, found, after) = self.during(|| {
            let own = Scope::job(self.number.to_string());
            let read = |tx: &evenkeel::Transaction| tx.scope(own.clone()).get(&key);
            self.store.transact(read).unwrap()
        });
        let found = found.map(|(n, _): (u64, String)| n);
        self.check(&key, (before, found, after), "transaction");
    }

    fn scan(&mut self) {
        let (begun, found, ended) = self.during(|| {
            Self::retried(|| {
                let mut found = BTreeMap::new();
                let mut scan = self.own().scan("")?;
                loop {
                    let (before, entry, _) = self.during(|| scan.next());
                    let Some(entry) = entry.transpose()? else {
                        return Ok(found);
                    };
                    let until = entry.expires_at().unwrap();
                    assert!(before < until, "{} had expired", entry.key());
                    let (n, _): (u64, String) = entry.value()?;
                    found.insert(entry.key().to_owned(), n);
                }
            })
        });
        for key in self.wrote.keys() {
            let found = found.get(key).copied();
            self.check(key, (begun, found, ended), "scan");
        }
        assert!(found.keys().all(|key| self.wrote.contains_key(key)));
        let (before, keys, after) = self.during(|| {
            let keys = Self::retried(|| self.own().keys());
            keys.collect::<Vec<_>>()
        });
        for (key, (n, _)) in &self.wrote {
            let found = keys.contains(key).then_some(*n);
            self.check(key, (before, found, after), "keys");
        }
    }

    fn count(&mut self) {
        let (before, count, after) = self.during(|| self.own().len().unwrap());
        let live = |at: u64| self.wrote.values().filter(|(_, until)| *until > at).count() as u64;
        assert!(
            (live(after)..=live(before)).contains(&count),
            "{count} of {} to {} keys, from {before} to {after}",
            live(after),
            live(before)
        );
    }

    fn read_what_others_wrote(&mut self) {
        let of = format!("of {}", self.random.below(WORKERS));
        let shared = self.shared();
        let (before, found, _) = self.during(|| shared.get::<u64>(&of).unwrap());
        assert!(found.is_none_or(|until| before < until), "{of}: {found:?}");
        Self::retried(|| {
            let mut scan = shared.scan("of ")?;
            loop {
                let (before, entry, _) = self.during(|| scan.next());
                let Some(entry) = entry.transpose()? else {
                    return Ok(());
                };
                let until = entry.value::<u64>()?;
                assert_eq!(entry.expires_at(), Some(until));
                assert!(before < until, "{} had expired", entry.key());
            }
        });
    }

    /// Returns how many transactions it committed.
    fn work(&mut self, course: &Course) -> u64 {
        let mut commits = 0;
        for n in 0..STEPS {
            if course.failed.load(Ordering::SeqCst) {
                break;
            }
            match self.random.below(10) {
                0..4 => self.write(n),
                4 => {
                    self.write_in_a_transaction(n);
                    commits += 1;
                }
                5 | 6 => self.read(),
                7 => self.scan(),
                8 => self.count(),
                _ => self.read_what_others_wrote(),
            }
        }
        commits
    }
}

/// Moves the clock, removes and writes checkpoints until nobody works any more.
fn disturb(store: &Store, clock: &ManualClock, course: &Course) {
    let mut random = Random::new(WORKERS);
    let _works = Works(course);
    while course.working.load(Ordering::SeqCst) > 1 && !course.failed.load(Ordering::SeqCst) {
        clock.advance(Duration::from_micros(TICK * random.below(4)));
        match random.below(8) {
            0 => drop(store.checkpoint().unwrap()),
            1 | 2 => drop(store.expire().unwrap()),
            _ => thread::yield_now(),
        }
    }
}

fn run(store: &Store, clock: &ManualClock) {
    let course = Course::default();
    course.working.store(WORKERS + 1, Ordering::SeqCst);
    let commits = thread::scope(|threads| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let mut worker = Worker {
                    store,
                    clock,
                    number,
                    random: Random::new(number),
                    wrote: BTreeMap::new(),
                };
                let course = &course;
                threads.spawn(move || {
                    let _works = Works(course);
                    worker.work(course)
                })
            })
            .collect();
        disturb(store, clock, &course);
        let commits = workers.into_iter().map(|worker| worker.join().unwrap());
        commits.sum::<u64>()
    });
    let shared = store.scope(Scope::custom("shared"));
    assert_eq!(shared.get::<u64>("commits").unwrap(), Some(commits));
    clock.set_micros(u64::MAX);
    store.expire().unwrap();
    assert_eq!(store.scopes().unwrap(), [Scope::custom("shared")]);
    assert_eq!(store.expire().unwrap(), 0);
}

#[test]
fn nothing_expired_is_seen_and_nothing_that_lives_is_missed() {
    let rig = Rig::new();
    let builder = rig.builder().background(true);
    let builder = builder.durability(Durability::Memory);
    let store = builder.memtable_bytes(128 * 1024).open("/store").unwrap();
    run(&store, &rig.clock);
    store.close().unwrap();
}

#[test]
fn and_so_it_is_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let builder = Store::builder().clock(clock.clone());
    let builder = builder.durability(Durability::Memory);
    let store = builder.memtable_bytes(128 * 1024).open(folder.path());
    let store = store.unwrap();
    run(&store, &clock);
    store.close().unwrap();
}

#[test]
fn and_in_memory() {
    let rig = Rig::new();
    let store = rig.builder().in_memory().unwrap();
    run(&store, &rig.clock);
    // One key is left.
    let held = store.stats().unwrap().memtable_bytes;
    assert!(held < 1000, "{held} bytes");
}
