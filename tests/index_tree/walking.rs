//! How the program walks: in the order of the keys, from any key on. A walk that is gone
//! on with after a kill begins so.

use std::fs;
use std::path::Path;

use crate::paths;
use crate::walk::Folder;

#[test]
fn files_come_in_the_order_of_their_keys_from_any_key_on() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let names = [
        "a/b",
        "a/c/d",
        "a.b",
        "a b/c",
        "a!",
        "a%25",
        "a%/e",
        "a\u{7f}/f",
        "a\u{e9}",
        "b",
        "B/a",
        ".c/.d",
    ];
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let folder = Folder::new(root, &place.path().join("store"));
    let behind = |after: &str| -> Vec<String> {
        let found = folder.files(after).map(|found| found.unwrap().key);
        found.collect()
    };
    let all = behind("");
    assert!(all.is_sorted() && all.len() == names.len(), "{all:?}");
    for key in &all {
        let content = fs::read_to_string(folder.path_of(key).unwrap()).unwrap();
        assert_eq!(paths::key_of(Path::new(&content)), *key);
    }
    let others = [
        "a", "a/", "a/b~", "a/c", "a/c/", "a/c/e", "a.", "a%25/", "~",
    ];
    for after in all.iter().map(String::as_str).chain(others) {
        let expected = all.iter().filter(|key| key.as_str() > after);
        assert_eq!(
            behind(after),
            expected.cloned().collect::<Vec<_>>(),
            "{after:?}"
        );
    }
    assert_eq!(folder.path_of("no%key"), None);
}
