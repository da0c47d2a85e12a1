//! Rehearsals and invariants: what is reported is what a real run then does, and nothing
//! is touched, whatever goes wrong.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evenkeel::testing::{Loss, When};
use evenkeel::{
    Builder, Error, KeyPattern, MigratedState, Quota, Rehearsal, Reverts, Scope, ScopeKind,
    ScopeSet, Transforms, Vfs as _,
};

use crate::disk::{Contents, Disk, PATH, lasting};
use crate::parts::{Made, Place, files};

const UNTIL: u64 = 90_000_000;

fn user(n: u32) -> Scope {
    Scope::custom(format!("user/{n}"))
}

/// Ten users with a name, one of which expires, and one scope that is no user's.
fn before() -> Contents {
    let mut contents = lasting([(Scope::Global, "name", "nobody")]);
    for n in 0..10 {
        let until = (n == 7).then_some(UNTIL);
        let name = format!("First{n} Last{n}");
        contents.insert((user(n), "name".into()), (name.into(), until));
        contents.insert((user(n), "age".into()), (u64::from(n).into(), None));
    }
    contents
}

fn users() -> ScopeSet {
    ScopeSet::pattern(ScopeKind::Custom, ["user/*"])
}

fn split_names() -> Transforms {
    let parts = ["first", "last"];
    let split = |name: String| {
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        Ok([first, last].map(|part| Some(part.to_owned())))
    };
    let join = |parts: [Option<String>; 2]| Ok(parts.map(Option::unwrap_or_default).join(" "));
    Transforms::to(2)
        .name("split names")
        .scopes(users())
        .split_and_back("name", parts, split, join)
}

fn count_months() -> Transforms {
    Transforms::to(3)
        .name("months")
        .scopes(users())
        .convert_and_back("age", |years: u64| Ok(years * 12), |months| Ok(months / 12))
        .rename("first", "given")
}

fn chain(builder: Builder) -> Builder {
    builder.migration(count_months()).migration(split_names())
}

fn rehearse(disk: &Disk, builder: Builder) -> Rehearsal {
    let held = disk.contents();
    let migrations = builder.migrations(PATH).unwrap();
    let rehearsal = migrations.rehearse().unwrap();
    migrations.close().unwrap();
    assert_eq!(disk.contents(), held, "the state was touched");
    nothing_beside(disk);
    rehearsal
}

fn nothing_beside(disk: &Disk) {
    let names = disk.disk.read_dir("/".as_ref()).unwrap();
    let names: Vec<_> = names.into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["store"], "something is left");
}

fn counts(contents: &Contents) -> (u64, u64) {
    let scopes = contents.keys().map(|(scope, _)| scope);
    let scopes: std::collections::BTreeSet<_> = scopes.collect();
    (scopes.len() as u64, contents.len() as u64)
}

#[test]
fn what_is_reported_is_what_a_real_run_then_does() {
    let disk = Disk::with(&before());
    let rehearsal = rehearse(&disk, chain(disk.builder()));
    assert!(rehearsal.would_succeed(), "{rehearsal}");
    assert!(rehearsal.reverts.is_exact(), "{rehearsal}");
    assert_eq!((rehearsal.from, rehearsal.to), (1, 3));
    let [names, months] = &*rehearsal.migrations else {
        panic!("{rehearsal}");
    };
    let numbers = |of: &evenkeel::RehearsedMigration| {
        (
            of.added,
            of.changed,
            of.removed,
            of.unchanged,
            of.step.scopes,
        )
    };
    assert_eq!(numbers(names), (20, 0, 10, 11, 10));
    // The age of 0 is what it was.
    assert_eq!(numbers(months), (10, 9, 10, 12, 10));
    assert_eq!(names.before, rehearsal.before);
    assert_eq!(names.after, months.before);
    assert_eq!(months.after, rehearsal.after);
    let size = |size: &evenkeel::StateSize| (size.scopes, size.keys);
    assert_eq!(size(&rehearsal.before), counts(&before()));

    let store = chain(disk.builder()).open(PATH).unwrap();
    let report = store.migration_report().unwrap();
    let steps = rehearsal.migrations.iter().map(|of| of.step.clone());
    assert_eq!(report.steps, steps.collect::<Vec<_>>());
    let usage = store.usage().unwrap();
    let bytes: u64 = usage.scopes.iter().map(|scope| scope.bytes).sum();
    assert_eq!(rehearsal.after.bytes, bytes);
    store.close().unwrap();
    let after = disk.contents();
    assert_eq!(size(&rehearsal.after), counts(&after));
    // And each sample is a change that was made.
    let samples: Vec<_> = rehearsal
        .migrations
        .iter()
        .flat_map(|of| &of.samples)
        .collect();
    assert_eq!(
        samples.len(),
        3 * 3 + 3 * 3 - usize::from(samples_hold_user_0(&rehearsal))
    );
    for sample in names.samples.iter().filter(|sample| sample.after.is_none()) {
        let held = &before()[&(sample.scope.clone(), sample.key.clone())];
        assert_eq!(sample.before.as_ref(), Some(&held.0));
        assert_eq!(sample.expires_before, held.1);
    }
    for sample in months
        .samples
        .iter()
        .filter(|sample| sample.after.is_some())
    {
        let held = &after[&(sample.scope.clone(), sample.key.clone())];
        assert_eq!(sample.after.as_ref(), Some(&held.0));
        assert_eq!(sample.expires_after, held.1);
    }
}

