//! Owns what a store should hold: the sequence of commits, how many of them were
//! acknowledged, and whether what was found is the state after some prefix.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::workload::Write;
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::value::Value;

/// How many differences a report lists.
const DIFFERENCES_MAX: usize = 6;

/// A value, and its version where that is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) value: Value,
    pub(super) version: Option<Lsn>,
}

/// All keys of all scopes that have any.
pub(super) type Contents = BTreeMap<Scope, BTreeMap<String, Held>>;

/// One change of a commit, as it turned out.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Scope, String, Value, Option<Lsn>),
    Delete(Scope, String),
    Clear(Scope),
}

#[derive(Clone, Debug)]
pub(super) struct Commit {
    changes: Vec<Change>,
    lsn: Option<Lsn>,
}

/// The commits since a state that is known to be durable.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    base: Contents,
    commits: Vec<Commit>,
    current: Contents,
    /// So many of the commits must survive anything.
    pub(super) acked: usize,
    /// So many must survive the end of the process.
    pub(super) written: usize,
    /// No commit has had a higher LSN, as far as is known.
    pub(super) highest: Lsn,
}

impl History {
    /// A history that goes on from what was found.
    pub(super) fn from(found: Contents, highest: Lsn) -> Self {
        Self {
            current: found.clone(),
            base: found,
            highest,
            ..Self::default()
        }
    }

    /// What is visible after all commits.
    pub(super) fn current(&self) -> &Contents {
        &self.current
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    /// What writes come to, on top of what is visible. `None` where the store
    /// should refuse them.
    pub(super) fn resolve(&self, writes: &[Write]) -> Option<Vec<Change>> {
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            let change = match write {
                Write::Set(scope, key, value) | Write::Replace(scope, key, value) => {
                    Change::Put(scope.clone(), key.clone(), value.clone(), None)
                }
                Write::Delete(scope, key) => Change::Delete(scope.clone(), key.clone()),
                Write::Clear(scope) => Change::Clear(scope.clone()),
                Write::Increment(scope, key, by) => {
                    let old = match self.look_up(&changes, scope, key) {
                        Some(old) => old.as_i64()?,
                        None => 0,
                    };
                    Change::Put(scope.clone(), key.clone(), Value::from(old + by), None)
                }
                Write::Merge(scope, key, patch) => {
                    let mut value = self
                        .look_up(&changes, scope, key)
                        .cloned()
                        .unwrap_or_default();
                    value.merge(patch.clone());
                    Change::Put(scope.clone(), key.clone(), value, None)
                }
            };
            changes.push(change);
        }
        Some(changes)
    }

    fn look_up<'a>(&'a self, changes: &'a [Change], scope: &Scope, key: &str) -> Option<&'a Value> {
        for change in changes.iter().rev() {
            match change {
                Change::Put(s, k, value, _) if s == scope && k == key => return Some(value),
                Change::Delete(s, k) if s == scope && k == key => return None,
                Change::Clear(s) if s == scope => return None,
                _ => {}
            }
        }
        Some(&self.current.get(scope)?.get(key)?.value)
    }

    /// Adds a commit that was made, or may have been, where its LSN is not known.
    pub(super) fn push(&mut self, changes: Vec<Change>, lsn: Option<Lsn>) {
        let commit = Commit { changes, lsn };
        apply(&mut self.current, &commit);
        self.highest = match lsn {
            Some(lsn) => self.highest.max(lsn),
            None => self.highest.next(),
        };
        self.commits.push(commit);
    }

    /// All that is visible was acknowledged.
    pub(super) fn acknowledge(&mut self) {
        self.acknowledge_first(self.commits.len());
    }

    pub(super) fn acknowledge_first(&mut self, count: usize) {
        self.acked = self.acked.max(count);
        self.written = self.written.max(count);
    }

    /// The kernel has all that is visible.
    pub(super) fn wrote(&mut self) {
        self.written = self.commits.len();
    }

    /// Makes one commit of everything, which is how a store that is persisted looks
    /// to its folder.
    pub(super) fn collapse(&mut self) {
        let held = self.current.iter().flat_map(|(scope, keys)| {
            keys.iter().map(|(key, held)| {
                Change::Put(scope.clone(), key.clone(), held.value.clone(), held.version)
            })
        });
        let commit = Commit {
            changes: held.collect(),
            lsn: None,
        };
        self.base.clear();
        self.commits = vec![commit];
        (self.acked, self.written) = (0, 0);
    }

