//! Owns iterating over a scope at one LSN.

use std::fmt;
use std::ops::Bound;
use std::str::Utf8Error;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::codec::cell::{deadline, has_expired};
use crate::codec::{self, CodecLimits};
use crate::engine::part::{Blocks, Part, ScanCell, ScanEntry};
use crate::engine::small_key::SmallKey;
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::error::{Corruption, Error, Result};
use crate::ids::Version;
use crate::scope::{Scope, prefix_end};
use crate::state::cell;
use crate::state::store::Shared;

/// A key and its value, which is decoded when it is asked for. It holds on to the part of
/// the scan that it came with, a megabyte or its last value: what is to be kept for long is
/// copied.
#[derive(Clone)]
pub struct Entry {
    key: SmallKey,
    version: Version,
    cell: ScanCell,
    of: Arc<EntriesOf>,
}

/// What the entries of a part of a scan have in common.
pub(crate) struct EntriesOf {
    pub(crate) scope: Arc<Scope>,
    limits: CodecLimits,
    pub(crate) blocks: Blocks,
}

impl EntriesOf {
    /// That of a part of a scope.
    pub(crate) fn part(scope: &Arc<Scope>, limits: CodecLimits, part: &Part) -> Arc<Self> {
        Arc::new(Self {
            scope: Arc::clone(scope),
            limits,
            blocks: part.blocks().clone(),
        })
    }
}

/// Where it is from, when it was written and how large it is; neither key nor value.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("scope", &self.of.scope)
            .field("version", &self.version)
            .field("value_bytes", &self.cell().len())
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// An entry of a part.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where its key is no text.
    #[inline]
    pub(crate) fn new(entry: ScanEntry, of: &Arc<EntriesOf>) -> Result<Self> {
        if !entry.key.is_ascii() {
            std::str::from_utf8(&entry.key).map_err(|e| no_text(&of.scope, e))?;
        }
        Ok(Self {
            key: entry.key,
            version: entry.lsn.into(),
            cell: entry.cell,
            of: Arc::clone(of),
        })
    }

    fn cell(&self) -> &[u8] {
        self.of.blocks.bytes(&self.cell)
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        // It was looked at when the entry was made.
        std::str::from_utf8(&self.key).unwrap_or_default()
    }

    /// Which commit wrote it.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it expires, in microseconds of store time since 1970; `None` for never.
    #[must_use]
    pub fn expires_at(&self) -> Option<u64> {
        deadline(self.cell())
    }

    /// The bytes of a value that is a string of bytes, without a copy: what a
    /// [`Value::Bytes`](crate::Value::Bytes) or a `Vec<u8>` that is not empty is stored as.
    /// `None` for any other value, an empty list among them.
    ///
    /// ```
    /// let store = evenkeel::Store::in_memory();
    /// store.global().set("page", vec![1_u8, 2, 3])?;
    /// for entry in store.global().scan("")? {
    ///     assert_eq!(entry?.bytes(), Some(&[1, 2, 3][..]));
    /// }
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        codec::bytes_or_null(codec::cell::value(self.cell())?)?
    }

    /// The value.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<T> {
        let value = cell::read(self.cell(), &self.of.limits);
        value.map_err(|unread| unread.of(&self.of.scope, self.key()))
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
    part: Part,
    /// What the entries of the part have in common.
    of: Arc<EntriesOf>,
    /// From where to go on; `None` behind the end.
    from: Option<Bound<Vec<u8>>>,
    to: Bound<Vec<u8>>,
}

/// What it reads, and not what it has read already.
impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("scope", &self.of.scope)
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
    String::from_utf8(key).map_err(|e| no_text(scope, e.utf8_error()))
}

fn no_text(scope: &Scope, error: Utf8Error) -> Error {
    let what = format!("a key in {scope} is not UTF-8: {error}");
    Corruption::new("a key", what).into()
}

impl Scan {
    /// Begins a scan, with its first part: so that much is there whoever needs memory then.
    ///
    /// # Errors
    /// What reading the store may answer.
    pub(super) fn new(
        shared: &Arc<Shared>,
        slot: Arc<Slot>,
        scope: Arc<Scope>,
        prefix: &str,
    ) -> Result<Self> {
        let (from, to) = prefix_range(prefix);
        let limits = shared.settings.limits.codec();
        let (view, mut part) = loop {
            let view = shared.engine.view();
            let range = (from.as_ref(), to.as_ref());
            match view.part(
                &slot,
                range.0.map(Vec::as_slice),
                range.1.map(Vec::as_slice),
            ) {
                // It had to make room at once; nobody has seen anything of it.
                Err(Error::ViewExpired) => shared.enter()?,
                outcome => break (view, outcome?),
            };
        };
        Ok(Self {
            shared: Arc::clone(shared),
            view,
            slot,
            from: part.next.take().map(Bound::Excluded),
            of: EntriesOf::part(&scope, limits, &part),
            part,
            to,
        })
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            let Some(entry) = self.part.pop() else {
                let Some(from) = self.from.take() else {
                    return Ok(None);
                };
                self.shared.enter()?;
                self.fill(&from)?;
                continue;
            };
            self.shared.enter()?;
            let cell = self.of.blocks.bytes(&entry.cell);
            if !has_expired(cell, || self.shared.engine.now()) {
                return Entry::new(entry, &self.of).map(Some);
            }
        }
    }

    /// Reads the next part.
    fn fill(&mut self, from: &Bound<Vec<u8>>) -> Result<()> {
        let from = from.as_ref().map(Vec::as_slice);
        let to = self.to.as_ref().map(Vec::as_slice);
        self.part = self.view.part(&self.slot, from, to)?;
        self.from = self.part.next.take().map(Bound::Excluded);
        self.of = EntriesOf::part(&self.of.scope, self.of.limits, &self.part);
        Ok(())
    }

    pub(super) fn into_keys(self) -> Result<Keys> {
        let keys: Result<Vec<_>> = self
            .map(|entry| entry.map(|entry| entry.key().to_owned()))
            .collect();
        Ok(Keys(keys?.into_iter()))
    }
}

impl Iterator for Scan {
    type Item = Result<Entry>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            // It cannot go on; asked again it is at its end.
            self.from = None;
            self.part = Part::default();
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
