//! Owns the settings of a store: plain data (limits, durability, sizes) and the
//! components that it works with.

use std::error::Error as StdError;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::codec::CodecLimits;
use crate::engine::Engine;
use crate::engine::opening::Components;
use crate::engine::options::EngineOptions;
use crate::engine::rebuild::{RebuildProgress, RebuildWatcher};
use crate::error::{Error, Result};
use crate::image::ImageBackend;
use crate::image::choice::{Choice, FILES};
use crate::image::sled::SledOptions;
use crate::state::handle::ScopeHandle;
use crate::state::import::ImportAnswer;
use crate::state::resource::Factories;
use crate::state::schema::SchemaKeeper;
use crate::state::store::Store;
use crate::state::trace::Traced;
use crate::state::transaction::guarded_within;
use crate::vfs::{RealVfs, Vfs};
use crate::wal::FRAME_BYTES_MAX;

const MIB: u64 = 1024 * 1024;

/// No limit lets a key be longer.
pub(super) const KEY_BYTES_BOUND: usize = 64 * 1024;

/// What sled takes beyond its cache.
const SLED_FLOOR_BYTES: u64 = 112 * MIB;

/// The schema version that a program knows that has no migrations: that of the state
/// before the first one.
pub(crate) const SCHEMA_OF_NO_MIGRATIONS: u32 = 1;

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on the disk: it survives a kill and a power cut. The default.
    #[default]
    Sync,
    /// When it was handed to the kernel: it survives a kill, and, once it was
    /// synced within this time, a power cut.
    Interval(Duration),
    /// At once: it may still be in the process, and is written and synced in the
    /// background within about a second.
    Memory,
}

/// What a store refuses, before anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of a value, encoded. Default 16 MiB, at most 128 MiB.
    pub value_bytes: usize,
    /// How deep lists and maps may be nested. What was written under a higher limit is
    /// read all the same. Default 128, at most 256.
    pub value_depth: usize,
    /// The most bytes of a key. Default 4 KiB, at most 64 KiB.
    pub key_bytes: usize,
    /// The most keys of a scope of which no [`Quota`](crate::Quota) says anything else.
    /// A scope that holds more already is quarantined, as under a quota. Default 10
    /// million.
    pub scope_keys: u64,
    /// The most bytes of keys and values of such a scope. Default 64 GiB.
    pub scope_bytes: u64,
    /// The most bytes of keys and values that one transaction writes; what it deletes
    /// does not count. Default 64 MiB, at most 192 MiB.
    pub transaction_bytes: usize,
    /// How often a transaction is tried before it fails with a conflict. It queues
    /// for its keys after a few, so only one that reads other keys each time gets
    /// there. Default 100, at least 1.
    pub transaction_attempts: u32,
    /// What a store without a folder may take in memory. Default 4 GiB.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let codec = CodecLimits::default();
        let engine = EngineOptions::default();
        Self {
            value_bytes: codec.value_bytes_max,
            value_depth: codec.value_depth_max,
            key_bytes: 4096,
            scope_keys: engine.scope_keys_max,
            scope_bytes: engine.scope_bytes_max,
            transaction_bytes: 64 * 1024 * 1024,
            transaction_attempts: 100,
            memory_bytes: engine.memory_bytes_max,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let bounds = [
            ("value_bytes", self.value_bytes as u64, 1, 128 * MIB),
            (
                "value_depth",
                self.value_depth as u64,
                1,
                CodecLimits::DEPTH_BOUND as u64,
            ),
            (
                "key_bytes",
                self.key_bytes as u64,
                1,
                KEY_BYTES_BOUND as u64,
            ),
            (
                "transaction_bytes",
                self.transaction_bytes as u64,
                1,
                FRAME_BYTES_MAX as u64 * 3 / 4,
            ),
            (
                "transaction_attempts",
                u64::from(self.transaction_attempts),
                1,
                u64::MAX,
            ),
        ];
        bounds
            .into_iter()
            .try_for_each(|(what, value, min, max)| bounded(what, value, min, max))
    }

    pub(crate) fn codec(&self) -> CodecLimits {
        CodecLimits {
            value_bytes_max: self.value_bytes,
            value_depth_max: self.value_depth,
        }
    }
}

fn bounded(what: &'static str, value: u64, min: u64, max: u64) -> Result<()> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Error::Invalid {
            what,
            reason: format!("{value} is not between {min} and {max}"),
        }),
    }
}

/// What opening does with a log that is damaged where it was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Salvage {
    /// It refuses with [`Error::Corrupt`] and changes nothing. The default.
    #[default]
    Refuse,
    /// It ends the log at the damage, keeps the commits before it, puts the files
    /// behind it aside as `*.lost`, and says in [`Store::recovery`] what was given
    /// up. Commits behind the damage are lost even where they are whole: what is
    /// left is the state as it once was.
    CutLog,
}

