//! Owns reading many files in parallel. What is done with a file's content is the
//! caller's: a run commits it, a check compares it.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use evenkeel::Result;

use crate::content::{Content, Reader};
use crate::walk::Found;

/// How far the workers may be ahead of who takes their results.
const RESULTS_WAITING_MAX: usize = 1024;

/// One file that has to be looked at.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) key: String,
    /// `None` for one that is not there any more.
    pub(crate) found: Option<Found>,
}

/// Reads the files of all tasks on as many threads as there are cores. What is read
/// goes through `apply` on the thread that read it, and what that returns to `take`
/// on this one. The first error ends it all.
pub(crate) fn in_parallel<R: Send>(
    tasks: &[Task],
    apply: impl Fn(&str, Content) -> Result<R> + Sync,
    take: impl FnOnce(Receiver<R>) -> Result<()>,
) -> Result<()> {
    let threads = thread::available_parallelism().map_or(2, NonZero::get);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(RESULTS_WAITING_MAX);
    let work = |sender: SyncSender<R>| -> Result<()> {
        let mut reader = Reader::new();
        while !stop.load(Ordering::Relaxed)
            && let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let content = task.found.as_ref().map(|found| reader.read(&found.path));
            let result = apply(&task.key, content.unwrap_or(Content::Gone));
            let result = result.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
            if sender.send(result).is_err() {
                break;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(tasks.len()))
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(|| work(sender))
            })
            .collect();
        drop(sender);
        let taken = take(receiver);
        for worker in workers {
            // A panic goes on where everybody sees it.
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        taken
    })
}
