//! Owns `RoutineStateAccessor`: the fields of a routine's own state, for its logic.
//! Imports `fields`, `run`.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::runtime::fields::{self, Fields};
use crate::runtime::run::Run;
use crate::scope::Scope;
use crate::state::TransactionScope;
use crate::value::Value;

/// The fields of a routine's own state in its worker, for its logic. Made by
/// [`Activation::state_accessor`](crate::Activation::state_accessor).
///
/// They are the same state as
/// [`WorkerState::get_routine_state`](crate::WorkerState::get_routine_state) gives under
/// the routine's id: a map, which is written as a whole, so that what a field costs grows
/// with the others. What is written takes effect with the commit of the activation, or not
/// at all. Cheap to clone, and clones may go to other threads of the activation, which lose
/// none of each other's changes.
///
/// Every method answers [`WorkError::ActivationOver`](crate::WorkError::ActivationOver)
/// once the activation is over.
///
/// ```
/// use evenkeel::{Activation, Failure, Flow};
/// fn count(cx: &mut Activation) -> Result<(), Failure> {
///     let state = cx.state_accessor();
///     let first: Option<String> = state.get("first")?;
///     if first.is_none() {
///         state.set("first", cx.id().to_string())?;
///     }
///     let count = state.increment("count", 1)?;
///     cx.emit("out", count)?;
///     Ok(())
/// }
/// let mut flow = Flow::new("counting");
/// flow.add_fn("count", count)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct RoutineStateAccessor {
    run: Arc<Run>,
}

impl RoutineStateAccessor {
    pub(crate) fn of(run: &Arc<Run>) -> Self {
        Self {
            run: Arc::clone(run),
        }
    }

    fn routine(&self) -> &str {
        &self.run.routine().id
    }

    fn states(&self) -> Result<TransactionScope<'_>> {
        let worker = Scope::worker(&*self.run.worker.id);
        Ok(self.run.transaction()?.scope(worker))
    }

    /// A field as a type that serde can deserialise; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) where it is no `T`, and where
    /// the state is no map.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let states = self.states()?;
        let state: Option<Fields> = states.get(self.routine())?;
        match state {
            Some(state) => fields::read(&state, &states, self.routine(), key),
            None => Ok(None),
        }
    }

    /// True where there is such a field, of whatever type.
    ///
    /// # Errors
    /// [`Error::TypeMismatch`](crate::Error::TypeMismatch) where the state is no map.
    pub fn contains(&self, key: &str) -> Result<bool> {
        Ok(self.get::<Value>(key)?.is_some())
    }

    /// Sets a field; the others stay.
    ///
    /// # Errors
    /// [`Error::Serialize`](crate::Error::Serialize) with the path of what has no form as a
    /// value, [`Error::LimitExceeded`](crate::Error::LimitExceeded) where the whole state is
    /// too large, [`Error::TypeMismatch`](crate::Error::TypeMismatch) where it is no map.
    pub fn set(&self, key: &str, value: impl Serialize) -> Result<()> {
        let value = Value::from_serialize(&value)?;
        self.change(|state| {
            state.insert(key.to_owned(), value.clone());
            Ok(())
        })
    }

    /// Makes a field out of the one that is there, `None` where there is none, and gives
    /// what was written. The closure may run several times, and does nothing else with this
    /// state.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`set`](Self::set).
    pub fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        mut update: impl FnMut(Option<T>) -> T,
    ) -> Result<T> {
        let states = self.states()?;
        fields::change(&states, self.routine(), |state| {
            let new = update(fields::read(state, &states, self.routine(), key)?);
            state.insert(key.to_owned(), Value::from_serialize(&new)?);
            Ok(new)
        })
    }

    /// Adds to a field, and gives the sum. One that is not there counts as 0.
    ///
    /// # Errors
    /// As [`get`](Self::get) and [`set`](Self::set), where the field is no integer too, and
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded) where the sum does not fit an
    /// `i64`.
    pub fn increment(&self, key: &str, by: i64) -> Result<i64> {
        fields::increment(&self.states()?, self.routine(), key, by)
    }

    /// Removes a field. Does nothing where there is none. What is left without fields is an
    /// empty map.
    ///
    /// # Errors
    /// As [`contains`](Self::contains).
    pub fn remove(&self, key: &str) -> Result<()> {
        match self.contains(key)? {
            false => Ok(()),
            true => self.change(|state| {
                state.remove(key);
                Ok(())
            }),
        }
    }

    fn change(&self, change: impl FnMut(&mut Fields) -> Result<()>) -> Result<()> {
        fields::change(&self.states()?, self.routine(), change)
    }
}

/// Whose state it is; not the state.
impl fmt::Debug for RoutineStateAccessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutineStateAccessor")
            .field("routine", &self.run.routine().id)
            .field("worker_id", &self.run.worker.id)
            .finish_non_exhaustive()
    }
}
