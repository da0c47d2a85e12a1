//! sled as an image: whole, locked, damaged. sled's panics print to stderr here.

use std::collections::BTreeMap;
use std::fs::{self, File};

use super::*;
use crate::image::{PIECE_BYTES_MAX, suite};

const DEADLINE: Duration = Duration::from_secs(5);

fn backend(deadline: Duration) -> SledBackend {
    SledBackend::new(SledOptions {
        deadline,
        ..SledOptions::default()
    })
}

/// Numbers from xorshift, so that a failure comes again.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn piece(n: u64, len: usize) -> Piece {
    let mut numbers = Numbers(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    (
        BlockId::new(n),
        (0..len).map(|_| numbers.below(256) as u8).collect(),
    )
}

#[test]
fn it_is_an_image() {
    let dir = tempfile::tempdir().unwrap();
    suite::suite(&backend(DEADLINE), dir.path());
}

#[test]
fn what_the_disk_has_no_room_for_is_refused_before_sled_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let written = vec![piece(1, 10_000)];
    let image = backend(DEADLINE).open(dir.path()).unwrap();
    image.put(written.clone()).unwrap();
    image.close().unwrap();
    let full = SledBackend::new(SledOptions {
        spare_bytes: u64::MAX / 2,
        ..SledOptions::default()
    });
    let image = full.open(dir.path()).unwrap();
    let id = BlockId::new(1);
    for _ in 0..3 {
        let refused = [
            image.put(vec![piece(2, 10_000)]),
            image.delete(&[id]),
            image.delete_from(id),
        ];
        for refused in refused {
            assert_eq!(refused.unwrap_err().kind, ImageErrorKind::Full);
        }
        let found = image.get(&[id, BlockId::new(2)]).unwrap();
        assert_eq!(found, [Some(written[0].1.clone()), None]);
    }
    // There is nothing to write.
    image.delete_from(BlockId::new(2)).unwrap();
    image.sync().unwrap();
    image.close().unwrap();
}

#[test]
fn sled_takes_no_more_of_the_disk_than_it_is_reckoned_to() {
    let dir = tempfile::tempdir().unwrap();
    let image = backend(DEADLINE).open(dir.path()).unwrap();
    for (len, count) in [(PIECE_BYTES_MAX, 40), (10_000, 80), (500, 400)] {
        let mut given = 0;
        let before = image.bytes_on_disk().unwrap();
        for round in 0..20 {
            let first = 1 + round * count;
            let pieces: Vec<_> = (first..first + count).map(|n| piece(n, len)).collect();
            image.put(pieces).unwrap();
            given += count * len as u64;
            image.sync().unwrap();
            let taken = image.bytes_on_disk().unwrap().saturating_sub(before);
            let reckoned = GROWTH * given + SledOptions::default().spare_bytes;
            assert!(taken <= reckoned, "{given} bytes of {len} took {taken}");
        }
        image.delete_from(BlockId::new(1)).unwrap();
        // What deleting takes is not the next pieces'.
        image.sync().unwrap();
    }
    image.close().unwrap();
}

#[test]
fn each_piece_is_written_once() {
    const PIECES: u64 = 1_280;
    let dir = tempfile::tempdir().unwrap();
    let image = backend(DEADLINE).open(dir.path()).unwrap();
    let before = image.bytes_on_disk().unwrap();
    for first in (0..PIECES).step_by(128) {
        let pieces = (first..first + 128).map(|n| piece(n, 8 * 1024));
        image.put(pieces.collect()).unwrap();
    }
    image.sync().unwrap();
    let taken = image.bytes_on_disk().unwrap() - before;
    let given = PIECES * 8 * 1024;
    // Leaves that are cut with pieces in them make it 1.9 times as much.
    assert!(taken < given * 3 / 2, "{given} bytes took {taken}");
    // Nothing of them is left: neither the pieces nor their places.
    let ids: Vec<_> = (0..PIECES).map(BlockId::new).collect();
    image.delete(&ids).unwrap();
    image.sync().unwrap();
    image.close().unwrap();
    let db = open_when_unlocked(&config(dir.path(), 0), DEADLINE).unwrap();
    assert!(db.is_empty());
}

#[test]
fn pieces_on_their_way_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let image = backend(DEADLINE).open(dir.path()).unwrap();
    for n in 0..50 {
        image.put(vec![piece(n, 5_000)]).unwrap();
        let found = image.get(&[BlockId::new(n / 2), BlockId::new(n)]).unwrap();
        assert_eq!(
            found,
            [Some(piece(n / 2, 5_000).1), Some(piece(n, 5_000).1)]
        );
    }
    image.close().unwrap();
}

#[test]
fn reopening_at_once_works_every_time() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..20 {
        let image = backend(DEADLINE).open(dir.path()).unwrap();
        image.put(vec![piece(n, 1_000)]).unwrap();
        image.close().unwrap();
        let db = File::open(dir.path().join("db")).unwrap();
        db.try_lock().expect("a closed image has no lock");
    }
}

#[test]
fn full_pieces_leave_no_files_that_sled_does_not_sync() {
    let dir = tempfile::tempdir().unwrap();
    let image = backend(DEADLINE).open(dir.path()).unwrap();
    let mut numbers = Numbers(7);
    for round in 0..20 {
        let pieces = (round * 40..round * 40 + 40).map(|n| piece(n, PIECE_BYTES_MAX));
        image.put(pieces.collect()).unwrap();
        image.sync().unwrap();
        let doomed = (0..30).map(|_| BlockId::new(numbers.below(round * 40 + 40)));
        image.delete(&doomed.collect::<Vec<_>>()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("blobs")).unwrap().count(), 0);
    }
    image.close().unwrap();
}

