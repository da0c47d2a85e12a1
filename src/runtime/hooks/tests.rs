//! What hooks are told, what they may refuse, and what their panics do.

use super::*;
use crate::runtime::capture::tests::{job, run_of};
use crate::runtime::current::{current_job, enter, outside_only};
use crate::runtime::failure::PANIC;
use crate::state::Store;
use crate::sync::Mutex;

/// Notes what it is told, with its name, and does something at one of them.
struct Noting {
    name: &'static str,
    told: Arc<Mutex<Vec<String>>>,
    at: &'static str,
    does: Does,
}

#[derive(Clone, Copy, PartialEq)]
enum Does {
    Nothing,
    Refuse,
    Panic,
}

impl Noting {
    fn note(&self, hook: &'static str, what: &dyn fmt::Debug) -> Result<(), Refusal> {
        assert!(current_job().is_none());
        assert!(outside_only("wait", "later").is_err());
        self.told
            .lock()
            .push(format!("{} {hook} {what:?}", self.name));
        match self.does {
            Does::Refuse if self.at == hook => Err(format!("{} says no", self.name).into()),
            Does::Panic if self.at == hook => panic!("on purpose"),
            _ => Ok(()),
        }
    }
}

impl Hooks for Noting {
    fn on_worker_start(&self, worker: &WorkerStarted<'_>) {
        let _ = self.note("worker start", worker);
    }

    fn on_worker_stop(&self, worker: &WorkerStopped<'_>) {
        let _ = self.note("worker stop", worker);
    }

    fn on_job_start(&self, job: &JobStarted<'_>) {
        let _ = self.note("job start", job);
    }

    fn on_job_end(&self, job: &JobEnded<'_>) {
        let _ = self.note("job end", job);
    }

    fn on_routine_start(&self, routine: &RoutineStarts<'_>) -> Result<(), Refusal> {
        self.note("routine start", routine)
    }

    fn on_routine_end(&self, routine: &RoutineEnded<'_>) {
        let _ = self.note("routine end", routine);
    }

    fn on_event_emit(&self, event: &EventEmitted<'_>) -> Result<(), Refusal> {
        self.note("emit", event)
    }

    fn before_enqueue(&self, message: &BeforeEnqueue<'_>) -> Result<(), Refusal> {
        self.note("enqueue", message)
    }
}

struct All {
    set: HookSet,
    run: Arc<Run>,
    told: Arc<Mutex<Vec<String>>>,
}

/// Two hooks, of which the first does something.
fn hooks(at: &'static str, does: Does) -> All {
    let told = Arc::new(Mutex::default());
    let noting = |name, does| -> Arc<dyn Hooks> {
        Arc::new(Noting {
            name,
            told: Arc::clone(&told),
            at,
            does,
        })
    };
    let store = Store::in_memory();
    let figures = Arc::new(Figures::new(&store));
    let set = vec![noting("first", does), noting("second", Does::Nothing)];
    All {
        set: HookSet::new(set, &figures),
        run: run_of(&store, &[job("a"), job("b")]),
        told,
    }
}

/// Calls all of them, and gives what was refused.
fn call_all(All { set, run, .. }: &All) -> Vec<String> {
    // As the core does: on a thread that was in logic a moment ago.
    let _inside = enter(run);
    let event = Event::emitted("routine", "out", 3.into(), 9);
    set.worker_started(&run.worker);
    set.job_started(&run.jobs[0]);
    let mut refused = Vec::new();
    if let Err(failure) = set.routine_starts(run) {
        assert!(failure.is_permanent());
        assert_eq!(failure.kind_name(), Some(REFUSED));
        refused.push(failure.to_string());
    }
    let outcomes = [
        set.event_emitted(run, &event, &run.jobs),
        set.before_enqueue(&run.worker, ("next", "in"), &event, &run.jobs[..1]),
    ];
    refused.extend(
        outcomes
            .into_iter()
            .filter_map(|outcome| Some(outcome.err()?.to_string())),
    );
    set.routine_ended(run, ExecutionOutcome::Failed, Some(&Failure::new("broken")));
    set.job_ended(&run.jobs[0], JobStatus::Failed, Some("broken"));
    set.worker_stopped(&run.worker, WorkerStatus::Stopped, None);
    refused
}

