//! Owns the export of a state as lines of JSON, which an import reads.

use std::io::Write;

use crate::codec::cell::{deadline, has_expired, value};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::Scope;
use crate::state::cell;
use crate::state::import::{Stored, line_bytes_max, write};
use crate::state::scan::key_text;
use crate::state::store::Store;
use crate::state::transaction::guarded;
use crate::value::Value;

/// What an export wrote. Made by [`Store::export_json_lines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// The LSN of the state that was written.
    pub lsn: Lsn,
    /// The entries, each a line.
    pub entries: u64,
    /// The bytes.
    pub bytes: u64,
}

impl Store {
    /// Writes all entries as lines of JSON that [`Import::json_lines`] reads: in the order
    /// of scopes and keys, as they are now, whatever is written meanwhile. What has
    /// expired is left out, and so are versions, default TTLs, cursors and how far imports
    /// have come. The writer gets a line at a time and is flushed at the end; whether it
    /// makes anything durable is its own business.
    ///
    /// [`Import::json_lines`]: crate::Import::json_lines
    ///
    /// # Errors
    /// [`Error::Io`] where the writer fails, [`Error::Panicked`] where it panics;
    /// [`Error::ViewExpired`] once the memory is needed that holds this state while others
    /// write. The lines before are written then.
    ///
    /// ```
    /// use evenkeel::{Scope, Store};
    /// use serde_json::json;
    /// let store = Store::in_memory();
    /// store.scope(Scope::workflow("order-42")).set("config", json!({"region": "eu"}))?;
    /// let mut lines = Vec::new();
    /// store.export_json_lines(&mut lines)?;
    /// let line = r#"{"scope":{"workflow":"order-42"},"key":"config","value":{"region":"eu"}}"#;
    /// assert_eq!(String::from_utf8_lossy(&lines), format!("{line}\n"));
    /// let copy = Store::in_memory();
    /// assert_eq!(copy.import("all").json_lines_from(&*lines)?.imported, 1);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn export_json_lines(&self, writer: impl Write) -> Result<ExportReport> {
        guarded("in the writer of an export", || export(self, writer))
    }
}

fn export(store: &Store, mut writer: impl Write) -> Result<ExportReport> {
    let shared = &store.shared;
    shared.enter()?;
    let limits = &shared.settings.limits;
    let failed = |e| Error::io("write to", "the writer of an export", e);
    let view = shared.engine.view();
    let mut report = ExportReport {
        lsn: view.lsn(),
        entries: 0,
        bytes: 0,
    };
    let mut line = Vec::new();
    for slot in view.scopes()? {
        let Some((scope, _)) = Scope::decode(&slot.prefix) else {
            continue;
        };
        if matches!(scope, Scope::System(_)) {
            continue;
        }
        view.for_each(&slot, |key, _, cell| {
            shared.enter()?;
            if has_expired(cell, || view.time()) {
                return Ok(());
            }
            let key = key_text(key.to_vec(), &scope)?;
            line.clear();
            let entry = Stored {
                scope: &scope,
                key: &key,
                value: &cell::decode::<Value>(cell, &limits.codec(), (&scope, &key))?,
                encoded: value(cell).unwrap_or_default(),
                expires_at: deadline(cell),
            };
            write(&mut line, &entry, line_bytes_max(limits)).map_err(|e| failed(e.into()))?;
            writer.write_all(&line).map_err(failed)?;
            report.entries += 1;
            report.bytes += line.len() as u64;
            Ok(())
        })?;
    }
    writer.flush().map_err(failed)?;
    Ok(report)
}
