//! Owns what a crash test tells: figures, and failures that can be found again.

use std::fmt;

use super::case::{Case, Trouble};
use super::coverage::Coverage;
use crate::testing::{Failure, Fault, Loss, Operation, OperationKind, Place, When};

/// How many calls before and behind a failure's place are shown.
const CALLS_SHOWN: usize = 12;

/// What was tried, and what happened on the way.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The workload's name.
    pub workload: String,
    /// The seed that decided on all that was drawn.
    pub seed: u64,
    /// True if two undisturbed runs made different calls, as those of programs with
    /// threads do: then a place is a number of calls, and not always the same call.
    pub varies: bool,
    /// True if it was told to end before all points were tried.
    pub stopped_early: bool,
    /// Operations of the workload where nothing disturbs it.
    pub operations: u64,
    /// Places at which the workload was disturbed.
    pub points: u64,
    /// The places that there are.
    pub points_of: u64,
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
    /// Which calls in the sources were crashed; `None` before any point was tried.
    pub coverage: Option<Coverage>,
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
                OperationKind::RemoveFile if ends(from, "log") => self.trimmed += 1,
                OperationKind::Rename if to.is_some_and(|to| ends(to, "spare")) => {
                    self.trimmed += 1;
                }
                OperationKind::Rename if ends(from, "spare") => {
                    self.segments += 1;
                    self.recycled += 1;
                }
                OperationKind::Rename if to.is_some_and(|to| ends(to, "log")) => self.segments += 1,
                _ => {}
            }
        }
    }

    /// Adds the figures of another.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.points += other.points;
        self.points_of += other.points_of;
        self.varies |= other.varies;
        self.stopped_early |= other.stopped_early;
        self.images += other.images;
        self.recoveries += other.recoveries;
        self.nested += other.nested;
        self.checkpoints += other.checkpoints;
        self.snapshots += other.snapshots;
        self.segments += other.segments;
        self.trimmed += other.trimmed;
        self.recycled += other.recycled;
        self.rebuilds += other.rebuilds;
        if let Some(theirs) = &other.coverage {
            self.coverage.get_or_insert_default().add(theirs);
        }
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
    /// The seed of the plan.
    pub seed: u64,
    /// The case, reduced to the least that still fails; `None` where nothing
    /// disturbed the workload.
    pub case: Option<Case>,
    /// The case as it was found.
    pub first: Option<Case>,
    /// What was expected, and what was found.
    pub what: String,
    /// What happens in the case, step by step.
    pub schedule: Vec<String>,
    /// The calls around the place.
    pub trace: Vec<String>,
    /// Fewer steps of the workload that fail too, and how, where there are such.
    pub shortest: Option<(Vec<String>, Box<Self>)>,
    /// The cases that were found beside it, and what was wrong there.
    pub others: Vec<(Case, String)>,
}

impl Violation {
    pub(super) fn new(workload: &str, case: Option<Case>, what: String) -> Box<Self> {
        Box::new(Self {
            workload: workload.to_owned(),
            seed: 0,
            case,
            first: None,
            what,
            schedule: Vec::new(),
            trace: Vec::new(),
            shortest: None,
            others: Vec::new(),
        })
    }

    /// Adds what happens to a run with this trace.
    pub(super) fn schedule(
        &mut self,
        (who, from): (&str, Option<Place>),
        trace: &[Operation],
        trouble: Trouble,
        loss: &Loss,
    ) {
        let read = matches!(trouble, Trouble::Fault(Fault::Read { .. }));
        let call = |ordinal, read| {
            let found = trace
                .iter()
                .find(|call| call.ordinal == ordinal && call.kind.is_read() == read);
            found.map_or_else(|| format!("operation {ordinal}"), ToString::to_string)
        };
        let at = call(trouble.at(), read);
        self.schedule.push(match trouble {
            Trouble::Stop(_, When::Before) => format!("{who} is stopped before {at}"),
            Trouble::Stop(_, When::Midway) => format!("{who} is stopped in {at}"),
            Trouble::Stop(_, When::After) => format!("{who} is stopped after {at}"),
            Trouble::Fault(Fault::Operation {
                failure, lasting, ..
            }) => {
                let kind = match failure {
                    Failure::Io => "with an error of the device",
                    Failure::NoSpace => "for want of room",
                };
                let then = if lasting {
                    ", and so does all that follows"
                } else {
                    ""
                };
                format!("{who} fails {kind} at {at}{then}")
            }
            Trouble::Fault(Fault::Read { lasting, .. }) => {
                let then = if lasting {
                    ", and in all that follow"
                } else {
                    ""
                };
                format!("{who} meets an error of the device in {at}{then}")
            }
            Trouble::Fault(Fault::ShortWrite { .. }) => {
                format!("{who} writes only a part in {at}, or the next write")
            }
            Trouble::Fault(Fault::LostSync { .. }) => {
                format!("{who} loses in {at}, or the next sync, what it should have synced")
            }
        });
        if let (Some(from), Some(line)) = (from, self.schedule.last_mut()) {
            let file = from.file.display();
            line.push_str(&format!(", called from {file}:{}", from.line));
        }
        match loss {
            Loss::Nothing => self
                .schedule
                .push("as if killed: what it wrote is there".into()),
            Loss::Everything => {
                let what = "power cut: what was not synced is lost";
                self.schedule.push(what.into());
            }
            Loss::Random(seed) => {
                let what = format!(
                    "power cut: of what was not synced, a part is lost (drawn from {seed})"
                );
                self.schedule.push(what);
            }
            Loss::Only(arrivals) => {
                let what = "power cut: of what was not synced, only this is not lost";
                let mut text = format!("{what} ({arrivals}):");
                for ordinal in arrivals.operations() {
                    text.push_str("\n       ");
                    text.push_str(&call(ordinal, false));
                }
                self.schedule.push(text);
            }
        }
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
            Some(case) => write!(f, "{}, case {case}: {}", self.workload, self.what)?,
            None => write!(f, "{}, undisturbed: {}", self.workload, self.what)?,
        }
        if let Some(first) = self
            .first
            .as_ref()
            .filter(|first| Some(*first) != self.case.as_ref())
        {
            write!(f, "\n  reduced from case {first}, of seed {}", self.seed)?;
        }
        for (at, line) in self.schedule.iter().enumerate() {
            write!(f, "\n  {}. {line}", at + 1)?;
        }
        for line in &self.trace {
            write!(f, "\n  {line}")?;
        }
        if let Some((steps, shortest)) = &self.shortest {
            write!(f, "\nit fails with these steps alone:")?;
            for step in steps {
                write!(f, "\n  {step}")?;
            }
            write!(f, "\nnamely {shortest}")?;
        }
        for (case, what) in &self.others {
            write!(f, "\nalso {case}: {what}")?;
        }
        Ok(())
    }
}
