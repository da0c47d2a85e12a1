//! Crashes anywhere, seen from outside: a flow with fan-in, batches over several jobs and
//! retries has effects that are recorded outside of the store, on a simulated disk that is
//! stopped at its calls and whose calls fail. Whatever is found, every job ends, every
//! counter is exact, and each effect was had once, or it was said before it was had again
//! that nobody knew.
//!
//! What is outside outlives the crash: the program witnesses what it has recorded, and who
//! goes on after the crash begins with that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::testing::{AfterCrash, CrashTest};
use evenkeel::{
    Activation, ActivationPolicy, ErrorHandler, Failure, Flow, JobStatus, Resolution, Result,
    Runtime, Store, Value, WorkerState,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::crashes::{n_of, points};
use crate::rig::LONG;

const JOBS: u64 = 6;
const BATCH: usize = 2;
/// The kind of a failure that is the other side's own.
const REFUSED: &str = "refused outside";

/// What the other side has seen, under the key of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Seen {
    /// `once` is called.
    Called,
    /// It was had.
    Had,
    /// The other side refused it: it was not had.
    Refused,
    /// `once` has returned its result: it is known to be done.
    Done,
    /// `once` has returned the refusal: it is known not to be done.
    NotDone,
    /// The runtime has asked what became of it.
    Uncertain,
}

/// The world outside of the store: all that was seen there, in order.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Vec<(Seen, String)>>>);

impl Outside {
    fn note(&self, seen: Seen, key: &str) {
        self.0.lock().unwrap().push((seen, key.to_owned()));
    }

    fn has(&self, seen: Seen, key: &str) -> bool {
        let all = self.0.lock().unwrap();
        all.iter()
            .any(|(kind, of)| (*kind, of.as_str()) == (seen, key))
    }

    /// Has an effect once, and notes what `once` says of it.
    fn once(
        &self,
        cx: &Activation,
        name: &str,
        effect: impl FnOnce(&Self, &str) -> std::result::Result<(), Failure>,
    ) -> std::result::Result<(), Failure> {
        let key = cx.idempotency_key(name);
        self.note(Seen::Called, &key);
        let known = cx.once(name, || effect(self, &key));
        match &known {
            Ok(()) => self.note(Seen::Done, &key),
            Err(failure) if failure.kind_name() == Some(REFUSED) => {
                self.note(Seen::NotDone, &key);
            }
            Err(_) => {}
        }
        known
    }

    /// What must hold of each effect, whatever happened.
    fn assert_right(&self, jobs: usize) {
        let mut of: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
        for (seen, key) in &*self.0.lock().unwrap() {
            of.entry(key.clone()).or_default().push(*seen);
        }
        // An activation whose intent was not durable was none: another one followed.
        of.retain(|_, seen| seen.iter().any(|step| *step != Seen::Called));
        for name in ["charge", "note", "shy"] {
            let keys = of.keys().filter(|key| key.ends_with(name));
            assert_eq!(
                keys.count(),
                jobs,
                "{name}: another activation had it: {of:?}"
            );
        }
        for (key, seen) in &of {
            assert_right(key, seen);
        }
    }
}

/// What must hold of one effect.
fn assert_right(key: &str, seen: &[Seen]) {
    // How often it was called since it was known, and what is known.
    let (mut had, mut uncertain, mut called, mut known) = (0, 0, 0, None);
    for step in seen {
        match step {
            Seen::Called => called += 1,
            Seen::Had => {
                assert_ne!(known, Some(Seen::Done), "{key} is had again: {seen:?}");
                had += 1;
                assert!(had <= 1 + uncertain, "{key} is had again: {seen:?}");
            }
            Seen::Refused => {}
            Seen::Done | Seen::NotDone => (called, known) = (0, Some(*step)),
            Seen::Uncertain => {
                uncertain += 1;
                // This call is the second at least whose end nobody knows.
                let open = known != Some(Seen::Done) && called > 1;
                assert!(open, "{key} is known, and was asked about: {seen:?}");
            }
        }
    }
    assert!(had >= 1 && known == Some(Seen::Done), "{key}: {seen:?}");
    // Of a charge the other side knows whether it was had.
    assert!(had == 1 || !key.ends_with("charge"), "{key}: {seen:?}");
}