    /// After how many commits, at least `least`, the contents are what was found.
    ///
    /// # Errors
    /// What was expected, and what of it differs.
    pub(super) fn find(&self, found: &Contents, least: usize) -> Result<usize, String> {
        let mut state = self.base.clone();
        for commit in &self.commits[..least] {
            apply(&mut state, commit);
        }
        let at_least = differences(&state, found);
        if at_least.is_empty() {
            return Ok(least);
        }
        for (at, commit) in self.commits.iter().enumerate().skip(least) {
            apply(&mut state, commit);
            if differences(&state, found).is_empty() {
                return Ok(at + 1);
            }
        }
        let mut what = format!(
            "what was recovered is no state after {least} to {} commits ({} acknowledged, {} written).",
            self.commits.len(),
            self.acked,
            self.written
        );
        let _ = write!(
            what,
            "\n  against the first {least}: {}",
            at_least.join("; ")
        );
        if self.commits.len() > least {
            let all = differences(&state, found).join("; ");
            let _ = write!(what, "\n  against all {}: {all}", self.commits.len());
        }
        let earlier = (0..least).rev().find(|&count| {
            self.after(count)
                .is_ok_and(|state| differences(&state, found).is_empty())
        });
        if let Some(earlier) = earlier {
            let _ = write!(
                what,
                "\n  it is the state after {earlier} commits: acknowledged ones are lost"
            );
        }
        let lsns: Vec<_> = self
            .commits
            .iter()
            .skip(least.saturating_sub(3))
            .map(|c| c.lsn)
            .collect();
        let _ = write!(
            what,
            "\n  LSNs of the commits from {}: {lsns:?}",
            least.saturating_sub(3)
        );
        Err(what)
    }

    fn after(&self, count: usize) -> Result<Contents, ()> {
        let mut state = self.base.clone();
        for commit in self.commits.get(..count).ok_or(())? {
            apply(&mut state, commit);
        }
        Ok(state)
    }

    /// Every scope and key that ever was in a commit.
    pub(super) fn touched(&self) -> BTreeMap<&Scope, Vec<&str>> {
        let mut touched: BTreeMap<&Scope, Vec<&str>> = BTreeMap::new();
        for change in self.commits.iter().flat_map(|commit| &commit.changes) {
            match change {
                Change::Put(scope, key, ..) | Change::Delete(scope, key) => {
                    touched.entry(scope).or_default().push(key);
                }
                Change::Clear(scope) => drop(touched.entry(scope).or_default()),
            }
        }
        for (scope, keys) in &self.base {
            touched
                .entry(scope)
                .or_default()
                .extend(keys.keys().map(String::as_str));
        }
        for keys in touched.values_mut() {
            keys.sort_unstable();
            keys.dedup();
        }
        touched
    }
}

fn apply(contents: &mut Contents, commit: &Commit) {
    for change in &commit.changes {
        match change {
            Change::Put(scope, key, value, version) => {
                let held = Held {
                    value: value.clone(),
                    version: version.or(commit.lsn),
                };
                contents
                    .entry(scope.clone())
                    .or_default()
                    .insert(key.clone(), held);
            }
            Change::Delete(scope, key) => {
                if let Some(keys) = contents.get_mut(scope) {
                    keys.remove(key);
                    if keys.is_empty() {
                        contents.remove(scope);
                    }
                }
            }
            Change::Clear(scope) => drop(contents.remove(scope)),
        }
    }
}

/// In what two states differ; versions count where both are known.
pub(super) fn differences(expected: &Contents, found: &Contents) -> Vec<String> {
    let mut differences = Vec::new();
    let empty = BTreeMap::new();
    let mut scopes: Vec<_> = expected.keys().chain(found.keys()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    for scope in scopes {
        let expected = expected.get(scope).unwrap_or(&empty);
        let found = found.get(scope).unwrap_or(&empty);
        let mut keys: Vec<_> = expected.keys().chain(found.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (expected, found) = (expected.get(key), found.get(key));
            if !same(expected, found) {
                let (expected, found) = (shown(expected), shown(found));
                differences.push(format!(
                    "{scope} {key:?}: expected {expected}, found {found}"
                ));
            }
            if differences.len() == DIFFERENCES_MAX {
                return differences;
            }
        }
    }
    differences
}

fn same(a: Option<&Held>, b: Option<&Held>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => {
            let versions = a.version.zip(b.version);
            versions.is_none_or(|(a, b)| a == b) && a.value == b.value
        }
        (None, None) => true,
        _ => false,
    }
}

fn shown(held: Option<&Held>) -> String {
    let Some(held) = held else {
        return "nothing".into();
    };
    let text = held.value.to_string();
    let short: String = text.chars().take(24).collect();
    let version = held.version.map_or("?".into(), |lsn| lsn.to_string());
    format!("{short} ({} bytes, version {version})", text.len())
}
