//! What proves the store, for us and for those who link it: the simulated disk,
//! an image over it, the suite that every image passes, and the crash driver.

pub mod crash;

pub use crate::image::folder::FolderBackend;
pub use crate::image::suite::suite as image_suite;
pub use crate::vfs::sim::{
    Failure, Fault, Loss, Operation, OperationKind, Random, SimDisk, When, is_power_loss,
};
