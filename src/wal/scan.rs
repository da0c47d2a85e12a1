//! Owns reading the log back: which segments form the chain, where it ends, what
//! may be cut off as a torn tail and what is damage. Reads only; changes nothing.
//!
//! The rule: up to the highest durable mark found anywhere everything must be
//! there and whole; a frame above it counts only if all before it are whole.

use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::frame::{Frame, FrameKind, NoFrame, u64_at};
use super::mark;
use super::reader::Frames;
use super::segment::{
    Head, SEGMENT_HEADER_BYTES, SegmentHeader, damaged, parse_name, segment_path,
};
use crate::error::{Corruption, Error, Result};
use crate::ids::{Epoch, Lsn, SegmentId, StoreId};
use crate::vfs::{OpenMode, Vfs, list};

/// A torn tail that was cut off: bytes behind the last whole frame that no
/// durable mark vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailCut {
    /// The segment's file.
    pub path: PathBuf,
    /// The segment.
    pub segment: SegmentId,
    /// Where the cut was made.
    pub offset: u64,
    /// Bytes that were cut off.
    pub bytes: u64,
    /// The first LSN that may have been in them.
    pub lsn: Lsn,
    /// What was found at the cut.
    pub what: String,
}

/// What salvage gave up: all of the log from a damaged place on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLoss {
    /// The damage that ended the log.
    pub damage: Corruption,
    /// The last LSN that was kept.
    pub kept: Lsn,
    /// The last LSN that is known to have been durable.
    pub durable: Lsn,
}

/// A segment of the chain.
#[derive(Clone, Debug)]
pub(super) struct SegmentInfo {
    pub(super) header: SegmentHeader,
    pub(super) path: PathBuf,
    /// Where the last frame that counts ends.
    pub(super) end: u64,
    /// The LSN of that frame; the header's base if there is none.
    pub(super) last: Lsn,
    pub(super) len: u64,
}

/// What the folder of the log holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) segments: Vec<SegmentInfo>,
    /// Files that nothing refers to: unused, interrupted or trimmed.
    pub(super) garbage: Vec<PathBuf>,
    /// Files behind damage that salvage puts aside.
    pub(super) aside: Vec<PathBuf>,
    pub(super) mark: Lsn,
    /// Where LSNs were left out: the one before and the one behind.
    gaps: Vec<(Lsn, Lsn)>,
    pub(super) last: Lsn,
    pub(super) last_time_micros: u64,
    pub(super) epoch: Epoch,
    pub(super) highest_id: SegmentId,
    pub(super) closed_cleanly: bool,
    pub(super) cut: Option<TailCut>,
    pub(super) mark_damage: Option<String>,
    pub(super) loss: Option<LogLoss>,
}

/// What is known before the log is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) store: StoreId,
    /// The LSN of the newest snapshot: the log should reach back to it, and what
    /// is older was being trimmed.
    pub(crate) snapshot: Lsn,
    /// The log must reach back to this LSN, to which there is an image.
    pub(crate) reach: Lsn,
    /// Something outside the log holds this LSN, so the log was durable up to it.
    pub(crate) vouched: Lsn,
    /// There is no log yet; it is to begin behind this LSN.
    pub(crate) fresh_base: Option<Lsn>,
    /// End the log at damage, and report it, instead of refusing.
    pub(crate) salvage: bool,
    pub(crate) room: Room,
}

/// How much an opening takes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A whole segment.
    Ample,
    /// What is carried over and a small commit, such as one that deletes something;
    /// what the log does without goes first. The file of the marks is a page more.
    Scarce,
}

/// Told of each commit that counts, in order: its LSN and its body.
pub(super) type Commits<'a> = &'a mut dyn FnMut(Lsn, &[u8]);

