//! Owns reducing a failure to the least that still fails: the recovery undisturbed,
//! all or nothing lost, an earlier stop, of what reached the disk no change more than
//! it takes, and of a workload no more steps.

use std::ops::Range;

use super::case::{Case, Trouble};
use super::run::{Driver, Found};
use super::subject::Subject;
use super::summary::Violation;
use super::workload::Workload;
use crate::testing::{Arrivals, Loss, When};

/// So many runs are spent on a case.
const RUNS_MAX: usize = 2_000;

/// So many shorter workloads are tried.
const WORKLOADS_MAX: usize = 60;

/// Leaves out ever smaller parts of a list as long as what is left still fails (ddmin,
/// Zeller and Hildebrandt 2002). `without` gives the list without a range, if it fails.
fn fewer<T>(
    mut list: T,
    len: impl Fn(&T) -> usize,
    mut without: impl FnMut(&T, Range<usize>) -> Option<T>,
) -> T {
    let mut parts = 2;
    loop {
        let count = len(&list);
        let size = count.div_ceil(parts).max(1);
        let starts = (0..count).step_by(size);
        let shorter = starts
            .into_iter()
            .find_map(|from| without(&list, from..from + size));
        match shorter {
            Some(shorter) => {
                list = shorter;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => return list,
            None => parts = (2 * parts).min(count),
        }
    }
}

/// Adds to a violation the fewest steps of its workload that fail in the same way of
/// driving it, and how.
pub(super) fn shorten(
    workload: &Workload,
    violation: &mut Violation,
    drive: impl Fn(&Workload) -> Option<Box<Violation>>,
) {
    let mut tries = 0;
    let shortest = fewer(workload.clone(), Workload::len, |workload, range| {
        tries += 1;
        let mut shorter = workload.clone();
        let end = range.end.min(shorter.steps.len());
        shorter.steps.drain(range.start..end);
        let fails = tries <= WORKLOADS_MAX && drive(&shorter).is_some();
        fails.then_some(shorter)
    });
    if shortest.len() < workload.len() {
        violation.shortest = drive(&shortest).map(|shorter| {
            let steps = shortest.steps.iter().map(|step| format!("{step:?}"));
            (steps.collect(), shorter)
        });
    }
}

impl<S: Subject> Driver<'_, S> {
    /// The least case that was found to fail still. Where a subject does not repeat,
    /// that is the best that came up.
    pub(super) fn shrunk(&mut self, first: &Found) -> Found {
        let mut shrinking = Shrinking {
            driver: self,
            least: first.clone(),
            runs: 0,
        };
        shrinking.recovery();
        shrinking.loss();
        shrinking.point();
        shrinking.arrivals();
        shrinking.least
    }
}

struct Shrinking<'d, 'a, S: Subject> {
    driver: &'d mut Driver<'a, S>,
    least: Found,
    runs: usize,
}

impl<S: Subject> Shrinking<'_, '_, S> {
    /// Takes a case over if it fails.
    fn take(&mut self, case: Case) -> bool {
        if case == self.least.case || self.runs >= RUNS_MAX {
            return false;
        }
        self.runs += 1;
        match self.driver.attempt(&case) {
            Some(what) => {
                self.least = Found { case, what };
                true
            }
            None => false,
        }
    }

    /// Without the second crash, or with a simpler one.
    fn recovery(&mut self) {
        let case = &self.least.case;
        let Some((trouble, _)) = case.nested else {
            return;
        };
        let alone = Case {
            nested: None,
            ..case.clone()
        };
        if self.take(alone) {
            return;
        }
        for loss in [Loss::Nothing, Loss::Everything] {
            let nested = Some((trouble, loss));
            let case = self.least.case.clone();
            if self.take(Case { nested, ..case }) {
                return;
            }
        }
    }

    /// A kill, or else a power cut that takes all.
    fn loss(&mut self) {
        for loss in [Loss::Nothing, Loss::Everything] {
            let case = self.least.case.clone();
            if case.loss == loss || self.take(Case { loss, ..case }) {
                return;
            }
        }
    }

