//! Owns reading all that a store shows, and the stores that are damaged: made once in a
//! process, with a fixed id and clock, so that an input does the same in each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::seal;
use crate::clock::ManualClock;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::state::{Builder, Salvage, Store};
use crate::testing::crash::text;
use crate::testing::{ImageOn, Loss, SimDisk, files_on, pieces_on};
use crate::value::Value;

/// Where the store is on its disk.
pub(super) const PLACE: &str = "store";

/// The id that all of them have.
const STORE: [u8; 16] = [7; 16];

/// What a store shows: of each scope the keys with version and value. A value that does
/// not decode is the error that says so.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    scopes: BTreeMap<Scope, BTreeMap<String, (u64, String)>>,
    /// There are entries that are counted and not seen: a block says of them a later LSN
    /// than the store has come to. Only forgery makes such blocks, and later they show.
    pub(super) hidden: bool,
}

impl Content {
    /// Reads everything by scans, and each key by itself: the two must agree. So must the
    /// counts, unless the store was `forged`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], where what was sealed over makes no sense.
    pub(super) fn of(store: &Store, forged: bool) -> Result<Self> {
        let mut content = Self::default();
        for scope in store.scopes()? {
            let handle = store.scope(scope.clone());
            let mut keys = BTreeMap::new();
            for entry in handle.scan("")? {
                let entry = entry?;
                let value = shown(entry.value());
                let got = handle.get_versioned::<Value>(entry.key());
                let version = match got {
                    Ok(got) => {
                        let got = got.expect("a key that a scan gives");
                        assert_eq!(shown(Ok(got.value)), value, "{scope}");
                        got.version
                    }
                    Err(e) => {
                        assert_eq!(shown(Err(e)), value, "{scope}");
                        entry.version()
                    }
                };
                assert_eq!(version, entry.version(), "{scope} {}", entry.key());
                let old = keys.insert(entry.key().to_owned(), (version.get(), value));
                assert_eq!(old, None, "a key twice in {scope}");
            }
            let listed: Vec<String> = handle.keys()?.collect();
            assert!(listed.iter().eq(keys.keys()), "the keys of {scope}");
            let len = handle.len()?;
            content.hidden |= len != keys.len() as u64;
            assert!(forged || !content.hidden, "{scope} has {len}");
            content.scopes.insert(scope, keys);
        }
        Ok(content)
    }

    /// The same without one key.
    pub(super) fn without(mut self, scope: &Scope, key: &str) -> Self {
        if let Some(keys) = self.scopes.get_mut(scope) {
            keys.remove(key);
            if keys.is_empty() {
                self.scopes.remove(scope);
            }
        }
        self
    }
}

fn shown(value: Result<Value>) -> String {
    match value {
        Ok(value) => super::tree::shown(&value),
        Err(Error::Corrupt(damage)) => format!("damaged: {damage}"),
        Err(e) => panic!("a value that is there gives {e}"),
    }
}

/// A store before anything is done to it.
pub(super) struct Base {
    pub(super) disk: SimDisk,
    /// Its files, by their paths in the store's folder, and without `LOCK`.
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    /// What it showed after each commit; the last is what it holds.
    pub(super) history: Vec<Content>,
    /// It was closed, so every byte is vouched for.
    pub(super) closed: bool,
    pub(super) snapshots: bool,
    image: ImageOn,
}

impl Base {
    /// What opens it on a disk.
    pub(super) fn builder(&self, disk: &SimDisk, salvage: Salvage) -> Builder {
        let builder = builder(disk, self.snapshots, salvage);
        builder.image((self.image)(disk))
    }
}

/// Sizes so small that a few commits make several segments and blocks.
pub(super) fn builder(disk: &SimDisk, snapshots: bool, salvage: Salvage) -> Builder {
    disk.store_builder()
        .stall(Duration::ZERO)
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 32 * 1024)
        .snapshot_log_bytes(32 * 1024)
        .block_bytes(1024)
        .cache_bytes(64 * 1024)
        .snapshots(snapshots)
        .salvage(salvage)
        .clock(Arc::new(ManualClock::new(1_700_000_000_000_000)))
}

/// The files of the store on a disk, but `LOCK`, which is empty.
pub(super) fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let inside = |(path, _): (PathBuf, u64)| {
        let name = path.strip_prefix(PLACE).ok()?.to_path_buf();
        let bytes = disk.read(&path)?;
        (name != Path::new("LOCK")).then_some((name, bytes))
    };
    disk.files().into_iter().filter_map(inside).collect()
}

