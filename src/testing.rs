//! What proves the store, for us and for those who link it: the simulated disk,
//! an image over it, the suite that every image passes, the crash driver, and the
//! fuzz targets.
//!
#![doc = include_str!("../docs/testing.md")]

pub mod crash;
pub mod fuzz;

use std::sync::Arc;

use crate::image::ImageBackend;
use crate::image::files::FileBackend;
use crate::state::{Builder, Store};

pub use crash::{AfterCrash, Certificate, CrashRun, CrashTest};

pub use crate::image::folder::FolderBackend;
pub use crate::image::suite::suite as image_suite;
pub use crate::vfs::sim::{
    Arrivals, Failure, Fault, Loss, NoArrival, Operation, OperationKind, Origin, Place, Random,
    SimDisk, Stack, When, is_power_loss,
};

impl SimDisk {
    /// The builder of a store that lives on this disk, with the defaults of
    /// [`Store::builder`] but for three parts. Its files are here. Its image is plain
    /// files here too ([`FolderBackend`]): sled has files and threads of its own, which
    /// no simulation reaches. And it has no threads ([`Builder::background`] is false),
    /// so that a program makes the same calls of the disk each time that it runs; one
    /// that depends on the time wants a [`ManualClock`](crate::ManualClock) too. Whatever
    /// is set on the builder afterwards holds, these parts included.
    ///
    /// Several stores fit on one disk, in folders of their own. A store is found again
    /// by the builder of the same disk, or of what [`crash`](Self::crash) left of it.
    ///
    /// ```
    /// use evenkeel::testing::{Loss, SimDisk};
    /// let disk = SimDisk::new(1);
    /// let store = disk.store_builder().open("state")?;
    /// store.global().set("orders", 1)?;
    ///
    /// let found = disk.crash(Loss::Everything); // that was not synced
    /// let store = found.store_builder().open("state")?;
    /// assert_eq!(store.global().get("orders")?, Some(1));
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    pub fn store_builder(&self) -> Builder {
        self.under(Store::builder(), pieces_on)
    }

    /// Puts this disk under a store, whatever its settings say of file system, image and
    /// threads: those that others chose cannot lead it away.
    pub(crate) fn under(&self, builder: Builder, image: ImageOn) -> Builder {
        builder
            .image(image(self))
            .vfs(Arc::new(self.clone()))
            .background(false)
    }
}

/// What keeps the image of a store on a simulated disk. It has to do all that it does through
/// that disk, in the thread that asks for it.
pub type ImageOn = fn(&SimDisk) -> Arc<dyn ImageBackend>;

/// Each piece in a file of its own, by a [`FolderBackend`]: so little is in the way of the order
/// of image and manifest that it is what the crash driver takes by itself.
pub(crate) fn pieces_on(disk: &SimDisk) -> Arc<dyn ImageBackend> {
    Arc::new(FolderBackend::new(Arc::new(disk.clone())))
}

/// The image of a store whose program chose a [`FileBackend`].
///
/// ```
/// use evenkeel::testing::{CrashTest, files_on};
/// let test = CrashTest::new("a counter", |run| {
///     for n in 1..=3 {
///         run.store()?.global().set("count", n)?;
///         run.store()?.checkpoint()?;
///     }
///     Ok(())
/// });
/// let certificate = test.image(files_on).sample(20).run()?;
/// assert!(certificate.summary.checkpoints >= 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn files_on(disk: &SimDisk) -> Arc<dyn ImageBackend> {
    Arc::new(FileBackend::new(Arc::new(disk.clone())))
}
