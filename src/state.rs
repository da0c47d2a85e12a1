//! Owns what a user holds: the store, handles of scopes, transactions, and their
//! limits, caches beside scopes, and what is kept beside them and never stored. It turns
//! values into cells and errors into words; what makes them durable is the engine's.

mod cache;
pub(crate) mod cell;
mod commit;
pub(crate) mod entry;
mod export;
mod flight;
pub(crate) mod handle;
mod import;
mod key;
pub(crate) mod options;
pub(crate) mod origin;
mod quota;
mod resource;
pub(crate) mod scan;
pub(crate) mod schema;
mod settings;
mod stats;
pub(crate) mod store;
mod trace;
pub(crate) mod transaction;
mod transaction_scope;
mod ttl;
mod watch;

pub use cache::{Cache, CacheStats};
pub use commit::Commit;
pub use entry::Entry;
pub use export::ExportReport;
pub use handle::{ScopeHandle, Versioned};
pub use import::{
    BulkLoader, BulkReport, Import, ImportAnswer, ImportEntry, ImportItem, ImportOutcome,
    ImportPhase, ImportProgress, ImportReport, ImportStatus, MalformedEntry,
};
pub use key::{Key, KeyHandle};
pub use options::{Builder, Durability, Limits, Salvage};
pub use origin::Origin;
pub use quota::{KindUsage, ScopeUsage, Usage};
pub use resource::Resource;
pub use scan::{Keys, Scan};
pub use schema::{MigrationReport, MigrationStep, SchemaChange};
pub use stats::{Stats, Timing};
pub use store::Store;
pub use trace::Traced;
pub use transaction::Transaction;
pub(crate) use transaction::guarded;
pub use transaction_scope::{TransactionScan, TransactionScope};
pub use ttl::SetOptions;
pub use watch::Watch;
pub use watch::changes::{Change, ChangeKind, ChangeSet, Previous};
pub use watch::cursor::Cursor;
pub use watch::filter::{WatchFilter, WatchValues};
pub use watch::stream::WatchStream;
