//! Owns what a test has planned for a simulated disk: where it stops and which calls
//! fail; and the count and the trace of the calls.
//!
//! What must stay true: every call of the file system passes here first and is
//! counted, whether it then succeeds or not; after a stop none passes.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::Random;
use super::stack::Stack;
use super::trace::{Operation, OperationKind};

/// On which side of an operation the power is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is not done.
    Before,
    /// A random part is done: a prefix of a write, byte by byte, or some of the
    /// names in a folder that is being removed. Any other operation is not done.
    Midway,
    /// It is done, and its caller does not come to know.
    After,
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// An error of the device (`EIO`).
    Io,
    /// No room (`ENOSPC`).
    NoSpace,
}

/// A planned failure. It hits the first call from number `at` on that it fits; if it
/// is `lasting`, those after that as well. Operations count from 1, and so do reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// An operation does nothing and fails. [`Failure::NoSpace`] fits all but
    /// removals and syncs of folders.
    Operation {
        /// The first operation that it may hit.
        at: u64,
        /// The error.
        failure: Failure,
        /// True if it stays.
        lasting: bool,
    },
    /// A read fails with `EIO`. Everything that changes nothing counts as a read:
    /// opening, listing and lengths too.
    Read {
        /// The first read that it may hit.
        at: u64,
        /// True if it stays.
        lasting: bool,
    },
    /// A random prefix is written, then the write fails. Fits writes.
    ShortWrite {
        /// The first operation that it may hit.
        at: u64,
        /// The error.
        failure: Failure,
    },
    /// A sync fails with `EIO`, and what it should have made durable is lost: it is
    /// still read, later syncs succeed, and none writes it. Fits syncs of files.
    LostSync {
        /// The first operation that it may hit.
        at: u64,
    },
}

/// True for the error of a call that met a stop (see `SimDisk::stop_at`).
#[must_use]
pub fn is_power_loss(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<PowerLoss>())
}

#[derive(Debug, thiserror::Error)]
#[error("the simulated disk has lost power at operation {0}")]
struct PowerLoss(u64);

/// What is to become of an operation that may begin.
#[derive(Debug)]
pub(super) enum Course {
    /// It is done.
    Whole,
    /// It is done, and then the power is lost.
    WholeThenStop,
    /// A part of it is done, and then the power is lost.
    PartThenStop,
    /// A part of it is done, and then it fails.
    PartThenFail(Failure),
    /// It fails, and takes with it what it should have made durable.
    LoseThenFail,
}

#[derive(Debug)]
pub(super) struct Control {
    random: Random,
    operations: u64,
    reads: u64,
    stop: Option<(u64, When)>,
    stopped: bool,
    read_only: bool,
    faults: Vec<Fault>,
    trace: Option<Vec<Operation>>,
    stopped_at: Option<Stack>,
    failed_at: Vec<Stack>,
}

impl Control {
    pub(super) const fn new(random: Random) -> Self {
        Self {
            random,
            operations: 0,
            reads: 0,
            stop: None,
            stopped: false,
            read_only: false,
            faults: Vec::new(),
            trace: None,
            stopped_at: None,
            failed_at: Vec::new(),
        }
    }

