//! The rebuild of the image from snapshot and log: what it comes to, that it tells how far
//! it is, and that it can be stopped. That damage is found and healed is in `tests/damage`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use evenkeel::testing::FolderBackend;
use evenkeel::{Builder, Durability, Error, RealVfs, RebuildPhase, RebuildProgress, Scope, Store};

type State = BTreeMap<(u8, u32), Vec<u8>>;

fn builder() -> Builder {
    Store::builder()
        .image(Arc::new(FolderBackend::new(Arc::new(RealVfs))))
        .durability(Durability::Memory)
        .background(false)
}

fn scope(number: u8) -> Scope {
    Scope::worker(format!("w{number}"))
}

fn value(key: u32, round: u8) -> Vec<u8> {
    let len = 700 + key as usize % 600;
    (0..len).map(|at| (at as u32 ^ key) as u8 ^ round).collect()
}

/// Writes these keys, all in one round.
fn write(store: &Store, state: &mut State, keys: impl Iterator<Item = u32>, round: u8) {
    let keys: Vec<_> = keys.collect();
    for keys in keys.chunks(500) {
        let written = store.transact(|tx| {
            for &key in keys {
                let scope = tx.scope(scope((key % 3) as u8));
                scope.set(format!("{key:08}"), value(key, round))?;
            }
            Ok(())
        });
        written.unwrap();
    }
    for key in keys {
        state.insert(((key % 3) as u8, key), value(key, round));
    }
}

/// A store whose snapshot is older than its image, and what is in it: keys that were
/// written behind the snapshot, overwritten, deleted, and cleared with their scope.
fn filled(path: &Path, keys: u32, more: u32) -> State {
    let mut state = State::new();
    let store = builder().open(path).unwrap();
    write(&store, &mut state, 0..keys, 0);
    store.checkpoint().unwrap();
    store.snapshot().unwrap();
    write(&store, &mut state, (0..keys).filter(|key| key % 7 == 0), 1);
    for key in (0..keys).filter(|key| key % 11 == 0) {
        let scope = store.scope(scope((key % 3) as u8));
        scope.delete(format!("{key:08}")).unwrap();
        state.remove(&((key % 3) as u8, key));
    }
    store.scope(scope(1)).clear().unwrap();
    state.retain(|&(scope, _), _| scope != 1);
    write(&store, &mut state, keys..keys + more, 2);
    store.checkpoint().unwrap();
    store.close().unwrap();
    state
}

fn check(store: &Store, state: &State) {
    for number in 0..3 {
        let mut found = State::new();
        for entry in store.scope(scope(number)).scan("").unwrap() {
            let entry = entry.unwrap();
            let key = entry.key().parse().unwrap();
            found.insert((number, key), entry.value::<Vec<u8>>().unwrap());
        }
        let wanted = state.range((number, 0)..(number + 1, 0));
        assert!(found.iter().eq(wanted), "scope {number}: {}", found.len());
    }
}

fn images(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join("image")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Removes what is in the image.
fn damage(path: &Path) {
    for image in images(path) {
        for piece in fs::read_dir(image).unwrap() {
            fs::remove_file(piece.unwrap().path()).unwrap();
        }
    }
}

type Told = Arc<Mutex<Vec<RebuildProgress>>>;

fn told() -> (Told, impl Fn(&RebuildProgress) + Send + Sync) {
    let told = Told::default();
    let teller = Arc::clone(&told);
    (told, move |progress: &RebuildProgress| {
        teller.lock().unwrap().push(*progress);
    })
}

/// That it goes on from word to word, and comes to its end.
fn check_told(told: &[RebuildProgress], keys: usize) {
    for pair in told.windows(2) {
        let [before, now] = pair else { panic!() };
        assert!(before.keys <= now.keys, "{pair:?}");
        assert_eq!(before.keys_total, now.keys_total);
        let goes_on = before.phase == now.phase && before.bytes_total == now.bytes_total;
        assert!(!goes_on || before.bytes <= now.bytes, "{pair:?}");
        assert!(now.bytes <= now.bytes_total, "{now:?}");
    }
    let last = told.last().unwrap();
    assert_eq!(last.phase, RebuildPhase::Image);
    assert_eq!((last.keys, last.keys_total), (keys as u64, keys as u64));
    assert_eq!(last.bytes, last.bytes_total);
}

#[test]
fn an_opening_tells_how_far_its_rebuild_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let state = filled(&path, 4_000, 2_000);
    damage(&path);
    let (told, teller) = told();
    let store = builder().rebuild_progress(teller).open(&path).unwrap();
    assert_eq!(store.recovery().healed.len(), 1);
    check(&store, &state);
    let told = told.lock().unwrap();
    check_told(&told, state.len());
    let megabytes = told.last().unwrap().bytes_total >> 20;
    let of = |phase| told.iter().filter(|told| told.phase == phase).count();
    assert_eq!(told[0].phase, RebuildPhase::Log);
    assert!(of(RebuildPhase::Image) as u64 >= megabytes.max(2));
    store.close().unwrap();
}

