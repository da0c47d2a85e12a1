//! Owns the record of a chain of migrations that is under way, and the history of the
//! schema: keys of a scope of the store's own.
//!
//! ```text
//! scope `schema`:
//!   state         how far a chain has come; not there while none is under way
//!   history/N     a change of the version, N from 1 as ten digits; the newest 1,000
//! ```
//!
//! What must stay true: the record is committed with what it speaks of, so it never says
//! more than what is there, nor less.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::CodecLimits;
use crate::engine::table::Slot;
use crate::engine::{Engine, KeyOp, Op};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::schema::SchemaChange;

const STATE: &[u8] = b"state";
const HISTORY: &str = "history/";

/// So many changes of the version are remembered.
const HISTORY_MAX: usize = 1000;

/// What was done of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Steps stage what they write; the state is as it was.
    Staging,
    /// What was staged is being written to the state, which has the new version.
    Applying,
}

/// How far a chain has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    /// What tells the chain from another one.
    pub(crate) fingerprint: u64,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) steps: Vec<StepRecord>,
    /// Staging: the step that is being done, from 1. Applying: none any more, 0.
    pub(crate) step: u32,
    /// Staging: the encoded scope that this step did last. Applying: the full key that
    /// was written last.
    pub(crate) at: Option<Bytes>,
}

/// One step of a chain, and what it has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// The version of the migration.
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) reverted: bool,
    pub(crate) scopes: u64,
    pub(crate) written: u64,
    pub(crate) removed: u64,
    /// How long it took, by the clock of the store.
    pub(crate) micros: u64,
}

/// Where a chain is, as it is kept: as bytes, and not as a list of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Reads;
        impl Visitor<'_> for Reads {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> std::result::Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Reads)
    }
}

/// A change of the version as it is kept; which commit it was, its key's version says.
#[derive(Serialize, Deserialize)]
struct Kept {
    from: u32,
    to: u32,
    name: String,
    micros: u64,
}

impl StepRecord {
    /// The version before the step and behind it.
    fn change(&self) -> (u32, u32) {
        let below = self.version.saturating_sub(1);
        match self.reverted {
            false => (below, self.version),
            true => (self.version, below),
        }
    }

    /// True where there is something in its layer.
    pub(crate) fn has_staged(&self) -> bool {
        self.written + self.removed > 0
    }
}

impl Record {
    /// The numbers of the steps whose layers have anything, up to one of them.
    pub(crate) fn layers(&self, upto: u32) -> Vec<u32> {
        let steps = (1..).zip(&self.steps);
        let filled = steps.filter(|(number, step)| *number <= upto && step.has_staged());
        filled.map(|(number, _)| number).collect()
    }

    /// Refuses what no run of a chain has written.
    fn check(self) -> Result<Self> {
        let count = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let fits = match self.phase {
            Phase::Staging => (1..=count).contains(&self.step),
            Phase::Applying => self.step == 0,
        };
        match fits {
            true => Ok(self),
            false => Err(damaged(format!(
                "it speaks of step {} of {count}",
                self.step
            ))),
        }
    }

    /// The write that keeps it.
    pub(crate) fn op(&self) -> Result<KeyOp> {
        Ok((STATE.into(), Op::Put(encode(self)?)))
    }
}

/// The write that says that no chain is under way.
pub(crate) fn idle() -> KeyOp {
    (STATE.into(), Op::Delete)
}

fn scope() -> Scope {
    Scope::system("schema")
}

/// Where all of it is.
pub(crate) fn slot(engine: &Engine) -> Arc<Slot> {
    engine.slot(&scope().encode())
}

fn damaged(what: String) -> Error {
    Corruption::new("the record of migrations", what).into()
}

fn encode<T: Serialize>(value: &T) -> Result<Arc<[u8]>> {
    cell::encode(value, None, &CodecLimits::default())
}

fn decode<T: DeserializeOwned>(cell: &[u8]) -> Result<T> {
    let found = cell::decode(cell, &CodecLimits::default(), (&scope(), "a record"));
    found.map_err(|e| damaged(e.to_string()))
}

/// The chain that is under way, if one is.
///
/// # Errors
/// [`Error::Corrupt`] where it is none.
pub(crate) fn read(engine: &Engine) -> Result<Option<Record>> {
    match engine.read(&slot(engine), STATE)? {
        None => Ok(None),
        Some((_, cell)) => decode::<Record>(&cell)?.check().map(Some),
    }
}

/// The changes of the version that are remembered, oldest first, with the number of each.
fn numbered(engine: &Arc<Engine>) -> Result<Vec<(u64, SchemaChange)>> {
    let slot = slot(engine);
    loop {
        let mut found = Vec::new();
        let outcome = engine.view().for_each(&slot, |key, lsn, cell| {
            let number = std::str::from_utf8(key)
                .ok()
                .and_then(|key| key.strip_prefix(HISTORY));
            if let Some(number) = number {
                let number = number.parse::<u64>();
                let number = number.map_err(|e| damaged(format!("history/{e}")))?;
                found.push((number, change(decode(cell)?, lsn)));
            }
            Ok(())
        });
        match outcome {
            // It had to make room; the next view begins at the newer image.
            Err(Error::ViewExpired) => engine.check()?,
            outcome => return outcome.map(|()| found),
        }
    }
}

fn change(kept: Kept, lsn: Lsn) -> SchemaChange {
    let since = Duration::from_micros(kept.micros);
    SchemaChange {
        from: kept.from,
        to: kept.to,
        name: kept.name,
        lsn,
        at: UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH),
    }
}

/// The changes of the version that are remembered, oldest first.
pub(crate) fn history(engine: &Arc<Engine>) -> Result<Vec<SchemaChange>> {
    let numbered = numbered(engine)?;
    Ok(numbered.into_iter().map(|(_, change)| change).collect())
}

/// The writes that add to the history what a chain did, or, without steps, that the
/// store began with a version.
pub(crate) fn history_ops(
    engine: &Arc<Engine>,
    steps: &[StepRecord],
    (from, to): (u32, u32),
) -> Result<Vec<KeyOp>> {
    let numbered = numbered(engine)?;
    let next = numbered.last().map_or(1, |(number, _)| number + 1);
    let micros = engine.now();
    let mut changes: Vec<Kept> = Vec::new();
    for step in steps {
        let (from, to) = step.change();
        changes.push(Kept {
            from,
            to,
            name: step.name.clone(),
            micros,
        });
    }
    if changes.is_empty() {
        changes.push(Kept {
            from,
            to,
            name: String::new(),
            micros,
        });
    }
    let excess = (numbered.len() + changes.len()).saturating_sub(HISTORY_MAX);
    let excess_new = excess.saturating_sub(numbered.len());
    let key = |number: u64| format!("{HISTORY}{number:010}").into_bytes().into();
    let mut ops = Vec::new();
    for (number, _) in numbered.into_iter().take(excess) {
        ops.push((key(number), Op::Delete));
    }
    for (number, change) in (next..).zip(changes).skip(excess_new) {
        ops.push((key(number), Op::Put(encode(&change)?)));
    }
    Ok(ops)
}
