//! Owns which backend keeps the image of a store: the one that the program chose, or else the one
//! that made it, which the names in the image's folder tell.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::image::ImageBackend;
#[cfg(any(test, feature = "file-image"))]
use crate::image::files::FileBackend;
use crate::image::sled::{SledBackend, SledOptions};
use crate::vfs::{DirEntry, Vfs};

/// A file that every folder of sled has.
const MARK_OF_SLED: &str = "conf";
/// The index of a `FileBackend`.
pub(crate) const INDEX_OF_FILES: &str = "pieces.index";
/// What the data files of a `FileBackend` end with.
pub(crate) const DATA_SUFFIX: &str = ".data";

/// The feature with which a program has a `FileBackend`.
const FEATURE_OF_FILES: &str = "file-image";

/// What makes a backend of files; nothing in a build without it.
pub(crate) type MakeFiles = Option<fn(Arc<dyn Vfs>) -> Arc<dyn ImageBackend>>;

#[cfg(any(test, feature = "file-image"))]
pub(crate) const FILES: MakeFiles = Some(|vfs| Arc::new(FileBackend::new(vfs)));
#[cfg(not(any(test, feature = "file-image")))]
pub(crate) const FILES: MakeFiles = None;

/// Which backend made the image in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Sled,
    Files,
}

/// Whose image the names in a folder are; `None` where they are nobody's.
pub(crate) fn maker_of(names: &[DirEntry]) -> Option<Maker> {
    let is_of_files =
        |entry: &DirEntry| entry.name == INDEX_OF_FILES || entry.name.ends_with(DATA_SUFFIX);
    if names.iter().any(is_of_files) {
        // Also where one of the two is gone: that is damage, and sled would only add to it.
        return Some(Maker::Files);
    }
    let is_of_sled = names.iter().any(|entry| entry.name == MARK_OF_SLED);
    is_of_sled.then_some(Maker::Sled)
}

/// Which backend keeps the image of a store.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// This one, to which an image of another is damaged.
    Chosen(Arc<dyn ImageBackend>),
    /// The one that made it, and sled where there is none.
    AsMade { sled: SledOptions, files: MakeFiles },
}

impl Choice {
    /// The backend for a store with these folders of images, of which the first one counts that
    /// says who made it. They are asked for only where it depends on them.
    ///
    /// # Errors
    /// Those of `folders`; [`Error::MissingFeature`] for one that is not in this build, before anything is changed:
    /// to build the image anew with sled would take it from the program that chose the other.
    pub(crate) fn backend(
        &self,
        vfs: &Arc<dyn Vfs>,
        folders: impl FnOnce() -> Result<Vec<PathBuf>>,
    ) -> Result<Arc<dyn ImageBackend>> {
        let (sled, files) = match self {
            Self::Chosen(backend) => return Ok(Arc::clone(backend)),
            Self::AsMade { sled, files } => (sled, files),
        };
        for folder in folders()? {
            let names = match vfs.read_dir(&folder) {
                Err(e) if says_nothing(e.kind()) => continue,
                names => names.map_err(|e| Error::io("list", &folder, e))?,
            };
            match (maker_of(&names), files) {
                (Some(Maker::Files), Some(make)) => return Ok(make(Arc::clone(vfs))),
                (Some(Maker::Files), None) => {
                    return Err(Error::MissingFeature {
                        path: folder,
                        feature: FEATURE_OF_FILES,
                    });
                }
                (Some(Maker::Sled), _) => break,
                (None, _) => {}
            }
        }
        Ok(Arc::new(SledBackend::new(*sled)))
    }
}

/// The folder that the manifest names may be gone, or be none.
fn says_nothing(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whose_names_it_has() {
        let of = |names: &[&str]| {
            let entry = |name: &&str| DirEntry {
                name: (*name).to_owned(),
                is_dir: false,
                len: 1,
            };
            maker_of(&names.iter().map(entry).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["db", "0000000000000001.piece"]), None);
        assert_eq!(of(&["blobs", "conf", "db"]), Some(Maker::Sled));
        assert_eq!(of(&["00000000.data", "pieces.index"]), Some(Maker::Files));
        assert_eq!(of(&["pieces.index"]), Some(Maker::Files));
        assert_eq!(of(&["0000000a.data"]), Some(Maker::Files));
        assert_eq!(of(&["conf", "db", "pieces.index"]), Some(Maker::Files));
    }
}
