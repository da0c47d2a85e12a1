//! Owns what can be wrong with a flow, each problem by a name of its own. Imports nothing.

use std::fmt;

/// What is wrong with a flow. Each says what to do about it.
///
/// ```
/// use evenkeel::{Flow, FlowProblem};
/// let mut flow = Flow::new("orders");
/// flow.add_fn("hash", |_cx| Ok(()))?.concurrency(0);
/// let problems = flow.validate();
/// assert!(matches!(&problems[..], [FlowProblem::BadRoutine { routine, .. }] if routine == "hash"));
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlowProblem {
    /// It has no routine.
    #[error("it has no routine; add one")]
    NoRoutines,

    /// A name cannot be one.
    #[error("the {what} {name:?} has a name that {reason}")]
    BadName {
        /// What is named so: a flow, a routine, a slot or an event.
        what: &'static str,
        /// The name; of one that is too long its beginning.
        name: String,
        /// Why it cannot be.
        reason: String,
    },

    /// Two routines have the same id.
    #[error("there are two routines {routine:?}; give one of them another id")]
    DuplicateRoutine {
        /// The id.
        routine: String,
    },

    /// What is named as an endpoint is none: it has no dot, or nothing before or behind it.
    #[error("{endpoint:?} names no routine with a slot or event; write `routine.name`, or a pair")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },

    /// A routine is named that is not there.
    #[error(
        "there is no routine {routine:?}, which {endpoint} names; there are {}",
        listed(known)
    )]
    UnknownRoutine {
        /// Its id.
        routine: String,
        /// Where it is named.
        endpoint: String,
        /// The ids of those that are there.
        known: Vec<String>,
    },

    /// An event is named that its routine does not declare.
    #[error(
        "routine {routine:?} has no event {event:?}; it declares {}",
        listed(known)
    )]
    UnknownEvent {
        /// The routine.
        routine: String,
        /// The event.
        event: String,
        /// Those that it declares.
        known: Vec<String>,
    },

    /// A slot is named that its routine does not declare.
    #[error(
        "routine {routine:?} has no slot {slot:?}; it declares {}",
        listed(known)
    )]
    UnknownSlot {
        /// The routine.
        routine: String,
        /// The slot.
        slot: String,
        /// Those that it declares.
        known: Vec<String>,
    },

    /// An endpoint can be read in several ways, because ids have dots in them.
    #[error(
        "{endpoint:?} can be {}; give a pair of routine and name",
        listed(readings)
    )]
    AmbiguousEndpoint {
        /// The endpoint.
        endpoint: String,
        /// The ways to read it, as pairs.
        readings: Vec<String>,
    },

    /// Two connections lead from the same event to the same slot.
    #[error("{from} is connected to {to} twice; what it emits would come twice")]
    DuplicateConnection {
        /// The event.
        from: String,
        /// The slot.
        to: String,
    },

    /// A pipe goes through a routine with several slots or events, so it does not know
    /// which.
    #[error(
        "a pipe cannot choose the {what} of routine {routine:?}, which declares {}; connect it by name",
        listed(known)
    )]
    NotSingle {
        /// The routine.
        routine: String,
        /// `slot` or `event`.
        what: &'static str,
        /// Those that it declares.
        known: Vec<String>,
    },

    /// A slot cannot be as it is declared.
    #[error("slot {slot:?} of routine {routine:?}: {reason}")]
    BadSlot {
        /// The routine.
        routine: String,
        /// The slot.
        slot: String,
        /// Why it cannot be.
        reason: String,
    },

    /// A routine's activation policy can never be met, or means something else.
    #[error("the activation policy of routine {routine:?}: {reason}")]
    BadPolicy {
        /// The routine.
        routine: String,
        /// What is wrong with it.
        reason: String,
    },

    /// An error handler cannot be as it is described.
    #[error("the error handler of {}: {reason}", owner(routine.as_deref()))]
    BadHandler {
        /// The routine; `None` for the flow's own.
        routine: Option<String>,
        /// What is wrong with it.
        reason: String,
    },

    /// A routine cannot run as it is described.
    #[error("routine {routine:?}: {reason}")]
    BadRoutine {
        /// The routine.
        routine: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The flow's own settings cannot be.
    #[error("{reason}")]
    BadFlow {
        /// What is wrong with them.
        reason: String,
    },

    /// A document names what is not registered.
    #[error(
        "{path} names the {what} {name:?}, which is not registered; there are {}",
        listed(known)
    )]
    NotRegistered {
        /// Where in the document.
        path: String,
        /// What it is: a kind of routine, a condition, or a check.
        what: &'static str,
        /// Its name.
        name: String,
        /// The names that are registered.
        known: Vec<String>,
    },

    /// A place of a document is not what can stand there, or what is needed is missing.
    #[error("{path}{}: {reason}", at_line(*line))]
    BadDocument {
        /// The place, as in `routines.hash.slots.in`; `.` for the whole.
        path: String,
        /// Its line, from 1, where it is known.
        line: Option<u64>,
        /// What is wrong with it.
        reason: String,
    },
}

/// Names in quotes, or that there are none.
fn listed(names: &[String]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .take(20)
        .map(|name| format!("{name:?}"))
        .collect();
    match names.len() {
        0 => "none".into(),
        count if count > quoted.len() => format!("{} and more", quoted.join(", ")),
        _ => quoted.join(", "),
    }
}

fn owner(routine: Option<&str>) -> String {
    routine.map_or_else(|| "the flow".into(), |id| format!("routine {id:?}"))
}

fn at_line(line: Option<u64>) -> String {
    line.map_or_else(String::new, |line| format!(" (line {line})"))
}

/// All problems of a flow: what [`Error::InvalidFlow`](crate::Error::InvalidFlow) comes
/// from.
///
/// ```
/// use evenkeel::{Error, Flow, FlowProblems};
/// let error = Flow::new("orders").check().unwrap_err();
/// let Error::InvalidFlow { source, .. } = &error else { panic!("{error}") };
/// let problems: &FlowProblems = source.downcast_ref().unwrap();
/// assert_eq!(problems.0.len(), 1);
/// assert_eq!(error.to_string(), r#"flow "orders" cannot be: it has no routine; add one"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowProblems(pub Vec<FlowProblem>);

impl fmt::Display for FlowProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FlowProblems {}
