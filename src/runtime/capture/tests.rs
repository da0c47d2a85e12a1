//! What logic prints, and where it ends up. Here is also the run by hand that the tests of
//! this, of hooks and of telemetry share.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::*;
use crate::engine::{Batch, Op, SlotBatch};
use crate::runtime::current::{enter, enter_user_code};
use crate::runtime::event::Event;
use crate::runtime::flow::Flow;
use crate::runtime::job::{JobState, Jobs, Message, Names, Posted};
use crate::runtime::job_context::JobContext;
use crate::runtime::output::{OUTPUT_CHARS_MAX, read_output};
use crate::runtime::plan::Plan;
use crate::runtime::record::{self, WorkerRecord};
use crate::runtime::run::{Begin, Fate};
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::runtime::worker::{Given, Inner, Worker};
use crate::sync::{Mutex, thread};
use crate::value::Value;

/// A job that was just posted.
pub(crate) fn job(id: &str) -> Arc<Job> {
    Arc::new(Job {
        id: id.into(),
        of: Names::new("flow", "worker"),
        created: 5,
        posted: Posted::with(
            BTreeMap::from([("tier".to_owned(), Value::from("gold"))]),
            None,
        ),
        state: Mutex::new(JobState::default()),
    })
}

fn worker(store: &Store) -> Worker {
    let record = WorkerRecord {
        flow: "flow".into(),
        status: WorkerStatus::Running,
        created: 1,
        updated: 1,
        started: None,
        completed: None,
        error: None,
        totals: None,
    };
    let engine = &store.shared().engine;
    let slot = engine.slot(&record::worker("worker").encode());
    Worker::new("worker", slot, Inner::new(record))
}

/// The first run of activation 7 of routine `routine`, with a message for each of these
/// jobs, which were emitted at 10 and taken at 30.
pub(crate) fn run_of(store: &Store, jobs: &[Arc<Job>]) -> Arc<Run> {
    let mut flow = Flow::new("flow").version(1);
    flow.add_fn("routine", |_| Ok(())).unwrap();
    let message = |job: &Arc<Job>| Message {
        event: Arc::new(Event::posted(Value::Null, 10)),
        jobs: Jobs::One(Arc::clone(job)),
        lsn: crate::ids::Lsn::ZERO,
    };
    let messages: Vec<_> = jobs.iter().map(message).collect();
    Arc::new(Run::new(Begin {
        core: Weak::new(),
        store: store.clone(),
        worker: Arc::new(worker(store)),
        plan: Arc::new(Plan::of(&flow)),
        at: 0,
        id: ActivationId {
            session: 1,
            number: 7,
        },
        attempt: 1,
        claimed: false,
        given: vec![Given {
            slot: 0,
            consumes: messages.clone(),
            messages,
            taken: Vec::new(),
        }],
        begun_micros: 30,
    }))
}

/// Commits what a run printed, as the core does it, and gives what goes to stdout.
fn commit(run: &Run, at_micros: u64, ends: Option<u64>) -> String {
    run.end(Fate::Over);
    let captured = Captured::of(run).unwrap();
    for job in &run.jobs {
        let change = captured.change(&run.store, job, at_micros, ends).unwrap();
        write(&run.store, job, change);
    }
    let shown = Shown::default();
    let printer = Printer::new(shown.clone());
    show(run, &printer);
    printer.flush();
    shown.text()
}

fn write(store: &Store, job: &Job, change: Option<OutputChange>) {
    let Some(change) = change else { return };
    let engine = &store.shared().engine;
    let ops = change.writes.into_iter();
    let ops = ops.map(|(key, cell)| (key, cell.map_or(Op::Delete, Op::Put)));
    let batch = Batch::of([SlotBatch::of(
        engine.slot(&record::job(&job.id).encode()),
        ops,
    )]);
    engine.commit(&batch).unwrap();
    let mut state = job.state.lock();
    state.notes.add().output = Some(change.after);
    state.parts = true;
}

/// Stdout, to be looked at.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl std::io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_logic_prints_is_kept_and_shown_once_with_the_commit() {
    let (store, job) = (Store::in_memory(), job("a"));
    let run = run_of(&store, &[Arc::clone(&job)]);
    let cx = Activation::of(&run);
    {
        let _inside = enter(&run);
        cx.print("one, ");
        cx.println(format_args!("{}", 2));
        job_println!("{}: {three}", &*job.id, three = 3);
        job_println!();
    }
    assert_eq!(read_output(&store, "a").unwrap(), "");
    let text = "one, 2\na: 3\n\n";
    assert_eq!(commit(&run, 40, None), text);
    let context = JobContext::outside(&store, &job);
    assert_eq!(context.output().unwrap(), text);
    assert_eq!(read_output(&store, "b").unwrap(), "");
    assert_eq!(commit(&run_of(&store, &[job]), 41, None), "");
    assert_eq!(read_output(&store, "a").unwrap(), text);
}