/// How a store is opened. Made by [`Store::builder`].
///
/// ```
/// use evenkeel::{Durability, Store};
/// use std::time::Duration;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state");
/// let store = Store::builder()
///     .durability(Durability::Interval(Duration::from_millis(5)))
///     .cache_bytes(16 * 1024 * 1024)
///     .open(&path)?;
/// store.global().set("a", 1)?;
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it opens a store"]
pub struct Builder {
    pub(super) durability: Durability,
    pub(crate) limits: Limits,
    engine: EngineOptions,
    pub(super) sled: SledOptions,
    vfs: Option<Arc<dyn Vfs>>,
    backend: Option<Arc<dyn ImageBackend>>,
    clock: Arc<dyn Clock>,
    pub(super) resources: Factories,
    pub(super) traced: Traced,
    pub(crate) schema: Option<Arc<dyn SchemaKeeper>>,
    any_schema: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            limits: Limits::default(),
            engine: EngineOptions::default(),
            sled: SledOptions::default(),
            vfs: None,
            backend: None,
            clock: Arc::new(SystemClock),
            resources: Factories::default(),
            traced: Traced::default(),
            schema: None,
            any_schema: false,
        }
    }
}

impl Builder {
    /// When commits are acknowledged, unless a handle says otherwise. Default
    /// [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What is refused. See [`Limits`] for the defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What versions in memory that are not yet in the image may take, in bytes.
    /// Half of it makes a checkpoint due; beyond it writers wait. Default 64 MiB,
    /// at least 64 KiB.
    ///
    /// The log that an opening would replay is held to the same: as many bytes of it that
    /// the image does not have make a checkpoint due and writers wait, though none is refused
    /// for them. So a key that is written again and again makes no long opening.
    pub fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.engine.memtable_bytes = bytes;
        self
    }

    /// What the cache of the image's blocks may take, in bytes. Default 256 MiB; it takes what was
    /// read, so a small state fills little of it. A read beside it costs some 10 µs, twenty times one
    /// inside (`docs/performance.md`): where there is memory for all that is read often, give it.
    ///
    /// A rebuild of the image sorts the changes of the log in as much, at least in 16 MiB, while
    /// the cache is empty.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.engine.cache_bytes = bytes;
        self
    }

    /// What sled may take in memory, in bytes. Default 128 MiB, at least 112 MiB: sled
    /// keeps a few leaves in each of its 256 shards, however small its cache is
    /// (`docs/design.md`), of both images while one moves to a new folder; what
    /// is above that becomes the cache of each. The blocks that are read often are in
    /// the store's own cache.
    pub fn sled_bytes(mut self, bytes: u64) -> Self {
        self.sled.cache_bytes = bytes.saturating_sub(SLED_FLOOR_BYTES);
        self
    }

    /// How long the image may take for one call before it is given up and rebuilt.
    /// Default 30 s.
    pub fn image_deadline(mut self, deadline: Duration) -> Self {
        self.sled.deadline = deadline;
        self
    }

    /// The length of the log's first segment and the length at which they stop
    /// growing, in bytes. Default 256 KiB and 16 MiB; between 8 KiB and 1 GiB.
    pub fn segment_bytes(mut self, first: u64, largest: u64) -> Self {
        self.engine.log.segment_bytes_min = first;
        self.engine.log.segment_bytes_max = largest;
        self
    }

    /// What the log may take on disk, in bytes; a commit beyond it is refused with
    /// [`Error::Busy`] until a snapshot was written. Half of it makes one due. Default
    /// 8 GiB, at least four times the largest segment.
    pub fn log_bytes_max(mut self, bytes: u64) -> Self {
        self.engine.log.log_bytes_max = bytes;
        self
    }

    /// Whether snapshots are kept. Without this second copy a store takes about
    /// its live size less on disk, and a damaged image is reported, not healed.
    /// Default true.
    pub fn snapshots(mut self, keep: bool) -> Self {
        self.engine.snapshots = keep;
        self
    }

    /// How much log makes a new snapshot due, in bytes; more where half of the live
    /// bytes is more. Default 64 MiB.
    pub fn snapshot_log_bytes(mut self, bytes: u64) -> Self {
        self.engine.snapshot_log_bytes_min = bytes;
        self
    }

    /// The size that blocks of the image are built for, in bytes. Default 8 KiB;
    /// between 1 and 64 KiB.
    pub fn block_bytes(mut self, bytes: usize) -> Self {
        self.engine.block_bytes = bytes;
        self
    }

    /// An image or snapshot of up to this many bytes is read through when the store
    /// is opened; a larger one is checked as it is read, and by
    /// [`Store::verify`]. Default 64 MiB.
    pub fn check_bytes_on_open(mut self, bytes: u64) -> Self {
        self.engine.check_bytes_on_open = bytes;
        self
    }

    /// How long a writer waits for room in the memtable before it is refused with
    /// [`Error::Busy`]. Default 10 s.
    pub fn stall(mut self, longest: Duration) -> Self {
        self.engine.stall = longest;
        self
    }

    /// Whether the store has threads for syncs, checkpoints and snapshots. Without,
    /// the call that crosses a threshold does the work, and all happens in the
    /// order of the calls. Default true.
    pub fn background(mut self, threads: bool) -> Self {
        self.engine.background = threads;
        self
    }

    /// What is held in memory for watches, in bytes, however many there are: commits of
    /// a store without a folder that were not delivered yet, and values that were
    /// overwritten, while a watch asks for these. Default 8 MiB.
    pub fn watch_bytes(mut self, bytes: usize) -> Self {
        self.engine.watch_bytes = bytes;
        self
    }

    /// What to do with a log that is damaged where it was durable. Default
    /// [`Salvage::Refuse`].
    pub fn salvage(mut self, salvage: Salvage) -> Self {
        self.engine.salvage = salvage == Salvage::CutLog;
        self
    }

    /// Where commits take their time from. Default the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The file system of log, marks, manifest and snapshots. Default the real one.
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.vfs = Some(vfs);
        self
    }

    /// Who is told how far a rebuild of the image is: of one that is missing or damaged, from
    /// snapshot and log, while the store is opened, or by the call that finds the damage; a
    /// copy that [`Store::persist`] or a restore made gets its first image in the same way. On
    /// the thread that rebuilds; it returns nothing, or a [`ControlFlow`]. Default: nobody.
    ///
    /// [`ControlFlow::Break`] stops it: the opening, or the call, fails with
    /// [`Error::Stopped`]. Nothing is lost, and the next opening or call begins again. A panic
    /// stops it too, with [`Error::Panicked`]. Calls of the store are refused from inside with
    /// [`Error::Nested`], and those of other threads that need the image wait until it is
    /// there: do not wait for them.
    ///
    /// ```
    /// use evenkeel::{RebuildPhase, Store};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("state");
    /// let store = Store::open(&path)?;
    /// store.global().set("a", 1)?;
    /// store.checkpoint()?;
    /// store.snapshot()?;
    /// store.close()?;
    /// std::fs::remove_dir_all(path.join("image"))?;
    /// std::fs::create_dir(path.join("image"))?;
    ///
    /// let builder = Store::builder().rebuild_progress(|progress| {
    ///     if progress.phase == RebuildPhase::Image {
    ///         println!("{} of {} keys", progress.keys, progress.keys_total);
    ///     }
    /// });
    /// let store = builder.open(&path)?;
    /// assert_eq!(store.recovery().healed.len(), 1);
    /// assert_eq!(store.global().get::<i32>("a")?, Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rebuild_progress<A: ImportAnswer>(
        mut self,
        progress: impl Fn(&RebuildProgress) -> A + Send + Sync + 'static,
    ) -> Self {
        self.engine.rebuild_watcher = RebuildWatcher::new(move |engine, told| {
            let place = "in the progress of a rebuild";
            match guarded_within(engine, place, || Ok(progress(told).into_flow()))? {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Stopped {
                    what: "the rebuild of the image",
                }),
            }
        });
        self
    }

    /// What keeps the image. Default what made the image that is there, and sled where there is
    /// none, as in a store that is new or has no checkpoint yet; the feature `file-image` brings
    /// `FileBackend`, which is faster where much is overwritten. One that is chosen here and did not
    /// make the image builds it anew, where a snapshot and the log behind it are there, or is
    /// refused with [`Error::Corrupt`].
    pub fn image(mut self, backend: Arc<dyn ImageBackend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// What the events of `tracing` may contain: keys and values are not told unless
    /// they are asked for here. Nothing else needs it; what an [`Error`] says, it says
    /// to whoever made the call. Default [`Traced::Nothing`].
    pub fn traced(mut self, traced: Traced) -> Self {
        self.traced = traced;
        self.engine.tell_keys = traced >= Traced::Keys;
        self
    }

    /// How a [`Resource`](crate::Resource) that the whole store shares is made, when it
    /// is first asked for. A copy made by [`Store::persist`] makes its own.
    ///
    /// A factory holds no lock and may use the store, and other resources. One that
    /// keeps a handle in what it makes keeps the store open until [`Store::close`].
    /// A type has one factory: opening refuses a second with [`Error::Invalid`].
    ///
    /// ```
    /// use evenkeel::Store;
    /// struct Client;
    /// let builder = Store::builder().resource(|_| Err::<Client, _>("no route to host"));
    /// let failed = builder.in_memory()?.resource::<Client>();
    /// assert!(failed.is_err_and(|e| e.to_string().ends_with("Client failed: no route to host")));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn resource<T, E>(
        mut self,
        factory: impl Fn(&Store) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.resources.of_store(factory);
        self
    }

    /// The same for a [`Resource`](crate::Resource) that each scope has its own of: the
    /// factory is given the scope's handle. See [`ScopeHandle::resource`].
    pub fn scope_resource<T, E>(
        mut self,
        factory: impl Fn(&ScopeHandle) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.resources.of_scope(factory);
        self
    }

    /// Opens a store of whatever schema version, for tools that look at any store and do
    /// not know what its values mean. Without it a program opens what its
    /// [migrations](Builder::migration) can bring the state to, and one that has none
    /// opens version 1; [`Error::NewerSchema`] is for the rest. What an interrupted run of
    /// migrations has staged is given up, as by any program that does not go on with it.
    ///
    /// ```
    /// let store = evenkeel::Store::builder().any_schema().in_memory()?;
    /// assert_eq!(store.schema_version(), 0);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn any_schema(mut self) -> Self {
        self.any_schema = true;
        self
    }

    /// Opens the store in a folder, or makes one there. Runs the
    /// [migrations](Builder::migration) that are due before it returns.
    ///
    /// # Errors
    /// [`Error::Locked`] while somebody else has it, [`Error::NotAStore`],
    /// [`Error::NewerFormat`], [`Error::Corrupt`], [`Error::Io`], and
    /// [`Error::Invalid`] for settings out of bounds. [`Error::NewerSchema`], with the
    /// folder untouched, where the program knows no migration to the version of the state;
    /// [`Error::MissingFeature`], likewise, where it was built without what made the image;
    /// [`Error::BrokenChain`], [`Error::MigrationNeeded`], [`Error::MigrationFailed`] and
    /// [`Error::Stopped`] as migrations have them; [`Error::Stopped`] also as the
    /// [progress of a rebuild](Self::rebuild_progress) was answered.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        self.check()?;
        let engine = Engine::open(path.as_ref(), self.engine_options(), self.components())?;
        Store::load(engine, self)?.prepare()
    }

    /// A store without a folder, gone with its last handle.
    ///
    /// # Errors
    /// [`Error::Invalid`] for settings out of bounds.
    pub fn in_memory(self) -> Result<Store> {
        self.check()?;
        let engine = Engine::in_memory(self.engine_options(), Arc::clone(&self.clock));
        Store::new(engine, self).prepare()
    }

    /// The newest schema version that the program knows; `None` where it takes any.
    fn schema_max(&self) -> Option<u32> {
        let newest = self.schema.as_ref().map(|keeper| keeper.newest());
        (!self.any_schema).then(|| newest.unwrap_or(SCHEMA_OF_NO_MIGRATIONS))
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.limits.check()?;
        self.schema
            .as_ref()
            .map_or(Ok(()), |keeper| keeper.check())?;
        self.resources.check()?;
        let engine = &self.engine;
        let log = &engine.log;
        let (least, most) = (8 * 1024, 1024 * MIB);
        bounded(
            "segment_bytes (largest)",
            log.segment_bytes_max,
            least,
            most,
        )?;
        bounded(
            "segment_bytes (first)",
            log.segment_bytes_min,
            least,
            log.segment_bytes_max,
        )?;
        bounded(
            "log_bytes_max",
            log.log_bytes_max,
            4 * log.segment_bytes_max,
            u64::MAX / 4,
        )?;
        bounded(
            "memtable_bytes",
            engine.memtable_bytes,
            64 * 1024,
            u64::MAX / 4,
        )?;
        bounded("block_bytes", engine.block_bytes as u64, 1024, 64 * 1024)
    }

    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions {
            memory_bytes_max: self.limits.memory_bytes,
            scope_keys_max: self.limits.scope_keys,
            scope_bytes_max: self.limits.scope_bytes,
            schema_max: self.schema_max(),
            ..self.engine.clone()
        }
    }

    pub(crate) fn components(&self) -> Components {
        let as_made = || Choice::AsMade {
            sled: self.sled,
            files: FILES,
        };
        Components {
            vfs: self.vfs.clone().unwrap_or_else(|| Arc::new(RealVfs)),
            image: self.backend.clone().map_or_else(as_made, Choice::Chosen),
            clock: Arc::clone(&self.clock),
        }
    }
}
