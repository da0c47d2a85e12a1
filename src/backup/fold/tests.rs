//! The fold against a map that does the same.

#![cfg(feature = "testing")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::engine::body::BodyWriter;
use crate::scope::Scope;
use crate::vfs::sim::SimDisk;

const OLD: StoreId = StoreId::from_bytes(*b"0123456789abcdef");
const NEW: StoreId = StoreId::from_bytes(*b"fedcba9876543210");

/// What a commit does in one scope.
#[derive(Clone, Debug)]
struct Part {
    scope: u8,
    clear: bool,
    writes: BTreeMap<u8, Option<Vec<u8>>>,
}

const PASS_BYTES: u64 = 64 * 1024 * 1024;

fn sizes(pass_bytes: u64) -> Sizes {
    Sizes {
        block_bytes: 256,
        pass_bytes,
    }
}

type Commit = Vec<Part>;
/// Key, LSN and cell.
type State = BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>;

/// Neighbours in order, one that others begin with, and one of the store's own.
fn scope(number: u8) -> Scope {
    match number {
        0 => Scope::Global,
        1 => Scope::custom(""),
        2 => Scope::custom("a"),
        3 => Scope::custom("a\0"),
        4 => Scope::worker("w"),
        _ => Scope::system("settings"),
    }
}

fn body(commit: &Commit) -> Vec<u8> {
    let mut writer = BodyWriter::new(0);
    for part in commit {
        writer.scope(&scope(part.scope).encode());
        if part.clear {
            writer.clear();
        }
        for (&key, cell) in &part.writes {
            writer.write(&[key; 3], &cell.as_deref().map(Arc::from));
        }
    }
    writer.bytes().to_vec()
}

fn apply(state: &mut State, lsn: Lsn, commit: &Commit) {
    for part in commit {
        let prefix = scope(part.scope).encode();
        if part.clear {
            state.retain(|key, _| !key.starts_with(&prefix));
        }
        for (&key, cell) in &part.writes {
            let key = [&prefix[..], &[key; 3]].concat();
            match cell {
                Some(cell) => drop(state.insert(key, (lsn, cell.clone()))),
                None => drop(state.remove(&key)),
            }
        }
    }
}

fn read(disk: &SimDisk, path: &Path, store: StoreId) -> (SnapshotInfo, State) {
    let mut reader = SnapshotReader::open(disk, path, Some(store)).unwrap();
    let mut state = State::new();
    while let Some(section) = reader.next_section().unwrap() {
        for entry in section.block.entries_from(0) {
            state.insert(entry.key(), (entry.lsn, entry.cell.to_vec()));
        }
    }
    (*reader.info(), state)
}

fn header(store: StoreId, lsn: Lsn) -> SnapshotHeader {
    SnapshotHeader {
        store,
        origin: (store == NEW).then_some(OLD),
        lsn,
        time_micros: lsn.get() * 10,
        schema: 3,
    }
}

/// Folds commits behind `lsn`, with so much memory, into blocks of 256 bytes.
fn folded(
    disk: &SimDisk,
    base: Option<&Path>,
    (lsn, commits): (u64, &[Commit]),
    pass_bytes: u64,
    seal: Option<Seal<'_>>,
) -> (PathBuf, Folded, u64) {
    let (old, new) = (base.is_none(), base.is_some());
    let store = if old { OLD } else { NEW };
    let mut fold = Fold::new(disk, Path::new(""), store, sizes(pass_bytes));
    if let Some(base) = base {
        fold = fold.with_base(base, OLD);
    }
    let mut at = lsn;
    for commit in commits {
        at += 1;
        let path = Path::new("archive");
        fold.commit(Lsn::new(at), &body(commit), path).unwrap();
    }
    let passes = fold.passes + 1;
    let path = PathBuf::from(if new { "new.snap" } else { "base.snap" });
    let header = header(store, Lsn::new(at.max(1)));
    let folded = fold.finish(&path, header, seal).unwrap();
    assert_eq!(folded.info.header, header);
    (path, folded, passes)
}

