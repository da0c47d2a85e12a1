//! Owns following the log: reading back what became durable, from any LSN that it
//! still has, and waiting for more.
//!
//! What stays true: only what is durable is read, each commit once and in order. Who
//! follows holds nothing up: a segment that is trimmed meanwhile is an error of the
//! follower, which is told from damage by where the log begins by then.

use std::path::PathBuf;
use std::task::{Context, Waker};
use std::time::Instant;

use super::{Log, Seat};
use crate::error::{Error, Result};
use crate::ids::{Lsn, SegmentId};
use crate::wal::frame::FrameKind;
use crate::wal::reader::Frames;
use crate::wal::segment::{self, SEGMENT_HEADER_BYTES};

/// A follower mostly reads a commit or two.
const WINDOW_BYTES: usize = 64 * 1024;

/// A place in the log. It keeps a file open, and nothing of the log from being
/// trimmed.
#[derive(Debug)]
pub(crate) struct LogPlace {
    /// Everything up to here was passed.
    reached: Lsn,
    segment: Option<OpenSegment>,
}

#[derive(Debug)]
struct OpenSegment {
    id: SegmentId,
    path: PathBuf,
    frames: Frames,
    at: u64,
    /// The last LSN that counts in it; `None` while it is written to.
    last: Option<Lsn>,
}

/// What one step passed.
#[derive(Debug)]
pub(crate) enum Passed<T> {
    Commit(T),
    /// A frame that is no commit.
    Other,
    /// Nothing: there is no more that is durable.
    End,
}

impl LogPlace {
    /// Behind this LSN.
    pub(crate) fn behind(reached: Lsn) -> Self {
        Self {
            reached,
            segment: None,
        }
    }

    /// Everything up to here was passed.
    pub(crate) fn reached(&self) -> Lsn {
        self.reached
    }
}

impl Log {
    /// A place behind all that is durable now.
    pub(crate) fn end_place(&self) -> Result<LogPlace> {
        let mut place = LogPlace::behind(self.durable());
        let found = {
            let disk = self.disk.lock();
            let current = (disk.current.id, disk.current.path.clone());
            // Else it is found by reading the segment, once.
            (disk.current_last == place.reached).then_some((current, disk.current_end))
        };
        if let Some(((id, path), at)) = found {
            place.segment = Some(OpenSegment {
                frames: Frames::open(&*self.vfs, &path, id)?.with_window(WINDOW_BYTES),
                id,
                path,
                at,
                last: None,
            });
        }
        Ok(place)
    }

    /// Passes the next frame, if it is durable; `visitor` gets the LSN, store time and
    /// body of a commit.
    ///
    /// # Errors
    /// [`Error::Trimmed`] where the log begins later; the place is at its beginning
    /// then. [`Error::Corrupt`], [`Error::Io`]; the place is where it was.
    pub(crate) fn pass<T>(
        &self,
        place: &mut LogPlace,
        visitor: impl FnOnce(Lsn, u64, &[u8]) -> Result<T>,
    ) -> Result<Passed<T>> {
        if place.reached >= self.durable() {
            return Ok(Passed::End);
        }
        match self.pass_durable(place, visitor) {
            Ok(passed) => Ok(passed),
            Err(e @ Error::Trimmed { .. }) => Err(e),
            Err(e) => {
                place.segment = None;
                // Whoever trims has the pool until the log begins where it should.
                drop(self.pool.lock());
                self.segment_of(place)?;
                Err(e)
            }
        }
    }

    fn pass_durable<T>(
        &self,
        place: &mut LogPlace,
        visitor: impl FnOnce(Lsn, u64, &[u8]) -> Result<T>,
    ) -> Result<Passed<T>> {
        let reached = place.reached;
        let ended = |open: &OpenSegment| open.last.is_some_and(|last| last <= reached);
        let mut fresh = false;
        loop {
            if place.segment.as_ref().is_none_or(ended) {
                self.find_segment(place)?;
                fresh = true;
            }
            let Some(open) = place.segment.as_mut() else {
                return Ok(Passed::End);
            };
            let found = match open.frames.at(open.at)? {
                Ok(frame) if frame.lsn <= reached => Ok(Some(frame.length)),
                Ok(frame) => {
                    let passed = match frame.kind {
                        FrameKind::Commit => {
                            Passed::Commit(visitor(frame.lsn, frame.time_micros, frame.body)?)
                        }
                        FrameKind::Open | FrameKind::Close => Passed::Other,
                    };
                    let length = frame.length;
                    place.reached = frame.lsn;
                    open.at += length as u64;
                    if length > WINDOW_BYTES {
                        open.frames.forget();
                    }
                    return Ok(passed);
                }
                Err(none) => Err(format!("{none:?}")),
            };
            match found {
                Ok(Some(length)) => open.at += length as u64,
                Ok(None) => {}
                // What was read ahead had not been written yet, or the log went on in
                // another segment.
                Err(_) if !fresh => {
                    let before = open.id;
                    open.frames.forget();
                    fresh = true;
                    let (id, ..) = self.segment_of(place)?;
                    if id != before {
                        place.segment = None;
                    }
                }
                Err(what) => {
                    let what = format!("a frame that was durable is not there: {what}");
                    let lsn = reached.next();
                    return Err(segment::damaged(&open.path, open.id, open.at, lsn, what).into());
                }
            }
        }
    }

