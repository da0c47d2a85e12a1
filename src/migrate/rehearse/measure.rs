//! Owns looking at what the steps of a rehearsal did: counts, sizes, samples and
//! differences.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::codec::CodecLimits;
use crate::codec::cell::{deadline, has_expired};
use crate::engine::Engine;
use crate::error::Result;
use crate::migrate::rehearsal::{Sample, StateSize};
use crate::state::cell;
use crate::state::scan::key_text;
use crate::state::schema::layers::{Stack, scope_len, scope_of};
use crate::value::Value;

/// So many scopes are shown of each migration, and so many keys of each.
const SAMPLE_SCOPES: usize = 3;
const SAMPLE_KEYS: usize = 8;
/// Values above this size are not shown.
const SAMPLE_BYTES: usize = 64 * 1024;
/// So many differences are shown.
const DIFFERENCES: usize = 10;
/// After so many keys it asks whether to go on.
const KEYS_BETWEEN_ANSWERS: u64 = 4096;

/// Where it looks, and whom it asks whether to go on.
pub(super) struct Measure<'a> {
    pub(super) real: &'a Arc<Engine>,
    pub(super) go_on: &'a dyn Fn() -> Result<()>,
}

/// What one step changed.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) added: u64,
    pub(super) changed: u64,
    pub(super) removed: u64,
    pub(super) staged_bytes: u64,
    pub(super) samples: Vec<Sample>,
}

impl Measure<'_> {
    fn tick(&self, seen: &mut u64) -> Result<()> {
        *seen += 1;
        match seen.is_multiple_of(KEYS_BETWEEN_ANSWERS) {
            true => (self.go_on)(),
            false => Ok(()),
        }
    }

    /// How much there is.
    pub(super) fn size(&self, stack: &Stack) -> Result<StateSize> {
        let mut size = StateSize::default();
        let mut scopes = stack.scopes(None);
        while let Some(prefix) = scopes.advance()? {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let mut entries = stack.entries(&prefix, all, BTreeMap::new());
            let before = size.keys;
            while let Some((key, _, cell)) = entries.advance()? {
                size.bytes += (key.len() + cell.len()) as u64;
                self.tick(&mut size.keys)?;
            }
            size.scopes += u64::from(size.keys > before);
        }
        Ok(size)
    }

    /// What a step changed: its layer alone, over the state before it.
    pub(super) fn effect(&self, before: &Stack, layer: &Stack) -> Result<Effect> {
        let mut effect = Effect::default();
        let mut samples = Samples::default();
        let mut changes = layer.changes(Bound::Unbounded);
        let mut seen = 0;
        while let Some((full, new)) = changes.advance()? {
            self.tick(&mut seen)?;
            let (prefix, key) = full.split_at(scope_len(&full)?);
            let old = before.find(prefix, key)?;
            effect.staged_bytes += (full.len() + new.as_ref().map_or(0, |cell| cell.len())) as u64;
            let new = new.filter(|cell| !has_expired(cell, || self.real.now()));
            match (old.as_deref(), new.as_deref()) {
                (None, None) => continue,
                (None, Some(_)) => effect.added += 1,
                (Some(_), None) => effect.removed += 1,
                (Some(old), Some(new)) if old == new => continue,
                (Some(_), Some(_)) => effect.changed += 1,
            }
            samples.see(prefix, || sample(&full, old.as_deref(), new.as_deref()))?;
        }
        effect.samples = samples.shown();
        Ok(effect)
    }

    /// How many keys the layers of a chain leave other than they are in the real state,
    /// and the first of those.
    pub(super) fn differences(&self, stack: &Stack) -> Result<(u64, Vec<Sample>)> {
        let (mut count, mut first) = (0, Vec::new());
        let mut changes = stack.changes(Bound::Unbounded);
        let mut seen = 0;
        while let Some((full, new)) = changes.advance()? {
            self.tick(&mut seen)?;
            let (prefix, key) = full.split_at(scope_len(&full)?);
            let old = stack.find_real(prefix, key)?;
            let new = new.filter(|cell| !has_expired(cell, || self.real.now()));
            if old.as_deref() == new.as_deref() {
                continue;
            }
            count += 1;
            if first.len() < DIFFERENCES {
                first.extend(sample(&full, old.as_deref(), new.as_deref())?);
            }
        }
        Ok((count, first))
    }
}

/// A key before and after; `None` where a value is too large to be shown.
fn sample(full: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) -> Result<Option<Sample>> {
    let large = |cell: Option<&[u8]>| cell.is_some_and(|cell| cell.len() > SAMPLE_BYTES);
    if large(old) || large(new) {
        return Ok(None);
    }
    let (prefix, key) = full.split_at(scope_len(full)?);
    let scope = scope_of(prefix)?;
    let key = key_text(key.to_vec(), &scope)?;
    let value = |cell: &[u8]| {
        let limits = CodecLimits::default();
        cell::decode::<Value>(cell, &limits, (&scope, &key))
    };
    Ok(Some(Sample {
        before: old.map(value).transpose()?,
        after: new.map(value).transpose()?,
        expires_before: old.and_then(deadline),
        expires_after: new.and_then(deadline),
        scope,
        key,
    }))
}

/// Keys of a few scopes. Which ones, the hashes of the scopes decide: so they are of all
/// parts of the state, and the same each time.
#[derive(Debug, Default)]
struct Samples {
    by_scope: BTreeMap<(u64, Vec<u8>), Vec<Sample>>,
}

impl Samples {
    fn see(
        &mut self,
        prefix: &[u8],
        sample: impl FnOnce() -> Result<Option<Sample>>,
    ) -> Result<()> {
        let place = (xxh3_64(prefix), prefix.to_vec());
        let full = self.by_scope.len() >= SAMPLE_SCOPES;
        let last = self.by_scope.last_key_value();
        if full && last.is_some_and(|(last, _)| *last < place) {
            return Ok(());
        }
        let seen = self.by_scope.get(&place).map_or(0, Vec::len);
        if seen < SAMPLE_KEYS
            && let Some(sample) = sample()?
        {
            self.by_scope.entry(place).or_default().push(sample);
        }
        if self.by_scope.len() > SAMPLE_SCOPES {
            self.by_scope.pop_last();
        }
        Ok(())
    }

    fn shown(self) -> Vec<Sample> {
        let mut samples: Vec<_> = self.by_scope.into_values().flatten().collect();
        samples.sort_by(|a, b| (&a.scope, &a.key).cmp(&(&b.scope, &b.key)));
        samples
    }
}
