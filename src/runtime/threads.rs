//! Owns the threads of a runtime: they start with it, and whoever ends it waits for them.
//! Imports `core`, `driver`, `settings`.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::runtime::core::Core;
#[cfg(feature = "tokio")]
use crate::runtime::driver;
use crate::runtime::settings::Settings;
use crate::state::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread::{self, JoinHandle};

/// What ends the runtime with its last handle.
pub(crate) struct Threads {
    pub(crate) core: Arc<Core>,
    ended: AtomicBool,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Finds again what an earlier runtime left, and starts the threads.
    ///
    /// # Errors
    /// As a read and a commit, and where there is no thread.
    pub(crate) fn start(store: &Store, settings: Settings) -> Result<Self> {
        let core = Core::new(store.clone(), settings)?;
        core.load()?;
        let threads = Self {
            core,
            ended: AtomicBool::new(false),
            running: Mutex::default(),
        };
        let spawn = |name: String, work: fn(&Core)| {
            let core = Arc::clone(&threads.core);
            let thread = thread::Builder::new().name(name);
            let thread = thread.spawn(move || work(&core));
            thread.map_err(|e| Error::io("start a thread", "", e))
        };
        for number in 0..threads.core.settings.threads {
            let thread = spawn(format!("evenkeel-run-{number}"), Core::work)?;
            threads.running.lock().push(thread);
        }
        let clock = spawn("evenkeel-clock".into(), Core::watch_clock)?;
        threads.running.lock().push(clock);
        #[cfg(feature = "tokio")]
        threads.running.lock().push(driver::start(&threads.core)?);
        Ok(threads)
    }

    /// Sends the threads home and waits for them, but for the one that asks.
    pub(crate) fn end(&self) {
        self.core.close();
        let threads = std::mem::take(&mut *self.running.lock());
        let myself = thread::current().id();
        for thread in threads {
            if thread.thread().id() != myself {
                // A thread that panicked has told so, and holds nothing any more.
                let _ = thread.join();
            }
        }
        self.core.printer.flush();
        // Once: the store may have another runtime since.
        if !self.ended.swap(true, Ordering::SeqCst) {
            let shared = self.core.store.shared();
            shared.runs.store(false, Ordering::SeqCst);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end();
    }
}
