//! Owns how much a scope may hold: quotas, which of them counts, and what is said where
//! one refuses. Who asks holds the sequencer's lock, so a quota counts from its commit
//! on and for no commit before it.

use std::sync::Arc;

use super::table::Slot;
use crate::error::Error;
use crate::scope::{ScopeKind, describe};

/// How many keys a scope may have where nobody says anything else.
pub(crate) const SCOPE_KEYS_MAX: u64 = 10_000_000;
/// How many bytes a scope may have where nobody says anything else.
pub(crate) const SCOPE_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;

/// What a scope may hold, set while the store is open: by
/// [`ScopeHandle::set_quota`](crate::ScopeHandle::set_quota) for one scope, by
/// [`Store::set_quota`](crate::Store::set_quota) for each scope of a kind.
///
/// For keys and for bytes the same rule holds: the scope's own quota counts; where it
/// says nothing, that of its kind; where that says nothing either,
/// [`Limits`](crate::Limits). So a quota may be lower or higher than `Limits`, and one
/// that says nothing is as none.
///
/// A quota may be lower than what a scope holds already. The scope is then quarantined:
/// everything in it can be read, deleted, cleared, and written over by what is no
/// larger; what would make it grow further in what it has too much of is refused with
/// [`Error::Quarantined`](crate::Error::Quarantined). That ends by itself, as soon as it
/// holds no more than it may.
///
/// ```
/// use evenkeel::{Error, Quota, ScopeKind, Store};
/// let store = Store::in_memory();
/// store.set_quota(ScopeKind::Global, Quota::new().keys(1).bytes(1024))?;
/// store.global().set("a", 1)?;
/// let refused = store.global().set("b", 1);
/// assert!(matches!(refused, Err(Error::LimitExceeded { max: 1, actual: 2, .. })));
/// store.global().delete("a")?;
/// store.global().set("b", 1)?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Quota {
    /// The most keys of the scope. Zero lets nothing in. Default: not said.
    pub keys: Option<u64>,
    /// The most bytes of the scope: of its keys and of its values as they are stored,
    /// as [`ScopeHandle::bytes`](crate::ScopeHandle::bytes) counts them. Default: not
    /// said.
    pub bytes: Option<u64>,
}

impl Quota {
    /// A quota that says nothing: as none.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: None,
            bytes: None,
        }
    }

    /// So many keys at most.
    #[must_use]
    pub const fn keys(self, most: u64) -> Self {
        Self {
            keys: Some(most),
            ..self
        }
    }

    /// So many bytes of keys and stored values at most.
    #[must_use]
    pub const fn bytes(self, most: u64) -> Self {
        Self {
            bytes: Some(most),
            ..self
        }
    }

    /// True where it says nothing.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.keys.is_none() && self.bytes.is_none()
    }
}

/// A quota that a commit sets.
#[derive(Debug)]
pub(crate) struct QuotaChange {
    pub(crate) of: QuotaOf,
    pub(crate) quota: Quota,
}

/// Whose quota it is.
#[derive(Debug)]
pub(crate) enum QuotaOf {
    Scope(Arc<Slot>),
    Kind(ScopeKind),
}

/// The quotas of the kinds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KindQuotas([Quota; ScopeKind::ALL.len()]);

impl KindQuotas {
    pub(crate) fn get(&self, kind: ScopeKind) -> Quota {
        self.0[kind as usize]
    }

    pub(crate) fn set(&mut self, kind: ScopeKind, quota: Quota) {
        self.0[kind as usize] = quota;
    }
}

/// What a scope may hold, and who says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) keys: (u64, By),
    pub(crate) bytes: (u64, By),
}

/// Who says how much a scope may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Scope,
    Kind,
    Limits,
}

impl By {
    fn words(self) -> &'static str {
        match self {
            Self::Scope => "its own quota",
            Self::Kind => "the quota of its kind",
            Self::Limits => "the store's limits",
        }
    }
}

impl Allowed {
    /// Who is most particular counts, for keys and bytes each.
    pub(super) fn of(own: Quota, kind: Quota, (keys, bytes): (u64, u64)) -> Self {
        let first = |own: Option<u64>, kind: Option<u64>, else_max| match (own, kind) {
            (Some(max), _) => (max, By::Scope),
            (None, Some(max)) => (max, By::Kind),
            (None, None) => (else_max, By::Limits),
        };
        Self {
            keys: first(own.keys, kind.keys, keys),
            bytes: first(own.bytes, kind.bytes, bytes),
        }
    }

    /// True where so much fits.
    pub(super) fn takes(&self, keys: u64, bytes: u64) -> bool {
        keys <= self.keys.0 && bytes <= self.bytes.0
    }
}

/// What a commit would have made of a scope that is at its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    limit: &'static str,
    max: u64,
    by: By,
    held: u64,
    actual: u64,
}

impl Refusal {
    /// The first limit that a commit would leave exceeded by more than before.
    pub(super) fn of(allowed: &Allowed, before: (u64, u64), after: (u64, u64)) -> Option<Self> {
        let judge = |limit, (max, by), held, actual| {
            let refused = Self {
                limit,
                max,
                by,
                held,
                actual,
            };
            (actual > max && actual > held).then_some(refused)
        };
        judge("scope_keys", allowed.keys, before.0, after.0)
            .or_else(|| judge("scope_bytes", allowed.bytes, before.1, after.1))
    }

    pub(super) fn error(self, prefix: &[u8]) -> Error {
        let Self {
            limit,
            max,
            by,
            held,
            actual,
        } = self;
        let scope = describe(prefix);
        let by = by.words();
        match held > max {
            true => Error::Quarantined {
                scope,
                limit,
                max,
                by,
                held,
                actual,
            },
            false => Error::LimitExceeded {
                limit,
                max,
                actual,
                at: format!("{scope}, which has {held}; by {by}"),
            },
        }
    }
}
