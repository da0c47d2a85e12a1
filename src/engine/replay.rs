//! Owns what an opening brings into memory: the commits that the log has and the image does
//! not. Where there are many of them, a thread reads and decodes ahead of who applies them.

use std::mem;
use std::path::Path;
use std::sync::Arc;

use smallvec::SmallVec;

use super::body::{BodyOp, read_body, schema_of};
use super::commit::{Batch, Op, Ops, SlotBatch};
use super::{Disk, Engine};
use crate::error::{Corruption, Error, Result};
use crate::ids::Lsn;
use crate::sync::ahead::Ahead;

/// What is handed from thread to thread at a time, in bytes of log: so little that it stays
/// in the processor's cache, so much that it is worth it.
const PART_BYTES: usize = 64 * 1024;

/// A shorter log is not worth a thread.
const ALONE_BYTES_MAX: u64 = 1024 * 1024;

/// A commit that was read from the log.
struct Decoded {
    batch: Batch,
    lsn: Lsn,
    micros: u64,
    /// Of its body.
    bytes: usize,
}

/// Some of them, and up to where these are all that there are.
struct Part {
    commits: Vec<Decoded>,
    reached: Lsn,
}

impl Engine {
    /// Brings in the commits behind an LSN, up to another one. Gives how many.
    pub(super) fn replay_log(
        self: &Arc<Self>,
        disk: &Disk,
        (mut after, upto): (Lsn, Lsn),
    ) -> Result<u64> {
        let mut count = 0;
        let is_long = disk.log.bytes_behind(after).0 > ALONE_BYTES_MAX;
        if self.options.background && is_long {
            let engine = Arc::clone(self);
            let read = Ahead::start("evenkeel-replay", move |giver| {
                let give = |part: Result<Part>| giver.give(part);
                if let Err(e) = engine.read_ahead((after, upto), &give) {
                    give(Err(e));
                }
            });
            while let Some(part) = read.as_ref().and_then(Ahead::take) {
                let part = part?;
                count += part.commits.len() as u64;
                for commit in part.commits {
                    self.replay_commit(commit)?;
                }
                after = part.reached;
            }
        }
        // All of it, or what the thread did not come to: it may have panicked.
        if after < upto {
            disk.log.replay((after, upto), |lsn, micros, body| {
                count += 1;
                self.replay_commit(self.decode(disk, (lsn, micros), body)?)
            })?;
        }
        Ok(count)
    }

    /// Reads commits, and gives them in parts until nobody wants more.
    fn read_ahead(&self, range: (Lsn, Lsn), give: &dyn Fn(Result<Part>) -> bool) -> Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        let mut commits = Vec::new();
        let mut bytes = 0;
        disk.log.replay(range, |reached, micros, body| {
            commits.push(self.decode(disk, (reached, micros), body)?);
            bytes += body.len();
            if bytes < PART_BYTES {
                return Ok(());
            }
            bytes = 0;
            let commits = mem::take(&mut commits);
            match give(Ok(Part { commits, reached })) {
                true => Ok(()),
                // Who applies them has failed, and says why.
                false => Err(Error::Closed),
            }
        })?;
        let reached = range.1;
        give(Ok(Part { commits, reached }));
        Ok(())
    }

    fn decode(&self, disk: &Disk, (lsn, micros): (Lsn, u64), body: &[u8]) -> Result<Decoded> {
        Ok(Decoded {
            batch: self.batch_of(body, lsn, disk.folder.root())?,
            lsn,
            micros,
            bytes: body.len(),
        })
    }

    fn replay_commit(&self, commit: Decoded) -> Result<()> {
        self.replay(&commit.batch, commit.lsn, commit.micros);
        self.note_logged(commit.bytes);
        // Writers were stopped at this, so there is rarely more; what is there is
        // merged in the background once the store is open.
        if !self.has_memory() {
            match self.checkpoint() {
                // It can be read all the same; writers are told when they come.
                Err(e) if e.is_disk_full() => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// The batch that a commit's body stands for.
    fn batch_of(&self, body: &[u8], lsn: Lsn, path: &Path) -> Result<Batch> {
        let mut batch = Batch {
            schema: schema_of(body),
            ..Batch::default()
        };
        let read = read_body(body, |op| {
            let malformed = || Corruption::new(path, "an op before any scope").lsn(lsn);
            let (key, op) = match op {
                BodyOp::Scope(prefix) => {
                    batch.writes.push(SlotBatch {
                        slot: self.slot(prefix),
                        clear: false,
                        ops: Ops::new(),
                    });
                    return Ok(());
                }
                BodyOp::Clear => {
                    batch.writes.last_mut().ok_or_else(malformed)?.clear = true;
                    return Ok(());
                }
                BodyOp::Put(key, cell) => (key, Op::Put(Arc::from(cell))),
                BodyOp::Delete(key) => (key, Op::Delete),
            };
            let writes = batch.writes.last_mut().ok_or_else(malformed)?;
            writes.ops.push((key.into(), op));
            Ok(())
        });
        read.map_err(|what| Corruption::new(path, what).lsn(lsn))??;
        let numbers = batch.writes.iter().map(|writes| writes.slot.number);
        let mut scopes: SmallVec<[_; 1]> = numbers.collect();
        scopes.sort_unstable();
        scopes.dedup();
        match scopes.len() == batch.writes.len() {
            true => Ok(batch),
            false => Err(Corruption::new(path, "a commit has a scope twice")
                .lsn(lsn)
                .into()),
        }
    }
}
