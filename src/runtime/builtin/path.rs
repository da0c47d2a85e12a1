//! Owns the paths by which built-in routines reach into data: names of fields and numbers
//! of list elements with dots between them. Imports `value`.

use crate::value::Value;

/// What stands at a path; `None` where there is nothing. A name that has a dot in it
/// cannot be reached.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, step| match value {
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => value.get(step),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_through_maps_and_lists() {
        let value = Value::from(serde_json::json!({"a": {"b": [1, {"c": 2}]}, "0": 3}));
        let found = |path| at(&value, path).and_then(Value::as_i64);
        assert_eq!(found("a.b.0"), Some(1));
        assert_eq!(found("a.b.1.c"), Some(2));
        assert_eq!(found("0"), Some(3));
        for nothing in ["", "a.", "a.x", "a.b.2", "a.b.-1", "a.b.c", "0.0", "a..b"] {
            assert_eq!(at(&value, nothing), None, "{nothing:?}");
        }
    }
}
