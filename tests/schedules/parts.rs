//! Owns what the scenarios have in common: a store over a simulated disk, and the
//! check that what was acknowledged survives a power cut at that very moment.

use std::sync::Arc;

use evenkeel::testing::{Loss, SimDisk};
use evenkeel::{Builder, ManualClock};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;

/// Without threads of its own; the smallest sizes there are.
pub(crate) fn on(disk: &SimDisk) -> Builder {
    disk.store_builder()
        .clock(Arc::new(ManualClock::new(1)))
        .segment_bytes(8 * 1024, 8 * 1024)
        .block_bytes(1024)
}

/// A number below `bound`, part of the schedule.
pub(crate) fn chance(bound: u64) -> u64 {
    thread_rng().gen_range(0..bound)
}

/// The disks as they would have been found, had the power been cut when something was
/// acknowledged. They are opened at the end, where that stretches no schedule.
#[derive(Clone)]
pub(crate) struct Acknowledged {
    disk: SimDisk,
    found: Arc<Mutex<Vec<(String, SimDisk)>>>,
}

impl Acknowledged {
    pub(crate) fn on(disk: &SimDisk) -> Self {
        Self {
            disk: disk.clone(),
            found: Arc::default(),
        }
    }

    /// This key of the global scope was acknowledged just now.
    pub(crate) fn note(&self, key: &str) {
        self.note_after(Loss::Everything, key);
    }

    /// It was, but only so that it survives this.
    pub(crate) fn note_after(&self, loss: Loss, key: &str) {
        let after = self.disk.crash(loss);
        self.found.lock().unwrap().push((key.to_owned(), after));
    }

    /// All that was noted was there at its moment, and is there now.
    pub(crate) fn check(&self) {
        let now = self.disk.crash(Loss::Everything);
        let now = on(&now).open("s").unwrap();
        for (key, after) in self.found.lock().unwrap().iter() {
            let after = on(after).open("s").unwrap();
            assert!(
                after.global().contains(key).unwrap(),
                "{key} was acknowledged and not durable"
            );
            assert!(now.global().contains(key).unwrap(), "{key} went later");
        }
    }
}
