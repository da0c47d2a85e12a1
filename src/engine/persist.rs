//! Owns turning a store without a folder into one with a folder: built beside its
//! place under another name, and renamed when it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Engine;
use super::folder::{create_dirs, holds_only_ours, make_folders, snapshot_path, write_format};
use super::opening::Components;
use super::options::EngineOptions;
use super::snapshot::{SnapshotHeader, SnapshotWriter};
use super::view::{View, full_key};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::image::block::BlockBuilder;
use crate::vfs::{Vfs, parent};
use crate::wal::{Known, Log, Room};

impl Engine {
    /// Writes all that is visible now to a new store at `path` and opens it. Keys
    /// keep their versions. `path` may be missing or an empty folder.
    pub(crate) fn persist(
        self: &Arc<Self>,
        path: &Path,
        options: EngineOptions,
        components: Components,
    ) -> Result<Arc<Self>> {
        self.check()?;
        let vfs = &*components.vfs;
        require_free(vfs, path)?;
        let building = building_name(path)?;
        let fail = |op: &'static str| move |e| Error::io(op, path, e);
        if vfs
            .metadata(parent(path))
            .map_err(fail("look above"))?
            .is_none()
        {
            create_dirs(vfs, parent(path)).map_err(fail("create the folder of"))?;
        }
        let lock = take_place(vfs, &building)?;
        self.build(&components, &building, options.clone())?;
        require_free(vfs, path)?;
        vfs.rename(&building, path).map_err(fail("name"))?;
        vfs.sync_dir(parent(path))
            .map_err(fail("sync the folder of"))?;
        drop(lock);
        Self::open(path, options, components)
    }

    fn build(
        self: &Arc<Self>,
        components: &Components,
        root: &Path,
        options: EngineOptions,
    ) -> Result<()> {
        let vfs = &*components.vfs;
        make_folders(vfs, root)?;
        let id = clock::random_bytes().map_err(|e| Error::io("draw an id for", root, e))?;
        let store = StoreId::from_bytes(id);
        let (view, schema) = {
            let mut sequencer = self.sequencer.lock();
            (self.view_of(&mut sequencer), self.schema())
        };
        let now = components.clock.now_micros();
        let time_micros = self.now().max(now);
        if view.lsn() > Lsn::ZERO {
            let header = SnapshotHeader {
                store,
                origin: None,
                lsn: view.lsn(),
                time_micros,
                schema,
            };
            let folder = root.join("snapshots");
            let path = snapshot_path(&folder, view.lsn());
            let mut writer = SnapshotWriter::create(vfs, &path, header)?;
            write_all(&view, &mut writer, options.block_bytes)?;
            writer.finish()?;
            vfs.sync_dir(&folder)
                .map_err(|e| Error::io("sync", &folder, e))?;
        }
        let known = Known {
            store,
            snapshot: view.lsn(),
            vouched: view.lsn(),
            reach: view.lsn(),
            fresh_base: Some(view.lsn()),
            salvage: false,
            room: Room::Ample,
        };
        let (wal, marks) = (root.join("wal"), root.join("marks"));
        let found = Log::find(vfs, &wal, &marks, known, &mut |_, _| {})?;
        let vfs_of_log = Arc::clone(&components.vfs);
        let opening = Log::open(vfs_of_log, &wal, &marks, options.log, found)?;
        opening.log.close(time_micros)?;
        write_format(vfs, root, store, now)
    }
}

fn write_all(view: &View, writer: &mut SnapshotWriter, block_bytes: usize) -> Result<()> {
    let mut builder = BlockBuilder::new();
    for slot in view.scopes()? {
        view.for_each(&slot, |key, lsn, cell| {
            let full = full_key(&slot, key);
            if !builder.is_empty() && builder.len_bytes_with(&full, cell.len()) > block_bytes {
                push(writer, std::mem::replace(&mut builder, BlockBuilder::new()))?;
            }
            builder.push(&full, lsn, cell).map_err(|e| Error::Invalid {
                what: "entry",
                reason: e.to_string(),
            })
        })?;
    }
    match builder.is_empty() {
        true => Ok(()),
        false => push(writer, builder),
    }
}

fn push(writer: &mut SnapshotWriter, builder: BlockBuilder) -> Result<()> {
    let first_key = builder.first_key().unwrap_or_default().to_vec();
    let entries = u32::try_from(builder.entry_count()).unwrap_or(u32::MAX);
    let live_bytes = builder.live_bytes();
    writer.push_block(&builder.finish(), &first_key, entries, live_bytes)
}

fn require_free(vfs: &dyn Vfs, path: &Path) -> Result<()> {
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

/// The name under which a store is built: one for each place, so that what an
/// interruption left is found and removed.
fn building_name(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::Invalid {
        what: "path",
        reason: format!("{} does not end in a name", path.display()),
    })?;
    let mut building = std::ffi::OsString::from(".");
    building.push(name);
    building.push(".building");
    Ok(path.with_file_name(building))
}

/// Removes what a persisting to `path` left behind when it was killed, now that there is
/// a store. Best effort: it is in nobody's way.
pub(super) fn remove_unfinished(vfs: &dyn Vfs, path: &Path) {
    let Ok(building) = building_name(path) else {
        return;
    };
    let there = matches!(vfs.metadata(&building), Ok(Some(found)) if found.is_dir);
    // Somebody else may call a folder so.
    if !there || !holds_only_ours(vfs, &building) {
        return;
    }
    if let Ok(lock) = vfs.lock(&building.join("LOCK")) {
        let _ = vfs.remove_dir_all(&building);
        drop(lock);
    }
}

fn take_place(vfs: &dyn Vfs, building: &Path) -> Result<Box<dyn crate::vfs::VfsLock>> {
    let io = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked {
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
