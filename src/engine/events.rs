//! Owns what an engine tells about its work, as events of `tracing`, with LSNs and
//! paths. A finding may name the key at which a damaged block begins, so its text is
//! told only where a user asked for keys.

use std::path::Path;

use super::Engine;
use super::rebuild::RebuildProgress;
use super::report::{Healed, Recovery};
use crate::error::Error;
use crate::ids::Lsn;

/// A finding is not told without being asked for.
#[cfg(feature = "tracing")]
const UNTOLD: &str = "not told, since it may name keys; see `Recovery`, or `Builder::traced`";

impl Engine {
    #[cfg(feature = "tracing")]
    fn told<'a>(&self, finding: &'a str) -> &'a str {
        match self.options.tell_keys {
            true => finding,
            false => UNTOLD,
        }
    }

    /// Opening came to an end.
    pub(super) fn tell_opened(&self, root: &Path, recovery: &Recovery) {
        #[cfg(not(feature = "tracing"))]
        let _ = (root, recovery);
        #[cfg(feature = "tracing")]
        {
            if let Some(cut) = &recovery.cut {
                tracing::warn!(
                    target: "evenkeel",
                    bytes = cut.bytes,
                    last_lsn = recovery.last_lsn.get(),
                    "cut off a torn tail"
                );
            }
            for loss in &recovery.lost {
                tracing::error!(
                    target: "evenkeel",
                    path = %loss.damage.path.display(),
                    offset = loss.damage.offset,
                    lsn = loss.damage.lsn.map(Lsn::get),
                    "salvage gave up the log from here on"
                );
            }
            tracing::info!(
                target: "evenkeel",
                store = %root.display(),
                epoch = recovery.epoch.get(),
                last_lsn = recovery.last_lsn.get(),
                durable_mark = recovery.durable_mark.get(),
                image_lsn = recovery.image_lsn.get(),
                snapshot_lsn = recovery.snapshot_lsn.get(),
                replayed_commits = recovery.replayed_commits,
                closed_cleanly = recovery.closed_cleanly,
                healed = recovery.healed.len(),
                "opened"
            );
        }
    }

    /// Damage was put right.
    pub(super) fn tell_healed(&self, healed: &Healed) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: "evenkeel",
            path = %healed.path.display(),
            finding = self.told(&healed.what),
            action = healed.action,
            "healed"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = healed;
    }

    /// The image is being rebuilt, and that is how far it is.
    pub(super) fn tell_rebuilding(&self, progress: &RebuildProgress) {
        #[cfg(feature = "tracing")]
        tracing::info!(
            target: "evenkeel",
            phase = ?progress.phase,
            keys = progress.keys,
            keys_total = progress.keys_total,
            bytes = progress.bytes,
            bytes_total = progress.bytes_total,
            "rebuilding the image"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = progress;
    }

    /// Some work was done, up to this LSN.
    pub(crate) fn tell_done(&self, what: &'static str, lsn: Lsn) {
        #[cfg(feature = "tracing")]
        tracing::info!(target: "evenkeel", lsn = lsn.get(), "{what}");
        #[cfg(not(feature = "tracing"))]
        let _ = (what, lsn);
    }

    /// Some work failed, and will be tried again.
    pub(super) fn tell_failed(&self, what: &'static str, error: &Error) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            target: "evenkeel",
            visible_lsn = self.visible().get(),
            finding = self.told(&error.to_string()),
            "{what}"
        );
        #[cfg(not(feature = "tracing"))]
        let _ = (what, error);
    }
}
