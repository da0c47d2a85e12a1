//! Owns store time and the removal of what has expired. The engine knows of a cell
//! when it expires, and nothing else.
//!
//! What stays true:
//! - Store time never goes back: it is the highest of the clock and of the times of
//!   all commits. Whoever reads asks it only about a cell that has a deadline.
//! - Removal is a commit like any other. It deletes keys whose newest version has
//!   expired, and is validated, so a key that was written again stays.
//! - No index of deadlines is on disk. In memory each table orders its deadlines; the
//!   manifest has the earliest deadline of each block, so only blocks that hold
//!   something expired are read, and once for each deadline that passes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::commit::{Batch, Op, Ops, Read, SlotBatch};
use super::table::{Found, Slot};
use crate::codec::cell::{NEVER, deadline, has_expired};
use crate::error::{Error, Result};
use crate::ids::{BlockId, Lsn};
use crate::scope::Scope;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The most keys that one commit removes.
pub(super) const BATCH_KEYS: usize = 256;

/// How often the thread looks whether something has expired, while anything may.
const EVERY: Duration = Duration::from_millis(200);

/// How long something has to be expired before a caller removes it in passing, where
/// there is no thread: so that many go in one commit.
const IN_PASSING_AFTER_MICROS: u64 = 1_000_000;

/// How often a batch is tried whose keys were written meanwhile.
const ATTEMPTS_MAX: usize = 16;

/// Within this time a removal is written and synced; nobody waits for it.
const SYNCED_WITHIN: Duration = Duration::from_secs(1);

/// What is known of deadlines.
#[derive(Debug)]
pub(super) struct Expiry {
    /// The highest store time that anybody has seen.
    time: AtomicU64,
    /// Nothing expires before this, or it was removed.
    earliest: AtomicU64,
    /// The thread waits for a first deadline.
    idle: AtomicBool,
    /// Keys that were removed.
    pub(super) removed: AtomicU64,
    /// Held by whoever removes.
    swept: Mutex<Swept>,
}

/// Blocks that hold expired entries, which were removed in memory: when the next one
/// of theirs expires. They stand until a checkpoint writes the blocks anew.
#[derive(Debug, Default)]
struct Swept {
    /// The folder of the image: in another one the numbers begin anew.
    folder: u64,
    due: HashMap<BlockId, u64>,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            time: AtomicU64::new(0),
            earliest: AtomicU64::new(NEVER),
            idle: AtomicBool::new(false),
            removed: AtomicU64::new(0),
            swept: Mutex::default(),
        }
    }
}

impl Expiry {
    /// The highest store time that anybody has seen.
    pub(super) fn seen(&self) -> u64 {
        self.time.load(Ordering::SeqCst)
    }

    /// Store time has reached this.
    pub(super) fn see(&self, micros: u64) -> u64 {
        self.time.fetch_max(micros, Ordering::SeqCst).max(micros)
    }

    /// Something expires at this time.
    pub(super) fn note(&self, deadline: u64) {
        self.earliest.fetch_min(deadline, Ordering::SeqCst);
    }
}

/// The keys of one scope that are to be removed.
type Gathered = (Arc<Slot>, BTreeSet<Box<[u8]>>);

/// A search for what has expired at one time, and its removal.
struct Sweep<'e> {
    engine: &'e Arc<Engine>,
    now: u64,
    /// How many keys are to be removed at most, but for those of a block that is begun.
    at_most: usize,
    /// It is done by somebody who came for something else, and waits for nobody.
    in_passing: bool,
    found: usize,
    removed: u64,
    /// What is found and not removed yet, by scope.
    gathered: BTreeMap<u64, Gathered>,
    gathered_keys: usize,
    /// When the next one expires; `now` where something is left.
    next: u64,
    /// Some of what was found could not be removed.
    left: bool,
}

impl Engine {
    /// Store time. Never lower than at any call or commit before.
    pub(crate) fn now(&self) -> u64 {
        self.expiry.see(self.clock.now_micros())
    }

    /// Removes what has expired; returns how many keys. Where a key is reserved it waits.
    pub(crate) fn expire(self: &Arc<Self>) -> Result<u64> {
        self.check()?;
        self.sweep(&mut self.expiry.swept.lock(), usize::MAX, false)
    }

