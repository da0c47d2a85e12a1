//! Owns the names of the workflow state architecture (`StateScope`,
//! `WorkflowStateManager`, its accessors) over the same store. It keeps nothing of
//! its own: whatever is written here is read by a [`Store`], and the other way round.

use std::path::Path;

use crate::error::Result;
use crate::scope::Scope;
use crate::state::{Keys, ScopeHandle, Store};
use crate::value::Value;

/// Where a key of a [`WorkflowStateManager`] belongs to.
///
/// It has no `prefix()`. A prefix that is text cannot be a wall: with
/// `format!("workflow:{id}:")` the key `b:c` of workflow `a` is the key `c` of
/// workflow `a:b`, the global key `workflow:x:secret` is in workflow `x`, and clearing
/// `t:acme` clears `t:acme:eu` as well. Here a scope is encoded so that no id and no
/// key, whatever is in them, reaches another one ([`Scope`]).
///
/// ```
/// use evenkeel::{Scope, StateScope};
/// let scope = StateScope::Step { workflow_id: "w".into(), step_name: "s".into() };
/// assert_eq!(Scope::from(scope), Scope::step("w", "s"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StateScope {
    /// Shared across all workflows.
    Global,
    /// Of one workflow, by its id.
    Workflow(String),
    /// Of one step of a workflow.
    Step {
        /// The id of the workflow.
        workflow_id: String,
        /// The name of the step.
        step_name: String,
    },
    /// A namespace of the application's own.
    Custom(String),
}

impl From<StateScope> for Scope {
    fn from(scope: StateScope) -> Self {
        match scope {
            StateScope::Global => Self::Global,
            StateScope::Workflow(id) => Self::Workflow(id),
            StateScope::Step {
                workflow_id,
                step_name,
            } => Self::Step {
                workflow_id,
                step_name,
            },
            StateScope::Custom(namespace) => Self::Custom(namespace),
        }
    }
}

/// The state of workflows under the names that programs on maps in memory use.
///
/// ```
/// use evenkeel::WorkflowStateManager;
/// use serde_json::json;
/// let state_manager = WorkflowStateManager::new();
/// let state = state_manager.workflow_state("workflow_123".to_string());
/// state.set("config", json!({"retries": 3}))?;
/// let config = state.get("config")?;
/// assert_eq!(config, Some(json!({"retries": 3})));
/// state.global().set("api_key", json!("sk-123"))?;
/// let step_state = state.step("process_data".to_string());
/// step_state.set("progress", json!(0.5))?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
///
/// Names and calls are those of that architecture. What differs, and why:
///
/// - **`set` and `get` return a [`Result`].** Memory cannot refuse a value; a disk can be
///   full, a log can be damaged, a value can be too large, and a store can be closed. An
///   error that nobody is told of is a lost value, so each call has a `?` more.
/// - **`set` returns when the value is durable.** [`new`](Self::new) has no disk, and
///   nothing to wait for.
/// - **Nothing is `async`.** A call takes no longer than one disk sync. A task that must
///   not block takes [`Store::submit`] and awaits the commit.
/// - **There is no `prefix()`**: see [`StateScope`].
/// - **There are no maps and no guards**: a read clones one value, and no lock is held
///   for whoever reads it.
/// - **A step's name says nothing about its workflow's keys.** Steps are scopes of their
///   own: clearing a workflow leaves them.
/// - **`get`, then `set`, can lose an update**, there as here: two branches may read the
///   same number. [`StateAccessor::handle`] has `increment`, `update` and
///   `compare_and_set`, which cannot, and [`store`](Self::store) has transactions.
///
/// Values are `serde_json::Value`. What was written through [`Store`] is there as JSON:
/// bytes are an array of numbers, and a float that is not finite is null.
#[derive(Clone, Debug)]
pub struct WorkflowStateManager {
    store: Store,
}

impl WorkflowStateManager {
    /// Keeps the state in memory; it is gone with the last handle unless it is
    /// [persisted](Self::persist).
    #[must_use]
    pub fn new() -> Self {
        Self::with_store(Store::in_memory())
    }

