//! Snapshots there and back, and every way to damage one.

use std::fs;

use super::*;
use crate::image::block::BlockBuilder;
use crate::vfs::RealVfs;

fn header() -> SnapshotHeader {
    SnapshotHeader {
        store: StoreId::from_bytes(*b"0123456789abcdef"),
        origin: None,
        lsn: Lsn::new(77),
        time_micros: 1_700_000_000_000_000,
        schema: 0,
    }
}

type Entries = Vec<(Vec<u8>, u64, Vec<u8>)>;

/// Writes blocks of the entries with these numbers.
fn write(path: &Path, blocks: &[std::ops::Range<u32>]) -> (SnapshotInfo, Entries) {
    let mut writer = SnapshotWriter::create(&RealVfs, path, header()).unwrap();
    let mut entries = Entries::new();
    for block in blocks {
        let mut builder = BlockBuilder::new();
        for n in block.clone() {
            let (key, cell) = (n.to_be_bytes().to_vec(), vec![n as u8; n as usize % 50]);
            builder
                .push(&key, Lsn::new(u64::from(n) + 1), &cell)
                .unwrap();
            entries.push((key, u64::from(n) + 1, cell));
        }
        let first = builder.first_key().unwrap().to_vec();
        let (count, live) = (builder.entry_count() as u32, builder.live_bytes());
        writer
            .push_block(&builder.finish(), &first, count, live)
            .unwrap();
    }
    (writer.finish().unwrap(), entries)
}

fn read(path: &Path) -> Result<Entries> {
    let mut reader = SnapshotReader::open(&RealVfs, path, Some(header().store))?;
    let mut entries = Entries::new();
    while let Some(section) = reader.next_section()? {
        assert_eq!(section.first_key(), section.block.entry(0).unwrap().key());
        let block = section.block.entries_from(0);
        entries.extend(block.map(|e| (e.key(), e.lsn.get(), e.cell.to_vec())));
    }
    Ok(entries)
}

fn assert_corrupt(path: &Path, what: &str) {
    for result in [read(path).map(drop), verify(&RealVfs, path, None).map(drop)] {
        match result {
            Err(Error::Corrupt(found)) => {
                assert_eq!(found.path, path);
                assert!(found.offset.is_some(), "{what}: {found}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn what_was_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    for blocks in [&[][..], &[0..1, 1..2], &[0..10, 10..300, 400..401]] {
        let (info, entries) = write(&path, blocks);
        assert_eq!(read(&path).unwrap(), entries);
        assert_eq!(verify(&RealVfs, &path, Some(header().store)).unwrap(), info);
        assert_eq!(info.header, header());
        assert_eq!(info.sections as usize, blocks.len());
        assert_eq!(info.entries as usize, entries.len());
        let live = entries
            .iter()
            .map(|(key, _, cell)| key.len() + cell.len())
            .sum::<usize>();
        assert_eq!(info.live_bytes, live as u64);
        assert_eq!(fs::metadata(&path).unwrap().len(), info.file_len);
    }
}

#[test]
fn a_long_one_goes_through_a_short_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    let blocks: Vec<_> = (0..300).map(|n| n * 1_000..n * 1_000 + 300).collect();
    let (info, entries) = write(&path, &blocks);
    assert!(info.file_len > 3 * WRITE_BYTES as u64);
    assert!(read(&path).unwrap() == entries);
}

#[test]
fn every_flip_every_cut_and_every_addition_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    write(&path, &[0..1, 1..4, 9..10]);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).unwrap();
        assert_corrupt(&path, &format!("bit {bit}"));
    }
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_corrupt(&path, &format!("cut to {len}"));
    }
    for more in [
        &[0][..],
        &[0; 512],
        &whole,
        &whole[whole.len() - FOOTER_BYTES..],
    ] {
        fs::write(&path, [&whole[..], more].concat()).unwrap();
        assert_corrupt(&path, "appended");
    }
    for at in (0..whole.len()).step_by(8) {
        let mut zeroed = whole.clone();
        zeroed[at..(at + 8).min(whole.len())].fill(0);
        if zeroed != whole {
            fs::write(&path, zeroed).unwrap();
            assert_corrupt(&path, &format!("zeros at {at}"));
        }
    }
    fs::write(&path, &whole).unwrap();
    read(&path).unwrap();
}

