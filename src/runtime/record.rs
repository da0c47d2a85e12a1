//! Owns what the runtime keeps in the store: its scopes, and the records under its keys
//! (`record::key`), as `docs/format.md` draws them. Imports `status`, and the layers below.
//!
//! What must stay true: a record is a map with short names; a field that is missing has
//! its default, and one that is unknown is left alone, so that records can grow.

mod key;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecLimits};
use crate::error::{Corruption, Error, Result};
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::scope::Scope;
use crate::state::cell;
use crate::value::Value;

pub use key::ActivationId;
pub(crate) use key::{
    DeadKey, JOB_ENDS, JobKey, JobPart, WorkerKey, job_begin_key, job_end_key, message_key,
    routine_datum,
};
pub(crate) use text::Text;

/// How often a runtime was started on this store: `started` -> a number.
pub(crate) fn sessions() -> Scope {
    Scope::system("runtime/sessions")
}

/// The flows that were registered: name -> [`FlowRecord`].
pub(crate) fn flows() -> Scope {
    Scope::system("runtime/flows")
}

/// The workers: id -> [`WorkerRecord`].
pub(crate) fn workers() -> Scope {
    Scope::system("runtime/workers")
}

/// What one worker has: see [`WorkerKey`].
pub(crate) fn worker(id: &str) -> Scope {
    Scope::system(format!("runtime/worker/{id}"))
}

/// Who owns which state name of one worker: name -> [`OwnerRecord`].
pub(crate) fn names(id: &str) -> Scope {
    Scope::system(format!("runtime/names/{id}"))
}

/// All jobs: see [`JobKey`].
pub(crate) fn jobs() -> Scope {
    Scope::system("runtime/jobs")
}

/// What one job has beside its data: see [`JobPartKey`].
pub(crate) fn job(id: &str) -> Scope {
    Scope::system(format!("runtime/job/{id}"))
}

/// What routines keep for one job: [`routine_datum`] -> value.
pub(crate) fn routine_data(job: &str) -> Scope {
    Scope::system(format!("runtime/job-data/{job}"))
}

/// Idempotency keys: key -> [`KeyRecord`].
pub(crate) fn keys() -> Scope {
    Scope::system("runtime/keys")
}

/// Dead letters: number -> [`DeadRecord`].
pub(crate) fn dead() -> Scope {
    Scope::system("runtime/dead")
}

/// A flow as it was registered last.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FlowRecord {
    #[serde(rename = "v")]
    pub(crate) version: u32,
    /// Of its description.
    #[serde(rename = "h")]
    pub(crate) hash: u64,
    /// Its routines, in order.
    #[serde(rename = "r", default)]
    pub(crate) routines: Vec<String>,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerRecord {
    #[serde(rename = "f")]
    pub(crate) flow: String,
    #[serde(rename = "s")]
    pub(crate) status: WorkerStatus,
    #[serde(rename = "c")]
    pub(crate) created: u64,
    #[serde(rename = "u")]
    pub(crate) updated: u64,
    #[serde(rename = "b", default)]
    pub(crate) started: Option<u64>,
    #[serde(rename = "z", default)]
    pub(crate) completed: Option<u64>,
    #[serde(rename = "e", default)]
    pub(crate) error: Option<String>,
    /// What it came to, once it has ended; before that its history says it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub(crate) totals: Option<WorkerTotals>,
}

/// What a worker came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerTotals {
    /// How many activations have ended.
    #[serde(rename = "a")]
    pub(crate) activations: u64,
    /// Jobs that completed.
    #[serde(rename = "p")]
    pub(crate) processed: u64,
    /// Jobs that failed.
    #[serde(rename = "f")]
    pub(crate) failed: u64,
    /// Messages that were dropped from full slots.
    #[serde(rename = "d")]
    pub(crate) dropped: u64,
}

