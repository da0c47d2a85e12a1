//! Owns the bound on memory: when writers wait, when they are refused, and which
//! views have to go to make room.

use std::sync::Arc;

use super::Engine;
use super::sequencer::Sequencer;
use super::table::Slot;
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::wal::frame_bytes;

/// What writers and the threads of the engine tell each other.
#[derive(Debug, Default)]
pub(crate) struct Pressure {
    pub(crate) checkpoint_wanted: bool,
    pub(crate) snapshot_wanted: bool,
    pub(crate) stopping: bool,
    /// Why the last checkpoint failed, until one succeeds.
    pub(crate) failure: Option<String>,
    /// The same for snapshots, which nobody waits for.
    pub(crate) snapshot_failure: Option<String>,
}

impl Engine {
    /// Lets a writer pass, makes it wait for room, or refuses it.
    pub(super) fn admit(&self, puts: bool) -> Result<()> {
        let held = self.held.load(Ordering::Relaxed);
        let Some(disk) = &self.disk else {
            return match puts && held > self.options.memory_bytes_max {
                false => Ok(()),
                true => Err(Error::LimitExceeded {
                    limit: "memory_bytes",
                    max: self.options.memory_bytes_max,
                    actual: held,
                    at: "a store without a folder".into(),
                }),
            };
        };
        disk.log.throttle()?;
        if self.has_room() {
            return Ok(());
        }
        if self.options.background {
            return self.wait_for_room();
        }
        match self.checkpoint() {
            Err(e) if !self.has_memory() => Err(self.no_room(&e.to_string())),
            // Nobody is refused for a long log.
            _ => Ok(()),
        }
    }

    fn wait_for_room(&self) -> Result<()> {
        let deadline = clock::deadline(self.options.stall);
        let mut pressure = self.room_lock.lock();
        loop {
            // A long log is waited for, and nobody is refused for it.
            if self.has_room() || (pressure.failure.is_some() && self.has_memory()) {
                return Ok(());
            }
            self.check()?;
            if !pressure.checkpoint_wanted {
                pressure.checkpoint_wanted = true;
                self.room.notify_all();
            }
            let late = self.room.wait_until(&mut pressure, deadline).timed_out();
            let failure = pressure.failure.clone();
            if late || failure.is_some() {
                if self.has_memory() {
                    return Ok(());
                }
                let why = failure.unwrap_or_else(|| "a checkpoint is still being written".into());
                return Err(self.no_room(&why));
            }
        }
    }

    /// True where a commit would not wait for a checkpoint.
    pub(crate) fn has_room(&self) -> bool {
        let is_short = self.unmerged.load(Ordering::Relaxed) <= self.options.memtable_bytes;
        self.has_memory() && is_short
    }

    /// True where the memtable is not full.
    pub(super) fn has_memory(&self) -> bool {
        self.held.load(Ordering::Relaxed) <= self.options.memtable_bytes
    }

