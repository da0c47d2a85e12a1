//! Owns the state: which scopes there are for a folder, what is in them, and the
//! transaction that changes one file in all of them.
//!
//! Each folder has scopes of its own, so one store can index several. `root` is the
//! canonical path of the folder, as a key:
//!
//! ```text
//! files:root         path                  -> Record
//! totals:root        files | bytes | lines -> integer
//! by-extension:root  extension             -> Totals   "" or ".rs"
//! by-size:root       ~size " " path        -> null     the largest first
//! by-hash:root       sha256 "/" path       -> null
//! copies:root        sha256                -> integer  files with this content
//! duplicates:root    ~waste " " sha256     -> integer  where there are two or more
//!
//! ~n := 2^64 - 1 - n, in 20 digits: a scan gives the largest first
//! ```
//!
//! What must stay true: all other scopes follow from `files`. Nothing is there that
//! no file accounts for; what reaches zero is removed. So the ten largest and the
//! duplicates are read from the front of a scan, and no run recounts.

use evenkeel::{Error, Result, Scope, ScopeHandle, Store, Transaction, TransactionScope};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::content::Record;

/// An id of a scope has at most 1,024 bytes.
const ROOT_BYTES_MAX: usize = 1000;
/// A name of a flow has at most 512.
const NAME_BYTES_MAX: usize = 500;

/// What files amount to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    pub(crate) files: i64,
    pub(crate) bytes: i64,
    pub(crate) lines: i64,
}

impl Totals {
    pub(crate) fn of(record: &Record) -> Result<Self> {
        Ok(Self {
            files: 1,
            bytes: signed(record.stamp.size)?,
            lines: signed(record.lines)?,
        })
    }

    /// As it is with `other` added so many times.
    pub(crate) fn plus(self, other: Self, times: i64) -> Result<Self> {
        let sum = |a: i64, b: i64| b.checked_mul(times).and_then(|b| a.checked_add(b));
        let sums = (
            sum(self.files, other.files),
            sum(self.bytes, other.bytes),
            sum(self.lines, other.lines),
        );
        let (Some(files), Some(bytes), Some(lines)) = sums else {
            return Err(Error::abort("the totals are too large"));
        };
        Ok(Self {
            files,
            bytes,
            lines,
        })
    }
}

fn signed(n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::abort(format!("{n} is too large")))
}

/// Files with the same content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Duplicates {
    pub(crate) sha256: String,
    pub(crate) copies: i64,
    /// What all copies but one take.
    pub(crate) waste: u64,
}

/// The scopes of a folder.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Files,
    Totals,
    ByExtension,
    BySize,
    ByHash,
    Copies,
    Duplicates,
}

/// The index of one folder in a store.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) store: Store,
    root: String,
}

impl Index {
    /// The index of the folder with this key.
    pub(crate) fn new(store: Store, root: String) -> Self {
        let root = shortened(root, ROOT_BYTES_MAX);
        Self { store, root }
    }

    /// The name of the flow that brings it up to date, and of its worker.
    pub(crate) fn name(&self) -> String {
        let root = shortened(self.root.clone(), NAME_BYTES_MAX);
        format!("index:{root}")
    }

    fn scope(&self, part: Part) -> Scope {
        let name = match part {
            Part::Files => "files",
            Part::Totals => "totals",
            Part::ByExtension => "by-extension",
            Part::BySize => "by-size",
            Part::ByHash => "by-hash",
            Part::Copies => "copies",
            Part::Duplicates => "duplicates",
        };
        Scope::custom(format!("{name}:{}", self.root))
    }

    pub(crate) fn part(&self, part: Part) -> ScopeHandle {
        self.store.scope(self.scope(part))
    }

    /// Puts a file's new record, or its absence, in place of the old one, in all
    /// that it counts in. Doing it twice changes nothing more. False where nothing
    /// had to be changed.
    pub(crate) fn change(&self, tx: &Transaction, key: &str, new: Option<&Record>) -> Result<bool> {
        let files = tx.scope(self.scope(Part::Files));
        let old: Option<Record> = files.get(key)?;
        if old.as_ref() == new {
            return Ok(false);
        }
        if let Some(old) = &old {
            self.count(tx, key, old, -1)?;
        }
        match new {
            Some(new) => {
                self.count(tx, key, new, 1)?;
                files.set(key, new)?;
            }
            None => files.delete(key)?,
        }
        Ok(true)
    }

