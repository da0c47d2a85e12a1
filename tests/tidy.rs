//! The rules of the sources that matter, as tests: who may import whom, what may
//! be named where, what every file has. Each reads the sources as text and names
//! file and line of what breaks it.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/programs.rs"]
mod programs;
#[path = "tidy/scanning.rs"]
mod scanning;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/threads.rs"]
mod threads;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::{Source, circle, files, modules_named, names_behind, words};

/// The layers, lowest first. A module imports from lower layers only, so those of
/// one layer do not know each other. `lib.rs` is the facade and imports from all.
const LAYERS: &[&[&str]] = &[
    &["ids", "sync"],
    &["error"],
    &["scope", "value"],
    &["clock", "codec", "vfs"],
    &["observe"],
    &["image", "wal"],
    &["engine"],
    &["state"],
    &["backup", "migrate", "workflow"],
    &["runtime"],
    &["testing"],
];

/// Modules that exist only with the feature `testing`, and who may name them.
const TESTING: &[(&str, &[&str])] = &[
    ("sim", &["src/vfs.rs", "src/vfs/sim", "src/testing"]),
    (
        "suite",
        &[
            "src/image.rs",
            "src/image/suite",
            "src/wal.rs",
            "src/wal/suite",
            "src/testing",
        ],
    ),
];

/// Library code that is there to panic: suites and fuzz targets, which check whoever
/// runs them, and what is compiled for `tests/schedules` only.
const MAY_PANIC: &[&str] = &[
    "src/image/suite.rs",
    "src/wal/suite.rs",
    "src/testing/fuzz/",
    "src/sync/scheduled.rs",
];

/// Where the programs are.
const PROGRAMS: &str = "src/bin";

const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of the library: all of `src` but the programs.
fn library() -> Vec<Source> {
    let mut sources = files(root(), "src", ".rs");
    sources.retain(|source| !source.path.starts_with(PROGRAMS));
    assert!(
        sources.len() > 50,
        "the sources are not where they should be"
    );
    sources
}

/// All Rust files of the repository.
fn all() -> Vec<Source> {
    let folders = ["src", "tests", "examples", "benches", "fuzz"];
    let files = folders
        .iter()
        .flat_map(|folder| files(root(), folder, ".rs"));
    files
        .filter(|file| !file.path.contains("/target/"))
        .collect()
}

/// The texts beside the code.
fn texts() -> Vec<Source> {
    let mut texts = files(root(), "docs", ".md");
    for name in [
        "README.md",
        "CHANGELOG.md",
        "Cargo.toml",
        "clippy.toml",
        ".ci/run",
    ] {
        // A package holds no `.ci`.
        if let Ok(text) = fs::read_to_string(root().join(name)) {
            texts.push(Source::new(name, &text));
        }
    }
    texts
}

fn none(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Wherever one of the needles stands as a word in what `part` gives of each file.
fn found<'s>(
    sources: impl IntoIterator<Item = &'s Source>,
    part: impl Fn(&'s Source) -> &'s str,
    needles: &[&str],
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for needle in needles {
            let places = words(part(source), needle);
            found.extend(
                places
                    .iter()
                    .map(|&at| format!("{}: {needle}", source.at(at))),
            );
        }
    }
    found
}

fn code(source: &Source) -> &str {
    &source.code
}

fn without(sources: &[Source], allowed: &[&str]) -> Vec<String> {
    let paths = sources.iter().map(|source| source.path.clone());
    paths
        .filter(|path| !allowed.contains(&path.as_str()))
        .collect()
}

fn except<'s>(sources: &'s [Source], allowed: &[&str]) -> impl Iterator<Item = &'s Source> {
    let kept = without(sources, allowed);
    sources
        .iter()
        .filter(move |source| kept.contains(&source.path))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with the imports of one file.
fn upward(source: &Source) -> Vec<String> {
    let Some(&from) = source.module().first() else {
        return Vec::new();
    };
    let wrong = |&(_, to): &(usize, &str)| to != from && layer(to) >= layer(from);
    let said = |(at, to): (usize, &str)| match layer(to) {
        Some(_) => format!("{}: {from} must not know {to}", source.at(at)),
        None => format!("{}: {to} is no module of the crate", source.at(at)),
    };
    let named = modules_named(source).into_iter();
    named
        .filter(|name| wrong(name) || layer(name.1).is_none())
        .map(said)
        .collect()
}

#[test]
fn modules_import_lower_layers_only() {
    none(
        "imports point down",
        library().iter().flat_map(upward).collect(),
    );
}

#[test]
fn every_module_has_its_layer() {
    let sources = library();
    let there: BTreeSet<_> = sources
        .iter()
        .filter_map(|s| s.module().first().copied())
        .collect();
    let listed: BTreeSet<_> = LAYERS
        .iter()
        .flat_map(|layer| layer.iter().copied())
        .collect();
    assert_eq!(
        there, listed,
        "modules of src (left), and those in LAYERS (right)"
    );
}

