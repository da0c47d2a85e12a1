//! Owns what is told of commits, and how much of it: a commit's event has its LSN and
//! its size; keys and values are in it only where the user asked for them.

use crate::engine::Batch;
use crate::ids::Lsn;
use crate::state::store::Shared;

/// What the events of `tracing` may contain, beside paths, sizes and LSNs.
///
/// ```
/// use evenkeel::{Store, Traced};
/// // While looking for a fault, on data that may be seen.
/// let store = Store::builder().traced(Traced::Values).in_memory()?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Traced {
    /// Neither keys nor values, nor the ids of scopes. The default.
    #[default]
    Nothing,
    /// Scopes and keys.
    Keys,
    /// Scopes, keys and values.
    Values,
}

/// A commit became visible.
pub(super) fn committed(shared: &Shared, batch: &Batch, lsn: Lsn) {
    #[cfg(feature = "tracing")]
    if tracing::enabled!(target: "evenkeel", tracing::Level::TRACE) {
        let store = shared.engine.path().map(|path| path.display().to_string());
        let (lsn, scopes) = (lsn.get(), batch.writes.len());
        let keys: usize = batch.writes.iter().map(|writes| writes.ops.len()).sum();
        let content = content(shared, batch);
        tracing::trace!(target: "evenkeel", store, lsn, scopes, keys, content, "committed");
    }
    #[cfg(not(feature = "tracing"))]
    let _ = (shared, batch, lsn);
}

/// What was written, as far as it may be told.
#[cfg(feature = "tracing")]
fn content(shared: &Shared, batch: &Batch) -> Option<String> {
    use crate::engine::Op;
    use crate::scope::{Scope, describe};
    use crate::state::cell;
    use crate::value::Value;

    let traced = shared.settings.traced;
    if traced == Traced::Nothing {
        return None;
    }
    let limits = shared.settings.limits.codec();
    let mut lines = Vec::new();
    for writes in &batch.writes {
        let scope = describe(&writes.slot.prefix);
        if writes.clear {
            lines.push(format!("clear {scope}"));
        }
        for (key, op) in &writes.ops {
            let key = String::from_utf8_lossy(key);
            let done = match op {
                Op::Put(cell) if traced == Traced::Values => {
                    let value = cell::decode::<Value>(cell, &limits, (&Scope::Global, &key));
                    value.map_or_else(|e| e.to_string(), |value| format!("= {value}"))
                }
                Op::Put(_) => "set".into(),
                Op::Delete => "deleted".into(),
                Op::Modify(_) => "changed in place".into(),
            };
            lines.push(format!("{scope}, key {key:?} {done}"));
        }
    }
    Some(lines.join("; "))
}