#[test]
fn a_lost_run_has_printed_nothing() {
    let (store, job) = (Store::in_memory(), job("a"));
    let lost = run_of(&store, &[job]);
    Activation::of(&lost).println("once");
    lost.end(Fate::Over);
    let again = Arc::new(lost.again(false));
    drop(lost);
    Activation::of(&again).println("twice");
    assert_eq!(commit(&again, 40, None), "twice\n");
    assert_eq!(read_output(&store, "a").unwrap(), "twice\n");
}

#[test]
fn a_failed_attempt_has_printed_and_so_has_the_next_one_of_the_same_moment() {
    let (store, job) = (Store::in_memory(), job("a"));
    let first = run_of(&store, &[job]);
    Activation::of(&first).println("x".repeat(2000));
    // Its commit is prepared, and then it fails.
    drop(std::mem::take(&mut *first.done.lock()));
    assert_eq!(commit(&first, 40, None).len(), 2001);
    let second = Arc::new(first.again(true));
    Activation::of(&second).println("second");
    assert_eq!(commit(&second, 40, None), "second\n");
    let output = read_output(&store, "a").unwrap();
    assert!(
        output.ends_with("xx\nsecond\n") && output.len() == 2008,
        "{output}"
    );
}

#[test]
fn after_its_end_a_run_prints_for_no_job() {
    let (store, job) = (Store::in_memory(), job("a"));
    let run = run_of(&store, &[Arc::clone(&job)]);
    run.end(Fate::TimedOut);
    {
        let _inside = enter(&run);
        job_println!("too late (this is stdout of a test)");
        Activation::of(&run).print("");
    }
    assert_eq!(commit(&run, 40, None), "");
    assert_eq!(read_output(&store, "a").unwrap(), "");
}

#[test]
fn what_hooks_and_conditions_print_is_of_no_job() {
    let (store, job) = (Store::in_memory(), job("a"));
    let run = run_of(&store, &[job]);
    {
        let _inside = enter(&run);
        let _asked = enter_user_code();
        job_println!("asked (this is stdout of a test)");
    }
    assert_eq!(commit(&run, 40, None), "");
}

#[test]
fn each_job_of_an_activation_has_what_it_prints() {
    let (store, jobs) = (Store::in_memory(), [job("a"), job("b")]);
    let both = run_of(&store, &jobs);
    Activation::of(&both).print("both ");
    assert_eq!(commit(&both, 40, None), "both ");
    let one = run_of(&store, &jobs[1..]);
    Activation::of(&one).print("one");
    commit(&one, 41, None);
    assert_eq!(read_output(&store, "a").unwrap(), "both ");
    assert_eq!(read_output(&store, "b").unwrap(), "both one");
}

#[test]
fn many_jobs_share_what_a_commit_may_hold() {
    let store = Store::in_memory();
    let jobs: Vec<_> = (0..400).map(|number| job(&number.to_string())).collect();
    let run = run_of(&store, &jobs);
    let text = "\u{20ac}".repeat(OUTPUT_CHARS_MAX);
    // Not by `print`: this is no test of stdout.
    run.print(|printed| printed.collect(&text)).unwrap();
    let captured = Captured::of(&run).unwrap();
    let share = COMMIT_BYTES_MAX / 400;
    assert_eq!(captured.text.len(), share - share % 3);
    assert!(captured.text.chars().all(|c| c == '\u{20ac}'));
}

#[test]
fn a_job_that_has_ended_gets_nothing_more() {
    let (store, jobs) = (Store::in_memory(), [job("ended"), job("lives")]);
    jobs[0].state.lock().status = JobStatus::Cancelled;
    let run = run_of(&store, &jobs);
    Activation::of(&run).print("late");
    assert_eq!(commit(&run, 40, None), "late");
    assert_eq!(read_output(&store, "ended").unwrap(), "");
    assert_eq!(read_output(&store, "lives").unwrap(), "late");
}

