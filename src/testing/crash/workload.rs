//! Owns what a crash test does to a store: steps, made in a line each, and the
//! settings that make a short workload see everything a long-lived store sees.

use crate::scope::Scope;
use crate::state::Builder;
use crate::testing::{ImageOn, Random, pieces_on};
use crate::value::Value;

/// One change, as a part of a commit or as all of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// Sets a key.
    Set(Scope, String, Value),
    /// Removes a key, which may be missing.
    Delete(Scope, String),
    /// Removes all keys of a scope.
    Clear(Scope),
    /// Adds to an integer.
    Increment(Scope, String, i64),
    /// Merges into a value.
    Merge(Scope, String, Value),
    /// Sets a key by compare-and-set, with the version that it has.
    Replace(Scope, String, Value),
}

/// One call to a store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// A commit through a scope's handle, acknowledged when it is durable.
    Commit(Write),
    /// A commit through a scope's handle, acknowledged when the kernel has it.
    Written(Write),
    /// A transaction, acknowledged when it is durable.
    Transact(Vec<Write>),
    /// A transaction that nobody waits for.
    Submit(Vec<Write>),
    /// Waits for the last transaction that was submitted.
    Wait,
    /// Waits for all that is visible.
    Barrier,
    /// Writes a checkpoint.
    Checkpoint,
    /// Writes a snapshot.
    Snapshot,
    /// Reads everything through.
    Verify,
    /// Closes the store and opens it again.
    Reopen,
    /// Drops the store without closing it, and opens it again.
    DropAndOpen,
    /// Makes a commit whose sync fails and loses what it should have kept, and opens
    /// the store again, in the same kernel.
    LoseSync(Vec<Write>),
    /// Closes the store, takes its image away, and opens it again.
    LoseImage,
    /// Persists a store that began in memory, and goes on with the durable one.
    Persist,
}

/// What a crash test runs: steps, in order, over a store that is new.
///
/// ```
/// use evenkeel::Scope;
/// use evenkeel::testing::crash::{Plan, Step, Workload, Write, drive};
/// let workload = Workload::new("two-keys")
///     .set(Scope::Global, "a", 1)
///     .set(Scope::Global, "b", 2)
///     .step(Step::Checkpoint);
/// let summary = drive(&workload, &Plan::sample(20, 1))?;
/// assert!(summary.points == 20 && summary.images >= 40);
/// # Ok::<(), Box<evenkeel::testing::crash::Violation>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a workload does nothing until it is driven"]
pub struct Workload {
    pub(super) name: String,
    pub(super) steps: Vec<Step>,
    pub(super) settings: fn(Builder) -> Builder,
    pub(super) image: ImageOn,
    /// An image that is taken away is rebuilt.
    pub(super) heals: bool,
}

/// Sizes so small that everything happens within some hundred commits.
pub(super) fn small(builder: Builder) -> Builder {
    builder
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 32 * 1024)
        .snapshot_log_bytes(32 * 1024)
        .block_bytes(1024)
        .cache_bytes(64 * 1024)
}

impl Workload {
    /// One without steps: the store is opened and closed.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            steps: Vec::new(),
            settings: small,
            image: pieces_on,
            heals: true,
        }
    }

    /// With other settings than the small sizes. File system, image, clock and
    /// threads are the driver's.
    pub fn settings(mut self, settings: fn(Builder) -> Builder) -> Self {
        self.settings = settings;
        self
    }

    /// With an image that something else keeps: [`files_on`](crate::testing::files_on), or a
    /// backend of your own. Default a [`FolderBackend`](crate::testing::FolderBackend).
    pub fn image(mut self, image: ImageOn) -> Self {
        self.image = image;
        self
    }

    /// With the small sizes, and without the second copy: the log is trimmed to the
    /// image, and an image that is lost is not rebuilt.
    pub fn without_snapshots(mut self) -> Self {
        self.settings = |builder| small(builder).snapshots(false);
        self.heals = false;
        self
    }

    /// Adds a step.
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds steps.
    pub fn steps(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Adds a durable commit of one key.
    pub fn set(self, scope: Scope, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.step(Step::Commit(Write::Set(scope, key.into(), value.into())))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// True if there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// True if the store begins in memory.
    pub(super) fn persists(&self) -> bool {
        self.steps.contains(&Step::Persist)
    }

    /// True if a step damages the store.
    pub(super) fn damages(&self) -> bool {
        self.steps.contains(&Step::LoseImage)
    }

    /// Steps drawn from a seed: all kinds but persisting, over few keys, so that
    /// they meet.
    pub fn random(seed: u64, steps: usize) -> Self {
        let mut random = Random::new(seed);
        let mut workload = Self::new(format!("random-{seed}"));
        workload
            .steps
            .extend((0..steps).map(|_| random_step(&mut random)));
        workload
    }
}

/// Text of a length that says where it came from.
#[must_use]
pub fn text(tag: impl std::fmt::Display, len: usize) -> Value {
    let tag = format!("{tag}.");
    let text: String = tag.chars().cycle().take(len.max(tag.len())).collect();
    Value::from(text)
}

fn random_step(random: &mut Random) -> Step {
    match random.below(100) {
        0..45 => Step::Commit(random_write(random)),
        45..58 => Step::Written(random_write(random)),
        58..70 => Step::Transact(random_writes(random)),
        70..80 => Step::Submit(random_writes(random)),
        80..83 => Step::Wait,
        83..86 => Step::Barrier,
        86..91 => Step::Checkpoint,
        91..94 => Step::Snapshot,
        94..95 => Step::Verify,
        95..98 => Step::Reopen,
        _ => Step::DropAndOpen,
    }
}

fn random_writes(random: &mut Random) -> Vec<Write> {
    (0..=random.below(5))
        .map(|_| random_write(random))
        .collect()
}

fn random_write(random: &mut Random) -> Write {
    let scope = match random.below(6) {
        0 => Scope::Global,
        1 => Scope::workflow("w"),
        2 => Scope::step("w", "s"),
        3 => Scope::worker("w"),
        4 => Scope::custom("c"),
        _ => Scope::job("j"),
    };
    let key = format!("k{:02}", random.below(24));
    match random.below(100) {
        0..55 => {
            let len = match random.below(40) {
                0 => 20_000 + random.below(80_000),
                1..8 => 500 + random.below(3000),
                _ => random.below(300),
            };
            let tag = random.below(1 << 32);
            Write::Set(scope, key, text(tag, usize::try_from(len).unwrap_or(0)))
        }
        55..70 => Write::Delete(scope, key),
        70..73 => Write::Clear(scope),
        73..85 => Write::Increment(scope, format!("n{}", random.below(3)), 1),
        85..93 => {
            let field = format!("f{}", random.below(4));
            let patch = Value::from_iter([(field, Value::from(random.below(1000)))]);
            Write::Merge(scope, format!("m{}", random.below(3)), patch)
        }
        _ => Write::Replace(scope, key, text(random.below(1 << 32), 40)),
    }
}
