//! The schema version of the state: it is found again however a store was left, commits
//! carry it, and a program that knows none so high leaves the folder as it was.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::*;
use crate::clock::SystemClock;
use crate::engine::commit::{Batch, Op, SlotBatch};
use crate::engine::feed::{Step, Values};
use crate::image::choice::FILES;
use crate::image::sled::SledOptions;
use crate::scope::Scope;
use crate::sync::thread;
use crate::vfs::RealVfs;
use crate::wal::LogOptions;

fn options(schema_max: Option<u32>) -> EngineOptions {
    EngineOptions {
        background: false,
        log: LogOptions {
            segment_bytes_min: 8192,
            segment_bytes_max: 8192,
            ..LogOptions::default()
        },
        schema_max,
        ..EngineOptions::default()
    }
}

fn components() -> Components {
    Components {
        vfs: Arc::new(RealVfs),
        image: Choice::AsMade {
            sled: SledOptions::default(),
            files: FILES,
        },
        clock: Arc::new(SystemClock),
    }
}

fn open(root: &Path, schema_max: Option<u32>) -> Result<Arc<Engine>> {
    Engine::open(root, options(schema_max), components())
}

/// Commits one key; `schema` is what the commit switches to.
fn commit(engine: &Arc<Engine>, key: u32, schema: Option<u32>) -> Lsn {
    commit_all(engine, key..key + 1, schema)
}

fn commit_all(engine: &Arc<Engine>, keys: Range<u32>, schema: Option<u32>) -> Lsn {
    let put = |key: u32| {
        let cell = Op::Put(Arc::from([0, 0].as_slice()));
        (key.to_be_bytes().to_vec(), cell)
    };
    let slot = engine.slot(&Scope::Global.encode());
    let batch = Batch {
        schema,
        ..Batch::of([SlotBatch::of(slot, keys.map(put))])
    };
    engine.commit(&batch).unwrap()
}

fn commits(engine: &Arc<Engine>, count: u32) {
    for key in 0..count {
        commit(engine, key, None);
    }
}

/// The version that each commit behind `from` carries.
fn carried(engine: &Arc<Engine>, from: Lsn) -> Vec<(Lsn, u32)> {
    engine.sync(engine.visible()).unwrap();
    let mut tap = engine.tap(Some(from), Values::default()).unwrap();
    let mut carried = Vec::new();
    loop {
        match tap.step(&|_, _| true).unwrap() {
            Step::Commit(commit) => carried.push((commit.lsn, commit.schema)),
            Step::Passed => {}
            Step::End => return carried,
        }
    }
}

/// What is in a folder: files with their bytes, folders without.
fn content(root: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = match path.is_dir() {
                true => {
                    folders.push(path.clone());
                    None
                }
                false => Some(fs::read(&path).unwrap()),
            };
            found.insert(path.strip_prefix(root).unwrap().to_path_buf(), bytes);
        }
    }
    found
}

fn write_out(content: &BTreeMap<PathBuf, Option<Vec<u8>>>, root: &Path) {
    fs::create_dir(root).unwrap();
    for (path, bytes) in content {
        match bytes {
            Some(bytes) => fs::write(root.join(path), bytes).unwrap(),
            None => fs::create_dir(root.join(path)).unwrap(),
        }
    }
}

/// A store that switched to version 3 on its way, as it was left.
fn left(how: &str) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let mut options = options(None);
    options.snapshots = how != "without snapshots, closed";
    let engine = Engine::open(&root, options, components()).unwrap();
    commits(&engine, 200);
    commit(&engine, 200, Some(9));
    if how == "the image is older, killed" {
        engine.checkpoint().unwrap();
    }
    commit(&engine, 201, Some(3));
    commits(&engine, 200);
    match how {
        "the image is newer, killed" => drop(engine.checkpoint().unwrap()),
        "trimmed, killed" | "trimmed, closed" => {
            engine.checkpoint().unwrap();
            engine.snapshot().unwrap();
        }
        "behind the snapshot, killed" => {
            engine.checkpoint().unwrap();
            engine.snapshot().unwrap();
            commits(&engine, 3);
        }
        _ => {}
    }
    engine.sync(engine.visible()).unwrap();
    if how.ends_with("closed") {
        engine.close().unwrap();
    }
    let content = content(&root);
    engine.close().unwrap();
    content
}

