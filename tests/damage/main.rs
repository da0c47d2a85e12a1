//! Damage at rest: every byte of a small store flipped, and every file of it cut,
//! zeroed, removed, made longer and taken from another store. Whatever happens, the
//! store refuses with a typed error, or opens with exactly what was in it and says
//! what it found. Never a wrong value, never an empty store, a panic or a hang.
//!
//! Log, marks, manifest, snapshots and format file are damaged exhaustively over the
//! simulated disk; the real file system with sled takes a seeded share, and every
//! byte of everything with `EVENKEEL_DAMAGE=all`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod fixture;
mod harm;
mod runner;

use std::path::Path;

use evenkeel::{Error, Recovery, Salvage, Store};

use crate::fixture::{Content, Left, Place, Sample};
use crate::harm::{Harm, blows, flips, share, swaps};
use crate::runner::{Outcome, run};

/// Whether a path in a store belongs to the image.
fn of_image(path: &str) -> bool {
    path == "image" || path.starts_with("image/")
}

/// An error that a damaged folder may give, which names a place in it.
fn is_typed(error: &Error) -> bool {
    let names = |path: &Path| !path.as_os_str().is_empty();
    match error {
        Error::Corrupt(damage) => names(&damage.path) && !damage.what.is_empty(),
        Error::NotAStore { path, .. } | Error::NewerFormat { path, .. } => names(path),
        Error::Io { path, .. } => names(path),
        _ => false,
    }
}

fn broken(why: impl Into<String>) -> Outcome {
    Outcome::Broken(why.into())
}

/// Opens a damaged copy and checks everything that must hold.
fn check(sample: &Sample, harm: &Harm) -> Outcome {
    let place = sample.place.copy();
    if !harm.apply(&place) {
        return Outcome::Held("no change");
    }
    let before = place.ours();
    let store = match place.open() {
        Ok(store) => store,
        Err(e) if of_image(harm.path()) => return broken(format!("the image does not heal: {e}")),
        Err(e) if is_typed(&e) && place.ours() == before => return Outcome::Held("refused"),
        Err(e) if is_typed(&e) => return broken(format!("refused, and changed something: {e}")),
        Err(e) => return broken(format!("not an error of damage: {e:?}")),
    };
    match Content::of(&store) {
        Ok(found) if found == sample.content => {}
        Ok(found) => {
            let (found, expected) = (found.keys(), sample.content.keys());
            let recovery = store.recovery();
            return broken(format!("{found} keys, not the {expected}: {recovery:?}"));
        }
        Err(e) => return broken(format!("reading: {e}")),
    }
    let recovery = store.recovery();
    if let Err(e) = works_on(&place, store, &sample.content) {
        return broken(e);
    }
    verdict(sample, harm, &recovery)
}

fn verdict(sample: &Sample, harm: &Harm, recovery: &Recovery) -> Outcome {
    match (recovery.is_clean(), recovery.lost.is_empty()) {
        (_, false) => broken("something was given up without being asked"),
        (false, true) => Outcome::Held("reported"),
        (true, true) if of_image(harm.path()) => Outcome::Held("harmless"),
        (true, true) if sample.left == Left::Killed => Outcome::Held("unvouched"),
        // Marks that say less than the log does.
        (true, true) if matches!(harm, Harm::Swap(path, _, from) if path == "marks" && from.contains("earlier")) => {
            Outcome::Held("stale")
        }
        // It was empty.
        (true, true) if harm.path() == "snapshots" && sample.left == Left::ClosedYoung => {
            Outcome::Held("harmless")
        }
        // Nothing that was written is touched: what lies behind the last frame of a
        // segment is not read.
        (true, true) if matches!(harm, Harm::Grow(path, _) if path.starts_with("wal/")) => {
            Outcome::Held("grown")
        }
        (true, true) => broken("nobody noticed"),
    }
}

/// A store that opened takes writes, closes, and is whole from then on.
fn works_on(place: &Place, store: Store, content: &Content) -> Result<(), String> {
    let text = |e: Error| format!("afterwards: {e}");
    store.global().set("afterwards", 1).map_err(text)?;
    store.global().delete("afterwards").map_err(text)?;
    store.close().map_err(text)?;
    drop(store);
    let store = place.open().map_err(|e| format!("reopening: {e}"))?;
    let recovery = store.recovery();
    if !recovery.is_clean() || !recovery.closed_cleanly {
        return Err(format!("not clean after healing: {recovery:?}"));
    }
    match Content::of(&store).map_err(text)? == *content {
        true => Ok(()),
        false => Err("reopening lost something".into()),
    }
}

