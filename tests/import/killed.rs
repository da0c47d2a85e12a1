//! Imports as a process that is killed: by lines, and by a folder of sled's. What comes
//! out in the end is what one run gives.
//!
//! The child is this program, run for its one ignored test. It goes on for as many words
//! as it was given, so it is always killed before its end; the moment is behind a word
//! that it printed, which a seed chooses.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use evenkeel::{ImportOutcome, ImportPhase, Store};

use crate::parts::{lines, state};
use crate::trees::{make_database, mapped};

const KILLS: u64 = 15;
const SEED: u64 = 0x5EED_0006;
const COUNT: u64 = 4000;
const BATCH: usize = 2000;

/// Runs the import; stops where there is no more word to go on.
fn run(store: &Store, source: &Path, mut told: impl FnMut(u64)) -> ImportOutcome {
    let import = store.import("old").batch_bytes(BATCH).progress(|p| {
        if p.phase == ImportPhase::Importing {
            told(p.entries);
        }
    });
    let report = match source.is_dir() {
        true => import.sled(source, mapped),
        false => import.json_lines(source),
    };
    report.unwrap().outcome
}

#[test]
#[ignore = "it is the child of the tests that kill it"]
fn child() {
    let path = |name| env::var_os(name).unwrap();
    let store = Store::open(path("EVENKEEL_STORE")).unwrap();
    let mut words = std::io::stdin().lines();
    run(&store, Path::new(&path("EVENKEEL_SOURCE")), |entries| {
        println!("imported {entries}");
        // Without a word it waits here to be killed.
        words.next().unwrap().unwrap();
    });
}

fn start(store: &Path, source: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env("EVENKEEL_STORE", store)
        .env("EVENKEEL_SOURCE", source)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills it behind the word of this number; gives the entries that it told of last.
fn kill_behind(store: &Path, source: &Path, number: u64) -> u64 {
    let mut child = start(store, source);
    let mut stdin = child.stdin.take().unwrap();
    // It may run up to two batches ahead of what is read here.
    stdin
        .write_all("go\n".repeat(number as usize + 2).as_bytes())
        .unwrap();
    let mut told = 0;
    let mut left = number;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while left > 0 {
        let line = lines
            .next()
            .expect("it ended before it was killed")
            .unwrap();
        if let Some((_, entries)) = line.split_once("imported ") {
            told = entries.parse().unwrap();
            left -= 1;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    told
}

fn killed_again_and_again(source: &Path, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let whole = Store::in_memory();
    assert_eq!(run(&whole, source, |_| ()), ImportOutcome::Finished);
    let path = folder.path().join("store");
    let (mut random, mut most) = (seed, 0);
    for kill in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let number = 1 + (random >> 33) % 6;
        let told = kill_behind(&path, source, number);
        let store = Store::open(&path).unwrap();
        let status = store.import("old").status().unwrap().unwrap_or_default();
        println!(
            "seed {seed:#x}, kill {kill} behind word {number}: told {told}, there {}",
            status.imported
        );
        // What it told of was in the kernel's hands.
        assert!(status.imported >= told.max(most + 1) && !status.finished);
        most = status.imported;
        let there: u64 = store
            .scopes()
            .unwrap()
            .into_iter()
            .map(|s| store.scope(s).len().unwrap())
            .sum();
        assert_eq!(there, status.imported);
        store.close().unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(run(&store, source, |_| ()), ImportOutcome::Finished);
    assert_eq!(state(&store), state(&whole));
    assert_eq!(run(&store, source, |_| ()), ImportOutcome::AlreadyDone);
}

#[test]
fn an_import_of_lines_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("lines.jsonl");
    std::fs::write(&source, lines(COUNT)).unwrap();
    killed_again_and_again(&source, SEED);
}

#[test]
fn an_import_of_trees_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("old.db");
    make_database(&source, COUNT);
    killed_again_and_again(&source, SEED + 1);
}