fn flow(outside: &Outside) -> Result<Flow> {
    let mut flow = Flow::new("f");
    let single = ActivationPolicy::batch_size(1);
    for name in ["source", "left", "right"] {
        flow.add_fn(name, |cx| {
            cx.emit("out", json!({"n": n_of(cx, "in")}))?;
            Ok(())
        })?
        .policy(single.clone());
    }
    // So that a pair may be of two jobs.
    if let Some(left) = flow.routine_mut("left") {
        left.concurrency(2);
    }
    flow.add_fn("join", |cx| {
        let state = cx.state_accessor();
        state.increment("left", n_of(cx, "left"))?;
        state.increment("right", n_of(cx, "right"))?;
        cx.emit("out", json!({"n": n_of(cx, "left")}))?;
        Ok(())
    })?
    .policy(ActivationPolicy::all_slots_ready());
    let outside = outside.clone();
    flow.add_fn("effects", move |cx| {
        let had = |outside: &Outside, key: &str| {
            outside.note(Seen::Had, key);
            Ok(())
        };
        outside.once(cx, "charge", had)?;
        outside.once(cx, "note", had)?;
        // Refused the first time that it is tried.
        outside.once(cx, "shy", |outside, key| {
            if outside.has(Seen::Refused, key) {
                return had(outside, key);
            }
            outside.note(Seen::Refused, key);
            Err(Failure::new("come again").kind(REFUSED))
        })?;
        cx.emit("out", json!({"n": n_of(cx, "in")}))?;
        Ok(())
    })?
    .policy(single)
    .on_error(ErrorHandler::retry(9).delay(Duration::ZERO));
    flow.add_fn("total", |cx| {
        let state = cx.state_accessor();
        for event in cx.data("in") {
            let n = event.get("n").and_then(Value::as_i64).unwrap_or(0);
            state.increment("count", 1)?;
            state.increment("sum", n)?;
        }
        for job in cx.jobs() {
            job.set_data("total", true)?;
        }
        if cx.data("in").count() != BATCH {
            return Err(Failure::new("it is no batch"));
        }
        Ok(())
    })?
    .policy(ActivationPolicy::batch_size(BATCH));
    flow.connect("source.out", "left.in")?;
    flow.connect("source.out", "right.in")?;
    flow.connect("left.out", "join.left")?;
    flow.connect("right.out", "join.right")?;
    flow.pipe(["join", "effects", "total"])?;
    Ok(flow)
}

/// Starts a runtime whose handler asks the other side about charges, and lets all else run
/// again.
fn start(store: Store, outside: &Outside) -> Result<Runtime> {
    let asked = outside.clone();
    Runtime::builder(store)
        .threads(2)
        .on_uncertain(move |effect| {
            let key = effect.idempotency_key();
            asked.note(Seen::Uncertain, key);
            match effect.name() == "charge" && asked.has(Seen::Had, key) {
                true => Resolution::Done(Value::Null),
                false => Resolution::RunAgain,
            }
        })
        .start()
}

fn post(runtime: &Runtime, n: u64) -> Result<()> {
    runtime.post("f", "source", "in", json!({"n": n})).map(drop)
}

fn work(store: Store, outside: &Outside, witness: impl Fn(&str, u64)) -> Result<()> {
    let runtime = start(store, outside)?;
    runtime.register(flow(outside)?)?;
    runtime.exec("f")?;
    for n in 1..=JOBS {
        post(&runtime, n)?;
        witness("posted", n);
    }
    // Where the disk is full for ever it would wait for ever.
    runtime.wait_until_all_jobs_finished(Duration::from_secs(1))?;
    witness("finished", JOBS);
    Ok(())
}

fn field(worker: Option<&WorkerState>, routine: &str, field: &str) -> Result<i64> {
    let state = worker.map(|worker| worker.get_routine_state(routine));
    let state = state.transpose()?.flatten();
    let value = state.and_then(|state| state.get(field).and_then(Value::as_i64));
    Ok(value.unwrap_or(0))
}

/// Goes on with what a crash left, to its end.
fn go_on(found: &AfterCrash<'_>) -> Result<()> {
    let outside = Outside::default();
    for seen in found.all_witnessed("seen") {
        let (seen, key): (Seen, String) = seen.deserialize()?;
        outside.note(seen, &key);
    }
    let runtime = start(found.store().clone(), &outside)?;
    let finished = found.witnessed("finished").is_some();
    let mut jobs = runtime.list_jobs()?;
    if finished {
        assert_eq!(jobs.len() as u64, JOBS);
        assert!(jobs.iter().all(|job| job.status() == JobStatus::Completed));
    }
    let posted = found.witnessed("posted").and_then(Value::as_i64);
    assert!(jobs.len() as i64 >= posted.unwrap_or(0), "{posted:?}");
    let mut sum: i64 = (1..=jobs.len() as i64).sum();
    runtime.register(flow(&outside)?)?;
    if jobs.len() % BATCH > 0 {
        // The last batch is not full.
        post(&runtime, 100)?;
        sum += 100;
    }
    runtime.wait_until_all_jobs_finished(LONG)?;
    jobs = runtime.list_jobs()?;
    for job in &jobs {
        assert_eq!(job.status(), JobStatus::Completed, "{:?}", job.error());
        assert_eq!(job.get_data("total")?, Some(true));
    }
    let worker = runtime.get_worker("f");
    assert_eq!(field(worker.as_ref(), "join", "left")?, sum);
    assert_eq!(field(worker.as_ref(), "join", "right")?, sum);
    assert_eq!(field(worker.as_ref(), "total", "sum")?, sum);
    assert_eq!(field(worker.as_ref(), "total", "count")?, jobs.len() as i64);
    assert!(runtime.dead_letters(0, 10)?.is_empty());
    outside.assert_right(jobs.len());
    Ok(())
}

#[test]
fn each_effect_is_had_once_or_asked_about_wherever_the_program_is_stopped() {
    let certificate = CrashTest::new("effects outside", |run| {
        let outside = Outside::default();
        let worked = work(run.store()?, &outside, |name, n| run.witness(name, n));
        // Its threads have ended: nothing more is seen.
        for seen in &*outside.0.lock().unwrap() {
            run.witness("seen", Value::from_serialize(seen)?);
        }
        Ok(worked?)
    })
    .varies()
    .sample(points())
    .invariant("all goes on to its end", |found| Ok(go_on(found)?))
    .run();
    println!("{}", certificate.unwrap());
}
