//! sled 0.34.7. Its `flush` is no barrier of its own, so what is to be on the disk is
//! flushed and its file `db` synced.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{CACHE_BYTES, Engine, Session};
use crate::data::{Key, Value, prefix, stamp};
use crate::measure::now;
use crate::task::{Promise, Result};

pub(super) fn told(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::Sync => Some("flush(), then fdatasync of its file db, for each commit"),
        Promise::Submitted => Some("no flush; at the end flush() and fdatasync of db"),
        Promise::Kernel => None,
        Promise::Process => Some("no flush but its own, every 500 ms"),
    }
}

/// How long a folder may stay locked that was closed.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Sled {
    db: ::sled::Db,
    file: File,
    promise: Promise,
}

impl Sled {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let path = folder.join("sled");
        let config = ::sled::Config::new()
            .path(&path)
            .cache_capacity(CACHE_BYTES as u64)
            .mode(::sled::Mode::HighThroughput);
        let begun = now();
        let db = loop {
            match config.open() {
                // Its lock outlives its drop.
                Err(_) if begun.elapsed() < UNLOCKED_WITHIN => std::thread::yield_now(),
                opened => break opened?,
            }
        };
        // Any handle of a file syncs all of it.
        let file = File::open(path.join("db"))?;
        Ok(Self { db, file, promise })
    }

    fn acknowledge(&self) -> Result<()> {
        if self.promise == Promise::Sync {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}

impl Engine for Sled {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

impl Session for &Sled {
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        self.db.insert(&key.bytes()[..], &value[..])?;
        self.acknowledge()
    }

    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let mut batch = ::sled::Batch::default();
        for (key, value) in writes {
            batch.insert(&key.bytes()[..], &value[..]);
        }
        self.db.apply_batch(batch)?;
        self.acknowledge()
    }

    fn sync(&mut self) -> Result<()> {
        Sled::sync(self)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.db.get(key.bytes())?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in self.db.scan_prefix(prefix(scope)) {
            see(&entry?.1);
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        self.db.update_and_fetch("counter", |old| {
            Some((old.map_or(0, stamp) + 1).to_le_bytes().to_vec())
        })?;
        self.acknowledge()
    }

    fn counter(&mut self) -> Result<i64> {
        let found = self.db.get("counter")?;
        Ok(i64::try_from(found.map_or(0, |bytes| stamp(&bytes)))?)
    }
}
