//! Owns the way from values back to any `Deserialize`: one deserializer over tokens,
//! which a source reads from a tree (`value::tree`) or from bytes (`codec::de`).
//!
//! - It describes itself, so it serves untagged enums, `flatten` and `Value` too.
//! - Integers go into floats; floats do not go into integers.
//! - Bytes are a sequence of `u8` for whoever asks for a sequence, or for anything:
//!   `serde_json::Value` and serde's own buffers know how to keep a sequence, but
//!   not how to turn bytes into a `Vec<u8>`.

mod bytes;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Error as _, Unexpected, Visitor};

use self::bytes::visit_bytes;
use super::fault::Fault;
use super::key::KeyDeserializer;

/// How often options and newtypes may follow each other around one value. A type
/// that is its own content, as in `struct A(Option<Box<A>>)`, would never end.
const WRAPS_MAX: u8 = 64;

/// Where tokens come from. The layer that holds the values declares how.
pub(crate) trait Source<'de>: Sized {
    type List: ListSource<'de, Source = Self>;
    type Map: MapSource<'de, Source = Self>;
}

/// One value, or the opening of one.
pub(crate) enum Token<'de, S: Source<'de>> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Str(&'de str),
    Bytes(&'de [u8]),
    List(S::List),
    Map(S::Map),
}

/// The elements of a list. Elements need not be looked at.
pub(crate) trait ListSource<'de> {
    type Source: Source<'de>;
    /// How many elements are left.
    fn left(&self) -> usize;
    fn next(&mut self) -> Result<Option<Token<'de, Self::Source>>, Fault>;
    /// Ends a list of which nothing is left.
    fn close(self) -> Result<(), Fault>;
}

/// The entries of a map. Values need not be asked for, nor looked at.
pub(crate) trait MapSource<'de> {
    type Source: Source<'de>;
    /// How many keys are left.
    fn left(&self) -> usize;
    fn next_key(&mut self) -> Result<Option<&'de str>, Fault>;
    /// The value of the last key. Called at most once for each.
    fn value(&mut self) -> Result<Token<'de, Self::Source>, Fault>;
    /// Ends a map of which nothing is left.
    fn close(self) -> Result<(), Fault>;
}

/// The serde deserializer over a token.
pub(crate) struct TokenDeserializer<'de, S: Source<'de>> {
    token: Token<'de, S>,
    wraps: u8,
}

impl<'de, S: Source<'de>> TokenDeserializer<'de, S> {
    #[inline]
    pub(crate) fn new(token: Token<'de, S>) -> Self {
        Self { token, wraps: 0 }
    }

    fn wrapped(mut self) -> Result<Self, Fault> {
        self.wraps = wrapped(self.wraps)?;
        Ok(self)
    }

    fn unexpected(&self) -> Unexpected<'de> {
        match &self.token {
            Token::Null => Unexpected::Unit,
            Token::Bool(value) => Unexpected::Bool(*value),
            Token::Int(value) => Unexpected::Signed(*value),
            Token::UInt(value) => Unexpected::Unsigned(*value),
            Token::Float(value) => Unexpected::Float(*value),
            Token::Str(value) => Unexpected::Str(value),
            Token::Bytes(bytes) => Unexpected::Bytes(bytes),
            Token::List(_) => Unexpected::Seq,
            Token::Map(_) => Unexpected::Map,
        }
    }

    /// For types that are not made of parts: bytes are no sequence to them, and
    /// no string either.
    #[inline]
    fn whole<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Bytes(_) => Err(Fault::invalid_type(self.unexpected(), &visitor)),
            _ => de::Deserializer::deserialize_any(self, visitor),
        }
    }

    #[inline]
    fn signed<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Int(value) => visitor.visit_i64(value),
            _ => self.whole(visitor),
        }
    }

    #[inline]
    fn elements<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Bytes(bytes) => visit_bytes(bytes, visitor),
            _ => self.whole(visitor),
        }
    }
}

/// One wrap more than `wraps`.
#[inline]
fn wrapped(wraps: u8) -> Result<u8, Fault> {
    match wraps {
        WRAPS_MAX.. => Err(Fault::mismatch("the type consists of itself without end")),
        wraps => Ok(wraps + 1),
    }
}

/// Hands a list over, and sees to it that all of it was taken.
#[inline]
fn visit_list<'de, L, V>(source: L, visitor: V) -> Result<V::Value, Fault>
where
    L: ListSource<'de>,
    V: Visitor<'de>,
{
    let mut access = ListAccess { source, index: 0 };
    let value = visitor.visit_seq(&mut access)?;
    let left = access.source.left();
    if left > 0 {
        return Err(not_all(access.index + left, left));
    }
    access.source.close()?;
    Ok(value)
}

