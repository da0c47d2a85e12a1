//! `evenkeel`: an embedded, persistent state engine for workers and jobs.

mod clock;
mod codec;
mod engine;
mod error;
mod ids;
mod image;
mod scope;
mod state;
mod value;
mod vfs;
mod wal;

pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::report::{Healed, Recovery, Verification};
pub use error::{Corruption, Error, Result};
pub use ids::{BlockId, Epoch, Lsn, SegmentId, StoreId, Version};
pub use image::sled::{SledBackend, SledOptions};
pub use image::{Image, ImageBackend, ImageError, ImageErrorKind, Piece};
pub use scope::Scope;
pub use state::{
    Builder, Commit, Durability, Entry, Key, KeyHandle, Keys, Limits, Salvage, Scan, ScopeHandle,
    Stats, Store, Transaction, TransactionScan, TransactionScope, Versioned,
};
pub use value::Value;
pub use vfs::{DirEntry, OpenMode, RealVfs, Vfs, VfsFile, VfsLock};
pub use wal::{LogLoss, TailCut};

#[cfg(feature = "testing")]
pub mod testing;
