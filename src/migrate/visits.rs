//! Owns which scopes a migration visits, and in which order: those of its set that have
//! keys, and those that the set names one by one, with keys or without.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::migrate::scope_set::ScopeSet;
use crate::state::schema::layers::{Scopes, Stack};

/// The scopes that may have to be visited, in order.
pub(super) struct Visits {
    scopes: Scopes,
    next: Option<Vec<u8>>,
    named: BTreeSet<Vec<u8>>,
}

/// A scope that may have to be visited.
pub(super) struct Visit {
    /// Its encoding.
    pub(super) prefix: Vec<u8>,
    /// It is visited also where it has no keys: a place to put something is no less meant
    /// for being empty.
    pub(super) named: bool,
}

impl Visits {
    /// Those behind `after`.
    pub(super) fn new(stack: &Stack, set: &ScopeSet, after: Option<&[u8]>) -> Result<Self> {
        let named = set.named().into_iter().map(|scope| scope.encode());
        let mut scopes = stack.scopes(after);
        Ok(Self {
            next: scopes.advance()?,
            scopes,
            named: named
                .filter(|prefix| after.is_none_or(|after| prefix.as_slice() > after))
                .collect(),
        })
    }

    pub(super) fn advance(&mut self) -> Result<Option<Visit>> {
        let named_first = match (self.named.first(), &self.next) {
            (Some(named), Some(next)) => named < next,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if named_first {
            let prefix = self.named.pop_first();
            return Ok(prefix.map(|prefix| Visit {
                prefix,
                named: true,
            }));
        }
        let Some(prefix) = self.next.take() else {
            return Ok(None);
        };
        self.next = self.scopes.advance()?;
        let named = self.named.remove(&prefix);
        Ok(Some(Visit { prefix, named }))
    }
}
