//! The command line as its user meets it: a process that is killed, what it said on
//! stdout, and its exit code.
//!
//! Writers are killed by what they print, never by the clock. `crash write` and `crash
//! check` are a contract that programs of others rely on; the tests here use nothing
//! else of it than those do.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "it is a test, helpers and all"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use evenkeel::{FileBackend, Scope, Store, Value};
use tempfile::TempDir;

const MODES: [&str; 4] = ["mixed", "single", "transactions", "threads"];

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
}

/// A place for a store, which is not there yet.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    (folder, store)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn numbers(out: &str, word: &str) -> Vec<u64> {
    let number = |line: &str| {
        let number = line
            .strip_prefix(word)
            .and_then(|line| line.strip_prefix(' '));
        number.and_then(|number| number.parse().ok())
    };
    out.lines()
        .map(|line| number(line).unwrap_or_else(|| panic!("no line of {word}: {line:?}")))
        .collect()
}

fn writer(store: &Path, start: u64, more: &[&str]) -> Command {
    let mut command = program();
    command.args(["crash", "write"]).arg(store);
    command.arg("--start").arg(start.to_string()).args(more);
    command
}

/// Starts a writer and kills it once it has acknowledged so many records; gives all that
/// it acknowledged.
fn write(store: &Path, start: u64, more: &[&str], acks: usize) -> Vec<u64> {
    let mut child = piped(&mut writer(store, start, more));
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    for _ in 0..acks {
        let read = out.read_line(&mut said).unwrap();
        if read == 0 {
            let mut words = String::new();
            child.stderr.unwrap().read_to_string(&mut words).unwrap();
            panic!("it ended by itself: {words}");
        }
    }
    child.kill().unwrap();
    out.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(
        said.is_empty() || said.ends_with('\n'),
        "half a line: {said:?}"
    );
    numbers(&said, "acked")
}

fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn checked(store: &Path) -> Output {
    program()
        .args(["crash", "check"])
        .arg(store)
        .output()
        .unwrap()
}

/// Checks a store that has to be whole; gives its records.
fn have(store: &Path) -> Vec<u64> {
    let output = checked(store);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let have = numbers(&text(&output.stdout), "have");
    assert!(have.is_sorted_by(|one, next| one < next), "{have:?}");
    have
}

fn assert_all_there(acked: &[u64], have: &[u64]) {
    for number in acked {
        assert!(
            have.binary_search(number).is_ok(),
            "record {number} is lost"
        );
    }
}

#[test]
fn a_run_passes_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = program()
        .args(["crash", "run", "--rounds", "6", "--seed", "11"])
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (summary, words) = (text(&output.stdout), text(&output.stderr));
    for part in [
        "rounds:       6\n",
        "seed:         11\n",
        "outcome:      passed",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    assert!(words.contains("--seed 11"), "{words}");
    assert!(words.contains("round 6 of 6"), "{words}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn a_run_goes_on_with_a_store_of_its_own_and_refuses_others() {
    let (folder, store) = place();
    let acked = write(&store, 5, &[], 60);
    let run = |dir: &Path| {
        let mut command = program();
        command.args([
            "crash", "run", "--rounds", "2", "--quiet", "--mode", "single",
        ]);
        command.arg("--dir").arg(dir).output().unwrap()
    };
    let output = run(&store);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    assert_all_there(&acked, &have(&store));

    let other = folder.path().join("other");
    let of_another = Store::open(&other).unwrap();
    of_another.global().set("a", 1).unwrap();
    of_another.close().unwrap();
    let output = run(&other);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("this is no store of"),
        "{output:?}"
    );
    assert!(text(&output.stdout).contains("FAILED"), "{output:?}");
    // A folder that holds a store, among other things.
    let output = run(folder.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("is not a store"),
        "{output:?}"
    );
}

#[test]
fn an_interrupted_run_ends_with_its_summary() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = program();
    command.args(["crash", "run", "--rounds", "100000", "--seed", "3"]);
    let mut child = piped(command.env("TMPDIR", temporary.path()));
    let mut words = String::new();
    BufReader::new(child.stderr.as_mut().unwrap())
        .read_line(&mut words)
        .unwrap();
    let interrupt = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &interrupt])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).contains("interrupted"), "{output:?}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

