//! SQLite, through rusqlite, with a write-ahead log.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Engine, Session};
use crate::data::{Key, Value, prefix};
use crate::task::{Promise, Result};

const PUT: &str = "INSERT INTO keys (k, v) VALUES (?1, ?2) ON CONFLICT (k) DO UPDATE SET v = ?2";
const ADD: &str = "UPDATE counter SET sum = sum + ?1";

pub(super) fn told(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::Sync => Some("WAL, synchronous = FULL"),
        Promise::Submitted => Some("WAL, synchronous = NORMAL, the last FULL"),
        Promise::Kernel => Some("WAL, synchronous = NORMAL"),
        Promise::Process => None,
    }
}

pub(super) struct Sqlite {
    path: PathBuf,
    promise: Promise,
    /// One writes at a time; whoever queues here does not sleep between two tries, as
    /// SQLite's own handler of a busy database does.
    writing: Mutex<()>,
}

impl Sqlite {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let path = folder.join("sqlite.db");
        let engine = Self {
            path,
            promise,
            writing: Mutex::new(()),
        };
        engine.connect()?.execute_batch(
            "CREATE TABLE IF NOT EXISTS keys (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, sum INTEGER);
             INSERT OR IGNORE INTO counter VALUES (1, 0);",
        )?;
        Ok(engine)
    }

    fn connect(&self) -> Result<Connection> {
        let connection = Connection::open(&self.path)?;
        let synchronous = match self.promise {
            Promise::Sync => "FULL",
            _ => "NORMAL",
        };
        // The log grows to 64 MiB before it is checkpointed; reads go through a map.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = {synchronous};
             PRAGMA wal_autocheckpoint = 16384;
             PRAGMA cache_size = -65536;
             PRAGMA mmap_size = 1073741824;"
        ))?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(connection)
    }
}

impl Engine for Sqlite {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Thread {
            engine: self,
            connection: self.connect()?,
        }))
    }

    fn maintain(&self) -> Result<bool> {
        let connection = self.connect()?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(true)
    }

    fn settle(&mut self) -> Result<()> {
        let connection = self.connect()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Thread<'e> {
    engine: &'e Sqlite,
    connection: Connection,
}

impl Thread<'_> {
    fn run(&self, statement: &str) -> Result<()> {
        self.connection.prepare_cached(statement)?.execute([])?;
        Ok(())
    }
}

impl Session for Thread<'_> {
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        let _only = self.engine.writing.lock();
        let mut put = self.connection.prepare_cached(PUT)?;
        put.execute(params![key.bytes(), value])?;
        Ok(())
    }

    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let _only = self.engine.writing.lock();
        self.run("BEGIN IMMEDIATE")?;
        let mut put = self.connection.prepare_cached(PUT)?;
        for (key, value) in writes {
            put.execute(params![key.bytes(), value])?;
        }
        self.run("COMMIT")
    }

    fn sync(&mut self) -> Result<()> {
        let _only = self.engine.writing.lock();
        self.connection
            .execute_batch("PRAGMA synchronous = FULL;")?;
        self.connection.execute(ADD, [0])?;
        Ok(())
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let mut get = self
            .connection
            .prepare_cached("SELECT v FROM keys WHERE k = ?1")?;
        let found = get
            .query_row([key.bytes()], |row| {
                see(row.get_ref(0)?.as_bytes()?);
                Ok(())
            })
            .optional()?;
        Ok(found.is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut scan = self
            .connection
            .prepare_cached("SELECT v FROM keys WHERE k >= ?1 AND k < ?2 ORDER BY k")?;
        let mut rows = scan.query(params![prefix(scope), prefix(scope + 1)])?;
        while let Some(row) = rows.next()? {
            see(row.get_ref(0)?.as_bytes()?);
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        let _only = self.engine.writing.lock();
        self.connection.prepare_cached(ADD)?.execute([1])?;
        Ok(())
    }

    fn counter(&mut self) -> Result<i64> {
        let sum = "SELECT sum FROM counter";
        Ok(self.connection.query_row(sum, [], |row| row.get(0))?)
    }
}
