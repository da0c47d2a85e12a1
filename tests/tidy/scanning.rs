//! The scanning itself, on small strings: each rule finds what it is to find.

use super::documents::{dependencies, reasons, tests_named};
use super::source::{Source, circle, code_of, names_behind, without_tests, words};
use super::{bare_variants, globs, is_behind_testing, machine_files, upward};

fn source(path: &str, text: &str) -> Source {
    Source::new(path, text)
}

#[test]
fn comments_and_strings_are_no_code() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x\"y", z)"#, "f(      , z)"),
        (r##"f(r#"x"y"#, z)"##, "f(        , z)"),
        (r#"f(br"\", z)"#, "f(b    , z)"),
        ("f('\"', 'a', '\\'', 'ä')", "f(   ,    ,     ,     )"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#type(number\"x\")", "r#type(number   )"),
    ] {
        assert_eq!(code_of(text), code, "{text}");
    }
}

#[test]
fn items_for_tests_are_left_out() {
    let library = |text| without_tests(text).replace(' ', "");
    assert_eq!(library("a; #[cfg(test)] mod tests { b; { c } } d;"), "a;d;");
    assert_eq!(library("#[cfg(test)]\nmod tests;\nd;"), "\n\nd;");
    assert_eq!(library("#[cfg(test)] fn f(x: [u8; 4]) { y } d;"), "d;");
    assert_eq!(library("#[cfg(test)] use a::{b, c}; d;"), ";d;");
    assert!(
        source("src/a/tests.rs", "x.unwrap()")
            .library
            .trim()
            .is_empty()
    );
}

#[test]
fn words_are_whole() {
    assert_eq!(words("offs fs fs2 a::fs", "fs"), [5, 15]);
    assert_eq!(words("x.expect(y).expect_err(z)", ".expect("), [1]);
    assert_eq!(source("src/a.rs", "a\nb\nc").at(2), "src/a.rs:2");
}

#[test]
fn names_are_found_alone_and_in_groups() {
    let names = |code| {
        names_behind(code, "std::")
            .into_iter()
            .map(|(_, name)| name)
    };
    let names = |code| names(code).collect::<Vec<_>>();
    assert_eq!(names("use std::fs::File;"), ["fs"]);
    assert_eq!(
        names("use std::{\n  io::{self, fs},\n  fs,\n};"),
        ["io", "fs"]
    );
    assert_eq!(names("use std::*; x(std::env::args())"), ["*", "env"]);
}

#[test]
fn upward_imports_are_found() {
    let wrong = |path, text| upward(&source(path, text)).len();
    assert_eq!(
        wrong("src/wal.rs", "use crate::ids::Lsn; use crate::vfs;"),
        0
    );
    assert_eq!(wrong("src/wal.rs", "use crate::engine::Engine;"), 1);
    assert_eq!(
        wrong("src/wal.rs", "use crate::{ids::Lsn, image::Image};"),
        1
    );
    assert_eq!(wrong("src/image/sled.rs", "fn f(x: crate::wal::Log) {}"), 1);
    assert_eq!(wrong("src/wal.rs", "use super::engine::Engine;"), 1);
    assert_eq!(
        wrong(
            "src/wal/log.rs",
            "use super::engine; use super::super::state;"
        ),
        1
    );
    assert_eq!(wrong("src/wal.rs", "mod tests { use super::engine; }"), 0);
    assert_eq!(
        wrong("src/wal.rs", "mod tests { use super::super::engine; }"),
        1
    );
    assert_eq!(
        wrong("src/wal.rs", "// use crate::engine;\n use crate::wal::log;"),
        0
    );
    assert_eq!(wrong("src/wal.rs", "use crate::nobody::X;"), 1);
    assert_eq!(wrong("src/lib.rs", "pub use crate::state::Store;"), 0);
}

#[test]
fn circles_are_found() {
    assert_eq!(circle(&[("a", "b"), ("b", "c"), ("a", "c")]), None);
    let found = circle(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "y")]);
    assert_eq!(found.map(|way| way.len()), Some(3));
}

#[test]
fn globs_are_found() {
    let count = |text| globs(&source("src/a.rs", text)).len();
    assert_eq!(count("use crate::a::*;"), 1);
    assert_eq!(count("pub use self::a::*; use super::*;"), 2);
    assert_eq!(count("use proptest::prelude::*; let a = b::* c;"), 0);
    assert_eq!(count("#[cfg(test)] mod tests { use super::*; }"), 0);
    assert_eq!(count("#[cfg(test)] mod tests { use crate::a::*; }"), 1);
}

#[test]
fn files_of_the_machine_are_found() {
    let count = |text| machine_files(&source("src/a.rs", text)).len();
    assert_eq!(
        count("use std::{fs, io}; use std::os::unix::fs::FileExt;"),
        2
    );
    assert_eq!(count("if path.exists() { std::fs::write(a, b) }"), 2);
    assert_eq!(count("use crate::vfs; offs.len()"), 0);
    assert_eq!(count("#[cfg(test)] mod tests { use std::fs; }"), 0);
}

#[test]
fn features_variants_and_dependencies_are_read() {
    assert!(is_behind_testing(
        "#[cfg(feature = \"testing\")]\npub mod sim;",
        "sim"
    ));
    assert!(!is_behind_testing(
        "#[cfg(feature = \"testing\")]\nmod a;\nmod sim;",
        "sim"
    ));
    let text = "pub enum Error {\n    /// A.\n    #[error(\"x\")]\n    A,\n    B {\n        C: u8,\n    },\n}\n";
    assert_eq!(
        bare_variants(&source("src/e.rs", text)),
        ["src/e.rs:5: B {"]
    );
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n# c\nb.workspace = true\n\
                    [dev-dependencies.d]\npath = \".\"\n[lints.rust]\ne = \"deny\"\n";
    assert_eq!(Vec::from_iter(dependencies(manifest)), ["a", "b", "d"]);
    let document = "# X\n## Dependencies\n| `a` | because it is the best there is |\n\
                    | `b` | short |\n## More\n| `c` | because it is the best there is |\n";
    assert_eq!(Vec::from_iter(reasons(document)), ["a"]);
}

#[test]
fn tests_in_documents_are_found() {
    let found = tests_named("| `src/a.rs::x`, `tests/b/c.rs::y` | `cargo test x` |");
    let found: Vec<_> = found.iter().map(|&(_, path, name)| (path, name)).collect();
    assert_eq!(found, [("src/a.rs", "x"), ("tests/b/c.rs", "y")]);
}
