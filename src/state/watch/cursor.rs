//! Owns durable cursors: how far consumers have come. A cursor is a key in a scope of
//! the store's own, whose value is an LSN, so it is committed with what its consumer
//! writes.

use std::sync::Arc;

use crate::codec::CodecLimits;
use crate::engine::tap::Tap;
use crate::engine::{Batch, Engine, Op, SlotBatch};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::store::{MEMORY_WITHIN, Store};
use crate::state::transaction::{self, Transaction};
use crate::state::watch::changes::ChangeSet;

const CURSORS: &str = "cursors";

/// How far a consumer has come, durably. Made by [`Store::cursor`].
///
/// A consumer that moves its cursor in the transaction that writes what it makes of the
/// changes sees each change exactly once, as far as this store's state goes: killed at
/// any moment it begins again where its cursor stands, and what it had written is what
/// came before that.
///
/// ```
/// use evenkeel::{Error, Scope, Store, WatchFilter};
/// # let folder = tempfile::tempdir()?;
/// let store = Store::open(folder.path().join("state"))?;
/// let orders = || WatchFilter::scope(Scope::custom("orders")).from_cursor("count");
/// let mut watch = store.watch(orders())?; // the cursor is made, and stands at now
/// store.scope(Scope::custom("orders")).set("42", "new")?;
///
/// let cursor = store.cursor("count");
/// while let Some(commit) = watch.try_next()? {
///     store.transact(|tx| {
///         tx.global().increment("orders", commit.changes().len() as i64)?;
///         cursor.advance(tx, &commit)
///     })?;
///     // Again: somebody else did it, or this consumer before it was restarted.
///     let again = store.transact(|tx| cursor.advance(tx, &commit));
///     assert!(matches!(again, Err(Error::CursorPassed { .. })));
/// }
/// assert_eq!(store.global().get::<i64>("orders")?, Some(1));
/// assert!(store.watch(orders())?.try_next()?.is_none()); // seen already
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Where little of what happens is wanted
///
/// A cursor that stands still while others write would fall behind the log, which is
/// trimmed behind snapshots. So a [`Watch`](crate::Watch) that began at a cursor moves it
/// over commits that its filter does not want: when it is asked for an item, finds none,
/// and a checkpoint was written since, and only while the cursor stands at all that this
/// watch has delivered. That is a small commit for each checkpoint, and it is not waited
/// for. So a cursor is of one filter: consumers that want other things have others.
///
/// While nobody watches nobody looks: a consumer that was away while the log was trimmed
/// gets [`Error::Trimmed`] even if nothing of what was trimmed concerned it. Nothing is
/// left that could say so; a key that was deleted leaves no trace. It reads the state, and
/// goes on from there.
#[derive(Clone, Debug)]
pub struct Cursor {
    store: Store,
    name: String,
}

