//! A store whose clock the test moves, and the places where its keys may be.

use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Builder, Clock as _, Limits, ManualClock, Scope, ScopeHandle, SetOptions, Store};

/// When tests begin, in microseconds.
pub(crate) const START: u64 = 1_700_000_000_000_000;

pub(crate) const SECOND: u64 = 1_000_000;

/// A disk and a clock, over which a store is opened and opened again.
pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<ManualClock>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            clock: Arc::new(ManualClock::new(START)),
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        self.disk
            .store_builder()
            .clock(self.clock.clone())
            .block_bytes(1024)
            .segment_bytes(8192, 65_536)
    }

    pub(crate) fn open(&self) -> Store {
        self.builder().open("/store").unwrap()
    }

    pub(crate) fn advance(&self, micros: u64) {
        self.clock.advance(Duration::from_micros(micros));
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now_micros()
    }
}

/// Where the keys of a test are when they expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a store without a folder.
    InMemory,
    /// In the memtable.
    Memtable,
    /// In the image.
    Image,
    /// In the memtable, replayed from the log.
    Replayed,
    /// In an image that was rebuilt from a snapshot and the log.
    Rebuilt,
}

pub(crate) const PLACES: [Place; 5] = [
    Place::InMemory,
    Place::Memtable,
    Place::Image,
    Place::Replayed,
    Place::Rebuilt,
];

impl Place {
    pub(crate) fn store(self, rig: &Rig, limits: Limits) -> Store {
        match self {
            Self::InMemory => rig.builder().limits(limits).in_memory().unwrap(),
            _ => rig.builder().limits(limits).open("/store").unwrap(),
        }
    }

    /// Brings what was written to the place.
    pub(crate) fn reach(self, rig: &Rig, store: Store, limits: Limits) -> Store {
        match self {
            Self::InMemory | Self::Memtable => store,
            Self::Image => {
                store.checkpoint().unwrap();
                store
            }
            Self::Replayed => {
                store.barrier().unwrap();
                let found = Rig {
                    disk: rig.disk.crash(Loss::Everything),
                    clock: rig.clock.clone(),
                };
                drop(store);
                self.store(&found, limits)
            }
            Self::Rebuilt => {
                store.snapshot().unwrap();
                store.global().set("behind the snapshot", 1).unwrap();
                store.close().unwrap();
                let vfs: &dyn evenkeel::Vfs = &rig.disk;
                vfs.remove_file("/store/MANIFEST".as_ref()).unwrap();
                vfs.sync_dir("/store".as_ref()).unwrap();
                let store = self.store(rig, limits);
                assert_eq!(store.stats().unwrap().image_rebuilds, 1);
                store.global().delete("behind the snapshot").unwrap();
                store
            }
        }
    }
}

pub(crate) fn seconds(seconds: u64) -> SetOptions {
    SetOptions::new().ttl(Duration::from_secs(seconds))
}

pub(crate) fn tokens(store: &Store) -> ScopeHandle {
    store.scope(Scope::custom("tokens"))
}

/// All keys, by each way of reading, which must agree.
pub(crate) fn keys(store: &Store, scope: &Scope) -> Vec<String> {
    let handle = store.scope(scope.clone());
    let listed: Vec<_> = handle.keys().unwrap().collect();
    let mut bytes = 0;
    for entry in handle.scan("").unwrap() {
        let entry = entry.unwrap();
        assert!(handle.contains(entry.key()).unwrap(), "{}", entry.key());
        let got = handle
            .get_versioned::<evenkeel::Value>(entry.key())
            .unwrap();
        assert_eq!(got.unwrap().version, entry.version());
        assert_eq!(handle.expires_at(entry.key()).unwrap(), entry.expires_at());
        bytes += entry.key().len() as u64;
    }
    assert_eq!(handle.len().unwrap(), listed.len() as u64);
    assert_eq!(handle.is_empty().unwrap(), listed.is_empty());
    assert!(handle.bytes().unwrap() >= bytes && (handle.bytes().unwrap() > 0) != listed.is_empty());
    assert_eq!(store.scopes().unwrap().contains(scope), !listed.is_empty());
    let seen = store.transact(|tx| {
        let scope = tx.scope(scope.clone());
        assert_eq!(scope.len()?, listed.len() as u64);
        let keys: Vec<_> = scope.keys()?.collect();
        for key in &keys {
            assert!(scope.contains(key)?);
        }
        Ok(keys)
    });
    assert_eq!(seen.unwrap(), listed);
    listed
}
