//! Owns documents in JSON: text to trees with the line of each node, and trees to text.
//! The same key twice is refused. Imports `tree`.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Budget, Content, Entry, Tree, Unreadable, Weight, check_depth, check_size};
use crate::value::Value;

/// Reads a document.
///
/// # Errors
/// The first thing that is not JSON, or that is refused, with its line.
pub(crate) fn read(text: &str) -> Result<Tree, Unreadable> {
    check_size(text)?;
    // Once over all of it: so what is no JSON is found with its place.
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| unreadable(&e, 0))?;
    let lines = Lines::of(text);
    tree(raw, &lines, 0, &mut Budget::new())
}

/// Writes a document.
///
/// # Errors
/// What `serde_json` cannot write, which trees have nothing of.
pub(crate) fn write(tree: &Tree) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(tree).map(|text| text + "\n")
}

fn unreadable(error: &serde_json::Error, lines_before: u64) -> Unreadable {
    let text = error.to_string();
    // The place at the end of the message is relative to the part that was read.
    let reason = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(reason, _)| reason);
    Unreadable::new(lines_before + error.line().max(1) as u64, reason)
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let behind = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(behind).collect(),
        }
    }

    /// The line on which a part of the text begins.
    fn line(&self, part: &str) -> u64 {
        let at = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        self.starts.partition_point(|start| *start <= at) as u64
    }
}

fn tree(
    raw: &RawValue,
    lines: &Lines<'_>,
    depth: usize,
    budget: &mut Budget,
) -> Result<Tree, Unreadable> {
    let text = raw.get();
    let line = lines.line(text);
    budget.take(Weight::of(""), Some(line))?;
    check_depth(depth, Some(line))?;
    let failed = |e: serde_json::Error| unreadable(&e, line - 1);
    let content = match text.as_bytes().first() {
        Some(b'{') => {
            let entries: Vec<(String, &RawValue)> = serde_json::Deserializer::from_str(text)
                .deserialize_map(EntriesOnce)
                .map_err(failed)?;
            let entry = |(key, raw): (String, &RawValue)| {
                let value = tree(raw, lines, depth + 1, budget)?;
                Ok(Entry {
                    key,
                    line: value.line,
                    value,
                })
            };
            Content::Map(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(failed)?;
            let item = |raw: &RawValue| tree(raw, lines, depth + 1, budget);
            Content::List(items.into_iter().map(item).collect::<Result<_, _>>()?)
        }
        _ => {
            let scalar: serde_json::Value = serde_json::from_str(text).map_err(failed)?;
            Content::Scalar(Value::from(scalar))
        }
    };
    Ok(Tree {
        line: Some(line),
        content,
    })
}

/// The entries of a map in their order, each key once.
struct EntriesOnce;

impl<'de> Visitor<'de> for EntriesOnce {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<(String, &RawValue)> = Vec::new();
        let mut keys = std::collections::BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(entries)
    }
}
