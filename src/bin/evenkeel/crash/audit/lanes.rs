//! Owns reading the parts of records side by side with their heads: a scan of each
//! scope, never further than the record at hand.

use std::collections::BTreeMap;
use std::iter::Peekable;

use evenkeel::{Entry, Result, Scan, Scope, Store, Value, Version};

use super::super::record::{self, Head};

/// A scan of each scope of parts.
pub(super) struct Lanes(BTreeMap<Scope, Peekable<Scan>>);

impl Lanes {
    pub(super) fn open(store: &Store) -> Result<Self> {
        let scopes = record::part_scopes().into_iter();
        let lanes = scopes.map(|scope| {
            let scan = store.scope(scope.clone()).scan("")?;
            Ok((scope, scan.peekable()))
        });
        lanes.collect::<Result<_>>().map(Self)
    }

    /// Checks what lies at the number of a head, in every scope; records come in
    /// ascending order. What lies before it belongs to nobody.
    pub(super) fn check(
        &mut self,
        head: &Head,
        version: Version,
        orphans: &mut Vec<String>,
    ) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let key = record::key(head.number);
        let mut parts: BTreeMap<_, _> = head
            .parts()
            .into_iter()
            .map(|part| (part.scope, part.value))
            .collect();
        for (scope, lane) in &mut self.0 {
            while let Some(entry) = next_up_to(lane, &key)? {
                if entry.key() < key.as_str() {
                    orphans.push(orphan(scope, &entry));
                    continue;
                }
                let Some(expected) = parts.remove(scope) else {
                    wrong.push(format!("key {key:?} in {scope} is no part of it"));
                    continue;
                };
                if entry.value::<Value>()? != expected {
                    wrong.push(format!(
                        "its part at key {key:?} in {scope} is not what was written"
                    ));
                } else if entry.version() != version {
                    wrong.push(format!(
                        "its part at key {key:?} in {scope} has version {}, the record {version}: they are of different commits",
                        entry.version()
                    ));
                }
            }
        }
        wrong.extend(
            parts
                .keys()
                .map(|scope| format!("its part at key {key:?} in {scope} is missing")),
        );
        Ok(wrong)
    }

    /// Behind the last record nothing may be left.
    pub(super) fn finish(self, orphans: &mut Vec<String>) -> Result<()> {
        for (scope, lane) in self.0 {
            for entry in lane {
                orphans.push(orphan(&scope, &entry?));
            }
        }
        Ok(())
    }
}

fn orphan(scope: &Scope, entry: &Entry) -> String {
    format!(
        "key {:?} in {scope} is a part without a record",
        entry.key()
    )
}

/// The next entry of a lane, unless it lies behind the key.
fn next_up_to(lane: &mut Peekable<Scan>, key: &str) -> Result<Option<Entry>> {
    let is_due = |entry: &Result<Entry>| entry.as_ref().map_or(true, |entry| entry.key() <= key);
    lane.next_if(is_due).transpose()
}