    fn sweep(self: &Arc<Self>, swept: &mut Swept, at_most: usize, in_passing: bool) -> Result<u64> {
        // Whoever removed before has set the earliest aside: it is asked behind the lock.
        let now = self.now();
        let before = self.expiry.earliest.load(Ordering::SeqCst);
        if before > now {
            return Ok(0);
        }
        self.expiry.earliest.store(NEVER, Ordering::SeqCst);
        let mut sweep = Sweep {
            engine: self,
            now,
            at_most,
            in_passing,
            found: 0,
            removed: 0,
            gathered: BTreeMap::new(),
            gathered_keys: 0,
            next: NEVER,
            left: false,
        };
        let outcome = sweep.run(swept);
        if outcome.is_err() {
            sweep.leave();
        }
        if sweep.left {
            swept.due.clear();
        }
        self.expiry.note(sweep.next);
        if sweep.next < NEVER {
            // The thread may have looked while that was set aside.
            self.wake_expiry();
        }
        let removed = sweep.removed;
        self.expiry.removed.fetch_add(removed, Ordering::Relaxed);
        outcome.map(|()| removed)
    }

    /// After a commit: wakes the thread that removes, or, where there is none, removes
    /// a batch of what expired a while ago. To be called by who holds neither a view,
    /// which would keep what is removed in memory, nor a reservation. It waits for nobody
    /// else's: a transaction holds up nobody on other keys.
    pub(crate) fn expire_in_passing(self: &Arc<Self>) {
        let earliest = self.expiry.earliest.load(Ordering::SeqCst);
        if earliest == NEVER {
            return;
        }
        if self.disk.is_some() && self.options.background {
            self.wake_expiry();
        } else if earliest.saturating_add(IN_PASSING_AFTER_MICROS) <= self.expiry.seen()
            && let Some(mut swept) = self.expiry.swept.try_lock()
        {
            // The commit stands; what could not be removed is found again.
            let _ = self.sweep(&mut swept, BATCH_KEYS, true);
        }
    }

    /// Wakes the thread that waits for a first deadline.
    fn wake_expiry(&self) {
        if self.expiry.idle.load(Ordering::SeqCst) {
            let _pressure = self.room_lock.lock();
            self.room.notify_all();
        }
    }

    /// The body of the thread that removes what has expired.
    pub(super) fn serve_expiry(self: &Arc<Self>) {
        loop {
            {
                let mut pressure = self.room_lock.lock();
                if pressure.stopping {
                    return;
                }
                self.expiry.idle.store(true, Ordering::SeqCst);
                if self.expiry.earliest.load(Ordering::SeqCst) == NEVER {
                    self.room.wait(&mut pressure);
                    self.expiry.idle.store(false, Ordering::SeqCst);
                } else {
                    self.expiry.idle.store(false, Ordering::SeqCst);
                    self.room.wait_for(&mut pressure, EVERY);
                }
                if pressure.stopping {
                    return;
                }
            }
            // A failure is one of the disk, which the next commit meets too.
            if self.expire().is_ok_and(|removed| removed > 0) {
                let _ = self.sync_within(SYNCED_WITHIN);
            }
        }
    }
}

