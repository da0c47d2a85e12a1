//! Owns the segments of an open log beyond the one in use: making room, trimming,
//! recycling, and the clean close.

use std::path::Path;
use std::sync::Arc;

use super::{Log, Pool, Sealed, Tail};
use crate::error::{Error, Result};
use crate::ids::{Lsn, SegmentId};
use crate::sync::atomic::Ordering;
use crate::vfs::OpenMode;
use crate::wal::frame::{FrameKind, frame_bytes};
use crate::wal::segment::{self, SEGMENT_HEADER_BYTES, Segment, segment_path};

impl Log {
    /// Makes sure that a commit with a body of this length can be appended: space
    /// on disk is there and durable before an LSN is given.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk has no room, [`Error::Busy`] where the log is at
    /// its limit; the log is as it was.
    pub(crate) fn make_room(&self, body: usize) -> Result<()> {
        self.check()?;
        let mut pool = self.pool.lock();
        let needed = (SEGMENT_HEADER_BYTES + frame_bytes(body)) as u64;
        let current = {
            let tail = self.tail.lock();
            if tail
                .next
                .as_ref()
                .is_some_and(|next| next.capacity >= needed)
            {
                return Ok(());
            }
            tail.segment.capacity
        };
        let capacity = (current.saturating_mul(2))
            .clamp(
                self.options.segment_bytes_min,
                self.options.segment_bytes_max,
            )
            .max(needed.next_multiple_of(4096));
        let taken = self.stats.segment_bytes.load(Ordering::Relaxed);
        if taken + capacity > self.options.log_bytes_max {
            return Err(Error::Busy {
                reason: format!(
                    "the log takes {taken} bytes of at most {}: a snapshot has to be written first",
                    self.options.log_bytes_max
                ),
            });
        }
        let made = Arc::new(self.make_segment(&mut pool, capacity)?);
        let unused = self.tail.lock().next.replace(made);
        match unused {
            Some(small) => self.remove(&small.path),
            None => Ok(()),
        }
    }

    /// Makes the next segment ahead of time, once half of the current one is used.
    pub(crate) fn prepare_next(&self) -> Result<()> {
        let wanted = {
            let tail = self.tail.lock();
            tail.next.is_none() && tail.offset > tail.segment.capacity / 2 && !tail.closed
        };
        match wanted {
            true => self.make_room(0),
            false => Ok(()),
        }
    }

    fn make_segment(&self, pool: &mut Pool, capacity: u64) -> Result<Segment> {
        let id = pool.next_id;
        // Also where making it fails: a file of that number may stay behind.
        pool.next_id = id.next();
        let spare = pool.spares.iter().position(|&(_, len)| len >= capacity);
        match spare.map(|at| pool.spares.swap_remove(at)) {
            Some((path, len)) => self.recycle(&path, id, len),
            None => segment::preallocate(&*self.vfs, &self.folder, id, capacity),
        }
    }

    /// Uses a trimmed segment again: its old frames name another segment.
    fn recycle(&self, spare: &Path, id: SegmentId, capacity: u64) -> Result<Segment> {
        let path = segment_path(&self.folder, id);
        let renamed = self
            .vfs
            .rename(spare, &path)
            .and_then(|()| self.vfs.sync_dir(&self.folder));
        renamed.map_err(|e| Error::io("recycle the log segment", &path, e))?;
        segment::reopen(&*self.vfs, &self.folder, id, capacity)
    }

    /// Gives up segments whose every LSN is at most `upto`. Returns how many.
    pub(crate) fn trim(&self, upto: Lsn) -> Result<usize> {
        let mut count = 0;
        // One at a time: what could not be given up is still known, and tried again. A large
        // file takes its time to go, and whoever makes the next segment comes in between.
        while self.trim_oldest(upto)? {
            count += 1;
        }
        Ok(count)
    }

