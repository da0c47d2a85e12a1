//! Crashes while keys expire and are removed: nothing expired comes back, nothing else
//! is lost, and a batch is removed as a whole.

use std::error::Error;
use std::time::Duration;

use evenkeel::testing::{AfterCrash, CrashRun, CrashTest};
use evenkeel::{Scope, SetOptions};

use crate::parts::SECOND;

type Outcome = Result<(), Box<dyn Error>>;

/// The rounds; each writes a batch of tokens that expire one round later.
const ROUNDS: u64 = 4;
const TOKENS: u64 = 6;

fn tokens() -> Scope {
    Scope::custom("tokens")
}

fn key(round: u64, n: u64) -> String {
    format!("{round}/{n}")
}

/// A round takes ten seconds. What was written in one expires when the next begins.
fn program(run: &CrashRun<'_>) -> Outcome {
    let store = run.store()?;
    store
        .scope(Scope::job("j"))
        .set_default_ttl(Some(Duration::from_secs(25)))?;
    for round in 1..=ROUNDS {
        let until = 1_000_000 + round * 10 * SECOND;
        store.transact(|tx| {
            for n in 0..TOKENS {
                let until = SetOptions::new().expires_at(until);
                tx.scope(tokens())
                    .set_with(key(round, n), "x".repeat(200), until)?;
            }
            Ok(())
        })?;
        run.witness("written", round);
        store
            .scope(Scope::job("j"))
            .set(format!("{round}"), round)?;
        store.global().set("kept", round)?;
        run.witness("kept", round);
        if round % 2 == 0 {
            store.checkpoint()?;
        }
        // From here on they may be gone.
        run.witness("passing", round);
        run.advance(Duration::from_secs(10));
        store.global().set("now", until)?;
        // From here on they must be.
        run.witness("passed", round);
        if round != 2 {
            store.expire()?;
            run.witness("removed", round);
        }
        if round == 3 {
            store.snapshot()?;
        }
    }
    Ok(())
}

fn witnessed(found: &AfterCrash<'_>, name: &str) -> u64 {
    let last = found.witnessed(name);
    last.and_then(|value| value.as_u64()).unwrap_or(0)
}

fn whole_rounds(found: &AfterCrash<'_>) -> Outcome {
    let scope = found.store().scope(tokens());
    let there: Vec<_> = scope.keys()?.collect();
    for round in 1..=ROUNDS {
        let of_round = there
            .iter()
            .filter(|key| key.starts_with(&format!("{round}/")));
        let count = of_round.count() as u64;
        if count != 0 && count != TOKENS {
            return Err(format!("{count} keys of round {round}").into());
        }
        if count != 0 && witnessed(found, "passed") >= round {
            return Err(format!("round {round} is back").into());
        }
        let safe = witnessed(found, "written") >= round && witnessed(found, "passing") < round;
        if count == 0 && safe {
            return Err(format!("round {round} is lost").into());
        }
    }
    Ok(())
}

fn others_stay(found: &AfterCrash<'_>) -> Outcome {
    let kept = found.store().global().get::<u64>("kept")?.unwrap_or(0);
    let job = found.store().scope(Scope::job("j"));
    for key in job.keys()? {
        let left = job.ttl(&key)?.ok_or("a default was forgotten")?;
        assert!(left <= Duration::from_secs(25));
    }
    match kept >= witnessed(found, "kept") {
        true => Ok(()),
        false => Err(format!("{kept} is kept").into()),
    }
}

/// What is left to remove is what no removal has seen: whole rounds of tokens, and keys
/// of the job, which last for two rounds and a half.
fn removed_as_a_whole(found: &AfterCrash<'_>) -> Outcome {
    let store = found.store();
    let before = store.stats()?.image_entries;
    let left = store.expire()?;
    let again = store.expire()?;
    let passed = witnessed(found, "passed");
    let removed = witnessed(found, "removed");
    // Rounds that passed, behind the last removal; at the most one more is on its way.
    let most = (passed + 1 - removed) * (TOKENS + 1);
    if again != 0 || left > most || left % TOKENS > 2 {
        return Err(format!("{left} of {before} are removed, then {again}").into());
    }
    Ok(())
}

#[test]
fn a_crash_brings_nothing_back_and_loses_nothing() {
    let points = std::env::var("EVENKEEL_CRASH_POINTS");
    let mut test = CrashTest::new("expiry", program)
        .invariant("a round is there as a whole or not at all", whole_rounds)
        .invariant("what does not expire stays", others_stay)
        .invariant("a removal is one commit", removed_as_a_whole);
    match points.as_deref() {
        Ok("all") => {}
        Ok(number) => test = test.sample(number.parse().unwrap()),
        Err(_) => test = test.sample(250),
    }
    let certificate = test.run().unwrap_or_else(|violation| panic!("{violation}"));
    assert!(certificate.summary.points > 0);
}
