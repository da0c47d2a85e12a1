//! Owns the tree that a document is, whatever it is written in: scalars, lists, and maps
//! in their order, with the line of each. Imports `value`.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::value::Value;

/// The most bytes of a document.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;
/// The most nodes of a document, those included that aliases stand for.
pub(crate) const NODES_MAX: usize = 50_000;
/// The most bytes of all its texts, those included that aliases stand for.
pub(crate) const TEXT_BYTES_MAX: usize = 4 * BYTES_MAX;
/// How deep a document may nest: as deep as a value, in the config of a routine.
pub(crate) const DEPTH_MAX: usize = 140;

/// A node of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tree {
    /// Its line, from 1; of what no text was read from, none.
    pub(crate) line: Option<u64>,
    pub(crate) content: Content,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// Neither list nor map.
    Scalar(Value),
    List(Vec<Tree>),
    /// Each key once.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The line of the key.
    pub(crate) line: Option<u64>,
    pub(crate) value: Tree,
}

/// What cannot be read at all, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) line: Option<u64>,
    pub(crate) reason: String,
}

impl Unreadable {
    pub(crate) fn new(line: impl Into<Option<u64>>, reason: impl Into<String>) -> Self {
        Self {
            line: line.into(),
            reason: reason.into(),
        }
    }
}

impl Tree {
    pub(crate) fn scalar(value: impl Into<Value>) -> Self {
        Self::of(Content::Scalar(value.into()))
    }

    pub(crate) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::of(Content::List(items.into_iter().collect()))
    }

    pub(crate) fn map(entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        let entry = |(key, value)| Entry {
            key,
            line: None,
            value,
        };
        Self::of(Content::Map(entries.into_iter().map(entry).collect()))
    }

    fn of(content: Content) -> Self {
        Self {
            line: None,
            content,
        }
    }

    /// A value as a tree.
    pub(crate) fn from_value(value: &Value) -> Self {
        match value {
            Value::List(items) => Self::list(items.iter().map(Self::from_value)),
            Value::Map(map) => Self::map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::from_value(value))),
            ),
            scalar => Self::scalar(scalar.clone()),
        }
    }

    /// This tree as a value.
    pub(crate) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::List(items.iter().map(Self::to_value).collect()),
            Content::Map(entries) => {
                let entry = |entry: &Entry| (entry.key.clone(), entry.value.to_value());
                Value::Map(entries.iter().map(entry).collect())
            }
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.content {
            Content::Scalar(Value::Null) => "nothing",
            Content::Scalar(Value::Bool(_)) => "true or false",
            Content::Scalar(Value::Int(_) | Value::UInt(_)) => "an integer",
            Content::Scalar(Value::Float(_)) => "a number",
            Content::Scalar(Value::String(_)) => "text",
            Content::Scalar(_) => "bytes",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }

    /// How deep it nests: 0 for a scalar.
    pub(crate) fn depth(&self) -> usize {
        let deepest = match &self.content {
            Content::Scalar(_) => return 0,
            Content::List(items) => items.iter().map(Self::depth).max(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.depth()).max(),
        };
        1 + deepest.unwrap_or(0)
    }

    /// What it takes of the budget.
    pub(crate) fn weight(&self) -> Weight {
        match &self.content {
            Content::Scalar(Value::String(text)) => Weight::of(text),
            Content::Scalar(_) => Weight::of(""),
            Content::List(items) => items
                .iter()
                .map(Self::weight)
                .fold(Weight::of(""), Weight::and),
            Content::Map(entries) => {
                let weight = |entry: &Entry| Weight::of(&entry.key).and(entry.value.weight());
                entries.iter().map(weight).fold(Weight::of(""), Weight::and)
            }
        }
    }
}

/// What a part of a document takes of its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight {
    nodes: usize,
    bytes: usize,
}

impl Weight {
    /// Of one node, a key or a value.
    pub(crate) fn of(text: &str) -> Self {
        Self {
            nodes: 1,
            bytes: text.len(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Serialises maps in their order.
impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.content {
            Content::Scalar(value) => serde_json::Value::from(value.clone()).serialize(serializer),
            Content::List(items) => serializer.collect_seq(items),
            Content::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(&entry.key, &entry.value)?;
                }
                map.end()
            }
        }
    }
}

/// Refuses a text that is larger than any document.
pub(crate) fn check_size(text: &str) -> Result<(), Unreadable> {
    match text.len() {
        0..=BYTES_MAX => Ok(()),
        bytes => Err(Unreadable::new(
            None,
            format!("the document has {bytes} bytes, of {BYTES_MAX} at most"),
        )),
    }
}

/// What is left of a document's budget while it is read.
pub(crate) struct Budget(Weight);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Weight {
            nodes: NODES_MAX,
            bytes: TEXT_BYTES_MAX,
        })
    }

    pub(crate) fn take(&mut self, weight: Weight, line: Option<u64>) -> Result<(), Unreadable> {
        let nodes = self.0.nodes.checked_sub(weight.nodes);
        let bytes = self.0.bytes.checked_sub(weight.bytes);
        let (Some(nodes), Some(bytes)) = (nodes, bytes) else {
            let reason = format!(
                "the document has more than {NODES_MAX} nodes or {TEXT_BYTES_MAX} bytes of text with its aliases"
            );
            return Err(Unreadable::new(line, reason));
        };
        self.0 = Weight { nodes, bytes };
        Ok(())
    }
}

/// Refuses to nest deeper than documents may.
pub(crate) fn check_depth(depth: usize, line: Option<u64>) -> Result<(), Unreadable> {
    match depth {
        0..=DEPTH_MAX => Ok(()),
        _ => Err(Unreadable::new(
            line,
            format!("lists and maps nest deeper than {DEPTH_MAX}"),
        )),
    }
}