    fn trim_oldest(&self, upto: Lsn) -> Result<bool> {
        let mut pool = self.pool.lock();
        let Some(oldest) = self.oldest(upto) else {
            return Ok(false);
        };
        let path = &oldest.path;
        let wanted = pool.spares.len() < self.options.spare_segments_max
            && oldest.capacity >= self.disk.lock().current.capacity;
        if wanted {
            let spare = self.folder.join(format!("{:016x}.spare", oldest.id.get()));
            self.vfs
                .rename(path, &spare)
                .map_err(|e| Error::io("set aside", path, e))?;
            pool.spares.push((spare, oldest.capacity));
        } else {
            self.remove(path)?;
        }
        let mut disk = self.disk.lock();
        disk.sealed.remove(0);
        disk.base = oldest.last;
        self.note_segments(&disk);
        drop(disk);
        // Each before the next one goes: where the power was lost, what is left is
        // a chain from some segment on, never one with a hole.
        self.sync_folder()?;
        Ok(true)
    }

    /// The oldest segment, if its every LSN is at most `upto` and the one that follows
    /// it is durable: else a power cut could leave neither. Only who holds the pool
    /// takes it away.
    fn oldest(&self, upto: Lsn) -> Option<Sealed> {
        let disk = self.disk.lock();
        let oldest = disk.sealed.first();
        oldest
            .filter(|sealed| sealed.last <= upto && sealed.last < disk.durable)
            .cloned()
    }

    /// The last LSN before the log begins.
    pub(crate) fn base(&self) -> Lsn {
        self.disk.lock().base
    }

    /// Bytes of log that replay from `after` would read, roughly.
    pub(crate) fn bytes_behind(&self, after: Lsn) -> (u64, usize) {
        let disk = self.disk.lock();
        let behind = disk.sealed.iter().filter(|sealed| sealed.last > after);
        let (mut bytes, mut count) = behind.fold((0, 0), |(b, n), s| (b + s.bytes, n + 1));
        bytes += self.tail.lock().offset;
        count += 1;
        (bytes, count)
    }

    /// Ends the log cleanly: a close frame, synced; every segment cut to its end, and
    /// nothing left that is not under a checksum. The close frame has this time, unless
    /// the last commit has a later one.
    pub(crate) fn close(&self, time_micros: u64) -> Result<()> {
        self.check()?;
        let (lsn, next) = loop {
            let mut tail = self.tail.lock();
            if tail.closed {
                return Ok(());
            }
            if let Some(lsn) = self.append_close(&mut tail, time_micros) {
                tail.closed = true;
                break (lsn, tail.next.take());
            }
            drop(tail);
            self.make_room(0)?;
        };
        self.sync(lsn)?;
        let mut pool = self.pool.lock();
        let mut disk = self.disk.lock();
        let end = self.tail.lock().offset;
        let current = &disk.current;
        current
            .file
            .set_len(end)
            .and_then(|()| current.file.sync())
            .map_err(|e| Error::io("cut the log segment", &current.path, e))?;
        for sealed in disk
            .sealed
            .iter_mut()
            .filter(|sealed| sealed.end < sealed.bytes)
        {
            self.vfs
                .open(&sealed.path, OpenMode::Write)
                .and_then(|file| file.set_len(sealed.end).and_then(|()| file.sync()))
                .map_err(|e| Error::io("cut the log segment", &sealed.path, e))?;
            sealed.bytes = sealed.end;
        }
        let spares = std::mem::take(&mut pool.spares);
        for path in spares
            .into_iter()
            .map(|(path, _)| path)
            .chain(next.map(|n| n.path.clone()))
        {
            self.remove(&path)?;
        }
        self.sync_folder()?;
        disk.mark.sync()
    }

    fn append_close(&self, tail: &mut Tail, time_micros: u64) -> Option<Lsn> {
        let lsn = tail.last.next();
        let time = tail.last_time_micros.max(time_micros);
        self.append_frame(tail, lsn, time, FrameKind::Close, &[])
            .then_some(lsn)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.vfs
            .remove_file(path)
            .map_err(|e| Error::io("remove", path, e))
    }

    fn sync_folder(&self) -> Result<()> {
        self.vfs
            .sync_dir(&self.folder)
            .map_err(|e| Error::io("sync", &self.folder, e))
    }
}
