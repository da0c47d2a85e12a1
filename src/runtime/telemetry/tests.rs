//! The figures of a runtime, and what `metrics` and `tracing` are told of it.

use super::*;
use crate::runtime::capture::tests::{job, run_of};

#[test]
fn figures_count_each_outcome_by_itself() {
    let store = Store::in_memory();
    let figures = Figures::new(&store);
    assert_eq!(figures.stats(), RuntimeStats::default());
    let run = run_of(&store, &[job("a"), job("b")]);
    figures.posted();
    for (times, status) in [
        (1, JobStatus::Completed),
        (2, JobStatus::Failed),
        (3, JobStatus::Cancelled),
    ] {
        (0..times).for_each(|_| figures.job_ended(status));
    }
    let span = activation(&run);
    for (at, outcome) in OUTCOMES.into_iter().enumerate() {
        (0..=at).for_each(|_| figures.ended(&span, outcome));
    }
    figures.begun(&run);
    figures.race_lost();
    figures.dead_letter();
    figures.dropped();
    figures.timer_fired();
    figures.hook_refused();
    figures.hook_panicked();
    let mut stats = figures.stats();
    assert_eq!(stats.queue_time.count, 2);
    assert_eq!(stats.queue_time.total, Duration::from_micros(40));
    assert_eq!(stats.activation_time.count, 28);
    (stats.queue_time, stats.activation_time) = Default::default();
    let wanted = RuntimeStats {
        posts: 1,
        jobs_completed: 1,
        jobs_failed: 2,
        jobs_cancelled: 3,
        activations_failed: 1,
        activations_completed: 2,
        activations_skipped: 3,
        activations_continued: 4,
        activations_retried: 5,
        activations_cancelled: 6,
        activations_timed_out: 7,
        races_lost: 1,
        dead_letters: 1,
        dropped_messages: 1,
        timers_fired: 1,
        hook_refusals: 1,
        hook_panics: 1,
        ..RuntimeStats::default()
    };
    assert_eq!(stats, wanted);
}

#[test]
fn nothing_is_told_where_nobody_listens() {
    let store = Store::in_memory();
    let run = run_of(&store, &[job("a")]);
    let span = activation(&run);
    {
        let _inside = span.enter();
    }
    span.committed(Lsn::new(3));
    span.lost();
    assert_eq!(Arc::strong_count(&run), 1);
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_told_with_the_store_and_the_outcome() {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let store = Store::in_memory();
        let figures = Figures::new(&store);
        figures.job_ended(JobStatus::Cancelled);
        figures.job_ended(JobStatus::Cancelled);
        figures.begun(&run_of(&store, &[job("a")]));
    });
    let told = snapshotter.snapshot().into_vec();
    let line = |key: &metrics_util::CompositeKey| {
        let labels = key.key().labels().map(|label| (label.key(), label.value()));
        let labels: Vec<_> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        format!("{} {}", key.key().name(), labels.join(","))
    };
    let mut names: Vec<_> = told.iter().map(|(key, ..)| line(key)).collect();
    names.sort();
    let documented = include_str!("../../../docs/observing.md");
    for name in &names {
        let name = name.split(' ').next().unwrap();
        assert!(
            documented.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
    let value = |wanted: &str| {
        let found = told.iter().find(|(key, ..)| line(key) == wanted);
        &found
            .unwrap_or_else(|| panic!("no {wanted} in {names:#?}"))
            .3
    };
    let cancelled = value("evenkeel_jobs_total store=memory,status=cancelled");
    assert_eq!(cancelled, &DebugValue::Counter(2));
    let none = value("evenkeel_activations_total store=memory,outcome=timed-out");
    assert_eq!(none, &DebugValue::Counter(0));
    let waited = value("evenkeel_queue_seconds store=memory");
    assert_eq!(waited, &DebugValue::Histogram(vec![0.000_02.into()]));
}

#[cfg(feature = "tracing")]
mod told {
    use std::fmt::{self, Write as _};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::sync::Mutex;

    /// All that was told, a line each.
    #[derive(Clone, Default)]
    struct Told(Arc<Mutex<Vec<String>>>);

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }

    impl<S: Subscriber> Layer<S> for Told {
        fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            let metadata = attributes.metadata();
            let mut line = Line(format!("{} {}", metadata.level(), metadata.name()));
            attributes.record(&mut line);
            self.0.lock().push(line.0);
        }

        fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
            let mut line = Line("then".into());
            values.record(&mut line);
            self.0.lock().push(line.0);
        }

        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let metadata = event.metadata();
            let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
            event.record(&mut line);
            self.0.lock().push(line.0);
        }
    }

    fn lines_of(tell: impl FnOnce()) -> Vec<String> {
        let told = Told::default();
        let subscriber = tracing_subscriber::registry().with(told.clone());
        tracing::subscriber::with_default(subscriber, tell);
        told.0.lock().clone()
    }

    #[test]
    fn an_activation_is_a_span_with_flow_worker_job_routine_and_lsn() {
        let store = Store::in_memory();
        let many: Vec<_> = (0..10).map(|number| job(&format!("j{number}"))).collect();
        let lines = lines_of(|| {
            let span = activation(&run_of(&store, &[job("a")]));
            span.committed(Lsn::new(3));
            span.ended(ExecutionOutcome::Completed);
            let _span = activation(&run_of(&store, &many));
            let lost = activation(&run_of(&store, &[]));
            lost.lost();
        });
        let span = |jobs: &str| {
            format!(
                "INFO activation flow=\"flow\" worker=\"worker\" job=\"{jobs}\" routine=\"routine\" attempt=1"
            )
        };
        let wanted = [
            span("a"),
            "then lsn=3".into(),
            "then outcome=\"completed\"".into(),
            span("j0 j1 j2 j3 j4 j5 j6 j7 and 2 more"),
            span(""),
            "then outcome=\"lost\"".into(),
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn events_name_ids_and_no_texts_of_failures() {
        let store = Store::in_memory();
        let run = run_of(&store, &[job("a")]);
        let lines = lines_of(|| {
            let failure = Failure::new("hidden").kind("net");
            attempt_failed(&run, &failure, ExecutionOutcome::Retried);
            job_ended(&run.jobs[0], JobStatus::Failed, Lsn::new(4));
            worker_is(&run.worker, WorkerStatus::Paused);
            hook_refused("on_event_emit", "closed");
            hook_panicked("on_job_end panicked: x");
        });
        let of = "flow=\"flow\" worker=\"worker\"";
        let wanted = [
            format!(
                "WARN evenkeel message=an attempt failed {of} job=\"a\" routine=\"routine\" attempt=1 kind=\"net\" outcome=\"retried\""
            ),
            format!(
                "DEBUG evenkeel message=a job has ended {of} job=\"a\" status=\"failed\" lsn=4"
            ),
            format!("INFO evenkeel message=a worker has another status {of} status=\"paused\""),
            "DEBUG evenkeel message=a hook refused hook=\"on_event_emit\" reason=\"closed\"".into(),
            "ERROR evenkeel message=a hook panicked reason=\"on_job_end panicked: x\"".into(),
        ];
        assert_eq!(lines, wanted);
    }
}