    /// The earliest operation at which it fails so.
    fn point(&mut self) {
        let Trouble::Stop(at, _) = self.least.case.trouble else {
            return;
        };
        for earlier in 1..at {
            for when in [When::Before, When::After] {
                let trouble = Trouble::Stop(earlier, when);
                let case = self.least.case.clone();
                if self.take(Case { trouble, ..case }) {
                    return;
                }
            }
        }
    }

    /// The fewest changes that arrived.
    fn arrivals(&mut self) {
        let Loss::Random(seed) = self.least.case.loss else {
            return;
        };
        let Ok((_, disk)) = self.driver.disturbed(self.least.case.trouble) else {
            return;
        };
        let arrivals = disk.arrivals(seed);
        if self.takes(&arrivals) {
            fewer(arrivals, Arrivals::len, |arrivals, range| {
                let fewer = arrivals.without(range);
                self.takes(&fewer).then_some(fewer)
            });
        }
    }

    fn takes(&mut self, arrivals: &Arrivals) -> bool {
        let loss = Loss::Only(arrivals.clone());
        let case = self.least.case.clone();
        self.take(Case { loss, ..case })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::subject::{Done, Recovered, Survives};
    use super::super::{Nested, Plan, stops};
    use super::*;
    use crate::error::Result;
    use crate::state::Store;
    use crate::testing::SimDisk;
    use crate::vfs::{OpenMode, Vfs as _};

    /// Writes many files, and believes that they reach the disk in their order.
    struct Believer;

    fn file(name: &str, disk: &SimDisk) -> std::io::Result<()> {
        let file = disk.open(Path::new(name), OpenMode::Create)?;
        file.write_at(&[7; 2000], 0)
    }

    impl Subject for Believer {
        type Run = ();

        fn name(&self) -> &str {
            "believer"
        }

        fn repeats(&self) -> bool {
            true
        }

        fn run(
            &self,
            disk: &SimDisk,
            _tolerant: bool,
        ) -> std::result::Result<((), Option<String>), String> {
            let mut work = (0..12).map(|n| file(&format!("f{n}"), disk));
            let first = work.find_map(std::result::Result::err);
            Ok(((), first.map(|e| e.to_string())))
        }

        fn done(&self, (): &()) -> Done {
            Done::default()
        }

        fn end(&self, (): &mut ()) {}

        fn after_fault(&self, (): &mut ()) -> std::result::Result<(), String> {
            Ok(())
        }

        fn open(&self, _disk: &SimDisk) -> Result<Store> {
            Ok(Store::in_memory())
        }

        fn judge(
            &self,
            image: &SimDisk,
            (): &(),
            _survives: Survives,
            _dice: u64,
        ) -> std::result::Result<Recovered, String> {
            let holds = |name: &str| image.read(name).is_some_and(|bytes| bytes.contains(&7));
            match holds("f9") && !holds("f4") {
                true => Err("the tenth is there and the fifth is not".into()),
                false => Ok(Recovered::default()),
            }
        }
    }

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let plan = Plan {
            random_images: 40,
            nested: Nested::Sample(0),
            violations: 1,
            ..Plan::all(3)
        };
        let Ok(mut driver) = Driver::new(&Believer, &plan) else {
            panic!("nothing disturbs it");
        };
        let points = stops(driver.calls());
        driver.each(points, &mut |_| std::ops::ControlFlow::Continue(()));
        let Err(found) = driver.finish() else {
            panic!("nothing was found");
        };
        let case = found.case.as_ref().map(|case| (case.trouble, &case.loss));
        let Some((trouble, Loss::Only(arrivals))) = case else {
            panic!("not reduced: {found}");
        };
        // The file's name, its length, and one run of its sectors; at the earliest in
        // the write itself.
        assert_eq!(trouble.at(), 20, "{found}");
        assert_eq!(arrivals.operations(), [19, 20], "{found}");
        assert!(arrivals.len() <= 3, "{found}");
        assert!(found.first != found.case && found.to_string().contains("only this is not lost"));
    }
}
