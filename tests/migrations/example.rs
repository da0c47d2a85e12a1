//! `examples/migrate.rs`, run as its user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::parts::{Place, lines};

/// Examples are built by `cargo test` beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().join("../examples/migrate");
    assert!(program.exists(), "first: cargo build --example migrate");
    program
}

fn run(folder: &Path) -> Output {
    Command::new(program()).arg(folder).output().unwrap()
}

#[test]
fn the_example_goes_through_three_versions_and_back() {
    let place = Place::new();
    let output = run(&place.path);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for expected in [
        "ada: Ada Lovelace, 0.29 euros",
        "ada: Lovelace, Ada\n",
        "has schema version 2, this program knows versions up to 1",
        "from version 2 to 3, which WOULD FAIL",
        "BROKEN: the balances are 12026 cents, the ledger says 12028",
        "from version 2 to 3, which would succeed",
        "\"balance\": 0.29 → 29",
        "[back, 4 of 4] cents: custom scope \"ledger\"",
        "alan: Turing, 1999 cents",
        "history: 2 → 3 (cents) at LSN",
        "byte for byte the same export: true",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
    // What it leaves is a state of version 1.
    let store = place.open(&[]).unwrap();
    assert_eq!(lines(&store).lines().count(), 7);
    store.close().unwrap();
    let again = run(&place.path);
    assert_eq!(
        again.status.code(),
        Some(2),
        "it is never over what is there"
    );
}
