//! Owns the cell: a value as it is stored, with its fields.
//!
//! ```text
//! cell := flags u8
//!         deadline varint   if flags & 1: store time in microseconds since 1970
//!         class    u8       if flags & 2: sensitivity class
//!         key id   varint   if flags & 4: the key that the value is encrypted with
//!         extra    bytes    if flags & 8: extension fields, skipped
//!         value             the rest (codec)
//! ```
//! This version writes no fields; it skips those that it does not use and refuses
//! flags that it does not know.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::primitive::Reader;
use crate::codec::{self, CodecLimits, DecodeError, DecodeErrorKind};
use crate::error::{Corruption, Error, Result};
use crate::scope::Scope;

const DEADLINE: u8 = 1;
const CLASS: u8 = 2;
const KEY_ID: u8 = 4;
const EXTRA: u8 = 8;

/// The cell of a value.
///
/// # Errors
/// [`Error::Serialize`] and [`Error::LimitExceeded`], as the codec has them.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, limits: &CodecLimits) -> Result<Arc<[u8]>> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(0);
    codec::encode(value, limits, &mut bytes)?;
    Ok(Arc::from(bytes))
}

/// The value in a cell.
///
/// # Errors
/// [`Error::TypeMismatch`] where it is of another type, [`Error::Corrupt`] where
/// it is no cell.
pub(super) fn decode<T: DeserializeOwned>(
    cell: &[u8],
    limits: &CodecLimits,
    (scope, key): (&Scope, &str),
) -> Result<T> {
    let value = value_of(cell);
    let damaged = |what: String| -> Error {
        Corruption::new("", format!("the value of key {key:?} in {scope}: {what}")).into()
    };
    let value = value.ok_or_else(|| damaged("its fields make no sense".into()))?;
    codec::decode(value, limits).map_err(|DecodeError { kind, path, reason }| match kind {
        DecodeErrorKind::Type => Error::TypeMismatch {
            scope: scope.to_string(),
            key: key.to_owned(),
            path,
            reason,
        },
        DecodeErrorKind::Damaged => damaged(format!("{reason} at {path}")),
    })
}

fn value_of(cell: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(cell);
    let flags = reader.u8()?;
    if flags & !(DEADLINE | CLASS | KEY_ID | EXTRA) != 0 {
        return None;
    }
    if flags & DEADLINE != 0 {
        reader.varint()?;
    }
    if flags & CLASS != 0 {
        reader.u8()?;
    }
    if flags & KEY_ID != 0 {
        reader.varint()?;
    }
    if flags & EXTRA != 0 {
        reader.bytes()?;
    }
    cell.get(reader.position()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_skipped_and_unknown_flags_refused() {
        let value = encode(&7_u32, &CodecLimits::default()).unwrap();
        assert_eq!(value_of(&value), Some(&value[1..]));
        let mut fields = vec![DEADLINE | CLASS | KEY_ID | EXTRA, 5, 1, 9, 2, b'x', b'y'];
        fields.extend_from_slice(&value[1..]);
        assert_eq!(value_of(&fields), Some(&value[1..]));
        assert_eq!(value_of(&[16, 0]), None);
        assert_eq!(value_of(&[]), None);
    }
}
