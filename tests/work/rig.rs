//! Owns what the tests share: a runtime in memory with a clock that stands, and a gate that
//! logic waits at.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel::{Flow, ManualClock, Runtime, RuntimeBuilder, Store};

/// Far more than anything here takes: a test that waits so long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A store in memory whose clock stands until it is moved.
pub(crate) fn store() -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_000_000));
    let shown: Arc<ManualClock> = Arc::clone(&clock);
    let store = Store::builder().clock(shown).in_memory();
    (store.unwrap(), clock)
}

pub(crate) fn builder() -> RuntimeBuilder {
    Runtime::builder(Store::in_memory()).threads(2)
}

/// A runtime with two threads that knows a flow, and has its default worker.
pub(crate) fn start(flow: Flow) -> Runtime {
    start_on(Store::in_memory(), flow)
}

pub(crate) fn start_on(store: Store, flow: Flow) -> Runtime {
    let runtime = Runtime::builder(store).threads(2).start().unwrap();
    let name = flow.name().to_owned();
    runtime.register(flow).unwrap();
    runtime.exec(&name).unwrap();
    runtime
}

pub(crate) fn finish(runtime: &Runtime) {
    runtime.wait_until_all_jobs_finished(LONG).unwrap();
}

/// Lets logic say that it is there, and wait until it may go on.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Sender<()>,
    open: Arc<Mutex<Receiver<()>>>,
}

/// The other side of a [`Gate`].
pub(crate) struct Keeper {
    arrived: Receiver<()>,
    open: Sender<()>,
}

pub(crate) fn gate() -> (Gate, Keeper) {
    let (arrive, arrived) = channel();
    let (open, opened) = channel();
    let gate = Gate {
        arrived: arrive,
        open: Arc::new(Mutex::new(opened)),
    };
    let keeper = Keeper { arrived, open };
    (gate, keeper)
}

impl Gate {
    pub(crate) fn pass(&self) {
        let _ = self.arrived.send(());
        let _ = self.open.lock().unwrap().recv_timeout(LONG);
    }
}

impl Keeper {
    /// Waits until somebody stands at the gate.
    pub(crate) fn wait(&self) {
        self.arrived.recv_timeout(LONG).unwrap();
    }

    pub(crate) fn nobody_came(&self) -> bool {
        self.arrived.try_recv().is_err()
    }

    /// Lets one through.
    pub(crate) fn open(&self) {
        self.open.send(()).unwrap();
    }
}
