//! Nobody reaches the entries of a cache but through it, and it reaches nothing else.

use evenkeel::{Scope, Store, WatchFilter};

use crate::parts::{Rig, insert_all, keys};

#[test]
fn entries_are_no_keys_of_any_scope() {
    for store in Rig::new().both() {
        let scope = store.scope(Scope::custom("s"));
        let mut watch = store.watch(WatchFilter::all()).unwrap();
        insert_all(&scope.cache("c"), &["a", "b"]);
        assert!(scope.is_empty().unwrap() && !scope.contains("a").unwrap());
        assert_eq!(scope.bytes().unwrap(), 0);
        assert_eq!(scope.keys().unwrap().count(), 0);
        assert_eq!(scope.scan("").unwrap().count(), 0);
        assert_eq!(store.scopes().unwrap(), []);
        assert!(watch.try_next().unwrap().is_none());
        let seen = store.transact(|tx| tx.scope(Scope::custom("s")).len());
        assert_eq!(seen.unwrap(), 0);
        scope.set("a", 1).unwrap();
        scope.delete("a").unwrap();
        assert_eq!(keys(&scope.cache("c")), ["a", "b"]);
        assert_eq!(watch.try_next().unwrap().unwrap().changes().len(), 1);
    }
}

#[test]
fn tricky_names_and_scopes_are_apart() {
    let store = Store::in_memory();
    let scopes = [
        Scope::Global,
        Scope::workflow("a"),
        Scope::custom("a"),
        Scope::custom("caches/1"),
        Scope::step("a", "b"),
        Scope::step("a/1:b", ""),
        Scope::routine("a", "b"),
        Scope::worker(""),
        Scope::worker("\0"),
    ];
    let names = ["", "a", "1:a", "ab", "\0", "11:a", "ä"];
    let all = || {
        let caches = scopes.iter().flat_map(|scope| {
            let caches = names.map(|name| store.scope(scope.clone()).cache(name));
            caches.into_iter()
        });
        caches.enumerate()
    };
    for (n, cache) in all() {
        for key in ["", "a", "1:a", "\0", ":"] {
            assert_eq!(cache.get::<usize>(key).unwrap(), None, "{cache} {key:?}");
            cache.insert(key, n).unwrap();
        }
    }
    for (n, cache) in all() {
        assert_eq!(keys(&cache), ["", "\0", "1:a", ":", "a"]);
        for key in ["", "a", "1:a", "\0", ":"] {
            assert_eq!(cache.get::<usize>(key).unwrap(), Some(n), "{cache} {key:?}");
        }
        if n % 2 == 0 {
            cache.clear().unwrap();
        }
    }
    for (n, cache) in all() {
        assert_eq!(
            cache.len().unwrap(),
            if n % 2 == 0 { 0 } else { 5 },
            "{cache}"
        );
    }
}
