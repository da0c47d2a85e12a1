//! What a store on the real disk, with sled, really asks of the kernel, as `strace` sees
//! it. The simulated disk proves the order of our calls; this proves that the calls
//! arrive: that a sync is a sync, and that sled's files are synced behind its back.
//!
//! Where there is no `strace`, or the kernel allows none, nothing is shown, and the test
//! says so.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this is how a test fails, and how a child tells what it does"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use evenkeel::{Scope, Store};

const CHILD: &str = "EVENKEEL_TEST_TRACED";

const CALLS: &str = "openat,mkdir,mkdirat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,\
                     fallocate,fsync,fdatasync,rename,renameat,renameat2";

/// Not a test of its own: lives through all that a store does, and says what was
/// acknowledged.
#[test]
fn child_that_is_traced() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let open = || {
        Store::builder()
            .background(false)
            .segment_bytes(8192, 16_384)
            .block_bytes(1024)
            .open(&root)
            .unwrap()
    };
    let mut acked = 0;
    let mut commit = |store: &Store| {
        let job = store.scope(Scope::job("j"));
        let value = format!("{acked} ").repeat(300);
        job.set(format!("k{}", acked % 30), value).unwrap();
        println!("\nacked {acked}");
        acked += 1;
    };
    for round in 0..3 {
        let store = open();
        for part in 0..3 {
            (0..12).for_each(|_| commit(&store));
            store.checkpoint().unwrap();
            if part == round {
                store.snapshot().unwrap();
            }
        }
        commit(&store);
        // One is closed, the others are as a kill leaves them.
        match round {
            0 => store.close().unwrap(),
            _ => drop(store),
        }
    }
    fs::remove_dir_all(Path::new(&root).join("image")).unwrap();
    commit(&open());
}

/// What the kernel was asked for, below the store's folder.
#[derive(Debug, Default)]
struct Trace {
    root: PathBuf,
    known: BTreeSet<PathBuf>,
    /// Files with bytes that are not synced, and since which line.
    unsynced: BTreeMap<PathBuf, usize>,
    /// Names that are there and not durable.
    unnamed: BTreeSet<PathBuf>,
    /// Calls that have begun: by thread, from where.
    begun: BTreeMap<String, (usize, String)>,
    acked: usize,
    switched: usize,
    renamed: usize,
    broken: Vec<String>,
}

