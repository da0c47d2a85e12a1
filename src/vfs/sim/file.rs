//! Owns the contents of one simulated file: what a process sees, what would be
//! found after a power cut, and the changes between the two.
//!
//! What must stay true: data reach the disk in whole sectors, and what a sector then
//! holds is what the process saw in it at some time. So of two unsynced writes into
//! one sector the later never arrives without the earlier; of two into different
//! sectors it may.

use std::ops::Range;
use std::sync::Arc;

use super::crash::Dice;
use super::pages::Pages;

/// What a disk writes whole or not at all.
pub(super) const SECTOR_BYTES: u64 = 512;

/// A file without its names.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    /// What the process sees.
    live: Pages,
    /// What the process saw when `unsynced` was last empty.
    base: Pages,
    /// What is on the disk for certain.
    durable: Pages,
    /// What was done since, in order.
    unsynced: Vec<Change>,
    /// True once a lost sync has made `base` and `durable` differ.
    diverged: bool,
}

/// What was done to a file, and by which operation.
#[derive(Clone, Debug)]
struct Change {
    operation: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Write { bytes: Arc<[u8]>, offset: u64 },
    SetLen(u64),
}

impl FileNode {
    /// A file that is on the disk as it is seen.
    pub(super) fn settled(contents: Pages) -> Self {
        Self {
            live: contents.clone(),
            base: contents.clone(),
            durable: contents,
            ..Self::default()
        }
    }

    pub(super) const fn live(&self) -> &Pages {
        &self.live
    }

    pub(super) fn write(&mut self, operation: u64, bytes: &[u8], offset: u64) {
        if bytes.is_empty() {
            return;
        }
        self.live.write(bytes, offset);
        let bytes = bytes.into();
        self.unsynced.push(Change {
            operation,
            kind: Kind::Write { bytes, offset },
        });
    }

    pub(super) fn set_len(&mut self, operation: u64, len: u64) {
        self.live.set_len(len);
        self.unsynced.push(Change {
            operation,
            kind: Kind::SetLen(len),
        });
    }

    /// All that was written becomes durable, but for what a lost sync has lost.
    pub(super) fn sync(&mut self) {
        self.durable = if self.diverged {
            let mut durable = self.replayed(None);
            durable.set_len(self.live.len());
            durable
        } else {
            self.live.clone()
        };
        self.base = self.live.clone();
        self.unsynced.clear();
    }

    /// What Linux does when writing back fails: the pages stay in memory as they
    /// are, marked clean. They are read, and no later sync writes them, unless they
    /// are written to again.
    pub(super) fn lose_sync(&mut self) {
        self.diverged = true;
        self.base = self.live.clone();
        self.unsynced.clear();
    }

    /// What a power cut leaves; without dice, nothing that was not synced.
    pub(super) fn after_power_cut(&self, dice: Option<&mut Dice>) -> Pages {
        match dice {
            Some(dice) if !self.unsynced.is_empty() => {
                dice.next_file();
                self.replayed(Some(dice))
            }
            _ => self.durable.clone(),
        }
    }

    /// Applies damage at rest to all that is known of the contents.
    pub(super) fn damage(&mut self, mut damage: impl FnMut(&mut Pages)) {
        damage(&mut self.live);
        damage(&mut self.base);
        damage(&mut self.durable);
    }

    /// The durable contents with those changes on top that the dice let through;
    /// without dice, with all.
    fn replayed(&self, mut dice: Option<&mut Dice>) -> Pages {
        let mut seen = self.base.clone();
        let mut disk = self.durable.clone();
        for change in &self.unsynced {
            let operation = change.operation;
            match &change.kind {
                Kind::SetLen(len) => {
                    seen.set_len(*len);
                    if keeps_length(operation, &mut dice) {
                        disk.set_len(*len);
                    }
                }
                Kind::Write { bytes, offset } => {
                    seen.write(bytes, *offset);
                    let end = offset + bytes.len() as u64;
                    if disk.len() < end && keeps_length(operation, &mut dice) {
                        disk.set_len(end);
                    }
                    for range in kept_ranges(operation, *offset..end, &mut dice) {
                        disk.copy_from(&seen, range);
                    }
                }
            }
        }
        disk
    }
}

fn keeps_length(operation: u64, dice: &mut Option<&mut Dice>) -> bool {
    dice.as_mut()
        .is_none_or(|dice| dice.keeps_length(operation))
}

/// The bytes of the sectors of a write that arrive.
fn kept_ranges(operation: u64, range: Range<u64>, dice: &mut Option<&mut Dice>) -> Vec<Range<u64>> {
    let sectors = range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES);
    let kept = match dice {
        Some(dice) => dice.kept_sectors(operation, sectors),
        None => vec![sectors],
    };
    kept.into_iter()
        .map(|run| run.start * SECTOR_BYTES..run.end * SECTOR_BYTES)
        .collect()
}
