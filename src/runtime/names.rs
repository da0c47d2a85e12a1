//! Owns whose a state name of a worker is: who may read and write what is under it.
//! Imports `flow`, `plan`, `record`, `run`.
//!
//! What must stay true: a routine reaches no state of another one, unless that one shared
//! it or its name begins with `_`. What is asked from outside of logic changes no owner.

use crate::error::{Error, Result, WorkError};
use crate::runtime::flow::validate::NAME_BYTES_MAX;
use crate::runtime::plan::Plan;
use crate::runtime::record::{self, OwnerRecord};
use crate::runtime::run::Run;
use crate::state::{Transaction, TransactionScope};

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Every routine may read and write it.
    Everybody,
    /// It is this routine's, and nobody else may read or write it.
    Routine(String),
    /// It is his who writes it first.
    Nobody,
}

/// What logic wants with a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Read,
    Write,
}

/// Whose a name is, in a worker of this flow.
///
/// A routine that the flow has no more owns nothing: nobody could share or remove what it
/// left behind. What it had shared stays shared.
pub(crate) fn owner(name: &str, plan: &Plan, record: Option<&OwnerRecord>) -> Owner {
    if name.starts_with('_') {
        return Owner::Everybody;
    }
    let of_routine = plan.routine(name).is_some();
    match record {
        Some(record) if record.shared && (!of_routine || record.routine == name) => {
            Owner::Everybody
        }
        _ if of_routine => Owner::Routine(name.to_owned()),
        Some(record) if plan.routine(&record.routine).is_some() => {
            Owner::Routine(record.routine.clone())
        }
        _ => Owner::Nobody,
    }
}

/// Lets logic do what it wants with a state, or not. What it writes first becomes its own.
///
/// # Errors
/// [`WorkError::NotYours`], and what reading and writing the store has.
pub(crate) fn ask(tx: &Transaction, run: &Run, name: &str, wish: Wish) -> Result<()> {
    let asking = &run.routine().id;
    // Its own needs no look at the store, and that is what is asked for most.
    if name == &**asking || name.starts_with('_') {
        return Ok(());
    }
    let names = tx.scope(record::names(&run.worker.id));
    match (owner(name, &run.plan, names.get(name)?.as_ref()), wish) {
        (Owner::Routine(owner), _) if owner != **asking => Err(WorkError::NotYours {
            name: name.to_owned(),
            owner,
            asking: asking.to_string(),
        }
        .into()),
        (Owner::Nobody, Wish::Write) => note(&names, name, asking, false),
        _ => Ok(()),
    }
}

/// Shares a state with all routines. `run` is the run whose logic asks, `plan` the flow,
/// where it is known.
///
/// # Errors
/// [`WorkError::NotYours`], [`WorkError::Unknown`] for a name without an owner that is
/// shared from outside, and what reading and writing the store has.
pub(crate) fn share(
    tx: &Transaction,
    worker: &str,
    plan: Option<&Plan>,
    run: Option<&Run>,
    name: &str,
) -> Result<()> {
    let names = tx.scope(record::names(worker));
    let record: Option<OwnerRecord> = names.get(name)?;
    let found = match (plan, &record) {
        (Some(plan), record) => owner(name, plan, record.as_ref()),
        (None, Some(record)) => Owner::Routine(record.routine.clone()),
        (None, None) => Owner::Nobody,
    };
    let asking = run.map(|run| &*run.routine().id);
    match (found, asking) {
        (Owner::Everybody, _) => Ok(()),
        (Owner::Routine(owner), Some(asking)) if owner != asking => Err(WorkError::NotYours {
            name: name.to_owned(),
            owner,
            asking: asking.to_owned(),
        }
        .into()),
        (Owner::Routine(owner), _) => note(&names, name, &owner, true),
        (Owner::Nobody, Some(asking)) => note(&names, name, asking, true),
        (Owner::Nobody, None) if name.starts_with('_') => Ok(()),
        (Owner::Nobody, None) => Err(WorkError::Unknown {
            what: "owner of state",
            name: name.to_owned(),
            hint: "a routine has to write it first".into(),
        }
        .into()),
    }
}

fn note(names: &TransactionScope<'_>, name: &str, routine: &str, shared: bool) -> Result<()> {
    let record = OwnerRecord {
        routine: routine.to_owned(),
        shared,
    };
    names.set(name, record)
}

/// Refuses what is too long for a name.
///
/// # Errors
/// [`Error::LimitExceeded`].
pub(crate) fn check_name(worker: &str, name: &str) -> Result<()> {
    match name.len() > NAME_BYTES_MAX {
        false => Ok(()),
        true => Err(Error::LimitExceeded {
            limit: "state_name_bytes",
            max: NAME_BYTES_MAX as u64,
            actual: name.len() as u64,
            at: format!("a state of worker {worker:?}"),
        }),
    }
}
