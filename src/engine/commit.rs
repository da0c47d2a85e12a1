//! Owns the commit step: validate, take an LSN, append to the log's buffer, apply
//! to the memtable; nothing else happens under the sequencer's lock, and no user's
//! code runs there.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Engine;
use super::body::BodyWriter;
use super::quota::{QuotaChange, QuotaOf, Refusal};
use super::reservation::Claim;
use super::sequencer::Sequencer;
use super::small_key::SmallKey;
use super::table::{Found, Garbage, Slot, SlotState, Stored};
use super::usage::Verdict;
use crate::codec::cell::{NEVER, deadline, has_expired};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::sync::RwLockWriteGuard;
use crate::sync::atomic::Ordering;

/// How often the commit step is tried again before it gives up: each time because
/// of something that was then attended to.
const ATTEMPTS_MAX: usize = 1000;

/// What becomes of one key.
pub(crate) enum Op {
    Put(Arc<[u8]>),
    Delete,
    /// Decided inside the commit step from what is there: no race can be lost. It
    /// is quick, is ours and not the user's, and may be asked more than once.
    Modify(Modify),
}

/// From the version that is there to the one to be written.
pub(crate) type Modify = Box<dyn Fn(Option<(Lsn, &[u8])>) -> Result<Stored> + Send + Sync>;

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put(_) => "Put",
            Self::Delete => "Delete",
            Self::Modify(_) => "Modify",
        })
    }
}

/// What becomes of keys of one scope. Most commits have one key, and need no memory for it.
pub(crate) type Ops = SmallVec<[KeyOp; 1]>;

/// A key and what becomes of it.
pub(crate) type KeyOp = (SmallKey, Op);

/// The writes to one scope; in a batch there is one for each scope.
#[derive(Debug)]
pub(crate) struct SlotBatch {
    pub(crate) slot: Arc<Slot>,
    /// Clear the scope before the ops.
    pub(crate) clear: bool,
    /// Keys in order, each once.
    pub(crate) ops: Ops,
}

/// What a transaction read and relies on.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) slot: Arc<Slot>,
    pub(crate) from: Bound<Box<[u8]>>,
    pub(crate) to: Bound<Box<[u8]>>,
}

/// A commit to be made.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) writes: SmallVec<[SlotBatch; 1]>,
    pub(crate) reads: Vec<Read>,
    /// The earliest deadline of what was read as present: from then on it would have
    /// been read as absent.
    pub(crate) expires: Option<u64>,
    /// The view that it read, where nobody reads that any more once this is committed: what is
    /// overwritten is not kept for it.
    pub(crate) ends: Option<u64>,
    /// It is not worth waiting for: where somebody has reserved a key, it is lost.
    pub(crate) yields: bool,
    /// A quota that the writes record: it counts from this commit on.
    pub(crate) quota: Option<QuotaChange>,
    /// What it makes of its scopes was held against their limits before.
    pub(crate) judged: bool,
    /// The schema version of the state from this commit on.
    pub(crate) schema: Option<u32>,
}

/// What an attempt came to.
enum Attempt {
    Done(Lsn),
    /// Something that was read has changed.
    Lost,
    /// The log needs room for a body of this length.
    NoRoom(usize),
    /// Somebody has reserved a key.
    Reserved,
    /// What is replaced was not looked up, or too long ago; or the schema version is
    /// another than that of the body.
    Stale,
    /// This scope may be at its limit, and has to be counted as it is at this time.
    Uncounted(usize, u64),
    /// It would be too much for this scope.
    Refused(usize, Refusal),
}

/// What an op replaces, expired or not.
pub(super) type Base = Option<(Lsn, super::Cell)>;

/// The versions that ops replace, as far as memory does not know them and somebody has
/// to know.
struct Bases {
    read_at: Lsn,
    /// By scope and op of the batch; of a scope all, or none that was looked up.
    found: Vec<Vec<Base>>,
}

impl Batch {
    /// What was written to these scopes, and nothing read.
    pub(crate) fn of(writes: impl IntoIterator<Item = SlotBatch>) -> Self {
        Self {
            writes: writes.into_iter().collect(),
            ..Self::default()
        }
    }

    fn has_modify(&self) -> bool {
        self.writes.iter().any(SlotBatch::has_modify)
    }

    fn has_puts(&self) -> bool {
        let puts = |(_, op): &KeyOp| !matches!(op, Op::Delete);
        self.writes.iter().any(|batch| batch.ops.iter().any(puts))
    }

    /// Looks up what the commit step is going to touch, for whoever has to wait for it: what
    /// comes from memory then does not do so while others wait.
    fn look_ahead(&self) {
        for writes in &self.writes {
            let state = writes.slot.read();
            for (key, _) in &writes.ops {
                let _ = state.find(key, Lsn::new(u64::MAX));
            }
        }
    }

