//! A consumer that counts through a durable cursor, crashed at every call: whatever is
//! left, it goes on from there and counts each change once.

use std::error::Error as AnyError;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{Error, Result, Scope, Store, WatchFilter, WatchValues};

type Outcome = std::result::Result<(), Box<dyn AnyError>>;

fn items() -> Scope {
    Scope::custom("items")
}

fn produce(store: &Store, n: u64) -> Result<()> {
    store.transact(|tx| {
        tx.scope(items()).set(format!("{n}"), n)?;
        tx.global().increment("made", n as i64)?;
        Ok(())
    })
}

/// Adds up all items that it has not added yet. Where the log was trimmed it begins
/// with what is there.
fn consume(store: &Store) -> Result<()> {
    let cursor = store.cursor("sum");
    let filter = WatchFilter::scope(items()).with_values(WatchValues::New);
    let mut watch = store.watch(filter.clone().from_cursor("sum"))?;
    loop {
        match watch.try_next() {
            Ok(None) => return Ok(()),
            Ok(Some(set)) => store.transact(|tx| {
                for change in set.changes() {
                    let item: i64 = change.value()?.unwrap_or_default();
                    tx.global().increment("sum", item)?;
                }
                cursor.advance(tx, &set)
            })?,
            Err(Error::Trimmed { .. }) => {
                let lsn = store.transact(|tx| {
                    let mut sum = 0_i64;
                    for item in tx.scope(items()).scan("")? {
                        sum += item?.value::<i64>()?;
                    }
                    tx.global().set("sum", sum)?;
                    tx.advance_cursor("sum", tx.lsn())?;
                    Ok(tx.lsn())
                })?;
                watch = store.watch(filter.clone().from(lsn))?;
            }
            Err(e) => return Err(e),
        }
    }
}

fn program(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    consume(&store)?;
    for n in 1..=12 {
        produce(&store, n)?;
        if n % 3 == 0 {
            consume(&store)?;
        }
        if n == 7 {
            // What it has not seen yet is behind the snapshot now.
            store.snapshot()?;
        }
    }
    // What others do moves the cursor, when a checkpoint was written and nothing is left.
    store.global().set("noise", 1)?;
    consume(&store)?;
    store.checkpoint()?;
    consume(&store)?;
    let moved = store.cursor("sum").position()?;
    assert!(moved >= Some(store.stats()?.image_lsn), "it keeps up");
    drop(store);
    let store = run.reopen()?;
    produce(&store, 13)?;
    consume(&store)?;
    Ok(())
}

/// What was added up is what the cursor has passed, and the rest comes from there.
fn exact(found: &AfterCrash<'_>) -> Outcome {
    let store = found.store();
    let figure = |key| Ok::<i64, Error>(store.global().get(key)?.unwrap_or(0));
    let Some(cursor) = store.cursor("sum").position()? else {
        // Nothing is made before the cursor is.
        assert_eq!((figure("made")?, figure("sum")?), (0, 0));
        return Ok(());
    };
    let mut passed = 0;
    for item in store.scope(items()).scan("")? {
        let item = item?;
        if item.version().get() <= cursor.get() {
            passed += item.value::<i64>()?;
        }
    }
    assert_eq!(figure("sum")?, passed, "the cursor is at {cursor}");
    let filter = WatchFilter::scope(items()).with_values(WatchValues::New);
    let mut watch = store.watch(filter.from(cursor))?;
    let mut rest = 0;
    loop {
        match watch.try_next() {
            Ok(None) => break,
            Ok(Some(set)) => rest += set.changes()[0].value::<i64>()?.unwrap_or_default(),
            // Then it begins with what is there.
            Err(Error::Trimmed { .. }) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
    assert_eq!(figure("made")?, passed + rest, "what comes behind {cursor}");
    Ok(())
}

#[test]
fn a_consumer_that_counts_through_a_cursor_is_exact_after_any_crash() {
    let test = CrashTest::new("consumer", program).invariant("each item was added once", exact);
    let certificate = test.run().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{certificate}");
}

#[test]
fn one_that_moves_its_cursor_in_a_commit_of_its_own_is_found() {
    let hasty = |run: &CrashRun<'_>| -> Outcome {
        let store = run.store()?;
        let mut watch = store.watch(WatchFilter::scope(items()).from_cursor("sum"))?;
        for n in 1..=3 {
            produce(&store, n)?;
            while let Some(set) = watch.try_next()? {
                store.global().increment("sum", n as i64)?;
                store.transact(|tx| store.cursor("sum").advance(tx, &set))?;
            }
        }
        Ok(())
    };
    let test = CrashTest::new("hasty", hasty).invariant("each item was added once", exact);
    let found = test.run().expect_err("it adds twice");
    assert!(found.what.contains("added once"), "{found}");
}
