//! One million keys of 128 bytes: peak memory, bytes on disk, and the time to the first read
//! from SIGKILL, behind a checkpoint, and where the image is gone.
//! `cargo bench --bench million [-- FOLDER]`.
//!
//! A child process loads the keys in random order, in durable transactions of 1,000,
//! overwrites them three times and says so; then it is killed, and another child
//! opens the store, reads and verifies it. A third one finds it sealed, a fourth without its
//! image, which is built anew. In a store of its own, few keys are then written again and
//! again, kept in the process, until a kill.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use evenkeel::{Durability, Scope, Store, Value};

const KEYS: u64 = 1_000_000;
const SCOPES: u64 = 1_000;
const BATCH: u64 = 1_000;
const ROUNDS: u64 = 4;
/// Keys that are written again and again, and how often at least all together.
const HOT: u64 = 30_000;
const HOT_COMMITS: u64 = 3_000_000;
const MIB: u64 = 1024 * 1024;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("load"), Some(folder)) => load(Path::new(&folder)),
        (Some("open"), Some(folder)) => open(Path::new(&folder)),
        (Some("heat"), Some(folder)) => heat(Path::new(&folder)),
        (Some("cool"), Some(folder)) => cool(Path::new(&folder)),
        (folder, _) => run(folder.map(PathBuf::from)),
    }
}

fn run(folder: Option<PathBuf>) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = folder.unwrap_or_else(|| temporary.path().join("million"));
    until_killed("load", &folder);
    report_disk("after SIGKILL", &folder);
    let open = || assert!(child("open", &folder).status().unwrap().success());
    open();
    report_disk("after close", &folder);
    println!("sealed:");
    open();
    println!("without its image:");
    let images = folder.join("image");
    std::fs::remove_dir_all(&images).unwrap();
    std::fs::create_dir(&images).unwrap();
    open();
    println!("few keys, written again and again:");
    let folder = temporary.path().join("hot");
    until_killed("heat", &folder);
    println!("on disk after SIGKILL: {} MiB", disk(&folder) / MIB);
    assert!(child("cool", &folder).status().unwrap().success());
}

/// Runs a child until it says that it is done; then it is killed.
fn until_killed(mode: &str, folder: &Path) {
    let mut loader = child(mode, folder).stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(loader.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        if line.ends_with("loaded") {
            break;
        }
    }
    // SIGKILL: no destructor runs.
    loader.kill().unwrap();
    loader.wait().unwrap();
}

fn report_disk(when: &str, folder: &Path) {
    let live = (KEYS * (16 + 128)) as f64;
    let bytes = disk(folder);
    println!(
        "on disk {when}: {} MiB, {:.1} x live",
        bytes / MIB,
        bytes as f64 / live
    );
}

fn child(mode: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(mode).arg(folder);
    command
}

/// A value that does not compress, of 128 bytes.
fn value(key: u64, round: u64) -> Value {
    let mut state = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ round;
    let mut bytes = Vec::with_capacity(128);
    while bytes.len() < 128 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Value::Bytes(bytes)
}

fn scope(key: u64) -> Scope {
    Scope::worker((key % SCOPES).to_string())
}

fn load(folder: &Path) {
    let store = Store::open(folder).unwrap();
    for round in 0..ROUNDS {
        let start = Instant::now();
        for batch in 0..KEYS / BATCH {
            let written = store.transact(|tx| {
                for place in 0..BATCH {
                    // 7919 has no factor in common with a million: each key once.
                    let key = (batch * BATCH + place) * 7919 % KEYS;
                    tx.scope(scope(key))
                        .set(format!("{key:016}"), value(key, round))?;
                }
                Ok(())
            });
            written.unwrap();
        }
        let rate = KEYS as f64 / start.elapsed().as_secs_f64();
        println!(
            "round {round}: {rate:.0} keys/s, peak memory {} MiB",
            peak_memory() / MIB
        );
    }
    println!("loaded");
    std::thread::park();
}

/// Commits numbers in turn, each to one of few keys, for as long as it may.
fn heat(folder: &Path) {
    let builder = Store::builder().durability(Durability::Memory);
    let store = builder.open(folder).unwrap();
    let start = Instant::now();
    for number in 0_u64.. {
        let key = number % HOT;
        let scope = store.scope(scope(key));
        scope.set(format!("{key:016}"), number).unwrap();
        if number == HOT_COMMITS {
            let rate = number as f64 / start.elapsed().as_secs_f64();
            println!("{rate:.0} commits/s kept in the process; loaded");
        }
    }
}

/// What is there is all up to some number, and nothing behind it.
fn cool(folder: &Path) {
    let store = opened(folder);
    let found = |key: u64| store.scope(scope(key)).get(format!("{key:016}")).unwrap();
    let numbers: Vec<u64> = (0..HOT).filter_map(found).collect();
    let last = numbers.iter().max().copied().unwrap_or_default();
    assert!(last >= HOT && numbers.len() as u64 == HOT);
    for (key, &number) in (0..).zip(&numbers) {
        assert!(number % HOT == key && number + HOT > last, "key {key}");
    }
    store.close().unwrap();
}

/// Opens a store, and says how long it takes to the first read.
fn opened(folder: &Path) -> Store {
    let start = Instant::now();
    let store = Store::open(folder).unwrap();
    let scope = store.scope(scope(7));
    assert!(scope.contains(format!("{:016}", 7)).unwrap());
    println!(
        "reopened to the first read in {:.3} s",
        start.elapsed().as_secs_f64()
    );
    println!("replayed {} commits", store.recovery().replayed_commits);
    store
}

fn open(folder: &Path) {
    let store = opened(folder);
    for healed in store.recovery().healed {
        println!("{}", healed.action);
    }
    let start = Instant::now();
    for key in (0..KEYS).step_by(10) {
        let found: Option<Value> = store.scope(scope(key)).get(format!("{key:016}")).unwrap();
        assert_eq!(found, Some(value(key, ROUNDS - 1)), "key {key}");
    }
    println!(
        "checked every tenth key in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    assert!(store.verify().unwrap().is_clean());
    store.close().unwrap();
    println!("peak memory after reopening {} MiB", peak_memory() / MIB);
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn disk(path: &Path) -> u64 {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    std::fs::read_dir(path)
        .unwrap()
        .map(|entry| disk(&entry.unwrap().path()))
        .sum()
}
