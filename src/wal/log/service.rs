//! Owns syncing for those who do not lead themselves: tasks that await a commit, and
//! commits that are to be durable within a time.

use std::task::{Context, Poll};
use std::time::Duration;

use super::{Log, Progress, Seat};
use crate::clock;
use crate::error::Result;
use crate::ids::Lsn;
use crate::sync::atomic::{Ordering, fence};

impl Log {
    /// The outcome of [`Log::sync`] for a task: ready, or the task is woken later.
    /// Somebody has to call [`Log::serve`].
    pub(crate) fn poll_sync(
        &self,
        lsn: Lsn,
        seat: &mut Seat,
        context: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        if self.durable() >= lsn {
            return Poll::Ready(Ok(()));
        }
        let mut progress = self.progress.lock();
        if progress.durable >= lsn {
            return Poll::Ready(Ok(()));
        }
        if let Err(e) = progress.check() {
            return Poll::Ready(Err(e));
        }
        let before = progress.wakers.wait(seat, lsn, context.waker());
        self.request(&mut progress, Duration::ZERO);
        drop(progress);
        drop(before);
        Poll::Pending
    }

    /// Forgets who asked by [`Log::poll_sync`] or [`Log::poll_behind`], and is gone.
    pub(crate) fn leave(&self, seat: &mut Seat) {
        if !seat.is_free() {
            let left = self.progress.lock().wakers.leave(seat);
            drop(left);
        }
    }

    /// Asks whoever serves the log to sync within this time.
    pub(crate) fn sync_within(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX - 1);
        fence(Ordering::SeqCst);
        // Asked for in as short a time already: the common case in a stream of commits.
        if self.asked_micros.load(Ordering::Relaxed) <= micros {
            return;
        }
        let mut progress = self.progress.lock();
        if progress.durable < self.last() {
            self.asked_micros.store(micros, Ordering::Relaxed);
            self.request(&mut progress, duration);
        }
    }

    fn request(&self, progress: &mut Progress, within: Duration) {
        let due = clock::deadline(within);
        if progress.sync_due.is_none_or(|earlier| due < earlier) {
            progress.sync_due = Some(due);
            self.requested.notify_all();
        }
    }

    /// Syncs what was asked for by [`Log::sync_within`], if its time has come.
    pub(crate) fn sync_if_due(&self) -> Result<()> {
        let due = self.progress.lock().sync_due;
        match due.is_some_and(|due| due <= clock::monotonic()) {
            true => self.sync(self.last()),
            false => Ok(()),
        }
    }

    /// Serves requests to sync until [`Log::stop_serving`], and writes what has gathered; between
    /// bursts it makes the mark durable. To be run by a thread of its own.
    pub(crate) fn serve(&self, idle_after: Duration) {
        // What the mark on disk is known to say. It is not told by whether anything was
        // synced while this thread waited: it may have been busy just then.
        let mut mark_synced = Lsn::ZERO;
        loop {
            let mut progress = self.progress.lock();
            if progress.stopping || progress.poison.is_some() {
                return;
            }
            if std::mem::take(&mut progress.prepare) {
                drop(progress);
                // A full disk shows when the space is really needed.
                let _ = self.prepare_next();
                continue;
            }
            if std::mem::take(&mut progress.write) {
                drop(progress);
                // A failure poisons the log, which ends this loop.
                let _ = self.write(self.last());
                continue;
            }
            let due = progress.sync_due;
            match due {
                Some(due) if due <= clock::monotonic() => {
                    progress.sync_due = None;
                    self.asked_micros.store(u64::MAX, Ordering::Relaxed);
                    fence(Ordering::SeqCst);
                    drop(progress);
                    // A failure poisons the log, which ends this loop.
                    let _ = self.sync(self.last());
                }
                Some(due) => {
                    self.requested.wait_until(&mut progress, due);
                }
                None => {
                    let before = progress.durable;
                    let timed_out = self
                        .requested
                        .wait_for(&mut progress, idle_after)
                        .timed_out();
                    let idle = timed_out && progress.durable == before;
                    drop(progress);
                    if idle && mark_synced != before {
                        // Best effort: the mark only narrows what a power cut
                        // leaves open, and the next sync reports a dead disk.
                        let _ = self.disk.lock().mark.sync();
                        mark_synced = before;
                    }
                }
            }
        }
    }

    /// Ends [`Log::serve`].
    pub(crate) fn stop_serving(&self) {
        self.progress.lock().stopping = true;
        self.requested.notify_all();
    }
}
