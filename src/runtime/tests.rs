//! Owns what tests of handles stand on: a worker, jobs and runs made by hand over a store,
//! committed as the core commits them.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use crate::engine::small_key::SmallKey;
use crate::engine::{Batch, Op, SlotBatch};
use crate::ids::Lsn;
use crate::runtime::event::Event;
use crate::runtime::flow::Flow;
use crate::runtime::job::{Job, Jobs, Message, Names, Posted};
use crate::runtime::job_context::JobContext;
use crate::runtime::plan::Plan;
use crate::runtime::record::{self, ActivationId, JobEndRecord, JobPart, JobRecord, WorkerRecord};
use crate::runtime::run::{Begin, Fate, Run};
use crate::runtime::status::{JobStatus, WorkerStatus};
use crate::runtime::worker::{Given, Inner, Worker};
use crate::runtime::worker_state::WorkerState;
use crate::scope::Scope;
use crate::state::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::value::Value;

/// A worker of a flow over a store.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) worker: Arc<Worker>,
    pub(crate) plan: Arc<Plan>,
    activations: AtomicU64,
}

fn put(store: &Store, scope: &Scope, key: impl Into<SmallKey>, cell: Arc<[u8]>) -> SlotBatch {
    SlotBatch::of(
        store.shared().engine.slot(&scope.encode()),
        [(key, Op::Put(cell))],
    )
}

impl Fixture {
    pub(crate) fn new(routines: &[&str]) -> Self {
        Self::over(Store::in_memory(), routines)
    }

    pub(crate) fn over(store: Store, routines: &[&str]) -> Self {
        let mut flow = Flow::new("flow");
        for routine in routines {
            flow.add_fn(*routine, |_| Ok(())).unwrap();
        }
        let plan = Arc::new(Plan::of(&flow));
        let record = WorkerRecord {
            flow: "flow".into(),
            status: WorkerStatus::Running,
            created: 1,
            updated: 2,
            started: Some(3),
            completed: None,
            error: None,
            totals: None,
        };
        let mut inner = Inner::new(record);
        inner.plan = Some(Arc::clone(&plan));
        let slot = store.shared().engine.slot(&record::worker("w").encode());
        let worker = Arc::new(Worker::new("w", slot, inner));
        Self {
            store,
            worker,
            plan,
            activations: AtomicU64::new(1),
        }
    }

    pub(crate) fn state(&self) -> WorkerState {
        WorkerState::outside(&self.store, &self.worker)
    }

    pub(crate) fn outside(&self, job: &Arc<Job>) -> JobContext {
        JobContext::outside(&self.store, job)
    }

    /// A job that runs, in memory and in the store.
    pub(crate) fn job(&self, id: &str, metadata: &[(&str, Value)]) -> Arc<Job> {
        let metadata = metadata.iter().cloned();
        let metadata: BTreeMap<String, Value> = metadata
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let record = JobRecord {
            flow: "flow".into(),
            worker: "w".into(),
            created: 7,
            metadata: metadata.clone(),
            key: None,
            dropped: 0,
            results: Vec::new(),
        };
        let cell = record::encode(&record, &self.limits()).unwrap();
        let lsn = self.commit_writes(vec![put(
            &self.store,
            &record::jobs(),
            record::job_begin_key(id),
            cell,
        )]);
        let job = Job {
            id: id.into(),
            of: Names::new("flow", "w"),
            created: 7,
            posted: Posted::with(metadata, None),
            state: Mutex::default(),
        };
        {
            let mut state = job.state.lock();
            state.status = JobStatus::Running;
            state.lsn = lsn;
        }
        Arc::new(job)
    }

    fn limits(&self) -> crate::codec::CodecLimits {
        self.store.shared().settings.limits.codec()
    }

    fn commit_writes(&self, writes: Vec<SlotBatch>) -> Lsn {
        let batch = Batch::of(writes);
        self.store.shared().engine.commit(&batch).unwrap()
    }

    /// Ends a job in the store; in memory it still runs.
    pub(crate) fn end_in_store(&self, job: &Job, status: JobStatus) {
        let record = JobEndRecord {
            status,
            completed: 9,
            error: None,
            dropped: 0,
            results: Vec::new(),
        };
        let cell = record::encode(&record, &self.limits()).unwrap();
        let key = record::job_end_key(&job.id);
        self.commit_writes(vec![put(&self.store, &record::jobs(), key, cell)]);
    }

    /// Removes the records of a job; in memory it still runs.
    pub(crate) fn remove_in_store(&self, job: &Job) {
        let delete = |key: SmallKey| (key, Op::Delete);
        self.commit_writes(vec![SlotBatch::of(
            self.store.shared().engine.slot(&record::jobs().encode()),
            [
                delete(record::job_begin_key(&job.id)),
                delete(record::job_end_key(&job.id)),
            ],
        )]);
    }

    /// An activation of a routine, with a message for each of the jobs.
    pub(crate) fn run(&self, routine: &str, jobs: &[&Arc<Job>]) -> Arc<Run> {
        let message = |job: &&Arc<Job>| Message {
            event: Arc::new(Event::posted(Value::Null, 5)),
            jobs: Jobs::One(Arc::clone(job)),
            lsn: Lsn::ZERO,
        };
        let messages: Vec<_> = jobs.iter().map(message).collect();
        let given = Given {
            slot: 0,
            consumes: messages.clone(),
            messages,
            taken: Vec::new(),
        };
        Arc::new(Run::new(Begin {
            core: Weak::new(),
            store: self.store.clone(),
            worker: Arc::clone(&self.worker),
            plan: Arc::clone(&self.plan),
            at: self.plan.routine(routine).unwrap(),
            id: ActivationId {
                session: 1,
                number: self.activations.fetch_add(1, Ordering::SeqCst),
            },
            attempt: 1,
            claimed: false,
            given: vec![given],
            begun_micros: 5,
        }))
    }

    /// Commits a run; false where it lost a race.
    pub(crate) fn commit(&self, run: &Run) -> bool {
        assert!(run.end(Fate::Over));
        let engine = &self.store.shared().engine;
        let (mut batch, view) = match run.begun_transaction() {
            Some(transaction) => (transaction.take_batch(), transaction.lsn()),
            None => (Batch::default(), engine.visible()),
        };
        for (index, (job, trace)) in run.done.lock().traces.iter().enumerate() {
            let index = u32::try_from(index).unwrap();
            let key = JobPart::Trace.key(trace.at, run.id, index);
            let cell = record::encode(trace, &self.limits()).unwrap();
            let write = put(&self.store, &record::job(&job.id), key, cell);
            match batch
                .writes
                .iter_mut()
                .find(|one| Arc::ptr_eq(&one.slot, &write.slot))
            {
                Some(one) => one.ops.extend(write.ops),
                None => batch.writes.push(write),
            }
        }
        match batch.writes.is_empty() {
            true => true,
            false => engine.commit_read(&batch, view, None).unwrap().is_some(),
        }
    }
}
