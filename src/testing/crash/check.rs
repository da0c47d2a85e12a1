//! Owns reading a store in every way there is, and judging what was recovered.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::model::{Contents, Held, History};
use super::session::{Session, builder, visible};
use super::subject::{PLACE, Recovered};
use super::workload::{Step, Workload, Write, text};
use crate::clock::ManualClock;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::state::Store;
use crate::testing::{Loss, Random, SimDisk, When};
use crate::value::Value;
use crate::vfs::Vfs as _;

/// A disk as it is, to be changed without changing this one.
pub(super) fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(Loss::Nothing)
}

/// Opens the store on a disk. Its clock is behind that of the workload, which must
/// not matter.
///
/// # Errors
/// Those of opening; [`Error::NotAStore`] where a store that is persisted is not there:
/// opening would make another one in its place.
pub(super) fn open(workload: &Workload, disk: &SimDisk) -> Result<Store> {
    let made = !workload.persists() || is_there(disk, PLACE).unwrap_or(true);
    if !made {
        return Err(Error::NotAStore {
            path: PLACE.into(),
            reason: "it was not persisted".into(),
        });
    }
    builder(workload, disk, Arc::new(ManualClock::new(500_000))).open(PLACE)
}

/// All that a store holds, read in every way.
///
/// # Errors
/// What failed, or which two ways disagree.
pub(super) fn read_all(store: &Store, history: &History) -> Result<Contents, String> {
    let said = |what: &'static str| move |e: Error| format!("{what} failed: {e}");
    let mut all = Contents::new();
    for scope in store.scopes().map_err(said("listing the scopes"))? {
        let handle = store.scope(scope.clone());
        let mut keys = BTreeMap::new();
        let mut order = Vec::new();
        for entry in handle.scan("").map_err(said("a scan"))? {
            let entry = entry.map_err(said("a scan"))?;
            let held = Held {
                value: entry.value::<Value>().map_err(said("decoding"))?,
                version: Some(entry.version().into()),
            };
            order.push(entry.key().to_owned());
            keys.insert(entry.key().to_owned(), held);
        }
        if !order.is_sorted() || order.len() != keys.len() || order.is_empty() {
            return Err(format!("a scan of {scope} gives {order:?}"));
        }
        let listed: Vec<_> = handle.keys().map_err(said("keys"))?.collect();
        let len = handle.len().map_err(said("len"))?;
        if listed != order || len != order.len() as u64 {
            let what = format!("a scan of {scope} gives {order:?}, keys {listed:?}, len {len}");
            return Err(what);
        }
        for (key, held) in &keys {
            let got = handle.get_versioned::<Value>(key).map_err(said("get"))?;
            let version = Some(held.version.unwrap_or_default().into());
            if got.as_ref().map(|got| (&got.value, got.version))
                != version.map(|v| (&held.value, v))
            {
                return Err(format!("a scan of {scope} and a get of {key:?} differ"));
            }
        }
        all.insert(scope, keys);
    }
    for (scope, keys) in history.touched() {
        absent(store, scope, &keys, &all)?;
    }
    Ok(all)
}

/// What a scan does not give, no other way may give.
fn absent(store: &Store, scope: &Scope, keys: &[&str], all: &Contents) -> Result<(), String> {
    let handle = store.scope(scope.clone());
    let found = all.get(scope);
    if found.is_none()
        && !handle
            .is_empty()
            .map_err(|e| format!("is_empty failed: {e}"))?
    {
        return Err(format!("{scope} is not listed, and not empty"));
    }
    for key in keys
        .iter()
        .filter(|&&key| !found.is_some_and(|found| found.contains_key(key)))
    {
        if handle
            .contains(key)
            .map_err(|e| format!("contains failed: {e}"))?
        {
            return Err(format!("{scope} {key:?} is not in the scan, but there"));
        }
    }
    Ok(())
}

