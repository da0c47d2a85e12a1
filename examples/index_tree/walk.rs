//! Owns listing a folder: every regular file below it, hidden and ignored ones too, in
//! the order of their keys. Symbolic links are not followed, whatever they lead to, and
//! the store is left out. Then what a folder and its index do not agree on.
//!
//! What must stay true: files and records come in one order, so that both are gone
//! through side by side, from any key on, in the memory of the folders that are open.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::iter::Peekable;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};

use evenkeel::{Entry, Result};
use serde::{Deserialize, Serialize};
use walkdir::{DirEntry, WalkDir};

use crate::content::{Record, Stamp};
use crate::index::{Index, Part};
use crate::paths;

/// A file that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) stamp: Stamp,
}

/// What a folder has: a file, or what could not be looked at and why. What is below a
/// folder that cannot be read is not there for us: an index of what nobody can check
/// would be worth little.
pub(crate) type Listed = std::result::Result<Found, String>;

/// A folder that is indexed, and what is left out of it.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    left_out: [PathBuf; 3],
}

impl Folder {
    /// A canonical folder, without the store at a canonical path.
    ///
    /// As nothing that is followed on the way is a link, a path below a canonical folder
    /// is canonical, and comparing it finds the store wherever it is.
    pub(crate) fn new(root: PathBuf, store: &Path) -> Self {
        let name = store.file_name().unwrap_or_default();
        // What a store may be called while it is built, beside its place.
        let sibling = |front: &str, end: &str| {
            let mut sibling = OsString::from(front);
            sibling.push(name);
            sibling.push(end);
            store.with_file_name(sibling)
        };
        let left_out = [
            store.to_owned(),
            sibling(".", ".building"),
            sibling("", ".tmp"),
        ];
        Self { root, left_out }
    }

    /// Where the file of a key is; `None` for a key that no path has.
    pub(crate) fn path_of(&self, key: &str) -> Option<PathBuf> {
        Some(self.root.join(paths::path_of(key)?))
    }

    /// All files whose keys are greater than `after`, in the order of their keys.
    pub(crate) fn files(&self, after: &str) -> impl Iterator<Item = Listed> + Send + use<> {
        let walk = WalkDir::new(&self.root)
            .follow_links(false)
            .follow_root_links(false)
            .sort_by(|a, b| {
                let [a_name, b_name] = [a, b].map(|entry| Path::new(entry.file_name()));
                in_order(a_name, a).cmp(&in_order(b_name, b))
            });
        let (folder, after) = (self.clone(), after.to_owned());
        let wanted = move |entry: &DirEntry| {
            let place = || in_order(folder.relative(entry.path()), entry);
            let behind = |place: &str| {
                *place > *after || (entry.file_type().is_dir() && after.starts_with(place))
            };
            let kept = !folder.left_out.iter().any(|out| entry.path() == out);
            kept && (after.is_empty() || entry.depth() == 0 || behind(&place()))
        };
        let folder = self.clone();
        let entries = walk.into_iter().filter_entry(wanted);
        entries.filter_map(move |entry| folder.listed(entry).transpose())
    }

    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// What an entry comes to; `None` where it is no file (any more).
    fn listed(
        &self,
        entry: walkdir::Result<DirEntry>,
    ) -> std::result::Result<Option<Found>, String> {
        let stamped = entry.and_then(|entry| match entry.file_type().is_file() {
            true => entry.metadata().map(|metadata| Some((entry, metadata))),
            false => Ok(None),
        });
        match stamped {
            Ok(None) => Ok(None),
            Ok(Some((entry, metadata))) => match Stamp::of(&metadata) {
                Ok(stamp) => {
                    let key = paths::key_of(self.relative(entry.path())).into_owned();
                    Ok(Some(Found { key, stamp }))
                }
                Err(e) => Err(format!("{}: {e}", entry.path().display())),
            },
            Err(e) if vanished(&e) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// Where an entry stands in the order of the keys: a folder where the keys of its files
/// begin, which is not before its name (`a.b` comes before `a/b`).
fn in_order<'p>(path: &'p Path, entry: &DirEntry) -> Cow<'p, str> {
    let mut place = paths::key_of(path);
    if entry.file_type().is_dir() {
        place.to_mut().push(MAIN_SEPARATOR);
    }
    place
}

fn vanished(e: &walkdir::Error) -> bool {
    e.io_error()
        .is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
}

/// A file that has to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) key: String,
    /// Its size when it was listed; `None` for one that is not there any more.
    pub(crate) size: Option<u64>,
}

/// What a folder and the records of its files do not agree on, in the order of the keys.
pub(crate) struct Differences {
    files: Peekable<Box<dyn Iterator<Item = Listed> + Send>>,
    records: Peekable<Box<dyn Iterator<Item = Result<Entry>> + Send>>,
    /// How many files were listed.
    pub(crate) listed: u64,
    /// What could not be listed.
    pub(crate) unreadable: Vec<String>,
}

impl Differences {
    /// Those of the keys that are greater than `after`.
    pub(crate) fn behind(index: &Index, folder: &Folder, after: &str) -> Result<Self> {
        let files: Box<dyn Iterator<Item = Listed> + Send> = Box::new(folder.files(after));
        let after = after.to_owned();
        let before = move |entry: &Result<Entry>| match entry {
            Ok(entry) => *entry.key() <= *after,
            Err(_) => false,
        };
        let records = index.part(Part::Files).scan("")?.skip_while(before);
        let records: Box<dyn Iterator<Item = Result<Entry>> + Send> = Box::new(records);
        Ok(Self {
            files: files.peekable(),
            records: records.peekable(),
            listed: 0,
            unreadable: Vec::new(),
        })
    }

    fn step(&mut self) -> Result<Option<Task>> {
        loop {
            while let Some(Err(why)) = self.files.next_if(std::result::Result::is_err) {
                self.unreadable.push(why);
            }
            let order = match (self.files.peek(), self.records.peek()) {
                (Some(Ok(found)), Some(Ok(entry))) => found.key.as_str().cmp(entry.key()),
                (_, None) => Ordering::Less,
                _ => Ordering::Greater,
            };
            let found = match order {
                Ordering::Less | Ordering::Equal => self.files.next().and_then(Listed::ok),
                Ordering::Greater => None,
            };
            let record = match order {
                Ordering::Greater | Ordering::Equal => self.records.next().transpose()?,
                Ordering::Less => None,
            };
            self.listed += u64::from(found.is_some());
            let (key, size) = match (found, record) {
                (None, None) => return Ok(None),
                (None, Some(entry)) => (entry.key().to_owned(), None),
                (Some(found), None) => (found.key, Some(found.stamp.size)),
                (Some(found), Some(entry)) => match entry.value::<Record>()?.stamp == found.stamp {
                    true => continue,
                    false => (found.key, Some(found.stamp.size)),
                },
            };
            return Ok(Some(Task { key, size }));
        }
    }
}

impl Iterator for Differences {
    type Item = Result<Task>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl fmt::Debug for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Differences")
            .field("listed", &self.listed)
            .finish_non_exhaustive()
    }
}
