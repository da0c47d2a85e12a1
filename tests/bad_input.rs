//! Bad input: folders that are no stores, stores of later versions, limits, values
//! that are no values, closed stores. Each is a typed error, and nothing is lost.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel::testing::SimDisk;
use evenkeel::{Builder, Commit, Durability, Error, Scope, Store, Version, Vfs as _};
use serde_json::json;

/// The bytes of every file below a folder, by path.
fn bytes_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => {
                    found.insert(path.clone(), Vec::new());
                    open.push(path);
                }
                false => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found
}

fn on(disk: &SimDisk) -> Builder {
    disk.store_builder().segment_bytes(8192, 65_536)
}

/// A small store with a snapshot and a log behind it, closed.
fn closed_store(path: &Path) {
    let store = Store::open(path).unwrap();
    store.global().set("a", 1).unwrap();
    store.checkpoint().unwrap();
    store.snapshot().unwrap();
    store.scope(Scope::job("j")).set("b", "two").unwrap();
    store.close().unwrap();
}

fn check_closed_store(path: &Path) {
    let store = Store::open(path).unwrap();
    assert_eq!(store.global().get::<u32>("a").unwrap(), Some(1));
    assert_eq!(
        store
            .scope(Scope::job("j"))
            .get::<String>("b")
            .unwrap()
            .as_deref(),
        Some("two")
    );
    assert_eq!(store.scopes().unwrap().len(), 2);
}

#[test]
fn a_folder_of_somebody_else_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "years of work").unwrap();
    fs::create_dir(folder.path().join("wal")).unwrap();
    fs::write(folder.path().join("wal/thing"), "mine").unwrap();
    let before = bytes_below(folder.path());
    let error = Store::open(folder.path()).unwrap_err();
    assert!(
        matches!(&error, Error::NotAStore { path, .. } if path == folder.path()),
        "{error}"
    );
    assert_eq!(bytes_below(folder.path()), before);
}

#[test]
fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "hello").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::NotAStore { path: at, .. } if *at == path),
        "{error}"
    );
    let error = Store::open(path.join("below")).unwrap_err();
    assert!(
        matches!(error, Error::Io { .. } | Error::NotAStore { .. }),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"hello");
    let dangling = folder.path().join("dangling");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &dangling).unwrap();
    let error = Store::open(&dangling).unwrap_err();
    assert!(
        matches!(error, Error::Io { .. } | Error::NotAStore { .. }),
        "{error}"
    );
}

/// Behind the highest number there is no other: a file named after it must not be taken
/// for the newest segment, whose successor would have its name.
#[test]
fn files_with_the_highest_numbers_are_strangers() {
    let names = [
        "wal/ffffffffffffffff.log",
        "snapshots/ffffffffffffffff.snap",
        "image/18446744073709551615/0000000000000001.piece",
    ];
    for name in names {
        for content in [&b""[..], b"somebody else's", &[0; 8192]] {
            let disk = SimDisk::new(0);
            let store = on(&disk).open("state").unwrap();
            store.global().set("a", 1).unwrap();
            store.close().unwrap();
            drop(store);
            if name.starts_with("image") {
                disk.create_dir(Path::new("state/image/18446744073709551615"))
                    .unwrap();
                disk.remove("state/MANIFEST").unwrap();
            }
            disk.write(Path::new("state").join(name), content).unwrap();
            for round in 1..4 {
                let store = on(&disk).open("state").unwrap();
                let got: Option<u32> = store.global().get("a").unwrap();
                assert_eq!(got, Some(round), "{name}, opening {round}");
                store.global().increment("a", 1).unwrap();
                store.close().unwrap();
            }
        }
    }
}

#[test]
fn fault_25_a_second_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = Store::open(&path).unwrap();
    store.global().set("a", 1).unwrap();
    let clone = store.clone();
    let handle = store.global();
    drop(store);
    let refused = |by: &str| {
        let error = Store::open(&path).unwrap_err();
        assert!(
            matches!(&error, Error::Locked { path: at } if *at == path),
            "{by}: {error}"
        );
    };
    refused("a clone");
    drop(clone);
    refused("a handle");
    drop(handle);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.global().get::<u32>("a").unwrap(), Some(1));
    let by_another_name = folder.path().join("alias");
    std::os::unix::fs::symlink(&path, &by_another_name).unwrap();
    let error = Store::open(&by_another_name).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

const CHILD: &str = "EVENKEEL_TEST_CHILD";

