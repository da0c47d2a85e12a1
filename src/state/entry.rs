//! Owns the entries that scans give out, and those that a scan has ready: a stretch of them
//! at a time is looked at, so that for each of them there is nothing left but to count who
//! holds on to it.

use std::fmt;
use std::str::Utf8Error;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::codec::cell::deadline;
use crate::codec::{self, CodecLimits};
use crate::engine::Cell;
use crate::engine::part::{Part, PartEntry, Stretch};
use crate::engine::small_key::SmallKey;
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, Version};
use crate::scope::Scope;
use crate::state::cell;
use crate::sync::OnceLock;

/// How many entries are looked at at a time.
const STRETCH_ENTRIES: usize = 64;

/// A key and its value, each of which is looked for when it is asked for. It holds on to
/// the block of the image that it is in, or to what the scan has copied of memory, up to a
/// megabyte: what is to be kept for long is copied.
#[derive(Clone)]
pub struct Entry {
    of: Arc<Entries>,
    number: u32,
}

/// Neighbouring entries, and what they have in common.
struct Entries {
    scope: Arc<Scope>,
    limits: CodecLimits,
    stretch: Stretch,
    /// Once somebody has asked for one that stands in two places.
    keys: OnceLock<KeysOf>,
}

/// Keys one after the other, and where each ends.
struct KeysOf {
    text: String,
    ends: Vec<u32>,
}

/// Where it is from, when it was written and how large it is; neither key nor value.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("scope", &self.of.scope)
            .field("version", &self.version())
            .field("value_bytes", &self.cell().len())
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        // It was looked at before the entry was made.
        self.of.key(self.number)
    }

    /// Which commit wrote it.
    #[must_use]
    pub fn version(&self) -> Version {
        let entry = self.of.entry(self.number);
        entry.map(|entry| entry.lsn).unwrap_or_default().into()
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

    /// The value as it is stored.
    #[inline]
    pub(super) fn cell(&self) -> &[u8] {
        let cell = self.of.stretch.cell(self.number as usize);
        cell.unwrap_or_default()
    }
}

impl Entries {
    fn of_same_scope(&self, stretch: Stretch) -> Self {
        Self {
            scope: Arc::clone(&self.scope),
            limits: self.limits,
            stretch,
            keys: OnceLock::new(),
        }
    }

    #[inline]
    fn entry(&self, number: u32) -> Option<PartEntry<'_>> {
        self.stretch.entry(number as usize)
    }

    /// The key with this number. It was looked at before.
    #[inline]
    fn key(&self, number: u32) -> &str {
        match self.entry(number) {
            Some(entry) if entry.start.is_empty() => {
                std::str::from_utf8(entry.rest).unwrap_or_default()
            }
            Some(_) => {
                let keys = self.keys.get_or_init(|| KeysOf::stretch(&self.stretch));
                keys.get(number as usize).unwrap_or_default()
            }
            None => "",
        }
    }
}

impl KeysOf {
    #[cold]
    fn stretch(stretch: &Stretch) -> Self {
        let first = stretch.entry(0);
        let likely = first.map_or(0, |first| first.start.len() + first.rest.len() + 1);
        let mut text = Vec::with_capacity(likely * stretch.len());
        let mut ends = Vec::with_capacity(stretch.len());
        for entry in (0..stretch.len()).filter_map(|at| stretch.entry(at)) {
            text.extend_from_slice(entry.start);
            text.extend_from_slice(entry.rest);
            ends.push(text.len() as u32);
        }
        Self {
            text: String::from_utf8(text).unwrap_or_default(),
            ends,
        }
    }

    #[inline]
    fn get(&self, number: usize) -> Option<&str> {
        let start = number.checked_sub(1).map(|before| self.ends.get(before));
        let start = start.map_or(Some(0), |end| end.copied())?;
        let end = *self.ends.get(number)?;
        self.text.get(start as usize..end as usize)
    }
}

/// Entries of a scope that were looked at and are to be given out.
pub(crate) struct Ready {
    of: Arc<Entries>,
    next: u32,
    end: u32,
    /// None of them expires.
    pub(super) lasting: bool,
    /// What is behind the last of them cannot be given out.
    fault: Option<Box<Error>>,
}

impl Ready {
    /// Without any.
    pub(crate) fn new(scope: Arc<Scope>, limits: CodecLimits) -> Self {
        Self {
            of: Arc::new(Entries {
                scope,
                limits,
                stretch: Stretch::default(),
                keys: OnceLock::new(),
            }),
            next: 0,
            end: 0,
            lasting: false,
            fault: None,
        }
    }

    /// Gives the rest of them up.
    pub(super) fn clear(&mut self) {
        self.end = self.next;
        self.fault = None;
    }

    /// The scope that they are of.
    pub(crate) fn scope(&self) -> &Arc<Scope> {
        &self.of.scope
    }

    /// True where all are given out.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.end
    }

    /// The first of them.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<Entry> {
        if self.is_empty() {
            return None;
        }
        let number = self.next;
        self.next += 1;
        let of = Arc::clone(&self.of);
        Some(Entry { of, number })
    }

    /// The key of the first of them.
    pub(super) fn front_key(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.of.key(self.next).as_bytes())
    }

    /// Goes on with the next entries of a part, once all are given out; false where it has
    /// none.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the next key is no text.
    pub(super) fn fill(&mut self, part: &mut Part) -> Result<bool> {
        if let Some(fault) = self.fault.take() {
            return Err(*fault);
        }
        let Some(stretch) = part.pop_stretch(STRETCH_ENTRIES) else {
            return Ok(false);
        };
        self.go_on_with(stretch);
        match (self.end, self.fault.take()) {
            (0, Some(fault)) => Err(*fault),
            (_, fault) => {
                self.fault = fault;
                Ok(true)
            }
        }
    }

    fn go_on_with(&mut self, stretch: Stretch) {
        stretch.bring_near();
        self.lasting = stretch.is_lasting();
        (self.next, self.end) = (0, stretch.len() as u32);
        if !stretch.is_ascii() {
            let entries = (0..stretch.len()).filter_map(|number| stretch.entry(number));
            for (number, entry) in entries.enumerate() {
                if let Err(e) = check_text(&entry) {
                    self.fault = Some(Box::new(no_text(&self.of.scope, e)));
                    self.end = number as u32;
                    break;
                }
            }
        }
        self.of = Arc::new(self.of.of_same_scope(stretch));
    }

    /// An entry of the same scope that is in no part.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where its key is no text.
    pub(crate) fn one(&self, key: SmallKey, lsn: Lsn, cell: Cell) -> Result<Entry> {
        let stretch = Stretch::of_one(key, lsn, cell);
        if let Some(Err(e)) = stretch.entry(0).map(|entry| check_text(&entry)) {
            return Err(no_text(&self.of.scope, e));
        }
        let of = Arc::new(self.of.of_same_scope(stretch));
        Ok(Entry { of, number: 0 })
    }
}

fn check_text(entry: &PartEntry<'_>) -> std::result::Result<(), Utf8Error> {
    std::str::from_utf8(&entry.key()).map(drop)
}

/// What is said of a key that is no string.
pub(super) fn no_text(scope: &Scope, error: Utf8Error) -> Error {
    let what = format!("a key in {scope} is not UTF-8: {error}");
    Corruption::new("a key", what).into()
}

#[cfg(test)]
mod tests;
