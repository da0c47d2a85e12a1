//! Owns dead letters: messages whose activation failed for good. They can be listed, looked
//! at, edited, and taken out again to be posted. Imports `record`, `retention`.
//!
//! What must stay true: a number is given once, over all openings. Which letters there are
//! is decided in memory, under one lock that is held for no longer than that by whoever
//! commits one with other things; so what is being taken out is not edited, and what made
//! room does not come back.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::micros;
use crate::codec::CodecLimits;
use crate::codec::cell::{NEVER, deadline};
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::engine::{Batch, KeyOp, Op, Ops, SlotBatch};
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::record::{self, DeadKey, DeadRecord};
use crate::scope::Scope;
use crate::state::Store;
use crate::sync::Mutex;
use crate::value::Value;

/// The longest time for which a dead letter is kept.
const TIME_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The most dead letters.
const NUMBER_MAX: usize = 1_000_000;

/// The most bytes of the text of an error; what is behind them is cut off.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// How long dead letters stay, and how many. What comes first counts.
///
/// ```
/// use evenkeel::KeepDeadLetters;
/// use std::time::Duration;
/// let keep = KeepDeadLetters::new().number(500);
/// assert_eq!((keep.number, keep.time), (500, Duration::from_secs(30 * 24 * 60 * 60)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepDeadLetters {
    /// How long, by store time, from when the activation failed. Default 30 days, at most
    /// 100 years. A letter keeps the time that held when it was written.
    pub time: Duration,
    /// How many. One more, and the oldest goes, which is counted. Default 10,000, at least
    /// 1, at most 1 million.
    pub number: usize,
}

impl KeepDeadLetters {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            time: Duration::from_secs(30 * 24 * 60 * 60),
            number: 10_000,
        }
    }

    /// Sets how long they stay.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }

    /// Sets how many there may be.
    #[must_use]
    pub fn number(mut self, number: usize) -> Self {
        self.number = number;
        self
    }

    /// What is wrong with them.
    pub(crate) fn fault(&self) -> Option<String> {
        if !(1..=NUMBER_MAX).contains(&self.number) {
            Some(format!(
                "{} dead letters are to be kept; from 1 to {NUMBER_MAX} may be",
                self.number
            ))
        } else if self.time > TIME_MAX {
            Some(format!(
                "dead letters are to be kept for {:?}; {TIME_MAX:?} at most",
                self.time
            ))
        } else {
            None
        }
    }
}

impl Default for KeepDeadLetters {
    fn default() -> Self {
        Self::new()
    }
}

/// A message whose activation failed for good, as it is in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    id: u64,
    record: DeadRecord,
    original: Option<Value>,
}

impl DeadLetter {
    /// Its number. They ascend, and are never given again.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The flow that it belongs to.
    #[must_use]
    pub fn flow_id(&self) -> &str {
        &self.record.flow
    }

    /// The worker whose activation failed.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.record.worker
    }

    /// The routine that failed.
    #[must_use]
    pub fn routine(&self) -> &str {
        &self.record.routine
    }

    /// The slot that it was taken from.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.record.slot
    }

    /// Its data, as it was edited last.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.record.message.data
    }

    /// The data that it came with, where it was edited; `None` where it was not.
    #[must_use]
    pub fn original(&self) -> Option<&Value> {
        self.original.as_ref()
    }

    /// When it was edited last, in microseconds since 1970 by the store's time; `None` where
    /// it was not.
    #[must_use]
    pub fn edited_micros(&self) -> Option<u64> {
        self.record.edited
    }

    /// The ids of the jobs that it is for. They may be gone.
    #[must_use]
    pub fn jobs(&self) -> &[String] {
        &self.record.message.jobs
    }

    /// The routine that had emitted it; `None` where it was posted.
    #[must_use]
    pub fn emitted_from(&self) -> Option<&str> {
        self.record.message.from.as_deref()
    }

    /// The event that it was emitted by; `None` where it was posted.
    #[must_use]
    pub fn event_name(&self) -> Option<&str> {
        self.record.message.event.as_deref()
    }

    /// When it was emitted or posted, in microseconds since 1970 by the store's time.
    #[must_use]
    pub fn emitted_at_micros(&self) -> u64 {
        self.record.message.at
    }

    /// The error of the last attempt, its first 16 KiB.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.record.error
    }

    /// The kind of that error, where it was given one.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        self.record.kind.as_deref()
    }

    /// How many attempts have failed.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.record.attempts
    }

    /// When the last attempt failed, in microseconds since 1970 by the store's time.
    #[must_use]
    pub fn at_micros(&self) -> u64 {
        self.record.at
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_record(self) -> DeadRecord {
        self.record
    }
}

