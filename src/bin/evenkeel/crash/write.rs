//! Owns `crash write`: which records are committed by which threads, and that a record
//! is acknowledged exactly when its commit is durable.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use evenkeel::{Builder, Store};

use super::content::mix;
use super::record::{Head, Shape};
use super::{commit, keeping, lists, protocol};
use crate::arguments::{Mode, Style, Write};
use crate::console::{Failure, say};

/// So many records of `mixed` are written in one way before the next.
const TURN: u64 = 48;
/// The threads of a part that is there for its threads.
const THREADS: u16 = 8;
/// Figures are told at each number that this divides.
const FIGURES_EVERY: u64 = 16;

/// Sizes so small that checkpoints, rotation, recycling and snapshots come by the
/// dozen in a second. Each checkpoint writes the whole manifest, so they are less
/// frequent where that is large; else a store of 100,000 records would do little else.
fn small(dir: &Path) -> Builder {
    let manifest = fs::metadata(dir.join("MANIFEST"));
    let manifest_bytes = manifest.map_or(0, |manifest| manifest.len());
    Store::builder()
        .memtable_bytes(manifest_bytes.clamp(64 * 1024, 4 * 1024 * 1024))
        .segment_bytes(8 * 1024, 64 * 1024)
        .snapshot_log_bytes(64 * 1024)
        .block_bytes(2 * 1024)
        .cache_bytes(1024 * 1024)
        // A machine that is busy is no failure.
        .stall(Duration::from_secs(300))
}

/// In which shape records are written.
#[derive(Clone, Copy, Debug)]
enum Shapes {
    Only(Shape),
    Both,
}

/// A stretch of records that are written in one way.
#[derive(Clone, Copy, Debug)]
struct Phase {
    shapes: Shapes,
    threads: u16,
    /// How many; without end if it is the only way.
    records: Option<u64>,
}

fn phases(style: Style) -> Vec<Phase> {
    let phase = |shapes, threads| Phase {
        shapes,
        threads: style.threads.unwrap_or(threads),
        records: None,
    };
    let single = phase(Shapes::Only(Shape::Single), 1);
    let transactions = phase(Shapes::Only(Shape::Transaction), 1);
    let threads = phase(Shapes::Both, THREADS);
    match style.mode.unwrap_or(Mode::Mixed) {
        Mode::Single => vec![single],
        Mode::Transactions => vec![transactions],
        Mode::Threads => vec![threads],
        Mode::Mixed => {
            // `--threads` is for the part that has threads.
            let parts = [single, transactions].map(|part| Phase { threads: 1, ..part });
            let parts = parts.into_iter().chain([threads]);
            let turn = |part| Phase {
                records: Some(TURN),
                ..part
            };
            parts.map(turn).collect()
        }
    }
}

/// The numbers that are still to be written.
struct Numbers {
    /// `None` behind the last number that there is.
    next: Option<u64>,
    /// How many the phase may still draw.
    left: Option<u64>,
}

struct Writer {
    store: Store,
    run: u64,
    first: u64,
    numbers: Mutex<Numbers>,
    stop: AtomicBool,
    /// Why it ends; the first reason counts.
    failure: Mutex<Option<Failure>>,
    figures: bool,
}

/// Writes records until it is killed, a commit fails or nobody reads stdout.
///
/// # Errors
/// A commit that failed, or whatever else keeps it from going on.
pub(super) fn write(options: &Write) -> Result<(), Failure> {
    let builder = keeping(small(&options.dir), options.keeping);
    let store = builder.open(&options.dir)?;
    commit::claim(&store)?;
    let recovery = store.recovery();
    protocol::tell_recovery(&recovery);
    let writer = Writer {
        run: recovery.epoch.get(),
        first: options.start,
        numbers: Mutex::new(Numbers {
            next: Some(options.start),
            left: None,
        }),
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
        figures: options.figures,
        store,
    };
    let phases = phases(options.style);
    for phase in phases.iter().cycle() {
        if writer.stop.load(Ordering::Acquire) {
            break;
        }
        writer.phase(phase);
    }
    let failure = lock(&writer.failure).take();
    match failure {
        Some(failure) => Err(failure),
        None => Ok(writer.store.close()?),
    }
}

/// Threads that panic hold no lock here, and a panic ends the program with its message.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    fn phase(&self, phase: &Phase) {
        let begin = {
            let mut numbers = lock(&self.numbers);
            numbers.left = phase.records;
            numbers.next
        };
        // Behind the last number `draw` says so.
        let floor = begin.unwrap_or(u64::MAX);
        thread::scope(|scope| {
            for _ in 1..phase.threads {
                scope.spawn(|| self.work(phase, floor));
            }
            self.work(phase, floor);
        });
    }

    fn work(&self, phase: &Phase, floor: u64) {
        let mut before = floor.checked_sub(1).filter(|&before| before >= self.first);
        while let Some(number) = self.draw() {
            let head = Head {
                number,
                run: self.run,
                shape: match phase.shapes {
                    Shapes::Only(shape) => shape,
                    Shapes::Both if mix(number).is_multiple_of(2) => Shape::Single,
                    Shapes::Both => Shape::Transaction,
                },
                before,
                first: self.first,
                // One thread has committed all below; of several, any may be behind.
                floor: if phase.threads == 1 { number } else { floor },
            };
            if let Err(failure) = self.record(&head) {
                self.end(Some(failure));
            }
            before = Some(number);
        }
    }

    fn draw(&self) -> Option<u64> {
        if self.stop.load(Ordering::Acquire) {
            return None;
        }
        let mut numbers = lock(&self.numbers);
        let left = numbers.left.map(|left| left.checked_sub(1));
        if left == Some(None) {
            return None;
        }
        let Some(number) = numbers.next else {
            self.end(Some(Failure::new(
                "there are no more numbers: the last record was 2^64 - 1",
            )));
            return None;
        };
        numbers.left = left.flatten();
        numbers.next = number.checked_add(1);
        Some(number)
    }

    /// Commits a record and acknowledges it.
    fn record(&self, head: &Head) -> Result<(), Failure> {
        let number = head.number;
        let refused = |e| Failure::new(format_args!("record {number} was not committed: {e}"));
        commit::commit(&self.store, head).map_err(refused)?;
        match say(protocol::acked(number)) {
            Ok(true) => {}
            Ok(false) => self.end(None),
            Err(e) => {
                return Err(Failure::new(format_args!(
                    "record {number} is committed, but stdout takes no acknowledgement: {e}"
                )));
            }
        }
        if head.shape == Shape::Single {
            let refused = |e| Failure::new(format_args!("the note behind record {number}: {e}"));
            lists::jot(&self.store, head).map_err(refused)?;
        }
        if self.figures && number.is_multiple_of(FIGURES_EVERY) {
            let stats = self.store.stats()?;
            protocol::tell_figures(&[
                ("checkpoints", stats.checkpoints),
                ("snapshots", stats.snapshots),
                ("rebuilds", stats.image_rebuilds),
                ("conflicts", stats.conflicts),
            ]);
        }
        Ok(())
    }

    /// Lets all threads end behind the record that they are at.
    fn end(&self, why: Option<Failure>) {
        let mut failure = lock(&self.failure);
        if !self.stop.swap(true, Ordering::AcqRel) {
            *failure = why;
        }
    }
}
