//! Owns the frame: the unit of the log, one for each commit, opening and close.
//!
//! ```text
//! frame := crc      u32  CRC32 of all that follows, padding included
//!          length   u32  of the whole frame in bytes, a multiple of 8
//!          segment  u64  the segment it was written to: tells the old bytes of a
//!                        recycled segment from new ones
//!          epoch    u64  the opening that wrote it
//!          lsn      u64
//!          durable  u64  the highest LSN known to be durable when it was written
//!          time     u64  store time in microseconds since 1970, never decreasing
//!          kind     u8   1 commit, 2 open, 3 close
//!          flags    u8   0; a reader refuses flags that it does not know
//!          extra    u16  bytes of extension fields before the body, skipped
//!          padding  u32  zero bytes behind the body
//!          extension, body, padding
//! ```
//! Integers are little endian. A frame of zeros is never valid: its length is 0.
//! The open frame's body is its predecessor's LSN (u64): the one place where LSNs
//! may leave a gap.

use crate::ids::{Epoch, Lsn, SegmentId};

/// Bytes before the body of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 56;

/// The most bytes in a frame. A longer length field is damage, whatever it says.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Frames start at multiples of this, so that a reader can find the next one
/// behind damage.
pub(super) const FRAME_ALIGN: usize = 8;

const CRC_BYTES: usize = 4;
const DURABLE_AT: usize = 32;

/// What a frame is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Commit,
    Open,
    Close,
}

impl TryFrom<u8> for FrameKind {
    type Error = String;

    fn try_from(tag: u8) -> Result<Self, String> {
        match tag {
            1 => Ok(Self::Commit),
            2 => Ok(Self::Open),
            3 => Ok(Self::Close),
            _ => Err(format!("frame kind {tag} is unknown")),
        }
    }
}

impl From<FrameKind> for u8 {
    fn from(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Commit => 1,
            FrameKind::Open => 2,
            FrameKind::Close => 3,
        }
    }
}

/// A frame that was read and found whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) length: usize,
    pub(super) lsn: Lsn,
    pub(super) durable: Lsn,
    pub(super) time_micros: u64,
    pub(super) kind: FrameKind,
    pub(super) body: &'a [u8],
}

/// Why there is no frame at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoFrame {
    /// Zeros: nothing was written here.
    Empty,
    /// A whole frame of another segment: the old bytes of a recycled file.
    Stale,
    /// Anything else.
    Bad(String),
}

/// Bytes that a frame with this body takes.
pub(crate) fn frame_bytes(body: usize) -> usize {
    (FRAME_HEADER_BYTES + body).next_multiple_of(FRAME_ALIGN)
}

/// Appends a frame without its checksum and mark, which [`seal`] puts in when it
/// is written: so the checksum is not computed while others wait to append.
pub(super) fn append(
    out: &mut Vec<u8>,
    segment: SegmentId,
    epoch: Epoch,
    lsn: Lsn,
    time_micros: u64,
    kind: FrameKind,
    body: &[u8],
) {
    let length = frame_bytes(body.len());
    let padding = length - FRAME_HEADER_BYTES - body.len();
    out.reserve(length);
    out.extend_from_slice(&[0; CRC_BYTES]);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&segment.get().to_le_bytes());
    out.extend_from_slice(&epoch.get().to_le_bytes());
    out.extend_from_slice(&lsn.get().to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&time_micros.to_le_bytes());
    out.push(kind.into());
    out.push(0);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(padding as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len() + padding, 0);
}

