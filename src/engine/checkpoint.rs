//! Owns the checkpoint: sealing a generation of the memtable, merging it into the
//! image, and switching the manifest last.
//!
//! The order is what makes it safe: the log is durable up to the checkpoint's LSN
//! before the image is written; the image is durable before the manifest names it;
//! tables leave memory and old blocks the image only after that. A crash at any
//! place leaves the older sealed image and the log behind it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::changes::TakeChanges;
use super::image_state::Image;
use super::merge::{Merge, Merged};
use super::renewal::{FORMER_MAX, Former};
use super::table::{Slot, Stored, Table};
use super::{Disk, Engine};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{BlockId, Lsn};
use crate::image::manifest::Manifest;
use crate::image::store::Blocks;
use crate::image::{ImageError, ImageErrorKind};
use crate::observe::{self, Work};
use crate::scope::prefix_end;
use crate::sync::atomic::Ordering;

/// What only the holder of the switch touches.
#[derive(Debug, Default)]
pub(super) struct Switching {
    /// Earlier images, and the blocks that their successor freed: they go once
    /// nobody holds that image or an earlier one.
    superseded: VecDeque<Superseded>,
    /// Blocks that no image names.
    doomed: Vec<(BlockId, u32)>,
    /// Folders that the image was moved out of.
    pub(super) former: Vec<Former>,
    /// The backend failed: it has to be opened again before it is used.
    pub(super) suspect: bool,
    /// A rebuild was due because of this, and did not come about: it is due still, whatever
    /// a closed image answers.
    pub(super) damage: Option<String>,
    /// Bytes of log of what was sealed, and is not in the image yet.
    logged: u64,
    /// A checkpoint found no room: pieces that no manifest speaks of have to go before
    /// their numbers are used again.
    pub(super) leftovers: bool,
}

/// An image that was replaced.
#[derive(Debug)]
struct Superseded {
    image: Arc<Image>,
    /// The blocks that its successor does without.
    freed: Vec<(BlockId, u32)>,
}

impl Switching {
    /// With blocks left over from before.
    pub(super) fn new(doomed: Vec<(BlockId, u32)>) -> Self {
        Self {
            doomed,
            ..Self::default()
        }
    }

    /// Everything that is or will be of no use.
    fn all_doomed(&self) -> Vec<(BlockId, u32)> {
        let superseded = self.superseded.iter().flat_map(|earlier| &earlier.freed);
        self.doomed.iter().chain(superseded).copied().collect()
    }
}

/// A sealed part of the memtable.
pub(super) struct Sealed {
    pub(super) generation: u64,
    pub(super) lsn: Lsn,
    time_micros: u64,
    schema: u32,
    pub(super) slots: Vec<Arc<Slot>>,
}

/// Where a checkpoint writes its blocks.
struct Target {
    folder: u64,
    blocks: Arc<Blocks>,
}

impl Engine {
    /// Writes what is committed into the image; returns the image's LSN. Readers
    /// and writers go on meanwhile.
    pub(crate) fn checkpoint(&self) -> Result<Lsn> {
        let Some(disk) = &self.disk else {
            return Ok(self.visible());
        };
        self.check()?;
        let outcome = self.checkpoint_unchecked(disk);
        if let Err(e) = &outcome {
            self.room_lock.lock().failure = Some(e.to_string());
        }
        outcome
    }

    /// The same for a store that is being closed.
    pub(super) fn checkpoint_unchecked(&self, disk: &Disk) -> Result<Lsn> {
        let mut switching = disk.switching.lock();
        disk.log.check()?;
        if switching.suspect {
            self.reopen_image(disk, &mut switching)?;
        }
        let mut outcome = self.merge_sealed(disk, &mut switching);
        if let Err(Failure::Image(e)) = &outcome
            && !e.kind.is_of_the_disk()
        {
            let broken = self.current(disk);
            self.rebuild(disk, &mut switching, &broken, &e.to_string())?;
            outcome = self.merge_sealed(disk, &mut switching);
        }
        let lsn = outcome.map_err(|failure| match failure {
            Failure::Image(e) => {
                match e.kind == ImageErrorKind::Full {
                    true => switching.leftovers = true,
                    false => switching.suspect = true,
                }
                self.beyond_healing(&e)
            }
            Failure::Other(e) => e,
        })?;
        // Before those who wait for room hear of it, whoever it was that succeeded.
        self.room_lock.lock().failure = None;
        let merged = std::mem::take(&mut switching.logged);
        self.unmerged.fetch_sub(merged, Ordering::Relaxed);
        self.retire();
        self.delete_superseded(disk, &mut switching);
        self.tell_levels();
        Ok(lsn)
    }