/// Not a test of its own: holds the store that the environment names until it is
/// killed.
#[test]
fn child_that_holds_a_store() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let store = Store::open(path).unwrap();
    store.global().increment("child", 1).unwrap();
    // Ends with a line of its own, whatever the harness printed before.
    #[expect(clippy::print_stdout, reason = "the parent waits for it")]
    {
        println!("\nholding");
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn fault_25_a_second_process_is_refused_and_a_dead_one_leaves_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for round in 1..=3_i64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_holds_a_store", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let holding = lines.map_while(Result::ok).any(|line| line == "holding");
        assert!(holding, "the child ended early");
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.global().get::<i64>("child").unwrap(), Some(round));
        assert!(!store.recovery().closed_cleanly);
        store.close().unwrap();
    }
}

#[test]
fn fault_30_a_read_only_disk_acknowledges_nothing() {
    let disk = SimDisk::new(1);
    disk.set_read_only(true);
    let error = on(&disk).open("state").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(disk.files().is_empty());
    disk.set_read_only(false);
    let store = on(&disk).open("state").unwrap();
    store.global().set("a", 1).unwrap();
    disk.set_read_only(true);
    let error = store.global().set("a", 2).unwrap_err();
    assert!(
        matches!(error, Error::Io { .. } | Error::Poisoned { .. }),
        "{error}"
    );
    let error = store.global().set("a", 3).unwrap_err();
    assert!(
        matches!(error, Error::Io { .. } | Error::Poisoned { .. }),
        "{error}"
    );
    assert!(store.close().is_err());
    drop(store);
    let error = on(&disk).open("state").unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    disk.set_read_only(false);
    let store = on(&disk).open("state").unwrap();
    let a = store.global().get::<u32>("a").unwrap();
    assert_eq!(
        a,
        Some(1),
        "what was not acknowledged was not written either"
    );
    store.global().set("a", 4).unwrap();
}

/// Linux lets an open file be used when its name is gone, so a process cannot tell
/// by its writes. The log asks after each sync whether its file still has a name.
#[test]
fn fault_30_a_folder_that_vanishes_acknowledges_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = Store::open(&path).unwrap();
    store.global().set("a", 1).unwrap();
    fs::remove_dir_all(&path).unwrap();
    let error = store.global().set("a", 2).unwrap_err();
    assert!(
        matches!(error, Error::Poisoned { .. } | Error::Io { .. }),
        "{error}"
    );
    for _ in 0..3 {
        let error = store.global().set("a", 3).unwrap_err();
        assert!(matches!(error, Error::Poisoned { .. }), "{error}");
        assert!(store.checkpoint().is_err() && store.snapshot().is_err());
        assert!(store.barrier().is_err() && store.verify().is_err());
    }
    assert!(store.close().is_err());
    assert!(matches!(store.global().set("a", 3), Err(Error::Closed)));
    drop(store);
    let store = Store::open(&path).unwrap();
    assert!(
        store.global().is_empty().unwrap(),
        "a new store, for the old one is gone"
    );
}

fn every_method_says_closed(store: &Store, scan: Option<evenkeel::Scan>, commit: &Commit) {
    let scope = store.global();
    let closed = |what: &str, result: evenkeel::Result<()>| {
        assert!(matches!(result, Err(Error::Closed)), "{what}: {result:?}");
    };
    closed("get", scope.get::<u32>("a").map(drop));
    closed("get_versioned", scope.get_versioned::<u32>("a").map(drop));
    closed("contains", scope.contains("a").map(drop));
    closed("set", scope.set("a", 1));
    closed("delete", scope.delete("a"));
    closed("clear", scope.clear());
    closed("increment", scope.increment("a", 1).map(drop));
    closed("merge", scope.merge("a", json!({})));
    closed(
        "compare_and_set",
        scope.compare_and_set("a", Version::ZERO, 1).map(drop),
    );
    closed(
        "update",
        scope.update("a", |n: Option<u32>| n.unwrap_or(0)).map(drop),
    );
    closed("scan", scope.scan("").map(drop));
    closed("keys", scope.keys().map(drop));
    closed("len", scope.len().map(drop));
    closed("is_empty", scope.is_empty().map(drop));
    closed("bytes", scope.bytes().map(drop));
    closed("transact", store.transact(|_| Ok(())));
    closed("submit", store.submit(|_| Ok(())).map(drop));
    closed("scopes", store.scopes().map(drop));
    closed("barrier", store.barrier());
    closed("checkpoint", store.checkpoint().map(drop));
    closed("snapshot", store.snapshot().map(drop));
    closed("verify", store.verify().map(drop));
    closed("stats", store.stats().map(drop));
    closed("persist", store.persist("/nowhere/at/all").map(drop));
    if let Some(scan) = scan {
        let mut errors = scan.filter_map(Result::err);
        assert!(
            matches!(errors.next(), Some(Error::Closed)),
            "a scan that was open"
        );
        assert!(errors.next().is_none());
    }
    commit.wait().unwrap();
    store.close().unwrap();
}

