//! Importing a folder of sled's: trees in order, the folder untouched, and what is no
//! database, is damaged, or is in use.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fs;
use std::ops::ControlFlow::{Break, Continue};
use std::path::Path;

use evenkeel::{Error, ImportOutcome, ImportPhase, Scope, Store, Value};

use crate::parts::state;

const TREES: [&str; 3] = ["__sled__default", "orders", "users"];

/// Makes a database with the default tree and two others.
pub(crate) fn make_database(path: &Path, count: u64) {
    let db = sled::open(path).unwrap();
    for n in 0..count {
        let tree = db.open_tree(TREES[n as usize % 3]).unwrap();
        let value = format!("value {n} {}", "x".repeat(n as usize % 50));
        tree.insert(n.to_be_bytes(), value.as_bytes()).unwrap();
    }
    db.open_tree("empty").unwrap();
    db.flush().unwrap();
}

type Mapped = Option<(Scope, String, Value)>;

/// What becomes of an entry; those of each hundredth number are left out.
pub(crate) fn mapped(
    tree: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<Mapped, Box<dyn StdError + Send + Sync>> {
    let number = u64::from_be_bytes(key.try_into()?);
    if number % 100 == 99 {
        return Ok(None);
    }
    let scope = Scope::custom(std::str::from_utf8(tree)?);
    Ok(Some((scope, format!("{number:08}"), Value::from(value))))
}

/// All files of a folder, with their bytes and times.
fn content(folder: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let files = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().display().to_string();
            let modified = entry.metadata().unwrap().modified().unwrap();
            (name, (fs::read(entry.path()).unwrap(), modified))
        })
        .collect()
}

#[test]
fn all_trees_come_in_order_and_the_folder_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (path, temporary) = (folder.path().join("old"), folder.path().join("temporary"));
    fs::create_dir(&temporary).unwrap();
    make_database(&path, 1000);
    // sled lets go of the folder late, and may write until then.
    fs::File::open(path.join("db")).unwrap().lock().unwrap();
    let before = content(&path);
    let store = Store::in_memory();
    let mut seen = Vec::new();
    let import = store.import("old").temporary_folder(&temporary);
    let report = import.sled(&path, |tree, key, value| {
        seen.push((tree.to_vec(), key.to_vec()));
        mapped(tree, key, value)
    });
    let report = report.unwrap();
    assert_eq!(content(&path), before);
    assert_eq!(seen.len(), 1000);
    assert!(seen.is_sorted());
    assert_eq!((report.imported, report.total.skipped), (990, 10));
    let scope = store.scope(Scope::custom("orders"));
    let found: Value = scope.get("00000001").unwrap().unwrap();
    assert_eq!(found, Value::from(&b"value 1 x"[..]));
    let again = store.import("old").temporary_folder(&temporary);
    let again = again.sled(&path, mapped).unwrap();
    assert_eq!(
        (again.outcome, again.imported),
        (ImportOutcome::AlreadyDone, 0)
    );
    assert_eq!(content(&path), before);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
    let default = store.scope(Scope::custom("__sled__default"));
    assert_eq!(default.len().unwrap(), 334 - 4);
}

#[test]
fn a_large_tree_comes_in_parts_and_stops_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    let db = sled::Config::new()
        .path(&path)
        .segment_size(256 * 1024)
        .open()
        .unwrap();
    for n in 0..3000_u64 {
        db.insert(n.to_be_bytes(), vec![n as u8; 2000]).unwrap();
    }
    // One that sled puts into a file of its own.
    db.insert(3000_u64.to_be_bytes(), vec![7; 1_000_000])
        .unwrap();
    db.flush().unwrap();
    drop(db);
    let store = Store::in_memory();
    let (mut runs, mut imported) = (0, 0);
    loop {
        let import = store
            .import("old")
            .batch_bytes(700_000)
            .progress(|p| match p.phase {
                ImportPhase::Importing => Break(()),
                _ => Continue(()),
            });
        let report = import.sled(&path, |_, key, value| {
            let key = u64::from_be_bytes(key.try_into()?);
            Ok(Some((
                Scope::Global,
                format!("{key:04}"),
                Value::from(value),
            )))
        });
        let report = report.unwrap();
        (runs, imported) = (runs + 1, imported + report.imported);
        if report.outcome == ImportOutcome::Finished {
            break;
        }
    }
    assert_eq!(imported, 3001);
    assert!(runs > 3, "{runs}");
    let found: Value = store.global().get("3000").unwrap().unwrap();
    assert_eq!(found.as_bytes().map(<[u8]>::len), Some(1_000_000));
}

