//! Owns the handle of a commit that is visible and may not be durable yet.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::Engine;
use crate::error::Result;
use crate::ids::Lsn;
use crate::wal::Seat;

/// A commit that can be seen, and can be waited for.
///
/// Dropping it undoes nothing: the commit becomes durable in its turn. Of several tasks
/// that await it each has a clone of its own.
///
/// ```
/// use evenkeel::Store;
/// let store = Store::in_memory();
/// let (previous, commit) = store.submit(|tx| {
///     let a = tx.global();
///     let previous: Option<i64> = a.get("a")?;
///     a.set("a", 1)?;
///     Ok(previous)
/// })?;
/// assert_eq!(previous, None);
/// commit.wait()?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a commit is durable only once it was waited for"]
pub struct Commit {
    pub(super) engine: Arc<Engine>,
    pub(super) lsn: Lsn,
    /// Where the task that awaits it is to be found, as long as there is one.
    pub(super) seat: Seat,
}

impl Commit {
    /// Its place in the order of all commits; for one that wrote nothing, the LSN
    /// of what it read.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// True where it is durable already.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.engine.durable() >= self.lsn
    }

    /// Returns once the commit and all before it are durable. In a store without a
    /// folder, at once.
    ///
    /// # Errors
    /// [`crate::Error::Poisoned`] where a write or sync failed first: then it may or may
    /// not be there after reopening.
    pub fn wait(&self) -> Result<()> {
        self.engine.sync(self.lsn)
    }
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { engine, lsn, seat } = self.get_mut();
        engine.poll_sync(*lsn, seat, context)
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.engine.leave(&mut self.seat);
    }
}