#[test]
fn sections_that_are_lost_doubled_or_swapped_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    // Sections of the same length, so that they can change places.
    let (info, _) = write(&path, &[50..51, 100..101, 150..151]);
    let whole = fs::read(&path).unwrap();
    let len = (info.file_len as usize - HEADER_BYTES - FOOTER_BYTES) / 3;
    let (head, rest) = whole.split_at(HEADER_BYTES);
    let (sections, foot) = rest.split_at(3 * len);
    let s: Vec<_> = sections.chunks(len).collect();
    for order in [
        &[0, 2, 1][..],
        &[0, 0, 1],
        &[0, 1],
        &[1, 2],
        &[0, 1, 2, 2],
        &[],
    ] {
        let sections: Vec<_> = order.iter().map(|n| s[*n]).collect();
        fs::write(&path, [head, &sections.concat(), foot].concat()).unwrap();
        assert_corrupt(&path, &format!("{order:?}"));
    }
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    write(&path, &[0..3, 3..4]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[12..16].copy_from_slice(&5_u32.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_corrupt(&path, "format without its checksum");
    let crc = crc32fast::hash(&bytes[CRC_END..HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        read(&path),
        Err(Error::NewerFormat {
            found: 5,
            supported: FORMAT,
            ..
        })
    ));
}

#[test]
fn it_belongs_to_one_store_and_may_name_another_as_its_origin() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    let origin = Some(StoreId::from_bytes([7; 16]));
    let header = SnapshotHeader { origin, ..header() };
    SnapshotWriter::create(&RealVfs, &path, header)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(verify(&RealVfs, &path, None).unwrap().header, header);
    let other = SnapshotReader::open(&RealVfs, &path, origin);
    assert!(matches!(other, Err(Error::Corrupt(_))));
}

#[test]
fn the_schema_version_is_an_extension_that_stands_there_only_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    let mut lengths = Vec::new();
    for schema in [0, 1, u32::MAX] {
        let header = SnapshotHeader { schema, ..header() };
        let mut writer = SnapshotWriter::create(&RealVfs, &path, header).unwrap();
        writer.push_block(&a_block(), b"k", 1, 1).unwrap();
        writer.finish().unwrap();
        assert_eq!(verify(&RealVfs, &path, None).unwrap().header, header);
        lengths.push(fs::metadata(&path).unwrap().len());
    }
    assert_eq!(lengths, [lengths[0], lengths[0] + 4, lengths[0] + 4]);
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, flipped).unwrap();
        assert_corrupt(&path, &format!("bit {bit}"));
    }
}

fn a_block() -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    builder.push(b"k", Lsn::new(1), b"").unwrap();
    builder.finish()
}

#[test]
fn blocks_out_of_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot.tmp");
    let mut writer = SnapshotWriter::create(&RealVfs, &path, header()).unwrap();
    writer.push_block(b"one", b"k", 1, 1).unwrap();
    for (key, entries) in [(b"k", 1), (b"j", 1), (b"l", 0)] {
        let result = writer.push_block(b"two", key, entries, 1);
        assert!(matches!(result, Err(Error::Invalid { .. })));
    }
    // What overlaps behind its first key is noticed when it is read.
    let mut writer = SnapshotWriter::create(&RealVfs, &path, header()).unwrap();
    for keys in [[b"a", b"m"], [b"b", b"z"]] {
        let mut builder = BlockBuilder::new();
        keys.iter()
            .for_each(|key| builder.push(*key, Lsn::new(1), b"").unwrap());
        writer.push_block(&builder.finish(), keys[0], 2, 2).unwrap();
    }
    writer.finish().unwrap();
    assert_corrupt(&path, "overlapping blocks");
}
