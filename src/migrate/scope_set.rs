//! Owns sets of scopes: what a migration declares. They are data, so that a migration can
//! be asked which scopes it is about before it runs.
//!
//! What must stay true: no set holds a part of the store's own bookkeeping.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::scope::{Scope, ScopeKind};

/// A set of scopes, said by name, kind or pattern: what a migration visits, and what it
/// joins.
///
/// ```
/// use evenkeel::{Scope, ScopeKind, ScopeSet};
/// let orders = ScopeSet::pattern(ScopeKind::Workflow, ["order-*"])
///     .or(ScopeSet::pattern(ScopeKind::Step, ["order-*", "charge"]))
///     .except(ScopeSet::scope(Scope::workflow("order-0")));
/// assert!(orders.contains(&Scope::workflow("order-42")));
/// assert!(orders.contains(&Scope::step("order-42", "charge")));
/// assert!(!orders.contains(&Scope::workflow("order-0")));
/// assert!(!orders.contains(&Scope::step("order-42", "ship")));
/// assert!(!orders.contains(&Scope::job("order-42")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a set does nothing until it is given to something"]
pub struct ScopeSet {
    /// In order, and the last one that has a scope decides. So a long chain of `or` is a
    /// list and no deep tree.
    terms: Vec<(Sign, Term)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    With,
    Without,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    All,
    Scope(Scope),
    Kind(ScopeKind),
    Pattern(ScopeKind, Vec<String>),
    /// A set that takes something away is no list that could be appended.
    Set(Box<ScopeSet>),
}

impl ScopeSet {
    fn of(term: Term) -> Self {
        Self {
            terms: vec![(Sign::With, term)],
        }
    }

    /// All scopes but the store's own bookkeeping, which is in no set.
    pub fn all() -> Self {
        Self::of(Term::All)
    }

    /// No scope.
    pub fn none() -> Self {
        Self { terms: Vec::new() }
    }

    /// One scope. The steps of a workflow and the routines of a worker are scopes of their
    /// own.
    pub fn scope(scope: Scope) -> Self {
        Self::of(Term::Scope(scope))
    }

    /// All scopes of one kind.
    pub fn kind(kind: ScopeKind) -> Self {
        Self::of(Term::Kind(kind))
    }

    /// The scopes of one kind whose ids match, each its pattern: `*` stands for any run of
    /// characters, also for none, `\*` for a star and `\\` for a backslash. A step has two
    /// ids, that of its workflow and its own name; so has a routine, those of its worker
    /// and its own; a global scope has none; all others have one.
    ///
    /// A pattern that cannot be, because of the number of ids or of a backslash before
    /// something else, matches nothing, and is refused with [`Error::Invalid`] when the
    /// store is opened.
    ///
    /// ```
    /// use evenkeel::{Scope, ScopeKind, ScopeSet};
    /// let starred = ScopeSet::pattern(ScopeKind::Custom, [r"\**"]);
    /// assert!(starred.contains(&Scope::custom("*mine")));
    /// assert!(!starred.contains(&Scope::custom("mine")));
    /// ```
    pub fn pattern(kind: ScopeKind, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::of(Term::Pattern(
            kind,
            ids.into_iter().map(Into::into).collect(),
        ))
    }

    /// What is in this set or in the other one.
    pub fn or(self, other: Self) -> Self {
        self.and_then(Sign::With, other)
    }

    /// What is in this set and not in the other one.
    pub fn except(self, other: Self) -> Self {
        self.and_then(Sign::Without, other)
    }

    fn and_then(mut self, sign: Sign, other: Self) -> Self {
        match other.terms.iter().all(|(sign, _)| *sign == Sign::With) {
            true => {
                let terms = other.terms.into_iter();
                self.terms.extend(terms.map(|(_, term)| (sign, term)));
            }
            false => self.terms.push((sign, Term::Set(Box::new(other)))),
        }
        self
    }

    /// True where the scope is in the set.
    #[must_use]
    pub fn contains(&self, scope: &Scope) -> bool {
        if scope.kind().is_none() {
            return false;
        }
        let last = self.terms.iter().rfind(|(_, term)| term.contains(scope));
        matches!(last, Some((Sign::With, _)))
    }