    pub(super) const fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) const fn reads(&self) -> u64 {
        self.reads
    }

    pub(super) const fn stopped(&self) -> bool {
        self.stopped
    }

    pub(super) const fn stopped_at(&self) -> Option<&Stack> {
        self.stopped_at.as_ref()
    }

    pub(super) fn failed_at(&self) -> &[Stack] {
        &self.failed_at
    }

    pub(super) const fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub(super) const fn stop_at(&mut self, operation: u64, when: When) {
        self.stop = Some((operation, when));
    }

    pub(super) const fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    pub(super) fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
    }

    pub(super) fn record(&mut self, on: bool) {
        self.trace = on.then(Vec::new);
    }

    pub(super) fn trace(&self) -> &[Operation] {
        self.trace.as_deref().unwrap_or_default()
    }

    fn note(&mut self, ordinal: u64, describe: impl FnOnce() -> Operation) {
        if let Some(trace) = &mut self.trace {
            let mut operation = describe();
            operation.ordinal = ordinal;
            trace.push(operation);
        }
    }

    fn power_loss(&self) -> io::Error {
        io::Error::other(PowerLoss(self.operations))
    }

    /// Lets a read begin.
    pub(super) fn read(&mut self, describe: impl FnOnce() -> Operation) -> io::Result<()> {
        if self.stopped {
            return Err(self.power_loss());
        }
        self.reads += 1;
        let now = self.reads;
        self.note(now, describe);
        let hit = self.faults.iter().position(|fault| match fault {
            Fault::Read { at, .. } => *at <= now,
            _ => false,
        });
        match hit {
            Some(index) => {
                self.spend(index);
                Err(error(Failure::Io))
            }
            None => Ok(()),
        }
    }

    /// What is refused on a disk that is mounted for reading, though it may change
    /// nothing.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        if self.read_only {
            return Err(Errno::ROFS.into());
        }
        Ok(())
    }

    /// Lets an operation begin, and says how far it is to go.
    pub(super) fn operation(
        &mut self,
        kind: OperationKind,
        describe: impl FnOnce() -> Operation,
    ) -> io::Result<Course> {
        if self.stopped {
            return Err(self.power_loss());
        }
        self.operations += 1;
        let now = self.operations;
        self.note(now, describe);
        if let Some((_, when)) = self.stop.filter(|(at, _)| *at <= now) {
            return match when {
                When::After => Ok(Course::WholeThenStop),
                When::Midway if has_parts(kind) => Ok(Course::PartThenStop),
                When::Before | When::Midway => Err(self.stop_now()),
            };
        }
        self.check_writable()?;
        let Some(index) = self.faults.iter().position(|fault| fits(fault, now, kind)) else {
            return Ok(Course::Whole);
        };
        match self.spend(index) {
            Some(Fault::Operation { failure, .. }) => Err(error(failure)),
            Some(Fault::ShortWrite { failure, .. }) => Ok(Course::PartThenFail(failure)),
            Some(Fault::LostSync { .. }) => Ok(Course::LoseThenFail),
            Some(Fault::Read { .. }) | None => Ok(Course::Whole),
        }
    }

    /// Ends an operation that has gone as far as its course says.
    pub(super) fn finish<T>(&mut self, course: &Course, result: io::Result<T>) -> io::Result<T> {
        match course {
            Course::Whole => result,
            Course::WholeThenStop | Course::PartThenStop => Err(self.stop_now()),
            Course::PartThenFail(failure) => result.and(Err(error(*failure))),
            Course::LoseThenFail => result.and(Err(error(Failure::Io))),
        }
    }

    fn stop_now(&mut self) -> io::Error {
        self.stopped = true;
        self.stopped_at = Some(Stack::here());
        self.power_loss()
    }

    /// The fault at `index`, which is then gone unless it lasts.
    fn spend(&mut self, index: usize) -> Option<Fault> {
        let fault = self.faults.get(index).copied()?;
        self.failed_at.push(Stack::here());
        if !matches!(
            fault,
            Fault::Operation { lasting: true, .. } | Fault::Read { lasting: true, .. }
        ) {
            self.faults.remove(index);
        }
        Some(fault)
    }
}

const fn has_parts(kind: OperationKind) -> bool {
    matches!(kind, OperationKind::Write | OperationKind::RemoveDirAll)
}

fn fits(fault: &Fault, now: u64, kind: OperationKind) -> bool {
    use OperationKind::{RemoveDirAll, RemoveFile, Sync, SyncDir, Write};
    match fault {
        Fault::Operation { at, failure, .. } => {
            let needs_no_room = matches!(kind, RemoveFile | RemoveDirAll | SyncDir);
            *at <= now && !(*failure == Failure::NoSpace && needs_no_room)
        }
        Fault::ShortWrite { at, .. } => *at <= now && kind == Write,
        Fault::LostSync { at } => *at <= now && kind == Sync,
        Fault::Read { .. } => false,
    }
}

pub(super) fn error(failure: Failure) -> io::Error {
    match failure {
        Failure::Io => Errno::IO.into(),
        Failure::NoSpace => Errno::NOSPC.into(),
    }
}

/// A description with only a path to it.
pub(super) fn on_path(kind: OperationKind, path: impl Into<PathBuf>) -> Operation {
    Operation {
        ordinal: 0,
        kind,
        path: path.into(),
        to: None,
        offset: None,
        len: None,
    }
}
