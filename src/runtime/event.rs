//! Owns what travels along a connection, and what a condition on it may look at.
//! Imports `error`, `value`, and `failure`.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::runtime::failure::Failure;
use crate::value::Value;

/// What was emitted or posted: data, and where it comes from.
///
/// ```
/// use evenkeel::{Event, Value};
/// let event = Event::emitted("hash", "out", [("bytes", 12)].into_iter().collect(), 1_000);
/// assert_eq!(event.get("bytes").and_then(Value::as_i64), Some(12));
/// assert_eq!((event.emitted_from(), event.event_name()), (Some("hash"), Some("out")));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    data: Value,
    emitted_at_micros: u64,
    /// `None` where it was posted.
    origin: Option<Arc<Origin>>,
}

/// The routine that emits, and the name of what it emits. Many events share one.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) routine: Arc<str>,
    pub(crate) event: Arc<str>,
}

impl Event {
    /// What a routine emitted.
    #[must_use]
    pub fn emitted(
        routine: impl Into<Arc<str>>,
        event: impl Into<Arc<str>>,
        data: Value,
        at_micros: u64,
    ) -> Self {
        let (routine, event) = (routine.into(), event.into());
        Self::of(Arc::new(Origin { routine, event }), data, at_micros)
    }

    /// The same, where others have come from there.
    pub(crate) fn of(origin: Arc<Origin>, data: Value, at_micros: u64) -> Self {
        Self {
            data,
            emitted_at_micros: at_micros,
            origin: Some(origin),
        }
    }

    /// What was posted from outside of the flow.
    #[must_use]
    pub fn posted(data: Value, at_micros: u64) -> Self {
        Self {
            data,
            emitted_at_micros: at_micros,
            origin: None,
        }
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// The value under `name`, where the data is a map that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.data.get(name)
    }

    /// The data as a type that serde can deserialise.
    ///
    /// # Errors
    /// As [`Value::deserialize`].
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        self.data.deserialize()
    }

    /// When it was emitted or posted, in microseconds since 1970 by the store's time.
    #[must_use]
    pub fn emitted_at_micros(&self) -> u64 {
        self.emitted_at_micros
    }

    /// The id of the routine that emitted it; `None` where it was posted.
    #[must_use]
    pub fn emitted_from(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| &*origin.routine)
    }

    /// The name of the event; `None` where it was posted.
    #[must_use]
    pub fn event_name(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| &*origin.event)
    }
}

/// Where a [`JobView`] reads from.
pub(crate) trait JobSource {
    fn id(&self) -> &str;
    fn metadata(&self) -> &BTreeMap<String, Value>;
    /// What the job has under this name, the activation's own writes included.
    fn datum(&self, name: &str) -> Result<Option<Value>>;
}

/// A job as a condition sees it: to be read, with what the activation itself has written.
pub struct JobView<'s> {
    source: &'s dyn JobSource,
}

impl<'s> JobView<'s> {
    pub(crate) fn new(source: &'s dyn JobSource) -> Self {
        Self { source }
    }

    /// The job's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.source.id()
    }

    /// The text that the job was posted with under this name; `None` where there is
    /// nothing, or no text: [`metadata_value`](Self::metadata_value) has every type.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata_value(name).and_then(Value::as_str)
    }

    /// What the job was posted with under this name.
    #[must_use]
    pub fn metadata_value(&self, name: &str) -> Option<&Value> {
        self.source.metadata().get(name)
    }

    /// What the job has under this name; where it has nothing, what it was posted with.
    ///
    /// # Errors
    /// As a read of the store, and [`Error::Invalid`](crate::Error::Invalid) where it is
    /// not of this type.
    pub fn get_data<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let found = self.value(name)?;
        found.map(|value| value.deserialize()).transpose()
    }

    /// As `get_data`, without its type.
    pub(crate) fn value(&self, name: &str) -> Result<Option<Value>> {
        let datum = self.source.datum(name)?;
        Ok(datum.or_else(|| self.metadata_value(name).cloned()))
    }
}

impl fmt::Debug for JobView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobView").field(&self.id()).finish()
    }
}

/// What a condition may answer: `bool`, or a [`Result`](std::result::Result) of one, whose
/// error fails the activation that emits.
pub trait Verdict: sealed::Sealed {
    #[doc(hidden)]
    fn verdict(self) -> Result<bool, Failure>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for bool {}
    impl<E> Sealed for Result<bool, E> {}
}

impl Verdict for bool {
    fn verdict(self) -> Result<bool, Failure> {
        Ok(self)
    }
}

impl<E: Into<Failure>> Verdict for Result<bool, E> {
    fn verdict(self) -> Result<bool, Failure> {
        self.map_err(Into::into)
    }
}

type Test = dyn Fn(&Event, &JobView<'_>) -> Result<bool, Failure> + Send + Sync;

/// A condition on a connection: what is emitted passes only where it holds.
#[derive(Clone)]
pub(crate) enum Condition {
    /// The program's own; a name where it is registered under one.
    Closure {
        name: Option<String>,
        test: Arc<Test>,
    },
    /// All of these hold.
    Equal(Vec<Equality>),
}

/// One line of a `when`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Equality {
    pub(crate) subject: Subject,
    pub(crate) value: Value,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Subject {
    /// A datum of the job, or what it was posted with.
    Job(String),
    /// A field of the event's data.
    Event(String),
}

impl Subject {
    /// As it is written in a document.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('.')?;
        match kind {
            _ if name.is_empty() => None,
            "job" => Some(Self::Job(name.to_owned())),
            "event" => Some(Self::Event(name.to_owned())),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Job(name) => format!("job.{name}"),
            Self::Event(name) => format!("event.{name}"),
        }
    }
}

