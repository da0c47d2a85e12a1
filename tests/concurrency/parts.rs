//! Owns the parts that a test can hold up or break: a disk whose syncs of the log
//! wait at a gate, an image that refuses, and a small executor.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use evenkeel::testing::{FolderBackend, SimDisk};
use evenkeel::{
    BlockId, DirEntry, Image, ImageBackend, ImageError, ImageErrorKind, OpenMode, Piece, Vfs, VfsFile,
    VfsLock,
};

/// Runs a test and fails it where it hangs.
pub(crate) fn watched(test: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::spawn(move || {
        test();
        // Nobody listens any more only if the test was given up.
        let _ = sender.send(());
    });
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {}
    }
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Lets pass, or makes wait.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicU64,
    arrived: Condvar,
    passed: AtomicU64,
}

impl Gate {
    /// Shut as long as what it returns lives: a test that fails leaves nobody there.
    pub(crate) fn shut(&self) -> Shut<'_> {
        *self.shut.lock().unwrap() = true;
        Shut(self)
    }

    /// How many came through.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn pass(&self) {
        let mut shut = self.shut.lock().unwrap();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.arrived.notify_all();
        while *shut {
            shut = self.opened.wait(shut).unwrap();
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.passed.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns once somebody waits at the gate.
    pub(crate) fn await_somebody(&self) {
        let mut shut = self.shut.lock().unwrap();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            shut = self.arrived.wait(shut).unwrap();
        }
    }
}

/// While it lives, the gate is shut.
pub(crate) struct Shut<'a>(&'a Gate);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        *self.0.shut.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

/// A simulated disk whose syncs of log segments pass a gate.
#[derive(Clone, Debug)]
pub(crate) struct GatedDisk {
    pub(crate) disk: SimDisk,
    pub(crate) gate: Arc<Gate>,
}

impl GatedDisk {
    pub(crate) fn new() -> Self {
        Self {
            disk: SimDisk::new(3),
            gate: Arc::default(),
        }
    }
}

impl Vfs for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let file = self.disk.open(path, mode)?;
        match path.parent().is_some_and(|folder| folder.ends_with("wal")) {
            true => Ok(Box::new(GatedFile(file, Arc::clone(&self.gate)))),
            false => Ok(file),
        }
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Option<DirEntry>> {
        self.disk.metadata(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct GatedFile(Box<dyn VfsFile>, Arc<Gate>);

impl VfsFile for GatedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

/// An image whose writes fail while it is told so, as on a disk that is full.
#[derive(Clone, Debug)]
pub(crate) struct Refusing {
    backend: FolderBackend,
    pub(crate) refuses: Arc<AtomicBool>,
}

impl Refusing {
    pub(crate) fn new(disk: &SimDisk) -> Self {
        Self {
            backend: FolderBackend::new(Arc::new(disk.clone())),
            refuses: Arc::default(),
        }
    }
}

fn refused(op: &'static str, refuses: &AtomicBool) -> Result<(), ImageError> {
    match refuses.load(Ordering::SeqCst) {
        true => Err(ImageError::new(op, ImageErrorKind::Io, "no room, says the test")),
        false => Ok(()),
    }
}

impl ImageBackend for Refusing {
    fn open(&self, folder: &Path) -> Result<Box<dyn Image>, ImageError> {
        let image = self.backend.open(folder)?;
        Ok(Box::new(RefusingImage(image, Arc::clone(&self.refuses))))
    }
}

#[derive(Debug)]
struct RefusingImage(Box<dyn Image>, Arc<AtomicBool>);

impl Image for RefusingImage {
    fn get(&self, ids: &[BlockId]) -> Result<Vec<Option<Vec<u8>>>, ImageError> {
        self.0.get(ids)
    }
    fn put(&self, pieces: Vec<Piece>) -> Result<(), ImageError> {
        refused("put", &self.1)?;
        self.0.put(pieces)
    }
    fn delete(&self, ids: &[BlockId]) -> Result<(), ImageError> {
        self.0.delete(ids)
    }
    fn delete_from(&self, first: BlockId) -> Result<(), ImageError> {
        self.0.delete_from(first)
    }
    fn sync(&self) -> Result<(), ImageError> {
        refused("sync", &self.1)?;
        self.0.sync()
    }
    fn bytes_on_disk(&self) -> Result<u64, ImageError> {
        self.0.bytes_on_disk()
    }
    fn close(&self) -> Result<(), ImageError> {
        self.0.close()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