/// Reads the folder; `commits` is told of each commit in it.
///
/// # Errors
/// [`Error::Corrupt`] for damage, unless `known.salvage`; [`Error::NewerFormat`];
/// [`Error::Io`] where a read fails, which is never taken for the end of the log.
pub(super) fn scan(
    vfs: &dyn Vfs,
    folder: &Path,
    mark_path: &Path,
    known: Known,
    commits: Commits<'_>,
) -> Result<Scan> {
    let marks = mark::read(vfs, mark_path, known.store)?;
    let mut scan = Scan::default();
    let (used, bad) = read_heads(vfs, folder, known.store, &mut scan)?;
    scan.highest_id = scan.highest_id.max(marks.highest.segment);
    scan.epoch = scan.epoch.max(marks.highest.epoch);
    scan.mark = marks.highest.durable.max(known.vouched);
    for head in &used {
        scan.mark = scan.mark.max(head.header.base);
        scan.epoch = scan.epoch.max(head.header.epoch);
    }
    // The marks are made before the store is one; only where the log is being made with
    // it are there none yet.
    scan.mark_damage = marks.damage.filter(|_| known.fresh_base.is_none());
    match chain((vfs, folder), used, &bad, known, &mut scan, commits) {
        Ok(()) => {}
        Err(Error::Corrupt(damage)) if known.salvage => {
            scan.cut = None;
            scan.closed_cleanly = false;
            scan.aside.extend(bad.iter().map(|head| head.path.clone()));
            scan.loss = Some(LogLoss {
                damage: *damage,
                kept: scan.last,
                durable: scan.mark,
            });
            scan.mark = scan.mark.min(scan.last);
        }
        Err(e) => return Err(e),
    }
    // A mark between two frames says no more than that the first is durable, and no
    // segment can go on from it.
    let gap = scan
        .gaps
        .iter()
        .find(|(before, behind)| (before.next()..*behind).contains(&scan.mark));
    if let Some(&(before, _)) = gap {
        scan.mark = before;
    }
    Ok(scan)
}

struct UsedHead {
    header: SegmentHeader,
    path: PathBuf,
    len: u64,
}

struct BadHead {
    id: SegmentId,
    path: PathBuf,
    len: u64,
    what: String,
}

fn read_heads(
    vfs: &dyn Vfs,
    folder: &Path,
    store: StoreId,
    scan: &mut Scan,
) -> Result<(Vec<UsedHead>, Vec<BadHead>)> {
    let mut used = Vec::new();
    let mut bad = Vec::new();
    let entries = list(vfs, folder).map_err(|e| Error::io("list", folder, e))?;
    for entry in entries {
        let path = folder.join(&entry.name);
        let Some(id) = parse_name(&entry.name) else {
            if entry.name.ends_with(".log.tmp") || entry.name.ends_with(".spare") {
                scan.garbage.push(path);
            }
            continue;
        };
        scan.highest_id = scan.highest_id.max(id);
        let file = vfs
            .open(&path, OpenMode::Read)
            .map_err(|e| Error::io("open", &path, e))?;
        let mut bytes = vec![0; SEGMENT_HEADER_BYTES];
        let read = file
            .read_at(&mut bytes, 0)
            .map_err(|e| Error::io("read", &path, e))?;
        bytes.truncate(read);
        match SegmentHeader::decode(&bytes, id, store, &path)? {
            Head::Used(header) => used.push(UsedHead {
                header,
                path,
                len: entry.len,
            }),
            Head::Unused => scan.garbage.push(path),
            Head::Bad(what) => bad.push(BadHead {
                id,
                path,
                len: entry.len,
                what,
            }),
        }
    }
    Ok((used, bad))
}

/// Follows the chain of segments and fills in `scan` as far as it gets.
fn chain(
    (vfs, folder): (&dyn Vfs, &Path),
    mut used: Vec<UsedHead>,
    bad: &[BadHead],
    known: Known,
    scan: &mut Scan,
    commits: Commits<'_>,
) -> Result<()> {
    drop_superseded(&mut used, scan);
    // What lies before the newest segment that reaches back far enough was being
    // trimmed when somebody stopped. To the snapshot of that name is not far enough
    // where only an older one can be read.
    let needed = known.snapshot.min(known.reach);
    let reaches = |head: &UsedHead| head.header.base <= needed;
    let usable = |head: &&UsedHead| head.header.base <= known.reach;
    let first = used
        .iter()
        .rposition(reaches)
        .or(used.first().filter(usable).map(|_| 0));
    let Some(first) = first else {
        return no_beginning(folder, &used, bad, known, scan);
    };
    scan.garbage
        .extend(used.drain(..first).map(|head| head.path));
    let mut used = used.into_iter().peekable();
    scan.last = used.peek().map_or(Lsn::ZERO, |head| head.header.base);
    let mut before: Option<SegmentId> = None;
    while let Some(head) = used.next() {
        if let Some(expected) = before.filter(|&id| id != head.header.before) {
            put_aside(scan, &head, used);
            let id = head.header.before.max(expected.next());
            return Err(missing(folder, id, scan.last.next(), bad).into());
        }
        before = Some(head.header.id);
        let limit = used.peek().map(|next| next.header.base);
        let mut frames = Frames::open(vfs, &head.path, head.header.id)?;
        let walked = walk(&mut frames, &head, limit, scan, commits);
        scan.segments.push(SegmentInfo {
            end: walked.as_ref().map_or_else(|stop| stop.offset, |&end| end),
            last: scan.last,
            path: head.path.clone(),
            len: head.len,
            header: head.header,
        });
        if let Err(stop) = walked {
            let rest = used.peekable();
            return stopped(stop, (folder, &head), &mut frames, rest, bad, scan);
        }
    }
    Ok(())
}

