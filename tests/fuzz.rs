//! The fuzz targets without a fuzzer: over the corpus that is kept, and over mutations
//! of it.
//!
//! `EVENKEEL_FUZZ_SEED=7` draws other mutations, `EVENKEEL_FUZZ_RUNS=100000` more of
//! them. `EVENKEEL_FUZZ_INPUT=path/to/input cargo test --test fuzz NAME` runs one input
//! of a target, such as one from `fuzz/artifacts`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
#![expect(clippy::print_stdout, reason = "each test says how much it tried")]

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use cap::Cap;
use evenkeel::testing::Random;
use evenkeel::testing::fuzz::{MEMORY_BYTES_MAX, TARGETS, Target};

/// A fuzzer has one input at a time in its process; here the tests run side by side, and
/// a harness around them.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, TARGETS.len() * MEMORY_BYTES_MAX);

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name)
}

/// The files of a corpus that are kept: seeds, and what was found once.
fn kept(name: &str) -> BTreeMap<String, Vec<u8>> {
    // A package holds no corpus.
    let Ok(entries) = fs::read_dir(corpus(name)) else {
        return BTreeMap::new();
    };
    let files = entries.map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    files
        .filter(|(name, _)| name.starts_with("seed-") || name.starts_with("regression-"))
        .collect()
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

fn try_one(target: &Target, input: &[u8], what: &str) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{} breaks at {what}, input (hex):\n{hex}", target.name);
    }
}

/// A mutation as fuzzers make them.
fn mutated(random: &mut Random, all: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let any = |random: &mut Random| all[random.below(all.len() as u64) as usize].clone();
    let mut input = any(random);
    for _ in 0..=random.below(4) {
        let at = random.below(input.len() as u64 + 1) as usize;
        match random.below(6) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next_u64() as u8,
            2 => input.insert(at, random.next_u64() as u8),
            3 => input.truncate(at),
            4 => {
                let other = any(random);
                let from = random.below(other.len() as u64 + 1) as usize;
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.extend((0..random.below(40)).map(|_| random.next_u64() as u8)),
        }
    }
    input.truncate(longest);
    input
}

fn run(name: &str, runs: u64) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    if let Ok(path) = std::env::var("EVENKEEL_FUZZ_INPUT") {
        return try_one(target, &fs::read(&path).unwrap(), &path);
    }
    let mut inputs = kept(name);
    inputs.extend((target.seeds)());
    for (file, input) in &inputs {
        try_one(target, input, file);
    }
    let all: Vec<Vec<u8>> = inputs.into_values().collect();
    let seed = number("EVENKEEL_FUZZ_SEED", 1);
    let runs = number("EVENKEEL_FUZZ_RUNS", runs);
    let mut random = Random::new(seed);
    for run in 0..runs {
        let input = mutated(&mut random, &all, target.input_bytes_max);
        let what = format!("EVENKEEL_FUZZ_SEED={seed}, run {run}");
        try_one(target, &input, &what);
    }
    println!(
        "{name}: {} kept inputs, {runs} mutations of them; the process took {} KiB at most",
        all.len(),
        ALLOCATOR.max_allocated() >> 10
    );
}

#[test]
fn log() {
    run("log", 4_000);
}

#[test]
fn folder() {
    run("folder", 1_000);
}

#[test]
fn value() {
    run("value", 4_000);
}

#[test]
fn keys() {
    run("keys", 4_000);
}

#[test]
fn operations() {
    run("operations", 300);
}

#[test]
fn merge() {
    run("merge", 8_000);
}

#[test]
fn document() {
    run("document", 8_000);
}

#[test]
fn migrations() {
    run("migrations", 400);
}

#[test]
fn runtime_records() {
    run("runtime_records", 8_000);
}

/// `cargo run --example fuzz_corpus` writes the seeds; they are in the tree as it does.
#[test]
fn the_corpus_is_what_its_command_makes() {
    for target in TARGETS {
        let seeds: BTreeMap<_, _> = (target.seeds)().into_iter().collect();
        assert!(seeds.len() >= 5, "{} has few seeds", target.name);
        let mut found = kept(target.name);
        if found.is_empty() && !corpus("").exists() {
            continue;
        }
        found.retain(|name, _| name.starts_with("seed-"));
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&seeds), "{}", target.name);
        for (name, bytes) in &seeds {
            assert!(found[name] == *bytes, "{}/{name} is another", target.name);
            assert!(bytes.len() <= target.input_bytes_max, "{name} is too long");
        }
    }
}

/// Each target has its binary, its three lines and its body, of one name.
#[test]
fn every_target_is_laid_out_as_cargo_fuzz_has_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let Ok(manifest) = fs::read_to_string(root.join("Cargo.toml")) else {
        return;
    };
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
    for target in TARGETS {
        let name = target.name;
        let path = format!("fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"{path}\"")));
        let source = fs::read_to_string(root.join(path)).unwrap();
        assert!(source.contains(&format!("target!(evenkeel::testing::fuzz::{name});")));
    }
}
