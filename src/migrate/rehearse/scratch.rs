//! Owns the store beside a store in which a rehearsal stages: made for it, and removed
//! behind it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::place::{REHEARSAL, name_beside, remove_left_over};
use crate::error::{Error, Result};
use crate::state::store::Shared;
use crate::vfs::Vfs;

/// A store that is gone with this. One that a kill left is removed by the next rehearsal,
/// and when the store that it is beside is opened.
pub(super) struct Scratch {
    pub(super) engine: Arc<Engine>,
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
}

impl Scratch {
    /// Makes one beside the folder of a store, with the settings of that.
    pub(super) fn beside(shared: &Shared) -> Result<Self> {
        let settings = &shared.settings;
        let components = settings.components();
        let of = shared.engine.path().unwrap_or_else(|| "".as_ref());
        let path = name_beside(of, REHEARSAL)?;
        let vfs = Arc::clone(&components.vfs);
        remove_left_over(&*vfs, &path);
        let there = vfs.metadata(&path);
        if there.map_err(|e| Error::io("look at", &path, e))?.is_some() {
            return Err(Error::Occupied { path });
        }
        let engine = Engine::open(&path, settings.engine_options(), components);
        match engine {
            Ok(engine) => Ok(Self { engine, vfs, path }),
            Err(e) => {
                remove_left_over(&*vfs, &path);
                Err(e)
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What fails here costs room until it is removed, and nothing else.
        let _ = self.engine.close();
        remove_left_over(&*self.vfs, &self.path);
    }
}
