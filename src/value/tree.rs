//! Owns the two ways between Rust types and `Value` trees in memory: the sink that
//! builds a tree and the source that walks one. Both refuse to nest deeper than
//! values may by default, so that neither can overflow the stack.

use std::collections::{BTreeMap, btree_map};
use std::slice;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::de::{ListSource, MapSource, Source, Token, TokenDeserializer};
use super::fault::Fault;
use super::ser::{ListSink, MapSink, Model, Sink};
use super::{DEPTH_MAX, Value};

pub(super) fn build<T: Serialize + ?Sized>(value: &T) -> Result<Value, Fault> {
    value
        .serialize(Model(Slot { depth: 0 }))
        .map(Built::into_value)
}

pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Fault> {
    T::deserialize(TokenDeserializer::new(token(value, 0)?))
}

/// A place for one value, inside `depth` lists and maps.
struct Slot {
    depth: usize,
}

impl Slot {
    fn deeper(&self) -> Result<usize, Fault> {
        match self.depth {
            DEPTH_MAX.. => Err(Fault::too_deep(DEPTH_MAX)),
            depth => Ok(depth + 1),
        }
    }
}

/// What was built.
enum Built {
    /// An integer that came as `u8`.
    Byte(u8),
    Value(Value),
}

impl Built {
    fn into_value(self) -> Value {
        match self {
            Self::Byte(byte) => Value::Int(i64::from(byte)),
            Self::Value(value) => value,
        }
    }
}

impl Sink for Slot {
    type Ok = Built;
    type List = ListBuilder;
    type Map = MapBuilder;

    fn null(self) -> Result<Built, Fault> {
        Ok(Built::Value(Value::Null))
    }

    fn bool(self, value: bool) -> Result<Built, Fault> {
        Ok(Built::Value(Value::Bool(value)))
    }

    fn byte(self, value: u8) -> Result<Built, Fault> {
        Ok(Built::Byte(value))
    }

    fn int(self, value: i64) -> Result<Built, Fault> {
        Ok(Built::Value(Value::Int(value)))
    }

    fn big_uint(self, value: u64) -> Result<Built, Fault> {
        Ok(Built::Value(Value::UInt(value)))
    }

    fn float(self, value: f64) -> Result<Built, Fault> {
        Ok(Built::Value(Value::Float(value)))
    }

    fn str(self, value: &str) -> Result<Built, Fault> {
        Ok(Built::Value(Value::String(value.to_owned())))
    }

    fn bytes(self, value: &[u8]) -> Result<Built, Fault> {
        Ok(Built::Value(Value::Bytes(value.to_vec())))
    }

    fn list(self, _: Option<usize>) -> Result<ListBuilder, Fault> {
        Ok(ListBuilder {
            depth: self.deeper()?,
            index: 0,
            items: Items::Bytes(Vec::new()),
        })
    }

    fn map(self, _: Option<usize>) -> Result<MapBuilder, Fault> {
        Ok(MapBuilder {
            depth: self.deeper()?,
            map: BTreeMap::new(),
            key: None,
        })
    }

    fn variant(self, _: &'static str) -> Result<Self, Fault> {
        Ok(Self {
            depth: self.deeper()?,
        })
    }

    fn close_variant(name: &'static str, inner: Built) -> Built {
        let map = BTreeMap::from([(name.to_owned(), inner.into_value())]);
        Built::Value(Value::Map(map))
    }
}

struct ListBuilder {
    depth: usize,
    index: usize,
    items: Items,
}

enum Items {
    /// All elements so far came as `u8`.
    Bytes(Vec<u8>),
    Values(Vec<Value>),
}

