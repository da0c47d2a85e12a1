//! RocksDB, behind the feature `rocksdb`.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, MergeOperands, Options, WriteBatch, WriteOptions};

use super::{CACHE_BYTES, Engine, Session};
use crate::data::{Key, Value, prefix, stamp};
use crate::task::{Promise, Result};

const COUNTER: &[u8] = b"counter";

pub(super) fn told(promise: Promise) -> &'static str {
    match promise {
        Promise::Sync => "WriteOptions::sync; increments by a blind merge",
        Promise::Submitted => "manual_wal_flush; at the end FlushWAL(sync)",
        Promise::Kernel => "no sync",
        Promise::Process => "manual_wal_flush, no flush",
    }
}

pub(super) struct Rocks {
    db: DB,
    writing: fn() -> WriteOptions,
}

/// Adds up what was added since the sum was last known.
fn add(_key: &[u8], sum: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let sum = sum.map_or(0, stamp) + added.iter().map(stamp).sum::<u64>();
    Some(sum.to_le_bytes().to_vec())
}

impl Rocks {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
        blocks.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.increase_parallelism(2);
        options.set_block_based_table_factory(&blocks);
        options.set_merge_operator_associative("add", add);
        options.set_manual_wal_flush(matches!(promise, Promise::Process | Promise::Submitted));
        let writing = match promise {
            Promise::Sync => || {
                let mut writing = WriteOptions::default();
                writing.set_sync(true);
                writing
            },
            _ => WriteOptions::default,
        };
        Ok(Self {
            db: DB::open(&options, folder.join("rocksdb"))?,
            writing,
        })
    }
}

impl Engine for Rocks {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Thread {
            db: &self.db,
            writing: (self.writing)(),
        }))
    }

    fn maintain(&self) -> Result<bool> {
        self.db.flush()?;
        Ok(true)
    }

    fn settle(&mut self) -> Result<()> {
        self.db.flush()?;
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }
}

struct Thread<'e> {
    db: &'e DB,
    writing: WriteOptions,
}

impl Session for Thread<'_> {
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        Ok(self.db.put_opt(key.bytes(), value, &self.writing)?)
    }

    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for (key, value) in writes {
            batch.put(key.bytes(), value);
        }
        Ok(self.db.write_opt(batch, &self.writing)?)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found = self.db.get_pinned(key.bytes())?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut entries = self.db.raw_iterator();
        let prefix = prefix(scope);
        entries.seek(prefix);
        while let Some((key, value)) = entries.item() {
            if !key.starts_with(&prefix) {
                return Ok(());
            }
            see(value);
            entries.next();
        }
        Ok(entries.status()?)
    }

    fn increment(&mut self) -> Result<()> {
        let one = 1_u64.to_le_bytes();
        Ok(self.db.merge_opt(COUNTER, one, &self.writing)?)
    }

    fn counter(&mut self) -> Result<i64> {
        let found = self.db.get(COUNTER)?;
        Ok(i64::try_from(found.map_or(0, |sum| stamp(&sum)))?)
    }
}
