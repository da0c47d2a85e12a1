//! Owns the settings that are kept in the store: a system scope of keys that name the
//! setting and whose it is, read when the store is opened. What they mean is the
//! business of whoever sets them.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::CodecLimits;
use crate::engine::quota::QuotaChange;
use crate::engine::table::Slot;
use crate::engine::{Batch, Engine, Op, SlotBatch};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::store::Shared;
use crate::state::{cell, quota, ttl};

fn scope() -> Scope {
    Scope::system("settings")
}

fn slot(engine: &Engine) -> Arc<Slot> {
    engine.slot(&scope().encode())
}

/// The key of a setting of a scope.
pub(super) fn key(setting: &str, prefix: &[u8]) -> String {
    format!("{setting}{}", prefix.escape_ascii())
}

/// A setting as it was written. The limits are not the user's, who may lower those to
/// anything and open the store all the same.
///
/// # Errors
/// [`Error::Corrupt`] where it is none.
pub(super) fn decode<T: DeserializeOwned>(cell: &[u8]) -> Result<T> {
    let setting = cell::decode(cell, &CodecLimits::default(), (&scope(), "a setting"));
    setting.map_err(|e| Corruption::new("the settings", e.to_string()).into())
}

impl Shared {
    /// Takes up all settings, when a store is opened.
    pub(super) fn load_settings(&self) -> Result<()> {
        let slot = slot(&self.engine);
        let read = |key: &[u8], _, cell: &[u8]| {
            if key.starts_with(ttl::SETTING.as_bytes()) {
                self.load_default_ttl(cell)?;
            } else if key.starts_with(quota::OF_SCOPE.as_bytes()) {
                self.load_scope_quota(cell)?;
            } else if key.starts_with(quota::OF_KIND.as_bytes()) {
                self.load_kind_quota(cell)?;
            }
            Ok(())
        };
        loop {
            match self.engine.view().for_each(&slot, read) {
                // It had to make room; the next view begins at the newer image.
                Err(Error::ViewExpired) => {}
                outcome => return outcome,
            }
        }
    }

    /// Writes a setting, or removes it; where it is a quota, that counts from this commit
    /// on.
    pub(super) fn change_setting<T: Serialize>(
        &self,
        key: String,
        setting: Option<&T>,
        quota: Option<QuotaChange>,
    ) -> Result<Lsn> {
        let op = match setting {
            None => Op::Delete,
            Some(setting) => Op::Put(cell::encode(setting, None, &CodecLimits::default())?),
        };
        let writes = SlotBatch::of(slot(&self.engine), [(key.into_bytes(), op)]);
        let batch = Batch {
            quota,
            ..Batch::of([writes])
        };
        // It read nothing, so there is nothing to lose a race about.
        self.engine.commit(&batch)
    }
}
