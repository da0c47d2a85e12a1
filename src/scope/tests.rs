//! Proves what `scope` promises, for every byte string.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Few different bytes, so that prefixes, zeros and equal strings are met often.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let edge = prop_oneof![Just(0u8), Just(1), Just(2), Just(0xFE), Just(0xFF)];
    prop_oneof![vec(edge, 0..6), vec(any::<u8>(), 0..20)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[\u{0}\u{1}a\"]{0,4}", any::<String>()]
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        Just(Scope::Global),
        text().prop_map(Scope::workflow),
        (text(), text()).prop_map(|(w, s)| Scope::step(w, s)),
        text().prop_map(Scope::custom),
        text().prop_map(Scope::worker),
        (text(), text()).prop_map(|(w, r)| Scope::routine(w, r)),
        text().prop_map(Scope::job),
    ]
}

fn encoded(tag: u8, components: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![tag];
    components
        .iter()
        .for_each(|component| put_component(&mut out, component));
    out
}

proptest! {
    #[test]
    fn components_come_back(component in bytes(), behind in bytes()) {
        let mut out = Vec::new();
        put_component(&mut out, &component);
        let used = out.len();
        out.extend_from_slice(&behind);
        prop_assert_eq!(take_component(&out), Some((component, used)));
    }

    #[test]
    fn order_and_injectivity_hold_for_all_bytes(
        a in (0..2u8, bytes(), bytes()),
        b in (0..2u8, bytes(), bytes()),
    ) {
        let left = encoded(a.0, &[a.1.clone(), a.2.clone()]);
        let right = encoded(b.0, &[b.1.clone(), b.2.clone()]);
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!(left.starts_with(&right), a == b);
    }

    #[test]
    fn scopes_sort_as_their_encodings(a in scopes(), b in scopes()) {
        prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        prop_assert_eq!(a.encode().starts_with(&b.encode()), a == b);
        prop_assert_eq!(a.to_string() == b.to_string(), a == b);
    }

    #[test]
    fn scopes_come_back_from_full_keys(scope in scopes(), key in bytes()) {
        let mut full = scope.encode();
        let used = full.len();
        for cut in 0..used {
            prop_assert_eq!(Scope::decode(&full[..cut]), None);
        }
        full.extend_from_slice(&key);
        prop_assert_eq!(Scope::decode(&full), Some((scope, used)));
    }

    #[test]
    fn what_decodes_encodes_to_the_same(input in vec(0..9u8, 0..12)) {
        if let Some((scope, used)) = Scope::decode(&input) {
            prop_assert_eq!(scope.encode(), &input[..used]);
        }
    }

    #[test]
    fn prefix_end_is_the_least_bound(prefix in bytes(), other in bytes()) {
        match prefix_end(&prefix) {
            Some(end) => {
                prop_assert!(end > prefix);
                prop_assert_eq!(other < end, other < prefix || other.starts_with(&prefix));
            }
            None => prop_assert!(prefix.iter().all(|&byte| byte == 0xFF)),
        }
    }
}

#[test]
fn long_scopes_are_refused() {
    assert!(Scope::Global.validate().is_ok());
    assert!(Scope::workflow("").validate().is_ok());
    assert!(
        Scope::step("a".repeat(1024), "b".repeat(1024))
            .validate()
            .is_ok()
    );
    let long = Scope::job("a".repeat(1025)).validate();
    assert!(matches!(
        long,
        Err(Error::LimitExceeded {
            limit: "scope_component_bytes",
            max: 1024,
            actual: 1025,
            ..
        })
    ));
    let zeros = Scope::step("\0".repeat(1024), "\0".repeat(1024)).validate();
    assert!(matches!(
        zeros,
        Err(Error::LimitExceeded {
            limit: "scope_bytes",
            max: 4096,
            actual: 4101,
            ..
        })
    ));
}

#[test]
fn ids_cannot_pretend_to_be_more() {
    let tricky = Scope::workflow("a\" of \"b\n");
    assert_eq!(tricky.to_string(), r#"workflow "a\" of \"b\n""#);
}

#[test]
fn the_bytes_on_disk() {
    assert_eq!(Scope::Global.encode(), [1]);
    assert_eq!(
        Scope::step("a\0", "").encode(),
        [3, b'a', 0, 0xFF, 0, 1, 0, 1]
    );
    assert_eq!(Scope::system("a").encode(), [8, b'a', 0, 1]);
    assert_eq!(Scope::decode(&[9, 0, 1]), None);
    assert_eq!(Scope::decode(&[2, 0, 2]), None);
    assert_eq!(Scope::decode(&[2, 0x80, 0, 1]), None);
}

#[test]
fn kinds_are_known_by_what_encodings_begin_with() {
    for (kind, n) in ScopeKind::ALL.into_iter().zip(0..) {
        assert_eq!((kind as usize, kind.tag()), (n, n as u8 + 1));
        assert_eq!(ScopeKind::of(&[kind.tag(), b'x']), Some(kind));
    }
    let system = Scope::system("s").encode();
    for other in [&system[..], &[], &[0], &[9]] {
        assert_eq!(ScopeKind::of(other), None);
    }
}

#[test]
fn caches_of_different_scopes_are_different_scopes() {
    let name = |scope: &Scope| scope.caches().to_string();
    assert_eq!(name(&Scope::Global), r#"system scope "caches/1""#);
    assert_eq!(
        name(&Scope::step("a", "bc")),
        r#"system scope "caches/3/1:a/2:bc""#
    );
    let tricky = [
        Scope::step("a/1:b", "c"),
        Scope::step("a", "b/1:c"),
        Scope::workflow("a"),
        Scope::custom("a"),
        Scope::custom("a/1:b"),
        Scope::custom("\0"),
        Scope::routine("", ""),
    ];
    let encoded: BTreeSet<_> = tricky.iter().map(|scope| scope.caches().encode()).collect();
    assert_eq!(encoded.len(), tricky.len());
}
