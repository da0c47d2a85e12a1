//! A first load of a million entries of 16 and 128 bytes into an empty store, in four
//! ways: durable transactions of 1,000, the bulk loader, an import of an iterator, and an
//! import of lines. Keys and MB a second, commits and syncs, and peak memory; each in a
//! process of its own. `cargo bench --bench bulk`.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use evenkeel::{Scope, Store};

const KEYS: u64 = 1_000_000;
const SCOPES: u64 = 1_000;
const BATCH: u64 = 1_000;
const MIB: u64 = 1024 * 1024;

fn main() {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [way, folder] = &arguments[..] {
        return load(way, Path::new(folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut lines = BufWriter::new(File::create(folder.path().join("lines.jsonl")).unwrap());
    for n in 0..KEYS {
        let (scope, key, value) = entry(n);
        let Scope::Worker(worker) = scope else { return };
        let line =
            format!(r#"{{"scope":{{"worker":"{worker}"}},"key":"{key}","value":"{value}"}}"#);
        writeln!(lines, "{line}").unwrap();
    }
    lines.into_inner().unwrap().sync_all().unwrap();
    for way in ["transact", "bulk", "entries", "lines"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.arg(way).arg(folder.path()).status().unwrap();
        assert!(status.success(), "{way}");
        std::fs::remove_dir_all(folder.path().join(way)).unwrap();
    }
}

/// Keys in no order, values that do not compress.
fn entry(n: u64) -> (Scope, String, String) {
    // 7919 has no factor in common with a million: each key once.
    let number = n * 7919 % KEYS;
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut value = String::with_capacity(128);
    while value.len() < 128 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value += &format!("{state:016x}");
    }
    (
        Scope::worker((number % SCOPES).to_string()),
        format!("{number:016}"),
        value,
    )
}

fn load(way: &str, folder: &Path) {
    let store = Store::open(folder.join(way)).unwrap();
    let start = Instant::now();
    match way {
        "transact" => {
            for batch in 0..KEYS / BATCH {
                let written = store.transact(|tx| {
                    (batch * BATCH..(batch + 1) * BATCH)
                        .map(entry)
                        .try_for_each(|(scope, key, value)| tx.scope(scope).set(key, value))
                });
                written.unwrap();
            }
        }
        "bulk" => {
            let mut loader = store.bulk();
            for n in 0..KEYS {
                let (scope, key, value) = entry(n);
                loader.set(&scope, key, value).unwrap();
            }
            loader.finish().unwrap();
        }
        "entries" => drop(
            store
                .import("entries")
                .entries((0..KEYS).map(entry))
                .unwrap(),
        ),
        _ => {
            let lines = folder.join("lines.jsonl");
            drop(store.import("lines").json_lines(lines).unwrap());
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let stats = store.stats().unwrap();
    let count = store.scope(Scope::worker("7")).len().unwrap();
    assert_eq!(count, KEYS / SCOPES);
    println!(
        "{way:8}: {:7.0} keys/s, {:5.1} MB/s, {} commits, {} syncs, peak memory {} MiB",
        KEYS as f64 / seconds,
        (KEYS * (16 + 128)) as f64 / 1e6 / seconds,
        stats.commits,
        stats.log_syncs,
        peak_memory() / MIB
    );
    store.close().unwrap();
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
