//! Owns the simulated disk: a file system in memory that does whatever a disk may
//! do, and nothing else, and does it again for the same seed.
//!
//! It keeps apart what a process sees and what would be found after a power cut, for
//! contents and for names. A test runs a store on it, stops it at any operation,
//! takes images of what the disk may then hold, and opens the store on each.
//!
//! What must stay true: what was synced is never lost, and what was not synced may
//! always be. A simulation that is kinder than a disk proves nothing.

mod arrivals;
mod control;
mod crash;
mod damage;
mod file;
mod names;
mod pages;
mod random;
pub(crate) mod stack;
mod trace;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use self::control::{Control, Course, error, on_path};
use self::crash::Dice;
use self::names::NodeId;
use self::pages::PAGE_BYTES;
use self::tree::Tree;
use super::{DirEntry, OpenMode, Vfs, VfsFile, VfsLock};
use crate::sync::Mutex;

pub use self::arrivals::{Arrivals, NoArrival};
pub use self::control::{Failure, Fault, When, is_power_loss};
pub use self::crash::Loss;
pub use self::random::Random;
pub use self::stack::{Origin, Place, Stack};
pub use self::trace::{Operation, OperationKind};

/// A simulated disk. Clones are handles on the same disk.
///
/// The root and the working folder are one and the same, and are always there:
/// `/a`, `a` and `./a` name the same file.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    tree: Tree,
    control: Control,
    /// How many handles each file has.
    opens: BTreeMap<NodeId, u64>,
    locks: BTreeSet<NodeId>,
    capacity: Option<u64>,
}

