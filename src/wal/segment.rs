//! Owns the segment: a preallocated file of frames behind a header, its name, and
//! how one is made.
//!
//! ```text
//! segment := header, frame*, zeros or the old bytes of a recycled file
//! header  := magic         8 bytes "EVKLWAL\n"
//!            crc           u32  CRC32 of the 4,084 bytes that follow
//!            format        u32  1
//!            header bytes  u32  4096: frames start there, aligned for direct writes
//!            flags         u32  0
//!            store         16 bytes
//!            segment       u64
//!            epoch         u64  the opening that wrote it
//!            before        u64  the segment before it, 0 for none
//!            base          u64  LSN of the last frame before it. Frames with a
//!                               higher LSN in earlier segments are superseded. All
//!                               up to it was durable before this header was written
//!            time          u64  store time in microseconds since 1970
//!            zeros up to 4096
//! ```
//! The header is written together with the first frames, not when the file is
//! made: until then the file has zeros there, or the header of another segment.

use std::path::{Path, PathBuf};

use super::frame::{u32_at, u64_at};
use crate::error::{Corruption, Error, Result};
use crate::ids::{Epoch, Lsn, SegmentId, StoreId};
use crate::vfs::{OpenMode, Vfs, VfsFile, parent, temporary_name};

/// The format of log segments that this version writes, and the newest it reads.
pub(super) const FORMAT: u32 = 1;

/// Where the first frame starts.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"EVKLWAL\n";
const CRC_END: usize = 12;
/// Linux keeps a file in pieces as large as the writes that made it, and what is written to a part of a
/// large one costs a look at all of it: twice as much a commit in pieces of 1 MiB.
const ZEROS_AT_ONCE: usize = 64 * 1024;

/// What the head of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) store: StoreId,
    pub(super) id: SegmentId,
    pub(super) epoch: Epoch,
    pub(super) before: SegmentId,
    pub(super) base: Lsn,
    pub(super) time_micros: u64,
}

/// What was found where a header should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    Used(SegmentHeader),
    /// Preallocated or recycled, and never written to under its name.
    Unused,
    Bad(String),
}

impl SegmentHeader {
    fn is_in_reach(&self) -> bool {
        let segments = self.id.is_in_reach() && self.before.is_in_reach();
        segments && self.epoch.is_in_reach() && self.base.is_in_reach()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        bytes.extend_from_slice(&self.id.get().to_le_bytes());
        bytes.extend_from_slice(&self.epoch.get().to_le_bytes());
        bytes.extend_from_slice(&self.before.get().to_le_bytes());
        bytes.extend_from_slice(&self.base.get().to_le_bytes());
        bytes.extend_from_slice(&self.time_micros.to_le_bytes());
        bytes.resize(SEGMENT_HEADER_BYTES, 0);
        let crc = crc32fast::hash(&bytes[CRC_END..]);
        bytes[8..CRC_END].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the head of the file named after `id`.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] where a later version wrote it.
    pub(super) fn decode(bytes: &[u8], id: SegmentId, store: StoreId, path: &Path) -> Result<Head> {
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return Ok(match bytes.iter().all(|&byte| byte == 0) {
                true => Head::Unused,
                false => Head::Bad(format!("the header is cut to {} bytes", bytes.len())),
            });
        }
        let bytes = &bytes[..SEGMENT_HEADER_BYTES];
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(Head::Unused);
        }
        if !bytes.starts_with(MAGIC) {
            return Ok(Head::Bad("the magic number is wrong".into()));
        }
        if crc32fast::hash(&bytes[CRC_END..]) != u32_at(bytes, 8) {
            return Ok(Head::Bad("the header's checksum does not match".into()));
        }
        let format = u32_at(bytes, 12);
        if format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.to_path_buf(),
                found: format,
                supported: FORMAT,
            });
        }
        let mut found = [0; 16];
        found.copy_from_slice(&bytes[24..40]);
        let header = Self {
            store: StoreId::from_bytes(found),
            id: SegmentId::new(u64_at(bytes, 40)),
            epoch: Epoch::new(u64_at(bytes, 48)),
            before: SegmentId::new(u64_at(bytes, 56)),
            base: Lsn::new(u64_at(bytes, 64)),
            time_micros: u64_at(bytes, 72),
        };
        if header.store != store {
            return Ok(Head::Bad(format!("it belongs to store {}", header.store)));
        }
        if !header.is_in_reach() {
            return Ok(Head::Bad("a number in it was never given".into()));
        }
        if format == 0
            || u32_at(bytes, 16) as usize != SEGMENT_HEADER_BYTES
            || u32_at(bytes, 20) != 0
        {
            return Ok(Head::Bad("format, length or flags are unknown".into()));
        }
        Ok(match header.id == id {
            true => Head::Used(header),
            // A recycled file that crashed before its first frames.
            false if header.id < id => Head::Unused,
            false => Head::Bad(format!("it says that it is segment {}", header.id)),
        })
    }
}

/// A segment that frames are written to.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    pub(super) file: Box<dyn VfsFile>,
    pub(super) path: PathBuf,
    pub(super) capacity: u64,
}

/// The file name of a segment.
pub(super) fn segment_path(folder: &Path, id: SegmentId) -> PathBuf {
    folder.join(format!("{:016x}.log", id.get()))
}

/// The segment that a file name stands for.
pub(super) fn parse_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 16 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let id = u64::from_str_radix(digits, 16).ok().map(SegmentId::new);
    // A stranger: there is no number for the segment after it.
    id.filter(|id| id.is_in_reach())
}

