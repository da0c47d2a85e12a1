//! Owns `evenkeel crash`: a writer that acknowledges records until it is killed, a
//! check of what is there afterwards, and a run of both, again and again.

mod audit;
mod check;
mod child;
mod commit;
mod content;
mod heard;
mod lists;
mod progress;
mod protocol;
mod ranges;
mod record;
mod run;
mod tally;
mod write;

use std::sync::Arc;

use evenkeel::{Builder, FileBackend, SledBackend};

use crate::arguments::{Crash, Image, Keeping};
use crate::console::Failure;

/// Does what was asked for.
///
/// # Errors
/// What went wrong, in words.
pub(crate) fn execute(command: &Crash) -> Result<(), Failure> {
    match command {
        Crash::Run(options) => run::run(options),
        Crash::Write(options) => write::write(options),
        Crash::Check(options) => check::check(options),
    }
}

/// The settings with what is to keep the image, where that was asked for.
fn keeping(builder: Builder, keeping: Keeping) -> Builder {
    match keeping.image {
        None => builder,
        Some(Image::Sled) => builder.image(Arc::new(SledBackend::default())),
        Some(Image::Files) => builder.image(Arc::new(FileBackend::default())),
    }
}
