//! Owns the tests of writing beside others.

use super::*;
use crate::sync::Mutex;

/// Counts what it is given.
#[derive(Debug, Default)]
struct Counting {
    bytes: Mutex<Vec<u8>>,
    /// Of each write: how much, and how much of it and before it was not synced.
    writes: Mutex<Vec<(usize, usize)>>,
    hints: Mutex<u64>,
}

impl VfsFile for Counting {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut all = self.bytes.lock();
        assert_eq!(all.len() as u64, offset);
        all.extend_from_slice(bytes);
        let mut writes = self.writes.lock();
        let before = writes.last().map_or(0, |(_, unsynced)| *unsynced);
        writes.push((bytes.len(), before + bytes.len()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.writes.lock().push((0, 0));
        Ok(())
    }

    fn write_out(&self, _: u64, len: u64) {
        *self.hints.lock() += len;
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }
}

#[test]
fn what_nobody_waits_for_goes_in_pieces_and_never_far_ahead_of_the_disk() {
    let file = Counting::default();
    let bytes: Vec<u8> = (0..9 * 1024 * 1024).map(|at| (at / 7) as u8).collect();
    let mut ahead = 0;
    let mut at = 0;
    for part in bytes.chunks(1024 * 1024 + 17) {
        write_gently(&file, part, at, &mut ahead).unwrap();
        at += part.len() as u64;
    }
    assert!(*file.bytes.lock() == bytes);
    let writes = file.writes.lock();
    // What is less than a piece is left for the sync, in each part.
    let slack = PIECE_BYTES as u64 + 9 * 17;
    assert!(writes.iter().all(|(len, _)| *len <= PIECE_BYTES));
    let unsynced = writes.iter().map(|(_, unsynced)| *unsynced).max().unwrap();
    assert!(unsynced as u64 <= AHEAD_BYTES + slack, "{unsynced}");
    assert!(*file.hints.lock() + slack >= bytes.len() as u64);
}

#[test]
fn a_little_is_one_write() {
    let file = Counting::default();
    write_gently(&file, &[7; 1000], 0, &mut 0).unwrap();
    assert_eq!(*file.writes.lock(), [(1000, 1000)]);
}
