//! How costs grow: with keys, scopes, live jobs, the size of values and the length of the log.
//! `cargo bench --bench growth`, behind `--` one of `keys`, `scopes`, `jobs`, `sizes`, `log` for
//! that table only, and `quick` for the smaller half of each.
//!
//! Each row is a process of its own, so that its memory is its own.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a benchmark that fails ends")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel::{
    Durability, Flow, KeepJobs, Runtime, Scope, ScopeHandle, SlotOptions, Store, Value,
};

const IN_SCOPE: u64 = 1_000;
const MEASURED: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(600);

/// What grows, what is measured, and with how many.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    sizes: &'static [u64],
    row: fn(u64, &Path) -> Vec<f64>,
}

const TABLES: [Table; 5] = [
    Table {
        name: "keys",
        columns: &[
            "loaded/s",
            "reads/s",
            "commits/s",
            "scans of 1,000/s",
            "reopened in s",
        ],
        sizes: &[10_000, 100_000, 1_000_000, 10_000_000],
        row: keys,
    },
    Table {
        name: "scopes",
        columns: &[
            "commits/s",
            "reads/s",
            "scans of a scope/s",
            "lists of scopes/s",
        ],
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000],
        row: scopes,
    },
    Table {
        name: "jobs",
        columns: &[
            "posts/s",
            "other jobs from end to end/s",
            "all ended/s",
            "reopened in s",
        ],
        sizes: &[1, 10, 100, 1_000, 10_000, 100_000],
        row: jobs,
    },
    Table {
        name: "sizes",
        columns: &["commits/s", "MB/s committed", "reads/s", "MB/s read"],
        sizes: &[16, 256, 4_096, 65_536, 1_048_576],
        row: sizes,
    },
    Table {
        name: "log",
        columns: &["reopened in s", "commits read/s"],
        sizes: &[1_000, 10_000, 100_000, 1_000_000],
        row: log,
    },
];

fn main() {
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    if let [name, size, folder] = &arguments[..] {
        let table = TABLES.iter().find(|table| table.name == *name).unwrap();
        let figures = (table.row)(size.parse().unwrap(), Path::new(folder));
        let figures = figures.into_iter().chain([peak_memory()]);
        let figures: Vec<_> = figures.map(|figure| figure.to_string()).collect();
        return println!("{}", figures.join(" "));
    }
    let quick = arguments.iter().any(|argument| argument == "quick");
    let wanted = |table: &&Table| {
        let mut named = arguments
            .iter()
            .filter(|argument| *argument != "quick")
            .peekable();
        named.peek().is_none() || named.any(|argument| argument == table.name)
    };
    for table in TABLES.iter().filter(wanted) {
        table.print(quick);
    }
}

impl Table {
    fn print(&self, quick: bool) {
        println!(
            "\n| {} | {} | peak memory, MiB |",
            self.name,
            self.columns.join(" | ")
        );
        println!("|{}", "---|".repeat(self.columns.len() + 2));
        let rows = if quick {
            self.sizes.len() / 2
        } else {
            self.sizes.len()
        };
        for size in self.sizes.iter().take(rows) {
            let folder = tempfile::tempdir().unwrap();
            let child = Command::new(std::env::current_exe().unwrap())
                .args([self.name, &size.to_string()])
                .arg(folder.path().join("store"))
                .output()
                .unwrap();
            assert!(
                child.status.success(),
                "{}",
                String::from_utf8_lossy(&child.stderr)
            );
            let figures = String::from_utf8(child.stdout).unwrap();
            let figures: Vec<_> = figures
                .split_whitespace()
                .map(|figure| shown(figure.parse().unwrap()))
                .collect();
            println!("| {size} | {} |", figures.join(" | "));
        }
    }
}

/// With three digits that count, or without a point.
fn shown(figure: f64) -> String {
    match figure {
        figure if figure >= 100.0 => format!("{figure:.0}"),
        figure if figure >= 1.0 => format!("{figure:.1}"),
        figure => format!("{figure:.4}"),
    }
}

