//! Owns the open log: appending, writing, syncing and the durable mark.
//!
//! Appending copies a frame into a buffer under a short lock. Whoever needs it on
//! disk takes the lead (`log/group.rs`): it writes and syncs all that has gathered,
//! without the lock, while others append the next group and wait.
//!
//! What stays true: bytes are written in LSN order; a segment is begun only once
//! the one before it is synced; the mark is written after the sync and before
//! anybody is told; after a failed write or sync nothing is acknowledged any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::LogOptions;
use super::frame::{self, FrameKind, frame_bytes};
use super::mark::{Mark, MarkWriter};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use crate::clock;
use crate::error::{Error, Result};
use crate::ids::{Epoch, Lsn, SegmentId, StoreId};
use crate::observe::{self, Count, Figure, Spread, Summary, Work};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};
use crate::vfs::Vfs;

mod group;
mod opening;
mod reclaim;
mod segments;
mod service;
mod tail;
mod wakers;

use group::{Need, Progress};
pub(crate) use tail::{LogPlace, Passed};
pub(crate) use wakers::{Seat, Wakers};

/// Zeros behind the last frame, so that a reader of a recycled segment sees where
/// it ends.
const TERMINATOR: [u8; 8] = [0; 8];

/// An open log. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub(crate) struct Log {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    store: StoreId,
    epoch: Epoch,
    options: LogOptions,
    tail: Mutex<Tail>,
    disk: Mutex<Disk>,
    pool: Mutex<Pool>,
    progress: Mutex<Progress>,
    /// Something became durable, for those who follow the log.
    changed: Condvar,
    requested: Condvar,
    durable: AtomicU64,
    appended: AtomicU64,
    pending_bytes: AtomicU64,
    /// Set with `Progress::poison`, so that asking costs nothing.
    poisoned: AtomicBool,
    /// The shortest time that was asked for and not served yet, in microseconds.
    asked_micros: AtomicU64,
    stats: Counters,
}

/// The end that frames are appended to, in memory.
#[derive(Debug)]
struct Tail {
    pending: Vec<u8>,
    runs: Vec<Run>,
    segment: Arc<Segment>,
    offset: u64,
    next: Option<Arc<Segment>>,
    last: Lsn,
    last_time_micros: u64,
    closed: bool,
}

/// A part of the pending bytes that goes to one place.
#[derive(Debug)]
struct Run {
    segment: Arc<Segment>,
    offset: u64,
    start: usize,
    last: Lsn,
    /// Set where the run begins with the segment's header: the LSN before it.
    begins: Option<Lsn>,
}

/// What only the leader touches.
#[derive(Debug)]
struct Disk {
    current: Arc<Segment>,
    current_last: Lsn,
    /// Where its last frame ends.
    current_end: u64,
    /// Synced and marked. Others hear of it a little later, when the leader is done.
    durable: Lsn,
    unsynced_bytes: u64,
    mark: MarkWriter,
    buffer: Vec<u8>,
    sealed: Vec<Sealed>,
    /// The last LSN before the oldest segment.
    base: Lsn,
}

/// What segments are made of. Locked for as long as one is made or given up, which
/// the leader does not wait for. Locks are taken in the order pool, disk, tail.
#[derive(Debug)]
struct Pool {
    spares: Vec<(PathBuf, u64)>,
    next_id: SegmentId,
}

/// A segment that is written no more.
#[derive(Clone, Debug)]
struct Sealed {
    id: SegmentId,
    path: PathBuf,
    last: Lsn,
    /// Where its last frame that counts ends; what is behind is under no checksum,
    /// and a clean close cuts it off.
    end: u64,
    bytes: u64,
    capacity: u64,
}

#[derive(Debug, Default)]
struct Counters {
    frames: AtomicU64,
    bytes: AtomicU64,
    writes: AtomicU64,
    syncs: Count,
    /// What a sync takes, in nanoseconds.
    sync: Spread,
    /// How many commits a sync makes durable.
    group: Spread,
    segments: AtomicU64,
    segment_bytes: AtomicU64,
}

/// What the log has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogStats {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) writes: u64,
    pub(crate) syncs: u64,
    pub(crate) sync: Summary,
    pub(crate) group: Summary,
    pub(crate) segments: u64,
    pub(crate) segment_bytes: u64,
}

impl Log {
    /// Tells its figures as those of this store from now on.
    pub(crate) fn tell_as(&mut self, store: &str) {
        let syncs = Figure::count("evenkeel_log_syncs_total", "Syncs of the log");
        let sync = Figure::seconds("evenkeel_sync_seconds", "One sync of the log");
        let group = "Commits that one sync made durable";
        let group = Figure::count("evenkeel_group_commits", group);
        self.stats.syncs = Count::new(syncs, store);
        self.stats.sync = Spread::new(sync, store);
        self.stats.group = Spread::new(group, store);
    }