impl Cursor {
    pub(in crate::state) fn new(store: &Store, name: String) -> Self {
        let store = store.clone();
        Self { store, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands; `None` where it is not there.
    ///
    /// # Errors
    /// As [`crate::ScopeHandle::get`].
    pub fn position(&self) -> Result<Option<Lsn>> {
        let found: Option<u64> = self.store.scope(cursors()).get(&self.name)?;
        Ok(found.map(Lsn::new))
    }

    /// Moves it on to what a watch of the same store delivered, with all else that the
    /// transaction does. See [`Transaction::advance_cursor`].
    ///
    /// # Errors
    /// As there; [`Error::Invalid`] too where transaction, changes and cursor are not of
    /// one store.
    pub fn advance(&self, transaction: &Transaction, changes: &ChangeSet) -> Result<()> {
        let (mine, theirs) = (
            self.store.shared.engine.store,
            transaction.shared.engine.store,
        );
        if mine != theirs || mine != changes.store_id() {
            return Err(Error::Invalid {
                what: "cursor",
                reason: format!(
                    "it is of store {mine}, the transaction of store {theirs}, the changes of store {}",
                    changes.store_id()
                ),
            });
        }
        advance(transaction, &self.name, changes.lsn())
    }

    /// Removes it. Does nothing where it is not there.
    ///
    /// # Errors
    /// As [`crate::ScopeHandle::delete`].
    pub fn remove(&self) -> Result<()> {
        self.store.scope(cursors()).delete(&self.name)
    }
}

/// What a watch knows of the cursor that it began at, to move it over what nobody wants.
pub(super) struct Idle {
    name: String,
    /// A consumer whose cursor stands here has done all that was delivered.
    delivered: Lsn,
    /// It was moved, or far enough, when the image was here.
    image: Lsn,
}

impl Idle {
    pub(super) fn new(name: String, at: Lsn) -> Self {
        Self {
            name,
            delivered: at,
            image: Lsn::ZERO,
        }
    }

    pub(super) fn delivered(&mut self, lsn: Lsn) {
        self.delivered = lsn;
    }

    /// Moves the cursor to where the watch is. What is behind the image may be trimmed
    /// soon, so it is time when that went on. At worst it is not moved, and its consumer
    /// is told that the log was trimmed: so nobody hears of what goes wrong here, and
    /// nothing is waited for.
    pub(super) fn keep_up(&mut self, tap: &Tap, limits: &CodecLimits) {
        let engine = tap.engine();
        let image = engine.image_lsn();
        let may = engine.has_room() && transaction::refuse_nested(engine).is_ok();
        if image > self.image
            && may
            && let Ok(true) = self.move_to(tap.reached(), engine, limits)
        {
            self.image = image;
        }
    }

    /// False where the consumer has not done everything yet.
    fn move_to(&self, to: Lsn, engine: &Arc<Engine>, limits: &CodecLimits) -> Result<bool> {
        let (slot, key) = (engine.slot(&cursors().encode()), self.name.as_bytes());
        let (name, limits) = (self.name.clone(), *limits);
        let position = move |cell: &[u8]| {
            let position = cell::decode::<u64>(cell, &limits, (&cursors(), &name));
            position.map(Lsn::new)
        };
        let Some((_, cell)) = engine.read(&slot, key)? else {
            return Ok(false);
        };
        let (at, delivered) = (position(&cell)?, self.delivered);
        if at < delivered || at >= to {
            return Ok(at >= delivered);
        }
        let moved = cell::encode(&to.get(), None, &limits)?;
        // It may have been moved, or removed, meanwhile; then it stays as it is.
        let modify = move |old: Option<(Lsn, &[u8])>| {
            let Some((_, old)) = old else { return Ok(None) };
            let stays = !(delivered..to).contains(&position(old)?);
            Ok(Some(if stays {
                Arc::from(old)
            } else {
                Arc::clone(&moved)
            }))
        };
        let writes = SlotBatch::of(slot, [(key, Op::Modify(Box::new(modify)))]);
        engine.commit(&Batch::of([writes]))?;
        engine.sync_within(MEMORY_WITHIN)?;
        Ok(true)
    }
}

fn cursors() -> Scope {
    Scope::system(CURSORS)
}

/// What `transaction.advance_cursor(name, lsn)` does.
pub(in crate::state) fn advance(transaction: &Transaction, name: &str, lsn: Lsn) -> Result<()> {
    let visible = transaction.shared.engine.visible();
    if lsn > visible {
        return Err(Error::Invalid {
            what: "LSN",
            reason: format!("{lsn} was never given by this store, whose last one is {visible}"),
        });
    }
    let cursors = transaction.scope(cursors());
    if let Some(at) = cursors.get::<u64>(name)?.map(Lsn::new)
        && at >= lsn
    {
        return Err(Error::CursorPassed {
            name: name.to_owned(),
            at,
            to: lsn,
        });
    }
    cursors.set(name, lsn.get())
}

/// Where a cursor stands; one that is not there is made.
pub(super) fn place(store: &Store, name: &str) -> Result<Lsn> {
    if let Some(at) = store.cursor(name).position()? {
        return Ok(at);
    }
    store.transact(|tx| match tx.scope(cursors()).get::<u64>(name)? {
        Some(at) => Ok(Lsn::new(at)),
        None => advance(tx, name, tx.lsn()).map(|()| tx.lsn()),
    })
}

/// What `store.cursors()` does.
pub(in crate::state) fn list(store: &Store) -> Result<Vec<(String, Lsn)>> {
    let entries = store.scope(cursors()).scan("")?;
    let read = entries.map(|entry| {
        let entry = entry?;
        Ok((entry.key().to_owned(), Lsn::new(entry.value()?)))
    });
    read.collect()
}
