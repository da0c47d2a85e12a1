//! Owns `JobOutputLayer`, which makes events of `tracing` a part of the output of the job
//! that they happened in. Imports `current`, `run`, `telemetry`.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Weak};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::runtime::current::current_run;
use crate::runtime::run::Run;
use crate::runtime::telemetry::{ACTIVATION, TARGET};

/// A layer for a `tracing` subscriber that adds events to the output of the job in whose
/// span they happen: a line each, with level, target, message and fields. It shows nothing
/// itself; that is what the other layers are for.
///
/// The span of an activation goes where it is taken: an event on another thread that
/// entered it, or in a future that is instrumented with it, is of its job too, while the
/// activation lasts. What a subscriber's filter leaves out is not captured. Events of the
/// store itself (target `evenkeel`) are not of a job.
///
/// Needs the feature `tracing`.
///
/// ```
/// use evenkeel::JobOutputLayer;
/// use tracing_subscriber::layer::SubscriberExt;
/// let subscriber = tracing_subscriber::registry().with(JobOutputLayer::new());
/// tracing::subscriber::set_global_default(subscriber)?;
/// # Ok::<(), tracing::subscriber::SetGlobalDefaultError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct JobOutputLayer(());

impl JobOutputLayer {
    /// A layer that captures what reaches it.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

/// The run that a span is of. A span may outlive it.
struct Of(Weak<Run>);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for JobOutputLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let metadata = attributes.metadata();
        if metadata.target() == TARGET
            && metadata.name() == ACTIVATION
            && let (Some(run), Some(span)) = (current_run(), context.span(id))
        {
            span.extensions_mut().insert(Of(Arc::downgrade(&run)));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == TARGET {
            return;
        }
        let run_of = |span: tracing_subscriber::registry::SpanRef<'_, S>| {
            let extensions = span.extensions();
            extensions.get::<Of>().map(|of| of.0.upgrade())
        };
        let within = context.event_scope(event);
        let run = match within.and_then(|mut within| within.find_map(run_of)) {
            Some(run) => run,
            // A filter may leave out the span and not the event.
            None => current_run(),
        };
        let Some(run) = run else { return };
        let mut line = Line(format!("{} {}:", metadata.level(), metadata.target()));
        event.record(&mut line);
        line.0.push('\n');
        // It is over: this is no more of its job.
        let _ = run.print(|printed| printed.collect(&line.0));
    }
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