/// Makes a segment of `capacity` zeros under its name, durable with its name.
/// Zeros are written, not only reserved: a sync into space that the file system
/// has merely set aside has to journal it, and costs half as much again.
pub(super) fn preallocate(
    vfs: &dyn Vfs,
    folder: &Path,
    id: SegmentId,
    capacity: u64,
) -> Result<Segment> {
    let path = segment_path(folder, id);
    let made = write_new(vfs, &path, capacity);
    if made.is_err() && matches!(vfs.metadata(&path), Ok(Some(_))) {
        // Best effort: the space of a half-made file goes back; recovery would
        // find it unused and remove it too.
        let _ = vfs.remove_file(&path);
    }
    let file = made.map_err(|e| Error::io("make the log segment", &path, e))?;
    Ok(Segment {
        id,
        file,
        path,
        capacity,
    })
}

fn write_new(vfs: &dyn Vfs, path: &Path, capacity: u64) -> std::io::Result<Box<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::Create)?;
    write_zeros(&*file, 0, capacity)?;
    file.sync()?;
    vfs.sync_dir(parent(path))?;
    Ok(file)
}

fn write_zeros(file: &dyn VfsFile, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = vec![0; ZEROS_AT_ONCE.min(usize::try_from(to - from).unwrap_or(usize::MAX))];
    let mut at = from;
    while at < to {
        let part = zeros
            .len()
            .min(usize::try_from(to - at).unwrap_or(usize::MAX));
        file.write_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// Makes a segment that begins with `content` (header and frames) and is whole
/// under its name, or not there: for what recovery carries over.
pub(super) fn create_with(
    vfs: &dyn Vfs,
    folder: &Path,
    id: SegmentId,
    content: &[u8],
    capacity: u64,
) -> Result<Segment> {
    let path = segment_path(folder, id);
    let temporary = temporary_name(&path);
    let capacity = capacity.max(content.len() as u64);
    let made = write_whole(vfs, &temporary, content, capacity).and_then(|file| {
        vfs.rename(&temporary, &path)?;
        vfs.sync_dir(folder)?;
        Ok(file)
    });
    if made.is_err() && matches!(vfs.metadata(&temporary), Ok(Some(_))) {
        // Best effort, as above: on a full disk what was written takes the room that
        // the next attempt needs.
        let _ = vfs.remove_file(&temporary);
    }
    let file = made.map_err(|e| Error::io("make the log segment", &path, e))?;
    Ok(Segment {
        id,
        file,
        path,
        capacity,
    })
}

fn write_whole(
    vfs: &dyn Vfs,
    path: &Path,
    content: &[u8],
    capacity: u64,
) -> std::io::Result<Box<dyn VfsFile>> {
    if vfs.metadata(path)?.is_some() {
        vfs.remove_file(path)?;
    }
    let file = vfs.open(path, OpenMode::Create)?;
    file.write_at(content, 0)?;
    write_zeros(&*file, content.len() as u64, capacity)?;
    file.sync()?;
    Ok(file)
}

/// Opens a segment that is there, for writing.
pub(super) fn reopen(
    vfs: &dyn Vfs,
    folder: &Path,
    id: SegmentId,
    capacity: u64,
) -> Result<Segment> {
    let path = segment_path(folder, id);
    let file = vfs
        .open(&path, OpenMode::Write)
        .map_err(|e| Error::io("open", &path, e))?;
    Ok(Segment {
        id,
        file,
        path,
        capacity,
    })
}

/// The error for damage in a segment.
pub(super) fn damaged(
    path: &Path,
    id: SegmentId,
    offset: u64,
    lsn: Lsn,
    what: String,
) -> Corruption {
    Corruption::new(path, what)
        .segment(id)
        .offset(offset)
        .lsn(lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SegmentHeader {
        SegmentHeader {
            store: StoreId::from_bytes([7; 16]),
            id: SegmentId::new(3),
            epoch: Epoch::new(2),
            before: SegmentId::new(2),
            base: Lsn::new(40),
            time_micros: 5,
        }
    }

    fn decode(bytes: &[u8]) -> Head {
        SegmentHeader::decode(bytes, SegmentId::new(3), sample().store, Path::new("s")).unwrap()
    }

    #[test]
    fn fault_4_every_flipped_bit_of_the_header_is_noticed() {
        let good = sample().encode();
        assert_eq!(decode(&good), Head::Used(sample()));
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bytes), Head::Bad(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_cut_header_is_bad_and_zeros_are_unused() {
        let good = sample().encode();
        assert!(matches!(decode(&good[..100]), Head::Bad(_)));
        assert_eq!(decode(&[0; 4096]), Head::Unused);
        assert_eq!(decode(&[]), Head::Unused);
    }

    #[test]
    fn a_recycled_header_is_unused() {
        let old = SegmentHeader {
            id: SegmentId::new(1),
            ..sample()
        };
        assert_eq!(decode(&old.encode()), Head::Unused);
    }

    #[test]
    fn names_are_read_back_and_others_are_not() {
        let path = segment_path(Path::new("w"), SegmentId::new(0xab));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse_name(name), Some(SegmentId::new(0xab)));
        for other in [
            "00000000000000AB.log",
            "ab.log",
            "00000000000000ab.log.tmp",
            "mark",
            "4000000000000000.log",
            "ffffffffffffffff.log",
            "",
        ] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}
