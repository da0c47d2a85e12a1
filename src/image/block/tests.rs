//! Blocks against an ordered map, and against bytes that are no block.

use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::collection::{btree_map, vec};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;

type Map = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

fn build(map: &Map) -> BlockBuilder {
    let mut builder = BlockBuilder::new();
    for (key, (lsn, cell)) in map {
        let len = builder.len_bytes_with(key, cell.len());
        builder.push(key, Lsn::new(*lsn), cell).unwrap();
        assert_eq!(builder.len_bytes(), len);
    }
    builder
}

fn sample() -> Vec<u8> {
    let mut map = Map::new();
    for n in 0..5_u8 {
        map.insert(
            vec![b'k', b'/', n],
            (u64::from(n) + 7, vec![n; usize::from(n)]),
        );
    }
    build(&map).finish()
}

proptest! {
    #[test]
    fn a_block_is_the_map_it_was_built_from(
        map in btree_map(vec(0..4_u8, 0..6), (any::<u64>(), vec(any::<u8>(), 0..20)), 0..40),
        probes in vec(vec(0..4_u8, 0..6), 40),
        head in vec(any::<u8>(), 0..9),
    ) {
        let map: Map = map.into_iter().map(|(k, v)| ([head.clone(), k].concat(), v)).collect();
        let builder = build(&map);
        let live = map.iter().map(|(key, (_, cell))| key.len() + cell.len()).sum::<usize>();
        prop_assert_eq!(builder.live_bytes(), live as u64);
        prop_assert_eq!(builder.entry_count(), map.len());
        prop_assert_eq!(builder.is_empty(), map.is_empty());
        prop_assert_eq!(builder.first_key(), map.keys().next().map(Vec::as_slice));
        let len = builder.len_bytes();
        let bytes = builder.finish();
        prop_assert_eq!(bytes.len(), len);
        let block = Block::parse(bytes).unwrap();
        prop_assert_eq!(block.live_bytes(), live as u64);
        for skip in 0..=head.len() {
            let behind = |key: &Vec<u8>| key.get(skip..).unwrap_or_default().is_ascii();
            // What is said to be ASCII is.
            prop_assert!(!block.is_ascii_behind(skip) || map.keys().all(behind));
        }
        prop_assert!(block.is_ascii_behind(head.len()));
        let entries = (0..block.len()).map(|n| block.entry(n).unwrap());
        let back = entries.map(|e| (e.key(), (e.lsn.get(), e.cell.to_vec()))).collect::<Vec<_>>();
        prop_assert_eq!(&back, &map.clone().into_iter().collect::<Vec<_>>());
        prop_assert_eq!(block.entries_from(0).count(), map.len());
        prop_assert_eq!(block.entry(map.len()).is_none(), true);
        let probes = probes.into_iter().flat_map(|p| [[head.clone(), p.clone()].concat(), p]);
        let indexed = Block::parse(block.bytes().to_vec()).unwrap().indexed();
        prop_assert!(indexed.index_bytes() >= 4 * map.len() as u64 && block.index_bytes() == 0);
        for probe in probes.chain(map.keys().cloned()) {
            let found = block.find(&probe);
            prop_assert_eq!(indexed.find(&probe), found);
            for cut in 0..=probe.len() {
                let (start, rest) = probe.split_at(cut);
                prop_assert_eq!(block.find_joined(start, rest), found);
                prop_assert_eq!(indexed.find_joined(start, rest), found);
            }
            let found = found.map(|(lsn, cell)| (lsn.get(), block.cell(cell).to_vec()));
            prop_assert_eq!(found.as_ref(), map.get(&probe));
            let below = map.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&probe[..]))).count();
            prop_assert_eq!(block.lower_bound(&probe), below);
            for from in 0..=map.len() {
                for to in [from, from.midpoint(map.len()), map.len()] {
                    prop_assert_eq!(block.lower_bound_in(from..to, &probe), below.clamp(from, to));
                }
            }
            for entry in block.entries_from(0) {
                prop_assert_eq!(entry.cmp_key(&probe), entry.key().cmp(&probe));
            }
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let mut framed = MAGIC.to_le_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        walk(bytes);
        walk(framed);
    }
}

/// Parses bytes and, if they pass, touches all that can be touched.
fn walk(bytes: Vec<u8>) {
    if let Ok(block) = Block::parse(bytes.clone()) {
        let block = block.indexed();
        let mut key = Vec::new();
        for entry in block.entries_from(0) {
            entry.key_into(&mut key);
            let (lsn, cell) = block.find(&key).unwrap();
            assert_eq!((lsn, block.cell(cell)), (entry.lsn, entry.cell));
            assert_eq!(cell.range().len(), entry.cell.len());
        }
        assert_eq!(block.bytes(), bytes);
    }
}

#[test]
fn flips_do_no_harm_and_cuts_are_refused() {
    let block = sample();
    for bit in 0..block.len() * 8 {
        let mut flipped = block.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        walk(flipped);
    }
    for len in 0..block.len() {
        assert!(Block::parse(block[..len].to_vec()).is_err(), "cut to {len}");
    }
    assert!(Block::parse([&block[..], &[0]].concat()).is_err());
    assert!(Block::parse(block).is_ok());
}

#[test]
fn huge_counts_are_refused_before_anything_is_reserved() {
    for place in [4, 8] {
        let mut block = sample();
        block[place..place + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Block::parse(block).is_err());
    }
}

#[test]
fn a_builder_refuses_what_is_not_ascending() {
    let mut builder = BlockBuilder::new();
    builder.push(b"b", Lsn::new(1), b"1").unwrap();
    for key in [&b"b"[..], b"a", b""] {
        assert_eq!(builder.push(key, Lsn::new(2), b"2"), Err(PushError::Order));
    }
    builder.push(b"ba", Lsn::new(3), b"3").unwrap();
    let block = Block::parse(builder.finish()).unwrap();
    assert_eq!(block.len(), 2);
    assert_eq!(block.find(b"b").unwrap().0, Lsn::new(1));
}

#[test]
fn an_empty_block_is_a_block() {
    let block = Block::parse(BlockBuilder::new().finish()).unwrap();
    assert_eq!(block.len(), 0);
    assert_eq!((block.lower_bound(b"x"), block.find(b"")), (0, None));
}
