//! Owns the check of what is in a store: that every record is whole, and that nothing
//! contradicts anything else. It reads what is there and knows nothing of modes.
//!
//! Heads and parts are sorted by number, so one pass over all their scopes side by side
//! checks them, with no more in memory than where each scan is. What a record says it
//! was written after is looked up among the last ones seen, and else in the store.

mod lanes;
mod totals;

use std::collections::{BTreeMap, BTreeSet};

use evenkeel::{Entry, Result, Store, Value, Version};

use self::lanes::Lanes;
use self::totals::Totals;
use super::lists::{self, LISTS};
use super::ranges::Ranges;
use super::record::{self, Head, LAYOUT, MARK, Shape};

/// So many of the last heads are kept at hand.
const SEEN_MAX: usize = 4096;

/// What a check finds out on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// This record is there, and all of it is what it should be.
    Have(u64),
    /// This should not be.
    Contradiction(String),
}

/// Of a head: what others are compared with.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    run: u64,
    version: Version,
}

struct Audit<'a> {
    store: &'a Store,
    tell: &'a mut dyn FnMut(Finding),
    seen: BTreeMap<u64, Stamp>,
    there: Ranges,
    /// Runs and records that they miss, so that each is told once.
    gaps: BTreeSet<(u64, u64)>,
}

/// Checks a store, and tells what it finds. It must not be written to meanwhile.
///
/// # Errors
/// Those of the store: then it was not read to its end.
pub(super) fn audit(store: &Store, mut tell: impl FnMut(Finding)) -> Result<()> {
    let mut audit = Audit {
        store,
        tell: &mut tell,
        seen: BTreeMap::new(),
        there: Ranges::default(),
        gaps: BTreeSet::new(),
    };
    if !audit.is_ours()? {
        return Ok(());
    }
    let totals = audit.records()?;
    audit.index(totals.all.count)?;
    totals.check(&mut audit)?;
    audit.notes()
}