#[test]
fn imports_of_modules_make_no_circle() {
    let sources = library();
    let mut edges = Vec::new();
    for source in &sources {
        if let Some(&from) = source.module().first() {
            let named = modules_named(source).into_iter();
            edges.extend(
                named
                    .filter(|(_, to)| *to != from)
                    .map(|(_, to)| (from, to)),
            );
        }
    }
    assert_eq!(circle(&edges), None, "modules that import each other");
}

#[test]
fn the_facade_is_a_list_of_names() {
    let sources = library();
    let facade = sources.iter().find(|source| source.path == "src/lib.rs");
    let facade = facade.expect("src/lib.rs");
    let broken = found(
        [facade],
        code,
        &["fn", "struct", "enum", "trait", "impl", "macro_rules"],
    );
    none(
        "src/lib.rs holds modules and re-exports, nothing else",
        broken,
    );
    let public = words(&facade.code, "pub mod").into_iter();
    let broken = public.filter(|&at| !facade.code[at..].starts_with("pub mod testing;"));
    none(
        "modules are private; what is public is named",
        broken.map(|at| facade.at(at)).collect(),
    );
}

/// Whether the module that a file declares by `mod NAME;` is behind the feature.
fn is_behind_testing(text: &str, name: &str) -> bool {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    let mut attribute = "";
    lines.any(|line| {
        let declared = line.ends_with(&format!("mod {name};"));
        let behind = declared && attribute.starts_with("#[cfg(") && attribute.contains("testing");
        attribute = line;
        behind
    })
}

#[test]
fn what_is_for_testing_is_behind_its_feature() {
    let sources = library();
    let declares = |name: &str| {
        let needle = format!("mod {name};");
        sources
            .iter()
            .find(move |source| !words(&source.code, &needle).is_empty())
    };
    let names = TESTING.iter().map(|(name, _)| *name).chain(["testing"]);
    for name in names {
        let source = declares(name).unwrap_or_else(|| panic!("nobody declares {name}"));
        let behind = is_behind_testing(&source.text, name);
        assert!(
            behind,
            "{}: `mod {name}` is not behind feature `testing`",
            source.path
        );
    }
    let mut broken = Vec::new();
    for (name, knowing) in TESTING {
        let others = sources
            .iter()
            .filter(|source| !knowing.iter().any(|k| source.path.starts_with(k)));
        broken.extend(found(
            others,
            |source| &source.library,
            &[&format!("{name}::")],
        ));
    }
    none("the library does not use what is for testing", broken);
}

#[test]
fn sled_is_named_where_it_is_dealt_with() {
    let sources = library();
    let mut broken = Vec::new();
    let dealing = [
        "src/image/sled.rs",
        "src/image/sled/tests.rs",
        "src/image/sled/trees.rs",
    ];
    for source in except(&sources, &dealing) {
        for at in words(&source.code, "sled::") {
            // `image::sled::…` is our module.
            if !source.code[..at].ends_with("::") {
                broken.push(source.at(at));
            }
        }
        broken.extend(
            words(&source.code, "use sled")
                .iter()
                .map(|&at| source.at(at)),
        );
    }
    none("sled:: appears in src/image/sled only", broken);
}

/// Uses of the file system of the machine.
fn machine_files(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    for prefix in ["std::", "unix::", "rustix::"] {
        let names = names_behind(&source.library, prefix);
        let places = names.into_iter().filter(|(_, name)| *name == "fs");
        broken.extend(places.map(|(at, _)| format!("{}: {prefix}fs", source.at(at))));
    }
    let methods = [
        ".exists()",
        ".try_exists()",
        ".canonicalize()",
        ".read_link()",
        ".is_file()",
    ];
    broken.extend(found([source], |source| &source.library, &methods));
    broken
}

#[test]
fn files_are_reached_through_the_trait() {
    let sources = library();
    let allowed = [
        "src/vfs/real.rs",
        "src/image/sled.rs",
        "src/image/sled/files.rs",
        "src/image/sled/trees.rs",
    ];
    let broken = except(&sources, &allowed).flat_map(machine_files).collect();
    none("files are reached through `Vfs` only", broken);
}

#[test]
fn time_comes_from_the_clock() {
    let sources = library();
    let needles = ["SystemTime::now", "Instant::now", "sleep", "park_timeout"];
    let broken = found(
        except(&sources, &["src/clock.rs", "src/sync/machine.rs"]),
        code,
        &needles,
    );
    none("time and sleep come through src/clock.rs only", broken);
}

#[test]
fn tests_examples_and_programs_do_not_sleep() {
    let sources: Vec<_> = ["tests", "examples", PROGRAMS]
        .iter()
        .flat_map(|folder| files(root(), folder, ".rs"))
        .collect();
    none(
        "wait for the event itself",
        found(&sources, code, &["sleep", "park_timeout"]),
    );
}

/// A peer of a benchmark, in a package of its own, whose every binding marks the opening
/// of its memory map so.
const MAPS_MEMORY: &[&str] = &["benches/peers/src/engines/lmdb.rs"];

#[test]
fn nothing_is_unsafe() {
    let sources = all();
    let ours = except(&sources, MAPS_MEMORY);
    none("no unsafe code", found(ours, code, &["unsafe"]));
}

