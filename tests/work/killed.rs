//! A flow as a process that is killed again and again, on the real disk: every job that was
//! acknowledged ends, each thing is counted once, and each effect outside was done once, or
//! was rightly uncertain.
//!
//! The child is this program, run for its one ignored test. It posts without end, so it is
//! always killed before its end; the moment is behind a line that it printed, which a seed
//! chooses.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use evenkeel::{
    ActivationPolicy, ErrorHandler, Failure, Flow, JobStatus, PostOptions, Resolution, Runtime,
    Store,
};
use serde_json::json;

use crate::rig::LONG;

const KILLS: u64 = 12;
const SEED: u64 = 0x5EED_0007;

fn note(path: &Path, line: &str) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
    file.sync_all().unwrap();
}

/// How often each line is in a file.
fn noted(path: &Path) -> BTreeMap<String, usize> {
    let mut noted = BTreeMap::new();
    for line in fs::read_to_string(path).unwrap_or_default().lines() {
        *noted.entry(line.to_owned()).or_default() += 1;
    }
    noted
}

fn flow(effects: PathBuf) -> Flow {
    let mut flow = Flow::new("f");
    let single = ActivationPolicy::batch_size(1);
    flow.add_fn("source", |cx| {
        cx.emit("out", cx.one("in").map(|event| event.data()))?;
        Ok(())
    })
    .unwrap()
    .policy(single.clone());
    flow.add_fn("effect", move |cx| {
        let key = cx.idempotency_key("note");
        let done: String = cx.once("note", || {
            note(&effects, &key);
            Ok::<_, Failure>(key.clone())
        })?;
        // One in three fails once behind its effect.
        let n = cx.one("in").and_then(|event| event.get("n")?.as_i64());
        if cx.attempt() == 1 && n.unwrap_or(0) % 3 == 0 {
            return Err(Failure::new("not yet"));
        }
        cx.emit("out", done)?;
        Ok(())
    })
    .unwrap()
    .policy(single)
    .on_error(ErrorHandler::retry(2).delay(Duration::ZERO));
    // Batches over jobs.
    flow.add_fn("total", |cx| {
        cx.state_accessor()
            .increment("count", cx.data("in").count() as i64)?;
        Ok(())
    })
    .unwrap()
    .policy(ActivationPolicy::batch_size(4).max_wait(Duration::from_millis(1)));
    flow.connect("source.out", "effect.in").unwrap();
    flow.connect("effect.out", "total.in").unwrap();
    flow
}

fn begin(folder: &Path) -> Runtime {
    let store = Store::open(folder.join("store")).unwrap();
    let uncertain = folder.join("uncertain");
    let runtime = Runtime::builder(store)
        .threads(3)
        .on_uncertain(move |effect| {
            note(&uncertain, effect.idempotency_key());
            Resolution::RunAgain
        })
        .start()
        .unwrap();
    runtime.register(flow(folder.join("effects"))).unwrap();
    runtime.exec("f").unwrap();
    runtime
}

#[test]
#[ignore = "it is the child of the test that kills it"]
fn child() {
    let folder = PathBuf::from(env::var_os("EVENKEEL_FOLDER").unwrap());
    let runtime = begin(&folder);
    println!("begun");
    // What was posted before is found by its key.
    let from: u64 = env::var("EVENKEEL_FROM").unwrap().parse().unwrap();
    for n in from.. {
        let key = PostOptions::new().key(format!("k-{n}"));
        runtime
            .post_with("f", "source", "in", json!({"n": n}), key)
            .unwrap();
        println!("posted {n}");
    }
}

/// Kills the child behind a line of this number; gives the last number that it told of.
fn kill_behind(folder: &Path, from: u64, line: u64) -> Option<u64> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--nocapture"])
        .env("EVENKEEL_FOLDER", folder)
        .env("EVENKEEL_FROM", from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = None;
    let mut left = line;
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some((_, number)) = line.split_once("posted ") {
            told = number.parse().ok();
        } else if !line.contains("begun") {
            continue;
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    drop(lines);
    told
}

#[test]
fn a_flow_goes_on_however_often_its_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut random, mut acknowledged) = (SEED, 0);
    for kill in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let line = 1 + (random >> 33) % 60;
        // Some again, which must make no second job.
        let from = u64::saturating_sub(acknowledged, 5);
        let told = kill_behind(folder.path(), from, line);
        println!("seed {SEED:#x}, kill {kill} behind line {line}: told {told:?}");
        acknowledged = acknowledged.max(told.map_or(0, |told| told + 1));
    }
    let runtime = begin(folder.path());
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
    let jobs = runtime.list_jobs().unwrap();
    assert!(
        jobs.len() as u64 >= acknowledged,
        "{acknowledged} of {}",
        jobs.len()
    );
    for job in &jobs {
        assert_eq!(job.status(), JobStatus::Completed, "{:?}", job.error());
    }
    let state = runtime.get_worker("f").unwrap().get_routine_state("total");
    let count = state
        .unwrap()
        .and_then(|state| state.get("count")?.as_i64());
    assert_eq!(count, Some(jobs.len() as i64));
    let effects = noted(&folder.path().join("effects"));
    let uncertain = noted(&folder.path().join("uncertain"));
    assert_eq!(effects.len(), jobs.len());
    for (effect, times) in &effects {
        let again = uncertain.get(effect).copied().unwrap_or(0);
        assert!(
            *times <= 1 + again,
            "{effect}: {times} times, {again} uncertain"
        );
    }
}
