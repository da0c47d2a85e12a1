//! Owns the crash driver: it runs a workload once to count what it does to the disk,
//! then again and again, stopped at each operation or with one call failing, takes
//! images of what the disk may then hold, recovers each, and compares it with the
//! model of what was committed and acknowledged.
//!
//! What every recovery has to show:
//! - the state after a prefix of the commits, none of them in part, with all that
//!   were acknowledged; keys have the versions that were handed out;
//! - the same through scans, look-ups, counts and lists; `verify` finds nothing;
//! - new commits get higher LSNs than any before, and survive the next power cut;
//! - the same again where the recovery was itself interrupted, or a read in it
//!   failed; and where the image, or the manifest, was taken away afterwards.
//!
//! A failure carries the text of its [`Case`], by which [`replay`] finds it again.
//!
//! Not covered: several threads (everything happens in the caller's, in order), and
//! sled, which does its own input and output; the image is one of files, of the testing kind or
//! that of a `FileBackend`.

mod case;
mod certificate;
mod check;
mod coverage;
mod harness;
mod model;
mod program;
mod run;
mod session;
mod shrink;
mod sites;
mod subject;
mod summary;
mod workload;

pub use case::{Case, NoCase, Trouble};
pub use certificate::Certificate;
pub use coverage::{Coverage, Met};
pub use harness::CrashTest;
pub use program::{AfterCrash, CrashRun};
pub use sites::{Exemption, Site};
pub use summary::{Summary, Violation};
pub use workload::{Step, Workload, Write, text};

use std::ops::ControlFlow;

use crate::testing::{Failure, Fault, Loss, Operation, OperationKind, Random, When};
use run::Driver;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides on all samples and on what is lost.
    pub seed: u64,
    /// So many places to stop at, and as many faults, are drawn; `None` for all.
    pub points: Option<usize>,
    /// So many images are taken at each with random losses, beside the two with
    /// all and nothing lost.
    pub random_images: u64,
    /// How often each recovery is itself interrupted.
    pub nested: Nested,
    /// After so many failures it is enough.
    pub violations: usize,
}

/// How often a recovery is interrupted, each time from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nested {
    /// So many times, at places that are drawn, and as many times one of its reads
    /// fails; 0 for not at all.
    Sample(u64),
    /// Before, in and after each of its calls, once with all lost that was not synced
    /// and once with nothing, and at each of its reads.
    Every,
}

impl Plan {
    /// A sample of points, three images each, one interrupted recovery each.
    #[must_use]
    pub const fn sample(points: usize, seed: u64) -> Self {
        Self {
            seed,
            points: Some(points),
            random_images: 1,
            nested: Nested::Sample(1),
            violations: 1,
        }
    }

    /// Every point, and in each recovery from it every point again.
    #[must_use]
    pub const fn all(seed: u64) -> Self {
        Self {
            seed,
            points: None,
            random_images: 3,
            nested: Nested::Every,
            violations: 5,
        }
    }
}

/// How far a crash test has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Points that were tried.
    pub done: u64,
    /// Points that are to be tried.
    pub of: u64,
    /// Stores that were recovered.
    pub recoveries: u64,
}

/// Stops a workload at each point of the plan, and recovers.
///
/// # Errors
/// The first [`Violation`]; the others are in it.
pub fn drive(workload: &Workload, plan: &Plan) -> Result<Summary, Box<Violation>> {
    drive_points(workload, plan, stops)
}

/// Lets calls of a workload fail, one place at a time, and recovers: errors of the
/// device, a full disk, short writes, reads, and syncs that lose what they should have
/// kept.
///
/// # Errors
/// As [`drive`].
pub fn drive_faults(workload: &Workload, plan: &Plan) -> Result<Summary, Box<Violation>> {
    drive_points(workload, plan, faults)
}

fn drive_points(
    workload: &Workload,
    plan: &Plan,
    points: fn(&[Operation]) -> Vec<Trouble>,
) -> Result<Summary, Box<Violation>> {
    let drive = |workload: &Workload, plan: &Plan| {
        let mut driver = Driver::new(&workload, plan)?;
        driver.each(points(driver.calls()), &mut |_| ControlFlow::Continue(()));
        driver.finish()
    };
    drive(workload, plan).map_err(|mut violation| {
        // What is shorter may also be right, so it is not tried at every point.
        let sample = Plan {
            points: Some(plan.points.unwrap_or(usize::MAX).min(60)),
            nested: Nested::Sample(1),
            violations: 1,
            ..*plan
        };
        shrink::shorten(workload, &mut violation, |shorter| {
            drive(shorter, &sample).err()
        });
        violation
    })
}

/// Runs one case again; the violation, if it is still one, has the whole trace
/// around it.
///
/// # Errors
/// As [`drive`].
pub fn replay(workload: &Workload, case: &Case) -> Result<(), Box<Violation>> {
    Driver::new(&workload, &Plan::sample(0, 0))?.replay(case)
}

/// Where a program may be stopped.
fn stops(calls: &[Operation]) -> Vec<Trouble> {
    let mut points = Vec::new();
    for call in calls.iter().filter(|call| !call.kind.is_read()) {
        points.push(Trouble::Stop(call.ordinal, When::Before));
        points.push(Trouble::Stop(call.ordinal, When::After));
        if matches!(
            call.kind,
            OperationKind::Write | OperationKind::RemoveDirAll
        ) {
            points.push(Trouble::Stop(call.ordinal, When::Midway));
        }
    }
    points
}

/// How its calls may fail.
fn faults(calls: &[Operation]) -> Vec<Trouble> {
    calls
        .iter()
        .flat_map(faults_at)
        .map(Trouble::Fault)
        .collect()
}

/// How a call may fail.
fn faults_at(call: &Operation) -> Vec<Fault> {
    let at = call.ordinal;
    let mut faults = Vec::new();
    if call.kind.is_read() {
        return [false, true]
            .map(|lasting| Fault::Read { at, lasting })
            .into();
    }
    for lasting in [false, true] {
        for failure in [Failure::Io, Failure::NoSpace] {
            faults.push(Fault::Operation {
                at,
                failure,
                lasting,
            });
        }
    }
    match call.kind {
        OperationKind::Write => faults.push(Fault::ShortWrite {
            at,
            failure: Failure::Io,
        }),
        OperationKind::Sync => faults.push(Fault::LostSync { at }),
        _ => {}
    }
    faults
}

/// The losses to try at one point.
fn losses(plan: &Plan, random: &mut Random) -> Vec<Loss> {
    let drawn = (0..plan.random_images).map(|_| Loss::Random(random.next_u64() >> 16));
    [Loss::Everything, Loss::Nothing]
        .into_iter()
        .chain(drawn)
        .collect()
}
