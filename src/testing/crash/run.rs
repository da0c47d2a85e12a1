//! Owns running cases: the undisturbed workload first, then a workload stopped or
//! with a failing call, and the recoveries from it, which are disturbed in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::case::{Case, Trouble};
use super::check::{self, Recovered, copy, examine};
use super::model::History;
use super::session::{Halt, Session};
use super::summary::{Summary, Violation};
use super::workload::{Step, Workload, Write};
use super::{Plan, losses};
use crate::error::Error;
use crate::scope::Scope;
use crate::testing::{Failure, Fault, Loss, Operation, Random, SimDisk, When};

/// One way to disturb a workload.
type Disturb<'a> = dyn Fn(&mut Driver<'a>, Trouble, u64) -> Result<(), Found>;

/// A case that broke a promise.
pub(super) struct Found {
    case: Case,
    what: String,
}

pub(super) struct Driver<'a> {
    workload: &'a Workload,
    plan: Plan,
    trace: Vec<Operation>,
    summary: Summary,
    found: Vec<Found>,
}

impl<'a> Driver<'a> {
    /// Runs the workload undisturbed, twice: it must do the same both times.
    pub(super) fn new(workload: &'a Workload, plan: &Plan) -> Result<Self, Box<Violation>> {
        let broken = |what| Violation::new(&workload.name, None, what);
        let mut driver = Self {
            workload,
            plan: *plan,
            trace: Vec::new(),
            summary: Summary {
                workload: workload.name.clone(),
                ..Summary::default()
            },
            found: Vec::new(),
        };
        let (trace, session) = undisturbed(workload).map_err(broken)?;
        let (again, _) = undisturbed(workload).map_err(broken)?;
        if trace != again {
            let place = trace.iter().zip(&again).position(|(a, b)| a != b);
            return Err(broken(format!("two runs differ from call {place:?} on")));
        }
        driver.summary.count(&trace);
        driver.summary.operations = session.disk.operations();
        driver.summary.checkpoints = session.done.checkpoints;
        driver.summary.snapshots = session.done.snapshots;
        let end = Case {
            trouble: Trouble::Stop(session.disk.operations() + 1, When::Before),
            loss: Loss::Everything,
            nested: None,
            dice: 0,
        };
        driver.trace = trace;
        for loss in [Loss::Everything, Loss::Nothing] {
            let image = session.disk.crash(loss);
            let least = session.history.len();
            let judged = examine(workload, &image, &session.history, least, 0);
            let recovered = judged.map_err(|what| driver.violation(Found { case: end, what }))?;
            driver.count(&recovered);
        }
        Ok(driver)
    }

    /// What the workload calls, in order.
    pub(super) fn calls(&self) -> Vec<Operation> {
        self.trace.clone()
    }

