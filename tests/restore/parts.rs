//! What the tests of restoring share: a history of a store, and what it held at each of
//! its commits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evenkeel::testing::SimDisk;
use evenkeel::{
    Backup, BackupOptions, Builder, Lsn, ManualClock, RestorePoint, Restored, Result, Scope, Store,
};

pub(crate) const PLACE: &str = "data/store";
pub(crate) const BACKUPS: &str = "far/backups";
pub(crate) const COPY: &str = "new/copy";

/// What a store shows: its lines, and the version of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) lines: String,
    pub(crate) versions: Vec<(Scope, String, u64)>,
}

pub(crate) fn shown(store: &Store) -> Shown {
    let mut lines = Vec::new();
    store.export_json_lines(&mut lines).unwrap();
    let mut versions = Vec::new();
    for scope in store.scopes().unwrap() {
        for entry in store.scope(scope.clone()).scan("").unwrap() {
            let entry = entry.unwrap();
            versions.push((scope.clone(), entry.key().to_owned(), entry.version().get()));
        }
    }
    Shown {
        lines: String::from_utf8(lines).unwrap(),
        versions,
    }
}

/// A store without threads of its own, and small.
pub(crate) fn builder(disk: &SimDisk, clock: &Arc<ManualClock>) -> Builder {
    disk.store_builder()
        .clock(clock.clone())
        .segment_bytes(8 * 1024, 8 * 1024)
        .memtable_bytes(64 * 1024)
        .block_bytes(1024)
}

/// A state that was there: from its commit on.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) lsn: Lsn,
    pub(crate) micros: u64,
    pub(crate) shown: Shown,
}

/// A store and all that it ever was.
pub(crate) struct History {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) moments: Vec<Moment>,
    pub(crate) backups: Vec<Backup>,
    store: Option<Store>,
    commits: u64,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            clock: Arc::new(ManualClock::new(1_000_000)),
            moments: Vec::new(),
            backups: Vec::new(),
            store: None,
            commits: 0,
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        builder(&self.disk, &self.clock)
    }

    pub(crate) fn store(&mut self) -> Store {
        if self.store.is_none() {
            self.store = Some(self.builder().open(PLACE).unwrap());
        }
        self.store.clone().unwrap()
    }

    pub(crate) fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().unwrap();
        }
    }

    /// One that was killed: its LSNs have a gap from here on.
    pub(crate) fn kill(&mut self) {
        self.disk = self.disk.crash(evenkeel::testing::Loss::Nothing);
        self.store = None;
    }

    /// Commits this, a little later than what was before.
    pub(crate) fn commit(&mut self, write: impl Fn(&evenkeel::Transaction) -> Result<()>) -> Lsn {
        self.clock.advance(Duration::from_micros(10));
        let store = self.store();
        let ((), commit) = store.submit(|tx| write(tx)).unwrap();
        commit.wait().unwrap();
        self.moments.push(Moment {
            lsn: commit.lsn(),
            micros: evenkeel::Clock::now_micros(&*self.clock),
            shown: shown(&store),
        });
        commit.lsn()
    }

    /// Commits something, of the kinds that there are.
    pub(crate) fn next(&mut self) -> Lsn {
        let n = self.commits;
        self.commits += 1;
        let job = Scope::job(format!("{}", n % 3));
        self.commit(|tx| {
            let own = tx.scope(job.clone());
            match n % 8 {
                4 => own.delete(format!("k{}", n - 3))?,
                6 => own.clear()?,
                7 => {
                    own.clear()?;
                    own.set("after", n)?;
                }
                _ => own.set(format!("k{n}"), "x".repeat(n as usize * 7 % 200))?,
            }
            tx.global().increment("commits", 1)?;
            tx.scope(Scope::custom("a\0b")).set("same", n)
        })
    }

    pub(crate) fn many(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    pub(crate) fn backup(&mut self) -> Backup {
        self.backup_with(BackupOptions::new())
    }

    pub(crate) fn backup_with(&mut self, options: BackupOptions<'_>) -> Backup {
        self.clock.advance(Duration::from_micros(3));
        let backup = self.store().backup_with(BACKUPS, options).unwrap();
        self.backups.push(backup.clone());
        backup
    }

    /// What there was at an LSN.
    pub(crate) fn at(&self, lsn: Lsn) -> Shown {
        let before = self.moments.iter().rev().find(|moment| moment.lsn <= lsn);
        before
            .map(|moment| moment.shown.clone())
            .unwrap_or_default()
    }

    /// What there was at a time.
    pub(crate) fn at_time(&self, micros: u64) -> Shown {
        let before = self.moments.iter().rev();
        let mut before = before.skip_while(|moment| moment.micros > micros);
        before.next().map(|m| m.shown.clone()).unwrap_or_default()
    }

    pub(crate) fn last(&self) -> Moment {
        self.moments.last().unwrap().clone()
    }

    /// Restores a point to a place on a copy of the disk, and gives what it shows there.
    pub(crate) fn restored(&self, point: impl Into<RestorePoint>) -> Result<(Restored, Shown)> {
        let disk = self.disk.crash(evenkeel::testing::Loss::Nothing);
        let restored = builder(&disk, &self.clock).restore(BACKUPS, COPY, point)?;
        Ok((
            restored.clone(),
            open_restored(&disk, &self.clock, &restored),
        ))
    }
}

pub(crate) fn time(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros)
}

/// Opens what was restored to [`COPY`], and checks what holds of each restored store.
pub(crate) fn open_restored(
    disk: &SimDisk,
    clock: &Arc<ManualClock>,
    restored: &Restored,
) -> Shown {
    let store = builder(disk, clock).open(COPY).unwrap();
    assert!(store.recovery().healed.is_empty(), "{:?}", store.recovery());
    assert!(store.verify().unwrap().is_clean());
    assert_eq!(store.origin(), Some(restored.origin));
    assert_ne!(restored.store, restored.origin.store);
    assert_eq!(restored.lsn, restored.origin.lsn);
    let shown = shown(&store);
    assert_eq!(shown.versions.len() as u64, restored.entries);
    let versions = shown.versions.iter().map(|(.., version)| *version);
    assert!(versions.max().unwrap_or(0) <= restored.lsn.get());
    // It goes on behind.
    let ((), commit) = store.submit(|tx| tx.global().set("new", 1)).unwrap();
    assert!(commit.lsn() > restored.lsn);
    commit.wait().unwrap();
    store.close().unwrap();
    let again = builder(disk, clock).open(COPY).unwrap();
    assert_eq!(again.origin(), Some(restored.origin));
    assert_eq!(again.global().get("new").unwrap(), Some(1));
    again.close().unwrap();
    shown
}

/// All files below a folder, with their bytes.
pub(crate) fn files(disk: &SimDisk, folder: impl AsRef<Path>) -> BTreeMap<PathBuf, Vec<u8>> {
    let below = |path: &PathBuf| path.starts_with(folder.as_ref());
    let paths = disk.files().into_iter().map(|(path, _)| path);
    let read = |path: PathBuf| (path.clone(), disk.read(&path).unwrap());
    paths.filter(below).map(read).collect()
}

/// True where nothing is left of a restore: neither the store nor what it was built as.
pub(crate) fn nothing_at_copy(disk: &SimDisk) -> bool {
    files(disk, "new").is_empty()
}
