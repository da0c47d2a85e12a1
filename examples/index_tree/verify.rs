//! Owns the check: reads every file anew, works out every entry of every scope from
//! that alone, and compares. It shares the reading of files with a run, and nothing
//! of its bookkeeping.

use std::collections::BTreeMap;
use std::fmt::Debug;

use evenkeel::Result;
use serde::de::DeserializeOwned;

use crate::content::{Content, Record};
use crate::index::{Index, Part, Totals, by_hash_key, by_size_key, duplicates_key};
use crate::progress::Progress;
use crate::report::LARGEST;
use crate::walk::Folder;
use crate::work;

/// What the folder says.
type Records = BTreeMap<String, Record>;

/// Compares the index with the folder. Gives what differs, one line each.
pub(crate) fn verify(index: &Index, folder: &Folder) -> Result<Vec<String>> {
    let records = read_all(folder);
    let mut differences = Vec::new();
    compare(index, Part::Files, records.clone(), &mut differences)?;

    let mut totals = Totals::default();
    let mut by_extension: BTreeMap<String, Totals> = BTreeMap::new();
    let mut groups: BTreeMap<&str, Vec<(&String, &Record)>> = BTreeMap::new();
    for (path, record) in &records {
        let one = Totals::of(record)?;
        totals = totals.plus(one, 1)?;
        let of_extension = by_extension.entry(record.extension.clone()).or_default();
        *of_extension = of_extension.plus(one, 1)?;
        groups
            .entry(&record.sha256)
            .or_default()
            .push((path, record));
    }
    let named = [
        ("files", totals.files),
        ("bytes", totals.bytes),
        ("lines", totals.lines),
    ];
    // Before the first file there are none.
    let written = !records.is_empty() || !index.part(Part::Totals).is_empty()?;
    let named = named
        .into_iter()
        .filter(|_| written)
        .map(|(name, n)| (name.to_owned(), n));
    compare(index, Part::Totals, named.collect(), &mut differences)?;
    compare(index, Part::ByExtension, by_extension, &mut differences)?;

    let keys = |key: fn(&Record, &str) -> String| -> BTreeMap<String, ()> {
        records
            .iter()
            .map(|(path, record)| (key(record, path), ()))
            .collect()
    };
    compare(index, Part::BySize, keys(by_size_key), &mut differences)?;
    compare(index, Part::ByHash, keys(by_hash_key), &mut differences)?;

    let (mut copies, mut duplicates) = (BTreeMap::new(), BTreeMap::new());
    for (sha256, group) in &groups {
        let count = i64::try_from(group.len()).unwrap_or(i64::MAX);
        copies.insert((*sha256).to_owned(), count);
        let key = group
            .first()
            .and_then(|(_, record)| duplicates_key(record, count));
        duplicates.extend(key.map(|key| (key, count)));
    }
    compare(index, Part::Copies, copies, &mut differences)?;
    compare(index, Part::Duplicates, duplicates, &mut differences)?;
    compare_reported(index, &records, &groups, &mut differences)?;
    Ok(differences)
}

/// Every file's record, from the files. One that cannot be read is absent, as it is
/// in the index.
fn read_all(folder: &Folder) -> Records {
    let (mut files, mut unreadable) = (Vec::new(), Vec::new());
    for listed in folder.files("") {
        match listed {
            Ok(found) => files.push(found),
            Err(why) => unreadable.push(why),
        }
    }
    let mut progress = Progress::new();
    progress.begin(Some(files.len()));
    unreadable.iter().for_each(|text| progress.warn(text));
    let mut records = Records::new();
    work::in_parallel(folder, &files, |results| {
        while let Ok(first) = results.recv() {
            let group = std::iter::once(first).chain(results.try_iter());
            let mut count = 0;
            for (key, content) in group {
                count += 1;
                match content {
                    Content::Read(record) => drop(records.insert(key.to_owned(), *record)),
                    Content::Gone => {}
                    Content::Unreadable(why) => progress.warn(&format!("{key}: {why}")),
                }
            }
            progress.advance(count);
        }
    });
    progress.finish();
    records
}

/// Compares all that a scope has with all that it should have.
fn compare<T: DeserializeOwned + PartialEq + Debug>(
    index: &Index,
    part: Part,
    mut expected: BTreeMap<String, T>,
    differences: &mut Vec<String>,
) -> Result<()> {
    for entry in index.part(part).scan("")? {
        let entry = entry?;
        let (key, found) = (entry.key(), entry.value::<T>()?);
        match expected.remove(key) {
            Some(value) if value == found => {}
            Some(value) => {
                differences.push(format!("{part:?} {key:?}: {found:?} should be {value:?}"));
            }
            None => differences.push(format!("{part:?} {key:?}: {found:?} should not be there")),
        }
    }
    let missing = expected.into_iter();
    differences.extend(missing.map(|(key, v)| format!("{part:?} {key:?}: {v:?} is missing")));
    Ok(())
}

/// Compares what a report would print of the largest files and of the duplicates.
fn compare_reported(
    index: &Index,
    records: &Records,
    groups: &BTreeMap<&str, Vec<(&String, &Record)>>,
    differences: &mut Vec<String>,
) -> Result<()> {
    let sized = records
        .iter()
        .map(|(path, record)| (record.stamp.size, path.clone()));
    let mut largest: Vec<_> = sized.collect();
    largest.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    largest.truncate(LARGEST);
    let found = index.largest(LARGEST)?;
    if found != largest {
        differences.push(format!("largest: {found:?} should be {largest:?}"));
    }

    let several = groups.iter().filter(|(_, group)| group.len() > 1);
    let mut expected: BTreeMap<String, Vec<String>> = several
        .map(|(sha256, group)| {
            let paths = group.iter().map(|(path, _)| (*path).clone());
            ((*sha256).to_owned(), paths.collect())
        })
        .collect();
    for group in index.duplicates()? {
        let sha256 = group?.sha256;
        let found = index.paths_of(&sha256)?;
        let should = expected.remove(&sha256);
        if should.as_ref() != Some(&found) {
            differences.push(format!(
                "duplicates {sha256}: {found:?} should be {should:?}"
            ));
        }
    }
    let missing = expected.into_iter();
    differences
        .extend(missing.map(|(sha256, paths)| format!("duplicates {sha256}: {paths:?} missing")));
    Ok(())
}