/// Puts mark and checksum into every frame of `frames`, which holds whole frames
/// made by [`append`].
pub(super) fn seal(frames: &mut [u8], durable: Lsn) {
    let mut rest = frames;
    while rest.len() >= FRAME_HEADER_BYTES {
        let length = u32_at(rest, 4) as usize;
        if !(FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length)
            || !length.is_multiple_of(FRAME_ALIGN)
        {
            return;
        }
        let (frame, behind) = rest.split_at_mut(length);
        frame[DURABLE_AT..DURABLE_AT + 8].copy_from_slice(&durable.get().to_le_bytes());
        let crc = crc32fast::hash(&frame[CRC_BYTES..]);
        frame[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
        rest = behind;
    }
}

/// Reads the frame at the start of `bytes`.
pub(super) fn read(bytes: &[u8], segment: SegmentId) -> Result<Frame<'_>, NoFrame> {
    let header = &bytes[..bytes.len().min(FRAME_HEADER_BYTES)];
    if header.iter().take(8).all(|&byte| byte == 0) {
        return Err(NoFrame::Empty);
    }
    if header.len() < FRAME_HEADER_BYTES {
        return Err(NoFrame::Bad("the header is cut short".into()));
    }
    let length = u32_at(bytes, 4) as usize;
    if !(FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length)
        || !length.is_multiple_of(FRAME_ALIGN)
    {
        return Err(NoFrame::Bad(format!("length {length} is out of bounds")));
    }
    let Some(frame) = bytes.get(..length) else {
        return Err(NoFrame::Bad(format!(
            "length {length} exceeds the {} bytes that are left",
            bytes.len()
        )));
    };
    if crc32fast::hash(&frame[CRC_BYTES..]) != u32_at(frame, 0) {
        return Err(NoFrame::Bad("the checksum does not match".into()));
    }
    if u64_at(frame, 8) != segment.get() {
        return Err(NoFrame::Stale);
    }
    let kind = FrameKind::try_from(frame[48]).map_err(NoFrame::Bad)?;
    if frame[49] != 0 {
        return Err(NoFrame::Bad(format!("flags {:#x} are unknown", frame[49])));
    }
    let extra = usize::from(u16::from_le_bytes([frame[50], frame[51]]));
    let padding = u32_at(frame, 52) as usize;
    let body = FRAME_HEADER_BYTES + extra..length.saturating_sub(padding);
    let Some(body) = frame.get(body) else {
        return Err(NoFrame::Bad(
            "extension and padding exceed the frame".into(),
        ));
    };
    let (lsn, durable) = (
        Lsn::new(u64_at(frame, 24)),
        Lsn::new(u64_at(frame, DURABLE_AT)),
    );
    if !(lsn.is_in_reach() && durable.is_in_reach()) {
        return Err(NoFrame::Bad(format!(
            "LSN {lsn} or mark {durable} was never given"
        )));
    }
    Ok(Frame {
        length,
        lsn,
        durable,
        time_micros: u64_at(frame, 40),
        kind,
        body,
    })
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|field| field.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        append(
            &mut bytes,
            SegmentId::new(3),
            Epoch::new(2),
            Lsn::new(7),
            99,
            FrameKind::Commit,
            b"hello",
        );
        seal(&mut bytes, Lsn::new(5));
        bytes
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = sample();
        let frame = read(&bytes, SegmentId::new(3)).unwrap();
        assert_eq!(frame.length, bytes.len());
        assert_eq!((frame.lsn, frame.durable), (Lsn::new(7), Lsn::new(5)));
        assert_eq!((frame.time_micros, frame.kind), (99, FrameKind::Commit));
        assert_eq!(frame.body, b"hello");
    }

    #[test]
    fn fault_5_and_6_every_flipped_bit_is_noticed() {
        let good = sample();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes, SegmentId::new(3)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = sample();
        for len in 0..good.len() {
            assert!(
                read(&good[..len], SegmentId::new(3)).is_err(),
                "length {len}"
            );
        }
    }

    #[test]
    fn fault_7_a_length_of_all_ones_is_refused() {
        let mut bytes = sample();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            read(&bytes, SegmentId::new(3)),
            Err(NoFrame::Bad(_))
        ));
    }

    #[test]
    fn fault_8_zeros_are_no_frame() {
        assert_eq!(
            read(&[0; 256], SegmentId::new(0)).unwrap_err(),
            NoFrame::Empty
        );
    }

    #[test]
    fn fault_9_a_frame_of_another_segment_is_stale() {
        assert_eq!(
            read(&sample(), SegmentId::new(4)).unwrap_err(),
            NoFrame::Stale
        );
    }
}