impl SimDisk {
    /// An empty disk. The seed decides on how much of a write is done that is cut
    /// short; [`crash`](Self::crash) takes a seed of its own.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_tree(Tree::new(), Random::new(seed))
    }

    fn with_tree(tree: Tree, random: Random) -> Self {
        let state = State {
            tree,
            control: Control::new(random),
            opens: BTreeMap::new(),
            locks: BTreeSet::new(),
            capacity: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The disk as it may be found if the power is cut, or the process killed, now.
    ///
    /// It is a disk of its own: nothing is open or locked, the counts are at zero,
    /// no stop, fault or capacity is set. This one goes on as before.
    #[must_use]
    pub fn crash(&self, loss: Loss) -> Self {
        let state = self.state.lock();
        let (tree, seed) = match loss {
            Loss::Everything => (state.tree.after_power_cut(None), 0),
            Loss::Random(seed) => {
                let mut dice = Dice::new(seed);
                (state.tree.after_power_cut(Some(&mut dice)), seed)
            }
            Loss::Only(arrivals) => {
                let mut dice = Dice::listed(arrivals);
                (state.tree.after_power_cut(Some(&mut dice)), 0)
            }
            Loss::Nothing => {
                let mut tree = state.tree.clone();
                tree.collect(|_| false);
                (tree, 0)
            }
        };
        Self::with_tree(tree, Random::new(seed))
    }

    /// What [`Loss::Random`] with this seed lets through, written out:
    /// [`Loss::Only`] of it gives the same disk.
    #[must_use]
    pub fn arrivals(&self, seed: u64) -> Arrivals {
        let mut dice = Dice::new(seed);
        self.state.lock().tree.after_power_cut(Some(&mut dice));
        dice.into_arrived()
    }

    /// How many operations were called so far: all that changes or syncs something.
    /// The first has the number 1.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().control.operations()
    }

    /// How many calls were made so far that change nothing. The first has the number 1.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state.lock().control.reads()
    }

    /// Plans that the power is lost at an operation. That operation and every later
    /// call fail with an error that [`is_power_loss`] knows.
    pub fn stop_at(&self, operation: u64, when: When) {
        self.state.lock().control.stop_at(operation, when);
    }

    /// True once the power was lost.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.state.lock().control.stopped()
    }

    /// Where the call came from that met the stop.
    #[must_use]
    pub fn stopped_at(&self) -> Option<Stack> {
        self.state.lock().control.stopped_at().cloned()
    }

    /// Where the calls came from that a planned failure has hit, in order.
    #[must_use]
    pub fn failed_at(&self) -> Vec<Stack> {
        self.state.lock().control.failed_at().to_vec()
    }

    /// Plans a failure.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().control.add_fault(fault);
    }

    /// Forgets all failures that are planned or last.
    pub fn clear_faults(&self) {
        self.state.lock().control.clear_faults();
    }

    /// Limits the room for contents, counted in pages of 4 KiB that were written to.
    /// A length that was only set takes none.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Refuses every call that changes something, as a disk mounted for reading does.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().control.set_read_only(read_only);
    }

    /// Begins a trace of all calls, or ends and forgets it.
    pub fn record(&self, on: bool) {
        self.state.lock().control.record(on);
    }

    /// The calls since [`record`](Self::record) was switched on.
    #[must_use]
    pub fn trace(&self) -> Vec<Operation> {
        self.state.lock().control.trace().to_vec()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("SimDisk")
            .field("operations", &state.control.operations())
            .field("reads", &state.control.reads())
            .field("stopped", &state.control.stopped())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Lets an operation begin, and says how far it is to go.
    fn begin(
        &mut self,
        kind: OperationKind,
        describe: impl FnOnce() -> Operation,
    ) -> io::Result<Course> {
        let course = self.control.operation(kind, describe)?;
        self.tree.begin(self.control.operations());
        Ok(course)
    }

    /// Runs an operation, as far as its course says.
    fn run<T>(
        &mut self,
        operation: Operation,
        work: impl FnOnce(&mut Tree) -> io::Result<T>,
    ) -> io::Result<T> {
        let course = self.begin(operation.kind, || operation)?;
        let result = work(&mut self.tree);
        self.control.finish(&course, result)
    }

    fn look(&mut self, kind: OperationKind, path: &Path) -> io::Result<()> {
        self.control.read(|| on_path(kind, path))
    }

    fn entry(&self, name: String, id: NodeId) -> io::Result<DirEntry> {
        let is_dir = self.tree.is_folder(id);
        Ok(DirEntry {
            name,
            is_dir,
            len: if is_dir {
                0
            } else {
                self.tree.file(id)?.live().len()
            },
        })
    }

    /// How many bytes of a write there is room for.
    fn fitting(&self, id: NodeId, offset: u64, len: usize) -> io::Result<usize> {
        let Some(capacity) = self.capacity else {
            return Ok(len);
        };
        let mut counted = self.tree.named();
        counted.extend(self.opens.keys());
        let files = counted.iter().filter_map(|id| self.tree.file(*id).ok());
        let used: u64 = files.map(|file| file.live().allocated()).sum();
        let mut room = (capacity / PAGE_BYTES).saturating_sub(used);
        let target = self.tree.file(id)?.live();
        let end = offset + len as u64;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            if !target.has_page(page) {
                if room == 0 {
                    return Ok((page * PAGE_BYTES).saturating_sub(offset) as usize);
                }
                room -= 1;
            }
        }
        Ok(len)
    }
}

