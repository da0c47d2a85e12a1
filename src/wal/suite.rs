//! Owns what the log has to do with bytes that nobody wrote, or that somebody made to
//! look whole: the checks behind the fuzz target `log`. They panic where it does not.

#![expect(clippy::panic, reason = "it is there to panic")]

use std::path::Path;
use std::sync::Arc;

use super::frame::{self, FRAME_ALIGN, FRAME_HEADER_BYTES, FrameKind, NoFrame};
use super::mark;
use super::scan::{self, Scan};
use super::segment::{Head, SEGMENT_HEADER_BYTES, SegmentHeader, segment_path};
use super::{Known, Log, LogOptions};
use crate::error::{Error, Result};
use crate::ids::{Epoch, Lsn, OUT_OF_REACH, SegmentId, StoreId};
use crate::vfs::Vfs;

/// The store that all of it belongs to.
pub(crate) const STORE: StoreId = StoreId::from_bytes([7; 16]);

/// What a frame says, beside its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) segment: SegmentId,
    pub(crate) epoch: Epoch,
    pub(crate) lsn: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) time_micros: u64,
    /// 1 commit, 2 open, anything else close.
    pub(crate) kind: u8,
}

/// Any bytes: what is read as a frame lies inside them, and reads the same when it is
/// written again; in another segment it is stale.
pub(crate) fn any_frame(bytes: &[u8], segment: SegmentId) {
    let Ok(found) = frame::read(bytes, segment) else {
        return;
    };
    assert!(found.length <= bytes.len(), "a frame beyond its bytes");
    assert!(found.body.len() + FRAME_HEADER_BYTES <= found.length);
    assert!(found.length.is_multiple_of(FRAME_ALIGN));
    let said = Said {
        segment,
        epoch: Epoch::new(1),
        lsn: found.lsn,
        durable: found.durable,
        time_micros: found.time_micros,
        kind: found.kind.into(),
    };
    made_frame(said, found.body, 0);
    let other = SegmentId::new(segment.get() ^ 1);
    assert_eq!(frame::read(bytes, other).err(), Some(NoFrame::Stale));
}

/// Bytes with the length, segment and checksum of a frame, so that what is behind the
/// checksum is reached.
pub(crate) fn forged_frame(bytes: &[u8], segment: SegmentId) {
    let mut bytes = bytes.to_vec();
    let length = bytes.len().max(FRAME_HEADER_BYTES);
    bytes.resize(length.next_multiple_of(FRAME_ALIGN), 0);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes[8..16].copy_from_slice(&segment.get().to_le_bytes());
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    any_frame(&bytes, segment);
}

/// A frame that was made reads back, and does not once a bit of it is turned over.
pub(crate) fn made_frame(said: Said, body: &[u8], flip: usize) {
    let mut bytes = frame_bytes(said, body);
    let back = frame::read(&bytes, said.segment);
    if !(said.lsn.is_in_reach() && said.durable.is_in_reach()) {
        assert!(matches!(back, Err(NoFrame::Bad(_))), "{back:?}");
        return;
    }
    let back = back.expect("a frame that was made");
    assert_eq!(back.length, bytes.len());
    assert_eq!((back.lsn, back.durable), (said.lsn, said.durable));
    assert_eq!(back.time_micros, said.time_micros);
    assert_eq!(back.kind, kind_of(said.kind));
    assert_eq!(back.body, body);
    let flip = flip % (bytes.len() * 8);
    bytes[flip / 8] ^= 1 << (flip % 8);
    let read = frame::read(&bytes, said.segment);
    assert!(read.is_err(), "bit {flip} was turned over: {read:?}");
}

fn kind_of(tag: u8) -> FrameKind {
    FrameKind::try_from(tag).unwrap_or(FrameKind::Close)
}

/// A frame as the log writes it.
pub(crate) fn frame_bytes(said: Said, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::append(
        &mut bytes,
        said.segment,
        said.epoch,
        said.lsn,
        said.time_micros,
        kind_of(said.kind),
        body,
    );
    frame::seal(&mut bytes, said.durable);
    bytes
}

/// The head of a segment as the log writes it.
pub(crate) fn header_bytes(id: SegmentId, epoch: Epoch, before: SegmentId, base: Lsn) -> Vec<u8> {
    let header = SegmentHeader {
        store: STORE,
        id,
        epoch,
        before,
        base,
        time_micros: 1,
    };
    let bytes = header.encode();
    let back = SegmentHeader::decode(&bytes, id, STORE, Path::new("made"));
    let counters = [id.get(), epoch.get(), before.get(), base.get()];
    match counters.iter().all(|&number| number < OUT_OF_REACH) {
        true => assert_eq!(back.expect("a head that was made"), Head::Used(header)),
        false => assert!(matches!(back, Ok(Head::Bad(_)))),
    }
    bytes
}

/// Any bytes as the head of a segment: if it is used, it is what was asked for, and
/// written again it reads the same.
pub(crate) fn any_header(bytes: &[u8], id: SegmentId) {
    match SegmentHeader::decode(bytes, id, STORE, Path::new("any")) {
        Ok(Head::Used(header)) => {
            assert_eq!((header.store, header.id), (STORE, id));
            let again = SegmentHeader::decode(&header.encode(), id, STORE, Path::new("again"));
            assert_eq!(again.expect("what was read"), Head::Used(header));
        }
        Ok(Head::Unused | Head::Bad(_)) | Err(Error::NewerFormat { .. }) => {}
        Err(e) => panic!("a head gives {e}"),
    }
}

