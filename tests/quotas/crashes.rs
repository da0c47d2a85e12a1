//! Crashes while quotas change and scopes fill up: a quota is the last that was
//! acknowledged or the one under way, what it let in is there, and figures are exact.

use std::error::Error;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{Quota, Scope, ScopeKind};

type Outcome = Result<(), Box<dyn Error>>;

const ROUNDS: u64 = 6;

fn full() -> Scope {
    Scope::job("full")
}

/// Each round allows two keys more, and one byte more for each scope of the kind; every
/// other takes them back first.
fn program(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    let scope = store.scope(full());
    let mut there = 0;
    for round in 1..=ROUNDS {
        run.witness("setting", round);
        scope.set_quota(Quota::new().keys(round * 2))?;
        run.witness("set", round);
        run.witness("setting kind", round);
        store.set_quota(ScopeKind::Job, Quota::new().bytes(100_000 + round))?;
        run.witness("set kind", round);
        while there < round * 2 {
            scope.set(format!("k{there}"), "x".repeat(150))?;
            there += 1;
            run.witness("there", there);
        }
        if scope.set("more", 1).is_ok() {
            return Err("it took more than it may".into());
        }
        match round {
            2 | 5 => drop(store.checkpoint()?),
            3 => drop(store.snapshot()?),
            4 => {
                run.witness("lowering", 1);
                store
                    .scope(Scope::job("other"))
                    .set_quota(Quota::new().keys(1))?;
                run.witness("lowered", 1);
            }
            _ => {}
        }
    }
    Ok(())
}

fn witnessed(found: &AfterCrash<'_>, name: &str) -> u64 {
    let last = found.witnessed(name);
    last.and_then(|value| value.as_u64()).unwrap_or(0)
}

fn between(what: &str, found: u64, (least, most): (u64, u64)) -> Outcome {
    match (least..=most).contains(&found) {
        true => Ok(()),
        false => Err(format!("{what} is {found}, not {least} to {most}").into()),
    }
}

fn quotas_are_there(found: &AfterCrash<'_>) -> Outcome {
    let store = found.store();
    let keys = store.scope(full()).quota()?.keys.unwrap_or(0) / 2;
    let known = (witnessed(found, "set"), witnessed(found, "setting"));
    between("the quota", keys, known)?;
    let bytes = store.quota(ScopeKind::Job)?.bytes;
    let bytes = bytes.map_or(0, |bytes| bytes - 100_000);
    let known = (
        witnessed(found, "set kind"),
        witnessed(found, "setting kind"),
    );
    between("the quota of the kind", bytes, known)?;
    let other = store.scope(Scope::job("other")).quota()?.keys.unwrap_or(0);
    let known = (witnessed(found, "lowered"), witnessed(found, "lowering"));
    between("the other quota", other, known)
}

/// What a quota let in is there, and what it refused is not.
fn figures_are_exact(found: &AfterCrash<'_>) -> Outcome {
    let store = found.store();
    let usage = store.scope(full()).usage()?;
    let there = store.scope(full()).keys()?.count() as u64;
    between("the count", usage.keys, (there, there))?;
    let known = witnessed(found, "there");
    between("what is there", there, (known, known + 1))?;
    match usage.quarantined || store.usage()?.keys != there {
        false => Ok(()),
        true => Err(format!("{usage:?}").into()),
    }
}

/// It goes on as it was: up to the quota, and no further.
fn it_is_exact_again(found: &AfterCrash<'_>) -> Outcome {
    let scope = found.store().scope(full());
    let (max, there) = (scope.usage()?.keys_max, scope.len()?);
    if scope.quota()?.is_none() {
        return Ok(());
    }
    for n in there..max {
        scope.set(format!("n{n}"), n)?;
    }
    let refused = scope.set("more", 1);
    for n in there..max {
        scope.delete(format!("n{n}"))?;
    }
    match refused {
        Err(evenkeel::Error::LimitExceeded { .. }) => Ok(()),
        other => Err(format!("{other:?} with {max}").into()),
    }
}

#[test]
fn a_crash_loses_no_quota_and_miscounts_nothing() {
    let points = std::env::var("EVENKEEL_CRASH_POINTS");
    let mut test = CrashTest::new("quotas", program)
        .invariant(
            "a quota is the last one, or the one under way",
            quotas_are_there,
        )
        .invariant("figures are exact", figures_are_exact)
        .invariant("a quota refuses exactly", it_is_exact_again);
    match points.as_deref() {
        Ok("all") => {}
        Ok(number) => test = test.sample(number.parse().unwrap()),
        Err(_) => test = test.sample(200),
    }
    let certificate = test.run().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(certificate.summary.points > 0);
}
