//! Owns recording what threads do to a real store, at random, and having the checker
//! decide whether it was in some order. `EVENKEEL_HISTORY_SEED` gives other operations,
//! `EVENKEEL_HISTORY_ROUNDS` more of them; the order in which the threads run is not in a
//! seed's hand.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use evenkeel::testing::{Random, SimDisk};
use evenkeel::{Durability, Error, Result, Scope, ScopeHandle, Store, Transaction, Version};

use crate::checker::{Read, Recorded, check};
use crate::on;
use crate::parts::watched;

/// Few, so that threads meet.
const KEYS: u64 = 5;
const SCOPES: u64 = 2;

fn scope(number: u64) -> Scope {
    Scope::worker(number.to_string())
}

/// A store, and what is recorded of it.
struct Recorder<'s> {
    store: &'s Store,
    /// Begins and ends, one after the other.
    moments: AtomicU64,
    values: AtomicU64,
    done: Mutex<Vec<Recorded>>,
}

/// A key of the store with the name that the checker knows it by.
fn name(scope: u64, key: &str) -> String {
    format!("{scope}/{key}")
}

impl Recorder<'_> {
    fn now(&self) -> u64 {
        self.moments.fetch_add(1, Ordering::SeqCst)
    }

    /// A value that nobody else writes.
    fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst) + 1_000_000
    }

    /// Records one call, unless it says that nothing came of it.
    fn record(&self, call: impl FnOnce(&mut Recorded) -> Result<()>) {
        let mut one = Recorded {
            begin: self.now(),
            ..Recorded::default()
        };
        let outcome = call(&mut one);
        one.end = self.now();
        match outcome {
            Ok(()) => {
                let mut done = self.done.lock().unwrap();
                one.name = format!("{} ({} to {})", one.name, one.begin, one.end);
                done.push(one);
            }
            // It had no effect, which the others would see if it had.
            Err(Error::Aborted(_) | Error::Conflict { .. } | Error::ViewExpired) => {}
            Err(e) => panic!("{e}"),
        }
    }

    fn step(&self, random: &mut Random) {
        let number = random.below(SCOPES);
        let handle = self.store.scope(scope(number));
        match random.below(16) {
            0..8 => self.transaction(random),
            8 => self.set(number, &handle, random),
            9 => self.increment(number, &handle),
            10 => self.update(number, &handle),
            11 => self.merge(number, &handle, random),
            12 => self.compare_and_set(number, &handle, random),
            13 => self.get(number, &handle, random),
            14 => self.merged(number, &handle),
            _ => self.scan(number, &handle),
        }
    }

    fn set(&self, number: u64, handle: &ScopeHandle, random: &mut Random) {
        self.record(|one| {
            let (key, value) = (format!("set{}", random.below(KEYS)), self.value());
            one.name = "set".into();
            one.writes.push((name(number, &key), Some(value)));
            handle.set(&key, value)
        });
    }

    /// What it gives is one more than what it read.
    fn increment(&self, number: u64, handle: &ScopeHandle) {
        self.record(|one| {
            one.name = "increment".into();
            let new = handle.increment("count", 1)?.unsigned_abs();
            one.reads.push(match new {
                1 => Read::Absent(name(number, "count")),
                _ => Read::Value(name(number, "count"), new - 1, None),
            });
            one.writes.push((name(number, "count"), Some(new)));
            Ok(())
        });
    }

    fn update(&self, number: u64, handle: &ScopeHandle) {
        self.record(|one| {
            one.name = "update".into();
            let (mut old, new) = (None, self.value());
            handle.update("update", |found: Option<u64>| {
                old = found;
                new
            })?;
            one.reads.push(match old {
                Some(old) => Read::Value(name(number, "update"), old, None),
                None => Read::Absent(name(number, "update")),
            });
            one.writes.push((name(number, "update"), Some(new)));
            Ok(())
        });
    }

    /// Each field of what is merged is a key to the checker.
    fn merge(&self, number: u64, handle: &ScopeHandle, random: &mut Random) {
        self.record(|one| {
            one.name = "merge".into();
            let patch: BTreeMap<String, u64> = (0..=random.below(2))
                .map(|_| self.value())
                .map(|value| (format!("field{value}"), value))
                .collect();
            for (field, value) in &patch {
                one.writes
                    .push((name(number, &format!("merge/{field}")), Some(*value)));
            }
            handle.merge("merge", patch)
        });
    }

    fn merged(&self, number: u64, handle: &ScopeHandle) {
        self.record(|one| {
            one.name = "get what is merged".into();
            let found: BTreeMap<String, u64> = handle.get("merge")?.unwrap_or_default();
            let prefix = name(number, "merge/");
            let mut but = BTreeSet::new();
            for (field, value) in found {
                let key = format!("{prefix}{field}");
                one.reads.push(Read::Value(key.clone(), value, None));
                but.insert(key);
            }
            one.reads.push(Read::Range { prefix, but });
            Ok(())
        });
    }

    fn compare_and_set(&self, number: u64, handle: &ScopeHandle, random: &mut Random) {
        let key = format!("swap{}", random.below(KEYS));
        let before = handle.get_versioned::<u64>(&key).unwrap();
        self.record(|one| {
            one.name = "compare and set".into();
            let expected = before
                .as_ref()
                .map_or(Version::ZERO, |before| before.version);
            let value = self.value();
            let version = handle.compare_and_set(&key, expected, value)?;
            one.lsn = Some(version.get());
            one.reads.push(match &before {
                Some(before) => {
                    let version = Some(before.version.get());
                    Read::Value(name(number, &key), before.value, version)
                }
                None => Read::Absent(name(number, &key)),
            });
            one.writes.push((name(number, &key), Some(value)));
            Ok(())
        });
    }

    fn get(&self, number: u64, handle: &ScopeHandle, random: &mut Random) {
        self.record(|one| {
            one.name = "get".into();
            let kind = ["set", "swap", "row"][random.below(3) as usize];
            let key = format!("{kind}{}", random.below(KEYS));
            one.reads.push(match handle.get_versioned::<u64>(&key)? {
                Some(found) => {
                    Read::Value(name(number, &key), found.value, Some(found.version.get()))
                }
                None => Read::Absent(name(number, &key)),
            });
            Ok(())
        });
    }

    fn scan(&self, number: u64, handle: &ScopeHandle) {
        self.record(|one| {
            one.name = "scan".into();
            let mut but = BTreeSet::new();
            for entry in handle.scan("row")? {
                let entry = entry?;
                let key = name(number, entry.key());
                let version = Some(entry.version().get());
                one.reads
                    .push(Read::Value(key.clone(), entry.value()?, version));
                but.insert(key);
            }
            let prefix = name(number, "row");
            one.reads.push(Read::Range { prefix, but });
            Ok(())
        });
    }

    /// Some steps over all scopes; now and then it gives up at the end. What was
    /// written by one that gave up is in no record, so whoever reads it is found.
    fn transaction(&self, random: &mut Random) {
        let steps = 1 + random.below(5);
        let gives_up = random.chance(1, 10);
        let waits = random.chance(1, 3);
        self.record(|one| {
            let mut attempts = 0;
            let closure = |tx: &Transaction| {
                attempts += 1;
                (one.reads, one.writes) = (Vec::new(), Vec::new());
                one.view = Some(tx.lsn().get());
                let mut written: BTreeMap<String, Option<u64>> = BTreeMap::new();
                for _ in 0..steps {
                    self.transaction_step(tx, random, one, &mut written)?;
                    // Another thread may go on between what is read and the commit.
                    thread::yield_now();
                }
                one.writes.extend(written);
                match gives_up {
                    true => Err(Error::abort("by chance")),
                    false => Ok(()),
                }
            };
            let ((), commit) = self.store.submit(closure)?;
            if waits {
                commit.wait()?;
            }
            one.lsn = (!one.writes.is_empty()).then(|| commit.lsn().get());
            one.name = format!("transaction, attempt {attempts}");
            Ok(())
        });
    }

    fn transaction_step(
        &self,
        tx: &Transaction,
        random: &mut Random,
        one: &mut Recorded,
        written: &mut BTreeMap<String, Option<u64>>,
    ) -> Result<()> {
        let number = random.below(SCOPES);
        let inside = tx.scope(scope(number));
        let kind = ["set", "row", "row", "swap"][random.below(4) as usize];
        let key = format!("{kind}{}", random.below(KEYS));
        let full = name(number, &key);
        match random.below(6) {
            0 | 1 => {
                let found = inside.get_versioned::<u64>(&key)?;
                match (written.get(&full), found) {
                    (Some(mine), found) => {
                        assert_eq!(*mine, found.map(|found| found.value), "its own {full}");
                    }
                    (None, Some(found)) => {
                        let version = Some(found.version.get());
                        one.reads.push(Read::Value(full, found.value, version));
                    }
                    (None, None) => one.reads.push(Read::Absent(full)),
                }
            }
            2 | 3 => {
                let value = self.value();
                inside.set(&key, value)?;
                written.insert(full, Some(value));
            }
            4 => {
                inside.delete(&key)?;
                written.insert(full, None);
            }
            _ => {
                let prefix = name(number, "row");
                // What it wrote itself it has not read, whatever it was before.
                let mine = written.keys().filter(|key| key.starts_with(&prefix));
                let mut but: BTreeSet<_> = mine.cloned().collect();
                for entry in inside.scan("row")? {
                    let entry = entry?;
                    let (key, value) = (name(number, entry.key()), entry.value::<u64>()?);
                    match written.get(&key) {
                        Some(mine) => assert_eq!(*mine, Some(value), "its own {key}"),
                        None => {
                            let version = Some(entry.version().get());
                            one.reads.push(Read::Value(key.clone(), value, version));
                            but.insert(key);
                        }
                    }
                }
                one.reads.push(Read::Range { prefix, but });
            }
        }
        Ok(())
    }
}

