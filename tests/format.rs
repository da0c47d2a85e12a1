//! The dump in `docs/format.md` is what this version writes. `cargo test --test
//! format -- --nocapture` prints it anew.
#![expect(clippy::print_stdout, reason = "the dump is there to be copied")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use evenkeel::{ManualClock, Scope, Store};
use serde_json::json;

/// What differs from run to run: the store's id, and checksums over it.
const RANDOM: &[(&str, std::ops::Range<usize>)] = &[
    ("FORMAT", 8..12),
    ("FORMAT", 24..40),
    ("MANIFEST", 8..12),
    ("MANIFEST", 32..48),
    ("marks", 8..12),
    ("marks", 16..32),
    ("marks", 520..524),
    ("marks", 528..544),
    ("wal/0000000000000001.log", 8..12),
    ("wal/0000000000000001.log", 24..40),
];

/// A row is sixteen bytes: offset, hexadecimal, text. Rows of zeros are left out.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        if bytes.iter().all(|&byte| byte == 0) {
            continue;
        }
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = bytes.iter().map(|&byte| match byte {
            b' '..=b'~' => byte as char,
            _ => '.',
        });
        let text: String = text.collect();
        writeln!(out, "{:04x}  {:<47}  {text}", row * 16, hex.join(" ")).expect("a string");
    }
    out
}

/// The bytes that a dump shows.
fn parse(dump: &str) -> BTreeMap<usize, u8> {
    let mut bytes = BTreeMap::new();
    for row in dump.lines() {
        let (offset, rest) = row.split_at(6);
        let offset = usize::from_str_radix(offset.trim(), 16).expect("an offset");
        for (at, byte) in rest[..47].split_whitespace().enumerate() {
            bytes.insert(offset + at, u8::from_str_radix(byte, 16).expect("a byte"));
        }
    }
    bytes
}

/// The dump of a file in the document, in the block that begins with its name.
fn documented<'d>(document: &'d str, name: &str) -> &'d str {
    let start = format!("```text\n{name}\n");
    let block = document
        .split(&start)
        .nth(1)
        .expect("the file is in the document");
    block.split("```").next().unwrap_or_default()
}

#[test]
fn the_document_shows_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::builder()
        .clock(Arc::new(ManualClock::new(1_700_000_000_000_000)))
        .background(false)
        .open(folder.path())
        .unwrap();
    let order = store.scope(Scope::workflow("order-42"));
    order
        .set("config", json!({"region": "eu", "tier": 2}))
        .unwrap();
    order.delete("retries").unwrap();
    store.close().unwrap();

    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md"));
    let document = document.unwrap();
    let mut differing = Vec::new();
    for name in ["FORMAT", "marks", "MANIFEST", "wal/0000000000000001.log"] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        println!("{name} ({} bytes)\n{}", bytes.len(), dump(&bytes));
        let shown = parse(documented(&document, name));
        for (at, &byte) in bytes.iter().enumerate() {
            let random = RANDOM
                .iter()
                .any(|(file, range)| *file == name && range.contains(&at));
            let shown = shown.get(&at).copied().unwrap_or(0);
            if !random && shown != byte {
                differing.push(format!(
                    "{name} {at:#x}: {byte:02x}, in the document {shown:02x}"
                ));
            }
        }
    }
    assert!(
        differing.is_empty(),
        "docs/format.md is not what is written:\n{}",
        differing.join("\n")
    );
}