/// What ends a thread instead of returning an error.
const PANICS: &[&str] = &[
    ".unwrap()",
    ".unwrap_err()",
    ".expect(",
    ".expect_err(",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
];

#[test]
fn the_library_does_not_panic() {
    let sources = library();
    let may = |source: &&Source| MAY_PANIC.iter().any(|path| source.path.starts_with(path));
    let others = sources.iter().filter(|source| !may(source));
    let broken = found(others, |source| &source.library, PANICS);
    none("errors are returned, also those that cannot be", broken);
}

#[test]
fn test_modules_are_compiled_for_tests_only() {
    let sources = library();
    let broken = found(&sources, |source| &source.library, &["mod tests"]);
    none("`mod tests` stands behind #[cfg(test)]", broken);
}

#[test]
fn every_file_says_what_it_owns() {
    let broken = all()
        .into_iter()
        .filter(|source| !source.text.starts_with("//!"));
    none(
        "a file begins with //!",
        broken.map(|source| source.path).collect(),
    );
}

#[test]
fn no_file_is_too_long() {
    let lines = |source: &Source| source.text.lines().count();
    let broken = all().into_iter().filter(|source| lines(source) > LINES_MAX);
    let said = |source: Source| format!("{}: {} lines", source.path, lines(&source));
    none(
        &format!("a file has at most {LINES_MAX} lines"),
        broken.map(said).collect(),
    );
}

/// Imports of everything from a module of the crate.
fn globs(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let upper = |part: &str, code: &str, at: usize| {
        let start = code[..at]
            .rfind([';', '{', '}'])
            .map_or(0, |start| start + 1);
        let statement = code[start..at + 2].trim_start().trim_start_matches("pub ");
        statement.starts_with(&format!("use {part}::"))
    };
    for (at, _) in source.code.match_indices("::*") {
        if upper("crate", &source.code, at) {
            broken.push(source.at(at));
        }
    }
    for (at, _) in source.library.match_indices("::*") {
        if upper("super", &source.library, at) || upper("self", &source.library, at) {
            broken.push(source.at(at));
        }
    }
    broken
}

#[test]
fn nothing_is_imported_by_a_glob() {
    none(
        "imports name what they import",
        library().iter().flat_map(globs).collect(),
    );
}

#[test]
fn lints_are_expected_not_allowed() {
    let broken = found(&all(), code, &["[allow("]);
    none(
        "#[expect(lint, reason = \"…\")] says why, and when it is over",
        broken,
    );
}

#[test]
fn nothing_is_left_to_do() {
    // In parts, so that this file has none of them.
    let needles = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
    ];
    let needles: Vec<_> = needles.iter().map(String::as_str).collect();
    let sources: Vec<_> = all().into_iter().chain(texts()).collect();
    none(
        "it is done, or it is an issue",
        found(&sources, |source| &source.text, &needles),
    );
}

#[test]
fn no_path_of_a_machine_is_named() {
    let needles = ["work", "root", "home", "tmp", "Users"].map(|folder| format!("/{folder}/"));
    let needles: Vec<_> = needles.iter().map(String::as_str).collect();
    let sources: Vec<_> = all().into_iter().chain(texts()).collect();
    let mut broken = Vec::new();
    for source in &sources {
        for needle in &needles {
            for (at, _) in source.text.match_indices(needle) {
                // `a/tmp/` is relative, and `$DIR/tmp/` somebody's own.
                let before = source.text[..at].chars().next_back();
                if !before.is_some_and(|c| c.is_alphanumeric() || "}_-.".contains(c)) {
                    broken.push(format!("{}: {needle}", source.at(at)));
                }
            }
        }
    }
    none("paths are relative, or asked for", broken);
}

/// The variants of public enums of errors that have no documentation.
fn bare_variants(source: &Source) -> Vec<String> {
    let mut broken = Vec::new();
    let (mut depth, mut documented, mut offset) = (None, false, 0);
    for (line, code) in source.text.split('\n').zip(source.code.split('\n')) {
        let text = line.trim();
        let name = code.trim().strip_prefix("pub enum ");
        let opens = name.is_some_and(|name| name.contains("Error") || name.contains("Failure"));
        match depth {
            None if opens => depth = Some(0),
            Some(1) if text.starts_with("///") => documented = true,
            Some(1) if code.trim().starts_with(|c: char| c.is_ascii_uppercase()) => {
                let bare = !std::mem::take(&mut documented);
                broken.extend(bare.then(|| format!("{}: {text}", source.at(offset))));
            }
            _ => {}
        }
        if let Some(before) = depth {
            let change = |open, close| {
                code.matches(open).count() as isize - code.matches(close).count() as isize
            };
            let now = before + change(['{', '('], ['}', ')']);
            depth = (now > 0).then_some(now);
        }
        offset += line.len() + 1;
    }
    broken
}

#[test]
fn every_public_error_is_documented() {
    let sources = library();
    let enums = sources
        .iter()
        .map(|s| words(&s.code, "pub enum Error").len())
        .sum::<usize>();
    assert_eq!(enums, 1, "the crate's error is where it was");
    none(
        "a variant says what it means",
        sources.iter().flat_map(bare_variants).collect(),
    );
}
