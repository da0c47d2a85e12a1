//! Owns what one transform does in one scope, there and back.
//!
//! What must stay true: nothing that is there is overwritten by what comes from another
//! key, and a deadline goes where its value goes.

pub(super) mod fields;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::cell::deadline;
use crate::error::{Error, Result};
use crate::migrate::MigrationBudget;
use crate::migrate::key_pattern::KeyPattern;
use crate::migrate::scope::MigrationScope;
use crate::migrate::scope_set::ScopeSet;
use crate::scope::Scope;
use crate::state::SetOptions;
use crate::value::Value;

/// One transform.
pub(super) enum Step {
    Rename {
        from: KeyPattern,
        to: KeyPattern,
    },
    Default {
        key: String,
        value: Value,
    },
    Remove {
        keys: KeyPattern,
        back: Option<(String, Value)>,
    },
    Cut {
        there: Cut,
        back: Option<Cut>,
    },
    Convert {
        keys: KeyPattern,
        /// In words, before the keys.
        what: String,
        there: Mapping,
        back: Option<Mapping>,
    },
    Move(Move),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Self::Default { key, value } => write!(f, "default {key:?} to {value}"),
            Self::Remove { keys, .. } => write!(f, "remove {keys}"),
            Self::Cut { there, .. } => f.write_str(&there.what),
            Self::Convert { keys, what, .. } => write!(f, "{what} {keys}"),
            Self::Move(step) => write!(f, "move {} to another scope", step.keys),
        }
    }
}

impl Step {
    /// Refuses what was not meant so.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Rename { from, to } if !from.corresponds_to(to) => Err(Error::Invalid {
                what: "transforms",
                reason: format!("to {self}: both have to be keys, or both prefixes"),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn has_way_back(&self) -> bool {
        match self {
            Self::Rename { .. } | Self::Default { .. } => true,
            Self::Remove { back, .. } => back.is_some(),
            Self::Cut { back, .. } => back.is_some(),
            Self::Convert { back, .. } => back.is_some(),
            Self::Move(step) => step.has_way_back(),
        }
    }

    pub(super) fn there(
        &self,
        scope: &MigrationScope<'_>,
        scopes: &ScopeSet,
        budget: &MigrationBudget,
    ) -> Result<()> {
        match self {
            Self::Rename { from, to } => rename(scope, (from, to), budget),
            Self::Default { key, value } => default(scope, key, value),
            Self::Remove { keys, .. } => remove(scope, keys),
            Self::Cut { there, .. } => (there.apply)(scope),
            Self::Convert { keys, there, .. } => there.apply(scope, keys),
            Self::Move(step) => step.there(scope, scopes),
        }
    }

    /// Goes back; does nothing where there is no way back, which was asked before.
    pub(super) fn back(
        &self,
        scope: &MigrationScope<'_>,
        scopes: &ScopeSet,
        budget: &MigrationBudget,
    ) -> Result<()> {
        match self {
            Self::Rename { from, to } => rename(scope, (to, from), budget),
            Self::Default { key, value } => remove_if(scope, key, value),
            Self::Remove { back, .. } => match back {
                Some((key, value)) => default(scope, key, value),
                None => Ok(()),
            },
            Self::Cut { back, .. } => back.as_ref().map_or(Ok(()), |back| (back.apply)(scope)),
            Self::Convert { keys, back, .. } => {
                let back = back.as_ref();
                back.map_or(Ok(()), |back| back.apply(scope, keys))
            }
            Self::Move(step) => step.back(scope, scopes),
        }
    }
}

/// Refuses to write over what is there.
fn vacant(scope: &MigrationScope<'_>, key: &str) -> Result<()> {
    match scope.contains(key)? {
        false => Ok(()),
        true => Err(Error::Invalid {
            what: "key",
            reason: format!("{key:?} is in {} already", scope.scope()),
        }),
    }
}

fn rename(
    scope: &MigrationScope<'_>,
    (from, to): (&KeyPattern, &KeyPattern),
    budget: &MigrationBudget,
) -> Result<()> {
    // All are taken away before the first is put back: a new key may be the old one of
    // another. So they are all in memory, in which they would be as writes as well.
    let mut taken: Vec<(String, Arc<[u8]>)> = Vec::new();
    let mut bytes = 0;
    for key in from.keys_in(scope)? {
        let Some(cell) = scope.find(&key)? else {
            continue;
        };
        bytes += (key.len() + cell.len()) as u64;
        if bytes > budget.bytes {
            return Err(Error::LimitExceeded {
                limit: "migration_bytes",
                max: budget.bytes,
                actual: bytes,
                at: scope.scope().to_string(),
            });
        }
        taken.push((from.counterpart(&key, to), Arc::from(&*cell)));
        scope.write(&key, None)?;
    }
    for (key, cell) in taken {
        vacant(scope, &key)?;
        scope.write(&key, Some(cell))?;
    }
    Ok(())
}

fn default(scope: &MigrationScope<'_>, key: &str, value: &Value) -> Result<()> {
    match scope.contains(key)? {
        true => Ok(()),
        false => scope.set(key, value),
    }
}

fn remove_if(scope: &MigrationScope<'_>, key: &str, value: &Value) -> Result<()> {
    if scope.get::<Value>(key)?.as_ref() == Some(value) {
        scope.remove(key)?;
    }
    Ok(())
}

fn remove(scope: &MigrationScope<'_>, keys: &KeyPattern) -> Result<()> {
    for key in keys.keys_in(scope)? {
        scope.remove(key)?;
    }
    Ok(())
}

