//! Owns the cell: a value as it is stored, behind its head (`codec::cell`), which
//! says when it expires.

use std::fmt::Display;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::cell::{put_head, value};
use crate::codec::scratch::Scratch;
use crate::codec::{self, CodecLimits, DecodeError, DecodeErrorKind};
use crate::error::{Corruption, Error, Result};
use crate::scope::Scope;

/// The cell of a value, which expires at this deadline.
///
/// # Errors
/// [`Error::Serialize`] and [`Error::LimitExceeded`], as the codec has them.
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    deadline: Option<u64>,
    limits: &CodecLimits,
) -> Result<Arc<[u8]>> {
    let mut bytes = Scratch::take();
    put_head(&mut bytes, deadline);
    codec::encode(value, limits, &mut bytes)?;
    Ok(Arc::from(bytes.as_slice()))
}

/// The same value with another deadline.
///
/// # Errors
/// [`Error::Corrupt`] where it is no cell.
pub(crate) fn with_deadline(
    cell: &[u8],
    deadline: Option<u64>,
    (scope, key): (&Scope, &str),
) -> Result<Arc<[u8]>> {
    let value = value(cell).ok_or_else(|| unknown(scope, key))?;
    let mut bytes = Vec::with_capacity(value.len() + 10);
    put_head(&mut bytes, deadline);
    bytes.extend_from_slice(value);
    Ok(Arc::from(bytes))
}

fn damaged(scope: &dyn Display, key: &str, what: &str) -> Error {
    Corruption::new("a value", format!("key {key:?} in {scope}: {what}")).into()
}

fn unknown(scope: &dyn Display, key: &str) -> Error {
    damaged(scope, key, "it has fields that this version does not know")
}

/// The value in a cell.
///
/// # Errors
/// [`Error::TypeMismatch`] where it is of another type, [`Error::Corrupt`] where
/// it is no cell.
#[inline]
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    cell: &'de [u8],
    limits: &CodecLimits,
    (scope, key): (&dyn Display, &str),
) -> Result<T> {
    read(cell, limits).map_err(|unread| unread.of(scope, key))
}

/// The same, for who only then looks for what the key is.
#[inline]
pub(crate) fn read<'de, T: Deserialize<'de>>(
    cell: &'de [u8],
    limits: &CodecLimits,
) -> std::result::Result<T, Unread> {
    let value = value(cell).ok_or(Unread(None))?;
    codec::decode(value, &limits.for_reading()).map_err(|e| Unread(Some(Box::new(e))))
}

/// Why the value in a cell was not read; nothing where the cell has fields that this
/// version does not know.
#[derive(Debug)]
pub(crate) struct Unread(Option<Box<DecodeError>>);

impl Unread {
    /// Of a key that can be named.
    #[cold]
    pub(crate) fn of(self, scope: &dyn Display, key: &str) -> Error {
        let Some(error) = self.0 else {
            return unknown(scope, key);
        };
        let DecodeError { kind, path, reason } = *error;
        match kind {
            DecodeErrorKind::Type => Error::TypeMismatch {
                scope: scope.to_string(),
                key: key.to_owned(),
                path,
                reason,
            },
            DecodeErrorKind::Damaged => damaged(scope, key, &format!("{reason} at {path}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_reads_back_and_unknown_fields_are_refused() {
        let (limits, scope) = (CodecLimits::default(), Scope::Global);
        let read = |cell: &[u8]| decode::<u32>(cell, &limits, (&scope, "k"));
        let cell = encode(&7_u32, Some(300), &limits).unwrap();
        assert_eq!(read(&cell).unwrap(), 7);
        let cell = encode(&7_u32, None, &limits).unwrap();
        assert_eq!(read(&cell).unwrap(), 7);
        for flags in 2..=u8::MAX {
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
