//! A hash map and a B-tree map in memory, in 64 shards by scope: what reads and scans
//! could be where nothing is kept.

use std::collections::{BTreeMap, HashMap};

use parking_lot::RwLock;

use super::{Engine, Session};
use crate::data::{Key, Value, prefix};
use crate::task::Result;

const SHARDS: usize = 64;

/// What a shard is.
pub(super) trait Map: Default + Send + Sync {
    fn put(&mut self, key: [u8; 16], value: Value);
    fn get(&self, key: &[u8; 16]) -> Option<&Value>;
    /// The values of the keys that begin so; none where the map has no order.
    fn scan(&self, prefix: &[u8; 8], see: &mut dyn FnMut(&[u8]));
}

impl Map for HashMap<[u8; 16], Value> {
    fn put(&mut self, key: [u8; 16], value: Value) {
        self.insert(key, value);
    }

    fn get(&self, key: &[u8; 16]) -> Option<&Value> {
        self.get(key)
    }

    fn scan(&self, _prefix: &[u8; 8], _see: &mut dyn FnMut(&[u8])) {}
}

impl Map for BTreeMap<[u8; 16], Value> {
    fn put(&mut self, key: [u8; 16], value: Value) {
        self.insert(key, value);
    }

    fn get(&self, key: &[u8; 16]) -> Option<&Value> {
        self.get(key)
    }

    fn scan(&self, prefix: &[u8; 8], see: &mut dyn FnMut(&[u8])) {
        let mut first = [0; 16];
        first[..8].copy_from_slice(prefix);
        let from = self.range(first..);
        for (_, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            see(value);
        }
    }
}

pub(super) struct Sharded<M> {
    shards: Vec<RwLock<M>>,
}

impl<M: Map> Sharded<M> {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
        }
    }

    fn shard(&self, scope: usize) -> &RwLock<M> {
        &self.shards[scope % SHARDS]
    }
}

impl<M: Map> Engine for Sharded<M> {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl<M: Map> Session for &Sharded<M> {
    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        for (key, value) in writes {
            self.shard(key.scope).write().put(*key.bytes(), *value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn get(&mut self, key: &Key, see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let shard = self.shard(key.scope).read();
        Ok(shard.get(key.bytes()).map(|value| see(value)).is_some())
    }

    fn scan(&mut self, scope: usize, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.shard(scope).read().scan(&prefix(scope), see);
        Ok(())
    }
}