/// Recovers a copy of `image` and judges it: the state, what `verify` says, more
/// commits and a power cut behind them, the image taken away.
///
/// # Errors
/// What is wrong.
pub(super) fn examine(
    workload: &Workload,
    image: &SimDisk,
    history: &History,
    least: usize,
    dice: u64,
) -> Result<Recovered, String> {
    let disk = copy(image);
    let mut dice = Random::new(dice);
    // Where a store may not be there yet, opening would make one.
    let makes = workload.persists() && least == 0;
    if dice.below(8) == 0 && !makes {
        return after_storm(workload, disk, history, least, dice);
    }
    let mut recovered = Recovered::default();
    if workload.persists() && history.len() <= 1 && !is_there(&disk, PLACE)? {
        return match least {
            0 => persist_again(workload, disk, recovered),
            _ => Err("the store that was persisted is not there".into()),
        };
    }
    let store = open(workload, &disk).map_err(|e| format!("it does not open: {e} ({e:?})"))?;
    recovered.operations = disk.operations();
    recovered.reads = disk.reads();
    recovered.openings = 1;
    let least = match workload.persists() {
        true => least.max(1),
        false => least,
    };
    let found = read_all(&store, history)?;
    let prefix = history.find(&found, least);
    let prefix = prefix.map_err(|what| format!("{what}\n  recovery: {:?}", store.recovery()))?;
    recovered.state = Some(prefix as u64);
    let report = store.recovery();
    if !report.lost.is_empty() {
        return Err(format!("something was given up: {:?}", report.lost));
    }
    // What is persisted has a snapshot and no image before it is first opened.
    let rebuilt = report.healed.iter().find(|h| h.action.contains("rebuilt"));
    if let Some(healed) = rebuilt.filter(|_| !workload.persists() && !workload.damages()) {
        return Err(format!(
            "no byte was damaged, but the image was: {healed:?}"
        ));
    }
    verify(&store)?;
    let highest = history.highest.max(visible(&store));
    let next = History::from(found, highest);
    go_on(workload, disk, store, next, dice, &mut recovered)?;
    Ok(recovered)
}

/// Interrupts the recovery again and again; in the end it opens.
fn after_storm(
    workload: &Workload,
    mut disk: SimDisk,
    history: &History,
    mut least: usize,
    mut dice: Random,
) -> Result<Recovered, String> {
    let calm = (0..)
        .map(|_| dice.next_u64())
        .find(|dice| Random::new(*dice).below(8) != 0);
    for _ in 0..3 + dice.below(5) {
        let when = [When::Before, When::Midway, When::After][dice.below(3) as usize];
        disk.stop_at(1 + dice.below(45), when);
        drop(open(workload, &disk));
        let loss = match dice.below(3) {
            0 => Loss::Everything,
            1 => Loss::Nothing,
            _ => Loss::Random(dice.next_u64()),
        };
        if loss != Loss::Nothing {
            least = history.acked;
        }
        disk = disk.crash(loss);
    }
    let recovered = examine(workload, &disk, history, least, calm.unwrap_or_default())
        .map_err(|what| format!("interrupted again and again: {what}"))?;
    Ok(Recovered {
        state: None,
        ..recovered
    })
}

fn verify(store: &Store) -> Result<(), String> {
    let verification = store.verify().map_err(|e| format!("verify failed: {e}"))?;
    match verification.is_clean() {
        true => Ok(()),
        false => Err(format!("verify found {:?}", verification.damage)),
    }
}

