//! Owns the fuzz targets: what each of them asserts of any bytes at all, how much an
//! input may be and may take, and the inputs that a corpus begins with.
//!
//! The bodies are ordinary functions, so that three things run the same ones: libFuzzer
//! (`fuzz/fuzz_targets`, by `cargo fuzz run NAME`), `cargo test --test fuzz` over the
//! corpus that is kept and over mutations of it, and whoever has an input in hand:
//!
//! ```
//! use evenkeel::testing::fuzz;
//! fuzz::log(b"any bytes: it panics if a promise is broken");
//! for target in fuzz::TARGETS {
//!     (target.run)(b"");
//!     assert!(!(target.seeds)().is_empty());
//! }
//! ```
//!
//! `docs/fuzzing.md` says how to run them, and how to keep what they find.

#![expect(clippy::panic, reason = "it is there to panic")]

mod content;
mod document;
mod folder;
mod input;
mod keys;
mod log;
mod merge;
mod migrations;
mod operations;
mod runtime_records;
mod seal;
mod seeds;
mod tree;
mod value;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Target {
    /// Its name: of the function, of the binary and of the folder of its corpus.
    pub name: &'static str,
    /// Runs one input; panics if it breaks a promise.
    pub run: fn(&[u8]),
    /// Only so many bytes of an input count: what is behind them is not looked at.
    pub input_bytes_max: usize,
    /// The inputs that its corpus begins with, each with its name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// What a process may take while it runs any one input of any target, in bytes: what the
/// allocator gave out, at its peak, stores and simulated disks included.
pub const MEMORY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "log",
        run: log,
        input_bytes_max: 8 * 1024,
        seeds: seeds::log,
    },
    Target {
        name: "folder",
        run: folder,
        input_bytes_max: 4 * 1024,
        seeds: seeds::folder,
    },
    Target {
        name: "value",
        run: value,
        input_bytes_max: 8 * 1024,
        seeds: seeds::value,
    },
    Target {
        name: "keys",
        run: keys,
        input_bytes_max: 4 * 1024,
        seeds: seeds::keys,
    },
    Target {
        name: "operations",
        run: operations,
        input_bytes_max: 2 * 1024,
        seeds: seeds::operations,
    },
    Target {
        name: "merge",
        run: merge,
        input_bytes_max: 4 * 1024,
        seeds: seeds::merge,
    },
    Target {
        name: "document",
        run: document,
        input_bytes_max: 4 * 1024,
        seeds: document::seeds,
    },
    Target {
        name: "migrations",
        run: migrations,
        input_bytes_max: 1024,
        seeds: seeds::migrations,
    },
    Target {
        name: "runtime_records",
        run: runtime_records,
        input_bytes_max: 4 * 1024,
        seeds: runtime_records::seeds,
    },
];

/// The part of an input that counts for a target.
fn first<'a>(data: &'a [u8], name: &str) -> &'a [u8] {
    let target = TARGETS.iter().find(|target| target.name == name);
    let longest = target.map_or(0, |target| target.input_bytes_max);
    &data[..data.len().min(longest)]
}

/// Bytes as frames, heads, marks, segments and bodies of commits: nothing panics; what
/// decodes is within its bytes and reads the same when it is written again; what was
/// written reads back, and a flipped bit in it does not; a scan of any segments ends, the
/// same way each time, and the log that it opens holds the same commits at the next
/// opening.
///
/// # Panics
/// If any of that is not so.
pub fn log(data: &[u8]) {
    log::run(first(data, "log"));
}

/// A store whose files were damaged, or forged with every checksum put right, or made of
/// any bytes: opening it, with and without salvage, gives a store or a typed error. A
/// store shows the same twice, verifies, takes a write, and shows all of that when it is
/// opened again. After damage alone it shows a state that it once had: the last one, after
/// a single damage to a store that was closed.
///
/// # Panics
/// If any of that is not so.
pub fn folder(data: &[u8]) {
    folder::run(first(data, "folder"));
}

/// Values and their byte form: any bytes are a value or damage, whatever type is asked
/// for; a value comes back from its bytes, from serde, from JSON and from a store; limits
/// are exact; depth and length bombs are refused.
///
/// # Panics
/// If any of that is not so.
pub fn value(data: &[u8]) {
    value::run(first(data, "value"));
}

/// Scopes and keys: encodings are injective, prefix-free and ordered as the scopes are;
/// any bytes decode to the one scope that is written so, or to none; a scan over a prefix
/// gives the keys that begin with it, of its scope, in order.
///
/// # Panics
/// If any of that is not so.
pub fn keys(data: &[u8]) {
    keys::run(first(data, "keys"));
}

/// A workload and a crash (see [`crash`](crate::testing::crash)): after recovery the store
/// is what the model says.
///
/// # Panics
/// With the violation and the workload, if it is not.
pub fn operations(data: &[u8]) {
    operations::run(first(data, "operations"));
}

/// Merge, increment and compare-and-set: merging is what its plainest form gives, each
/// time, and changes nothing the second time; a store does what the model does, within
/// its limits, or refuses and changes nothing.
///
/// # Panics
/// If any of that is not so.
pub fn merge(data: &[u8]) {
    merge::run(first(data, "merge"));
}

/// Documents of flows: any text is a flow or a list of what is wrong with it; a flow is
/// the same one, with the same hash, when its document is written and read again, in YAML
/// and in JSON; aliases cannot explode.
///
/// # Panics
/// If any of that is not so.
pub fn document(data: &[u8]) {
    document::run(first(data, "document"));
}

/// A chain of migrations over a small state, and its way back, under crashes and failing
/// calls: the state is found as it was or whole, and in the end as the model says; a chain
/// that fails there fails here, at the same version, and changes nothing.
///
/// # Panics
/// If any of that is not so.
pub fn migrations(data: &[u8]) {
    migrations::run(first(data, "migrations"));
}

/// What the runtime keeps in the store: any bytes are the one key that is written so, or
/// none; any bytes are a record, which is the same when it is written and read again, or
/// damage; no two names share a key; and where jobs, idempotency keys and dead letters are
/// any bytes, they are read or reported.
///
/// # Panics
/// If any of that is not so.
pub fn runtime_records(data: &[u8]) {
    runtime_records::run(first(data, "runtime_records"));
}
