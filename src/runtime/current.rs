//! Owns what this thread is in: the logic of an activation, other code of the user's that
//! the runtime asks, or neither. Imports `job_context`, `run`.
//!
//! What must stay true: a thread knows only of what it runs itself, and only while it does.
//! Code that is polled is entered at each poll, so two activations that take turns on a
//! thread do not see each other.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::{Result, WorkError};
use crate::runtime::job_context::JobContext;
use crate::runtime::run::Run;
use crate::sync;

sync::thread_local! {
    static PLACE: RefCell<Place> = const { RefCell::new(Place::Outside) };
}

/// What a thread is in.
#[derive(Clone)]
enum Place {
    Outside,
    Logic(Arc<Run>),
    /// The check of a policy, a condition, or a hook.
    Asked,
}

/// Puts the thread somewhere else; gives where it was. A thread that is being torn down is
/// nowhere.
fn replace(place: Place) -> Place {
    let replaced = PLACE.try_with(|current| current.replace(place));
    replaced.unwrap_or(Place::Outside)
}

/// While it lives, its thread is where it was put; then it is where it was before.
#[must_use = "the thread is back where it was when this is dropped"]
pub(crate) struct Guard {
    before: Place,
    /// It is dropped on the thread that it was made on.
    _on_thread: PhantomData<*const ()>,
}

impl Guard {
    fn put(place: Place) -> Self {
        Self {
            before: replace(place),
            _on_thread: PhantomData,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Dropped here and not where it is replaced: a run may be gone with it.
        let _left = replace(std::mem::replace(&mut self.before, Place::Outside));
    }
}

/// This thread runs the logic of this run, or polls it.
pub(crate) fn enter(run: &Arc<Run>) -> Guard {
    Guard::put(Place::Logic(Arc::clone(run)))
}

/// This thread runs code of the user's that is asked and does no work: the check of a
/// policy, a condition, a hook. It is in no activation then.
pub(crate) fn enter_user_code() -> Guard {
    Guard::put(Place::Asked)
}

fn place() -> Place {
    let place = PLACE.try_with(|current| current.borrow().clone());
    place.unwrap_or(Place::Outside)
}

/// The run whose logic this thread is in.
pub(crate) fn current_run() -> Option<Arc<Run>> {
    match place() {
        Place::Logic(run) => Some(run),
        Place::Outside | Place::Asked => None,
    }
}

/// The job that the logic on this thread works for: the only job of its activation.
///
/// `None` outside of logic, in a policy's check, a condition or a hook, which are given
/// what they may look at, and where the activation has several jobs, or none:
/// [`Activation::jobs`](crate::Activation::jobs) has them all. It is never the job of
/// another thread, also where two threads run the same routine; a thread that logic starts
/// has none. In async code it is right after each `await`, whichever thread goes on.
///
/// ```
/// assert!(evenkeel::current_job().is_none());
/// ```
#[must_use]
pub fn current_job() -> Option<JobContext> {
    let run = current_run()?;
    let job = run.only_job()?;
    Some(JobContext::inside(&run, job))
}

/// Refuses a call that may wait for what this very thread holds up.
///
/// # Errors
/// [`WorkError::InsideLogic`] inside of logic, a policy's check, a condition or a hook.
pub(crate) fn outside_only(call: &'static str, instead: &'static str) -> Result<()> {
    match place() {
        Place::Outside => Ok(()),
        Place::Logic(_) | Place::Asked => Err(WorkError::InsideLogic { call, instead }.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::error::Error;
    use crate::runtime::capture::tests::{job, run_of};
    use crate::state::Store;
    use crate::sync::thread;

    fn current() -> Option<String> {
        current_job().map(|job| job.job_id().to_owned())
    }

    fn run(name: &str) -> Arc<Run> {
        run_of(&Store::in_memory(), &[job(name)])
    }

    #[test]
    fn the_current_job_is_that_of_the_logic_that_runs() {
        assert_eq!(current(), None);
        let (outer, inner) = (run("outer"), run("inner"));
        let guard = enter(&outer);
        assert_eq!(current().as_deref(), Some("outer"));
        {
            let _inner = enter(&inner);
            assert_eq!(current().as_deref(), Some("inner"));
            {
                let _asked = enter_user_code();
                assert_eq!(current(), None);
            }
            assert_eq!(current().as_deref(), Some("inner"));
        }
        assert_eq!(current().as_deref(), Some("outer"));
        drop(guard);
        assert_eq!(current(), None);
        assert_eq!(
            (Arc::strong_count(&outer), Arc::strong_count(&inner)),
            (1, 1)
        );
    }

    #[test]
    fn an_activation_of_several_jobs_has_no_current_one() {
        let store = Store::in_memory();
        for jobs in [&[job("a"), job("b")][..], &[]] {
            let run = run_of(&store, jobs);
            let _inside = enter(&run);
            assert!(current_run().is_some());
            assert_eq!(current(), None);
        }
    }

    #[test]
    fn a_panic_leaves_the_thread_where_it_was() {
        let (outer, inner) = (run("outer"), run("inner"));
        let _outer = enter(&outer);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _inner = enter(&inner);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(current().as_deref(), Some("outer"));
    }

    #[test]
    fn the_current_job_is_isolated_between_threads() {
        const ROUNDS: usize = 1000;
        let _mine = enter(&run("mine"));
        thread::scope(|scope| {
            for number in 0..8 {
                scope.spawn(move || {
                    assert_eq!(current(), None, "a thread begins with none");
                    let names = [format!("{number}-a"), format!("{number}-b")];
                    let runs = [run(&names[0]), run(&names[1])];
                    for round in 0..ROUNDS {
                        // As two futures that are polled in turn.
                        let turn = round % 2;
                        let _polled = enter(&runs[turn]);
                        thread::yield_now();
                        assert_eq!(current().as_deref(), Some(&*names[turn]));
                    }
                    assert_eq!(current(), None);
                });
            }
        });
        assert_eq!(current().as_deref(), Some("mine"));
    }

    #[test]
    fn what_may_wait_for_itself_is_for_outside() {
        let refused = || {
            let outcome = outside_only("wait", "wait outside");
            matches!(
                outcome,
                Err(Error::Work(WorkError::InsideLogic { call: "wait", .. }))
            )
        };
        assert!(!refused());
        let run = run("a");
        let inside = enter(&run);
        assert!(refused());
        drop(inside);
        let asked = enter_user_code();
        assert!(refused());
        drop(asked);
        assert!(!refused());
    }
}
