//! Owns what a watch delivers: a commit, and each change in it. Values are decoded when
//! they are asked for.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::codec::CodecLimits;
use crate::engine::feed::{Kind, Old, RawCommit};
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, StoreId, Version};
use crate::scope::{Scope, describe};
use crate::state::cell;
use crate::state::scan::key_text;

/// What one commit changed, as far as the filter of the watch lets it through.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    store: StoreId,
    lsn: Lsn,
    time_micros: u64,
    schema: u32,
    changes: Vec<Change>,
}

/// One change: to a key, or to all keys of a scope.
#[derive(Clone)]
pub struct Change {
    scope: Arc<Scope>,
    kind: ChangeKind,
    key: String,
    version: Version,
    new: Option<Arc<[u8]>>,
    old: Old,
    limits: CodecLimits,
}

/// What was done where; neither key nor values.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("scope", &self.scope)
            .field("kind", &self.kind)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The key has a value. It may be the one that it had.
    Put,
    /// The key is gone. It may not have been there.
    Delete,
    /// All keys of the scope are gone. Comes before what the same commit wrote to it.
    Clear,
}

/// What was there before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous<T> {
    /// It is not known: see [`WatchValues::OldAndNew`](crate::WatchValues::OldAndNew).
    Unknown,
    /// The key was not there.
    Absent,
    /// The key had this value.
    Value(T),
}

impl ChangeSet {
    pub(super) fn new(commit: RawCommit, store: StoreId, limits: CodecLimits) -> Result<Self> {
        let version = commit.lsn.into();
        let mut changes = Vec::with_capacity(commit.changes.len());
        let mut last: Option<(Arc<[u8]>, Arc<Scope>)> = None;
        for raw in commit.changes {
            let scope = match &last {
                Some((prefix, scope)) if Arc::ptr_eq(prefix, &raw.scope) => Arc::clone(scope),
                _ => {
                    let scope = decode_scope(&raw.scope, commit.lsn)?;
                    last = Some((raw.scope, Arc::clone(&scope)));
                    scope
                }
            };
            changes.push(Change {
                kind: match raw.kind {
                    Kind::Put => ChangeKind::Put,
                    Kind::Delete => ChangeKind::Delete,
                    Kind::Clear => ChangeKind::Clear,
                },
                key: key_text(raw.key, &scope)?,
                scope,
                version,
                new: raw.new,
                old: raw.old,
                limits,
            });
        }
        Ok(Self {
            store,
            lsn: commit.lsn,
            time_micros: commit.time_micros,
            schema: commit.schema,
            changes,
        })
    }

    /// The LSN of the commit.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The store time of the commit, in microseconds since 1970; it never goes back.
    #[must_use]
    pub fn time_micros(&self) -> u64 {
        self.time_micros
    }

    /// The schema version of the values that the commit wrote; 0 where none was declared
    /// by then.
    ///
    /// ```
    /// use evenkeel::{Scope, Store, WatchFilter};
    /// let store = Store::in_memory();
    /// let mut watch = store.watch(WatchFilter::all())?;
    /// store.scope(Scope::Global).set("k", 1)?;
    /// let change = watch.try_next()?.expect("a commit");
    /// assert_eq!(change.schema_version(), 0); // no program with migrations has opened it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        self.schema
    }

    /// The changes, by scope, in the order of the keys; there is always one.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The store that it is of.
    #[must_use]
    pub fn store_id(&self) -> StoreId {
        self.store
    }
}

fn decode_scope(prefix: &[u8], lsn: Lsn) -> Result<Arc<Scope>> {
    let scope = Scope::decode(prefix).map(|(scope, _)| Arc::new(scope));
    scope.ok_or_else(|| {
        let what = format!("{} is no scope", describe(prefix));
        Error::from(Corruption::new("a commit", what).lsn(lsn))
    })
}

impl Change {
    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> ChangeKind {
        self.kind
    }

    /// The key; empty for a [`ChangeKind::Clear`].
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The version that the key has by this change: the LSN of the commit.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What was written; `None` for anything but a put, and where the watch does not ask
    /// for values.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn value<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        let decode = |cell| cell::decode(cell, &self.limits, (&self.scope, &self.key));
        self.new.as_deref().map(decode).transpose()
    }

    /// What was there before the commit; [`Previous::Unknown`] for a clear, and where
    /// the watch does not ask for it.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`] where it is not a `T`.
    pub fn previous<T: DeserializeOwned>(&self) -> Result<Previous<T>> {
        Ok(match &self.old {
            Old::Unknown => Previous::Unknown,
            Old::Known(None) => Previous::Absent,
            Old::Known(Some(cell)) => {
                Previous::Value(cell::decode(cell, &self.limits, (&self.scope, &self.key))?)
            }
        })
    }
}
