//! Owns what a backup reads of a store in use: a state, and the commits behind it.
//!
//! What stays true: nobody waits for who reads here. The log is trimmed and snapshots are
//! replaced meanwhile as ever; who reads is told, and begins again with what is newer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image_state::Image;
use super::report::Healed;
use super::snapshot::SnapshotInfo;
use super::snapshots::Failed;
use super::{Disk, Engine};
use crate::error::{Error, Result};
use crate::ids::{Epoch, Lsn, StoreId};
use crate::sync::atomic::Ordering;
use crate::vfs::Vfs;

/// What a backup reads of an open store with a folder.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    engine: &'a Engine,
    disk: &'a Disk,
}

/// A sealed image, which stays as it is while this is held.
#[derive(Debug)]
pub(crate) struct SealedImage(Arc<Image>);

impl SealedImage {
    /// It holds exactly the state at this LSN.
    pub(crate) fn lsn(&self) -> Lsn {
        self.0.manifest.lsn
    }

    /// The bytes of its keys and cells.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.0.manifest.live_bytes()
    }
}

impl Engine {
    /// What a backup reads; `None` for a store without a folder.
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        let disk = self.disk.as_ref()?;
        Some(Source { engine: self, disk })
    }
}

impl Source<'_> {
    /// The file system that the store is on.
    pub(crate) fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.disk.folder.vfs
    }

    /// The store's folder.
    pub(crate) fn root(&self) -> &Path {
        self.disk.folder.root()
    }

    /// The store.
    pub(crate) fn store(&self) -> StoreId {
        self.engine.store
    }

    /// This opening of the store.
    pub(crate) fn epoch(&self) -> Epoch {
        self.disk.recovery.lock().epoch
    }

    /// An error once the store is closed or poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        self.engine.check()
    }

    /// Store time now: nothing that is committed later has a lower one.
    pub(crate) fn now(&self) -> u64 {
        self.engine.now()
    }

    /// Makes all that is visible durable, and says up to where all is.
    pub(crate) fn reach(&self) -> Result<Lsn> {
        self.engine.sync(self.engine.visible())?;
        Ok(self.engine.durable())
    }

    /// The newest snapshot, if there is one.
    pub(crate) fn snapshot(&self) -> Option<Lsn> {
        let lsn = Lsn::new(self.disk.snapshot.load(Ordering::Acquire));
        let kept = self.engine.options.snapshots && lsn > Lsn::ZERO;
        kept.then_some(lsn)
    }

    /// The file of a snapshot.
    pub(crate) fn snapshot_path(&self, lsn: Lsn) -> PathBuf {
        self.disk.folder.snapshot(lsn)
    }

    /// The image as it is now, if there is anything in it.
    pub(crate) fn image(&self) -> Option<SealedImage> {
        let image = self.engine.image()?;
        (image.manifest.lsn > Lsn::ZERO).then_some(SealedImage(image))
    }

    /// The LSN that the log begins behind.
    pub(crate) fn log_base(&self) -> Lsn {
        self.disk.log.base()
    }

    /// The bytes of the log behind an LSN, roughly.
    pub(crate) fn log_bytes_behind(&self, after: Lsn) -> u64 {
        self.disk.log.bytes_behind(after).0
    }

    /// Gives every commit with `after < lsn <= upto`, in order; `upto` must be durable.
    ///
    /// # Errors
    /// [`Error::Trimmed`] where the log begins later by now; [`Error::Corrupt`],
    /// [`Error::Io`], and what the visitor answers.
    pub(crate) fn commits(
        &self,
        range: (Lsn, Lsn),
        visitor: impl FnMut(Lsn, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.disk.log.read_back(range, visitor)
    }

    /// Writes an image as a snapshot under a temporary name, and syncs it. `None` where
    /// a part of it could not be read: it was healed, and is another one now.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it could not be healed; [`Error::Io`], [`Error::Closed`],
    /// and what `told` answers.
    pub(crate) fn write_image(
        &self,
        image: &SealedImage,
        temporary: &Path,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Option<SnapshotInfo>> {
        let SealedImage(image) = image;
        let written = self.engine.write_blocks(self.disk, image, temporary, told);
        match written {
            Ok(info) => Ok(Some(info)),
            Err(Failed::Other(e)) => Err(e),
            Err(Failed::Image(e)) => self.engine.heal(image, &e).map(|_| None),
        }
    }

    /// Reports that the newest snapshot cannot be copied.
    pub(crate) fn tell_damaged_snapshot(&self, lsn: Lsn, what: &Error) {
        let healed = Healed {
            path: self.snapshot_path(lsn),
            what: what.to_string(),
            action: "a backup was made without it; Store::snapshot writes a new one".into(),
        };
        self.engine.tell_healed(&healed);
        self.disk.recovery.lock().healed.push(healed);
    }
}

/// Whether two snapshot files have the same state in them.
pub(crate) fn same_state(one: &SnapshotInfo, other: &SnapshotInfo) -> bool {
    (one.header.lsn, one.hash, one.entries) == (other.header.lsn, other.hash, other.entries)
}
