//! LMDB, through heed. The only file with what the compiler cannot check: heed marks the
//! opening of a memory map so, and the flag that leaves out syncs.

use std::fs;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RwTxn};

use super::{Engine, Session};
use crate::data::{Key, Value, prefix, stamp};
use crate::task::{Promise, Result};

/// Room for the largest state with all that its free list needs.
const MAP_BYTES: usize = 16 << 30;
const READERS: u32 = 256;
const COUNTER: &[u8] = b"counter";

pub(super) fn told(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::Sync => Some("its default, synced at each commit"),
        Promise::Submitted => Some("MDB_NOSYNC, mdb_env_sync at the end"),
        Promise::Kernel => Some("MDB_NOSYNC"),
        Promise::Process => None,
    }
}

pub(super) struct Lmdb {
    env: Env,
}

#[expect(
    unsafe_code,
    reason = "a map of a file that nobody else changes, as heed asks for: the folder is this process's own"
)]
fn environment(folder: &Path, promise: Promise) -> Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_BYTES).max_readers(READERS);
    if promise != Promise::Sync {
        // SAFETY: what a power cut may do to it is what is compared; no other process
        // opens it meanwhile.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the folder was made for this process, and is opened once in it.
    Ok(unsafe { options.open(folder) }?)
}

impl Lmdb {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let folder = folder.join("lmdb");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            env: environment(&folder, promise)?,
        })
    }
}

impl Engine for Lmdb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        let reading = self.env.read_txn()?;
        let opened = self
            .env
            .open_databases_and_commit(reading, |all, reading| {
                all.open_database(reading, None)
                    .map(CommitOrAbort::<_, ()>::Commit)
            })?;
        let keys = opened.unwrap_commit().ok_or("LMDB has no database")?;
        Ok(Box::new(Thread {
            env: &self.env,
            keys,
        }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.env.force_sync()?;
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

struct Thread<'e> {
    env: &'e Env,
    keys: Database<'e, Bytes, Bytes>,
}

impl<'e> Thread<'e> {
    fn commit(
        &self,
        write: impl FnOnce(&Database<'e, Bytes, Bytes>, &mut RwTxn<'e>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        write(&self.keys, &mut transaction)?;
        Ok(transaction.commit()?)
    }
}

impl Session for Thread<'_> {
    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        self.commit(|keys, transaction| {
            for (key, value) in writes {
                keys.put(transaction, key.bytes(), value)?;
            }
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let transaction = self.env.read_txn()?;
        let found = self.keys.get(&transaction, key.bytes())?;
        Ok(found.map(see).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let transaction = self.env.read_txn()?;
        for entry in self.keys.prefix_iter(&transaction, &prefix(scope))? {
            see(entry?.1);
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        self.commit(|keys, transaction| {
            let sum = keys.get(transaction, COUNTER)?.map_or(0, stamp) + 1;
            Ok(keys.put(transaction, COUNTER, &sum.to_le_bytes())?)
        })
    }

    fn counter(&mut self) -> Result<i64> {
        let transaction = self.env.read_txn()?;
        let sum = self.keys.get(&transaction, COUNTER)?.map_or(0, stamp);
        Ok(i64::try_from(sum)?)
    }
}
