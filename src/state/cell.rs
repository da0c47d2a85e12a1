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
//! The fields are reserved: this version writes flags 0 and refuses any other, since
//! it would return what has expired, or bytes that it cannot decrypt.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecLimits, DecodeError, DecodeErrorKind};
use crate::error::{Corruption, Error, Result};
use crate::scope::Scope;

const FLAGS: u8 = 0;

/// The cell of a value.
///
/// # Errors
/// [`Error::Serialize`] and [`Error::LimitExceeded`], as the codec has them.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, limits: &CodecLimits) -> Result<Arc<[u8]>> {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(FLAGS);
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
    let damaged = |what: String| -> Error {
        Corruption::new("a value", format!("key {key:?} in {scope}: {what}")).into()
    };
    let Some((&FLAGS, value)) = cell.split_first() else {
        return Err(damaged(
            "it has fields that this version does not know".into(),
        ));
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_reads_back_and_unknown_fields_are_refused() {
        let (limits, scope) = (CodecLimits::default(), Scope::Global);
        let cell = encode(&7_u32, &limits).unwrap();
        let read = |cell: &[u8]| decode::<u32>(cell, &limits, (&scope, "k"));
        assert_eq!(read(&cell).unwrap(), 7);
        for flags in 1..=u8::MAX {
            let mut other = cell.to_vec();
            other[0] = flags;
            assert!(
                matches!(read(&other), Err(Error::Corrupt(_))),
                "flags {flags}"
            );
        }
        assert!(matches!(read(&[]), Err(Error::Corrupt(_))));
    }
}