const LEFT: [&str; 8] = [
    "closed",
    "killed",
    "the image is older, killed",
    "the image is newer, killed",
    "trimmed, killed",
    "trimmed, closed",
    "behind the snapshot, killed",
    "without snapshots, closed",
];

/// Takes away what a store can do without.
fn harm(root: &Path, what: &str) {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    match what {
        "no MANIFEST" => drop(fs::remove_file(root.join("MANIFEST"))),
        "a damaged MANIFEST" if root.join("MANIFEST").exists() => flip(&root.join("MANIFEST")),
        "no image" => fs::remove_dir_all(root.join("image")).unwrap(),
        "a damaged snapshot" => {
            for entry in fs::read_dir(root.join("snapshots")).unwrap() {
                flip(&entry.unwrap().path());
            }
        }
        "no empty folders" => {
            for name in ["image", "snapshots"] {
                // One that holds something stays.
                let _ = fs::remove_dir(root.join(name));
            }
        }
        _ => {}
    }
}

const HARMS: [&str; 6] = [
    "nothing",
    "no MANIFEST",
    "a damaged MANIFEST",
    "no image",
    "a damaged snapshot",
    "no empty folders",
];

/// Without either the state is lost, which is another matter.
fn is_lost(how: &str, what: &str) -> bool {
    how == "without snapshots, closed"
        && what != "nothing"
        && what != "no empty folders"
        && what != "a damaged snapshot"
}

#[test]
fn the_version_is_found_however_a_store_was_left() {
    for how in LEFT {
        let content = left(how);
        for what in HARMS.into_iter().filter(|what| !is_lost(how, what)) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("store");
            write_out(&content, &root);
            harm(&root, what);
            for found in [3, 3, 5] {
                let engine = open(&root, Some(found)).unwrap();
                assert_eq!(engine.schema(), found, "{how}, {what}");
                let before = engine.visible();
                commits(&engine, 2);
                let carried = carried(&engine, before);
                assert_eq!(carried.len(), 2);
                assert!(carried.iter().all(|(_, schema)| *schema == found));
                // The second time it is found as the first one left it.
                if engine.recovery().epoch.get() > 2 {
                    commit(&engine, 7, Some(5));
                }
                engine.close().unwrap();
            }
        }
    }
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_changed() {
    for how in LEFT {
        let content_left = left(how);
        for what in HARMS.into_iter().filter(|what| !is_lost(how, what)) {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("store");
            write_out(&content_left, &root);
            harm(&root, what);
            let before = content(&root);
            for supported in [0, 1, 2] {
                match open(&root, Some(supported)) {
                    Err(Error::NewerSchema {
                        path,
                        found: 3,
                        supported: told,
                    }) => assert_eq!((path, told), (root.clone(), supported)),
                    other => panic!("{how}, {what}: {other:?}"),
                }
                assert!(content(&root) == before, "{how}, {what}: changed");
            }
            // The lock is free, too.
            let engine = open(&root, Some(3)).unwrap();
            assert_eq!(engine.schema(), 3);
            engine.close().unwrap();
        }
    }
}

#[test]
fn what_salvage_gives_up_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    write_out(&left("killed"), &root);
    // The segment that the switch to 3 is in is behind the first one.
    let mut segments: Vec<_> = fs::read_dir(root.join("wal")).unwrap().collect();
    segments.sort_by_key(|entry| entry.as_ref().unwrap().path());
    let second = segments[1].as_ref().unwrap().path();
    let mut bytes = fs::read(&second).unwrap();
    bytes[5000] ^= 1;
    fs::write(&second, bytes).unwrap();
    assert!(matches!(open(&root, Some(1)), Err(Error::Corrupt(_))));
    let salvage = EngineOptions {
        salvage: true,
        ..options(Some(1))
    };
    let engine = Engine::open(&root, salvage, components()).unwrap();
    assert!(!engine.recovery().lost.is_empty());
    assert_eq!(engine.schema(), 0);
}

