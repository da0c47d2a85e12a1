//! The built-in routines, each in a flow that runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{
    Activation, ActivationPolicy, Aggregator, Batcher, Debouncer, Error, ErrorHandler, Failure,
    FieldType, Filter, Flow, JobContext, JobStatus, ManualClock, Mapper, Registry, ResultExtractor,
    Retry, Router, Routine, Runtime, SchemaValidator, Shutdown, Splitter, Store, Value, WorkError,
};
use serde_json::{Value as Json, json};

use crate::parts::{LONG, Sink, finish, post, start, start_at};

const SECOND: Duration = Duration::from_secs(1);

/// A flow of one routine, `it`, with a sink behind each of these events.
fn flow<const N: usize>(routine: impl Routine, events: [&str; N]) -> (Flow, [Sink; N]) {
    let mut flow = Flow::new("flow");
    flow.add_routine("it", routine).unwrap();
    let sinks = events.map(|event| {
        let sink = Sink::default();
        flow.add_routine(event, sink.clone()).unwrap();
        flow.connect(("it", event), (event, "in")).unwrap();
        sink
    });
    (flow, sinks)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(1_000_000))
}

/// The data of lines, without the jobs.
fn data(sink: &Sink) -> Vec<String> {
    let data = |line: String| line.split_once(": ").unwrap().1.to_owned();
    sink.lines().into_iter().map(data).collect()
}

/// Posts this to `it`, one job each, waits, and gives their statuses.
fn run(runtime: &Runtime, posts: impl IntoIterator<Item = Json>) -> Vec<JobStatus> {
    let posts = posts.into_iter();
    let jobs: Vec<_> = posts
        .map(|data| post(runtime, "flow", "it", data))
        .collect();
    finish(runtime);
    let status = |id| runtime.get_job(id).unwrap().unwrap().status();
    jobs.iter().map(|job| status(job.job_id())).collect()
}

#[test]
fn mapper_makes_something_else_of_each() {
    let (flow, [out]) = flow(Mapper::new(|n: i64| Ok(n * 2)), ["out"]);
    let runtime = start(flow);
    let statuses = run(&runtime, [json!(1), json!("x"), json!(3)]);
    use JobStatus::{Completed, Failed};
    assert_eq!(statuses, [Completed, Failed, Completed]);
    assert_eq!(data(&out), ["2", "6"]);
}

#[test]
fn what_is_mapped_in_one_batch_goes_on_for_its_own_job() {
    let (mut flow, [out]) = flow(Mapper::new(|n: i64| Ok(n * 2)), ["out"]);
    let batch = ActivationPolicy::batch_size(3);
    flow.routine_mut("it").unwrap().policy(batch);
    let runtime = start(flow);
    let jobs: Vec<_> = (1..=3)
        .map(|n| post(&runtime, "flow", "it", json!(n)))
        .collect();
    finish(&runtime);
    let expected = jobs.iter().zip([2, 4, 6]);
    let expected = expected.map(|(job, n)| format!("{}: {n}", job.job_id()));
    assert_eq!(out.lines(), expected.collect::<Vec<_>>());
}

#[test]
fn filter_lets_pass_what_its_test_holds_for() {
    let filter = Filter::new(|n: i64| n > 2);
    let (flow, [out, rejected]) = flow(filter, ["out", "rejected"]);
    let runtime = start(flow);
    run(&runtime, (1..=4).map(Json::from));
    assert_eq!(data(&out), ["3", "4"]);
    assert_eq!(data(&rejected), ["1", "2"]);
}

