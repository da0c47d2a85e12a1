//! Owns `WorkerState`.

use std::sync::Arc;

use crate::runtime::run::Run;
use crate::runtime::worker::Worker;
use crate::state::Store;

/// The state of a worker.
#[derive(Clone, Debug)]
pub struct WorkerState {
    store: Store,
    worker: Arc<Worker>,
    run: Option<Arc<Run>>,
}

impl WorkerState {
    pub(crate) fn inside(run: &Arc<Run>) -> Self {
        Self {
            store: run.store.clone(),
            worker: Arc::clone(&run.worker),
            run: Some(Arc::clone(run)),
        }
    }

    pub(crate) fn outside(store: &Store, worker: &Arc<Worker>) -> Self {
        Self {
            store: store.clone(),
            worker: Arc::clone(worker),
            run: None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn worker_id(&self) -> &str {
        &self.worker.id
    }
}
