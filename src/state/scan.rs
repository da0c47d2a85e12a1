//! Owns iterating over a scope at one LSN.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::codec::cell::has_expired;
use crate::engine::part::Part;
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::error::{Error, Result};
use crate::scope::{Scope, prefix_end};
use crate::state::entry::{Entry, Ready, no_text};
use crate::state::store::Shared;

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
    /// What is read and not in `ready`.
    part: Part,
    ready: Ready,
    /// From where to go on; `None` behind the end.
    from: Option<Bound<Vec<u8>>>,
    to: Bound<Vec<u8>>,
}

/// What it reads, and not what it has read already.
impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("scope", self.ready.scope())
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
            match view.first_part(
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
            ready: Ready::new(scope, limits),
            part,
            to,
        })
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.ready.is_empty() && !self.fill()? {
                return Ok(None);
            }
            self.shared.enter()?;
            let Some(entry) = self.ready.pop() else {
                continue;
            };
            if !has_expired(entry.cell(), || self.shared.engine.now()) {
                return Ok(Some(entry));
            }
        }
    }

    /// Reads on; false at the end.
    fn fill(&mut self) -> Result<bool> {
        while !self.ready.fill(&mut self.part)? {
            let Some(from) = self.from.take() else {
                return Ok(false);
            };
            let from = from.as_ref().map(Vec::as_slice);
            let to = self.to.as_ref().map(Vec::as_slice);
            self.part = self.view.part(&self.slot, from, to)?;
            self.from = self.part.next.take().map(Bound::Excluded);
        }
        Ok(true)
    }

    /// The next entry, which may expire, or is not there yet, or is an error.
    #[inline(never)]
    fn next_of_any(&mut self) -> Option<Result<Entry>> {
        let next = self.advance();
        if next.is_err() {
            // It cannot go on; asked again it is at its end.
            self.from = None;
            self.part = Part::default();
            self.ready.clear();
        }
        next.transpose()
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
        if self.ready.lasting
            && self.shared.enter().is_ok()
            && let Some(entry) = self.ready.pop()
        {
            return Some(Ok(entry));
        }
        self.next_of_any()
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
