//! Tests of reading the sources: this crate's, and small ones that have every form of
//! a call.

use std::collections::BTreeSet;

use super::*;

fn read(files: &[(&str, &str)]) -> Sites {
    let source = |path: &Path| {
        let found = files.iter().find(|(name, _)| path == Path::new(name));
        let text = found.map(|(_, text)| (*text).to_owned());
        text.ok_or_else(|| format!("no {}", path.display()))
    };
    Sites::read(&source).unwrap()
}

fn told(files: &[(&str, &str)]) -> Vec<String> {
    let sites = read(files).sites;
    sites.iter().map(ToString::to_string).collect()
}

#[test]
fn calls_are_found_in_every_form() {
    let text = r#"
impl Log {
    fn methods(&self) {
        self.vfs
            .rename(a, b)
            .and_then(|()| self.vfs.sync_dir(c));
        let _ = self.file.sync();
        self.vfs.open(path, OpenMode::Create);
        self.vfs.open(path, mode);
    }
}
fn paths(vfs: &dyn Vfs) {
    Vfs::remove_file(vfs, path);
    <dyn Vfs>::open(vfs, path, OpenMode::Create);
    file.and_then(VfsFile::sync);
    vfs::helper(vfs);
    let _ = helper;
    std::fs::write(path, bytes);
    File::create(path)?.sync_all();
}
fn macros() {
    assert!(file.set_len(4).is_ok(), "{:?}", helper(vfs));
    vec![vfs.create_dir(a), vfs.write(b)];
}
"#;
    let files = [
        ("lib.rs", "mod a; mod vfs;"),
        ("a.rs", text),
        (
            "vfs.rs",
            "fn helper(vfs: &dyn Vfs) { vfs.remove_dir_all(path); }\nfn none() {}",
        ),
    ];
    let expected = [
        "src/a.rs:5 rename in Log::methods",
        "src/a.rs:6 sync_dir in Log::methods",
        "src/a.rs:7 sync in Log::methods",
        "src/a.rs:8 open in Log::methods",
        "src/a.rs:9 open in Log::methods",
        "src/a.rs:13 remove_file in paths",
        "src/a.rs:14 open in paths",
        "src/a.rs:15 sync in paths",
        "src/a.rs:16 helper in paths",
        "src/a.rs:17 helper in paths",
        "src/a.rs:18 write in paths",
        "src/a.rs:19 create in paths",
        "src/a.rs:19 sync_all in paths",
        "src/a.rs:22 set_len in macros",
        "src/a.rs:22 helper in macros",
        "src/a.rs:23 create_dir in macros",
        "src/vfs.rs:1 remove_dir_all in helper",
    ];
    let found: BTreeSet<_> = told(&files).into_iter().collect();
    assert_eq!(found, expected.map(str::to_owned).into());
    let first = read(&files).sites.iter().map(|site| site.first_line).min();
    assert_eq!(first, Some(1), "the call in vfs.rs");
    let rename = &read(&files).sites[0];
    assert_eq!((rename.first_line, rename.line), (4, 5));
}

#[test]
fn what_changes_no_disk_is_left_out() {
    let text = r#"
fn reads(vfs: &dyn Vfs) {
    vfs.open(path, OpenMode::Read);
    vfs.open(path, OpenMode::Write);
    Vfs::open(vfs, path, OpenMode::Read);
    vfs.metadata(path);
    mutex.lock();
    log.sync(lsn);
    Store::open(path, options, components);
    fs::read(path);
}
#[cfg(test)]
mod tests { fn of_a_test() { file.sync(); } }
#[cfg(feature = "testing")]
fn for_testing() { file.sync(); }
impl A { #[cfg(all(test, unix))] fn method() { file.sync(); } }
"#;
    let files = [
        (
            "lib.rs",
            "mod a; #[cfg(any(test, feature = \"testing\"))] mod none; mod vfs;",
        ),
        ("a.rs", text),
        ("vfs.rs", "mod real;\n#[cfg(test)]\nmod tests;"),
        ("vfs/real.rs", "fn sync() { file.sync_all(); }"),
    ];
    assert_eq!(told(&files), Vec::<String>::new());
}

#[test]
fn what_may_be_compiled_is_read() {
    let text = "#[cfg(unix)] mod a { pub fn f() { file.sync(); } }
        #[cfg(not(test))] fn b() { file.sync(); }
        #[cfg(not(feature = \"other\"))] fn c() { file.sync(); }
        mod deep { mod inner; }";
    let inner = "fn d() { fn e() { file.sync(); } }";
    let files = [("lib.rs", text), ("deep/inner/mod.rs", inner)];
    let functions = read(&files).sites.into_iter().map(|site| site.function);
    assert_eq!(functions.collect::<Vec<_>>(), ["e", "f", "b", "c"]);
}

#[test]
fn a_source_that_cannot_be_read_is_an_error() {
    let missing = Sites::read(&|path| match path.to_str() {
        Some("lib.rs") => Ok("mod a;".into()),
        _ => Err(format!("no {}", path.display())),
    });
    assert_eq!(missing.unwrap_err(), "no a/mod.rs");
    let broken = Sites::read(&|_| Ok("fn {".into())).unwrap_err();
    assert!(broken.contains("lib.rs:1"), "{broken}");
    let path = Sites::read(&|_| Ok("#[path = \"b.rs\"] mod a;".into())).unwrap_err();
    assert!(path.contains("path attribute"), "{path}");
}

#[test]
fn every_method_of_the_traits_is_a_change_or_a_read() {
    let text = include_str!("../../../vfs.rs");
    let parsed = syn::parse_file(text).unwrap();
    let mut methods = BTreeSet::new();
    for item in &parsed.items {
        let syn::Item::Trait(item) = item else {
            continue;
        };
        for method in &item.items {
            if let syn::TraitItem::Fn(method) = method {
                // Without `self`.
                let arguments = method.sig.inputs.len() - 1;
                methods.insert((method.sig.ident.to_string(), arguments));
            }
        }
    }
    let changes = CHANGES
        .iter()
        .map(|&(name, count)| (name.to_owned(), count));
    let reads = methods
        .iter()
        .filter(|(name, _)| READS.contains(&name.as_str()))
        .cloned();
    assert_eq!(reads.clone().count(), READS.len());
    assert_eq!(changes.chain(reads).collect::<BTreeSet<_>>(), methods);
}

#[test]
fn no_two_sites_of_this_crate_are_taken_for_each_other() {
    let sites = &sites().unwrap().sites;
    assert!(sites.len() > 50, "{}", sites.len());
    for (at, site) in sites.iter().enumerate() {
        let same = sites[at + 1..].iter().find(|other| {
            let apart = other.first_line > site.line || other.line < site.first_line;
            other.file == site.file && other.call == site.call && !apart
        });
        assert_eq!(same, None, "{site}: put them on lines of their own");
    }
}

#[test]
fn the_lists_are_of_calls_that_are_there_and_of_tests_that_are() {
    let sites = sites().unwrap();
    assert_eq!(
        sites.stale,
        [],
        "entries of NO_SITES or EXEMPT that fit nothing"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in NOT_READ {
        assert!(root.join("src").join(file).exists(), "{file}");
    }
    for (_, exemption) in EXEMPT {
        let (file, name) = exemption.test.split_once("::").unwrap();
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "{}", exemption.test);
    }
}