    /// The keys that it touches.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let mut claims = Vec::new();
        for batch in &self.writes {
            let slot = batch.slot.number;
            if batch.clear {
                claims.push(Claim { slot, key: None });
            }
            claims.extend(batch.ops.iter().map(|(key, _)| Claim {
                slot,
                key: Some((**key).into()),
            }));
        }
        claims
    }

    fn body(&self, schema: u32, resolved: impl Fn(usize, usize) -> Stored) -> BodyWriter {
        let mut body = BodyWriter::new(schema);
        for (at, batch) in self.writes.iter().enumerate() {
            body.scope(&batch.slot.prefix);
            if batch.clear {
                body.clear();
            }
            for (op, (key, _)) in batch.ops.iter().enumerate() {
                body.write(key, &resolved(at, op));
            }
        }
        body
    }
}

impl SlotBatch {
    /// What becomes of these keys, which are in order, each once.
    pub(crate) fn of<K: Into<SmallKey>>(
        slot: Arc<Slot>,
        ops: impl IntoIterator<Item = (K, Op)>,
    ) -> Self {
        let ops = ops.into_iter().map(|(key, op)| (key.into(), op));
        Self {
            slot,
            clear: false,
            ops: ops.collect(),
        }
    }

    /// The scope is cleared.
    pub(crate) fn clearing(slot: Arc<Slot>) -> Self {
        Self {
            slot,
            clear: true,
            ops: Ops::new(),
        }
    }

    fn has_modify(&self) -> bool {
        let modifies = |(_, op): &KeyOp| matches!(op, Op::Modify(_));
        self.ops.iter().any(modifies)
    }

    /// True where what is replaced has to be known.
    fn needs_bases(&self) -> bool {
        self.has_modify() || self.slot.followed.load(Ordering::Relaxed)
    }
}

impl Read {
    /// The whole key.
    pub(crate) fn key(slot: &Arc<Slot>, key: &[u8]) -> Self {
        Self {
            slot: Arc::clone(slot),
            from: Bound::Included(key.into()),
            to: Bound::Included(key.into()),
        }
    }

    fn changed_since(&self, lsn: Lsn) -> bool {
        let from = self.from.as_ref().map(|key| &**key);
        let to = self.to.as_ref().map(|key| &**key);
        self.slot.read().changed_since(from, to, lsn)
    }
}

impl Engine {
    /// Commits a batch that read nothing. Visible when it returns, durable later.
    pub(crate) fn commit(self: &Arc<Self>, batch: &Batch) -> Result<Lsn> {
        // It read nothing, so there is nothing to lose a race about.
        let lsn = self.commit_batch(batch, None, None)?.unwrap_or_default();
        self.expire_in_passing();
        Ok(lsn)
    }

    /// Commits a batch that read a view of this LSN. `None` where it lost a race: read
    /// again. Whoever commits what a user asked for calls [`Engine::expire_in_passing`]
    /// once view and ticket are gone.
    pub(crate) fn commit_read(
        self: &Arc<Self>,
        batch: &Batch,
        view: Lsn,
        ticket: Option<u64>,
    ) -> Result<Option<Lsn>> {
        self.commit_batch(batch, Some(view), ticket)
    }

    fn commit_batch(
        self: &Arc<Self>,
        batch: &Batch,
        view: Option<Lsn>,
        ticket: Option<u64>,
    ) -> Result<Option<Lsn>> {
        self.check()?;
        let mut ready = None;
        for _ in 0..ATTEMPTS_MAX {
            self.admit(batch.has_puts())?;
            if !batch.has_modify() {
                let schema = self.schema_of(batch);
                ready = ready.filter(|body: &BodyWriter| body.schema() == schema);
                ready.get_or_insert_with(|| {
                    batch.body(schema, |at, op| match &batch.writes[at].ops[op].1 {
                        Op::Put(cell) => Some(Arc::clone(cell)),
                        Op::Delete | Op::Modify(_) => None,
                    })
                });
            }
            let bases = self.bases(batch)?;
            let attempt = self.attempt(batch, (view, &bases), ready.as_ref(), ticket);
            match attempt.inspect_err(|e| self.figures.refused(e))? {
                Attempt::Done(lsn) => {
                    self.figures.commits.increment();
                    self.after_commit()?;
                    return Ok(Some(lsn));
                }
                Attempt::Lost => {
                    self.figures.conflicts.increment();
                    return Ok(None);
                }
                Attempt::NoRoom(body) => self.make_room(body)?,
                Attempt::Reserved if batch.yields => return Ok(None),
                Attempt::Reserved => self.reservations.wait_for(ticket, &batch.claims()),
                Attempt::Stale => {}
                Attempt::Uncounted(at, since) => match self.count(&batch.writes[at].slot, since) {
                    Ok(()) | Err(Error::ViewExpired) => {}
                    Err(e) => return Err(e),
                },
                Attempt::Refused(at, refusal) => {
                    return Err(refusal.error(&batch.writes[at].slot.prefix));
                }
            }
        }
        Err(Error::Busy {
            reason: "the commit was overtaken again and again".into(),
        })
    }

