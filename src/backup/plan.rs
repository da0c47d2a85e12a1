//! Owns the choice: whether a backup goes on from an earlier one, and what a full one
//! begins with.

use std::path::Path;

use super::catalog::{Catalog, LOGS_MAX, LastCommit};
use super::folder::BackupFolder;
use super::verify::{Named, check_ends};
use crate::engine::snapshot::{SnapshotInfo, SnapshotReader};
use crate::engine::source::{SealedImage, Source, same_state};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::vfs::Vfs;

/// So much log behind a state is never a reason to copy the state anew.
const LOG_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// What a full backup begins with.
#[derive(Debug)]
pub(super) enum State {
    /// Nothing: the log reaches back to the beginning.
    Nothing,
    /// The store's newest snapshot.
    Snapshot(Lsn),
    /// The image, written as a snapshot is.
    Image(SealedImage),
}

impl State {
    /// The commits up to this LSN are in it.
    pub(super) fn lsn(&self) -> Lsn {
        match self {
            Self::Nothing => Lsn::ZERO,
            Self::Snapshot(lsn) => *lsn,
            Self::Image(image) => image.lsn(),
        }
    }

    /// The cheapest to copy: the file of a snapshot; without one a short log alone, else
    /// the image. A snapshot that was found damaged is none.
    pub(super) fn choose(source: Source<'_>, damaged: Option<Lsn>) -> Self {
        if let Some(lsn) = source.snapshot().filter(|&lsn| Some(lsn) != damaged) {
            return Self::Snapshot(lsn);
        }
        let image = source.image();
        let all = source.log_base() == Lsn::ZERO;
        let short = source.log_bytes_behind(Lsn::ZERO) <= LOG_BYTES_MIN;
        match image {
            Some(image) if !(all && short) => Self::Image(image),
            _ => Self::Nothing,
        }
    }
}

/// Whether an incremental backup up to `upto` can go on from an earlier one, and is
/// worth it.
pub(super) fn goes_on_from(
    source: Source<'_>,
    folder: &BackupFolder,
    earlier: &Catalog,
    upto: Lsn,
) -> Result<bool> {
    // A store that is behind its own backup is an older copy.
    if earlier.lsn > upto || earlier.logs.len() >= LOGS_MAX {
        return Ok(false);
    }
    let log_bytes: u64 = earlier.logs.iter().map(|log| log.length).sum();
    let (base, base_bytes) = earlier
        .base
        .map_or((Lsn::ZERO, 0), |base| (base.lsn, base.length));
    let long = log_bytes > LOG_BYTES_MIN.max(base_bytes / 2);
    if long && State::choose(source, None).lsn() > base {
        return Ok(false);
    }
    // A look at their ends: reading them through is for `Backups::verify`.
    match check_ends(folder, earlier) {
        Ok(()) => {}
        Err(Error::Corrupt(_)) => return Ok(false),
        Err(e) => return Err(e),
    }
    match has_the_same_past(source, folder, earlier) {
        Err(Error::Trimmed { .. }) => Ok(false),
        same => same,
    }
}

/// Whether the store's past up to the earlier backup is what that has. A salvage, or an
/// older copy of the folder that went on by itself, has another one under the same id:
/// then it does not have the commit that the backup ends with, byte for byte.
fn has_the_same_past(source: Source<'_>, folder: &BackupFolder, earlier: &Catalog) -> Result<bool> {
    let range = |after| (after, earlier.lsn);
    let base = source.log_base();
    if let Some(last) = earlier.last
        && base < last.lsn
    {
        let mut found = Vec::new();
        let before = Lsn::new(last.lsn.get() - 1);
        source.commits(range(before), |lsn, time, body| {
            found.push(LastCommit::of(lsn, time, body));
            Ok(())
        })?;
        return Ok(found == [last]);
    }
    // The log does not have it any more; the snapshot that it was trimmed to will do, if
    // the backup has nothing behind that.
    if earlier.logs.iter().any(|log| log.commits > 0) {
        return Ok(false);
    }
    let mut none = true;
    source.commits(range(earlier.end()), |_, _, _| {
        none = false;
        Ok(())
    })?;
    let same = match earlier.base {
        None => true,
        Some(base) => {
            let file = Named::Base(base).path(folder);
            let kept = ends(&*folder.vfs, &file, source)?;
            let own = source.snapshot().map(|lsn| source.snapshot_path(lsn));
            let own = own.map(|path| ends(&**source.vfs(), &path, source));
            let own = own.transpose()?.flatten();
            kept.zip(own).is_some_and(|(a, b)| same_state(&a, &b))
        }
    };
    Ok(none && same)
}

/// What a snapshot says of itself; `None` where it cannot be told.
fn ends(vfs: &dyn Vfs, path: &Path, source: Source<'_>) -> Result<Option<SnapshotInfo>> {
    match SnapshotReader::open(vfs, path, Some(source.store())) {
        Ok(reader) => Ok(Some(*reader.info())),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
