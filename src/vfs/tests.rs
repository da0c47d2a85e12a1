//! Owns the tests of writing beside others.

use super::*;
use crate::sync::Mutex;

/// Counts what it is given.
#[derive(Debug, Default)]
struct Counting {
    bytes: Mutex<Vec<u8>>,
    /// How much each write has.
    writes: Mutex<Vec<usize>>,
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
        self.writes.lock().push(bytes.len());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
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
fn what_nobody_waits_for_goes_in_pieces_that_the_disk_is_told_of() {
    let file = Counting::default();
    let bytes: Vec<u8> = (0..9 * 1024 * 1024).map(|at| (at / 7) as u8).collect();
    let mut at = 0;
    for part in bytes.chunks(1024 * 1024 + 17) {
        write_gently(&file, part, at).unwrap();
        at += part.len() as u64;
    }
    assert!(*file.bytes.lock() == bytes);
    assert!(file.writes.lock().iter().all(|len| *len <= PIECE_BYTES));
    // What is less than a piece is left for the sync, in each part.
    let slack = PIECE_BYTES as u64 + 9 * 17;
    assert!(*file.hints.lock() + slack >= bytes.len() as u64);
}

#[test]
fn a_little_is_one_write() {
    let file = Counting::default();
    write_gently(&file, &[7; 1000], 0).unwrap();
    assert_eq!(*file.writes.lock(), [1000]);
    assert_eq!(*file.hints.lock(), 0);
}
