//! The rules of what the documents claim: each dependency has its reason, and each
//! test that is named is there.

use std::collections::BTreeSet;
use std::fs;

use super::source::Source;
use super::{all, none, root, texts};

/// The crates that a manifest depends on.
pub(crate) fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            let (kind, name) = section.rsplit_once("dependencies").unwrap_or(("-", ""));
            inside = kind != "-" && name.is_empty();
            names.extend(
                name.strip_prefix('.')
                    .filter(|_| kind != "-")
                    .map(str::to_owned),
            );
        } else if inside && !line.starts_with('#') {
            let name = line.split(['=', '.']).next().unwrap_or_default().trim();
            names.extend((!name.is_empty()).then(|| name.to_owned()));
        }
    }
    names
}

/// The crates that a document gives a reason for: rows `` | `name` | reason | ``
/// below the heading "Dependencies".
pub(crate) fn reasons(document: &str) -> BTreeSet<String> {
    let section = document
        .split("\n## Dependencies")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let row = |line: &str| {
        let (name, reason) = line.strip_prefix("| `")?.split_once("` |")?;
        let reason = reason.trim_matches(['|', ' ']);
        (reason.len() >= 20).then(|| name.to_owned())
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn every_dependency_has_its_reason() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    let used = dependencies(&read("Cargo.toml"));
    let explained = reasons(&read("docs/design.md"));
    assert!(used.contains("sled"), "{used:?}");
    assert_eq!(used, explained, "Cargo.toml (left), docs/design.md (right)");
}

/// The tests that a document names, as `` `path.rs::name` ``.
pub(crate) fn tests_named(document: &str) -> Vec<(usize, &str, &str)> {
    let mut named = Vec::new();
    for (at, _) in document.match_indices(".rs::") {
        let start = document[..at].rfind('`').map_or(0, |tick| tick + 1);
        let behind = at + ".rs::".len();
        let len = document[behind..].find('`').unwrap_or_default();
        named.push((
            at,
            &document[start..at + 3],
            &document[behind..behind + len],
        ));
    }
    named
}

#[test]
fn tests_that_documents_name_are_there() {
    let sources = all();
    let mut broken = Vec::new();
    for document in &texts() {
        for (at, path, name) in tests_named(&document.text) {
            let function = format!("fn {name}(");
            let there = |source: &Source| source.path == path && source.code.contains(&function);
            if !sources.iter().any(there) {
                broken.push(format!("{}: {path}::{name}", document.at(at)));
            }
        }
    }
    none("nothing is claimed that a test does not show", broken);
}
