//! evenkeel, through its public interface.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use evenkeel::{Commit, Durability, FileBackend, Scope, ScopeHandle, Store};
use serde_bytes::{ByteBuf, Bytes};

use super::{CACHE_BYTES, Engine, Session};
use crate::data::{Key, Value, prefix, scopes};
use crate::task::{Promise, Result};

/// What is not in the image yet; a checkpoint begins at half of it, which is what fjall and
/// RocksDB call a write buffer of 64 MiB.
const MEMTABLE_BYTES: u64 = 128 << 20;

pub(super) fn told(promise: Promise) -> &'static str {
    match promise {
        Promise::Sync => "Durability::Sync",
        Promise::Submitted => "Durability::Sync, Store::submit, the last Commit::wait",
        Promise::Kernel => "Durability::Interval(1 s)",
        Promise::Process => "Durability::Memory",
    }
}

/// How a store keeps its image.
#[derive(Clone, Copy)]
pub(super) struct Image {
    /// A snapshot beside it.
    pub(super) second_copy: bool,
    /// In files of its own, and not in sled.
    pub(super) files: bool,
}

pub(super) struct Evenkeel {
    store: Store,
    handles: Vec<ScopeHandle>,
    promise: Promise,
    second_copy: bool,
}

/// The scope of a number.
fn scope(number: usize) -> Scope {
    Scope::worker(String::from_utf8_lossy(&prefix(number)))
}

impl Evenkeel {
    pub(super) fn open(folder: &Path, promise: Promise, keys: u64, image: Image) -> Result<Self> {
        let durability = match promise {
            Promise::Sync | Promise::Submitted => Durability::Sync,
            Promise::Kernel => Durability::Interval(Duration::from_secs(1)),
            Promise::Process => Durability::Memory,
        };
        let mut builder = Store::builder();
        if image.files {
            builder = builder.image(Arc::new(FileBackend::default()));
        }
        let store = builder
            .durability(durability)
            .memtable_bytes(MEMTABLE_BYTES)
            .cache_bytes(CACHE_BYTES as u64)
            .snapshots(image.second_copy)
            .open(folder.join("store"))?;
        let handles = (0..scopes(keys)).map(|number| store.scope(scope(number)));
        Ok(Self {
            handles: handles.collect(),
            store,
            promise,
            second_copy: image.second_copy,
        })
    }
}

impl Engine for Evenkeel {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Thread {
            engine: self,
            counter: self.store.global(),
            last: None,
        }))
    }

    fn maintain(&self) -> Result<bool> {
        match self.second_copy {
            // With the checkpoint that it is made of.
            true => self.store.snapshot()?,
            false => self.store.checkpoint()?,
        };
        Ok(true)
    }

    fn checkpoint(&self) -> Result<()> {
        self.store.checkpoint()?;
        Ok(())
    }

    fn syncs(&self) -> Result<Option<u64>> {
        Ok(Some(self.store.stats()?.log_syncs))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close()?)
    }
}

struct Thread<'e> {
    engine: &'e Evenkeel,
    counter: ScopeHandle,
    last: Option<Commit>,
}

impl Thread<'_> {
    fn handle(&self, scope: usize) -> Result<&ScopeHandle> {
        let handle = self.engine.handles.get(scope);
        handle.ok_or_else(|| format!("no scope {scope}").into())
    }
}

impl Session for Thread<'_> {
    fn put(&mut self, key: &Key, value: &Value) -> Result<()> {
        if self.engine.promise != Promise::Submitted {
            return Ok(self.handle(key.scope)?.set(key.text(), Bytes::new(value))?);
        }
        let scope = self.handle(key.scope)?.scope().clone();
        let submitted = self
            .engine
            .store
            .submit(|tx| tx.scope(scope.clone()).set(key.text(), Bytes::new(value)))?;
        self.last = Some(submitted.1);
        Ok(())
    }

    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let handles = &self.engine.handles;
        self.engine.store.transact(|tx| {
            writes.iter().try_for_each(|(key, value)| {
                tx.scope(handles[key.scope].scope().clone())
                    .set(key.text(), Bytes::new(value))
            })
        })?;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        match self.last.take() {
            Some(commit) => Ok(commit.wait()?),
            None => Ok(self.engine.store.barrier()?),
        }
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let found: Option<ByteBuf> = self.handle(key.scope)?.get(key.text())?;
        Ok(found.map(|value| see(&value)).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        for entry in self.handle(scope)?.scan("")? {
            see(&entry?.value::<ByteBuf>()?);
        }
        Ok(())
    }

    fn increment(&mut self) -> Result<()> {
        self.counter.increment("counter", 1)?;
        Ok(())
    }

    fn counter(&mut self) -> Result<i64> {
        Ok(self.counter.get("counter")?.unwrap_or(0))
    }
}
