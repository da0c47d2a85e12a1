//! Owns what a watch asks for: which scopes and keys, from where, and which values.
//! It looks at encoded scopes and at keys, never at values.

use crate::engine::feed::Values;
use crate::error::Result;
use crate::ids::Lsn;
use crate::scope::{Scope, ScopeKind, is_system};

/// What a watch asks for.
///
/// Filters are joined by [`or`](Self::or). A clear of a scope is delivered to all who
/// asked for any key of it. What the store keeps for itself is never delivered.
///
/// ```
/// use evenkeel::{Scope, ScopeKind, Store, WatchFilter, WatchValues};
/// let store = Store::in_memory();
/// let filter = WatchFilter::kind(ScopeKind::Job)
///     .or(WatchFilter::keys(Scope::Global, "config/"))
///     .with_values(WatchValues::OldAndNew);
/// let mut watch = store.watch(filter)?;
/// store.global().set("config/region", "eu")?;
/// store.global().set("other", 1)?;
/// store.scope(Scope::job("7")).set("state", "done")?;
/// let keys = [watch.try_next()?, watch.try_next()?].map(|item| item.map(|i| i.lsn()));
/// assert!(keys[0] < keys[1] && watch.try_next()?.is_none());
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a filter does nothing until a store is watched with it"]
pub struct WatchFilter {
    rules: Vec<Rule>,
    start: Start,
    values: WatchValues,
}

/// Which values the changes of a watch carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchValues {
    /// None: scopes and keys only. The default.
    #[default]
    Keys,
    /// What was written.
    New,
    /// What was written, and what was there before, as far as that is known: the log
    /// holds what was written only, so it is noted when a commit is made, while a watch
    /// asks for it, in [`watch_bytes`](crate::Builder::watch_bytes) of memory. It is
    /// [`Previous::Unknown`](crate::Previous::Unknown) for commits from before the
    /// watch began, for one that is further behind than that, and sometimes for values
    /// that had left memory, when a checkpoint came in between. Commits pay for this
    /// with a look-up in memory for each key.
    OldAndNew,
}

impl From<WatchValues> for Values {
    fn from(values: WatchValues) -> Self {
        Self {
            new: values != WatchValues::Keys,
            old: values == WatchValues::OldAndNew,
        }
    }
}

/// Where a watch begins.
#[derive(Clone, Debug)]
pub(super) enum Start {
    Now,
    Behind(Lsn),
    Cursor(String),
}

#[derive(Clone, Debug)]
enum Rule {
    All,
    Scope(Scope),
    Kind(ScopeKind),
    Keys(Scope, String),
}

/// Rules on what is encoded.
#[derive(Debug)]
pub(super) struct Rules(Vec<Encoded>);

#[derive(Debug)]
enum Encoded {
    All,
    Kind(ScopeKind),
    /// The scope, and what its keys begin with.
    Keys(Vec<u8>, String),
}

impl WatchFilter {
    fn of(rule: Rule) -> Self {
        Self {
            rules: vec![rule],
            start: Start::Now,
            values: WatchValues::default(),
        }
    }

    /// All changes.
    pub fn all() -> Self {
        Self::of(Rule::All)
    }

    /// The changes in one scope. Steps are scopes of their own.
    pub fn scope(scope: Scope) -> Self {
        Self::of(Rule::Scope(scope))
    }

    /// The changes in all scopes of one kind.
    pub fn kind(kind: ScopeKind) -> Self {
        Self::of(Rule::Kind(kind))
    }

    /// The changes to keys of one scope that begin with `prefix`.
    pub fn keys(scope: Scope, prefix: impl Into<String>) -> Self {
        Self::of(Rule::Keys(scope, prefix.into()))
    }

    /// What this filter lets through, and what the other one does. Where to begin, and
    /// which values, is said by this one.
    pub fn or(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }

    /// Begins behind this LSN: the first item is the first commit with a higher one.
    /// [`Lsn::ZERO`] asks for all that the log has.
    ///
    /// A consumer that begins with what is there reads it in a transaction and watches
    /// from [`Transaction::lsn`](crate::Transaction::lsn). Between the two a power cut
    /// may take what was visible and not yet durable; whoever cannot live with that
    /// calls [`Store::barrier`](crate::Store::barrier), or keeps a cursor.
    pub fn from(mut self, lsn: Lsn) -> Self {
        self.start = Start::Behind(lsn);
        self
    }

    /// Begins where the durable cursor of this name stands. One that is not there is
    /// made, durably, and stands at what is visible now.
    pub fn from_cursor(mut self, name: impl Into<String>) -> Self {
        self.start = Start::Cursor(name.into());
        self
    }

    /// Which values the changes carry. Default [`WatchValues::Keys`].
    pub fn with_values(mut self, values: WatchValues) -> Self {
        self.values = values;
        self
    }

    pub(super) fn into_parts(self) -> Result<(Rules, Start, WatchValues)> {
        let encode = |scope: &Scope| scope.validate().map(|()| scope.encode());
        let rules = self.rules.into_iter().map(|rule| {
            Ok(match rule {
                Rule::All => Encoded::All,
                Rule::Kind(kind) => Encoded::Kind(kind),
                Rule::Scope(scope) => Encoded::Keys(encode(&scope)?, String::new()),
                Rule::Keys(scope, prefix) => Encoded::Keys(encode(&scope)?, prefix),
            })
        });
        let rules: Result<Vec<_>> = rules.collect();
        Ok((Rules(rules?), self.start, self.values))
    }
}

impl Rules {
    /// Whether a change to a key is wanted, or, without one, to all of a scope.
    pub(super) fn want(&self, scope: &[u8], key: Option<&[u8]>) -> bool {
        let wants = |rule: &Encoded| match rule {
            Encoded::All => true,
            Encoded::Kind(kind) => kind.is_of(scope),
            Encoded::Keys(wanted, prefix) => {
                wanted == scope && key.is_none_or(|key| key.starts_with(prefix.as_bytes()))
            }
        };
        !is_system(scope) && self.0.iter().any(wants)
    }
}
