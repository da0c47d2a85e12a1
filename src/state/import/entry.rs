//! Owns what an import takes: entries, and what can be made into one.

use std::error::Error as StdError;

use serde::Serialize;

use crate::scope::Scope;
use crate::state::ttl::SetOptions;
use crate::value::Value;

/// What a source or a mapping function may fail with.
pub(super) type Cause = Box<dyn StdError + Send + Sync>;

/// A key to be written by an import: where, what, and for how long.
///
/// ```
/// use evenkeel::{ImportEntry, Scope, SetOptions};
/// use serde_json::json;
/// use std::time::Duration;
/// let day = SetOptions::new().ttl(Duration::from_secs(86_400));
/// let entry = ImportEntry::new(Scope::custom("tokens"), "alice", json!({"n": 1})).options(day);
/// assert_eq!(entry.key, "alice");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ImportEntry {
    /// Where it is written.
    pub scope: Scope,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: Value,
    /// How long it lasts.
    pub options: SetOptions,
}

impl ImportEntry {
    /// An entry that lasts as `set` would have it: as long as the scope's default says.
    pub fn new(scope: Scope, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            scope,
            key: key.into(),
            value: value.into(),
            options: SetOptions::new(),
        }
    }

    /// The same, with options.
    #[must_use]
    pub fn options(self, options: SetOptions) -> Self {
        Self { options, ..self }
    }
}

/// What an import can take: an [`ImportEntry`], a scope with a key and any value that
/// serde can serialise, or the `Result` of either.
///
/// ```
/// use evenkeel::{ImportEntry, Scope, Store};
/// let store = Store::in_memory();
/// let names = ["alice", "bob"];
/// let entries = names.iter().map(|name| (Scope::Global, *name, name.len()));
/// assert_eq!(store.import("names").entries(entries)?.imported, 2);
/// let read = names.iter().map(|name| -> Result<ImportEntry, std::num::ParseIntError> {
///     Ok(ImportEntry::new(Scope::Global, *name, "7".parse::<i64>()?))
/// });
/// assert_eq!(store.import("again").entries(read)?.imported, 2);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub trait ImportItem {
    /// The entry that it is.
    ///
    /// # Errors
    /// Why it is none.
    fn into_entry(self) -> Result<ImportEntry, Box<dyn StdError + Send + Sync>>;
}

impl ImportItem for ImportEntry {
    fn into_entry(self) -> Result<ImportEntry, Cause> {
        Ok(self)
    }
}

impl<K: Into<String>, V: Serialize> ImportItem for (Scope, K, V) {
    fn into_entry(self) -> Result<ImportEntry, Cause> {
        let (scope, key, value) = self;
        Ok(ImportEntry::new(scope, key, Value::from_serialize(&value)?))
    }
}

impl<T: ImportItem, E: Into<Cause>> ImportItem for Result<T, E> {
    fn into_entry(self) -> Result<ImportEntry, Cause> {
        self.map_err(Into::into)?.into_entry()
    }
}