    /// The scopes of the set that it names one by one.
    pub(crate) fn named(&self) -> Vec<&Scope> {
        let mut named = Vec::new();
        for (_, term) in &self.terms {
            match term {
                Term::Scope(scope) => named.push(scope),
                Term::Set(set) => named.extend(set.named()),
                Term::All | Term::Kind(_) | Term::Pattern(..) => {}
            }
        }
        named.retain(|scope| self.contains(scope));
        named
    }

    /// All scopes of the set, in order, where it says which they are; `None` where that
    /// depends on which there are.
    pub(super) fn listed(&self) -> Option<BTreeSet<&Scope>> {
        let lists = |(_, term): &(Sign, Term)| matches!(term, Term::Scope(_));
        let listed = self.terms.iter().all(lists);
        listed.then(|| self.named().into_iter().collect())
    }

    /// Refuses a set that was not meant so: a pattern that cannot be, or a scope that is
    /// too long to be one.
    ///
    /// # Errors
    /// [`Error::Invalid`], and [`Error::LimitExceeded`] for the scope.
    pub(crate) fn validate(&self) -> Result<()> {
        self.terms.iter().try_for_each(|(_, term)| match term {
            Term::All | Term::Kind(_) => Ok(()),
            Term::Scope(scope) => scope.validate(),
            Term::Set(set) => set.validate(),
            Term::Pattern(kind, ids) => validate(*kind, ids),
        })
    }
}

impl Term {
    fn contains(&self, scope: &Scope) -> bool {
        match self {
            Self::All => true,
            Self::Scope(one) => one == scope,
            Self::Kind(kind) => scope.kind() == Some(*kind),
            Self::Pattern(kind, patterns) => {
                let mut ids = scope.ids();
                scope.kind() == Some(*kind)
                    && kind.ids() == patterns.len()
                    && patterns
                        .iter()
                        .all(|pattern| ids.next().is_some_and(|id| matches(pattern, id)))
            }
            Self::Set(set) => set.contains(scope),
        }
    }
}

fn validate(kind: ScopeKind, ids: &[String]) -> Result<()> {
    let invalid = |reason: String| Error::Invalid {
        what: "pattern of scopes",
        reason,
    };
    if ids.len() != kind.ids() {
        let reason = format!(
            "{kind:?} has {} ids, the pattern {ids:?} has {}",
            kind.ids(),
            ids.len()
        );
        return Err(invalid(reason));
    }
    match ids.iter().find(|pattern| pieces(pattern).is_none()) {
        Some(pattern) => Err(invalid(format!(
            "in {pattern:?} a backslash stands before something else than a star or a backslash"
        ))),
        None => Ok(()),
    }
}

/// What stands between the stars. `None` where a backslash means nothing.
fn pieces(pattern: &str) -> Option<Vec<String>> {
    let mut pieces = vec![String::new()];
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '*' => {
                pieces.push(String::new());
                continue;
            }
            '\\' => chars.next().filter(|next| matches!(next, '*' | '\\'))?,
            c => c,
        };
        pieces.last_mut()?.push(literal);
    }
    Some(pieces)
}

