//! Owns following changes: what a watch is, waiting for its next item, and how it ends.
//!
//! What stays true: an item is a whole commit that is durable, or what of it the filter
//! lets through; items come in the order of commits, none twice, and none is missing
//! unless an error says so.

pub(super) mod changes;
pub(super) mod cursor;
pub(super) mod filter;
pub(super) mod stream;

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
use crate::codec::CodecLimits;
use crate::engine::feed::Step;
use crate::engine::tap::Tap;
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::state::store::Store;
use crate::state::watch::changes::ChangeSet;
use crate::state::watch::cursor::Idle;
use crate::state::watch::filter::{Rules, Start, WatchFilter};
use crate::state::watch::stream::WatchStream;

/// Follows the changes of a store: an iterator whose `next` waits. Made by
/// [`Store::watch`].
///
/// - **What is durable.** A commit that a crash could still take back is not delivered.
/// - **Whole transactions**, in the order of their commits, each once. Of a transaction
///   that wrote more than the filter lets through, the rest is left out; one of which
///   nothing is left is passed over.
/// - **From the log.** There is no second copy: what a watch has not read yet is where
///   it was written, so a slow watch costs a file that is open and holds nobody up. It
///   does not keep the log from being trimmed behind a snapshot either; where that
///   happens the next item is [`Error::Trimmed`].
/// - **In memory**, where there is no log, the newest commits are held while there are
///   watches, up to [`watch_bytes`](crate::Builder::watch_bytes) for all together. A
///   watch that is slower than that gets [`Error::Lagged`].
/// - **After these two errors it goes on.** What was missed is in any state that is read
///   from `scan_from` on; the next item is the first one behind it.
/// - **All other errors end the iterator**: [`Error::Closed`] once the store is closed,
///   [`Error::Poisoned`] once a write has failed and all that was durable is delivered.
/// - **It does not keep the store open**, unlike handles and scans: one that waits would
///   keep it open for ever. Closing the store, and dropping the last handle of it, wakes
///   those who wait.
///
/// ```
/// use evenkeel::{ChangeKind, Scope, Store, WatchFilter, WatchValues};
/// # let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path().join("state"))?;
/// let orders = WatchFilter::scope(Scope::workflow("order-42"));
/// let mut watch = store.watch(orders.with_values(WatchValues::New))?;
///
/// store.transact(|tx| {
///     let order = tx.scope(Scope::workflow("order-42"));
///     order.set("state", "paid")?;
///     order.delete("hold")?;
///     tx.global().increment("paid", 1)
/// })?;
///
/// let commit = watch.next().expect("it waits for one")?;
/// let changes = commit.changes();
/// assert_eq!(changes.len(), 2); // the global counter is not asked for
/// assert_eq!((changes[0].kind(), changes[0].key()), (ChangeKind::Delete, "hold"));
/// assert_eq!(changes[1].value::<String>()?.as_deref(), Some("paid"));
/// assert!(watch.try_next()?.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Watch {
    tap: Tap,
    rules: Rules,
    limits: CodecLimits,
    /// Where it began at one.
    cursor: Option<Idle>,
    /// Nothing more comes.
    ended: bool,
}

/// How far it came; not what it has read ahead.
impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("reached", &self.reached())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// What `store.watch(filter)` does.
pub(super) fn open(store: &Store, filter: WatchFilter) -> Result<Watch> {
    let shared = &store.shared;
    let (rules, start, values) = filter.into_parts()?;
    let values = values.into();
    let mut cursor = None;
    let tap = match start {
        Start::Now => shared.engine.tap(None, values)?,
        Start::Behind(lsn) => shared.engine.tap(Some(lsn), values)?,
        Start::Cursor(name) => {
            // Without a log it is noted from here on what comes behind a new cursor.
            let noting = shared.engine.tap(None, values)?;
            let at = cursor::place(store, &name)?;
            let tap = shared.engine.tap(Some(at), values)?;
            drop(noting);
            cursor = Some(Idle::new(name, at));
            tap
        }
    };
    Ok(Watch {
        tap,
        rules,
        limits: shared.settings.limits.codec(),
        cursor,
        ended: false,
    })
}

impl Watch {
    /// Everything that the filter lets through was delivered up to this LSN. It goes on
    /// with commits that are passed over, too.
    #[must_use]
    pub fn reached(&self) -> Lsn {
        self.tap.reached()
    }

    /// The next item, if there is one now.
    ///
    /// # Errors
    /// As the items of the iterator; see [`Watch`].
    pub fn try_next(&mut self) -> Result<Option<ChangeSet>> {
        loop {
            match self.step()? {
                Progress::Item(item) => return Ok(Some(item)),
                Progress::Passed => {}
                Progress::End => return Ok(None),
            }
        }
    }

    /// The next item; `None` where none comes within this time.
    ///
    /// # Errors
    /// As the items of the iterator; see [`Watch`].
    pub fn next_timeout(&mut self, longest: Duration) -> Result<Option<ChangeSet>> {
        self.next_until(Some(clock::deadline(longest)))
    }

    /// The same as a stream, for any executor.
    pub fn into_stream(self) -> WatchStream {
        WatchStream::new(self)
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<ChangeSet>> {
        loop {
            if let Some(item) = self.try_next()? {
                return Ok(Some(item));
            }
            if !self.tap.wait(deadline) {
                return Ok(None);
            }
        }
    }

    fn step(&mut self) -> Result<Progress> {
        let rules = &self.rules;
        let step = self.tap.step(&|scope, key| rules.want(scope, key));
        if let Some(cursor) = &mut self.cursor {
            match &step {
                Ok(Step::Commit(commit)) => cursor.delivered(commit.lsn),
                Ok(Step::Passed) => {}
                Ok(Step::End) => cursor.keep_up(&self.tap, &self.limits),
                // What was missed is the consumer's, as if it were delivered.
                Err(_) => cursor.delivered(self.tap.reached()),
            }
        }
        Ok(match step? {
            Step::Commit(commit) => {
                let store = self.tap.store();
                Progress::Item(ChangeSet::new(commit, store, self.limits)?)
            }
            Step::Passed => Progress::Passed,
            Step::End => Progress::End,
        })
    }

    /// Notes whether an error is the end.
    fn ends(&mut self, error: Error) -> Error {
        self.ended = !matches!(error, Error::Trimmed { .. } | Error::Lagged { .. });
        error
    }
}

/// What one step came to.
enum Progress {
    Item(ChangeSet),
    Passed,
    End,
}

impl Iterator for Watch {
    type Item = Result<ChangeSet>;

    /// Waits for the next item; `None` only behind an error that ended it.
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        match self.next_until(None) {
            Ok(item) => item.map(Ok),
            Err(e) => Some(Err(self.ends(e))),
        }
    }
}
