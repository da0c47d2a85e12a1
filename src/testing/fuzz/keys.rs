//! Owns the target `keys`: scopes and keys are walls and an order, whatever their bytes.

use std::collections::BTreeMap;

use super::input::Input;
use crate::error::Error;
use crate::scope::{
    COMPONENT_BYTES_MAX, ENCODED_BYTES_MAX, Scope, prefix_end, put_component, take_component,
};
use crate::state::Store;

/// How many keys are written to one store.
const WRITES_MAX: usize = 24;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => any_bytes(input.rest()),
        1 => {
            let (a, b) = (scope(&mut input), scope(&mut input));
            let (k, l) = (input.chunk(), input.chunk());
            two_scopes((&a, k), (&b, l));
        }
        2 => {
            let (a, b) = (input.chunk(), input.chunk());
            components(a, b);
            prefixes(a, b);
        }
        _ => walls(&mut input),
    }
}

/// A scope with any ids, some of them too long.
fn scope(input: &mut Input<'_>) -> Scope {
    let kind = input.u8();
    let mut id = || match kind & 0xF0 {
        0xF0 => input.text().repeat(usize::from(input.u8())),
        _ => input.text(),
    };
    match kind % 7 {
        0 => Scope::Global,
        1 => Scope::workflow(id()),
        2 => Scope::step(id(), id()),
        3 => Scope::custom(id()),
        4 => Scope::worker(id()),
        5 => Scope::routine(id(), id()),
        _ => Scope::job(id()),
    }
}

/// What is read as a scope is what would be written for it: no two byte strings stand
/// for one scope.
fn any_bytes(bytes: &[u8]) {
    if let Some((scope, used)) = Scope::decode(bytes) {
        assert_eq!(bytes.get(..used), Some(&*scope.encode()), "{scope}");
        // What is behind it does not matter.
        assert_eq!(Scope::decode(&bytes[..used]), Some((scope, used)));
    }
    if let Some((component, used)) = take_component(bytes) {
        let mut again = Vec::new();
        put_component(&mut again, &component);
        assert_eq!(bytes.get(..used), Some(&*again));
    }
}

fn two_scopes((a, k): (&Scope, &[u8]), (b, l): (&Scope, &[u8])) {
    let (x, y) = (a.encode(), b.encode());
    assert_eq!(x.cmp(&y), a.cmp(b), "the order of {a} and {b}");
    if a != b {
        assert!(!x.starts_with(&y) && !y.starts_with(&x), "{a} and {b}");
    }
    let (full, other) = ([&*x, k].concat(), [&*y, l].concat());
    assert_eq!(full.cmp(&other), (a, k).cmp(&(b, l)), "the order of keys");
    assert_eq!(Scope::decode(&full), Some((a.clone(), x.len())));
    let end = prefix_end(&x).expect("no scope begins with FF");
    assert!(x <= full && full < end, "a key outside of {a}");
    assert_eq!(x <= other && other < end, a == b, "{b} reaches into {a}");
    match a.validate() {
        Ok(()) => assert!(x.len() <= ENCODED_BYTES_MAX, "{} bytes", x.len()),
        Err(Error::LimitExceeded { max, actual, .. }) => {
            assert!(actual > max && max >= COMPONENT_BYTES_MAX as u64);
        }
        Err(e) => panic!("{a}: {e}"),
    }
}

/// Components that are not UTF-8 too.
fn components(a: &[u8], b: &[u8]) {
    let encoded = |component: &[u8]| {
        let mut out = Vec::new();
        put_component(&mut out, component);
        let back = take_component(&out);
        assert_eq!(back, Some((component.to_vec(), out.len())));
        out
    };
    let (x, y) = (encoded(a), encoded(b));
    assert_eq!(x.cmp(&y), a.cmp(b));
    assert!(a == b || !x.starts_with(&y) && !y.starts_with(&x));
}

/// A prefix's end is above all that begin with it, and above nothing else that is not
/// below the prefix.
fn prefixes(prefix: &[u8], other: &[u8]) {
    let end = prefix_end(prefix);
    for key in [other, &[prefix, other].concat()] {
        let inside = prefix <= key && end.as_deref().is_none_or(|end| key < end);
        assert_eq!(inside, key.starts_with(prefix), "{prefix:?}, {key:?}");
    }
}

/// Keys in scopes of a store: each is found where it was put and nowhere else, and scans
/// give those with their prefix, in order.
fn walls(input: &mut Input<'_>) {
    let store = Store::in_memory();
    let mut model: BTreeMap<Scope, BTreeMap<String, u64>> = BTreeMap::new();
    let (mut scopes, mut prefixes) = (vec![Scope::Global], vec![String::new()]);
    for number in 0..WRITES_MAX as u64 {
        if input.is_empty() {
            break;
        }
        let choice = input.u8();
        if choice & 1 == 0 {
            scopes.push(scope(input));
        }
        let scope = input.one_of(&scopes).clone();
        let key = match choice & 2 {
            0 => input.text(),
            // Neighbours of what is there.
            _ => format!("{}{}", input.one_of(&prefixes), input.text()),
        };
        let handle = store.scope(scope.clone());
        match handle.set(&key, number) {
            Ok(()) => {
                assert!(scope.validate().is_ok() && key.len() <= 4096);
                prefixes.push(key.clone());
                model.entry(scope).or_default().insert(key, number);
            }
            Err(Error::LimitExceeded { .. }) => {
                assert!(scope.validate().is_err() || key.len() > 4096);
            }
            Err(e) => panic!("setting {key:?} in {scope}: {e}"),
        }
    }
    assert!(store.scopes().expect("scopes").iter().eq(model.keys()));
    for scope in scopes.iter().filter(|scope| scope.validate().is_ok()) {
        let handle = store.scope(scope.clone());
        let held = model.get(scope);
        for prefix in &prefixes {
            let scan = handle.scan(prefix).expect("a scan");
            let found = scan.map(|entry| {
                let entry = entry.expect("an entry");
                (entry.key().to_owned(), entry.value().expect("a number"))
            });
            let found: Vec<(String, u64)> = found.collect();
            let expected = held.into_iter().flatten();
            let expected = expected.filter(|(key, _)| key.starts_with(prefix.as_str()));
            assert!(
                expected.eq(found.iter().map(|(k, n)| (k, n))),
                "{scope} {prefix:?}: {found:?}"
            );
            let got: Option<u64> = handle.get(prefix).expect("a key");
            assert_eq!(got, held.and_then(|held| held.get(prefix)).copied());
        }
    }
}
