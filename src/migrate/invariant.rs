//! Owns invariants: what has to hold of a state that was migrated before it counts.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::migrate::MigrationBudget;
use crate::migrate::call::{Call, Failure, State, Writes};
use crate::migrate::scope::{MigrationScan, MigrationScope};
use crate::migrate::scope_set::ScopeSet;
use crate::scope::Scope;
use crate::state::schema::layers::{Scopes, Stack, scope_of};
use crate::state::store::Shared;
use crate::state::transaction::guarded;
use crate::state::{Builder, Keys};

type Check = dyn Fn(&MigratedState) -> Result<(), Box<dyn StdError + Send + Sync>> + Send + Sync;

/// What has to hold.
#[derive(Clone)]
pub(super) struct Invariant {
    pub(super) name: String,
    check: Arc<Check>,
}

impl fmt::Debug for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invariant({:?})", self.name)
    }
}

impl Invariant {
    /// Why it does not hold; `None` where it does.
    ///
    /// # Errors
    /// What reading the state answered, whatever the invariant made of that.
    pub(super) fn ask(
        &self,
        shared: &Arc<Shared>,
        stack: Stack,
        version: u32,
    ) -> Result<Option<String>> {
        let state = MigratedState::new(shared, stack, version);
        let mut outcome = Ok(());
        let ran = guarded("in an invariant", || {
            outcome = (self.check)(&state);
            Ok(())
        });
        match state.call.finish(Ok(())) {
            Err(failure) => match *failure {
                Failure::OfTheStore(e) | Failure::OfTheMigration { source: e, .. } => Err(e),
            },
            Ok(_) => Ok(match (ran, outcome) {
                (Err(panic), _) => Some(panic.to_string()),
                (Ok(()), Err(reason)) => Some(text_of(reason)),
                (Ok(()), Ok(())) => None,
            }),
        }
    }

    /// # Errors
    /// [`Error::InvariantBroken`] where it does not hold; otherwise as
    /// [`ask`](Self::ask).
    pub(super) fn require(&self, shared: &Arc<Shared>, stack: Stack, version: u32) -> Result<()> {
        match self.ask(shared, stack, version)? {
            None => Ok(()),
            Some(reason) => Err(Error::InvariantBroken {
                name: self.name.clone(),
                reason,
            }),
        }
    }
}

/// What an invariant says, without what `Error::abort` puts before it.
fn text_of(reason: Box<dyn StdError + Send + Sync>) -> String {
    match reason.downcast_ref::<Error>() {
        Some(Error::Aborted(reason)) => reason.to_string(),
        _ => reason.to_string(),
    }
}

/// The state as migrations leave it, to be looked at by an
/// [invariant](Builder::invariant). It is what the program will find if they count.
///
/// ```
/// use evenkeel::{MigratedState, Result, Scope};
/// fn every_job_has_a_state(state: &MigratedState) -> Result<()> {
///     for scope in state.scopes() {
///         let scope = scope?;
///         if matches!(scope, Scope::Job(_)) && !state.scope(scope.clone()).contains("state")? {
///             return Err(evenkeel::Error::abort(format!("{scope} has none")));
///         }
///     }
///     Ok(())
/// }
/// let builder = evenkeel::Store::builder().invariant("states", every_job_has_a_state);
/// ```
pub struct MigratedState {
    call: Call,
    version: u32,
}

/// Which version it is of.
impl fmt::Debug for MigratedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigratedState")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl MigratedState {
    fn new(shared: &Arc<Shared>, stack: Stack, version: u32) -> Self {
        Self {
            call: Call {
                shared: Arc::clone(shared),
                stack,
                visited: Scope::Global,
                joins: ScopeSet::all(),
                budget: MigrationBudget::default(),
                until: None,
                state: RefCell::<State>::default(),
            },
            version,
        }
    }

    /// The schema version that it has.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A scope, which need not have keys.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> MigratedScope<'_> {
        MigratedScope(MigrationScope::new(&self.call, scope))
    }

    /// The scope that all share.
    #[must_use]
    pub fn global(&self) -> MigratedScope<'_> {
        self.scope(Scope::Global)
    }

    /// The scopes that have keys, in order, one by one.
    pub fn scopes(&self) -> MigratedScopes<'_> {
        MigratedScopes {
            call: &self.call,
            scopes: Some(self.call.stack.scopes(None)),
        }
    }
}