/// The dead letters of a store.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    store: Store,
    scope: Scope,
    slot: Arc<Slot>,
    limits: CodecLimits,
    keep: KeepDeadLetters,
    held: Mutex<Held>,
}

/// Which there are.
#[derive(Debug, Default)]
struct Held {
    /// The number that the next one gets.
    next: u64,
    /// Number -> when it goes by itself.
    letters: BTreeMap<u64, u64>,
    /// How many made room since the store was opened.
    dropped: u64,
}

/// A change of the dead letters that is to be committed with other things. Dropped without
/// a commit, it never was.
#[derive(Debug)]
#[must_use = "dropped, it is undone"]
pub(crate) struct DeadChange<'d> {
    letters: &'d DeadLetters,
    ops: Ops,
    added: Vec<u64>,
    removed: Vec<(u64, u64)>,
    /// How many of those made room for others.
    dropped: u64,
}

impl DeadChange<'_> {
    /// What the commit writes to [`record::dead`], once.
    pub(crate) fn take_writes(&mut self) -> SlotBatch {
        SlotBatch {
            slot: Arc::clone(&self.letters.slot),
            clear: false,
            ops: mem::take(&mut self.ops),
        }
    }

    /// It was committed. The numbers of the new ones, and how many made room for them.
    pub(crate) fn committed(mut self) -> (Vec<u64>, u64) {
        self.removed.clear();
        self.letters.held.lock().dropped += self.dropped;
        (mem::take(&mut self.added), self.dropped)
    }
}

impl Drop for DeadChange<'_> {
    fn drop(&mut self) {
        let mut held = self.letters.held.lock();
        for number in self.added.drain(..) {
            held.letters.remove(&number);
        }
        held.letters.extend(self.removed.drain(..));
    }
}

impl DeadLetters {
    /// Those that a store has.
    ///
    /// # Errors
    /// As reading has them; [`Error::Corrupt`] where a key is none of a dead letter.
    pub(crate) fn open(store: &Store, keep: KeepDeadLetters) -> Result<Self> {
        let scope = record::dead();
        let engine = &store.shared.engine;
        let slot = engine.slot(&scope.encode());
        let limits = store.shared.settings.limits.codec();
        let mut held = Held::default();
        engine.view().for_each(&slot, |key, _, cell| {
            match DeadKey::decode(key) {
                Some(DeadKey::Next) => held.next = record::decode(cell, &limits, &scope)?,
                Some(DeadKey::Letter(number)) => {
                    let until = deadline(cell).unwrap_or(NEVER);
                    held.letters.insert(number, until);
                }
                Some(DeadKey::Original(_)) => {}
                None => {
                    let what = format!("{key:02x?} is no key of a dead letter");
                    return Err(record::damaged(&scope, &what));
                }
            }
            Ok(())
        })?;
        let last = held.letters.last_key_value().map(|(number, _)| *number);
        held.next = held.next.max(last.map_or(0, |last| last.saturating_add(1)));
        Ok(Self {
            store: store.clone(),
            scope,
            slot,
            limits,
            keep,
            held: Mutex::new(held),
        })
    }