/// Whether the user is shown whose age is the same in months.
fn samples_hold_user_0(rehearsal: &Rehearsal) -> bool {
    let months = &rehearsal.migrations[1];
    months.samples.iter().any(|sample| sample.scope == user(0))
}

#[test]
fn the_folder_stays_as_it_is_byte_for_byte() {
    let place = Place::new();
    place.fill(|store| {
        for ((scope, key), (value, _)) in before() {
            store.scope(scope).set(key, value)?;
        }
        Ok(())
    });
    let fails = || Made::to(4, |_| Err(Error::abort("no")));
    let wrong = |_: &MigratedState| Err::<(), _>("it does not");
    for builder in [
        chain(place.builder()),
        chain(place.builder()).migration(fails()),
        chain(place.builder()).invariant("it holds", wrong),
    ] {
        let migrations = builder.migrations(&place.path).unwrap();
        let above = place.path.parent().unwrap();
        let held = files(above);
        for _ in 0..2 {
            drop(migrations.rehearse().unwrap());
            assert_eq!(files(above), held);
        }
        migrations.close().unwrap();
    }
}

#[test]
fn a_migration_that_fails_is_reported_with_what_came_before_it() {
    let disk = Disk::with(&before());
    let fails = || {
        Made::to(3, |state| {
            state.set("given", "?")?;
            match state.get::<u64>("age")? {
                Some(5) => Err(Error::abort("five is too many")),
                _ => Ok(()),
            }
        })
    };
    let builder = || disk.builder().migration(split_names()).migration(fails());
    let rehearsal = rehearse(&disk, builder());
    assert!(!rehearsal.would_succeed());
    assert_eq!(rehearsal.migrations.len(), 1);
    assert!(matches!(rehearsal.reverts, Reverts::NotTried));
    let told = rehearsal.failure.as_ref().unwrap().to_string();
    assert!(rehearsal.to_string().contains(&format!("FAILURE: {told}")));
    match rehearsal.failure {
        Some(Error::MigrationFailed {
            version,
            scope,
            key,
            ..
        }) => {
            assert_eq!((version, scope), (3, user(5).to_string()));
            assert_eq!(key.as_deref(), Some("age"));
        }
        other => panic!("{other:?}"),
    }
    // A real run says the same.
    let failed = builder().open(PATH).unwrap_err();
    assert_eq!(failed.to_string(), told);
    assert_eq!(disk.contents(), before());
}

#[test]
fn a_limit_that_a_real_run_would_cross_is_a_failure() {
    let disk = Disk::with(&before());
    let store = disk.builder().open(PATH).unwrap();
    store
        .scope(user(3))
        .set_quota(Quota::new().keys(2))
        .unwrap();
    store.close().unwrap();
    let rehearsal = rehearse(&disk, chain(disk.builder()));
    let told = rehearsal.failure.as_ref().unwrap().to_string();
    assert!(told.contains("keys"), "{told}");
    let failed = chain(disk.builder()).open(PATH).unwrap_err();
    assert_eq!(failed.to_string(), told);
    assert_eq!(disk.contents(), before());
}

