//! Owns writing a record: one commit, whatever stood under its number before.

use evenkeel::{Error, Result, Store, Transaction, TransactionScope, Value, Version};

use super::lists::LISTS;
use super::record::{self, COUNT, Head, LAST, LAYOUT, MARK, SUM, Shape};

/// Makes an empty store ours, or sees that it is.
///
/// # Errors
/// [`Error::Aborted`] where it is a store of something else; those of the store.
pub(super) fn claim(store: &Store) -> Result<()> {
    let found = store.global().get::<Value>(MARK)?;
    match found {
        Some(layout) if layout == Value::from(LAYOUT) => Ok(()),
        Some(layout) => Err(Error::abort(format!(
            "the store was written by another version of `crash write`: layout {layout}, this one writes {LAYOUT}"
        ))),
        None if store.scopes()?.is_empty() => store.global().set(MARK, LAYOUT),
        None => Err(Error::abort(
            "the store is not one of `crash write`: it has keys, and lacks its mark",
        )),
    }
}

/// Commits a record; durable when it returns.
///
/// # Errors
/// Those of the store; nothing of the record counts as written then.
pub(super) fn commit(store: &Store, head: &Head) -> Result<()> {
    let records = store.scope(record::records());
    let found = records.get_versioned::<Value>(record::key(head.number))?;
    let version = found.as_ref().map_or(Version::ZERO, |found| found.version);
    let was = found.map(|found| shape(head, &found.value)).transpose()?;
    if head.shape == Shape::Transaction || was == Some(Shape::Transaction) {
        return store.transact(|tx| write(tx, head));
    }
    let key = record::key(head.number);
    // Every way to write a single key.
    match head.number % 4 {
        0 => records
            .compare_and_set(key, version, head.value())
            .map(drop),
        1 => records.merge(key, head.value()),
        2 => records
            .update(key, |_: Option<Value>| head.value())
            .map(drop),
        _ => records.set(key, head.value()),
    }
}

fn shape(head: &Head, found: &Value) -> Result<Shape> {
    let unknown = || Error::abort(format!("what is stored as record {} is none", head.number));
    record::shape(found).ok_or_else(unknown)
}

/// Writes a record and takes back what it was before.
fn write(tx: &Transaction, head: &Head) -> Result<()> {
    let records = tx.scope(record::records());
    let key = record::key(head.number);
    let was = records.get::<Value>(&key)?;
    let was = was.map(|found| shape(head, &found)).transpose()?;
    records.set(&key, head.value())?;
    let index = tx.scope(record::index());
    let now = head.shape == Shape::Transaction;
    for part in head.all_parts() {
        let scope = tx.scope(part.scope);
        match now {
            true => scope.set(part.key, part.value)?,
            false => scope.delete(part.key)?,
        }
    }
    match now {
        true => index.set(head.index_key(), head.number)?,
        false => index.delete(head.index_key())?,
    }
    let more = i64::from(now) - i64::from(was == Some(Shape::Transaction));
    count(
        &tx.scope(record::worker(record::worker_of(head.number))),
        head,
        more,
    )?;
    count(&tx.global(), head, more)?;
    if now {
        LISTS.iter().try_for_each(|list| list.push(tx, head))?;
    }
    Ok(())
}

/// Counts a record in, or out.
fn count(scope: &TransactionScope<'_>, head: &Head, more: i64) -> Result<()> {
    scope.increment(COUNT, more)?;
    scope.update(SUM, |sum: Option<i64>| {
        sum.unwrap_or(0)
            .wrapping_add(head.digest().wrapping_mul(more))
    })?;
    scope.set(LAST, record::stamp(head.number, head.run))
}
