//! Owns how much a scope holds. An upper bound is kept without ever reading the
//! image; only where it meets a limit is the exact figure worked out, so a write
//! costs nothing until then and a refusal is exact.

use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use super::commit::{Op, SlotBatch};
use super::image_state::{Cell, Image};
use super::table::{Slot, SlotState, Stored};
use super::view::{View, full_key};
use crate::codec::cell::{NEVER, has_expired};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::image::ImageError;
use crate::scope::prefix_end;

/// The scope was counted at this LSN, and has room for the writes if it has not
/// changed since.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) slot: u64,
    lsn: Lsn,
}

/// Keys and bytes (of keys and stored values) of a scope, without what has expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    /// What has expired and is not removed yet.
    expired_keys: u64,
    expired_bytes: u64,
}

impl Size {
    /// Where an entry with this cell counts.
    fn of(&mut self, cell: &[u8], now: impl FnOnce() -> u64) -> (&mut u64, &mut u64) {
        match has_expired(cell, now) {
            true => (&mut self.expired_keys, &mut self.expired_bytes),
            false => (&mut self.keys, &mut self.bytes),
        }
    }

    fn add(&mut self, cell: &[u8], entry_bytes: usize, now: impl FnOnce() -> u64) {
        let (keys, bytes) = self.of(cell, now);
        *keys += 1;
        *bytes += entry_bytes as u64;
    }

    fn subtract(&mut self, cell: &[u8], entry_bytes: usize, now: impl FnOnce() -> u64) {
        let (keys, bytes) = self.of(cell, now);
        *keys = keys.saturating_sub(1);
        *bytes = bytes.saturating_sub(entry_bytes as u64);
    }
}

impl Engine {
    /// True where the upper bound of a scope would be over a limit.
    pub(super) fn over_limit(
        &self,
        writes: &SlotBatch,
        resolved: Option<&[Stored]>,
        state: &mut SlotState,
        passes: &[Pass],
    ) -> bool {
        let (mut keys, mut bytes) = (0, 0);
        for (at, (key, op)) in writes.ops.iter().enumerate() {
            let cell = match (resolved, op) {
                (Some(cells), _) => cells[at].as_ref(),
                (None, Op::Put(cell)) => Some(cell),
                (None, _) => None,
            };
            if let Some(cell) = cell {
                keys += 1;
                bytes += (key.len() + cell.len()) as u64;
            }
        }
        if keys == 0 {
            return false;
        }
        self.refresh(&writes.slot, state);
        let (held_keys, held_bytes) = match writes.clear {
            true => (0, 0),
            false => state.upper_bound(),
        };
        let over = held_keys + keys > self.options.scope_keys_max
            || held_bytes + bytes > self.options.scope_bytes_max;
        let everything = (Bound::Unbounded, Bound::Unbounded);
        over && !passes.iter().any(|pass| {
            pass.slot == writes.slot.number
                && !state.changed_since(everything.0, everything.1, pass.lsn)
        })
    }

    /// Counts the scope's part of the image from above, if the image is another one.
    fn refresh(&self, slot: &Slot, state: &mut SlotState) {
        let Some(disk) = &self.disk else { return };
        let image = disk.image.read();
        if state.usage.image == Some(image.manifest.lsn) {
            return;
        }
        let range = image
            .manifest
            .range(&slot.prefix, prefix_end(&slot.prefix).as_deref());
        let blocks = &image.manifest.blocks[range];
        state.usage = super::table::Usage {
            image: Some(image.manifest.lsn),
            generation: image.generation,
            image_keys: blocks.iter().map(|block| u64::from(block.entries)).sum(),
            image_bytes: blocks.iter().map(|block| block.live_bytes).sum(),
            ..Default::default()
        };
    }

    /// Counts a scope that seems to be over its limit exactly.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] where it is.
    pub(super) fn pass(self: &Arc<Self>, writes: &SlotBatch) -> Result<Pass> {
        let view = self.view();
        let slot = &writes.slot;
        let size = match writes.clear {
            true => Size::default(),
            false => self.size(&view, slot)?,
        };
        self.tighten(slot, &view, size);
        let (mut keys, mut bytes) = (size.keys as i64, size.bytes as i64);
        for (key, op) in &writes.ops {
            let old = match writes.clear {
                true => None,
                false => view.read(slot, key)?,
            };
            let old = old.map(|(lsn, cell)| (lsn, (key.len() + cell.len()) as i64));
            let written = match op {
                Op::Put(cell) => Some(cell.len()),
                Op::Delete => None,
                Op::Modify(modify) => {
                    let found = view.read(slot, key)?;
                    modify(found.as_ref().map(|(lsn, cell)| (*lsn, &**cell)))?
                        .map(|cell| cell.len())
                }
            };
            keys += i64::from(written.is_some()) - i64::from(old.is_some());
            bytes +=
                written.map_or(0, |len| (key.len() + len) as i64) - old.map_or(0, |(_, len)| len);
        }
        let over = |limit, max: u64, actual: i64, before: u64| {
            let actual = u64::try_from(actual).unwrap_or(0);
            match actual > max && actual > before {
                false => Ok(()),
                true => Err(Error::LimitExceeded {
                    limit,
                    max,
                    actual,
                    at: crate::scope::describe(&slot.prefix),
                }),
            }
        };
        over("scope_keys", self.options.scope_keys_max, keys, size.keys)?;
        over(
            "scope_bytes",
            self.options.scope_bytes_max,
            bytes,
            size.bytes,
        )?;
        Ok(Pass {
            slot: slot.number,
            lsn: view.lsn(),
        })
    }

