//! Owns the target `value`: the byte form of values, bombs in it, and the ways between
//! values, JSON and Rust types.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;

use super::input::Input;
use super::tree;
use crate::codec::primitive::put_varint;
use crate::codec::{CodecLimits, DecodeErrorKind, decode, encode};
use crate::error::Error;
use crate::state::{Limits, Store};
use crate::value::Value;

/// How deep the values nest that are made: deeper than any limit.
const DEPTH_MADE: usize = 300;

/// How deep a bomb nests at most.
const BOMB_DEPTH: usize = 1 << 16;

/// What `serde_json` reads: it has a limit of depth of its own.
const JSON_DEPTH: usize = 120;

fn limits() -> CodecLimits {
    CodecLimits::default()
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 6 {
        0 => any_bytes(input.rest()),
        1 => made(&mut input),
        2 => deep(&mut input),
        3 => long(&mut input),
        4 => json(input.rest()),
        _ => stored(&mut input),
    }
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let widest = CodecLimits {
        value_depth_max: CodecLimits::DEPTH_BOUND,
        ..limits()
    };
    let mut bytes = Vec::new();
    encode(value, &widest, &mut bytes).expect("a value within the limits");
    bytes
}

/// Any bytes are a value or damage, whatever type is asked for; a value that was read is
/// written and read again the same.
fn any_bytes(bytes: &[u8]) {
    let whole = decode::<Value>(bytes, &limits());
    if let Err(e) = &whole {
        assert_eq!(e.kind, DecodeErrorKind::Damaged, "{e}");
    }
    as_type::<serde_json::Value>(bytes, whole.is_ok());
    as_type::<Vec<u32>>(bytes, whole.is_ok());
    as_type::<HashMap<String, Vec<Option<f64>>>>(bytes, whole.is_ok());
    as_type::<BTreeMap<u8, (bool, char)>>(bytes, whole.is_ok());
    as_type::<Result<String, i8>>(bytes, whole.is_ok());
    as_type::<()>(bytes, whole.is_ok());
    if let Ok(value) = whole {
        comes_back(&value);
    }
}

/// Bytes are damaged or not, whatever was asked for.
fn as_type<T: DeserializeOwned>(bytes: &[u8], whole: bool) {
    match decode::<T>(bytes, &limits()) {
        Ok(_) => assert!(whole, "damage was read"),
        Err(e) => assert_eq!(e.kind == DecodeErrorKind::Type, whole, "{e}"),
    }
}

/// A value within the limits of depth is the same after every way there is.
fn comes_back(value: &Value) {
    let bytes = bytes_of(value);
    let widest = CodecLimits {
        value_depth_max: CodecLimits::DEPTH_BOUND,
        ..limits()
    };
    let back: Value = decode(&bytes, &widest).expect("what was encoded");
    assert_eq!(bytes_of(&back), bytes, "{value}");
    assert_eq!(tree::shown(&back), tree::shown(value));
    let depth = tree::depth(value);
    for (value_depth_max, fits) in [(depth, true), (depth.wrapping_sub(1), depth == 0)] {
        let limits = CodecLimits {
            value_depth_max,
            ..limits()
        };
        let read = decode::<Value>(&bytes, &limits);
        assert_eq!(
            read.is_ok(),
            fits,
            "{depth} deep, {value_depth_max} allowed"
        );
    }
    if tree::depth(value) <= limits().value_depth_max {
        let built = Value::from_serialize(value).expect("a value is serialisable");
        assert_eq!(bytes_of(&built), bytes);
        let read: Value = value.deserialize().expect("a value is a value");
        assert_eq!(bytes_of(&read), bytes);
    }
    if tree::depth(value) <= JSON_DEPTH {
        through_json(value);
    }
}

/// JSON keeps all but bytes and floats that are not finite, and what it made of those
/// it keeps.
fn through_json(value: &Value) {
    let json = serde_json::Value::from(value.clone());
    let back = Value::from(json.clone());
    assert_eq!(serde_json::Value::from(back.clone()), json);
    if is_json(value) {
        assert_eq!(bytes_of(&back), bytes_of(value), "{value}");
        assert_eq!(value.deserialize::<serde_json::Value>().ok(), Some(json));
    }
    // As text, floats are those that `serde_json` reads.
    let text = serde_json::to_string(value).expect("a value has text keys");
    let read: Value = serde_json::from_str(&text).expect("what serde_json wrote");
    let again = serde_json::to_string(&read).expect("a value has text keys");
    let read_again: Value = serde_json::from_str(&again).expect("what serde_json wrote");
    assert_eq!(tree::depth(&read), tree::depth(&read_again));
}

