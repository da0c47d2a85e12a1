//! Owns what a migration is given: one scope, over what earlier ones have staged.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::Cell;
use crate::engine::table::Stored;
use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::state::{Entry, Keys, SetOptions};

/// A scope as a migration sees and changes it.
#[derive(Debug)]
pub struct MigrationScope<'a> {
    scope: Scope,
    call: PhantomData<&'a ()>,
}

fn not_yet<T>() -> Result<T> {
    Err(Error::Closed)
}

impl<'a> MigrationScope<'a> {
    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The value of a key, as a `T`.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        let _ = key;
        not_yet()
    }

    /// True where the key is there.
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        let _ = key;
        not_yet()
    }

    /// The keys that are there now, in order.
    pub fn keys(&self) -> Result<Keys> {
        not_yet()
    }

    /// The entries whose keys begin with a prefix, as they are now, one after the other.
    pub fn scan(&self, prefix: impl AsRef<str>) -> Result<MigrationScan<'a>> {
        let _ = prefix;
        not_yet()
    }

    /// How many keys there are.
    pub fn len(&self) -> Result<u64> {
        not_yet()
    }

    /// True where there are no keys.
    pub fn is_empty(&self) -> Result<bool> {
        not_yet()
    }

    /// Sets a key. One that is there keeps its deadline.
    pub fn set<T: Serialize>(&self, key: impl AsRef<str>, value: T) -> Result<()> {
        let _ = (key, value);
        not_yet()
    }

    /// Sets a key, with options.
    pub fn set_with<T: Serialize>(
        &self,
        key: impl AsRef<str>,
        value: T,
        options: SetOptions,
    ) -> Result<()> {
        let _ = (key, value, options);
        not_yet()
    }

    /// Removes a key. True where it was there.
    pub fn remove(&self, key: impl AsRef<str>) -> Result<bool> {
        let _ = key;
        not_yet()
    }

    /// Gives a value another key. False where `from` is not there; refused where `to` is.
    pub fn rename(&self, from: impl AsRef<str>, to: impl AsRef<str>) -> Result<bool> {
        let _ = (from, to);
        not_yet()
    }

    /// Makes a value of another type out of the one that is there. False where it is not.
    pub fn convert<Old: DeserializeOwned, New: Serialize>(
        &self,
        key: impl AsRef<str>,
        convert: impl FnOnce(Old) -> Result<New>,
    ) -> Result<bool> {
        let _ = (key, convert);
        not_yet()
    }

    /// Removes all keys.
    pub fn clear(&self) -> Result<()> {
        not_yet()
    }

    /// A further scope, which the migration joins to this one.
    pub fn joined(&self, scope: Scope) -> Result<MigrationScope<'a>> {
        let _ = scope;
        not_yet()
    }

    /// The joined scopes that have keys, in order.
    pub fn joined_scopes(&self) -> Result<Vec<Scope>> {
        not_yet()
    }

    /// A value as it is stored.
    #[allow(dead_code)]
    pub(crate) fn find(&self, key: &str) -> Result<Option<Cell>> {
        let _ = key;
        not_yet()
    }

    /// Writes a value as it is stored, with the deadline that is in it; or removes it.
    #[allow(dead_code)]
    pub(crate) fn write(&self, key: &str, cell: Stored) -> Result<()> {
        let _ = (key, cell);
        not_yet()
    }
}

/// The entries of a scope as a migration sees them. Made by [`MigrationScope::scan`].
#[derive(Debug)]
#[must_use = "a scan does nothing until it is iterated"]
pub struct MigrationScan<'a> {
    call: PhantomData<&'a ()>,
}

impl Iterator for MigrationScan<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