fn commits(most: usize) -> impl Strategy<Value = Vec<Commit>> {
    let cell = proptest::option::weighted(0.7, vec(any::<u8>(), 1..60));
    let writes = proptest::collection::btree_map(0..40_u8, cell, 0..12);
    let part = (0..6_u8, proptest::bool::weighted(0.15), writes);
    let part = part.prop_map(|(scope, clear, writes)| Part {
        scope,
        clear,
        writes,
    });
    let commit = vec(part, 1..4).prop_map(|mut parts| {
        parts.sort_by_key(|part| part.scope);
        parts.dedup_by_key(|part| part.scope);
        parts
    });
    vec(commit, 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_fold_is_what_a_map_becomes(
        before in commits(30),
        behind in commits(30),
        pass_bytes in prop_oneof![Just(1), 200..4000_u64, Just(PASS_BYTES)],
        sealed in any::<bool>(),
    ) {
        let disk = SimDisk::new(1);
        let mut state = State::new();
        for (lsn, commit) in (1..).zip(&before) {
            apply(&mut state, Lsn::new(lsn), commit);
        }
        let (base, ..) = folded(&disk, None, (0, &before), pass_bytes, None);
        let (_, found) = read(&disk, &base, OLD);
        prop_assert_eq!(&found, &state);

        let first = before.len() as u64;
        for (lsn, commit) in (first + 1..).zip(&behind) {
            apply(&mut state, Lsn::new(lsn), commit);
        }
        let last = Lsn::new((first + behind.len() as u64).max(1));
        let key = [&scope(5).encode()[..], &[20; 3]].concat();
        let old = state.get(&key).map(|(_, cell)| cell.clone());
        // Only what no commit behind writes is given to the seal.
        let expected = match behind.is_empty() {
            true => old,
            false => None,
        };
        let sealed = sealed && behind.iter().flatten().all(|part| part.scope != 5);
        let seal = |cell: Option<&[u8]>| {
            if let Some(expected) = &expected {
                assert_eq!(cell, Some(&expected[..]));
            }
            Ok(Arc::from([b"sealed:", cell.unwrap_or_default()].concat()))
        };
        let seal = sealed.then(|| Seal { key: key.clone(), lsn: last, amend: Box::new(seal) });
        if sealed {
            let old = state.get(&key).map(|(_, cell)| cell.clone()).unwrap_or_default();
            state.insert(key.clone(), (last, [&b"sealed:"[..], &old].concat()));
        }
        let bytes = disk.read(&base).unwrap();
        let (path, outcome, _) =
            folded(&disk, Some(&base), (first, &behind), pass_bytes, seal);
        let (info, found) = read(&disk, &path, NEW);
        prop_assert_eq!(&found, &state);
        prop_assert_eq!(info, outcome.info);
        prop_assert_eq!(info.entries, state.len() as u64);
        let users = state.keys().filter(|key| !is_system(key)).count();
        prop_assert_eq!(outcome.user_entries, users as u64);
        // The base is as it was, and nothing else is left.
        prop_assert_eq!(disk.read(&base).unwrap(), bytes);
        prop_assert_eq!(disk.files().len(), 2);
    }
}

/// A commit that writes so many keys of the global scope.
fn wide(keys: std::ops::Range<u8>, cell: &[u8]) -> Commit {
    vec![Part {
        scope: 0,
        clear: false,
        writes: keys.map(|key| (key, Some(cell.to_vec()))).collect(),
    }]
}

#[test]
fn memory_is_bounded_by_passes() {
    let disk = SimDisk::new(1);
    let all: Vec<_> = (0..30).map(|n| wide(n * 8..n * 8 + 8, &[n; 500])).collect();
    let (_, _, passes) = folded(&disk, None, (0, &all), 40_000, None);
    assert_eq!(passes, 4, "30 commits of about 5 KB");
    // What is overwritten takes no more than once.
    let same: Vec<_> = (0..200).map(|n| wide(0..8, &[n; 500])).collect();
    let (path, _, passes) = folded(&disk, None, (0, &same), 40_000, None);
    assert_eq!(passes, 1);
    assert!(
        read(&disk, &path, OLD)
            .1
            .values()
            .all(|(_, cell)| *cell == [199; 500])
    );
}

#[test]
fn blocks_that_nothing_changed_are_taken_over() {
    let disk = SimDisk::new(1);
    let all = [wide(0..200, b"0123456789")];
    let (base, ..) = folded(&disk, None, (0, &all), PASS_BYTES, None);
    let blocks = |path: &Path, store| {
        let mut reader = SnapshotReader::open(&disk, path, Some(store)).unwrap();
        std::iter::from_fn(|| reader.next_section().unwrap())
            .map(|section| section.block.bytes().to_vec())
            .collect::<Vec<_>>()
    };
    let old = blocks(&base, OLD);
    let one = [wide(100..101, b"other")];
    let (path, ..) = folded(&disk, Some(&base), (1, &one), PASS_BYTES, None);
    let new = blocks(&path, NEW);
    let kept = new.iter().filter(|block| old.contains(block)).count();
    assert!(
        old.len() > 20 && kept >= old.len() - 2,
        "{kept} of {}",
        old.len()
    );
    // Small pieces do not add up: a quarter of a block joins the next one.
    assert!(new.len() <= old.len() + 1);
}

#[test]
fn a_base_that_is_damaged_or_of_another_store_is_told() {
    let disk = SimDisk::new(1);
    let (base, ..) = folded(&disk, None, (0, &[wide(0..50, b"x")]), PASS_BYTES, None);
    let fold = |store| {
        let fold = Fold::new(&disk, Path::new(""), NEW, sizes(PASS_BYTES)).with_base(&base, store);
        fold.finish(Path::new("new"), header(NEW, Lsn::new(9)), None)
    };
    assert!(fold(OLD).is_ok());
    assert!(matches!(fold(NEW), Err(Error::Corrupt(e)) if e.path == base));
    let mut bytes = disk.read(&base).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    disk.write(&base, &bytes).unwrap();
    assert!(matches!(fold(OLD), Err(Error::Corrupt(e)) if e.path == base));
}

#[test]
fn a_body_that_makes_no_sense_is_told_with_its_file_and_lsn() {
    let disk = SimDisk::new(1);
    let mut fold = Fold::new(&disk, Path::new(""), NEW, sizes(PASS_BYTES));
    let bad = fold.commit(Lsn::new(7), &[0, 0, 9], Path::new("archive"));
    let Err(Error::Corrupt(found)) = bad else {
        panic!("{bad:?}");
    };
    assert_eq!(found.path, Path::new("archive"));
    assert_eq!(found.lsn, Some(Lsn::new(7)));
}
