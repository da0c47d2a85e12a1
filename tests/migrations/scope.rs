//! What a migration sees of a scope and may do to it and to those that it joins.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{Error, MigrationScope, Result, Scope, ScopeKind, ScopeSet, SetOptions};

use crate::parts::{Made, Place, lines};

fn run(place: &Place, up: impl Fn(&mut MigrationScope<'_>) -> Result<()> + Send + Sync + 'static) {
    let store = place.open(&[Made::to(2, up)]).unwrap();
    store.close().unwrap();
}

#[test]
fn it_reads_what_it_wrote_and_nobody_else_does() {
    let place = Place::new();
    place.fill(|store| {
        store.global().set("a", 1)?;
        store.global().set("b", 2)?;
        store.global().set("c", "x")
    });
    run(&place, |state| {
        assert_eq!(*state.scope(), Scope::Global);
        assert_eq!(state.get::<u32>("a")?, Some(1));
        assert_eq!(state.get::<u32>("nothing")?, None);
        state.set("a", 10)?;
        state.set("d", 4)?;
        assert!(state.remove("b")?);
        assert!(!state.remove("b")?);
        assert_eq!(state.get::<u32>("a")?, Some(10));
        assert!(!state.contains("b")? && state.contains("d")?);
        assert_eq!(state.keys()?.collect::<Vec<_>>(), ["a", "c", "d"]);
        assert_eq!((state.len()?, state.is_empty()?), (3, false));
        // Of what it wrote itself, only what begins so.
        assert_eq!(state.scan("d")?.count(), 1);
        assert!(state.rename("a", "z")?);
        assert!(!state.rename("a", "y")?);
        assert!(state.rename("z", "z")?);
        let taken = state.rename("z", "d");
        assert!(matches!(taken, Err(Error::Invalid { .. })), "{taken:?}");
        assert!(state.convert("c", |old: String| Ok(old.len()))?);
        assert!(!state.convert("nothing", |old: u32| Ok(old))?);
        let wrong = state.convert("c", |old: String| Ok(old));
        assert!(
            matches!(wrong, Err(Error::TypeMismatch { .. })),
            "{wrong:?}"
        );
        Ok(())
    });
    let store = place.open(&[Made::idle(2)]).unwrap();
    let global = store.global();
    assert_eq!(global.keys().unwrap().collect::<Vec<_>>(), ["c", "d", "z"]);
    assert_eq!(global.get("z").unwrap(), Some(10));
    assert_eq!(global.get("c").unwrap(), Some(1));
}

#[test]
fn a_scan_is_of_the_moment_when_it_began() {
    let place = Place::new();
    place.fill(|store| {
        store.transact(|tx| {
            for n in 0..3000 {
                tx.global().set(format!("old.{n:04}"), n)?;
            }
            tx.global().set("other", 0)
        })
    });
    run(&place, |state| {
        state.set("old.zzzz", 3000)?;
        let mut seen = 0;
        for entry in state.scan("old.")? {
            let entry = entry?;
            // Behind the scan, where it would be found once more.
            let to = entry.key().replace("old.", "old.~");
            assert!(state.rename(entry.key(), to)?, "{}", entry.key());
            seen += 1;
        }
        assert_eq!(seen, 3001);
        assert_eq!(state.scan("old.~")?.count(), 3001);
        assert_eq!(state.len()?, 3002);
        Ok(())
    });
    let store = place.open(&[Made::idle(2)]).unwrap();
    assert_eq!(store.global().len().unwrap(), 3002);
    assert_eq!(store.global().get("old.~0042").unwrap(), Some(42));
}

#[test]
fn what_is_cleared_is_gone_and_can_be_written_again() {
    let place = Place::new();
    place.fill(|store| {
        store.global().set("a", 1)?;
        store.global().set("b", 1)?;
        store.scope(Scope::job("1")).set("a", 1)
    });
    run(&place, |state| {
        state.clear()?;
        assert!(state.is_empty()?);
        match state.scope() {
            Scope::Global => state.set("b", 2),
            _ => Ok(()),
        }
    });
    let line = "{\"scope\":\"global\",\"key\":\"b\",\"value\":2}\n";
    assert_eq!(place.lines(), line);
}

#[test]
fn a_value_that_is_changed_keeps_its_deadline() {
    let place = Place::new();
    let minute = SetOptions::new().ttl(Duration::from_secs(60));
    place.fill(|store| {
        let scope = store.scope(Scope::job("1"));
        for key in ["set", "renamed", "converted", "forever"] {
            scope.set_with(key, 1, minute)?;
        }
        scope.set_with("gone", 1, SetOptions::new().ttl(Duration::from_secs(1)))?;
        scope.set_default_ttl(Some(Duration::from_secs(10)))
    });
    place.clock.advance(Duration::from_secs(2));
    run(&place, |state| {
        assert!(!state.contains("gone")?);
        state.set("set", 2)?;
        state.rename("renamed", "named")?;
        state.convert("converted", |n: u32| Ok(n.to_string()))?;
        state.set_with("forever", 2, SetOptions::new().forever())?;
        state.set("new", 1)?;
        state.set_with("past", 1, SetOptions::new().expires_at(5))?;
        assert!(!state.contains("past")?);
        Ok(())
    });
    let store = place.open(&[Made::idle(2)]).unwrap();
    let scope = store.scope(Scope::job("1"));
    let ttl = |key: &str| scope.ttl(key).unwrap().map(|ttl| ttl.as_secs());
    assert_eq!([ttl("set"), ttl("named"), ttl("converted")], [Some(58); 3]);
    assert_eq!((ttl("forever"), ttl("new")), (None, Some(10)));
    assert_eq!(scope.len().unwrap(), 5);
}

#[test]
fn what_expires_while_it_is_staged_is_not_there_in_the_end() {
    let place = Place::new();
    place.fill(|store| {
        let soon = SetOptions::new().ttl(Duration::from_secs(5));
        store.scope(Scope::job("1")).set_with("a", 1, soon)?;
        store.scope(Scope::job("2")).set("a", 1)
    });
    let clock = Arc::clone(&place.clock);
    let first = Made::to(2, |state| state.convert("a", |n: u32| Ok(n + 1)).map(drop));
    let second = Made::to(3, move |state| {
        clock.set_micros(60_000_000);
        state.convert("a", |n: u32| Ok(n + 1)).map(drop)
    });
    let store = place.open(&[first, second]).unwrap();
    assert_eq!(store.scopes().unwrap(), [Scope::job("2")]);
    assert_eq!(store.scope(Scope::job("2")).get("a").unwrap(), Some(3));
}

#[test]
fn declared_scopes_are_visited_in_order_and_others_are_not() {
    let place = Place::new();
    let all = [
        Scope::Global,
        Scope::workflow("w"),
        Scope::step("w", "s"),
        Scope::custom("c"),
        Scope::worker("w"),
        Scope::routine("w", "r"),
        Scope::job("1"),
        Scope::job("2"),
    ];
    place.fill(|store| {
        for scope in all.iter().rev() {
            store.scope(scope.clone()).set("a", 1)?;
        }
        let empty = store.scope(Scope::job("empty"));
        empty.set("a", 1)?;
        empty.delete("a")
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = |version: u32, scopes: ScopeSet| {
        let seen = Arc::clone(&seen);
        let see = move |state: &mut MigrationScope<'_>| {
            seen.lock().unwrap().push((version, state.scope().clone()));
            Ok(())
        };
        Made::to(version, see).scopes(scopes)
    };
    let jobs = ScopeSet::kind(ScopeKind::Job);
    let chain = [
        sees(2, ScopeSet::all()),
        sees(3, jobs.clone().except(ScopeSet::scope(Scope::job("1")))),
        sees(4, ScopeSet::none()),
        sees(5, ScopeSet::scope(Scope::Global).or(jobs)),
    ];
    place.open(&chain).unwrap();
    let expected = all.iter().map(|scope| (2, scope.clone()));
    let expected = expected.chain([
        (3, Scope::job("2")),
        (5, Scope::Global),
        (5, Scope::job("1")),
        (5, Scope::job("2")),
    ]);
    assert_eq!(*seen.lock().unwrap(), expected.collect::<Vec<_>>());
}

#[test]
fn joined_scopes_are_part_of_the_call_and_not_visited_for_it() {
    let place = Place::new();
    place.fill(|store| {
        for n in 0..5 {
            store
                .scope(Scope::job(format!("{n}")))
                .set("owner", format!("w-{}", n % 2))?;
        }
        Ok(())
    });
    // Jobs tell their workers, which sort before them, and flows, which sort before those.
    let gather = Made::to(2, |state| {
        let owner: String = state.get("owner")?.unwrap_or_default();
        let worker = state.joined(Scope::worker(&owner))?;
        let count: u32 = worker.get("jobs")?.unwrap_or(0);
        worker.set("jobs", count + 1)?;
        state.joined(Scope::job("total"))?.set("last", &owner)?;
        let joined = state.joined_scopes()?;
        assert!(joined.contains(&Scope::worker(&owner)), "{joined:?}");
        assert!(joined.contains(&Scope::job("total")), "{joined:?}");
        assert!(!joined.contains(state.scope()));
        assert_eq!(
            *state.joined(state.scope().clone())?.scope(),
            *state.scope()
        );
        Ok(())
    });
    let gather = gather
        .joins(|_| ScopeSet::kind(ScopeKind::Worker).or(ScopeSet::scope(Scope::job("total"))));
    let count = Made::to(3, |state| state.set("visited", true));
    let store = place.open(&[gather, count]).unwrap();
    let report = store.migration_report().unwrap();
    // Neither the workers nor the total were there before the first one.
    assert_eq!((report.steps[0].scopes, report.steps[1].scopes), (5, 8));
    assert_eq!(
        store.scope(Scope::worker("w-0")).get("jobs").unwrap(),
        Some(3)
    );
    assert_eq!(
        store.scope(Scope::worker("w-1")).get("jobs").unwrap(),
        Some(2)
    );
    assert_eq!(
        store.scope(Scope::job("total")).get("visited").unwrap(),
        Some(true)
    );
}

#[test]
fn a_scope_that_is_emptied_before_its_turn_is_not_visited() {
    let place = Place::new();
    place.fill(|store| {
        store.scope(Scope::job("1")).set("a", 1)?;
        store.scope(Scope::job("2")).set("a", 2)
    });
    let swallow = Made::to(2, |state| {
        let other = state.joined(Scope::job("2"))?;
        let theirs: u32 = other.get("a")?.unwrap_or(0);
        other.clear()?;
        state.set("a", 10 + theirs)
    });
    let swallow = swallow.joins(|_| ScopeSet::kind(ScopeKind::Job));
    let store = place.open(&[swallow]).unwrap();
    assert_eq!(store.scopes().unwrap(), [Scope::job("1")]);
    assert_eq!(store.scope(Scope::job("1")).get("a").unwrap(), Some(12));
}

#[test]
fn keys_and_ids_of_any_bytes_stay_apart() {
    let place = Place::new();
    let ids = ["", "\0", "a", "a\0", "a\0\u{1}", "\u{10ffff}"];
    place.fill(|store| {
        for id in ids {
            for key in ids {
                store
                    .scope(Scope::job(id))
                    .set(key, format!("{id}/{key}"))?;
            }
        }
        Ok(())
    });
    let chain = [2, 3, 4].map(|version| {
        Made::to(version, move |state| {
            for key in state.keys()? {
                state.convert(&key, |old: String| Ok(format!("{old}.{version}")))?;
            }
            Ok(())
        })
    });
    let store = place.open(&chain).unwrap();
    assert_eq!(lines(&store).lines().count(), 36);
    for id in ids {
        for key in ids {
            let value: String = store.scope(Scope::job(id)).get(key).unwrap().unwrap();
            assert_eq!(value, format!("{id}/{key}.2.3.4"));
        }
    }
}

#[test]
fn a_scope_that_is_named_is_visited_without_keys_too() {
    let place = Place::new();
    place.fill(|store| {
        store.scope(Scope::worker("a")).set("n", 1)?;
        store.scope(Scope::worker("b")).set("n", 2)
    });
    let visited = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&visited);
    let sum = Made::to(2, move |state| {
        told.lock().unwrap().push(state.scope().clone());
        let mut sum = 0;
        for scope in state.joined_scopes()? {
            sum += state.joined(scope)?.get::<i64>("n")?.unwrap_or(0);
        }
        state.set("sum", sum)
    });
    let empty = ScopeSet::scope(Scope::Global).or(ScopeSet::scope(Scope::job("none")));
    let set = empty.or(ScopeSet::kind(ScopeKind::Routine));
    let joins = ScopeSet::kind(ScopeKind::Worker);
    let store = place
        .open(&[sum.scopes(set).joins(move |_| joins.clone())])
        .unwrap();
    assert_eq!(
        *visited.lock().unwrap(),
        [Scope::Global, Scope::job("none")]
    );
    assert_eq!(store.global().get("sum").unwrap(), Some(3));
    assert_eq!(store.scope(Scope::job("none")).get("sum").unwrap(), Some(3));
    store.close().unwrap();
}

#[test]
fn joined_scopes_that_are_listed_are_those_that_have_keys() {
    let place = Place::new();
    let [a, b, none] = ["a", "b", "none"].map(Scope::worker);
    place.fill(|store| {
        store.global().set("n", 0)?;
        store.scope(Scope::worker("b")).set("n", 2)?;
        store.scope(Scope::worker("a")).set("n", 1)?;
        store.scope(Scope::worker("c")).set("n", 3)
    });
    let joins = [&b, &a, &none, &Scope::Global, &a].into_iter().cloned();
    let joins = joins.fold(ScopeSet::none(), |set, one| set.or(ScopeSet::scope(one)));
    let (first, both) = (b.clone(), vec![a.clone(), b.clone()]);
    let step = Made::to(2, move |state| {
        // In order, once, without the empty one and the one that is visited.
        assert_eq!(state.joined_scopes()?, both);
        state.joined(first.clone())?.clear()?;
        assert_eq!(state.joined_scopes()?, both[..1]);
        Ok(())
    });
    let step = step
        .scopes(ScopeSet::scope(Scope::Global))
        .joins(move |_| joins.clone());
    let store = place.open(&[step]).unwrap();
    assert_eq!(
        store.scopes().unwrap(),
        [Scope::Global, a, Scope::worker("c")]
    );
    store.close().unwrap();
}
