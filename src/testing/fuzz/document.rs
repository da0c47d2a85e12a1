//! Owns the target `document`: flow documents of any text, in YAML and JSON. What is a
//! flow is the same flow when it is written and read again, in either of them.

use super::seeds::{Seeds, join, named};
use crate::error::Error;
use crate::runtime::{Activation, Failure, Flow, FlowProblems, Registry, Routine};

struct Nothing;

impl Routine for Nothing {
    fn run(&self, _: &mut Activation) -> Result<(), Failure> {
        Ok(())
    }
}

/// Kinds, conditions and checks of one letter, as seeds name them.
fn registry() -> Result<Registry, Error> {
    let mut registry = Registry::new();
    registry.routine("k", |_| Ok(Nothing))?;
    registry.condition("c", |_, _| true)?;
    registry.check("c", |_| true)?;
    Ok(registry)
}

pub(super) fn run(data: &[u8]) {
    let Some((form, text)) = data.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text);
    let registry = registry().unwrap_or_else(|e| panic!("{e}"));
    let read = match form % 2 {
        0 => Flow::from_yaml(&text, &registry),
        _ => Flow::from_json(&text, &registry),
    };
    match read {
        Ok(flow) => same_again(&flow, &registry),
        Err(Error::InvalidFlow { source, .. }) => {
            let problems = source.downcast_ref::<FlowProblems>();
            assert!(problems.is_some_and(|all| !all.0.is_empty()), "{source}");
        }
        Err(other) => panic!("not the error of a document: {other}"),
    }
}

fn same_again(flow: &Flow, registry: &Registry) {
    assert_eq!(flow.validate(), []);
    let yaml = flow.to_yaml().unwrap_or_else(|e| panic!("{e}"));
    let again = Flow::from_yaml(&yaml, registry).unwrap_or_else(|e| panic!("{e}: {yaml}"));
    assert_eq!(again.to_yaml().ok().as_ref(), Some(&yaml));
    assert_eq!(again.description_hash(), flow.description_hash(), "{yaml}");
    // JSON has no float that is not finite.
    if let Ok(json) = flow.to_json() {
        let again = Flow::from_json(&json, registry).unwrap_or_else(|e| panic!("{e}: {json}"));
        assert_eq!(again.to_yaml().ok(), Some(yaml), "{json}");
    }
}

/// A form, and a document in it.
pub(super) fn seeds() -> Seeds {
    let of = |form: u8, text: &str| join(&[&[form], text.as_bytes()]);
    let levels = ('a'..'i').zip('b'..'j');
    let level = |(below, level): (char, char)| {
        let aliases = vec![format!("*{below}"); 9].join(", ");
        format!("{level}: &{level} [{aliases}]\n")
    };
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned() + &levels.map(level).collect::<String>();
    let deep = "[".repeat(300) + &"]".repeat(300);
    named([
        ("whole", of(0, WHOLE)),
        ("json", of(1, JSON)),
        ("aliases", of(0, ALIASES)),
        ("a-bomb", of(0, &bomb)),
        ("scalars", of(0, SCALARS)),
        ("folded", of(0, FOLDED)),
        ("wrong", of(0, WRONG)),
        ("deep", of(1, &deep)),
        (
            "tags",
            of(0, "%YAML 1.2\n---\nflow_id: !!str 3\n...\n---\n"),
        ),
    ])
}

const WHOLE: &str = r#"format: 1
flow_id: f
version: 3
error_handler: continue
execution: {timeout: 2.5}
routines:
  a:
    class: k
    config: {n: 3, l: [a, "b", 0x1f, .5, .inf, ~], m: {x: null}}
    slots:
      in: {max_queue_length: 10, watermark: 0.5, at_capacity: drop_oldest, hard_limit_factor: 2}
      more:
    events: {out: [x], gone: }
    activation_policy: {batch_size: 3, max_wait: 0.25}
    error_handler: {strategy: retry, max_retries: 5, retry_delay: 0.1, retry_backoff: 1.5,
      retry_delay_max: 9, jitter: 0.2, retryable_kinds: [net], is_critical: true}
    concurrency: 4
    priority: -1
    timeout: 30
    starts_durable: true
  b.c: {class: k, activation_policy: all_slots_ready, breakpoint: true}
  d: {class: k, activation_policy: {custom: c}, error_handler: skip}
  e: {class: k, activation_policy: {time_interval: 5}}
connections:
- {from: a.out, to: b.c.in}
- {from: [b.c, out], to: [d, in], when: {job.x: gold, event.n: 3}}
- {from: d.a, to: a.more, when: c}
"#;

const JSON: &str = r#"{"flow_id": "f", "routines": {"a": {"class": "k", "config": {"x": [1, 1.5e300, "\u00e9\n"]}}},
 "connections": [{"from": "a.out", "to": "a.in", "when": {"job.x": null}}]}"#;

const ALIASES: &str = r#"flow_id: f
routines:
  a: &a {class: k, config: &c {x: &x [1, 2]}}
  b: *a
  d: {class: k, config: {y: *c, z: *x}}
"#;

const SCALARS: &str = r#"flow_id: "f\x41\u00e9\U0001F600"
routines:
  'it''s': {class: k, config: {a: |
      x
       y
  , b: 1}}
  "q\"": {class: k, config: {yes: no, 1: -7, 2: +1.e3, 3: .nan, 4: 18446744073709551615}}
  ? z
  : {class: k}
"#;

const FOLDED: &str = r#"flow_id: >-
  a
  b

  c
routines: # a comment
  a:
    class: k
    config:
      x: |2+
          two

      y: ''
"#;

const WRONG: &str = r#"flow_id: 3
verison: 1
routines:
  a: {class: z, slots: [in], priority: 1.5}
  b: {class: k, slots: {in: {max_queue_length: 0}}, activation_policy: {batch_size: 0}}
connections: [{from: a.out}, {from: x.y, to: a.b.c, when: z}, 7]
"#;
