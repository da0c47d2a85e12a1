//! What is printed of a store by `{:?}` and by errors: where, when and how much, and
//! never a value that nobody asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;

use evenkeel::{
    Error, Key, Scope, Store, Value, Version, WatchFilter, WatchValues, WorkflowStateManager,
};
use serde::Deserialize;

const VALUE: &str = "hidden-value";

/// Neither as text nor as the bytes of it.
fn check(what: &str, printed: &str, hidden: &[&str]) {
    for hidden in hidden {
        let bytes = format!("{:?}", hidden.as_bytes());
        let bytes = bytes.trim_matches(['[', ']']);
        assert!(!printed.contains(hidden), "{what}: {printed}");
        assert!(!printed.contains(bytes), "{what}: {printed}");
    }
}

#[test]
fn handles_and_what_they_give_print_neither_keys_nor_values() {
    let folder = tempfile::tempdir().unwrap();
    for store in [
        Store::in_memory(),
        Store::open(folder.path().join("s")).unwrap(),
    ] {
        let printed = RefCell::new(Vec::new());
        let print = |what: &dyn Debug| {
            printed.borrow_mut().push(format!("{what:?}"));
            printed.borrow_mut().push(format!("{what:#?}"));
        };
        let filter = WatchFilter::all().with_values(WatchValues::OldAndNew);
        let mut watch = store.watch(filter).unwrap();
        let scope = store.scope(Scope::workflow("w"));
        scope.set("hidden-key-0", VALUE).unwrap();
        // In the image, and in memory.
        store.checkpoint().unwrap();
        scope.set("hidden-key-1", VALUE).unwrap();
        scope.set("hidden-key-1", [VALUE]).unwrap();
        let mut scan = scope.scan("").unwrap();
        print(&scan.next());
        print(&scan);
        print(&scan.next());
        let mut keys = scope.keys().unwrap();
        keys.next();
        print(&keys);
        for _ in 0..3 {
            print(&watch.try_next().unwrap().unwrap());
            print(&watch);
        }
        print(&watch.into_stream());
        let (_, commit) = store
            .submit(|tx| {
                let scope = tx.scope(Scope::workflow("w"));
                scope.set("hidden-key-2", VALUE)?;
                scope.get::<Value>("hidden-key-0")?;
                let mut scan = scope.scan("")?;
                print(&scan.next());
                print(&scan);
                print(&scope);
                print(tx);
                Ok(())
            })
            .unwrap();
        print(&commit);
        print(&scope);
        print(&scope.step("s"));
        print(&scope.key(Key::<Value>::new("declared")));
        print(&WorkflowStateManager::with_store(store.clone()));
        print(&WorkflowStateManager::with_store(store.clone()).workflow_state("w"));
        print(&store.cursor("c"));
        print(&store.stats().unwrap());
        print(&store.recovery());
        print(&store.verify().unwrap());
        print(&Store::builder());
        print(&store);
        for printed in printed.borrow().iter() {
            check("debug", printed, &["hidden"]);
            // Nobody gets the memory of a store into his log.
            assert!(printed.len() < 4_000, "{printed}");
        }
    }
}

#[derive(Debug, Deserialize)]
enum Choice {
    Some,
    Other,
}

#[test]
fn errors_name_scope_key_and_place_and_no_value() {
    let store = Store::in_memory();
    let scope = store.scope(Scope::workflow("order-42"));
    let fails = |what: &str, key: &str, error: Error| {
        check(what, &format!("{error} {error:?}"), &["hidden", "1234567"]);
        let text = error.to_string();
        assert!(text.contains(&format!("{key:?}")), "{what}: {text}");
        assert!(text.contains("order-42"), "{what}: {text}");
    };
    scope.set("text", VALUE).unwrap();
    scope.set("texts", [VALUE]).unwrap();
    scope.set("number", 1_234_567).unwrap();
    scope.set("float", 1_234_567.5).unwrap();
    scope.set("char", 'x').unwrap();
    scope.set("bytes", Value::Bytes(VALUE.into())).unwrap();
    scope.set("map", BTreeMap::from([("a", VALUE)])).unwrap();
    scope
        .set("variant", BTreeMap::from([("a", 1_234_567)]))
        .unwrap();
    for key in ["text", "texts", "float", "bytes", "map", "variant"] {
        fails(key, key, scope.get::<u32>(key).unwrap_err());
        fails(key, key, scope.get::<bool>(key).unwrap_err());
        fails(key, key, scope.get::<Choice>(key).unwrap_err());
        fails(
            key,
            key,
            scope
                .get::<Vec<u8>>(key)
                .map(|_| ())
                .err()
                .unwrap_or_else(|| scope.get::<(u8, u8, u8)>(key).unwrap_err()),
        );
        fails(key, key, scope.increment(key, 1).unwrap_err());
    }
    for key in ["text", "number"] {
        fails(key, key, scope.get::<u8>(key).unwrap_err());
        fails(key, key, scope.get::<char>(key).unwrap_err());
        fails(
            key,
            key,
            scope.get::<BTreeMap<String, u8>>(key).unwrap_err(),
        );
    }
    let refused = scope.compare_and_set("text", Version::ZERO, "hidden");
    fails("version", "text", refused.unwrap_err());
    // A number that cannot be stored.
    let refused = scope.set("text", u128::MAX - 1).unwrap_err();
    check(
        "u128",
        &refused.to_string(),
        &[&(u128::MAX - 1).to_string()],
    );
    assert!(matches!(scope.get::<Choice>("none"), Ok(None)));
}