    /// Keeps the state in the store in a folder, and makes one where there is none.
    ///
    /// # Errors
    /// As [`Store::open`].
    ///
    /// ```
    /// use evenkeel::WorkflowStateManager;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let state_manager = WorkflowStateManager::open(&path)?;
    /// state_manager.workflow_state("w").set("iteration", 3)?;
    /// state_manager.close()?;
    /// let state_manager = WorkflowStateManager::open(&path)?;
    /// let iteration = state_manager.workflow_state("w").get("iteration")?;
    /// assert_eq!(iteration.and_then(|v| v.as_u64()), Some(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Store::open(path).map(Self::with_store)
    }

    /// Keeps the state in a store that is open already.
    #[must_use]
    pub fn with_store(store: Store) -> Self {
        Self { store }
    }

    /// Makes a durable copy of all that is there, and opens it: the way from memory to
    /// disk. This manager goes on as it is.
    ///
    /// # Errors
    /// As [`Store::persist`].
    ///
    /// ```
    /// use evenkeel::WorkflowStateManager;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let state_manager = WorkflowStateManager::new();
    /// state_manager.workflow_state("w").set("a", 1)?;
    /// let state_manager = state_manager.persist(&path)?;
    /// assert!(state_manager.workflow_state("w").get("a")?.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn persist(&self, path: impl AsRef<Path>) -> Result<Self> {
        self.store.persist(path).map(Self::with_store)
    }

    /// The state of one workflow. Workflows need not be made.
    #[must_use]
    pub fn workflow_state(&self, workflow_id: impl Into<String>) -> StateAccessor {
        self.state(StateScope::Workflow(workflow_id.into()))
    }

    /// The state that all workflows share.
    #[must_use]
    pub fn global(&self) -> StateAccessor {
        self.state(StateScope::Global)
    }

    /// The state of any scope.
    ///
    /// ```
    /// use evenkeel::{StateScope, WorkflowStateManager};
    /// let state_manager = WorkflowStateManager::new();
    /// let tenant = state_manager.state(StateScope::Custom("t:acme".into()));
    /// tenant.set("plan", "gold")?;
    /// assert!(state_manager.state(StateScope::Custom("t".into())).keys()?.next().is_none());
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn state(&self, scope: StateScope) -> StateAccessor {
        StateAccessor {
            handle: self.store.scope(scope.into()),
            store: self.store.clone(),
        }
    }

    /// The store that keeps it: transactions, and all else that is not here.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Ends the store for all its handles.
    ///
    /// # Errors
    /// As [`Store::close`].
    pub fn close(&self) -> Result<()> {
        self.store.close()
    }
}

impl Default for WorkflowStateManager {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Store> for WorkflowStateManager {
    fn from(store: Store) -> Self {
        Self::with_store(store)
    }
}

/// The state of one workflow, step or namespace, made by a [`WorkflowStateManager`].
/// Cheap to clone; any thread may use it, and it keeps the store open.
#[derive(Clone, Debug)]
pub struct StateAccessor {
    store: Store,
    handle: ScopeHandle,
}

impl StateAccessor {
    /// The value of a key; `None` where there is none. Null is a value.
    ///
    /// # Errors
    /// As [`ScopeHandle::get`]; no type is asked for, so none can mismatch.
    pub fn get(&self, key: impl AsRef<str>) -> Result<Option<serde_json::Value>> {
        let found: Option<Value> = self.handle.get(key)?;
        Ok(found.map(Into::into))
    }

    /// Sets a key. Returns when that is as durable as the store says.
    ///
    /// # Errors
    /// As [`ScopeHandle::set`], and then nothing was written.
    pub fn set(&self, key: impl AsRef<str>, value: impl Into<serde_json::Value>) -> Result<()> {
        self.handle.set(key, Value::from(value.into()))
    }

    /// Removes a key. No error where there is none.
    ///
    /// # Errors
    /// As [`ScopeHandle::delete`].
    pub fn delete(&self, key: impl AsRef<str>) -> Result<()> {
        self.handle.delete(key)
    }

    /// All keys, in order, as they are now.
    ///
    /// # Errors
    /// As [`ScopeHandle::keys`].
    pub fn keys(&self) -> Result<Keys> {
        self.handle.keys()
    }

    /// Removes all keys of this scope at once. The steps of a workflow stay.
    ///
    /// # Errors
    /// As [`ScopeHandle::clear`].
    pub fn clear(&self) -> Result<()> {
        self.handle.clear()
    }

    /// The state that all workflows share.
    #[must_use]
    pub fn global(&self) -> Self {
        Self {
            handle: self.store.global(),
            store: self.store.clone(),
        }
    }

    /// The state of a step of this workflow. A step of what is no workflow answers
    /// [`Error::Invalid`](crate::Error::Invalid) when it is used.
    #[must_use]
    pub fn step(&self, name: impl Into<String>) -> Self {
        Self {
            handle: self.handle.step(name.into()),
            store: self.store.clone(),
        }
    }

    /// The same scope with all that it can do: typed values, `increment`, `update`,
    /// `merge`, `compare_and_set`, scans.
    ///
    /// ```
    /// use evenkeel::WorkflowStateManager;
    /// let state = WorkflowStateManager::new().workflow_state("w");
    /// state.set("iteration", 1)?;
    /// assert_eq!(state.handle().increment("iteration", 1)?, 2);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> &ScopeHandle {
        &self.handle
    }
}
