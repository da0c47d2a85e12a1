//! Owns what watches read: commits as they became durable, from the log, or, where
//! there is no log, from notes that the commit step takes in memory.
//!
//! What stays true:
//! - Notes are taken only while a watch needs them: for a store without a folder, and
//!   for values that are overwritten. Otherwise a commit pays for one atomic load.
//! - All notes together are bounded; the oldest go first, and who needed them is told.
//! - A watch holds up neither writers nor the trimming of the log.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::Instant;

use super::Engine;
use super::body::{BodyOp, read_body, schema_of};
use super::commit::Batch;
use super::image_state::{Cell, Image};
use super::table::{Found, SlotState, Stored};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, RwLockWriteGuard};
use crate::wal::{Seat, Wakers};

/// What a note costs beyond body and values, roughly.
const NOTE_BYTES: usize = 96;
const WAS_BYTES: usize = 32;

/// The watches of a store and what is noted for them.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// Somebody needs notes. Changed under the sequencer's lock and that of the notes.
    noting: AtomicBool,
    notes: Mutex<Notes>,
    noted: Condvar,
}

#[derive(Debug, Default)]
struct Notes {
    /// How far each watch came.
    reached: Vec<Arc<AtomicU64>>,
    /// How many of them need notes, and how many of these what was overwritten.
    needed: u64,
    old_needed: u64,
    commits: VecDeque<Note>,
    bytes: usize,
    /// Commits up to this one are not noted, or not any more.
    lost: Lsn,
    wakers: Wakers,
}

/// What is kept of a commit.
#[derive(Debug)]
pub(super) struct Note {
    lsn: Lsn,
    time_micros: u64,
    /// Where there is no log to read it from.
    body: Option<Arc<[u8]>>,
    /// What was there before, by put and delete of the body.
    was: Option<Arc<[Was]>>,
    bytes: usize,
}

/// What was there before.
#[derive(Clone, Debug)]
enum Was {
    Memory(Stored),
    /// What this image says, as long as it is there.
    Image(Weak<Image>),
}

/// What was there before a change, as far as is known.
#[derive(Clone, Debug)]
pub(crate) enum Old {
    Unknown,
    Known(Option<Cell>),
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Delete,
    Clear,
}

/// A change to a key, or a clear of a scope.
#[derive(Debug)]
pub(crate) struct RawChange {
    /// The encoded scope; the changes of one commit to one scope share it.
    pub(crate) scope: Arc<[u8]>,
    pub(crate) kind: Kind,
    pub(crate) key: Vec<u8>,
    pub(crate) new: Option<Arc<[u8]>>,
    pub(crate) old: Old,
    /// Its place among the puts and deletes of the commit.
    place: usize,
}

/// What a watch wants of a commit.
#[derive(Debug)]
pub(crate) struct RawCommit {
    pub(crate) lsn: Lsn,
    pub(crate) time_micros: u64,
    pub(crate) schema: u32,
    pub(crate) changes: Vec<RawChange>,
}

/// Says whether a change is wanted: to a key of an encoded scope, or to all of it.
pub(crate) type Wanted<'a> = &'a dyn Fn(&[u8], Option<&[u8]>) -> bool;

/// Which values a watch wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) new: bool,
    pub(crate) old: bool,
}

/// The watches of a store, seen from outside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WatchStats {
    pub(crate) open: u64,
    /// How many LSNs the slowest of them is behind what it could deliver.
    pub(crate) behind: u64,
    /// What is held in memory for them.
    pub(crate) bytes: u64,
    pub(crate) change_sets: u64,
    pub(crate) lagged: u64,
}

/// What one step of a watch came to.
#[derive(Debug)]
pub(crate) enum Step {
    Commit(RawCommit),
    /// It passed something that is not wanted.
    Passed,
    /// There is nothing more that is durable.
    End,
}

impl Notes {
    fn forget(&mut self) {
        self.commits.clear();
        self.bytes = 0;
    }

    fn find(&self, lsn: Lsn) -> Option<&Note> {
        let at = self.commits.partition_point(|note| note.lsn < lsn);
        self.commits.get(at).filter(|note| note.lsn == lsn)
    }

    fn behind(&self, after: Lsn) -> bool {
        self.lost > after || self.commits.back().is_some_and(|note| note.lsn > after)
    }
}

impl Feed {
    /// To be called under the sequencer's lock, with its last LSN.
    pub(super) fn enter(
        &self,
        reached: &Arc<AtomicU64>,
        needs_notes: bool,
        values: Values,
        last: Lsn,
    ) {
        let mut notes = self.notes.lock();
        notes.reached.push(Arc::clone(reached));
        notes.old_needed += u64::from(values.old);
        if needs_notes {
            if notes.needed == 0 {
                notes.forget();
                notes.lost = last;
            }
            notes.needed += 1;
            self.noting.store(true, Ordering::Release);
        }
    }

