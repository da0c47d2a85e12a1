//! Owns endpoints: the event or the slot of a routine that a connection names. Imports
//! nothing.

use std::fmt;

/// The event or the slot of a routine, as a connection names it: the text
/// `routine.name`, or a pair of both.
///
/// Where ids have dots in them text may be read in several ways. It is read in the only
/// one that names a routine of the flow with such a slot or event; if there are more, it
/// is refused, and the pair says what is meant. A pair takes any characters.
///
/// ```
/// use evenkeel::Endpoint;
/// assert_eq!(Endpoint::from("hash.out").to_string(), "hash.out");
/// assert_eq!(Endpoint::from(("v1.hash", "out")).to_string(), r#"("v1.hash", "out")"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(pub(crate) Form);

/// How an endpoint was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Text(String),
    Pair { routine: String, name: String },
}

impl Endpoint {
    /// Each way to read it as a routine and a name, both not empty.
    pub(crate) fn readings(&self) -> Vec<(&str, &str)> {
        match &self.0 {
            Form::Pair { routine, name } => vec![(routine, name)],
            Form::Text(text) => {
                let dots = text.match_indices('.');
                let reading = |(at, _): (usize, &str)| (&text[..at], &text[at + 1..]);
                let whole =
                    |(routine, name): &(&str, &str)| !routine.is_empty() && !name.is_empty();
                dots.map(reading).filter(whole).collect()
            }
        }
    }
}

impl From<&str> for Endpoint {
    fn from(text: &str) -> Self {
        Self(Form::Text(text.to_owned()))
    }
}

impl From<String> for Endpoint {
    fn from(text: String) -> Self {
        Self(Form::Text(text))
    }
}

impl From<&String> for Endpoint {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl<R: Into<String>, N: Into<String>> From<(R, N)> for Endpoint {
    fn from((routine, name): (R, N)) -> Self {
        Self(Form::Pair {
            routine: routine.into(),
            name: name.into(),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Text(text) => f.write_str(text),
            Form::Pair { routine, name } => write!(f, "({routine:?}, {name:?})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_at_each_dot() {
        let readings = |text: &'static str| {
            let endpoint = Endpoint::from(text);
            let readings = endpoint.readings().into_iter();
            readings
                .map(|(routine, name)| (routine.to_owned(), name.to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(readings("a.b"), [("a".into(), "b".into())]);
        let both = [
            ("a".to_owned(), "b.c".to_owned()),
            ("a.b".into(), "c".into()),
        ];
        assert_eq!(readings("a.b.c"), both);
        assert_eq!(readings("é.ü"), [("é".into(), "ü".into())]);
        for none in ["", "a", ".", ".a", "a."] {
            assert_eq!(readings(none), [], "{none:?}");
        }
    }

    #[test]
    fn a_pair_is_read_as_it_is() {
        let endpoint = Endpoint::from(("a.b", ".c\0"));
        assert_eq!(endpoint.readings(), [("a.b", ".c\0")]);
    }
}