#[test]
fn a_commit_carries_the_version_that_counts_at_its_lsn() {
    const COMMITS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let engine = open(&folder.path().join("store"), None).unwrap();
    let first = engine.visible();
    let mut switched = BTreeMap::from([(first, 0)]);
    // Of so many keys that a version changes while its body is made.
    let writers = [0, 1].map(|_| {
        let engine = Arc::clone(&engine);
        thread::spawn(move || {
            for _ in 0..COMMITS {
                commit_all(&engine, 0..2000, None);
            }
        })
    });
    let mut schema = 0;
    let writing = || writers.iter().any(|writer| !writer.is_finished());
    while writing() {
        schema += 1;
        let lsn = commit(&engine, 9, Some(schema));
        switched.insert(lsn, schema);
        // One of them has just committed, and the other has its body.
        while engine.visible() == lsn && writing() {
            thread::yield_now();
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
    let carried = carried(&engine, first);
    assert_eq!(carried.len(), 2 * COMMITS + schema as usize);
    for (lsn, schema) in carried {
        let (_, expected) = switched.range(..=lsn).next_back().unwrap();
        assert_eq!(schema, *expected, "LSN {lsn}");
    }
}

#[test]
fn a_commit_that_only_switches_counts() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let mut engine = open(&root, None).unwrap();
    commits(&engine, 3);
    engine.checkpoint().unwrap();
    let only = Batch {
        schema: Some(4),
        ..Batch::default()
    };
    engine.commit(&only).unwrap();
    for _ in 0..3 {
        engine.checkpoint().unwrap();
        engine.snapshot().unwrap();
        engine.close().unwrap();
        engine = open(&root, None).unwrap();
        assert_eq!(engine.schema(), 4);
    }
}

#[test]
fn a_store_in_memory_has_one_and_persisting_takes_it_along() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Engine::in_memory(options(None), Arc::new(SystemClock));
    let mut tap = memory.tap(None, Values::default()).unwrap();
    commit(&memory, 1, None);
    commit(&memory, 2, Some(6));
    let mut schemas = Vec::new();
    while let Step::Commit(commit) = tap.step(&|_, _| true).unwrap() {
        schemas.push(commit.schema);
    }
    assert_eq!(schemas, [0, 6]);
    let root = folder.path().join("store");
    let kept = memory.persist(&root, options(None), components()).unwrap();
    assert_eq!((memory.schema(), kept.schema()), (6, 6));
    let before = kept.visible();
    commits(&kept, 1);
    assert_eq!(carried(&kept, before)[0].1, 6);
    kept.close().unwrap();
    assert_eq!(open(&root, None).unwrap().schema(), 6);
}

#[test]
fn an_image_that_this_build_has_no_backend_for_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let of_files = Components {
        image: Choice::Chosen(FILES.unwrap()(Arc::new(RealVfs))),
        ..components()
    };
    let engine = Engine::open(&root, options(None), of_files).unwrap();
    commits(&engine, 3);
    engine.checkpoint().unwrap();
    // Killed, and so with a tail that an opening puts away.
    drop(engine);
    let before = content(&root);
    let without = Components {
        image: Choice::AsMade {
            sled: SledOptions::default(),
            files: None,
        },
        ..components()
    };
    let error = Engine::open(&root, options(None), without).unwrap_err();
    assert!(
        matches!(&error, Error::MissingFeature { path, feature: "file-image" } if path.starts_with(&root)),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("build with evenkeel's feature `file-image`")
    );
    assert_eq!(content(&root), before);
    // With it, the manifest decides, and not a folder that is newer.
    fs::create_dir(root.join("image/99")).unwrap();
    fs::write(root.join("image/99/conf"), "").unwrap();
    let engine = open(&root, None).unwrap();
    assert!(engine.recovery().healed.is_empty());
    assert_eq!(engine.recovery().image_lsn, Lsn::new(4));
}