    /// How many there are; those that have expired and were not removed yet are among them.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.held.lock().letters.len()
    }

    /// How many made room for others since the store was opened.
    pub(crate) fn dropped(&self) -> u64 {
        self.held.lock().dropped
    }

    /// Puts messages among the dead letters, in a commit of the caller's. The oldest make
    /// room.
    ///
    /// # Errors
    /// As the codec has them; none where the message was a record of a slot before.
    pub(crate) fn put(&self, records: Vec<DeadRecord>, now_micros: u64) -> Result<DeadChange<'_>> {
        let until = now_micros.saturating_add(micros(self.keep.time));
        let cells = records.into_iter().map(|mut record| {
            cut(&mut record.error, ERROR_BYTES_MAX);
            record::encode_until(&record, Some(until), &self.limits)
        });
        let cells: Vec<Arc<[u8]>> = cells.collect::<Result<_>>()?;
        let mut change = self.change();
        let mut ops = BTreeMap::new();
        let mut held = self.held.lock();
        for cell in cells {
            let number = held.next;
            // At the end of all numbers it stays there; no store lives to see that.
            held.next = held.next.saturating_add(1);
            held.letters.insert(number, until);
            change.added.push(number);
            ops.insert(DeadKey::Letter(number).encode().into(), Op::Put(cell));
        }
        if held.letters.len() > self.keep.number {
            held.letters.retain(|_, until| *until > now_micros);
        }
        while held.letters.len() > self.keep.number
            && let Some((number, until)) = held.letters.pop_first()
        {
            change.dropped += 1;
            match change.added.iter().position(|added| *added == number) {
                // More at once than there may be.
                Some(at) => drop(change.added.remove(at)),
                None => change.removed.push((number, until)),
            }
            ops.extend(removal(number));
        }
        if !ops.is_empty() {
            ops.insert(DeadKey::Next.encode().into(), self.next(held.next)?);
        }
        drop(held);
        change.ops = ops.into_iter().collect();
        Ok(change)
    }

    /// Those from a number on, up to `limit` of them, in the order in which they came.
    ///
    /// # Errors
    /// As reading has them; [`Error::Corrupt`] where something is no record.
    pub(crate) fn list(&self, from: u64, limit: usize) -> Result<Vec<DeadLetter>> {
        let view = self.store.shared.engine.view();
        let end = DeadKey::Original(0).encode();
        let mut first = Bound::Included(DeadKey::Letter(from).encode());
        let mut listed = Vec::new();
        while listed.len() < limit {
            let first_key = first.as_ref().map(|key| &**key);
            let mut part = view.part(&self.slot, first_key, Bound::Excluded(&end))?;
            while let Some(entry) = part.pop() {
                let cell = entry.cell;
                let live = deadline(cell).is_none_or(|until| until > view.time());
                if listed.len() < limit
                    && live
                    && let Some(DeadKey::Letter(number)) = DeadKey::decode(&entry.key())
                {
                    listed.push(self.letter(&view, number, cell)?);
                }
            }
            match part.next {
                Some(next) => first = Bound::Excluded(next.into()),
                None => break,
            }
        }
        Ok(listed)
    }

    /// One of them.
    ///
    /// # Errors
    /// [`WorkError::Unknown`] where there is none of this number; otherwise as
    /// [`list`](Self::list).
    pub(crate) fn get(&self, number: u64) -> Result<DeadLetter> {
        let view = self.store.shared.engine.view();
        let found = view.read(&self.slot, &DeadKey::Letter(number).encode())?;
        let (_, cell) = found.ok_or_else(|| unknown(number))?;
        self.letter(&view, number, &cell)
    }

    /// Gives one other data. What it came with stays beside it. Visible when it returns;
    /// whoever answers somebody outside waits for the LSN.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::LimitExceeded`] where the data is no value by the
    /// store's limits.
    pub(crate) fn edit(&self, number: u64, data: Value) -> Result<Lsn> {
        record::check_data(&data, &self.limits)?;
        let engine = &self.store.shared.engine;
        // So that nobody takes it out meanwhile.
        let held = self.held.lock();
        let until = *held.letters.get(&number).ok_or_else(|| unknown(number))?;
        let until = (until != NEVER).then_some(until);
        let mut letter = self.get(number)?;
        let original = mem::replace(&mut letter.record.message.data, data);
        letter.record.edited = Some(engine.now());
        let cell = record::encode_until(&letter.record, until, &self.limits)?;
        let mut ops = vec![(DeadKey::Letter(number).encode(), Op::Put(cell))];
        if letter.original.is_none() {
            let cell = record::encode_until(&original, until, &self.limits)?;
            ops.push((DeadKey::Original(number).encode(), Op::Put(cell)));
        }
        let lsn = engine.commit(&self.batch(ops))?;
        drop(held);
        Ok(lsn)
    }

    /// Takes one out, in a commit of the caller's, who posts it again.
    ///
    /// # Errors
    /// As [`get`](Self::get), and then nothing was changed.
    pub(crate) fn take(&self, number: u64) -> Result<(DeadLetter, DeadChange<'_>)> {
        let mut change = self.change();
        let removed = self.held.lock().letters.remove(&number);
        let until = removed.ok_or_else(|| unknown(number))?;
        change.removed.push((number, until));
        change.ops = removal(number).into_iter().collect();
        let letter = self.get(number)?;
        Ok((letter, change))
    }

    /// Removes one. Visible when it returns; whoever answers somebody outside waits for the
    /// LSN.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub(crate) fn discard(&self, number: u64) -> Result<Lsn> {
        let (_, mut change) = self.take(number)?;
        let batch = Batch::of([change.take_writes()]);
        let lsn = self.store.shared.engine.commit(&batch)?;
        change.committed();
        Ok(lsn)
    }

    fn change(&self) -> DeadChange<'_> {
        DeadChange {
            letters: self,
            ops: Ops::new(),
            added: Vec::new(),
            removed: Vec::new(),
            dropped: 0,
        }
    }

    fn batch(&self, ops: Vec<(Box<[u8]>, Op)>) -> Batch {
        Batch::of([SlotBatch::of(Arc::clone(&self.slot), ops)])
    }

    fn letter(&self, view: &View, id: u64, cell: &[u8]) -> Result<DeadLetter> {
        let record: DeadRecord = record::decode(cell, &self.limits, &self.scope)?;
        let original = match record.edited {
            None => None,
            Some(_) => view
                .read(&self.slot, &DeadKey::Original(id).encode())?
                .map(|(_, cell)| record::decode(&cell, &self.limits, &self.scope))
                .transpose()?,
        };
        Ok(DeadLetter {
            id,
            record,
            original,
        })
    }

    /// Two commits may come in another order than their numbers; the higher one counts.
    fn next(&self, next: u64) -> Result<Op> {
        let (scope, limits) = (self.scope.clone(), self.limits);
        let cell = record::encode(&next, &limits)?;
        let modify = move |old: Option<(Lsn, &[u8])>| {
            let higher = match old {
                Some((_, old)) => record::decode::<u64>(old, &limits, &scope)? > next,
                None => false,
            };
            Ok(Some(match old {
                Some((_, old)) if higher => old.into(),
                _ => Arc::clone(&cell),
            }))
        };
        Ok(Op::Modify(Box::new(modify)))
    }
}

/// What removes one, the data included that it came with.
fn removal(number: u64) -> [KeyOp; 2] {
    [
        (DeadKey::Letter(number).encode().into(), Op::Delete),
        (DeadKey::Original(number).encode().into(), Op::Delete),
    ]
}

fn unknown(number: u64) -> Error {
    let hint = "it was posted again or discarded, has expired, or made room for others";
    WorkError::unknown("dead letter", &number.to_string(), hint).into()
}

/// Cuts a text off behind the last character that ends within `bytes_max`.
fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

#[cfg(test)]
mod tests;
