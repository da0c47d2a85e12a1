//! Owns the end of a chain of migrations: what was staged becomes the state, or is given
//! up. No code of a user's runs here, so any opening of the store can go on with it.
//!
//! What must stay true: the commit that switches the version is one, so either all of the
//! chain counts or nothing does; from then on the rest is written, however often that is
//! interrupted, before anybody is given the store.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::engine::{Batch, Engine, KeyOp, Op, SlotBatch};
use crate::error::{Error, Result};
use crate::ids::Lsn;
use crate::scope::{Scope, prefix_end};
use crate::state::schema::layers::{Stack, layer, scope_len};
use crate::state::schema::record::{self, Bytes, Phase, Record};

/// So much is written to the state at once.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_ENTRIES: usize = 1024;
/// So many caches are cleared at once.
const BATCH_CACHES: usize = 256;

fn record_batch(engine: &Engine, ops: Vec<KeyOp>) -> SlotBatch {
    SlotBatch::of(record::slot(engine), ops)
}

/// Commits and hands it to the kernel, so that a kill costs at most this one.
pub(crate) fn commit(engine: &Arc<Engine>, batch: &Batch) -> Result<Lsn> {
    let lsn = engine.commit(batch)?;
    engine.write(lsn)?;
    engine.sync_within(crate::state::store::MEMORY_WITHIN)?;
    Ok(lsn)
}

/// Commits what a step has staged for one visit, and how far the chain is by that.
pub(crate) fn stage(engine: &Arc<Engine>, ops: Vec<KeyOp>, record: &Record) -> Result<()> {
    let mut writes = Vec::new();
    if !ops.is_empty() {
        let slot = engine.slot(&layer(record.step).encode());
        writes.push(SlotBatch::of(slot, ops));
    }
    writes.push(record_batch(engine, vec![record.op()?]));
    let batch = Batch {
        // A layer holds as much as all scopes together.
        judged: true,
        ..Batch::of(writes)
    };
    commit(engine, &batch).map(drop)
}

/// Makes what was staged count: from this commit on the state has the new version.
pub(crate) fn flip(engine: &Arc<Engine>, mut record: Record) -> Result<Record> {
    record.phase = Phase::Applying;
    record.step = 0;
    record.at = None;
    let mut ops = record::history_ops(engine, &record.steps, (record.from, record.to))?;
    ops.push(record.op()?);
    let batch = Batch {
        schema: Some(record.to),
        ..Batch::of([record_batch(engine, ops)])
    };
    let lsn = commit(engine, &batch)?;
    engine.sync(lsn)?;
    engine.tell_done("schema version changed", lsn);
    Ok(record)
}

/// Gives a store that holds nothing the version that its program has.
pub(crate) fn declare(engine: &Arc<Engine>, version: u32) -> Result<()> {
    clear_caches(engine)?;
    let ops = record::history_ops(engine, &[], (0, version))?;
    let batch = Batch {
        schema: Some(version),
        ..Batch::of([record_batch(engine, ops)])
    };
    let lsn = engine.commit(&batch)?;
    engine.sync(lsn)?;
    engine.tell_done("schema version changed", lsn);
    Ok(())
}

/// Writes what was staged to the state, from where that was interrupted, and forgets the
/// chain. Durable when it returns. `wrote` is told how many keys that were, and may stop it.
pub(crate) fn apply(
    engine: &Arc<Engine>,
    mut record: Record,
    mut wrote: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let steps = u32::try_from(record.steps.len()).unwrap_or(u32::MAX);
    let stack = Stack::new(engine, engine, record.layers(steps));
    let from = record.at.clone();
    let from = from.map_or(Bound::Unbounded, |Bytes(at)| Bound::Excluded(at));
    let mut changes = stack.changes(from);
    let mut last = false;
    while !last {
        let mut by_scope: BTreeMap<Vec<u8>, Vec<(Vec<u8>, Op)>> = BTreeMap::new();
        let (mut entries, mut bytes) = (0, 0);
        while entries < BATCH_ENTRIES && bytes < BATCH_BYTES {
            let Some((mut key, cell)) = changes.advance()? else {
                last = true;
                break;
            };
            entries += 1;
            bytes += key.len() + cell.as_ref().map_or(0, |cell| cell.len());
            record.at = Some(Bytes(key.clone()));
            let own = key.split_off(scope_len(&key)?);
            let op = cell.map_or(Op::Delete, Op::Put);
            by_scope.entry(key).or_default().push((own, op));
        }
        if by_scope.is_empty() {
            break;
        }
        let scopes = by_scope
            .into_iter()
            .map(|(prefix, ops)| SlotBatch::of(engine.slot(&prefix), ops));
        let mut writes: Vec<_> = scopes.collect();
        writes.push(record_batch(engine, vec![record.op()?]));
        let batch = Batch {
            judged: true,
            ..Batch::of(writes)
        };
        commit(engine, &batch)?;
        wrote(entries as u64)?;
    }
    clear_caches(engine)?;
    forget(engine, &record)
}

/// Gives up what was staged. Durable when it returns.
pub(crate) fn discard(engine: &Arc<Engine>, record: &Record) -> Result<()> {
    forget(engine, record)?;
    engine.tell_done("staged migrations given up", engine.visible());
    Ok(())
}

/// Clears the layers and says that no chain is under way, in one commit.
fn forget(engine: &Arc<Engine>, record: &Record) -> Result<()> {
    let steps = u32::try_from(record.steps.len()).unwrap_or(u32::MAX);
    let layers = record
        .layers(steps)
        .into_iter()
        .map(|step| SlotBatch::clearing(engine.slot(&layer(step).encode())));
    let mut writes: Vec<_> = layers.collect();
    writes.push(record_batch(engine, vec![record::idle()]));
    let batch = Batch::of(writes);
    let lsn = engine.commit(&batch)?;
    engine.sync(lsn)
}

/// Clears the caches of all scopes: what is in them was computed by an older program.
fn clear_caches(engine: &Arc<Engine>) -> Result<()> {
    let caches = Scope::all_caches();
    let end = prefix_end(&caches);
    let within = |prefix: &[u8]| end.as_deref().is_none_or(|end| prefix < end);
    let in_memory = engine.prefixes_in_memory();
    let mut in_memory = in_memory
        .into_iter()
        .filter(|prefix| prefix.starts_with(&caches))
        .peekable();
    let mut at = caches.clone();
    loop {
        let mut writes = Vec::new();
        while writes.len() < BATCH_CACHES {
            let image = next_in_image(engine, &at)?.filter(|prefix| within(prefix));
            while in_memory.next_if(|prefix| **prefix < *at).is_some() {}
            let next = match (image, in_memory.peek()) {
                (Some(image), Some(memory)) => image.min(memory.to_vec()),
                (Some(image), None) => image,
                (None, Some(memory)) => memory.to_vec(),
                (None, None) => break,
            };
            writes.push(SlotBatch::clearing(engine.slot(&next)));
            at = prefix_end(&next).unwrap_or(next);
        }
        if writes.is_empty() {
            return Ok(());
        }
        let batch = Batch::of(writes);
        commit(engine, &batch)?;
    }
}

fn next_in_image(engine: &Arc<Engine>, from: &[u8]) -> Result<Option<Vec<u8>>> {
    loop {
        engine.check()?;
        match engine.view().next_image_scope(from) {
            // It had to make room; the next view begins at the newer image.
            Err(Error::ViewExpired) => {}
            outcome => return outcome,
        }
    }
}