/// Hands a map over, and sees to it that all of it was taken.
#[inline]
fn visit_map<'de, M, V>(source: M, visitor: V) -> Result<V::Value, Fault>
where
    M: MapSource<'de>,
    V: Visitor<'de>,
{
    let mut access = MapAccess { source, key: None };
    let value = visitor.visit_map(&mut access)?;
    let left = access.source.left();
    if left > 0 {
        return Err(Fault::mismatch(format!(
            "a map with {left} entries more than expected"
        )));
    }
    access.source.close()?;
    Ok(value)
}

macro_rules! forward {
    ($to:ident: $($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$to(visitor)
        }
    )*};
}

impl<'de, S: Source<'de>> de::Deserializer<'de> for TokenDeserializer<'de, S> {
    type Error = Fault;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Null => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Int(value) => match u64::try_from(value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(value),
            },
            Token::UInt(value) => visitor.visit_u64(value),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Str(value) => visitor.visit_borrowed_str(value),
            Token::Bytes([]) => visitor.visit_borrowed_bytes(&[]),
            Token::Bytes(bytes) => visit_bytes(bytes, visitor),
            Token::List(list) => visit_list(list, visitor),
            Token::Map(map) => visit_map(map, visitor),
        }
    }

    forward! { signed: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 }
    forward! { whole:
        deserialize_bool deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i128 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_unit
        deserialize_map deserialize_identifier
    }
    forward! { elements: deserialize_seq }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        self.elements(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.elements(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            _ => self.whole(visitor),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Null => visitor.visit_none(),
            _ => visitor.visit_some(self.wrapped()?),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.whole(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self.wrapped()?)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.elements(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.token {
            Token::Str(name) => visitor.visit_enum(BorrowedStrDeserializer::new(name)),
            Token::Map(mut map) if map.left() == 1 => {
                let Some(name) = map.next_key()? else {
                    return Err(Fault::mismatch("a map without a key, expected an enum"));
                };
                let content = Content {
                    name,
                    map: &mut map,
                };
                let value = visitor
                    .visit_enum(content)
                    .map_err(|fault| fault.at_key(name))?;
                map.close()?;
                Ok(value)
            }
            Token::Map(map) => Err(Fault::mismatch(format!(
                "a map of {} entries, expected one entry that names the variant of an enum",
                map.left()
            ))),
            _ => Err(Fault::invalid_type(
                self.unexpected(),
                &"an enum as a string or map",
            )),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.token {
            Token::Bytes(_) => visitor.visit_unit(),
            _ => self.deserialize_any(visitor),
        }
    }
}

struct ListAccess<L> {
    source: L,
    index: usize,
}

impl<'de, L: ListSource<'de>> de::SeqAccess<'de> for ListAccess<L> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let index = self.index;
        let token = match self.source.next() {
            Ok(Some(token)) => token,
            Ok(None) => return Ok(None),
            Err(fault) => return Err(fault.at_index(index)),
        };
        self.index += 1;
        match seed.deserialize(TokenDeserializer::new(token)) {
            Ok(value) => Ok(Some(value)),
            Err(fault) => Err(fault.at_index(index)),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.source.left())
    }
}

struct MapAccess<'de, M> {
    source: M,
    key: Option<&'de str>,
}

impl<'de, M: MapSource<'de>> de::MapAccess<'de> for MapAccess<'de, M> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.key = self.source.next_key()?;
        let Some(key) = self.key else {
            return Ok(None);
        };
        let key = seed
            .deserialize(KeyDeserializer(key))
            .map_err(|fault| fault.at_key(key))?;
        Ok(Some(key))
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some(key) = self.key.take() else {
            return Err(Fault::mismatch("a value was asked for before its key"));
        };
        let token = self.source.value().map_err(|fault| fault.at_key(key))?;
        seed.deserialize(TokenDeserializer::new(token))
            .map_err(|fault| fault.at_key(key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.source.left())
    }
}

/// The one entry of a map that stands for a variant with content.
struct Content<'m, 'de, M> {
    name: &'de str,
    map: &'m mut M,
}

impl<'de, M: MapSource<'de>> de::EnumAccess<'de> for Content<'_, 'de, M> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        Ok((seed.deserialize(KeyDeserializer(self.name))?, self))
    }
}

impl<'de, M: MapSource<'de>> de::VariantAccess<'de> for Content<'_, 'de, M> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        de::Deserialize::deserialize(TokenDeserializer::new(self.map.value()?))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(TokenDeserializer::new(self.map.value()?))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Fault> {
        TokenDeserializer::new(self.map.value()?).elements(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        TokenDeserializer::new(self.map.value()?).elements(visitor)
    }
}

fn not_all(len: usize, left: usize) -> Fault {
    Fault::mismatch(format!("a list of {len} elements, expected {}", len - left))
}
