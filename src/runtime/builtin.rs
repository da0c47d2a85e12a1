//! Owns what the built-in routines share, and the registry that knows them by kind.
//! They stand on the public interface: what they do, a program could do as well.
//! Imports `activation`, `failure`, `registry`, `routine`.
//!
//! What must stay true: none keeps anything in itself. What waits is in a slot, in a
//! timer or in the job, so it is there after a restart; and data of several jobs in one
//! activation go on for the jobs that they came for.

pub(crate) mod aggregator;
pub(crate) mod batcher;
pub(crate) mod debouncer;
pub(crate) mod extractor;
pub(crate) mod filter;
pub(crate) mod mapper;
pub(crate) mod path;
pub(crate) mod retry;
pub(crate) mod router;
pub(crate) mod splitter;
pub(crate) mod validator;

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::runtime::activation::Activation;
use crate::runtime::builtin::aggregator::Aggregator;
use crate::runtime::builtin::batcher::Batcher;
use crate::runtime::builtin::debouncer::Debouncer;
use crate::runtime::builtin::extractor::ResultExtractor;
use crate::runtime::builtin::router::Router;
use crate::runtime::builtin::splitter::Splitter;
use crate::runtime::builtin::validator::SchemaValidator;
use crate::runtime::document::registry::Registry;
use crate::runtime::event::Event;
use crate::runtime::failure::Failure;
use crate::runtime::policy::ActivationPolicy;
use crate::runtime::routine::RoutineSettings;
use crate::value::Value;

impl Registry {
    /// A registry of the built-in routines that a document can describe, as the kinds
    /// `aggregator`, `batcher`, `debouncer`, `result_extractor`, `router`,
    /// `schema_validator` and `splitter`. The config of each is shown at its type. The
    /// others, [`Mapper`](crate::Mapper), [`Filter`](crate::Filter) and
    /// [`Retry`](crate::Retry), hold a closure; register kinds of your own around them.
    ///
    /// ```
    /// use evenkeel::{Flow, Registry};
    /// let flow = Flow::from_yaml("
    /// flow_id: orders
    /// routines:
    ///   lines: { class: splitter, config: { field: lines } }
    ///   pack: { class: batcher, config: { size: 10, max_wait: 2.5 } }
    /// connections:
    /// - { from: lines.out, to: pack.in }
    /// ", &Registry::with_builtins())?;
    /// assert!(flow.validate().is_empty());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn with_builtins() -> Self {
        let mut registry = Self::new();
        registry.kind("aggregator", read::<Aggregator>);
        registry.kind("batcher", read::<Batcher>);
        registry.kind("debouncer", read::<Debouncer>);
        registry.kind("result_extractor", read::<ResultExtractor>);
        registry.kind("router", read::<Router>);
        registry.kind("schema_validator", read::<SchemaValidator>);
        registry.kind("splitter", read::<Splitter>);
        registry
    }
}

/// A routine from the config that a document gives it: its fields are the config.
fn read<R: DeserializeOwned>(config: &Value) -> Result<R, Failure> {
    Ok(config.deserialize()?)
}

/// Declares the fields of a routine as its config, so that they are part of the flow's
/// description, however it was made.
fn declare_config<R: Serialize>(settings: &mut RoutineSettings, routine: &R) {
    // What came out of a document, or is made of numbers and texts, has a form.
    if let Ok(Value::Map(config)) = Value::from_serialize(routine) {
        for (key, value) in config {
            settings.config(key, value);
        }
    }
}

/// Messages are handled one by one, so that the failure of one is not that of others, and
/// each goes on for exactly the jobs that it came for.
fn one_by_one(settings: &mut RoutineSettings) {
    settings.slot("in").policy(ActivationPolicy::batch_size(1));
}

/// The data of a message as what the routine wants. What is not of that type never will
/// be, so nothing is tried again.
fn data<T: DeserializeOwned>(event: &Event) -> Result<T, Failure> {
    let data = event.deserialize();
    data.map_err(|error| Failure::new(error).kind("data").permanent())
}

/// Emits an event for the jobs of one message of the input: as one where they are all
/// jobs of the activation, and as it is whenever it has one message; otherwise as one for
/// each of them.
fn emit_as(cx: &Activation, from: &Event, event: &str, data: impl Serialize) -> Result<()> {
    let jobs = cx.jobs_of(from);
    if jobs.is_empty() || jobs.len() == cx.jobs().len() {
        return cx.emit(event, data);
    }
    jobs.iter()
        .try_for_each(|job| cx.emit_for(job, event, &data))
}

/// A time as documents have it: in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_nanos() {
            0 => serializer.serialize_u64(self.0.as_secs()),
            _ => serializer.serialize_f64(self.0.as_secs_f64()),
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let time = Duration::try_from_secs_f64(seconds);
        time.map(Self).map_err(serde::de::Error::custom)
    }
}
