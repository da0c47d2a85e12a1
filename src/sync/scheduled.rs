//! Owns the same names over `shuttle`: one thread of the test runs at a time, and at
//! each use of anything here its scheduler decides which. A run is given by its
//! schedule, so nothing here may depend on the machine: neither on its time nor on its
//! random numbers.
//!
//! Locks are unfair: whoever asks may get one next. That is more than `parking_lot`
//! does, which lets threads barge but not for ever, so no order is explored less.
//! Memory is sequentially consistent; orderings of atomics are not explored.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use shuttle::rand::{Rng, thread_rng};

pub(crate) use shuttle::sync::atomic;
pub(crate) use shuttle::sync::{RwLockReadGuard, RwLockWriteGuard};
pub(crate) use shuttle::{thread, thread_local};
pub(crate) use std::sync::OnceLock;

/// Hashes the same in every run: which scopes share a lock is part of a schedule.
pub(crate) type HashState = BuildHasherDefault<DefaultHasher>;

/// One of so many waits with a deadline comes to its deadline. The others wait until
/// they are woken: a wake-up that is lost shows as a deadlock, and is not made good by
/// a deadline that comes later.
const WAITS_TO_ONE_LATE: u32 = 4;

/// How often others may go on before a deadline comes, at most, as a power of two.
const STEPS_BEFORE_DEADLINE_LOG: u32 = 6;

std::thread_local! {
    /// What the clock shows. All threads of a run are one thread of the machine, and
    /// runs beside each other are several, so this is the clock of a run.
    static START: OnceCell<Instant> = const { OnceCell::new() };
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How many threads can run at once: any number, one of them at a time.
pub(crate) fn cores() -> usize {
    2
}

/// The lock of a mutex.
pub(crate) fn lock_patiently<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// The instant of the run. Time passes only by deadlines that come.
pub(crate) fn instant(now: impl FnOnce() -> Instant) -> Instant {
    START.with(|start| *start.get_or_init(now)) + PASSED.get()
}

/// Lets others go on, and this time pass.
pub(crate) fn pause(duration: Duration) {
    thread::yield_now();
    PASSED.set(PASSED.get() + duration);
}

/// A mutex that knows no poisoning.
#[derive(Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            mutex: self,
            held: Some(self.take()),
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = match self.0.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(MutexGuard {
            mutex: self,
            held: Some(held),
        })
    }

    fn take(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// The right to what is behind a mutex.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Nothing only while a condition variable has it.
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.as_ref().expect("it waits nowhere")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("it waits nowhere")
    }
}

/// A lock for many readers or one writer that knows no poisoning.
#[derive(Default)]
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// A condition variable whose deadlines come by chance.
#[derive(Debug, Default)]
pub(crate) struct Condvar(shuttle::sync::Condvar);

/// How a wait ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(shuttle::sync::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let again = guard.held.take().map(|held| self.0.wait(held));
        guard.held = again.map(|held| held.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        longest: Duration,
    ) -> WaitTimeoutResult {
        self.wait_late_or_not(guard, PASSED.get().saturating_add(longest))
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Instant,
    ) -> WaitTimeoutResult {
        let start = START.with(|start| start.get().copied());
        let after = start.map_or(Duration::ZERO, |start| deadline.duration_since(start));
        self.wait_late_or_not(guard, after)
    }

    fn wait_late_or_not<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        deadline: Duration,
    ) -> WaitTimeoutResult {
        let over = deadline <= PASSED.get();
        if !over && thread_rng().gen_range(0..WAITS_TO_ONE_LATE) > 0 {
            self.wait(guard);
            return WaitTimeoutResult(false);
        }
        // Whoever notifies in between is not heard, as if that came just after the
        // deadline and before this thread had its lock again.
        guard.held = None;
        if !over {
            let steps = thread_rng().gen_range(0..=STEPS_BEFORE_DEADLINE_LOG);
            (1..1_u32 << steps).for_each(|_| thread::yield_now());
            PASSED.set(PASSED.get().max(deadline));
        }
        guard.held = Some(guard.mutex.take());
        WaitTimeoutResult(true)
    }
}

/// What the cache has, or else what `make` gives. Two threads may both make it: the
/// wait of the cache is none that the scheduler knows, and would stop all threads.
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
    if let Some(value) = cache.get(key) {
        return Ok(value);
    }
    let value = make()?;
    cache.insert(key.clone(), value.clone());
    Ok(value)
}
