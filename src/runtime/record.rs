//! Owns what the runtime keeps in the store: its scopes, its keys, and the records under
//! them, as `docs/format.md` draws them. Imports `job`, `status`, and the layers below.
//!
//! What must stay true: names in keys stand behind their length, so no name reaches the
//! keys of another one. A record is a map with short names; a field that is missing has
//! its default, and one that is unknown is left alone, so that records can grow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::CodecLimits;
use crate::error::{Corruption, Error, Result};
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::scope::Scope;
use crate::state::cell;
use crate::value::Value;

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

/// An activation, over all its attempts and re-runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActivationId {
    /// The start of a runtime that began it.
    pub(crate) session: u64,
    /// Its number among those that this one began.
    pub(crate) number: u64,
}

impl ActivationId {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.session.to_be_bytes());
        bytes[8..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    fn read(bytes: [u8; 16]) -> Self {
        let number = u128::from_be_bytes(bytes);
        Self {
            session: (number >> 64) as u64,
            number: number as u64,
        }
    }
}

impl fmt::Display for ActivationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.session, self.number)
    }
}

/// A key of the scope of a worker.
///
/// ```text
/// 01 routine slot seq           a message          -> MessageRecord
/// 02 activation                 a claim            -> ClaimRecord
/// 03 activation effect          an effect of once  -> OnceRecord
/// 04 number                     a timer            -> TimerRecord
/// 05 place                      of the history     -> HistoryRecord
/// routine, slot, effect = length, 2 bytes big-endian, then UTF-8
/// seq, number = 8 bytes big-endian; place = 2 bytes big-endian
/// activation = session and number, 8 bytes big-endian each
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkerKey {
    Message {
        routine: Arc<str>,
        slot: Arc<str>,
        seq: u64,
    },
    Claim(ActivationId),
    Once(ActivationId, String),
    Timer(u64),
    History(u16),
}

impl WorkerKey {
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let mut key = Vec::with_capacity(32);
        match self {
            Self::Message { routine, slot, seq } => return message_key(routine, slot, *seq),
            Self::Claim(activation) => {
                key.push(2);
                key.extend_from_slice(&activation.bytes());
            }
            Self::Once(activation, effect) => {
                key.push(3);
                key.extend_from_slice(&activation.bytes());
                put_name(&mut key, effect);
            }
            Self::Timer(number) => {
                key.push(4);
                key.extend_from_slice(&number.to_be_bytes());
            }
            Self::History(place) => {
                key.push(5);
                key.extend_from_slice(&place.to_be_bytes());
            }
        }
        key.into()
    }

    /// `None` where it is no key of a worker.
    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (&tag, mut rest) = key.split_first()?;
        let key = match tag {
            1 => Self::Message {
                routine: take_name(&mut rest)?.into(),
                slot: take_name(&mut rest)?.into(),
                seq: u64::from_be_bytes(take(&mut rest)?),
            },
            2 => Self::Claim(ActivationId::read(take(&mut rest)?)),
            3 => Self::Once(
                ActivationId::read(take(&mut rest)?),
                take_name(&mut rest)?.to_owned(),
            ),
            4 => Self::Timer(u64::from_be_bytes(take(&mut rest)?)),
            5 => Self::History(u16::from_be_bytes(take(&mut rest)?)),
            _ => return None,
        };
        rest.is_empty().then_some(key)
    }
}

/// The key of a message, without making names of it first.
pub(crate) fn message_key(routine: &str, slot: &str, seq: u64) -> Box<[u8]> {
    let mut key = Vec::with_capacity(routine.len() + slot.len() + 13);
    key.push(1);
    put_name(&mut key, routine);
    put_name(&mut key, slot);
    key.extend_from_slice(&seq.to_be_bytes());
    key.into()
}

/// What all effects of an activation begin with.
pub(crate) fn once_prefix(activation: ActivationId) -> Vec<u8> {
    let mut key = vec![3];
    key.extend_from_slice(&activation.bytes());
    key
}

/// A key of the scope of all jobs: `01 id` for what a job began with, `02 id` for how it
/// ended.
pub(crate) fn job_begin_key(id: &str) -> Box<[u8]> {
    [&[1], id.as_bytes()].concat().into()
}

/// See [`job_begin_key`].
pub(crate) fn job_end_key(id: &str) -> Box<[u8]> {
    [&[2], id.as_bytes()].concat().into()
}

/// A key of the scope of one job.
///
/// ```text
/// 01 time activation index   an entry of its trace  -> TraceRecord
/// 02 time activation index   a piece of its output  -> text
/// time = 8 bytes big-endian; index = 4 bytes big-endian
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum JobPart {
    Trace = 1,
    Output = 2,
}

impl JobPart {
    pub(crate) fn key(self, at_micros: u64, activation: ActivationId, index: u32) -> Box<[u8]> {
        let mut key = vec![self as u8];
        key.extend_from_slice(&at_micros.to_be_bytes());
        key.extend_from_slice(&activation.bytes());
        key.extend_from_slice(&index.to_be_bytes());
        key.into()
    }
}

/// The name of a datum that a routine keeps for a job: the routine's id behind its
/// length in bytes, a colon each, then the name.
pub(crate) fn routine_datum(routine: &str, name: &str) -> String {
    format!("{}:{routine}:{name}", routine.len())
}

fn put_name(key: &mut Vec<u8>, name: &str) {
    // Names have at most 512 bytes; see `bad_name`. What is longer cannot be told from
    // its beginning, so its length is of all.
    let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(*taken)
}

fn take_name<'k>(rest: &mut &'k [u8]) -> Option<&'k str> {
    let len = usize::from(u16::from_be_bytes(take(rest)?));
    let (name, left) = rest.split_at_checked(len)?;
    *rest = left;
    std::str::from_utf8(name).ok()
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
}

/// What a job began with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    #[serde(rename = "f")]
    pub(crate) flow: String,
    #[serde(rename = "w")]
    pub(crate) worker: String,
    #[serde(rename = "c")]
    pub(crate) created: u64,
    #[serde(rename = "m", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, Value>,
    /// Its idempotency key.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
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
    /// Its result; `None` for an intent.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Value>,
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
    pub(crate) routine: String,
    #[serde(rename = "t")]
    pub(crate) at: u64,
    /// How it ended: the number of an `ExecutionOutcome`.
    #[serde(rename = "o")]
    pub(crate) outcome: u8,
    #[serde(rename = "a", default)]
    pub(crate) attempt: u32,
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) jobs: Vec<String>,
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
}

/// The cell of a record.
///
/// # Errors
/// As the codec has them, where data of the user's in it is too large or too deep.
pub(crate) fn encode<T: Serialize>(record: &T, limits: &CodecLimits) -> Result<Arc<[u8]>> {
    cell::encode(record, None, limits)
}

/// The record in a cell.
///
/// # Errors
/// [`Error::Corrupt`] where it is no record of this kind.
pub(crate) fn decode<T: DeserializeOwned>(
    cell: &[u8],
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