/// Bytes with the magic, store and checksum of a head.
pub(crate) fn forged_header(bytes: &[u8], id: SegmentId) {
    let mut head = header_bytes(id, Epoch::new(1), SegmentId::ZERO, Lsn::ZERO);
    let fields = bytes.len().min(SEGMENT_HEADER_BYTES - 12);
    head[12..12 + fields].copy_from_slice(&bytes[..fields]);
    head[24..40].copy_from_slice(STORE.as_bytes());
    let crc = crc32fast::hash(&head[12..]);
    head[8..12].copy_from_slice(&crc.to_le_bytes());
    any_header(&head, id);
}

/// The file of marks in `path`, whatever it holds: it is read, and what it says is
/// written and read back.
pub(crate) fn any_marks(vfs: &dyn Vfs, path: &Path) {
    let marks = match mark::read(vfs, path, STORE) {
        Ok(marks) => marks,
        Err(Error::NewerFormat { .. }) => return,
        Err(e) => panic!("the marks give {e}"),
    };
    mark::MarkWriter::create(vfs, path, STORE, marks.highest).expect("writing marks");
    let again = mark::read(vfs, path, STORE).expect("marks that were made");
    assert_eq!(again.damage, None);
    assert_eq!(again.highest, marks.highest);
}

/// The file of a segment.
pub(crate) fn path_of(folder: &Path, id: SegmentId) -> std::path::PathBuf {
    segment_path(folder, id)
}

/// A folder of segments, whatever they hold: it is read to an end, the same one each
/// time; where it opens, the commits come in order, and the next opening finds them.
/// `known` says what is known of it from elsewhere.
pub(crate) fn any_log(vfs: &Arc<dyn Vfs>, folder: &Path, marks: &Path, known: Known) {
    let salvage = known.salvage;
    let found = scan::scan(&**vfs, folder, marks, known, &mut |_, _| {});
    let again = scan::scan(&**vfs, folder, marks, known, &mut |_, _| {});
    assert_eq!(format!("{found:?}"), format!("{again:?}"), "two scans");
    let Some(found) = readable(found, salvage) else {
        return;
    };
    // What is not above that may be trimmed at any time.
    let trimmed = known.snapshot.max(known.reach);
    let before = commits(vfs, folder, marks, known, &found, trimmed);
    let Some((last, before)) = before else {
        return;
    };
    // What was kept is now vouched for, and nothing is torn. An opening without a log has
    // written an image and a snapshot of what there was.
    let reached = match found.segments.is_empty() {
        true => last.max(trimmed),
        false => trimmed,
    };
    let known = Known {
        salvage: false,
        reach: reached.max(known.reach),
        snapshot: reached.max(known.snapshot),
        ..known
    };
    let second =
        scan::scan(&**vfs, folder, marks, known, &mut |_, _| {}).expect("a log that was opened");
    assert!(second.cut.is_none(), "cut again: {:?}", second.cut);
    assert!(second.last > last, "an opening has an LSN of its own");
    let after = commits(vfs, folder, marks, known, &second, trimmed);
    let (_, after) = after.expect("a log that was opened opens");
    assert_eq!(before, after, "the second opening has other commits");
}

/// What a scan found, where it is not an error that it may give.
fn readable(found: Result<Scan>, salvage: bool) -> Option<Scan> {
    match found {
        Ok(scan) => {
            assert!(scan.mark <= scan.last || scan.segments.is_empty());
            let mut base = Lsn::ZERO;
            for info in &scan.segments {
                assert!(info.header.base >= base && info.last >= info.header.base);
                base = info.header.base;
                assert!(info.end >= SEGMENT_HEADER_BYTES as u64);
                // A head that was not cut is followed by frames, or by nothing.
                assert!(info.end <= info.len.max(SEGMENT_HEADER_BYTES as u64));
            }
            Some(scan)
        }
        Err(Error::NewerFormat { .. }) => None,
        Err(Error::Corrupt(damage)) => {
            assert!(!salvage, "salvage gives up nothing less than all: {damage}");
            None
        }
        Err(e) => panic!("the scan gives {e}"),
    }
}

type Commits = Vec<(Lsn, u64, Vec<u8>)>;

/// Opens the log and reads what it kept above `first`: the last LSN, and the commits up
/// to it.
fn commits(
    vfs: &Arc<dyn Vfs>,
    folder: &Path,
    marks: &Path,
    known: Known,
    found: &Scan,
    first: Lsn,
) -> Option<(Lsn, Commits)> {
    let options = LogOptions {
        segment_bytes_min: 8192,
        segment_bytes_max: 8192,
        ..LogOptions::default()
    };
    let found_again = Log::find(&**vfs, folder, marks, known, &mut |_, _| {});
    let opening =
        found_again.and_then(|found| Log::open(Arc::clone(vfs), folder, marks, options, found));
    let opening = match opening {
        Ok(opening) => opening,
        Err(Error::Corrupt(_)) => return None,
        Err(e) => panic!("a log that was scanned gives {e}"),
    };
    assert_eq!(opening.last, found.last, "scan and opening disagree");
    let mut commits = Commits::new();
    let read = opening
        .log
        .replay((first, opening.last), |lsn, time, body| {
            commits.push((lsn, time, body.to_vec()));
            Ok(())
        });
    read.expect("replaying what was scanned");
    assert!(
        commits.is_sorted_by(|a, b| a.0 < b.0),
        "commits in their order"
    );
    Some((opening.last, commits))
}