fn matches(pattern: &str, id: &str) -> bool {
    let Some(pieces) = pieces(pattern) else {
        return false;
    };
    let [first, middle @ .., last] = &*pieces else {
        // One piece: there is no star.
        return pieces.first().is_some_and(|piece| piece == id);
    };
    let inner = id
        .strip_prefix(first.as_str())
        .and_then(|rest| rest.strip_suffix(last.as_str()));
    // The first place of each piece leaves most to the others.
    inner.is_some_and(|inner| {
        let end = middle.iter().try_fold(inner, |rest, piece| {
            rest.split_once(piece.as_str()).map(|(_, rest)| rest)
        });
        end.is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(pattern: &str, id: &str) -> bool {
        ScopeSet::pattern(ScopeKind::Custom, [pattern]).contains(&Scope::custom(id))
    }

    #[test]
    fn patterns_match_runs_of_characters() {
        for (pattern, id, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "any/thing", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*b", "ba", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("*ab*ab*", "ab", false),
            ("*ab*ab*", "abab", true),
            ("**", "x", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"\\*", r"\x", true),
            (r"a\*b*", "a*bc", true),
            ("ä*", "äöü", true),
            (r"a\b", r"a\b", false),
            (r"a\", r"a\", false),
        ] {
            assert_eq!(custom(pattern, id), expected, "{pattern:?} {id:?}");
        }
    }

    /// All that the star can stand for, tried.
    fn slowly(pattern: &[u8], id: &[u8]) -> bool {
        match pattern.split_first() {
            None => id.is_empty(),
            Some((b'*', rest)) => (0..=id.len()).any(|at| slowly(rest, &id[at..])),
            Some((c, rest)) => id.first() == Some(c) && slowly(rest, &id[1..]),
        }
    }

    #[test]
    fn patterns_match_as_trying_all_does() {
        let words = |letters: &[u8], len: u32| {
            let mut words = vec![Vec::new()];
            let mut longest = words.clone();
            for _ in 0..len {
                let longer = |word: &Vec<u8>| {
                    let with = |letter: &u8| [&**word, &[*letter]].concat();
                    letters.iter().map(with).collect::<Vec<_>>()
                };
                longest = longest.iter().flat_map(longer).collect();
                words.extend_from_slice(&longest);
            }
            words
        };
        for pattern in words(b"ab*", 4) {
            for id in words(b"ab", 5) {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let (pattern_text, id_text) = (text(&pattern), text(&id));
                assert_eq!(
                    custom(&pattern_text, &id_text),
                    slowly(&pattern, &id),
                    "{pattern_text:?} {id_text:?}"
                );
            }
        }
    }

    #[test]
    fn a_wrong_pattern_matches_nothing_and_is_refused() {
        for (kind, ids, scope) in [
            (ScopeKind::Step, vec!["*"], Scope::step("a", "b")),
            (ScopeKind::Job, vec!["*", "*"], Scope::job("a")),
            (ScopeKind::Global, vec!["*"], Scope::Global),
            (ScopeKind::Job, vec![], Scope::job("")),
            (ScopeKind::Job, vec![r"\a"], Scope::job("a")),
        ] {
            let set = ScopeSet::pattern(kind, ids.clone());
            assert!(!set.contains(&scope), "{ids:?}");
            for set in [
                set.clone(),
                ScopeSet::all().or(set.clone()),
                ScopeSet::none().or(ScopeSet::all().except(set)),
            ] {
                let refused = set.validate();
                assert!(matches!(refused, Err(Error::Invalid { .. })), "{ids:?}");
            }
        }
        let long = ScopeSet::scope(Scope::job("x".repeat(2000)));
        assert!(matches!(long.validate(), Err(Error::LimitExceeded { .. })));
        let none: [&str; 0] = [];
        let global = ScopeSet::pattern(ScopeKind::Global, none);
        assert!(global.contains(&Scope::Global) && global.validate().is_ok());
    }

    #[test]
    fn sets_are_joined_and_taken_away_in_order() {
        let one = || ScopeSet::scope(Scope::job("1"));
        let jobs = || ScopeSet::kind(ScopeKind::Job);
        let (first, second) = (Scope::job("1"), Scope::job("2"));
        let both = |set: &ScopeSet| (set.contains(&first), set.contains(&second));
        assert_eq!(both(&ScopeSet::all()), (true, true));
        assert_eq!(both(&ScopeSet::none()), (false, false));
        assert_eq!(both(&jobs().except(one())), (false, true));
        assert_eq!(both(&jobs().except(one()).or(one())), (true, true));
        // What the other set takes away, it takes from itself.
        let but_one = || jobs().except(one());
        assert_eq!(both(&one().or(but_one())), (true, true));
        assert_eq!(both(&jobs().except(but_one())), (true, false));
        assert_eq!(both(&jobs().except(ScopeSet::none())), (true, true));
    }

    #[test]
    fn the_stores_own_scopes_are_in_no_set() {
        let own = Scope::system("settings");
        for set in [ScopeSet::all(), ScopeSet::scope(own.clone())] {
            assert!(!set.contains(&own));
        }
    }

    #[test]
    fn a_long_chain_is_no_deep_tree() {
        let mut set = ScopeSet::none();
        for number in 0..100_000 {
            set = set.or(ScopeSet::scope(Scope::job(number.to_string())));
        }
        assert!(set.contains(&Scope::job("7")));
        assert!(set.validate().is_ok());
    }
}
