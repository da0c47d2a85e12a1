//! Owns the two ways in which handles of workers and jobs reach the store: inside logic
//! through the transaction of its run, outside through a transaction of their own.
//! Imports `run`.

use std::sync::Arc;

use crate::error::Result;
use crate::runtime::run::Run;
use crate::state::{Store, Transaction};

/// How a handle reads and writes.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// With the commit of this run.
    Inside(Arc<Run>),
    /// At once.
    Outside(Store),
}

impl Access {
    /// The run whose logic asks; `None` outside.
    pub(crate) fn run(&self) -> Option<&Run> {
        match self {
            Self::Inside(run) => Some(run),
            Self::Outside(_) => None,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        match self {
            Self::Inside(run) => &run.store,
            Self::Outside(store) => store,
        }
    }

    /// Does a step in the transaction of the run, or in one of its own, which is as durable
    /// as the store says when this returns. Nobody may hold a lock that a commit takes: the
    /// step may have to wait for other transactions.
    ///
    /// # Errors
    /// What the step answers, [`WorkError::ActivationOver`](crate::WorkError) inside of a
    /// run that is over, and what [`Store::transact`] has outside.
    pub(crate) fn transact<T>(&self, mut step: impl FnMut(&Transaction) -> Result<T>) -> Result<T> {
        match self {
            Self::Inside(run) => step(run.transaction()?),
            Self::Outside(store) => store.transact(step),
        }
    }
}
