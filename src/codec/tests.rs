//! Proves what `codec` promises: exact round trips, errors that name their place,
//! and no harm from any bytes.

use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::*;
use crate::error::Error;
use crate::value::Value;
use crate::value::tests::{jsons, values};

mod types;

const LIMITS: CodecLimits = CodecLimits {
    value_bytes_max: 16 << 20,
    value_depth_max: 128,
};

fn bytes_of<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode(value, &LIMITS, &mut out).unwrap();
    out
}

fn value_of<T: Serialize + ?Sized>(value: &T) -> Value {
    decode::<Value>(&bytes_of(value), &LIMITS).unwrap()
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode(bytes, &LIMITS)
}

fn failure<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = b"before".to_vec();
    let error = encode(value, &LIMITS, &mut out).unwrap_err();
    assert_eq!(out, b"before");
    error.to_string()
}

proptest! {
    #[test]
    fn values_come_back(value in values()) {
        let bytes = bytes_of(&value);
        // By their bytes, because NaN differs from itself.
        let back = read::<Value>(&bytes).unwrap();
        prop_assert_eq!(bytes_of(&back), bytes);
        prop_assert_eq!(bytes_of(&Value::from_serialize(&value).unwrap()), bytes_of(&value));
        prop_assert_eq!(bytes_of(&value.deserialize::<Value>().unwrap()), bytes_of(&value));
        prop_assert_eq!(format!("{:?}", back), format!("{:?}", value));
    }

    #[test]
    fn json_comes_back(json in jsons()) {
        let bytes = bytes_of(&json);
        prop_assert_eq!(&read::<serde_json::Value>(&bytes).unwrap(), &json);
        prop_assert_eq!(read::<Value>(&bytes).unwrap(), Value::from(json.clone()));
        prop_assert_eq!(serde_json::Value::from(Value::from(json.clone())), json);
    }

    #[test]
    fn truncations_and_extensions_are_damage(value in values()) {
        let mut bytes = bytes_of(&value);
        for cut in 0..bytes.len() {
            let error = read::<Value>(&bytes[..cut]).unwrap_err();
            prop_assert_eq!(error.kind, DecodeErrorKind::Damaged);
            // Whatever type was asked for.
            let error = read::<HashMap<u32, bool>>(&bytes[..cut]).unwrap_err();
            prop_assert_eq!(error.kind, DecodeErrorKind::Damaged);
        }
        bytes.push(0);
        prop_assert_eq!(read::<Value>(&bytes).unwrap_err().kind, DecodeErrorKind::Damaged);
    }

    #[test]
    fn any_bytes_do_no_harm(input in vec(prop_oneof![0..12u8, any::<u8>()], 0..60)) {
        let whole = read::<Value>(&input);
        for damaged in [
            read::<Unread>(&input).is_err(),
            read::<Vec<Lenient>>(&input).is_err_and(|e| e.kind == DecodeErrorKind::Damaged),
            read::<BTreeMap<u8, Option<String>>>(&input)
                .is_err_and(|e| e.kind == DecodeErrorKind::Damaged),
        ] {
            prop_assert_eq!(damaged, whole.is_err());
        }
        if let Ok(value) = whole {
            let back = read::<Value>(&bytes_of(&value)).unwrap();
            prop_assert_eq!(bytes_of(&back), bytes_of(&value));
        }
    }

    #[test]
    fn the_limit_of_bytes_is_exact(value in values(), less in 1..20usize) {
        let bytes = bytes_of(&value);
        let mut limits = LIMITS;
        limits.value_bytes_max = bytes.len();
        let mut out = b"before".to_vec();
        encode(&value, &limits, &mut out).unwrap();
        prop_assert_eq!(&out[6..], &bytes);

        limits.value_bytes_max = bytes.len().saturating_sub(less);
        out.truncate(6);
        let error = encode(&value, &limits, &mut out).unwrap_err();
        let limited = matches!(error, Error::LimitExceeded { limit: "value_bytes", .. });
        prop_assert!(limited);
        prop_assert_eq!(out, b"before");
    }

    /// What the length was promised to be, and where bytes turn into a list, does
    /// not show in the result.
    #[test]
    fn promised_lengths_do_not_matter(
        promised in prop_oneof![Just(None), (0..600usize).prop_map(Some)],
        bytes in 0..300usize,
        others in 0..300usize,
    ) {
        let list = Promised { promised, bytes, others };
        let count = bytes + others;
        let value = value_of(&list);
        let expected = match (bytes, others) {
            (1.., 0) => Value::Bytes(vec![200; bytes]),
            _ => (0..count).map(|at| if at < bytes { 200 } else { -1 }).collect(),
        };
        prop_assert_eq!(&value, &expected);
        prop_assert_eq!(&Value::from_serialize(&list).unwrap(), &expected);
        prop_assert_eq!(bytes_of(&list), bytes_of(&expected));
    }
}

