//! Owns one call of a migration: what it has written so far and may write, what it
//! touched last, and what it did wrong, whether it says so or not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::table::Stored;
use crate::error::{Error, Result};
use crate::migrate::MigrationBudget;
use crate::migrate::scope_set::ScopeSet;
use crate::scope::{Scope, prefix_end};
use crate::state::schema::layers::Stack;
use crate::state::store::Shared;

/// No budget lets a call write more: it is one commit.
const BYTES_BOUND: u64 = 192 * 1024 * 1024;

/// What an entry takes in a commit beside its key and its value.
const ENTRY_BYTES: u64 = 32;

/// A call that is running.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    /// What it reads, but for what it writes itself.
    pub(super) stack: Stack,
    pub(super) visited: Scope,
    pub(super) joins: ScopeSet,
    pub(super) budget: MigrationBudget,
    /// Store time at which the time of the migration is used up.
    pub(super) until: Option<u64>,
    pub(super) state: RefCell<State>,
}

/// What a call has done so far.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By full key; `None` for what it removed.
    own: BTreeMap<Vec<u8>, Stored>,
    bytes: u64,
    touched: Option<(Scope, String)>,
    fault: Option<Error>,
}

/// What a call has written, by full key.
pub(super) type Writes = BTreeMap<Vec<u8>, Stored>;

impl Call {
    /// Notes what is read or written now, and refuses it where the time is over.
    pub(super) fn touch(&self, scope: &Scope, key: &str) -> Result<()> {
        self.state.borrow_mut().touched = Some((scope.clone(), key.to_owned()));
        self.faulty(self.check_time())
    }

    /// Refuses what goes on for longer than the budget allows.
    pub(super) fn check_time(&self) -> Result<()> {
        let Some((until, time)) = self.until.zip(self.budget.time) else {
            return Ok(());
        };
        let now = self.shared.engine.now();
        let max = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match now > until {
            false => Ok(()),
            true => Err(Error::LimitExceeded {
                limit: "migration_micros",
                max,
                actual: max.saturating_add(now - until),
                at: self.visited.to_string(),
            }),
        }
    }

    /// What fails in a way that nobody may pass over: it fails the migration, also where
    /// that goes on as if nothing had happened.
    pub(super) fn faulty<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|e| {
            let mut state = self.state.borrow_mut();
            if state.fault.is_none() {
                state.fault = Some(copy_of(e));
            }
        })
    }

    /// What the call wrote to a key; the outer `None` where nothing.
    pub(super) fn written(&self, full: &[u8]) -> Option<Stored> {
        self.state.borrow().own.get(full).cloned()
    }

    /// What the call wrote to the keys of a scope.
    pub(super) fn written_to(&self, prefix: &[u8]) -> Writes {
        let state = self.state.borrow();
        let of_scope = state.own.range(prefix.to_vec()..);
        let of_scope = of_scope.take_while(|(key, _)| key.starts_with(prefix));
        let own = |(key, cell): (&Vec<u8>, &Stored)| {
            let key = key.get(prefix.len()..).unwrap_or_default();
            (key.to_vec(), cell.clone())
        };
        of_scope.map(own).collect()
    }

    /// The encoded scopes that the call wrote to, behind one.
    pub(super) fn next_scope_written(&self, after: &[u8]) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let from = prefix_end(after).unwrap_or_default();
        let (key, _) = state.own.range(from..).next()?;
        let (_, len) = Scope::decode(key)?;
        key.get(..len).map(<[u8]>::to_vec)
    }

    /// Writes a cell, or removes the key, within the budget.
    pub(super) fn write(&self, full: Vec<u8>, cell: Stored) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let size = |key: &[u8], cell: &Stored| {
            let cell = cell.as_ref().map_or(0, |cell| cell.len());
            (key.len() + cell) as u64 + ENTRY_BYTES
        };
        let old = state.own.get(&full);
        let writes = state.own.len() as u64 + u64::from(old.is_none());
        let freed = old.map_or(0, |old| size(&full, old));
        let bytes = state.bytes - freed + size(&full, &cell);
        self.within("migration_writes", self.budget.writes, writes)?;
        let bytes_max = self.budget.bytes.min(BYTES_BOUND);
        self.within("migration_bytes", bytes_max, bytes)?;
        state.bytes = bytes;
        state.own.insert(full, cell);
        Ok(())
    }

    fn within(&self, limit: &'static str, max: u64, actual: u64) -> Result<()> {
        match actual > max {
            false => Ok(()),
            true => Err(Error::LimitExceeded {
                limit,
                max,
                actual,
                at: format!("the visit of {}", self.visited),
            }),
        }
    }

    /// What the call wrote, if what it returned and did is no failure; else what it
    /// touched last and the failure.
    pub(super) fn finish(self, outcome: Result<()>) -> Result<Writes, Box<Failure>> {
        let late = self.faulty(self.check_time());
        let state = self.state.into_inner();
        let source = match (state.fault, outcome.and(late)) {
            (None, Ok(())) => return Ok(state.own),
            // Whatever was made of it, it is the cause.
            (Some(fault), _) if is_of_the_store(&fault) => {
                return Err(Box::new(Failure::OfTheStore(fault)));
            }
            (Some(fault), _) => fault,
            (None, Err(e)) => e,
        };
        Err(Box::new(Failure::OfTheMigration {
            touched: state.touched,
            source,
        }))
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It did something wrong; what it touched last, and what that was.
    OfTheMigration {
        touched: Option<(Scope, String)>,
        source: Error,
    },
    /// The store could not be read. No other code would help: the call is made again once
    /// it can.
    OfTheStore(Error),
}

/// True for what a read of the store answers where the store, not what it holds, is at
/// fault.
fn is_of_the_store(e: &Error) -> bool {
    matches!(
        e,
        Error::Io { .. } | Error::Poisoned { .. } | Error::Closed | Error::Busy { .. }
    )
}

/// An error once more, for whoever has to be told later.
fn copy_of(e: &Error) -> Error {
    match e {
        Error::Undeclared { scope } => Error::Undeclared {
            scope: scope.clone(),
        },
        Error::LimitExceeded {
            limit,
            max,
            actual,
            at,
        } => Error::LimitExceeded {
            limit,
            max: *max,
            actual: *actual,
            at: at.clone(),
        },
        Error::Serialize { path, reason } => Error::Serialize {
            path: path.clone(),
            reason: reason.clone(),
        },
        Error::Invalid { what, reason } => Error::Invalid {
            what,
            reason: reason.clone(),
        },
        Error::Corrupt(damage) => Error::Corrupt(damage.clone()),
        Error::Poisoned { reason } => Error::Poisoned {
            reason: reason.clone(),
        },
        Error::Busy { reason } => Error::Busy {
            reason: reason.clone(),
        },
        Error::Closed => Error::Closed,
        Error::Io { op, path, source } => Error::io(
            op,
            path,
            std::io::Error::new(source.kind(), source.to_string()),
        ),
        other => Error::abort(other.to_string()),
    }
}