/// That no name is lost, said of the migrated state.
fn names_are_whole(state: &MigratedState) -> evenkeel::Result<()> {
    assert_eq!(state.version(), 3);
    let mut users = 0;
    for scope in state.scopes() {
        let scope = state.scope(scope?);
        if *scope.scope() == Scope::Global {
            continue;
        }
        users += 1;
        let whole =
            scope.contains("given")? && scope.contains("last")? && !scope.contains("name")?;
        if !whole || scope.len()? != 3 || scope.keys()?.next().as_deref() != Some("age") {
            return Err(Error::abort(format!("{} lost a name", scope.scope())));
        }
    }
    match users {
        10 => Ok(()),
        other => Err(Error::abort(format!("there are {other}"))),
    }
}

#[test]
fn an_invariant_that_holds_is_told_and_lets_the_run_through() {
    let disk = Disk::with(&before());
    let builder = || chain(disk.builder()).invariant("names are whole", names_are_whole);
    let rehearsal = rehearse(&disk, builder());
    assert!(rehearsal.would_succeed(), "{rehearsal}");
    assert_eq!(rehearsal.invariants[0].name, "names are whole");
    assert_eq!(rehearsal.invariants[0].broken, None);
    builder().open(PATH).unwrap().close().unwrap();
    // On the way back it is not asked.
    let migrations = builder().migrations(PATH).unwrap();
    migrations.revert_to(1).unwrap();
    migrations.close().unwrap();
    assert_eq!(disk.contents(), before());
}

