//! Owns what an opening gives back to a full disk before it writes: files of the log
//! that nothing refers to, and the room behind the frames of those that are kept.
//!
//! What stays true: nothing goes before what is read in its place is durable, so a
//! crash at any call leaves a log that reads the same.

use std::path::Path;

use crate::error::{Error, Result};
use crate::vfs::{OpenMode, Vfs};
use crate::wal::scan::Scan;

/// Gives back what the log of this scan does without.
///
/// Numbers are not given again because of it: the scan has seen them.
pub(super) fn reclaim(vfs: &dyn Vfs, folder: &Path, scan: &mut Scan) -> Result<()> {
    // What salvage gives up is kept as it was found.
    if scan.loss.is_some() {
        return Ok(());
    }
    let sync_folder = || {
        vfs.sync_dir(folder)
            .map_err(|e| Error::io("sync", folder, e))
    };
    // The last opening may have been stopped before its segment had its name on the
    // disk, and that segment has copies of frames that are cut off here.
    sync_folder()?;
    for info in &mut scan.segments {
        let end = info.end;
        let cut = vfs.open(&info.path, OpenMode::Write).and_then(|file| {
            if end < info.len {
                file.set_len(end)?;
            }
            // Also where nothing is cut: after a kill the kernel may show a header
            // that the disk does not have yet, and older segments go because of it.
            file.sync()
        });
        cut.map_err(|e| Error::io("cut the log segment", &info.path, e))?;
        info.len = info.len.min(end);
    }
    for path in scan.garbage.drain(..) {
        vfs.remove_file(&path)
            .map_err(|e| Error::io("remove", &path, e))?;
        // Oldest first, one by one, as in trimming.
        sync_folder()?;
    }
    Ok(())
}
