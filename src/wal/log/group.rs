//! Owns group commit: who leads, who waits, and who is woken.
//!
//! Whoever needs its frame on disk while nobody leads takes the lead, and writes and syncs
//! for all that has gathered. There is no thread to hand over to, so a lone writer pays
//! for one sync and nothing else. Whoever comes meanwhile waits: the leader wakes those
//! whose frames it brought where they have to be, and one of the others, who is then
//! likely to lead. The rest sleeps on, so a group costs as many wake-ups as it has commits,
//! however many threads there are.
//!
//! What stays true: whoever waits is among `Progress::threads`, and while anybody is, one
//! thread leads or was woken to.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::Log;
use super::wakers::{Seat, Wakers};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::observe;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::thread::{self, Thread};

/// How far the log got, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    leading: bool,
    written: Lsn,
    pub(super) durable: Lsn,
    pub(super) poison: Option<String>,
    /// The tasks that wait for something to be durable.
    pub(super) wakers: Wakers,
    /// The threads that wait, one by one, by what for.
    threads: [Wakers; 2],
    pub(super) sync_due: Option<Instant>,
    /// The current segment is half full and there is no next one.
    pub(super) prepare: bool,
    /// So much is pending that it is better written than gathered further.
    pub(super) write: bool,
    pub(super) stopping: bool,
}

/// How far a frame has to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Written,
    Durable,
}

/// A thread that waits.
struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Log {
    pub(super) fn reach(&self, lsn: Lsn, need: Need) -> Result<()> {
        let mut seat = Seat::default();
        let mut waker = None;
        let mut progress = self.progress.lock();
        loop {
            if progress.of(need) >= lsn {
                return Ok(());
            }
            progress.check()?;
            if progress.leading {
                let waker = waker.get_or_insert_with(|| {
                    let waiting = Waiting(thread::current());
                    Waker::from(Arc::new(waiting))
                });
                let before = progress.waiting(need).wait(&mut seat, lsn, waker);
                drop(progress);
                drop(before);
                thread::park();
                if need == Need::Durable && self.durable() >= lsn {
                    return Ok(());
                }
                progress = self.progress.lock();
                continue;
            }
            progress.leading = true;
            let left = progress.waiting(need).leave(&mut seat);
            drop(progress);
            drop(left);
            let led = self.lead(need);
            if let Err(e) = &led {
                observe::poisoned(&self.folder, self.durable(), &e.to_string());
            }
            progress = self.progress.lock();
            progress.leading = false;
            let woken = match led {
                Ok((written, durable)) => self.advance(&mut progress, written, durable),
                Err(e) => self.stop(&mut progress, &e),
            };
            self.changed.notify_all();
            if !woken.is_empty() {
                // A waker may run its task at once, and that may ask the log again.
                drop(progress);
                woken.into_iter().for_each(Waker::wake);
                progress = self.progress.lock();
            }
        }
    }

    /// After a failed write or sync nothing is acknowledged any more.
    fn stop(&self, progress: &mut Progress, error: &Error) -> Vec<Waker> {
        progress.poison.get_or_insert_with(|| error.to_string());
        self.poisoned.store(true, Ordering::Release);
        self.requested.notify_all();
        let threads = progress.threads.iter_mut().flat_map(Wakers::all);
        let mut woken: Vec<Waker> = threads.collect();
        woken.extend(progress.wakers.all());
        woken
    }

    /// Notes how far the log got; gives who is to be woken, whoever may lead next first.
    fn advance(&self, progress: &mut Progress, written: Lsn, durable: Option<Lsn>) -> Vec<Waker> {
        let written = progress.written.max(written);
        progress.written = written;
        let written = progress.waiting(Need::Written).reached(written);
        let Some(durable) = durable else {
            return progress.next_leader().into_iter().chain(written).collect();
        };
        progress.durable = progress.durable.max(durable);
        self.durable
            .store(progress.durable.get(), Ordering::Release);
        if progress.durable >= self.last() {
            self.asked_micros.store(u64::MAX, Ordering::Relaxed);
            // Pairs with the fence in `sync_within`: whoever still saw the shorter
            // time had appended before it, and is seen here.
            fence(Ordering::SeqCst);
            if progress.durable >= self.last() {
                progress.sync_due = None;
            }
        }
        let reached = progress.durable;
        let threads = progress.waiting(Need::Durable).reached(reached);
        let tasks = progress.wakers.reached(reached);
        let leader = progress.next_leader().into_iter();
        leader.chain(written).chain(threads).chain(tasks).collect()
    }
}

impl Progress {
    /// Everything up to this LSN got there.
    pub(super) fn at(lsn: Lsn) -> Self {
        Self {
            written: lsn,
            durable: lsn,
            ..Self::default()
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        match &self.poison {
            Some(reason) => Err(Error::Poisoned {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    fn of(&self, need: Need) -> Lsn {
        match need {
            Need::Written => self.written,
            Need::Durable => self.durable,
        }
    }

    fn waiting(&mut self, need: Need) -> &mut Wakers {
        let [written, durable] = &mut self.threads;
        match need {
            Need::Written => written,
            Need::Durable => durable,
        }
    }

    /// A thread that still waits. It stays in its place: if somebody else has the lead by the
    /// time that it runs, it waits on.
    fn next_leader(&self) -> Option<Waker> {
        let mut waiting = self.threads.iter().rev();
        waiting.find_map(Wakers::first)
    }
}