/// A scope of a state that was migrated. Made by [`MigratedState::scope`].
#[derive(Debug)]
pub struct MigratedScope<'a>(MigrationScope<'a>);

impl<'a> MigratedScope<'a> {
    /// The scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.0.scope()
    }

    /// As [`MigrationScope::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get<T: DeserializeOwned>(&self, key: impl AsRef<str>) -> Result<Option<T>> {
        self.0.get(key)
    }

    /// As [`MigrationScope::contains`].
    ///
    /// # Errors
    /// As there.
    pub fn contains(&self, key: impl AsRef<str>) -> Result<bool> {
        self.0.contains(key)
    }

    /// As [`MigrationScope::keys`].
    ///
    /// # Errors
    /// As there.
    pub fn keys(&self) -> Result<Keys> {
        self.0.keys()
    }

    /// As [`MigrationScope::scan`].
    ///
    /// # Errors
    /// As there.
    pub fn scan(&self, prefix: impl AsRef<str>) -> Result<MigrationScan<'a>> {
        self.0.scan(prefix)
    }

    /// As [`MigrationScope::len`].
    ///
    /// # Errors
    /// As there.
    pub fn len(&self) -> Result<u64> {
        self.0.len()
    }

    /// As [`MigrationScope::is_empty`].
    ///
    /// # Errors
    /// As there.
    pub fn is_empty(&self) -> Result<bool> {
        self.0.is_empty()
    }
}

/// The scopes of a state that was migrated. Made by [`MigratedState::scopes`].
#[must_use = "nothing is read until it is iterated"]
pub struct MigratedScopes<'a> {
    call: &'a Call,
    /// `None` behind the end.
    scopes: Option<Scopes>,
}

/// That it is there, and not what it has read already.
impl fmt::Debug for MigratedScopes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigratedScopes").finish_non_exhaustive()
    }
}

impl MigratedScopes<'_> {
    fn advance(&mut self) -> Result<Option<Scope>> {
        let Some(scopes) = &mut self.scopes else {
            return Ok(None);
        };
        while let Some(prefix) = scopes.advance()? {
            if self.call.stack.is_live(&prefix, Writes::new())? {
                return scope_of(&prefix).map(Some);
            }
        }
        Ok(None)
    }
}

impl Iterator for MigratedScopes<'_> {
    type Item = Result<Scope>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.call.faulty(self.advance()).transpose();
        if !matches!(next, Some(Ok(_))) {
            self.scopes = None;
        }
        next
    }
}

impl Builder {
    /// What has to hold of the state after migrations: it is asked when all of them have
    /// run and before they count, by [`Builder::open`] and by
    /// [`Migrations::run`](crate::Migrations::run), and a
    /// [rehearsal](crate::Migrations::rehearse) tells whether it would. It is not asked
    /// when nothing is migrated, nor on the way back: an older state need not have what
    /// this program wants.
    ///
    /// Where it returns an error or panics, the state stays as it was, and what was called
    /// fails with [`Error::InvariantBroken`].
    ///
    /// ```
    /// use evenkeel::{Error, Scope, Store, Transforms};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let store = Store::open(&path)?;
    /// store.scope(Scope::custom("stock")).set("widget", -1)?;
    /// store.close()?;
    ///
    /// let builder = Store::builder()
    ///     .migration(Transforms::to(2).rename("widget", "widgets"))
    ///     .invariant("no stock is negative", |state| {
    ///         for entry in state.scope(Scope::custom("stock")).scan("")? {
    ///             let entry = entry?;
    ///             if entry.value::<i64>()? < 0 {
    ///                 return Err(Error::abort(format!("there are {:?} {}", entry.value::<i64>()?, entry.key())));
    ///             }
    ///         }
    ///         Ok(())
    ///     });
    /// let broken = builder.open(&path);
    /// assert!(matches!(broken, Err(Error::InvariantBroken { .. })));
    /// assert!(Store::open(&path)?.scope(Scope::custom("stock")).contains("widget")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn invariant<E>(
        self,
        name: impl Into<String>,
        check: impl Fn(&MigratedState) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let invariant = Invariant {
            name: name.into(),
            check: Arc::new(move |state| check(state).map_err(Into::into)),
        };
        self.with_registry(|registry| registry.invariants.push(invariant))
    }
}
