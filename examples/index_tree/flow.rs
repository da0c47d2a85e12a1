//! Owns the flow that brings an index up to date:
//!
//! ```text
//! walk ──files──▶ hash ──contents──▶ total
//!  ▲ └─again─┘     as many at once    the index, and what the run did
//!                  as there are threads
//! ```
//!
//! `walk` goes through the folder in the order of the keys, and says in each message to
//! itself how far it came. It is not started while `hash` has enough to do, so a message
//! is all that there is of a folder of whatever size. `total` puts what was read into the
//! index, in the commit that takes the message: so nothing is counted twice, and nothing
//! is lost, wherever the program is killed.
//!
//! What must stay true: `total` alone writes the index, so no commit here loses a race.

use std::sync::{Mutex, PoisonError};

use evenkeel::{
    Activation, ActivationPolicy, Failure, Flow, Result, Routine, RoutineSettings, SlotOptions,
};
use serde::{Deserialize, Serialize};

use crate::content::{Content, Reader, Record};
use crate::index::Index;
use crate::progress::Progress;
use crate::walk::{Differences, Folder, Task};

pub(crate) const WALK: &str = "walk";
pub(crate) const TOTAL: &str = "total";
/// The slot of a routine that takes messages of one kind.
pub(crate) const IN: &str = "in";

/// A message has no more files than this: what is read of them is lost with a kill, and
/// their commit is one.
const FILES_MAX: usize = 16;
/// And, as large files take long, none behind the one that makes it so many bytes.
const MESSAGE_BYTES: u64 = 4 * 1024 * 1024;
/// How many messages one activation of `walk` emits.
const MESSAGES_MAX: usize = 32;
/// `walk` goes on when fewer messages wait than this, and `hash` likewise.
const WAITING: usize = 16;
/// How many activations of `hash` may run at once. It is part of the flow's description,
/// which the store keeps, so it is the same on each machine: where there are fewer threads,
/// as many as those.
const AT_ONCE: usize = 64;

/// What was read of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Read {
    key: String,
    /// `None` where there is no file, or one that cannot be read.
    record: Option<Record>,
    unreadable: bool,
}

/// What was done, by all runs together: the state of `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    /// Differences that there are no more, and files that cannot be read.
    pub(crate) done: usize,
    pub(crate) indexed: usize,
    pub(crate) taken_back: usize,
    pub(crate) unreadable: usize,
}

/// The flow of one folder. Each has its own, so that what another one left in the store
/// waits until that is indexed again.
pub(crate) fn flow(index: &Index, folder: &Folder, progress: &Progress) -> Result<Flow> {
    let mut flow = Flow::new(index.name()).version(1);
    let walk = Walk {
        index: index.clone(),
        folder: folder.clone(),
        open: Mutex::default(),
    };
    flow.add_routine(WALK, walk)?;
    let hash = Hash {
        folder: folder.clone(),
        progress: progress.clone(),
    };
    flow.add_routine("hash", hash)?;
    flow.add_routine(TOTAL, Total(index.clone()))?;
    flow.connect("walk.again", "walk.in")?;
    flow.connect("walk.files", "hash.in")?;
    flow.connect("hash.contents", "total.in")?;
    Ok(flow)
}

/// Takes one message at a time, and has few waiting.
fn declare(settings: &mut RoutineSettings) -> &mut RoutineSettings {
    settings
        .slot_with(IN, SlotOptions::new().capacity(WAITING))
        .policy(ActivationPolicy::batch_size(1))
}

/// Finds what the folder and the index do not agree on. Its messages say behind which key
/// it goes on.
struct Walk {
    index: Index,
    folder: Folder,
    /// Where the last activation stood still, so that the next one need not look for it.
    /// One that finds something else here looks for it, as after a restart.
    open: Mutex<Option<(String, Differences)>>,
}

impl Walk {
    fn from(&self, after: &str) -> Result<Differences> {
        let open = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match open {
            Some((stood, differences)) if *stood == *after => Ok(differences),
            _ => Differences::behind(&self.index, &self.folder, after),
        }
    }
}

