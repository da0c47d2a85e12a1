//! What is done with each engine: the list of workloads, who takes part in which, and
//! the one place where they are run.

mod commits;
mod left;
mod load;
mod reads;
mod runtime;
mod stalls;

use crate::data::{Key, Value, Values, shuffled};
use crate::engines::{self, Engine, Session};
use crate::measure;
use crate::runtimes;
use crate::task::{Outcome, Promise, Result, Task};

pub(crate) use commits::writes_at;

/// Who takes part in a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// What makes this promise, and the machine alone.
    Writing(Promise),
    /// What makes this promise and can be read again.
    Keeping(Promise),
    /// What can be read, and maps in memory.
    Reading,
    /// Runtimes.
    Runtimes,
    /// evenkeel's runtime.
    OurRuntime,
}

/// One workload.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) takes: Takes,
    run: fn(&Task) -> Result<Outcome>,
}

impl Workload {
    /// Who takes part.
    pub(crate) fn engines(&self) -> impl Iterator<Item = &'static str> {
        let takes = self.takes;
        let shows_copies = ["load", "update"].contains(&self.name);
        let all = match takes {
            Takes::Runtimes => runtimes::ALL,
            Takes::OurRuntime => &[engines::OURS],
            _ => engines::ALL,
        };
        let part = move |engine: &&&str| {
            let map = engines::is_a_map(engine);
            if engines::VARIANTS.contains(*engine) && !shows_copies {
                return false;
            }
            match takes {
                Takes::Writing(promise) => engines::told(engine, promise).is_some() && !map,
                Takes::Keeping(promise) => {
                    engines::told(engine, promise).is_some() && !map && **engine != engines::FLOOR
                }
                Takes::Reading => **engine != engines::FLOOR,
                Takes::Runtimes | Takes::OurRuntime => true,
            }
        };
        all.iter().filter(part).copied()
    }
}

const SYNC: Takes = Takes::Writing(Promise::Sync);

/// All of them, in the order of the tables.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "commit-1",
        about: "durable commits of one key, 1 thread",
        takes: SYNC,
        run: |task| commits::run(task, 1, 1, Promise::Sync),
    },
    Workload {
        name: "commit-4",
        about: "durable commits of one key, 4 threads",
        takes: SYNC,
        run: |task| commits::run(task, 4, 1, Promise::Sync),
    },
    Workload {
        name: "commit-16",
        about: "durable commits of one key, 16 threads",
        takes: SYNC,
        run: |task| commits::run(task, 16, 1, Promise::Sync),
    },
    Workload {
        name: "commit-64",
        about: "durable commits of one key, 64 threads",
        takes: SYNC,
        run: |task| commits::run(task, 64, 1, Promise::Sync),
    },
    Workload {
        name: "submit",
        about: "commits of one key, submitted by one thread, the last awaited",
        takes: Takes::Writing(Promise::Submitted),
        run: commits::submitted,
    },
    Workload {
        name: "batch-1",
        about: "durable batches of 100 keys, 1 thread",
        takes: SYNC,
        run: |task| commits::run(task, 1, 100, Promise::Sync),
    },
    Workload {
        name: "batch-8",
        about: "durable batches of 100 keys, 8 threads",
        takes: SYNC,
        run: |task| commits::run(task, 8, 100, Promise::Sync),
    },
    Workload {
        name: "kernel",
        about: "commits of one key handed to the kernel, 1 thread",
        takes: Takes::Writing(Promise::Kernel),
        run: |task| commits::run(task, 1, 1, Promise::Kernel),
    },
    Workload {
        name: "process",
        about: "commits of one key kept in the process, 1 thread",
        takes: Takes::Writing(Promise::Process),
        run: |task| commits::run(task, 1, 1, Promise::Process),
    },
    Workload {
        name: "read",
        about: "random reads in cache, 1 and 2 threads; scans of a scope of 1,000 keys",
        takes: Takes::Reading,
        run: reads::run,
    },
    Workload {
        name: "increment",
        about: "durable increments of one key, 16 threads",
        takes: SYNC,
        run: commits::increments,
    },
    Workload {
        name: "mix",
        about: "90 % reads, 10 % durable commits, 16 threads",
        takes: Takes::Keeping(Promise::Sync),
        run: reads::mix,
    },
    Workload {
        name: "load",
        about: "all keys in random order in durable batches of 1,000, then overwritten three times, then SIGKILL",
        takes: Takes::Keeping(Promise::Sync),
        run: load::run,
    },
    Workload {
        name: "update",
        about: "updates of neighbours, of random keys and of a hot scope, in durable batches of 1,000",
        takes: Takes::Keeping(Promise::Sync),
        run: load::updates,
    },
    Workload {
        name: "stall",
        about: "durable commits, 4 threads, without and beside checkpoints and snapshots",
        takes: Takes::Keeping(Promise::Sync),
        run: stalls::run,
    },
    Workload {
        name: "chain",
        about: "chains of three steps that do nothing, posted by one thread, the end of all awaited",
        takes: Takes::Runtimes,
        run: runtime::many,
    },
    Workload {
        name: "alone",
        about: "one such chain after another, each awaited, and the syncs of each",
        takes: Takes::Runtimes,
        run: runtime::alone,
    },
    Workload {
        name: "post",
        about: "from a post to the logic that it reaches, not waiting for durability",
        takes: Takes::OurRuntime,
        run: runtime::post,
    },
    Workload {
        name: "queued",
        about: "queued jobs, SIGKILL, and how soon they go on",
        takes: Takes::OurRuntime,
        run: runtime::queued,
    },
];

