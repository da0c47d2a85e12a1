//! `examples/follow.rs`, a consumer as a process, killed by what it prints: the sum that
//! it keeps is exact whenever it is looked at.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel::testing::Random;
use evenkeel::{Scope, Store};

const SEED: u64 = 0x77_6174_6368;
const KILLS: u32 = 50;
const ORDERS: &str = "200";

/// Examples are built by `cargo test` beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().join("../examples/follow");
    assert!(program.exists(), "first: cargo build --example follow");
    program
}

/// Runs it and kills it behind the line of this number; whether that came in time.
fn kill_at(store: &Path, number: u64) -> bool {
    let mut command = Command::new(program());
    command.arg(store).arg(ORDERS).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let read: Vec<String> = lines
        .take(number as usize)
        .map(std::result::Result::unwrap)
        .collect();
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.signal() == Some(9) || status.success(),
        "{status}: {read:?}"
    );
    status.signal() == Some(9)
}

/// What it counted so far fits its cursor: orders up to it, and none behind.
fn check(path: &Path) {
    let store = Store::open(path).unwrap();
    let cursor = store
        .cursor("sum of orders")
        .position()
        .unwrap()
        .unwrap_or_default();
    let (mut seen, mut sum) = (0, 0);
    for order in store.scope(Scope::custom("orders")).scan("").unwrap() {
        let order = order.unwrap();
        if order.version().get() <= cursor.get() {
            (seen, sum) = (seen + 1, sum + order.value::<i64>().unwrap());
        }
    }
    let figure = |key| store.global().get::<i64>(key).unwrap().unwrap_or(0);
    assert_eq!(
        (figure("seen"), figure("sum")),
        (seen, sum),
        "cursor {cursor}"
    );
    store.close().unwrap();
}

#[test]
fn a_consumer_that_is_killed_fifty_times_counts_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut moments = Random::new(SEED);
    let (mut kills, mut late) = (0, 0);
    while kills < KILLS {
        // Line 0: as soon as it was started.
        let number = moments.below(40);
        match kill_at(&path, number) {
            true => kills += 1,
            false => late += 1,
        }
        println!("seed {SEED:#x}, kill {kills}, line {number}");
        assert!(late < KILLS, "it ends before it can be killed");
        if kills % 7 == 1 {
            check(&path);
        }
    }
    check(&path);
    let last = Command::new(program())
        .arg(&path)
        .arg("0")
        .output()
        .unwrap();
    assert!(last.status.success(), "{last:?}");
    let store = Store::open(&path).unwrap();
    let figure = |key| store.global().get::<i64>(key).unwrap().unwrap_or(0);
    println!(
        "{KILLS} kills, {} orders, sum {}",
        figure("made"),
        figure("sum")
    );
    assert!(figure("made") > 100, "{}", figure("made"));
    assert_eq!(figure("seen"), figure("made"));
    assert_eq!(figure("sum"), figure("value"));
}
