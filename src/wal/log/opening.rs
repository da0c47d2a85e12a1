//! Owns opening the log: the scan, the new segment under a new epoch that carries
//! over what no mark vouches for, and reading commits back for replay.

use std::path::Path;
use std::sync::Arc;

use super::reclaim::reclaim;
use super::{Counters, Disk, Log, Pool, Progress, Sealed, Tail};
use crate::error::{Corruption, Error, Result};
use crate::ids::{Epoch, Lsn, OUT_OF_REACH, SegmentId};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Condvar, Mutex};
use crate::vfs::Vfs;
use crate::wal::LogOptions;
use crate::wal::frame::{self, FrameKind};
use crate::wal::mark::{Mark, MarkWriter};
use crate::wal::reader::Frames;
use crate::wal::scan::{self, Known, LogLoss, Room, Scan, SegmentInfo, TailCut};
use crate::wal::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};

/// LSNs that are left out after a crash: more than can have been given to commits
/// that left no trace, since what is unsynced is bounded.
const LSN_JUMP: u64 = 1 << 24;

/// What file systems give room in.
const PAGE_BYTES: u64 = 4096;

/// Room for a commit that deletes something, and for the close frame.
const SMALL_COMMIT_BYTES: u64 = 1024;

/// A log that was opened, and what was found on the way.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) log: Log,
    /// The opening's number.
    pub(crate) epoch: Epoch,
    /// The last LSN that was found.
    pub(crate) last: Lsn,
    /// The highest durable mark that was found.
    pub(crate) mark: Lsn,
    /// Store time of the last frame.
    pub(crate) last_time_micros: u64,
    pub(crate) closed_cleanly: bool,
    pub(crate) cut: Option<TailCut>,
    pub(crate) mark_damage: Option<String>,
    pub(crate) loss: Option<LogLoss>,
}

/// A log that was read, and not changed.
#[derive(Debug)]
pub(crate) struct Found {
    known: Known,
    scan: Scan,
}

impl Log {
    /// Reads the log in `folder`, with its marks in `mark_path`; `commits` is told the
    /// LSN and the body of each commit that counts, in order. Changes nothing: whoever
    /// refuses what it finds leaves it as it is.
    ///
    /// # Errors
    /// As [`scan::scan`].
    pub(crate) fn find(
        vfs: &dyn Vfs,
        folder: &Path,
        mark_path: &Path,
        known: Known,
        commits: &mut dyn FnMut(Lsn, &[u8]),
    ) -> Result<Found> {
        let scan = scan::scan(vfs, folder, mark_path, known, commits)?;
        Ok(Found { known, scan })
    }

