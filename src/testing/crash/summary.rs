//! Owns what a crash test tells: figures, and failures that can be found again.

use std::fmt;

use super::case::Case;
use crate::testing::{Operation, OperationKind};

/// How many calls before and behind a failure's place are shown.
const CALLS_SHOWN: usize = 12;

/// What was tried, and what happened on the way.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The workload's name.
    pub workload: String,
    /// Operations of the workload where nothing disturbs it.
    pub operations: u64,
    /// Places at which the workload was disturbed.
    pub points: u64,
    /// Images that were taken of disks.
    pub images: u64,
    /// Stores that were recovered and compared with the model.
    pub recoveries: u64,
    /// Recoveries that were themselves interrupted, or met an error, first.
    pub nested: u64,
    /// Checkpoints of the undisturbed workload.
    pub checkpoints: u64,
    /// Snapshots of the undisturbed workload.
    pub snapshots: u64,
    /// Segments of the log that the undisturbed workload began.
    pub segments: u64,
    /// Segments that were trimmed: removed or set aside.
    pub trimmed: u64,
    /// Segments that were set aside and used again.
    pub recycled: u64,
    /// Times that the image was rebuilt, in all recoveries.
    pub rebuilds: u64,
}

impl Summary {
    /// Counts what the trace of the undisturbed workload shows.
    pub(super) fn count(&mut self, trace: &[Operation]) {
        for operation in trace {
            let (from, to) = (&operation.path, operation.to.as_deref());
            let ends = |path: &std::path::Path, end: &str| {
                path.extension().is_some_and(|extension| extension == end)
            };
            match operation.kind {
                OperationKind::Create if ends(from, "log") => self.segments += 1,
                OperationKind::RemoveFile if ends(from, "log") => self.trimmed += 1,
                OperationKind::Rename if to.is_some_and(|to| ends(to, "spare")) => {
                    self.trimmed += 1;
                }
                OperationKind::Rename if ends(from, "spare") => self.recycled += 1,
                _ => {}
            }
        }
    }

    /// Adds the figures of another.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.points += other.points;
        self.images += other.images;
        self.recoveries += other.recoveries;
        self.nested += other.nested;
        self.checkpoints += other.checkpoints;
        self.snapshots += other.snapshots;
        self.segments += other.segments;
        self.trimmed += other.trimmed;
        self.recycled += other.recycled;
        self.rebuilds += other.rebuilds;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} points in {} operations, {} images, {} recoveries, {} interrupted; \
             {} checkpoints, {} snapshots, {} segments, {} trimmed, {} recycled, {} rebuilds",
            self.workload,
            self.points,
            self.operations,
            self.images,
            self.recoveries,
            self.nested,
            self.checkpoints,
            self.snapshots,
            self.segments,
            self.trimmed,
            self.recycled,
            self.rebuilds
        )
    }
}

/// A promise that was broken, and how to see it again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub struct Violation {
    /// The workload's name.
    pub workload: String,
    /// The case; `None` where nothing disturbed the workload.
    pub case: Option<Case>,
    /// What was expected, and what was found.
    pub what: String,
    /// The calls around the place.
    pub trace: Vec<String>,
    /// The cases that were found beside it, and what was wrong there.
    pub others: Vec<(Case, String)>,
}

impl Violation {
    pub(super) fn new(workload: &str, case: Option<Case>, what: String) -> Box<Self> {
        Box::new(Self {
            workload: workload.to_owned(),
            case,
            what,
            trace: Vec::new(),
            others: Vec::new(),
        })
    }

    /// Adds the calls around an ordinal.
    pub(super) fn around(&mut self, title: &str, trace: &[Operation], ordinal: u64, read: bool) {
        let place = trace
            .iter()
            .position(|call| call.ordinal == ordinal && call.kind.is_read() == read)
            .unwrap_or(trace.len());
        let from = place.saturating_sub(CALLS_SHOWN);
        self.trace.push(format!("{title}:"));
        for (at, call) in trace.iter().enumerate().skip(from).take(2 * CALLS_SHOWN) {
            let here = if at == place { ">" } else { " " };
            self.trace.push(format!("{here} {call}"));
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.case {
            Some(case) => write!(f, "workload {}, case {case}: {}", self.workload, self.what)?,
            None => write!(f, "workload {}, undisturbed: {}", self.workload, self.what)?,
        }
        for line in &self.trace {
            write!(f, "\n  {line}")?;
        }
        for (case, what) in &self.others {
            write!(f, "\nalso {case}: {what}")?;
        }
        Ok(())
    }
}
