//! What single operations cost, by `divan`: values, reads, scans and commits of a state of
//! 100,000 keys, or of `EVENKEEL_BENCH_KEYS`. `cargo bench --bench parts`, and behind `--` part
//! of a name, or `--test` to run each once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that fails ends"
)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use divan::Bencher;
use divan::counter::ItemsCount;
use evenkeel::{Durability, Scope, ScopeHandle, Store, Transaction, Value};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const IN_SCOPE: u64 = 1_000;
const VALUE_BYTES: usize = 128;

/// The stores that all benches share.
static STORES: OnceLock<Stores> = OnceLock::new();

struct Stores {
    folder: TempDir,
    /// Its state is in the image, but for what the benches write.
    image: State,
    /// Without a folder.
    memory: State,
}

struct State {
    store: Store,
    handles: Vec<ScopeHandle>,
    keys: u64,
    random: AtomicU64,
}

fn main() {
    let _ = STORES.set(Stores::new());
    divan::main();
    let stores = stores();
    stores.image.store.close().unwrap();
    std::fs::remove_dir_all(stores.folder.path()).unwrap();
}

fn stores() -> &'static Stores {
    STORES.get().expect("made first of all")
}

impl Stores {
    fn new() -> Self {
        let keys = std::env::var("EVENKEEL_BENCH_KEYS");
        let keys = keys.map_or(100_000, |keys| keys.parse().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let image = Store::builder()
            .durability(Durability::Memory)
            .cache_bytes(512 << 20)
            .open(folder.path().join("parts"))
            .unwrap();
        let image = State::new(image, keys);
        image.store.checkpoint().unwrap();
        Self {
            memory: State::new(Store::in_memory(), keys),
            folder,
            image,
        }
    }
}

impl State {
    fn new(store: Store, keys: u64) -> Self {
        let keys = keys.next_multiple_of(IN_SCOPE);
        let state = Self {
            handles: (0..keys / IN_SCOPE)
                .map(|number| store.scope(Scope::worker(number.to_string())))
                .collect(),
            store,
            keys,
            random: AtomicU64::new(1),
        };
        for scope in &state.handles {
            let write = |tx: &Transaction| {
                let scope = tx.scope(scope.scope().clone());
                (0..IN_SCOPE).try_for_each(|key| scope.set(name(key), value()))
            };
            state.store.transact(write).unwrap();
        }
        state
    }

    /// Any of the keys.
    fn any(&self) -> (&ScopeHandle, String) {
        let step = self.random.fetch_add(1, Ordering::Relaxed);
        let key = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.keys;
        let scope = usize::try_from(key / IN_SCOPE).unwrap();
        (&self.handles[scope], name(key % IN_SCOPE))
    }

    fn with(&self, durability: Durability) -> (ScopeHandle, String) {
        let (handle, key) = self.any();
        (handle.with_durability(durability), key)
    }
}

fn name(key: u64) -> String {
    format!("{key:016}")
}

fn value() -> Value {
    Value::Bytes((0..VALUE_BYTES).map(|byte| byte as u8).collect())
}

#[derive(Deserialize, Serialize)]
struct Order {
    customer: String,
    lines: Vec<(String, u32)>,
    paid: bool,
}

fn order() -> Order {
    Order {
        customer: "customer-4711".into(),
        lines: (0..4).map(|line| (format!("item-{line}"), line)).collect(),
        paid: false,
    }
}

#[divan::bench_group]
mod values {
    use super::*;

    fn there<T: Serialize>(key: &str, value: &T) -> ScopeHandle {
        let handle = Store::in_memory().scope(Scope::custom("values"));
        handle.set(key, value).unwrap();
        handle
    }

    #[divan::bench]
    fn set_a_struct(bencher: Bencher<'_, '_>) {
        let (handle, order) = (there("order", &order()), order());
        bencher.bench_local(|| handle.set("order", &order).unwrap());
    }