#[test]
fn what_was_acknowledged_is_there_whatever_mode_comes_after_which() {
    let (_folder, store) = place();
    let mut all = Vec::new();
    let mut start = 1;
    for (round, mode) in MODES.iter().cycle().take(9).enumerate() {
        // Behind the last acknowledged one, which may be there already; or with a gap; or
        // once more from the beginning.
        let from = match round % 4 {
            2 => start + 100,
            3 => 1,
            _ => start,
        };
        let acked = write(&store, from, &["--mode", mode], 20 + 17 * round);
        assert!(acked.iter().all(|number| *number >= from));
        start = start.max(acked.iter().max().unwrap() + 1);
        all.extend(acked);
        assert_all_there(&all, &have(&store));
    }
}

#[test]
fn a_kill_before_the_first_acknowledgement_is_fine() {
    let (_folder, store) = place();
    for _ in 0..8 {
        write(&store, 0, &[], 0);
        assert!(checked(&store).status.success());
    }
    let acked = write(&store, 0, &["--mode", "transactions"], 30);
    for _ in 0..8 {
        write(&store, 500, &[], 0);
    }
    assert_all_there(&acked, &have(&store));
}

#[test]
fn many_threads_acknowledge_whole_lines_and_each_number_once() {
    let (_folder, store) = place();
    let mut acked = write(&store, 1, &["--mode", "threads", "--threads", "32"], 600);
    assert_all_there(&acked, &have(&store));
    acked.sort_unstable();
    assert!(acked.is_sorted_by(|one, next| one < next), "a number twice");
}

