//! Owns `Value`: what is stored under a key, without its Rust type. So state can be
//! looked at, merged, migrated and scripted by programs that do not know the type.
//!
//! What must stay true: `value::ser` and `value::de` say once how Rust types and
//! values correspond, and both the tree here and the bytes of `codec` follow them.
//! Imports only `error`.

mod convert;
pub(crate) mod de;
pub(crate) mod fault;
mod format;
mod key;
pub(crate) mod ser;
mod tree;

use std::collections::BTreeMap;
use std::mem;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// How deep lists and maps may nest, unless a store is told otherwise.
pub(crate) const DEPTH_MAX: usize = 128;

/// A value that describes itself: what is stored under a key.
///
/// Any type with serde's derives becomes a value and back. Enums are tagged from
/// outside, as `serde_json` does it; integers are kept as integers; a `Vec<u8>`
/// that is not empty is kept as bytes.
///
/// Two floats that are NaN are not equal, as in Rust.
///
/// A value that was read, or made by [`Value::from_serialize`], is nested as deep
/// as the limits allow. One that is built by hand may be deeper; it cannot be
/// stored, and nested by tens of thousands it overflows the stack when it is
/// dropped or printed, as any type does that contains itself.
///
/// ```
/// use evenkeel::Value;
/// let value: Value = [("count", Value::from(3)), ("name", Value::from("a"))].into_iter().collect();
/// assert_eq!(value.get("count").and_then(Value::as_i64), Some(3));
/// assert_eq!(value.to_string(), r#"{"count":3,"name":"a"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing: `()` or `None`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer that fits an `i64`.
    Int(i64),
    /// An integer above `i64::MAX`. Make it by `Value::from`: a smaller one in here
    /// is stored as, and comes back as, [`Value::Int`].
    UInt(u64),
    /// A float, with all its bits.
    Float(f64),
    /// Text.
    String(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name: structs and maps.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The value of something that serde can serialise.
    ///
    /// ```
    /// use evenkeel::Value;
    /// let value = Value::from_serialize(&(1, "a", None::<u8>))?;
    /// assert_eq!(value.to_string(), r#"[1,"a",null]"#);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Serialize`] names the place of what has no form as a value: a map
    /// with keys that are not text, an integer beyond 64 bits, or whatever the
    /// type itself refuses. [`Error::LimitExceeded`] where lists and maps nest
    /// deeper than 128.
    pub fn from_serialize<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        tree::build(value).map_err(fault::Fault::into_serialize_error)
    }

    /// This value as a type that serde can deserialise.
    ///
    /// ```
    /// use evenkeel::Value;
    /// let value = Value::from_serialize(&vec![("a", 1)])?;
    /// assert_eq!(value.deserialize::<Vec<(String, u32)>>()?, [("a".to_owned(), 1)]);
    /// assert!(value.deserialize::<u32>().is_err());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the place that is not of this type.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        tree::read(self).map_err(|fault| Error::Invalid {
            what: "value",
            reason: fault.to_string(),
        })
    }

    /// Merges `patch` into this value: a map goes into a map key by key, at every
    /// depth; anything else replaces what was there. Null replaces too, it does not
    /// remove the key.
    ///
    /// ```
    /// use evenkeel::Value;
    /// let mut value = Value::from(serde_json::json!({"a": {"x": 1, "y": 2}, "b": [1]}));
    /// value.merge(serde_json::json!({"a": {"y": null, "z": 3}, "b": [2]}).into());
    /// assert_eq!(value.to_string(), r#"{"a":{"x":1,"y":null,"z":3},"b":[2]}"#);
    /// ```
    pub fn merge(&mut self, patch: Value) {
        match (self, patch) {
            (Self::Map(map), Self::Map(patch)) => merge_maps(map, patch),
            (value, patch) => *value = patch,
        }
    }

    /// True for [`Value::Null`].
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert!(Value::default().is_null());
    /// ```
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The boolean, if it is one.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from(true).as_bool(), Some(true));
    /// ```
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from(-1).as_i64(), Some(-1));
    /// assert_eq!(Value::from(u64::MAX).as_i64(), None);
    /// ```
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The integer, if it is one that fits.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from(u64::MAX).as_u64(), Some(u64::MAX));
    /// assert_eq!(Value::from(-1).as_u64(), None);
    /// ```
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if it is one; a large integer as the nearest float.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from(0.5).as_f64(), Some(0.5));
    /// assert_eq!(Value::from(3).as_f64(), Some(3.0));
    /// ```
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is text.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from("a").as_str(), Some("a"));
    /// ```
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes, if it is bytes; text is not.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// assert_eq!(Value::from(vec![1u8, 2]).as_bytes(), Some(&[1, 2][..]));
    /// ```
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            _ => None,
        }
    }

    /// The list, if it is one; bytes are not.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// let value: Value = [1, 2].into_iter().collect();
    /// assert_eq!(value.as_list().map(<[Value]>::len), Some(2));
    /// ```
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(value) => Some(value),
            _ => None,
        }
    }

    /// The map, if it is one.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// let value: Value = [("a", 1)].into_iter().collect();
    /// assert!(value.as_map().is_some_and(|map| map.contains_key("a")));
    /// ```
    #[must_use]
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Map(value) => Some(value),
            _ => None,
        }
    }

    /// The value under `key`, if this is a map that has it.
    ///
    /// ```
    /// # use evenkeel::Value;
    /// let value: Value = [("a", 1)].into_iter().collect();
    /// assert_eq!(value.get("a"), Some(&Value::from(1)));
    /// ```
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }
}

/// Without recursion, so that no depth overflows the stack. A map that is being
/// merged is moved out of its parent meanwhile: a stack of `&mut` into one tree is
/// not to be had.
fn merge_maps(target: &mut BTreeMap<String, Value>, patch: BTreeMap<String, Value>) {
    let mut parents = Vec::new();
    let mut map = mem::take(target);
    let mut patches = patch.into_iter();
    loop {
        match patches.next() {
            Some((key, Value::Map(inner))) => match map.get_mut(&key) {
                Some(Value::Map(child)) => {
                    let child = mem::take(child);
                    let parent = mem::replace(&mut map, child);
                    parents.push((parent, mem::replace(&mut patches, inner.into_iter()), key));
                }
                _ => {
                    map.insert(key, Value::Map(inner));
                }
            },
            Some((key, value)) => {
                map.insert(key, value);
            }
            None => match parents.pop() {
                Some((parent, rest, key)) => {
                    let child = mem::replace(&mut map, parent);
                    map.insert(key, Value::Map(child));
                    patches = rest;
                }
                None => {
                    *target = map;
                    return;
                }
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