/// Leaves out segments that an opening has copied whole into a later one, and that
/// were to be removed: the chain goes past them.
fn drop_superseded(used: &mut Vec<UsedHead>, scan: &mut Scan) {
    let mut kept: Vec<UsedHead> = Vec::with_capacity(used.len());
    while let Some(head) = used.pop() {
        let past = kept.last().is_some_and(|next| {
            next.header.before < head.header.id && next.header.base <= head.header.base
        });
        match past {
            true => scan.garbage.push(head.path),
            false => kept.push(head),
        }
    }
    kept.reverse();
    *used = kept;
}

fn put_aside(scan: &mut Scan, head: &UsedHead, rest: impl Iterator<Item = UsedHead>) {
    scan.aside.push(head.path.clone());
    scan.aside.extend(rest.map(|head| head.path));
}

/// The segment `id` would be the next, or the last before the next one that is there.
fn missing(folder: &Path, id: SegmentId, lsn: Lsn, bad: &[BadHead]) -> Corruption {
    match bad.iter().find(|head| head.id == id) {
        Some(head) => damaged(&head.path, head.id, 0, lsn, head.what.clone()),
        None => {
            let path = segment_path(folder, id);
            damaged(&path, id, 0, lsn, "the segment is missing".into())
        }
    }
}

fn no_beginning(
    folder: &Path,
    used: &[UsedHead],
    bad: &[BadHead],
    known: Known,
    scan: &mut Scan,
) -> Result<()> {
    if let Some(base) = known
        .fresh_base
        .filter(|_| used.is_empty() && bad.is_empty())
    {
        scan.last = base;
        scan.mark = base;
        return Ok(());
    }
    let vouched = scan.mark > Lsn::ZERO || scan.mark_damage.is_some();
    if !vouched && used.is_empty() && bad.is_empty() {
        // Nothing was ever acknowledged: a first opening that was interrupted. The
        // first segment is whole before it has its name, so a head that is not is
        // damage, or the format file is another store's. The marks must say so: they
        // were whole before there was a store.
        return Ok(());
    }
    scan.aside.extend(used.iter().map(|head| head.path.clone()));
    // Without any of the log there is what image or snapshot hold, and no more.
    scan.last = known.reach;
    let lsn = known.reach.next();
    Err(match (bad.first(), used.first()) {
        (Some(head), _) => damaged(&head.path, head.id, 0, lsn, head.what.clone()),
        (None, Some(head)) => damaged(
            &head.path,
            head.header.id,
            0,
            lsn,
            format!(
                "the log begins behind LSN {}: a segment before it is missing",
                head.header.base
            ),
        ),
        (None, None) => Corruption::new(
            folder,
            match scan.mark {
                Lsn::ZERO => "the log is missing, and its marks are damaged".to_owned(),
                mark => format!("the log is missing, up to LSN {mark} it was durable"),
            },
        )
        .lsn(lsn),
    }
    .into())
}

/// Where and why the frames of a segment ended early.
struct Stop {
    offset: u64,
    reason: StopReason,
}

enum StopReason {
    NoFrame(NoFrame),
    Io(Error),
}

