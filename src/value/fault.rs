//! Owns what can go wrong between a Rust type and a value, with the place inside
//! the value. The place is gathered while the error travels outwards, so that it
//! costs nothing where nothing fails. Messages stay short whatever the value holds.

use std::fmt::{self, Write as _};

use serde::{de, ser};

use crate::error::Error;

/// Longer keys and reasons are cut: a value of megabytes must not make such a message.
const KEY_CHARS_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 512;

/// A failure somewhere inside a value. One pointer wide, as it is in every result.
pub(crate) struct Fault(Box<Inner>);

struct Inner {
    /// The way to the place, innermost step first.
    steps: Vec<Step>,
    cause: Cause,
}

enum Step {
    Key(String),
    Index(usize),
}

/// Why.
#[derive(Debug)]
pub(crate) enum Cause {
    /// The type and the value do not fit each other.
    Mismatch(String),
    /// A limit would be exceeded.
    Limit {
        limit: &'static str,
        max: u64,
        actual: u64,
    },
    /// The bytes are not an encoding of a value.
    Damaged(String),
}

impl Fault {
    pub(crate) fn mismatch(reason: impl Into<String>) -> Self {
        Self::new(Cause::Mismatch(shortened(reason.into(), REASON_CHARS_MAX)))
    }

    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::new(Cause::Damaged(reason.into()))
    }

    pub(crate) fn limit(limit: &'static str, max: usize, actual: usize) -> Self {
        Self::new(Cause::Limit {
            limit,
            max: max as u64,
            actual: actual as u64,
        })
    }

    /// A list or map was opened inside `max` others.
    pub(crate) fn too_deep(max: usize) -> Self {
        Self::limit("value_depth", max, max.saturating_add(1))
    }

    fn new(cause: Cause) -> Self {
        Self(Box::new(Inner {
            steps: Vec::new(),
            cause,
        }))
    }

    /// The same failure, seen from the map that holds `key`.
    pub(crate) fn at_key(mut self, key: &str) -> Self {
        let key = key.chars().take(KEY_CHARS_MAX + 1).collect();
        self.0.steps.push(Step::Key(shortened(key, KEY_CHARS_MAX)));
        self
    }

    /// The same failure, seen from the list that holds the element `index`.
    pub(crate) fn at_index(mut self, index: usize) -> Self {
        self.0.steps.push(Step::Index(index));
        self
    }

    pub(crate) fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The place, as in `.items[3].price`; `.` for the whole.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.0.steps.iter().rev() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Index(index) => write!(path, "[{index}]"),
                Step::Key(key) if is_plain(key) => write!(path, ".{key}"),
                Step::Key(key) => write!(path, "[{key:?}]"),
            };
        }
        if path.is_empty() {
            path.push('.');
        }
        path
    }

    /// Why, as text.
    pub(crate) fn reason(&self) -> String {
        match &self.0.cause {
            Cause::Mismatch(reason) | Cause::Damaged(reason) => reason.clone(),
            Cause::Limit { limit, max, actual } => {
                format!("{limit} is limited to {max}, this has {actual}")
            }
        }
    }

    /// The error of an attempt to turn a Rust type into a value.
    pub(crate) fn into_serialize_error(self) -> Error {
        let path = self.path();
        match self.0.cause {
            Cause::Limit { limit, max, actual } => Error::LimitExceeded {
                limit,
                max,
                actual,
                at: path,
            },
            Cause::Mismatch(reason) | Cause::Damaged(reason) => Error::Serialize { path, reason },
        }
    }
}

pub(crate) fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '…'))
}

fn shortened(mut text: String, chars_max: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(chars_max) {
        text.truncate(at);
        text.push('…');
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: {}", self.path(), self.reason())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fault({:?} at {})", self.cause(), self.path())
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::mismatch(message.to_string())
    }
}

/// What serde says of a value that it did not expect would show it; the value may be
/// nobody's business, and an error is logged.
impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::mismatch(message.to_string())
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::mismatch(format!("found {}, expected {expected}", kind(&found)))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = kind(&found);
        Self::mismatch(format!(
            "found {found} that does not fit, expected {expected}"
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::mismatch(format!(
            "found another variant than {}",
            expected.join(", ")
        ))
    }
}

fn kind(found: &de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Bool(_) => "a boolean",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "an integer",
        de::Unexpected::Float(_) => "a float",
        de::Unexpected::Char(_) | de::Unexpected::Str(_) => "a string",
        de::Unexpected::Bytes(_) => "bytes",
        de::Unexpected::Unit => "null",
        de::Unexpected::Option => "an optional value",
        de::Unexpected::NewtypeStruct => "a value in a struct",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Map => "a map",
        de::Unexpected::Enum
        | de::Unexpected::UnitVariant
        | de::Unexpected::NewtypeVariant
        | de::Unexpected::TupleVariant
        | de::Unexpected::StructVariant => "a variant",
        de::Unexpected::Other(_) => "something else",
    }
}
