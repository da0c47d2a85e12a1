//! Parts of scans against an ordered map: blocks of the image, and what memory has between
//! their entries.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::engine::listing::PART_ENTRIES;
use crate::engine::quota::Quota;
use crate::engine::table::{Garbage, Pins, Slot};
use crate::image::block::BlockBuilder;

const PREFIX: &[u8] = b"scope/";

type Key = Vec<u8>;
type Cell = Vec<u8>;

fn key() -> impl Strategy<Value = Key> {
    vec(0..3_u8, 0..5)
}

/// Short ones, and some that are not copied.
fn cell() -> impl Strategy<Value = Cell> {
    let len = prop_oneof![9 => 0..4_usize, 1 => Just(600)];
    (any::<u8>(), len).prop_map(|(byte, len)| vec![byte; len])
}

/// Blocks of so many entries, behind the start of a key that is another scope's.
fn image(entries: &BTreeMap<Key, Cell>, in_block: usize, foreign: bool) -> Part {
    let mut part = Part::default();
    let entries: Vec<_> = entries.iter().collect();
    for (number, entries) in entries.chunks(in_block).enumerate() {
        let mut builder = BlockBuilder::new();
        let first = foreign && number == 0;
        if first {
            builder.push(b"other", Lsn::new(1), b"").unwrap();
        }
        for (key, cell) in entries {
            let key = [PREFIX, key].concat();
            builder.push(&key, Lsn::new(1), cell).unwrap();
        }
        let block = Block::parse(builder.finish()).unwrap();
        let range = usize::from(first)..block.len();
        part.add(Arc::new(block), PREFIX.len(), range);
    }
    part
}

fn memory(entries: &BTreeMap<Key, Option<Cell>>) -> Listing {
    let slot = Slot::new(1, PREFIX, 0, Quota::new());
    let pins = Pins {
        views: None,
        bottom: false,
    };
    let mut state = slot.write();
    state.enter(1);
    for (key, cell) in entries {
        let cell = cell.as_ref().map(|cell| Arc::from(cell.as_slice()));
        state.put(
            &key.as_slice().into(),
            (Lsn::new(2), cell),
            pins,
            &mut Garbage::default(),
        );
    }
    let all = (Bound::Unbounded, Bound::Unbounded);
    let (listing, until) = Listing::of(&state, all.0, all.1, Lsn::new(2), PART_ENTRIES);
    assert_eq!(until, None);
    assert_eq!(listing.len(), entries.len());
    listing
}

proptest! {
    #[test]
    fn what_counts_is_what_a_map_says(
        below in btree_map(key(), cell(), 0..60),
        above in btree_map(key(), option::of(cell()), 0..30),
        in_block in 1..20_usize,
        foreign in any::<bool>(),
        until in option::of(key()),
        most in 1..9_usize,
    ) {
        let mut expected: BTreeMap<_, _> = below
            .iter()
            .map(|(key, cell)| (key.clone(), (Lsn::new(1), cell.clone())))
            .collect();
        for (key, cell) in &above {
            match cell {
                Some(cell) => drop(expected.insert(key.clone(), (Lsn::new(2), cell.clone()))),
                None => drop(expected.remove(key)),
            }
        }
        expected.retain(|key, _| until.as_ref().is_none_or(|until| key <= until));
        let made = || image(&below, in_block, foreign).with(memory(&above), PREFIX, until.as_deref());

        let mut part = made();
        let last = part.last_key();
        prop_assert_eq!(last.as_deref(), expected.keys().next_back().map(Vec::as_slice));
        let mut found = BTreeMap::new();
        loop {
            let front = part.front_key().map(<[u8]>::to_vec);
            let Some(entry) = part.pop() else {
                prop_assert_eq!(front, None);
                break;
            };
            prop_assert_eq!(Some(entry.key().to_vec()), front);
            prop_assert_eq!(&*entry.to_cell(), entry.cell);
            found.insert(entry.key().to_vec(), (entry.lsn, entry.cell.to_vec()));
        }
        prop_assert!(part.is_empty());
        prop_assert_eq!(&found, &expected);

        let mut part = made();
        let mut found = BTreeMap::new();
        while let Some(stretch) = part.pop_stretch(most) {
            prop_assert!((1..=most).contains(&stretch.len()));
            stretch.bring_near();
            for number in 0..stretch.len() {
                let entry = stretch.entry(number).unwrap();
                prop_assert_eq!(stretch.cell(number), Some(entry.cell));
                found.insert(entry.key().to_vec(), (entry.lsn, entry.cell.to_vec()));
            }
        }
        prop_assert_eq!(&found, &expected);
    }
}
