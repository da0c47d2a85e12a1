//! Three versions of one program over one folder, run one after the other.
//!
//! ```text
//! cargo run --example migrate             # in a folder that is removed behind it
//! cargo run --example migrate -- <folder> # in one that is not there yet, and stays
//! ```
//! Version 1 writes. Version 2 migrates when it opens the store. Version 3 rehearses first,
//! which finds a bug before that costs a cent; mended, it migrates by command. Then the
//! state is taken back, and version 1 goes on as if nothing had been.

#![expect(clippy::print_stdout, reason = "the example's purpose")]

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use evenkeel::{Result, Scope, ScopeKind, ScopeSet, Store};

/// Version 1: customers have a name, and a balance in euros.
mod v1 {
    use super::*;

    pub(crate) const CUSTOMERS: [(&str, &str, f64); 3] = [
        ("ada", "Ada Lovelace", 0.29),
        ("alan", "Alan Turing", 19.99),
        ("grace", "Grace Hopper", 100.0),
    ];

    pub(crate) fn open(path: &Path) -> Result<Store> {
        Store::open(path)
    }

    pub(crate) fn fill(store: &Store) -> Result<()> {
        store.transact(|tx| {
            let mut total = 0.0;
            for (id, name, balance) in CUSTOMERS {
                let customer = tx.scope(super::customer(id));
                customer.set("name", name)?;
                customer.set("balance", balance)?;
                total += balance;
            }
            tx.scope(ledger()).set("total", total)
        })
    }

    pub(crate) fn show(store: &Store) -> Result<()> {
        for (id, ..) in CUSTOMERS {
            let customer = store.scope(super::customer(id));
            let name: Option<String> = customer.get("name")?;
            let balance: Option<f64> = customer.get("balance")?;
            let (name, balance) = (name.unwrap_or_default(), balance.unwrap_or_default());
            println!("  {id}: {name}, {balance} euros");
        }
        Ok(())
    }
}

/// Version 2: a name is a first and a last one. A migration that is written by hand.
mod v2 {
    use super::*;
    use evenkeel::{MigrationScope, StateMigration};

    pub(crate) struct SplitName;

    impl StateMigration for SplitName {
        fn version(&self) -> u32 {
            2
        }

        fn description(&self) -> String {
            "the name of a customer becomes a first and a last one".into()
        }

        fn scopes(&self) -> ScopeSet {
            customers()
        }

        fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
            if let Some(name) = state.get::<String>("name")? {
                let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
                state.set("first", first)?;
                state.set("last", last)?;
                state.remove("name")?;
            }
            Ok(())
        }

        fn revert(&self, state: &mut MigrationScope) -> Result<()> {
            if let Some(first) = state.get::<String>("first")? {
                let last: String = state.get("last")?.unwrap_or_default();
                state.set("name", format!("{first} {last}").trim_end())?;
                state.remove("first")?;
                state.remove("last")?;
            }
            Ok(())
        }
    }

    pub(crate) fn open(path: &Path) -> Result<Store> {
        Store::builder().migration(SplitName).open(path)
    }

    pub(crate) fn show(store: &Store) -> Result<()> {
        for (id, ..) in v1::CUSTOMERS {
            let customer = store.scope(super::customer(id));
            let [first, last] = ["first", "last"].map(|key| customer.get::<String>(key));
            let (first, last) = (first?.unwrap_or_default(), last?.unwrap_or_default());
            println!("  {id}: {last}, {first}");
        }
        Ok(())
    }
}

/// Version 3: balances are in cents. A migration that is said and not written.
mod v3 {
    use super::*;
    use evenkeel::{Builder, Error, MigratedState, Transforms};

    fn money(cents: fn(f64) -> i64) -> Transforms {
        let back = |cents: i64| Ok(cents as f64 / 100.0);
        let into = move |euros: f64| Ok(cents(euros));
        Transforms::to(3)
            .name("cents")
            .scopes(customers().or(ScopeSet::scope(ledger())))
            .convert_and_back("balance", into, back)
            .convert_and_back("total", into, back)
    }

    /// What must hold, whatever was migrated.
    fn the_books_balance(state: &MigratedState) -> Result<()> {
        let mut sum = 0;
        for scope in state.scopes() {
            let scope = state.scope(scope?);
            sum += scope.get::<i64>("balance")?.unwrap_or(0);
        }
        let total: i64 = state.scope(ledger()).get("total")?.unwrap_or(0);
        match sum == total {
            true => Ok(()),
            false => Err(Error::abort(format!(
                "the balances are {sum} cents, the ledger says {total}"
            ))),
        }
    }

