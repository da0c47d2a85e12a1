//! Stores over a simulated disk whose clock the test moves, and a look at a cache.

use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Builder, Cache, ManualClock, Scope, Store};

pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    clock: Arc<ManualClock>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(1),
            clock: Arc::new(ManualClock::new(1_700_000_000_000_000)),
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

    /// One without a folder and one with.
    pub(crate) fn both(&self) -> [Store; 2] {
        [self.builder().in_memory().unwrap(), self.open()]
    }

    pub(crate) fn advance(&self, by: u64) {
        self.clock.advance(seconds(by));
    }

    /// The power is cut, and the store opened again.
    pub(crate) fn cut(&mut self) -> Store {
        self.disk = self.disk.crash(Loss::Everything);
        self.open()
    }
}

pub(crate) fn worker() -> Scope {
    Scope::worker("w")
}

pub(crate) fn profiles(store: &Store) -> Cache {
    store.scope(worker()).cache("profiles")
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The keys, as a scan finds them. All other ways to ask agree.
pub(crate) fn keys(cache: &Cache) -> Vec<String> {
    let keys: Vec<String> = cache.keys().unwrap().collect();
    for key in &keys {
        assert!(cache.contains(key).unwrap(), "{key}");
    }
    assert_eq!(cache.len().unwrap(), keys.len() as u64);
    assert_eq!(cache.is_empty().unwrap(), keys.is_empty());
    assert_eq!(cache.stats().unwrap().entries, keys.len() as u64);
    keys
}

pub(crate) fn insert_all(cache: &Cache, keys: &[&str]) {
    for key in keys {
        cache.insert(key, key).unwrap();
    }
}
