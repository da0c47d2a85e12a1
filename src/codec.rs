//! Owns the byte encoding of values, with its limits.
//!
//! ```text
//! value  = 00                         null
//!        | 01 | 02                    false, true
//!        | 03 int                     an integer that fits an i64
//!        | 04 varint                  an integer above that, up to u64::MAX
//!        | 05 f64                     8 bytes, little-endian
//!        | 06 bytes                   a string; UTF-8
//!        | 07 bytes                   bytes
//!        | 08 count value*            a list
//!        | 09 count (key value)*      a map
//! key    = bytes                      UTF-8; of equal keys, the last one counts
//! count  = varint
//! int, varint, bytes: see `codec::primitive`
//! ```
//!
//! How Rust types correspond to this is said in `value::ser` and `value::de`.
//!
//! What must stay true: what was encoded decodes to the same value; arbitrary bytes
//! decode to a value or an error, with memory in proportion to the input and a
//! stack in proportion to the depth limit. Entries of a map stand in the order in
//! which the type gave them, so equal values may have different bytes.

pub(crate) mod cell;
mod de;
pub(crate) mod primitive;
pub(crate) mod scratch;
mod ser;

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::error::Result;
use crate::value::DEPTH_MAX;
use crate::value::fault::{Cause, Fault};

/// What an encoded value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodecLimits {
    /// The most bytes of one value. Default: 16 MiB.
    pub(crate) value_bytes_max: usize,
    /// How deep lists and maps may nest. Default: 128; more than
    /// [`CodecLimits::DEPTH_BOUND`] has no effect.
    pub(crate) value_depth_max: usize,
}

impl Default for CodecLimits {
    fn default() -> Self {
        Self {
            value_bytes_max: 16 << 20,
            value_depth_max: DEPTH_MAX,
        }
    }
}

impl CodecLimits {
    /// The largest depth limit with which the stack of a thread (2 MiB) is enough
    /// by far.
    pub(crate) const DEPTH_BOUND: usize = 256;

    /// For reading what was written under other limits: it is as deep as it is.
    pub(crate) fn for_reading(&self) -> Self {
        Self {
            value_depth_max: Self::DEPTH_BOUND,
            ..*self
        }
    }

    fn depth_max(&self) -> usize {
        self.value_depth_max.min(Self::DEPTH_BOUND)
    }
}

/// Appends the encoding of `value` to `out`. On an error, `out` is as it was.
///
/// # Errors
///
/// `Serialize` names the place of what has no form as a value; `LimitExceeded` is
/// for `value_bytes`, noticed as soon as the limit is reached, and `value_depth`.
#[inline]
pub(crate) fn encode<T: Serialize + ?Sized>(
    value: &T,
    limits: &CodecLimits,
    out: &mut Vec<u8>,
) -> Result<()> {
    ser::Encoder::new(out, limits)
        .encode(value)
        .map_err(Fault::into_serialize_error)
}

/// Appends the encoding of bytes that are a value by themselves, or of null.
pub(crate) fn put_bytes_or_null(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(Tag::Null as u8),
        Some(bytes) => {
            out.push(Tag::Bytes as u8);
            primitive::put_bytes(out, bytes);
        }
    }
}

/// The bytes that were encoded so, without a copy; the outer `None` where the value is
/// something else.
pub(crate) fn bytes_or_null(value: &[u8]) -> Option<Option<&[u8]>> {
    let mut reader = primitive::Reader::new(value);
    let bytes = match Tag::try_from(reader.u8()?).ok()? {
        Tag::Null => None,
        Tag::Bytes => Some(reader.bytes()?),
        _ => return None,
    };
    (reader.remaining() == 0).then_some(bytes)
}

/// The `T` that `bytes` encode: all of them.
///
/// Only the depth limit counts here: the bytes are in memory already, and a store
/// whose limits were lowered must still read what it holds.
///
/// # Errors
///
/// See [`DecodeErrorKind`].
#[inline]
pub(crate) fn decode<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    limits: &CodecLimits,
) -> Result<T, DecodeError> {
    de::Decoder::new(bytes, limits)
        .decode()
        .map_err(DecodeError::from)
}

/// Why bytes are not the value that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at {path})")]
pub(crate) struct DecodeError {
    pub(crate) kind: DecodeErrorKind,
    /// Where inside the value, as in `.items[3].price`; `.` for the whole.
    pub(crate) path: String,
    pub(crate) reason: String,
}

/// What is to be blamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeErrorKind {
    /// The bytes are a value, but not one of this type.
    Type,
    /// The bytes are not a value, or one that nests deeper than the limit.
    Damaged,
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        let kind = match fault.cause() {
            Cause::Mismatch(_) => DecodeErrorKind::Type,
            Cause::Damaged(_) | Cause::Limit { .. } => DecodeErrorKind::Damaged,
        };
        Self {
            kind,
            path: fault.path(),
            reason: fault.reason(),
        }
    }
}

/// The first byte of every value. Never given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Tag {
    Null = 0,
    False = 1,
    True = 2,
    Int = 3,
    UInt = 4,
    Float = 5,
    String = 6,
    Bytes = 7,
    List = 8,
    Map = 9,
}

impl TryFrom<u8> for Tag {
    type Error = UnknownTag;

    #[inline]
    fn try_from(byte: u8) -> Result<Self, UnknownTag> {
        Ok(match byte {
            0 => Self::Null,
            1 => Self::False,
            2 => Self::True,
            3 => Self::Int,
            4 => Self::UInt,
            5 => Self::Float,
            6 => Self::String,
            7 => Self::Bytes,
            8 => Self::List,
            9 => Self::Map,
            _ => return Err(UnknownTag(byte)),
        })
    }
}

/// A byte that is no [`Tag`].
struct UnknownTag(u8);

impl fmt::Display for UnknownTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no value begins with the tag {:#04x}", self.0)
    }
}

#[cfg(test)]
mod tests;