#[test]
fn numbers_end_at_the_last_one() {
    let (_folder, store) = place();
    let output = writer(&store, u64::MAX - 2, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("no more numbers"),
        "{output:?}"
    );
    let last = [u64::MAX - 2, u64::MAX - 1, u64::MAX];
    assert_eq!(numbers(&text(&output.stdout), "acked"), last);
    assert_eq!(have(&store), last);
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    let (_folder, store) = place();
    for mode in MODES {
        let mut child = piped(&mut writer(&store, 1, &["--mode", mode]));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(line.starts_with("acked "), "{line:?}");
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{mode}: {output:?}");
        let words = text(&output.stderr);
        assert!(
            words.lines().all(|line| line.starts_with("opened: ")),
            "{words}"
        );
    }
    let mut child = piped(program().args(["crash", "check"]).arg(&store));
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_commit_that_fails_is_not_acknowledged() {
    let (_folder, store) = place();
    // Files may not grow beyond 256 KiB: a disk that is full.
    let script = r#"trap "" XFSZ; ulimit -f 512; exec "$0" "$@""#;
    let command = writer(&store, 1, &["--mode", "transactions"]);
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(command.get_program())
        .args(command.get_args())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let acked = numbers(&text(&output.stdout), "acked");
    let words = text(&output.stderr);
    let next = acked.last().map_or(1, |last| last + 1);
    assert!(
        words.contains(&format!("record {next} was not committed: ")),
        "{words}"
    );
    assert_all_there(&acked, &have(&store));
    // With room it goes on.
    let more = write(&store, next, &[], 10);
    assert_all_there(&more, &have(&store));
}

#[test]
fn a_second_one_is_refused_at_once() {
    let (_folder, store) = place();
    let mut first = piped(&mut writer(&store, 1, &[]));
    let mut line = String::new();
    let mut out = BufReader::new(first.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let second = writer(&store, 1, &[]).output().unwrap();
    for output in [second, checked(&store)] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(
            text(&output.stderr).contains("is in use by another store"),
            "{output:?}"
        );
    }
    first.kill().unwrap();
    first.wait().unwrap();
    have(&store);
}

#[test]
fn a_place_without_a_store_has_no_records() {
    let (folder, store) = place();
    assert!(have(&store).is_empty());
    assert!(!store.exists(), "looking makes nothing");
    fs::create_dir(&store).unwrap();
    assert!(have(&store).is_empty());
    // As far as a writer comes that is killed while it makes the store.
    fs::create_dir(store.join("wal")).unwrap();
    fs::write(store.join("LOCK"), "").unwrap();
    assert!(have(&store).is_empty());

    let output = checked(folder.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        text(&output.stderr).contains("is not a store"),
        "{output:?}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(checked(&file).status.code(), Some(1));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (_folder, store) = place();
    let store = store.to_str().unwrap();
    let refused = |arguments: &[&str]| {
        let output = program().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert_eq!(text(&output.stdout), "");
        assert!(!output.stderr.is_empty());
    };
    refused(&[]);
    refused(&["crash"]);
    refused(&["crash", "write", store]);
    refused(&["crash", "write", "--start", "1"]);
    refused(&["crash", "write", store, "--start", "-1"]);
    refused(&["crash", "write", store, "--start", "18446744073709551616"]);
    refused(&["crash", "write", store, "--start", "1", "--mode", "both"]);
    refused(&["crash", "write", store, "--start", "1", "--threads", "0"]);
    refused(&["crash", "write", store, "--start", "1", "--image", "db"]);
    refused(&["crash", "check"]);
    refused(&["crash", "check", store, store]);
    refused(&["crash", "run", store]);
    refused(&["crash", "run", "--rounds", "many"]);
    assert!(!Path::new(store).exists());
    let help = program()
        .args(["crash", "write", "--help"])
        .output()
        .unwrap();
    assert!(help.status.success() && text(&help.stdout).contains("acked N"));
}

/// Changes a store behind the back of its writer, and expects the check to name it.
fn tampered(original: &Path, named: &str, change: impl FnOnce(&Store)) {
    let (_folder, store) = place();
    copy(original, &store);
    let open = Store::open(&store).unwrap();
    change(&open);
    open.close().unwrap();
    let output = checked(&store);
    assert_eq!(output.status.code(), Some(1), "{named}: {output:?}");
    let words = text(&output.stderr);
    assert!(words.contains("contradiction: "), "{words}");
    assert!(words.contains(named), "{named}: {words}");
    numbers(&text(&output.stdout), "have");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

#[test]
fn a_store_that_contradicts_itself_is_named() {
    let (_folder, store) = place();
    let acked = write(&store, 1, &["--mode", "transactions"], 40);
    have(&store);
    let key = format!("{:020}", 17);
    // Wherever its parts are.
    let open = Store::open(&store).unwrap();
    let parts: Vec<_> = open
        .scopes()
        .unwrap()
        .into_iter()
        .filter(|scope| open.scope(scope.clone()).contains(&key).unwrap())
        .filter(|scope| *scope != Scope::custom("records"))
        .collect();
    open.close().unwrap();
    let is_part = |scope: &&Scope| matches!(scope, Scope::Workflow(_) | Scope::Step { .. });
    assert_eq!(parts.iter().filter(is_part).count(), 2, "{parts:?}");
    for part in parts.iter().filter(is_part) {
        let place = format!("record 17: its part at key {key:?} in {part}");
        tampered(&store, &format!("{place} is missing"), |store| {
            store.scope(part.clone()).delete(&key).unwrap();
        });
        tampered(
            &store,
            &format!("{place} is not what was written"),
            |store| {
                store.scope(part.clone()).set(&key, 1).unwrap();
            },
        );
        // The same content, of another commit.
        tampered(&store, &format!("{place} has version"), |store| {
            let scope = store.scope(part.clone());
            let value: Value = scope.get(&key).unwrap().unwrap();
            scope.set(&key, value).unwrap();
        });
    }
    tampered(
        &store,
        "record 18: run 1 wrote it after record 17, which is missing",
        |store| {
            store.scope(Scope::custom("records")).delete(&key).unwrap();
        },
    );
    tampered(&store, "its content is not what was written", |store| {
        let patch: Value = [("payload", Value::Bytes(vec![1]))].into_iter().collect();
        store
            .scope(Scope::custom("records"))
            .merge(&key, patch)
            .unwrap();
    });
    tampered(&store, "key \"records\" in global is", |store| {
        store.global().increment("records", -1).unwrap();
    });
    tampered(&store, "key \"sum\" in worker \"worker-0\" is", |store| {
        store
            .scope(Scope::worker("worker-0"))
            .increment("sum", 1)
            .unwrap();
    });
    tampered(&store, "in custom scope \"index\" is missing", |store| {
        store.scope(Scope::custom("index")).clear().unwrap();
    });
    tampered(
        &store,
        "job \"job-9\" is no scope of `crash write`",
        |store| {
            store.scope(Scope::job("job-9")).set("a", 1).unwrap();
        },
    );
    // None of it came from the copying.
    assert_all_there(&acked, &have(&store));
}

#[test]
fn damage_that_heals_is_told_and_no_failure() {
    let (_folder, store) = place();
    let acked = write(&store, 1, &[], 400);
    have(&store);
    fs::remove_dir_all(store.join("image")).unwrap();
    let output = checked(&store);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stderr).contains("healed: "), "{output:?}");
    assert_all_there(&acked, &numbers(&text(&output.stdout), "have"));

    // What cannot be healed is a failure, with its place.
    for entry in fs::read_dir(store.join("wal")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let output = checked(&store);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("is damaged"), "{output:?}");
}

/// What the files of the images of a store end with, but those that a kill left half written.
fn endings(store: &Path) -> BTreeSet<String> {
    let files = |folder: PathBuf| {
        fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path())
    };
    let images = files(store.join("image"));
    let names = images
        .flat_map(files)
        .map(|path| path.display().to_string());
    names
        .map(|name| name.rsplit(['.', '/']).next().unwrap().to_owned())
        .filter(|end| end != "tmp")
        .collect()
}