#[test]
fn a_lock_that_stays_ends_at_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let first = backend(DEADLINE).open(dir.path()).unwrap();
    let start = clock::monotonic();
    let error = backend(Duration::from_millis(300))
        .open(dir.path())
        .unwrap_err();
    assert_eq!(error.kind, ImageErrorKind::TimedOut);
    assert!(start.elapsed() < DEADLINE, "{error}");
    first.close().unwrap();
    backend(DEADLINE).open(dir.path()).unwrap();
}

#[test]
fn the_first_failure_ends_the_image() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> SledImage {
        let config = config(dir.path(), 0);
        let make = move || open_when_unlocked(&config, DEADLINE);
        let writer = start("test", dir.path(), DEADLINE, make).unwrap();
        let db = writer.call(DEADLINE, Clone::clone).unwrap();
        let reader = start("test", dir.path(), DEADLINE, move || Ok(db)).unwrap();
        let folder = dir.path().to_path_buf();
        SledImage {
            spare_bytes: 0,
            writing: Mutex::new(None),
            folder,
            deadline: DEADLINE,
            writer,
            reader,
            ended: Mutex::new(None),
        }
    };
    let image = open();
    let panicked = image.ask(&image.writer, "put", |_| -> sled::Result<()> {
        panic!("boom")
    });
    let error = panicked.unwrap_err();
    assert_eq!(error.kind, ImageErrorKind::Damaged);
    assert!(error.reason.contains("boom"), "{error}");
    let error = image.get(&[]).unwrap_err();
    assert_eq!((error.op, error.kind), ("get", ImageErrorKind::Damaged));
    assert!(
        error.reason.contains("given up: sled panicked: boom"),
        "{error}"
    );
    image.close().unwrap();

    let mut image = open();
    image.deadline = Duration::from_millis(50);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let hung = image.ask(&image.reader, "get", move |_| {
        let _ = held.recv();
        Ok(())
    });
    assert_eq!(hung.unwrap_err().kind, ImageErrorKind::TimedOut);
    assert_eq!(image.sync().unwrap_err().kind, ImageErrorKind::TimedOut);
    image.close().unwrap();
    // The thread that hangs has the lock; once it comes back, it lets go.
    assert!(
        backend(Duration::from_millis(100))
            .open(dir.path())
            .is_err()
    );
    drop(release);
    backend(DEADLINE).open(dir.path()).unwrap();
}

#[test]
fn damage_to_any_file_neither_hangs_nor_panics() {
    let root = tempfile::tempdir().unwrap();
    let killed = root.path().join("killed");
    let closed = root.path().join("closed");
    fs::create_dir(&closed).unwrap();
    for round in 0..2 {
        // The second opening writes a snapshot of sled's own.
        let image = backend(DEADLINE).open(&closed).unwrap();
        image
            .put(
                (round * 150..round * 150 + 150)
                    .map(|n| piece(n, 2_000))
                    .collect(),
            )
            .unwrap();
        image.sync().unwrap();
        if round == 0 {
            copy(&closed, &killed);
        }
        image.close().unwrap();
    }
    let mut numbers = Numbers(0x5EED);
    let mut seen = BTreeMap::<&str, u32>::new();
    for case in 0..80 {
        let folder = root.path().join(format!("case-{case}"));
        let (source, count) = if case % 2 == 0 {
            (&closed, 300)
        } else {
            (&killed, 150)
        };
        copy(source, &folder);
        damage(&folder, &mut numbers);
        let start = clock::monotonic();
        *seen.entry(try_all(&folder, count)).or_default() += 1;
        assert!(
            start.elapsed() < 3 * DEADLINE,
            "case {case} took {:?}",
            start.elapsed()
        );
        fs::remove_dir_all(&folder).unwrap();
    }
    // It would be no test if sled noticed everything, or nothing.
    assert!(seen.len() >= 3, "{seen:?}");
}

/// Flips, zeroes, cuts or removes something of one file; more often of `db`.
fn damage(folder: &Path, numbers: &mut Numbers) {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.is_file()).collect();
    files.sort();
    let chosen = match numbers.below(3) {
        0 => files.remove(numbers.below(files.len() as u64) as usize),
        _ => folder.join("db"),
    };
    let mut bytes = fs::read(&chosen).unwrap();
    let at = numbers.below(bytes.len() as u64) as usize;
    match numbers.below(5) {
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => (0..20).for_each(|_| {
            let at = numbers.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << numbers.below(8);
        }),
        2 => {
            let end = (at + 4096).min(bytes.len());
            bytes[at / 512 * 512..end].fill(0);
        }
        3 => bytes.truncate(at),
        _ => return fs::remove_file(&chosen).unwrap(),
    }
    fs::write(&chosen, bytes).unwrap();
}

/// Opens, reads, writes, syncs and closes, as far as it goes; says how it ended.
fn try_all(folder: &Path, count: u64) -> &'static str {
    let Ok(image) = backend(DEADLINE).open(folder) else {
        return "refused when opened";
    };
    let ids: Vec<_> = (0..count).map(BlockId::new).collect();
    let found = image.get(&ids);
    let _ = image.put((1_000..1_050).map(|n| piece(n, 2_000)).collect());
    let _ = image.delete_from(BlockId::new(100));
    let _ = image.sync();
    let _ = image.close();
    let Ok(found) = found else {
        return "noticed by sled when read";
    };
    let right = |(n, found): (u64, Option<Vec<u8>>)| found == Some(piece(n, 2_000).1);
    match (0..).zip(found).all(right) {
        true => "harmless",
        false => "not noticed by sled",
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry
            .map(|entry| (entry.path(), entry.file_name()))
            .unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