    /// Disturbs the workload at each of the points, or at a sample of them.
    pub(super) fn each(
        &mut self,
        mut points: Vec<Trouble>,
        disturb: &Disturb<'a>,
    ) -> Result<(), Box<Violation>> {
        let mut random = Random::new(self.plan.seed ^ 0x5eed);
        if let Some(most) = self.plan.points {
            for at in 0..most.min(points.len()) {
                let rest = (points.len() - at) as u64;
                points.swap(at, at + random.below(rest) as usize);
            }
            points.truncate(most);
        }
        for point in points {
            self.summary.points += 1;
            let dice = random.next_u64() >> 32;
            let outcome = catch_unwind(AssertUnwindSafe(|| disturb(self, point, dice)));
            let found = match outcome {
                Ok(Ok(())) => continue,
                Ok(Err(found)) => found,
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
        Ok(())
    }

    /// The figures, unless something was found.
    pub(super) fn finish(mut self) -> Result<Summary, Box<Violation>> {
        if self.found.is_empty() {
            return Ok(self.summary);
        }
        let first = self.found.remove(0);
        let others = std::mem::take(&mut self.found);
        let mut violation = self.violation(first);
        violation.others = others
            .into_iter()
            .map(|found| (found.case, found.what))
            .collect();
        Err(violation)
    }

    /// Runs one case.
    pub(super) fn replay(mut self, case: &Case) -> Result<(), Box<Violation>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run_case(case)));
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(found)) => Err(self.violation(found)),
            Err(panic) => Err(self.violation(Found {
                case: *case,
                what: format!("a panic: {}", message(&*panic)),
            })),
        }
    }

    fn run_case(&mut self, case: &Case) -> Result<(), Found> {
        let fail = |what| Found { case: *case, what };
        let tolerant = matches!(case.trouble, Trouble::Fault(_));
        let session = self.disturbed(case.trouble).map_err(fail)?;
        match case.nested {
            None if tolerant => self.after_fault(session, case),
            None => {
                let image = session.disk.crash(case.loss);
                let least = least(&session.history, case.loss);
                examine(self.workload, &image, &session.history, least, case.dice)
                    .map(drop)
                    .map_err(fail)
            }
            Some((trouble, loss)) => {
                let image = session.disk.crash(case.loss);
                let undisturbed = None;
                self.disturbed_recovery(
                    &image,
                    &session.history,
                    case,
                    (trouble, loss),
                    undisturbed,
                )
            }
        }
    }

    /// Runs the workload with trouble.
    fn disturbed(&self, trouble: Trouble) -> Result<Session<'a>, String> {
        let disk = SimDisk::new(trouble.at());
        trouble.befall(&disk);
        let tolerant = matches!(trouble, Trouble::Fault(_));
        let mut session = Session::new(self.workload, disk);
        let first = session.run(tolerant)?;
        if !tolerant {
            match first {
                Some(e) if !session.disk.stopped() => return Err(format!("it failed: {e}")),
                _ => session.store = None,
            }
        }
        Ok(session)
    }

    /// Stops the workload, and recovers from each of several losses.
    pub(super) fn stop(&mut self, trouble: Trouble, dice: u64) -> Result<(), Found> {
        let mut random = Random::new(dice);
        let fail = |what| Found {
            case: simple(trouble, dice),
            what,
        };
        let session = self.disturbed(trouble).map_err(fail)?;
        for loss in losses(&self.plan, &mut random) {
            let image = session.disk.crash(loss);
            self.summary.images += 1;
            let case = Case {
                trouble,
                loss,
                nested: None,
                dice: random.next_u64() >> 32,
            };
            let least = least(&session.history, loss);
            let recovered = examine(self.workload, &image, &session.history, least, case.dice)
                .map_err(|what| Found { case, what })?;
            self.count(&recovered);
            self.disturb_recovery(&image, &session.history, &case, recovered, &mut random)?;
        }
        Ok(())
    }

    /// Interrupts the recovery of an image at some operations, and lets some of its
    /// reads fail.
    fn disturb_recovery(
        &mut self,
        image: &SimDisk,
        history: &History,
        case: &Case,
        recovered: Recovered,
        random: &mut Random,
    ) -> Result<(), Found> {
        for _ in 0..self.plan.nested {
            if recovered.operations > 0 {
                let trouble = in_recovery(1 + random.below(recovered.operations), random);
                let loss = match random.below(3) {
                    0 => Loss::Everything,
                    1 => Loss::Nothing,
                    _ => Loss::Random(random.next_u64() >> 16),
                };
                self.summary.images += 1;
                self.disturbed_recovery(image, history, case, (trouble, loss), None)?;
            }
            if recovered.reads > 0 {
                let at = 1 + random.below(recovered.reads);
                let trouble = Trouble::Fault(Fault::Read { at, lasting: false });
                let nested = (trouble, Loss::Nothing);
                let prefix = recovered.prefix;
                self.disturbed_recovery(image, history, case, nested, prefix)?;
            }
        }
        Ok(())
    }

    fn disturbed_recovery(
        &mut self,
        image: &SimDisk,
        history: &History,
        case: &Case,
        (trouble, loss): (Trouble, Loss),
        prefix: Option<usize>,
    ) -> Result<(), Found> {
        let case = Case {
            nested: Some((trouble, loss)),
            ..*case
        };
        let fail = |what| Found { case, what };
        self.summary.nested += 1;
        let disk = copy(image);
        trouble.befall(&disk);
        let opened = check::open(self.workload, &disk);
        if let Err(Error::Corrupt(damage)) = &opened {
            return Err(fail(format!(
                "what was no damage was taken for it: {damage}"
            )));
        }
        drop(opened);
        disk.clear_faults();
        let least = match (case.loss, loss) {
            (Loss::Nothing, Loss::Nothing) => history.written.max(history.acked),
            _ => history.acked,
        };
        let image = disk.crash(loss);
        let again = examine(self.workload, &image, history, least, case.dice).map_err(fail)?;
        self.count(&again);
        match prefix
            .zip(again.prefix)
            .filter(|(without, with)| without != with)
        {
            // A read that fails is not the end of the log.
            Some((without, with)) => Err(fail(format!(
                "{with} commits were recovered, but {without} without the failed read"
            ))),
            None => Ok(()),
        }
    }

    /// Lets a call of the workload fail.
    pub(super) fn fault(&mut self, trouble: Trouble, dice: u64) -> Result<(), Found> {
        let mut random = Random::new(dice);
        let case = simple(trouble, dice);
        let fail = |what| Found { case, what };
        let session = self.disturbed(trouble).map_err(fail)?;
        for loss in losses(&self.plan, &mut random) {
            let image = session.disk.crash(loss);
            self.summary.images += 1;
            let case = Case { loss, ..case };
            let least = least(&session.history, loss);
            let recovered = examine(self.workload, &image, &session.history, least, dice)
                .map_err(|what| Found { case, what })?;
            self.count(&recovered);
        }
        self.after_fault(session, &case)
    }

    /// The disk works again: the store goes on, or says that it must be opened
    /// again; and then everything is there.
    fn after_fault(&mut self, mut session: Session<'a>, case: &Case) -> Result<(), Found> {
        let fail = |what| Found { case: *case, what };
        let image = session.disk.crash(case.loss);
        let least_of_image = least(&session.history, case.loss);
        examine(
            self.workload,
            &image,
            &session.history,
            least_of_image,
            case.dice,
        )
        .map_err(fail)?;
        session.disk.clear_faults();
        let works = session
            .store
            .as_ref()
            .is_some_and(|store| store.stats().is_ok());
        if works && !self.workload.persists() {
            let write = Write::Set(Scope::Global, "after".into(), "the fault".into());
            for step in [Step::Commit(write), Step::Checkpoint, Step::Snapshot] {
                match session.step(&step) {
                    Ok(()) => {}
                    Err(Halt::Wrong(what)) => return Err(fail(what)),
                    Err(Halt::Refused(e)) => {
                        return Err(fail(format!(
                            "the disk works again, but {step:?} gives {e}"
                        )));
                    }
                }
            }
            session.live_check().map_err(fail)?;
        }
        // What close has to say does not matter: nothing may be lost either way.
        let _ = session.close();
        session.store = None;
        self.summary.images += 1;
        let least = session.history.written.max(session.history.acked);
        let recovered = examine(
            self.workload,
            &session.disk,
            &session.history,
            least,
            case.dice,
        )
        .map_err(|what| fail(format!("in the same kernel: {what}")))?;
        self.count(&recovered);
        Ok(())
    }

    fn count(&mut self, recovered: &Recovered) {
        self.summary.recoveries += recovered.openings;
        self.summary.rebuilds += recovered.done.rebuilds;
    }

    /// Runs a case once more to say what was called around it.
    fn violation(&self, found: Found) -> Box<Violation> {
        let case = found.case;
        let mut violation = Violation::new(&self.workload.name, Some(case), found.what);
        let is_read = |trouble| matches!(trouble, Trouble::Fault(Fault::Read { .. }));
        let at = case.trouble.at();
        violation.around("the workload", &self.trace, at, is_read(case.trouble));
        let again = catch_unwind(AssertUnwindSafe(|| {
            let session = self.disturbed(case.trouble).ok()?;
            let disk = session.disk.crash(case.loss);
            disk.record(true);
            if let Some((trouble, _)) = case.nested {
                trouble.befall(&disk);
            }
            drop(check::open(self.workload, &disk));
            Some(disk.trace())
        }));
        if let Ok(Some(trace)) = again {
            let place = case
                .nested
                .map_or((u64::MAX, false), |(t, _)| (t.at(), is_read(t)));
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
fn least(history: &History, loss: Loss) -> usize {
    match loss {
        Loss::Nothing => history.written.max(history.acked),
        _ => history.acked,
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

fn undisturbed(workload: &Workload) -> Result<(Vec<Operation>, Session<'_>), String> {
    let disk = SimDisk::new(0);
    disk.record(true);
    let mut session = Session::new(workload, disk);
    if let Some(e) = session.run(false)? {
        return Err(format!("it fails: {e}"));
    }
    Ok((session.disk.trace(), session))
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("of no text")
        .to_owned()
}