#[test]
fn an_image_in_files_is_found_by_itself() {
    let (_folder, store) = place();
    let of_files = ["data", "index"].map(str::to_owned).into();
    let check_with = |image: &str| {
        let mut command = program();
        let command = command.args(["crash", "check", "--image", image]);
        let output = command.arg(&store).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        text(&output.stderr)
    };
    let acked = write(&store, 1, &["--image", "files"], 400);
    // Until a checkpoint is whole, as at a close, nothing says what is to keep the image.
    check_with("files");
    assert_eq!(endings(&store), of_files);
    let more = write(&store, 1000, &[], 400);
    for _ in 0..2 {
        let output = checked(&store);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!text(&output.stderr).contains("healed: "), "{output:?}");
        let have = numbers(&text(&output.stdout), "have");
        assert_all_there(&acked, &have);
        assert_all_there(&more, &have);
        assert_eq!(endings(&store), of_files);
    }
    // Asked for, and only then, it is built anew.
    let words = check_with("sled");
    assert!(words.contains("has an image of a FileBackend"), "{words}");
    assert_all_there(&acked, &have(&store));
    assert!(endings(&store).contains("conf"));
}

#[test]
fn a_run_over_an_image_in_files_passes_and_goes_on_with_it() {
    let (_folder, store) = place();
    for image in [&["--image", "files"][..], &[]] {
        let mut command = program();
        command.args(["crash", "run", "--rounds", "6", "--seed", "12", "--dir"]);
        let output = command.arg(&store).args(image).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(
            text(&output.stdout).contains(", 0 rebuilds, "),
            "{output:?}"
        );
    }
    assert!(endings(&store).contains("index"));
}

/// Where there is nothing else to build it from, one that opens it with sled says that the
/// image is damaged.
#[test]
fn a_store_of_a_program_with_an_image_in_files_and_no_snapshots_is_opened() {
    let (_folder, store) = place();
    let builder = || Store::builder().snapshots(false).cache_bytes(0);
    let of_files = builder().image(Arc::new(FileBackend::default()));
    let open = of_files.open(&store).unwrap();
    // So much that the log no longer begins with the first commit.
    open.global().set("large", vec![7_u8; 9 << 20]).unwrap();
    open.global().set("kept", 1).unwrap();
    open.checkpoint().unwrap();
    open.global().set("large", 0).unwrap();
    open.close().unwrap();
    drop(open);

    let output = checked(&store);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let words = text(&output.stderr);
    assert!(words.contains("this is no store of"), "{words}");
    assert!(
        words.starts_with("opened: ") && !words.contains("damage"),
        "{words}"
    );
    let open = builder().open(&store).unwrap();
    assert_eq!(open.global().get("kept").unwrap(), Some(1));
    assert!(open.recovery().healed.is_empty());
    assert!(endings(&store).contains("index"));
}
