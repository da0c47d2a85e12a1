//! Owns reading a tree as what it should be: maps field by field, so that a field that
//! nobody asked for is known, and scalars by their types. Whatever is wrong is noted with
//! its path and line, and reading goes on. Imports `tree`, `problem`.

use std::time::Duration;

use super::tree::{Content, Entry, Tree};
use crate::runtime::flow::problem::FlowProblem;
use crate::value::Value;
use crate::value::fault::is_plain;

/// What was found wrong so far.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Vec<FlowProblem>);

impl Notes {
    /// Notes that something is wrong at a place.
    pub(crate) fn wrong(&mut self, path: &str, line: Option<u64>, reason: impl Into<String>) {
        self.0.push(FlowProblem::BadDocument {
            path: if path.is_empty() {
                ".".into()
            } else {
                path.into()
            },
            line,
            reason: reason.into(),
        });
    }

    fn not(&mut self, at: &At<'_>, expected: &str) {
        let found = at.tree.kind();
        self.wrong(
            &at.path,
            at.tree.line,
            format!("this is {found}, and not {expected}"),
        );
    }
}

/// A place in a document.
#[derive(Clone, Debug)]
pub(crate) struct At<'t> {
    pub(crate) path: String,
    pub(crate) tree: &'t Tree,
}

impl<'t> At<'t> {
    pub(crate) fn root(tree: &'t Tree) -> Self {
        Self {
            path: String::new(),
            tree,
        }
    }

    fn entry(&self, entry: &'t Entry) -> Self {
        let key = &entry.key;
        Self {
            path: match (is_plain(key), self.path.is_empty()) {
                (true, true) => key.clone(),
                (true, false) => format!("{}.{key}", self.path),
                (false, _) => format!("{}[{key:?}]", self.path),
            },
            tree: &entry.value,
        }
    }

    /// The map that it is, to be read field by field.
    pub(crate) fn fields(&self, notes: &mut Notes) -> Option<Fields<'t>> {
        match &self.tree.content {
            Content::Map(entries) => Some(Fields {
                at: self.clone(),
                entries,
                asked: Vec::new(),
            }),
            _ => {
                notes.not(self, "a map");
                None
            }
        }
    }

    /// The entries of the map that it is, whatever their keys.
    pub(crate) fn entries(&self, notes: &mut Notes) -> Vec<(&'t str, At<'t>)> {
        match &self.tree.content {
            Content::Map(entries) => {
                let at = |entry: &'t Entry| (entry.key.as_str(), self.entry(entry));
                entries.iter().map(at).collect()
            }
            _ => {
                notes.not(self, "a map");
                Vec::new()
            }
        }
    }

    /// The items of the list that it is.
    pub(crate) fn items(&self, notes: &mut Notes) -> Vec<At<'t>> {
        match &self.tree.content {
            Content::List(items) => {
                let at = |(index, tree): (usize, &'t Tree)| At {
                    path: format!("{}[{index}]", self.path),
                    tree,
                };
                items.iter().enumerate().map(at).collect()
            }
            _ => {
                notes.not(self, "a list");
                Vec::new()
            }
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.tree.content, Content::Map(_))
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self.tree.content, Content::List(_))
    }

    pub(crate) fn text(&self, notes: &mut Notes) -> Option<&'t str> {
        match &self.tree.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => {
                notes.not(self, "text; write it in quotes if it is");
                None
            }
        }
    }

    pub(crate) fn bool(&self, notes: &mut Notes) -> Option<bool> {
        match &self.tree.content {
            Content::Scalar(Value::Bool(value)) => Some(*value),
            _ => {
                notes.not(self, "true or false");
                None
            }
        }
    }

    /// An integer that fits.
    pub(crate) fn integer<T: TryFrom<i64> + TryFrom<u64>>(&self, notes: &mut Notes) -> Option<T> {
        let fits = match &self.tree.content {
            Content::Scalar(Value::Int(value)) => T::try_from(*value).ok(),
            Content::Scalar(Value::UInt(value)) => T::try_from(*value).ok(),
            _ => {
                notes.not(self, "an integer");
                return None;
            }
        };
        if fits.is_none() {
            notes.wrong(&self.path, self.tree.line, "this integer is out of range");
        }
        fits
    }

    pub(crate) fn number(&self, notes: &mut Notes) -> Option<f64> {
        let number = match &self.tree.content {
            Content::Scalar(value) => value.as_f64(),
            _ => None,
        };
        if number.is_none() {
            notes.not(self, "a number");
        }
        number
    }

    /// A time in seconds.
    pub(crate) fn seconds(&self, notes: &mut Notes) -> Option<Duration> {
        if let Content::Scalar(value) = &self.tree.content
            && let Some(seconds) = value.as_u64()
        {
            return Some(Duration::from_secs(seconds));
        }
        let duration = Duration::try_from_secs_f64(self.number(notes)?);
        if duration.is_err() {
            let reason = "this is no time in seconds; it must not be negative, and must be finite";
            notes.wrong(&self.path, self.tree.line, reason);
        }
        duration.ok()
    }

    /// One of several words.
    pub(crate) fn word<T: Copy>(
        &self,
        notes: &mut Notes,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Option<T> {
        let text = self.text(notes)?;
        let found = all.iter().copied().find(|&word| name(word) == text);
        if found.is_none() {
            let all: Vec<_> = all.iter().map(|&word| name(word)).collect();
            let reason = format!("{text:?} is none of {}", all.join(", "));
            notes.wrong(&self.path, self.tree.line, reason);
        }
        found
    }
}

/// A map that is read field by field.
pub(crate) struct Fields<'t> {
    at: At<'t>,
    entries: &'t [Entry],
    asked: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The field of this name, if it is there and not null.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<At<'t>> {
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let is_null = matches!(entry.value.content, Content::Scalar(Value::Null));
        (!is_null).then(|| self.at.entry(entry))
    }

    /// The field of this name; its absence is noted.
    pub(crate) fn need(&mut self, name: &'static str, notes: &mut Notes) -> Option<At<'t>> {
        let found = self.get(name);
        if found.is_none() {
            let reason = format!("{name:?} is missing");
            notes.wrong(&self.at.path, self.at.tree.line, reason);
        }
        found
    }

    /// Notes the fields that nobody asked for.
    pub(crate) fn finish(self, notes: &mut Notes) {
        for entry in self.entries {
            if !self.asked.contains(&entry.key.as_str()) {
                let path = self.at.entry(entry).path;
                let known = self.asked.join(", ");
                let reason = format!("there is no such field; there are {known}");
                notes.wrong(&path, entry.line, reason);
            }
        }
    }
}