type Apply = dyn Fn(&MigrationScope<'_>) -> Result<()> + Send + Sync;

/// Values made of others: of one, several; of several, one.
pub(super) struct Cut {
    what: String,
    apply: Box<Apply>,
}

impl Cut {
    pub(super) fn split<T, V, const N: usize>(
        key: &str,
        into: [&str; N],
        split: impl Fn(T) -> Result<[Option<V>; N]> + Send + Sync + 'static,
    ) -> Self
    where
        T: DeserializeOwned,
        V: Serialize,
    {
        let (from, keys) = ([key.to_owned()], into.map(str::to_owned));
        Self {
            what: format!("split {key:?} into {into:?}"),
            apply: Box::new(move |scope| match scope.get(key_of(&from))? {
                Some(value) => recut(scope, &from, &keys, split(value)?),
                None => Ok(()),
            }),
        }
    }

    pub(super) fn merge<V, T, const N: usize>(
        from: [&str; N],
        into: &str,
        merge: impl Fn([Option<V>; N]) -> Result<T> + Send + Sync + 'static,
    ) -> Self
    where
        V: DeserializeOwned,
        T: Serialize,
    {
        let (keys, into) = (from.map(str::to_owned), [into.to_owned()]);
        Self {
            what: format!("merge {from:?} into {:?}", key_of(&into)),
            apply: Box::new(move |scope| {
                let mut parts = [const { None }; N];
                for (part, key) in parts.iter_mut().zip(&keys) {
                    *part = scope.get(key)?;
                }
                match parts.iter().all(Option::is_none) {
                    true => Ok(()),
                    false => recut(scope, &keys, &into, [Some(merge(parts)?)]),
                }
            }),
        }
    }
}

fn key_of([key]: &[String; 1]) -> &str {
    key
}

/// Puts values in the place of those that they were made of.
fn recut<V: Serialize>(
    scope: &MigrationScope<'_>,
    from: &[String],
    into: &[String],
    parts: impl IntoIterator<Item = Option<V>>,
) -> Result<()> {
    // What is there for ever, or for longest, says how long the parts are.
    let mut until = Some(0);
    for key in from {
        if let Some(cell) = scope.find(key)? {
            until = until
                .zip(deadline(&cell))
                .map(|(one, other)| one.max(other));
            scope.write(key, None)?;
        }
    }
    let lasts = match until {
        Some(until) => SetOptions::new().expires_at(until),
        None => SetOptions::new().forever(),
    };
    for (key, part) in into.iter().zip(parts) {
        if let Some(part) = part {
            vacant(scope, key)?;
            scope.set_with(key, part, lasts)?;
        }
    }
    Ok(())
}

type Map = dyn Fn(&MigrationScope<'_>, &str) -> Result<bool> + Send + Sync;

/// What makes one value of another, in its place.
pub(super) struct Mapping(Box<Map>);

impl Mapping {
    pub(super) fn new<Old: DeserializeOwned, New: Serialize>(
        map: impl Fn(Old) -> Result<New> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(move |scope, key| scope.convert(key, &map)))
    }

    fn apply(&self, scope: &MigrationScope<'_>, keys: &KeyPattern) -> Result<()> {
        for key in keys.keys_in(scope)? {
            (self.0)(scope, &key)?;
        }
        Ok(())
    }
}

type To = dyn Fn(&Scope) -> Scope + Send + Sync;
type Back = dyn Fn(&Scope) -> Option<Scope> + Send + Sync;

/// Values that go to another scope.
pub(super) struct Move {
    keys: KeyPattern,
    to: Box<To>,
    back: Option<Box<Back>>,
}

impl Move {
    pub(super) fn new(
        keys: KeyPattern,
        to: impl Fn(&Scope) -> Scope + Send + Sync + 'static,
        back: Option<Box<Back>>,
    ) -> Self {
        Self {
            keys,
            to: Box::new(to),
            back,
        }
    }

    pub(super) fn has_way_back(&self) -> bool {
        self.back.is_some()
    }

    /// Where what is in `scope` came from, if anything was moved there.
    fn origin(&self, scope: &Scope, scopes: &ScopeSet) -> Option<Scope> {
        let origin = self.back.as_ref().and_then(|back| back(scope))?;
        (scopes.contains(&origin) && (self.to)(&origin) == *scope).then_some(origin)
    }

    /// The scopes that are touched while `scope` is visited, there or back.
    pub(super) fn joins(&self, scope: &Scope, scopes: &ScopeSet) -> impl Iterator<Item = Scope> {
        let to = scopes.contains(scope).then(|| (self.to)(scope));
        to.into_iter().chain(self.origin(scope, scopes))
    }

    fn there(&self, scope: &MigrationScope<'_>, scopes: &ScopeSet) -> Result<()> {
        let to = (self.to)(scope.scope());
        // It would have its turn, too, before or after this one.
        if to != *scope.scope() && scopes.contains(&to) {
            return Err(Error::Invalid {
                what: "transforms",
                reason: format!(
                    "values of {} would be moved to {to}, which is among the scopes that they come from; leave it out of `scopes`",
                    scope.scope()
                ),
            });
        }
        self.carry(scope, to)
    }

    fn back(&self, scope: &MigrationScope<'_>, scopes: &ScopeSet) -> Result<()> {
        match self.origin(scope.scope(), scopes) {
            Some(origin) => self.carry(scope, origin),
            None => Ok(()),
        }
    }

    fn carry(&self, scope: &MigrationScope<'_>, to: Scope) -> Result<()> {
        if to == *scope.scope() {
            return Ok(());
        }
        let other = scope.joined(to)?;
        for key in self.keys.keys_in(scope)? {
            if let Some(cell) = scope.find(&key)? {
                vacant(&other, &key)?;
                other.write(&key, Some(Arc::from(&*cell)))?;
                scope.write(&key, None)?;
            }
        }
        Ok(())
    }
}
