//! What the tests of backups share: a store on a simulated disk with its model, a folder
//! of backups with the model of each, and the checks of both.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{
    Backup, BackupOptions, Backups, Builder, Error, ManualClock, RestorePoint, Result, Scope,
    Store, Value,
};

pub(crate) const PLACE: &str = "data/store";
pub(crate) const DEST: &str = "data/backups";

/// All that is in a store, with the version of each key.
pub(crate) type Content = BTreeMap<(Scope, String), (Value, u64)>;

pub(crate) fn content(store: &Store) -> Content {
    let mut content = Content::new();
    for scope in store.scopes().unwrap() {
        for entry in store.scope(scope.clone()).scan("").unwrap() {
            let entry = entry.unwrap();
            let value = (entry.value().unwrap(), entry.version().get());
            content.insert((scope.clone(), entry.key().to_owned()), value);
        }
    }
    content
}

/// The settings of a builder on top of the small sizes.
pub(crate) type Settings = fn(Builder) -> Builder;

/// A store and its backups on a simulated disk.
pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    settings: Settings,
    store: Option<Store>,
    commits: u64,
    /// What each backup has to hold that was made and not removed.
    pub(crate) kept: BTreeMap<u64, Content>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(settings: Settings) -> Self {
        Self::on(SimDisk::new(7), settings)
    }

    pub(crate) fn on(disk: SimDisk, settings: Settings) -> Self {
        Self {
            disk,
            clock: Arc::new(ManualClock::new(1_000_000)),
            settings,
            store: None,
            commits: 0,
            kept: BTreeMap::new(),
        }
    }

    /// The same on a copy of its disk, as a kill or a power cut leaves it.
    pub(crate) fn after(&self, loss: Loss) -> Self {
        Self {
            disk: self.disk.crash(loss),
            clock: Arc::clone(&self.clock),
            settings: self.settings,
            store: None,
            commits: self.commits,
            kept: self.kept.clone(),
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        let builder = self.disk.store_builder();
        let builder = builder.clock(Arc::clone(&self.clock) as _);
        (self.settings)(builder.segment_bytes(8192, 8192).block_bytes(1024))
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.store = None;
        self.store = Some(self.builder().open(PLACE)?);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        self.store.take().expect("the store is open").close()
    }

    /// Leaves the store as a kill does.
    pub(crate) fn kill(&mut self) {
        let left = self.disk.crash(Loss::Nothing);
        // The old disk is where the store is still open.
        drop(std::mem::replace(&mut self.disk, left));
        self.store = None;
    }

    /// So many commits, each of two scopes: `counter` counts them all.
    pub(crate) fn commits(&mut self, count: u64) -> Result<()> {
        for _ in 0..count {
            let n = self.commits + 1;
            self.store().transact(|tx| {
                let key = format!("k{:02}", n % 30);
                match n % 11 {
                    0 => tx.global().delete(&key)?,
                    _ => tx.global().set(&key, format!("{n:05} ").repeat(30))?,
                }
                tx.scope(Scope::job("j")).set("counter", n)
            })?;
            self.commits = n;
            self.clock.set_micros(1_000_000 + n * 1_000);
        }
        Ok(())
    }

    pub(crate) fn backup(&mut self) -> Result<Backup> {
        self.backup_with(BackupOptions::new())
    }

    pub(crate) fn backup_with(&mut self, options: BackupOptions<'_>) -> Result<Backup> {
        let content = content(self.store());
        let backup = self.store().backup_with(DEST, options)?;
        self.kept.insert(backup.number, content);
        Ok(backup)
    }

    pub(crate) fn backups(&self) -> Backups {
        self.builder().backups(DEST).unwrap()
    }

    /// What a backup restores to, on a copy of the disk.
    pub(crate) fn restored(&self, point: impl Into<RestorePoint>) -> Result<Content> {
        let copy = self.after(Loss::Nothing);
        copy.builder().restore(DEST, "data/copy", point)?;
        let store = copy.builder().open("data/copy")?;
        Ok(content(&store))
    }

    /// All that was kept is there, whole, and nothing else; and there is no file that no
    /// backup needs.
    pub(crate) fn check(&self, what: &dyn Display) {
        let backups = self.backups();
        let kept: Vec<u64> = self.kept.keys().copied().collect();
        let numbers = backups.numbers();
        assert_eq!(
            numbers.unwrap_or_else(|e| panic!("{what}: {e}")),
            kept,
            "{what}"
        );
        self.check_contents(what);
        let listed = backups.list().unwrap();
        let mut needed: Vec<_> = listed.into_iter().flat_map(|b| b.files).collect();
        needed.extend(["BACKUP", "LOCK"].map(|name| Path::new(DEST).join(name)));
        needed.sort();
        needed.dedup();
        assert_eq!(self.files(DEST), needed, "{what}");
    }

    /// What is there is whole, and what was kept is among it.
    pub(crate) fn check_contents(&self, what: &dyn Display) {
        let verified = self.backups().verify();
        let verified = verified.unwrap_or_else(|e| panic!("{what}: {e}"));
        for (number, content) in &self.kept {
            let there = verified.backups.iter().any(|b| b.number == *number);
            assert!(there, "{what}: backup {number} is gone");
            let restored = self.restored(RestorePoint::Backup(*number));
            let restored = restored.unwrap_or_else(|e| panic!("{what}: backup {number}: {e}"));
            assert!(restored == *content, "{what}: backup {number} is not it");
        }
    }

    /// The files under a folder, in order.
    pub(crate) fn files(&self, folder: &str) -> Vec<PathBuf> {
        let files = self.disk.files().into_iter().map(|(path, _)| path);
        let mut files: Vec<_> = files.filter(|path| path.starts_with(folder)).collect();
        files.sort();
        files
    }
}

/// The bytes of every file under a folder.
pub(crate) fn bytes(disk: &SimDisk, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter();
    let files = files.filter(|(path, _)| path.starts_with(folder));
    files
        .map(|(path, _)| {
            let bytes = disk.read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

/// Whether an error says that a file is damaged, missing or not what it should be.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_))
}
