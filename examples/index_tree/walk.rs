//! Owns listing a folder: every regular file below it, hidden and ignored ones too.
//! Symbolic links are not followed, whatever they lead to, and the store is left
//! out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::content::Stamp;
use crate::paths;

/// A file that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// What a folder has, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// By key.
    pub(crate) files: BTreeMap<String, Found>,
    /// What could not be listed, and why. What is below a folder that cannot be read
    /// is not there for us: an index of what nobody can check would be worth little.
    pub(crate) unreadable: Vec<String>,
}

/// Lists a canonical folder, without the store at a canonical path.
///
/// As nothing that is followed on the way is a link, a path below a canonical folder
/// is canonical, and comparing it finds the store wherever it is.
pub(crate) fn list(root: &Path, store: &Path) -> Listing {
    let mut listing = Listing::default();
    let siblings = siblings_of(store);
    let walk = WalkDir::new(root)
        .follow_links(false)
        .follow_root_links(false);
    let keep = |path: &Path| path != store && !siblings.iter().any(|sibling| path == sibling);
    for entry in walk.into_iter().filter_entry(|entry| keep(entry.path())) {
        let stamped = entry.and_then(|entry| match entry.file_type().is_file() {
            true => entry
                .metadata()
                .map(|metadata| Some((entry.into_path(), metadata))),
            false => Ok(None),
        });
        match stamped {
            Ok(None) => {}
            Ok(Some((path, metadata))) => match Stamp::of(&metadata) {
                Ok(stamp) => {
                    let relative = path.strip_prefix(root).unwrap_or(&path);
                    listing
                        .files
                        .insert(paths::key_of(relative), Found { path, stamp });
                }
                Err(e) => listing.unreadable.push(format!("{}: {e}", path.display())),
            },
            Err(e) if vanished(&e) => {}
            Err(e) => listing.unreadable.push(e.to_string()),
        }
    }
    listing
}

/// What a store may be called while it is built, beside its place.
fn siblings_of(store: &Path) -> [PathBuf; 2] {
    let name = store.file_name().unwrap_or_default();
    let sibling = |front: &str, end: &str| {
        let mut sibling = OsString::from(front);
        sibling.push(name);
        sibling.push(end);
        store.with_file_name(sibling)
    };
    [sibling(".", ".building"), sibling("", ".tmp")]
}

fn vanished(e: &walkdir::Error) -> bool {
    e.io_error()
        .is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}
