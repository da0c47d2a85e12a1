//! Owns reading everything through: image, snapshot and log.

use std::sync::Arc;

use super::image_state::Image;
use super::report::{Healed, Verification};
use super::snapshot;
use super::{Disk, Engine};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::image::ImageError;
use crate::observe::{self, Work};
use crate::sync::atomic::Ordering;

impl Engine {
    /// Reads every block, the snapshot and the log, and heals what can be healed.
    pub(crate) fn verify(&self) -> Result<Verification> {
        self.check()?;
        let mut report = Verification::default();
        let Some(disk) = &self.disk else {
            return Ok(report);
        };
        let span = observe::span(Work::Verify, Some(disk.folder.root()));
        span.reached(self.visible());
        let healed_before = disk.recovery.lock().healed.len();
        if let Some((image, e)) = self.verify_image(disk, &mut report)? {
            // That the backend refused once is no damage: opened again it is asked again.
            self.heal(&image, &e)?;
            if let Some((_, e)) = self.verify_image(disk, &mut report)? {
                return Err(self.beyond_healing(&e));
            }
        }
        let copies = self.verify_copies(disk, &mut report)?;
        if let Some(what) = copies {
            // Everything is whole in memory and image: a new copy replaces the log
            // and the snapshot that are not.
            self.checkpoint()?;
            let lsn = self.snapshot()?;
            let healed = Healed {
                path: disk.folder.root().to_path_buf(),
                what,
                action: format!(
                    "a new snapshot was written at LSN {lsn}, and the log trimmed to it"
                ),
            };
            self.tell_healed(&healed);
            disk.recovery.lock().healed.push(healed);
        }
        let recovery = disk.recovery.lock();
        report.healed = recovery
            .healed
            .get(healed_before..)
            .unwrap_or_default()
            .to_vec();
        Ok(report)
    }

    /// Reads the image; gives the error of a backend that refused.
    fn verify_image(
        &self,
        disk: &Disk,
        report: &mut Verification,
    ) -> Result<Option<(Arc<Image>, ImageError)>> {
        let Some(image) = self.image() else {
            return Ok(None);
        };
        (report.blocks, report.entries) = (0, 0);
        for meta in &image.manifest.blocks {
            self.check()?;
            match image.blocks().and_then(|blocks| blocks.read_uncached(meta)) {
                Ok(block) => {
                    report.blocks += 1;
                    report.entries += block.len() as u64;
                }
                Err(e) if e.kind.is_of_the_disk() => return Ok(Some((image, e))),
                Err(e) => {
                    let path = disk.folder.image(image.manifest.folder);
                    report.damage.push(Corruption::new(path, e.to_string()));
                    // Rebuilds all of it, so one finding is enough.
                    self.heal(&image, &e)?;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Reads snapshot and log; gives what is wrong with them.
    fn verify_copies(&self, disk: &Disk, report: &mut Verification) -> Result<Option<String>> {
        // Neither is trimmed or replaced meanwhile.
        let _still = disk.snapshotting.lock();
        let lsn = Lsn::new(disk.snapshot.load(Ordering::Acquire));
        let mut found = None;
        if lsn > Lsn::ZERO {
            let path = disk.folder.snapshot(lsn);
            match snapshot::verify(&*disk.folder.vfs, &path, Some(self.store)) {
                Ok(info) => report.snapshot_bytes += info.file_len,
                Err(Error::Corrupt(damage)) => {
                    found = Some(damage.to_string());
                    report.damage.push(*damage);
                }
                Err(e) => return Err(e),
            }
        }
        let mut commits = 0;
        let read = disk.log.replay((lsn, disk.log.durable()), |_, _, _| {
            commits += 1;
            Ok(())
        });
        report.commits = commits;
        match read {
            Ok(()) => {}
            Err(Error::Corrupt(damage)) => {
                found = Some(damage.to_string());
                report.damage.push(*damage);
            }
            Err(e) => return Err(e),
        }
        Ok(found)
    }
}