fn is_json(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => false,
        Value::Float(float) => float.is_finite(),
        Value::List(list) => list.iter().all(is_json),
        Value::Map(map) => map.values().all(is_json),
        _ => true,
    }
}

/// A value that was made: it comes back, its limits are exact, and none of its beginnings
/// is a value.
fn made(input: &mut Input<'_>) {
    let less = usize::from(input.u8());
    let cut = usize::from(input.u16());
    let value = tree::value(input, DEPTH_MADE);
    let depth = tree::depth(&value);
    let mut out = b"before".to_vec();
    if depth > limits().value_depth_max {
        let refused = encode(&value, &limits(), &mut out);
        assert!(matches!(
            refused,
            Err(Error::LimitExceeded {
                limit: "value_depth",
                ..
            })
        ));
        assert_eq!(out, b"before");
        assert!(Value::from_serialize(&value).is_err());
        return;
    }
    comes_back(&value);
    let bytes = bytes_of(&value);
    for (max, fits) in [
        (bytes.len(), true),
        (bytes.len().saturating_sub(1 + less), false),
    ] {
        let limits = CodecLimits {
            value_bytes_max: max,
            ..limits()
        };
        out.truncate(6);
        let encoded = encode(&value, &limits, &mut out);
        assert_eq!(encoded.is_ok(), fits, "{encoded:?}");
        assert_eq!(&out[6..], if fits { &*bytes } else { &[] });
    }
    let beginning = &bytes[..cut % bytes.len()];
    let read = decode::<Value>(beginning, &limits());
    assert_eq!(
        read.map_err(|e| e.kind).map(|value| value.to_string()),
        Err(DecodeErrorKind::Damaged)
    );
}

/// Lists and maps in each other, many more than are allowed.
fn deep(input: &mut Input<'_>) {
    let count = usize::from(input.u16()) % BOMB_DEPTH;
    let kinds = input.u8();
    let depth_max = 1 + usize::from(input.u16());
    let mut bytes = Vec::with_capacity(3 * count);
    for level in 0..count {
        match kinds >> (level % 8) & 1 {
            0 => bytes.extend_from_slice(&[8, 1]),
            _ => bytes.extend_from_slice(&[9, 1, 0]),
        }
    }
    bytes.extend_from_slice(input.rest());
    let limits = CodecLimits {
        value_depth_max: depth_max,
        ..limits()
    };
    let read = decode::<Value>(&bytes, &limits);
    let refused = count > depth_max.min(CodecLimits::DEPTH_BOUND);
    assert!(!refused || read.is_err(), "{count} levels were read");
    let ignored = decode::<serde::de::IgnoredAny>(&bytes, &limits);
    assert_eq!(ignored.is_ok(), read.is_ok());
    if let Ok(value) = read {
        assert!(tree::depth(&value) <= depth_max);
        comes_back(&value);
    }
}

/// Lengths and counts that say more than there is.
fn long(input: &mut Input<'_>) {
    let mut bytes = Vec::new();
    for _ in 0..=input.u8() % 4 {
        bytes.push(6 + input.u8() % 4);
        put_varint(&mut bytes, input.number());
    }
    bytes.extend_from_slice(input.rest());
    any_bytes(&bytes);
}

/// JSON, as text, and what came of it.
fn json(text: &[u8]) {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(text) else {
        return;
    };
    let value = Value::from(json.clone());
    assert_eq!(serde_json::Value::from(value.clone()), json);
    let typed = Value::from_serialize(&json).expect("JSON is serialisable");
    assert_eq!(bytes_of(&typed).len(), bytes_of(&value).len());
    comes_back(&value);
}

/// A value in a store, whose limits are the input's.
fn stored(input: &mut Input<'_>) {
    let limits = Limits {
        value_bytes: 1 + usize::from(input.u16()),
        value_depth: 1 + usize::from(input.u8()),
        ..Limits::default()
    };
    let store = Store::builder().limits(limits.clone()).background(false);
    let store = store.in_memory().expect("limits within their bounds");
    let value = tree::value(input, DEPTH_MADE);
    let set = store.global().set("key", &value);
    let got: Option<Value> = store.global().get("key").expect("what was stored");
    match set {
        Ok(()) => {
            let got = got.expect("a value was stored");
            assert_eq!(tree::shown(&got), tree::shown(&value));
            assert!(tree::depth(&value) <= limits.value_depth);
        }
        Err(Error::LimitExceeded { limit, .. }) => {
            let deep = tree::depth(&value) > limits.value_depth;
            assert!(deep || limit == "value_bytes", "{limit}");
            assert_eq!(got, None);
        }
        Err(e) => panic!("storing gives {e}"),
    }
}