const ASKED: [&str; 3] = ["routine start", "emit", "enqueue"];
const TOLD: [&str; 5] = [
    "worker start",
    "job start",
    "routine end",
    "job end",
    "worker stop",
];

#[test]
fn each_hook_is_told_in_order_of_what_happens() {
    let all = hooks("", Does::Nothing);
    assert!(call_all(&all).is_empty());
    let told = all.told.lock().clone();
    let head = "{ flow_id: \"flow\", worker_id: \"worker\"";
    let named = "routine_id: \"routine\", attempt: 1, jobs: [\"a\", \"b\"]";
    let event = format!("{:?}", Event::emitted("routine", "out", 3.into(), 9));
    let metadata = "metadata: {\"tier\": String(\"gold\")}";
    let metadata = match format!("{:?}", all.run.jobs[0].posted.metadata) {
        printed if metadata.ends_with(&printed) => metadata.to_owned(),
        printed => format!("metadata: {printed}"),
    };
    let wanted = [
        format!("worker start WorkerStarted {head} }}"),
        format!("job start JobStarted {head}, job_id: \"a\", {metadata} }}"),
        format!("routine start RoutineStarts {head}, {named} }}"),
        format!(
            "emit EventEmitted {head}, routine_id: \"routine\", event: {event}, jobs: [\"a\", \"b\"] }}"
        ),
        format!(
            "enqueue BeforeEnqueue {head}, routine_id: \"next\", slot: \"in\", event: {event}, jobs: [\"a\"] }}"
        ),
        format!(
            "routine end RoutineEnded {head}, {named}, outcome: Failed, error: Some(\"broken\") }}"
        ),
        format!(
            "job end JobEnded {head}, job_id: \"a\", {metadata}, status: Failed, error: Some(\"broken\") }}"
        ),
        format!("worker stop WorkerStopped {head}, status: Stopped, error: None }}"),
    ];
    let wanted = wanted
        .iter()
        .flat_map(|line| [format!("first {line}"), format!("second {line}")]);
    assert_eq!(told, wanted.collect::<Vec<_>>());
    assert_eq!(all.set.figures.stats(), Default::default());
}

#[test]
fn a_refusal_holds_and_the_hooks_behind_are_not_asked() {
    for at in ASKED {
        let all = hooks(at, Does::Refuse);
        assert_eq!(call_all(&all), ["first says no"], "{at}");
        let behind = format!("second {at}");
        assert!(
            !all.told.lock().iter().any(|told| told.starts_with(&behind)),
            "{at}"
        );
        let stats = all.set.figures.stats();
        assert_eq!((stats.hook_refusals, stats.hook_panics), (1, 0));
    }
    for at in TOLD {
        assert!(call_all(&hooks(at, Does::Refuse)).is_empty(), "{at}");
    }
}

#[test]
fn a_panic_where_a_hook_may_refuse_is_a_refusal() {
    for at in ASKED {
        let all = hooks(at, Does::Panic);
        let refused = call_all(&all);
        assert_eq!(refused.len(), 1, "{at}");
        assert!(refused[0].ends_with("panicked: on purpose"), "{refused:?}");
        let stats = all.set.figures.stats();
        assert_eq!((stats.hook_refusals, stats.hook_panics), (1, 1));
    }
}

#[test]
fn a_panic_elsewhere_is_counted_and_left_alone() {
    for at in TOLD {
        let all = hooks(at, Does::Panic);
        assert!(call_all(&all).is_empty(), "{at}");
        assert_eq!(all.told.lock().len(), 16, "the others were told: {at}");
        let stats = all.set.figures.stats();
        assert_eq!((stats.hook_refusals, stats.hook_panics), (0, 1));
    }
}

#[test]
fn a_refusal_is_known_by_whoever_is_refused() {
    let error = Refusal::new("closed").into_error("the post to slot \"in\"");
    let text = "the post to slot \"in\" was refused by a hook: closed";
    assert_eq!(error.to_string(), text);
    assert_ne!(
        Refusal::new("closed").into_failure().kind_name(),
        Some(PANIC)
    );
}