/// What a job began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    #[serde(rename = "f")]
    pub(crate) flow: Text,
    #[serde(rename = "w")]
    pub(crate) worker: Text,
    #[serde(rename = "c")]
    pub(crate) created: u64,
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Its idempotency key.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// Messages that were dropped from full slots so far.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub(crate) dropped: u64,
    /// Its results so far.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<Value>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobEndRecord {
    #[serde(rename = "s")]
    pub(crate) status: JobStatus,
    #[serde(rename = "z")]
    pub(crate) completed: u64,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Messages that were dropped from full slots.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub(crate) dropped: u64,
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) results: Vec<Value>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A message that waits in a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageRecord {
    #[serde(rename = "d", default, skip_serializing_if = "Value::is_null")]
    pub(crate) data: Value,
    #[serde(rename = "t")]
    pub(crate) at: u64,
    /// The routine that emitted it.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The name of the event.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<String>,
    /// The ids of the jobs that it is for.
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<String>,
}

/// A [`MessageRecord`] as it is written and read where there are many: of what somebody
/// else has, so nothing is copied for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MessageOf<'m> {
    #[serde(rename = "d", default, skip_serializing_if = "Value::is_null")]
    pub(crate) data: Cow<'m, Value>,
    #[serde(rename = "t")]
    pub(crate) at: u64,
    #[serde(borrow, rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<&'m str>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<&'m str>,
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<&'m str>,
}

impl MessageOf<'_> {
    /// The same, to be kept.
    pub(crate) fn to_record(&self) -> MessageRecord {
        MessageRecord {
            data: (*self.data).clone(),
            at: self.at,
            from: self.from.map(str::to_owned),
            event: self.event.map(str::to_owned),
            jobs: self.jobs.iter().map(|&id| id.to_owned()).collect(),
        }
    }
}

/// Which messages an activation consumes, once that is fixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClaimRecord {
    #[serde(rename = "r")]
    pub(crate) routine: String,
    /// How many attempts have failed.
    #[serde(rename = "n", default)]
    pub(crate) failed: u32,
    /// When the next attempt is due; 0 for at once.
    #[serde(rename = "t", default)]
    pub(crate) due: u64,
    /// The error of the last attempt.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// By slot, the numbers of its messages.
    #[serde(rename = "m")]
    pub(crate) messages: Vec<(String, Vec<u64>)>,
}

/// An effect of `once`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OnceRecord {
    /// The start of a runtime that began it.
    #[serde(rename = "o")]
    pub(crate) session: u64,
    /// Its result, in a list of one; `None` for an intent. Without the list a result
    /// that is null would be read as an intent, and the effect be had twice.
    #[serde(
        rename = "r",
        default,
        skip_serializing_if = "Option::is_none",
        with = "list_of_one"
    )]
    pub(crate) result: Option<Value>,
}

mod list_of_one {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::value::Value;

    pub(super) fn serialize<S: Serializer>(
        result: &Option<Value>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        result.as_slice().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Value>, D::Error> {
        let [result] = <[Value; 1]>::deserialize(deserializer)?;
        Ok(Some(result))
    }
}

/// A timer that is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimerRecord {
    #[serde(rename = "n")]
    pub(crate) name: String,
    #[serde(rename = "r")]
    pub(crate) routine: String,
    #[serde(rename = "s")]
    pub(crate) slot: String,
    #[serde(rename = "t")]
    pub(crate) due: u64,
    /// Microseconds between one and the next; `None` for a timer that fires once.
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub(crate) every: Option<u64>,
    #[serde(rename = "d", default, skip_serializing_if = "Value::is_null")]
    pub(crate) data: Value,
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<String>,
}

/// An activation that is over, and the counters of its worker after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HistoryRecord {
    /// The number of the activation in its worker, from 1.
    #[serde(rename = "n")]
    pub(crate) number: u64,
    #[serde(rename = "r")]
    pub(crate) routine: Text,
    #[serde(rename = "t")]
    pub(crate) at: u64,
    /// How it ended: see `Outcome`.
    #[serde(rename = "o")]
    pub(crate) outcome: u8,
    #[serde(rename = "a", default)]
    pub(crate) attempt: u32,
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<Text>,
    #[serde(rename = "p", default)]
    pub(crate) processed: u64,
    #[serde(rename = "f", default)]
    pub(crate) failed: u64,
    #[serde(rename = "d", default)]
    pub(crate) dropped: u64,
}

