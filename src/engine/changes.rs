//! Owns changes read from a log, on their way into something sorted: of each key the
//! last one, and which scopes were cleared before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::body::{BodyOp, read_body};
use super::table::Stored;
use crate::error::{Corruption, Result};
use crate::ids::Lsn;
use crate::scope::prefix_end;

/// What an entry takes beside its key and its cell: its place in the map, and what the
/// allocator adds to both.
const ENTRY_BYTES: usize = 112;

/// Changes of many commits, sorted.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    clears: BTreeSet<Vec<u8>>,
    entries: BTreeMap<Vec<u8>, (Lsn, Stored)>,
    bytes: usize,
}

/// What takes changes, in ascending order of their keys.
pub(crate) trait TakeChanges {
    /// How it fails.
    type Error;

    /// Writes a key, or deletes it.
    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<(), Self::Error>;

    /// Removes all older entries with `from <= key < end`. What is put there comes after it.
    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<(), Self::Error>;
}

impl Changes {
    /// What they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds those of a commit, which is later than all before. `path` is where it was read.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) where the body makes no sense; then a part of it
    /// may have been added.
    pub(crate) fn add(&mut self, body: &[u8], lsn: Lsn, path: &Path) -> Result<()> {
        let mut scope: Option<&[u8]> = None;
        let read = read_body(body, |op| {
            if let BodyOp::Scope(prefix) = op {
                scope = Some(prefix);
                return Ok(());
            }
            let orphan = || Corruption::new(path, "an op before any scope").lsn(lsn);
            let scope = scope.ok_or_else(orphan)?;
            match op {
                BodyOp::Put(key, cell) => self.write([scope, key].concat(), lsn, Some(cell)),
                BodyOp::Delete(key) => self.write([scope, key].concat(), lsn, None),
                BodyOp::Clear | BodyOp::Scope(_) => self.clear(scope),
            }
            Ok(())
        });
        read.map_err(|what| Corruption::new(path, what).lsn(lsn))?
    }

    fn write(&mut self, key: Vec<u8>, lsn: Lsn, cell: Option<&[u8]>) {
        let key_len = key.len();
        self.bytes += entry_bytes(key_len, cell);
        let old = self.entries.insert(key, (lsn, cell.map(Arc::from)));
        if let Some((_, old)) = old {
            self.bytes -= entry_bytes(key_len, old.as_deref());
        }
    }

    fn clear(&mut self, prefix: &[u8]) {
        let mut within = self.entries.split_off(prefix);
        if let Some(end) = prefix_end(prefix) {
            self.entries.append(&mut within.split_off(&end));
        }
        for (key, (_, cell)) in within {
            self.bytes -= entry_bytes(key.len(), cell.as_deref());
        }
        if self.clears.insert(prefix.to_vec()) {
            self.bytes += entry_bytes(prefix.len(), None);
        }
    }

    /// Gives all, in order.
    pub(crate) fn give<T: TakeChanges>(self, to: &mut T) -> Result<(), T::Error> {
        let mut clears = self.clears.into_iter().peekable();
        for (key, (lsn, cell)) in self.entries {
            while let Some(prefix) = clears.next_if(|prefix| *prefix <= key) {
                to.clear(&prefix, prefix_end(&prefix).as_deref())?;
            }
            to.put(&key, lsn, &cell)?;
        }
        for prefix in clears {
            to.clear(&prefix, prefix_end(&prefix).as_deref())?;
        }
        Ok(())
    }
}

fn entry_bytes(key_len: usize, cell: Option<&[u8]>) -> usize {
    ENTRY_BYTES + key_len + cell.map_or(0, <[u8]>::len)
}
