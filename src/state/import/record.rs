//! Owns how far an import has come, durably: a key in a scope of the store's own,
//! committed with each batch. So it never says more than what is there, nor less.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::state::handle::check_key;
use crate::state::store::Store;
use crate::state::transaction::Transaction;

const IMPORTS: &str = "imports";

/// How far an import has come, over all of its runs.
///
/// ```
/// use evenkeel::{Scope, Store};
/// let store = Store::in_memory();
/// assert_eq!(store.import("seed").status()?, None);
/// store.import("seed").entries([(Scope::Global, "a", 1)])?;
/// let status = store.import("seed").status()?.expect("it has run");
/// assert!(status.finished && status.imported == 1);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportStatus {
    /// It has come to the end of its source.
    pub finished: bool,
    /// The entries that were written; a key that came twice counts twice.
    pub imported: u64,
    /// The entries that were left out because their key was there, which only
    /// [`keep_existing`](crate::Import::keep_existing) does.
    pub kept: u64,
    /// What the mapping function gave no entry for.
    pub skipped: u64,
    /// The entries that were malformed and left out.
    pub malformed: u64,
    /// The lines or entries of the source that all this was made of.
    pub items: u64,
    /// The bytes of the source that it took: of lines with their ends, or of what the
    /// entries consist of.
    pub bytes: u64,
}

/// The same as it is kept, with what tells a source from another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What kind of source it is.
    pub(super) source: String,
    pub(super) status: ImportStatus,
    /// XXH3-64 of what was taken from the source.
    pub(super) hash: u64,
    /// The length of the whole source, where it has one.
    pub(super) bytes_total: Option<u64>,
}

/// How far a source was read.
#[derive(Clone, Default)]
pub(super) struct Mark {
    /// Lines or entries.
    pub(super) items: u64,
    pub(super) bytes: u64,
    hash: Xxh3,
}

impl Mark {
    /// Takes a part of an item in.
    pub(super) fn take(&mut self, part: &[u8]) {
        self.bytes += part.len() as u64;
        self.hash.update(part);
    }

    /// Takes a part in whose end is not known by itself.
    pub(super) fn take_field(&mut self, field: &[u8]) {
        self.hash.update(&(field.len() as u64).to_le_bytes());
        self.take(field);
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.digest()
    }
}

fn imports() -> Scope {
    Scope::system(IMPORTS)
}

/// The record of an import, if it ever ran.
pub(super) fn find(store: &Store, name: &str) -> Result<Option<Record>> {
    if name.is_empty() {
        return Err(Error::Invalid {
            what: "name of an import",
            reason: "it is empty".into(),
        });
    }
    let scope = store.scope(imports());
    check_key(name, &store.shared.settings.limits, scope.scope())?;
    scope.get(name)
}

/// Writes the record, which nobody else has changed meanwhile.
pub(super) fn write(
    tx: &Transaction,
    name: &str,
    (before, now): (&Option<Record>, &Record),
) -> Result<()> {
    let scope = tx.scope(imports());
    if scope.get::<Record>(name)? != *before {
        return Err(Error::Busy {
            reason: format!("import {name:?} was run or forgotten by somebody else meanwhile"),
        });
    }
    scope.set(name, now)
}

/// Forgets an import. False where there is none of this name.
pub(super) fn forget(store: &Store, name: &str) -> Result<bool> {
    store.transact(|tx| {
        let scope = tx.scope(imports());
        let there = scope.contains(name)?;
        if there {
            scope.delete(name)?;
        }
        Ok(there)
    })
}

/// All imports that ever ran here, by name.
pub(super) fn list(store: &Store) -> Result<Vec<(String, ImportStatus)>> {
    let entries = store.scope(imports()).scan("")?;
    let read = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.key().to_owned(), entry.value::<Record>()?.status))
    });
    read.collect()
}
