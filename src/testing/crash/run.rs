//! Owns running cases: the undisturbed subject first, then the subject stopped or
//! with a failing call, and the recoveries from it, which are disturbed in turn.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::case::{Case, Trouble};
use super::subject::{Recovered, Subject, Survives};
use super::summary::{Summary, Violation};
use super::{Nested, Plan, Progress, losses};
use crate::error::Error;
use crate::testing::{Failure, Fault, Loss, Operation, Random, SimDisk, When};

/// A case that broke a promise.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) case: Case,
    pub(super) what: String,
}

impl Found {
    fn boxed(case: &Case, what: String) -> Box<Self> {
        let case = case.clone();
        Box::new(Self { case, what })
    }
}

pub(super) struct Driver<'a, S: Subject> {
    subject: &'a S,
    plan: Plan,
    trace: Vec<Operation>,
    summary: Summary,
    found: Vec<Found>,
}

impl<'a, S: Subject> Driver<'a, S> {
    /// Runs the subject undisturbed, twice: it must do the same both times.
    pub(super) fn new(subject: &'a S, plan: &Plan) -> Result<Self, Box<Violation>> {
        let broken = |what| Violation::new(subject.name(), None, what);
        let (trace, run, disk) = undisturbed(subject).map_err(broken)?;
        let (again, ..) = undisturbed(subject).map_err(broken)?;
        let differs = trace.iter().zip(&again).position(|(a, b)| a != b);
        let differs = differs.or((trace.len() != again.len()).then_some(trace.len()));
        if let Some(place) = differs.filter(|_| subject.repeats()) {
            let what = format!("two runs differ from call {place} on");
            return Err(broken(what));
        }
        let done = subject.done(&run);
        let mut summary = Summary {
            workload: subject.name().to_owned(),
            seed: plan.seed,
            operations: disk.operations(),
            varies: differs.is_some(),
            checkpoints: done.checkpoints,
            snapshots: done.snapshots,
            ..Summary::default()
        };
        summary.count(&trace);
        let mut driver = Self {
            subject,
            plan: *plan,
            trace,
            summary,
            found: Vec::new(),
        };
        for loss in [Loss::Everything, Loss::Nothing] {
            let end = Case {
                trouble: Trouble::Stop(disk.operations() + 1, When::Before),
                loss: loss.clone(),
                nested: None,
                dice: 0,
            };
            let image = disk.crash(loss);
            let judged = subject.judge(&image, &run, Survives::Acknowledged, 0);
            let recovered =
                judged.map_err(|what| driver.violation(&Found { case: end, what }, None))?;
            driver.count(&recovered);
        }
        Ok(driver)
    }

    /// What the subject calls, in order.
    pub(super) fn calls(&self) -> &[Operation] {
        &self.trace
    }

