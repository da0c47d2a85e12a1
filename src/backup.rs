//! Owns backups: copies of a store that stand for themselves, and stores made from them.
//!
//! What stays true:
//! - A backup is there when its catalog is, which is written last; what it names was
//!   synced and read back before.
//! - Nothing that is there is ever overwritten; what goes is what no catalog names.
//! - The store that is copied is only read, and nobody waits for its copy.

mod archive;
mod catalog;
mod folder;
mod head;
mod listing;
mod options;
mod plan;
mod retain;
mod take;
mod verify;

pub use listing::{Backup, BackupKind, Backups};
pub use options::{BackupOptions, BackupPhase, BackupProgress};
pub use retain::Retention;
pub use verify::BackupVerification;
