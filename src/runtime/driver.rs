//! Owns the thread that polls async logic, by a runtime of tokio, and the threads beside it
//! on which such logic waits for the store. Imports `async_activation`, `core`, `current`,
//! `execute`, `run`, `telemetry`.
//!
//! What must stay true: the polling thread never waits for the store or for a lock that is
//! held over a sync, so one activation never holds up another one. What may wait goes
//! [beside](Core::beside). There are threads enough for all activations that may run at
//! once, so none of them waits for a thread that another one has which waits for it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{LocalSet, spawn_local};

use crate::error::{Error, Result, WorkError};
use crate::runtime::async_activation::{AsyncActivation, AsyncLogic, Polled};
use crate::runtime::core::Core;
use crate::runtime::current;
use crate::runtime::execute::Execution;
use crate::runtime::failure::Failure;
use crate::runtime::run::Run;
use crate::runtime::telemetry::{self, ActivationSpan};
use crate::sync::thread::{self, JoinHandle};

/// Threads for what logic itself does by `spawn_blocking`.
const BLOCKING_OF_LOGIC: usize = 512;

/// A run to be polled.
type Taken = (Arc<Run>, Arc<dyn AsyncLogic>);

/// The way to the polling thread.
pub(crate) struct Driver {
    handle: Handle,
    /// `None` says that nothing follows.
    inbox: UnboundedSender<Option<Taken>>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// Starts the polling thread of a runtime.
///
/// # Errors
/// [`Error::Io`] where there is no thread, or nothing to wait for the kernel by.
pub(crate) fn start(core: &Arc<Core>) -> Result<JoinHandle<()>> {
    let at_once = core.settings.async_activations;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(at_once.saturating_add(BLOCKING_OF_LOGIC))
        .thread_name("evenkeel-beside")
        .build()
        .map_err(|e| Error::io("start the async runtime", "", e))?;
    let (inbox, mut taken) = mpsc::unbounded_channel();
    let handle = runtime.handle().clone();
    if core.driver.set(Driver { handle, inbox }).is_err() {
        return Err(WorkError::AlreadyRunning.into());
    }
    let core = Arc::clone(core);
    let thread = thread::Builder::new().name("evenkeel-async".into());
    let thread = thread.spawn(move || {
        let local = LocalSet::new();
        local.block_on(&runtime, core.drive_all(&mut taken));
        // What logic has spawned and not awaited ends here.
        drop(local);
        runtime.shutdown_background();
    });
    thread.map_err(|e| Error::io("start a thread", "", e))
}

impl Core {
    /// Gives a run to the polling thread.
    pub(crate) fn hand_over(&self, run: Arc<Run>, logic: Arc<dyn AsyncLogic>) {
        let Some(driver) = self.driver.get() else {
            return self.leave(&run, &mut run.worker.inner.lock());
        };
        if let Err(mpsc::error::SendError(Some((run, _)))) = driver.inbox.send(Some((run, logic))) {
            self.leave(&run, &mut run.worker.inner.lock());
        }
    }

    /// Nothing more comes to the polling thread.
    pub(crate) fn close_driver(&self) {
        if let Some(driver) = self.driver.get() {
            // Where it has ended, it knows.
            let _ = driver.inbox.send(None);
        }
    }

    /// Does what may wait, on a thread beside the one that polls. It is done to its end,
    /// also if nobody awaits that.
    ///
    /// # Errors
    /// [`WorkError::ShutDown`].
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let driver = self.driver.get().ok_or(WorkError::ShutDown)?;
        match driver.handle.spawn_blocking(what).await {
            Ok(done) => Ok(done),
            Err(e) => match e.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(WorkError::ShutDown.into()),
            },
        }
    }

    /// Polls what comes until nothing more does, and that to its end.
    async fn drive_all(self: &Arc<Self>, taken: &mut UnboundedReceiver<Option<Taken>>) {
        let at_once = self.settings.async_activations;
        let permits = Arc::new(Semaphore::new(at_once));
        while let Some(Some((run, logic))) = taken.recv().await {
            let (core, permits) = (Arc::clone(self), Arc::clone(&permits));
            spawn_local(async move {
                let permit = permits.acquire().await;
                if permit.is_err() || core.is_closing() {
                    return core.leave(&run, &mut run.worker.inner.lock());
                }
                core.drive(run, &*logic).await;
            });
        }
        taken.close();
        while let Ok(Some((run, _))) = taken.try_recv() {
            self.leave(&run, &mut run.worker.inner.lock());
        }
        // They are given in turn: with all of them here, nobody has one.
        let all = u32::try_from(at_once).unwrap_or(u32::MAX);
        let _ = permits.acquire_many(all).await;
    }

    /// What `execute` does for logic that is not async.
    async fn drive(self: Arc<Self>, run: Arc<Run>, logic: &dyn AsyncLogic) {
        let core = Arc::clone(&self);
        let begun = self.beside(move || Execution::begin(&core, run)).await;
        let Ok(Some(mut execution)) = begun else {
            return;
        };
        loop {
            let run = Arc::clone(&execution.run);
            let span = telemetry::activation(&run);
            let entered = span.enter();
            let asked = self.hooks.routine_starts(&run);
            drop(entered);
            let ended = match asked {
                Ok(()) => {
                    let polled = Some(logic.begin(AsyncActivation::of(&run)));
                    let (run, span) = (&run, &span);
                    Inside { run, span, polled }.await
                }
                Err(refused) => Err(refused),
            };
            let core = Arc::clone(&self);
            let end = move || execution.goes_on(&core, &span, ended).then_some(execution);
            match self.beside(end).await {
                Ok(Some(next)) => execution = next,
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Logic that is inside of its activation at each poll. It is dropped when its run is ended
/// from elsewhere, and nothing of it panics.
struct Inside<'r> {
    run: &'r Arc<Run>,
    span: &'r ActivationSpan,
    polled: Option<Polled<'r>>,
}

impl Inside<'_> {
    /// Calls what is the user's.
    fn call<T>(&mut self, call: impl FnOnce(&mut Option<Polled<'_>>) -> T) -> Result<T, Failure> {
        let _inside = current::enter(self.run);
        let _entered = self.span.enter();
        let called = catch_unwind(AssertUnwindSafe(|| call(&mut self.polled)));
        called.map_err(|panic| Failure::panicked("its logic", &*panic))
    }
}

impl Future for Inside<'_> {
    type Output = Result<(), Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.polled_by(context.waker());
        let polled = match self.run.check() {
            Err(over) => Ok(Poll::Ready(Err(over.into()))),
            Ok(()) => self.call(|polled| match polled {
                Some(polled) => polled.as_mut().poll(context),
                None => Poll::Ready(Ok(())),
            }),
        };
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ended)) => ended,
            Err(panicked) => Err(panicked),
        };
        // What it held goes while its thread is inside of it.
        let dropped = self.call(|polled| drop(polled.take()));
        Poll::Ready(ended.and(dropped))
    }
}
