//! Owns what a user holds: the store, handles of scopes, transactions, and their
//! limits. It turns values into cells and errors into words; what makes them
//! durable is the engine's.

mod cell;
mod commit;
mod handle;
mod key;
mod options;
mod scan;
mod stats;
mod store;
mod transaction;
mod transaction_scope;

pub use commit::Commit;
pub use handle::{ScopeHandle, Versioned};
pub use key::{Key, KeyHandle};
pub use options::{Builder, Durability, Limits, Salvage};
pub use scan::{Entry, Keys, Scan};
pub use stats::Stats;
pub use store::Store;
pub use transaction::Transaction;
pub use transaction_scope::{TransactionScan, TransactionScope};
