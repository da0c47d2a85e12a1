//! Owns reading an iterator for an import.

use std::sync::Arc;

use crate::codec::cell;
use crate::error::Result;
use crate::state::import::bulk::Prepared;
use crate::state::import::entry::{Cause, ImportEntry, ImportItem};
use crate::state::import::record::Mark;
use crate::state::import::run::{Item, Source};
use crate::state::store::Shared;
use crate::state::ttl::SetOptions;

/// An iterator as a source.
pub(super) struct Entries<I> {
    shared: Arc<Shared>,
    items: I,
    mark: Mark,
}

impl<I: Iterator> Entries<I> {
    pub(super) fn new(shared: &Arc<Shared>, items: I) -> Self {
        Self {
            shared: Arc::clone(shared),
            items,
            mark: Mark::default(),
        }
    }

    /// Takes in what an entry consists of, so that another one is known from it.
    fn take(&mut self, entry: &ImportEntry, prepared: &Prepared) {
        self.mark.take_field(&entry.scope.encode());
        self.mark.take_field(entry.key.as_bytes());
        // Without the deadline, which a TTL makes another one each time.
        let value = cell::value(&prepared.cell);
        self.mark.take_field(value.unwrap_or_default());
        if entry.options != SetOptions::new() {
            let options = format!("{:?}", entry.options);
            self.mark.take_field(options.as_bytes());
        }
    }

    fn prepare(&mut self, item: impl ImportItem) -> Result<Prepared, Cause> {
        let entry = item.into_entry()?;
        let prepared = Prepared::of(&self.shared, &entry)?;
        self.take(&entry, &prepared);
        Ok(prepared)
    }
}

impl<I: Iterator> Source for Entries<I>
where
    I::Item: ImportItem,
{
    fn kind(&self) -> &'static str {
        "entries"
    }

    fn next(&mut self) -> Result<Option<Item>> {
        let Some(item) = self.items.next() else {
            return Ok(None);
        };
        self.mark.items += 1;
        Ok(Some(match self.prepare(item) {
            Ok(prepared) => Item::Entry(prepared),
            Err(cause) => {
                self.mark.take_field(cause.to_string().as_bytes());
                Item::Malformed { column: 0, cause }
            }
        }))
    }

    fn pass(&mut self) -> Result<bool> {
        Ok(self.next()?.is_some())
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }

    fn place(&self, _column: u64) -> String {
        format!("entry {}", self.mark.items)
    }
}
