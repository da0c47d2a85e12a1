//! Owns going through a scope while another thread reads ahead: who decodes what an opening
//! finds does not wait for the image meanwhile. So much is not asked for again soon, so it is
//! read past the image's cache. Imports nothing of the runtime.
//!
//! What must stay true: what is visited, and in which order, is what the view has, however far
//! ahead somebody reads, and also where nobody does.

use std::ops::Bound;
use std::sync::Arc;

use crate::engine::part::Part;
use crate::engine::passage::Passage;
use crate::engine::table::Slot;
use crate::engine::view::View;
use crate::error::Result;
use crate::ids::Lsn;
use crate::sync::ahead::Ahead;

/// From where to where.
pub(crate) type Range = (Bound<&'static [u8]>, Bound<&'static [u8]>);

/// All of a scope.
pub(crate) const ALL: Range = (Bound::Unbounded, Bound::Unbounded);

/// As [`View::for_each_of`]: visits the entries of a scope in a range, in order.
///
/// # Errors
/// As a scan, and those of the visitor.
pub(crate) fn for_each(
    view: &Arc<View>,
    slot: &Arc<Slot>,
    (from, to): Range,
    mut visitor: impl FnMut(&[u8], Lsn, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut part = view.part(slot, from, to)?;
    // What is small is not worth a thread.
    let reader = part.next.clone().and_then(|after| {
        let (view, slot) = (Arc::clone(view), Arc::clone(slot));
        read_on(view, slot, (after, to))
    });
    loop {
        while let Some(entry) = part.pop() {
            visitor(&entry.key(), entry.lsn, entry.cell)?;
        }
        let Some(after) = part.next.take() else {
            return Ok(());
        };
        let ahead = reader.as_ref().and_then(Ahead::take);
        part = match ahead {
            Some(ahead) => ahead?,
            // Nobody reads ahead.
            None => view.part(slot, Bound::Excluded(&after), to)?,
        };
    }
}

/// Reads what is behind a key. `None` where there is no thread for it.
fn read_on(
    view: Arc<View>,
    slot: Arc<Slot>,
    (mut after, to): (Vec<u8>, Bound<&'static [u8]>),
) -> Option<Ahead<Result<Part>>> {
    Ahead::start("evenkeel-ahead", move |giver| {
        let mut passage = Passage::default();
        loop {
            let range = (Bound::Excluded(&*after), to);
            let part = view.part_in_passing(&slot, range, &mut passage);
            let next = part.as_ref().ok().and_then(|part| part.next.clone());
            if !giver.give(part) {
                return;
            }
            match next {
                Some(next) => after = next,
                None => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::Error;
    use crate::scope::Scope;
    use crate::state::{Durability, Store};

    /// A store with so many keys, half of them in the image.
    fn filled(folder: &Path, count: u32) -> Store {
        let store = Store::builder().durability(Durability::Memory);
        let store = store.open(folder.join("store")).unwrap();
        let scope = store.scope(Scope::worker("w"));
        for half in 0..2 {
            for number in (half..count).step_by(2) {
                scope.set(format!("{number:08}"), number).unwrap();
            }
            if half == 0 {
                // The other half is in memory.
                store.checkpoint().unwrap();
            }
        }
        store
    }

    /// The keys that are visited of such a store, and what the cache has then.
    fn visited(count: u32, fails_at: Option<u32>) -> (Vec<Vec<u8>>, u64, Result<()>) {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path(), count);
        let engine = &store.shared().engine;
        let slot = engine.slot(&Scope::worker("w").encode());
        let mut keys = Vec::new();
        let outcome = for_each(&Arc::new(engine.view()), &slot, ALL, |key, _, _| {
            keys.push(key.to_vec());
            match fails_at == Some(keys.len() as u32) {
                true => Err(Error::Closed),
                false => Ok(()),
            }
        });
        (keys, store.stats().unwrap().cache_bytes, outcome)
    }

    #[test]
    fn all_is_visited_in_order_however_much_there_is() {
        for count in [0, 1, 511, 512, 513, 10_000] {
            let (keys, _, outcome) = visited(count, None);
            outcome.unwrap();
            let expected = (0..count).map(|number| format!("{number:08}").into_bytes());
            assert!(keys.into_iter().eq(expected), "{count}");
        }
    }

    #[test]
    fn what_is_read_ahead_takes_no_place_in_the_cache() {
        let (_, of_some, outcome) = visited(5_000, None);
        outcome.unwrap();
        let (_, of_many, outcome) = visited(20_000, None);
        outcome.unwrap();
        assert!(of_some > 0, "the first part is read as any");
        assert!(of_many <= of_some + 16 * 1024, "{of_some} and {of_many}");
    }

    #[test]
    fn in_passing_the_same_is_read_from_wherever_to_wherever() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path(), 10_000);
        let engine = &store.shared().engine;
        let slot = engine.slot(&Scope::worker("w").encode());
        let keys = |mut part: Part| {
            let mut keys = Vec::new();
            while let Some(entry) = part.pop() {
                keys.push((entry.key(), entry.cell.to_vec()));
            }
            (keys, part.next)
        };
        let mut passage = Passage::default();
        // The image changes on the way.
        for change in 0..3 {
            let view = engine.view();
            for from in [0, 0, 200, 600, 9_000, 8_900, 0, 3_000, 3_001, 9_999] {
                let from = format!("{from:08}").into_bytes();
                let range = (Bound::Included(&*from), Bound::Unbounded);
                let part = view.part_in_passing(&slot, range, &mut passage).unwrap();
                let expected = view.part(&slot, range.0, range.1).unwrap();
                assert!(keys(part) == keys(expected));
            }
            let scope = store.scope(Scope::worker("w"));
            scope.set(format!("{:08}", 3_500), change).unwrap();
            store.checkpoint().unwrap();
        }
    }

    #[test]
    fn who_fails_on_the_way_is_not_waited_for() {
        for fails_at in [1, 600, 5_000] {
            let (keys, _, outcome) = visited(10_000, Some(fails_at));
            assert!(matches!(outcome, Err(Error::Closed)));
            assert_eq!(keys.len() as u32, fails_at);
        }
    }
}
