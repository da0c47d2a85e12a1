//! Random little states and random transforms: there and back gives what was, to the
//! deadline.

use evenkeel::{KeyPattern, Result, Scope, Transforms, Value};
use proptest::prelude::*;

use crate::disk::{Contents, Disk};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

/// One transform: which one, and which of the keys that there are by then.
type Chosen = (u8, usize);

fn scopes() -> [Scope; 3] {
    [Scope::Global, Scope::job("1"), Scope::step("w", "s")]
}

fn wrap(value: Value) -> Result<Value> {
    Ok(Value::List(vec![value]))
}

fn unwrap(value: Value) -> Result<Value> {
    let list = value.as_list().and_then(|list| list.first().cloned());
    Ok(list.unwrap_or_default())
}

fn halves(value: Value) -> Result<[Option<Value>; 2]> {
    let number = value.as_i64();
    let odd = number.is_some_and(|number| number % 2 == 1);
    Ok([(!odd).then(|| value.clone()), odd.then_some(value)])
}

fn whole(halves: [Option<Value>; 2]) -> Result<Value> {
    Ok(halves.into_iter().flatten().next().unwrap_or_default())
}

/// Transforms whose targets are never there, so that there is always a way back.
fn transforms(chosen: &[Chosen]) -> Transforms {
    let mut keys: Vec<String> = KEYS.iter().map(|&key| key.into()).collect();
    let mut made = Transforms::to(2);
    for (number, (kind, key)) in chosen.iter().enumerate() {
        let at = key % keys.len();
        let key = keys[at].clone();
        let (new, other) = (format!("new{number}"), format!("other{number}"));
        match kind % 6 {
            0 => {
                made = made.rename(&key, &new);
                keys[at] = new;
            }
            1 => {
                made = made.default(&new, number as u64);
                keys.push(new);
            }
            2 => made = made.convert_and_back(&key, wrap, unwrap),
            3 => {
                made = made.split_and_back(&key, [new.as_str(), other.as_str()], halves, whole);
                keys[at] = new;
                keys.push(other);
            }
            4 => {
                made = made.merge_and_back(
                    [key.as_str(), other.as_str()],
                    &new,
                    |[value, _]: [Option<Value>; 2]| Ok(value.unwrap_or_default()),
                    |value| Ok([Some(value), None]),
                );
                keys[at] = new;
            }
            _ => {
                let (from, to) = (KeyPattern::prefix(&key), KeyPattern::prefix(&new));
                made = made.rename(from, to);
                for other in &mut keys {
                    if let Some(rest) = other.strip_prefix(&key) {
                        *other = format!("{new}{rest}");
                    }
                }
            }
        }
    }
    made
}

fn contents() -> impl Strategy<Value = Contents> {
    let value = prop_oneof![
        (0..9_i64).prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
        Just(Value::Null),
    ];
    let until = prop_oneof![Just(None), (50_000_000..60_000_000_u64).prop_map(Some)];
    let key = (0..scopes().len(), 0..KEYS.len());
    let key = key.prop_map(|(scope, key)| (scopes()[scope].clone(), KEYS[key].to_owned()));
    proptest::collection::btree_map(key, (value, until), 0..9)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn there_and_back_gives_what_was(
        before in contents(),
        chosen in proptest::collection::vec((any::<u8>(), any::<usize>()), 0..6),
    ) {
        let disk = Disk::with(&before);
        let migrations = disk.migrations(transforms(&chosen));
        let rehearsal = migrations.rehearse().unwrap();
        migrations.close().unwrap();
        prop_assert!(rehearsal.would_succeed(), "{}", rehearsal);
        prop_assert!(before.is_empty() || rehearsal.reverts.is_exact(), "{}", rehearsal);
        prop_assert_eq!(&disk.contents(), &before);
        disk.migrate(transforms(&chosen)).unwrap();
        prop_assert_eq!(rehearsal.after.keys, disk.contents().len() as u64);
        // One that is empty has the version without having been migrated.
        if !before.is_empty() {
            let store = disk.builder().migration(transforms(&chosen)).open("/store").unwrap();
            prop_assert_eq!(store.schema_version(), 2);
            store.close().unwrap();
        }
        disk.revert(transforms(&chosen)).unwrap();
        prop_assert_eq!(disk.contents(), before);
    }
}