    /// Makes room in the log; where that is at its limit, waits for the snapshot that
    /// lets it be trimmed.
    pub(super) fn make_room(&self, body: usize) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let deadline = clock::deadline(self.options.stall);
        loop {
            let refused = match disk.log.make_room(body) {
                Err(Error::Busy { reason }) => reason,
                made => return made,
            };
            if !self.options.background {
                self.checkpoint()?;
                self.snapshot_if_due()?;
                return disk.log.make_room(body);
            }
            let mut pressure = self.room_lock.lock();
            self.check()?;
            pressure.checkpoint_wanted = true;
            pressure.snapshot_wanted = true;
            self.room.notify_all();
            let late = self.room.wait_until(&mut pressure, deadline).timed_out();
            let failure = pressure
                .failure
                .as_ref()
                .or(pressure.snapshot_failure.as_ref());
            if late || failure.is_some() {
                let why = failure.map(|why| format!(": {why}")).unwrap_or_default();
                return Err(Error::Busy {
                    reason: format!("{refused}{why}"),
                });
            }
        }
    }

    fn no_room(&self, why: &str) -> Error {
        Error::Busy {
            reason: format!(
                "the memtable holds {} bytes of at most {} and cannot be emptied: {why}",
                self.held.load(Ordering::Relaxed),
                self.options.memtable_bytes
            ),
        }
    }

    /// Counts what the memtable gained or lost.
    pub(super) fn account(&self, change: i64) {
        let add = |counter: &AtomicU64| match u64::try_from(change) {
            Ok(more) => counter.fetch_add(more, Ordering::Relaxed),
            Err(_) => counter.fetch_sub(change.unsigned_abs(), Ordering::Relaxed),
        };
        add(&self.held);
        add(&self.active);
    }

    /// Counts a commit that is in the log, and not yet in the image.
    pub(super) fn note_logged(&self, body: usize) {
        let bytes = frame_bytes(body) as u64;
        self.logged.fetch_add(bytes, Ordering::Relaxed);
        self.unmerged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// True where the newest generation is large, or the log behind it is long: a key that is
    /// written again and again takes no more memory for it, and an opening replays each time.
    fn wants_checkpoint(&self) -> bool {
        let enough = self.options.memtable_bytes / 2;
        let is_over = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed) > enough;
        self.disk.is_some() && (is_over(&self.active) || is_over(&self.logged))
    }

    /// After each commit: asks for a checkpoint when it is time for one.
    pub(super) fn after_commit(&self) -> Result<()> {
        if !self.wants_checkpoint() {
            return Ok(());
        }
        if self.options.background {
            let mut pressure = self.room_lock.lock();
            if !pressure.checkpoint_wanted {
                pressure.checkpoint_wanted = true;
                self.room.notify_all();
            }
            return Ok(());
        }
        // The commit stands, whatever becomes of the checkpoint; a writer that
        // finds no room hears of the failure.
        let failure = self.checkpoint().err().map(|e| e.to_string());
        let snapshot_failure = self.snapshot_if_due().err().map(|e| e.to_string());
        let mut pressure = self.room_lock.lock();
        pressure.failure = failure;
        if snapshot_failure.is_some() {
            pressure.snapshot_failure = snapshot_failure;
        }
        Ok(())
    }

    /// Drops from memory what the image has and no view needs. Where memory is
    /// short, views that are older than the image have to go.
    pub(super) fn retire(&self) {
        let Some(image) = self.image() else { return };
        let (generations, upto) = {
            let mut sequencer = self.sequencer.lock();
            while self.views_hold_too_much(&sequencer, image.generation)
                && let Some(view) = sequencer
                    .views
                    .oldest()
                    .and_then(|number| sequencer.views.close(number))
            {
                view.expired.store(true, Ordering::Release);
            }
            let needed = sequencer.views.generation().unwrap_or(u64::MAX);
            let upto = image.generation.min(needed);
            let rest = sequencer.generations.split_off(&(upto + 1));
            let gone = std::mem::replace(&mut sequencer.generations, rest);
            if let Some(last) = gone.values().next_back() {
                sequencer.retired = sequencer.retired.max(last.end);
            }
            (gone, upto)
        };
        for slot in generations
            .into_values()
            .flat_map(|generation| generation.slots)
        {
            let tables = slot.write().retire(upto);
            let bytes: u64 = tables.iter().map(|table| table.bytes).sum();
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            drop(tables);
            self.slots.forget_idle(slot);
            clock::give_way();
        }
        // Under the lock, so that nobody misses it between looking and waiting.
        let _pressure = self.room_lock.lock();
        self.room.notify_all();
    }

    /// True where views keep tables that the image has, and too little memory would
    /// be left for writers until the next checkpoint.
    fn views_hold_too_much(&self, sequencer: &Sequencer, merged: u64) -> bool {
        let Some(needed) = sequencer
            .views
            .generation()
            .filter(|&needed| needed < merged)
        else {
            return false;
        };
        let free = sequencer.generations.range(..=needed);
        let free: u64 = free.map(|(_, generation)| generation.bytes).sum();
        let kept = self.held.load(Ordering::Relaxed).saturating_sub(free);
        kept > self.options.memtable_bytes / 4 * 3
    }

    pub(super) fn close_view(&self, number: u64) {
        let retirable = {
            let mut sequencer = self.sequencer.lock();
            sequencer.views.close(number);
            if self.disk.is_none() {
                let first = sequencer.keeps_needlessly();
                drop(sequencer);
                return self.settle(first);
            }
            let oldest = sequencer.generations.keys().next().copied();
            let needed = sequencer.views.generation().unwrap_or(u64::MAX);
            oldest.filter(|&oldest| oldest <= needed)
        };
        let Some(oldest) = retirable else { return };
        if self.image().is_some_and(|image| oldest <= image.generation) {
            self.retire();
        }
    }

    /// Drops what was kept for views that are closed, where no checkpoint does. Each slot
    /// is locked for a part of it only, and the sequencer while one is chosen.
    fn settle(&self, mut next: Option<(Arc<Slot>, Lsn)>) {
        while let Some((slot, lowest)) = next {
            let (change, kept) = {
                let mut state = slot.write();
                (state.settle(lowest), state.keeps_since())
            };
            self.account(change);
            let mut sequencer = self.sequencer.lock();
            if let Some(since) = kept {
                sequencer.keeping.insert((since, slot.number), slot);
            }
            next = sequencer.keeps_needlessly();
        }
    }
}