    /// As [`Log::replay`] for a log in use, which may be trimmed meanwhile.
    ///
    /// # Errors
    /// [`Error::Trimmed`] where it begins later than behind `after` by now.
    pub(crate) fn read_back(
        &self,
        (after, upto): (Lsn, Lsn),
        mut visitor: impl FnMut(Lsn, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut answered = false;
        let visit = |lsn, micros, body: &[u8]| {
            let answer = visitor(lsn, micros, body);
            answered = answer.is_err();
            answer
        };
        let read = self
            .still_behind(after)
            .and_then(|()| self.replay((after, upto), visit));
        match read {
            Err(e) if !answered => {
                // Whoever trims has the pool until the log begins where it should.
                drop(self.pool.lock());
                self.still_behind(after).and(Err(e))
            }
            read => read,
        }
    }

    fn still_behind(&self, after: Lsn) -> Result<()> {
        let base = self.base();
        match base > after {
            true => Err(Error::Trimmed {
                oldest: base.next(),
                scan_from: base,
            }),
            false => Ok(()),
        }
    }

    /// Opens the segment that has what comes behind the place.
    fn find_segment(&self, place: &mut LogPlace) -> Result<()> {
        place.segment = None;
        let (id, path, last) = self.segment_of(place)?;
        place.segment = Some(OpenSegment {
            frames: Frames::open(&*self.vfs, &path, id)?.with_window(WINDOW_BYTES),
            id,
            path,
            at: SEGMENT_HEADER_BYTES as u64,
            last,
        });
        Ok(())
    }

    /// The segment that has what comes behind the place; where the log begins later, the
    /// place is moved to its beginning.
    fn segment_of(&self, place: &mut LogPlace) -> Result<(SegmentId, PathBuf, Option<Lsn>)> {
        // Both under one lock: a segment that was trimmed in between would be passed over.
        let disk = self.disk.lock();
        let base = disk.base;
        if place.reached < base {
            place.segment = None;
            place.reached = base;
            return Err(Error::Trimmed {
                oldest: base.next(),
                scan_from: base,
            });
        }
        let mut sealed = disk.sealed.iter();
        Ok(match sealed.find(|sealed| sealed.last > place.reached) {
            Some(sealed) => (sealed.id, sealed.path.clone(), Some(sealed.last)),
            None => (disk.current.id, disk.current.path.clone(), None),
        })
    }

    /// Waits until something behind `after` is durable, the log has failed, or `over`;
    /// [`Log::wake_all`] has `over` asked again. False where the deadline came first.
    pub(crate) fn wait_behind(
        &self,
        after: Lsn,
        deadline: Option<Instant>,
        over: impl Fn() -> bool,
    ) -> bool {
        let mut progress = self.progress.lock();
        loop {
            if progress.durable > after || progress.poison.is_some() || over() {
                return true;
            }
            match deadline {
                None => self.changed.wait(&mut progress),
                Some(deadline) => {
                    let late = self.changed.wait_until(&mut progress, deadline).timed_out();
                    if late {
                        return progress.durable > after || progress.poison.is_some() || over();
                    }
                }
            }
        }
    }

    /// The same for a task: true where there is nothing to wait for, else it is woken.
    pub(crate) fn poll_behind(
        &self,
        after: Lsn,
        seat: &mut Seat,
        context: &Context<'_>,
        over: impl Fn() -> bool,
    ) -> bool {
        let mut progress = self.progress.lock();
        if progress.durable > after || progress.poison.is_some() || over() {
            return true;
        }
        let before = progress.wakers.wait(seat, after.next(), context.waker());
        drop(progress);
        drop(before);
        false
    }

    /// Wakes all who wait for anything.
    pub(crate) fn wake_all(&self) {
        let woken = {
            let mut progress = self.progress.lock();
            self.changed.notify_all();
            progress.wakers.all()
        };
        woken.for_each(Waker::wake);
    }
}