impl ListSink for ListBuilder {
    type Ok = Built;

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let slot = Slot { depth: self.depth };
        let index = self.index;
        let built = value
            .serialize(Model(slot))
            .map_err(|fault| fault.at_index(index))?;
        self.index += 1;
        match (&mut self.items, built) {
            (Items::Bytes(bytes), Built::Byte(byte)) => bytes.push(byte),
            (Items::Values(values), built) => values.push(built.into_value()),
            (Items::Bytes(bytes), built) => {
                let mut values: Vec<_> = bytes.iter().map(|&b| Value::from(b)).collect();
                values.push(built.into_value());
                self.items = Items::Values(values);
            }
        }
        Ok(())
    }

    fn end(self) -> Result<Built, Fault> {
        Ok(Built::Value(match self.items {
            Items::Bytes(bytes) if bytes.is_empty() => Value::List(Vec::new()),
            Items::Bytes(bytes) => Value::Bytes(bytes),
            Items::Values(values) => Value::List(values),
        }))
    }
}

struct MapBuilder {
    depth: usize,
    map: BTreeMap<String, Value>,
    key: Option<String>,
}

impl MapSink for MapBuilder {
    type Ok = Built;

    fn key(&mut self, key: &str) -> Result<(), Fault> {
        match self.key.replace(key.to_owned()) {
            None => Ok(()),
            Some(before) => Err(Fault::mismatch("a key without a value").at_key(&before)),
        }
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let Some(key) = self.key.take() else {
            return Err(Fault::mismatch("a value without a key"));
        };
        match value.serialize(Model(Slot { depth: self.depth })) {
            Ok(built) => self.map.insert(key, built.into_value()),
            Err(fault) => return Err(fault.at_key(&key)),
        };
        Ok(())
    }

    fn end(self) -> Result<Built, Fault> {
        match self.key {
            None => Ok(Built::Value(Value::Map(self.map))),
            Some(key) => Err(Fault::mismatch("a key without a value").at_key(&key)),
        }
    }
}

/// Walks a tree.
struct Tree;

impl<'de> Source<'de> for Tree {
    type List = ListWalk<'de>;
    type Map = MapWalk<'de>;
}

/// The token of a value that stands inside `depth` lists and maps.
fn token(value: &Value, depth: usize) -> Result<Token<'_, Tree>, Fault> {
    Ok(match value {
        Value::Null => Token::Null,
        Value::Bool(value) => Token::Bool(*value),
        Value::Int(value) => Token::Int(*value),
        Value::UInt(value) => Token::UInt(*value),
        Value::Float(value) => Token::Float(*value),
        Value::String(value) => Token::Str(value),
        Value::Bytes(value) => Token::Bytes(value),
        Value::List(list) => Token::List(ListWalk {
            values: list.iter(),
            depth: Slot { depth }.deeper()?,
        }),
        Value::Map(map) => Token::Map(MapWalk {
            entries: map.iter(),
            value: None,
            depth: Slot { depth }.deeper()?,
        }),
    })
}

struct ListWalk<'de> {
    values: slice::Iter<'de, Value>,
    depth: usize,
}

impl<'de> ListSource<'de> for ListWalk<'de> {
    type Source = Tree;

    fn left(&self) -> usize {
        self.values.len()
    }

    fn next(&mut self) -> Result<Option<Token<'de, Tree>>, Fault> {
        self.values
            .next()
            .map(|value| token(value, self.depth))
            .transpose()
    }

    fn close(self) -> Result<(), Fault> {
        Ok(())
    }
}

struct MapWalk<'de> {
    entries: btree_map::Iter<'de, String, Value>,
    value: Option<&'de Value>,
    depth: usize,
}

impl<'de> MapSource<'de> for MapWalk<'de> {
    type Source = Tree;

    fn left(&self) -> usize {
        self.entries.len()
    }

    fn next_key(&mut self) -> Result<Option<&'de str>, Fault> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        Ok(Some(key))
    }

    fn value(&mut self) -> Result<Token<'de, Tree>, Fault> {
        match self.value.take() {
            Some(value) => token(value, self.depth),
            None => Err(Fault::mismatch("a value was asked for before its key")),
        }
    }

    fn close(self) -> Result<(), Fault> {
        Ok(())
    }
}
