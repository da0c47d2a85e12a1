//! `evenkeel`: an embedded, persistent state engine for workers and jobs.

mod clock;
mod engine;
mod error;
mod ids;
mod image;
mod vfs;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Corruption, Error, Result};
pub use ids::{BlockId, Epoch, Lsn, SegmentId, StoreId, Version};
