//! redb 4.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{CACHE_BYTES, Engine, Session};
use crate::data::{Key, Value, prefix, stamp};
use crate::task::{Promise, Result};

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("keys");
const COUNTER: &[u8] = b"counter";

pub(super) fn told(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::Sync => Some("Durability::Immediate"),
        Promise::Submitted => Some("Durability::None, the last Immediate"),
        Promise::Kernel => None,
        Promise::Process => Some("Durability::None"),
    }
}

pub(super) struct Redb {
    db: Database,
    durability: Durability,
}

impl Redb {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let db = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(folder.join("redb"))?;
        let durability = match promise {
            Promise::Sync => Durability::Immediate,
            _ => Durability::None,
        };
        let engine = Self { db, durability };
        engine.commit(Durability::Immediate, |_| Ok(()))?;
        Ok(engine)
    }

    fn commit(
        &self,
        durability: Durability,
        write: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(durability)?;
        write(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    }
}

impl Engine for Redb {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn settle(&mut self) -> Result<()> {
        self.db.compact()?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl Session for &Redb {
    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        self.commit(self.durability, |table| {
            for (key, value) in writes {
                table.insert(&key.bytes()[..], &value[..])?;
            }
            Ok(())
        })
    }

    fn sync(&mut self) -> Result<()> {
        self.commit(Durability::Immediate, |_| Ok(()))
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let found = table.get(&key.bytes()[..])?;
        Ok(found.map(|value| see(value.value())).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let (from, to) = (prefix(scope), prefix(scope + 1));
        for entry in table.range(&from[..]..&to[..])? {
            see(entry?.1.value());
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        self.commit(self.durability, |table| {
            let old = table.get(COUNTER)?.map_or(0, |old| stamp(old.value()));
            table.insert(COUNTER, &(old + 1).to_le_bytes()[..])?;
            Ok(())
        })
    }

    fn counter(&mut self) -> Result<i64> {
        let table = self.db.begin_read()?.open_table(TABLE)?;
        let found = table.get(COUNTER)?;
        Ok(i64::try_from(found.map_or(0, |sum| stamp(sum.value())))?)
    }
}
