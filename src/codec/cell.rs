//! Owns the head of a cell: what stands before a value as it is stored.
//!
//! ```text
//! cell := flags u8
//!         deadline varint   if flags & 1: store time in microseconds since 1970
//!         class    u8       if flags & 2: sensitivity class
//!         key id   varint   if flags & 4: the key that the value is encrypted with
//!         extra    bytes    if flags & 8: extension fields, skipped
//!         value             the rest
//! ```
//! The deadline is written and read; the other fields are reserved, and a cell that
//! has one is refused: its bytes may be what nobody here can decrypt.
//!
//! The head is here and not with the values, because the engine, which knows no
//! values, has to see what has expired.

use crate::codec::primitive::{Reader, put_varint};

const DEADLINE: u8 = 1;

/// The deadline of what never expires.
pub(crate) const NEVER: u64 = u64::MAX;

/// Appends the head of a cell.
pub(crate) fn put_head(out: &mut Vec<u8>, deadline: Option<u64>) {
    match deadline {
        None => out.push(0),
        Some(deadline) => {
            out.push(DEADLINE);
            put_varint(out, deadline);
        }
    }
}

/// When the value expires; `None` where it does not, or where it is no cell.
#[inline]
pub(crate) fn deadline(cell: &[u8]) -> Option<u64> {
    match cell.first() {
        Some(flags) if flags & DEADLINE != 0 => Reader::at(cell, 1).varint(),
        _ => None,
    }
}

/// True where the value has a deadline that `now` has reached. The time is asked for
/// only where there is one.
#[inline]
pub(crate) fn has_expired(cell: &[u8], now: impl FnOnce() -> u64) -> bool {
    deadline(cell).is_some_and(|deadline| deadline <= now())
}

/// The bytes of the value; `None` where the head has fields that this version does
/// not know, or is cut off.
#[inline]
pub(crate) fn value(cell: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(cell);
    match reader.u8()? {
        0 => {}
        DEADLINE => {
            reader.varint()?;
        }
        _ => return None,
    }
    cell.get(reader.position()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_back() {
        for wanted in [None, Some(0), Some(250), Some(251), Some(NEVER)] {
            let mut cell = Vec::new();
            put_head(&mut cell, wanted);
            cell.extend_from_slice(b"value");
            assert_eq!(deadline(&cell), wanted);
            assert_eq!(value(&cell), Some(&b"value"[..]));
        }
    }

    #[test]
    fn a_head_that_is_cut_or_unknown_is_refused() {
        assert_eq!((deadline(&[]), value(&[])), (None, None));
        assert_eq!((deadline(&[1]), value(&[1])), (None, None));
        assert_eq!(
            (deadline(&[1, 0xFD, 0]), value(&[1, 0xFD, 0])),
            (None, None)
        );
        for flags in 2..=u8::MAX {
            assert_eq!(value(&[flags, 5, 1, 1, 1]), None, "flags {flags}");
        }
    }
}