    /// Opens the log that was found there.
    ///
    /// When it returns, what it kept is durable
    /// under a new epoch, and nothing that was found behind it counts any more.
    ///
    /// # Errors
    /// [`Error::DiskFull`] where room is scarce and there is not even that;
    /// [`Error::Io`].
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        folder: &Path,
        mark_path: &Path,
        options: LogOptions,
        found: Found,
    ) -> Result<Opening> {
        let Found { known, mut scan } = found;
        let (store, vouched) = (known.store, known.vouched);
        if known.room == Room::Scarce {
            reclaim(&*vfs, folder, &mut scan)?;
        }
        let epoch = scan.epoch.next();
        let id = scan.highest_id.next();
        let base = scan.mark.min(scan.last);
        let lost = scan.loss.as_ref().map_or(Lsn::ZERO, |loss| loss.durable);
        let seen = scan.last.max(vouched).max(lost);
        let fresh = scan.segments.is_empty() && known.fresh_base.is_some();
        let open_lsn = match scan.closed_cleanly || seen == Lsn::ZERO || fresh {
            true => seen.next(),
            false => seen.advanced(LSN_JUMP),
        };
        let next = open_lsn.get().max(id.get()).max(epoch.get());
        if next >= OUT_OF_REACH / 2 {
            // The next opening would take what this one writes for damage.
            let what = format!("its numbers, now at {next}, were never given");
            return Err(Corruption::new(folder, what).lsn(scan.last).into());
        }
        // No mark vouches for anything in it, so not for its header either: the chain
        // must not need it, and all of it is carried over.
        let superseded = scan.segments.pop_if(|last| last.header.base >= base);
        let before = match &superseded {
            Some(last) => last.header.before,
            None => scan
                .segments
                .last()
                .map_or(SegmentId::ZERO, |last| last.header.id),
        };
        let header = SegmentHeader {
            store,
            id,
            epoch,
            before,
            base,
            time_micros: scan.last_time_micros,
        };
        let mut content = header.encode();
        let tail = superseded.as_ref().or(scan.segments.last());
        carry_over(&*vfs, tail, scan.last, &header, &mut content)?;
        scan.garbage.extend(superseded.map(|last| last.path));
        frame::append(
            &mut content,
            id,
            epoch,
            open_lsn,
            scan.last_time_micros,
            FrameKind::Open,
            &scan.last.get().to_le_bytes(),
        );
        frame::seal(&mut content[SEGMENT_HEADER_BYTES..], base);
        let end = content.len() as u64;
        let least = (end + SMALL_COMMIT_BYTES).next_multiple_of(PAGE_BYTES);
        let capacity = match known.room {
            Room::Ample => options
                .segment_bytes_min
                .max(end.next_multiple_of(PAGE_BYTES)),
            Room::Scarce => least,
        };
        let mark = Mark {
            epoch,
            segment: id,
            durable: open_lsn,
        };
        let made = segment::create_with(&*vfs, folder, id, &content, capacity).and_then(|made| {
            let marks = MarkWriter::create(&*vfs, mark_path, store, mark)?;
            Ok((Arc::new(made), marks))
        });
        let (current, marks) = made.map_err(|e| match known.room {
            Room::Scarce if e.is_disk_full() => Error::DiskFull {
                path: folder.to_path_buf(),
                needed: least + PAGE_BYTES,
            },
            _ => e,
        })?;
        clear_away(&*vfs, folder, &scan)?;
        let sealed = sealed(&*vfs, &scan, base)?;
        let log = Self {
            tail: Mutex::new(Tail {
                pending: Vec::new(),
                runs: Vec::new(),
                segment: Arc::clone(&current),
                offset: end,
                next: None,
                last: open_lsn,
                last_time_micros: scan.last_time_micros,
                closed: false,
            }),
            disk: Mutex::new(Disk {
                current,
                current_last: open_lsn,
                current_end: end,
                durable: open_lsn,
                unsynced_bytes: 0,
                mark: marks,
                buffer: Vec::new(),
                sealed,
                base: scan
                    .segments
                    .first()
                    .map_or(base, |first| first.header.base),
            }),
            pool: Mutex::new(Pool {
                spares: Vec::new(),
                next_id: id.next(),
            }),
            progress: Mutex::new(Progress::at(open_lsn)),
            changed: Condvar::new(),
            requested: Condvar::new(),
            durable: AtomicU64::new(open_lsn.get()),
            appended: AtomicU64::new(open_lsn.get()),
            pending_bytes: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            asked_micros: AtomicU64::new(u64::MAX),
            stats: Counters::default(),
            vfs,
            folder: folder.to_path_buf(),
            store,
            epoch,
            options,
        };
        log.note_segments(&log.disk.lock());
        Ok(Opening {
            log,
            epoch,
            last: scan.last,
            mark: scan.mark,
            last_time_micros: scan.last_time_micros,
            closed_cleanly: scan.closed_cleanly,
            cut: scan.cut,
            mark_damage: scan.mark_damage,
            loss: scan.loss,
        })
    }
}

