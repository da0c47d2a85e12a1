//! Owns the form of an entry as a line of JSON: reading it, writing it, and the other
//! forms that a user's function reads.
//!
//! ```text
//! line  = { "scope": scope, "key": text, content, lasts? }
//! scope = "global" | {"workflow": id} | {"custom": id} | {"worker": id} | {"job": id}
//!       | {"step": {"workflow_id": id, "step_name": id}}
//!       | {"routine": {"worker_id": id, "routine_id": id}}
//! content = "value": any JSON
//!         | "bytes": hex             of a value that is bytes
//!         | "encoded": hex           a value that JSON cannot say, as it is stored
//! lasts = "expires_at": store time in microseconds | "expires_at": null, for ever
//!       | "ttl_seconds": number
//! ```
//! What must stay true: a value that is written and read is the same to the last bit.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{self, CodecLimits};
use crate::error::Result;
use crate::scope::Scope;
use crate::state::import::entry::{Cause, ImportEntry, ImportItem};
use crate::state::ttl::SetOptions;
use crate::value::Value;

/// How deep a value may be that is written as JSON: `serde_json` reads lines that are
/// nested 128 deep.
const JSON_DEPTH_MAX: usize = 100;

/// What is wrong with a line.
pub(super) struct Fault {
    /// The byte in the line, from 1; 0 where there is no such place.
    pub(super) column: u64,
    pub(super) cause: Cause,
}

