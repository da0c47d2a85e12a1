//! Faults, one small test for each: a log whose bytes are moved about, a disk that is
//! full or fails, a power cut at each operation. Every test carries the number of its
//! fault in `docs/reliability.md`. Everything is over the simulated disk and, but for
//! one test with threads, the same each time.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is how a test fails"
)]

mod crashes;
mod disk;
mod life;
mod log;
mod names;
mod recovery;
mod renewal;
mod room;
mod trimming;
