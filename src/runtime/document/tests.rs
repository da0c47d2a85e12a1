//! Tests of flow documents: what they mean, what is refused and where, and that what is
//! written is read as what it was.

mod forms;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::runtime::activation::Activation;
use crate::runtime::event::tests::Job;
use crate::runtime::event::{Event, JobView};
use crate::runtime::failure::Failure;
use crate::runtime::handler::ErrorHandler;
use crate::runtime::options::{AtCapacity, SlotOptions};
use crate::runtime::policy::ActivationPolicy;
use crate::runtime::routine::{Routine, RoutineSettings};
use crate::value::Value;

struct Plain;

impl Routine for Plain {
    fn run(&self, _: &mut Activation) -> Result<(), Failure> {
        Ok(())
    }
}

struct Declares;

impl Routine for Declares {
    fn declare(&self, settings: &mut RoutineSettings) {
        settings.slot("in").event("out").priority(7);
    }

    fn run(&self, _: &mut Activation) -> Result<(), Failure> {
        Ok(())
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    let picky = |config: &Value| match config.get("fail").and_then(Value::as_str) {
        Some("panic") => panic!("no"),
        Some(why) => Err(Failure::new(why)),
        None => Ok(Plain),
    };
    registry.routine("plain", |_| Ok(Plain)).unwrap();
    registry.routine("declares", |_| Ok(Declares)).unwrap();
    registry.routine("picky", picky).unwrap();
    registry
        .condition("large", |event, _| event.data().as_i64() > Some(9))
        .unwrap();
    registry
        .check("pairs", |slots| slots.waiting("in") > 1)
        .unwrap();
    registry
}

fn yaml(text: &str) -> Flow {
    Flow::from_yaml(text, &registry()).unwrap()
}

fn problems(result: Result<Flow>) -> Vec<FlowProblem> {
    match result {
        Err(Error::InvalidFlow { source, .. }) => {
            source.downcast_ref::<FlowProblems>().unwrap().0.clone()
        }
        other => panic!("{other:?}"),
    }
}

/// Paths and lines of what is wrong with a document, and the names of the rest.
fn places(result: Result<Flow>) -> Vec<String> {
    let place = |problem: FlowProblem| match problem {
        FlowProblem::BadDocument {
            path,
            line: Some(line),
            ..
        } => format!("{path}:{line}"),
        FlowProblem::BadDocument { path, .. } => path,
        FlowProblem::NotRegistered { path, what, .. } => format!("{path} {what}"),
        other => other.to_string(),
    };
    problems(result).into_iter().map(place).collect()
}

const WHOLE: &str = r#"
format: 1
flow_id: orders
version: 3
error_handler: continue
execution: { timeout: 2.5 }
routines:
  hash:
    class: declares
    config: { rounds: 3, names: [a, "b"], deep: { x: null, y: 1.5 } }
    slots:
      in: { max_queue_length: 10, watermark: 0.5, at_capacity: drop_oldest, hard_limit_factor: 2 }
      more:
    events: { out: [digest, size], gone: }
    activation_policy: { batch_size: 3, max_wait: 0.25 }
    error_handler:
      strategy: retry
      max_retries: 5
      retry_delay: 0.1
      retry_backoff: 1.5
      retry_delay_max: 9
      jitter: 0.2
      retryable_kinds: [net, timeout]
      is_critical: true
    concurrency: 4
    priority: -1
    timeout: 30
    starts_durable: true
  v1.total: { class: plain, activation_policy: all_slots_ready, breakpoint: true }
  log: { class: plain, activation_policy: { custom: pairs }, events: [a, b], error_handler: skip }
  slow: { class: plain, activation_policy: { time_interval: 5 } }
connections:
- { from: hash.out, to: v1.total.in }
- { from: [v1.total, out], to: [log, in], when: { job.tier: gold, event.n: 3 } }
- { from: log.a, to: hash.more, when: large }
"#;

fn check_whole(flow: &Flow) {
    assert_eq!(
        (flow.name(), flow.version, flow.validate()),
        ("orders", 3, vec![])
    );
    assert_eq!(flow.handler, ErrorHandler::continue_on());
    assert_eq!(flow.timeout, Some(Duration::from_millis(2_500)));
    let ids: Vec<_> = flow.routine_ids().collect();
    assert_eq!(ids, ["hash", "v1.total", "log", "slow"], "in their order");
    let hash = flow.routine("hash").unwrap();
    let options = SlotOptions::new()
        .capacity(10)
        .watermark(0.5)
        .at_capacity(AtCapacity::DropOldest)
        .hard_limit_factor(2);
    assert_eq!(
        hash.slots(),
        [("in", options), ("more", SlotOptions::new())]
    );
    let events = [
        (
            "out".to_owned(),
            vec!["digest".to_owned(), "size".to_owned()],
        ),
        ("gone".to_owned(), vec![]),
    ];
    assert_eq!(hash.events, events);
    assert_eq!(
        hash.policy.to_string(),
        "batch of 3, after 250ms of what there is"
    );
    let handler = ErrorHandler::retry(5)
        .delay(Duration::from_millis(100))
        .backoff(1.5)
        .delay_max(Duration::from_secs(9))
        .jitter(0.2)
        .retryable(["net", "timeout"])
        .critical();
    assert_eq!(hash.handler, Some(handler));
    assert_eq!(
        (hash.concurrency, hash.priority, hash.starts_durable),
        (4, -1, true)
    );
    assert_eq!(hash.timeout, Some(Duration::from_secs(30)));
    let config = Value::Map(hash.config.clone()).to_string();
    assert_eq!(
        config,
        r#"{"deep":{"x":null,"y":1.5},"names":["a","b"],"rounds":3}"#
    );
    let policy = |id: &str| flow.routine(id).unwrap().policy.to_string();
    assert_eq!(policy("v1.total"), "all slots ready, behind a breakpoint");
    assert_eq!(
        (policy("log"), policy("slow")),
        ("custom \"pairs\"".into(), "at most once in 5s".into())
    );
    assert_eq!(flow.routine("slow").unwrap().handler, None);
}

#[test]
fn a_document_says_all_that_a_flow_is() {
    check_whole(&yaml(WHOLE));
    let conditions: Vec<_> = yaml(WHOLE)
        .connections
        .into_iter()
        .map(|c| c.condition)
        .collect();
    assert!(conditions[0].is_none() && conditions[1].is_some() && conditions[2].is_some());
}

#[test]
fn save_and_load_are_idempotent_in_yaml_and_json() {
    let first = yaml(WHOLE);
    let (as_yaml, as_json) = (first.to_yaml().unwrap(), first.to_json().unwrap());
    let mut flow = first.clone();
    for _ in 0..5 {
        flow = Flow::from_json(&flow.to_json().unwrap(), &registry()).unwrap();
        flow = Flow::from_yaml(&flow.to_yaml().unwrap(), &registry()).unwrap();
        check_whole(&flow);
        assert_eq!(flow.to_yaml().unwrap(), as_yaml);
        assert_eq!(flow.to_json().unwrap(), as_json);
        assert_eq!(flow.description_hash(), first.description_hash());
    }
}

#[test]
fn a_condition_in_a_document_compares_job_and_event_or_is_registered() {
    let flow = yaml(WHOLE);
    let job = |tier: &str| Job {
        metadata: [("tier".to_owned(), tier.into())].into(),
        ..Job::default()
    };
    let event = |data: Value| Event::emitted("v1.total", "out", data, 0);
    let n = |n: i64| event([("n", n)].into_iter().collect());
    let passes = |connection: usize, event: &Event, job: &Job| {
        flow.connections()[connection]
            .passes(event, &JobView::new(job))
            .unwrap()
    };
    assert!(passes(1, &n(3), &job("gold")));
    assert!(!passes(1, &n(4), &job("gold")));
    assert!(!passes(1, &n(3), &job("silver")));
    assert!(passes(2, &event(10.into()), &job("x")) && !passes(2, &event(9.into()), &job("x")));
    assert!(passes(0, &event(Value::Null), &job("x")));
}

#[test]
fn a_routine_in_a_document_keeps_what_it_declares() {
    let flow = yaml("flow_id: f\nroutines: { a: { class: declares } }");
    let settings = flow.routine("a").unwrap();
    assert_eq!((settings.slot_names(), settings.priority), (vec!["in"], 7));
}

#[test]
fn unknown_fields_are_refused_with_path_and_line() {
    let text = "flow_id: f
verison: 2
routines:
  a.b:
    class: plain
    prio: 3
    slots: { in: { size: 3 } }
    error_handler: { strategy: retry, retries: 3 }
    activation_policy: { batch_size: 3, wait: 3 }
connections:
- from: [a.b, out]
  to: [a.b, in]
  if: large
execution:
  threads: 3
";
    let expected = [
        "execution.threads:15",
        "routines[\"a.b\"].slots.in.size:7",
        "routines[\"a.b\"].activation_policy.wait:9",
        "routines[\"a.b\"].error_handler.retries:8",
        "routines[\"a.b\"].prio:6",
        "connections[0].if:13",
        "verison:2",
    ];
    assert_eq!(places(Flow::from_yaml(text, &registry())), expected);
    let json = "{\"flow_id\": \"f\",\n\"routines\": {\"a\": {\"class\": \"plain\",\n \"x\": 1}}}";
    assert_eq!(
        places(Flow::from_json(json, &registry())),
        ["routines.a.x:3"]
    );
}

#[test]
fn all_problems_of_a_document_are_told_at_once() {
    let text = "flow_id: f
routines:
  a: { class: nothing }
  b: { class: picky, config: { fail: because } }
  c: { class: picky, config: { fail: panic } }
  d: { class: plain, concurrency: 0, activation_policy: { custom: nothing } }
  e: { }
  '': { class: plain }
connections:
- { from: a.out, to: b.in }
- { from: a.out, to: x.in }
- { from: d.out, to: a.in, when: nothing }
- { from: d.out, to: a.in }
- { from: d.out, to: c.in, when: { tier: 3 } }
";
    let told = places(Flow::from_yaml(text, &registry()));
    let beginnings = [
        "routines.a.class kind of routine",
        "routine \"b\": it could not be made of kind \"picky\": because",
        "routine \"c\": it could not be made of kind \"picky\": the factory of",
        "routines.d.activation_policy.custom check",
        "routines.e:7",
        "the routine \"\" has a name that is empty",
        "there is no routine \"x\"",
        "connections[2].when condition",
        "(\"d\", \"out\") is connected to (\"a\", \"in\") twice",
        "connections[4].when.tier:14",
        "routine \"d\": its concurrency is 0",
    ];
    assert_eq!(told.len(), beginnings.len(), "{told:#?}");
    for (told, beginning) in told.iter().zip(beginnings) {
        assert!(told.starts_with(beginning), "{told} is not {beginning}");
    }
}

#[test]
fn what_is_of_another_type_is_refused_with_path_and_line() {
    let cases = [
        ("", ".:1"),
        ("[]", ".:1"),
        ("{}", ".:1"),
        ("flow_id: 3", "flow_id:1"),
        ("flow_id: f\nversion: -1", "version:2"),
        ("flow_id: f\nversion: 1.5", "version:2"),
        ("flow_id: f\nversion: '1'", "version:2"),
        ("flow_id: f\nroutines: []", "routines:2"),
        (
            "flow_id: f\nexecution: { timeout: -1 }",
            "execution.timeout:2",
        ),
        (
            "flow_id: f\nexecution: { timeout: .nan }",
            "execution.timeout:2",
        ),
        ("flow_id: f\nerror_handler: retrry", "error_handler:2"),
        ("flow_id: f\nerror_handler: {}", "error_handler:2"),
        ("flow_id: f\nconnections: { from: a }", "connections:2"),
        (
            "flow_id: f\nconnections: [ { to: a.in } ]",
            "connections[0]:2",
        ),
        (
            "flow_id: f\nconnections: [ { from: [a], to: a.in } ]",
            "connections[0].from:2",
        ),
    ];
    for (text, place) in cases {
        let told = places(Flow::from_yaml(text, &registry()));
        let there = |told: &String| told == place || (text.is_empty() && told == ".");
        assert!(told.iter().any(there), "{text:?}: {told:?}");
    }
}

#[test]
fn a_format_that_is_not_supported_is_refused_and_a_missing_one_is_the_first() {
    let text = "format: 2\nflow_id: f\nroutines: { a: { class: plain } }";
    assert_eq!(places(Flow::from_yaml(text, &registry())), ["format:1"]);
    let missing = yaml("flow_id: f\nroutines: { a: { class: plain } }");
    assert_eq!(missing.declared_version(), 1);
}

#[test]
fn aliases_stand_for_copies_and_cannot_explode() {
    let text = "
flow_id: f
x: &none
routines:
  a: &settings { class: plain, slots: { in: &slot { max_queue_length: 3 } } }
  b: *settings
  c: { class: plain, slots: { left: *slot, right: *slot } }
";
    let text = text.replace("x: &none\n", "");
    let flow = yaml(&text);
    assert_eq!(flow.routine("c").unwrap().slots()[1].1.capacity, 3);
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for level in 1..60 {
        let below = level - 1;
        bomb.push_str(&format!(
            "a{level}: &a{level} [*a{below}, *a{below}, *a{below}]\n"
        ));
    }
    let told = yaml::read(&bomb).unwrap_err();
    assert!(told.reason.contains("nodes"), "{told:?}");
    // Flat: the list that holds the copies has no anchor, so only they are counted.
    let list = "x, ".repeat(1_000);
    let flat = format!("a: &a [{list}]\nb: [{}]", "*a, ".repeat(1_000));
    let told = yaml::read(&flat).unwrap_err();
    assert!(told.reason.contains("nodes"), "{told:?}");
    let mut long = format!("a: &a {}\nb: [", "x".repeat(500_000));
    long.push_str(&"*a, ".repeat(1_000));
    let told = yaml::read(&(long + "]")).unwrap_err();
    assert!(told.reason.contains("bytes of text"), "{told:?}");
    // One deeper each: few nodes, and yet deeper than documents are.
    let mut deep = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        deep.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    let told = yaml::read(&deep).unwrap_err();
    assert!(told.reason.contains("deeper"), "{told:?}");
}

#[test]
fn what_a_document_cannot_name_is_said() {
    let mut flow = Flow::new("f");
    let settings = flow.add_fn("a", |_| Ok(())).unwrap();
    settings
        .policy(ActivationPolicy::custom(|_| true))
        .config("key", vec![1u8]);
    flow.connect_when("a.out", "a.in", |_, _| true).unwrap();
    let Err(Error::Invalid { reason, .. }) = flow.to_yaml() else {
        panic!("it was written");
    };
    for part in [
        "routine \"a\" was made",
        "check of routine",
        "condition from",
        "bytes",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    let mut flow = yaml("flow_id: f\nroutines: { a: { class: plain } }");
    flow.routine_mut("a").unwrap().config("x", f64::NAN);
    assert!(flow.to_json().is_err());
    assert!(flow.to_yaml().unwrap().contains(".nan"));
}

#[test]
fn a_changed_description_has_another_hash() {
    type Change = fn(&mut Flow);
    let changes: [Change; 10] = [
        |flow| drop(flow.connect("b.out", "a.in")),
        |flow| drop(flow.connect_when("b.out", "a.in", |_, _| true)),
        |flow| drop(flow.add_fn("c", |_| Ok(()))),
        |flow| flow.nodes.reverse(),
        |flow| {
            flow.nodes[0].settings.slot("s");
        },
        |flow| {
            flow.nodes[0].settings.event("s");
        },
        |flow| {
            flow.nodes[0].settings.config("s", 1);
        },
        |flow| {
            flow.nodes[0]
                .settings
                .policy(ActivationPolicy::batch_size(2));
        },
        |flow| {
            flow.nodes[0].settings.on_error(ErrorHandler::stop());
        },
        |flow| flow.timeout = Some(Duration::from_nanos(1)),
    ];
    let make = || {
        let mut flow = Flow::new("f");
        flow.add_fn("a", |_| Ok(())).unwrap();
        flow.add_fn("b", |_| Ok(())).unwrap();
        flow
    };
    let mut hashes = vec![make().description_hash()];
    assert_eq!(hashes[0], make().version(9).description_hash());
    for change in changes {
        let mut flow = make();
        change(&mut flow);
        hashes.push(flow.description_hash());
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), changes.len() + 1);
}

#[test]
fn the_hash_of_a_description_never_changes() {
    // A store remembers it: a version of this crate that computes another one would refuse
    // every flow.
    let json = r#"{"flow_id":"orders","version":3,"error_handler":{"strategy":"continue"},"#;
    assert!(
        yaml(WHOLE).description().starts_with(json),
        "{}",
        yaml(WHOLE).description()
    );
    assert_eq!(yaml(WHOLE).description_hash(), 4277993948328022719);
}

#[test]
fn names_are_registered_once() {
    let mut registry = registry();
    assert!(registry.routine("plain", |_| Ok(Plain)).is_err());
    assert!(registry.condition("large", |_, _| true).is_err());
    assert!(registry.check("pairs", |_| true).is_err());
    assert!(registry.condition("plain", |_, _| true).is_ok());
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = Flow::from_yaml(&text, &Registry::new());
        let _ = Flow::from_json(&text, &Registry::new());
    }

    #[test]
    fn no_damage_of_a_document_panics(cut in 0usize..1_600, put in "[\\[\\]{}:,&*!|>'\"\\- \n\ta]{0,3}") {
        let mut text: String = WHOLE.chars().take(cut).collect();
        text.push_str(&put);
        text.extend(WHOLE.chars().skip(cut + 1));
        let _ = Flow::from_yaml(&text, &registry());
    }
}
