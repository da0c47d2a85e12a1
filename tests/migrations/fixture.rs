//! A store of the first format, with the little schema that its maker had, goes through
//! three migrations in a process that is killed 50 times on its way. What comes out is what
//! one run gives, to the byte.
//!
//! The child is this program, run for its one ignored test. It goes on for as many words as
//! it was given, and says where it is for each: in a migration, behind a scope, or behind a
//! part of what is applied. It is killed behind one that a seed chooses, while it goes on to
//! the next.

#![expect(
    clippy::print_stdout,
    reason = "a process says where it is, and a test what it tried"
)]

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use evenkeel::{
    Builder, Error, MigrationPhase, MigrationProgress, Scope, ScopeKind, ScopeSet, Store,
};

use crate::parts::{Made, lines};
use crate::unpack::unpack;

const KILLS: u64 = 50;
const SEED: u64 = 0x5EED_0005;
/// A long life: it was killed, with several blocks, a snapshot and recycled segments.
const FIXTURE: &str = "tests/fixtures/format-1/worn.tar.gz";
const JOBS: i64 = 40;

fn index() -> Scope {
    Scope::custom("index")
}

/// Three migrations, which say when they are in the middle of a scope. A scope that is
/// migrated twice, or not at all, would be seen in what they count.
fn chain(told: impl Fn(&str) + Send + Sync + 'static) -> Vec<Made> {
    let told: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(told);
    let tell = Arc::clone(&told);
    let one_job_each = Made::to(2, move |state| {
        for key in state.keys()? {
            let job = state.joined(Scope::job(&key))?;
            job.set("text", state.get::<String>(&key)?)?;
            state.remove(&key)?;
        }
        tell("in version 2");
        Ok(())
    });
    let tell = Arc::clone(&told);
    let measured = Made::to(3, move |state| {
        let text: String = state.get("text")?.ok_or_else(|| Error::abort("no text"))?;
        let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
        state.set("length", length)?;
        tell("in version 3");
        state.convert("text", |text: String| Ok(text.split(' ').count()))?;
        state.rename("text", "words")?;
        let global = state.joined(Scope::Global)?;
        global.set("jobs", global.get::<i64>("jobs")?.unwrap_or(0) + 1)?;
        global.set("bytes", global.get::<i64>("bytes")?.unwrap_or(0) + length)
    });
    let priced = Made::to(4, move |state| {
        for key in ["length", "count", "swapped"] {
            state.convert(key, |n: i64| Ok(n * 3 + 1))?;
        }
        told("in version 4");
        if let Some(words) = state.get::<i64>("words")? {
            let index = state.joined(index())?;
            // More than is applied at once.
            for n in 0..30 {
                index.set(format!("{} {n:02}", state.scope()), words * n)?;
            }
        }
        let global = state.joined(Scope::Global)?;
        global.set("visits", global.get::<i64>("visits")?.unwrap_or(0) + 1)
    });
    vec![
        one_job_each
            .scopes(ScopeSet::scope(Scope::job("filled")))
            .joins(|_| ScopeSet::kind(ScopeKind::Job)),
        measured
            .scopes(ScopeSet::kind(ScopeKind::Job))
            .joins(|_| ScopeSet::scope(Scope::Global)),
        priced
            .scopes(ScopeSet::all().except(ScopeSet::scope(Scope::Global)))
            .joins(|_| ScopeSet::scope(Scope::Global).or(ScopeSet::scope(index()))),
    ]
}

fn builder(told: impl Fn(&str) + Send + Sync + 'static) -> Builder {
    let builder = Store::builder()
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 64 * 1024)
        .block_bytes(1024);
    let add = |builder: Builder, made: Made| builder.migration(made);
    chain(told).into_iter().fold(builder, add)
}

/// Says where it is, and waits for a word to go on.
fn say(what: &str) {
    println!("it is {what}");
    let mut word = String::new();
    // Without a word it waits here to be killed.
    std::io::stdin().read_line(&mut word).unwrap();
    assert!(!word.is_empty(), "nobody is there any more");
}

