//! Owns how every file of a folder of backups begins: magic at 0, CRC32 of all behind it
//! at 8, format at 12, in files whose head is read whole.
//!
//! The checksum is looked at before the format: a flipped bit in the format is damage,
//! and not a newer version.

use std::path::Path;

use crate::error::{Corruption, Error, Result};
use crate::image::cursor::{Cursor, Malformed};

/// The format of all files here that this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

const CRC_AT: usize = 8;
const CRC_END: usize = 12;

/// Begins a head; [`seal`] ends it.
pub(super) fn begin(magic: &[u8; 8], capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes
}

/// Puts in the checksum of all that is there.
pub(super) fn seal(bytes: &mut [u8]) {
    let crc = crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(CRC_AT..CRC_END) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Checks a head, which is all of `bytes`; the cursor stands behind the format.
///
/// # Errors
/// [`Error::NewerFormat`], and [`Error::Corrupt`] for anything that was never written.
pub(super) fn open<'a>(path: &Path, bytes: &'a [u8], magic: &[u8; 8]) -> Result<Cursor<'a>> {
    let mut cursor = Cursor::new(bytes);
    let damaged = malformed(path, 0);
    let mut fields = || Ok((cursor.array::<8>()?, cursor.u32()?, cursor.u32()?));
    let (found, crc, format) = fields().map_err(&damaged)?;
    let what = if found != *magic {
        "the magic number is wrong"
    } else if crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default()) != crc || format == 0 {
        "the checksum does not match"
    } else if format > FORMAT {
        return Err(Error::NewerFormat {
            path: path.to_path_buf(),
            found: format,
            supported: FORMAT,
        });
    } else {
        return Ok(cursor);
    };
    Err(damaged(Malformed { what, at: 0 }))
}

/// The error for what a decoder found in bytes that stand at `base` of a file.
pub(super) fn malformed(path: &Path, base: u64) -> impl Fn(Malformed) -> Error {
    move |found| damaged(path, base + found.at as u64, found.what)
}

/// The error for damage at a place of a file.
pub(super) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Error {
    Corruption::new(path, what).offset(offset).into()
}
