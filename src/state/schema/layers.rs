//! Owns the layers in which migrations stage what they write: a scope of the store's own
//! for each step of a chain, over the state that nobody has changed yet.
//!
//! What must stay true: what a layer says of a key counts over what is below it; nothing
//! of the real state is written here.
//!
//! ```text
//! layer k, the scope `migration/k`:
//!   key   = the full key of the real one: its encoded scope, then its bytes
//!   value = bytes: the cell that the key is to have, with its deadline in it
//!         | null:  the key is to be removed
//! ```
//!
//! A staged cell is inside of a value, so it has no deadline of its own and nothing
//! removes it before it is applied.
//!
//! What is read is the newest there is, part by part, and not a view: a chain commits all
//! the time, so a view that is held would be expired by the chain itself. Nothing else
//! writes meanwhile but the removal of what has expired, which is absent to all anyway.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use crate::codec;
use crate::codec::cell::{has_expired, put_head, value};
use crate::engine::part::Part;
use crate::engine::table::{Slot, Stored};
use crate::engine::{Cell, Engine};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::scope::{Scope, describe, is_system, prefix_end};

/// The scope of the layer of a step; the first step is 1.
pub(crate) fn layer(step: u32) -> Scope {
    Scope::system(format!("migration/{step}"))
}

/// How a cell, or the removal of a key, is staged.
pub(crate) fn staged(cell: &Stored) -> Arc<[u8]> {
    let mut bytes = Vec::with_capacity(cell.as_ref().map_or(2, |cell| cell.len() + 12));
    put_head(&mut bytes, None);
    codec::put_bytes_or_null(&mut bytes, cell.as_deref());
    Arc::from(bytes)
}

/// What was staged of a key.
fn unstaged(cell: &[u8]) -> Result<Stored> {
    let staged = value(cell).and_then(codec::bytes_or_null);
    let staged = staged.ok_or_else(|| {
        let what = "something is staged that is neither a value nor a removal";
        Error::from(Corruption::new("the layers of a migration", what))
    })?;
    Ok(staged.map(Arc::from))
}

/// The state as the steps of a chain left it, up to one of them.
#[derive(Clone)]
pub(crate) struct Stack {
    real: Arc<Engine>,
    staged: Arc<Engine>,
    /// The layers that count, the highest first.
    layers: Vec<Arc<Slot>>,
    /// The scopes of the real state that may be in memory only, in order.
    in_memory: Arc<[Box<[u8]>]>,
}

/// How many layers it has; nothing of what is in them.
impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers.len())
            .field("real", &self.real)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// The layers of these steps, which are among the staged ones of a store, over the
    /// real state of one, which may be the same.
    pub(crate) fn new(
        real: &Arc<Engine>,
        staged: &Arc<Engine>,
        steps: impl IntoIterator<Item = u32>,
    ) -> Self {
        let mut steps: Vec<u32> = steps.into_iter().collect();
        steps.sort_unstable_by(|a, b| b.cmp(a));
        let slot = |step: u32| staged.slot(&layer(step).encode());
        Self {
            layers: steps.into_iter().map(slot).collect(),
            in_memory: real.prefixes_in_memory().into(),
            real: Arc::clone(real),
            staged: Arc::clone(staged),
        }
    }

    /// The same with the layer of one more step on top.
    pub(crate) fn with(&self, step: u32) -> Self {
        let mut stack = self.clone();
        let top = self.staged.slot(&layer(step).encode());
        stack.layers.insert(0, top);
        stack
    }

    /// The newest value of a key, unless it has expired.
    pub(crate) fn find(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Cell>> {
        let full = [prefix, key].concat();
        for layer in &self.layers {
            if let Some((_, cell)) = self.staged.read(layer, &full)? {
                let cell = unstaged(&cell)?.map(Cell::Memory);
                return Ok(cell.filter(|cell| !has_expired(cell, || self.real.now())));
            }
        }
        let found = self.real.read(&self.real.slot(prefix), key)?;
        Ok(found.map(|(_, cell)| cell))
    }

    /// The value of a key below the layers, unless it has expired.
    pub(crate) fn find_real(&self, prefix: &[u8], key: &[u8]) -> Result<Option<Cell>> {
        let found = self.real.read(&self.real.slot(prefix), key)?;
        Ok(found.map(|(_, cell)| cell))
    }

    /// The entries of a scope in a range of keys, in order, `own` over all others.
    pub(crate) fn entries(
        &self,
        prefix: &[u8],
        (from, to): (Bound<Vec<u8>>, Bound<Vec<u8>>),
        own: BTreeMap<Vec<u8>, Stored>,
    ) -> Entries {
        let full = |key: Vec<u8>| [prefix, &key].concat();
        let layered = (
            match from.clone() {
                Bound::Unbounded => Bound::Included(prefix.to_vec()),
                bound => bound.map(full),
            },
            match to.clone() {
                Bound::Unbounded => prefix_end(prefix).map_or(Bound::Unbounded, Bound::Excluded),
                bound => bound.map(full),
            },
        );
        let mut sources = vec![Source::Own(own.into_iter().peekable())];
        sources.extend(self.layers.iter().map(|layer| {
            let reader = Reader::new(&self.staged, layer, layered.clone());
            Source::Layer(reader, prefix.len())
        }));
        let slot = self.real.slot(prefix);
        sources.push(Source::Real(Reader::new(&self.real, &slot, (from, to))));
        Entries {
            clock: Arc::clone(&self.real),
            sources,
        }
    }

    /// All that the layers say, in the order of the full keys; `None` for keys that are to
    /// be removed.
    pub(crate) fn changes(&self, from: Bound<Vec<u8>>) -> Changes {
        let source = |layer| {
            let reader = Reader::new(&self.staged, layer, (from.clone(), Bound::Unbounded));
            Source::Layer(reader, 0)
        };
        Changes {
            sources: self.layers.iter().map(source).collect(),
        }
    }

    /// True where a scope has keys, with `own` over all others.
    pub(crate) fn is_live(&self, prefix: &[u8], own: BTreeMap<Vec<u8>, Stored>) -> Result<bool> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        Ok(self.entries(prefix, all, own).advance()?.is_some())
    }

    /// The encoded scopes that may have keys, in order, behind one.
    pub(crate) fn scopes(&self, after: Option<&[u8]>) -> Scopes {
        let at = after.map_or_else(Vec::new, |after| prefix_end(after).unwrap_or_default());
        let all = (Bound::Included(at.clone()), Bound::Unbounded);
        let reader = |layer| Reader::new(&self.staged, layer, all.clone());
        Scopes {
            real: Arc::clone(&self.real),
            in_memory: Arc::clone(&self.in_memory),
            layers: self.layers.iter().map(reader).collect(),
            at: Some(at),
        }
    }
}

