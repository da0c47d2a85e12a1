//! Owns `Runtime`: what a program starts, posts to, and shuts down. Imports `core`, and
//! what it gives out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Result, WorkError};
use crate::runtime::activation::Activation;
use crate::runtime::core::Core;
use crate::runtime::current::{self, outside_only};
use crate::runtime::dead::{DeadLetter, KeepDeadLetters};
use crate::runtime::flow::Flow;
use crate::runtime::hooks::Hooks;
use crate::runtime::inspect::WorkerDetails;
use crate::runtime::job_context::JobContext;
use crate::runtime::once::{Resolution, UncertainEffect};
use crate::runtime::post::PostOptions;
use crate::runtime::retention::KeepJobs;
use crate::runtime::settings::Settings;
use crate::runtime::status::WorkerStatus;
use crate::runtime::telemetry::RuntimeStats;
use crate::runtime::threads::Threads;
use crate::runtime::worker_state::WorkerState;
use crate::state::Store;
use crate::sync::atomic::Ordering;
use crate::value::Value;

const WAITING: &str = "waiting for jobs";
const EMIT: &str = "emit to a routine that goes on";

/// How a runtime is shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// All that waits is run first; what is due later, as a timer, stays for the next start.
    Drain,
    /// What runs cannot commit any more; all that was not committed stays for the next
    /// start.
    Abort,
}

/// Settings of a runtime, then the runtime.
///
/// ```
/// use evenkeel::{Runtime, Store};
/// let runtime = Runtime::builder(Store::in_memory()).threads(2).history(10).start()?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a runtime runs once it was started"]
pub struct RuntimeBuilder {
    store: Store,
    settings: Settings,
}

impl RuntimeBuilder {
    /// Sets how many activations run at once, over all flows and workers: exactly so many
    /// threads run logic that is not async. Default: as many as the machine has cores. At least 1.
    /// A worker that has work for several gets one thread at once. Others join it 50 microseconds
    /// later, or, where threads only waited for each other there before, up to 3 milliseconds.
    pub fn threads(mut self, threads: usize) -> Self {
        self.settings.threads = threads;
        self
    }

    /// Sets how many activations of [async](Flow::add_async) logic run at once, over all
    /// flows and workers. They hold none of the [`threads`](Self::threads): all are polled
    /// by one thread more. What is beyond waits, and what it waits counts to its timeout.
    /// Default 1,024, from 1 to 1,048,576.
    #[cfg(feature = "tokio")]
    pub fn async_activations(mut self, activations: usize) -> Self {
        self.settings.async_activations = activations;
        self
    }

    /// Sets how many of its last activations a worker remembers. Default 100, from 1 to
    /// 65,535.
    pub fn history(mut self, activations: usize) -> Self {
        self.settings.history = activations;
        self
    }

    /// Sets how long a post waits for room in a slot that lets posters wait. Default 30
    /// seconds; then it is refused.
    pub fn post_wait(mut self, wait: Duration) -> Self {
        self.settings.post_wait = wait;
        self
    }

    /// Sets how long [`Runtime::shutdown`] drains. Default one minute.
    pub fn drain_wait(mut self, wait: Duration) -> Self {
        self.settings.drain_wait = wait;
        self
    }

    /// Sets how long, and of how many, the records of finished jobs are kept.
    pub fn keep_jobs(mut self, keep: KeepJobs) -> Self {
        self.settings.keep_jobs = keep;
        self
    }

    /// Sets how long, and how many, dead letters are kept.
    pub fn keep_dead_letters(mut self, keep: KeepDeadLetters) -> Self {
        self.settings.keep_dead = keep;
        self
    }

    /// Adds somebody who is told of what happens, and may refuse some of it. Several are
    /// asked in the order in which they were added.
    pub fn hooks(mut self, hooks: impl Hooks + 'static) -> Self {
        self.settings.hooks.push(Arc::new(hooks));
        self
    }

    /// Sets who decides about an effect of [`once`](crate::Activation::once) of which nobody
    /// knows whether it was done. Default: it runs again. A panic in it fails the
    /// activation.
    pub fn on_uncertain(
        mut self,
        decide: impl Fn(&UncertainEffect) -> Resolution + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_uncertain = Some(Arc::new(decide));
        self
    }

