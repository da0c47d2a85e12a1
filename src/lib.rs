//! `evenkeel`: an embedded, persistent state engine for workers and jobs.

mod clock;
mod codec;
mod engine;
mod error;
mod ids;
mod image;
mod scope;
mod value;
mod vfs;
mod wal;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Corruption, Error, Result};
pub use ids::{BlockId, Epoch, Lsn, SegmentId, StoreId, Version};
pub use scope::Scope;
pub use value::Value;