/// The entries of one slot in a range, a part at a time, each as it is when it is read.
struct Reader {
    engine: Arc<Engine>,
    slot: Arc<Slot>,
    part: Part,
    /// From where to go on; `None` behind the end.
    from: Option<Bound<Vec<u8>>>,
    to: Bound<Vec<u8>>,
}

impl Reader {
    fn new(
        engine: &Arc<Engine>,
        slot: &Arc<Slot>,
        (from, to): (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            slot: Arc::clone(slot),
            part: Part::default(),
            from: Some(from),
            to,
        }
    }

    fn front_key(&mut self) -> Result<Option<&[u8]>> {
        while self.part.is_empty()
            && let Some(from) = self.from.take()
        {
            self.part = loop {
                self.engine.check()?;
                let (from, to) = (from.as_ref(), self.to.as_ref());
                let view = self.engine.view();
                match view.part(&self.slot, from.map(Vec::as_slice), to.map(Vec::as_slice)) {
                    // It had to make room; the next view begins at the newer image.
                    Err(Error::ViewExpired) => {}
                    outcome => break outcome?,
                }
            };
            self.from = self.part.next.take().map(Bound::Excluded);
        }
        Ok(self.part.front_key())
    }

    /// Passes over what is before a key.
    fn seek(&mut self, key: &[u8]) -> Result<Option<&[u8]>> {
        while self.part.front_key().is_some_and(|front| front < key) {
            self.part.pop();
        }
        if self.part.is_empty() && self.from.is_some() {
            self.from = Some(Bound::Included(key.to_vec()));
        }
        self.front_key()
    }
}

/// What has an opinion of keys, in their order.
enum Source {
    Own(Peekable<btree_map::IntoIter<Vec<u8>, Stored>>),
    /// Of whose keys so many bytes are the scope's.
    Layer(Reader, usize),
    Real(Reader),
}

impl Source {
    fn peek(&mut self) -> Result<Option<&[u8]>> {
        Ok(match self {
            Self::Own(own) => own.peek().map(|(key, _)| key.as_slice()),
            Self::Layer(reader, skip) => {
                let skip = *skip;
                let front = reader.front_key()?;
                front.map(|front| front.get(skip..).unwrap_or_default())
            }
            Self::Real(reader) => reader.front_key()?,
        })
    }

