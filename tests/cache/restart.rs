//! Entries stay, and their order is that of the insertions; what is too much goes.

use evenkeel::{Cache, Scope, Store};

use crate::parts::{Rig, insert_all, keys, profiles, seconds};

/// Ways to begin again: closed, cut off, and with all of it in the image.
fn again(rig: &mut Rig, store: Store, way: usize) -> Store {
    match way {
        0 => {
            store.close().unwrap();
            rig.open()
        }
        1 => {
            drop(store);
            rig.cut()
        }
        _ => {
            store.snapshot().unwrap();
            drop(store);
            rig.cut()
        }
    }
}

#[test]
fn entries_and_the_order_of_their_insertion_stay() {
    for way in 0..3 {
        let mut rig = Rig::new();
        let store = rig.open();
        let cache = profiles(&store).capacity(4);
        insert_all(&cache, &["d", "c", "b", "a", "c"]);
        // That it was used is forgotten.
        cache.get::<String>("d").unwrap();
        drop(cache);
        let store = again(&mut rig, store, way);
        let cache = profiles(&store).capacity(4);
        assert_eq!(keys(&cache), ["a", "b", "c", "d"]);
        assert_eq!(cache.get::<String>("b").unwrap().as_deref(), Some("b"));
        assert_eq!(cache.stats().unwrap().hits, 1);
        insert_all(&cache, &["e"]);
        assert_eq!(keys(&cache), ["a", "b", "c", "e"]);
        insert_all(&cache, &["f"]);
        assert_eq!(keys(&cache), ["b", "c", "e", "f"]);
        insert_all(&cache, &["g"]);
        assert_eq!(keys(&cache), ["b", "e", "f", "g"]);
    }
}

#[test]
fn what_is_used_before_anything_is_inserted_counts() {
    let mut rig = Rig::new();
    let store = rig.open();
    insert_all(&profiles(&store), &["a", "b", "c", "d"]);
    drop(store);
    let store = rig.cut();
    let cache = profiles(&store).capacity(3);
    // Reads alone load nothing and write nothing.
    let before = store.stats().unwrap().commits;
    for key in ["a", "b", "a", "none"] {
        cache.get::<String>(key).unwrap();
    }
    assert_eq!(store.stats().unwrap().commits, before);
    assert_eq!(keys(&cache), ["a", "b", "c", "d"]);
    insert_all(&cache, &["e"]);
    assert_eq!(keys(&cache), ["a", "b", "e"]);
    insert_all(&cache, &["f"]);
    assert_eq!(keys(&cache), ["a", "e", "f"]);
}

#[test]
fn a_lower_capacity_evicts_down_before_the_first_insertion() {
    for way in 0..3 {
        let mut rig = Rig::new();
        let store = rig.open();
        let cache = profiles(&store);
        for n in 0..1000 {
            cache.insert(format!("{n:04}"), "x".repeat(20)).unwrap();
        }
        drop(cache);
        let store = again(&mut rig, store, way);
        let cache = profiles(&store).capacity(10);
        assert_eq!(cache.len().unwrap(), 1000, "nothing is written by a read");
        let before = store.stats().unwrap().commits;
        assert!(cache.get::<String>("0003").unwrap().is_some());
        cache.insert("new", "x").unwrap();
        let commits = store.stats().unwrap().commits - before;
        // 991 go: three times 256, and the others with the insertion.
        assert_eq!(commits, 4);
        let left: Vec<String> = (992..1000).map(|n| format!("{n:04}")).collect();
        let mut wanted = vec!["0003".to_owned()];
        wanted.extend(left);
        wanted.push("new".into());
        assert_eq!(keys(&cache), wanted);
    }
}

#[test]
fn what_expired_meanwhile_is_not_there() {
    let mut rig = Rig::new();
    let store = rig.open();
    let cache = profiles(&store).capacity(3);
    insert_all(&cache.clone().ttl(seconds(10)), &["s", "t"]);
    insert_all(&cache, &["a"]);
    store.checkpoint().unwrap();
    drop((store, cache));
    rig.advance(10);
    let store = rig.cut();
    let cache = profiles(&store).capacity(3);
    insert_all(&cache, &["b", "c"]);
    assert_eq!(keys(&cache), ["a", "b", "c"]);
    assert_eq!(cache.stats().unwrap().evictions, 0);
}

#[test]
fn a_copy_has_the_entries() {
    let scratch = Store::in_memory();
    insert_all(&profiles(&scratch), &["a", "b"]);
    let folder = tempfile::tempdir().unwrap();
    let store = scratch.persist(folder.path().join("state")).unwrap();
    insert_all(&profiles(&scratch), &["c"]);
    assert_eq!(keys(&profiles(&store)), ["a", "b"]);
    let cache = profiles(&store).capacity(2);
    insert_all(&cache, &["d"]);
    assert_eq!(keys(&cache), ["b", "d"]);
}

#[test]
fn caches_that_nobody_holds_are_forgotten_and_lose_nothing() {
    let store = Store::in_memory();
    let of = |n: usize| -> Cache { store.scope(Scope::job(format!("{n}"))).cache("c") };
    let held = of(0).capacity(2);
    insert_all(&held, &["b", "a"]);
    for n in 1..1000 {
        of(n).insert("k", n).unwrap();
    }
    assert_eq!(held.get::<String>("b").unwrap().as_deref(), Some("b"));
    for n in 1..1000 {
        let cache = of(n);
        assert_eq!(cache.peek::<usize>("k").unwrap(), Some(n));
        assert_eq!(cache.len().unwrap(), 1);
    }
    assert_eq!(of(1).stats().unwrap().insertions, 0, "it was forgotten");
    // One that is held knows what was used.
    assert_eq!(of(0).stats().unwrap().capacity, 2);
    insert_all(&of(0), &["c"]);
    assert_eq!(keys(&held), ["b", "c"]);
}