impl Sweep<'_> {
    fn run(&mut self, swept: &mut Swept) -> Result<()> {
        // Memory first: what moves into the image meanwhile is seen there.
        for slot in self.engine.slots.all() {
            self.memory(&slot)?;
        }
        self.image(swept)?;
        self.flush()
    }

    fn expects(&mut self, deadline: u64) {
        self.next = self.next.min(deadline);
    }

    fn memory(&mut self, slot: &Arc<Slot>) -> Result<()> {
        let due = slot.earliest.load(Ordering::SeqCst);
        if due > self.now || self.found >= self.at_most {
            self.expects(due);
            return Ok(());
        }
        let keys = {
            let state = slot.write();
            let (keys, next) = state.expired(self.now, self.at_most - self.found);
            slot.earliest.store(next, Ordering::SeqCst);
            self.expects(next);
            keys
        };
        for key in keys {
            self.gather(slot, &key)?;
        }
        Ok(())
    }

    fn image(&mut self, swept: &mut Swept) -> Result<()> {
        let Some(image) = self.engine.image() else {
            return Ok(());
        };
        let folder = image.manifest.folder;
        let known = match swept.folder == folder {
            true => std::mem::take(&mut swept.due),
            false => HashMap::new(),
        };
        swept.folder = folder;
        for meta in &image.manifest.blocks {
            let known = known.get(&meta.id).copied();
            let mut due = known.unwrap_or(meta.deadline);
            if due <= self.now && self.found < self.at_most {
                let block = image.blocks().and_then(|blocks| blocks.read_uncached(meta));
                let block = match block {
                    Ok(block) => block,
                    Err(e) => {
                        // The rebuilt image is swept the next time.
                        self.engine.heal(&image, &e)?;
                        self.expects(self.now);
                        return Ok(());
                    }
                };
                due = NEVER;
                for entry in block.entries_from(0) {
                    match deadline(entry.cell) {
                        None => {}
                        Some(later) if later > self.now => due = due.min(later),
                        Some(_) => self.entry(&entry.key())?,
                    }
                }
                swept.due.insert(meta.id, due);
            } else if known.is_some() {
                swept.due.insert(meta.id, due);
            }
            self.expects(due);
        }
        Ok(())
    }

    /// Gathers an expired entry of the image, unless memory knows better.
    fn entry(&mut self, full: &[u8]) -> Result<()> {
        let Some((_, len)) = Scope::decode(full) else {
            return Ok(());
        };
        let (prefix, key) = full.split_at(len);
        let slot = self.engine.slot(prefix);
        match slot.find(key, Lsn::new(u64::MAX)) {
            Found::Unknown => self.gather(&slot, key),
            Found::Version(..) => Ok(()),
        }
    }

    fn gather(&mut self, slot: &Arc<Slot>, key: &[u8]) -> Result<()> {
        let (_, keys) = self
            .gathered
            .entry(slot.number)
            .or_insert_with(|| (Arc::clone(slot), BTreeSet::new()));
        if keys.insert(key.into()) {
            self.gathered_keys += 1;
            self.found += 1;
        }
        match self.gathered_keys < BATCH_KEYS {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// Removes what is gathered, in one commit.
    fn flush(&mut self) -> Result<()> {
        let attempts = if self.in_passing { 1 } else { ATTEMPTS_MAX };
        for _ in 0..attempts {
            let (batch, count, seen) = match self.batch() {
                Ok(batch) => batch,
                Err(Error::ViewExpired) => continue,
                Err(e) => return Err(e),
            };
            if count > 0 && self.engine.commit_read(&batch, seen, None)?.is_none() {
                continue;
            }
            self.removed += count;
            self.gathered.clear();
            self.gathered_keys = 0;
            return Ok(());
        }
        self.leave();
        Ok(())
    }

    /// The deletes of those keys whose newest version has expired, how many, and when
    /// they were looked at. The view is closed: it would keep what is removed in memory.
    fn batch(&self) -> Result<(Batch, u64, Lsn)> {
        let view = self.engine.view();
        let mut batch = Batch {
            yields: self.in_passing,
            ..Batch::default()
        };
        let mut count = 0;
        for (slot, keys) in self.gathered.values() {
            let mut ops = Ops::new();
            for key in keys {
                let found = view.version(slot, key)?;
                if found.is_some_and(|(_, cell)| has_expired(&cell, || self.now)) {
                    batch.reads.push(Read::key(slot, key));
                    ops.push(((&**key).into(), Op::Delete));
                }
            }
            count += ops.len() as u64;
            if !ops.is_empty() {
                batch.writes.push(SlotBatch {
                    slot: Arc::clone(slot),
                    clear: false,
                    ops,
                });
            }
        }
        Ok((batch, count, view.lsn()))
    }

    /// Leaves what is gathered to the next sweep.
    fn leave(&mut self) {
        for (slot, _) in std::mem::take(&mut self.gathered).into_values() {
            slot.earliest.fetch_min(self.now, Ordering::SeqCst);
        }
        self.gathered_keys = 0;
        self.left = true;
        self.expects(self.now);
    }
}
