//! What is compared: one trait for whatever keeps keys, and the list of those that do,
//! with what each is told to promise.

mod evenkeel;
mod fjall;
mod floor;
mod lmdb;
mod maps;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sled;
mod sqlite;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crate::data::{Key, Value};
use crate::task::{Promise, Result};

/// The cache that each engine may have for what it reads, in bytes.
pub(crate) const CACHE_BYTES: usize = 512 << 20;

/// An engine that was opened under one promise.
pub(crate) trait Engine: Sync {
    /// What one thread works with.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Brings what is committed to where it stays, as the engine does by itself now and
    /// then: a checkpoint, a flush. False where it has nothing of the kind.
    fn maintain(&self) -> Result<bool> {
        Ok(false)
    }

    /// The part of it that only moves what was committed since.
    fn checkpoint(&self) -> Result<()> {
        self.maintain().map(drop)
    }

    /// Maintains and gives back what can be given back: trims logs, compacts.
    fn settle(&mut self) -> Result<()> {
        self.maintain().map(drop)
    }

    /// Syncs of its log, if it tells them.
    fn syncs(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Closes it.
    fn close(self: Box<Self>) -> Result<()>;
}

/// One thread's way to an engine. What is not offered is not called: see [`told`] and
/// the workloads.
pub(crate) trait Session {
    /// Commits one key, as promised.
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        self.batch(&[(*key, *value)])
    }

    /// Commits several keys at once, as promised.
    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()>;

    /// Returns when all that was committed before is on the disk.
    fn sync(&mut self) -> Result<()>;

    /// Shows the value of a key; false where there is none.
    fn get(&mut self, _key: &Key, _see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        Err("it has no reads".into())
    }

    /// Shows all values of a scope, in the order of their keys.
    fn scan(&mut self, _scope: usize, _see: &mut dyn FnMut(&[u8])) -> Result<()> {
        Err("it has no scans".into())
    }

    /// Adds one to the counter, as promised.
    fn increment(&mut self) -> Result<()> {
        Err("it has no increments".into())
    }

    /// The counter.
    fn counter(&mut self) -> Result<i64> {
        Err("it has no increments".into())
    }
}

/// The engine that is compared with the others.
pub(crate) const OURS: &str = "evenkeel";
/// The same without its second copy, for what it writes and takes on disk.
pub(crate) const ONE_COPY: &str = "evenkeel1";
/// With its image in files of its own in place of sled, with and without the second copy.
pub(crate) const FILES: &str = "evenkeel-f";
pub(crate) const FILES_ONE_COPY: &str = "evenkeel-f1";
/// What is shown where the image and the folder are measured.
pub(crate) const VARIANTS: &[&str] = &[ONE_COPY, FILES, FILES_ONE_COPY];
/// The machine alone.
pub(crate) const FLOOR: &str = "floor";

/// Maps in memory.
const MAPS: &[&str] = &["hashmap", "btreemap"];

/// All engines of this build that keep keys, in the order of the tables.
pub(crate) const ALL: &[&str] = &[
    OURS,
    ONE_COPY,
    FILES,
    FILES_ONE_COPY,
    "sled",
    "redb",
    "fjall",
    "sqlite",
    "lmdb",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
    FLOOR,
    "hashmap",
    "btreemap",
];

/// What an engine is told to promise; `None` where it has no such promise.
pub(crate) fn told(engine: &str, promise: Promise) -> Option<&'static str> {
    match engine {
        OURS | ONE_COPY | FILES | FILES_ONE_COPY => Some(evenkeel::told(promise)),
        "sled" => sled::told(promise),
        "redb" => redb::told(promise),
        "fjall" => Some(fjall::told(promise)),
        "sqlite" => sqlite::told(promise),
        "lmdb" => lmdb::told(promise),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Some(rocks::told(promise)),
        FLOOR => floor::told(promise),
        _ => None,
    }
}

/// True for what keeps nothing on a disk.
pub(crate) fn is_a_map(engine: &str) -> bool {
    MAPS.contains(&engine)
}

/// True for what keeps keys in an order.
pub(crate) fn scans(engine: &str) -> bool {
    engine != "hashmap"
}

/// True for what evenkeel is compared with.
pub(crate) fn is_a_peer(engine: &str) -> bool {
    !is_a_map(engine) && ![FLOOR, OURS].contains(&engine) && !VARIANTS.contains(&engine)
}

/// Opens an engine in a folder that is there; `keys` is what it will hold.
pub(crate) fn open(
    engine: &str,
    folder: &Path,
    promise: Promise,
    keys: u64,
) -> Result<Box<dyn Engine>> {
    Ok(match engine {
        OURS | ONE_COPY | FILES | FILES_ONE_COPY => {
            let image = evenkeel::Image {
                second_copy: [OURS, FILES].contains(&engine),
                files: [FILES, FILES_ONE_COPY].contains(&engine),
            };
            Box::new(evenkeel::Evenkeel::open(folder, promise, keys, image)?)
        }
        "sled" => Box::new(sled::Sled::open(folder, promise)?),
        "redb" => Box::new(redb::Redb::open(folder, promise)?),
        "fjall" => Box::new(fjall::Fjall::open(folder, promise)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(folder, promise)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(folder, promise)?),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Box::new(rocks::Rocks::open(folder, promise)?),
        "hashmap" => Box::new(maps::Sharded::<HashMap<_, _>>::new()),
        "btreemap" => Box::new(maps::Sharded::<BTreeMap<_, _>>::new()),
        FLOOR => Box::new(floor::Floor::open(folder, promise)?),
        _ => return Err(format!("no engine {engine}").into()),
    })
}
