//! Proves conversions, merging and text, and offers values to other tests.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,3}", any::<String>()]
}

fn floats() -> impl Strategy<Value = f64> {
    let edge = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(1.0)];
    prop_oneof![edge, any::<u64>().prop_map(f64::from_bits)]
}

fn blobs() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

/// Values of every shape, in canonical form.
pub(crate) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-300..300i64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        floats().prop_map(Value::from),
        texts().prop_map(Value::from),
        blobs().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::List),
            btree_map(texts(), inner, 0..8).prop_map(Value::Map),
        ]
    })
}

/// What `serde_json` can hold.
pub(crate) fn jsons() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|v| json!(v)),
        any::<i64>().prop_map(|v| json!(v)),
        any::<u64>().prop_map(|v| json!(v)),
        floats().prop_map(|v| json!(v)),
        texts().prop_map(|v| json!(v)),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|v| json!(v)),
            btree_map(texts(), inner, 0..6).prop_map(|v| json!(v)),
        ]
    })
}

/// The merge as one would write it, if stacks had no end.
fn merged(value: Value, patch: Value) -> Value {
    match (value, patch) {
        (Value::Map(mut map), Value::Map(patch)) => {
            for (key, patch) in patch {
                let value = match map.remove(&key) {
                    Some(value) => merged(value, patch),
                    None => patch,
                };
                map.insert(key, value);
            }
            Value::Map(map)
        }
        (_, patch) => patch,
    }
}

/// Maps of maps with few keys, so that merging meets itself.
fn mergeable() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..9).prop_map(Value::from)];
    leaf.prop_recursive(5, 60, 4, |inner| {
        btree_map("[abc]", inner, 0..4).prop_map(Value::Map)
    })
}

proptest! {
    #[test]
    fn merging_is_what_it_says(value in mergeable(), patch in mergeable()) {
        let mut result = value.clone();
        result.merge(patch.clone());
        prop_assert_eq!(result, merged(value, patch));
    }

    #[test]
    fn other_formats_keep_values(json in jsons()) {
        // Not through text: serde_json reads some floats a little differently.
        let value: Value = serde_json::from_value(json.clone()).unwrap();
        prop_assert_eq!(&value, &Value::from(json.clone()));
        prop_assert_eq!(serde_json::to_value(&value).unwrap(), json);
    }

    #[test]
    fn text_is_json_where_json_can(json in jsons()) {
        let text = Value::from(json.clone()).to_string();
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        // serde_json reads some floats a little differently: compare what it can keep.
        if !text.contains(['.', 'e']) {
            prop_assert_eq!(back, json);
        }
    }
}

#[test]
fn merging_needs_no_stack() {
    let deep = |last: i32| {
        let mut value = Value::from(last);
        for _ in 0..5_000 {
            value = Value::from_iter([("a", value)]);
        }
        value
    };
    let mut value = deep(1);
    let worker = std::thread::Builder::new().stack_size(64 << 20);
    // Dropping what is so deep needs a stack, merging does not: see the type's docs.
    let handle = worker.spawn(move || {
        value.merge(deep(2));
        assert_eq!(value, deep(2));
    });
    handle.unwrap().join().unwrap();
}

#[test]
fn integers_are_canonical() {
    assert_eq!(Value::from(5u64), Value::Int(5));
    assert_eq!(Value::from(u64::MAX), Value::UInt(u64::MAX));
    assert_eq!(Value::from(usize::MAX), Value::UInt(u64::MAX));
    assert_eq!(Value::from(json!(1u64 << 63)), Value::UInt(1 << 63));
    assert_eq!(
        serde_json::Value::from(Value::from(u64::MAX)),
        json!(u64::MAX)
    );
    assert_eq!(Value::UInt(5).as_i64(), Some(5));
    assert_eq!(Value::Float(5.0).as_i64(), None);
}

#[test]
fn json_has_no_bytes_and_no_infinities() {
    assert_eq!(
        serde_json::Value::from(Value::Bytes(vec![1, 255])),
        json!([1, 255])
    );
    assert_eq!(serde_json::Value::from(Value::Float(f64::NAN)), json!(null));
    assert_eq!(
        serde_json::Value::from(Value::Float(f64::INFINITY)),
        json!(null)
    );
    assert_eq!(
        serde_json::to_string(&Value::Bytes(vec![1, 255])).unwrap(),
        "[1,255]"
    );
}

#[test]
fn text() {
    let value: Value = [
        ("b", Value::Bytes(vec![0, b'a', b'"'])),
        ("f", [1.0, f64::NAN, -0.0, 1e300].into_iter().collect()),
        ("q\"\\\u{1}", Value::from("a\nß")),
        ("u", Value::from(u64::MAX)),
    ]
    .into_iter()
    .collect();
    assert_eq!(
        value.to_string(),
        r#"{"b":b"\x00a\"","f":[1.0,NaN,-0.0,1e300],"q\"\\\u0001":"a\nß","u":18446744073709551615}"#
    );
    assert_eq!(Value::from(None::<u8>).to_string(), "null");
}
