//! Owns backups: copies of a store that stand for themselves, and stores made from them.
//!
//! What stays true:
//! - A backup is there when its catalog is, which is written last; what it names was
//!   synced and read back before.
//! - Nothing that is there is ever overwritten; what goes is what no catalog names.
//! - The store that is copied is only read, and nobody waits for its copy.
//! - A backup is only read when a store is made from it, and that store is there whole or
//!   not at all.

mod archive;
mod catalog;
mod fold;
mod folder;
mod head;
mod listing;
mod options;
mod plan;
mod point;
mod restore;
mod retain;
mod take;
mod verify;

pub use listing::{Backup, BackupKind, Backups};
pub use options::{BackupOptions, BackupPhase, BackupProgress};
pub use point::RestorePoint;
pub use restore::Restored;
pub use retain::Retention;
pub use verify::BackupVerification;
