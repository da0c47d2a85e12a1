//! A folder of backups of format 1 as this version made it: later versions read it. It is
//! `tests/backup/fixture-1`, and what has to be in it is `tests/backup/fixture-1.txt`.
//!
//! `EVENKEEL_FIXTURES=make cargo test --test backup the_fixture` makes it anew. Once it was
//! released it stays as it is, and a newer format gets one of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evenkeel::{
    BackupOptions, Backups, ManualClock, RestorePoint, Scope, SetOptions, Store, Value,
};

use crate::parts::content;

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/backup")
        .join(name)
}

/// What each backup of a folder is and restores to.
fn listing(folder: &Path) -> String {
    let temporary = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    let verified = Backups::open(folder).unwrap().verify().unwrap();
    for b in &verified.backups {
        lines.push(format!(
            "backup {} {:?} previous {:?} lsn {} time {} schema {} bytes {} of {}",
            b.number,
            b.kind,
            b.previous,
            b.lsn,
            b.time_micros,
            b.schema_version,
            b.bytes_written,
            b.bytes_needed
        ));
        let copy = temporary.path().join(b.number.to_string());
        Store::restore_to(folder, &copy, RestorePoint::Backup(b.number)).unwrap();
        // The clock of the fixture, so that nothing has expired.
        let clock = Arc::new(ManualClock::new(0));
        let store = Store::builder().clock(clock).open(&copy).unwrap();
        for ((scope, key), (value, version)) in content(&store) {
            let value = serde_json::Value::from(value);
            lines.push(format!("  {scope} {key:?} {version} {value}"));
        }
    }
    lines.join("\n") + "\n"
}

/// A log alone, one that goes on, one of a state, and what goes on from that, with gaps
/// in the LSNs.
fn make(folder: &Path) {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("state");
    let clock = Arc::new(ManualClock::new(1_700_000_000_000_000));
    let open = || {
        let builder = Store::builder().clock(Arc::clone(&clock) as _);
        builder.background(false).open(&path).unwrap()
    };
    let tick = || clock.advance(std::time::Duration::from_secs(60));
    let store = open();
    store
        .global()
        .set("a", serde_json::json!({"n": 1, "list": [1.5, null]}))
        .unwrap();
    store.scope(Scope::step("w", "s")).set("b", "text").unwrap();
    store.backup(folder).unwrap();
    tick();
    store.global().delete("a").unwrap();
    let day = SetOptions::new().ttl(std::time::Duration::from_secs(86_400));
    store
        .global()
        .set_with("lasts", Value::Bytes(vec![0, 1, 255]), day)
        .unwrap();
    store.backup(folder).unwrap();
    tick();
    store.close().unwrap();
    let store = open();
    store.scope(Scope::step("w", "s")).clear().unwrap();
    store.scope(Scope::job("j")).set("n", -7).unwrap();
    store.snapshot().unwrap();
    store.scope(Scope::job("j")).increment("n", 1).unwrap();
    store
        .backup_with(folder, BackupOptions::new().full())
        .unwrap();
    tick();
    store.close().unwrap();
    let store = open();
    store.global().set("last", true).unwrap();
    store.backup(folder).unwrap();
    store.close().unwrap();
}

#[test]
fn the_fixture_reads_as_it_did() {
    let (folder, text) = (place("fixture-1"), place("fixture-1.txt"));
    if std::env::var("EVENKEEL_FIXTURES").is_ok_and(|what| what == "make") {
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        make(&folder);
        fs::write(&text, listing(&folder)).unwrap();
    }
    assert_eq!(listing(&folder), fs::read_to_string(&text).unwrap());
}

/// What is made today says the same, but for the id of the store, which no line names.
#[test]
fn what_is_made_today_reads_the_same() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("backups");
    make(&folder);
    let text = fs::read_to_string(place("fixture-1.txt")).unwrap();
    assert_eq!(listing(&folder), text);
}
