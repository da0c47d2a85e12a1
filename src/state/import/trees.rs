//! Owns reading the trees of a sled database for an import.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::image::sled::trees::{SledEntry, SledTrees};
use crate::state::import::Import;
use crate::state::import::bulk::Prepared;
use crate::state::import::entry::{Cause, ImportItem};
use crate::state::import::record::Mark;
use crate::state::import::run::{Item, Source};
use crate::state::store::Shared;

/// The trees of a database as a source.
pub(super) struct Trees<M> {
    shared: Arc<Shared>,
    trees: SledTrees,
    map: M,
    last: Option<SledEntry>,
    mark: Mark,
}

impl<M> Trees<M> {
    pub(super) fn open(import: &Import<'_>, folder: &Path, map: M) -> Result<Self> {
        let shared = Arc::clone(&import.store.shared);
        let deadline = shared.settings.sled.deadline;
        let trees = SledTrees::open(folder, import.temporary.as_deref(), deadline)?;
        Ok(Self {
            shared,
            trees,
            map,
            last: None,
            mark: Mark::default(),
        })
    }

    /// Reads the next entry into `last`; false at the end.
    fn read(&mut self) -> Result<bool> {
        let Some(entry) = self.trees.next()? else {
            return Ok(false);
        };
        self.mark.items += 1;
        for field in [&entry.tree[..], &entry.key, &entry.value] {
            self.mark.take_field(field);
        }
        self.last = Some(entry);
        Ok(true)
    }
}

/// What is made of an entry.
fn mapped<T: ImportItem>(
    shared: &Shared,
    entry: &SledEntry,
    map: &mut impl FnMut(&[u8], &[u8], &[u8]) -> Result<Option<T>, Cause>,
) -> Result<Option<Prepared>, Cause> {
    let Some(item) = map(&entry.tree, &entry.key, &entry.value)? else {
        return Ok(None);
    };
    Ok(Some(Prepared::of(shared, &item.into_entry()?)?))
}

impl<T, M> Source for Trees<M>
where
    T: ImportItem,
    M: FnMut(&[u8], &[u8], &[u8]) -> Result<Option<T>, Cause>,
{
    fn kind(&self) -> &'static str {
        "sled"
    }

    fn next(&mut self) -> Result<Option<Item>> {
        let read = self.read()?;
        let Some(entry) = self.last.as_ref().filter(|_| read) else {
            return Ok(None);
        };
        Ok(Some(match mapped(&self.shared, entry, &mut self.map) {
            Ok(Some(prepared)) => Item::Entry(prepared),
            Ok(None) => Item::Skipped,
            Err(cause) => Item::Malformed { column: 0, cause },
        }))
    }

    fn pass(&mut self) -> Result<bool> {
        self.read()
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }

    fn place(&self, _column: u64) -> String {
        let folder = self.trees.folder().display();
        match &self.last {
            Some(SledEntry { tree, key, .. }) => format!(
                "tree \"{}\", key \"{}\" of {folder}",
                tree.escape_ascii(),
                key.escape_ascii()
            ),
            None => format!("{folder}"),
        }
    }
}