    pub(super) fn leave(&self, reached: &Arc<AtomicU64>, needs_notes: bool, values: Values) {
        let mut notes = self.notes.lock();
        notes.reached.retain(|other| !Arc::ptr_eq(other, reached));
        notes.old_needed -= u64::from(values.old);
        if needs_notes {
            notes.needed -= 1;
            if notes.needed == 0 {
                self.noting.store(false, Ordering::Release);
                notes.forget();
            }
        }
    }

    /// Keeps a note; gives the tasks to be woken, and [`Feed::wake`] wakes them.
    pub(super) fn push(&self, note: Note, bytes_max: usize) -> Vec<Waker> {
        let mut notes = self.notes.lock();
        if notes.needed == 0 {
            return Vec::new();
        }
        notes.bytes += note.bytes;
        notes.commits.push_back(note);
        while notes.bytes > bytes_max
            && let Some(oldest) = notes.commits.pop_front()
        {
            notes.bytes -= oldest.bytes;
            notes.lost = oldest.lsn;
        }
        notes.wakers.all().collect()
    }

    /// Wakes those who wait for a note that was kept. To be called without a lock: a
    /// thread that is woken wants the notes at once, and waking one takes longer than the
    /// whole commit step.
    pub(super) fn wake(&self, woken: Vec<Waker>) {
        self.noted.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }

    pub(super) fn wait_behind(
        &self,
        after: Lsn,
        deadline: Option<Instant>,
        over: impl Fn() -> bool,
    ) -> bool {
        let mut notes = self.notes.lock();
        loop {
            if notes.behind(after) || over() {
                return true;
            }
            match deadline {
                None => self.noted.wait(&mut notes),
                Some(deadline) => {
                    if self.noted.wait_until(&mut notes, deadline).timed_out() {
                        return notes.behind(after) || over();
                    }
                }
            }
        }
    }

    pub(super) fn poll_behind(
        &self,
        after: Lsn,
        seat: &mut Seat,
        context: &Context<'_>,
        over: impl Fn() -> bool,
    ) -> bool {
        let mut notes = self.notes.lock();
        if notes.behind(after) || over() {
            return true;
        }
        let before = notes.wakers.wait(seat, after.next(), context.waker());
        drop(notes);
        drop(before);
        false
    }

    /// Nobody waits in this seat any more.
    pub(super) fn stand_up(&self, seat: &mut Seat) {
        let left = self.notes.lock().wakers.leave(seat);
        // A waker may do anything as it goes, so not under the lock.
        drop(left);
    }

    fn wake_all(&self) {
        let woken = self.notes.lock().wakers.all().collect();
        self.wake(woken);
    }
}

