//! What single operations of the store cost: reads, scans and commits of a state of a
//! million keys. `cargo bench --bench parts [-- KEYS]`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::time::{Duration, Instant};

use evenkeel::{Durability, Scope, ScopeHandle, Store, Value};

const IN_SCOPE: u64 = 1_000;
const REPETITIONS: usize = 5;
const TIME: Duration = Duration::from_millis(600);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let keys = arguments
        .next()
        .map_or(1_000_000, |keys| keys.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .durability(Durability::Memory)
        .cache_bytes(512 << 20)
        .open(folder.path().join("parts"))
        .unwrap();
    let handles: Vec<_> = (0..keys / IN_SCOPE)
        .map(|number| store.scope(Scope::worker(number.to_string())))
        .collect();
    for batch in 0..keys / IN_SCOPE {
        let write = |tx: &evenkeel::Transaction| {
            for place in 0..IN_SCOPE {
                let key = (batch * IN_SCOPE + place) * 7919 % keys;
                let scope = tx.scope(handles[(key / IN_SCOPE) as usize].scope().clone());
                scope.set(format!("{key:016}"), value(key))?;
            }
            Ok(())
        };
        store.transact(write).unwrap();
    }
    store.checkpoint().unwrap();
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % keys
    };
    let of = |key: u64| (&handles[(key / IN_SCOPE) as usize], format!("{key:016}"));
    let read = |handle: &ScopeHandle, key: &str| {
        let found: Option<Value> = handle.get(key).unwrap();
        assert!(found.is_some());
    };
    report("random reads, from the image", || {
        let (handle, key) = of(next());
        read(handle, &key);
    });
    report("scans of 1,000 keys, from the image", || {
        let (handle, _) = of(next());
        scan(handle);
    });
    report("commits of one key, kept in the process", || {
        let (handle, key) = of(next());
        handle.set(key, value(7)).unwrap();
    });
    let in_memory = Store::in_memory();
    let handle = in_memory.global();
    for key in 0..IN_SCOPE {
        handle.set(format!("{key:016}"), value(key)).unwrap();
    }
    report("random reads, from memory, 1,000 keys", || {
        read(&handle, &format!("{:016}", next() % IN_SCOPE));
    });
    report("scans of 1,000 keys, from memory", || {
        scan(&handle);
    });
}

/// Looks at each value of a scope.
fn scan(handle: &ScopeHandle) {
    let (mut count, mut bytes) = (0, 0);
    for entry in handle.scan("").unwrap() {
        bytes += entry.unwrap().bytes().map_or(0, <[u8]>::len);
        count += 1;
    }
    assert_eq!((count, bytes), (IN_SCOPE, 128 * IN_SCOPE as usize));
}

/// The seconds that this thread has had a processor for: of a shared machine the others
/// have a part.
fn cpu() -> f64 {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos: u64 = schedule.split(' ').next().unwrap().parse().unwrap();
    nanos as f64 / 1e9
}

/// How often in a second of processor time, the median of some repetitions.
fn report(what: &str, mut run: impl FnMut()) {
    let mut rates: Vec<_> = (0..REPETITIONS)
        .map(|_| {
            let (begun, on_cpu, mut count) = (Instant::now(), cpu(), 0);
            while begun.elapsed() < TIME {
                for _ in 0..100 {
                    run();
                }
                count += 100;
            }
            f64::from(count) / (cpu() - on_cpu)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let [least, median, most] = [0, REPETITIONS / 2, REPETITIONS - 1].map(|at| rates[at]);
    println!("{what}: {median:.0}/s ({least:.0} to {most:.0})");
}

/// A value that does not compress, of 128 bytes.
fn value(key: u64) -> Value {
    let mut state = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(128);
    while bytes.len() < 128 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Value::Bytes(bytes)
}
