//! What proves the store, for us and for those who link it: the simulated disk,
//! an image over it, the suite that every image passes, the crash driver, and the
//! fuzz targets.
//!
#![doc = include_str!("../docs/testing.md")]

pub mod crash;
pub mod fuzz;

pub use crash::{AfterCrash, Certificate, CrashRun, CrashTest};

pub use crate::image::folder::FolderBackend;
pub use crate::image::suite::suite as image_suite;
pub use crate::vfs::sim::{
    Arrivals, Failure, Fault, Loss, NoArrival, Operation, OperationKind, Origin, Place, Random,
    SimDisk, Stack, When, is_power_loss,
};