    /// Disturbs the subject at each of the points, or at a sample of them.
    pub(super) fn each(
        &mut self,
        mut points: Vec<Trouble>,
        watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) {
        let mut random = Random::new(self.plan.seed ^ 0x5eed);
        self.summary.points_of += points.len() as u64;
        // Reads the sources, which a single case has no need of.
        self.summary.coverage.get_or_insert_default();
        if let Some(most) = self.plan.points {
            for at in 0..most.min(points.len()) {
                let rest = (points.len() - at) as u64;
                points.swap(at, at + random.below(rest) as usize);
            }
            points.truncate(most);
        }
        let of = points.len() as u64;
        for (done, point) in (0..).zip(points) {
            let recoveries = self.summary.recoveries;
            let now = Progress {
                done,
                of,
                recoveries,
            };
            if watch(now).is_break() {
                self.summary.stopped_early = true;
                break;
            }
            self.summary.points += 1;
            let dice = random.next_u64() >> 32;
            let outcome = catch_unwind(AssertUnwindSafe(|| match point {
                Trouble::Stop(..) => self.stop(point, dice),
                Trouble::Fault(_) => self.fault(point, dice),
            }));
            let found = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(found)) => *found,
                Err(panic) => Found {
                    case: simple(point, dice),
                    what: format!("a panic: {}", message(&*panic)),
                },
            };
            self.found.push(found);
            if self.found.len() >= self.plan.violations {
                break;
            }
        }
    }

    /// The figures, unless something was found.
    pub(super) fn finish(mut self) -> Result<Summary, Box<Violation>> {
        if self.found.is_empty() {
            return Ok(self.summary);
        }
        let first = self.found.remove(0);
        let least = self.shrunk(&first);
        let mut violation = self.violation(&least, Some(&first));
        violation.others = self
            .found
            .iter()
            .map(|found| (found.case.clone(), found.what.clone()))
            .collect();
        Err(violation)
    }

    /// Runs one case.
    pub(super) fn replay(&mut self, case: &Case) -> Result<(), Box<Violation>> {
        match self.attempt(case) {
            Some(what) => {
                let case = case.clone();
                Err(self.violation(&Found { case, what }, None))
            }
            None => Ok(()),
        }
    }

    /// What is wrong in a case, if anything is.
    pub(super) fn attempt(&mut self, case: &Case) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(|| self.run_case(case))) {
            Ok(outcome) => outcome.err().map(|found| found.what),
            Err(panic) => Some(format!("a panic: {}", message(&*panic))),
        }
    }

    fn run_case(&mut self, case: &Case) -> Result<(), Box<Found>> {
        let fail = |what| Found::boxed(case, what);
        let (run, disk) = self.disturbed(case.trouble).map_err(fail)?;
        match &case.nested {
            None if matches!(case.trouble, Trouble::Fault(_)) => self.after_fault(run, &disk, case),
            None => {
                let image = disk.crash(case.loss.clone());
                self.subject
                    .judge(&image, &run, survives(&case.loss), case.dice)
                    .map(drop)
                    .map_err(fail)
            }
            Some(nested) => {
                let image = disk.crash(case.loss.clone());
                self.disturbed_recovery(&image, &run, case, nested.clone(), None)
            }
        }
    }

    /// Runs the subject with trouble.
    pub(super) fn disturbed(&mut self, trouble: Trouble) -> Result<(S::Run, SimDisk), String> {
        let disk = SimDisk::new(trouble.at());
        trouble.befall(&disk);
        let tolerant = matches!(trouble, Trouble::Fault(_));
        let outcome = self.subject.run(&disk, tolerant);
        self.cover(&disk);
        let (mut run, first) = outcome?;
        if !tolerant {
            match first {
                Some(e) if !disk.stopped() => return Err(format!("it failed: {e}")),
                _ => self.subject.end(&mut run),
            }
        }
        Ok((run, disk))
    }

    /// Stops the subject, and recovers from each of several losses.
    fn stop(&mut self, trouble: Trouble, dice: u64) -> Result<(), Box<Found>> {
        let mut random = Random::new(dice);
        let fail = |what| Found::boxed(&simple(trouble, dice), what);
        let (run, disk) = self.disturbed(trouble).map_err(fail)?;
        for loss in losses(&self.plan, &mut random) {
            let image = disk.crash(loss.clone());
            self.summary.images += 1;
            let case = Case {
                trouble,
                loss,
                nested: None,
                dice: random.next_u64() >> 32,
            };
            let judged = self
                .subject
                .judge(&image, &run, survives(&case.loss), case.dice);
            let recovered = judged.map_err(|what| Found::boxed(&case, what))?;
            self.count(&recovered);
            self.disturb_recovery(&image, &run, &case, recovered, &mut random)?;
        }
        Ok(())
    }

    /// Interrupts the recovery of an image at some operations, and lets some of its
    /// reads fail.
    fn disturb_recovery(
        &mut self,
        image: &SimDisk,
        run: &S::Run,
        case: &Case,
        recovered: Recovered,
        random: &mut Random,
    ) -> Result<(), Box<Found>> {
        let Nested::Sample(times) = self.plan.nested else {
            return self.disturb_recovery_everywhere(image, run, case, recovered);
        };
        for _ in 0..times {
            if recovered.operations > 0 {
                let trouble = in_recovery(1 + random.below(recovered.operations), random);
                let loss = match random.below(3) {
                    0 => Loss::Everything,
                    1 => Loss::Nothing,
                    _ => Loss::Random(random.next_u64() >> 16),
                };
                self.summary.images += 1;
                self.disturbed_recovery(image, run, case, (trouble, loss), None)?;
            }
            if recovered.reads > 0 {
                let at = 1 + random.below(recovered.reads);
                let trouble = Trouble::Fault(Fault::Read { at, lasting: false });
                let nested = (trouble, Loss::Nothing);
                self.disturbed_recovery(image, run, case, nested, recovered.state)?;
            }
        }
        Ok(())
    }

    fn disturb_recovery_everywhere(
        &mut self,
        image: &SimDisk,
        run: &S::Run,
        case: &Case,
        recovered: Recovered,
    ) -> Result<(), Box<Found>> {
        for at in 1..=recovered.operations {
            for when in [When::Before, When::Midway, When::After] {
                for loss in [Loss::Everything, Loss::Nothing] {
                    self.summary.images += 1;
                    let nested = (Trouble::Stop(at, when), loss);
                    self.disturbed_recovery(image, run, case, nested, None)?;
                }
            }
        }
        for at in 1..=recovered.reads {
            let trouble = Trouble::Fault(Fault::Read { at, lasting: false });
            let nested = (trouble, Loss::Nothing);
            self.disturbed_recovery(image, run, case, nested, recovered.state)?;
        }
        Ok(())
    }

    fn disturbed_recovery(
        &mut self,
        image: &SimDisk,
        run: &S::Run,
        case: &Case,
        (trouble, loss): (Trouble, Loss),
        state: Option<u64>,
    ) -> Result<(), Box<Found>> {
        let case = Case {
            nested: Some((trouble, loss.clone())),
            ..case.clone()
        };
        let fail = |what| Found::boxed(&case, what);
        self.summary.nested += 1;
        let disk = image.crash(Loss::Nothing);
        trouble.befall(&disk);
        let opened = self.subject.open(&disk);
        self.cover(&disk);
        if let Err(Error::Corrupt(damage)) = &opened {
            return Err(fail(format!(
                "what was no damage was taken for it: {damage}"
            )));
        }
        drop(opened);
        disk.clear_faults();
        let survives = match (&case.loss, &loss) {
            (Loss::Nothing, Loss::Nothing) => Survives::Written,
            _ => Survives::Acknowledged,
        };
        let image = disk.crash(loss);
        let judged = self.subject.judge(&image, run, survives, case.dice);
        let again = judged.map_err(fail)?;
        self.count(&again);
        match state
            .zip(again.state)
            .filter(|(without, with)| without != with)
        {
            // A read that fails is not the end of the log.
            Some((without, with)) => Err(fail(format!(
                "the state {with} was recovered, but {without} without the failed read"
            ))),
            None => Ok(()),
        }
    }

    /// Lets a call of the subject fail.
    fn fault(&mut self, trouble: Trouble, dice: u64) -> Result<(), Box<Found>> {
        let mut random = Random::new(dice);
        let mut case = simple(trouble, dice);
        let fail = |what| Found::boxed(&simple(trouble, dice), what);
        let (run, disk) = self.disturbed(trouble).map_err(fail)?;
        for loss in losses(&self.plan, &mut random) {
            case.loss = loss;
            self.judge_image(&run, &disk, &case)?;
        }
        self.after_fault(run, &disk, &case)
    }

    fn judge_image(&mut self, run: &S::Run, disk: &SimDisk, case: &Case) -> Result<(), Box<Found>> {
        let image = disk.crash(case.loss.clone());
        self.summary.images += 1;
        let judged = self
            .subject
            .judge(&image, run, survives(&case.loss), case.dice);
        let recovered = judged.map_err(|what| Found::boxed(case, what))?;
        self.count(&recovered);
        Ok(())
    }

    /// The disk works again: the store goes on, or says that it must be opened
    /// again; and then everything is there.
    fn after_fault(
        &mut self,
        mut run: S::Run,
        disk: &SimDisk,
        case: &Case,
    ) -> Result<(), Box<Found>> {
        self.judge_image(&run, disk, case)?;
        disk.clear_faults();
        let fail = |what| Found::boxed(case, what);
        self.subject.after_fault(&mut run).map_err(fail)?;
        self.summary.images += 1;
        let judged = self
            .subject
            .judge(disk, &run, Survives::Written, case.dice)
            .map_err(|what| fail(format!("in the same kernel: {what}")))?;
        self.count(&judged);
        Ok(())
    }

    /// Notes where in the sources the power went, and which calls failed.
    fn cover(&mut self, disk: &SimDisk) {
        let Some(coverage) = &mut self.summary.coverage else {
            return;
        };
        if let Some(stack) = disk.stopped_at() {
            coverage.crashed(&stack);
        }
        for stack in disk.failed_at() {
            coverage.failed(&stack);
        }
    }

    fn count(&mut self, recovered: &Recovered) {
        self.summary.recoveries += recovered.openings;
        self.summary.rebuilds += recovered.done.rebuilds;
    }

    /// Runs a case once more to say what was called around it.
    fn violation(&mut self, found: &Found, first: Option<&Found>) -> Box<Violation> {
        let case = &found.case;
        let name = self.subject.name();
        let mut violation = Violation::new(name, Some(case.clone()), found.what.clone());
        violation.seed = self.plan.seed;
        violation.first = first.map(|first| first.case.clone());
        let is_read = |trouble| matches!(trouble, Trouble::Fault(Fault::Read { .. }));
        let at = case.trouble.at();
        let from = catch_unwind(AssertUnwindSafe(|| {
            let (_, disk) = self.disturbed(case.trouble).ok()?;
            let hit = disk
                .stopped_at()
                .or_else(|| disk.failed_at().first().cloned());
            hit?.users_line()
        }));
        let from = from.ok().flatten();
        violation.schedule(("the program", from), &self.trace, case.trouble, &case.loss);
        violation.around("the program", &self.trace, at, is_read(case.trouble));
        let again = catch_unwind(AssertUnwindSafe(|| {
            let (_, disk) = self.disturbed(case.trouble).ok()?;
            let disk = disk.crash(case.loss.clone());
            disk.record(true);
            if let Some((trouble, _)) = case.nested {
                trouble.befall(&disk);
            }
            drop(self.subject.open(&disk));
            Some(disk.trace())
        }));
        if let Ok(Some(trace)) = again {
            if let Some((trouble, loss)) = &case.nested {
                violation.schedule(("the recovery", None), &trace, *trouble, loss);
            }
            let nested = case.nested.as_ref().map(|(trouble, _)| *trouble);
            let place = nested.map_or((u64::MAX, false), |t| (t.at(), is_read(t)));
            violation.around("the recovery", &trace, place.0, place.1);
        }
        violation
    }
}