impl Engine {
    /// A note of a commit that is about to be applied, if anybody needs one. The
    /// sequencer and the scopes are locked.
    pub(super) fn note(
        &self,
        batch: &Batch,
        states: &[RwLockWriteGuard<'_, SlotState>],
        (lsn, time_micros): (Lsn, u64),
        body: &[u8],
    ) -> Option<Note> {
        if !self.feed.noting.load(Ordering::Acquire) {
            return None;
        }
        let body = self.disk.is_none().then(|| Arc::from(body));
        let old_needed = self.feed.notes.lock().old_needed > 0;
        let was: Option<Arc<[Was]>> = old_needed.then(|| {
            let scopes = batch.writes.iter().zip(states);
            let was = scopes.flat_map(|(writes, state)| {
                let keys = writes.ops.iter();
                keys.map(move |(key, _)| self.was(state, key))
            });
            was.collect()
        });
        let values = was.iter().flat_map(|was| was.iter()).map(|was| match was {
            Was::Memory(Some(cell)) => WAS_BYTES + cell.len(),
            Was::Memory(None) | Was::Image(_) => WAS_BYTES,
        });
        let bytes = NOTE_BYTES + body.as_ref().map_or(0, |body: &Arc<[u8]>| body.len());
        Some(Note {
            lsn,
            time_micros,
            bytes: bytes + values.sum::<usize>(),
            body,
            was,
        })
    }

    fn was(&self, state: &SlotState, key: &[u8]) -> Was {
        match state.find(key, Lsn::new(u64::MAX)) {
            Found::Version(_, cell) => Was::Memory(cell),
            // Loaded after the miss: what left memory since is in it. It is not read
            // here, where all others wait.
            Found::Unknown => match self.image() {
                Some(image) if !image.manifest.blocks.is_empty() => {
                    Was::Image(Arc::downgrade(&image))
                }
                _ => Was::Memory(None),
            },
        }
    }

    pub(super) fn watch_stats(&self) -> WatchStats {
        // What is durable may go on meanwhile, and a watch with it: then it is not behind.
        let end = match &self.disk {
            None => self.visible(),
            Some(disk) => disk.log.durable(),
        };
        let notes = self.feed.notes.lock();
        let reached = notes.reached.iter().map(|at| at.load(Ordering::Relaxed));
        let slowest = reached.min().unwrap_or(u64::MAX);
        WatchStats {
            open: notes.reached.len() as u64,
            behind: end.get().saturating_sub(slowest),
            bytes: notes.bytes as u64,
            change_sets: self.figures.change_sets.get(),
            lagged: self.figures.lagged.get(),
        }
    }

    /// Wakes all who wait for commits, to look whether there will be any.
    pub(super) fn wake_watches(&self) {
        self.feed.wake_all();
        if let Some(disk) = &self.disk {
            disk.log.wake_all();
        }
    }
}

impl Feed {
    pub(super) fn step(&self, at: &mut Lsn, values: Values, wanted: Wanted<'_>) -> Result<Step> {
        let (lsn, time_micros, body) = {
            let notes = self.notes.lock();
            if *at < notes.lost {
                let after = std::mem::replace(at, notes.lost);
                return Err(Error::Lagged {
                    after,
                    scan_from: notes.lost,
                });
            }
            let next = notes.commits.partition_point(|note| note.lsn <= *at);
            let Some(note) = notes.commits.get(next) else {
                return Ok(Step::End);
            };
            (note.lsn, note.time_micros, note.body.clone())
        };
        let body = body.as_deref().unwrap_or_default();
        let changes = read_changes(body, values, wanted);
        let changes = changes.map_err(|what| Corruption::new("a commit", what).lsn(lsn))?;
        *at = lsn;
        Ok(match changes.is_empty() {
            true => Step::Passed,
            false => Step::Commit(RawCommit {
                lsn,
                time_micros,
                schema: schema_of(body).unwrap_or_default(),
                changes,
            }),
        })
    }
}

impl Engine {
    /// Puts in what was there before, as far as it was noted.
    pub(super) fn fill_old(&self, commit: &mut RawCommit) {
        let was = {
            let notes = self.feed.notes.lock();
            notes.find(commit.lsn).and_then(|note| note.was.clone())
        };
        let Some(was) = was else { return };
        for change in &mut commit.changes {
            if change.kind == Kind::Clear {
                continue;
            }
            change.old = match was.get(change.place) {
                Some(Was::Memory(cell)) => Old::Known(cell.clone().map(Cell::Memory)),
                Some(Was::Image(image)) => {
                    let key = [&*change.scope, change.key.as_slice()].concat();
                    let found = image.upgrade().map(|image| image.find(&key));
                    match found {
                        Some(Ok(found)) => Old::Known(found.map(|(_, cell)| cell)),
                        // It was replaced, or is damaged: whoever reads it heals it.
                        Some(Err(_)) | None => Old::Unknown,
                    }
                }
                None => Old::Unknown,
            };
        }
    }
}

/// What is wanted of a commit's body.
pub(super) fn read_changes(
    body: &[u8],
    values: Values,
    wanted: Wanted<'_>,
) -> std::result::Result<Vec<RawChange>, String> {
    let mut changes = Vec::new();
    // Shared by the changes in it, so made for the first one only.
    let mut scope: (&[u8], Option<Arc<[u8]>>) = (&[], None);
    let mut place = 0;
    let read = read_body(body, |op| {
        let (kind, key, new) = match op {
            BodyOp::Scope(prefix) => {
                scope = (prefix, None);
                return Ok(());
            }
            BodyOp::Clear => (Kind::Clear, None, None),
            BodyOp::Put(key, cell) => (Kind::Put, Some(key), Some(cell)),
            BodyOp::Delete(key) => (Kind::Delete, Some(key), None),
        };
        let this = place;
        place += usize::from(kind != Kind::Clear);
        if wanted(scope.0, key) {
            let prefix = scope.0;
            changes.push(RawChange {
                scope: Arc::clone(scope.1.get_or_insert_with(|| Arc::from(prefix))),
                kind,
                key: key.unwrap_or_default().to_vec(),
                new: new.filter(|_| values.new).map(Arc::from),
                old: Old::Unknown,
                place: this,
            });
        }
        Ok(())
    });
    match read? {
        Ok(()) => Ok(changes),
        Err(e) => Err(e.to_string()),
    }
}