/// Walks the frames of a segment, up to `limit` where a later segment follows.
/// Returns where the last one that counts ends.
fn walk(
    frames: &mut Frames,
    head: &UsedHead,
    limit: Option<Lsn>,
    scan: &mut Scan,
    commits: Commits<'_>,
) -> std::result::Result<u64, Stop> {
    let stop = |offset, reason| Stop { offset, reason };
    let mut at = SEGMENT_HEADER_BYTES as u64;
    scan.last = head.header.base;
    scan.last_time_micros = scan.last_time_micros.max(head.header.time_micros);
    while limit.is_none_or(|limit| scan.last < limit) {
        let frame = match frames.at(at) {
            Ok(Ok(frame)) => frame,
            Ok(Err(none)) => return Err(stop(at, StopReason::NoFrame(none))),
            Err(e) => return Err(stop(at, StopReason::Io(e))),
        };
        if let Some(what) = out_of_order(&frame, scan.last) {
            return Err(stop(at, StopReason::NoFrame(NoFrame::Bad(what))));
        }
        at += frame.length as u64;
        if frame.lsn > scan.last.next() {
            scan.gaps.push((scan.last, frame.lsn));
        }
        scan.last = frame.lsn;
        scan.last_time_micros = scan.last_time_micros.max(frame.time_micros);
        scan.mark = scan.mark.max(frame.durable);
        scan.closed_cleanly = frame.kind == FrameKind::Close;
        if frame.kind == FrameKind::Commit {
            commits(frame.lsn, frame.body);
        }
    }
    match limit.filter(|&limit| scan.last != limit) {
        // What is above it would count as superseded now, and be back after the next
        // opening. Bases are LSNs of frames, and do not go back.
        Some(limit) => {
            let what = format!("the next segment goes on from LSN {limit}, which is not in it");
            Err(stop(at, StopReason::NoFrame(NoFrame::Bad(what))))
        }
        None => Ok(at),
    }
}

fn out_of_order(frame: &Frame<'_>, last: Lsn) -> Option<String> {
    let (predecessor, in_order) = match frame.kind {
        FrameKind::Open => {
            let predecessor = Lsn::new(u64_at(frame.body, 0));
            (predecessor, predecessor == last && frame.lsn > last)
        }
        FrameKind::Commit | FrameKind::Close => (last, frame.lsn == last.next()),
    };
    (!in_order).then(|| {
        format!(
            "a frame with LSN {} and predecessor {predecessor} follows LSN {last}",
            frame.lsn
        )
    })
}

/// Decides what it means that the frames of `head` ended at `stop`.
fn stopped(
    stop: Stop,
    (folder, head): (&Path, &UsedHead),
    frames: &mut Frames,
    mut rest: Peekable<impl Iterator<Item = UsedHead>>,
    bad: &[BadHead],
    scan: &mut Scan,
) -> Result<()> {
    let none = match stop.reason {
        StopReason::Io(e) => return Err(e),
        StopReason::NoFrame(none) => none,
    };
    let what = match &none {
        NoFrame::Empty => "the log ends here, but was durable further on".to_owned(),
        NoFrame::Stale => "old bytes of a recycled segment".to_owned(),
        NoFrame::Bad(what) => what.clone(),
    };
    let lsn = scan.last.next();
    let error = |what| damaged(&head.path, head.header.id, stop.offset, lsn, what).into();
    if let Some(next) = rest.peek() {
        // A later segment is begun only once all before it is durable.
        let before = next.header.before;
        let whole = !matches!(none, NoFrame::Bad(_));
        let error = match whole && before > head.header.id {
            true => missing(folder, before, lsn, bad).into(),
            false => error(what),
        };
        scan.aside.extend(rest.map(|head| head.path));
        return Err(error);
    }
    let behind = frames.behind(stop.offset)?;
    scan.mark = scan.mark.max(behind.mark);
    if scan.last < scan.mark {
        return Err(error(what));
    }
    let torn = matches!(none, NoFrame::Bad(_)) || behind.frames;
    if torn {
        scan.cut = Some(TailCut {
            path: head.path.clone(),
            segment: head.header.id,
            offset: stop.offset,
            bytes: behind.last_byte.saturating_sub(stop.offset),
            lsn,
            what,
        });
    }
    cut_bad_heads(scan, head.header.id, bad);
    Ok(())
}

/// Segments with a broken head behind the end were begun and never vouched for.
fn cut_bad_heads(scan: &mut Scan, id: SegmentId, bad: &[BadHead]) {
    for head in bad {
        scan.garbage.push(head.path.clone());
        if head.id > id && scan.cut.is_none() {
            scan.cut = Some(TailCut {
                path: head.path.clone(),
                segment: head.id,
                offset: 0,
                bytes: head.len,
                lsn: scan.last.next(),
                what: head.what.clone(),
            });
        }
    }
}