    #[divan::bench]
    fn get_a_struct(bencher: Bencher<'_, '_>) {
        let handle = there("order", &order());
        bencher.bench_local(|| handle.get::<Order>("order").unwrap());
    }

    #[divan::bench(args = [16, 128, 4096, 65_536])]
    fn get_bytes(bencher: Bencher<'_, '_>, len: usize) {
        let handle = there("bytes", &vec![7_u8; len]);
        bencher.bench_local(|| handle.get::<Vec<u8>>("bytes").unwrap());
    }
}

#[divan::bench_group]
mod reads {
    use super::*;

    fn random(bencher: Bencher<'_, '_>, state: &State) {
        bencher
            .with_inputs(|| state.any())
            .bench_values(|(handle, key)| handle.get::<Value>(&key).unwrap().unwrap());
    }

    #[divan::bench(threads = [1, 2])]
    fn from_the_image(bencher: Bencher<'_, '_>) {
        random(bencher, &stores().image);
    }

    #[divan::bench(threads = [1, 2])]
    fn from_memory(bencher: Bencher<'_, '_>) {
        random(bencher, &stores().memory);
    }

    #[divan::bench]
    fn of_nothing(bencher: Bencher<'_, '_>) {
        let state = &stores().image;
        bencher
            .with_inputs(|| state.any().0)
            .bench_values(|handle| handle.contains("not there").unwrap());
    }
}

#[divan::bench_group]
mod scans {
    use super::*;

    fn of_a_scope(bencher: Bencher<'_, '_>, state: &State) {
        bencher
            .counter(ItemsCount::new(IN_SCOPE))
            .with_inputs(|| state.any().0)
            .bench_values(|handle| {
                let entries = handle.scan("").unwrap();
                entries
                    .map(|entry| entry.unwrap().bytes().map_or(0, <[u8]>::len))
                    .sum::<usize>()
            });
    }

    #[divan::bench]
    fn of_the_image(bencher: Bencher<'_, '_>) {
        of_a_scope(bencher, &stores().image);
    }

    #[divan::bench]
    fn of_memory(bencher: Bencher<'_, '_>) {
        of_a_scope(bencher, &stores().memory);
    }
}

#[divan::bench_group]
mod commits {
    use std::time::Duration;

    use super::*;

    fn of_one_key(bencher: Bencher<'_, '_>, durability: Durability) {
        let state = &stores().image;
        bencher
            .with_inputs(|| (state.with(durability), value()))
            .bench_values(|((handle, key), value)| handle.set(&key, value).unwrap());
    }

    #[divan::bench]
    fn kept_in_the_process(bencher: Bencher<'_, '_>) {
        of_one_key(bencher, Durability::Memory);
    }

    #[divan::bench]
    fn handed_to_the_kernel(bencher: Bencher<'_, '_>) {
        of_one_key(bencher, Durability::Interval(Duration::from_secs(1)));
    }

    #[divan::bench(threads = [1, 16])]
    fn durable(bencher: Bencher<'_, '_>) {
        of_one_key(bencher, Durability::Sync);
    }

    #[divan::bench]
    fn an_increment(bencher: Bencher<'_, '_>) {
        let counter = stores()
            .image
            .store
            .global()
            .with_durability(Durability::Memory);
        bencher.bench_local(|| counter.increment("counter", 1).unwrap());
    }

    #[divan::bench]
    fn a_transaction_of_100_keys(bencher: Bencher<'_, '_>) {
        let state = &stores().image;
        bencher
            .counter(ItemsCount::new(100_usize))
            .with_inputs(|| (0..100).map(|_| state.any()).collect::<Vec<_>>())
            .bench_values(|keys| {
                let write = |tx: &Transaction| {
                    keys.iter()
                        .try_for_each(|(of, key)| tx.scope(of.scope().clone()).set(key, value()))
                };
                state.store.transact(write).unwrap();
            });
    }
}