impl Vfs for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn VfsFile>> {
        let mut state = self.state.lock();
        let node = match mode {
            OpenMode::Create => {
                let operation = on_path(OperationKind::Create, path);
                state.run(operation, |tree| tree.create_file(path))?
            }
            OpenMode::Read | OpenMode::Write => {
                state.look(OperationKind::Open, path)?;
                let node = state.tree.find_file(path)?;
                if mode == OpenMode::Write {
                    state.control.check_writable()?;
                }
                node
            }
        };
        *state.opens.entry(node).or_default() += 1;
        Ok(Box::new(SimFile {
            disk: self.clone(),
            node,
            path: path.to_path_buf(),
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let operation = on_path(OperationKind::CreateDir, path);
        let mut state = self.state.lock();
        state.run(operation, |tree| tree.create_folder(path).map(drop))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state.lock();
        state.look(OperationKind::ReadDir, path)?;
        let names = state.tree.names(state.tree.find(path)?)?;
        let entries = names
            .iter()
            .map(|(name, id)| state.entry(name.to_string_lossy().into_owned(), *id));
        entries.collect()
    }

    fn metadata(&self, path: &Path) -> io::Result<Option<DirEntry>> {
        let mut state = self.state.lock();
        state.look(OperationKind::Metadata, path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match state.tree.find(path) {
            Ok(node) => state.entry(name.into_owned(), node).map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut operation = on_path(OperationKind::Rename, from);
        operation.to = Some(to.to_path_buf());
        let mut state = self.state.lock();
        state.run(operation, |tree| tree.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let operation = on_path(OperationKind::RemoveFile, path);
        let mut state = self.state.lock();
        state.run(operation, |tree| tree.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let kind = OperationKind::RemoveDirAll;
        let mut state = self.state.lock();
        let course = state.begin(kind, || on_path(kind, path))?;
        let removals = state.tree.removals(path);
        let result = removals.map(|mut places| {
            if matches!(course, Course::PartThenStop) {
                let part = state.control.random().below(places.len() as u64);
                places.truncate(part as usize);
            }
            state.tree.remove(places);
        });
        state.control.finish(&course, result)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let operation = on_path(OperationKind::SyncDir, path);
        state.run(operation, |tree| {
            let folder = tree.find(path)?;
            tree.names(folder)?;
            tree.sync_folder(folder);
            Ok(())
        })?;
        let state = &mut *state;
        state.tree.collect(|node| state.opens.contains_key(&node));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn VfsLock>> {
        let mut state = self.state.lock();
        let node = match state.tree.find_file(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let operation = on_path(OperationKind::CreateLock, path);
                state.run(operation, |tree| tree.create_file(path))?
            }
            found => {
                state.look(OperationKind::Lock, path)?;
                state.control.check_writable()?;
                found?
            }
        };
        if !state.locks.insert(node) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock {
            disk: self.clone(),
            node,
        }))
    }
}

/// An open file. It stays with its contents, whatever becomes of the name.
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    fn operation(&self, kind: OperationKind, offset: Option<u64>, len: Option<u64>) -> Operation {
        Operation {
            offset,
            len,
            ..on_path(kind, &self.path)
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(Errno::BADF.into())
        }
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state.lock();
        let len = Some(buf.len() as u64);
        state
            .control
            .read(|| self.operation(OperationKind::Read, Some(offset), len))?;
        Ok(state.tree.file(self.node)?.live().read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (kind, len) = (OperationKind::Write, bytes.len() as u64);
        let mut state = self.disk.state.lock();
        let course = state.begin(kind, || self.operation(kind, Some(offset), Some(len)))?;
        self.check_writable()?;
        check_len(offset.checked_add(len))?;
        let asked = match course {
            Course::PartThenStop | Course::PartThenFail(_) => {
                state.control.random().below(len) as usize
            }
            _ => bytes.len(),
        };
        let fitting = state.fitting(self.node, offset, asked)?;
        let written = bytes.get(..fitting).unwrap_or(bytes);
        state.tree.write(self.node, written, offset)?;
        let result = if fitting < asked {
            Err(error(Failure::NoSpace))
        } else {
            Ok(())
        };
        state.control.finish(&course, result)
    }

    fn sync(&self) -> io::Result<()> {
        let kind = OperationKind::Sync;
        let mut state = self.disk.state.lock();
        let course = state.begin(kind, || self.operation(kind, None, None))?;
        let file = state.tree.file_mut(self.node)?;
        match course {
            Course::LoseThenFail => file.lose_sync(),
            _ => file.sync(),
        }
        state.control.finish(&course, Ok(()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let operation = self.operation(OperationKind::SetLen, None, Some(len));
        state.run(operation, |tree| {
            self.check_writable()?;
            check_len(Some(len))?;
            tree.set_len(self.node, len)
        })
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state.lock();
        state.look(OperationKind::Len, &self.path)?;
        Ok(state.tree.file(self.node)?.live().len())
    }
}

/// No file is longer than an `off_t` can say.
fn check_len(len: Option<u64>) -> io::Result<()> {
    match len {
        Some(len) if i64::try_from(len).is_ok() => Ok(()),
        _ => Err(ErrorKind::FileTooLarge.into()),
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if let Some(count) = state.opens.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                state.opens.remove(&self.node);
            }
        }
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    node: NodeId,
}

impl VfsLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state.lock().locks.remove(&self.node);
    }
}
