//! Owns how much a scope holds, and whether a commit fits into what it may hold. An
//! upper bound is kept without ever reading the image; only where it meets a limit is
//! the scope counted, once, and its exact figures are followed from then on. So a write
//! costs nothing until then, and a refusal is exact.

use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use super::commit::{Base, Op, SlotBatch};
use super::image_state::{Cell, Image};
use super::quota::{Allowed, KindQuotas, Quota, Refusal, SCOPE_BYTES_MAX, SCOPE_KEYS_MAX};
use super::small_key::SmallKey;
use super::table::{Found, Slot, SlotState, Stored};
use super::tally::{Count, Followed};
use super::view::{View, full_key};
use crate::codec::cell::NEVER;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::ImageError;
use crate::scope::{ScopeKind, prefix_end};
use crate::sync::atomic::Ordering;

/// Whether a commit fits into a scope.
pub(super) enum Verdict {
    Fits,
    /// It has to be known first what it replaces in the image.
    Unknown,
    /// The scope has to be counted first.
    Uncounted,
    Refused(Refusal),
}

/// The figures of scopes at one moment, and the quotas of the kinds.
pub(crate) type Holdings = (Lsn, KindQuotas, Vec<(Arc<Slot>, Holding)>);

/// A scope's figures at one moment, and what it may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    pub(crate) count: Count,
    pub(crate) allowed: Allowed,
}

impl Engine {
    /// What a scope may hold.
    fn allowed(&self, prefix: &[u8], own: Quota, kinds: &KindQuotas) -> Allowed {
        match ScopeKind::of(prefix) {
            Some(kind) => {
                let limits = (self.options.scope_keys_max, self.options.scope_bytes_max);
                Allowed::of(own, kinds.get(kind), limits)
            }
            // What the store keeps for itself is not the user's to limit: no setting and
            // no cursor may be refused because of it.
            None => Allowed::of(
                Quota::new(),
                Quota::new(),
                (SCOPE_KEYS_MAX, SCOPE_BYTES_MAX),
            ),
        }
    }

    /// Decides whether the writes fit into their scope, where what is deleted always
    /// does. `olds` is what they replace, as far as memory does not know it; empty where
    /// it was not looked up.
    #[inline]
    pub(super) fn judge(
        &self,
        writes: &SlotBatch,
        resolved: Option<&[Stored]>,
        (state, olds): (&mut SlotState, &[Base]),
        (kinds, now): (&KindQuotas, u64),
    ) -> Verdict {
        if state.tally.is_followed() {
            return self.judge_exactly(writes, resolved, (state, olds), (kinds, now));
        }
        let added = added(writes, resolved);
        if added.0 == 0 {
            return Verdict::Fits;
        }
        let allowed = self.allowed(&writes.slot.prefix, state.quota, kinds);
        let (keys, bytes) = self.bound(writes, state, added);
        match allowed.takes(keys, bytes) {
            true => Verdict::Fits,
            false => Verdict::Uncounted,
        }
    }

    /// The same for a scope whose figures are followed.
    #[cold]
    #[inline(never)]
    fn judge_exactly(
        &self,
        writes: &SlotBatch,
        resolved: Option<&[Stored]>,
        (state, olds): (&mut SlotState, &[Base]),
        (kinds, now): (&KindQuotas, u64),
    ) -> Verdict {
        let Some(next) = follow(writes, resolved, (state, olds)) else {
            return Verdict::Unknown;
        };
        let added = added(writes, resolved);
        if added.0 == 0 {
            return Verdict::Fits;
        }
        let allowed = self.allowed(&writes.slot.prefix, state.quota, kinds);
        let bound = self.bound(writes, state, added);
        let Some((before, after)) = state.tally.exact().zip(next.exact) else {
            // Somebody is counting it for the first time.
            return match allowed.takes(bound.0, bound.1) {
                true => Verdict::Fits,
                false => Verdict::Uncounted,
            };
        };
        if allowed.takes(after.keys(), after.bytes()) {
            // Far enough from the limits the bound does again.
            if !is_near(&allowed, bound) {
                state.tally.forget();
                writes.slot.followed.store(false, Ordering::Relaxed);
            }
            return Verdict::Fits;
        }
        if before.earliest.min(after.earliest) <= now {
            return Verdict::Uncounted;
        }
        match Refusal::of(&allowed, before.amounts(), after.amounts()) {
            Some(refusal) => Verdict::Refused(refusal),
            None => Verdict::Fits,
        }
    }

