//! Owns the names of what the machine has: `parking_lot` and `std`, as they are.

use std::hash::Hash;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

pub(crate) use foldhash::quality::RandomState as HashState;
pub(crate) use parking_lot::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
pub(crate) use std::sync::{OnceLock, atomic};
pub(crate) use std::{thread, thread_local};

/// How many threads can run at once.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

/// How often a lock is looked at before a thread sleeps until it is free: some 10
/// microseconds.
const LOOKS: u32 = 400;

/// The lock of a mutex that is held for microseconds: to look at it for as long costs less
/// than to sleep and be woken, most of which whoever holds it would have to pay.
pub(crate) fn lock_patiently<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    for _ in 0..LOOKS {
        if !mutex.is_locked()
            && let Some(guard) = mutex.try_lock()
        {
            return guard;
        }
        std::hint::spin_loop();
    }
    mutex.lock()
}

/// The instant that the clock shows.
#[inline]
pub(crate) fn instant(now: impl FnOnce() -> Instant) -> Instant {
    now()
}

/// Lets this time pass.
#[expect(clippy::disallowed_methods, reason = "there is no event to wait for")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// What the cache has, or else what `make` gives. Threads that miss the same key wait
/// for the one that makes it.
#[inline]
pub(crate) fn read_through<K, V, W, E>(
    cache: &Cache<K, V, W>,
    key: &K,
    make: impl FnOnce() -> Result<V, E>,
) -> Result<V, E>
where
    K: Clone + Eq + Hash,
    V: Clone,
    W: Clone + Weighter<K, V>,
{
    cache.get_or_insert_with(key, make)
}
