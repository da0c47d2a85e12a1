//! Owns changes read from a log, on their way into something sorted: of each key the
//! last one, and which scopes were cleared before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use super::body::{BodyOp, read_body};
use super::table::Stored;
use crate::error::{Corruption, Result};
use crate::ids::Lsn;
use crate::scope::prefix_end;

/// What an entry takes beside its key and its cell: its place in the map, and what the
/// allocator adds to both.
const ENTRY_BYTES: usize = 112;

/// Changes of many commits, sorted: all, or those of a range of keys.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The range: from here on, and below that.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    clears: BTreeSet<Vec<u8>>,
    entries: BTreeMap<Vec<u8>, (Lsn, Stored)>,
    bytes: usize,
    /// The key that is being added.
    key: Vec<u8>,
}

/// What takes changes, in ascending order of their keys.
pub(crate) trait TakeChanges {
    /// How it fails.
    type Error;

    /// Writes a key, or deletes it.
    fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<(), Self::Error>;

    /// Removes all older entries with `from <= key < end`. What is put there comes after it.
    fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<(), Self::Error>;
}

impl Changes {
    /// What they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds those of a commit, which is later than all before. `path` is where it was read.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) where the body makes no sense; then a part of it
    /// may have been added.
    pub(crate) fn add(&mut self, body: &[u8], lsn: Lsn, path: &Path) -> Result<()> {
        let mut scope: Option<&[u8]> = None;
        let read = read_body(body, |op| {
            if let BodyOp::Scope(prefix) = op {
                scope = Some(prefix);
                return Ok(());
            }
            let orphan = || Corruption::new(path, "an op before any scope").lsn(lsn);
            let scope = scope.ok_or_else(orphan)?;
            match op {
                BodyOp::Put(key, cell) => self.write(scope, key, lsn, Some(cell)),
                BodyOp::Delete(key) => self.write(scope, key, lsn, None),
                BodyOp::Clear | BodyOp::Scope(_) => self.clear(scope),
            }
            Ok(())
        });
        read.map_err(|what| Corruption::new(path, what).lsn(lsn))?
    }

    /// Gives up those of the upper half of the keys, to be gathered by themselves: see
    /// [`behind`](Self::behind). False where there is nothing to give up.
    pub(crate) fn halve(&mut self) -> bool {
        let middle = self.entries.keys().nth(self.entries.len() / 2).cloned();
        let Some(middle) = middle.filter(|_| self.entries.len() > 1) else {
            return false;
        };
        self.forget(&middle, None);
        for prefix in self.clears.split_off(&middle) {
            self.bytes -= entry_bytes(prefix.len(), None);
        }
        self.to = Some(middle);
        true
    }

    /// None yet of the keys behind those of these; `None` where these are of all that are
    /// left.
    pub(crate) fn behind(&self) -> Option<Self> {
        self.to.clone().map(|from| Self {
            from,
            ..Self::default()
        })
    }

    fn is_below_end(&self, key: &[u8]) -> bool {
        self.to.as_deref().is_none_or(|to| key < to)
    }

    fn write(&mut self, scope: &[u8], key: &[u8], lsn: Lsn, cell: Option<&[u8]>) {
        self.key.clear();
        self.key.extend_from_slice(scope);
        self.key.extend_from_slice(key);
        if self.key < self.from || !self.is_below_end(&self.key) {
            return;
        }
        let key_len = self.key.len();
        self.bytes += entry_bytes(key_len, cell);
        let change = (lsn, cell.map(Arc::from));
        let old = self.entries.insert(self.key.clone(), change);
        if let Some((_, old)) = old {
            self.bytes -= entry_bytes(key_len, old.as_deref());
        }
    }

    fn clear(&mut self, prefix: &[u8]) {
        let end = prefix_end(prefix);
        if !self.is_below_end(prefix) || end.as_ref().is_some_and(|end| *end <= self.from) {
            return;
        }
        self.forget(prefix, end.as_deref());
        if self.clears.insert(prefix.to_vec()) {
            self.bytes += entry_bytes(prefix.len(), None);
        }
    }

    /// Drops the entries of these keys.
    fn forget(&mut self, from: &[u8], end: Option<&[u8]>) {
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(end.to_vec()));
        let within = (Bound::Included(from.to_vec()), end);
        for (key, (_, cell)) in self.entries.extract_if(within, |_, _| true) {
            self.bytes -= entry_bytes(key.len(), cell.as_deref());
        }
    }

    /// Gives all, in order.
    pub(crate) fn give<T: TakeChanges>(self, to: &mut T) -> Result<(), T::Error> {
        let clear = |to: &mut T, prefix: &[u8]| {
            let ends = [prefix_end(prefix), self.to.clone()];
            let end = ends.into_iter().flatten().min();
            to.clear(prefix.max(&self.from), end.as_deref())
        };
        let mut clears = self.clears.iter().peekable();
        for (key, (lsn, cell)) in &self.entries {
            while let Some(prefix) = clears.next_if(|prefix| *prefix <= key) {
                clear(to, prefix)?;
            }
            to.put(key, *lsn, cell)?;
        }
        clears.try_for_each(|prefix| clear(to, prefix))
    }
}

