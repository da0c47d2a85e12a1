//! Entries of scans: keys that are no strings, and what is looked up late.

use std::sync::Arc;

use super::*;
use crate::state::{Durability, Store};

/// A store without a folder, and one whose state is in the image.
fn stores(scope: &Scope, keys: &[&[u8]]) -> [(Store, Option<tempfile::TempDir>); 2] {
    let folder = tempfile::tempdir().unwrap();
    let builder = Store::builder().durability(Durability::Memory);
    let image = builder.open(folder.path().join("store")).unwrap();
    let stores = [(Store::in_memory(), None), (image, Some(folder))];
    for (store, _) in &stores {
        let written = store.transact(|tx| {
            keys.iter().enumerate().try_for_each(|(number, key)| {
                let cell = cell::encode(&number, None, &CodecLimits::default())?;
                tx.scope(scope.clone()).put_cell(key, cell)
            })
        });
        written.unwrap();
    }
    stores[1].0.checkpoint().unwrap();
    stores
}

#[test]
fn entries_up_to_a_key_that_is_no_text_are_given_and_then_it_is_told() {
    let scope = Scope::custom("damaged");
    let keys: [&[u8]; 5] = [b"a", "b\u{e4}".as_bytes(), b"c", b"d\xFF", b"e"];
    for (store, _folder) in stores(&scope, &keys) {
        let handle = store.scope(scope.clone());
        let mut scan = handle.scan("").unwrap();
        for (number, key) in ["a", "b\u{e4}", "c"].into_iter().enumerate() {
            let entry = scan.next().unwrap().unwrap();
            assert_eq!(
                (entry.key(), entry.value::<usize>().unwrap()),
                (key, number)
            );
        }
        assert!(matches!(scan.next(), Some(Err(Error::Corrupt(_)))));
        assert!(scan.next().is_none());
        assert!(matches!(
            handle.scan("d").unwrap().next(),
            Some(Err(Error::Corrupt(_)))
        ));
        assert!(handle.keys().is_err());
        store.close().unwrap();
    }
}

#[test]
fn an_entry_that_is_kept_says_the_same_later() {
    let scope = Scope::custom("kept");
    let names: Vec<_> = (0..300).map(|number| format!("key/{number:04}")).collect();
    let keys: Vec<_> = names.iter().map(String::as_bytes).collect();
    for (store, _folder) in stores(&scope, &keys) {
        let handle = store.scope(scope.clone());
        let kept: Vec<Entry> = handle.scan("key/").unwrap().map(|e| e.unwrap()).collect();
        handle.clear().unwrap();
        assert_eq!(kept.len(), names.len());
        // The last first: nobody has asked for those before.
        for (number, entry) in kept.iter().enumerate().rev() {
            let again = entry.clone();
            assert_eq!(again.key(), names[number]);
            assert_eq!(again.value::<usize>().unwrap(), number);
            assert_eq!(again.expires_at(), None);
            assert!(again.version() > Version::ZERO && again.version() == kept[0].version());
        }
        store.close().unwrap();
    }
}

#[test]
fn entries_go_to_other_threads() {
    fn goes<T: Send + Sync + Clone>() {}
    goes::<Entry>();
    assert!(size_of::<Entry>() <= 2 * size_of::<Arc<Entries>>());
}