#[test]
fn an_error_of_the_function_names_tree_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    make_database(&path, 30);
    let store = Store::in_memory();
    let failed = store.import("old").sled(&path, |tree, key, value| {
        if key[7] == 4 {
            return Err("it is the fourth".into());
        }
        mapped(tree, key, value)
    });
    let error = failed.unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(
            error,
            Error::Malformed {
                line: 12,
                imported: 11,
                ..
            }
        ),
        "{said}"
    );
    assert!(
        said.contains(r#"tree "orders", key "\x00\x00\x00\x00\x00\x00\x00\x04""#),
        "{said}"
    );
    assert!(said.contains("it is the fourth"), "{said}");
    assert_eq!(state(&store).len(), 11);
    let panicked = store.import("old").sled(&path, |tree, key, value| {
        assert!(tree != b"users", "boom");
        mapped(tree, key, value)
    });
    let said = panicked.unwrap_err().to_string();
    assert!(
        said.contains("boom") && said.contains("\"users\""),
        "{said}"
    );
    store.import("old").sled(&path, mapped).unwrap();
    assert_eq!(state(&store).len(), 30);
    // Another database under the same name.
    let other = folder.path().join("other");
    make_database(&other, 31);
    let error = store.import("old").sled(&other, mapped).unwrap_err();
    assert!(matches!(error, Error::SourceChanged { .. }), "{error}");
}

#[test]
fn what_is_no_database_is_refused_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_memory();
    let error = |path: &Path| store.import("old").sled(path, mapped).unwrap_err();
    let missing = folder.path().join("missing");
    assert!(matches!(error(&missing), Error::Io { path, .. } if path == missing));
    assert!(!missing.exists());
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(error(&empty), Error::NotAStore { path, .. } if path == empty));
    fs::write(empty.join("db"), b"").unwrap();
    assert!(matches!(error(&empty), Error::NotAStore { .. }));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 1);
    let file = folder.path().join("file");
    fs::write(&file, b"text").unwrap();
    assert!(matches!(error(&file), Error::NotAStore { path, .. } if path == file));
    // A store of ours is none of sled's.
    let ours = folder.path().join("ours");
    Store::open(&ours).unwrap().close().unwrap();
    assert!(matches!(error(&ours), Error::NotAStore { .. }));
    assert_eq!(store.imports().unwrap(), []);
}

#[test]
fn one_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    let db = sled::open(&path).unwrap();
    db.insert("a", "b").unwrap();
    db.flush().unwrap();
    let store = Store::in_memory();
    let error = store.import("old").sled(&path, mapped).unwrap_err();
    assert!(matches!(error, Error::Locked { path: found } if found == path));
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"b"[..]));
}

#[test]
fn a_damaged_one_is_an_error_or_what_sled_still_has() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    make_database(&path, 2000);
    let whole = Store::in_memory();
    whole.import("old").sled(&path, mapped).unwrap();
    let whole = state(&whole);
    let (conf, db) = (path.join("conf"), path.join("db"));
    let (good_conf, good_db) = (fs::read(&conf).unwrap(), fs::read(&db).unwrap());
    for bad in [
        &b""[..],
        b"segment_size: x\n____",
        b"nonsense\xff\xfe",
        &[0; 9000],
    ] {
        fs::write(&conf, bad).unwrap();
        let error = Store::in_memory().import("old").sled(&path, mapped);
        assert!(
            matches!(error, Err(Error::Corrupt(_))),
            "{bad:?}: {error:?}"
        );
    }
    for (from, to) in [
        ("compression: false", "compression: true"),
        ("version: 0.34", "version: 0.33"),
    ] {
        let text = String::from_utf8_lossy(&good_conf[..good_conf.len() - 4]).into_owned();
        let text = text.replace(from, to);
        let mut bytes = text.clone().into_bytes();
        bytes.extend_from_slice(&[0; 4]);
        fs::write(&conf, bytes).unwrap();
        let error = Store::in_memory().import("old").sled(&path, mapped);
        assert!(
            matches!(error, Err(Error::Invalid { .. })),
            "{text}: {error:?}"
        );
    }
    fs::write(&conf, &good_conf).unwrap();
    let mut named = 0;
    for step in 0..24 {
        let mut bytes = good_db.clone();
        let at = bytes.len() * step / 24;
        let end = (at + 300).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(&db, bytes).unwrap();
        fs::read_dir(&path).unwrap().for_each(|entry| {
            // Half of the times sled has no snapshot to begin with.
            let path = entry.unwrap().path();
            if step % 2 == 0
                && path
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with("snap")
            {
                fs::remove_file(path).unwrap();
            }
        });
        let store = Store::in_memory();
        match store.import("old").sled(&path, mapped) {
            Ok(_) => {
                let wrong = state(&store)
                    .into_iter()
                    .find(|entry| !whole.contains(entry));
                assert_eq!(wrong, None, "step {step}");
            }
            Err(Error::Corrupt(_) | Error::Malformed { .. }) => named += 1,
            Err(e) => panic!("step {step}: {e}"),
        }
        store.global().set("it goes on", 1).unwrap();
    }
    println!("{named} of 24 damaged databases were refused");
}
