//! A migration that fails leaves the state as it was, says where and why, and can be run
//! again once it is mended.

use std::ops::ControlFlow;
use std::time::Duration;

use evenkeel::{
    Error, Limits, MigrationBudget, MigrationScope, Quota, Result, Scope, ScopeKind, ScopeSet,
    StateMigration,
};

use crate::parts::{Made, Place};

fn filled() -> Place {
    let place = Place::new();
    place.fill(|store| {
        for n in 0..4 {
            store.scope(Scope::job(format!("{n}"))).set("a", n)?;
        }
        Ok(())
    });
    place
}

/// One that changes all jobs and then, in the third one, does this.
fn fails(what: impl Fn(&MigrationScope<'_>) -> Result<()> + Send + Sync + 'static) -> Made {
    Made::to(3, move |state| {
        state.convert("a", |n: u32| Ok(n + 100))?;
        match *state.scope() == Scope::job("2") {
            true => what(state),
            false => Ok(()),
        }
    })
}

/// The cause, scope and key of the failure; everything is as it was, and the mended chain
/// succeeds.
fn failure(failing: Made) -> (Error, String, Option<String>) {
    let place = filled();
    let before = place.lines();
    let first = Made::to(2, |state| state.set("b", true));
    let failed = place.open(&[first.clone(), failing]);
    let Err(Error::MigrationFailed {
        version,
        name,
        scope,
        key,
        source,
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!((version, name.as_str()), (3, "to 3"));
    let text = format!("{scope}/{key:?}/{source}");
    // It opens as it was for the older program, with nothing left of what was staged.
    assert_eq!(place.lines(), before, "{text}");
    place.open(&[]).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mended = place.open(&[first, fails(|_| Ok(()))]).unwrap();
    assert_eq!(mended.scope(Scope::job("2")).get("a").unwrap(), Some(102));
    assert_eq!(mended.scope(Scope::job("2")).get("b").unwrap(), Some(true));
    assert!(!mended.migration_report().unwrap().resumed, "{text}");
    (*source, scope, key)
}

#[test]
fn what_it_returns_is_the_cause() {
    let (cause, scope, key) = failure(fails(|state| {
        state.get::<u32>("touched")?;
        Err(Error::abort("no such colour"))
    }));
    assert!(matches!(cause, Error::Aborted(e) if e.to_string() == "no such colour"));
    assert_eq!(
        (scope, key),
        (Scope::job("2").to_string(), Some("touched".into()))
    );
}

#[test]
fn a_panic_is_the_cause() {
    let (cause, scope, key) = failure(fails(|state| {
        let value: Option<u32> = state.get("b.c")?;
        value.map(drop).ok_or_else(|| panic!("no b.c"))
    }));
    assert!(
        matches!(&cause, Error::Panicked { message } if message.contains("no b.c")),
        "{cause}"
    );
    assert_eq!(
        (scope, key),
        (Scope::job("2").to_string(), Some("b.c".into()))
    );
}

#[test]
fn reaching_out_of_the_declared_scopes_is_the_cause_also_if_it_is_passed_over() {
    for swallow in [false, true] {
        for other in [Scope::Global, Scope::job("3"), Scope::worker("w")] {
            let (cause, ..) = failure(fails(move |state| match state.joined(other.clone()) {
                Ok(other) => other.set("a", 1),
                Err(_) if swallow => state.set("went on", true),
                Err(e) => Err(e),
            }));
            assert!(matches!(cause, Error::Undeclared { .. }), "{cause}");
        }
    }
}

#[test]
fn an_id_or_key_or_value_that_is_too_large_is_the_cause() {
    let joined = fails(|state| {
        let _ = state.joined(Scope::job("x".repeat(2000)));
        Ok(())
    });
    let (cause, ..) = failure(joined.joins(|_| ScopeSet::all()));
    assert!(
        matches!(
            cause,
            Error::LimitExceeded {
                limit: "scope_component_bytes",
                ..
            }
        ),
        "{cause}"
    );
    let (cause, ..) = failure(fails(|state| {
        let _ = state.set("k".repeat(5000), 1);
        Ok(())
    }));
    assert!(
        matches!(
            cause,
            Error::LimitExceeded {
                limit: "key_bytes",
                ..
            }
        ),
        "{cause}"
    );
    let (cause, _, key) = failure(fails(|state| {
        let _ = state.set("large", "x".repeat(17 << 20));
        Ok(())
    }));
    assert!(
        matches!(
            cause,
            Error::LimitExceeded {
                limit: "value_bytes",
                ..
            }
        ),
        "{cause}"
    );
    assert_eq!(key.as_deref(), Some("large"));
    let (cause, ..) = failure(fails(|state| {
        let _ = state.set("no value", std::collections::BTreeMap::from([((1, 2), 3)]));
        Ok(())
    }));
    assert!(matches!(cause, Error::Serialize { .. }), "{cause}");
}

#[test]
fn its_budget_is_a_limit() {
    let ten = |state: &MigrationScope<'_>| {
        for n in 0..10 {
            // It goes on, and nothing is kept of it.
            let _ = state.set(format!("{n}"), n);
        }
        Ok(())
    };
    let budget = MigrationBudget::new().writes(10);
    let (cause, _, key) = failure(fails(ten).budget(budget));
    assert!(
        matches!(
            cause,
            Error::LimitExceeded {
                limit: "migration_writes",
                max: 10,
                actual: 11,
                ..
            }
        ),
        "{cause}"
    );
    assert_eq!(key.as_deref(), Some("9"));
    let budget = MigrationBudget::new().bytes(400);
    let (cause, ..) = failure(fails(ten).budget(budget));
    assert!(
        matches!(
            cause,
            Error::LimitExceeded {
                limit: "migration_bytes",
                max: 400,
                ..
            }
        ),
        "{cause}"
    );
}

#[test]
fn its_time_is_that_of_all_its_scopes() {
    let place = filled();
    let before = place.lines();
    let slow = |seconds: u64| {
        let clock = place.clock.clone();
        let slow = Made::to(2, move |state| {
            clock.advance(Duration::from_secs(seconds));
            state.set("b", 1)
        });
        slow.budget(MigrationBudget::new().time(Duration::from_secs(10)))
    };
    let failed = place.open(&[slow(4)]);
    let Err(Error::MigrationFailed { scope, source, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(scope, Scope::job("2").to_string());
    assert!(
        matches!(
            *source,
            Error::LimitExceeded {
                limit: "migration_micros",
                ..
            }
        ),
        "{source}"
    );
    assert_eq!(place.lines(), before);
    place.open(&[slow(2)]).unwrap();
}

#[test]
fn the_time_that_an_interrupted_run_took_counts() {
    let place = filled();
    let chain = || {
        let clock = place.clock.clone();
        let slow = Made::to(2, move |state| {
            clock.advance(Duration::from_secs(3));
            state.set("b", 1)
        });
        [slow.budget(MigrationBudget::new().time(Duration::from_secs(10)))]
    };
    let stopped = place
        .with(&chain())
        .migration_progress(|progress| match progress.scopes {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
    let stopped = stopped.open(&place.path);
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
    let failed = place.open(&chain());
    let Err(Error::MigrationFailed { scope, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(scope, Scope::job("3").to_string());
}

#[test]
fn quotas_and_limits_are_judged_by_what_the_chain_leaves() {
    let grow = |keys: u32| {
        Made::to(2, move |state| {
            for n in 0..keys {
                state.set(format!("k{n}"), n)?;
            }
            Ok(())
        })
    };
    let shrink = |from: u32, keys: u32| {
        Made::to(3, move |state| {
            for n in from..keys {
                state.remove(format!("k{n}"))?;
            }
            Ok(())
        })
    };
    let place = filled();
    let store = place.open(&[]).unwrap();
    store
        .set_quota(ScopeKind::Job, Quota::new().keys(5))
        .unwrap();
    store.close().unwrap();
    let before = place.lines();
    let failed = place.open(&[grow(5)]);
    let Err(Error::MigrationFailed { scope, source, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(scope, Scope::job("0").to_string());
    let limit = matches!(
        *source,
        Error::LimitExceeded {
            limit: "scope_keys",
            max: 5,
            actual: 6,
            ..
        }
    );
    assert!(limit, "{source}");
    assert_eq!(place.lines(), before);
    // It may be more on its way.
    let store = place.open(&[grow(50), shrink(4, 50)]).unwrap();
    assert_eq!(store.scope(Scope::job("0")).len().unwrap(), 5);
    let judged = store.scope(Scope::job("0")).set("one more", 1);
    assert!(
        matches!(judged, Err(Error::LimitExceeded { .. })),
        "{judged:?}"
    );
}

#[test]
fn a_scope_that_holds_too_much_may_be_migrated_if_it_grows_no_further() {
    let place = filled();
    let store = place.open(&[]).unwrap();
    store
        .scope(Scope::job("0"))
        .set("b", "x".repeat(50))
        .unwrap();
    store
        .set_quota(ScopeKind::Job, Quota::new().keys(1))
        .unwrap();
    store.close().unwrap();
    let grows = Made::to(2, |state| state.set("c", 1));
    let failed = place.open(&[grows]);
    let Err(Error::MigrationFailed { source, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        matches!(
            *source,
            Error::Quarantined {
                held: 2,
                actual: 3,
                ..
            }
        ),
        "{source}"
    );
    let renames = Made::to(2, |state| state.rename("a", "renamed").map(drop));
    place.open(&[renames]).unwrap();
}

#[test]
fn a_budget_beyond_what_a_commit_can_be_is_bounded() {
    let place = filled();
    let huge = Made::to(2, |state| {
        let megabytes = "x".repeat(15 << 20);
        for n in 0..20 {
            state.set(format!("{n}"), &megabytes)?;
        }
        Ok(())
    });
    let huge = huge.budget(MigrationBudget::new().bytes(u64::MAX));
    let failed = place
        .with(&[huge])
        .limits(Limits::default())
        .open(&place.path);
    let Err(Error::MigrationFailed { source, .. }) = failed else {
        panic!("{failed:?}");
    };
    assert!(
        matches!(
            *source,
            Error::LimitExceeded {
                limit: "migration_bytes",
                ..
            }
        ),
        "{source}"
    );
}

#[test]
fn what_a_migration_says_of_its_scopes_may_panic_too() {
    struct Panics(&'static str);
    impl StateMigration for Panics {
        fn version(&self) -> u32 {
            2
        }
        fn migrate(&self, _: &mut MigrationScope) -> Result<()> {
            Ok(())
        }
        fn joins(&self, _: &Scope) -> ScopeSet {
            match self.0 {
                "joins" => panic!("in joins"),
                _ => ScopeSet::none(),
            }
        }
        fn budget(&self) -> MigrationBudget {
            match self.0 {
                "budget" => panic!("in budget"),
                _ => MigrationBudget::new(),
            }
        }
    }
    for which in ["joins", "budget"] {
        let place = filled();
        let before = place.lines();
        let failed = place.builder().migration(Panics(which)).open(&place.path);
        let Err(Error::MigrationFailed { source, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert!(matches!(*source, Error::Panicked { .. }), "{source}");
        assert_eq!(place.lines(), before);
    }
}
