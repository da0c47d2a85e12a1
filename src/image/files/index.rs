//! Owns the index of an image of files: which piece is where, and its bytes on disk.

use std::collections::BTreeMap;

use crate::ids::BlockId;
use crate::image::PIECE_BYTES_MAX;
use crate::image::cursor::{Cursor, Malformed};

/// The format that is written, and the only one there is.
const FORMAT: u32 = 1;

/// That of forty million pieces; a longer file is refused before it is read.
pub(super) const INDEX_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"EKFILES\n";
/// What stands before the bytes that the CRC covers: the magic and the CRC.
const CRC_END: usize = 12;
const HEADER_BYTES: usize = 24;
const ENTRY_BYTES: usize = 24;

/// Where a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of its data file.
    pub(super) file: u32,
    /// Its length in bytes.
    pub(super) len: u32,
    /// Where in the file it begins.
    pub(super) offset: u64,
}

/// The bytes of an index of so many pieces.
pub(super) const fn len(pieces: usize) -> u64 {
    (HEADER_BYTES + ENTRY_BYTES * pieces) as u64
}

/// The file's bytes.
///
/// ```text
/// index = magic:"EKFILES\n"
///         crc:u32               CRC-32 of all that follows it
///         format:u32
///         count:u64
///         entry * count         in ascending order of numbers
/// entry = id:u64 file:u32 len:u32 offset:u64
/// ```
///
/// Integers are little-endian.
pub(super) fn encode(places: &BTreeMap<BlockId, Place>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + ENTRY_BYTES * places.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(places.len() as u64).to_le_bytes());
    for (id, place) in places {
        bytes.extend_from_slice(&id.get().to_le_bytes());
        bytes.extend_from_slice(&place.file.to_le_bytes());
        bytes.extend_from_slice(&place.len.to_le_bytes());
        bytes.extend_from_slice(&place.offset.to_le_bytes());
    }
    let crc = crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default());
    if let Some(room) = bytes.get_mut(MAGIC.len()..CRC_END) {
        room.copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// The places that a file's bytes name.
///
/// # Errors
///
/// What is wrong with bytes that are anything else than one index.
pub(super) fn decode(bytes: &[u8]) -> Result<BTreeMap<BlockId, Place>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    if cursor.array()? != MAGIC {
        return Err(Malformed {
            what: "the index does not begin as one",
            at: 0,
        });
    }
    if cursor.u32()? != crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default()) {
        return Err(cursor.malformed("the checksum of the index is wrong"));
    }
    if cursor.u32()? != FORMAT {
        return Err(cursor.malformed("the index has a format that this version does not know"));
    }
    let count = usize::try_from(cursor.u64()?);
    let count = count.map_err(|_| cursor.malformed("a count is out of range"))?;
    cursor.check_count(count, ENTRY_BYTES)?;
    let mut places = BTreeMap::new();
    for _ in 0..count {
        let id = BlockId::new(cursor.u64()?);
        let place = Place {
            file: cursor.u32()?,
            len: cursor.u32()?,
            offset: cursor.u64()?,
        };
        if places.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(cursor.malformed("the pieces are not in ascending order"));
        }
        let end = place.offset.checked_add(u64::from(place.len));
        if place.len as usize > PIECE_BYTES_MAX || end.is_none() {
            return Err(cursor.malformed("a piece is longer than any"));
        }
        places.insert(id, place);
    }
    match cursor.remaining() {
        0 => Ok(places),
        _ => Err(cursor.malformed("bytes follow the last piece")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> BTreeMap<BlockId, Place> {
        let place = |n: u64| Place {
            file: n as u32,
            len: 7 * n as u32,
            offset: n << 33,
        };
        let numbers = [0, 1, 900, u64::MAX];
        numbers.map(|n| (BlockId::new(n), place(n % 1_000))).into()
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let bytes = encode(&places());
        assert_eq!(bytes.len() as u64, len(4));
        assert_eq!(decode(&bytes), Ok(places()));
        assert_eq!(decode(&encode(&BTreeMap::new())), Ok(BTreeMap::new()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32fast::hash(&bytes[CRC_END..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn forged_ones_with_a_right_checksum_are_refused() {
        let bytes = encode(&places());
        let forged = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            decode(&sealed(bytes)).unwrap_err().what
        };
        assert!(forged(12, &[2]).contains("format"));
        assert!(forged(16, &[0xff; 8]).contains("count"));
        assert!(forged(16, &[3]).contains("follow"));
        assert!(forged(24, &[1]).contains("order"));
        assert!(forged(24 + 12, &[0xff; 4]).contains("longer"));
        assert!(forged(24 * 3 + 16, &[0xff; 8]).contains("longer"));
    }
}
