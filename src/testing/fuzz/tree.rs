//! Owns values made of a fuzz input, and comparing them, NaN included.

use super::input::Input;
use crate::value::Value;

/// No value has more parts than this, whatever the input says.
const PARTS_MAX: usize = 2_000;

/// The value that an input stands for, nested up to `depth`.
pub(super) fn value(input: &mut Input<'_>, depth: usize) -> Value {
    part(input, depth, &mut PARTS_MAX.clone())
}

/// The same, of values that equal themselves: zero in the place of NaN.
pub(super) fn comparable(input: &mut Input<'_>, depth: usize) -> Value {
    let mut made = value(input, depth);
    replace_nan(&mut made);
    made
}

fn replace_nan(value: &mut Value) {
    match value {
        Value::Float(float) if float.is_nan() => *float = 0.0,
        Value::List(list) => list.iter_mut().for_each(replace_nan),
        Value::Map(map) => map.values_mut().for_each(replace_nan),
        _ => {}
    }
}

fn part(input: &mut Input<'_>, depth: usize, parts: &mut usize) -> Value {
    *parts = parts.saturating_sub(1);
    let tag = input.u8();
    match tag % 16 {
        0 => Value::Null,
        1 => Value::Bool(tag & 16 != 0),
        2 => Value::Int(i64::from(input.u8().cast_signed())),
        3 => Value::from(input.number()),
        4 => Value::Int(input.number().cast_signed()),
        5 => Value::Float(f64::from_bits(input.number())),
        6 => Value::Float(f64::from(input.u16()) / 8.0),
        7 | 8 => Value::String(input.text()),
        9 => Value::from(input.chunk()),
        10 | 11 if depth > 0 => {
            let count = input.below(9).min(*parts);
            let list = (0..count).map(|_| part(input, depth - 1, parts));
            Value::List(list.collect())
        }
        _ if depth > 0 => {
            let count = input.below(6).min(*parts);
            let map = (0..count).map(|_| (key(input), part(input, depth - 1, parts)));
            Value::Map(map.collect())
        }
        _ => Value::Null,
    }
}

/// A key of a map: few different ones, so that two maps meet, and now and then any.
fn key(input: &mut Input<'_>) -> String {
    match input.u8() {
        255 => input.text(),
        few => char::from(b'a' + few % 5).to_string(),
    }
}

/// The text of a value with all that tells it from others; NaN equals itself in it.
pub(super) fn shown(value: &Value) -> String {
    format!("{value:?}")
}

/// How deep a value nests.
pub(super) fn depth(value: &Value) -> usize {
    match value {
        Value::List(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
        Value::Map(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