fn run_all(title: &str, sample: Sample, harms: Vec<Harm>) {
    run(title, harms, Harm::name, move |harm| check(&sample, harm));
}

fn everything() -> bool {
    std::env::var("EVENKEEL_DAMAGE").is_ok_and(|value| value == "all")
}

/// Files of ours, or those of the image.
fn files(place: &Place, image: bool) -> Vec<(String, u64)> {
    place
        .files()
        .into_iter()
        .filter(|(path, _)| of_image(path) == image)
        .collect()
}

const FOLDERS: [&str; 3] = ["wal", "image", "snapshots"];

fn all_blows(place: &Place) -> Vec<Harm> {
    let mut harms: Vec<_> = place.files().iter().flat_map(blows).collect();
    harms.extend(FOLDERS.map(|folder| Harm::Remove(folder.into())));
    harms
}

fn every_flip(left: Left) {
    let sample = Sample::new(Place::simulated(), left);
    let harms = sample.place.files().iter().flat_map(flips).collect();
    run_all(&format!("flips, {left:?}"), sample, harms);
}

#[test]
fn promise_4_faults_2_to_6_every_byte_of_a_closed_store_flipped() {
    every_flip(Left::Closed);
}

#[test]
fn promise_4_every_byte_of_a_young_store_flipped() {
    every_flip(Left::ClosedYoung);
}

#[test]
fn promise_4_every_byte_of_a_killed_store_flipped() {
    every_flip(Left::Killed);
}

#[test]
fn promise_4_faults_1_8_11_every_file_cut_zeroed_removed_and_grown() {
    for left in [Left::Closed, Left::ClosedYoung, Left::Killed] {
        let sample = Sample::new(Place::simulated(), left);
        let harms = all_blows(&sample.place);
        run_all(&format!("blows, {left:?}"), sample, harms);
    }
}

#[test]
fn fault_28_every_file_of_another_store() {
    for left in [Left::Closed, Left::ClosedYoung, Left::Killed] {
        let sample = Sample::new(Place::simulated(), left);
        let other = Sample::new(Place::simulated(), left);
        let harms = swaps(&sample.place, &other.place, "another store");
        run_all(&format!("swaps, {left:?}"), sample, harms);
    }
}

/// Each file from an earlier copy of the same store: it is whole, and says the wrong
/// thing. It may go unnoticed only where nothing depends on it.
#[test]
fn every_file_of_an_earlier_copy() {
    for left in [Left::Closed, Left::ClosedYoung, Left::Killed] {
        let sample = Sample::new(Place::simulated(), left);
        let swaps = |earlier| swaps(&sample.place, earlier, "an earlier copy");
        let harms: Vec<_> = sample.earlier.iter().flat_map(swaps).collect();
        run_all(&format!("earlier copies, {left:?}"), sample, harms);
    }
}

/// Nothing is left but the format file: what salvage keeps is nothing, and it says so.
#[test]
fn salvage_without_log_image_and_snapshot_keeps_nothing() {
    let sample = Sample::new(Place::simulated(), Left::Closed);
    let place = sample.place.copy();
    place.remove("MANIFEST");
    for (path, len) in sample.place.files() {
        if path.starts_with("snapshots/") || path.starts_with("wal/") {
            assert!(Harm::Cut(path, len / 2).apply(&place));
        }
    }
    for (path, _) in files(&place, false) {
        if path.starts_with("wal/") {
            assert!(Harm::Flip(path, 100).apply(&place));
        }
    }
    assert!(matches!(place.copy().open(), Err(Error::Corrupt(_))));
    let store = place.builder().salvage(Salvage::CutLog).open("state");
    let store = store.unwrap();
    assert_eq!(Content::of(&store).unwrap(), Content::default());
    let lost = store.recovery().lost;
    assert_eq!(lost[0].kept, evenkeel::Lsn::ZERO, "{lost:?}");
    works_on(&place, store, &Content::default()).unwrap();
}

