//! Owns sets of scopes, by which a migration says what it visits and joins.

use crate::scope::{Scope, ScopeKind};

/// A set of scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeSet(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    All,
    None,
    Scope(Scope),
    Kind(ScopeKind),
    Or(Box<Rule>, Box<Rule>),
    Except(Box<Rule>, Box<Rule>),
}

impl ScopeSet {
    /// All scopes.
    #[must_use]
    pub fn all() -> Self {
        Self(Rule::All)
    }

    /// No scope.
    #[must_use]
    pub fn none() -> Self {
        Self(Rule::None)
    }

    /// This scope.
    #[must_use]
    pub fn scope(scope: Scope) -> Self {
        Self(Rule::Scope(scope))
    }

    /// All scopes of a kind.
    #[must_use]
    pub fn kind(kind: ScopeKind) -> Self {
        Self(Rule::Kind(kind))
    }

    /// The scopes of this set and those of another.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(Rule::Or(Box::new(self.0), Box::new(other.0)))
    }

    /// The scopes of this set that are not in another.
    #[must_use]
    pub fn except(self, other: Self) -> Self {
        Self(Rule::Except(Box::new(self.0), Box::new(other.0)))
    }

    /// True where the scope is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        !matches!(scope, Scope::System(_)) && self.0.contains(scope)
    }
}

impl Rule {
    fn contains(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Scope(other) => other == scope,
            Self::Kind(kind) => kind.is_of(&scope.encode()),
            Self::Or(one, other) => one.contains(scope) || other.contains(scope),
            Self::Except(one, other) => one.contains(scope) && !other.contains(scope),
        }
    }
}
