//! A crash test of a program with a planted bug: money moves between two accounts in
//! two commits, where it should be one. The test finds it, says in which steps, and
//! passes the program once it is mended.
//!
//! ```text
//! cargo run --release --features testing --example crash_test
//! ```
//! Ends with 0 if the bug was found and the mended program passed.

#![expect(clippy::print_stdout, reason = "the example's purpose")]

use std::error::Error;
use std::process::ExitCode;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{Scope, Store};

/// What both accounts hold together.
const ALL: i64 = 100;

fn accounts() -> Scope {
    Scope::custom("accounts")
}

/// Moves money from one account to the other.
type Transfer = fn(&Store, i64) -> evenkeel::Result<()>;

/// The bug: a crash between the two commits loses the money.
fn in_two_commits(store: &Store, amount: i64) -> evenkeel::Result<()> {
    let accounts = store.scope(accounts());
    accounts.increment("alice", -amount)?;
    accounts.increment("bob", amount)?;
    Ok(())
}

fn in_one_transaction(store: &Store, amount: i64) -> evenkeel::Result<()> {
    store.transact(|tx| {
        let accounts = tx.scope(accounts());
        accounts.increment("alice", -amount)?;
        accounts.increment("bob", amount)?;
        Ok(())
    })
}

/// The program under test: it opens its accounts once, and then moves money.
fn program(run: &CrashRun<'_>, transfer: Transfer) -> Result<(), Box<dyn Error>> {
    let store = run.store()?;
    store.transact(|tx| {
        tx.scope(accounts()).set("alice", ALL)?;
        tx.scope(accounts()).set("bob", 0)
    })?;
    run.witness("opened", true);
    for round in 1..=5_i64 {
        transfer(&store, round)?;
        run.witness("moved", round * (round + 1) / 2);
    }
    Ok(())
}

fn no_money_is_lost(found: &AfterCrash<'_>) -> Result<(), Box<dyn Error>> {
    let accounts = found.store().scope(accounts());
    let (alice, bob) = (accounts.get::<i64>("alice")?, accounts.get::<i64>("bob")?);
    match (alice, bob) {
        (None, None) if found.witnessed("opened").is_none() => Ok(()),
        (Some(alice), Some(bob)) if alice + bob == ALL => Ok(()),
        _ => Err(format!("alice has {alice:?} and bob {bob:?}, of {ALL}").into()),
    }
}

fn what_was_acknowledged_is_there(found: &AfterCrash<'_>) -> Result<(), Box<dyn Error>> {
    let moved = found.store().scope(accounts()).get::<i64>("bob")?;
    let least = found.witnessed("moved").and_then(|value| value.as_i64());
    match moved >= least {
        true => Ok(()),
        false => Err(format!("bob has {moved:?}, at least {least:?} was acknowledged").into()),
    }
}

fn test(name: &str, transfer: Transfer) -> CrashTest<'static> {
    CrashTest::new(name, move |run| program(run, transfer))
        .invariant("no money is lost", no_money_is_lost)
        .invariant(
            "what was acknowledged is there",
            what_was_acknowledged_is_there,
        )
}

fn main() -> ExitCode {
    match test("two commits", in_two_commits).run() {
        Ok(certificate) => {
            println!("the planted bug was not found:\n{certificate}");
            return ExitCode::FAILURE;
        }
        Err(violation) => println!("the planted bug was found:\n{violation}\n"),
    }
    match test("one transaction", in_one_transaction).run() {
        Ok(certificate) => {
            println!("and mended:\n{certificate}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("the mended program fails:\n{violation}");
            ExitCode::FAILURE
        }
    }
}
