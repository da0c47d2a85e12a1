//! What a line says: every kind of scope, every value, for how long; and that what is
//! exported is imported as it was.

use std::io::{self, Write};
use std::sync::Arc;

use evenkeel::{Error, ImportEntry, ImportOutcome, ManualClock, Scope, SetOptions, Store, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use crate::parts::{file, state};

fn import(lines: &str) -> Store {
    let store = Store::in_memory();
    store
        .import("lines")
        .json_lines_from(lines.as_bytes())
        .unwrap();
    store
}

#[test]
fn every_kind_of_scope_has_its_form() {
    let forms = [
        (json!("global"), Scope::Global),
        (json!({"workflow": "w"}), Scope::workflow("w")),
        (
            json!({"step": {"workflow_id": "w", "step_name": "s"}}),
            Scope::step("w", "s"),
        ),
        (json!({"custom": "c"}), Scope::custom("c")),
        (json!({"worker": "k"}), Scope::worker("k")),
        (
            json!({"routine": {"worker_id": "k", "routine_id": "r"}}),
            Scope::routine("k", "r"),
        ),
        (json!({"job": "j\u{0}"}), Scope::job("j\0")),
    ];
    let mut text = String::new();
    for (form, _) in &forms {
        text += &(json!({"scope": form, "key": "k", "value": 7}).to_string() + "\n");
    }
    let store = import(&text);
    let there = store.scopes().unwrap();
    assert_eq!(there, forms.clone().map(|(_, scope)| scope));
    let mut out = Vec::new();
    store.export_json_lines(&mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(out.lines().count(), forms.len());
    for (line, (form, scope)) in out.lines().zip(forms) {
        assert_eq!(store.scope(scope).get::<i64>("k").unwrap(), Some(7));
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line, json!({"scope": form, "key": "k", "value": 7}));
    }
}

#[test]
fn a_line_says_how_long_its_value_lasts() {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let open = || {
        let builder = Store::builder().background(false).clock(clock.clone());
        builder.in_memory().unwrap()
    };
    let store = open();
    store
        .global()
        .set_default_ttl(Some(std::time::Duration::from_secs(9)))
        .unwrap();
    let lines = concat!(
        r#"{"scope": "global", "key": "default", "value": 1}"#,
        "\n",
        r#"{"scope": "global", "key": "forever", "value": 1, "expires_at": null}"#,
        "\n",
        r#"{"scope": "global", "key": "at", "value": 1, "expires_at": 5000000}"#,
        "\n",
        r#"{"scope": "global", "key": "ttl", "value": 1, "ttl_seconds": 1.5}"#,
        "\n",
        r#"{"scope": "global", "key": "past", "value": 1, "expires_at": 7}"#,
        "\n",
    );
    let report = store.import("a").json_lines_from(lines.as_bytes()).unwrap();
    assert_eq!(report.imported, 5);
    let at = |store: &Store, key| store.global().expires_at(key).unwrap();
    assert_eq!(at(&store, "default"), Some(10_000_000));
    assert_eq!(at(&store, "forever"), None);
    assert!(store.global().contains("forever").unwrap());
    assert_eq!(at(&store, "at"), Some(5_000_000));
    assert_eq!(at(&store, "ttl"), Some(2_500_000));
    assert!(!store.global().contains("past").unwrap());

    let mut out = Vec::new();
    assert_eq!(store.export_json_lines(&mut out).unwrap().entries, 4);
    let copy = open();
    copy.import("b").json_lines_from(&*out).unwrap();
    assert_eq!(state(&copy), state(&store));
    clock.set_micros(3_000_000);
    out.clear();
    assert_eq!(store.export_json_lines(&mut out).unwrap().entries, 3);
}

#[test]
fn the_other_forms_of_files() {
    let line = |key: &str| format!(r#"{{"scope": "global", "key": "{key}", "value": 1}}"#);
    // A mark before the first line, ends of two bytes, empty lines, no end of the last one.
    let text = format!(
        "\u{feff}  {}\r\n\r\n   \n\t{}  \n\n{}",
        line("a"),
        line("b"),
        line("c")
    );
    let store = Store::in_memory();
    let (_folder, path) = file(&text);
    let report = store.import("a").json_lines(&path).unwrap();
    assert_eq!((report.imported, report.total.items), (3, 6));
    assert_eq!(report.total.bytes, text.len() as u64);
    assert_eq!(store.global().keys().unwrap().count(), 3);
    for empty in ["", "\n\n", "\u{feff}", "\r\n"] {
        let report = store.import(format!("{empty:?}"));
        let report = report.json_lines_from(empty.as_bytes()).unwrap();
        assert_eq!(
            (report.outcome, report.imported),
            (ImportOutcome::Finished, 0)
        );
    }
}

#[test]
fn of_a_key_that_comes_twice_the_last_counts_or_the_first() {
    let entries = || (0..10_u32).map(|n| (Scope::Global, format!("k{}", n % 3), n));
    let store = Store::in_memory();
    store.global().set("k1", 100).unwrap();
    let report = store.import("a").entries(entries()).unwrap();
    assert_eq!(report.imported, 10);
    let values = |store: &Store| ["k0", "k1", "k2"].map(|k| store.global().get::<u32>(k).unwrap());
    assert_eq!(values(&store), [Some(9), Some(7), Some(8)]);

    let store = Store::in_memory();
    store.global().set("k1", 100).unwrap();
    let before = store.global().get_versioned::<u32>("k1").unwrap();
    let import = store.import("a").keep_existing().batch_bytes(20);
    let report = import.entries(entries()).unwrap();
    assert_eq!((report.imported, report.total.kept), (2, 8));
    assert_eq!(values(&store), [Some(0), Some(100), Some(2)]);
    assert_eq!(store.global().get_versioned::<u32>("k1").unwrap(), before);
}

#[test]
fn any_json_by_a_function() {
    let (_folder, path) = file("{\"id\": \"a\", \"n\": 1}\n[7]\n{\"id\": \"b\", \"n\": 2}\n");
    let store = Store::in_memory();
    let report = store.import("a").json_lines_with(&path, |line| {
        let Some(id) = line["id"].as_str() else {
            return Ok(None);
        };
        let day = SetOptions::new().expires_at(u64::MAX - 1);
        let entry = ImportEntry::new(Scope::job(id), "n", line["n"].clone());
        Ok(Some(entry.options(day)))
    });
    let report = report.unwrap();
    assert_eq!((report.imported, report.total.skipped), (2, 1));
    let job = store.scope(Scope::job("b"));
    assert_eq!(job.get::<i64>("n").unwrap(), Some(2));
    assert_eq!(job.expires_at("n").unwrap(), Some(u64::MAX - 1));

    let reader = &b"{\"id\": 1}\n{\"id\": \"x\"}\n"[..];
    let refused = store.import("b").json_lines_from_with(reader, |line| {
        let id = line["id"].as_str().ok_or("no id")?;
        Ok(Some((Scope::Global, id.to_owned(), 1)))
    });
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Malformed { line: 1, .. }));
    let said = refused.to_string();
    assert!(
        said.ends_with("line 1: no id; nothing was imported"),
        "{said}"
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("NaN is not equal to itself", |f| !f.is_nan())
            .prop_map(Value::from),
        Just(Value::Float(f64::INFINITY)),
        Just(Value::Float(-0.0)),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::List),
            btree_map(any::<String>(), inner, 0..5).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_exported_is_imported_as_it_was(
        entries in vec((0..4_u8, any::<String>(), values(), any::<Option<u64>>()), 1..8),
    ) {
        let store = Store::in_memory();
        for (kind, key, value, deadline) in entries {
            let scope = match kind {
                0 => Scope::Global,
                1 => Scope::workflow(&key),
                2 => Scope::step(&key, "s"),
                _ => Scope::routine("r", &key),
            };
            let options = match deadline {
                Some(deadline) => SetOptions::new().expires_at(deadline | 1 << 63),
                None => SetOptions::new(),
            };
            store.scope(scope).set_with(key, value, options).unwrap();
        }
        let mut out = Vec::new();
        let report = store.export_json_lines(&mut out).unwrap();
        prop_assert_eq!(report.bytes, out.len() as u64);
        let copy = Store::in_memory();
        let imported = copy.import("all").json_lines_from(&*out).unwrap();
        prop_assert_eq!(imported.imported, report.entries);
        // The text too, which tells 0.0 from -0.0.
        prop_assert_eq!(format!("{:?}", state(&copy)), format!("{:?}", state(&store)));
    }
}

