//! Owns what threads meet at: locks, condition variables, atomics, threads, and what
//! else depends on which of them runs first. Nothing above it names `parking_lot`,
//! `std::sync::atomic` or `std::thread`, so that all of it can be put under a
//! scheduler that a test controls.
//!
//! It is `parking_lot` and `std`, by re-exports that cost nothing. With
//! `--cfg evenkeel_shuttle` it is `shuttle`, and only `tests/schedules` runs: each
//! use of anything here is then a point at which another thread may go on. A `cfg`
//! and not a feature, because features add up: one crate of a build that turned it
//! on would take the threads from all others.

pub(crate) mod ahead;
#[cfg(not(evenkeel_shuttle))]
mod machine;
#[cfg(evenkeel_shuttle)]
mod scheduled;

#[cfg(not(evenkeel_shuttle))]
pub(crate) use machine::{
    Condvar, HashState, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic, cores, instant, lock_patiently, pause, read_through, thread, thread_local,
};
#[cfg(evenkeel_shuttle)]
pub(crate) use scheduled::{
    Condvar, HashState, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic, cores, instant, lock_patiently, pause, read_through, thread, thread_local,
};