    fn current(&self, disk: &Disk) -> Arc<Image> {
        Arc::clone(&disk.image.read())
    }

    fn merge_sealed(&self, disk: &Disk, switching: &mut Switching) -> Result<Lsn, Failure> {
        let old = self.current(disk);
        let Some(sealed) = self.seal(switching, old.generation) else {
            return Ok(old.manifest.lsn);
        };
        let begun = clock::monotonic();
        let span = observe::span(Work::Checkpoint, Some(disk.folder.root()));
        span.reached(sealed.lsn);
        disk.log.sync(sealed.lsn)?;
        let old = match old.manifest.blocks.is_empty() && !old.is_open() {
            true => self.first_image(disk, &old)?,
            false => old,
        };
        self.remove_former(disk, &mut switching.former, false);
        if switching.former.len() < FORMER_MAX && self.is_worth_renewing(&old, &sealed) {
            match self.renew(disk, switching, &old, &sealed) {
                Ok(()) => return Ok(self.written(begun, sealed.lsn)),
                // There may be room for what has changed.
                Err(e) if e.is_disk_full() => {}
                Err(e) => return Err(e),
            }
        }
        let target = Target {
            folder: old.manifest.folder,
            blocks: Arc::clone(old.blocks()?),
        };
        if switching.leftovers {
            target.blocks.delete_from(old.manifest.next_block)?;
            switching.leftovers = false;
        }
        self.write_image_to(disk, switching, &old, &sealed, &target)?;
        Ok(self.written(begun, sealed.lsn))
    }

    /// Writes the whole image to a new folder.
    fn renew(
        &self,
        disk: &Disk,
        switching: &mut Switching,
        old: &Arc<Image>,
        sealed: &Sealed,
    ) -> Result<(), Failure> {
        let (folder, blocks) = self.succeed(disk, old)?;
        let target = Target { folder, blocks };
        let written = self.write_image_to(disk, switching, old, sealed, &target);
        if written.is_err() {
            self.give_up_folder(disk, folder, &target.blocks);
        }
        written
    }

    fn written(&self, begun: Instant, lsn: Lsn) -> Lsn {
        self.figures.checkpoint.record_since(begun);
        self.tell_done("checkpoint written", lsn);
        lsn
    }

    /// Writes what was sealed, and switches to the image with it.
    fn write_image_to(
        &self,
        disk: &Disk,
        switching: &mut Switching,
        old: &Arc<Image>,
        sealed: &Sealed,
        target: &Target,
    ) -> Result<(), Failure> {
        let blocks = &target.blocks;
        let in_place = old.is_kept_in(blocks);
        let merged = self.merge(old, blocks, sealed)?;
        blocks.sync()?;
        let doomed = match in_place {
            true => {
                let mut doomed = switching.all_doomed();
                doomed.extend(&merged.freed);
                doomed
            }
            false => Vec::new(),
        };
        let manifest = Manifest {
            store: self.store,
            folder: target.folder,
            lsn: sealed.lsn,
            time_micros: sealed.time_micros,
            schema: sealed.schema,
            next_block: merged.next_block,
            doomed,
            blocks: merged.blocks,
        };
        self.switch(disk, manifest, Arc::clone(blocks), sealed.generation)?;
        let image = Arc::clone(old);
        if in_place {
            let freed = merged.freed;
            switching.superseded.push_back(Superseded { image, freed });
            return Ok(());
        }
        for (from, to) in merged.moved {
            blocks.moved(from, to);
        }
        // What it had to take out goes with it.
        switching.doomed.clear();
        switching.leftovers = false;
        let earlier = switching.superseded.drain(..).map(|earlier| earlier.image);
        let images = earlier.chain([image]).collect();
        switching.former.push(Former { images });
        Ok(())
    }

    /// Writes a manifest and lets readers see its image.
    pub(super) fn switch(
        &self,
        disk: &Disk,
        manifest: Manifest,
        blocks: Arc<Blocks>,
        generation: u64,
    ) -> Result<Arc<Image>> {
        manifest.write(&*disk.folder.vfs, &disk.folder.manifest())?;
        let image = Image::new(manifest, Some(blocks), generation);
        Ok(disk.image.publish(image))
    }

