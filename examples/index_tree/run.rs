//! Owns a run: what a run that was killed has left goes on, then what differs from the
//! index is counted and brought up to date, and it is said how far that is.
//!
//! A run that was killed has left a job: its messages, and how far its walk came. It goes
//! on by itself once its flow is known. What it has read may be out of date, and the
//! folder may have changed behind its walk; so a job of its own walks the whole folder
//! then, unless nothing differs.

use std::time::Duration;

use evenkeel::{
    ChangeSet, Error, JobContext, JobStatus, KeepJobs, Result, Runtime, Scope, Shutdown, Watch,
    WatchFilter, WatchValues,
};

use crate::Failure;
use crate::flow::{self, Sums};
use crate::index::{Index, Part};
use crate::progress::{self, Progress};
use crate::walk::{Differences, Folder};

/// How often it is looked whether a job has ended without having said so.
const LOOK: Duration = Duration::from_millis(20);
/// After so many looks that saw nothing it is asked whether the store takes anything.
const LOOKS: u32 = 50;
/// How long the end of a job may take to be durable.
const SYNC: Duration = Duration::from_secs(600);
/// So many runs are remembered.
const JOBS: usize = 10;

/// Brings the index of a folder up to date. All of it is durable when this returns. Gives
/// what it did.
pub(crate) fn run(index: &Index, folder: &Folder) -> std::result::Result<Sums, Failure> {
    let before = sums(index)?;
    let mut progress = Progress::new();
    let name = index.name();
    let filter = WatchFilter::keys(Scope::worker(&name), flow::TOTAL);
    let mut follow = Follow {
        index,
        watch: index.store.watch(filter.with_values(WatchValues::New))?,
        done: before.done,
    };
    let runtime = Runtime::builder(index.store.clone())
        .keep_jobs(KeepJobs::new().number(JOBS))
        .start()?;
    let left = runtime.list_jobs()?.into_iter();
    let left = left.filter(|job| job.flow_id() == name && !job.status().is_final());
    let left: Vec<_> = left.collect();
    runtime.register(flow::flow(index, folder, &progress)?)?;
    runtime.exec(&name)?;
    for job in &left {
        progress.begin(None);
        follow.job(job, &mut progress)?;
    }

    let mut differences = Differences::behind(index, folder, "")?;
    let count = |count, task: Result<_>| task.map(|_| count + 1);
    let to_do = differences.by_ref().try_fold(0, count)?;
    progress::say(&format!("to do: {to_do} of {} files", differences.listed));
    let unreadable = differences.unreadable;
    unreadable.iter().for_each(|text| progress.warn(text));
    let resumed = sums(index)?;
    if to_do > 0 {
        progress.begin(Some(to_do));
        let job = runtime.post(&name, flow::WALK, flow::IN, "")?;
        follow.job(&job, &mut progress)?;
    }
    runtime.shutdown(Shutdown::Drain)?;
    let after = sums(index)?;
    Ok(Sums {
        done: after.done - before.done,
        indexed: after.indexed - before.indexed,
        taken_back: after.taken_back - before.taken_back,
        // The walk of the whole folder has met them all.
        unreadable: unreadable.len() + after.unreadable - resumed.unreadable,
    })
}

/// What all runs did.
fn sums(index: &Index) -> Result<Sums> {
    let worker = index.store.scope(Scope::worker(index.name()));
    Ok(worker.get(flow::TOTAL)?.unwrap_or_default())
}

/// What is told on the way.
struct Follow<'i> {
    index: &'i Index,
    watch: Watch,
    done: usize,
}

impl Follow<'_> {
    /// Waits until a job has ended, and says how far it is.
    fn job(
        &mut self,
        job: &JobContext,
        progress: &mut Progress,
    ) -> std::result::Result<(), Failure> {
        let mut quiet = 0;
        while !job.status().is_final() {
            let told = self.watch.next_timeout(LOOK);
            quiet = match self.tell(told, progress)? {
                true => 0,
                false => quiet + 1,
            };
            if quiet == LOOKS {
                // What a full disk refuses, the runtime tries again and again; a commit of
                // our own, which changes nothing, is told why.
                self.index.part(Part::Totals).delete("none")?;
                quiet = 0;
            }
        }
        // Now all that it did is durable, and the watch has it.
        job.wait(SYNC)?;
        loop {
            let told = self.watch.try_next();
            if !self.tell(told, progress)? {
                break;
            }
        }
        progress.finish();
        match job.status() {
            JobStatus::Completed => Ok(()),
            _ => Err(Failure::Failed(job.error().unwrap_or_default())),
        }
    }

    /// False where nothing was told.
    fn tell(&mut self, told: Result<Option<ChangeSet>>, progress: &mut Progress) -> Result<bool> {
        let commit = match told {
            Ok(Some(commit)) => commit,
            Ok(None) => return Ok(false),
            // What comes behind what was missed says as much.
            Err(Error::Trimmed { .. } | Error::Lagged { .. }) => return Ok(true),
            Err(e) => return Err(e),
        };
        for change in commit.changes() {
            if let Some(Sums { done, .. }) = change.value()? {
                progress.advance(done.saturating_sub(self.done));
                self.done = done;
            }
        }
        Ok(true)
    }
}
