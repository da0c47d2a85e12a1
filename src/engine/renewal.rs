//! Owns moving the image into a new folder: when a checkpoint does so, and when the old
//! folder goes.
//!
//! A backend that writes in order and is then left alone takes little more than its
//! blocks. What makes it grow, and write again what it wrote before, is taking blocks out
//! of it. So a checkpoint that changes much of the image writes all of it to a new folder,
//! and the old one goes as a whole, once nobody reads from it. The manifest says which
//! folder counts: a crash leaves one of the two, and the next opening removes the other.

use std::ops::Bound::Unbounded;
use std::sync::Arc;

use super::checkpoint::Sealed;
use super::image_state::Image;
use super::{Disk, Engine};
use crate::clock;
use crate::error::Result;
use crate::image::manifest::Manifest;
use crate::image::store::Blocks;
use crate::scope::prefix_end;

/// One block of so many has to change, at least, before all are written. In place each
/// of them costs its new bytes, and once more as much to take the old ones out.
const CHANGED_OF: usize = 3;

/// Fewer blocks than these change in place: a new folder has a price of its own.
const CHANGED_MIN: usize = 16;

/// The bytes on disk for a byte of blocks from which a backend is left, and what it may
/// take whatever is in it.
const GROWTH_MAX: u64 = 2;
const SLACK_BYTES: u64 = 16 * 1024 * 1024;

/// So many folders may wait for somebody who reads from them, a snapshot or a view: each takes
/// memory. Beyond that the image is changed in place.
pub(super) const FORMER_MAX: usize = 1;

/// A folder that no manifest names any more.
#[derive(Debug)]
pub(super) struct Former {
    /// Its images, the newest of them last: somebody may still read from them.
    pub(super) images: Vec<Arc<Image>>,
}

impl Former {
    /// True where nobody reads from it.
    fn is_unused(&self) -> bool {
        self.images
            .iter()
            .all(|image| Arc::strong_count(image) == 1)
    }

    /// Removes it. What cannot be removed now, the next opening does.
    fn remove(&self, disk: &Disk) {
        if let Some(image) = self.images.last() {
            let closed = image
                .blocks()
                .and_then(|blocks| blocks.retire(&image.manifest.blocks));
            // One that does not let go of its files may still write to them.
            if closed.is_ok() {
                let _ = disk.folder.remove_image(image.manifest.folder);
            }
        }
    }
}

impl Engine {
    /// True where a checkpoint of this had better write the whole image anew.
    pub(super) fn is_worth_renewing(&self, old: &Image, sealed: &Sealed) -> bool {
        let blocks = old.manifest.blocks.len();
        if blocks < CHANGED_MIN {
            return false;
        }
        let enough = CHANGED_MIN.max(blocks.div_ceil(CHANGED_OF));
        if changes_so_many(old, sealed, enough) {
            return true;
        }
        let bytes: u64 = old.manifest.blocks.iter().map(|b| u64::from(b.len)).sum();
        let taken = old.blocks().and_then(|blocks| blocks.bytes_on_disk());
        taken.is_ok_and(|taken| taken > GROWTH_MAX * bytes + SLACK_BYTES)
    }

    /// Blocks in a new folder, empty, that are to take the place of those of `old`.
    pub(super) fn succeed(&self, disk: &Disk, old: &Image) -> Result<(u64, Arc<Blocks>)> {
        let number = self.next_folder(disk, old.manifest.folder)?;
        let image = self.open_new_folder(disk, number).inspect_err(|_| {
            let _ = disk.folder.remove_image(number);
        })?;
        let blocks = old.blocks().map_err(|e| self.beyond_healing(&e))?;
        Ok((number, Arc::new(blocks.succeeded_by(image))))
    }

    /// The number of a folder that nothing is in: a backend that was given up may still
    /// have one that the manifest does not name.
    pub(super) fn next_folder(&self, disk: &Disk, current: u64) -> Result<u64> {
        let highest = disk.folder.list_images()?.into_iter().max();
        Ok(highest.unwrap_or(0).max(current) + 1)
    }

    /// Gives up a folder that did not become the image. It is removed only where the
    /// manifest names another one for sure: a manifest whose writing failed at its last step
    /// may be there, and count after a crash. Then the next opening removes what it does not
    /// name.
    pub(super) fn give_up_folder(&self, disk: &Disk, number: u64, blocks: &Blocks) {
        let manifest = Manifest::read(&*disk.folder.vfs, &disk.folder.manifest(), self.store);
        let names_another = matches!(manifest, Ok(Some(manifest)) if manifest.folder != number);
        if blocks.retire(&[]).is_ok() && names_another {
            let _ = disk.folder.remove_image(number);
        }
    }

    /// Removes the folders that nobody reads from; with `all`, those too that somebody
    /// does, who is told that the store is closed.
    pub(super) fn remove_former(&self, disk: &Disk, former: &mut Vec<Former>, all: bool) {
        former.retain(|former| {
            let unused = all || former.is_unused();
            if unused {
                former.remove(disk);
            }
            !unused
        });
    }
}

/// True where the sealed tables change at least so many blocks.
fn changes_so_many(old: &Image, sealed: &Sealed, enough: usize) -> bool {
    let mut changed = vec![false; old.manifest.blocks.len()];
    let mut count = 0;
    let mut mark = |at: usize| {
        if let Some(changed) = changed.get_mut(at).filter(|changed| !**changed) {
            *changed = true;
            count += 1;
        }
        count >= enough
    };
    let mut full = Vec::new();
    for slot in &sealed.slots {
        clock::give_way();
        let tables = slot.write().sealed(old.generation, sealed.generation);
        for table in tables {
            if table.cleared(sealed.lsn).is_some() {
                let end = prefix_end(&slot.prefix);
                let mut range = old.fences.range(&slot.prefix, end.as_deref());
                if range.any(&mut mark) {
                    return true;
                }
            }
            // Keys ascend: the next block is looked for where its first key is reached.
            let mut next: Option<&[u8]> = Some(&[]);
            for (key, ..) in table.range(Unbounded, Unbounded, sealed.lsn) {
                full.clear();
                full.extend_from_slice(&slot.prefix);
                full.extend_from_slice(key);
                if next.is_none_or(|next| *full < *next) {
                    continue;
                }
                let at = old.fences.find_block(&full).unwrap_or(0);
                let following = old.manifest.blocks.get(at + 1);
                next = following.map(|following| &*following.first_key);
                if mark(at) {
                    return true;
                }
            }
        }
    }
    false
}
