//! Owns the mark file: two slots that say up to where the log is durable, written
//! in turn after each sync, before the acknowledgement, and synced only when the
//! store is idle or closed.
//!
//! ```text
//! marks := slot slot
//! slot  := magic    8 bytes "EVKLMRK\n"
//!          crc      u32  CRC32 of the 500 bytes that follow
//!          format   u32  1
//!          store    16 bytes
//!          epoch    u64  the opening that wrote it
//!          segment  u64  the segment with the last durable frame
//!          durable  u64  the highest durable LSN
//!          zeros up to 512 bytes, a sector: it is written whole or not at all
//! ```

use std::path::{Path, PathBuf};

use super::frame::{u32_at, u64_at};
use crate::error::{Error, Result};
use crate::ids::{Epoch, Lsn, SegmentId, StoreId};
use crate::vfs::{OpenMode, Vfs, VfsFile, read_file, write_file_atomically};

const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"EVKLMRK\n";
const SLOT_BYTES: usize = 512;
const CRC_END: usize = 12;

/// What a slot says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: Epoch,
    pub(super) segment: SegmentId,
    pub(super) durable: Lsn,
}

/// What was found in the file.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The highest of the valid slots.
    pub(super) highest: Mark,
    /// What is wrong with the file, if anything.
    pub(super) damage: Option<String>,
}

impl Mark {
    fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(store.as_bytes());
        bytes.extend_from_slice(&self.epoch.get().to_le_bytes());
        bytes.extend_from_slice(&self.segment.get().to_le_bytes());
        bytes.extend_from_slice(&self.durable.get().to_le_bytes());
        bytes.resize(SLOT_BYTES, 0);
        let crc = crc32fast::hash(&bytes[CRC_END..]);
        bytes[8..CRC_END].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], store: StoreId, path: &Path) -> Result<Result<Self, String>> {
        if bytes.len() != SLOT_BYTES || !bytes.starts_with(MAGIC) {
            return Ok(Err("no slot".into()));
        }
        if crc32fast::hash(&bytes[CRC_END..]) != u32_at(bytes, 8) {
            return Ok(Err("the checksum does not match".into()));
        }
        let format = u32_at(bytes, 12);
        if format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.to_path_buf(),
                found: format,
                supported: FORMAT,
            });
        }
        if bytes[16..32] != *store.as_bytes() {
            return Ok(Err("it belongs to another store".into()));
        }
        let mark = Self {
            epoch: Epoch::new(u64_at(bytes, 32)),
            segment: SegmentId::new(u64_at(bytes, 40)),
            durable: Lsn::new(u64_at(bytes, 48)),
        };
        let reached = mark.epoch.is_in_reach() && mark.segment.is_in_reach();
        Ok(match reached && mark.durable.is_in_reach() {
            true => Ok(mark),
            false => Err("a number in it was never given".into()),
        })
    }
}

/// Reads both slots. A slot that is not whole is reported, not an error: marks
/// are in the frames too.
pub(super) fn read(vfs: &dyn Vfs, path: &Path, store: StoreId) -> Result<Marks> {
    let io = |e| Error::io("read", path, e);
    let mut marks = Marks::default();
    let Some(entry) = vfs.metadata(path).map_err(io)? else {
        marks.damage = Some("the file is missing".into());
        return Ok(marks);
    };
    if entry.len != 2 * SLOT_BYTES as u64 {
        marks.damage = Some(format!("the file has {} bytes instead of 1024", entry.len));
    }
    let bytes = match entry.len <= 64 * SLOT_BYTES as u64 {
        true => read_file(vfs, path, 64 * SLOT_BYTES as u64).map_err(io)?,
        false => Vec::new(),
    };
    for (slot, part) in bytes.chunks(SLOT_BYTES).take(2).enumerate() {
        match Mark::decode(part, store, path)? {
            Ok(mark) if mark.durable >= marks.highest.durable => marks.highest = mark,
            Ok(_) => {}
            Err(what) => marks.damage = Some(format!("slot {slot}: {what}")),
        }
    }
    Ok(marks)
}

/// Makes the file of a store that has no log yet.
pub(crate) fn create_marks(vfs: &dyn Vfs, path: &Path, store: StoreId) -> Result<()> {
    MarkWriter::create(vfs, path, store, Mark::default()).map(drop)
}

/// Writes the mark after each sync.
#[derive(Debug)]
pub(super) struct MarkWriter {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    store: StoreId,
    slot: u64,
    synced: bool,
}

impl MarkWriter {
    /// Makes the file anew, both slots saying `mark`, durable.
    pub(super) fn create(vfs: &dyn Vfs, path: &Path, store: StoreId, mark: Mark) -> Result<Self> {
        let io = |e| Error::io("write", path, e);
        let slot = mark.encode(store);
        write_file_atomically(vfs, path, &[slot.clone(), slot].concat()).map_err(io)?;
        Ok(Self {
            file: vfs.open(path, OpenMode::Write).map_err(io)?,
            path: path.to_path_buf(),
            store,
            slot: 0,
            synced: true,
        })
    }

    /// Writes the next slot; not synced.
    pub(super) fn write(&mut self, mark: Mark) -> Result<()> {
        self.synced = false;
        self.slot = 1 - self.slot;
        self.file
            .write_at(&mark.encode(self.store), self.slot * SLOT_BYTES as u64)
            .map_err(|e| Error::io("write", &self.path, e))
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        if !self.synced {
            self.file
                .sync()
                .map_err(|e| Error::io("sync", &self.path, e))?;
            self.synced = true;
        }
        Ok(())
    }
}
