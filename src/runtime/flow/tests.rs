//! Tests of flows: what is added and connected, what is refused, and what `validate` says.

use std::time::Duration;

use super::problem::FlowProblems;
use super::*;
use crate::runtime::options::SlotOptions;
use crate::runtime::policy::ActivationPolicy;

/// A routine that declares as it is told.
struct Declares(fn(&mut RoutineSettings));

impl Routine for Declares {
    fn declare(&self, settings: &mut RoutineSettings) {
        (self.0)(settings);
    }

    fn run(&self, _: &mut Activation) -> Result<(), Failure> {
        Ok(())
    }
}

fn flow(ids: &[&str]) -> Flow {
    let mut flow = Flow::new("f");
    for &id in ids {
        flow.add_fn(id, |_| Ok(())).unwrap();
    }
    flow
}

fn problem<T>(result: Result<T, Error>) -> FlowProblem {
    match result {
        Err(Error::InvalidFlow { flow, source }) => {
            assert_eq!(flow, "f");
            source.downcast_ref::<FlowProblem>().unwrap().clone()
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

fn targets(flow: &Flow, routine: &str, event: &str) -> Vec<String> {
    let all = flow.connections_for_event((routine, event)).into_iter();
    all.map(|c| format!("{}.{}", c.target(), c.slot()))
        .collect()
}

#[test]
fn the_flow_of_the_manual_can_be_written_as_it_is() {
    struct Hash;
    impl Routine for Hash {
        fn run(&self, _: &mut Activation) -> Result<(), Failure> {
            Ok(())
        }
    }
    let build = || -> Result<Flow, Error> {
        let mut flow = Flow::new("orders").version(1);
        flow.add_routine("hash", Hash)?;
        flow.add_fn("total", |_cx| Ok(()))?;
        flow.add_fn("fetch", |_cx: &mut Activation| Ok(()))?;
        flow.connect("hash.out", "total.in")?;
        flow.connect_when("total.out", "fetch.in", |_event, job| {
            job.metadata("tier") == Some("gold")
        })?;
        Ok(flow)
    };
    let flow = build().unwrap();
    assert_eq!(flow.validate(), []);
    assert_eq!((flow.name(), flow.declared_version()), ("orders", 1));
    assert_eq!(
        flow.routine_ids().collect::<Vec<_>>(),
        ["hash", "total", "fetch"]
    );
    assert_eq!(targets(&flow, "hash", "out"), ["total.in"]);
    assert!(flow.connections()[1].is_conditional());
    assert!(!flow.connections()[0].is_conditional());
}

#[test]
fn a_duplicate_routine_is_an_error() {
    let mut flow = flow(&["a"]);
    let duplicate = problem(flow.add_fn("a", |_| Ok(())));
    assert_eq!(
        duplicate,
        FlowProblem::DuplicateRoutine {
            routine: "a".into()
        }
    );
    assert_eq!(flow.routine_ids().count(), 1);
}

#[test]
fn a_missing_name_is_an_error_and_nothing_is_connected() {
    let mut flow = flow(&["a"]);
    let declares = Declares(|it| {
        it.slot("left").slot("right").event("done");
    });
    flow.add_routine("b", declares).unwrap();
    let unknown = problem(flow.connect("a.out", "x.in"));
    assert!(matches!(&unknown, FlowProblem::UnknownRoutine { routine, .. } if routine == "x"));
    let unknown = problem(flow.connect("x.out", "a.in"));
    assert!(matches!(&unknown, FlowProblem::UnknownRoutine { routine, .. } if routine == "x"));
    let known = vec!["left".to_owned(), "right".to_owned()];
    let unknown = problem(flow.connect("a.out", "b.in"));
    let expected = FlowProblem::UnknownSlot {
        routine: "b".into(),
        slot: "in".into(),
        known,
    };
    assert_eq!(unknown, expected);
    let unknown = problem(flow.connect("b.out", "a.in"));
    assert!(matches!(&unknown, FlowProblem::UnknownEvent { event, .. } if event == "out"));
    for endpoint in ["a", "", ".", "a.", ".in"] {
        let bad = problem(flow.connect(endpoint, "a.in"));
        assert!(
            matches!(bad, FlowProblem::BadEndpoint { .. }),
            "{endpoint:?}"
        );
    }
    assert_eq!(flow.connections().len(), 0);
}

#[test]
fn ids_with_dots_are_read_in_the_only_way_or_refused() {
    let mut flow = flow(&["a.b", "in.out.in", ".", "x"]);
    flow.connect("a.b.out", "in.out.in.in").unwrap();
    assert_eq!(targets(&flow, "a.b", "out"), ["in.out.in.in"]);
    flow.add_fn("a", |_| Ok(())).unwrap();
    let ambiguous = problem(flow.connect("a.b.out", "x.in"));
    let FlowProblem::AmbiguousEndpoint { readings, .. } = ambiguous else {
        panic!("{ambiguous}");
    };
    assert_eq!(readings, [r#"("a", "b.out")"#, r#"("a.b", "out")"#]);
    flow.connect(("a.b", "out"), ("x", "in")).unwrap();
    flow.connect(("a", "b.out"), (".".to_owned(), "in".to_owned()))
        .unwrap();
    assert_eq!(targets(&flow, "a.b", "out"), ["in.out.in.in", "x.in"]);
    assert_eq!(targets(&flow, "a", "b.out"), ["..in"]);
    // What `a` declares leaves one way to read it.
    flow.routine_mut("a").unwrap().event("b.out").event("done");
    assert!(
        problem(flow.connect("a.b.out", "x.again"))
            .to_string()
            .contains("pair")
    );
    flow.connect("a.b.done", "x.again").unwrap();
    assert_eq!(targets(&flow, "a.b", "done"), ["x.again"]);
}

#[test]
fn ids_may_have_any_characters() {
    let ids = ["", "\0", "a/b", "é", "\u{1f600}", "a\nb", "in"];
    let mut flow = Flow::new("f");
    for id in ids {
        assert_eq!(
            flow.add_fn(id, |_| Ok(())).is_ok(),
            !id.is_empty(),
            "{id:?}"
        );
    }
    for id in &ids[1..] {
        flow.connect((*id, id.to_owned()), (*id, "in")).unwrap();
        assert_eq!(targets(&flow, id, id), [format!("{id}.in")]);
    }
    let long = "x".repeat(513);
    let bad = problem(flow.add_fn(long.as_str(), |_| Ok(())));
    assert!(matches!(
        bad,
        FlowProblem::BadName {
            what: "routine",
            ..
        }
    ));
    assert!(flow.add_fn(&long[1..], |_| Ok(())).is_ok());
    let bad = problem(flow.connect(("in", ""), ("in", "in")));
    assert!(matches!(bad, FlowProblem::BadName { what: "event", .. }));
    let bad = problem(flow.connect(("in", "out"), ("in", long.as_str())));
    assert!(matches!(bad, FlowProblem::BadName { what: "slot", .. }));
}

#[test]
fn fan_in_and_fan_out_keep_the_order_of_connections() {
    let mut flow = flow(&["a", "b", "c", "d"]);
    for (from, to) in [
        ("a.out", "c.in"),
        ("a.out", "b.in"),
        ("b.out", "d.in"),
        ("c.out", "d.in"),
    ] {
        flow.connect(from, to).unwrap();
    }
    assert_eq!(targets(&flow, "a", "out"), ["c.in", "b.in"]);
    assert_eq!(targets(&flow, "a", "other"), [""; 0]);
    assert_eq!(targets(&flow, "x", "out"), [""; 0]);
    assert_eq!(flow.connections_for_event("a.out").len(), 2);
    let into_d = flow
        .connections()
        .iter()
        .filter(|c| c.target() == "d")
        .count();
    assert_eq!(into_d, 2);
}

#[test]
fn the_same_connection_twice_is_refused() {
    let mut flow = flow(&["a", "b"]);
    flow.connect("a.out", "b.in").unwrap();
    let twice = problem(flow.connect_when("a.out", ("b", "in"), |_, _| true));
    assert!(matches!(twice, FlowProblem::DuplicateConnection { .. }));
    flow.connect("a.out", "b.other").unwrap();
}

#[test]
fn a_pipe_connects_routines_in_a_row_or_none_at_all() {
    let mut flow = flow(&["a", "c"]);
    let declares = Declares(|it| {
        it.slot("only").event("done");
    });
    flow.add_routine("b", declares).unwrap();
    flow.pipe(["a", "b", "c"]).unwrap();
    assert_eq!(targets(&flow, "a", "out"), ["b.only"]);
    assert_eq!(targets(&flow, "b", "done"), ["c.in"]);
    let several = Declares(|it| {
        it.slot("left").slot("right");
    });
    flow.add_routine("d", several).unwrap();
    let known = vec!["left".to_owned(), "right".to_owned()];
    let choice = problem(flow.pipe(["c", "a", "d"]));
    let expected = FlowProblem::NotSingle {
        routine: "d".into(),
        what: "slot",
        known,
    };
    assert_eq!(choice, expected);
    assert_eq!(
        targets(&flow, "c", "out"),
        [""; 0],
        "nothing of it was connected"
    );
    let unknown = problem(flow.pipe(["x"]));
    assert!(matches!(unknown, FlowProblem::UnknownRoutine { .. }));
    flow.pipe([""; 0]).unwrap();
}

#[test]
fn cycles_are_found() {
    let mut flow = flow(&["a", "b", "c", "d"]);
    flow.pipe(["a", "b", "c"]).unwrap();
    assert_eq!(flow.cycles(), [[""; 0]; 0]);
    flow.connect("c.again", "b.back").unwrap();
    flow.connect("d.out", "d.in").unwrap();
    assert_eq!(flow.cycles(), [vec!["b", "c"], vec!["d"]]);
    assert_eq!(flow.validate(), [], "a cycle is no problem");
    let cycles = flow.find_cycles();
    let number = |id: &str| flow.node(id).unwrap();
    assert!(cycles.holds(number("c"), number("b")));
    assert!(!cycles.holds(number("a"), number("b")));
}

#[test]
fn a_routine_that_declares_nothing_has_in_and_what_connections_name() {
    let mut flow = flow(&["a", "b"]);
    let names = |flow: &Flow| {
        let slots = flow.routine("b").unwrap().slot_names().into_iter();
        slots.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&flow), ["in"]);
    flow.connect("a.x", "b.left").unwrap();
    flow.connect("a.y", "b.right").unwrap();
    flow.connect("a.z", "b.right").unwrap();
    assert_eq!(names(&flow), ["in", "left", "right"]);
    // Nobody would ever fill `in`.
    flow.routine_mut("b")
        .unwrap()
        .policy(ActivationPolicy::all_slots_ready());
    assert_eq!(names(&flow), ["left", "right"]);
    flow.connect("a.in", "b.in").unwrap();
    assert_eq!(names(&flow), ["left", "right", "in"]);
}

#[test]
fn validate_says_every_problem_at_once_each_by_its_name() {
    let mut flow = Flow::new("")
        .on_error(ErrorHandler::retry(1).backoff(0.5))
        .timeout(Duration::ZERO);
    flow.add_fn("a", |_| Ok(()))
        .unwrap()
        .concurrency(0)
        .timeout(Duration::ZERO);
    flow.add_fn("b", |_| Ok(()))
        .unwrap()
        .slot("")
        .slot_with("s", SlotOptions::new().capacity(0))
        .on_error(ErrorHandler::retry(1).jitter(2.0));
    flow.add_fn("c", |_| Ok(()))
        .unwrap()
        .slot_with("few", SlotOptions::new().capacity(2))
        .policy(ActivationPolicy::batch_size(3));
    flow.add_fn("d", |_| Ok(())).unwrap();
    flow.connect("d.out", "d.in").unwrap();
    flow.routine_mut("d").unwrap().slot("late").event("later");
    let problems = flow.validate();
    use FlowProblem as P;
    let names: Vec<_> = problems
        .iter()
        .map(|problem| match problem {
            P::BadName { what, .. } => (*what, ""),
            P::BadHandler { routine, .. } => ("handler", routine.as_deref().unwrap_or("flow")),
            P::BadFlow { .. } => ("flow", "timeout"),
            P::BadRoutine { routine, .. } => ("routine", routine.as_str()),
            P::BadSlot { slot, .. } => ("slot", slot.as_str()),
            P::BadPolicy { routine, .. } => ("policy", routine.as_str()),
            P::UnknownEvent { event, .. } => ("event", event.as_str()),
            P::UnknownSlot { slot, .. } => ("slot", slot.as_str()),
            other => panic!("{other}"),
        })
        .collect();
    let expected = [
        ("flow", ""),
        ("handler", "flow"),
        ("flow", "timeout"),
        ("routine", "a"),
        ("routine", "a"),
        ("slot", ""),
        ("slot", "s"),
        ("handler", "b"),
        ("policy", "c"),
        ("event", "out"),
        ("slot", "in"),
    ];
    assert_eq!(names, expected);
    let Err(Error::InvalidFlow { source, .. }) = flow.check() else {
        panic!("it was taken");
    };
    assert_eq!(source.downcast_ref(), Some(&FlowProblems(problems)));
}

#[test]
fn what_a_routine_declares_may_be_set_otherwise_by_who_adds_it() {
    let mut flow = Flow::new("f");
    let declares = Declares(|it| {
        it.slot("s")
            .policy(ActivationPolicy::batch_size(9))
            .priority(3);
    });
    let settings = flow.add_routine("a", declares).unwrap();
    settings
        .slot_with("s", SlotOptions::new().capacity(5))
        .priority(4);
    let settings = flow.routine("a").unwrap();
    assert_eq!(
        (settings.slots().len(), settings.slots()[0].1.capacity),
        (1, 5)
    );
    assert_eq!(settings.priority, 4);
    assert!(matches!(
        flow.validate()[..],
        [FlowProblem::BadPolicy { .. }]
    ));
}

#[test]
fn a_routine_that_panics_when_it_declares_is_not_added() {
    let mut flow = Flow::new("f");
    let bad = problem(flow.add_routine("a", Declares(|_| panic!("no"))));
    assert!(
        matches!(&bad, FlowProblem::BadRoutine { routine, .. } if routine == "a"),
        "{bad}"
    );
    assert_eq!(flow.routine_ids().count(), 0);
}

#[test]
fn problems_say_what_there_is_instead() {
    let mut flow = flow(&["hash", "total"]);
    let said = |problem: FlowProblem| problem.to_string();
    assert_eq!(
        said(problem(flow.connect("hsh.out", "total.in"))),
        r#"there is no routine "hsh", which hsh.out names; there are "hash", "total""#
    );
    flow.routine_mut("total").unwrap().slot("sizes");
    assert_eq!(
        said(problem(flow.connect("hash.out", "total.in"))),
        r#"routine "total" has no slot "in"; it declares "sizes""#
    );
}

#[test]
fn flows_and_what_they_are_made_of_go_to_any_thread() {
    fn any_thread<T: Send + Sync + 'static>() {}
    any_thread::<Flow>();
    any_thread::<Failure>();
    any_thread::<Event>();
    any_thread::<ActivationPolicy>();
    any_thread::<Box<dyn Routine>>();
}
