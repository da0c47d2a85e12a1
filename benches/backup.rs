//! One million keys of 128 bytes: a backup, an incremental one after 1 % of the keys was
//! changed, verifying, restoring and opening, each in a process of its own, beside copying
//! the files of the same store (read, write, sync). Keys and MB a second, and peak memory;
//! equal by the hash of an ordered export. `cargo bench --bench backup [-- FOLDER [KEYS]]`;
//! 20,000 keys are the short form.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use evenkeel::{BackupKind, Backups, Scope, Store, Value};
use sha2::{Digest, Sha256};

const KEYS: u64 = 1_000_000;
const SCOPES: u64 = 1_000;
const BATCH: u64 = 1_000;
/// What a key and its value have.
const ENTRY_BYTES: u64 = 16 + 128;
const MB: f64 = 1e6;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let first = arguments.next();
    let second = arguments.next();
    match (first.as_deref(), second.as_deref(), arguments.next()) {
        (Some(folder), Some(keys), Some(step)) => {
            let bench = Bench {
                folder: PathBuf::from(folder),
                keys: keys.parse().unwrap(),
            };
            bench.step(&step);
        }
        (folder, keys, _) => {
            let temporary = tempfile::tempdir().unwrap();
            let folder = folder.map_or_else(|| temporary.path().join("bench"), PathBuf::from);
            let keys = keys.map_or(KEYS, |keys| keys.parse().unwrap());
            run(&folder, keys);
        }
    }
}

fn run(folder: &Path, keys: u64) {
    fs::create_dir_all(folder).unwrap();
    println!("{keys} keys of {ENTRY_BYTES} bytes");
    let steps = [
        "load",
        "copy",
        "backup",
        "change",
        "incremental",
        "verify",
        "restore",
        "first",
        "open",
        "compare",
    ];
    for step in steps {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.arg(folder).arg(keys.to_string()).arg(step);
        assert!(child.status().unwrap().success(), "{step}");
    }
}

struct Bench {
    folder: PathBuf,
    keys: u64,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn open(&self) -> Store {
        Store::open(self.path("store")).unwrap()
    }

    fn step(&self, step: &str) {
        let what = match step {
            "load" => return self.load(),
            "copy" => self.copy(),
            "backup" => self.backup(BackupKind::Full),
            "change" => return self.change(),
            "incremental" => self.backup(BackupKind::Incremental),
            "verify" => self.verify(),
            "restore" => self.restore(),
            "first" => self.open_restored("opening it first"),
            "open" => self.open_restored("opening it again"),
            "compare" => return self.compare(),
            other => unreachable!("{other}"),
        };
        println!("{what}, peak memory {} MiB", peak_memory() / (1024 * 1024));
    }

    /// So many keys and bytes in the time since `start`.
    fn rates(&self, what: &str, start: Instant, keys: u64, bytes: u64) -> String {
        let seconds = start.elapsed().as_secs_f64();
        let (keys_rate, bytes_rate) = (keys as f64 / seconds, bytes as f64 / seconds / MB);
        format!(
            "{what}: {:.1} MB in {seconds:.2} s, {bytes_rate:.0} MB/s, {keys_rate:.0} keys/s",
            bytes as f64 / MB
        )
    }

    fn write(&self, keys: impl Iterator<Item = u64>, round: u64) {
        let store = self.open();
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            let batch: Vec<_> = keys.by_ref().take(BATCH as usize).collect();
            let written = store.transact(|tx| {
                for &key in &batch {
                    let scope = Scope::worker((key % SCOPES).to_string());
                    tx.scope(scope)
                        .set(format!("{key:016}"), value(key, round))?;
                }
                Ok(())
            });
            written.unwrap();
        }
        if round == 0 {
            store.snapshot().unwrap();
        }
        store.close().unwrap();
    }

    fn load(&self) {
        // 7919 has no factor in common with a million: each key once.
        self.write((0..self.keys).map(|n| n * 7919 % self.keys), 0);
    }

    fn change(&self) {
        self.write((0..self.keys).step_by(100), 1);
    }

    /// All files of the closed store, as `cp` does it, and synced.
    fn copy(&self) -> String {
        let start = Instant::now();
        let bytes = copy_folder(&self.path("store"), &self.path("copied"));
        self.rates("copying the files of the store", start, self.keys, bytes)
    }

    fn backup(&self, kind: BackupKind) -> String {
        let store = self.open();
        let start = Instant::now();
        let backup = store.backup(self.path("backups")).unwrap();
        assert_eq!(backup.kind, kind);
        let (what, keys) = match kind {
            BackupKind::Full => ("full backup, read back", self.keys),
            _ => ("incremental backup of 1 %", self.keys.div_ceil(100)),
        };
        let rates = self.rates(what, start, keys, backup.bytes_written);
        store.close().unwrap();
        rates
    }

    fn verify(&self) -> String {
        let start = Instant::now();
        let found = Backups::open(self.path("backups"))
            .unwrap()
            .verify()
            .unwrap();
        self.rates("verifying both", start, self.keys, found.bytes)
    }

    fn restore(&self) -> String {
        let start = Instant::now();
        let restored = Store::restore(self.path("backups"), self.path("restored")).unwrap();
        assert_eq!(restored.entries, self.keys);
        self.rates("restoring, read back", start, self.keys, restored.bytes)
    }

    fn open_restored(&self, what: &str) -> String {
        let start = Instant::now();
        let store = Store::open(self.path("restored")).unwrap();
        let first: Option<Value> = store
            .scope(Scope::worker("7"))
            .get(format!("{:016}", 7))
            .unwrap();
        assert_eq!(first, Some(value(7, 0)));
        let told = format!(
            "{what}, to the first read: {:.2} s",
            start.elapsed().as_secs_f64()
        );
        store.close().unwrap();
        told
    }

    fn compare(&self) {
        let [ours, restored] = ["store", "restored"].map(|name| {
            let store = Store::open(self.path(name)).unwrap();
            let mut hash = BufWriter::with_capacity(1 << 20, Hash(Sha256::new()));
            let report = store.export_json_lines(&mut hash).unwrap();
            assert_eq!(report.entries, self.keys);
            hash.into_inner().ok().unwrap().0.finalize()
        });
        assert_eq!(ours, restored, "the exports differ");
        println!("the exports of both are equal: SHA-256 {}", hex(&ours[..8]));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn copy_folder(from: &Path, to: &Path) -> u64 {
    fs::create_dir(to).unwrap();
    let mut bytes = 0;
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        bytes += match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => copy_file(&entry.path(), &to),
        };
    }
    File::open(to).unwrap().sync_all().unwrap();
    bytes
}

fn copy_file(from: &Path, to: &Path) -> u64 {
    let (mut from, mut to) = (File::open(from).unwrap(), File::create(to).unwrap());
    let mut buffer = vec![0; 1024 * 1024];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        to.write_all(&buffer[..read]).unwrap();
        bytes += read as u64;
    }
    to.sync_all().unwrap();
    bytes
}

/// A value that does not compress, of 128 bytes.
fn value(key: u64, round: u64) -> Value {
    let mut state = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (round + 1);
    let mut bytes = Vec::with_capacity(128);
    while bytes.len() < 128 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    Value::Bytes(bytes)
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