    /// The schema version that a commit of this batch says.
    fn schema_of(&self, batch: &Batch) -> u32 {
        batch.schema.unwrap_or_else(|| self.schema())
    }

    /// Looks up what modifies start from, and what is replaced in scopes whose figures
    /// are followed, so that the image is not read under the lock. They count only for
    /// keys that memory does not know by then: without an image below, such a key is
    /// nowhere, though it may have been there a moment ago.
    fn bases(&self, batch: &Batch) -> Result<Bases> {
        let read_at = self.visible();
        let mut found = Vec::new();
        if batch.writes.iter().any(SlotBatch::needs_bases) {
            for writes in &batch.writes {
                let of_op = |(key, _): &KeyOp| match self.disk {
                    Some(_) => self.newest(&writes.slot, key),
                    None => Ok(None),
                };
                found.push(match writes.needs_bases() {
                    true => writes.ops.iter().map(of_op).collect::<Result<_>>()?,
                    false => Vec::new(),
                });
            }
        }
        Ok(Bases { read_at, found })
    }

    fn attempt(
        &self,
        batch: &Batch,
        (view, bases): (Option<Lsn>, &Bases),
        ready: Option<&BodyWriter>,
        ticket: Option<u64>,
    ) -> Result<Attempt> {
        let mut garbage = Garbage::of(batch.writes.iter().map(|writes| writes.ops.len()).sum());
        let mut sequencer = match self.sequencer.try_lock() {
            Some(sequencer) => sequencer,
            None => {
                batch.look_ahead();
                self.sequencer.lock()
            }
        };
        self.check()?;
        if self.reservations.any() && self.reservations.blocks(ticket, &batch.claims()) {
            return Ok(Attempt::Reserved);
        }
        if let Some(view) = view
            && !batch.reads.is_empty()
            && (view < sequencer.retired || batch.reads.iter().any(|read| read.changed_since(view)))
        {
            return Ok(Attempt::Lost);
        }
        let time_micros = self.now();
        if batch.expires.is_some_and(|expires| expires <= time_micros) {
            return Ok(Attempt::Lost);
        }
        if !bases.found.is_empty() && bases.read_at < sequencer.retired {
            return Ok(Attempt::Stale);
        }
        // It was made before a commit that changed it.
        let schema = self.schema_of(batch);
        if ready.is_some_and(|body| body.schema() != schema) {
            return Ok(Attempt::Stale);
        }
        let mut states: SmallVec<[_; 1]> = batch
            .writes
            .iter()
            .map(|writes| writes.slot.write())
            .collect();
        let resolved = match ready {
            Some(_) => Vec::new(),
            None => resolve(batch, &states, bases, time_micros)?,
        };
        for (at, writes) in batch.writes.iter().enumerate() {
            let cells = resolved.get(at).map(Vec::as_slice);
            let olds = bases.found.get(at).map_or(&[][..], Vec::as_slice);
            let state = &mut states[at];
            match self.judge(
                writes,
                cells,
                (state, olds),
                (&sequencer.kinds, time_micros),
            ) {
                Verdict::Fits => {}
                Verdict::Unknown => return Ok(Attempt::Stale),
                Verdict::Uncounted | Verdict::Refused(_) if batch.judged => {}
                Verdict::Uncounted => return Ok(Attempt::Uncounted(at, time_micros)),
                Verdict::Refused(refusal) => return Ok(Attempt::Refused(at, refusal)),
            }
        }
        let built;
        let body = match ready {
            Some(body) => body.bytes(),
            None => {
                built = batch.body(schema, |at, op| resolved[at][op].clone());
                built.bytes()
            }
        };
        let lsn = match &self.disk {
            None => sequencer.last.next(),
            Some(disk) => match disk.log.append(time_micros, body)? {
                Some(lsn) => {
                    self.note_logged(body.len());
                    lsn
                }
                None => return Ok(Attempt::NoRoom(body.len())),
            },
        };
        sequencer.last = lsn;
        sequencer.time_micros = time_micros;
        // Before it is applied: what it overwrites is still there.
        let note = self.note(batch, &states, (lsn, time_micros), body);
        self.apply(
            &mut sequencer,
            batch,
            &resolved,
            &mut states,
            lsn,
            &mut garbage,
        );
        self.visible.store(lsn.get(), Ordering::Release);
        let woken = note.map(|note| self.feed.push(note, self.options.watch_bytes));
        drop(states);
        drop(sequencer);
        if let Some(woken) = woken {
            self.feed.wake(woken);
        }
        Ok(Attempt::Done(lsn))
    }