    /// Counts a file in (`times` 1) or out (-1).
    fn count(&self, tx: &Transaction, key: &str, record: &Record, times: i64) -> Result<()> {
        let counted = Totals::of(record)?;
        let totals = tx.scope(self.scope(Part::Totals));
        totals.increment("files", counted.files * times)?;
        totals.increment("bytes", counted.bytes * times)?;
        totals.increment("lines", counted.lines * times)?;

        let by_extension = tx.scope(self.scope(Part::ByExtension));
        let old: Totals = by_extension.get(&record.extension)?.unwrap_or_default();
        let new = old.plus(counted, times)?;
        match new.files {
            0 => by_extension.delete(&record.extension)?,
            _ => by_extension.set(&record.extension, new)?,
        }

        let present = times > 0;
        mark(
            &tx.scope(self.scope(Part::BySize)),
            &by_size_key(record, key),
            present,
        )?;
        mark(
            &tx.scope(self.scope(Part::ByHash)),
            &by_hash_key(record, key),
            present,
        )?;
        self.count_copy(tx, record, times)
    }

    fn count_copy(&self, tx: &Transaction, record: &Record, times: i64) -> Result<()> {
        let copies = tx.scope(self.scope(Part::Copies));
        let duplicates = tx.scope(self.scope(Part::Duplicates));
        let new = copies.increment(&record.sha256, times)?;
        let old = new - times;
        if new == 0 {
            copies.delete(&record.sha256)?;
        }
        if let Some(key) = duplicates_key(record, old) {
            duplicates.delete(key)?;
        }
        match duplicates_key(record, new) {
            Some(key) => duplicates.set(key, new),
            None => Ok(()),
        }
    }

    pub(crate) fn totals(&self) -> Result<Totals> {
        let totals = self.part(Part::Totals);
        let get = |key| totals.get(key).map(Option::unwrap_or_default);
        Ok(Totals {
            files: get("files")?,
            bytes: get("bytes")?,
            lines: get("lines")?,
        })
    }

    /// The largest files, largest first, as size and path.
    pub(crate) fn largest(&self, count: usize) -> Result<Vec<(u64, String)>> {
        let entries = self.part(Part::BySize).scan("")?.take(count);
        entries
            .map(|entry| entry.and_then(|entry| split_descending(entry.key())))
            .collect()
    }

    /// All groups of duplicates, those that waste most first.
    pub(crate) fn duplicates(&self) -> Result<impl Iterator<Item = Result<Duplicates>>> {
        let entries = self.part(Part::Duplicates).scan("")?;
        Ok(entries.map(|entry| {
            let entry = entry?;
            let (waste, sha256) = split_descending(entry.key())?;
            let copies = entry.value()?;
            Ok(Duplicates {
                sha256,
                copies,
                waste,
            })
        }))
    }

    /// The paths of the files with this content.
    pub(crate) fn paths_of(&self, sha256: &str) -> Result<Vec<String>> {
        let prefix = format!("{sha256}/");
        let entries = self.part(Part::ByHash).scan(&prefix)?;
        let path = |key: &str| key.get(prefix.len()..).unwrap_or_default().to_owned();
        entries
            .map(|entry| entry.map(|entry| path(entry.key())))
            .collect()
    }
}

fn mark(scope: &TransactionScope<'_>, key: &str, present: bool) -> Result<()> {
    match present {
        true => scope.set(key, ()),
        false => scope.delete(key),
    }
}

pub(crate) fn by_size_key(record: &Record, path: &str) -> String {
    format!("{} {path}", descending(record.stamp.size))
}

pub(crate) fn by_hash_key(record: &Record, path: &str) -> String {
    format!("{}/{path}", record.sha256)
}

/// The key of so many copies of a file among the duplicates, if it is one.
pub(crate) fn duplicates_key(record: &Record, copies: i64) -> Option<String> {
    let more = u64::try_from(copies.checked_sub(1)?)
        .ok()
        .filter(|&more| more > 0)?;
    let waste = record.stamp.size.saturating_mul(more);
    Some(format!("{} {}", descending(waste), record.sha256))
}

/// Sorts the other way round.
fn descending(n: u64) -> String {
    format!("{:020}", u64::MAX - n)
}

fn split_descending(key: &str) -> Result<(u64, String)> {
    let split = key.split_once(' ');
    let parsed = split.and_then(|(n, rest)| Some((n.parse::<u64>().ok()?, rest)));
    match parsed {
        Some((n, rest)) => Ok((u64::MAX - n, rest.to_owned())),
        None => Err(Error::abort(format!("the key {key:?} is not of an index"))),
    }
}

/// A root, or what stands for it where it is too long.
fn shortened(root: String, bytes_max: usize) -> String {
    match root.len() > bytes_max {
        false => root,
        // No canonical path begins so.
        true => format!("sha256 {}", hexadecimal(&Sha256::digest(root))),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
