//! Transforms: each one there and back, with keys that are missing, keys that are taken,
//! values of other types, and deadlines.

use evenkeel::{
    Error, KeyPattern, MigrationBudget, Result, Scope, ScopeKind, ScopeSet, StateMigration,
    Transforms, Value,
};
use serde_json::json;

use crate::disk::{Contents, Disk, Held, failure, lasting};

const UNTIL: u64 = 50_000_000;
const LATER: u64 = 90_000_000;

fn user(name: &str) -> Scope {
    Scope::custom(format!("user/{name}"))
}

fn value(json: serde_json::Value) -> Held {
    (json.into(), None)
}

/// Contents of one user.
fn of_ada<const N: usize>(entries: [(&str, Held); N]) -> Contents {
    let entries = entries.into_iter();
    entries
        .map(|(key, held)| ((user("ada"), key.to_owned()), held))
        .collect()
}

/// Migrates, compares, goes back, compares.
fn there_and_back(make: impl Fn() -> Transforms, before: &Contents, after: &Contents) {
    let disk = Disk::with(before);
    disk.migrate(make()).unwrap();
    assert_eq!(disk.contents(), *after, "there");
    disk.revert(make()).unwrap();
    assert_eq!(disk.contents(), *before, "back");
}

/// Migrates and compares; there is no way back, which changes nothing.
fn there_only(make: impl Fn() -> Transforms, before: &Contents, after: &Contents) {
    let disk = Disk::with(before);
    disk.migrate(make()).unwrap();
    assert_eq!(disk.contents(), *after);
    match disk.revert(make()) {
        Err(Error::Irreversible { version, name }) => {
            assert_eq!(version, make().version());
            assert!(name.contains("transforms: "), "{name}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.contents(), *after);
}

/// What a migration fails with; the state is as it was.
fn fails(make: impl Fn() -> Transforms, before: &Contents) -> (String, Option<String>, Error) {
    let disk = Disk::with(before);
    let failure = failure(disk.migrate(make()));
    assert_eq!(disk.contents(), *before);
    failure
}

#[test]
fn a_key_is_renamed_with_its_deadline() {
    let make = || Transforms::to(2).rename("nmae", "name");
    let mut before = of_ada([
        ("nmae", (json!("Ada").into(), Some(UNTIL))),
        ("x", value(json!(1))),
    ]);
    before.insert((user("bob"), "y".into()), value(json!(2)));
    let mut after = of_ada([
        ("name", (json!("Ada").into(), Some(UNTIL))),
        ("x", value(json!(1))),
    ]);
    after.insert((user("bob"), "y".into()), value(json!(2)));
    there_and_back(make, &before, &after);
}

#[test]
fn a_key_is_not_renamed_onto_another() {
    let before = of_ada([("a", value(json!(1))), ("b", value(json!(2)))]);
    let (scope, key, source) = fails(|| Transforms::to(2).rename("a", "b"), &before);
    assert_eq!((scope, key), (user("ada").to_string(), Some("b".into())));
    assert!(
        matches!(source, Error::Invalid { what: "key", .. }),
        "{source}"
    );
    // Onto itself it can be.
    there_and_back(|| Transforms::to(2).rename("a", "a"), &before, &before);
}

#[test]
fn keys_that_begin_alike_are_renamed_also_onto_each_other() {
    let keys = |keys: &[&'static str]| lasting(keys.iter().map(|key| (user("ada"), *key, 1)));
    let make = |from: &'static str, to: &'static str| {
        move || Transforms::to(2).rename(KeyPattern::prefix(from), KeyPattern::prefix(to))
    };
    let (before, after) = (
        keys(&["usr.a", "usr.b", "x"]),
        keys(&["user.a", "user.b", "x"]),
    );
    there_and_back(make("usr.", "user."), &before, &after);
    let (before, after) = (
        keys(&["a", "aa", "aaa", "b"]),
        keys(&["aa", "aaa", "aaaa", "b"]),
    );
    there_and_back(make("a", "aa"), &before, &after);
    there_and_back(make("aa", "a"), &keys(&["aa", "aaa"]), &keys(&["a", "aa"]));
    there_and_back(
        make("", "v2/"),
        &keys(&["a", "v2/a"]),
        &keys(&["v2/a", "v2/v2/a"]),
    );
    let (_, key, source) = fails(make("a", "b"), &keys(&["a1", "b1"]));
    assert_eq!(key.as_deref(), Some("b1"));
    assert!(matches!(source, Error::Invalid { .. }), "{source}");
}

#[test]
fn a_key_is_not_renamed_to_a_prefix() {
    let disk = Disk::with(&of_ada([("a", value(json!(1)))]));
    for (from, to) in [
        (KeyPattern::key("a"), KeyPattern::prefix("b")),
        (KeyPattern::prefix("a"), KeyPattern::key("b")),
    ] {
        let refused = disk.migrate(Transforms::to(2).rename(from, to));
        assert!(
            matches!(
                refused,
                Err(Error::Invalid {
                    what: "transforms",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[test]
fn what_is_renamed_counts_for_the_budget_before_it_is_all_in_memory() {
    let text = "x".repeat(1000);
    let keys = (0..100).map(|n| ((user("ada"), format!("a{n}")), (text.as_str().into(), None)));
    let budget = MigrationBudget::new().bytes(20_000);
    let make = move || {
        Transforms::to(2)
            .rename(KeyPattern::prefix("a"), KeyPattern::prefix("b"))
            .budget(budget)
    };
    let (_, _, source) = fails(make, &keys.collect());
    match source {
        Error::LimitExceeded {
            limit, max, actual, ..
        } => {
            assert_eq!((limit, max), ("migration_bytes", 20_000));
            assert!(actual < 30_000, "{actual}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_default_is_set_where_the_key_is_missing() {
    let make = || Transforms::to(2).default("tries", 3);
    let mut before = of_ada([("x", value(json!(1)))]);
    before.insert((user("bob"), "tries".into()), value(json!(7)));
    let mut after = before.clone();
    after.insert((user("ada"), "tries".into()), value(json!(3)));
    there_and_back(make, &before, &after);
    // A number by hand is known again.
    let large = || Transforms::to(2).default("tries", Value::UInt(3));
    there_and_back(large, &before, &after);
}

#[test]
fn keys_are_removed() {
    let before = of_ada([
        ("a1", value(json!(1))),
        ("a2", value(json!(2))),
        ("b", value(json!(3))),
    ]);
    let after = of_ada([("b", value(json!(3)))]);
    let all = || Transforms::to(2).remove(KeyPattern::prefix("a"));
    there_only(all, &before, &after);
    let one = || Transforms::to(2).remove_and_back("a1", 1);
    let after = of_ada([("a2", value(json!(2))), ("b", value(json!(3)))]);
    there_and_back(one, &before, &after);
}

fn split(name: String) -> Result<[Option<String>; 2]> {
    Ok(match name.split_once(' ') {
        Some((first, last)) => [first, last].map(|part| Some(part.to_owned())),
        None => [Some(name), None],
    })
}

fn join(parts: [Option<String>; 2]) -> Result<String> {
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_value_is_split_and_merged_again() {
    let make = || Transforms::to(2).split_and_back("name", ["first", "last"], split, join);
    let name = |name: &str| (name.into(), Some(UNTIL));
    let mut before = of_ada([("name", name("Ada Lovelace")), ("x", value(json!(1)))]);
    before.insert((user("cher"), "name".into()), name("Cher"));
    before.insert((user("nobody"), "y".into()), value(json!(1)));
    let mut after = of_ada([
        ("first", name("Ada")),
        ("last", name("Lovelace")),
        ("x", value(json!(1))),
    ]);
    after.insert((user("cher"), "first".into()), name("Cher"));
    after.insert((user("nobody"), "y".into()), value(json!(1)));
    there_and_back(make, &before, &after);
    there_only(
        || Transforms::to(2).split("name", ["first", "last"], split),
        &before,
        &after,
    );
    // The same the other way round.
    let make = || Transforms::to(2).merge_and_back(["first", "last"], "name", join, split);
    there_and_back(make, &after, &before);
    there_only(
        || Transforms::to(2).merge(["first", "last"], "name", join),
        &after,
        &before,
    );
}

#[test]
fn a_key_may_be_among_its_parts() {
    let make = || Transforms::to(2).split_and_back("name", ["name", "last"], split, join);
    let before = of_ada([("name", value(json!("Ada Lovelace")))]);
    let after = of_ada([
        ("last", value(json!("Lovelace"))),
        ("name", value(json!("Ada"))),
    ]);
    there_and_back(make, &before, &after);
}

#[test]
fn parts_do_not_overwrite() {
    let before = of_ada([
        ("last", value(json!("?"))),
        ("name", value(json!("Ada Lovelace"))),
    ]);
    let make = || Transforms::to(2).split("name", ["first", "last"], split);
    let (scope, key, source) = fails(make, &before);
    assert_eq!((scope, key), (user("ada").to_string(), Some("last".into())));
    assert!(
        matches!(source, Error::Invalid { what: "key", .. }),
        "{source}"
    );
    let before = of_ada([("first", value(json!("Ada"))), ("name", value(json!("?")))]);
    let make = || Transforms::to(2).merge(["first", "last"], "name", join);
    let (_, key, _) = fails(make, &before);
    assert_eq!(key.as_deref(), Some("name"));
}

#[test]
fn what_was_merged_lasts_as_long_as_the_longest_part() {
    let make = || Transforms::to(2).merge(["first", "last"], "name", join);
    for (first, last, expected) in [
        (Some(UNTIL), Some(LATER), Some(LATER)),
        (Some(LATER), Some(UNTIL), Some(LATER)),
        (None, Some(LATER), None),
        (Some(UNTIL), None, None),
    ] {
        let before = of_ada([("first", ("a".into(), first)), ("last", ("b".into(), last))]);
        let after = of_ada([("name", ("a b".into(), expected))]);
        there_only(make, &before, &after);
    }
}

fn parse(text: String) -> Result<u32> {
    text.parse().map_err(Error::abort)
}

#[test]
fn values_are_converted_with_their_deadlines() {
    let make = || {
        let keys = KeyPattern::prefix("count.");
        Transforms::to(2).convert_and_back(keys, parse, |count| Ok(count.to_string()))
    };
    let before = of_ada([
        ("count", value(json!("no number"))),
        ("count.a", ("1".into(), Some(UNTIL))),
        ("count.b", value(json!("2"))),
    ]);
    let after = of_ada([
        ("count", value(json!("no number"))),
        ("count.a", (1.into(), Some(UNTIL))),
        ("count.b", value(json!(2))),
    ]);
    there_and_back(make, &before, &after);
    there_only(
        || Transforms::to(2).convert::<String, u32>(KeyPattern::prefix("count."), parse),
        &before,
        &after,
    );
}

#[test]
fn what_is_of_another_type_is_named() {
    let before = of_ada([
        ("count.a", value(json!("1"))),
        ("count.b", value(json!([2]))),
    ]);
    let keys = || KeyPattern::prefix("count.");
    let makes: [&dyn Fn() -> Transforms; 4] = [
        &|| Transforms::to(2).convert(keys(), parse),
        &|| Transforms::to(2).split("count.b", ["x", "y"], split),
        &|| Transforms::to(2).merge(["count.a", "count.b"], "x", join),
        &|| Transforms::to(2).rename_field("count.b", "x", "y"),
    ];
    for make in makes {
        let (scope, key, source) = fails(make, &before);
        assert_eq!(
            (scope, key),
            (user("ada").to_string(), Some("count.b".into()))
        );
        match source {
            Error::TypeMismatch { scope, key, .. } => {
                assert_eq!(
                    (scope, key),
                    (user("ada").to_string(), "count.b".to_owned())
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_closure_says_and_its_panic_are_failures_that_name_the_place() {
    let before = of_ada([("count", value(json!("many")))]);
    let (scope, key, source) = fails(|| Transforms::to(2).convert("count", parse), &before);
    assert_eq!(
        (scope, key),
        (user("ada").to_string(), Some("count".into()))
    );
    assert!(source.to_string().contains("invalid digit"), "{source}");
    let make = || Transforms::to(2).convert("count", |_: Value| -> Result<u32> { panic!("no") });
    let (scope, key, source) = fails(make, &before);
    assert_eq!(
        (scope, key),
        (user("ada").to_string(), Some("count".into()))
    );
    assert!(matches!(source, Error::Panicked { .. }), "{source}");
    let make = || Transforms::to(2).move_to("count", |_| panic!("where"));
    let (_, _, source) = fails(make, &before);
    assert!(matches!(source, Error::Panicked { .. }), "{source}");
}

fn archive(scope: &Scope) -> Scope {
    match scope {
        Scope::Custom(name) => Scope::custom(format!("archive/{name}")),
        other => other.clone(),
    }
}

fn from_archive(scope: &Scope) -> Option<Scope> {
    match scope {
        Scope::Custom(name) => name.strip_prefix("archive/").map(Scope::custom),
        _ => None,
    }
}

fn users() -> ScopeSet {
    ScopeSet::pattern(ScopeKind::Custom, ["user/*"])
}

#[test]
fn values_move_to_another_scope_and_back_also_out_of_one_that_gets_empty() {
    let make = || {
        Transforms::to(2).scopes(users()).move_to_and_back(
            KeyPattern::prefix("old."),
            archive,
            from_archive,
        )
    };
    let before = of_ada([("new", value(json!(1))), ("old.a", (2.into(), Some(UNTIL)))]);
    let mut before = before;
    before.insert((user("bob"), "old.b".into()), value(json!(3)));
    before.insert(
        (Scope::custom("archive/other"), "old.x".into()),
        value(json!(4)),
    );
    before.insert((Scope::Global, "old.g".into()), value(json!(5)));
    let mut after = Contents::new();
    for ((scope, key), held) in &before {
        let moves = users().contains(scope) && key.starts_with("old.");
        let scope = if moves { archive(scope) } else { scope.clone() };
        after.insert((scope, key.clone()), held.clone());
    }
    assert_eq!(after.len(), before.len());
    there_and_back(make, &before, &after);
    there_only(
        || {
            let keys = KeyPattern::prefix("old.");
            Transforms::to(2).scopes(users()).move_to(keys, archive)
        },
        &before,
        &after,
    );
}

#[test]
fn values_do_not_move_onto_others_nor_where_others_come_from() {
    let mut before = of_ada([("k", value(json!(1)))]);
    before.insert((archive(&user("ada")), "k".into()), value(json!(2)));
    let make = || Transforms::to(2).scopes(users()).move_to("k", archive);
    let (scope, key, source) = fails(make, &before);
    assert_eq!(
        (scope, key),
        (archive(&user("ada")).to_string(), Some("k".into()))
    );
    assert!(
        matches!(source, Error::Invalid { what: "key", .. }),
        "{source}"
    );
    let make = || Transforms::to(2).move_to("k", archive);
    let (scope, _, source) = fails(make, &of_ada([("k", value(json!(1)))]));
    assert_eq!(scope, user("ada").to_string());
    assert!(
        matches!(
            source,
            Error::Invalid {
                what: "transforms",
                ..
            }
        ),
        "{source}"
    );
}

#[test]
fn a_move_with_a_way_back_stands_alone() {
    let disk = Disk::with(&of_ada([("k", value(json!(1)))]));
    let mixed = Transforms::to(2)
        .scopes(users())
        .rename("j", "k")
        .move_to_and_back("k", archive, from_archive);
    let refused = disk.migrate(mixed);
    assert!(
        matches!(
            refused,
            Err(Error::Invalid {
                what: "transforms",
                ..
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn a_wrong_pattern_is_refused_before_the_folder_is_touched() {
    let disk = Disk::with(&of_ada([("k", value(json!(1)))]));
    let operations = disk.disk.operations();
    let wrong = ScopeSet::pattern(ScopeKind::Step, ["*"]);
    let refused = disk.migrate(Transforms::to(2).scopes(wrong));
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert_eq!(disk.disk.operations(), operations);
}

#[test]
fn fields_are_transformed_inside_of_maps() {
    let job = |json: serde_json::Value| (json.into(), Some(UNTIL));
    let before = of_ada([
        ("job.1", job(json!({"cnt": 1, "debug": true}))),
        ("job.2", job(json!({"tries": 5}))),
        ("other", value(json!("no map"))),
    ]);
    let keys = || KeyPattern::prefix("job.");
    let make = || {
        Transforms::to(2)
            .rename_field(keys(), "cnt", "count")
            .default_field(keys(), "tries", 3)
    };
    let after = of_ada([
        ("job.1", job(json!({"count": 1, "debug": true, "tries": 3}))),
        ("job.2", job(json!({"tries": 5}))),
        ("other", value(json!("no map"))),
    ]);
    there_and_back(make, &before, &after);
    let after = of_ada([
        ("job.1", job(json!({"cnt": 1}))),
        ("job.2", job(json!({"tries": 5}))),
        ("other", value(json!("no map"))),
    ]);
    there_only(
        || Transforms::to(2).remove_field(keys(), "debug"),
        &before,
        &after,
    );
    let one = || Transforms::to(2).remove_field_and_back("job.1", "debug", true);
    there_and_back(one, &before, &after);
    let taken = of_ada([("job.1", value(json!({"cnt": 1, "count": 2})))]);
    let make = || Transforms::to(2).rename_field(keys(), "cnt", "count");
    let (_, key, source) = fails(make, &taken);
    assert_eq!(key.as_deref(), Some("job.1"));
    assert!(
        matches!(source, Error::Invalid { what: "field", .. }),
        "{source}"
    );
}

#[test]
fn transforms_follow_each_other_and_go_back_in_reverse() {
    let make = || {
        Transforms::to(2)
            .rename("a", "b")
            .convert_and_back("b", |n: i64| Ok(n + 1), |n| Ok(n - 1))
            .rename("b", "c")
            .default("b", "new")
    };
    let before = of_ada([("a", value(json!(1)))]);
    let after = of_ada([("b", value(json!("new"))), ("c", value(json!(2)))]);
    there_and_back(make, &before, &after);
}

#[test]
fn only_the_scopes_that_were_named_are_changed() {
    let scopes = || users().except(ScopeSet::scope(user("bob")));
    let make = || Transforms::to(2).scopes(scopes()).rename("a", "b");
    let mut before = of_ada([("a", value(json!(1)))]);
    before.insert((user("bob"), "a".into()), value(json!(1)));
    before.insert((Scope::Global, "a".into()), value(json!(1)));
    let mut after = before.clone();
    let moved = after.remove(&(user("ada"), "a".into())).unwrap();
    after.insert((user("ada"), "b".into()), moved);
    there_and_back(make, &before, &after);
}

#[test]
fn they_say_what_they_do() {
    let migration = Transforms::to(7)
        .rename("a", "b")
        .rename(KeyPattern::prefix("x."), KeyPattern::prefix("y."))
        .default("d", 1)
        .remove(KeyPattern::all())
        .split("n", ["f", "l"], split)
        .merge(["f", "l"], "n", join)
        .convert("c", parse)
        .move_to("m", Scope::clone)
        .rename_field("v", "p", "q")
        .default_field("v", "r", "s")
        .remove_field("v", "t");
    let description = StateMigration::description(&migration);
    assert_eq!(
        description.split("; ").collect::<Vec<_>>(),
        [
            r#"rename "a" to "b""#,
            r#"rename the keys that begin with "x." to the keys that begin with "y.""#,
            r#"default "d" to 1"#,
            "remove all keys",
            r#"split "n" into ["f", "l"]"#,
            r#"merge ["f", "l"] into "n""#,
            r#"convert "c""#,
            r#"move "m" to another scope"#,
            r#"rename the field "p" to "q" in "v""#,
            r#"default the field "r" to "s" in "v""#,
            r#"remove the field "t" from "v""#,
        ]
    );
    assert_eq!(migration.version(), 7);
    assert_eq!(StateMigration::name(&migration), "transforms");
    let named = migration.name("tidy").description("All of it.");
    assert_eq!(StateMigration::name(&named), "tidy");
    assert_eq!(StateMigration::description(&named), "All of it.");
}