/// Who owns a state name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OwnerRecord {
    #[serde(rename = "r")]
    pub(crate) routine: String,
    #[serde(rename = "s", default)]
    pub(crate) shared: bool,
}

/// An entry of a job's trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TraceRecord {
    #[serde(rename = "t")]
    pub(crate) at: u64,
    #[serde(rename = "r")]
    pub(crate) routine: String,
    #[serde(rename = "a")]
    pub(crate) action: String,
    #[serde(rename = "d", default, skip_serializing_if = "Value::is_null")]
    pub(crate) details: Value,
}

/// What an idempotency key was used for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    #[serde(rename = "j")]
    pub(crate) job: String,
    /// Of flow, routine, slot and data.
    #[serde(rename = "h")]
    pub(crate) hash: u64,
}

/// A message whose activation failed for good.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadRecord {
    #[serde(rename = "f")]
    pub(crate) flow: String,
    #[serde(rename = "w")]
    pub(crate) worker: String,
    #[serde(rename = "r")]
    pub(crate) routine: String,
    #[serde(rename = "s")]
    pub(crate) slot: String,
    #[serde(rename = "m")]
    pub(crate) message: MessageRecord,
    #[serde(rename = "e")]
    pub(crate) error: String,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    #[serde(rename = "n")]
    pub(crate) attempts: u32,
    #[serde(rename = "t")]
    pub(crate) at: u64,
    /// When somebody gave it other data; what it came with is beside it then.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub(crate) edited: Option<u64>,
}

/// Data of the user's stands this many levels deep in a record, and fewer.
const LEVELS: usize = 4;

/// What a record has beside the data of the user's that is in it.
const BESIDE_BYTES: usize = 1024 * 1024;

/// How deep data of the user's may nest that stands in records.
const DATA_DEPTH_MAX: usize = CodecLimits::DEPTH_BOUND - LEVELS * 2;

/// Checks data that is to become part of a record, by the limits of any value; but for
/// those that nest deeper than 248.
///
/// # Errors
/// [`Error::LimitExceeded`], as the codec has it.
pub(crate) fn check_data(data: &Value, limits: &CodecLimits) -> Result<()> {
    let limits = CodecLimits {
        value_depth_max: limits.value_depth_max.min(DATA_DEPTH_MAX),
        ..*limits
    };
    codec::encode(data, &limits, &mut Vec::new())
}

/// The limits of a record whose data keeps to `limits`. What is a record in a slot has
/// to be one among the dead letters too, where it stands deeper and with more beside it.
fn limits_of(limits: &CodecLimits, records: usize) -> CodecLimits {
    let beside = BESIDE_BYTES * records;
    CodecLimits {
        value_bytes_max: limits.value_bytes_max.saturating_add(beside),
        value_depth_max: limits.value_depth_max.min(DATA_DEPTH_MAX) + LEVELS * records,
    }
}

/// The cell of a record. Data of the user's in it is checked before; see [`check_data`].
///
/// # Errors
/// As the codec has them, where data of the user's in it is too large or too deep.
pub(crate) fn encode<T: Serialize>(record: &T, limits: &CodecLimits) -> Result<Arc<[u8]>> {
    cell::encode(record, None, &limits_of(limits, 1))
}

/// The cell of a record that goes by itself at this store time, and that may hold another
/// record.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_until<T: Serialize>(
    record: &T,
    deadline: Option<u64>,
    limits: &CodecLimits,
) -> Result<Arc<[u8]>> {
    cell::encode(record, deadline, &limits_of(limits, 2))
}

/// The record in a cell.
///
/// # Errors
/// [`Error::Corrupt`] where it is no record of this kind.
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    cell: &'de [u8],
    limits: &CodecLimits,
    scope: &Scope,
) -> Result<T> {
    cell::decode(cell, limits, (scope, "a record of the runtime")).map_err(|e| match e {
        Error::TypeMismatch { reason, path, .. } => damaged(scope, &format!("{reason} at {path}")),
        e => e,
    })
}

/// A key or record of the runtime that is none.
pub(crate) fn damaged(scope: &Scope, what: &str) -> Error {
    Corruption::new("a record of the runtime", format!("in {scope}: {what}")).into()
}

#[cfg(test)]
mod tests;