#[test]
fn output_goes_an_hour_after_the_end_of_its_job() {
    let clock = Arc::new(crate::clock::ManualClock::new(1_000_000));
    let store = Store::builder().clock(Arc::clone(&clock) as _).in_memory();
    let store = store.unwrap();
    for (id, ends_with_run) in [("a", true), ("b", false), ("quiet", false)] {
        let job = job(id);
        for number in 0..5 {
            let run = run_of(&store, &[Arc::clone(&job)]);
            let text = number.to_string().repeat(700);
            if id != "quiet" {
                Activation::of(&run).print(text);
            }
            let ends = (ends_with_run && number == 4).then_some(1_000_000);
            commit(&run, 1_000_000 + number, ends);
        }
        if !ends_with_run {
            let change = at_end(&store, &job, 1_000_000).unwrap();
            assert_eq!(change.is_none(), id == "quiet");
            write(&store, &job, change);
        }
    }
    for (now, len) in [(3_600_999_999, 3500), (3_601_000_000, 0)] {
        clock.set_micros(now);
        for id in ["a", "b"] {
            assert_eq!(read_output(&store, id).unwrap().len(), len, "{id} at {now}");
        }
    }
}

#[test]
fn after_an_opening_a_job_goes_on_where_its_output_was() {
    let store = Store::in_memory();
    let before = run_of(&store, &[job("a")]);
    Activation::of(&before).print("x".repeat(OUTPUT_CHARS_MAX - 5));
    commit(&before, 40, None);
    // As the next opening finds it.
    let found = job("a");
    found.state.lock().parts = true;
    let after = run_of(&store, &[Arc::clone(&found)]);
    Activation::of(&after).print("0123456789");
    // The clock of that opening may be behind.
    commit(&after, 3, None);
    let output = read_output(&store, "a").unwrap();
    assert_eq!(output.chars().count(), OUTPUT_CHARS_MAX);
    assert!(output.starts_with('x') && output.ends_with("xx0123456789"));
}

#[test]
fn threads_that_print_for_one_activation_lose_nothing() {
    let (store, job) = (Store::in_memory(), job("a"));
    let run = run_of(&store, &[job]);
    let cx = Activation::of(&run);
    thread::scope(|scope| {
        for number in 0..4 {
            let cx = &cx;
            scope.spawn(move || (0..250).for_each(|line| cx.println(format!("{number}.{line}"))));
        }
    });
    let text = commit(&run, 40, None);
    assert_eq!(read_output(&store, "a").unwrap(), text);
    for number in 0..4 {
        let prefix = format!("{number}.");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        let lines: Vec<usize> = lines.map(|line| line.parse().unwrap()).collect();
        assert_eq!(lines, (0..250).collect::<Vec<_>>());
    }
}

#[cfg(feature = "tracing")]
mod layer {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::runtime::capture::layer::JobOutputLayer;
    use crate::runtime::telemetry;

    #[test]
    fn events_inside_the_span_of_a_job_are_its_output() {
        let (store, jobs) = (Store::in_memory(), [job("a"), job("b")]);
        let [a, b] = jobs.map(|job| run_of(&store, &[job]));
        let subscriber = tracing_subscriber::registry().with(JobOutputLayer::new());
        let dispatch = tracing::Dispatch::new(subscriber);
        tracing::dispatcher::with_default(&dispatch, || {
            let (span_of_a, span_of_b) = (telemetry::activation(&a), telemetry::activation(&b));
            tracing::info!("outside");
            {
                let _in = (enter(&a), span_of_a.enter());
                tracing::info!(target: "app", files = 3, name = "x", "hashing");
                tracing::warn!(target: "evenkeel", "of the store itself");
                let inner = tracing::info_span!("step").entered();
                tracing::debug!(target: "app", message = "inner");
                drop(inner);
                let span = tracing::Span::current();
                thread::scope(|scope| {
                    scope.spawn(|| {
                        tracing::dispatcher::with_default(&dispatch, || {
                            span.in_scope(|| tracing::error!(target: "app", "elsewhere"));
                        });
                    });
                });
            }
            {
                let _in = (enter(&b), span_of_b.enter());
                tracing::info!(target: "app", "of b");
            }
            assert_eq!(commit(&a, 40, None), "");
            assert_eq!(commit(&b, 41, None), "");
            // Too late.
            let _in = span_of_a.enter();
            tracing::info!(target: "app", "late");
        });
        let lines =
            "INFO app: hashing files=3 name=\"x\"\nDEBUG app: inner\nERROR app: elsewhere\n";
        assert_eq!(read_output(&store, "a").unwrap(), lines);
        assert_eq!(read_output(&store, "b").unwrap(), "INFO app: of b\n");
    }

    #[test]
    fn an_event_is_captured_where_its_span_is_filtered_out() {
        let store = Store::in_memory();
        let run = run_of(&store, &[job("a")]);
        let subscriber = tracing_subscriber::registry().with(JobOutputLayer::new());
        tracing::subscriber::with_default(subscriber, || {
            let _inside = enter(&run);
            tracing::info!(target: "app", "no span");
        });
        commit(&run, 40, None);
        assert_eq!(read_output(&store, "a").unwrap(), "INFO app: no span\n");
    }
}
