//! Owns `Failure`: why the logic of a routine failed, and what its error handler asks
//! about that. Imports nothing.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;

/// The kind of a failure that is a panic.
pub(crate) const PANIC: &str = "panic";

/// Why a routine's logic failed. It comes by `?` from any error, and is no error itself:
/// only so can it come from all of them.
///
/// ```
/// use evenkeel::Failure;
/// fn charge(cents: &str) -> Result<u32, Failure> {
///     let cents: u32 = cents.parse()?;
///     if cents == 0 {
///         return Err(Failure::new("nothing to charge").kind("amount").permanent());
///     }
///     Ok(cents)
/// }
/// assert_eq!(charge("12").ok(), Some(12));
/// let failure = charge("0").unwrap_err();
/// assert!(failure.is_permanent());
/// assert_eq!(failure.kind_name(), Some("amount"));
/// assert_eq!(charge("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Failure {
    kind: Option<String>,
    permanent: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl Failure {
    /// A failure from text, from an error, or from an error in a box.
    ///
    /// ```
    /// # use evenkeel::Failure;
    /// let boxed: Box<dyn std::error::Error + Send + Sync> = "no answer".into();
    /// assert_eq!(Failure::new(boxed).to_string(), "no answer");
    /// assert_eq!(Failure::new("no answer").to_string(), "no answer");
    /// ```
    #[must_use]
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            kind: None,
            permanent: false,
            source: source.into(),
        }
    }

    /// The same failure, which no retry will mend: it is not tried again, whatever the
    /// error handler says.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The same failure, of a kind of this name. An error handler may retry some kinds
    /// only.
    #[must_use]
    pub fn kind(mut self, name: impl Into<String>) -> Self {
        self.kind = Some(name.into());
        self
    }

    /// True where no retry will mend it.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The name of its kind, where it was given one. A panic is of the kind `panic`.
    #[must_use]
    pub fn kind_name(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The error that it came from.
    #[must_use]
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }

    /// The error that it came from, if it is of this type.
    ///
    /// ```
    /// # use evenkeel::Failure;
    /// let failure = Failure::from(std::fmt::Error);
    /// assert!(failure.downcast_ref::<std::fmt::Error>().is_some());
    /// assert!(failure.downcast_ref::<std::io::Error>().is_none());
    /// ```
    #[must_use]
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        self.source.downcast_ref()
    }

    /// The failure that a panic is.
    pub(crate) fn panicked(place: &str, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "it gave no message".into());
        Self::new(format!("{place} panicked: {text}")).kind(PANIC)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

/// What a `main` that returns one prints: the error with its kind and all its causes.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if let Some(kind) = &self.kind {
            write!(f, " (kind {kind:?})")?;
        }
        if self.permanent {
            f.write_str(" (permanent)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_comes_by_question_mark_from_any_error() {
        fn logic() -> Result<(), Failure> {
            "x".parse::<u8>()?;
            Ok(())
        }
        let failure = logic().unwrap_err();
        assert!(failure.downcast_ref::<std::num::ParseIntError>().is_some());
        assert!(!failure.is_permanent());
        assert_eq!(failure.kind_name(), None);
    }

    #[test]
    fn an_error_of_the_store_is_known_again_behind_a_failure() {
        let failure = Failure::from(crate::error::Error::ViewExpired);
        let found = failure.downcast_ref::<crate::error::Error>();
        assert!(found.is_some_and(crate::error::Error::is_retryable));
    }

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let panic = std::panic::catch_unwind(|| panic!("at {}", 3)).unwrap_err();
        let failure = Failure::panicked("routine \"a\"", &*panic);
        assert_eq!(failure.to_string(), "routine \"a\" panicked: at 3");
        assert_eq!(failure.kind_name(), Some(PANIC));
    }

    #[test]
    fn debug_shows_kind_and_causes() {
        let failure = Failure::new(std::io::Error::other(std::fmt::Error))
            .kind("net")
            .permanent();
        let text = format!("{failure:?}");
        assert!(text.ends_with("(kind \"net\") (permanent)"), "{text}");
    }
}
