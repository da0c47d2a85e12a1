//! fjall 3.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use super::{CACHE_BYTES, Engine, Session};
use crate::data::{Key, Value, prefix, stamp};
use crate::task::{Promise, Result};

pub(super) fn told(promise: Promise) -> &'static str {
    match promise {
        Promise::Sync => "PersistMode::SyncData for each commit",
        Promise::Submitted => "no persist; at the end persist(SyncData)",
        Promise::Kernel => "PersistMode::Buffer",
        Promise::Process => "manual_journal_persist, no persist",
    }
}

pub(super) struct Fjall {
    db: Database,
    keys: Keyspace,
    promise: Promise,
    /// Who reads, adds and writes the counter.
    adding: Mutex<()>,
}

impl Fjall {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let by_hand = matches!(promise, Promise::Process | Promise::Submitted);
        let db = Database::builder(folder.join("fjall"))
            .cache_size(CACHE_BYTES as u64)
            .manual_journal_persist(by_hand)
            .open()?;
        // Point reads that find what they look for, as the workloads do.
        let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
        let keys = db.keyspace("keys", options)?;
        Ok(Self {
            db,
            keys,
            promise,
            adding: Mutex::new(()),
        })
    }

    fn mode(&self) -> Option<PersistMode> {
        match self.promise {
            Promise::Sync => Some(PersistMode::SyncData),
            Promise::Kernel => Some(PersistMode::Buffer),
            Promise::Submitted | Promise::Process => None,
        }
    }
}

impl Engine for Fjall {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn maintain(&self) -> Result<bool> {
        self.keys.rotate_memtable_and_wait()?;
        Ok(true)
    }

    fn settle(&mut self) -> Result<()> {
        self.keys.rotate_memtable_and_wait()?;
        Ok(self.keys.major_compact()?)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

impl Session for &Fjall {
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        self.keys.insert(&key.bytes()[..], &value[..])?;
        if self.promise == Promise::Sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let mut batch = self.db.batch().durability(self.mode());
        for (key, value) in writes {
            batch.insert(&self.keys, &key.bytes()[..], &value[..]);
        }
        Ok(batch.commit()?)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.keys.get(key.bytes())?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in self.keys.prefix(prefix(scope)) {
            see(&entry.value()?);
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        {
            let _only = self.adding.lock();
            let sum = self.keys.get("counter")?.map_or(0, |old| stamp(&old)) + 1;
            self.keys.insert("counter", &sum.to_le_bytes()[..])?;
        }
        // Outside, so that one sync may do for several.
        if self.promise == Promise::Sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn counter(&mut self) -> Result<i64> {
        let found = self.keys.get("counter")?;
        Ok(i64::try_from(found.map_or(0, |bytes| stamp(&bytes)))?)
    }
}