    /// Remembers how far the upper bound is above the truth. What has expired counts in
    /// both: its removal lowers the bound, as any other does.
    fn tighten(&self, slot: &Slot, view: &View, size: Size) {
        let mut state = slot.write();
        if state.changed_since(Bound::Unbounded, Bound::Unbounded, view.lsn()) {
            return;
        }
        self.refresh(slot, &mut state);
        state.usage.slack_keys = 0;
        state.usage.slack_bytes = 0;
        let (keys, bytes) = state.upper_bound();
        state.usage.slack_keys = keys.saturating_sub(size.keys + size.expired_keys);
        state.usage.slack_bytes = bytes.saturating_sub(size.bytes + size.expired_bytes);
    }

    /// The keys and bytes of a scope as it is now.
    pub(crate) fn size_now(self: &Arc<Self>, slot: &Slot) -> Result<Size> {
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
    pub(crate) fn size(&self, view: &View, slot: &Slot) -> Result<Size> {
        let (memory, cleared) = {
            let state = slot.read();
            let mut newest: std::collections::BTreeMap<Arc<[u8]>, Stored> = Default::default();
            let mut cleared = false;
            for table in state.tables() {
                if !cleared {
                    for (key, _, cell) in
                        table.range(Bound::Unbounded, Bound::Unbounded, view.lsn())
                    {
                        newest.entry(Arc::clone(key)).or_insert(cell);
                    }
                }
                cleared |= table.cleared(view.lsn()).is_some();
            }
            (newest, cleared)
        };
        let mut size = Size::default();
        if !cleared {
            size = view.image_size(slot)?;
        }
        for (key, cell) in memory {
            let old = match cleared {
                true => None,
                false => view.image_cell(slot, &key)?,
            };
            if let Some(old) = old {
                size.subtract(&old, key.len() + old.len(), || view.time());
            }
            if let Some(cell) = cell {
                size.add(&cell, key.len() + cell.len(), || view.time());
            }
        }
        // After the last look: what made room meanwhile had expired this view first.
        view.check()?;
        Ok(size)
    }
}

impl View {
    /// The scope's part of the image: inner blocks by their counts, the two at the
    /// ends by reading them.
    fn image_size(&self, slot: &Slot) -> Result<Size> {
        self.of_image(|image| count(image, slot, || self.time()))
            .map(Option::unwrap_or_default)
    }

    /// A key's cell in the image.
    fn image_cell(&self, slot: &Slot, key: &[u8]) -> Result<Option<Cell>> {
        let full = full_key(slot, key);
        let found = self.of_image(|image| image.find(&full))?;
        Ok(found.flatten().map(|(_, cell)| cell))
    }
}

fn count(
    image: &Image,
    slot: &Slot,
    now: impl Fn() -> u64,
) -> std::result::Result<Size, ImageError> {
    let end = prefix_end(&slot.prefix);
    let range = image.manifest.range(&slot.prefix, end.as_deref());
    let prefix_len = slot.prefix.len() as u64;
    let mut size = Size::default();
    for at in range.clone() {
        let block = &image.manifest.blocks[at];
        let inner = at > range.start && at + 1 < range.end;
        let inner = inner && (block.deadline == NEVER || block.deadline > now());
        if inner {
            size.keys += u64::from(block.entries);
            size.bytes += block.live_bytes - prefix_len * u64::from(block.entries);
            continue;
        }
        let block = image.read(at)?;
        for entry in block.entries_from(block.lower_bound(&slot.prefix)) {
            if end.as_deref().is_some_and(|end| entry.cmp_key(end).is_ge()) {
                break;
            }
            let key_len = entry.prefix.len() + entry.suffix.len();
            let entry_bytes = key_len - slot.prefix.len() + entry.cell.len();
            size.add(entry.cell, entry_bytes, &now);
        }
    }
    Ok(size)
}