#[test]
fn an_invariant_that_does_not_hold_stops_both() {
    let disk = Disk::with(&before());
    let panics = |_: &MigratedState| -> Result<(), String> { panic!("nobody looked") };
    let writes = |state: &MigratedState| state.global().get::<u64>("name").map(drop);
    let builder = || {
        chain(disk.builder())
            .invariant("names are whole", names_are_whole)
            .invariant("ages", |_| Err("too old"))
            .invariant("aborts", |_| Err(Error::abort("too young")))
            .invariant("types", writes)
            .invariant("panics", panics)
    };
    let rehearsal = rehearse(&disk, builder());
    assert!(!rehearsal.would_succeed());
    assert!(rehearsal.failure.is_none());
    assert!(
        rehearsal.reverts.is_exact(),
        "the way back is gone all the same"
    );
    let broken: Vec<_> = rehearsal
        .invariants
        .iter()
        .map(|of| of.broken.as_deref())
        .collect();
    assert_eq!(broken[..3], [None, Some("too old"), Some("too young")]);
    assert!(
        broken[3].is_some_and(|reason| reason.contains("\"name\"")),
        "{broken:?}"
    );
    assert!(
        broken[4].is_some_and(|reason| reason.contains("nobody looked")),
        "{broken:?}"
    );
    for _ in 0..2 {
        match builder().open(PATH) {
            Err(Error::InvariantBroken { name, reason }) => {
                assert_eq!((&*name, &*reason), ("ages", "too old"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(disk.contents(), before());
    }
    let migrations = builder().migrations(PATH).unwrap();
    let refused = migrations.run();
    assert!(
        matches!(refused, Err(Error::InvariantBroken { .. })),
        "{refused:?}"
    );
    assert_eq!(migrations.version(), 1);
    migrations.close().unwrap();
    // With an invariant that holds it goes through.
    chain(disk.builder()).open(PATH).unwrap().close().unwrap();
}

#[test]
fn a_way_back_that_brings_back_something_else_is_told_with_examples() {
    let disk = Disk::with(&before());
    let lossy = Transforms::to(2).scopes(users()).convert_and_back(
        "age",
        |years: u64| Ok(years / 2),
        |half| Ok(half * 2),
    );
    let rehearsal = rehearse(&disk, disk.builder().migration(lossy));
    match &rehearsal.reverts {
        Reverts::Differs { keys, first } => {
            assert_eq!((*keys, first.len()), (5, 5));
            assert_eq!(first[0].scope, user(1));
            assert_eq!(
                (&first[0].before, &first[0].after),
                (&Some(1.into()), &Some(0.into()))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(rehearsal.would_succeed() && !rehearsal.reverts.is_exact());
    // A deadline is a difference, too.
    let shortens = Made::to(2, |_| Ok(()))
        .scopes(ScopeSet::scope(user(7)))
        .back(|state| {
            let name: Option<String> = state.get("name")?;
            state.remove("name")?;
            state.set("name", name)
        });
    let rehearsal = rehearse(&disk, disk.builder().migration(shortens));
    match &rehearsal.reverts {
        Reverts::Differs { keys: 1, first } => {
            assert_eq!(first[0].before, first[0].after);
            assert_eq!(
                (first[0].expires_before, first[0].expires_after),
                (Some(UNTIL), None)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_way_back_that_is_missing_or_fails_is_told() {
    let disk = Disk::with(&before());
    let builder = disk.builder().migration(split_names()).migration(
        Transforms::to(3)
            .scopes(users())
            .remove(KeyPattern::key("age")),
    );
    let rehearsal = rehearse(&disk, builder);
    assert!(rehearsal.would_succeed());
    match &rehearsal.reverts {
        Reverts::Fails(Error::Irreversible { version: 3, name }) => {
            assert!(name.contains("remove \"age\""), "{name}");
        }
        other => panic!("{other:?}"),
    }
    let fails = Made::to(2, |_| Ok(())).back(|_| panic!("no way"));
    let rehearsal = rehearse(&disk, disk.builder().migration(fails));
    assert!(rehearsal.would_succeed());
    match &rehearsal.reverts {
        Reverts::Fails(Error::MigrationFailed { version: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn samples_are_bounded() {
    let mut contents = Contents::new();
    for scope in 0..20 {
        for key in 0..20 {
            contents.insert((user(scope), format!("{key:02}")), (1.into(), None));
        }
        contents.insert(
            (user(scope), "large".into()),
            ("x".repeat(70_000).into(), None),
        );
    }
    let disk = Disk::with(&contents);
    let prefix = Transforms::to(2).rename(KeyPattern::all(), KeyPattern::prefix("v2."));
    let rehearsal = rehearse(&disk, disk.builder().migration(prefix));
    let migration = &rehearsal.migrations[0];
    assert_eq!((migration.added, migration.removed), (420, 420));
    assert_eq!(migration.samples.len(), 24);
    let scopes: std::collections::BTreeSet<_> = migration
        .samples
        .iter()
        .map(|sample| &sample.scope)
        .collect();
    assert_eq!(scopes.len(), 3);
    assert!(migration.staged_bytes > 20 * 70_000);
}

#[test]
fn a_rehearsal_with_nothing_to_run_says_so_and_asks_the_invariants() {
    let disk = Disk::with(&before());
    chain(disk.builder()).open(PATH).unwrap().close().unwrap();
    let builder = chain(disk.builder()).invariant("names are whole", names_are_whole);
    let rehearsal = rehearse(&disk, builder);
    assert_eq!((rehearsal.from, rehearsal.to), (3, 3));
    assert!(rehearsal.would_succeed() && rehearsal.migrations.is_empty());
    assert_eq!(rehearsal.invariants.len(), 1);
    assert!(rehearsal.to_string().contains("nothing to run"));
    // A store in which there is nothing takes the newest version without a run.
    let disk = Disk::with(&Contents::new());
    let rehearsal = rehearse(&disk, chain(disk.builder()));
    assert!(rehearsal.would_succeed() && rehearsal.migrations.is_empty());
    let migrations = chain(disk.builder()).migrations(PATH).unwrap();
    assert!(migrations.run().unwrap().steps.is_empty());
}

#[test]
fn a_rehearsal_can_be_stopped_anywhere() {
    let told = Arc::new(AtomicU64::new(0));
    for stop in 1.. {
        let disk = Disk::with(&before());
        told.store(0, Ordering::SeqCst);
        let count = Arc::clone(&told);
        let builder = chain(disk.builder()).migration_progress(move |_| {
            match count.fetch_add(1, Ordering::SeqCst) + 1 == stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let migrations = builder.migrations(PATH).unwrap();
        let outcome = migrations.rehearse();
        if told.load(Ordering::SeqCst) < stop {
            drop(outcome.unwrap());
            assert!(stop > 40, "it is told too little");
            return;
        }
        assert!(
            matches!(outcome, Err(Error::Stopped { .. })),
            "{stop}: {outcome:?}"
        );
        migrations.close().unwrap();
        nothing_beside(&disk);
        assert_eq!(disk.contents(), before());
    }
}

#[test]
fn a_rehearsal_that_is_killed_leaves_nothing_that_harms() {
    let operations = {
        let disk = Disk::with(&before());
        let migrations = chain(disk.builder()).migrations(PATH).unwrap();
        let begun = disk.disk.operations();
        drop(migrations.rehearse().unwrap());
        disk.disk.operations() - begun
    };
    assert!(operations > 50, "{operations}");
    for at in 1..=operations {
        for loss in [Loss::Nothing, Loss::Everything, Loss::Random(at)] {
            let mut disk = Disk::with(&before());
            let migrations = chain(disk.builder()).migrations(PATH).unwrap();
            disk.disk.stop_at(disk.disk.operations() + at, When::Before);
            let _ = migrations.rehearse();
            assert!(disk.disk.stopped(), "{at}");
            disk.disk = disk.disk.crash(loss);
            drop(migrations);
            // Another rehearsal comes to the same, and so does opening.
            assert_eq!(disk.contents(), before(), "killed at {at}");
            nothing_beside(&disk);
            if at % 10 == 0 {
                assert!(rehearse(&disk, chain(disk.builder())).would_succeed());
            }
        }
    }
}

#[test]
fn what_another_rehearsal_left_is_removed_by_the_next() {
    let disk = Disk::with(&before());
    let migrations = chain(disk.builder()).migrations(PATH).unwrap();
    // As a kill would leave it, while the store is open.
    let left = disk.builder().open("/.store.rehearsal").unwrap();
    left.global().set("left", "over").unwrap();
    left.close().unwrap();
    assert!(migrations.rehearse().unwrap().would_succeed());
    migrations.close().unwrap();
    nothing_beside(&disk);
    // A folder that is no store is somebody's.
    let migrations = chain(disk.builder()).migrations(PATH).unwrap();
    disk.disk.create_dir("/.store.rehearsal".as_ref()).unwrap();
    disk.disk
        .create_dir("/.store.rehearsal/mine".as_ref())
        .unwrap();
    let refused = migrations.rehearse();
    assert!(
        matches!(&refused, Err(Error::Occupied { path }) if path == Path::new("/.store.rehearsal")),
        "{refused:?}"
    );
    migrations.close().unwrap();
    assert_eq!(disk.contents(), before());
    let there = disk.disk.metadata("/.store.rehearsal/mine".as_ref());
    assert!(there.unwrap().is_some());
}

#[test]
fn a_full_disk_ends_a_rehearsal_and_nothing_else() {
    let disk = Disk::with(&before());
    let large = || Made::to(2, |state| state.set("large", "x".repeat(1_000_000))).scopes(users());
    let migrations = disk.builder().migration(large()).migrations(PATH).unwrap();
    disk.disk.set_capacity(Some(2_000_000));
    let refused = migrations.rehearse();
    assert!(refused.is_err_and(|e| e.is_disk_full()));
    nothing_beside(&disk);
    disk.disk.set_capacity(None);
    drop(migrations.rehearse().unwrap());
    migrations.close().unwrap();
    assert_eq!(disk.contents(), before());
}

#[test]
fn a_report_is_for_people() {
    let disk = Disk::with(&lasting([
        (user(1), "name", "Ada Lovelace"),
        (user(2), "other", "x"),
    ]));
    let builder = disk
        .builder()
        .migration(split_names())
        .invariant("all is well", |_| Ok::<(), Error>(()))
        .invariant("none is left", |_| Err("two are left"));
    let mut rehearsal = rehearse(&disk, builder);
    rehearsal.time = std::time::Duration::from_millis(2);
    rehearsal.migrations[0].time = std::time::Duration::from_millis(1);
    let expected = r#"Rehearsal: from version 1 to 2, which WOULD FAIL
  now:  2 scopes, 2 keys, 28 bytes
  then: 2 scopes, 3 keys, 35 bytes
Migration 2 (split names): split "name" into ["first", "last"]
  visited 2 scopes in 1.0ms
  keys: 2 added, 0 changed, 1 removed, 1 unchanged
  size: 28 → 35 bytes; 57 bytes staged
    custom scope "user/1"
      "first": (absent) → "Ada"
      "last": (absent) → "Lovelace"
      "name": "Ada Lovelace" → (absent)
Invariant "all is well": holds
Invariant "none is left": BROKEN: two are left
Way back: brings back exactly what was
Rehearsed in 2.0ms; the state was not touched."#;
    assert_eq!(rehearsal.to_string(), expected);
}