    /// Starts it. What earlier ones left on this store goes on as soon as its flow is
    /// [registered](Runtime::register).
    ///
    /// # Errors
    /// [`WorkError::AlreadyRunning`], [`Error::Invalid`] for settings out of their bounds,
    /// [`Error::Corrupt`] where what the runtime keeps in the store is damaged; as a read
    /// and a commit.
    pub fn start(self) -> Result<Runtime> {
        let Self { store, settings } = self;
        bounded("threads", settings.threads, 1, 1 << 16)?;
        bounded("history", settings.history, 1, usize::from(u16::MAX))?;
        #[cfg(feature = "tokio")]
        bounded("async_activations", settings.async_activations, 1, 1 << 20)?;
        let faults = [settings.keep_jobs.fault(), settings.keep_dead.fault()];
        if let Some(reason) = faults.into_iter().flatten().next() {
            let what = "retention";
            return Err(Error::Invalid { what, reason });
        }
        store.engine()?;
        if store.shared().runs.swap(true, Ordering::SeqCst) {
            return Err(WorkError::AlreadyRunning.into());
        }
        let begun = Threads::start(&store, settings);
        if begun.is_err() {
            store.shared().runs.store(false, Ordering::SeqCst);
        }
        Ok(Runtime {
            threads: Arc::new(begun?),
        })
    }
}

fn bounded(what: &'static str, value: usize, min: usize, max: usize) -> Result<()> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::Invalid {
            what,
            reason: format!("it is {value}; from {min} to {max}"),
        }),
    }
}

/// A runtime: it runs the flows that are registered with it, on a store, so that jobs,
/// queues and state survive any restart.
///
/// Cheap to clone; with its last handle it stops: what runs ends and is committed, nothing
/// else is started, and all that waits is there at the next start. Logic that holds a
/// handle keeps it from stopping.
///
/// ```
/// use evenkeel::{Flow, Runtime, Store};
/// use std::time::Duration;
/// let runtime = Runtime::builder(Store::in_memory()).start()?;
/// let mut flow = Flow::new("orders").version(1);
/// flow.add_fn("total", |cx| {
///     cx.result(cx.one("in").and_then(|event| event.get("price")))?;
///     Ok(())
/// })?;
/// runtime.register(flow)?;
/// let worker = runtime.exec("orders")?;
/// let job = runtime.post("orders", "total", "in", serde_json::json!({"price": 12}))?;
/// runtime.wait_until_all_jobs_finished(Duration::from_secs(5))?;
/// assert_eq!(job.results(), [12.into()]);
/// assert_eq!(worker.jobs_processed(), 1);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone)]
pub struct Runtime {
    threads: Arc<Threads>,
}

impl Runtime {
    /// Settings for a runtime on a store.
    pub fn builder(store: Store) -> RuntimeBuilder {
        RuntimeBuilder {
            store,
            settings: Settings::default(),
        }
    }

    fn core(&self) -> &Arc<Core> {
        &self.threads.core
    }