    fn pop(&mut self) -> Result<Option<Entry>> {
        Ok(match self {
            Self::Own(own) => own.next().map(|(key, cell)| Entry {
                key,
                lsn: Lsn::ZERO,
                cell: cell.map(Cell::Memory),
            }),
            Self::Layer(reader, skip) => match reader.part.pop() {
                None => None,
                Some(entry) => Some(Entry {
                    key: entry.key().get(*skip..).unwrap_or_default().to_vec(),
                    lsn: Lsn::ZERO,
                    cell: unstaged(entry.cell)?.map(Cell::Memory),
                }),
            },
            Self::Real(reader) => reader.part.pop().map(|entry| Entry {
                key: entry.key().to_vec(),
                lsn: entry.lsn,
                cell: Some(entry.to_cell()),
            }),
        })
    }
}

/// A key and what becomes of it.
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    /// The commit that wrote it; zero where it is staged.
    pub(crate) lsn: Lsn,
    /// `None` where it is removed.
    pub(crate) cell: Option<Cell>,
}

/// The next key of several sources, and what the first that has it says.
fn merged(sources: &mut [Source]) -> Result<Option<Entry>> {
    let mut first: Option<(usize, Vec<u8>)> = None;
    for (at, source) in sources.iter_mut().enumerate() {
        if let Some(key) = source.peek()?
            && first
                .as_ref()
                .is_none_or(|(_, first)| key < first.as_slice())
        {
            first = Some((at, key.to_vec()));
        }
    }
    let Some((at, key)) = first else {
        return Ok(None);
    };
    let mut found = None;
    for (other, source) in sources.iter_mut().enumerate().skip(at) {
        if source.peek()? == Some(&key) {
            let entry = source.pop()?;
            if other == at {
                found = entry;
            }
        }
    }
    Ok(found)
}

/// The entries of a scope as they are over all layers.
pub(crate) struct Entries {
    clock: Arc<Engine>,
    sources: Vec<Source>,
}

impl Entries {
    /// The next one that is there and has not expired.
    pub(crate) fn advance(&mut self) -> Result<Option<(Vec<u8>, Lsn, Cell)>> {
        while let Some(entry) = merged(&mut self.sources)? {
            if let Some(cell) = entry.cell
                && !has_expired(&cell, || self.clock.now())
            {
                return Ok(Some((entry.key, entry.lsn, cell)));
            }
        }
        Ok(None)
    }
}

/// What the layers change.
pub(crate) struct Changes {
    sources: Vec<Source>,
}

impl Changes {
    /// The next full key, and what becomes of it.
    pub(crate) fn advance(&mut self) -> Result<Option<(Vec<u8>, Stored)>> {
        Ok(merged(&mut self.sources)?.map(|entry| {
            let cell = entry.cell.map(|cell| match cell {
                Cell::Memory(cell) => cell,
                other => Arc::from(&*other),
            });
            (entry.key, cell)
        }))
    }
}

/// Scopes that may have keys, one by one: with a million of them no list of all is made.
pub(crate) struct Scopes {
    real: Arc<Engine>,
    in_memory: Arc<[Box<[u8]>]>,
    layers: Vec<Reader>,
    /// The next one is here or behind; `None` at the end.
    at: Option<Vec<u8>>,
}

impl Scopes {
    /// The next encoded scope; what the store keeps for itself is not among them.
    pub(crate) fn advance(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(at) = self.at.take() else {
            return Ok(None);
        };
        let mut first = loop {
            self.real.check()?;
            match self.real.view().next_image_scope(&at) {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) => {}
                outcome => break outcome?,
            }
        };
        let mut see = |prefix: &[u8]| {
            if first.as_deref().is_none_or(|first| prefix < first) {
                first = Some(prefix.to_vec());
            }
        };
        let behind = self.in_memory.partition_point(|prefix| **prefix < *at);
        if let Some(prefix) = self.in_memory.get(behind) {
            see(prefix);
        }
        for layer in &mut self.layers {
            if let Some(key) = layer.seek(&at)? {
                see(key.get(..scope_len(key)?).unwrap_or_default());
            }
        }
        let first = first.filter(|prefix| !is_system(prefix));
        self.at = first.as_deref().and_then(prefix_end);
        Ok(first)
    }
}

/// The scope that an encoded one is.
pub(crate) fn scope_of(prefix: &[u8]) -> Result<Scope> {
    match Scope::decode(prefix) {
        Some((scope, len)) if len == prefix.len() && !is_system(prefix) => Ok(scope),
        _ => Err(malformed(prefix)),
    }
}

/// How long the scope is that a full key begins with.
pub(crate) fn scope_len(key: &[u8]) -> Result<usize> {
    let scope = Scope::decode(key).filter(|_| !is_system(key));
    scope.map(|(_, len)| len).ok_or_else(|| malformed(key))
}

fn malformed(key: &[u8]) -> Error {
    let what = format!("it is staged for no scope: {}", describe(key));
    Corruption::new("the layers of a migration", what).into()
}
