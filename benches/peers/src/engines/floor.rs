//! The machine: `pwrite` and `fdatasync` into a file that was filled with zeros, with no
//! index and nothing to read back. Where there are several threads, one leads: it writes
//! and syncs for all that have gathered meanwhile.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use parking_lot::{Condvar, Mutex};

use super::{Engine, Session};
use crate::data::{Key, Value};
use crate::task::{Promise, Result};

/// The file is written around.
const FILE_BYTES: u64 = 256 << 20;
/// What is gathered before it is handed to the kernel, where nobody waits.
const BUFFER_BYTES: usize = 1 << 20;

pub(super) fn told(promise: Promise) -> Option<&'static str> {
    match promise {
        Promise::Sync => Some("pwrite and fdatasync, grouped by one leader"),
        Promise::Submitted => Some("a buffer of 1 MiB, pwrite, fdatasync at the end"),
        Promise::Kernel => Some("pwrite for each commit"),
        Promise::Process => Some("a buffer of 1 MiB, pwrite"),
    }
}

pub(super) struct Floor {
    file: File,
    promise: Promise,
    log: Mutex<Log>,
    synced: Condvar,
}

#[derive(Default)]
struct Log {
    buffer: Vec<u8>,
    /// What the leader before left, to be used again.
    spare: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    /// Commits in the buffer or before it, and those on the disk.
    committed: u64,
    durable: u64,
    leads: bool,
    syncs: u64,
}

impl Log {
    /// The buffer, and where it is to be written.
    fn take(&mut self) -> (Vec<u8>, u64) {
        let mut taken = std::mem::take(&mut self.spare);
        taken.clear();
        std::mem::swap(&mut taken, &mut self.buffer);
        if self.at + taken.len() as u64 > FILE_BYTES {
            self.at = 0;
        }
        let at = self.at;
        self.at += taken.len() as u64;
        (taken, at)
    }
}

impl Floor {
    pub(super) fn open(folder: &Path, promise: Promise) -> Result<Self> {
        let file = File::create(folder.join("floor"))?;
        let zeros = vec![0; 1 << 20];
        for part in 0..FILE_BYTES >> 20 {
            file.write_all_at(&zeros, part << 20)?;
        }
        file.sync_all()?;
        Ok(Self {
            file,
            promise,
            log: Mutex::default(),
            synced: Condvar::new(),
        })
    }

    /// Waits until the commit is on the disk, or sees to it.
    fn wait(&self, commit: u64) -> Result<()> {
        let mut log = self.log.lock();
        while log.durable < commit {
            if log.leads {
                self.synced.wait(&mut log);
                continue;
            }
            log.leads = true;
            let (bytes, at) = log.take();
            let upto = log.committed;
            drop(log);
            let written = self.file.write_all_at(&bytes, at);
            let synced = written.and_then(|()| self.file.sync_data());
            log = self.log.lock();
            log.spare = bytes;
            log.leads = false;
            log.syncs += 1;
            if synced.is_ok() {
                log.durable = upto;
            }
            self.synced.notify_all();
            synced?;
        }
        Ok(())
    }
}

impl Engine for Floor {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(self))
    }

    fn syncs(&self) -> Result<Option<u64>> {
        Ok(Some(self.log.lock().syncs))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Session for &Floor {
    fn batch(&mut self, writes: &[(Key, Value)]) -> Result<()> {
        let mut log = self.log.lock();
        for (key, value) in writes {
            log.buffer.extend_from_slice(key.bytes());
            log.buffer.extend_from_slice(value);
        }
        log.committed += 1;
        let commit = log.committed;
        match self.promise {
            Promise::Sync => {
                drop(log);
                self.wait(commit)
            }
            Promise::Submitted | Promise::Process if log.buffer.len() < BUFFER_BYTES => Ok(()),
            _ => {
                let (bytes, at) = log.take();
                self.file.write_all_at(&bytes, at)?;
                log.spare = bytes;
                Ok(())
            }
        }
    }

    fn sync(&mut self) -> Result<()> {
        let commit = self.log.lock().committed;
        self.wait(commit)
    }
}