/// The most that the process had, in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// How often in a second.
fn rate(mut run: impl FnMut(u64)) -> f64 {
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < MEASURED {
        for _ in 0..8 {
            run(count);
            count += 1;
        }
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

/// One of so many, as if at random.
fn one_of(count: u64, step: u64) -> u64 {
    step.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) % count
}

fn open(folder: &Path) -> Store {
    let builder = Store::builder().durability(Durability::Memory);
    builder.cache_bytes(512 << 20).open(folder).unwrap()
}

fn value(step: u64, bytes: usize) -> Value {
    let mut value = step.to_le_bytes().repeat(bytes.div_ceil(8));
    value.truncate(bytes);
    Value::Bytes(value)
}

fn name(key: u64) -> String {
    format!("{key:016}")
}

fn read(handle: &ScopeHandle, key: &str) {
    assert!(handle.get::<Value>(key).unwrap().is_some());
}

/// Puts so many keys into each scope, in batches of 1,000.
fn load(store: &Store, handles: &[ScopeHandle], in_scope: u64) {
    let total = handles.len() as u64 * in_scope;
    for begin in (0..total).step_by(1_000) {
        let batch = |tx: &evenkeel::Transaction| {
            for at in begin..total.min(begin + 1_000) {
                let handle = &handles[(at / in_scope) as usize];
                tx.scope(handle.scope().clone())
                    .set(name(at % in_scope), value(at, 128))?;
            }
            Ok(())
        };
        store.transact(batch).unwrap();
    }
}

fn workers(store: &Store, count: u64) -> Vec<ScopeHandle> {
    let handles = (0..count).map(|number| store.scope(Scope::worker(number.to_string())));
    handles.collect()
}

fn keys(count: u64, folder: &Path) -> Vec<f64> {
    let store = open(folder);
    let handles = workers(&store, count / IN_SCOPE);
    let begun = Instant::now();
    load(&store, &handles, IN_SCOPE);
    store.checkpoint().unwrap();
    let loaded = count as f64 / begun.elapsed().as_secs_f64();
    let of = |step: u64| {
        let key = one_of(count, step);
        (&handles[(key / IN_SCOPE) as usize], name(key % IN_SCOPE))
    };
    let reads = rate(|step| {
        let (handle, key) = of(step);
        read(handle, &key);
    });
    let commits = rate(|step| {
        let (handle, key) = of(step);
        handle.set(key, value(step, 128)).unwrap();
    });
    let scans = rate(|step| assert_eq!(of(step).0.scan("").unwrap().count() as u64, IN_SCOPE));
    drop(handles);
    store.close().unwrap();
    let begun = Instant::now();
    let store = open(folder);
    read(&workers(&store, 1)[0], &name(0));
    vec![loaded, reads, commits, scans, begun.elapsed().as_secs_f64()]
}

/// 100,000 keys in so many scopes.
fn scopes(count: u64, folder: &Path) -> Vec<f64> {
    let store = open(folder);
    let handles = workers(&store, count);
    let in_scope = 100_000 / count;
    load(&store, &handles, in_scope);
    store.checkpoint().unwrap();
    let of = |step: u64| {
        let handle = &handles[one_of(count, step) as usize];
        (handle, name(one_of(in_scope, step >> 3)))
    };
    let commits = rate(|step| {
        let (handle, key) = of(step);
        handle.set(key, value(step, 128)).unwrap();
    });
    let reads = rate(|step| {
        let (handle, key) = of(step);
        read(handle, &key);
    });
    let scans = rate(|step| assert_eq!(of(step).0.scan("").unwrap().count() as u64, in_scope));
    let lists = rate(|_| assert!(store.scopes().unwrap().len() as u64 >= count));
    vec![commits, reads, scans, lists]
}

/// So many jobs of a worker that is paused, and others that pass beside them.
fn jobs(count: u64, folder: &Path) -> Vec<f64> {
    let start = || {
        let keep = KeepJobs::new().number(10);
        let builder = Runtime::builder(open(folder)).keep_jobs(keep);
        let runtime = builder.start().unwrap();
        for name in ["held", "free"] {
            let mut flow = Flow::new(name);
            flow.add_fn("passes", |_| Ok(()))
                .unwrap()
                .slot_with("in", SlotOptions::new().capacity(200_000));
            runtime.register(flow).unwrap();
            runtime.exec(name).unwrap();
        }
        runtime.pause_worker("held").unwrap();
        runtime
    };
    let runtime = start();
    let begun = Instant::now();
    for _ in 0..count {
        runtime.post("held", "passes", "in", ()).unwrap();
    }
    let posts = count as f64 / begun.elapsed().as_secs_f64();
    let others = rate(|_| {
        let job = runtime.post("free", "passes", "in", ()).unwrap();
        job.wait(LONG).unwrap();
    });
    runtime.store().barrier().unwrap();
    drop(runtime);
    let begun = Instant::now();
    let runtime = start();
    let reopened = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    runtime.resume_worker("held").unwrap();
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
    let ended = count as f64 / begun.elapsed().as_secs_f64();
    vec![posts, others, ended, reopened]
}

/// Values of so many bytes, under 64 keys.
fn sizes(bytes: u64, folder: &Path) -> Vec<f64> {
    let store = open(folder);
    let handle = store.global();
    let size = usize::try_from(bytes).unwrap();
    let values: Vec<_> = (0..8).map(|step| value(step, size)).collect();
    let commits = rate(|step| {
        handle
            .set(name(step % 64), &values[(step % 8) as usize])
            .unwrap()
    });
    store.checkpoint().unwrap();
    let reads = rate(|step| read(&handle, &name(step % 8)));
    let megabytes = |rate: f64| rate * bytes as f64 / 1e6;
    vec![commits, megabytes(commits), reads, megabytes(reads)]
}

/// So many commits that no checkpoint has taken up.
fn log(count: u64, folder: &Path) -> Vec<f64> {
    let open = || {
        let builder = Store::builder().durability(Durability::Memory);
        builder.memtable_bytes(4 << 30).open(folder).unwrap()
    };
    let store = open();
    let handles = workers(&store, 100);
    for step in 0..count {
        let key = name(one_of(IN_SCOPE, step));
        handles[(step % 100) as usize]
            .set(key, value(step, 128))
            .unwrap();
    }
    store.barrier().unwrap();
    // As SIGKILL leaves it: closing would make a checkpoint.
    let copy = folder.with_extension("copy");
    let copied = Command::new("cp").arg("-r").args([folder, &copy]).status();
    assert!(copied.unwrap().success());
    let begun = Instant::now();
    let builder = Store::builder().memtable_bytes(4 << 30);
    let reopened = builder.open(&copy).unwrap();
    read(&workers(&reopened, 1)[0], &name(one_of(IN_SCOPE, 0)));
    let seconds = begun.elapsed().as_secs_f64();
    vec![seconds, count as f64 / seconds]
}
