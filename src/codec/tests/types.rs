//! Proves that Rust types of every shape come back, through bytes and through
//! `Value`, and that those that do not fit are refused with their place.

use super::*;

/// A list of lists, in the end.
#[derive(Debug, Deserialize)]
pub(super) struct Chain(#[expect(dead_code, reason = "only read")] Vec<Chain>);

/// Through bytes, through a tree, and through each into the other.
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(original: T) {
    let bytes = bytes_of(&original);
    let tree = Value::from_serialize(&original).unwrap();
    assert_eq!(read::<T>(&bytes).unwrap(), original);
    assert_eq!(tree.deserialize::<T>().unwrap(), original);
    assert_eq!(read::<Value>(&bytes).unwrap(), tree);
    assert_eq!(read::<T>(&bytes_of(&tree)).unwrap(), original);
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    items: Vec<Item>,
    note: Option<String>,
    blob: Vec<u8>,
    flags: (bool, u8),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Box<Order>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    price: f32,
    count: i16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(Option<u8>),
    Tuple(u8, u8),
    Mixed(u8, String),
    Struct { a: i32, blob: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Data {
        payload: Vec<u8>,
        list: Vec<u16>,
        big: u64,
    },
    Empty,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    Blob(Vec<u8>),
    List(Vec<Option<i64>>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    inner: Item,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Color {
    Red,
    Green,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Id(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

fn order() -> Order {
    Order {
        id: u64::MAX,
        items: (0..3).map(|count| Item { price: 0.1, count }).collect(),
        note: Some("naïve \u{0}".to_owned()),
        blob: (0..=255).collect(),
        flags: (true, 7),
        parent: Some(Box::default()),
    }
}

#[test]
fn types_come_back() {
    comes_back(order());
    comes_back((
        1u8,
        2u16,
        -3i128,
        u128::from(u64::MAX),
        'ß',
        "text".to_owned(),
        Unit,
        (),
    ));
    comes_back((i64::MIN, i64::MAX, u64::MAX, f32::MIN_POSITIVE, f64::MAX));
    comes_back([Some(1u8), Some(2)]);
    comes_back([Some(1u8), None, Some(2)]);
    comes_back((1u8, vec![1u8, 200], -1));
    comes_back(HashMap::from([
        (1u32, "a".to_owned()),
        (u32::MAX, String::new()),
    ]));
    comes_back(BTreeMap::from([(i128::MIN, 1), (i128::MAX, 2)]));
    comes_back(BTreeMap::from([(true, 1u8), (false, 2)]));
    comes_back(BTreeMap::from([('ä', Color::Red)]));
    comes_back(BTreeMap::from([(Color::Green, Color::Red)]));
    comes_back(HashMap::from([(Id(7), Id(8))]));
    comes_back(std::time::Duration::new(5, 6));
    comes_back("127.0.0.1".parse::<std::net::IpAddr>().unwrap());
    comes_back(Ok::<u8, String>(1));
}

#[test]
fn enums_come_back() {
    comes_back(vec![
        Shape::Unit,
        Shape::Newtype(None),
        Shape::Newtype(Some(1)),
        Shape::Tuple(1, 255),
        Shape::Mixed(200, "m".to_owned()),
        Shape::Struct {
            a: -1,
            blob: vec![9; 300],
        },
    ]);
    // What serde buffers on the way has to survive that as well.
    comes_back(vec![
        Tagged::Data {
            payload: vec![1, 2, 255],
            list: vec![1, 2],
            big: u64::MAX,
        },
        Tagged::Data {
            payload: vec![],
            list: vec![],
            big: 0,
        },
        Tagged::Empty,
    ]);
    comes_back(vec![
        Untagged::Number(-5),
        Untagged::Text("t".to_owned()),
        Untagged::Blob(vec![1, 2]),
        Untagged::List(vec![None, Some(1000)]),
    ]);
    comes_back(Flat {
        id: 1,
        inner: Item {
            price: 2.5,
            count: 3,
        },
        rest: BTreeMap::from([
            ("blob".to_owned(), Value::Bytes(vec![0, 255])),
            ("list".to_owned(), (0..3).collect()),
        ]),
    });
}

#[test]
fn bytes_are_compact_and_a_sequence_too() {
    let blob: Vec<u8> = (0..100).collect();
    let bytes = bytes_of(&blob);
    assert_eq!(bytes.len(), 102);
    assert_eq!(read::<Value>(&bytes).unwrap(), Value::Bytes(blob.clone()));
    assert_eq!(read::<Vec<u8>>(&bytes).unwrap(), blob);
    assert_eq!(read::<Vec<i64>>(&bytes).unwrap()[99], 99);
    assert_eq!(read::<Vec<Option<f32>>>(&bytes).unwrap()[99], Some(99.0));
    assert_eq!(
        read::<serde_json::Value>(&bytes).unwrap(),
        serde_json::json!(blob)
    );
    assert!(
        read::<Vec<u8>>(&bytes_of(&Value::Bytes(vec![])))
            .unwrap()
            .is_empty()
    );
    assert_eq!(read::<Vec<u8>>(&bytes_of(&[1i32, 255])).unwrap(), [1, 255]);
    assert!(matches!(value_of(&[1i32, 2]), Value::List(_)));
    assert!(matches!(value_of(&(1u8, 2i8)), Value::List(_)));
    for kind in [
        read::<String>(&bytes_of(b"abc")).unwrap_err().kind,
        read::<u32>(&bytes_of(b"abc")).unwrap_err().kind,
        read::<BTreeMap<String, u8>>(&bytes_of(b"abc"))
            .unwrap_err()
            .kind,
    ] {
        assert_eq!(kind, DecodeErrorKind::Type);
    }
}

#[test]
fn integers_and_floats() {
    assert_eq!(read::<f64>(&bytes_of(&3)).unwrap(), 3.0);
    assert_eq!(read::<u128>(&bytes_of(&3)).unwrap(), 3);
    assert_eq!(
        read::<i128>(&bytes_of(&u64::MAX)).unwrap(),
        i128::from(u64::MAX)
    );
    let (big, small) = (
        failure(&(1, u128::MAX)),
        failure(&[i128::from(i64::MIN) - 1]),
    );
    assert!(big.contains("[1]") && big.contains("64 bits"), "{big}");
    assert!(
        small.contains("[0]") && small.contains("64 bits"),
        "{small}"
    );
}

#[track_caller]
fn mismatch<T: DeserializeOwned>(value: &impl Serialize, path: &str) -> String {
    let bytes = bytes_of(value);
    let Err(error) = read::<T>(&bytes) else {
        panic!("decoded");
    };
    assert_eq!(
        (error.kind, error.path.as_str()),
        (DecodeErrorKind::Type, path),
        "{error}"
    );
    let Err(Error::Invalid { reason, .. }) = value_of(value).deserialize::<T>() else {
        panic!("deserialised");
    };
    assert_eq!(reason, format!("at {path}: {}", error.reason));
    error.reason
}

#[test]
fn mismatches_name_their_place() {
    let reason = mismatch::<u32>(&"text", ".");
    assert_eq!(reason, "found a string, expected u32");
    let reason = mismatch::<u8>(&300, ".");
    assert_eq!(reason, "found an integer that does not fit, expected u8");
    mismatch::<i64>(&3.0, ".");
    mismatch::<bool>(&(), ".");
    mismatch::<Shape>(&"Other", ".");
    mismatch::<Shape>(&BTreeMap::from([("Tuple", 1), ("Unit", 2)]), ".");
    mismatch::<Shape>(&BTreeMap::from([("Newtype", "x")]), ".Newtype");
    mismatch::<Shape>(&BTreeMap::from([("Mixed", (1, 2))]), ".Mixed[1]");
    mismatch::<(u8, u8)>(&(1, 2, 3), ".");
    mismatch::<(u8, u8)>(&[1], ".");
    mismatch::<[u8; 2]>(&[1u8, 2, 3], ".");
    mismatch::<(u8, Option<bool>)>(&[1u8, 2], "[1]");
    mismatch::<BTreeMap<u8, ()>>(&BTreeMap::from([("256", ())]), ".256");
    mismatch::<Vec<BTreeMap<String, bool>>>(&[BTreeMap::from([("a b", 1)])], "[0][\"a b\"]");
    let mut json = serde_json::to_value(order()).unwrap();
    json["parent"]["items"] = serde_json::json!([{"price": 1, "count": 2}, {"price": 1}]);
    let reason = mismatch::<Order>(&json, ".parent.items[1]");
    assert_eq!(reason, "missing field `count`");
}

#[test]
fn what_has_no_form_names_its_place() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no".repeat(10_000)))
        }
    }
    #[derive(Serialize)]
    enum Outer {
        Struct { b: Vec<Option<Refuses>> },
    }
    let refused = BTreeMap::from([(
        "a",
        Outer::Struct {
            b: vec![None, None, Some(Refuses)],
        },
    )]);
    let error = failure(&refused);
    assert!(error.contains(".a.Struct.b[2]: nono"), "{error}");
    assert!(error.len() < 1000);
    assert_eq!(
        Value::from_serialize(&refused).unwrap_err().to_string(),
        error
    );

    let error = failure(&BTreeMap::from([("a", BTreeMap::from([((1, 2), 3)]))]));
    assert!(
        error.contains("at .a: the key of a map is a tuple"),
        "{error}"
    );
    failure(&BTreeMap::from([(Some(1), 2)]));
    failure(&BTreeMap::from([((), 2)]));
    let error = failure(&BTreeMap::from([("k".repeat(1 << 20), u128::MAX)]));
    assert!(error.contains("kkk…: ") && error.len() < 1000, "{error}");
}