/// Never looks at what it is deserialised from.
struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

/// Takes zero for whatever is not a list of numbers.
#[derive(Debug, PartialEq)]
struct Lenient(usize);

impl<'de> Deserialize<'de> for Lenient {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(
            Vec::<u32>::deserialize(deserializer).map_or(0, |list| list.len()),
        ))
    }
}

struct Promised {
    promised: Option<usize>,
    bytes: usize,
    others: usize,
}

impl Serialize for Promised {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut seq = serializer.serialize_seq(self.promised)?;
        for _ in 0..self.bytes {
            seq.serialize_element(&200u8)?;
        }
        for _ in 0..self.others {
            seq.serialize_element(&-1i32)?;
        }
        seq.end()
    }
}

/// Swallows the errors of its elements.
struct Swallows;

impl Serialize for Swallows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{SerializeMap, SerializeSeq};
        struct Inner;
        impl Serialize for Inner {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut seq = serializer.serialize_seq(Some(3))?;
                seq.serialize_element(&1u8)?;
                let _ = seq.serialize_element(&u128::MAX);
                seq.serialize_element(&2u8)?;
                seq.end()
            }
        }
        let mut map = serializer.serialize_map(None)?;
        let _ = map.serialize_entry("gone", &i128::MIN);
        let _ = map.serialize_value("no key");
        map.serialize_entry("kept", &Inner)?;
        map.end()
    }
}

#[test]
fn the_bytes_on_disk() {
    assert_eq!(bytes_of(&()), [0]);
    assert_eq!(bytes_of(&(false, true)), [8, 2, 1, 2]);
    assert_eq!(bytes_of(&-1i8), [3, 1]);
    assert_eq!(bytes_of(&300i64), [3, 0xFB, 88, 2]);
    assert_eq!(bytes_of(&(1u64 << 63)), [4, 0xFD, 0, 0, 0, 0, 0, 0, 0, 128]);
    assert_eq!(bytes_of(&1.0f32), [5, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F]);
    assert_eq!(bytes_of("hé"), [6, 3, b'h', 0xC3, 0xA9]);
    assert_eq!(bytes_of(&[7u8, 255]), [7, 2, 7, 255]);
    assert_eq!(bytes_of(&[7u16]), [8, 1, 3, 14]);
    assert_eq!(bytes_of(&Vec::<u8>::new()), [8, 0]);
    assert_eq!(
        bytes_of(&HashMap::from([(-5, 'x')])),
        [9, 1, 2, b'-', b'5', 6, 1, b'x']
    );
    assert_eq!(bytes_of(&Value::UInt(1)), bytes_of(&Value::Int(1)));
}

#[test]
fn swallowed_errors_leave_nothing_behind() {
    let expected: Value = [("kept", Value::Bytes(vec![1, 2]))].into_iter().collect();
    assert_eq!(value_of(&Swallows), expected);
    assert_eq!(Value::from_serialize(&Swallows).unwrap(), expected);
}

#[test]
fn what_is_not_read_is_skipped() {
    let input = bytes_of(&(
        1,
        vec![1, 2],
        vec![vec![-3]],
        vec![4i64, 1 << 40, 5],
        vec![9; 9],
    ));
    let expected = [0, 2, 0, 0, 9].map(Lenient);
    assert_eq!(read::<[Lenient; 5]>(&input).unwrap(), expected);
    let value = read::<Value>(&input).unwrap();
    assert_eq!(value.deserialize::<[Lenient; 5]>().unwrap(), expected);

    let (_, list, _, last, _) = read::<(Unread, Vec<u8>, Unread, Value, Unread)>(&input).unwrap();
    assert_eq!(
        (list, last.to_string()),
        (vec![1, 2], "[4,1099511627776,5]".to_owned())
    );
}