/// The plot that shows a workload.
pub(crate) fn group(workload: &str) -> &'static str {
    match workload {
        "commit-1" | "commit-4" | "commit-16" | "commit-64" | "increment" => "commits",
        "batch-1" | "batch-8" => "batches",
        "submit" | "kernel" | "process" => "not_waiting",
        "read" | "mix" => "reads",
        "load" => "load",
        "update" => "updates",
        "stall" => "stalls",
        _ => "runtime",
    }
}

/// Does what a child was asked to do.
pub(crate) fn run(task: &Task) -> Outcome {
    let workload = ALL.iter().find(|workload| workload.name == task.workload);
    let outcome = match (&task.left, workload) {
        (Some(left), _) => left::check(task, left),
        (None, Some(workload)) => (workload.run)(task),
        (None, None) => Err(format!("no workload {}", task.workload).into()),
    };
    let mut outcome = outcome.unwrap_or_else(|error| Outcome {
        failed: Some(error.to_string()),
        ..Outcome::default()
    });
    outcome.peak_bytes = measure::peak_memory();
    outcome
}

/// How many keys a batch of a load has.
const LOAD_BATCH: usize = 1_000;

/// Writes keys in the given order, each as its step leaves it, in batches of 1,000.
fn write_all(
    session: &mut dyn Session,
    values: &Values,
    writes: impl IntoIterator<Item = (u64, u64)>,
) -> Result<()> {
    let mut batch: Vec<(Key, Value)> = Vec::with_capacity(LOAD_BATCH);
    for (number, step) in writes {
        batch.push((Key::new(number), values.value(number, step)));
        if batch.len() == LOAD_BATCH {
            session.batch(&batch)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        session.batch(&batch)?;
    }
    Ok(())
}

/// The step of what was loaded before anything is measured.
const PRELOADED: u64 = u64::MAX;

/// Opens an engine and fills it, with as little waiting as it can be told.
fn filled(task: &Task, promise: Promise, keys: u64, values: &Values) -> Result<Box<dyn Engine>> {
    let laxest = [Promise::Process, Promise::Kernel]
        .into_iter()
        .find(|&promise| engines::told(&task.engine, promise).is_some());
    let open = |promise| engines::open(&task.engine, &task.folder, promise, keys);
    let mut engine = open(laxest.unwrap_or(Promise::Sync))?;
    let order = shuffled(keys, PRELOADED).into_iter();
    let writes = order.map(|number| (u64::from(number), PRELOADED));
    let mut session = engine.session()?;
    write_all(&mut *session, values, writes)?;
    session.sync()?;
    drop(session);
    if laxest == Some(promise) || engines::is_a_map(&task.engine) {
        engine.settle()?;
        return Ok(engine);
    }
    engine.close()?;
    open(promise)
}