/// A few more commits, an end of some kind, and what is then found.
fn go_on(
    workload: &Workload,
    disk: SimDisk,
    store: Store,
    history: History,
    mut dice: Random,
    recovered: &mut Recovered,
) -> Result<(), String> {
    let mut session = Session::resume(workload, disk.clone(), store, history);
    // What the recovery kept is durable before it serves a read.
    for number in 0..dice.below(4) {
        let scope = Scope::custom(format!("after-{}", number % 2));
        let key = format!("k{number}");
        let write = Write::Set(
            scope,
            key,
            text(dice.next_u64(), 100 + dice.below(9000) as usize),
        );
        let step = match dice.below(6) {
            0 => Step::Written(write),
            1 => Step::Transact(vec![
                write,
                Write::Increment(Scope::Global, "after".into(), 1),
            ]),
            2 => Step::Checkpoint,
            _ => Step::Commit(write),
        };
        session.step(&step).map_err(|halt| match halt {
            super::session::Halt::Refused(e) => format!("after recovery, {step:?} failed: {e}"),
            super::session::Halt::Wrong(what) => format!("after recovery, {step:?}: {what}"),
        })?;
    }
    let losses = [
        Loss::Everything,
        Loss::Random(dice.next_u64()),
        Loss::Nothing,
    ];
    let loss = &losses[dice.below(3) as usize];
    let after = disk.crash(loss.clone());
    let least = match loss {
        Loss::Nothing => session.history.written,
        _ => session.history.acked,
    };
    let again = |e: Error| format!("after recovery, commits and {loss:?} it does not open: {e}");
    let store = open(workload, &after).map_err(again)?;
    recovered.openings += 1;
    let found = read_all(&store, &session.history)?;
    let judged = session.history.find(&found, least);
    judged.map_err(|what| format!("after recovery, commits and {loss:?}: {what}"))?;
    verify(&store)?;
    if let Some(store) = &session.store
        && let Ok(stats) = store.stats()
    {
        recovered.done.add(&stats);
    }
    match dice.below(4) {
        0 if workload.heals => take_away(workload, &after, store, found, &mut dice, recovered),
        _ => Ok(()),
    }
}

/// Closes the store, removes its image or manifest, and expects the same content.
fn take_away(
    workload: &Workload,
    disk: &SimDisk,
    store: Store,
    found: Contents,
    dice: &mut Random,
    recovered: &mut Recovered,
) -> Result<(), String> {
    match dice.below(2) {
        0 => store.close().map_err(|e| format!("closing failed: {e}"))?,
        _ => drop(store),
    }
    let (images, manifest) = (
        Path::new(PLACE).join("image"),
        Path::new(PLACE).join("MANIFEST"),
    );
    let what = dice.below(3);
    let removed = match what {
        0 => disk.remove_dir_all(&images),
        1 if is_there(disk, &manifest)? => disk.remove_file(&manifest),
        1 => Ok(()),
        _ => remove_pieces(disk, &images),
    };
    let what = ["the image", "the manifest", "pieces of the image"][what as usize];
    removed.map_err(|e| format!("{what} cannot be removed: {e}"))?;
    let store =
        open(workload, disk).map_err(|e| format!("without {what} it does not open: {e}"))?;
    recovered.openings += 1;
    let history = History::from(found, Default::default());
    let now = read_all(&store, &history)?;
    history
        .find(&now, 0)
        .map_err(|e| format!("without {what}: {e}"))?;
    if let Ok(stats) = store.stats() {
        recovered.done.add(&stats);
    }
    verify(&store)
}

fn remove_pieces(disk: &SimDisk, images: &Path) -> std::io::Result<()> {
    for folder in disk.read_dir(images)? {
        let folder = images.join(folder.name);
        for piece in disk.read_dir(&folder)?.into_iter().step_by(2) {
            disk.remove_file(&folder.join(piece.name))?;
        }
    }
    Ok(())
}

fn is_there(disk: &SimDisk, path: impl AsRef<Path>) -> Result<bool, String> {
    disk.metadata(path.as_ref())
        .map(|found| found.is_some())
        .map_err(|e| e.to_string())
}

/// Persisting was interrupted and left nothing: the next time it works.
fn persist_again(
    workload: &Workload,
    disk: SimDisk,
    mut recovered: Recovered,
) -> Result<Recovered, String> {
    let mut session = Session::new(workload, disk.clone());
    let failed = session.run(false)?;
    if let Some(e) = failed {
        return Err(format!("persisting again failed: {e}"));
    }
    let store = open(workload, &disk.crash(Loss::Everything));
    let store = store.map_err(|e| format!("what was persisted again does not open: {e}"))?;
    let found = read_all(&store, &session.history)?;
    session.history.find(&found, session.history.acked)?;
    recovered.openings = 2;
    Ok(recovered)
}