impl Routine for Walk {
    fn declare(&self, settings: &mut RoutineSettings) {
        // Before `hash`, which is not to wait for it.
        declare(settings).event("files").event("again").priority(1);
    }

    fn run(&self, cx: &mut Activation) -> std::result::Result<(), Failure> {
        let Some(event) = cx.one(IN) else {
            return Ok(());
        };
        let mut after: String = event.deserialize()?;
        // Read as of now, and not in the activation's transaction: that the index changes
        // meanwhile is no reason to walk again, as `total` compares once more.
        let mut differences = self.from(&after)?;
        for _ in 0..MESSAGES_MAX {
            let tasks = next_tasks(&mut differences)?;
            let Some(last) = tasks.last() else {
                return Ok(());
            };
            after.clone_from(&last.key);
            cx.emit("files", &tasks)?;
        }
        cx.emit("again", &after)?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some((after, differences));
        Ok(())
    }
}

/// What makes one message.
fn next_tasks(differences: &mut Differences) -> Result<Vec<Task>> {
    let (mut tasks, mut bytes) = (Vec::with_capacity(FILES_MAX), 0_u64);
    while tasks.len() < FILES_MAX && bytes < MESSAGE_BYTES {
        let Some(task) = differences.next().transpose()? else {
            break;
        };
        bytes = bytes.saturating_add(task.size.unwrap_or(0));
        tasks.push(task);
    }
    Ok(tasks)
}

/// Reads files.
struct Hash {
    folder: Folder,
    progress: Progress,
}

impl Hash {
    fn read(&self, reader: &mut Reader, task: Task) -> Read {
        let content = match task.size {
            Some(_) => reader.read(&self.folder, &task.key),
            None => Content::Gone,
        };
        let (record, why) = match content {
            Content::Read(record) => (Some(*record), None),
            Content::Gone => (None, None),
            Content::Unreadable(why) => (None, Some(why)),
        };
        if let Some(why) = &why {
            // It is said again where a crash undoes this: nobody is misled by that.
            self.progress.warn(&format!("{}: {why}", task.key));
        }
        Read {
            key: task.key,
            record,
            unreadable: why.is_some(),
        }
    }
}

impl Routine for Hash {
    fn declare(&self, settings: &mut RoutineSettings) {
        declare(settings).event("contents").concurrency(AT_ONCE);
    }

    fn run(&self, cx: &mut Activation) -> std::result::Result<(), Failure> {
        let mut reader = Reader::new();
        for event in cx.data(IN) {
            let tasks: Vec<Task> = event.deserialize()?;
            let read = tasks.into_iter().map(|task| self.read(&mut reader, task));
            cx.emit("contents", read.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Puts what was read into the index, and adds up what was done.
struct Total(Index);

impl Routine for Total {
    fn declare(&self, settings: &mut RoutineSettings) {
        // First of all, so that little is under way.
        declare(settings).priority(2);
    }

    fn run(&self, cx: &mut Activation) -> std::result::Result<(), Failure> {
        let mut sums: Sums = cx
            .worker_state()
            .get_routine_state_as(TOTAL)?
            .unwrap_or_default();
        for event in cx.data(IN) {
            for read in event.deserialize::<Vec<Read>>()? {
                // A file that cannot be read is not in the index: a record of what it
                // once was would be wrong, as it is here because it has changed.
                let record = read.record.as_ref();
                let changed = self.0.change(cx.transaction()?, &read.key, record)?;
                // What a run that was killed left may be as it should be by now.
                sums.done += usize::from(changed || read.unreadable);
                sums.indexed += usize::from(record.is_some() && changed);
                sums.taken_back += usize::from(record.is_none() && changed);
                sums.unreadable += usize::from(read.unreadable);
            }
        }
        cx.worker_state().update_routine_state(TOTAL, sums)?;
        Ok(())
    }
}
