//! `evenkeel`: an embedded, persistent state engine for workers and jobs.
//!
//! A [`Store`] keeps the state of workers, workflows, steps and jobs in scopes. Every
//! change goes through a write-ahead log; sled holds an image of the state, which is
//! verified at each read and rebuilt where it is damaged.
//!
//! ```
//! use evenkeel::{Scope, Store};
//! use serde_json::json;
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("state");
//! let store = Store::open(&path)?;
//! let order = store.scope(Scope::workflow("order-42"));
//! order.set("config", json!({"region": "eu"}))?; // durable when it returns
//! order.increment("attempts", 1)?; // atomic
//! store.transact(|tx| {
//!     // All or nothing, over any scopes.
//!     let stock = tx.scope(Scope::custom("stock"));
//!     let left: i64 = stock.get("widget")?.unwrap_or(10);
//!     stock.set("widget", left - 1)?;
//!     tx.scope(Scope::workflow("order-42")).set("reserved", true)
//! })?;
//! store.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - Which scope for what: `docs/what_to_keep_where.md`.
//! - What is durable when: [`Durability`], [`Store::submit`], [`Store::barrier`].
//! - What is refused: [`Limits`], [`Quota`], [`Error`]; what is held: [`Store::usage`].
//! - What is kept bounded: [`Cache`].
//! - Many entries at once: [`Store::bulk`], [`Store::import`], [`Store::export_json_lines`].
//! - Copies that can be trusted: [`Store::backup`], [`Store::restore`], `docs/backup.md`.
//! - What is changed when the program is: [`StateMigration`], [`Builder::migration`],
//!   [`Transforms`], [`Migrations::rehearse`]; the chapter is `docs/migrations.md`.
//! - What is made anew and never stored: [`Resource`].
//! - Work that survives: [`Flow`], [`Runtime`], [`Activation`], `docs/running.md`; its
//!   effects outside of the store ([`Activation::once`], `docs/effects.md`), what fails
//!   ([`ErrorHandler`], [`DeadLetter`], `docs/errors.md`), and another version of a flow
//!   (`docs/changing_a_flow.md`).
//! - Workflow state by the names that programs know: [`WorkflowStateManager`].
//! - Figures and events: [`Stats`], [`Traced`], and the features `metrics` and `tracing`.
//! - What opening found: [`Store::recovery`], [`Salvage`]; what is damaged:
//!   [`Store::verify`].
//! - How it is proved: `docs/reliability.md`, and the module `testing` behind the
//!   feature of that name.

#![cfg_attr(doctest, doc = include_str!("../README.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/observing.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/what_to_keep_where.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/importing.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/backup.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/migrations.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/running.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/effects.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/errors.md"))]
#![cfg_attr(doctest, doc = include_str!("../docs/changing_a_flow.md"))]

mod backup;
mod clock;
mod codec;
mod engine;
mod error;
mod ids;
mod image;
mod migrate;
mod observe;
mod runtime;
mod scope;
mod state;
mod sync;
mod value;
mod vfs;
mod wal;
mod workflow;

pub use backup::{
    Backup, BackupKind, BackupOptions, BackupPhase, BackupProgress, BackupVerification, Backups,
    RestorePoint, Restored, Retention,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::quota::Quota;
pub use engine::rebuild::{RebuildPhase, RebuildProgress};
pub use engine::report::{Healed, Recovery, Verification};
pub use error::{Corruption, Error, Result, WorkError};
pub use ids::{BlockId, Epoch, Lsn, SegmentId, StoreId, Version};
#[cfg(feature = "file-image")]
pub use image::files::FileBackend;
pub use image::sled::{SledBackend, SledOptions};
pub use image::{Image, ImageBackend, ImageError, ImageErrorKind, Piece};
pub use migrate::{
    KeyPattern, MigratedScope, MigratedScopes, MigratedState, MigrationBudget, MigrationPhase,
    MigrationProgress, MigrationScan, MigrationScope, Migrations, PendingMigration, Rehearsal,
    RehearsedInvariant, RehearsedMigration, Reverts, Sample, ScopeSet, StateMigration, StateSize,
    Transforms,
};
#[cfg(feature = "tokio")]
pub use runtime::AsyncActivation;
#[cfg(feature = "tracing")]
pub use runtime::JobOutputLayer;
pub use runtime::{
    Activation, ActivationId, ActivationPolicy, Aggregator, AtCapacity, Batcher, BeforeEnqueue,
    Connection, DeadLetter, Debouncer, Decision, Endpoint, ErrorHandler, ErrorStrategy, Event,
    EventEmitted, ExecutionEntry, ExecutionOutcome, Failure, FieldType, Filter, Flow, FlowProblem,
    FlowProblems, Hooks, IntoDecision, JobContext, JobEnded, JobIds, JobStarted, JobStatus,
    JobView, KeepDeadLetters, KeepJobs, Mapper, ParkedMessage, PostOptions, Pressure, Refusal,
    Registry, Resolution, ResultExtractor, Retry, RetryDetails, Router, Routine, RoutineEnded,
    RoutineSettings, RoutineStarts, RoutineStateAccessor, RoutineStatus, RunDetails, Runtime,
    RuntimeBuilder, RuntimeStats, SchemaValidator, Shutdown, SlotDetails, SlotOptions, SlotsView,
    Splitter, TimerDetails, TraceEntry, UncertainEffect, Verdict, WorkerDetails, WorkerStarted,
    WorkerState, WorkerStatus, WorkerStopped, current_job, job_print_line,
};
pub use scope::{Scope, ScopeKind, SystemScope};
pub use state::{
    Builder, BulkLoader, BulkReport, Cache, CacheStats, Change, ChangeKind, ChangeSet, Commit,
    Cursor, Durability, Entry, ExportReport, Import, ImportAnswer, ImportEntry, ImportItem,
    ImportOutcome, ImportPhase, ImportProgress, ImportReport, ImportStatus, Key, KeyHandle, Keys,
    KindUsage, Limits, MalformedEntry, MigrationReport, MigrationStep, Origin, Previous, Resource,
    Salvage, Scan, SchemaChange, ScopeHandle, ScopeUsage, SetOptions, Stats, Store, Timing, Traced,
    Transaction, TransactionScan, TransactionScope, Usage, Versioned, Watch, WatchFilter,
    WatchStream, WatchValues,
};
pub use value::Value;
pub use vfs::{DirEntry, OpenMode, RealVfs, Vfs, VfsFile, VfsLock};
pub use wal::{LogLoss, TailCut};
pub use workflow::{StateAccessor, StateScope, WorkflowStateManager};

#[cfg(feature = "testing")]
pub mod testing;