impl Trace {
    fn line(&mut self, at: usize, line: &str) {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            self.begins(at, start);
            self.begun.insert(thread.into(), (at, start.into()));
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            if let Some((begun, start)) = self.begun.remove(thread) {
                self.ends(begun, at, &format!("{start}{rest}"));
            }
        } else {
            self.begins(at, call);
            self.ends(at, at, call);
        }
    }

    /// What the first argument is open as, if it is in the store or the folder above it.
    fn descriptor(&self, call: &str) -> Option<PathBuf> {
        let (_, rest) = call.split_once('<')?;
        let path = PathBuf::from(rest.split_once('>')?.0);
        path.starts_with(self.root.parent()?).then_some(path)
    }

    fn is(call: &str, names: &[&str]) -> bool {
        let name = call.split_once('(').map_or("", |(name, _)| name);
        names.contains(&name)
    }

    fn begins(&mut self, at: usize, call: &str) {
        let writes = ["write", "writev", "pwrite64", "pwritev", "pwritev2"];
        if Self::is(call, &writes) || Self::is(call, &["ftruncate", "fallocate"]) {
            if let Some(path) = self.descriptor(call) {
                self.unsynced.insert(path, at);
            } else if call.contains("acked ") {
                self.acked += 1;
                self.expect(
                    at,
                    call,
                    |path| path.starts_with("wal"),
                    |path| !of_image(path),
                );
            }
        }
        if Self::is(call, &["rename", "renameat", "renameat2"]) {
            let Some((from, to)) = self.names(call) else {
                return;
            };
            if !of_image(&from) {
                self.renamed += 1;
                self.expect(at, call, |path| path == from, |_| false);
            }
            if to == Path::new("MANIFEST") {
                self.switched += 1;
                self.expect(at, call, of_image, of_image);
            }
        }
    }

    fn ends(&mut self, begun: usize, at: usize, call: &str) {
        let Some((_, result)) = call.rsplit_once(" = ") else {
            return;
        };
        if result.starts_with('-') {
            return;
        }
        if Self::is(call, &["fsync", "fdatasync"]) {
            if let Some(path) = self.descriptor(call) {
                // What was written meanwhile may have come too late.
                self.unsynced
                    .retain(|file, since| *file != path || *since > begun);
                self.unnamed.retain(|name| name.parent() != Some(&path));
            }
        } else if Self::is(call, &["rename", "renameat", "renameat2"]) {
            if let Some((from, to)) = self.names(call) {
                let (from, to) = (self.root.join(from), self.root.join(to));
                let since = self.unsynced.remove(&from);
                self.unsynced.extend(since.map(|since| (to.clone(), since)));
                self.known.remove(&from);
                self.unnamed.remove(&from);
                self.known.insert(to.clone());
                self.unnamed.insert(to);
            }
        } else if Self::is(call, &["openat", "mkdir", "mkdirat"])
            && (call.contains("O_CREAT") || call.starts_with("mkdir"))
            && let Some(name) = quoted(call).first()
        {
            let path = PathBuf::from(name);
            if path.starts_with(&self.root) && self.known.insert(path.clone()) {
                self.unnamed.insert(path);
            }
        } else if Self::is(
            call,
            &["write", "writev", "pwrite64", "pwritev", "pwritev2"],
        ) && let Some(path) = self.descriptor(call)
        {
            self.unsynced.insert(path, at);
        }
    }

    /// Both names of a rename, below the root.
    fn names(&self, call: &str) -> Option<(PathBuf, PathBuf)> {
        let below = |name: &str| {
            let path = Path::new(name).strip_prefix(&self.root).ok()?;
            Some(path.to_path_buf())
        };
        let names = quoted(call);
        Some((below(names.first()?)?, below(names.get(1)?)?))
    }

    /// Nothing that is meant is unsynced.
    fn expect(
        &mut self,
        at: usize,
        call: &str,
        file: impl Fn(&Path) -> bool,
        name: impl Fn(&Path) -> bool,
    ) {
        let below = |path: &PathBuf| path.strip_prefix(&self.root).unwrap().to_path_buf();
        let files: Vec<_> = self
            .unsynced
            .keys()
            .map(below)
            .filter(|p| file(p))
            .collect();
        let names: Vec<_> = self.unnamed.iter().map(below).filter(|p| name(p)).collect();
        if !files.is_empty() || !names.is_empty() {
            let what = format!("line {at}, {call}: unsynced {files:?}, without a name {names:?}");
            self.broken.push(what);
        }
    }
}

fn of_image(path: &Path) -> bool {
    path.starts_with("image")
}

/// The strings among the arguments.
fn quoted(call: &str) -> Vec<String> {
    let parts = call.split('"').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

#[test]
fn the_kernel_is_asked_to_sync_before_anything_relies_on_it() {
    let folder = tempfile::tempdir().unwrap();
    // Without links, as the kernel names it.
    let root = folder.path().canonicalize().unwrap().join("state");
    let log = folder.path().join("trace");
    let traced = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-s",
            "400",
            "-e",
            &format!("trace={CALLS}"),
            "-o",
        ])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_traced", "--nocapture"])
        .env(CHILD, &root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let text = fs::read_to_string(&log).unwrap_or_default();
    let mut trace = Trace {
        root,
        ..Trace::default()
    };
    for (at, line) in text.lines().enumerate() {
        trace.line(at + 1, line);
    }
    if trace.acked == 0 {
        println!("strace shows nothing here ({traced:?}): nothing was checked");
        return;
    }
    assert!(traced.unwrap().success(), "the child failed");
    let Trace {
        acked,
        switched,
        renamed,
        broken,
        ..
    } = trace;
    assert!(
        acked > 100 && switched > 9 && renamed > 20,
        "{acked} {switched} {renamed}"
    );
    println!("{acked} commits, {switched} manifests, {renamed} renames, all behind their syncs");
    assert!(
        broken.is_empty(),
        "{} of {} lines:\n{}",
        broken.len(),
        text.lines().count(),
        broken[..broken.len().min(10)].join("\n")
    );
}
