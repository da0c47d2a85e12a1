//! The rule that what threads meet at is taken from `sync`: what is taken from elsewhere
//! is no point at which the scheduler of `tests/schedules` can let another thread go on.
//! `clippy.toml` cannot say it: it sees through re-exports, and holds for tests as well.

use super::source::{Source, names_behind, words};
use super::{except, found, library, none};

/// Who takes locks and threads from where `sync` has them from. sled cannot be put
/// under a scheduler, and the lane is what it lives behind. The others keep what is
/// made once in a process, of a test at that.
const MAY_SYNC: &[&str] = &[
    "src/sync/machine.rs",
    "src/sync/scheduled.rs",
    "src/image/sled/lane.rs",
    "src/testing/crash/sites.rs",
    "src/testing/fuzz/content.rs",
    "src/vfs/sim/stack.rs",
];

/// Uses of what threads meet at, past `sync`.
fn machine_threads(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let std = names_behind(&source.library, "std::").into_iter();
    let of_std = std.filter(|(_, name)| ["thread", "thread_local"].contains(name));
    broken.extend(of_std.map(|(at, name)| format!("{}: std::{name}", source.at(at))));
    // Shared ownership is no point at which threads meet.
    let of_sync = names_behind(&source.library, "std::sync::").into_iter();
    let of_sync = of_sync.filter(|(_, name)| !["Arc", "Weak"].contains(name));
    broken.extend(of_sync.map(|(at, name)| format!("{}: std::sync::{name}", source.at(at))));
    let others = ["parking_lot", "shuttle", "RandomState"];
    broken.extend(found([source], |source| &source.library, &others));
    let bare = words(&source.library, "thread_local!").into_iter();
    let bare = bare.filter(|&at| !source.library[..at].ends_with("sync::"));
    broken.extend(bare.map(|at| format!("{}: thread_local!", source.at(at))));
    broken
}

#[test]
fn threads_meet_through_sync_only() {
    let sources = library();
    let broken = except(&sources, MAY_SYNC)
        .flat_map(machine_threads)
        .collect();
    none("locks, atomics and threads come from `sync`", broken);
}

#[test]
fn threads_of_the_machine_are_found() {
    let count = |text| machine_threads(&Source::new("src/a.rs", text)).len();
    assert_eq!(count("use std::sync::Mutex; std::thread::spawn(f);"), 2);
    assert_eq!(count("use std::sync::{Arc, mpsc, atomic::AtomicBool};"), 2);
    assert_eq!(count("use parking_lot::RwLock; thread_local! {}"), 2);
    assert_eq!(
        count("use std::sync::{Arc, Weak}; use crate::sync::thread;"),
        0
    );
    assert_eq!(count("sync::thread_local! {} sync::atomic::fence();"), 0);
    assert_eq!(count("#[cfg(test)] mod tests { use std::thread; }"), 0);
}