    /// Appends a commit and gives it the next LSN, or `None` where space must be
    /// made first by [`Log::make_room`]. Nothing is written yet.
    pub(crate) fn append(&self, time_micros: u64, body: &[u8]) -> Result<Option<Lsn>> {
        let mut tail = self.tail.lock();
        if tail.closed {
            return Err(Error::Closed);
        }
        let lsn = tail.last.next();
        let appended = self.append_frame(&mut tail, lsn, time_micros, FrameKind::Commit, body);
        Ok(appended.then_some(lsn))
    }

    fn append_frame(
        &self,
        tail: &mut Tail,
        lsn: Lsn,
        time_micros: u64,
        kind: FrameKind,
        body: &[u8],
    ) -> bool {
        let length = frame_bytes(body.len());
        if tail.offset + length as u64 > tail.segment.capacity && !self.rotate(tail, length) {
            return false;
        }
        if tail
            .runs
            .last()
            .is_none_or(|run| run.segment.id != tail.segment.id)
        {
            let start = tail.pending.len();
            let run = Run {
                segment: Arc::clone(&tail.segment),
                offset: tail.offset,
                start,
                last: lsn,
                begins: None,
            };
            tail.runs.push(run);
        }
        frame::append(
            &mut tail.pending,
            tail.segment.id,
            self.epoch,
            lsn,
            time_micros,
            kind,
            body,
        );
        let half = tail.segment.capacity / 2;
        if tail.offset <= half && tail.offset + length as u64 > half && tail.next.is_none() {
            self.progress.lock().prepare = true;
            self.requested.notify_all();
        }
        tail.offset += length as u64;
        tail.last = lsn;
        tail.last_time_micros = time_micros;
        if let Some(run) = tail.runs.last_mut() {
            run.last = lsn;
        }
        self.appended.store(lsn.get(), Ordering::Release);
        let pending = tail.pending.len();
        let full = self.options.buffer_bytes;
        if pending >= full && pending - length < full {
            self.progress.lock().write = true;
            self.requested.notify_all();
        }
        self.pending_bytes.store(pending as u64, Ordering::Relaxed);
        self.stats.frames.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Goes on to the prepared segment, if it has room for a frame of this length.
    fn rotate(&self, tail: &mut Tail, length: usize) -> bool {
        let needed = (SEGMENT_HEADER_BYTES + length) as u64;
        let Some(next) = tail.next.take_if(|next| next.capacity >= needed) else {
            return false;
        };
        let header = SegmentHeader {
            store: self.store,
            id: next.id,
            epoch: self.epoch,
            before: tail.segment.id,
            base: tail.last,
            time_micros: tail.last_time_micros,
        };
        tail.runs.push(Run {
            segment: Arc::clone(&next),
            offset: 0,
            start: tail.pending.len(),
            last: tail.last,
            begins: Some(tail.last),
        });
        tail.pending.extend_from_slice(&header.encode());
        tail.segment = next;
        tail.offset = SEGMENT_HEADER_BYTES as u64;
        true
    }

    /// Waits while too much is appended and not written. What is written and not
    /// synced is bounded by whoever writes.
    pub(crate) fn throttle(&self) -> Result<()> {
        if self.pending_bytes.load(Ordering::Relaxed) > self.options.buffer_bytes_max as u64 {
            self.reach(self.last(), Need::Written)?;
        }
        Ok(())
    }

    /// The LSN of the last frame.
    pub(crate) fn last(&self) -> Lsn {
        Lsn::new(self.appended.load(Ordering::Acquire))
    }

    /// Everything up to this LSN is durable.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    /// Returns once everything up to `lsn` was handed to the operating system.
    pub(crate) fn write(&self, lsn: Lsn) -> Result<()> {
        self.reach(lsn, Need::Written)
    }

    /// Returns once everything up to `lsn` is durable.
    pub(crate) fn sync(&self, lsn: Lsn) -> Result<()> {
        if self.durable() >= lsn {
            return Ok(());
        }
        self.reach(lsn, Need::Durable)
    }

    /// Writes all that is pending, and syncs it if need be. Only the leader calls it.
    fn lead(&self, need: Need) -> Result<(Lsn, Option<Lsn>)> {
        let mut disk = self.disk.lock();
        let mut bytes = std::mem::take(&mut disk.buffer);
        bytes.clear();
        let (runs, last) = {
            let mut tail = self.tail.lock();
            std::mem::swap(&mut tail.pending, &mut bytes);
            self.pending_bytes.store(0, Ordering::Relaxed);
            (std::mem::take(&mut tail.runs), tail.last)
        };
        let written = self.write_runs(&mut disk, &mut bytes, &runs);
        if bytes.capacity() <= self.options.buffer_bytes_max {
            disk.buffer = bytes;
        }
        written?;
        let due = disk.unsynced_bytes > self.options.unsynced_bytes_max;
        if need == Need::Written && !due {
            return Ok((last, None));
        }
        if disk.unsynced_bytes > 0 {
            self.sync_current(&mut disk)?;
        }
        Ok((last, Some(last)))
    }

    fn write_runs(&self, disk: &mut Disk, bytes: &mut Vec<u8>, runs: &[Run]) -> Result<()> {
        let frames_end = bytes.len();
        if let Some(last) = runs.last() {
            let end = last.offset + (bytes.len() - last.start) as u64;
            if end + TERMINATOR.len() as u64 <= last.segment.capacity {
                bytes.extend_from_slice(&TERMINATOR);
            }
        }
        let bytes_end = bytes.len();
        for (at, run) in runs.iter().enumerate() {
            let end = runs.get(at + 1).map_or(bytes_end, |next| next.start);
            if let Some(base) = run.begins {
                self.begin_segment(disk, run, base)?;
            }
            let header = if run.begins.is_some() {
                SEGMENT_HEADER_BYTES
            } else {
                0
            };
            let durable = disk.durable;
            let part = &mut bytes[run.start..end];
            frame::seal(&mut part[header..], durable);
            let segment = &run.segment;
            segment
                .file
                .write_at(part, run.offset)
                .map_err(|e| Error::io("write to the log segment", &segment.path, e))?;
            disk.current_last = run.last;
            disk.current_end = run.offset + (end.min(frames_end) - run.start) as u64;
            disk.unsynced_bytes += part.len() as u64;
            self.stats
                .bytes
                .fetch_add(part.len() as u64, Ordering::Relaxed);
            self.stats.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn begin_segment(&self, disk: &mut Disk, run: &Run, base: Lsn) -> Result<()> {
        if disk.unsynced_bytes > 0 {
            self.sync_current(disk)?;
        }
        let old = std::mem::replace(&mut disk.current, Arc::clone(&run.segment));
        disk.sealed.push(Sealed {
            id: old.id,
            path: old.path.clone(),
            last: base,
            end: disk.current_end,
            bytes: old.capacity,
            capacity: old.capacity,
        });
        self.note_segments(disk);
        Ok(())
    }

    /// For [`Log::stats`], which must not wait for a sync.
    fn note_segments(&self, disk: &Disk) {
        let sealed: u64 = disk.sealed.iter().map(|sealed| sealed.bytes).sum();
        let count = disk.sealed.len() as u64 + 1;
        let bytes = sealed + disk.current.capacity;
        self.stats.segments.store(count, Ordering::Relaxed);
        self.stats.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Syncs the current segment, then writes the mark: in this order, and before
    /// anybody hears of it.
    fn sync_current(&self, disk: &mut Disk) -> Result<()> {
        let span = observe::span(Work::Sync, self.folder.parent());
        span.reached(disk.current_last);
        let begun = clock::monotonic();
        let segment = &disk.current;
        segment
            .file
            .sync()
            .map_err(|e| Error::io("sync the log segment", &segment.path, e))?;
        self.note_sync(disk, begun);
        disk.unsynced_bytes = 0;
        let mark = Mark {
            epoch: self.epoch,
            segment: segment.id,
            durable: disk.current_last,
        };
        disk.durable = disk.current_last;
        disk.mark.write(mark)
    }

    fn note_sync(&self, disk: &Disk, begun: Instant) {
        self.stats.syncs.increment();
        self.stats.sync.record_since(begun);
        let group = disk.current_last.get().saturating_sub(disk.durable.get());
        self.stats.group.record(group);
    }

    /// The failure that stopped the log, if one did.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.poisoned.load(Ordering::Acquire) {
            true => self.progress.lock().check(),
            false => Ok(()),
        }
    }

    /// What was done so far.
    pub(crate) fn stats(&self) -> LogStats {
        LogStats {
            frames: self.stats.frames.load(Ordering::Relaxed),
            bytes: self.stats.bytes.load(Ordering::Relaxed),
            writes: self.stats.writes.load(Ordering::Relaxed),
            syncs: self.stats.syncs.get(),
            sync: self.stats.sync.summary(),
            group: self.stats.group.summary(),
            segments: self.stats.segments.load(Ordering::Relaxed),
            segment_bytes: self.stats.segment_bytes.load(Ordering::Relaxed),
        }
    }
}