#[test]
#[ignore = "it is the child of the test that kills it"]
fn child() {
    let path = env::var_os("EVENKEEL_STORE").unwrap();
    let told = |progress: &MigrationProgress| {
        match progress.phase {
            MigrationPhase::Applying => say("applying"),
            _ => say(&format!("behind {} {}", progress.step, progress.scopes)),
        }
        ControlFlow::Continue(())
    };
    let opened = builder(say).migration_progress(told).open(path);
    println!("it is open: {opened:?}");
}

fn start(store: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "fixture::child", "--ignored", "--nocapture"])
        .env("EVENKEEL_STORE", store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills it where it says something that `is_it`; gives all that it said.
fn kill_where(store: &Path, words: u64, mut is_it: impl FnMut(&str) -> bool) -> Vec<String> {
    let mut child = start(store);
    let mut stdin = child.stdin.take().unwrap();
    let words = "go\n".repeat(usize::try_from(words).unwrap());
    stdin.write_all(words.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("it ended before it was killed: {said:?}"))
            .unwrap();
        if let Some((_, what)) = line.split_once("it is ") {
            said.push(what.to_owned());
            if is_it(what) {
                break;
            }
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(stdin);
    said
}

/// The furthest that a child said to be: what is behind a scope is in the kernel's hands.
fn furthest(said: &[String]) -> Option<(u64, u64)> {
    let behind = said.iter().filter_map(|what| what.strip_prefix("behind "));
    let places = behind.map(|place| {
        let (step, scopes) = place.split_once(' ').unwrap();
        (step.parse().unwrap(), scopes.parse().unwrap())
    });
    places.max()
}

fn unpacked(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("state");
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    unpack(&std::fs::read(archive).unwrap(), &path);
    path
}

/// What the chain leaves: the state, line by line, and how its schema came about.
fn outcome(store: &Store) -> (String, Vec<(u32, u32, String)>) {
    assert_eq!(store.schema_version(), 4);
    assert!(store.verify().unwrap().is_clean());
    let history = store.schema_history().unwrap().into_iter();
    let history = history.map(|change| (change.from, change.to, change.name));
    (lines(store), history.collect())
}

#[test]
fn a_store_of_the_first_format_is_migrated_though_it_is_killed_50_times() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [path, whole] = [0, 1].map(|n| unpacked(folders[n].path()));
    let store = builder(|_| ()).open(whole).unwrap();
    let expected = outcome(&store);
    let global = store.global();
    assert_eq!(global.get("jobs").unwrap(), Some(JOBS));
    // Jobs, stock, what was cleared, and a step.
    assert_eq!(global.get("visits").unwrap(), Some(JOBS + 3));
    assert_eq!(store.scope(index()).len().unwrap(), JOBS as u64 * 30);
    let stock = store.scope(Scope::custom("stock"));
    assert_eq!(stock.get("count").unwrap(), Some(-32 * 3 + 1));
    assert_eq!(expected.1.len(), 3);

    let (mut random, mut last) = (SEED, None);
    for kill in 1..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let number = 1 + (random >> 33) % 3;
        let mut left = number;
        let said = kill_where(&path, number, |_| {
            left -= 1;
            left == 0
        });
        println!("seed {SEED:#x}, kill {kill} behind word {number}: {said:?}");
        let furthest = furthest(&said);
        // It goes on where it was: only that a step begins may be said again.
        let goes_on = furthest.is_none() || furthest > last || furthest.unwrap().1 == 0;
        assert!(goes_on, "{furthest:?} behind {last:?}");
        last = last.max(furthest);
    }
    assert!(last > Some((1, 1)), "{last:?}");
    let said = kill_where(&path, 1000, |what| what == "applying");
    assert!(furthest(&said) > last);

    // The older program does not get at it any more.
    let refused = Store::open(&path);
    assert!(
        matches!(refused, Err(Error::NewerSchema { found: 4, .. })),
        "{refused:?}"
    );
    let store = builder(|_| panic!("all has been migrated"))
        .open(&path)
        .unwrap();
    assert!(store.migration_report().unwrap().resumed);
    let found = outcome(&store);
    assert!(found.0 == expected.0, "another state");
    assert_eq!(found.1, expected.1);
    store.close().unwrap();
    let store = builder(|_| panic!("all has been migrated"))
        .open(&path)
        .unwrap();
    assert!(store.migration_report().is_none());
    assert_eq!(outcome(&store), expected);
}
