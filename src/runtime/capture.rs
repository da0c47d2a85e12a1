//! Owns how what logic prints comes to its jobs: what it calls for that, and what its
//! commit makes of it. Imports `activation`, `current`, `job`, `output`, `run`.
//!
//! What must stay true: what a run printed goes to stdout and to its jobs with the commit
//! that ends it, be it one of success or of failure; of a run that lost a race, or was
//! given back, nothing is left.

#[cfg(feature = "tracing")]
pub(crate) mod layer;

use std::fmt;

use crate::error::Result;
use crate::runtime::activation::Activation;
use crate::runtime::current::current_run;
use crate::runtime::job::Job;
use crate::runtime::output::{
    COMMIT_BYTES_MAX, OUTPUT_KEPT_MICROS, OutputChange, Pieces, Printer, print_now, tail_of_bytes,
};
use crate::runtime::record::{ActivationId, JobPart};
use crate::runtime::run::Run;
use crate::state::Store;

impl Activation {
    /// Prints a text, without a line break behind it: to the output of its jobs, and to
    /// stdout.
    ///
    /// Both happen when the activation is committed, all its text at once, so a run that
    /// lost a race has printed nothing. What a failed attempt printed is printed and kept
    /// too. After the activation is over it is plain stdout. More than 1 MiB is not held
    /// back from stdout: then a part of it is there before the commit. That stdout is
    /// closed is no error.
    ///
    /// A job keeps the last 200,000 characters of all its activations, until an hour after
    /// its end; an activation of several jobs prints for each of them. `println!` goes to
    /// stdout only, at once, in each run.
    ///
    /// ```
    /// use evenkeel::{Activation, Failure};
    /// fn logic(cx: &mut Activation) -> Result<(), Failure> {
    ///     cx.print("hashing ");
    ///     cx.println(format_args!("{} files", cx.data("in").count()));
    ///     Ok(())
    /// }
    /// # let _ = logic;
    /// ```
    pub fn print(&self, text: impl fmt::Display) {
        print(&self.run, &text.to_string());
    }

    /// As [`print`](Self::print), with a line break behind it.
    pub fn println(&self, text: impl fmt::Display) {
        print(&self.run, &format!("{text}\n"));
    }
}

fn print(run: &Run, text: &str) {
    match run.print(|printed| printed.print(text)) {
        Ok(None) => {}
        Ok(Some(excess)) => print_now(&excess),
        Err(_) => print_now(text),
    }
}

/// Prints a line as `println!` does: inside the logic of a routine to the output of its
/// jobs and to stdout, as [`Activation::print`](crate::Activation::print) does it;
/// anywhere else to stdout at once. It knows the activation that its thread is in, so code
/// that logic calls need not be given it. `println!` itself is not captured.
///
/// ```
/// use evenkeel::job_println;
/// fn hash(path: &str) {
///     job_println!("hashing {path}");
/// }
/// hash("a"); // outside of an activation: stdout
/// ```
#[macro_export]
macro_rules! job_println {
    () => {
        $crate::job_print_line(::std::format_args!(""))
    };
    ($($text:tt)*) => {
        $crate::job_print_line(::std::format_args!($($text)*))
    };
}

/// What `job_println!` calls.
#[doc(hidden)]
pub fn job_print_line(text: fmt::Arguments<'_>) {
    let text = format!("{text}\n");
    match current_run() {
        Some(run) => print(&run, &text),
        None => print_now(&text),
    }
}

/// What a run printed, on its way into the commit that ends it.
#[derive(Debug)]
pub(crate) struct Captured {
    activation: ActivationId,
    /// To be stored for each job.
    text: String,
}

impl Captured {
    /// What is to be stored of a run that was ended. Looks up what is stored of its jobs,
    /// so it is not made under the worker's lock.
    ///
    /// # Errors
    /// As a scan of the store.
    pub(crate) fn of(run: &Run) -> Result<Self> {
        for job in &run.jobs {
            look_up(&run.store, job)?;
        }
        let share = COMMIT_BYTES_MAX / run.jobs.len().max(1);
        let printed = run.printed.lock();
        Ok(Self {
            activation: run.id,
            text: tail_of_bytes(printed.collected(), share).to_owned(),
        })
    }

    /// What the commit writes for one job of the run, in the job's own scope; `None` for
    /// nothing. `ends` is when the job ends, if it does with this commit.
    ///
    /// Asked under the worker's lock, before the job's state is changed; if the commit was
    /// made, `after` is the `output` of the job's state.
    ///
    /// # Errors
    /// As a read of the store.
    pub(crate) fn change(
        &self,
        store: &Store,
        job: &Job,
        at_micros: u64,
        ends: Option<u64>,
    ) -> Result<Option<OutputChange>> {
        change(store, job, Some((self, at_micros)), ends)
    }
}

/// The commit that ends a run was made: stdout gets what it printed. Called under the
/// worker's lock, so that it is there in the order of commits; [`Printer::flush`] writes
/// it, outside of that.
pub(crate) fn show(run: &Run, printer: &Printer) {
    printer.push(run.printed.lock().take_shown());
}

/// What a commit writes that ends a job without a run of it: see [`Captured::change`].
///
/// # Errors
/// As a read of the store.
pub(crate) fn at_end(store: &Store, job: &Job, ends: u64) -> Result<Option<OutputChange>> {
    change(store, job, None, Some(ends))
}

fn change(
    store: &Store,
    job: &Job,
    printed: Option<(&Captured, u64)>,
    ends: Option<u64>,
) -> Result<Option<OutputChange>> {
    let printed = printed.filter(|(captured, _)| !captured.text.is_empty());
    if printed.is_none() && ends.is_none() {
        return Ok(None);
    }
    look_up(store, job)?;
    let state = job.state.lock();
    if state.status.is_final() {
        return Ok(None);
    }
    let nothing = Pieces::default();
    let pieces = state.notes.output.as_ref().unwrap_or(&nothing);
    if printed.is_none() && pieces.is_empty() {
        return Ok(None);
    }
    let mut change = match printed {
        Some((captured, at_micros)) => {
            let key = JobPart::Output.key(at_micros, captured.activation, 0);
            pieces.add(&key, &captured.text)?
        }
        None => OutputChange::none(pieces),
    };
    if let Some(ends) = ends {
        let deadline = ends.saturating_add(OUTPUT_KEPT_MICROS);
        change.until(store, &job.id, deadline)?;
    }
    Ok(Some(change))
}

/// Sees to it that memory knows what is stored of a job's output. A job that began in this
/// opening and has no parts yet has none of that.
fn look_up(store: &Store, job: &Job) -> Result<()> {
    let unknown = {
        let state = job.state.lock();
        state.parts && state.notes.output.is_none()
    };
    if unknown {
        let pieces = Pieces::load(store, &job.id)?;
        // Whoever was faster may have added to it.
        job.state.lock().notes.add().output.get_or_insert(pieces);
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
