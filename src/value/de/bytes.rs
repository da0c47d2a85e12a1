//! Owns bytes as a list of small integers, for types that ask for a list.
//!
//! What must stay true: to a type that takes anything, each of the bytes is a `u16`.
//! No format gives small numbers so, and serde's buffers keep the width: by it
//! `Value` knows bytes from a list of small numbers. (A newtype of a secret name,
//! as `serde_json` has for raw values, would not survive those buffers.)

use std::slice;

use serde::de::{self, DeserializeSeed, Visitor};

use super::{not_all, wrapped};
use crate::value::fault::Fault;

/// Hands bytes over as a list, and sees to it that all of them were taken.
#[inline]
pub(super) fn visit_bytes<'de, V: Visitor<'de>>(
    bytes: &[u8],
    visitor: V,
) -> Result<V::Value, Fault> {
    let mut access = ByteAccess {
        left: bytes.iter(),
        len: bytes.len(),
    };
    let value = visitor.visit_seq(&mut access)?;
    match access.left.len() {
        0 => Ok(value),
        left => Err(not_all(bytes.len(), left)),
    }
}

struct ByteAccess<'a> {
    left: slice::Iter<'a, u8>,
    len: usize,
}

impl<'de> de::SeqAccess<'de> for ByteAccess<'_> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(&byte) = self.left.next() else {
            return Ok(None);
        };
        match seed.deserialize(ByteDeserializer { byte, wraps: 0 }) {
            Ok(value) => Ok(Some(value)),
            Err(fault) => Err(fault.at_index(self.len - self.left.len() - 1)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// One of the bytes of a list of bytes.
struct ByteDeserializer {
    byte: u8,
    wraps: u8,
}

impl ByteDeserializer {
    fn wrapped(mut self) -> Result<Self, Fault> {
        self.wraps = wrapped(self.wraps)?;
        Ok(self)
    }
}

impl<'de> de::Deserializer<'de> for ByteDeserializer {
    type Error = Fault;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u16(u16::from(self.byte))
    }

    #[inline]
    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u8(self.byte)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i64(i64::from(self.byte))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self.wrapped()?)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self.wrapped()?)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
