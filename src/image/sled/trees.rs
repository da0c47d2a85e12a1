//! Owns reading a database that somebody else made with sled: all of its trees, in order,
//! a part at a time.
//!
//! What must stay true: the folder is only read. sled writes when it opens a database, so
//! what it opens is a copy; while that is made nobody else can open the folder. A call
//! that hangs or panics is damage, as it is for the image.

use std::collections::VecDeque;
use std::fs;
use std::ops::Bound;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::files;
use super::lane::{Lane, NoAnswer};
use crate::error::{Corruption, Error, Result};

/// What sled may keep in memory of a copy, beside what it always does.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// One request reads about so much.
const PART_BYTES: usize = 1024 * 1024;
/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = 64;
/// Opening reads the whole log that no snapshot has, so it may take longer than a call.
const OPENING: u32 = 20;
/// How long somebody else may have the folder open. sled lets go of it late.
const LOCKED: Duration = Duration::from_secs(5);
/// A `conf` is a few lines.
const CONF_BYTES_MAX: u64 = 4096;
/// What sled needs of the disk to open a copy.
const SPARE_BYTES: u64 = 8 * 1024 * 1024;

/// An entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SledEntry {
    pub(crate) tree: Arc<[u8]>,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// The entries of all trees, by the names of the trees and then by key.
#[derive(Debug)]
pub(crate) struct SledTrees {
    folder: PathBuf,
    deadline: Duration,
    lane: Lane<sled::Db>,
    /// The trees that are left; the first one is being read.
    trees: VecDeque<Arc<[u8]>>,
    part: VecDeque<(Vec<u8>, Vec<u8>)>,
    /// The last key that was asked for of the first tree.
    after: Option<Vec<u8>>,
    /// A call was not answered: nothing is waited for any more.
    hung: bool,
    /// Removed when all else is dropped.
    _copy: TempDir,
}

impl SledTrees {
    /// Opens a copy of a database, which is made in a folder `within`.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Locked`], [`Error::Io`], [`Error::Invalid`] for a
    /// database of another version of sled, [`Error::Corrupt`].
    pub(crate) fn open(folder: &Path, within: Option<&Path>, deadline: Duration) -> Result<Self> {
        let segment_bytes = segment_bytes(folder)?;
        let copy = copy(folder, within)?;
        let opened = copy.path().to_path_buf();
        let make = move || {
            let config = sled::Config::new()
                .path(opened)
                .cache_capacity(CACHE_BYTES)
                .segment_size(segment_bytes)
                .flush_every_ms(None)
                .print_profile_on_drop(false);
            config.open()
        };
        let opening = deadline.saturating_mul(OPENING);
        let lane = Lane::start("evenkeel-sled-i", opening, make)
            .map_err(|e| Error::io("start a thread for", folder, e))?
            .map_err(|e| unanswered(folder, e, opening))?
            .map_err(|e| failed(folder, &e))?;
        let mut this = Self {
            folder: folder.to_path_buf(),
            deadline,
            lane,
            trees: VecDeque::new(),
            part: VecDeque::new(),
            after: None,
            hung: false,
            _copy: copy,
        };
        let mut names = this.ask(|db| Ok(db.tree_names()))?;
        names.sort_unstable();
        this.trees = names.iter().map(|name| Arc::from(&name[..])).collect();
        Ok(this)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where sled fails, hangs or panics.
    pub(crate) fn next(&mut self) -> Result<Option<SledEntry>> {
        loop {
            let Some(tree) = self.trees.front() else {
                return Ok(None);
            };
            let tree = Arc::clone(tree);
            if let Some((key, value)) = self.part.pop_front() {
                return Ok(Some(SledEntry { tree, key, value }));
            }
            let after = self.after.take();
            self.part = self.ask(move |db| read(db, &tree, after))?;
            match self.part.back() {
                Some((key, _)) => self.after = Some(key.clone()),
                None => drop(self.trees.pop_front()),
            }
        }
    }

    fn ask<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&sled::Db) -> sled::Result<R> + Send + 'static,
    ) -> Result<R> {
        let answer = self.lane.call(self.deadline, call);
        self.hung |= matches!(answer, Err(NoAnswer::Late));
        let answer = answer.map_err(|e| unanswered(&self.folder, e, self.deadline))?;
        answer.map_err(|e| failed(&self.folder, &e))
    }
}

