//! Owns the stores that are damaged: where they are, how they are made, and what
//! is in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Builder, Result, Scope, Store, Value};
use serde_json::json;
use tempfile::TempDir;

/// All that a user can see of a store.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content(BTreeMap<Scope, ScopeContent>);

#[derive(Clone, Debug, PartialEq)]
struct ScopeContent {
    entries: Vec<(String, u64, Value)>,
    len: u64,
    bytes: u64,
}

impl Content {
    /// Reads everything, by each way there is.
    pub(crate) fn of(store: &Store) -> Result<Self> {
        let mut content = BTreeMap::new();
        for scope in store.scopes()? {
            let handle = store.scope(scope.clone());
            let mut entries = Vec::new();
            for entry in handle.scan("")? {
                let entry = entry?;
                let value: Value = entry.value()?;
                let got = handle
                    .get_versioned::<Value>(entry.key())?
                    .expect("scanned");
                assert_eq!(
                    (&got.value, got.version),
                    (&value, entry.version()),
                    "{scope}"
                );
                entries.push((entry.key().to_owned(), got.version.get(), value));
            }
            let keys: Vec<String> = handle.keys()?.collect();
            assert!(
                keys.iter().eq(entries.iter().map(|(key, ..)| key)),
                "{scope}"
            );
            let (len, bytes) = (handle.len()?, handle.bytes()?);
            let scope_content = ScopeContent {
                entries,
                len,
                bytes,
            };
            content.insert(scope, scope_content);
        }
        Ok(Self(content))
    }

    pub(crate) fn keys(&self) -> usize {
        self.0.values().map(|scope| scope.entries.len()).sum()
    }
}

/// A folder with a store, on the simulated disk or on the real one.
pub(crate) struct Place {
    root: PathBuf,
    sim: Option<SimDisk>,
    _folder: Option<TempDir>,
}

/// A folder on the fastest file system there is.
fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

impl Place {
    pub(crate) fn simulated() -> Self {
        Self {
            root: "state".into(),
            sim: Some(SimDisk::new(7)),
            _folder: None,
        }
    }

    pub(crate) fn real() -> Self {
        let folder = temporary();
        Self {
            root: folder.path().join("state"),
            sim: None,
            _folder: Some(folder),
        }
    }

    /// A copy as it is now, also of a store that is open.
    pub(crate) fn copy(&self) -> Self {
        match &self.sim {
            Some(disk) => Self {
                root: self.root.clone(),
                sim: Some(disk.crash(Loss::Nothing)),
                _folder: None,
            },
            None => {
                let copy = Self::real();
                copy_folder(&self.root, &copy.root);
                copy
            }
        }
    }

    /// Settings that make a small store of several segments and blocks.
    pub(crate) fn builder(&self) -> Builder {
        let builder = match &self.sim {
            Some(disk) => disk.store_builder(),
            None => Store::builder(),
        };
        builder.segment_bytes(8192, 32 * 1024).block_bytes(1024)
    }

    pub(crate) fn open(&self) -> Result<Store> {
        self.builder().open(&self.root)
    }

    /// Files by their paths in the store, with their lengths; without `LOCK`, which
    /// is empty and means nothing.
    pub(crate) fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        match &self.sim {
            Some(disk) => {
                for (path, len) in disk.files() {
                    if let Ok(path) = path.strip_prefix(&self.root) {
                        files.push((path.to_str().unwrap().to_owned(), len));
                    }
                }
            }
            None => list(&self.root, "", &mut files),
        }
        files.retain(|(path, _)| path != "LOCK");
        files.sort();
        files
    }

    /// All files but the image's, with their bytes.
    pub(crate) fn ours(&self) -> Vec<(String, Vec<u8>)> {
        let files = self
            .files()
            .into_iter()
            .filter(|(path, _)| !path.starts_with("image/"));
        files
            .map(|(path, _)| (path.clone(), self.read(&path)))
            .collect()
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        let path = self.root.join(path);
        match &self.sim {
            Some(disk) => disk.read(path).unwrap(),
            None => fs::read(path).unwrap(),
        }
    }

    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.root.join(path);
        match &self.sim {
            Some(disk) => disk.write(path, bytes).unwrap(),
            None => fs::write(path, bytes).unwrap(),
        }
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.root.join(path);
        match &self.sim {
            Some(disk) => disk.remove(path).unwrap(),
            None if path.is_dir() => fs::remove_dir_all(path).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
    }
}

fn list(root: &Path, below: &str, files: &mut Vec<(String, u64)>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = match below.is_empty() {
            true => name,
            false => format!("{below}/{name}"),
        };
        match entry.file_type().unwrap().is_dir() {
            true => list(root, &path, files),
            false => files.push((path, entry.metadata().unwrap().len())),
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// How a store was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Closed, with a snapshot and a log behind it.
    Closed,
    /// Closed, and too young for a snapshot.
    ClosedYoung,
    /// Killed: a log behind the image that only marks vouch for.
    Killed,
}

/// A store, what is in it, and what was in it after each commit.
pub(crate) struct Sample {
    pub(crate) place: Place,
    pub(crate) content: Content,
    pub(crate) history: Vec<Content>,
    pub(crate) left: Left,
    /// The same store as it was earlier: closed once, and with its first snapshot.
    pub(crate) earlier: Vec<Place>,
}

impl Sample {
    pub(crate) fn new(place: Place, left: Left) -> Self {
        let mut history = vec![Content::default()];
        let store = place.open().unwrap();
        commits(&store, 0..6, &mut history);
        store.close().unwrap();
        drop(store);
        let mut earlier = vec![place.copy()];
        let store = place.open().unwrap();
        commits(&store, 6..12, &mut history);
        if left != Left::ClosedYoung {
            store.checkpoint().unwrap();
            store.snapshot().unwrap();
        }
        earlier.push(place.copy());
        commits(&store, 12..18, &mut history);
        store.checkpoint().unwrap();
        commits(&store, 18..26, &mut history);
        let content = Content::of(&store).unwrap();
        assert!(content.keys() > 40, "{}", content.keys());
        let killed = (left == Left::Killed).then(|| place.copy());
        store.close().unwrap();
        drop(store);
        Self {
            place: killed.unwrap_or(place),
            content,
            history,
            left,
            earlier,
        }
    }
}

fn commits(store: &Store, range: std::ops::Range<u32>, history: &mut Vec<Content>) {
    for i in range {
        let order = store.scope(Scope::workflow("order-42"));
        let jobs = store.scope(Scope::job("j:1"));
        match i % 6 {
            0 => order
                .set(format!("config-{i}"), json!({"region": "eu", "round": i}))
                .unwrap(),
            1 => drop(order.increment("attempts", 1).unwrap()),
            2 => {
                let many = |tx: &evenkeel::Transaction| {
                    for n in 0..12 {
                        let text = format!("{i}-{n}-").repeat(6);
                        tx.scope(Scope::job("j:1"))
                            .set(format!("k{i:02}{n:02}"), text)?;
                    }
                    tx.global().set("last", i)
                };
                store.transact(many).unwrap();
            }
            3 => order
                .step("charge")
                .set("progress", f64::from(i) / 8.0)
                .unwrap(),
            4 => jobs.delete(format!("k{:02}03", i - 2)).unwrap(),
            _ => store
                .scope(Scope::custom(format!("big{i}")))
                .set("blob", "x".repeat(700))
                .unwrap(),
        }
        history.push(Content::of(store).unwrap());
    }
}