impl Condition {
    pub(crate) fn closure<V: Verdict>(
        test: impl Fn(&Event, &JobView<'_>) -> V + Send + Sync + 'static,
    ) -> Self {
        Self::Closure {
            name: None,
            test: Arc::new(move |event, job| test(event, job).verdict()),
        }
    }

    /// The same condition under the name that it is registered by.
    pub(crate) fn named(self, known_as: &str) -> Self {
        match self {
            Self::Closure { test, .. } => Self::Closure {
                name: Some(known_as.to_owned()),
                test,
            },
            equal @ Self::Equal(_) => equal,
        }
    }

    /// Whether an event passes.
    ///
    /// # Errors
    /// What the closure answers, what reading fails with, and a panic in the closure.
    pub(crate) fn holds(&self, event: &Event, job: &JobView<'_>) -> Result<bool, Failure> {
        match self {
            Self::Closure { test, .. } => catch_unwind(AssertUnwindSafe(|| test(event, job)))
                .unwrap_or_else(|panic: Box<dyn Any + Send>| {
                    Err(Failure::panicked("the condition of a connection", &*panic))
                }),
            Self::Equal(all) => {
                for Equality { subject, value } in all {
                    let found = match subject {
                        Subject::Job(name) => job.value(name)?,
                        Subject::Event(name) => event.get(name).cloned(),
                    };
                    if found.as_ref() != Some(value) {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure { name, .. } => f.debug_tuple("Closure").field(name).finish(),
            Self::Equal(all) => f.debug_tuple("Equal").field(all).finish(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::error::Error;

    /// A job in memory.
    #[derive(Default)]
    pub(crate) struct Job {
        pub(crate) metadata: BTreeMap<String, Value>,
        pub(crate) data: BTreeMap<String, Value>,
        pub(crate) broken: bool,
    }

    impl JobSource for Job {
        fn id(&self) -> &str {
            "job"
        }

        fn metadata(&self) -> &BTreeMap<String, Value> {
            &self.metadata
        }

        fn datum(&self, name: &str) -> Result<Option<Value>> {
            match self.broken {
                true => Err(Error::Closed),
                false => Ok(self.data.get(name).cloned()),
            }
        }
    }

    fn gold() -> Job {
        Job {
            metadata: BTreeMap::from([("tier".to_owned(), "gold".into())]),
            ..Job::default()
        }
    }

    fn event(data: Value) -> Event {
        Event::emitted("a", "out", data, 7)
    }

    fn when(subject: &str, value: impl Into<Value>) -> Condition {
        Condition::Equal(vec![Equality {
            subject: Subject::parse(subject).unwrap(),
            value: value.into(),
        }])
    }

    #[test]
    fn get_data_falls_through_to_the_metadata() {
        let mut job = gold();
        let read = |job: &Job| JobView::new(job).get_data::<String>("tier").unwrap();
        assert_eq!(read(&job).as_deref(), Some("gold"));
        job.data.insert("tier".into(), "silver".into());
        assert_eq!(read(&job).as_deref(), Some("silver"));
        assert_eq!(JobView::new(&job).metadata("tier"), Some("gold"));
        assert_eq!(JobView::new(&job).get_data::<String>("x").unwrap(), None);
    }

    #[test]
    fn a_datum_that_is_null_does_not_fall_through() {
        let mut job = gold();
        job.data.insert("tier".into(), Value::Null);
        let read: Option<Option<String>> = JobView::new(&job).get_data("tier").unwrap();
        assert_eq!(read, Some(None));
    }

    #[test]
    fn a_condition_sees_event_and_job() {
        let condition = Condition::closure(|event, job| {
            event.get("n").is_some() && job.metadata("tier") == Some("gold")
        });
        let job = gold();
        let passes = |data: Value| condition.holds(&event(data), &JobView::new(&job)).unwrap();
        assert!(passes([("n", 1)].into_iter().collect()));
        assert!(!passes(Value::Null));
    }

    #[test]
    fn a_condition_that_fails_or_panics_is_a_failure() {
        let job = Job {
            broken: true,
            ..gold()
        };
        let failing = Condition::closure(|_, job| {
            let tier: Option<String> = job.get_data("tier")?;
            Ok::<_, Error>(tier.is_some())
        });
        let failure = failing
            .holds(&event(Value::Null), &JobView::new(&job))
            .unwrap_err();
        assert!(matches!(failure.downcast_ref(), Some(Error::Closed)));
        let panicking = Condition::closure(|_, _| -> bool { panic!("no") });
        let failure = panicking
            .holds(&event(Value::Null), &JobView::new(&job))
            .unwrap_err();
        assert_eq!(failure.kind_name(), Some("panic"));
    }

    #[test]
    fn when_compares_without_changing_types() {
        let mut job = gold();
        job.data.insert("n".into(), 1.into());
        let holds = |condition: Condition, data: Value| {
            condition.holds(&event(data), &JobView::new(&job)).unwrap()
        };
        assert!(holds(when("job.tier", "gold"), Value::Null));
        assert!(holds(when("job.n", 1), Value::Null));
        assert!(!holds(when("job.n", "1"), Value::Null));
        assert!(!holds(when("job.n", 1.0), Value::Null));
        assert!(!holds(when("job.missing", Value::Null), Value::Null));
        let data: Value = [("a.b", 1)].into_iter().collect();
        assert!(holds(when("event.a.b", 1), data));
    }

    #[test]
    fn subjects_are_jobs_and_events() {
        for wrong in ["tier", "job", "job.", "worker.x", ""] {
            assert_eq!(Subject::parse(wrong), None, "{wrong:?}");
        }
        let subject = Subject::parse("job.a.b").unwrap();
        assert_eq!(subject, Subject::Job("a.b".into()));
        assert_eq!(subject.text(), "job.a.b");
    }
}
