//! A folder of backups read by `docs/format.md` alone: every field stands where the
//! document says, with what it says.

use std::collections::BTreeMap;

use evenkeel::Scope;
use xxhash_rust::xxh3::xxh3_64;

use crate::parts::{DEST, PLACE, Rig};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A head of this magic: its checksum is that of `covered` bytes behind the field.
fn head(bytes: &[u8], magic: &[u8; 8], covered: usize, store: &[u8]) {
    assert_eq!(&bytes[..8], magic);
    assert_eq!(u32_at(bytes, 8), crc32fast::hash(&bytes[12..12 + covered]));
    assert_eq!((u32_at(bytes, 12), u32_at(bytes, 20)), (1, 0));
    assert_eq!(&bytes[24..40], store);
}

/// What an archive holds: LSN, time and body of each commit.
fn archive(bytes: &[u8], log: &[u8], store: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    head(bytes, b"EKARCHV\n", 52, store);
    assert_eq!(u32_at(bytes, 16), 64);
    let (from, to) = (u64_at(bytes, 40), u64_at(bytes, 48));
    assert_eq!(bytes[56..64], [0; 8]);
    let footer = bytes.len() - 48;
    let (mut at, mut previous, mut commits) = (64, from, Vec::new());
    while at < footer {
        let end = at + 32 + u32_at(bytes, at + 4) as usize;
        assert_eq!(u32_at(bytes, at), crc32fast::hash(&bytes[at + 4..end]));
        assert_eq!(u64_at(bytes, at + 8), previous);
        previous = u64_at(bytes, at + 16);
        commits.push((
            previous,
            u64_at(bytes, at + 24),
            bytes[at + 32..end].to_vec(),
        ));
        at = end;
    }
    assert_eq!(at, footer);
    let end = &bytes[footer..];
    assert_eq!(u32_at(end, 0), crc32fast::hash(&end[4..]));
    assert_eq!(&end[4..8], b"DONE");
    let (last, time, _) = commits.last().unwrap();
    let said = [
        commits.len() as u64,
        *last,
        *time,
        bytes.len() as u64,
        xxh3_64(&bytes[..footer]),
    ];
    for (n, said) in said.iter().enumerate() {
        assert_eq!(u64_at(end, 8 + 8 * n), *said, "field {n} of the footer");
    }
    // The catalog says the same.
    assert_eq!((u64_at(log, 8), u64_at(log, 16)), (from, to));
    for (n, said) in said.iter().enumerate() {
        assert_eq!(u64_at(log, 24 + 8 * n), *said, "field {n} in the catalog");
    }
    commits
}

#[test]
fn a_folder_of_backups_is_what_the_document_says() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(4).unwrap();
    rig.store().snapshot().unwrap();
    let snapshot = rig.files(&format!("{PLACE}/snapshots")).remove(0);
    let snapshot = rig.disk.read(snapshot).unwrap();
    rig.commits(2).unwrap();
    rig.backup().unwrap();
    rig.close().unwrap();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    let made = rig.backup().unwrap();
    let store = made.store.as_bytes();

    let names: Vec<String> = rig
        .files(DEST)
        .iter()
        .map(|path| path.strip_prefix(DEST).unwrap().display().to_string())
        .collect();
    let expected = [
        "BACKUP",
        "LOCK",
        "backups/00000001.backup",
        "backups/00000002.backup",
        "log/00000001.log",
        "log/00000002.log",
        "snapshots/00000001.snap",
    ];
    assert_eq!(names, expected);
    let read = |name: &str| rig.disk.read(format!("{DEST}/{name}")).unwrap();

    let backup = read("BACKUP");
    head(&backup, b"EKBACKUP", 52, store);
    assert_eq!((backup.len(), u32_at(&backup, 16)), (64, 64));
    assert_eq!(u64_at(&backup, 40), 1_006_000);
    assert_eq!(backup[48..], [0; 16]);
    assert_eq!(read("LOCK"), [0; 0]);
    assert_eq!(read("snapshots/00000001.snap"), snapshot);

    let catalog = read("backups/00000002.backup");
    head(&catalog, b"EKBCATL\n", catalog.len() - 12, store);
    assert_eq!(u32_at(&catalog, 16) as usize, catalog.len());
    assert_eq!(catalog.len(), 112 + 3 * 64);
    let fields: Vec<u64> = (40..96).step_by(8).map(|at| u64_at(&catalog, at)).collect();
    let epoch = rig.store().recovery().epoch.get();
    assert_eq!(fields[..5], [2, 1, made.lsn.get(), 1_009_000, epoch]);
    let counts: Vec<u32> = (96..112)
        .step_by(4)
        .map(|at| u32_at(&catalog, at))
        .collect();
    assert_eq!(counts, [0, 1, 2, 0]);

    // The base is what stands in the snapshot's header and footer.
    let base = &catalog[112..176];
    let footer = &snapshot[snapshot.len() - 48..];
    assert_eq!(u64_at(base, 0), 1);
    assert_eq!(
        (u64_at(base, 8), u64_at(base, 16)),
        (u64_at(&snapshot, 56), u64_at(&snapshot, 64))
    );
    let of_footer: Vec<u64> = (16..48).step_by(8).map(|at| u64_at(footer, at)).collect();
    let of_base: Vec<u64> = (24..56).step_by(8).map(|at| u64_at(base, at)).collect();
    assert_eq!(of_base, of_footer);
    assert_eq!(
        (u32_at(base, 56), u32_at(base, 60)),
        (u32_at(footer, 12), 0)
    );

    let logs = [&catalog[176..240], &catalog[240..304]];
    let mut commits = Vec::new();
    for (n, log) in logs.into_iter().enumerate() {
        assert_eq!(u64_at(log, 0), n as u64 + 1);
        commits.extend(archive(
            &read(&format!("log/0000000{}.log", n + 1)),
            log,
            store,
        ));
    }
    assert_eq!(u64_at(logs[0], 8), u64_at(base, 8));
    assert_eq!(u64_at(logs[1], 8), u64_at(logs[0], 16));
    assert!(u64_at(logs[1], 16) <= made.lsn.get());

    // They are the commits of the store behind the snapshot, opening and close left out.
    let counter = rig
        .store()
        .scope(Scope::job("j"))
        .get_versioned::<u64>("counter");
    let newest = counter.unwrap().unwrap().version.get();
    let lsns: Vec<u64> = commits.iter().map(|(lsn, ..)| *lsn).collect();
    assert_eq!(lsns.len(), 5);
    assert_eq!(*lsns.last().unwrap(), newest);
    let (lsn, time, body) = commits.last().unwrap();
    let all = [&lsn.to_le_bytes()[..], &time.to_le_bytes(), body].concat();
    assert_eq!(fields[5..], [*lsn, xxh3_64(&all)]);
    let times: BTreeMap<u64, u64> = commits.iter().map(|(lsn, time, _)| (*lsn, *time)).collect();
    assert!(times.values().is_sorted());
}