#[test]
fn where_the_manifest_is_missing_the_snapshot_says_how_much_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let state = filled(&path, 3_000, 1_000);
    fs::remove_file(path.join("MANIFEST")).unwrap();
    let (told, teller) = told();
    let store = builder().rebuild_progress(teller).open(&path).unwrap();
    check(&store, &state);
    check_told(&told.lock().unwrap(), 3_000);
    store.close().unwrap();
}

#[test]
fn changes_that_memory_has_no_room_for_are_read_by_ranges_of_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    // More than twenty megabytes behind the snapshot, with room for sixteen.
    let state = filled(&path, 1_000, 16_000);
    damage(&path);
    let (told, teller) = told();
    let builder = builder().cache_bytes(0).rebuild_progress(teller);
    let store = builder.open(&path).unwrap();
    check(&store, &state);
    let told = told.lock().unwrap();
    check_told(&told, state.len());
    let begins = |pair: &&[RebuildProgress]| pair[1].phase == RebuildPhase::Log;
    let turns = told
        .windows(2)
        .filter(|pair| pair[0].phase == RebuildPhase::Image);
    assert!(turns.filter(begins).count() >= 1, "one range");
    store.close().unwrap();
}

#[test]
fn a_rebuild_that_is_stopped_anywhere_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let state = filled(&path, 4_000, 2_000);
    damage(&path);
    let before = images(&path);
    for words in [0, 1, 2, 4] {
        let heard = Mutex::new(0);
        let stopped = builder().rebuild_progress(move |_| {
            let mut heard = heard.lock().unwrap();
            *heard += 1;
            match *heard > words {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let stopped = stopped.open(&path).unwrap_err();
        assert!(matches!(stopped, Error::Stopped { .. }), "{stopped:?}");
        assert_eq!(images(&path), before, "what it began is removed");
    }
    let store = builder().open(&path).unwrap();
    check(&store, &state);
    store.close().unwrap();
}

/// What somebody answers who is told of a rebuild.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Stop,
    Panic,
    Call,
    GoOn,
}

#[test]
fn a_call_that_heals_the_image_tells_it_and_is_stopped_by_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let state = filled(&path, 3_000, 1_000);
    let answer = Arc::new(Mutex::new(Answer::Stop));
    let (asked, inside) = (Arc::clone(&answer), Arc::new(Mutex::new(None::<Store>)));
    let caller = Arc::clone(&inside);
    let builder = builder().cache_bytes(0).rebuild_progress(move |_| {
        let answer = *asked.lock().unwrap();
        match answer {
            Answer::Stop => return ControlFlow::Break(()),
            Answer::Panic => panic!("as told"),
            Answer::Call => {
                let store = caller.lock().unwrap();
                let store = store.as_ref().unwrap();
                let called = store.scope(scope(0)).get::<Vec<u8>>("00000003");
                assert!(matches!(called, Err(Error::Nested)), "{called:?}");
            }
            Answer::GoOn => {}
        }
        ControlFlow::Continue(())
    });
    let store = builder.open(&path).unwrap();
    *inside.lock().unwrap() = Some(store.clone());
    damage(&path);
    let read = || store.scope(scope(0)).get::<Vec<u8>>("00000003");
    let stopped = read().unwrap_err();
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped:?}");
    *answer.lock().unwrap() = Answer::Panic;
    let panicked = read().unwrap_err();
    assert!(panicked.to_string().contains("as told"), "{panicked}");
    assert!(matches!(panicked, Error::Panicked { .. }), "{panicked:?}");
    *answer.lock().unwrap() = Answer::Call;
    assert_eq!(read().unwrap(), Some(value(3, 0)));
    *answer.lock().unwrap() = Answer::GoOn;
    check(&store, &state);
    assert_eq!(images(&path).len(), 1);
    assert_eq!(store.stats().unwrap().image_rebuilds, 1);
    inside.lock().unwrap().take();
    store.close().unwrap();
}