/// Two files at once are more than is healed, but what opens is a state that was: with
/// manifest and snapshot gone, the log behind the snapshot is not the whole state.
#[test]
fn promise_4_every_pair_of_files_hit() {
    for left in [Left::Closed, Left::ClosedYoung, Left::Killed] {
        let sample = Sample::new(Place::simulated(), left);
        let files = sample.place.files();
        let hits = |(path, len): &(String, u64)| {
            [
                Harm::Flip(path.clone(), len / 2),
                Harm::Cut(path.clone(), len / 2),
                Harm::Remove(path.clone()),
            ]
        };
        let mut pairs = Vec::new();
        for (at, one) in files.iter().enumerate() {
            for other in &files[at + 1..] {
                let both = hits(one)
                    .into_iter()
                    .flat_map(|one| hits(other).map(|other| (one.clone(), other)));
                pairs.extend(both);
            }
        }
        let name = |(one, other): &(Harm, Harm)| format!("{} and {}", one.name(), other.name());
        run(
            &format!("pairs, {left:?}"),
            pairs,
            name,
            move |(one, other)| {
                let place = sample.place.copy();
                if !(one.apply(&place) && other.apply(&place)) {
                    return Outcome::Held("no change");
                }
                let store = match place.open() {
                    Ok(store) => store,
                    Err(Error::Corrupt(_)) => return Outcome::Held("refused"),
                    Err(e) => return broken(format!("not an error of damage: {e:?}")),
                };
                match Content::of(&store) {
                    Ok(found) if found == sample.content => Outcome::Held("whole"),
                    Ok(found) if sample.history.contains(&found) => Outcome::Held("a prefix"),
                    Ok(_) => broken(format!("a state that never was: {:?}", store.recovery())),
                    Err(e) => broken(format!("reading: {e}")),
                }
            },
        );
    }
}

#[test]
fn salvage_keeps_a_prefix_and_says_what_is_lost() {
    for left in [Left::Closed, Left::ClosedYoung, Left::Killed] {
        let sample = Sample::new(Place::simulated(), left);
        let log: Vec<_> = files(&sample.place, false)
            .into_iter()
            .filter(|(path, _)| path.starts_with("wal/"))
            .collect();
        let mut harms = share(log.iter().flat_map(flips).collect(), 1500, 11);
        harms.extend(log.iter().flat_map(blows));
        harms.push(Harm::Remove("wal".into()));
        let check = move |harm: &Harm| salvage(&sample, harm);
        run(&format!("salvage, {left:?}"), harms, Harm::name, check);
    }
}

fn salvage(sample: &Sample, harm: &Harm) -> Outcome {
    let place = sample.place.copy();
    if !harm.apply(&place) {
        return Outcome::Held("no change");
    }
    let refused = place.copy().open().is_err();
    let store = match place.builder().salvage(Salvage::CutLog).open("state") {
        Ok(store) => store,
        Err(e) => return broken(format!("salvage refuses: {e}")),
    };
    let lost = store.recovery().lost;
    if refused == lost.is_empty() {
        return broken(format!("refused {refused}, but lost {lost:?}"));
    }
    let kept = match Content::of(&store) {
        Ok(kept) => kept,
        Err(e) => return broken(format!("reading: {e}")),
    };
    if !sample.history.contains(&kept) {
        return broken("what is left was never there");
    }
    if lost.is_empty() && kept != sample.content {
        return broken("less than all is left, and no loss is named");
    }
    match works_on(&place, store, &kept) {
        Ok(()) if lost.is_empty() => Outcome::Held("whole"),
        Ok(()) if kept == sample.content => Outcome::Held("log lost, state whole"),
        Ok(()) => Outcome::Held("a prefix"),
        Err(e) => broken(e),
    }
}

#[test]
fn promise_3_faults_28_on_the_real_disk_with_sled() {
    for left in [Left::Closed, Left::Killed] {
        let sample = Sample::new(Place::real(), left);
        let other = Sample::new(Place::real(), left);
        let (ours, sleds) = (files(&sample.place, false), files(&sample.place, true));
        let mut groups = [
            ours.iter().flat_map(flips).collect(),
            ours.iter().flat_map(blows).collect(),
            sleds.iter().flat_map(flips).collect(),
            sleds.iter().flat_map(blows).collect(),
            swaps(&sample.place, &other.place, "another store"),
        ];
        if !everything() {
            let shares = [40, 30, 60, 40, 20];
            for (seed, (group, count)) in groups.iter_mut().zip(shares).enumerate() {
                *group = share(std::mem::take(group), count, seed as u64);
            }
        }
        let mut harms: Vec<_> = groups.into_iter().flatten().collect();
        harms.extend(FOLDERS.map(|folder| Harm::Remove(folder.into())));
        harms.extend(sleds.iter().map(|(path, _)| Harm::Remove(path.clone())));
        run_all(&format!("real disk, {left:?}"), sample, harms);
    }
}