    /// Ends the newest generation, if anything was written since `after`.
    fn seal(&self, switching: &mut Switching, after: u64) -> Option<Sealed> {
        let mut sequencer = self.sequencer.lock();
        // Also where commits left nothing in it: one that is due for them is over.
        switching.logged += self.logged.swap(0, Ordering::Relaxed);
        let last = sequencer.last;
        let generation = sequencer.generation;
        if let Some(newest) = sequencer.generations.get_mut(&generation) {
            newest.end = last;
            newest.schema = self.schema();
            newest.bytes = self.active.load(Ordering::Relaxed);
        }
        let unmerged = || sequencer.generations.range(after + 1..);
        let newest = unmerged().next_back()?.1;
        let (lsn, schema) = (newest.end, newest.schema);
        let slots = unmerged()
            .flat_map(|(_, part)| part.slots.iter().map(Arc::clone))
            .collect();
        // What somebody has seen as expired stays so behind the next opening.
        let time_micros = self.expiry.seen();
        sequencer.generation += 1;
        self.active.store(0, Ordering::Relaxed);
        Some(Sealed {
            generation,
            lsn,
            time_micros,
            schema,
            slots,
        })
    }

    fn merge(&self, old: &Image, blocks: &Blocks, sealed: &Sealed) -> Result<Merged, ImageError> {
        let mut slots: Vec<_> = sealed.slots.iter().collect();
        slots.sort_unstable_by(|a, b| a.prefix.cmp(&b.prefix));
        slots.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let next_block = old.manifest.next_block;
        let mut merge = Merge::new(old, blocks, next_block, self.options.block_bytes);
        let mut full = Vec::new();
        for slot in slots {
            let tables = slot.write().sealed(old.generation, sealed.generation);
            if tables
                .iter()
                .any(|table| table.cleared(sealed.lsn).is_some())
            {
                merge.clear(&slot.prefix, prefix_end(&slot.prefix).as_deref())?;
            }
            newest_of(&tables, sealed.lsn, |key, lsn, cell| {
                full.clear();
                full.extend_from_slice(&slot.prefix);
                full.extend_from_slice(key);
                merge.put(&full, lsn, cell)
            })?;
        }
        merge.finish()
    }

    /// Deletes blocks that nobody can read any more.
    fn delete_superseded(&self, disk: &Disk, switching: &mut Switching) {
        self.remove_former(disk, &mut switching.former, false);
        while let Some(earlier) = switching.superseded.front()
            && Arc::strong_count(&earlier.image) == 1
            && let Some(earlier) = switching.superseded.pop_front()
        {
            switching.doomed.extend(earlier.freed);
        }
        let image = self.current(disk);
        if let Ok(blocks) = image.blocks()
            && !switching.doomed.is_empty()
        {
            match blocks.delete(&switching.doomed) {
                Ok(()) => switching.doomed.clear(),
                // They are still known.
                Err(e) if e.kind == ImageErrorKind::Full => {}
                // The manifest names them, so the next opening deletes them.
                Err(_) => switching.suspect = true,
            }
        }
    }
}

/// Visits the newest version of each key of tables given newest first.
fn newest_of(
    tables: &[Arc<Table>],
    at: Lsn,
    mut visitor: impl FnMut(&[u8], Lsn, &Stored) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    use std::ops::Bound::Unbounded;
    let upto_clear = tables.iter().position(|table| table.cleared(at).is_some());
    let relevant = &tables[..upto_clear.map_or(tables.len(), |clear| clear + 1)];
    let mut sources: Vec<_> = relevant
        .iter()
        .map(|table| table.range(Unbounded, Unbounded, at).peekable())
        .collect();
    loop {
        let smallest = sources
            .iter_mut()
            .filter_map(|s| s.peek().map(|(key, ..)| (*key).clone()))
            .min();
        let Some(smallest) = smallest else {
            return Ok(());
        };
        let mut newest = None;
        for source in &mut sources {
            let entry = source.next_if(|(key, ..)| *key == &smallest);
            newest = newest.or(entry);
        }
        if let Some((key, lsn, cell)) = newest {
            visitor(key, lsn, cell)?;
        }
    }
}

/// Why a checkpoint did not come about.
pub(super) enum Failure {
    Image(ImageError),
    Other(Error),
}

impl Failure {
    fn is_disk_full(&self) -> bool {
        match self {
            Self::Image(e) => e.kind == ImageErrorKind::Full,
            Self::Other(e) => e.is_disk_full(),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(e: ImageError) -> Self {
        Self::Image(e)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Other(e)
    }
}
