//! What a child process is asked and what it answers: one line of JSON each way. Each
//! repetition of each workload of each engine is a process of its own, so that no engine
//! inherits the memory, the threads or the files of another.

use std::error::Error;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Whatever goes wrong is told and ends the repetition.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a commit promises when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Promise {
    /// It is on the disk.
    Sync,
    /// Nothing yet; whoever waits for the last one has all of them on the disk.
    Submitted,
    /// The kernel has it: a kill loses nothing, a power cut may.
    Kernel,
    /// The process has it: a kill may lose it.
    Process,
}

/// How much is done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Scale {
    /// The keys of a state that is loaded first.
    pub(crate) keys: u64,
    /// For how long operations are measured.
    pub(crate) seconds: f64,
    /// How many jobs are queued for the runtimes.
    pub(crate) jobs: u64,
}

/// One repetition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) engine: String,
    pub(crate) workload: String,
    pub(crate) folder: PathBuf,
    pub(crate) scale: Scale,
    /// What must be found: then nothing is measured but opening it.
    pub(crate) left: Option<Left>,
}

/// What a workload leaves in its folder, for whoever opens it after the kill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Left {
    /// Each thread wrote the keys of its steps, or of one of so many, and these were
    /// acknowledged.
    Steps {
        keys: u64,
        one_of: u64,
        acknowledged: Vec<u64>,
    },
    /// All keys were written in this round.
    Round { keys: u64, round: u64 },
    /// So much was added to the counter.
    Counter { sum: i64 },
    /// So many jobs wait; the others have ended.
    Jobs { waiting: u64 },
}

/// What came out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) figures: Vec<Figure>,
    /// The most memory that the process had, in bytes.
    pub(crate) peak_bytes: u64,
    /// What is in the folder now, if that can be checked.
    pub(crate) left: Option<Left>,
    /// Why it failed.
    pub(crate) failed: Option<String>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
    /// How long one operation took, where somebody waits for it.
    pub(crate) latency: Option<Latency>,
}

/// What half, 99 of 100 and 999 of 1,000 operations took at most, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit: unit.to_owned(),
            value,
            latency: None,
        }
    }

    pub(crate) fn with(mut self, latency: Latency) -> Self {
        self.latency = Some(latency);
        self
    }
}
