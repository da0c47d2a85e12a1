//! Sixteen threads at random, and observers who never see more than the capacity.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use evenkeel::{Cache, Durability, Store};

use crate::parts::{Rig, keys, profiles, seconds, worker};

const THREADS: u64 = 16;
const CAPACITY: u64 = 20;

/// Random numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// One of those who work; the observers go on until there is none, however they end.
struct Working<'a>(&'a AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn work(store: &Store, cache: &Cache, seed: u64) {
    let mut random = Random(seed);
    let short = cache.clone().ttl(std::time::Duration::from_micros(50));
    for _ in 0..400 {
        let key = format!("{}", random.below(60));
        match random.below(100) {
            0..40 => cache.insert(&key, &key).unwrap(),
            40..50 => short.insert(&key, &key).unwrap(),
            50..70 => {
                if let Some(found) = cache.get::<String>(&key).unwrap() {
                    assert_eq!(found, key);
                }
            }
            70..80 => drop(cache.remove(&key).unwrap()),
            80..97 => {
                let made = cache.get_or_insert_with(&key, || key.clone());
                assert_eq!(made.unwrap(), key);
            }
            97 => cache.clear().unwrap(),
            98 => store.scope(worker()).clear().unwrap(),
            // A handle of its own, with the same capacity.
            _ => profiles(store)
                .capacity(CAPACITY)
                .insert(&key, &key)
                .unwrap(),
        }
    }
}

/// Never more than the capacity, by any way to count.
fn observe(cache: &Cache, working: &AtomicUsize) {
    while working.load(Ordering::SeqCst) > 0 {
        let scanned = cache.keys().unwrap().count() as u64;
        let counted = cache.len().unwrap();
        let told = cache.stats().unwrap().entries;
        assert!(scanned <= CAPACITY, "{scanned} are there");
        assert!(counted <= CAPACITY && told <= CAPACITY);
        thread::yield_now();
    }
}

fn never_more_than_the_capacity(store: &Store, seed: u64) {
    println!("seed {seed}");
    let cache = profiles(store).capacity(CAPACITY);
    for n in 0..CAPACITY {
        cache.insert(format!("first {n:02}"), n).unwrap();
    }
    let working = AtomicUsize::new(THREADS as usize);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, working) = (cache.clone(), &working);
            scope.spawn(move || {
                let _working = Working(working);
                work(store, &cache, seed * 1000 + thread);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| observe(&cache, &working));
        }
    });
    let evicted = cache.stats().unwrap().evictions;
    assert!(evicted > 100, "{evicted} were evicted: that shows nothing");
    for n in 0..CAPACITY {
        cache.insert(format!("last {n:02}"), n).unwrap();
    }
    let last = keys(&cache);
    assert!(last.iter().all(|key| key.starts_with("last")), "{last:?}");
    assert_eq!(last.len() as u64, CAPACITY);
}

#[test]
fn sixteen_threads_never_exceed_the_capacity_in_memory() {
    for seed in 0..5 {
        let store = Store::in_memory();
        never_more_than_the_capacity(&store, seed);
    }
}

#[test]
fn sixteen_threads_never_exceed_the_capacity_on_a_disk() {
    for seed in 0..3 {
        let rig = Rig::new();
        // Checkpoints come often.
        let store = rig.builder().memtable_bytes(64 * 1024).open("/store");
        never_more_than_the_capacity(&store.unwrap(), seed);
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .durability(Durability::Memory)
        .memtable_bytes(64 * 1024)
        .open(folder.path().join("state"));
    never_more_than_the_capacity(&store.unwrap(), 9);
}

/// Whoever sees an entry counts it, and what he has inserted himself.
#[test]
fn a_count_is_never_behind_what_was_seen() {
    let cache = profiles(&Store::in_memory()).ttl(seconds(1000));
    let working = AtomicUsize::new(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _working = Working(&working);
            for n in 1..=3000_u64 {
                cache.insert(format!("{n}"), n).unwrap();
            }
        });
        let mut next = 1_u64;
        while working.load(Ordering::SeqCst) > 0 {
            while cache.contains(format!("{next}")).unwrap() {
                next += 1;
            }
            assert!(cache.len().unwrap() >= next - 1);
        }
    });
    assert_eq!(cache.len().unwrap(), 3000);
}