    /// Multiplied and cut off: 0.29 euros become 28 cents.
    pub(crate) fn builder_with_a_bug() -> Builder {
        builder_of(money(|euros| (euros * 100.0) as i64))
    }

    pub(crate) fn builder() -> Builder {
        builder_of(money(|euros| (euros * 100.0).round() as i64))
    }

    fn builder_of(money: Transforms) -> Builder {
        Store::builder()
            .migration(v2::SplitName)
            .migration(money)
            .migrations_at_open(false)
            .invariant("the books balance", the_books_balance)
            .migration_progress(|progress| {
                if let Some(scope) = &progress.scope {
                    let (done, of) = (progress.scopes, progress.scopes_total);
                    let way = if progress.reverted { "back, " } else { "" };
                    println!("  [{way}{done} of {of}] {}: {scope}", progress.name);
                }
                ControlFlow::Continue(())
            })
    }

    pub(crate) fn show(store: &Store) -> Result<()> {
        for (id, ..) in v1::CUSTOMERS {
            let customer = store.scope(super::customer(id));
            let last: Option<String> = customer.get("last")?;
            let cents: Option<i64> = customer.get("balance")?;
            let (last, cents) = (last.unwrap_or_default(), cents.unwrap_or_default());
            println!("  {id}: {last}, {cents} cents");
        }
        Ok(())
    }
}

fn customer(id: &str) -> Scope {
    Scope::custom(format!("customer/{id}"))
}

fn customers() -> ScopeSet {
    ScopeSet::pattern(ScopeKind::Custom, ["customer/*"])
}

fn ledger() -> Scope {
    Scope::custom("ledger")
}

fn lines(store: &Store) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    store.export_json_lines(&mut lines)?;
    Ok(lines)
}

fn run(path: &Path) -> Result<bool> {
    println!("Version 1 writes:");
    let store = v1::open(path)?;
    v1::fill(&store)?;
    v1::show(&store)?;
    let written = lines(&store)?;
    store.close()?;

    println!("\nVersion 2 migrates when it opens the store:");
    let store = v2::open(path)?;
    v2::show(&store)?;
    if let Some(report) = store.migration_report() {
        let (from, to) = (report.from, report.to);
        println!("  (from version {from} to {to} in {:.1?})", report.time);
    }
    store.close()?;

    println!("\nVersion 1 is not let in any more:");
    match v1::open(path) {
        Ok(_) => return Ok(false),
        Err(e) => println!("  {e}"),
    }

    println!("\nVersion 3 rehearses, with a bug in its migration:");
    let migrations = v3::builder_with_a_bug().migrations(path)?;
    let rehearsal = migrations.rehearse()?;
    println!("{rehearsal}");
    migrations.close()?;
    if rehearsal.would_succeed() {
        return Ok(false);
    }

    println!("\nVersion 3 rehearses, with the bug mended:");
    let migrations = v3::builder().migrations(path)?;
    let rehearsal = migrations.rehearse()?;
    println!("{rehearsal}");
    if !rehearsal.would_succeed() || !rehearsal.reverts.is_exact() {
        return Ok(false);
    }

    println!("\nSo it migrates, by command:");
    migrations.run()?;
    migrations.close()?;
    let store = v3::builder().open(path)?;
    v3::show(&store)?;
    for change in store.schema_history()? {
        let (from, to, name) = (change.from, change.to, change.name);
        println!("  history: {from} → {to} ({name}) at LSN {}", change.lsn);
    }
    store.close()?;

    println!("\nBack to version 1, whose program finds what it wrote:");
    let migrations = v3::builder().migrations(path)?;
    migrations.revert_to(1)?;
    migrations.close()?;
    let store = v1::open(path)?;
    v1::show(&store)?;
    let same = lines(&store)? == written;
    println!("  (byte for byte the same export: {same})");
    store.close()?;
    Ok(same)
}

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1) {
        Some(path) if Path::new(&path).exists() => {
            println!("{path} is there already; give it a folder that is not");
            return ExitCode::from(2);
        }
        Some(path) => run(path.as_ref()),
        None => match tempfile::tempdir() {
            Ok(folder) => run(&folder.path().join("state")),
            Err(e) => {
                println!("cannot make a folder: {e}");
                return ExitCode::FAILURE;
            }
        },
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("that should not be");
            ExitCode::FAILURE
        }
        Err(e) => {
            println!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
