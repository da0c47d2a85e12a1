//! Tests of YAML and JSON as such: what is a tree, and that any tree is read as what was
//! written.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::runtime::document::tree::{Content, NODES_MAX, Tree};
use crate::runtime::document::{json, yaml};
use crate::value::Value;

#[test]
fn what_is_no_yaml_or_refused_in_it_has_its_line() {
    let cases = [
        ("a: 1\na: 2", 2, "twice"),
        ("a: 1\nb: [1", 2, ""),
        ("a: !!str 1", 1, "tags"),
        ("a: !x {}", 1, "tags"),
        ("%YAML 1.2\n---\na: 1", 1, ""),
        ("a: 1\n---\nb: 2", 2, "second document"),
        ("a: *x", 1, "anchor"),
        ("a: &x [*x]", 1, "inside of what it names"),
        ("a: 1\n? [b]\n: 2", 2, "key"),
        ("a: &x k\n*x : 2", 2, "key"),
        ("n: 99999999999999999999", 1, "64 bits"),
        ("a: \"\\q\"", 1, ""),
    ];
    for (text, line, reason) in cases {
        let told = yaml::read(text).unwrap_err();
        assert!(
            told.line.is_some_and(|at| at.abs_diff(line) <= 1),
            "{text:?}: {told:?}"
        );
        assert!(told.reason.contains(reason), "{text:?}: {told:?}");
    }
}

#[test]
fn what_is_no_json_or_refused_in_it_has_its_line() {
    let cases = [
        ("{\"a\": 1,\n \"a\": 2}", 2, "twice"),
        ("{\"a\":\n [{},\n {\"b\": 1, \"b\": 2}]}", 3, "twice"),
        ("{\"a\": 1,\n}", 2, ""),
        ("{\"a\": 1}\n{}", 2, "trailing"),
        ("", 1, "EOF"),
        ("{\"a\": 1e999}", 1, "range"),
    ];
    for (text, line, reason) in cases {
        let told = json::read(text).unwrap_err();
        assert_eq!(told.line, Some(line), "{text:?}: {told:?}");
        assert!(told.reason.contains(reason), "{text:?}: {told:?}");
        assert!(!told.reason.contains("column"), "{told:?}");
    }
}

#[test]
fn documents_are_bounded_in_bytes_nodes_and_depth() {
    let large = " ".repeat(1024 * 1024 + 1);
    assert!(yaml::read(&large).is_err_and(|told| told.reason.contains("bytes")));
    assert!(json::read(&large).is_err_and(|told| told.reason.contains("bytes")));
    let many = format!("[{}1]", "1,".repeat(NODES_MAX));
    assert!(yaml::read(&many).is_err_and(|told| told.reason.contains("nodes")));
    assert!(json::read(&many).is_err_and(|told| told.reason.contains("nodes")));
    for deep in [150, 100_000] {
        let deep = "[".repeat(deep) + &"]".repeat(deep);
        assert!(yaml::read(&deep).is_err());
        assert!(json::read(&deep).is_err());
    }
    let fits = "[".repeat(130) + &"]".repeat(130);
    assert_eq!(yaml::read(&fits).unwrap().depth(), 130);
    assert_eq!(json::read(&fits).unwrap().depth(), 130);
}

#[test]
fn plain_scalars_are_what_the_core_schema_says() {
    let read = |text: &str| yaml::read(&format!("- {text}")).unwrap().to_value();
    let one = |value: Value| Value::List(vec![value]);
    let cases: [(&str, Value); 21] = [
        ("", Value::Null),
        ("~", Value::Null),
        ("null", Value::Null),
        ("true", true.into()),
        ("False", false.into()),
        ("yes", "yes".into()),
        ("0", 0.into()),
        ("-7", (-7).into()),
        ("+7", 7.into()),
        ("007", 7.into()),
        ("0x1F", 31.into()),
        ("0o17", 15.into()),
        ("18446744073709551615", u64::MAX.into()),
        ("1.", 1.0.into()),
        (".5", 0.5.into()),
        ("-1.5e3", (-1500.0).into()),
        ("1e3", 1000.0.into()),
        (".inf", f64::INFINITY.into()),
        ("1_000", "1_000".into()),
        ("1.2.3", "1.2.3".into()),
        (".", ".".into()),
    ];
    for (text, value) in cases {
        assert_eq!(read(text), one(value), "{text:?}");
    }
    for text in [
        "e3", "-", "+", "0x", "0xg", "1e", "1e+", "- 1", "inf", "nan", ".e1",
    ] {
        let value = plainly(text);
        assert!(
            matches!(value, Value::String(_) | Value::List(_)),
            "{text:?}: {value:?}"
        );
    }
}

fn plainly(text: &str) -> Value {
    match yaml::read(&format!("- {text}")).unwrap().content {
        Content::List(mut items) => items.remove(0).to_value(),
        other => panic!("{other:?}"),
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>(),
        "[a-z0-9.:#\\-?!&* \"'\\n\\t\\\\\u{85}\u{2028}\u{feff}]{0,8}",
        prop_oneof![
            Just("null"),
            Just("yes"),
            Just("1e3"),
            Just("0x1"),
            Just("---"),
            Just("<<")
        ]
        .prop_map(str::to_owned),
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(text.clone(), inner, 0..4).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn any_tree_is_read_as_what_was_written(value in tree()) {
        let tree = Tree::from_value(&value);
        let text = yaml::write(&tree);
        let read = yaml::read(&text);
        prop_assert_eq!(read.map(|tree| tree.to_value()), Ok(value.clone()), "{}", text);
        let text = json::write(&tree).unwrap();
        let read = json::read(&text);
        prop_assert_eq!(read.map(|tree| tree.to_value()), Ok(value), "{}", text);
    }

    /// Where YAML and JSON are one language, they are read as one.
    #[test]
    fn json_is_yaml(value in tree()) {
        let json = serde_json::to_string(&Tree::from_value(&value)).unwrap();
        if let Ok(tree) = yaml::read(&json) {
            prop_assert_eq!(tree.to_value(), value);
        }
    }
}