impl Audit<'_> {
    fn contradiction(&mut self, what: String) {
        (self.tell)(Finding::Contradiction(what));
    }

    /// Whether there is anything to check; that there is nothing else is part of it.
    fn is_ours(&mut self) -> Result<bool> {
        let scopes = self.store.scopes()?;
        if scopes.is_empty() {
            return Ok(false);
        }
        let mark = self.store.global().get::<Value>(MARK)?;
        if mark != Some(Value::from(LAYOUT)) {
            let found = mark.map_or("it is missing".into(), |mark| format!("it is {mark}"));
            self.contradiction(format!(
                "this is no store of this version's `crash write`: its mark, key {MARK:?} in global, should be {LAYOUT}; {found}"
            ));
            return Ok(false);
        }
        let mut known = record::part_scopes();
        known.extend([record::records(), record::index(), lists::notes()]);
        known.push(evenkeel::Scope::Global);
        for worker in 0..record::WORKERS {
            known.push(record::worker(worker));
            known.extend(LISTS.iter().map(|list| list.scope(worker)));
        }
        for scope in scopes.iter().filter(|scope| !known.contains(scope)) {
            self.contradiction(format!(
                "{scope} is no scope of `crash write`, and has keys"
            ));
        }
        Ok(true)
    }

    /// Checks heads and parts; gives what counters have to show.
    fn records(&mut self) -> Result<Totals> {
        let mut totals = Totals::default();
        let mut lanes = Lanes::open(self.store)?;
        for entry in self.store.scope(record::records()).scan("")? {
            let entry = entry?;
            let head = match Head::read(entry.key(), &entry.value()?) {
                Ok(head) => head,
                Err(what) => {
                    let (key, scope) = (entry.key(), record::records());
                    self.contradiction(format!("record at key {key:?} in {scope}: {what}"));
                    continue;
                }
            };
            for what in self.links(&head, entry.version())? {
                self.contradiction(format!("record {}: {what}", head.number));
            }
            let mut orphans = Vec::new();
            let mut wrong = lanes.check(&head, entry.version(), &mut orphans)?;
            for what in orphans {
                self.contradiction(what);
            }
            if head.shape == Shape::Transaction {
                wrong.extend(self.indexed(&head, &entry)?);
                totals.add(&head, entry.version());
            }
            self.there.insert(head.number);
            let stamp = Stamp {
                run: head.run,
                version: entry.version(),
            };
            self.seen.insert(head.number, stamp);
            if self.seen.len() > SEEN_MAX {
                self.seen.pop_first();
            }
            if wrong.is_empty() {
                (self.tell)(Finding::Have(head.number));
            }
            for what in wrong {
                self.contradiction(format!("record {}: {what}", head.number));
            }
        }
        let mut orphans = Vec::new();
        lanes.finish(&mut orphans)?;
        for what in orphans {
            self.contradiction(what);
        }
        Ok(totals)
    }

    /// The run and version of a record; `None` where it is not there.
    fn stamp(&self, number: u64) -> Result<Option<Stamp>> {
        if let Some(stamp) = self.seen.get(&number) {
            return Ok(Some(*stamp));
        }
        let records = self.store.scope(record::records());
        let found = records.get_versioned::<Value>(record::key(number))?;
        Ok(found.and_then(|found| {
            let (_, run) = record::stamped(&found.value)?;
            let version = found.version;
            Some(Stamp { run, version })
        }))
    }

    /// What is wrong with what a record was written after.
    ///
    /// That is no part of its content: the record itself may be whole.
    fn links(&mut self, head: &Head, version: Version) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        if let Some(before) = head.before {
            let said = format!("run {} wrote it after record {before}", head.run);
            match self.stamp(before)? {
                None => wrong.push(format!("{said}, which is missing")),
                Some(found) if found.run < head.run => wrong.push(format!(
                    "{said}, which is still as run {} wrote it",
                    found.run
                )),
                Some(found) => {
                    let later = found.run > head.run;
                    if later != (found.version > version) || found.version == version {
                        wrong.push(format!(
                            "{said}, but that one is of run {} and version {}, this one of version {version}",
                            found.run, found.version
                        ));
                    }
                }
            }
        }
        if let Some(missing) = self.there.missing(head.first, head.floor)
            && self.gaps.insert((head.run, missing))
        {
            wrong.push(format!(
                "run {} wrote it after all of {} to {}, but record {missing} is missing",
                head.run,
                head.first,
                head.floor - 1
            ));
        }
        Ok(wrong)
    }

    /// What is wrong with a transaction's entry in the index.
    fn indexed(&self, head: &Head, entry: &Entry) -> Result<Option<String>> {
        let (scope, key) = (record::index(), head.index_key());
        let found = self
            .store
            .scope(scope.clone())
            .get_versioned::<Value>(&key)?;
        let place = format!("key {key:?} in {scope}");
        Ok(match found {
            None => Some(format!("its {place} is missing")),
            Some(found) if found.value != Value::from(head.number) => {
                Some(format!("its {place} names {}", found.value))
            }
            Some(found) if found.version != entry.version() => Some(format!(
                "its {place} has version {}, the record {}: they are of different commits",
                found.version,
                entry.version()
            )),
            Some(_) => None,
        })
    }

    /// Every transaction had its entry; so it is whole if there are no more.
    fn index(&mut self, transactions: i64) -> Result<()> {
        let index = self.store.scope(record::index());
        if i64::try_from(index.len()?) == Ok(transactions) {
            return Ok(());
        }
        for entry in index.scan("")? {
            let entry = entry?;
            let number = entry.value::<Value>()?.as_u64();
            let head = match number {
                Some(number) => self
                    .store
                    .scope(record::records())
                    .get(record::key(number))?,
                None => None,
            };
            let shape = head.as_ref().and_then(record::shape);
            if shape != Some(Shape::Transaction) {
                self.contradiction(format!(
                    "key {:?} in {} names {}, which is no transaction",
                    entry.key(),
                    record::index(),
                    entry.value::<Value>()?
                ));
            }
        }
        Ok(())
    }

    /// Checks an entry that came with a record or behind it; gives what is wrong.
    fn entry(&self, entry: &Entry, expected: impl Fn(u64, u64) -> (String, Value)) -> Result<Came> {
        let value = entry.value::<Value>()?;
        let Some((number, run)) = record::stamped(&value) else {
            return Ok(Came::Wrong("it names no record".into()));
        };
        if expected(number, run) != (entry.key().to_owned(), value) {
            return Ok(Came::Wrong("its content is not what was written".into()));
        }
        Ok(match self.stamp(number)? {
            None => Came::Wrong(format!("it came with record {number}, which is missing")),
            Some(found) if found.run < run => Came::Wrong(format!(
                "it came with record {number} of run {run}, but that is still as run {} wrote it",
                found.run
            )),
            Some(found) if found.run == run => Came::With(number, Some(found.version)),
            Some(_) => Came::With(number, None),
        })
    }

    fn notes(&mut self) -> Result<()> {
        let scope = lists::notes();
        for entry in self.store.scope(scope.clone()).scan("")? {
            let entry = entry?;
            let expected = |number, run| (lists::note_key(number), lists::note_of(number, run));
            let wrong = match self.entry(&entry, expected)? {
                Came::Wrong(what) => Some(what),
                Came::With(number, Some(version)) if version >= entry.version() => Some(format!(
                    "it has version {}, but was written after record {number} of version {version}",
                    entry.version()
                )),
                Came::With(..) => None,
            };
            if let Some(what) = wrong {
                self.contradiction(format!("key {:?} in {scope}: {what}", entry.key()));
            }
        }
        Ok(())
    }
}

/// What an entry came with.
enum Came {
    /// This record; its version, unless it was written anew since.
    With(u64, Option<Version>),
    Wrong(String),
}

#[cfg(test)]
mod tests;
