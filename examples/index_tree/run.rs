//! Owns a run: finding what differs from the index, and bringing it up to date.
//!
//! There is no list of what is still to be done that could be lost: what has to be
//! done is what the folder and the records do not agree on, so a run that was killed
//! is gone on with by any other.

use std::path::Path;

use evenkeel::{Commit, Result};

use crate::content::{Content, Record};
use crate::index::{Index, Part};
use crate::progress::Progress;
use crate::walk::{self, Listing};
use crate::work::{self, Task};

/// How many files are changed in one transaction.
const BATCH: usize = 1;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) indexed: usize,
    pub(crate) taken_back: usize,
    pub(crate) unreadable: usize,
}

/// What became of a batch of files.
struct Done {
    files: usize,
    outcome: Outcome,
    warnings: Vec<String>,
    commit: Commit,
}

/// Brings the index of a folder up to date. All of it is durable when this returns.
pub(crate) fn run(index: &Index, root: &Path, store: &Path) -> Result<Outcome> {
    let listing = walk::list(root, store);
    let files = listing.files.len();
    let unreadable = listing.unreadable.clone();
    let tasks = plan(index, listing)?;
    let mut progress = Progress::new(tasks.len());
    eprintln!("to do: {} of {files} files", tasks.len());
    unreadable.iter().for_each(|text| progress.warn(text));
    let mut outcome = Outcome {
        unreadable: unreadable.len(),
        ..Outcome::default()
    };
    let apply = |batch: &[(&str, Content)]| apply(index, batch);
    work::in_parallel(&tasks, BATCH, apply, |results| {
        while let Ok(first) = results.recv() {
            // All that is waiting becomes durable by one sync.
            let group: Vec<Done> = std::iter::once(first).chain(results.try_iter()).collect();
            for done in &group {
                done.commit.wait()?;
                done.warnings.iter().for_each(|text| progress.warn(text));
                outcome.indexed += done.outcome.indexed;
                outcome.taken_back += done.outcome.taken_back;
                outcome.unreadable += done.outcome.unreadable;
            }
            progress.advance(group.iter().map(|done| done.files).sum());
        }
        Ok(())
    })?;
    index.store.barrier()?;
    progress.finish();
    Ok(outcome)
}

/// What the folder and the records do not agree on.
fn plan(index: &Index, mut listing: Listing) -> Result<Vec<Task>> {
    let mut tasks = Vec::new();
    for entry in index.part(Part::Files).scan("")? {
        let entry = entry?;
        let key = entry.key().to_owned();
        match listing.files.remove(&key) {
            Some(found) if entry.value::<Record>()?.stamp == found.stamp => {}
            found => tasks.push(Task { key, found }),
        }
    }
    let new = listing.files.into_iter();
    tasks.extend(new.map(|(key, found)| Task {
        key,
        found: Some(found),
    }));
    Ok(tasks)
}

/// Commits what was read. A file that cannot be read is not in the index: a record
/// of what it once was would be wrong, as it was planned because it has changed.
fn apply(index: &Index, batch: &[(&str, Content)]) -> Result<Done> {
    let (outcomes, commit) = index.store.submit(|tx| {
        // Counted anew by each attempt.
        let mut outcome = Outcome::default();
        for (key, content) in batch {
            match content {
                Content::Read(record) => {
                    outcome.indexed += 1;
                    index.change(tx, key, Some(record))?;
                }
                Content::Gone | Content::Unreadable(_) => {
                    outcome.taken_back += usize::from(index.change(tx, key, None)?);
                }
            }
        }
        Ok(outcome)
    })?;
    let unreadable = batch.iter().filter_map(|(key, content)| match content {
        Content::Unreadable(why) => Some(format!("{key}: {why}")),
        Content::Read(_) | Content::Gone => None,
    });
    let warnings: Vec<String> = unreadable.collect();
    Ok(Done {
        files: batch.len(),
        outcome: Outcome {
            unreadable: warnings.len(),
            ..outcomes
        },
        warnings,
        commit,
    })
}
