//! Archives there and back, and every way to damage one.

use std::fs;

use super::*;
use crate::vfs::RealVfs;

const STORE: StoreId = StoreId::from_bytes(*b"0123456789abcdef");

fn header() -> ArchiveHeader {
    ArchiveHeader {
        store: STORE,
        from: Lsn::new(10),
        to: Lsn::new(1 << 30),
    }
}

type Commits = Vec<(u64, u64, Vec<u8>)>;

/// Some commits; LSNs are left out as a crash leaves them out.
fn commits() -> Commits {
    let lsns = [11, 12, 13, (1 << 24) + 14, (1 << 24) + 15];
    let commit = |(n, lsn)| (lsn, 1_000 + n as u64, vec![n as u8; n * 7]);
    lsns.into_iter().enumerate().map(commit).collect()
}

fn write(path: &Path, commits: &Commits) -> ArchiveInfo {
    let mut writer = ArchiveWriter::create(&RealVfs, path, header()).unwrap();
    for (lsn, time, body) in commits {
        writer.push(Lsn::new(*lsn), *time, body).unwrap();
    }
    writer.finish().unwrap()
}

fn read(path: &Path) -> Result<Commits> {
    let mut reader = ArchiveReader::open(&RealVfs, path, STORE)?;
    let mut found = Commits::new();
    while let Some(record) = reader.next()? {
        found.push((record.lsn.get(), record.time_micros, record.body.to_vec()));
    }
    Ok(found)
}

fn assert_corrupt(path: &Path, what: &str) {
    match read(path) {
        Err(Error::Corrupt(found)) => {
            assert_eq!(found.path, path);
            assert!(found.offset.is_some(), "{what}: {found}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn an_archive_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let info = write(&path, &commits());
    assert_eq!(read(&path).unwrap(), commits());
    let reader = ArchiveReader::open(&RealVfs, &path, STORE).unwrap();
    assert_eq!(*reader.info(), info);
    assert_eq!(info.length, fs::metadata(&path).unwrap().len());
    assert_eq!((info.commits, info.last.get()), (5, (1 << 24) + 15));
    assert_eq!(info.time_micros, 1_004);
}

#[test]
fn one_without_commits_and_one_with_large_ones_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let info = write(&none, &Vec::new());
    assert_eq!((info.commits, info.last), (0, header().from));
    assert_eq!(read(&none).unwrap(), []);
    let large = folder.path().join("large");
    let body = |n: u64| vec![n as u8; 700_000 * n as usize];
    let commits = (1..=5).map(|n| (10 + n, n, body(n))).collect();
    write(&large, &commits);
    assert_eq!(read(&large).unwrap(), commits);
}

#[test]
fn what_is_out_of_order_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let mut writer = ArchiveWriter::create(&RealVfs, &path, header()).unwrap();
    writer.push(Lsn::new(11), 0, b"a").unwrap();
    for lsn in [0, 10, 11, (1 << 30) + 1] {
        let refused = writer.push(Lsn::new(lsn), 0, b"b");
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{lsn}");
    }
    writer.finish().unwrap();
    assert_eq!(read(&path).unwrap(), [(11, 0, b"a".to_vec())]);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write(&path, &commits());
    let good = fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        assert_corrupt(&path, &format!("bit {bit}"));
    }
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert_corrupt(&path, &format!("cut to {len}"));
    }
    fs::write(&path, [&good[..], b"x"].concat()).unwrap();
    assert_corrupt(&path, "a byte more");
    fs::write(&path, vec![0; good.len()]).unwrap();
    assert_corrupt(&path, "zeros");
}

/// Whoever forges checksums too is not fooled by a hole: each record names the one before.
#[test]
fn a_record_that_is_gone_doubled_or_moved_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let all = commits();
    let info = write(&path, &all);
    let good = fs::read(&path).unwrap();
    let (header, rest) = good.split_at(HEADER_BYTES);
    let mut records = Vec::new();
    let mut at = 0;
    for (.., body) in &all {
        let end = at + RECORD_BYTES + body.len();
        records.push(&rest[at..end]);
        at = end;
    }
    let forge = |records: &[&[u8]], count: u64| {
        let mut bytes = [&[header][..], records].concat().concat();
        let mut hash = Xxh3::new();
        hash.update(&bytes);
        let info = ArchiveInfo {
            commits: count,
            length: (bytes.len() + FOOTER_BYTES) as u64,
            hash: hash.digest(),
            ..info
        };
        encode_footer(&info, &mut bytes);
        fs::write(&path, bytes).unwrap();
    };
    forge(&records, 5);
    assert_eq!(read(&path).unwrap(), all);
    for gone in 0..5 {
        let mut left = records.clone();
        left.remove(gone);
        forge(&left, 4);
        assert_corrupt(&path, &format!("{gone} is gone"));
    }
    let mut twice = records.clone();
    twice.insert(2, records[2]);
    forge(&twice, 6);
    assert_corrupt(&path, "one is there twice");
    records.swap(1, 2);
    forge(&records, 5);
    assert_corrupt(&path, "two have changed places");
}

#[test]
fn another_store_and_a_newer_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    write(&path, &commits());
    let other = ArchiveReader::open(&RealVfs, &path, StoreId::from_bytes([9; 16]));
    assert!(matches!(other, Err(Error::Corrupt(_))));
    let mut bytes = fs::read(&path).unwrap();
    bytes[12] = 2;
    head::seal(&mut bytes[..HEADER_BYTES]);
    fs::write(&path, bytes).unwrap();
    let newer = ArchiveReader::open(&RealVfs, &path, STORE);
    assert!(matches!(newer, Err(Error::NewerFormat { found: 2, .. })));
}
