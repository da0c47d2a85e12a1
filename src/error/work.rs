//! Owns the error kinds of the runtime: what cannot be done with flows, workers and jobs,
//! sorted by what the caller can do about it. Imports nothing.

/// What cannot be done with a flow, a worker or a job.
///
/// ```
/// use evenkeel::{Error, WorkError};
/// let error = Error::from(WorkError::Unknown {
///     what: "flow",
///     name: "order".into(),
///     hint: "register it first".into(),
/// });
/// assert_eq!(error.to_string(), r#"there is no flow "order"; register it first"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkError {
    /// There is nothing of this name. Nothing was written.
    #[error("there is no {what} {name:?}; {hint}")]
    Unknown {
        /// What was asked for: a flow, a worker, a routine, a slot, a job, a dead letter.
        what: &'static str,
        /// The name or id that was given.
        name: String,
        /// What can be done about it.
        hint: String,
    },

    /// There is one of this name, and there can be only one. Nothing was written.
    #[error("there is a {what} {name:?} already; {hint}")]
    Exists {
        /// What there is: a job, a worker, a timer, an effect.
        what: &'static str,
        /// The name or id that was given.
        name: String,
        /// What can be done about it.
        hint: String,
    },

    /// It has ended, and takes nothing more. Nothing was written.
    #[error("the {what} {name:?} is {status}, and takes nothing more")]
    Ended {
        /// What has ended: a worker, a job.
        what: &'static str,
        /// Its id.
        name: String,
        /// How it ended.
        status: String,
    },

    /// The slot is full. Nothing was written; post it again when messages were consumed.
    #[error(
        "slot {slot:?} of routine {routine:?} of worker {worker:?} is full: {waiting} messages wait, and {max} may; post again later, or raise its capacity"
    )]
    SlotFull {
        /// The id of the worker.
        worker: String,
        /// The id of the routine.
        routine: String,
        /// The name of the slot.
        slot: String,
        /// How many messages wait.
        waiting: usize,
        /// How many may.
        max: usize,
    },

    /// What was waited for did not come in time. Nothing was changed by waiting.
    #[error("{what} did not end within the time given; {}", held(holding))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// What holds it, one line each; no more than a hundred.
        holding: Vec<String>,
    },

    /// A state name that belongs to another routine.
    #[error(
        "state {name:?} belongs to routine {owner:?}, and {asking:?} asks for it; let its owner share it, or begin shared names with `_`"
    )]
    NotYours {
        /// The name of the state.
        name: String,
        /// The routine that it belongs to.
        owner: String,
        /// The routine that asked.
        asking: String,
    },

    /// The activation cannot do this any more. What it had done so far is dropped, unless
    /// it was committed.
    #[error("the activation of routine {routine:?} {reason}; it can read and write nothing more")]
    ActivationOver {
        /// The id of the routine.
        routine: String,
        /// Why it is over.
        reason: &'static str,
    },

    /// A call that waits for other work, or holds what logic needs, was made inside of
    /// logic. It is made outside.
    #[error("{call} inside of a routine, a policy or a hook would wait for itself; {instead}")]
    InsideLogic {
        /// The call.
        call: &'static str,
        /// What to do instead.
        instead: &'static str,
    },

    /// An idempotency key that was used with other data. Nothing was written.
    #[error(
        "key {key:?} was used for job {job:?} with other data, another flow, routine or slot; use a new key for new work"
    )]
    KeyReused {
        /// The key.
        key: String,
        /// The job that it was used for.
        job: String,
    },

    /// A hook refused it. Nothing was written.
    #[error("{what} was refused by a hook: {reason}")]
    Refused {
        /// What was refused.
        what: String,
        /// What the hook said.
        reason: String,
    },

    /// A flow whose description was changed, and its version was not.
    #[error(
        "flow {flow:?} is described in another way than version {version} was that this store has seen; raise its version"
    )]
    FlowChanged {
        /// The name of the flow.
        flow: String,
        /// The version that both have.
        version: u32,
    },

    /// A flow of a lower version than the store has seen.
    #[error(
        "flow {flow:?} is of version {version}, and this store has seen version {seen}; use the newer program, or raise the version"
    )]
    FlowOutdated {
        /// The name of the flow.
        flow: String,
        /// The version that was registered now.
        version: u32,
        /// The highest version that this store has seen.
        seen: u32,
    },

    /// The runtime was shut down. Start another one on the same store.
    #[error("the runtime is shut down; start another one")]
    ShutDown,

    /// Another runtime runs on this store.
    #[error("a runtime runs on this store already; shut that one down first, or use it")]
    AlreadyRunning,
}

impl WorkError {
    /// There is nothing of this name; and what can be done about it.
    pub(crate) fn unknown(what: &'static str, name: &str, hint: impl Into<String>) -> Self {
        Self::Unknown {
            what,
            name: name.to_owned(),
            hint: hint.into(),
        }
    }
}

fn held(holding: &[String]) -> String {
    match holding.is_empty() {
        true => "nothing is known to hold it".into(),
        false => format!("it is held by: {}", holding.join("; ")),
    }
}
