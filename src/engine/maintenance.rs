//! Owns the threads of an engine and its end.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::error::{Error, Result};
use crate::observe::{self, Work};
use crate::sync::atomic::Ordering;
use crate::sync::thread::{self, JoinHandle};

/// How long the log has to be quiet before its mark is synced.
const IDLE_AFTER: Duration = Duration::from_millis(50);

/// How long a failed checkpoint waits before it is tried again unasked.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The threads, to be joined at the end.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    handles: Vec<JoinHandle<()>>,
}

impl Engine {
    pub(super) fn start_threads(self: &Arc<Self>) -> Result<()> {
        if !self.options.background {
            return Ok(());
        }
        self.start_thread("evenkeel-log", |engine| engine.serve_log())?;
        self.start_thread("evenkeel-checkpoint", |engine| engine.serve_checkpoints())?;
        self.start_thread("evenkeel-snapshot", |engine| engine.serve_snapshots())?;
        self.start_thread("evenkeel-expiry", Self::serve_expiry)
    }

    fn start_thread(self: &Arc<Self>, name: &str, body: fn(&Arc<Self>)) -> Result<()> {
        let engine = Arc::clone(self);
        let thread = thread::Builder::new().name(name.into());
        let handle = thread
            .spawn(move || body(&engine))
            .map_err(|e| Error::io("start a thread for", self.path().unwrap_or("".as_ref()), e))?;
        self.threads.lock().handles.push(handle);
        Ok(())
    }

    fn serve_log(&self) {
        if let Some(disk) = &self.disk {
            disk.log.serve(IDLE_AFTER);
        }
    }

    fn serve_checkpoints(&self) {
        loop {
            {
                let mut pressure = self.room_lock.lock();
                while !pressure.checkpoint_wanted && !pressure.stopping {
                    self.room.wait(&mut pressure);
                }
                if pressure.stopping {
                    return;
                }
            }
            let outcome = self.checkpoint();
            if let Err(e) = &outcome {
                self.tell_failed("the checkpoint failed", e);
            }
            let mut pressure = self.room_lock.lock();
            let failed = outcome.is_err();
            pressure.checkpoint_wanted = false;
            pressure.snapshot_wanted |= !failed;
            pressure.failure = outcome.err().map(|e| e.to_string());
            self.room.notify_all();
            if failed && !pressure.stopping {
                self.room.wait_for(&mut pressure, RETRY_AFTER);
                pressure.checkpoint_wanted = true;
            }
        }
    }

    fn serve_snapshots(&self) {
        loop {
            {
                let mut pressure = self.room_lock.lock();
                while !pressure.snapshot_wanted && !pressure.stopping {
                    self.room.wait(&mut pressure);
                }
                if pressure.stopping {
                    return;
                }
                pressure.snapshot_wanted = false;
            }
            if let Err(e) = self.snapshot_if_due() {
                self.tell_failed("the snapshot failed", &e);
                // One that was not due makes no earlier failure good.
                self.room_lock.lock().snapshot_failure = Some(e.to_string());
            }
            self.room.notify_all();
        }
    }

    /// Ends the engine: nothing is accepted any more, what was accepted is durable,
    /// and the folder is free when it returns. A second call does nothing.
    ///
    /// # Errors
    /// The failure that stopped the log, or that kept the last checkpoint from being
    /// written; the folder is free all the same, and what was acknowledged is safe.
    pub(crate) fn close(&self) -> Result<()> {
        // Held to the end, so that a second caller returns when all is done.
        let mut threads = self.threads.lock();
        {
            // No commit is half-way behind this.
            let _sequencer = self.sequencer.lock();
            if self.closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
        }
        self.wake_watches();
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let span = observe::span(Work::Close, Some(disk.folder.root()));
        self.room_lock.lock().stopping = true;
        self.room.notify_all();
        disk.log.stop_serving();
        let myself = thread::current().id();
        for handle in threads
            .handles
            .drain(..)
            .filter(|handle| handle.thread().id() != myself)
        {
            // A thread that panicked has nothing left to say.
            let _ = handle.join();
        }
        let sealed = disk.log.check().and_then(|()| {
            disk.log.sync(disk.log.last())?;
            self.checkpoint_unchecked(disk).map(drop)
        });
        // Whoever heals the image is done, and nobody begins again.
        let former = &mut disk.switching.lock().former;
        self.remove_former(disk, former, true);
        let image_closed = match self.image() {
            Some(image) if image.is_open() => {
                let closed = image.blocks().and_then(|blocks| blocks.close());
                closed.map_err(|e| self.beyond_healing(&e))
            }
            _ => Ok(()),
        };
        // Without its checkpoint it is not closed cleanly: the next opening is to look
        // at it as after a kill.
        let log_closed = match &sealed {
            // What somebody has seen as expired stays so behind the next opening.
            Ok(()) => disk.log.close(self.expiry.seen()),
            Err(_) => Ok(()),
        };
        disk.folder.unlock();
        span.reached(disk.log.durable());
        self.tell_done("closed", disk.log.durable());
        log_closed.and(sealed).and(image_closed)
    }
}
