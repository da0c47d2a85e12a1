//! Owns `JobContext`.

use std::sync::Arc;

use crate::runtime::job::Job;
use crate::runtime::run::Run;
use crate::state::Store;

/// A job.
#[derive(Clone, Debug)]
pub struct JobContext {
    store: Store,
    job: Arc<Job>,
    run: Option<Arc<Run>>,
}

impl JobContext {
    pub(crate) fn inside(run: &Arc<Run>, job: &Arc<Job>) -> Self {
        Self {
            store: run.store.clone(),
            job: Arc::clone(job),
            run: Some(Arc::clone(run)),
        }
    }

    pub(crate) fn outside(store: &Store, job: &Arc<Job>) -> Self {
        Self {
            store: store.clone(),
            job: Arc::clone(job),
            run: None,
        }
    }

    /// Its id.
    #[must_use]
    pub fn job_id(&self) -> &str {
        &self.job.id
    }
}

impl crate::runtime::event::JobSource for JobContext {
    fn id(&self) -> &str {
        &self.job.id
    }

    fn metadata(&self) -> &std::collections::BTreeMap<String, crate::value::Value> {
        &self.job.metadata
    }

    fn datum(&self, _name: &str) -> crate::error::Result<Option<crate::value::Value>> {
        Ok(None)
    }
}
