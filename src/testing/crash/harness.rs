//! Owns the crash test of a program that uses a store, as its user writes it down.

use std::ops::ControlFlow;

use super::certificate::Certificate;
use super::program::{AfterCrash, CrashRun, Outcome, Program};
use super::run::Driver;
use super::summary::Violation;
use super::{Case, Nested, Plan, Progress, faults, stops};
use crate::state::Builder;
use crate::testing::ImageOn;

/// A crash test of a program that uses a store.
///
/// The program is a closure. It runs on a simulated disk and is stopped before, in
/// and after each of its calls to the disk, with several images of what a disk may
/// then hold; it also meets failing calls, a full disk and syncs that lose data. Each
/// time the store is opened again, which is stopped in its turn, and every invariant
/// is asked. A failure is reduced to the least that still fails, and told step by
/// step.
///
/// The store has an image of files on the simulated disk in place of sled, a clock
/// that stands still unless the program moves it, small sizes, so that checkpoints,
/// rotation and snapshots come up early, and no threads of its own. What the program
/// does must not depend on anything but the store, for a case to be found again;
/// it may use threads, at the price that cases are found again only by luck.
///
/// ```
/// use evenkeel::{Scope, testing::CrashTest};
/// let certificate = CrashTest::new("a counter and its log", |run| {
///     let store = run.store()?;
///     for n in 1..=3_u64 {
///         store.transact(|tx| {
///             tx.global().set("count", n)?;
///             tx.scope(Scope::custom("log")).set(&format!("{n}"), true)
///         })?;
///         run.witness("count", n);
///     }
///     Ok(())
/// })
/// .invariant("the log is as long as the count says", |found| {
///     let count = found.store().global().get::<u64>("count")?.unwrap_or(0);
///     let lines = found.store().scope(Scope::custom("log")).len()?;
///     if count == lines { Ok(()) } else { Err(format!("{count} and {lines}").into()) }
/// })
/// .invariant("what was acknowledged is there", |found| {
///     let count = found.store().global().get::<u64>("count")?;
///     let least = found.witnessed("count").and_then(|value| value.as_u64());
///     if count >= least { Ok(()) } else { Err(format!("{count:?} of {least:?}").into()) }
/// })
/// .sample(30)
/// .run()?;
/// assert!(certificate.summary.points == 30);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a test does nothing until it is run"]
pub struct CrashTest<'t> {
    program: Program<'t>,
    progress: Box<dyn FnMut(Progress) -> ControlFlow<()> + 't>,
    plan: Plan,
    faults: bool,
}

impl<'t> CrashTest<'t> {
    /// A test of this program. Without anything else said, every point is tried, each
    /// with four images and with one recovery interrupted.
    pub fn new(name: impl Into<String>, work: impl Fn(&CrashRun<'_>) -> Outcome + 't) -> Self {
        Self {
            program: Program::new(name.into(), Box::new(work)),
            progress: Box::new(|_| ControlFlow::Continue(())),
            plan: Plan {
                random_images: 2,
                nested: Nested::Sample(1),
                violations: 1,
                ..Plan::all(1)
            },
            faults: true,
        }
    }

    /// Adds what must hold of every store that is found after a crash. An error and a
    /// panic both say that it does not.
    pub fn invariant(
        mut self,
        name: impl Into<String>,
        holds: impl Fn(&AfterCrash<'_>) -> Outcome + 't,
    ) -> Self {
        self.program.add_invariant(name.into(), Box::new(holds));
        self
    }

    /// Settings of the store, on top of the small sizes. File system, image, clock and
    /// threads are the test's.
    pub fn settings(mut self, settings: impl Fn(Builder) -> Builder + Send + Sync + 't) -> Self {
        self.program.set_settings(Box::new(settings));
        self
    }

    /// What keeps the image, if the program's is not sled: [`files_on`](crate::testing::files_on)
    /// for one that chooses a [`FileBackend`](crate::FileBackend), or a function that makes a
    /// backend of your own. Default a [`FolderBackend`](crate::testing::FolderBackend).
    pub fn image(mut self, image: ImageOn) -> Self {
        self.program.set_image(image);
        self
    }

    /// Says that two runs of the program may differ, as those of threads do. Otherwise
    /// a difference is a failure: the program would depend on something else than the
    /// store.
    pub fn varies(mut self) -> Self {
        self.program.set_varies();
        self
    }

    /// Tries only so many points, drawn by the seed.
    pub fn sample(mut self, points: usize) -> Self {
        self.plan.points = Some(points);
        self
    }

    /// Decides on all that is drawn. 1 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.plan.seed = seed;
        self
    }

    /// Takes so many images with a part of the unsynced changes lost, beside the one
    /// with all and the one with none of them. 2 by default.
    pub fn random_images(mut self, images: u64) -> Self {
        self.plan.random_images = images;
        self
    }

    /// Interrupts each recovery so often. Once, at a place that is drawn, by default.
    pub fn nested(mut self, nested: Nested) -> Self {
        self.plan.nested = nested;
        self
    }

    /// Stops the program only, and lets no call fail.
    pub fn without_faults(mut self) -> Self {
        self.faults = false;
        self
    }

    /// Is told before each point how far the test has come, and may end it there.
    pub fn progress(mut self, progress: impl FnMut(Progress) -> ControlFlow<()> + 't) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Runs the test.
    ///
    /// # Errors
    /// The first [`Violation`], reduced: a run that fails without being disturbed, a
    /// store that does not open or is not as it was acknowledged, or an invariant
    /// that does not hold.
    pub fn run(mut self) -> Result<Certificate, Box<Violation>> {
        let mut driver = Driver::new(&self.program, &self.plan)?;
        let mut points = stops(driver.calls());
        if self.faults {
            points.extend(faults(driver.calls()));
        }
        driver.each(points, &mut self.progress);
        let summary = driver.finish()?;
        Ok(Certificate::new(summary, &self.program, self.faults))
    }

    /// Runs one case, as a [`Violation`] names it.
    ///
    /// # Errors
    /// The violation, if it is still one.
    pub fn replay(self, case: &Case) -> Result<(), Box<Violation>> {
        Driver::new(&self.program, &self.plan)?.replay(case)
    }
}