fn entry_bytes(key_len: usize, cell: Option<&[u8]>) -> usize {
    ENTRY_BYTES + key_len + cell.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{
        Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
    };

    use super::*;
    use crate::engine::body::BodyWriter;
    use crate::scope::Scope;

    type State = BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>;

    /// What takes changes as a merge does: in ascending order.
    struct Applied {
        state: State,
        reached: Vec<u8>,
    }

    impl TakeChanges for Applied {
        type Error = String;

        fn put(&mut self, key: &[u8], lsn: Lsn, cell: &Stored) -> Result<(), String> {
            if key < &*self.reached {
                return Err(format!("{key:?} comes behind {:?}", self.reached));
            }
            self.reached = [key, &[0]].concat();
            match cell {
                Some(cell) => self.state.insert(key.to_vec(), (lsn, cell.to_vec())),
                None => self.state.remove(key),
            };
            Ok(())
        }

        fn clear(&mut self, from: &[u8], end: Option<&[u8]>) -> Result<(), String> {
            if from < &*self.reached {
                return Err(format!("{from:?} comes behind {:?}", self.reached));
            }
            self.reached = from.to_vec();
            let within = |key: &[u8]| key >= from && end.is_none_or(|end| key < end);
            self.state.retain(|key, _| !within(key));
            Ok(())
        }
    }

    fn scope(number: u8) -> Scope {
        match number {
            0 => Scope::Global,
            1 => Scope::custom(""),
            2 => Scope::custom("a"),
            _ => Scope::worker("w"),
        }
    }

    /// A write, or without a key a clear.
    fn body(number: u8, key: Option<u8>, cell: &Option<Vec<u8>>) -> Vec<u8> {
        let mut writer = BodyWriter::new(0);
        writer.scope(&scope(number).encode());
        match key {
            Some(key) => writer.write(&[key], &cell.as_deref().map(Arc::from)),
            None => writer.clear(),
        }
        writer.bytes().to_vec()
    }

    proptest! {
        #[test]
        fn changes_by_ranges_of_keys_are_those_of_all_at_once(
            before in vec((0..4_u8, 0..12_u8), 0..30),
            commits in vec(
                (
                    0..4_u8,
                    prop_oneof![12 => (0..12_u8).prop_map(Some), 1 => Just(None)],
                    prop_oneof![3 => vec(any::<u8>(), 0..40).prop_map(Some), 1 => Just(None)],
                ),
                0..60,
            ),
            room in prop_oneof![Just(usize::MAX), 0..4000_usize],
        ) {
            let mut state: State = before
                .into_iter()
                .map(|(number, key)| ([&*scope(number).encode(), &[key]].concat(), (Lsn::ZERO, vec![])))
                .collect();
            let mut applied = Applied { state: state.clone(), reached: Vec::new() };
            let bodies: Vec<_> = commits.iter().map(|(n, key, cell)| body(*n, *key, cell)).collect();
            let mut ranges = 0;
            let mut next = Some(Changes::default());
            while let Some(mut changes) = next {
                for (at, body) in bodies.iter().enumerate() {
                    changes.add(body, Lsn::new(at as u64 + 1), Path::new("log")).unwrap();
                    while changes.bytes() > room && changes.halve() {}
                    let few = changes.entries.len() < 2;
                    prop_assert!(changes.bytes() <= room || few, "{} bytes", changes.bytes());
                }
                next = changes.behind();
                prop_assert_eq!(changes.give(&mut applied), Ok(()));
                ranges += 1;
            }
            for (at, (number, key, cell)) in commits.iter().enumerate() {
                let prefix = scope(*number).encode();
                match (key, cell) {
                    (None, _) => state.retain(|key, _| !key.starts_with(&prefix)),
                    (Some(key), cell) => {
                        let full = [&*prefix, &[*key]].concat();
                        match cell {
                            Some(cell) => state.insert(full, (Lsn::new(at as u64 + 1), cell.clone())),
                            None => state.remove(&full),
                        };
                    }
                }
            }
            prop_assert_eq!(applied.state, state);
            prop_assert!(room < usize::MAX || ranges == 1);
        }
    }
}