/// Copies the commits above the mark into the new segment.
fn carry_over(
    vfs: &dyn Vfs,
    tail: Option<&SegmentInfo>,
    last: Lsn,
    header: &SegmentHeader,
    content: &mut Vec<u8>,
) -> Result<()> {
    let Some(tail) = tail.filter(|_| last > header.base) else {
        return Ok(());
    };
    let tail = (tail.header.id, tail.path.as_path());
    visit(vfs, tail, header.base, last, &mut |frame| {
        frame::append(
            content,
            header.id,
            header.epoch,
            frame.lsn,
            frame.time_micros,
            frame.kind,
            frame.body,
        );
        Ok(())
    })
    .map(drop)
}

/// Visits the frames of a segment with `after < lsn <= last`, which must be there.
/// Gives where the last of them ends.
fn visit(
    vfs: &dyn Vfs,
    (id, path): (SegmentId, &Path),
    after: Lsn,
    last: Lsn,
    visitor: &mut dyn FnMut(frame::Frame<'_>) -> Result<()>,
) -> Result<u64> {
    let mut frames = Frames::open(vfs, path, id)?;
    let mut at = SEGMENT_HEADER_BYTES as u64;
    let mut reached = Lsn::ZERO;
    while reached < last {
        let frame = frames.at(at)?.map_err(|none| {
            let what = format!("a frame that was there before is not: {none:?}");
            segment::damaged(path, id, at, reached.next(), what)
        })?;
        at += frame.length as u64;
        reached = frame.lsn;
        if frame.lsn > after && frame.lsn <= last {
            visitor(frame)?;
        }
    }
    Ok(at)
}

/// Removes what nothing refers to; what salvage gave up is kept under another name.
fn clear_away(vfs: &dyn Vfs, folder: &Path, scan: &Scan) -> Result<()> {
    for path in &scan.garbage {
        match vfs.remove_file(path) {
            // The new segment was made under the temporary name of an interrupted one.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|e| Error::io("remove", path, e))?,
        }
        // Oldest first, one by one, as in trimming.
        vfs.sync_dir(folder)
            .map_err(|e| Error::io("sync", folder, e))?;
    }
    for path in &scan.aside {
        let mut name = path.as_os_str().to_owned();
        name.push(".lost");
        vfs.rename(path, Path::new(&name))
            .map_err(|e| Error::io("put aside", path, e))?;
    }
    if !scan.aside.is_empty() {
        vfs.sync_dir(folder)
            .map_err(|e| Error::io("sync", folder, e))?;
    }
    Ok(())
}

fn sealed(vfs: &dyn Vfs, scan: &Scan, base: Lsn) -> Result<Vec<Sealed>> {
    let sealed = scan.segments.iter().map(|info| {
        let last = info.last.min(base);
        let end = match last < info.last {
            // The new segment has what is above.
            true => visit(vfs, (info.header.id, &info.path), last, last, &mut |_| {
                Ok(())
            })?,
            false => info.end,
        };
        Ok(Sealed {
            id: info.header.id,
            path: info.path.clone(),
            last,
            end,
            bytes: info.len,
            capacity: info.len,
        })
    });
    sealed.collect()
}

impl Log {
    /// Gives every commit with `after < lsn <= upto`, in order: LSN, store time and
    /// body. `upto` must be durable.
    pub(crate) fn replay(
        &self,
        (after, upto): (Lsn, Lsn),
        mut visitor: impl FnMut(Lsn, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut parts: Vec<_> = {
            let disk = self.disk.lock();
            let current = (
                disk.current.id,
                disk.current.path.clone(),
                disk.current_last,
            );
            let sealed = disk.sealed.iter().map(|s| (s.id, s.path.clone(), s.last));
            sealed.chain([current]).collect()
        };
        parts.retain(|&(_, _, last)| last > after);
        let mut after = after;
        for (id, path, last) in parts {
            let last = last.min(upto);
            if last <= after {
                continue;
            }
            visit(
                &*self.vfs,
                (id, &path),
                after,
                last,
                &mut |frame| match frame.kind {
                    FrameKind::Commit => visitor(frame.lsn, frame.time_micros, frame.body),
                    FrameKind::Open | FrameKind::Close => Ok(()),
                },
            )?;
            after = after.max(last);
        }
        Ok(())
    }
}
