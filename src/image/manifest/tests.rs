//! Manifests there and back, and what is refused.

use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, any, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::image::fences::Fences;
use crate::vfs::RealVfs;

fn block(key: &[u8], id: u64, pieces: u32) -> BlockMeta {
    BlockMeta {
        first_key: key.into(),
        id: BlockId::new(id),
        pieces,
        len: 100,
        hash: id.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        entries: 3,
        live_bytes: 90,
        deadline: u64::MAX - id,
    }
}

fn sample() -> Manifest {
    Manifest {
        store: StoreId::from_bytes(*b"0123456789abcdef"),
        folder: 3,
        lsn: Lsn::new(77),
        time_micros: 1_700_000_000_000_000,
        schema: 0,
        next_block: BlockId::new(20),
        doomed: vec![(BlockId::new(4), 2), (BlockId::new(1), 1)],
        blocks: vec![block(b"b", 9, 1), block(b"d", 2, 2), block(b"f", 17, 3)],
    }
}

fn path() -> &'static Path {
    Path::new("manifest")
}

/// Sets the CRC right again after a change.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&bytes[CRC_END..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn there_and_back(
        keys in btree_set(vec(any::<u8>(), 0..8), 0..30),
        doomed in 0..5_u64,
        numbers in (0..OUT_OF_REACH, 0..OUT_OF_REACH, any::<u64>(), any::<[u8; 16]>()),
        schema in prop_oneof![Just(0), any::<u32>()],
    ) {
        let mut next = 0;
        let mut take = |pieces: u32| { let id = next; next += u64::from(pieces); id };
        let doomed = (0..doomed).map(|_| (BlockId::new(take(2)), 2)).collect();
        let blocks = keys.iter().enumerate().map(|(n, key)| {
            let pieces = n as u32 % 3 + 1;
            block(key, take(pieces), pieces)
        });
        let blocks = blocks.collect::<Vec<_>>();
        let (folder, lsn, time_micros, store) = numbers;
        let manifest = Manifest {
            store: StoreId::from_bytes(store), folder, lsn: Lsn::new(lsn), time_micros, schema,
            next_block: BlockId::new(next), doomed, blocks,
        };
        let bytes = manifest.encode().unwrap();
        prop_assert_eq!(Manifest::decode(&bytes, path()).unwrap(), manifest);
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let body = [&MAGIC[..], &[0; 4], &FORMAT.to_le_bytes(), &bytes].concat();
        let mut framed = body.clone();
        if framed.len() >= 24 {
            let len = framed.len() as u64;
            framed[16..24].copy_from_slice(&len.to_le_bytes());
        }
        for bytes in [bytes, sealed(body), sealed(framed)] {
            let _ = Manifest::decode(&bytes, path());
        }
    }
}

#[test]
fn every_flip_and_every_cut_is_damage() {
    let bytes = sample().encode().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = Manifest::decode(&flipped, path());
        assert!(
            matches!(result, Err(Error::Corrupt(_))),
            "bit {bit}: {result:?}"
        );
    }
    for len in 0..bytes.len() {
        let result = Manifest::decode(&bytes[..len], path());
        assert!(
            matches!(result, Err(Error::Corrupt(_))),
            "cut to {len}: {result:?}"
        );
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat(), path()).is_err());
}

#[test]
fn fields_that_lie_do_no_harm_even_under_a_right_checksum() {
    let bytes = sample().encode().unwrap();
    for place in CRC_END..bytes.len() {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut changed = bytes.clone();
            changed[place] = value;
            let _ = Manifest::decode(&sealed(changed), path());
        }
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let mut bytes = sample().encode().unwrap();
    bytes[12..16].copy_from_slice(&9_u32.to_le_bytes());
    let result = Manifest::decode(&sealed(bytes), path());
    assert!(matches!(
        result,
        Err(Error::NewerFormat {
            found: 9,
            supported: FORMAT,
            ..
        })
    ));
}

