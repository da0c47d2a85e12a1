//! The main job, `examples/index_tree`, as its user meets it: a program that is
//! killed at any moment and run again.
//!
//! What must stay true whenever it is killed: what it announced is there, and the
//! totals are the sum of the records. The moments are chosen by what it prints, from
//! a seed that a failure names; nothing here looks at a clock.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "it is a test, helpers and all"
)]

mod tree;
mod walking;

// What the program is made of, as far as it is tested by itself.
#[path = "../../examples/index_tree/content.rs"]
#[expect(dead_code, reason = "the program uses it")]
mod content;
#[path = "../../examples/index_tree/index.rs"]
#[expect(dead_code, reason = "the program uses it")]
mod index;
#[path = "../../examples/index_tree/paths.rs"]
#[expect(dead_code, reason = "the program uses it")]
mod paths;
#[path = "../../examples/index_tree/walk.rs"]
#[expect(dead_code, reason = "the program uses it")]
mod walk;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use evenkeel::{Scope, Store};

use crate::tree::{Random, SEED, Tree, line, nothing_to_do, program, text};

const KILLS: u32 = 20;

#[test]
fn killed_twenty_times_it_goes_on_and_is_right() {
    let mut tree = Tree::new();
    let mut moments = Random(SEED ^ 1);
    let (mut kills, mut late, mut went_on, mut left, mut round) = (0, 0, 0, u64::MAX, 0);
    while kills < KILLS {
        // Line 0: as soon as it was started. Line 1 says what is to do, unless something
        // was left.
        let number = moments.below(12);
        let run = tree.kill_at(number);
        println!("seed {SEED:#x}, kill {kills}, line {number}: {run:?}");
        if let Some(to_do) = run.to_do {
            assert!(
                to_do <= left,
                "{to_do} to do, but no more than {left} were left"
            );
            left = to_do - run.done;
        }
        went_on += u32::from(run.went_on);
        kills += u32::from(run.killed);
        late += u32::from(!run.killed);
        assert!(late < 10 * KILLS, "it ends before it can be killed");
        if kills % 3 == 1 {
            tree.assert_consistent();
        }
        if left < 40 {
            tree.mutate(250, round);
            (round, left) = (round + 1, u64::MAX);
        }
    }
    assert!(went_on > 0, "no kill has left anything");
    let printed = tree.complete();
    assert_eq!(line(&printed, "unreadable: "), Some(0));
    assert!(nothing_to_do(&tree.complete()));
    tree.assert_consistent();

    tree.mutate(20, round);
    assert!(!nothing_to_do(&tree.complete()));
    assert!(nothing_to_do(&tree.complete()));
}

#[test]
fn a_check_finds_what_a_run_cannot() {
    let mut tree = Tree::new();
    let printed = tree.complete();
    assert!(printed.contains("\n  .r%FEs: 1 files, "), "{printed}");
    let path = tree.path("one-line");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"no line b\neak").unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    // Its size and time are what they were.
    assert!(nothing_to_do(&text(&tree.run().stdout)));
    let verified = tree.verify();
    let printed = text(&verified.stdout);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    for part in [
        "Files \"one-line\"",
        "Totals \"lines\"",
        "ByHash",
        "ByExtension",
        "Copies",
    ] {
        assert!(
            printed.contains(&format!("differs: {part}")),
            "{part}: {printed}"
        );
    }
    tree.write(Path::new("one-line"), b"noticed".to_vec());
    tree.complete();

    // Totals that were changed behind its back.
    let store = Store::open(tree.store()).unwrap();
    let root = fs::canonicalize(tree.root()).unwrap();
    store
        .scope(Scope::custom(format!("totals:{}", root.display())))
        .increment("lines", 1)
        .unwrap();
    store.close().unwrap();
    drop(store);
    let verified = tree.verify();
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
    assert!(
        text(&verified.stdout).contains("differences: 1"),
        "{verified:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_counted_and_tried_again() {
    let mut tree = Tree::new();
    let path = tree.path("one-line");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        tree.run_as_nobody();
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    tree.complete();
    tree.write(Path::new("one-line"), b"changed, and".to_vec());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let kept = tree.files.remove(Path::new("one-line")).unwrap();
    for _ in 0..2 {
        let printed = tree.complete();
        assert_eq!(line(&printed, "unreadable: "), Some(1), "{printed}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    tree.files.insert("one-line".into(), kept);
    assert_eq!(line(&tree.complete(), "unreadable: "), Some(0));
}

#[test]
fn folders_are_kept_apart_in_one_store() {
    let (one, mut two) = (Tree::new(), Tree::new());
    two.mutate(30, 1);
    one.complete();
    let on_one = |tree: &Tree| {
        let mut command = Command::new(program());
        command.arg(tree.root()).arg("--store").arg(one.store());
        text(&command.output().unwrap().stdout)
    };
    assert_eq!(line(&on_one(&two), "files: "), Some(two.totals()[0]));
    assert!(nothing_to_do(&on_one(&two)));
    assert!(nothing_to_do(&one.complete()));

    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(program())
        .arg(empty.path())
        .current_dir(empty.path())
        .output()
        .unwrap();
    assert_eq!(
        line(&text(&output.stdout), "files: "),
        Some(0),
        "{output:?}"
    );
    assert!(empty.path().join("index_tree.store").is_dir());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let tree = Tree::new();
    let root = tree.root();
    let file = tree.path("one-line");
    let refused = |arguments: &[&OsStr], code: i32, says: &str| {
        let output = Command::new(program())
            .args(arguments)
            .current_dir(&root)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    };
    let [root, file] = [root.as_os_str(), file.as_os_str()];
    let (option, missing) = (OsStr::new("--store"), OsStr::new("no-such-place"));
    refused(&[], 2, "usage: ");
    refused(&[OsStr::new("--nonsense"), root], 2, "usage: ");
    refused(&[root, root], 2, "usage: ");
    refused(&[root, option], 2, "usage: ");
    refused(&[missing], 2, "no-such-place");
    refused(&[file], 2, "not a folder");
    refused(
        &[root, option, missing, OsStr::new("--verify")],
        3,
        "no store",
    );
    refused(&[root, option, root], 2, "in the store");
    refused(&[root, option, file], 3, "one-line");
    assert!(!Path::new(root).join("index_tree.store").exists());

    let store = Store::open(tree.store()).unwrap();
    refused(&[root, option, tree.store().as_os_str()], 3, "in use");
    store.close().unwrap();
}
