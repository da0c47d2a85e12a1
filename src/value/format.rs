//! Owns `Serialize` and `Deserialize` of `Value`, for any format that describes
//! itself. What is written by one and read by the other is the same value, as far
//! as the format can tell bytes from lists.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::Value;

/// No more elements than this are made room for before they are seen.
const RESERVED_MAX: usize = 1024;

impl Serialize for Value {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::String(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::List(list) => {
                let mut seq = serializer.serialize_seq(Some(list.len()))?;
                for value in list {
                    seq.serialize_element(value)?;
                }
                seq.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor { byte: &mut None })
    }
}

/// Builds a value.
struct ValueVisitor<'a> {
    /// Set where the value is one of the bytes of `Value::Bytes`: those come as
    /// `u16` although they would fit less, see `value::de::bytes`.
    byte: &'a mut Option<u8>,
}

impl<'de> Visitor<'de> for ValueVisitor<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u16<E>(self, value: u16) -> Result<Value, E> {
        *self.byte = u8::try_from(value).ok();
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => Ok(Value::from(value)),
            (_, Ok(value)) => Ok(Value::from(value)),
            _ => Err(E::custom(format_args!(
                "the integer {value} does not fit 64 bits"
            ))),
        }
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        match u64::try_from(value) {
            Ok(value) => Ok(Value::from(value)),
            Err(_) => Err(E::custom(format_args!(
                "the integer {value} does not fit 64 bits"
            ))),
        }
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_byte_buf<E>(self, value: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let len = seq.size_hint().unwrap_or_default().min(RESERVED_MAX);
        let mut byte = None;
        let Some(first) = seq.next_element_seed(Element { byte: &mut byte })? else {
            return Ok(Value::List(Vec::new()));
        };
        let mut list = Vec::new();
        if let Some(first) = byte {
            let mut bytes = Vec::with_capacity(len);
            bytes.push(first);
            loop {
                byte = None;
                match (seq.next_element_seed(Element { byte: &mut byte })?, byte) {
                    (None, _) => return Ok(Value::Bytes(bytes)),
                    (Some(integer), Some(byte)) => {
                        // It holds nothing, and to find that out costs more than the byte.
                        std::mem::forget(integer);
                        bytes.push(byte);
                    }
                    (Some(value), None) => {
                        list.extend(bytes.into_iter().map(Value::from));
                        list.push(value);
                        break;
                    }
                }
            }
        } else {
            list.reserve(len);
            list.push(first);
        }
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

/// An element of a sequence, which may turn out to be one of bytes.
struct Element<'a> {
    byte: &'a mut Option<u8>,
}

impl<'de> de::DeserializeSeed<'de> for Element<'_> {
    type Value = Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor { byte: self.byte })
    }
}