#[test]
fn extensions_of_the_header_are_skipped() {
    let manifest = Manifest {
        schema: 7,
        ..sample()
    };
    let extended = extended(manifest.encode().unwrap(), HEADER_BYTES + 4, b"later");
    assert_eq!(Manifest::decode(&extended, path()).unwrap(), manifest);
}

/// With more bytes in the header, and a flag that nobody knows.
fn extended(mut bytes: Vec<u8>, header: usize, more: &[u8]) -> Vec<u8> {
    bytes.splice(header..header, more.iter().copied());
    let len = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&len.to_le_bytes());
    let header = (header + more.len()) as u32;
    bytes[24..28].copy_from_slice(&header.to_le_bytes());
    bytes[28] = 0x80;
    sealed(bytes)
}

#[test]
fn the_schema_version_is_an_extension_that_stands_there_only_where_there_is_one() {
    let none = sample().encode().unwrap();
    let manifest = Manifest {
        schema: 0x0102_0304,
        ..sample()
    };
    let bytes = manifest.encode().unwrap();
    assert_eq!(bytes.len(), none.len() + 4);
    assert_eq!(bytes[HEADER_BYTES..HEADER_BYTES + 4], [4, 3, 2, 1]);
    assert_eq!(none[HEADER_BYTES..], bytes[HEADER_BYTES + 4..]);
    assert_eq!(Manifest::decode(&bytes, path()).unwrap(), manifest);
    for cut in 1..4 {
        let cut = extended(none.clone(), HEADER_BYTES, &[1; 4][..cut]);
        let result = Manifest::decode(&cut, path());
        assert!(matches!(result, Err(Error::Corrupt(_))), "{result:?}");
    }
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let changes: [fn(&mut Manifest); 7] = [
        |m| m.blocks.swap(0, 1),
        |m| m.blocks[1].first_key = m.blocks[0].first_key.clone(),
        |m| m.blocks[1].id = m.blocks[0].id,
        |m| m.blocks[0].id = BlockId::new(18),
        |m| m.next_block = BlockId::new(19),
        |m| m.doomed[0] = (BlockId::new(9), 1),
        |m| m.blocks[2].pieces = 0,
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut manifest = sample();
        change(&mut manifest);
        assert!(
            matches!(manifest.encode(), Err(Error::Invalid { .. })),
            "change {n}"
        );
    }
}

#[test]
fn keys_find_their_block() {
    let manifest = sample();
    let fences = Fences::of(manifest.blocks.iter().map(|block| &*block.first_key));
    let found = [&b"a"[..], b"b", b"c", b"d", b"e", b"f", b"zz"].map(|key| fences.find_block(key));
    assert_eq!(
        found,
        [None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(2)]
    );
    assert_eq!(fences.range(b"", None), 0..3);
    assert_eq!(fences.range(b"a", Some(b"b")), 0..0);
    assert_eq!(fences.range(b"a", Some(b"b\0")), 0..1);
    assert_eq!(fences.range(b"c", Some(b"d")), 0..1);
    assert_eq!(fences.range(b"c", Some(b"e")), 0..2);
    assert_eq!(fences.range(b"g", None), 2..3);
    assert_eq!(fences.range(b"d", Some(b"c")).len(), 0);
    assert_eq!((manifest.entries(), manifest.live_bytes()), (9, 270));
}

#[test]
fn the_file_is_replaced_as_a_whole_and_belongs_to_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let (vfs, path) = (RealVfs, dir.path().join("manifest"));
    let mut manifest = sample();
    assert_eq!(Manifest::read(&vfs, &path, manifest.store).unwrap(), None);
    for lsn in 1..4 {
        manifest.lsn = Lsn::new(lsn);
        manifest.write(&vfs, &path).unwrap();
        assert_eq!(
            Manifest::read(&vfs, &path, manifest.store)
                .unwrap()
                .unwrap(),
            manifest
        );
    }
    let other = StoreId::from_bytes([1; 16]);
    assert!(matches!(
        Manifest::read(&vfs, &path, other),
        Err(Error::Corrupt(_))
    ));
}