#[test]
fn values_that_json_cannot_say_keep_every_bit() {
    let store = Store::in_memory();
    let nan = f64::from_bits(0x7FF8_0000_0000_1234);
    let mut deep = Value::from(1);
    for _ in 0..120 {
        deep = Value::List(vec![deep]);
    }
    store.global().set("nan", nan).unwrap();
    store.global().set("deep", &deep).unwrap();
    let inside: Value = [("b", Value::Bytes(vec![0, 255]))].into_iter().collect();
    store.global().set("inside", &inside).unwrap();
    store.global().set("precise", 0.1 + 0.2).unwrap();
    let mut out = Vec::new();
    store.export_json_lines(&mut out).unwrap();
    let copy = import(std::str::from_utf8(&out).unwrap());
    let found: f64 = copy.global().get("nan").unwrap().unwrap();
    assert_eq!(found.to_bits(), nan.to_bits());
    assert_eq!(copy.global().get("deep").unwrap(), Some(deep));
    assert_eq!(copy.global().get("inside").unwrap(), Some(inside));
    let found: f64 = copy.global().get("precise").unwrap().unwrap();
    assert_eq!(found.to_bits(), (0.1_f64 + 0.2).to_bits());
}

#[test]
fn an_export_is_of_one_moment_and_in_order() {
    struct Meddling<'a>(&'a Store, Vec<u8>);
    impl Write for Meddling<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Behind it in the order, and before.
            self.0.scope(Scope::job("z")).set("new", 1).unwrap();
            self.0.global().set("a", "changed").unwrap();
            self.0.scope(Scope::job("j")).clear().unwrap();
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = Store::in_memory();
    for key in ["b", "a", "c"] {
        store.global().set(key, 1).unwrap();
        store.scope(Scope::job("j")).set(key, 2).unwrap();
    }
    let (before, at) = (state(&store), store.transact(|tx| Ok(tx.lsn())).unwrap());
    let mut writer = Meddling(&store, Vec::new());
    let report = store.export_json_lines(&mut writer).unwrap();
    assert_eq!((report.lsn, report.entries), (at, 6));
    let copy = import(std::str::from_utf8(&writer.1).unwrap());
    assert_eq!(state(&copy), before);
    let keys: Vec<_> = writer
        .1
        .split(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let mut sorted = keys[..6].to_vec();
    sorted.sort();
    assert_eq!(keys[..3], sorted[..3]);
}

#[test]
fn a_writer_that_fails_or_panics_is_told() {
    struct Failing(bool);
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            assert!(!self.0, "boom");
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let store = Store::in_memory();
    store.global().set("a", 1).unwrap();
    assert!(
        store
            .export_json_lines(Failing(false))
            .unwrap_err()
            .is_disk_full()
    );
    let panicked = store.export_json_lines(Failing(true));
    assert!(matches!(panicked, Err(Error::Panicked { message }) if message.contains("boom")));
    store.close().unwrap();
    let closed = store.export_json_lines(Vec::new());
    assert!(matches!(closed, Err(Error::Closed)));
}
