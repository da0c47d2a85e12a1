//! Owns which keys of a scope a transform is about: one, or all that begin alike.

use std::fmt;

use crate::error::Result;
use crate::migrate::scope::MigrationScope;

/// Which keys of a scope a [transform](crate::Transforms) is about. A text, or a
/// [`Key`](crate::Key), is that one key; stars in it are stars.
///
/// ```
/// use evenkeel::{KeyPattern, Transforms};
/// let migration = Transforms::to(2)
///     .remove("cache.size") // one key
///     .rename(KeyPattern::prefix("usr."), KeyPattern::prefix("user."));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    text: String,
    prefix: bool,
}

impl KeyPattern {
    /// One key.
    #[must_use]
    pub fn key(key: impl Into<String>) -> Self {
        Self {
            text: key.into(),
            prefix: false,
        }
    }

    /// All keys that begin so.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self {
            text: prefix.into(),
            prefix: true,
        }
    }

    /// All keys.
    #[must_use]
    pub fn all() -> Self {
        Self::prefix("")
    }

    /// True where the key is one of them.
    ///
    /// ```
    /// use evenkeel::KeyPattern;
    /// assert!(KeyPattern::prefix("user.").matches("user.name"));
    /// assert!(!KeyPattern::key("user.").matches("user.name"));
    /// ```
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        match self.prefix {
            true => key.starts_with(&self.text),
            false => key == self.text,
        }
    }

    /// The keys of a scope that it matches.
    pub(super) fn keys_in(&self, scope: &MigrationScope<'_>) -> Result<Vec<String>> {
        if !self.prefix {
            let there = scope.contains(&self.text)?;
            return Ok(there.then(|| self.text.clone()).into_iter().collect());
        }
        let keys = scope.scan(&self.text)?;
        keys.map(|entry| entry.map(|entry| entry.key().to_owned()))
            .collect()
    }

    /// True where each key of this pattern has a counterpart in the other.
    pub(super) fn corresponds_to(&self, other: &Self) -> bool {
        self.prefix == other.prefix
    }

    /// The counterpart, in another pattern, of a key that this one matches.
    pub(super) fn counterpart(&self, key: &str, other: &Self) -> String {
        let rest = key.strip_prefix(&self.text).unwrap_or_default();
        format!("{}{rest}", other.text)
    }
}

impl<K: AsRef<str>> From<K> for KeyPattern {
    fn from(key: K) -> Self {
        Self::key(key.as_ref())
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.prefix, self.text.as_str()) {
            (true, "") => f.write_str("all keys"),
            (true, prefix) => write!(f, "the keys that begin with {prefix:?}"),
            (false, key) => write!(f, "{key:?}"),
        }
    }
}
