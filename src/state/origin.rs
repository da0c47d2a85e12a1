//! Owns what a restored store came from: a key of a scope of the store's own, which
//! restoring writes and nobody else, so that it outlives later snapshots.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::codec::CodecLimits;
use crate::engine::Engine;
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::scope::Scope;
use crate::state::cell;
use crate::state::store::Store;

const KEY: &str = "origins";

/// A store that was restored many times over remembers so many of its origins.
const KEPT: usize = 64;

/// What a store was restored from: which store, and as it was when.
///
/// ```
/// use evenkeel::Store;
/// # let folder = tempfile::tempdir()?;
/// # let (path, backups) = (folder.path().join("state"), folder.path().join("backups"));
/// # let copy = folder.path().join("copy");
/// let store = Store::open(&path)?;
/// store.global().set("a", 1)?;
/// let backup = store.backup(&backups)?;
/// let restored = Store::restore(&backups, &copy)?;
/// let copy = Store::open(&copy)?;
/// let origin = copy.origin().expect("it was restored");
/// assert_eq!((origin.store, origin.lsn), (backup.store, backup.lsn));
/// assert_eq!(origin, restored.origin);
/// assert_eq!(store.origin(), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The store that the backup was of.
    pub store: StoreId,
    /// The LSN of that store whose state was restored.
    pub lsn: Lsn,
    /// Store time of that state, in microseconds since 1970.
    pub time_micros: u64,
    /// When it was restored, in microseconds since 1970, by the clock of whoever did.
    pub restored_at_micros: u64,
}

impl Origin {
    /// Store time of the state that was restored.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        system_time(self.time_micros)
    }

    /// When it was restored.
    #[must_use]
    pub fn restored_at(&self) -> SystemTime {
        system_time(self.restored_at_micros)
    }
}

fn system_time(micros: u64) -> SystemTime {
    let since = Duration::from_micros(micros);
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// An origin as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    store: [u8; 16],
    lsn: u64,
    time_micros: u64,
    restored_at_micros: u64,
}

fn scope() -> Scope {
    Scope::system("origin")
}

fn decode(cell: &[u8]) -> Result<Vec<Record>> {
    let records = cell::decode(cell, &CodecLimits::default(), (&scope(), KEY));
    records.map_err(|e: Error| Corruption::new("the origin of the store", e.to_string()).into())
}

/// The full key under which the origins are kept.
pub(crate) fn full_key() -> Vec<u8> {
    [&scope().encode(), KEY.as_bytes()].concat()
}

/// What is kept once a store that has kept `old` was restored from `origin`.
///
/// # Errors
/// [`Error::Corrupt`] where `old` makes no sense.
pub(crate) fn kept(old: Option<&[u8]>, origin: &Origin) -> Result<Arc<[u8]>> {
    let mut records = old.map(decode).transpose()?.unwrap_or_default();
    records.insert(
        0,
        Record {
            store: *origin.store.as_bytes(),
            lsn: origin.lsn.get(),
            time_micros: origin.time_micros,
            restored_at_micros: origin.restored_at_micros,
        },
    );
    records.truncate(KEPT);
    cell::encode(&records, None, &CodecLimits::default())
}

/// The origins of a store that is being opened, the latest one first.
pub(super) fn load(engine: &Arc<Engine>) -> Result<Vec<Origin>> {
    let slot = engine.slot(&scope().encode());
    let Some((_, cell)) = engine.read(&slot, KEY.as_bytes())? else {
        return Ok(Vec::new());
    };
    let origin = |record: Record| Origin {
        store: StoreId::from_bytes(record.store),
        lsn: Lsn::new(record.lsn),
        time_micros: record.time_micros,
        restored_at_micros: record.restored_at_micros,
    };
    Ok(decode(&cell)?.into_iter().map(origin).collect())
}

impl Store {
    /// What this store was restored from, if it was: a store made by
    /// [`Store::restore`] has an id of its own, and says here whose state it began with.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.shared.origins.first().copied()
    }

    /// All that this store came from, the latest one first: a store may be restored from a
    /// backup of a store that was itself restored. At most 64 are kept.
    ///
    /// ```
    /// assert_eq!(evenkeel::Store::in_memory().origins(), []);
    /// ```
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.shared.origins
    }
}