/// What happens to a recovery at an operation.
fn in_recovery(at: u64, random: &mut Random) -> Trouble {
    let when = [When::Before, When::Midway, When::After];
    let failure = [Failure::Io, Failure::NoSpace][random.below(2) as usize];
    let lasting = random.below(2) == 0;
    match random.below(12) {
        0 | 1 => Trouble::Fault(Fault::Operation {
            at,
            failure,
            lasting,
        }),
        2 => Trouble::Fault(Fault::LostSync { at }),
        // A case's text does not say how a short write fails.
        3 => Trouble::Fault(Fault::ShortWrite {
            at,
            failure: Failure::Io,
        }),
        drawn => Trouble::Stop(at, when[drawn as usize % 3]),
    }
}

/// What must survive this loss.
fn survives(loss: &Loss) -> Survives {
    match loss {
        Loss::Nothing => Survives::Written,
        _ => Survives::Acknowledged,
    }
}

fn simple(trouble: Trouble, dice: u64) -> Case {
    Case {
        trouble,
        loss: Loss::Nothing,
        nested: None,
        dice,
    }
}

fn undisturbed<S: Subject>(subject: &S) -> Result<(Vec<Operation>, S::Run, SimDisk), String> {
    let disk = SimDisk::new(0);
    disk.record(true);
    let (run, first) = subject.run(&disk, false)?;
    if let Some(e) = first {
        return Err(format!("it fails: {e}"));
    }
    Ok((disk.trace(), run, disk))
}

pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("of no text")
        .to_owned()
}
