//! A store on a simulated disk whose clock the test moves, and short words for what
//! tests of quotas look at.

use std::sync::Arc;
use std::time::Duration;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{
    Builder, Clock as _, Error, Limits, ManualClock, Result, Scope, ScopeHandle, Store,
};

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
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut Limits)) -> Store {
        self.builder().limits(limits(change)).open("/s").unwrap()
    }

    /// The power goes, and with it all that was not synced.
    pub(crate) fn crash(&mut self, store: Store) {
        let disk = self.disk.crash(Loss::Everything);
        drop(store);
        self.disk = disk;
    }

    pub(crate) fn advance(&self, micros: u64) {
        self.clock.advance(Duration::from_micros(micros));
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now_micros()
    }
}

pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

pub(crate) fn job(store: &Store, id: &str) -> ScopeHandle {
    store.scope(Scope::job(id))
}

/// The limit that a call went over: its name, itself, and what would be needed.
pub(crate) fn exceeded<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, u64, u64) {
    match result {
        Err(Error::LimitExceeded {
            limit,
            max,
            actual,
            at,
        }) => {
            assert!(!at.is_empty());
            (limit, max, actual)
        }
        other => panic!("{other:?}"),
    }
}

/// The same of a scope that had too much already, and what that was.
pub(crate) fn quarantined<T: std::fmt::Debug>(result: Result<T>) -> (&'static str, u64, u64, u64) {
    match result {
        Err(Error::Quarantined {
            limit,
            max,
            held,
            actual,
            ..
        }) => (limit, max, held, actual),
        other => panic!("{other:?}"),
    }
}

/// Keys and bytes by looking at each key.
pub(crate) fn recount(store: &Store, scope: &Scope) -> (u64, u64) {
    let handle = store.scope(scope.clone());
    let mut keys = 0;
    for key in handle.keys().unwrap() {
        assert!(handle.contains(&key).unwrap());
        keys += 1;
    }
    assert_eq!(handle.len().unwrap(), keys);
    (keys, handle.bytes().unwrap())
}