/// Runs so many threads with so many steps each, and checks what they have seen.
/// `beside` goes on as long as they do.
fn run(store: &Store, (threads, steps): (u64, u64), seed: u64, beside: &[fn(&Store)]) {
    let recorder = Recorder {
        store,
        moments: AtomicU64::new(0),
        values: AtomicU64::new(0),
        done: Mutex::default(),
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (recorder, over) = (&recorder, &over);
        for work in beside {
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    work(store);
                }
            });
        }
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut random = Random::new(seed.wrapping_mul(1000) + thread);
                    for _ in 0..steps {
                        recorder.step(&mut random);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        over.store(true, Ordering::SeqCst);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
    let history = recorder.done.into_inner().unwrap();
    assert!(
        history.len() as u64 > threads * steps / 2,
        "too much is missing"
    );
    if let Err(violation) = check(&history) {
        panic!("seed {seed}: {violation}");
    }
}

/// So many rounds, each with its seed and on its own.
fn rounds(count: u64, round: fn(u64)) {
    let number = |name, default| {
        let text = env::var(name);
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("EVENKEEL_HISTORY_SEED", 1);
    for seed in first..first + number("EVENKEEL_HISTORY_ROUNDS", count) {
        watched(move || round(seed));
    }
}

#[test]
fn promise_6_histories_in_memory_are_serialisable() {
    rounds(6, |seed| run(&Store::in_memory(), (16, 100), seed, &[]));
}

fn checkpoints(store: &Store) {
    store.checkpoint().unwrap();
}

fn snapshots(store: &Store) {
    store.snapshot().unwrap();
}

#[test]
fn promise_6_histories_beside_checkpoints_and_snapshots_are_serialisable() {
    rounds(4, |seed| {
        let builder = on(&SimDisk::new(seed)).memtable_bytes(64 * 1024);
        let store = builder.durability(Durability::Memory).open("s").unwrap();
        run(&store, (12, 100), seed, &[checkpoints, snapshots]);
        assert!(store.stats().unwrap().checkpoints > 1);
        store.close().unwrap();
    });
}

#[test]
fn promise_6_histories_on_the_real_disk_are_serialisable() {
    rounds(1, |seed| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s")).unwrap();
        run(&store, (8, 60), seed, &[snapshots]);
        store.close().unwrap();
    });
}