    /// The store that it runs on.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.core().store
    }

    /// Makes a flow known, and goes on with what earlier runs of it left. Its description
    /// may change with its version only. A newer version takes over at once: what runs is
    /// waited for, and what waits runs under it; what waits at a routine or a slot that it
    /// has no more is parked. Durable when it returns, as the store says.
    ///
    /// # Errors
    /// [`Error::InvalidFlow`] with all that is wrong, [`WorkError::FlowChanged`],
    /// [`WorkError::FlowOutdated`]; as a read and a commit.
    pub fn register(&self, flow: Flow) -> Result<()> {
        outside_only("registering a flow", "register it before")?;
        self.core().register(&flow)
    }

    /// Starts the flow's default worker, whose id is the flow's name, or gives the one that
    /// is there. One that has ended makes room for a new one, and its state goes.
    ///
    /// # Errors
    /// [`WorkError::Unknown`] for a flow that is not registered; as a commit.
    pub fn exec(&self, flow: &str) -> Result<WorkerState> {
        self.exec_as(flow, flow)
    }

    /// Starts a worker of this name, which is its id, or gives the one that is there.
    ///
    /// # Errors
    /// As [`exec`](Self::exec), and [`WorkError::Exists`] where a worker of another flow
    /// has this name.
    pub fn exec_as(&self, flow: &str, name: &str) -> Result<WorkerState> {
        let worker = self.core().exec(flow, name)?;
        Ok(WorkerState::outside(self.store(), &worker))
    }

    /// Posts data to a slot of the flow's default worker: a job begins. It is as durable as
    /// the store says when this returns.
    ///
    /// # Errors
    /// As [`post_with`](Self::post_with).
    pub fn post(
        &self,
        flow: &str,
        routine: &str,
        slot: &str,
        data: impl Serialize,
    ) -> Result<JobContext> {
        self.post_with(flow, routine, slot, data, PostOptions::default())
    }

    /// Posts data, and says more about the job.
    ///
    /// # Errors
    /// Nothing was written then: [`WorkError::Unknown`] for a flow, worker, routine or slot
    /// that is not there, [`WorkError::Exists`] for a job id that was given before,
    /// [`WorkError::Ended`] for a worker that has ended, [`WorkError::SlotFull`],
    /// [`WorkError::ShutDown`], [`Error::Serialize`] with the path of what has no form as a
    /// value, [`Error::Invalid`] for metadata that are no map. As a commit.
    pub fn post_with(
        &self,
        flow: &str,
        routine: &str,
        slot: &str,
        data: impl Serialize,
        options: PostOptions,
    ) -> Result<JobContext> {
        if let Some(run) = current::current_run().filter(|run| run.is_of(self.core())) {
            return Activation::of(&run).post_with(flow, routine, slot, data, options);
        }
        outside_only("posting", "post through the activation")?;
        let job = self.core().post(flow, (routine, slot), &data, options)?;
        Ok(JobContext::of(self.core(), &job))
    }

    /// A job, by its id; `None` where there is none, or where its record was removed. It is
    /// shown as it is visible, and says whether that is durable.
    ///
    /// # Errors
    /// As a read.
    pub fn get_job(&self, id: &str) -> Result<Option<JobContext>> {
        let job = self.core().job(id)?;
        Ok(job.map(|job| JobContext::of(self.core(), &job)))
    }

    /// All jobs whose records are kept, in the order in which they were made.
    ///
    /// # Errors
    /// As a read.
    pub fn list_jobs(&self) -> Result<Vec<JobContext>> {
        let jobs = self.core().list_jobs()?.into_iter();
        Ok(jobs.map(|job| JobContext::of(self.core(), &job)).collect())
    }

    /// Cancels a job: its messages and timers go, but for those that other jobs share, and
    /// what runs of it cannot commit any more. False where it had ended. Durable when it
    /// returns, as the store says.
    ///
    /// # Errors
    /// [`WorkError::Unknown`]; as a commit.
    pub fn cancel_job(&self, id: &str) -> Result<bool> {
        self.core().cancel_job(id)
    }

    /// Waits until a job has ended, and until that is durable.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`], which says what holds it; [`WorkError::Unknown`];
    /// [`WorkError::ShutDown`].
    pub fn wait_until_job_finished(&self, id: &str, timeout: Duration) -> Result<JobContext> {
        outside_only(WAITING, EMIT)?;
        let job = self.core().wait_for_job(id, timeout)?;
        Ok(JobContext::of(self.core(), &job))
    }

    /// Waits until all jobs have ended, and until that is durable.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`], which says what holds each job; [`WorkError::ShutDown`].
    pub fn wait_until_all_jobs_finished(&self, timeout: Duration) -> Result<()> {
        outside_only(WAITING, EMIT)?;
        self.core().wait_for_jobs(timeout)
    }

    /// Waits until no worker has anything to run now, and until that is durable. What is
    /// due later, as a timer, is not waited for.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`], which says what holds each worker; [`WorkError::ShutDown`].
    pub fn wait_until_all_workers_idle(&self, timeout: Duration) -> Result<()> {
        outside_only("waiting for workers", EMIT)?;
        self.core().wait_for_workers(timeout, false)
    }

    /// Figures for a look inside, since it was started.
    #[must_use]
    pub fn stats(&self) -> RuntimeStats {
        RuntimeStats {
            dead_letters_dropped: self.core().dead.dropped(),
            ..self.core().figures.stats()
        }
    }

    /// A worker, by its id; `None` where there is none.
    #[must_use]
    pub fn get_worker(&self, id: &str) -> Option<WorkerState> {
        let worker = self.core().worker(id).ok()?;
        Some(WorkerState::outside(self.store(), &worker))
    }

    /// All workers, also those that have ended, by their ids.
    #[must_use]
    pub fn list_workers(&self) -> Vec<WorkerState> {
        let workers = self.core().all_workers().into_iter();
        workers
            .map(|worker| WorkerState::outside(self.store(), &worker))
            .collect()
    }

    /// Starts nothing of a worker until it is resumed, also over a restart. What runs ends
    /// as usual, and what is posted waits.
    ///
    /// # Errors
    /// [`WorkError::Unknown`], [`WorkError::Ended`]; as a commit.
    pub fn pause_worker(&self, id: &str) -> Result<()> {
        self.core().pause(id)
    }

    /// Lets a worker that is paused go on.
    ///
    /// # Errors
    /// As [`pause_worker`](Self::pause_worker).
    pub fn resume_worker(&self, id: &str) -> Result<()> {
        self.core().resume(id)
    }
    /// What a worker has at this moment: what waits in its slots, what runs or is stuck,
    /// what will be tried again, its timers, and what is parked.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub fn worker_details(&self, id: &str) -> Result<WorkerDetails> {
        self.core().details(id)
    }

    /// Lets a routine of a worker run that is held at its breakpoint, until it is
    /// [held](Self::hold) again or the runtime ends.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub fn release(&self, worker: &str, routine: &str) -> Result<()> {
        self.core().release(worker, routine, true)
    }

    /// Holds a routine at its breakpoint again. One without a breakpoint is not held.
    ///
    /// # Errors
    /// [`WorkError::Unknown`].
    pub fn hold(&self, worker: &str, routine: &str) -> Result<()> {
        self.core().release(worker, routine, false)
    }

    /// Gives messages that are parked, since their flow has this routine or slot no more,
    /// another place, and says how many that were. Durable when it returns.
    ///
    /// # Errors
    /// [`WorkError::Unknown`], [`WorkError::Ended`]; [`WorkError::SlotFull`] where there was
    /// room for a part of them only, and the others stay parked. As a commit.
    pub fn remap_parked(&self, worker: &str, from: (&str, &str), to: (&str, &str)) -> Result<u64> {
        self.core().remap(worker, from, to)
    }

    /// Ends a worker for good: its jobs are cancelled, what waits and its timers go.
    ///
    /// # Errors
    /// As [`pause_worker`](Self::pause_worker).
    pub fn stop_worker(&self, id: &str) -> Result<()> {
        self.core().stop(id, WorkerStatus::Stopped)
    }

    /// Ends a worker for good whose work is done.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`] where it is not, with what is left; otherwise as
    /// [`pause_worker`](Self::pause_worker).
    pub fn complete_worker(&self, id: &str) -> Result<()> {
        self.core().stop(id, WorkerStatus::Completed)
    }

    /// The dead letters from this number on, up to `limit` of them, in the order in which
    /// they came: messages whose activation failed for good.
    ///
    /// # Errors
    /// As a scan.
    pub fn dead_letters(&self, from: u64, limit: usize) -> Result<Vec<DeadLetter>> {
        self.core().dead.list(from, limit)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`WorkError::Unknown`]; as a read.
    pub fn dead_letter(&self, id: u64) -> Result<DeadLetter> {
        self.core().dead.get(id)
    }

    /// Gives a dead letter other data, to be posted with. What it came with stays beside it.
    ///
    /// # Errors
    /// As [`dead_letter`](Self::dead_letter), and as a commit.
    pub fn edit_dead_letter(&self, id: u64, data: impl Serialize) -> Result<()> {
        self.core().enter()?;
        let lsn = self.core().dead.edit(id, Value::from_serialize(&data)?)?;
        self.core().acknowledge(lsn)
    }

    /// Removes a dead letter.
    ///
    /// # Errors
    /// As [`edit_dead_letter`](Self::edit_dead_letter).
    pub fn discard_dead_letter(&self, id: u64) -> Result<()> {
        self.core().enter()?;
        let lsn = self.core().dead.discard(id)?;
        self.core().acknowledge(lsn)
    }

    /// Posts a dead letter again, to the slot that it came from, as a job of its own: with
    /// the metadata of the job that it was for, where that is the only one and its record is
    /// kept. It is no dead letter any more then.
    ///
    /// # Errors
    /// As [`dead_letter`](Self::dead_letter) and [`post_with`](Self::post_with).
    pub fn repost_dead_letter(&self, id: u64) -> Result<JobContext> {
        let job = self.core().repost(id)?;
        Ok(JobContext::of(self.core(), &job))
    }

    /// Ends the runtime. Nothing is started after this; the store stays open, and all that
    /// was not run is there at the next start. Shutting down again does nothing.
    ///
    /// # Errors
    /// [`WorkError::TimedOut`] where draining takes longer than
    /// [`drain_wait`](RuntimeBuilder::drain_wait), with what is left: then it runs on, and
    /// takes posts again. As the store, which cannot make durable what was committed.
    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        outside_only("shutting down", "ask the thread that started the runtime")?;
        let core = self.core();
        if core.is_closing() {
            return Ok(());
        }
        match how {
            Shutdown::Drain => {
                let drained = core.drain();
                drained?;
            }
            Shutdown::Abort => {
                core.close();
                core.abort();
            }
        }
        self.threads.end();
        core.engine().sync(core.engine().visible())
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("store", self.store())
            .finish_non_exhaustive()
    }
}