impl Drop for SledTrees {
    fn drop(&mut self) {
        self.lane.close();
        if !self.hung {
            // So that sled is done with the copy before it is removed.
            let _ = self.lane.join(self.deadline);
        }
    }
}

/// The entries behind a key, about as many as `PART_BYTES` hold.
fn read(
    db: &sled::Db,
    tree: &[u8],
    after: Option<Vec<u8>>,
) -> sled::Result<VecDeque<(Vec<u8>, Vec<u8>)>> {
    let tree = db.open_tree(tree)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut part = VecDeque::new();
    let mut bytes = 0;
    for entry in tree.range::<Vec<u8>, _>((from, Bound::Unbounded)) {
        let (key, value) = entry?;
        bytes += key.len() + value.len() + ENTRY_BYTES;
        part.push_back((key.to_vec(), value.to_vec()));
        if bytes >= PART_BYTES {
            break;
        }
    }
    Ok(part)
}

/// The size of the segments that a database was made with: sled opens it with no other.
/// An error where there is no database, so that sled makes none.
fn segment_bytes(folder: &Path) -> Result<usize> {
    let none = |reason: &str| Error::NotAStore {
        path: folder.to_path_buf(),
        reason: reason.to_owned(),
    };
    let found = fs::metadata(folder).map_err(|e| Error::io("import", folder, e))?;
    if !found.is_dir() {
        return Err(none("a database of sled's is a folder"));
    }
    let path = folder.join("conf");
    let len = |path: &Path| match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("import", path, e)),
    };
    let (Some(conf_bytes), Some(_)) = (len(&path)?, len(&folder.join("db"))?) else {
        return Err(none("there is no database of sled's in it (`conf`, `db`)"));
    };
    let damaged = |what: &str| Error::from(Corruption::new(&path, what));
    if conf_bytes > CONF_BYTES_MAX {
        return Err(damaged("it is too long to be sled's"));
    }
    let conf = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
    // Four bytes of checksum stand behind the lines; sled looks at them.
    let text = conf.get(..conf.len().saturating_sub(4)).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let setting = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    if setting("use_compression: ") == Some("true") {
        return Err(Error::Invalid {
            what: "database of sled's",
            reason: format!(
                "{} is compressed, which is not read here; copy it into one that is not by sled's export and import",
                folder.display()
            ),
        });
    }
    let bytes = setting("segment_size: ").and_then(|bytes| bytes.parse().ok());
    bytes.ok_or_else(|| damaged("it does not say the size of segments"))
}

/// Copies the database while nobody has it open.
fn copy(folder: &Path, within: Option<&Path>) -> Result<TempDir> {
    let db = folder.join("db");
    let lock = files::lock_within(&db, LOCKED).map_err(|e| Error::io("lock", &db, e))?;
    let Some(_lock) = lock else {
        return Err(Error::Locked {
            path: folder.to_path_buf(),
        });
    };
    let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
    let copy = tempfile::Builder::new()
        .prefix("evenkeel-import-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&within)
        .map_err(|e| Error::io("make a temporary folder in", &within, e))?;
    files::copy_database(folder, copy.path())?;
    let free = files::free_bytes(copy.path());
    let free = free.map_err(|e| Error::io("measure", copy.path(), e))?;
    match free < SPARE_BYTES {
        // sled that meets a full disk answers nothing any more.
        true => Err(Error::DiskFull {
            path: copy.path().to_path_buf(),
            needed: SPARE_BYTES,
        }),
        false => Ok(copy),
    }
}

fn failed(folder: &Path, error: &sled::Error) -> Error {
    match error {
        sled::Error::Unsupported(reason) => Error::Invalid {
            what: "database of sled's",
            reason: format!("{}: {reason}", folder.display()),
        },
        sled::Error::Io(e) if e.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::io("read the copy of", folder, e.kind().into())
        }
        e => Corruption::new(folder, format!("sled: {e}")).into(),
    }
}

fn unanswered(folder: &Path, why: NoAnswer, deadline: Duration) -> Error {
    let what = match why {
        NoAnswer::Late => format!("sled gave no answer within {deadline:?}"),
        NoAnswer::Panicked(message) => format!("sled panicked: {message}"),
        NoAnswer::Closed => "sled's thread has ended".into(),
    };
    Corruption::new(folder, what).into()
}