    /// Puts a commit into the memtable. All its scopes are locked, so nobody sees
    /// a part of it.
    fn apply(
        &self,
        sequencer: &mut Sequencer,
        batch: &Batch,
        resolved: &[Vec<Stored>],
        states: &mut [RwLockWriteGuard<'_, SlotState>],
        lsn: Lsn,
        garbage: &mut Garbage,
    ) {
        let pins = sequencer.views.pins(batch.ends, self.disk.is_none());
        let generation = sequencer.generation;
        let mut change = 0;
        for (at, (writes, state)) in batch.writes.iter().zip(states).enumerate() {
            if writes.clear {
                writes.slot.cleared.store(lsn.get(), Ordering::SeqCst);
            }
            // Without an image there is nothing below that it would have to hide.
            if writes.ops.is_empty() && self.disk.is_none() && state.is_empty() {
                continue;
            }
            if let Some(bytes) = state.enter(generation) {
                change += bytes;
                // Without a folder none is ever sealed.
                if self.disk.is_some() {
                    let entry = sequencer.generations.entry(generation).or_default();
                    entry.slots.push(Arc::clone(&writes.slot));
                }
            }
            let kept = state.keeps_since();
            if writes.clear {
                change += state.clear(lsn, pins, garbage);
            }
            let mut earliest = NEVER;
            for (op, (key, written)) in writes.ops.iter().enumerate() {
                let cell = match (resolved.get(at), written) {
                    (Some(cells), _) => cells[op].clone(),
                    (None, Op::Put(cell)) => Some(Arc::clone(cell)),
                    (None, Op::Delete | Op::Modify(_)) => None,
                };
                let expires = cell.as_deref().and_then(deadline);
                earliest = earliest.min(expires.unwrap_or(NEVER));
                change += state.put(key, (lsn, cell), pins, garbage);
            }
            state.tally.settle();
            if let Some(since) = state.keeps_since().filter(|_| kept.is_none()) {
                let place = (since, writes.slot.number);
                sequencer.keeping.insert(place, Arc::clone(&writes.slot));
            }
            if earliest < NEVER {
                writes.slot.earliest.fetch_min(earliest, Ordering::SeqCst);
                self.expiry.note(earliest);
            }
        }
        if let Some(change) = &batch.quota {
            self.set_quota(sequencer, change);
        }
        if let Some(schema) = batch.schema {
            self.schema.store(schema, Ordering::Release);
        }
        self.account(change);
    }

    pub(super) fn set_quota(&self, sequencer: &mut Sequencer, change: &QuotaChange) {
        match &change.of {
            QuotaOf::Scope(slot) => self.slots.set_quota(slot, change.quota),
            QuotaOf::Kind(kind) => sequencer.kinds.set(*kind, change.quota),
        }
    }

    /// Applies a commit that was read back from the log.
    pub(super) fn replay(&self, batch: &Batch, lsn: Lsn, time_micros: u64) {
        let mut garbage = Garbage::default();
        let mut sequencer = self.sequencer.lock();
        let mut states: SmallVec<[_; 1]> = batch
            .writes
            .iter()
            .map(|writes| writes.slot.write())
            .collect();
        sequencer.last = lsn;
        sequencer.time_micros = sequencer.time_micros.max(time_micros);
        self.expiry.see(time_micros);
        self.apply(&mut sequencer, batch, &[], &mut states, lsn, &mut garbage);
        self.visible.store(lsn.get(), Ordering::Release);
    }
}

/// Computes what modifies write; what has expired at `now` is absent to them.
fn resolve(
    batch: &Batch,
    states: &[RwLockWriteGuard<'_, SlotState>],
    bases: &Bases,
    now: u64,
) -> Result<Vec<Vec<Stored>>> {
    let lives = |cell: &&[u8]| !has_expired(cell, || now);
    let mut resolved = Vec::with_capacity(batch.writes.len());
    for (at, writes) in batch.writes.iter().enumerate() {
        let mut cells = Vec::with_capacity(writes.ops.len());
        for (op, (key, written)) in writes.ops.iter().enumerate() {
            cells.push(match written {
                Op::Put(cell) => Some(Arc::clone(cell)),
                Op::Delete => None,
                Op::Modify(modify) => match states[at].find(key, Lsn::new(u64::MAX)) {
                    Found::Version(lsn, cell) => {
                        let cell = cell.as_deref().filter(lives);
                        modify(cell.map(|cell| (lsn, cell)))?
                    }
                    Found::Unknown => {
                        let base = bases.found[at][op].as_ref();
                        let base = base.map(|(lsn, cell)| (*lsn, &**cell));
                        modify(base.filter(|(_, cell)| lives(cell)))?
                    }
                },
            });
        }
        resolved.push(cells);
    }
    Ok(resolved)
}
