//! Catalogs there and back, and every way to damage one.

use std::fs;

use super::*;
use crate::vfs::RealVfs;

const STORE: StoreId = StoreId::from_bytes(*b"0123456789abcdef");

fn log(number: u64, from: u64, to: u64) -> LogFile {
    LogFile {
        number,
        from: Lsn::new(from),
        to: Lsn::new(to),
        commits: 3,
        last: Lsn::new(to - 1),
        time_micros: 5,
        length: 200,
        hash: 0xabc,
    }
}

fn sample() -> Catalog {
    Catalog {
        store: STORE,
        number: 7,
        previous: Some(5),
        lsn: Lsn::new(60),
        time_micros: 99,
        epoch: Epoch::new(4),
        last: Some(LastCommit {
            lsn: Lsn::new(58),
            hash: 17,
        }),
        schema: 2,
        base: Some(BaseFile {
            number: 3,
            lsn: Lsn::new(20),
            time_micros: 1,
            entries: 2,
            live_bytes: 3,
            length: 400,
            hash: 5,
            sections: 1,
        }),
        logs: vec![log(3, 20, 30), log(5, 30, 50), log(7, 50, 59)],
    }
}

fn full() -> Catalog {
    Catalog {
        number: 1,
        previous: None,
        last: None,
        base: None,
        logs: Vec::new(),
        ..sample()
    }
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(bytes: &[u8], number: u64) -> Result<Catalog> {
    let (_folder, path) = written(bytes);
    Catalog::read(&RealVfs, &path, STORE, number)
}

#[test]
fn catalogs_read_back() {
    for catalog in [sample(), full()] {
        let found = read(&catalog.encode(), catalog.number).unwrap();
        assert_eq!(found, catalog);
    }
    assert_eq!(sample().bytes(), (1_000, 200));
    assert_eq!(sample().end(), Lsn::new(59));
    assert_eq!(full().end(), Lsn::ZERO);
}

#[test]
fn the_largest_one_can_be_read() {
    let mut catalog = sample();
    let logs = (0..LOGS_MAX as u64).map(|n| log(3 + n, 20 + 2 * n, 22 + 2 * n));
    catalog.logs = logs.collect();
    (catalog.number, catalog.lsn) = (5_000, Lsn::new(1 << 20));
    let bytes = catalog.encode();
    assert_eq!(bytes.len(), BYTES_MAX);
    assert_eq!(read(&bytes, 5_000).unwrap(), catalog);
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let good = sample().encode();
    let check = |bytes: &[u8], what: &str| match read(bytes, 7) {
        Err(Error::Corrupt(found)) => assert!(found.offset.is_some(), "{what}"),
        other => panic!("{what}: {other:?}"),
    };
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, &format!("bit {bit}"));
    }
    for len in 0..good.len() {
        check(&good[..len], &format!("cut to {len}"));
    }
    check(&[&good[..], b"x"].concat(), "a byte more");
    check(&vec![0; BYTES_MAX + 1], "too long");
}

/// With right checksums: nothing is believed, and no count is reserved room for.
#[test]
fn what_makes_no_sense_is_refused() {
    type Spoil = fn(&mut Catalog);
    let spoiled: [Spoil; 9] = [
        |c| c.logs[1].from = Lsn::new(31),
        |c| c.logs[2].to = Lsn::new(61),
        |c| c.logs[1].number = 2,
        |c| c.logs[1].last = Lsn::new(51),
        |c| {
            c.logs.remove(1);
        },
        |c| c.previous = Some(7),
        |c| c.lsn = Lsn::new(1 << 62),
        |c| {
            c.last = Some(LastCommit {
                lsn: Lsn::new(61),
                hash: 0,
            })
        },
        |c| c.base = None,
    ];
    for (n, spoil) in spoiled.into_iter().enumerate() {
        let mut catalog = sample();
        spoil(&mut catalog);
        let found = read(&catalog.encode(), 7);
        assert!(matches!(found, Err(Error::Corrupt(_))), "{n}: {found:?}");
    }
    let mut bytes = sample().encode();
    bytes[100..108].copy_from_slice(&[0xff; 8]);
    head::seal(&mut bytes);
    assert!(matches!(read(&bytes, 7), Err(Error::Corrupt(_))));
    assert!(matches!(
        read(&sample().encode(), 8),
        Err(Error::Corrupt(_))
    ));
}

#[test]
fn another_store_and_a_newer_format_are_refused() {
    let (_folder, path) = written(&sample().encode());
    let other = Catalog::read(&RealVfs, &path, StoreId::from_bytes([1; 16]), 7);
    assert!(matches!(other, Err(Error::Corrupt(_))));
    let mut bytes = sample().encode();
    bytes[12] = 2;
    head::seal(&mut bytes);
    assert!(matches!(
        read(&bytes, 7),
        Err(Error::NewerFormat { found: 2, .. })
    ));
}
