//! Owns what is counted: the counters of all transactions and of each worker's, and the
//! lists of the workers.

use evenkeel::{Result, Scope, Value, Version};

use super::super::lists::{LISTS, List};
use super::super::record::{self, COUNT, Head, LAST, MARK, SUM};
use super::{Audit, Came};

/// How many transactions there are, as their heads say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    pub(super) count: i64,
    sum: i64,
    /// The version of the newest.
    newest: Version,
}

impl Total {
    fn add(&mut self, head: &Head, version: Version) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(head.digest());
        self.newest = self.newest.max(version);
    }
}

/// The same for all, and for each worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) all: Total,
    workers: [Total; record::WORKERS as usize],
}

/// What the keys of a scope with counters hold.
#[derive(Default)]
struct Counters {
    count: Option<(Value, Version)>,
    sum: Option<(Value, Version)>,
    last: Option<(Value, Version)>,
    lists: [Option<Value>; LISTS.len()],
}

impl Totals {
    pub(super) fn add(&mut self, head: &Head, version: Version) {
        self.all.add(head, version);
        let worker = usize::try_from(record::worker_of(head.number)).unwrap_or(0);
        if let Some(total) = self.workers.get_mut(worker) {
            total.add(head, version);
        }
    }

    pub(super) fn check(&self, audit: &mut Audit<'_>) -> Result<()> {
        self.all.check(audit, &Scope::Global)?;
        for (worker, total) in (0..).zip(&self.workers) {
            let counters = total.check(audit, &record::worker(worker))?;
            for (list, count) in LISTS.iter().zip(counters.lists) {
                audit.list(list, worker, count)?;
            }
        }
        Ok(())
    }
}

impl Total {
    fn check(&self, audit: &mut Audit<'_>, scope: &Scope) -> Result<Counters> {
        let counters = audit.counters(scope)?;
        let keys = [
            (COUNT, &counters.count, self.count),
            (SUM, &counters.sum, self.sum),
        ];
        for (key, found, expected) in keys {
            let value = found.as_ref().map_or(&Value::Int(0), |(value, _)| value);
            if *value != Value::from(expected) {
                let found = found
                    .as_ref()
                    .map_or("missing".into(), |(value, _)| value.to_string());
                audit.contradiction(format!(
                    "key {key:?} in {scope} is {found}, but the transactions that are there make {expected}"
                ));
            }
        }
        let versions = [&counters.count, &counters.sum, &counters.last].map(|found| {
            found
                .as_ref()
                .map_or(Version::ZERO, |(_, version)| *version)
        });
        if versions.iter().any(|version| *version != versions[0]) {
            audit.contradiction(format!(
                "keys {COUNT:?}, {SUM:?} and {LAST:?} in {scope} are of different commits: versions {}, {} and {}",
                versions[0], versions[1], versions[2]
            ));
        }
        if self.newest > versions[0] {
            audit.contradiction(format!(
                "key {COUNT:?} in {scope} has version {}, but there is a transaction of version {}",
                versions[0], self.newest
            ));
        }
        if let Some((value, version)) = &counters.last
            && let Some(what) = audit.last(value, *version)?
        {
            audit.contradiction(format!("key {LAST:?} in {scope}: {what}"));
        }
        Ok(counters)
    }
}

impl Audit<'_> {
    /// Reads a scope with counters, in which there must be nothing else.
    fn counters(&mut self, scope: &Scope) -> Result<Counters> {
        let mut counters = Counters::default();
        for entry in self.store.scope(scope.clone()).scan("")? {
            let entry = entry?;
            let value = entry.value::<Value>()?;
            let list = LISTS.iter().position(|list| list.name == entry.key());
            match (entry.key(), list) {
                (COUNT, _) => counters.count = Some((value, entry.version())),
                (SUM, _) => counters.sum = Some((value, entry.version())),
                (LAST, _) => counters.last = Some((value, entry.version())),
                (MARK, _) if *scope == Scope::Global => {}
                (_, Some(list)) if *scope != Scope::Global => counters.lists[list] = Some(value),
                (key, _) => {
                    self.contradiction(format!("key {key:?} in {scope} is none of `crash write`"));
                }
            }
        }
        Ok(counters)
    }

    /// What is wrong with the name of the record that changed counters last.
    fn last(&self, value: &Value, version: Version) -> Result<Option<String>> {
        let Some((number, run)) = record::stamped(value) else {
            return Ok(Some("it names no record".into()));
        };
        if record::stamp(number, run) != *value {
            return Ok(Some("its content is not what was written".into()));
        }
        Ok(match self.stamp(number)? {
            None => Some(format!("it names record {number}, which is missing")),
            Some(found) if found.run < run => Some(format!(
                "it names record {number} of run {run}, but that is still as run {} wrote it",
                found.run
            )),
            Some(found) if found.run == run && found.version != version => Some(format!(
                "it has version {version}, record {number} {}: they are of different commits",
                found.version
            )),
            Some(_) => None,
        })
    }

    /// Checks a list of a worker, and how many entries it is said to have.
    fn list(&mut self, list: &List, worker: u64, said: Option<Value>) -> Result<()> {
        let scope = list.scope(worker);
        let mut count = 0_u64;
        for entry in self.store.scope(scope.clone()).scan("")? {
            let entry = entry?;
            count += 1;
            let expected = |number, run| (record::key(number), list.entry(number, run));
            let wrong = match self.entry(&entry, expected)? {
                Came::Wrong(what) => Some(what),
                Came::With(number, _) if record::worker_of(number) != worker => {
                    Some(format!("record {number} is of another worker"))
                }
                Came::With(number, Some(version)) if version != entry.version() => Some(format!(
                    "it has version {}, record {number} {version}: they are of different commits",
                    entry.version()
                )),
                Came::With(..) => None,
            };
            if let Some(what) = wrong {
                self.contradiction(format!("key {:?} in {scope}: {what}", entry.key()));
            }
        }
        if said.clone().unwrap_or(Value::Int(0)) != Value::from(count) {
            let said = said.map_or("missing".into(), |said| said.to_string());
            self.contradiction(format!(
                "key {:?} in {} is {said}, but {scope} has {count} entries",
                list.name,
                record::worker(worker)
            ));
        }
        Ok(())
    }
}