#[test]
fn router_takes_the_first_route_that_takes_it() {
    let router = Router::new()
        .when_equal("gold", "customer.tier", "gold")
        .when("large", |event| {
            event.get("n").and_then(Value::as_i64) > Some(9)
        });
    let (flow, [gold, large, unmatched]) = flow(router, ["gold", "large", "unmatched"]);
    let runtime = start(flow);
    let both = json!({"customer": {"tier": "gold"}, "n": 10});
    run(
        &runtime,
        [both.clone(), json!({"n": 11}), json!({"n": 9}), json!(12)],
    );
    assert_eq!(data(&gold), [both.to_string()]);
    assert_eq!(data(&large), [r#"{"n":11}"#]);
    assert_eq!(data(&unmatched), [r#"{"n":9}"#, "12"]);
}

#[test]
fn splitter_makes_one_of_each_element() {
    let (flow, [out]) = flow(Splitter::new().field("lines"), ["out"]);
    let runtime = start(flow);
    let posts = [
        json!({"lines": [1, "a", [2]]}),
        json!({"lines": []}),
        json!({"lines": 3}),
        json!({}),
    ];
    use JobStatus::{Completed, Failed};
    assert_eq!(run(&runtime, posts), [Completed, Completed, Failed, Failed]);
    assert_eq!(data(&out), ["1", "\"a\"", "[2]"]);
}

#[test]
fn batcher_makes_a_list_of_several_for_all_their_jobs() {
    let (flow, [out]) = flow(Batcher::new(3), ["out"]);
    let runtime = start(flow);
    let jobs: Vec<_> = (1..=6)
        .map(|n| post(&runtime, "flow", "it", json!(n)))
        .collect();
    finish(&runtime);
    let ids: Vec<_> = jobs.iter().map(|job| job.job_id()).collect();
    let expected = [
        format!("{}: [1,2,3]", ids[..3].join(",")),
        format!("{}: [4,5,6]", ids[3..].join(",")),
    ];
    assert_eq!(out.lines(), expected);
}

#[test]
fn a_batch_does_not_wait_longer_than_it_may() {
    let wait = Duration::from_millis(20);
    let (flow, [out]) = flow(Batcher::new(100).max_wait(wait), ["out"]);
    let runtime = start(flow);
    run(&runtime, [json!(1)]);
    assert_eq!(data(&out), ["[1]"]);
}

#[test]
fn schema_validator_says_what_is_wrong() {
    let schema = SchemaValidator::new().required("id", FieldType::String);
    let (flow, [valid, invalid]) = flow(schema, ["valid", "invalid"]);
    let runtime = start(flow);
    run(&runtime, [json!({"id": "a", "n": 1}), json!({"id": 1})]);
    assert_eq!(data(&valid), [r#"{"id":"a","n":1}"#]);
    let problems = ["\"id\" is to be of type string"];
    let expected = json!({"data": {"id": 1}, "problems": problems});
    assert_eq!(data(&invalid), [expected.to_string()]);
}

#[test]
fn result_extractor_adds_to_the_results_of_the_job() {
    let extractor = ResultExtractor::new().path("total");
    let (flow, [out, missing]) = flow(extractor, ["out", "missing"]);
    let runtime = start(flow);
    let text = json!("It is\n```json\n{\"total\": 42}\n```");
    let jobs: Vec<_> = [text, json!({"total": 7}), json!("no")]
        .into_iter()
        .map(|data| post(&runtime, "flow", "it", data))
        .collect();
    finish(&runtime);
    assert_eq!(data(&out), ["42", "7"]);
    let expected = json!({"data": "no", "reason": "the text has no JSON"});
    assert_eq!(data(&missing), [expected.to_string()]);
    let results = jobs.iter().map(|job| {
        let job = runtime.get_job(job.job_id()).unwrap().unwrap();
        job.results()
    });
    let expected: [&[Value]; 3] = [&[42.into()], &[7.into()], &[]];
    assert_eq!(results.collect::<Vec<_>>(), expected);
}

/// What fails so many times before it succeeds.
fn failing(times: u32) -> (Retry, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let retry = Retry::new(move |text: String| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        match (call < times, &*text) {
            (true, "permanent") => Err(Failure::new("never").permanent()),
            (true, "panic") => panic!("out of paper"),
            (true, _) => Err(Failure::new("not yet").kind("net")),
            (false, _) => Ok(text.len()),
        }
    });
    let handler = ErrorHandler::retry(2).delay(Duration::from_millis(1));
    (retry.handler(handler), calls)
}

#[test]
fn retry_tries_again_until_it_succeeds() {
    let (retry, calls) = failing(2);
    let (flow, [out, failed]) = flow(retry, ["out", "failed"]);
    let runtime = start(flow);
    assert_eq!(run(&runtime, [json!("abc")]), [JobStatus::Completed]);
    assert_eq!(data(&out), ["3"]);
    assert!(failed.lines().is_empty());
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

#[test]
fn retry_goes_on_without_what_it_gives_up() {
    for (text, error, kind, attempts) in [
        ("abc", "not yet", json!("net"), 3),
        ("permanent", "never", Json::Null, 1),
        (
            "panic",
            "what is retried panicked: out of paper",
            json!("panic"),
            3,
        ),
    ] {
        let (retry, calls) = failing(u32::MAX);
        let (flow, [out, failed]) = flow(retry, ["out", "failed"]);
        let runtime = start(flow);
        assert_eq!(run(&runtime, [json!(text)]), [JobStatus::Completed]);
        assert!(out.lines().is_empty());
        let expected = json!({"data": text, "error": error, "kind": kind, "attempts": attempts});
        assert_eq!(data(&failed), [expected.to_string()]);
        assert_eq!(calls.load(Ordering::SeqCst), attempts);
    }
}

/// A flow where `it` is an aggregator of `a`, `b` and `c`, which are fed by a routine that
/// sends a job's data, maps from slots to values, one after the other as time goes on.
fn joining<const N: usize>(
    clock: &Arc<ManualClock>,
    aggregator: Aggregator,
    events: [&str; N],
) -> (Flow, [Sink; N]) {
    let (mut flow, sinks) = flow(aggregator, events);
    let clock = Arc::clone(clock);
    let feed = move |cx: &mut Activation| {
        for event in cx.data("in") {
            for step in event.data().as_list().unwrap_or_default() {
                clock.advance(Duration::from_micros(1));
                for (slot, value) in step.as_map().into_iter().flatten() {
                    for job in cx.jobs_of(event) {
                        cx.emit_for(&job, slot, value)?;
                    }
                }
            }
        }
        Ok(())
    };
    flow.add_fn("feed", feed).unwrap();
    for slot in ["a", "b", "c"] {
        flow.connect(("feed", slot), ("it", slot)).unwrap();
    }
    (flow, sinks)
}

fn feed(runtime: &Runtime, data: Json) -> String {
    post(runtime, "flow", "feed", data).job_id().to_owned()
}

#[test]
fn aggregator_never_mixes_jobs() {
    let (flow, [out]) = joining(&clock(), Aggregator::all(["a", "b", "c"]).unwrap(), ["out"]);
    let runtime = start(flow);
    let mut expected = Vec::new();
    for n in 0..50 {
        let id = feed(&runtime, json!([{"a": n}, {"c": n}, {"b": n}]));
        expected.push(format!("{id}: {}", json!({"a": n, "b": n, "c": n})));
    }
    // These never have all.
    feed(&runtime, json!([{"a": -1}, {"c": -1}]));
    feed(&runtime, json!([{"b": -1}]));
    finish(&runtime);
    expected.sort();
    assert_eq!(out.sorted(), expected);
}

#[test]
fn aggregator_takes_rounds_of_one_job_in_their_order() {
    let (flow, [out]) = joining(&clock(), Aggregator::all(["a", "b", "c"]).unwrap(), ["out"]);
    let runtime = start(flow);
    feed(
        &runtime,
        json!([{"a": 1}, {"a": 2}, {"b": 3}, {"c": 4}, {"c": 5}, {"b": 6}]),
    );
    finish(&runtime);
    let expected = [r#"{"a":1,"b":3,"c":4}"#, r#"{"a":2,"b":6,"c":5}"#];
    assert_eq!(data(&out), expected);
}

#[test]
fn aggregator_takes_any_and_n_of_m() {
    for (aggregator, expected) in [
        (
            Aggregator::any(["a", "b", "c"]),
            [r#"{"a":1}"#, r#"{"b":4}"#],
        ),
        (
            Aggregator::n_of(2, ["a", "b", "c"]),
            [r#"{"a":1,"c":2}"#, r#"{"a":5,"b":4}"#],
        ),
    ] {
        let clock = clock();
        let (flow, [out]) = joining(&clock, aggregator.unwrap(), ["out"]);
        let runtime = start_at(&clock, flow);
        let first = [json!({"a": 1}), json!({"c": 2}), json!({"b": 3})];
        let second = [json!({"b": 4}), json!({"a": 5}), json!({"c": 6})];
        let steps: Json = first.into_iter().chain(second).collect();
        feed(&runtime, steps);
        finish(&runtime);
        assert_eq!(data(&out), expected);
    }
}

#[test]
fn a_round_that_is_complete_holds_its_job_no_longer() {
    let hour = Duration::from_secs(60 * 60);
    let aggregator = Aggregator::all(["a", "b", "c"]).unwrap().timeout(hour);
    let (flow, [out, late]) = joining(&clock(), aggregator, ["out", "timeout"]);
    let runtime = start(flow);
    feed(&runtime, json!([{"a": 1}, {"b": 2}, {"c": 3}]));
    finish(&runtime);
    assert_eq!(data(&out), [r#"{"a":1,"b":2,"c":3}"#]);
    assert!(late.lines().is_empty());
}

#[test]
fn a_round_that_waits_for_too_long_is_ended() {
    let soon = Duration::from_millis(20);
    let aggregator = Aggregator::all(["a", "b", "c"]).unwrap().timeout(soon);
    let (flow, [out, late]) = joining(&clock(), aggregator, ["out", "timeout"]);
    let runtime = start(flow);
    let one = feed(&runtime, json!([{"a": 1}, {"b": 2}]));
    let other = feed(&runtime, json!([{"c": 3}]));
    finish(&runtime);
    assert!(out.lines().is_empty());
    let mut expected = [
        format!("{one}: {}", json!({"a": 1, "b": 2})),
        format!("{other}: {}", json!({"c": 3})),
    ];
    expected.sort();
    assert_eq!(late.sorted(), expected);
}

#[test]
fn debouncer_lets_pass_the_last_of_a_burst() {
    let clock = clock();
    let (flow, [out]) = flow(Debouncer::new(SECOND), ["out"]);
    let runtime = start_at(&clock, flow);
    let jobs: Vec<_> = (1..=5)
        .map(|n| post(&runtime, "flow", "it", json!(n)))
        .collect();
    // The others were overtaken: nothing holds them.
    for job in &jobs[..4] {
        runtime.wait_until_job_finished(job.job_id(), LONG).unwrap();
    }
    assert!(out.lines().is_empty());
    clock.advance(SECOND);
    runtime
        .wait_until_job_finished(jobs[4].job_id(), LONG)
        .unwrap();
    assert_eq!(out.lines(), [format!("{}: 5", jobs[4].job_id())]);
}

#[test]
fn debouncer_per_job_has_a_row_for_each() {
    let short = Duration::from_millis(20);
    let (mut flow, [out]) = flow(Debouncer::new(short).per_job(), ["out"]);
    flow.add_routine("burst", Splitter::new()).unwrap();
    flow.connect("burst.out", "it.in").unwrap();
    let runtime = start(flow);
    let jobs: Vec<_> = [json!([1, 2, 3]), json!([4, 5])]
        .into_iter()
        .map(|data| post(&runtime, "flow", "burst", data))
        .collect();
    finish(&runtime);
    let mut expected = [
        format!("{}: 3", jobs[0].job_id()),
        format!("{}: 5", jobs[1].job_id()),
    ];
    expected.sort();
    assert_eq!(out.sorted(), expected);
}

/// What built-ins need of the interface: a timer for some jobs of an activation only.
#[test]
fn a_timer_holds_only_the_jobs_that_it_is_for() {
    let clock = clock();
    let sink = Sink::default();
    let mut flow = Flow::new("flow");
    let other: Mutex<Option<JobContext>> = Mutex::default();
    let logic = move |cx: &mut Activation| {
        if let Some(job) = other.lock().unwrap().replace(cx.jobs()[0].clone()) {
            let refused = cx.set_timer_for(&[job], "none", "in", SECOND, ());
            assert!(matches!(
                refused,
                Err(Error::Work(WorkError::Unknown { what: "job", .. }))
            ));
        }
        let due = cx.data("in").any(|event| event.data().is_null());
        match due {
            true => cx.emit("out", "due")?,
            false => cx.set_timer_for(&cx.jobs()[1..], "later", "in", SECOND, ())?,
        }
        Ok(())
    };
    flow.add_fn("it", logic).unwrap();
    flow.add_routine("sink", sink.clone()).unwrap();
    flow.connect("it.out", "sink.in").unwrap();
    flow.routine_mut("it")
        .unwrap()
        .policy(ActivationPolicy::custom(|slots| {
            // Two jobs at first, and what a timer sends by itself.
            slots.waiting("in") == 2
                || slots
                    .peek_one_new("in")
                    .is_some_and(|one| one.data().is_null())
        }));
    let runtime = start_at(&clock, flow);
    let [first, second] = [1, 2].map(|n| post(&runtime, "flow", "it", json!(n)));
    runtime
        .wait_until_job_finished(first.job_id(), LONG)
        .unwrap();
    let waiting = runtime.get_job(second.job_id()).unwrap().unwrap();
    assert!(!waiting.status().is_final());
    clock.advance(SECOND);
    runtime
        .wait_until_job_finished(second.job_id(), LONG)
        .unwrap();
    assert_eq!(sink.lines(), [format!("{}: \"due\"", second.job_id())]);
}

/// What waits in an aggregator, a batcher and a debouncer is there after a restart.
#[test]
fn what_waits_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let clock = clock();
    let make = || {
        let hour = Duration::from_secs(60 * 60);
        let all = Aggregator::all(["a", "b", "c"]).unwrap();
        let (mut flow, [out]) = joining(&clock, all.timeout(hour), ["out"]);
        flow.add_routine("batch", Batcher::new(2)).unwrap();
        flow.add_routine("typed", Debouncer::new(hour)).unwrap();
        for id in ["batch", "typed"] {
            flow.connect((id, "out"), ("out", "in")).unwrap();
        }
        (flow, out)
    };
    let mut ids = Vec::new();
    let (flow, before) = make();
    let open = || {
        let builder = Store::builder().clock(Arc::clone(&clock) as _);
        Runtime::builder(builder.open(&path).unwrap())
            .start()
            .unwrap()
    };
    let runtime = open();
    runtime.register(flow).unwrap();
    ids.push(feed(&runtime, json!([{"a": 1}, {"b": 2}])));
    let mut posted = |routine, n: i64| {
        let job = post(&runtime, "flow", routine, json!(n));
        ids.push(job.job_id().to_owned());
    };
    posted("typed", 4);
    runtime.wait_until_all_workers_idle(LONG).unwrap();
    posted("batch", 3);
    runtime.shutdown(Shutdown::Abort).unwrap();
    drop(runtime);
    assert!(before.lines().is_empty());

    let (flow, out) = make();
    let runtime = open();
    runtime.register(flow).unwrap();
    let more = post(&runtime, "flow", "batch", json!(5));
    runtime
        .wait_until_job_finished(more.job_id(), LONG)
        .unwrap();
    assert_eq!(
        out.lines(),
        [format!("{},{}: [3,5]", ids[2], more.job_id())]
    );
    // Whoever waited is not there: the round and the quiet time end with their timers.
    clock.advance(Duration::from_secs(60 * 60));
    finish(&runtime);
    assert_eq!(out.lines()[1..], [format!("{}: 4", ids[1])]);
    let job = runtime.get_job(&ids[0]).unwrap().unwrap();
    assert_eq!(job.status(), JobStatus::Completed);
}

#[test]
fn documents_know_the_built_in_routines() {
    let document = "
flow_id: flow
routines:
  lines: { class: splitter, config: { field: lines } }
  check: { class: schema_validator, config: { required: { n: integer } } }
  route: { class: router, config: { routes: [ { event: one, when: { n: 1 } }, { event: rest } ] } }
  first: { class: result_extractor, config: { path: n } }
  pack: { class: batcher, config: { size: 2, max_wait: 0.5 } }
  typed: { class: debouncer, config: { wait: 0.01 } }
  join: { class: aggregator, config: { slots: [a, b], count: 1, timeout: 5 } }
connections:
- { from: lines.out, to: check.in }
- { from: check.valid, to: route.in }
- { from: route.one, to: first.in }
- { from: route.rest, to: pack.in }
- { from: first.out, to: join.a }
- { from: pack.out, to: typed.in }
- { from: typed.out, to: join.b }
";
    let registry = Registry::with_builtins();
    let mut flow = Flow::from_yaml(document, &registry).unwrap();
    let again = Flow::from_yaml(&flow.to_yaml().unwrap(), &registry).unwrap();
    assert_eq!(again.description_hash(), flow.description_hash());
    let out = Sink::default();
    flow.add_routine("out", out.clone()).unwrap();
    flow.connect("join.out", "out.in").unwrap();
    let runtime = start(flow);
    let lines = json!({"lines": [{"n": 1}, {"n": "x"}, {"n": 2}, {"n": 3}]});
    let job = post(&runtime, "flow", "lines", lines);
    finish(&runtime);
    let job = runtime.get_job(job.job_id()).unwrap().unwrap();
    assert_eq!(job.results(), [Value::from(1)]);
    assert_eq!(data(&out), [r#"{"a":1}"#], "the other one came later");
}

#[test]
fn a_document_with_a_wrong_config_is_refused() {
    for (class, config, said) in [
        ("aggregator", "{}", "slots"),
        ("aggregator", "{slots: []}", "0 of 0"),
        ("aggregator", "{slots: [a, a]}", "named twice"),
        ("aggregator", "{slots: [a], count: 2}", "2 of 1"),
        ("aggregator", "{slots: [a], timeout: -1}", "timeout"),
        ("batcher", "{size: 0}", "batch of 0"),
        ("batcher", "{sice: 3}", "sice"),
        ("debouncer", "{wait: soon}", "wait"),
        ("router", "{routes: [{when: {n: 1}}]}", "event"),
        ("schema_validator", "{required: {n: int}}", "int"),
        ("splitter", "{field: 3}", "field"),
        ("result_extractor", "{paths: a}", "paths"),
    ] {
        let document =
            format!("flow_id: flow\nroutines:\n  it: {{class: {class}, config: {config}}}\n");
        let error = Flow::from_yaml(&document, &Registry::with_builtins()).unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        assert!(text.contains(said), "{class} {config}: {text}");
    }
}
