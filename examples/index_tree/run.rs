//! Owns a run: finding what differs from the index, and bringing it up to date.
//!
//! There is no list of what is still to be done that could be lost: what has to be
//! done is what the folder and the records do not agree on, so a run that was killed
//! is gone on with by any other.

use std::path::Path;

use evenkeel::{Commit, Result};

use crate::content::{Content, Record};
use crate::index::{Index, Part};
use crate::progress::{self, Progress};
use crate::walk::{self, Listing};
use crate::work::{self, Task};

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) indexed: usize,
    pub(crate) taken_back: usize,
    pub(crate) unreadable: usize,
}

/// What became of one file.
struct Done {
    outcome: Outcome,
    warning: Option<String>,
    commit: Commit,
}

/// Brings the index of a folder up to date. All of it is durable when this returns.
pub(crate) fn run(index: &Index, root: &Path, store: &Path) -> Result<Outcome> {
    let listing = walk::list(root, store);
    let files = listing.files.len();
    let unreadable = listing.unreadable.clone();
    let tasks = plan(index, listing)?;
    let mut progress = Progress::new(tasks.len());
    progress::say(&format!("to do: {} of {files} files", tasks.len()));
    unreadable.iter().for_each(|text| progress.warn(text));
    let mut outcome = Outcome {
        unreadable: unreadable.len(),
        ..Outcome::default()
    };
    let apply = |key: &str, content| apply(index, key, content);
    work::in_parallel(&tasks, apply, |results| {
        while let Ok(first) = results.recv() {
            // All that is waiting becomes durable by one sync.
            let group: Vec<Done> = std::iter::once(first).chain(results.try_iter()).collect();
            for done in &group {
                done.commit.wait()?;
                done.warning.iter().for_each(|text| progress.warn(text));
                outcome.indexed += done.outcome.indexed;
                outcome.taken_back += done.outcome.taken_back;
                outcome.unreadable += done.outcome.unreadable;
            }
            progress.advance(group.len());
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
///
/// One transaction for one file, though all of them write the totals and so race.
/// Batches of 64 looked a little faster on 7,701 files (0.46 and 0.50 s against 1.08
/// and 0.58 s, two runs each on a busy machine), not enough to pay for in code.
fn apply(index: &Index, key: &str, content: Content) -> Result<Done> {
    let (record, why) = match content {
        Content::Read(record) => (Some(record), None),
        Content::Gone => (None, None),
        Content::Unreadable(why) => (None, Some(why)),
    };
    let (changed, commit) = index
        .store
        .submit(|tx| index.change(tx, key, record.as_deref()))?;
    Ok(Done {
        outcome: Outcome {
            indexed: usize::from(record.is_some()),
            taken_back: usize::from(record.is_none() && changed),
            unreadable: usize::from(why.is_some()),
        },
        warning: why.map(|why| format!("{key}: {why}")),
        commit,
    })
}
