//! Owns making a store where there is none: it is built beside its place under another
//! name, and renamed when it is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{create_dirs, holds_only_ours, make_folders, write_format};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::vfs::{Vfs, VfsLock, parent};
use crate::wal::{Known, Log, LogOptions, Room};

/// Where a new store is made, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) vfs: &'a Arc<dyn Vfs>,
    /// Missing, or an empty folder. Folders above it that are missing are made.
    pub(crate) path: &'a Path,
    pub(crate) log: &'a LogOptions,
    pub(crate) now_micros: u64,
}

/// What a new store begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    /// That of its only snapshot; zero for none.
    pub(crate) lsn: Lsn,
    /// Store time at that LSN, or later.
    pub(crate) time_micros: u64,
}

impl Place<'_> {
    /// Makes a store that begins with the snapshot that `fill` writes, if it does, for the
    /// store's id into the folder of its snapshots, under its own name. When this returns
    /// the store is there whole, and durable; when it fails or is interrupted it is not
    /// there at all.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Locked`] while somebody else makes a store here,
    /// [`Error::Io`], and what `fill` returns.
    pub(crate) fn make(
        &self,
        fill: impl FnOnce(&Path, StoreId) -> Result<Beginning>,
    ) -> Result<StoreId> {
        let (vfs, path) = (&**self.vfs, self.path);
        self.require_free()?;
        let building = name_beside(path, BUILDING)?;
        let fail = |op: &'static str| move |e| Error::io(op, path, e);
        let above = vfs.metadata(parent(path));
        if above.map_err(fail("look above"))?.is_none() {
            create_dirs(vfs, parent(path)).map_err(fail("create the folder of"))?;
        }
        let lock = take_place(vfs, &building)?;
        let made = self.build(&building, fill).and_then(|store| {
            self.require_free()?;
            vfs.rename(&building, path).map_err(fail("name"))?;
            Ok(store)
        });
        if made.is_err() {
            // Best effort: what stays is removed by the next attempt.
            let _ = vfs.remove_dir_all(&building);
        }
        let store = made?;
        vfs.sync_dir(parent(path))
            .map_err(fail("sync the folder of"))?;
        drop(lock);
        Ok(store)
    }

    fn build(
        &self,
        root: &Path,
        fill: impl FnOnce(&Path, StoreId) -> Result<Beginning>,
    ) -> Result<StoreId> {
        let vfs = &**self.vfs;
        make_folders(vfs, root)?;
        let id = clock::random_bytes().map_err(|e| Error::io("draw an id for", root, e))?;
        let store = StoreId::from_bytes(id);
        let snapshots = root.join("snapshots");
        let Beginning { lsn, time_micros } = fill(&snapshots, store)?;
        if lsn > Lsn::ZERO {
            vfs.sync_dir(&snapshots)
                .map_err(|e| Error::io("sync", &snapshots, e))?;
        }
        let known = Known {
            store,
            snapshot: lsn,
            vouched: lsn,
            reach: lsn,
            fresh_base: Some(lsn),
            salvage: false,
            room: Room::Ample,
        };
        let (wal, marks) = (root.join("wal"), root.join("marks"));
        let found = Log::find(vfs, &wal, &marks, known, &mut |_, _| {})?;
        let opening = Log::open(Arc::clone(self.vfs), &wal, &marks, self.log.clone(), found)?;
        opening.log.close(time_micros)?;
        write_format(vfs, root, store, self.now_micros)?;
        Ok(store)
    }

    /// Refuses a place where there is something.
    ///
    /// # Errors
    /// [`Error::Occupied`], [`Error::Io`].
    pub(crate) fn require_free(&self) -> Result<()> {
        let (vfs, path) = (&**self.vfs, self.path);
        let io = |e| Error::io("look at", path, e);
        let taken = match vfs.metadata(path).map_err(io)? {
            None => return Ok(()),
            Some(found) if found.is_dir => !vfs.read_dir(path).map_err(io)?.is_empty(),
            Some(_) => true,
        };
        match taken {
            false => Ok(()),
            true => Err(Error::Occupied {
                path: path.to_path_buf(),
            }),
        }
    }
}

/// Under which a store is built.
const BUILDING: &str = "building";
/// Under which migrations are rehearsed.
pub(crate) const REHEARSAL: &str = "rehearsal";

/// The name of what is made beside a store for a while: one for each place, so that what an
/// interruption left is found and removed.
pub(crate) fn name_beside(path: &Path, what: &str) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::Invalid {
        what: "path",
        reason: format!("{} does not end in a name", path.display()),
    })?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".");
    beside.push(what);
    Ok(path.with_file_name(beside))
}

/// Removes what a making at `path` or a rehearsal left behind when it was killed, now that
/// there is a store.
pub(super) fn remove_unfinished(vfs: &dyn Vfs, path: &Path) {
    for what in [BUILDING, REHEARSAL] {
        if let Ok(beside) = name_beside(path, what) {
            remove_left_over(vfs, &beside);
        }
    }
}

/// Removes what was made beside a store, unless somebody is at it. Best effort: it is in
/// nobody's way.
pub(crate) fn remove_left_over(vfs: &dyn Vfs, beside: &Path) {
    let there = matches!(vfs.metadata(beside), Ok(Some(found)) if found.is_dir);
    // Somebody else may call a folder so.
    if !there || !holds_only_ours(vfs, beside) {
        return;
    }
    if let Ok(lock) = vfs.lock(&beside.join("LOCK")) {
        let _ = vfs.remove_dir_all(beside);
        drop(lock);
    }
}

fn take_place(vfs: &dyn Vfs, building: &Path) -> Result<Box<dyn VfsLock>> {
    let io = |e: io::Error| match e.kind() {
        io::ErrorKind::WouldBlock => Error::Locked {
            path: building.to_path_buf(),
        },
        _ => Error::io("create", building, e),
    };
    if vfs.metadata(building).map_err(io)?.is_some() {
        let left_over = vfs.lock(&building.join("LOCK")).map_err(io)?;
        vfs.remove_dir_all(building).map_err(io)?;
        drop(left_over);
    }
    vfs.create_dir(building).map_err(io)?;
    vfs.lock(&building.join("LOCK")).map_err(io)
}