#[test]
fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for store in [Store::in_memory(), Store::open(&path).unwrap()] {
        for i in 0..2000 {
            let scope = store.with_durability(Durability::Memory).global();
            scope.set(format!("k{i:04}"), "x".repeat(100)).unwrap();
        }
        store.checkpoint().unwrap();
        let (_, commit) = store.submit(|tx| tx.global().set("last", 1)).unwrap();
        let (clone, handle, mut scan) = (
            store.clone(),
            store.global(),
            store.global().scan("").unwrap(),
        );
        assert_eq!(scan.next().unwrap().unwrap().key(), "k0000");
        store.close().unwrap();
        store.close().unwrap();
        every_method_says_closed(&store, Some(scan), &commit);
        every_method_says_closed(&clone, None, &commit);
        assert!(matches!(handle.get::<u32>("a"), Err(Error::Closed)));
        assert!(matches!(handle.step("x").set("a", 1), Err(Error::Closed)));
        let _ = (store.recovery(), store.path());
    }
    let store = Store::open(&path).unwrap();
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(store.global().len().unwrap(), 2001);
}

#[test]
fn closing_inside_a_transaction_is_refused() {
    let store = Store::in_memory();
    let result = store.transact(|_| store.close());
    assert!(matches!(result, Err(Error::Nested)), "{result:?}");
    store.global().set("a", 1).unwrap();
}

/// Files whose format is a `u32` at 12 behind a CRC32 at 8, and the end of what that
/// covers (see the grammars above their encoders).
fn formats(path: &Path) -> Vec<(PathBuf, usize)> {
    let only = |folder: &str| {
        let mut files: Vec<_> = fs::read_dir(path.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    };
    let mut files = vec![
        (path.join("FORMAT"), 64),
        (path.join("MANIFEST"), usize::MAX),
        (path.join("marks"), 512),
    ];
    files.extend(only("wal").into_iter().map(|file| (file, 4096)));
    files.extend(only("snapshots").into_iter().map(|file| (file, 72)));
    files
}

#[test]
fn fault_29_a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    closed_store(&path);
    let files = formats(&path);
    assert!(files.len() == 5, "{files:?}");
    for (file, covered) in files {
        let good = fs::read(&file).unwrap();
        let mut newer = good.clone();
        let end = covered.min(newer.len());
        newer[12..16].copy_from_slice(&7_u32.to_le_bytes());
        let crc = crc32fast::hash(&newer[12..end]);
        newer[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(&file, &newer).unwrap();
        let before = bytes_below(&path);
        let salvage = Store::builder().salvage(evenkeel::Salvage::CutLog);
        for error in [
            Store::open(&path).unwrap_err(),
            salvage.open(&path).unwrap_err(),
        ] {
            match error {
                Error::NewerFormat {
                    path,
                    found,
                    supported,
                } => {
                    assert_eq!((path.as_path(), found, supported), (file.as_path(), 7, 1));
                }
                other => panic!("{}: {other}", file.display()),
            }
        }
        assert!(
            bytes_below(&path) == before,
            "{} was not left alone",
            file.display()
        );
        fs::write(&file, &good).unwrap();
    }
    check_closed_store(&path);
}

#[test]
fn an_empty_or_cut_file_is_noticed_whichever_it_is() {
    for len in [0, 1, 11, 40] {
        for which in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            closed_store(&path);
            let (file, _) = formats(&path).swap_remove(which);
            let good = fs::read(&file).unwrap();
            fs::write(&file, &good[..len]).unwrap();
            match Store::open(&path) {
                Ok(store) => {
                    assert!(
                        !store.recovery().is_clean(),
                        "{} cut to {len}",
                        file.display()
                    );
                    store.close().unwrap();
                }
                Err(error) => {
                    let named = |path: &Path| file.starts_with(path);
                    assert!(
                        matches!(&error, Error::Corrupt(damage) if named(&damage.path)),
                        "{error}"
                    );
                    fs::write(&file, &good).unwrap();
                }
            }
            check_closed_store(&path);
        }
    }
}