    /// What a scope holds at most behind writes that add so much at most.
    fn bound(
        &self,
        writes: &SlotBatch,
        state: &mut SlotState,
        (keys, bytes): (u64, u64),
    ) -> (u64, u64) {
        self.refresh(&writes.slot, state);
        let (held_keys, held_bytes) = match writes.clear {
            true => (0, 0),
            false => state.upper_bound(),
        };
        (
            held_keys.saturating_add(keys),
            held_bytes.saturating_add(bytes),
        )
    }

    /// Counts the scope's part of the image from above, if the image is another one.
    fn refresh(&self, slot: &Slot, state: &mut SlotState) {
        let Some(disk) = &self.disk else { return };
        let image = disk.image.read();
        if state.tally.image == Some(image.manifest.lsn) {
            return;
        }
        let range = image
            .fences
            .range(&slot.prefix, prefix_end(&slot.prefix).as_deref());
        let blocks = &image.manifest.blocks[range];
        let keys = blocks.iter().map(|block| u64::from(block.entries)).sum();
        let bytes = blocks.iter().map(|block| block.live_bytes).sum();
        let (lsn, generation) = (image.manifest.lsn, image.generation);
        state.tally.refresh(lsn, generation, (keys, bytes));
    }

    /// Counts a scope that may be at its limit, and follows its figures from then on.
    /// One at a time: who waited finds it counted, if it was later than `since`.
    pub(super) fn count(self: &Arc<Self>, slot: &Slot, since: u64) -> Result<()> {
        let _one_at_a_time = slot.counting.lock();
        let counted = slot.read().tally.exact();
        if counted.is_some_and(|count| count.time >= since) {
            return Ok(());
        }
        let view = {
            let mut sequencer = self.sequencer.lock();
            let view = self.view_of(&mut sequencer);
            // What is committed from here on is added to what is counted.
            slot.write().tally.begin(view.time());
            slot.followed.store(true, Ordering::Relaxed);
            view
        };
        let counted = self.size(&view, slot);
        let mut state = slot.write();
        let followed = state.tally.finish(counted.as_ref().ok().copied());
        slot.followed.store(followed, Ordering::Relaxed);
        counted.map(drop)
    }

    /// The keys and bytes of a scope as it is now.
    pub(crate) fn size_now(self: &Arc<Self>, slot: &Slot) -> Result<Count> {
        loop {
            match self.size(&self.view(), slot) {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) => {}
                outcome => return outcome,
            }
        }
    }

    /// The keys and bytes of a scope in a view, exactly. Costs two blocks of the
    /// image, those that hold something expired, and a look-up for each key of the
    /// scope that is in memory.
    pub(crate) fn size(&self, view: &View, slot: &Slot) -> Result<Count> {
        let (memory, cleared) = {
            let state = slot.read();
            let mut newest: std::collections::BTreeMap<SmallKey, Stored> = Default::default();
            let mut cleared = false;
            for table in state.tables() {
                if !cleared {
                    for (key, _, cell) in
                        table.range(Bound::Unbounded, Bound::Unbounded, view.lsn())
                    {
                        newest.entry(key.clone()).or_insert_with(|| cell.clone());
                    }
                }
                cleared |= table.cleared(view.lsn()).is_some();
            }
            (newest, cleared)
        };
        let mut count = Count::at(view.time());
        if !cleared {
            count = view.image_count(slot, count)?;
        }
        for (key, cell) in memory {
            let old = match cleared {
                true => None,
                false => view.image_cell(slot, &key)?,
            };
            if let Some(old) = old {
                count.subtract(&old, key.len());
            }
            if let Some(cell) = cell {
                count.add(&cell, key.len());
            }
        }
        // After the last look: what made room meanwhile had expired this view first.
        view.check()?;
        Ok(count)
    }

    /// What scopes hold and may hold, at one moment: those that have keys, and those
    /// that have a quota of their own; and the quotas of the kinds.
    pub(crate) fn holdings(self: &Arc<Self>) -> Result<Holdings> {
        let (view, kinds) = {
            let mut sequencer = self.sequencer.lock();
            (self.view_of(&mut sequencer), sequencer.kinds)
        };
        let mut slots = view.scopes()?;
        slots.extend(self.slots.with_quotas());
        slots.retain(|slot| ScopeKind::of(&slot.prefix).is_some());
        slots.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix));
        slots.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let holding = |slot: Arc<Slot>| {
            let count = self.size(&view, &slot)?;
            let allowed = self.allowed(&slot.prefix, slot.read().quota, &kinds);
            Ok((slot, Holding { count, allowed }))
        };
        let holdings = slots.into_iter().map(holding).collect::<Result<_>>()?;
        Ok((view.lsn(), kinds, holdings))
    }

    /// What one scope holds and may hold.
    pub(crate) fn holding(self: &Arc<Self>, slot: &Slot) -> Result<Holding> {
        let count = self.size_now(slot)?;
        let kinds = self.sequencer.lock().kinds;
        let allowed = self.allowed(&slot.prefix, slot.read().quota, &kinds);
        Ok(Holding { count, allowed })
    }
}

