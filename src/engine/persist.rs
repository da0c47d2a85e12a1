//! Owns turning a store without a folder into one with a folder.

use std::path::Path;
use std::sync::Arc;

use super::Engine;
use super::folder::snapshot_path;
use super::opening::Components;
use super::options::EngineOptions;
use super::packer::Packer;
use super::place::{Beginning, Place};
use super::snapshot::{SnapshotHeader, SnapshotWriter};
use super::view::{View, full_key};
use crate::error::Result;
use crate::ids::Lsn;

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
        let now_micros = components.clock.now_micros();
        let place = Place {
            vfs: &components.vfs,
            path,
            log: &options.log,
            now_micros,
        };
        place.make(|snapshots, store| {
            let (view, schema) = {
                let mut sequencer = self.sequencer.lock();
                (self.view_of(&mut sequencer), self.schema())
            };
            let (lsn, time_micros) = (view.lsn(), self.now().max(now_micros));
            if lsn > Lsn::ZERO {
                let header = SnapshotHeader {
                    store,
                    origin: None,
                    lsn,
                    time_micros,
                    schema,
                };
                let path = snapshot_path(snapshots, lsn);
                let writer = SnapshotWriter::create(&*components.vfs, &path, header)?;
                write_all(&view, Packer::new(writer, options.block_bytes))?;
            }
            Ok(Beginning { lsn, time_micros })
        })?;
        Self::open(path, options, components)
    }
}

fn write_all(view: &View, mut packer: Packer<SnapshotWriter>) -> Result<()> {
    for slot in view.scopes()? {
        view.for_each(&slot, |key, lsn, cell| {
            packer.push(&full_key(&slot, key), lsn, cell).map(drop)
        })?;
    }
    packer.finish()?.finish().map(drop)
}
