//! Owns what a crash test that passed has to show: what was tried, and what was not.

use std::fmt;

use super::program::Program;
use super::summary::Summary;

/// What a [`CrashTest`](super::CrashTest) has tried without finding a failure, and
/// what it has not tried. Printed, it is a report of some lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Certificate {
    /// The figures.
    pub summary: Summary,
    /// The names of the invariants.
    pub invariants: Vec<String>,
    /// What was not tried, a line each.
    pub not_covered: Vec<String>,
}

impl Certificate {
    pub(super) fn new(summary: Summary, program: &Program<'_>, faults: bool) -> Self {
        let mut not_covered = Vec::new();
        let left = summary.points_of - summary.points;
        if left > 0 {
            not_covered.push(format!("{left} of {} points", summary.points_of));
        }
        if !faults {
            not_covered.push("calls that fail, a full disk, syncs that lose data".to_owned());
        }
        if summary.varies {
            let what = "the order of threads: two runs differ, and a case may not be found again";
            not_covered.push(what.to_owned());
        }
        if program.invariants().next().is_none() {
            not_covered.push("the program's own data: no invariant was given".to_owned());
        }
        not_covered.push("sled: the image was one of files on the simulated disk".to_owned());
        Self {
            invariants: program.invariants().map(ToOwned::to_owned).collect(),
            summary,
            not_covered,
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        writeln!(
            f,
            "crash test {:?} passed, seed {}",
            summary.workload, summary.seed
        )?;
        writeln!(
            f,
            "  tried: {} of {} points at {} operations; {} images of disks; {} recoveries, {} of \
             them after one that was itself disturbed",
            summary.points,
            summary.points_of,
            summary.operations,
            summary.images,
            summary.recoveries,
            summary.nested
        )?;
        writeln!(
            f,
            "  seen undisturbed: {} checkpoints, {} snapshots, {} log segments, {} of them trimmed \
             and {} recycled; in recoveries the image was rebuilt {} times",
            summary.checkpoints,
            summary.snapshots,
            summary.segments,
            summary.trimmed,
            summary.recycled,
            summary.rebuilds
        )?;
        for invariant in &self.invariants {
            writeln!(f, "  holds: {invariant}")?;
        }
        if let Some(coverage) = &summary.coverage {
            writeln!(f, "  {}", coverage.to_string().replace('\n', "\n  "))?;
        }
        for what in &self.not_covered {
            writeln!(f, "  not covered: {what}")?;
        }
        Ok(())
    }
}
