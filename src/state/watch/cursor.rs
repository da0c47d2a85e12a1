//! Owns durable cursors: how far consumers have come. A cursor is a key in a scope of
//! the store's own, whose value is an LSN, so it is committed with what its consumer
//! writes.

use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::store::Store;
use crate::state::transaction::Transaction;
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
