//! Owns iterating over a scope at one LSN.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::codec::CodecLimits;
use crate::codec::cell::{deadline, has_expired};
use crate::engine::Cell;
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::error::{Corruption, Error, Result};
use crate::ids::Version;
use crate::scope::{Scope, prefix_end};
use crate::state::cell;
use crate::state::store::Shared;

/// A key and its value, which is decoded when it is asked for.
#[derive(Clone)]
pub struct Entry {
    pub(crate) key: String,
    pub(crate) version: Version,
    pub(crate) cell: Cell,
    pub(crate) scope: Arc<Scope>,
    pub(crate) limits: CodecLimits,
}

/// Where it is from, when it was written and how large it is; neither key nor value.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("scope", &self.scope)
            .field("version", &self.version)
            .field("value", &self.cell)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which commit wrote it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it expires, in microseconds of store time since 1970; `None` for never.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        deadline(&self.cell)
    }

    /// The value.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        cell::decode(&self.cell, &self.limits, (&self.scope, &self.key))
    }
}

/// The entries of a scope, in order, as they were when the scan began, but for those
/// that have expired by the time that they come up. Made by
/// [`crate::ScopeHandle::scan`].
///
/// ```
/// let store = evenkeel::Store::in_memory();
/// store.global().set("retries", 3)?;
/// for entry in store.global().scan("re")? {
///     let entry = entry?;
///     assert_eq!((entry.key(), entry.value::<u32>()?), ("retries", 3));
/// }
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[must_use = "a scan does nothing until it is iterated"]
pub struct Scan {
    /// Keeps the store open.
    shared: Arc<Shared>,
    view: View,
    slot: Arc<Slot>,
    scope: Arc<Scope>,
    limits: CodecLimits,
    chunk: VecDeque<crate::engine::view::ScanEntry>,
    /// From where to go on; `None` behind the end.
    from: Option<Bound<Vec<u8>>>,
    to: Bound<Vec<u8>>,
}

/// What it reads, and not what it has read already.
impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("scope", &self.scope)
            .field("lsn", &self.view.lsn())
            .finish_non_exhaustive()
    }
}

/// The range of keys that begin with a prefix.
pub(crate) fn prefix_range(prefix: impl AsRef<[u8]>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let prefix = prefix.as_ref();
    (
        Bound::Included(prefix.to_vec()),
        prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded),
    )
}

/// Keys are written as strings, so they are read as such.
pub(crate) fn key_text(key: Vec<u8>, scope: &Scope) -> Result<String> {
    String::from_utf8(key).map_err(|e| {
        let what = format!("a key in {scope} is not UTF-8: {e}");
        Error::from(Corruption::new("a key", what))
    })
}

impl Scan {
    pub(super) fn new(
        shared: &Arc<Shared>,
        slot: Arc<Slot>,
        scope: Arc<Scope>,
        prefix: &str,
    ) -> Self {
        let (from, to) = prefix_range(prefix);
        let view = shared.engine.view();
        let limits = shared.settings.limits.codec();
        Self {
            shared: Arc::clone(shared),
            view,
            slot,
            scope,
            limits,
            chunk: VecDeque::new(),
            from: Some(from),
            to,
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        if self.chunk.is_empty() && self.from.is_none() {
            return Ok(None);
        }
        self.shared.enter()?;
        let (key, lsn, cell) = loop {
            match self.chunk.pop_front() {
                Some((_, _, cell)) if has_expired(&cell, || self.shared.engine.now()) => {}
                Some(entry) => break entry,
                None => {
                    let Some(from) = self.from.take() else {
                        return Ok(None);
                    };
                    let from = from.as_ref().map(Vec::as_slice);
                    let to = self.to.as_ref().map(Vec::as_slice);
                    let chunk = self.view.chunk(&self.slot, from, to)?;
                    self.chunk = chunk.entries.into();
                    self.from = chunk.next.map(Bound::Excluded);
                }
            }
        };
        Ok(Some(Entry {
            key: key_text(key, &self.scope)?,
            version: lsn.into(),
            cell,
            scope: Arc::clone(&self.scope),
            limits: self.limits,
        }))
    }

    pub(super) fn into_keys(self) -> Result<Keys> {
        let keys: Result<Vec<_>> = self.map(|entry| entry.map(|entry| entry.key)).collect();
        Ok(Keys(keys?.into_iter()))
    }
}

impl Iterator for Scan {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            // It cannot go on; asked again it is at its end.
            self.from = None;
            self.chunk.clear();
        }
        next.transpose()
    }
}

/// Keys in order. Made by [`crate::ScopeHandle::keys`].
///
/// ```
/// let store = evenkeel::Store::in_memory();
/// store.global().set("a", 1)?;
/// for key in store.global().keys()? {
///     println!("{key}");
/// }
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct Keys(pub(crate) std::vec::IntoIter<String>);

/// How many are left.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} left)", self.0.len())
    }
}

impl Iterator for Keys {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Keys {}
