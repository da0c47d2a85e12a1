//! Counts what changes, exactly once, however often it is killed.
//!
//! `cargo run --example follow -- <folder of a store> <orders to make>` makes orders on
//! one thread and adds them up on another, which follows them through a durable cursor:
//! the sum and the cursor are one commit. Kill it at any moment and run it again.

use std::io::Write;
use std::process::ExitCode;
use std::thread;

use evenkeel::{ChangeSet, Result, Scope, Store, Transaction, WatchFilter, WatchValues};

const CURSOR: &str = "sum of orders";

fn orders() -> Scope {
    Scope::custom("orders")
}

/// Makes an order of a value that is drawn from its number.
fn order(store: &Store) -> Result<i64> {
    store.transact(|tx| {
        let number = tx.global().increment("made", 1)?;
        let value = number * 7919 % 1000;
        tx.global().increment("value", value)?;
        tx.scope(orders()).set(format!("{number}"), value)?;
        Ok(number)
    })
}

/// What one commit means for the sum.
fn add(tx: &Transaction, commit: &ChangeSet) -> Result<()> {
    for change in commit.changes() {
        tx.global().increment("seen", 1)?;
        let value: i64 = change.value()?.unwrap_or_default();
        tx.global().increment("sum", value)?;
    }
    Ok(())
}

/// Says something, in one piece and at once.
fn say(text: &str) {
    let line = format!("{text}\n");
    // Nobody may be listening any more.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn run(path: &str, count: u64) -> Result<()> {
    let store = Store::open(path)?;
    let filter = WatchFilter::scope(orders()).with_values(WatchValues::New);
    let mut watch = store.watch(filter.from_cursor(CURSOR))?;
    let cursor = store.cursor(CURSOR);
    say("following");
    thread::scope(|threads| {
        let making = threads.spawn(|| {
            for _ in 0..count {
                say(&format!("made {}", order(&store)?));
            }
            store.global().get::<u64>("made")
        });
        let mut seen: u64 = store.global().get("seen")?.unwrap_or(0);
        let mut made = None;
        loop {
            if made.is_none() && making.is_finished() {
                made = store.global().get::<u64>("made")?;
            }
            // All that is made is durable, so it comes without waiting.
            let next = match made {
                Some(made) if seen >= made => break,
                Some(_) => watch.next().transpose()?,
                None => watch.try_next()?,
            };
            let Some(commit) = next else {
                if count == 0 {
                    break;
                }
                thread::yield_now();
                continue;
            };
            store.transact(|tx| {
                add(tx, &commit)?;
                cursor.advance(tx, &commit)
            })?;
            seen += commit.changes().len() as u64;
            say(&format!("seen {seen}"));
        }
        match making.join() {
            Ok(made) => made.map(drop),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let sum: Option<i64> = store.global().get("sum")?;
    say(&format!("sum {}", sum.unwrap_or(0)));
    store.close()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let count = |text: String| text.parse().ok();
    let (Some(path), Some(orders)) = (arguments.next(), arguments.next().and_then(count)) else {
        say("usage: follow <folder of a store> <orders to make>");
        return ExitCode::from(2);
    };
    match run(&path, orders) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say(&format!("error: {e}"));
            ExitCode::FAILURE
        }
    }
}