impl Engine {
    /// Refuses what would make a scope hold so much more, or less, as a commit of it would
    /// be refused.
    pub(crate) fn refuse_growth(self: &Arc<Self>, slot: &Slot, by: (i64, i64)) -> Result<()> {
        if by.0 <= 0 && by.1 <= 0 {
            return Ok(());
        }
        let Holding { count, allowed } = self.holding(slot)?;
        let before = count.amounts();
        let after = (
            before.0.saturating_add_signed(by.0),
            before.1.saturating_add_signed(by.1),
        );
        match Refusal::of(&allowed, before, after) {
            Some(refusal) => Err(refusal.error(&slot.prefix)),
            None => Ok(()),
        }
    }
}

/// What an op of a batch writes; `None` where it deletes.
#[inline]
fn written<'w>(
    writes: &'w SlotBatch,
    resolved: Option<&'w [Stored]>,
    at: usize,
) -> Option<&'w [u8]> {
    match (resolved, &writes.ops[at].1) {
        (Some(cells), _) => cells[at].as_deref(),
        (None, Op::Put(cell)) => Some(cell),
        (None, _) => None,
    }
}

/// Keys and bytes that the writes add at most.
#[inline]
fn added(writes: &SlotBatch, resolved: Option<&[Stored]>) -> (u64, u64) {
    let (mut keys, mut bytes) = (0, 0);
    for (at, (key, _)) in writes.ops.iter().enumerate() {
        if let Some(cell) = written(writes, resolved, at) {
            keys += 1;
            bytes += (key.len() + cell.len()) as u64;
        }
    }
    (keys, bytes)
}

/// Works out what the writes make of the figures that are followed, and lets those
/// expect it. `None` where somebody has to look first what is replaced.
fn follow(
    writes: &SlotBatch,
    resolved: Option<&[Stored]>,
    (state, olds): (&mut SlotState, &[Base]),
) -> Option<Followed> {
    let mut next = state.tally.followed();
    if writes.clear {
        next.clear();
    }
    for (at, (key, _)) in writes.ops.iter().enumerate() {
        let old = match (writes.clear, state.find(key, Lsn::new(u64::MAX))) {
            (true, _) => None,
            (false, Found::Version(_, cell)) => cell.map(Cell::Memory),
            (false, Found::Unknown) => olds.get(at)?.as_ref().map(|(_, cell)| cell.clone()),
        };
        next.replace(key.len(), old.as_deref(), written(writes, resolved, at));
    }
    state.tally.anticipate(next);
    Some(next)
}

/// True where a bound is so near to a limit that the exact figures are followed on.
fn is_near(allowed: &Allowed, (keys, bytes): (u64, u64)) -> bool {
    keys > allowed.keys.0 / 4 * 3 || bytes > allowed.bytes.0 / 4 * 3
}

impl View {
    /// The scope's part of the image: inner blocks by their counts, the two at the
    /// ends by reading them.
    fn image_count(&self, slot: &Slot, empty: Count) -> Result<Count> {
        self.of_image(|image| count(image, slot, empty))
            .map(|counted| counted.unwrap_or(empty))
    }

    /// A key's cell in the image.
    fn image_cell(&self, slot: &Slot, key: &[u8]) -> Result<Option<Cell>> {
        let full = full_key(slot, key);
        let found = self.of_image(|image| image.find(&full))?;
        Ok(found.flatten().map(|(_, cell)| cell))
    }
}

fn count(image: &Image, slot: &Slot, mut count: Count) -> std::result::Result<Count, ImageError> {
    let end = prefix_end(&slot.prefix);
    let range = image.fences.range(&slot.prefix, end.as_deref());
    let prefix_len = slot.prefix.len() as u64;
    for at in range.clone() {
        let block = &image.manifest.blocks[at];
        let inner = at > range.start && at + 1 < range.end;
        if inner && (block.deadline == NEVER || block.deadline > count.time) {
            let keys = u64::from(block.entries);
            count.add_all(keys, block.live_bytes - prefix_len * keys, block.deadline);
            continue;
        }
        let block = image.read(at)?;
        for entry in block.entries_from(block.lower_bound(&slot.prefix)) {
            if end.as_deref().is_some_and(|end| entry.cmp_key(end).is_ge()) {
                break;
            }
            let key_len = entry.prefix.len() + entry.suffix.len();
            count.add(entry.cell, key_len - slot.prefix.len());
        }
    }
    Ok(count)
}