/// How a store came to be what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Just made, and closed.
    New,
    /// A few commits, closed, too young for a snapshot.
    Young,
    /// Checkpoint, snapshot, and a log behind both; closed.
    Old,
    /// The same, killed.
    Killed,
    /// Closed, without snapshots.
    NoSnapshots,
    /// Began in memory; persisted and not opened since.
    Persisted,
}

const LIVES: [Life; 6] = [
    Life::Old,
    Life::Killed,
    Life::Young,
    Life::NoSnapshots,
    Life::Persisted,
    Life::New,
];

/// Those whose image is one of a `FileBackend`.
const LIVES_IN_FILES: [Life; 3] = [Life::Old, Life::Killed, Life::NoSnapshots];

/// All of them.
pub(super) fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    let make = |life, image| live(life, image).expect("a disk without faults");
    BASES.get_or_init(|| {
        let bases = LIVES.map(|life| make(life, pieces_on)).into_iter();
        let in_files = LIVES_IN_FILES.map(|life| make(life, files_on));
        bases.chain(in_files).collect()
    })
}

/// The number that begins with one of the bases in files, see [`base`].
pub(super) const IN_FILES: u8 = 48;

/// The one that a number of an input means: below [`IN_FILES`] those with an image of the testing
/// kind in turn, from there the others.
pub(super) fn base(number: u8) -> &'static Base {
    let (bases, in_files) = bases().split_at(LIVES.len());
    match number.checked_sub(IN_FILES) {
        None => &bases[usize::from(number) % bases.len()],
        Some(number) => &in_files[usize::from(number) % in_files.len()],
    }
}

fn live(life: Life, image: ImageOn) -> Result<Base> {
    let disk = SimDisk::new(0);
    let snapshots = life != Life::NoSnapshots;
    let builder = || builder(&disk, snapshots, Salvage::Refuse).image(image(&disk));
    let open = || builder().open(PLACE);
    let mut history = vec![Content::default()];
    match life {
        Life::New => open()?.close()?,
        Life::Persisted => {
            let memory = builder().in_memory()?;
            commits(&memory, 0..12, &mut history)?;
            // A store that is persisted is there whole, or not at all.
            history.drain(1..history.len() - 1);
            drop(memory.persist(PLACE)?);
        }
        _ => {
            let store = open()?;
            commits(&store, 0..6, &mut history)?;
            store.close()?;
            drop(store);
            let store = open()?;
            commits(&store, 6..12, &mut history)?;
            if life != Life::Young {
                store.checkpoint()?;
                store.snapshot()?;
                commits(&store, 12..18, &mut history)?;
                store.checkpoint()?;
                commits(&store, 18..26, &mut history)?;
            }
            match life {
                Life::Killed => return settle(disk.crash(Loss::Nothing), history, life, image),
                _ => store.close()?,
            }
        }
    }
    settle(disk, history, life, image)
}

/// Gives all files the same id in every process.
fn settle(disk: SimDisk, history: Vec<Content>, life: Life, image: ImageOn) -> Result<Base> {
    let disk = disk.crash(Loss::Nothing);
    let mut files = files(&disk);
    for (name, bytes) in &mut files {
        seal::adopt(name, bytes, STORE);
        let path = Path::new(PLACE).join(name);
        disk.write(&path, bytes)
            .map_err(|e| Error::io("write", &path, e))?;
    }
    Ok(Base {
        disk,
        files,
        history,
        closed: life != Life::Killed,
        snapshots: life != Life::NoSnapshots,
        image,
    })
}

fn commits(store: &Store, range: std::ops::Range<u32>, history: &mut Vec<Content>) -> Result<()> {
    for i in range {
        let (order, job) = (Scope::workflow("order-42"), Scope::job("j:1"));
        match i % 6 {
            0 => store.scope(order).set(format!("config-{i}"), text(i, 40))?,
            1 => drop(store.scope(order).increment("attempts", 1)?),
            2 => store.transact(|tx| {
                for n in 0..8 {
                    let (key, value) = (format!("k{i:02}{n:02}"), text(n, 60));
                    tx.scope(job.clone()).set(key, value)?;
                }
                tx.global().set("last", i)
            })?,
            3 => {
                let step = Scope::step("order-42", "charge");
                store.scope(step).set("progress", f64::from(i) / 8.0)?;
            }
            4 => store.scope(job).delete(format!("k{:02}03", i - 2))?,
            _ => store.global().set("blob", text(i, 700))?,
        }
        history.push(Content::of(store, false)?);
    }
    Ok(())
}
