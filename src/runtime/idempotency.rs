//! Owns idempotency keys: what was posted under a key is posted once, until some time
//! after its job has ended. Imports `record`.
//!
//! What must stay true: a key is of one job at a time. It is taken in the commit of the
//! post, and whether it is free is decided there, so two posts at once cannot both have
//! it. While the job lives the record has no deadline; from its end on the store removes
//! it in time like anything that expires.

use xxhash_rust::xxh3::Xxh3;

use crate::codec::{self, CodecLimits};
use crate::engine::Op;
use crate::error::{Error, Result, WorkError};
use crate::ids::Lsn;
use crate::runtime::record::{self, KeyRecord};
use crate::state::{Store, cell};
use crate::value::Value;

/// The most bytes of a key.
const KEY_BYTES_MAX: usize = 512;

/// A key with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkKey {
    key: String,
    hash: u64,
}

impl WorkKey {
    /// A key for what is posted there.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the key is empty or has more than 512 bytes;
    /// [`Error::Serialize`] where the data has no bytes.
    pub(crate) fn new(
        key: &str,
        (flow, routine, slot): (&str, &str, &str),
        data: &Value,
    ) -> Result<Self> {
        let reason = match key.len() {
            0 => "it is empty".to_owned(),
            1..=KEY_BYTES_MAX => String::new(),
            bytes => format!("it has {bytes} bytes, of {KEY_BYTES_MAX} at most"),
        };
        if !reason.is_empty() {
            return Err(Error::Invalid {
                what: "idempotency key",
                reason,
            });
        }
        Ok(Self {
            key: key.to_owned(),
            hash: hash_of((flow, routine, slot), data)?,
        })
    }

    /// The job that it was used for, if it is remembered.
    ///
    /// # Errors
    /// [`WorkError::KeyReused`] where it was used for something else; otherwise as reading
    /// has them.
    pub(crate) fn find(&self, store: &Store) -> Result<Option<String>> {
        let (scope, limits) = (record::keys(), store.shared.settings.limits.codec());
        let engine = &store.shared.engine;
        let slot = engine.slot(&scope.encode());
        let Some((_, cell)) = engine.read(&slot, self.key.as_bytes())? else {
            return Ok(None);
        };
        let found: KeyRecord = record::decode(&cell, &limits, &scope)?;
        match found.hash == self.hash {
            true => Ok(Some(found.job)),
            false => Err(WorkError::KeyReused {
                key: self.key.clone(),
                job: found.job,
            }
            .into()),
        }
    }

    /// What the post of this job writes to [`record::keys`]. Its commit fails where the key
    /// was taken meanwhile, with an error that [`is_taken`] knows: then [`find`](Self::find)
    /// says by whom.
    ///
    /// # Errors
    /// As the codec has them.
    pub(crate) fn take(&self, job: &str, limits: &CodecLimits) -> Result<(Box<[u8]>, Op)> {
        let taken = KeyRecord {
            job: job.to_owned(),
            hash: self.hash,
        };
        let cell = record::encode(&taken, limits)?;
        let name = self.key.clone();
        let modify = move |old: Option<(Lsn, &[u8])>| match old {
            None => Ok(Some(cell.clone())),
            Some(_) => Err(WorkError::Exists {
                what: KEY,
                name: name.clone(),
                hint: "it was taken a moment ago; post again to learn by which job".into(),
            }
            .into()),
        };
        Ok((self.key.as_bytes().into(), Op::Modify(Box::new(modify))))
    }
}

const KEY: &str = "job with the idempotency key";

/// Whether a commit failed because a key was taken meanwhile.
pub(crate) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::Work(WorkError::Exists { what: KEY, .. }))
}

/// What the end of a job with a key writes to [`record::keys`]: the key is free again at
/// this store time. One that is of another job stays as it is.
pub(crate) fn release(
    key: &str,
    job: &str,
    until_micros: u64,
    limits: &CodecLimits,
) -> (Box<[u8]>, Op) {
    let (name, job, limits) = (key.to_owned(), job.to_owned(), *limits);
    let modify = move |old: Option<(Lsn, &[u8])>| {
        let Some((_, old)) = old else { return Ok(None) };
        let scope = record::keys();
        let found: KeyRecord = record::decode(old, &limits, &scope)?;
        match found.job == job {
            true => cell::with_deadline(old, Some(until_micros), (&scope, &name)).map(Some),
            false => Ok(Some(old.into())),
        }
    };
    (key.as_bytes().into(), Op::Modify(Box::new(modify)))
}

/// XXH3-64 of the names, each behind its length (8 bytes, little-endian), and the encoded
/// data. A map is in the order of its keys, so equal data has equal bytes.
fn hash_of((flow, routine, slot): (&str, &str, &str), data: &Value) -> Result<u64> {
    let widest = CodecLimits {
        value_bytes_max: usize::MAX,
        value_depth_max: CodecLimits::DEPTH_BOUND,
    };
    let mut bytes = Vec::new();
    codec::encode(data, &widest, &mut bytes)?;
    let mut hash = Xxh3::new();
    for name in [flow, routine, slot] {
        hash.update(&(name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
    }
    hash.update(&bytes);
    Ok(hash.digest())
}

#[cfg(test)]
mod tests;