#[test]
fn floats_keep_their_bits() {
    let odd = f64::from_bits(0x7FF8_0000_0000_0123);
    for float in [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        odd,
        -odd,
        5e-324,
    ] {
        let back: f64 = read(&bytes_of(&float)).unwrap();
        assert_eq!(back.to_bits(), float.to_bits());
    }
}

#[test]
fn nesting_is_limited_in_both_directions() {
    let nested = |depth: usize| {
        let mut value = Value::Null;
        for level in 0..depth {
            value = match level % 2 {
                0 => Value::List(vec![value]),
                _ => Value::from_iter([("a", value)]),
            };
        }
        value
    };
    let deepest = nested(128);
    assert_eq!(value_of(&deepest), deepest);
    assert_eq!(deepest.deserialize::<Value>().unwrap(), deepest);
    let error = failure(&nested(129));
    assert!(
        error.starts_with("value_depth is limited to 128, this would need 129"),
        "{error}"
    );
    assert!(Value::from_serialize(&nested(129)).is_err());
    assert!(nested(129).deserialize::<Value>().is_err());

    let mut limits = LIMITS;
    limits.value_depth_max = usize::MAX;
    let mut out = Vec::new();
    let deepest = nested(CodecLimits::DEPTH_BOUND);
    encode(&deepest, &limits, &mut out).unwrap();
    assert_eq!(decode::<Value>(&out, &limits).unwrap(), deepest);
    assert_eq!(
        decode::<types::Chain>(&out, &limits).unwrap_err().kind,
        DecodeErrorKind::Type
    );
    assert_eq!(
        decode::<Value>(&out, &LIMITS).unwrap_err().kind,
        DecodeErrorKind::Damaged
    );
}

#[test]
fn bombs_do_no_harm() {
    for bomb in [
        [8, 1].repeat(1 << 19),
        [9, 1, 0].repeat(1 << 19),
        [8].repeat(1 << 20),
    ] {
        assert_eq!(
            read::<Value>(&bomb).unwrap_err().kind,
            DecodeErrorKind::Damaged
        );
        assert_eq!(
            read::<Unread>(&bomb).err().unwrap().kind,
            DecodeErrorKind::Damaged
        );
        assert!(read::<types::Chain>(&bomb).is_err());
    }
    for tag in [6, 7, 8, 9] {
        for len in [1u64 << 20, 1 << 40, u64::MAX] {
            let mut bomb = vec![tag];
            primitive::put_varint(&mut bomb, len);
            bomb.extend_from_slice(&[0; 100]);
            let error = read::<Value>(&bomb).unwrap_err();
            assert_eq!(
                (error.kind, error.path.as_str()),
                (DecodeErrorKind::Damaged, ".")
            );
            assert_eq!(
                read::<Vec<u64>>(&bomb).unwrap_err().kind,
                DecodeErrorKind::Damaged
            );
        }
    }
    // A type that is its own content ends as well.
    #[derive(Debug, Deserialize)]
    struct Endless(#[expect(dead_code, reason = "only read")] Option<Box<Endless>>);
    assert!(read::<Endless>(&[0]).is_ok());
    assert_eq!(
        read::<Endless>(&[1]).unwrap_err().kind,
        DecodeErrorKind::Type
    );
    assert!(read::<Vec<Endless>>(&[7, 2, 0, 0]).is_err());
}

#[test]
fn a_large_value_is_noticed_early() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat("abc"))
        }
    }
    let error = failure(&BTreeMap::from([("all", Endless)]));
    assert!(
        error.starts_with("value_bytes is limited to 16777216"),
        "{error}"
    );
    assert!(error.contains("(.all[335544"), "{error}");
}

#[test]
fn damage_is_told_from_types() {
    for (input, path) in [
        (&[8, 2, 0, 10][..], "[1]"),
        (&[9, 1, 1, b'a', 6, 1, 0xFF], ".a"),
        (&[9, 1, 1, 0xFF, 0], "."),
        (&[4, 1], "."),
        (&[3], "."),
        (&[], "."),
        (&[0, 0], "."),
    ] {
        let error = read::<Value>(input).unwrap_err();
        assert_eq!(
            (error.kind, error.path.as_str()),
            (DecodeErrorKind::Damaged, path),
            "{error}"
        );
    }
}
