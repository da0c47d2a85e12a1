//! The mutations of `tests/mutations/run` still fit the sources: each patch finds what
//! it changes, exactly once, names checks that are there, and has its row in
//! `docs/reliability.md`. Whether they are caught is what that script tells; it takes
//! up to an hour and is run by hand.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One patch: its head, and what it replaces by what, by file.
#[derive(Debug, Default)]
struct Mutation {
    name: String,
    what: String,
    checks: Vec<String>,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Default)]
struct Hunk {
    file: String,
    old: String,
    new: String,
}

impl Mutation {
    fn read(path: &Path) -> Self {
        let mut mutation = Self {
            name: path.file_stem().unwrap().to_str().unwrap().into(),
            ..Self::default()
        };
        let mut file = String::new();
        for line in fs::read_to_string(path).unwrap().lines() {
            let inside = mutation.hunks.last_mut().filter(|hunk| hunk.file == file);
            if let Some(name) = line.strip_prefix("--- a/") {
                file = format!("{name} ");
            } else if let Some(name) = line.strip_prefix("+++ b/") {
                file = name.into();
            } else if line.starts_with("@@ ") {
                mutation.hunks.push(Hunk {
                    file: file.clone(),
                    ..Hunk::default()
                });
            } else if let Some(hunk) = inside {
                let (sign, text) = line.split_at(line.len().min(1));
                let keeps = |signs: &[&str]| signs.contains(&sign);
                if keeps(&[" ", "-", ""]) {
                    hunk.old.push_str(text);
                    hunk.old.push('\n');
                }
                if keeps(&[" ", "+", ""]) {
                    hunk.new.push_str(text);
                    hunk.new.push('\n');
                }
            } else if let Some(what) = line.strip_prefix("What: ") {
                mutation.what = what.into();
            } else if let Some(check) = line.strip_prefix("Check: ") {
                mutation.checks.push(check.into());
            }
        }
        mutation
    }
}

fn mutations() -> Vec<Mutation> {
    let mut paths: Vec<PathBuf> = fs::read_dir(root().join("tests/mutations"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "patch"))
        .collect();
    paths.sort();
    let mutations: Vec<_> = paths.iter().map(|path| Mutation::read(path)).collect();
    assert!(mutations.len() >= 24, "{} mutations", mutations.len());
    mutations
}

#[test]
fn every_patch_still_applies() {
    let mut sources: BTreeMap<String, String> = BTreeMap::new();
    let mut broken = Vec::new();
    for mutation in mutations() {
        assert!(!mutation.hunks.is_empty(), "{}", mutation.name);
        for hunk in &mutation.hunks {
            let name = &mutation.name;
            let source = sources
                .entry(hunk.file.clone())
                .or_insert_with(|| fs::read_to_string(root().join(&hunk.file)).expect(name));
            let count = source.matches(&hunk.old).count();
            if count != 1 || hunk.old == hunk.new {
                broken.push(format!("{name}: found {count} times in {}", hunk.file));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "the code that these change is no longer as they know it; change them with it:\n  {}",
        broken.join("\n  ")
    );
}

#[test]
fn every_mutation_says_what_it_is_and_who_catches_it() {
    let document = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    for (number, mutation) in mutations().iter().enumerate() {
        let Mutation { name, what, .. } = mutation;
        let head = format!("{:02}-", number + 1);
        assert!(name.starts_with(&head), "{name}: there is a gap before it");
        assert!(what.ends_with('.'), "{name} says what it does");
        let row = format!("| {:02} | {what}", number + 1);
        assert!(document.contains(&row), "{name}: no row in the document");
        assert!(!mutation.checks.is_empty(), "{name}");
        for check in &mutation.checks {
            let mut words = check.split(' ');
            match words.next() {
                Some("--lib") => assert!(words.next().is_some(), "{name}: {check}"),
                Some("--test") => {
                    let test = words.next().unwrap();
                    let paths = [format!("tests/{test}.rs"), format!("tests/{test}/main.rs")];
                    let there = paths.iter().any(|path| root().join(path).is_file());
                    assert!(there, "{name}: {check}");
                }
                _ => panic!("{name}: {check} is no check"),
            }
        }
    }
}