impl From<serde_json::Error> for Fault {
    fn from(e: serde_json::Error) -> Self {
        let text = e.to_string();
        // Its own line is always the first one.
        let place = format!(" at line {} column {}", e.line(), e.column());
        let reason = text.strip_suffix(&place).unwrap_or(&text);
        Self {
            column: e.column() as u64,
            cause: reason.into(),
        }
    }
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { column: 0, cause }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum LineScope {
    Global,
    Workflow(String),
    Step {
        workflow_id: String,
        step_name: String,
    },
    Custom(String),
    Worker(String),
    Routine {
        worker_id: String,
        routine_id: String,
    },
    Job(String),
}

impl From<LineScope> for Scope {
    fn from(scope: LineScope) -> Self {
        match scope {
            LineScope::Global => Self::Global,
            LineScope::Workflow(id) => Self::Workflow(id),
            LineScope::Step {
                workflow_id,
                step_name,
            } => Self::Step {
                workflow_id,
                step_name,
            },
            LineScope::Custom(id) => Self::Custom(id),
            LineScope::Worker(id) => Self::Worker(id),
            LineScope::Routine {
                worker_id,
                routine_id,
            } => Self::Routine {
                worker_id,
                routine_id,
            },
            LineScope::Job(id) => Self::Job(id),
        }
    }
}

/// The form of a scope; `None` for one of the store's own.
fn scope_line(scope: Scope) -> Option<LineScope> {
    Some(match scope {
        Scope::Global => LineScope::Global,
        Scope::Workflow(id) => LineScope::Workflow(id),
        Scope::Step {
            workflow_id,
            step_name,
        } => LineScope::Step {
            workflow_id,
            step_name,
        },
        Scope::Custom(id) => LineScope::Custom(id),
        Scope::Worker(id) => LineScope::Worker(id),
        Scope::Routine {
            worker_id,
            routine_id,
        } => LineScope::Routine {
            worker_id,
            routine_id,
        },
        Scope::Job(id) => LineScope::Job(id),
        Scope::System(_) => return None,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    scope: LineScope,
    key: String,
    #[serde(default, deserialize_with = "even_null")]
    value: Option<Value>,
    bytes: Option<String>,
    encoded: Option<String>,
    #[serde(default, deserialize_with = "even_null")]
    expires_at: Option<Option<u64>>,
    ttl_seconds: Option<f64>,
}

/// Tells null from nothing.
fn even_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Reads a line of our own form.
pub(super) fn read(line: &[u8], limits: &CodecLimits) -> Result<Option<ImportEntry>, Fault> {
    if line.first() != Some(&b'{') {
        // A struct of serde's would take a list of its fields too.
        return Err(Fault {
            column: 1,
            cause: "a line is an object, {\"scope\": …, \"key\": …, \"value\": …}".into(),
        });
    }
    let line: Line = serde_json::from_slice(line)?;
    let options = lasts(&line)?;
    let value = match (line.value, line.bytes, line.encoded) {
        (Some(value), None, None) => value,
        (None, Some(hex), None) => Value::Bytes(bytes_of(&hex)?),
        (None, None, Some(hex)) => codec::decode(&bytes_of(&hex)?, limits).map_err(Cause::from)?,
        (None, None, None) => return Err(Cause::from("missing field `value`").into()),
        _ => {
            let cause = "a line has only one of `value`, `bytes` and `encoded`";
            return Err(Cause::from(cause).into());
        }
    };
    Ok(Some(ImportEntry {
        scope: line.scope.into(),
        key: line.key,
        value,
        options,
    }))
}

fn lasts(line: &Line) -> Result<SetOptions, Cause> {
    let options = SetOptions::new();
    match (line.expires_at, line.ttl_seconds) {
        (None, None) => Ok(options),
        (Some(None), None) => Ok(options.forever()),
        (Some(Some(micros)), None) => Ok(options.expires_at(micros)),
        (None, Some(seconds)) => {
            let ttl = Duration::try_from_secs_f64(seconds);
            let ttl = ttl.map_err(|e| format!("ttl_seconds is {seconds}: {e}"))?;
            Ok(options.ttl(ttl))
        }
        _ => Err("a line has only one of `expires_at` and `ttl_seconds`".into()),
    }
}

/// Reads lines of any other form.
pub(super) fn mapped<T: ImportItem>(
    mut map: impl FnMut(serde_json::Value) -> Result<Option<T>, Cause>,
) -> impl FnMut(&[u8], &CodecLimits) -> Result<Option<ImportEntry>, Fault> {
    move |line, _| {
        let item = map(serde_json::from_slice(line)?)?;
        Ok(item.map(ImportItem::into_entry).transpose()?)
    }
}

#[derive(Serialize)]
struct Written<'a> {
    scope: LineScope,
    key: &'a str,
    #[serde(flatten)]
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Content<'a> {
    Value(&'a Value),
    Bytes(String),
    Encoded(String),
}

/// An entry as it is stored.
pub(in crate::state) struct Stored<'a> {
    pub(in crate::state) scope: &'a Scope,
    pub(in crate::state) key: &'a str,
    pub(in crate::state) value: &'a Value,
    pub(in crate::state) encoded: &'a [u8],
    pub(in crate::state) expires_at: Option<u64>,
}

/// Appends an entry as a line, with its end, that an import of `line_bytes_max` reads.
/// Nothing for one of a scope of the store's own.
pub(in crate::state) fn write(
    out: &mut Vec<u8>,
    entry: &Stored<'_>,
    line_bytes_max: usize,
) -> serde_json::Result<()> {
    let start = out.len();
    let encoded = || Content::Encoded(hex_of(entry.encoded));
    let content = match entry.value {
        Value::Bytes(bytes) => Content::Bytes(hex_of(bytes)),
        value if is_json(value, 0) => Content::Value(value),
        _ => encoded(),
    };
    append(out, entry, content)?;
    if out.len() - start > line_bytes_max {
        out.truncate(start);
        append(out, entry, encoded())?;
    }
    Ok(())
}

fn append(out: &mut Vec<u8>, entry: &Stored<'_>, content: Content<'_>) -> serde_json::Result<()> {
    let Some(scope) = scope_line(entry.scope.clone()) else {
        return Ok(());
    };
    let line = Written {
        scope,
        key: entry.key,
        content,
        expires_at: entry.expires_at,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// True where JSON says the same.
fn is_json(value: &Value, depth: usize) -> bool {
    match value {
        Value::Float(float) => float.is_finite(),
        Value::Bytes(_) => false,
        Value::List(_) | Value::Map(_) if depth == JSON_DEPTH_MAX => false,
        Value::List(list) => list.iter().all(|value| is_json(value, depth + 1)),
        Value::Map(map) => map.values().all(|value| is_json(value, depth + 1)),
        _ => true,
    }
}

fn hex_of(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from_digit(u32::from(digit), 16).unwrap_or_default();
    let pairs = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    pairs.map(digit).collect()
}

fn bytes_of(hex: &str) -> Result<Vec<u8>, Cause> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|digit| digit as u8);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| "bytes are written as pairs of hexadecimal digits".into())
}
