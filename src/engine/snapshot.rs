//! Owns the snapshot: one file that holds the whole state at an LSN, in ascending
//! order of the keys. With the log behind it, it is enough to rebuild everything.
//!
//! Every byte of the file is under a checksum, and a footer says how the file ends:
//! a flip, a cut or an appended byte is damage that names file and offset. Writing
//! and reading take constant memory.
//!
//! ```text
//! snapshot = header section * footer
//! header   = magic:"EKSNAP\r\n"
//!            crc:u32            CRC-32 of the header from here to its end
//!            format:u32 header_len:u32 flags:u32
//!            store:16 origin:16 lsn:u64 time_micros:u64
//!            extension          up to header_len, which counts from the magic:
//!              schema:u32       where one was declared
//! section  = crc:u32            CRC-32 of the six fields that follow
//!            tag:"SECT" number:u32 len:u32 entries:u32 live_bytes:u64 hash:u64
//!            block              len bytes; hash is their xxh3-64
//! footer   = crc:u32            CRC-32 of all fields that follow
//!            tag:"DONE" header_crc:u32 sections:u32 entries:u64 live_bytes:u64
//!            file_len:u64 hash:u64
//! ```
//!
//! Integers are little-endian. Sections are numbered from zero; their blocks are those
//! of the image. The footer's hash is the xxh3-64 of the hashes of all sections, as
//! they stand in the file. `origin` is the store that a restored one came from, or
//! zeros. Extension bytes and flags that a reader does not know are skipped: what
//! cannot be skipped raises the format.

mod reader;

use std::fmt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::image::manifest::schema_extension;
use crate::vfs::{OpenMode, Vfs, VfsFile, write_gently};

use super::packer::{Packed, TakeBlocks};

pub(crate) use reader::{Section, SnapshotReader, read_back, verify};

/// The newest format that this version reads, and the one that it writes.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"EKSNAP\r\n";
const SECTION_TAG: [u8; 4] = *b"SECT";
const FOOTER_TAG: [u8; 4] = *b"DONE";
/// What stands before the bytes of the header that its CRC covers.
const CRC_END: usize = 12;
const HEADER_BYTES: usize = 72;
const SECTION_BYTES: usize = 36;
const FOOTER_BYTES: usize = 48;

/// How many bytes are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    /// The store whose state it is.
    pub(crate) store: StoreId,
    /// The store that this one was restored from, if it was.
    pub(crate) origin: Option<StoreId>,
    /// It holds exactly the state at this LSN.
    pub(crate) lsn: Lsn,
    /// Store time at that LSN.
    pub(crate) time_micros: u64,
    /// The schema version of the state; 0 where none was declared.
    pub(crate) schema: u32,
}

/// What a whole snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotInfo {
    /// What it is of.
    pub(crate) header: SnapshotHeader,
    /// How many blocks it has.
    pub(crate) sections: u32,
    /// How many entries they have.
    pub(crate) entries: u64,
    /// The bytes of all keys and cells.
    pub(crate) live_bytes: u64,
    /// The length of the file.
    pub(crate) file_len: u64,
    /// Stands for the content of all blocks.
    pub(crate) hash: u64,
}

/// What the sections seen so far come to.
#[derive(Clone, Default)]
struct Totals {
    sections: u32,
    entries: u64,
    live_bytes: u64,
    hash: Xxh3,
}

impl Totals {
    fn add(&mut self, section: &SectionHeader) {
        self.sections += 1;
        self.entries += u64::from(section.entries);
        self.live_bytes = self.live_bytes.saturating_add(section.live_bytes);
        self.hash.update(&section.hash.to_le_bytes());
    }

    fn info(&self, header: SnapshotHeader, file_len: u64) -> SnapshotInfo {
        SnapshotInfo {
            header,
            sections: self.sections,
            entries: self.entries,
            live_bytes: self.live_bytes,
            file_len,
            hash: self.hash.digest(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SectionHeader {
    number: u32,
    len: u32,
    entries: u32,
    live_bytes: u64,
    hash: u64,
}

/// Writes a snapshot under a temporary name. Dropped before
/// [`finish`](Self::finish), it leaves a file that is no snapshot; whoever chose the
/// name removes it.
pub(crate) struct SnapshotWriter {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    header: SnapshotHeader,
    header_crc: u32,
    totals: Totals,
    last_first_key: Option<Vec<u8>>,
    buffer: Vec<u8>,
    /// Where in the file the buffer belongs.
    offset: u64,
}

impl fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SnapshotWriter");
        debug
            .field("path", &self.path)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// Begins a snapshot at `path`, a temporary name; what a crash left there goes.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path, header: SnapshotHeader) -> Result<Self> {
        let io = |e| Error::io("create", path, e);
        if vfs.metadata(path).map_err(io)?.is_some() {
            vfs.remove_file(path).map_err(io)?;
        }
        let file = vfs.open(path, OpenMode::Create).map_err(io)?;
        let (buffer, header_crc) = encode_header(&header);
        Ok(Self {
            path: path.to_path_buf(),
            file,
            header,
            header_crc,
            totals: Totals::default(),
            last_first_key: None,
            buffer,
            offset: 0,
        })
    }

    /// Adds a block whose keys are all higher than those of the blocks before.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a block without entries or out of order, as far as its
    /// first key tells, and [`Error::Io`]. The snapshot is then to be given up.
    pub(crate) fn push_block(
        &mut self,
        block: &[u8],
        first_key: &[u8],
        entries: u32,
        live_bytes: u64,
    ) -> Result<()> {
        let invalid = |reason: &str| Error::Invalid {
            what: "block of a snapshot",
            reason: reason.to_owned(),
        };
        if self
            .last_first_key
            .as_deref()
            .is_some_and(|last| last >= first_key)
        {
            return Err(invalid(
                "its first key is not higher than that of the block before",
            ));
        }
        if entries == 0 {
            return Err(invalid("it has no entries"));
        }
        if self.totals.sections == u32::MAX {
            return Err(invalid("the snapshot has too many blocks"));
        }
        let section = SectionHeader {
            number: self.totals.sections,
            len: u32::try_from(block.len()).map_err(|_| invalid("it exceeds 4 GiB"))?,
            entries,
            live_bytes,
            hash: xxh3_64(block),
        };
        self.last_first_key = Some(first_key.to_vec());
        self.totals.add(&section);
        encode_section(&section, &mut self.buffer);
        self.buffer.extend_from_slice(block);
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()
        } else {
            Ok(())
        }
    }

    /// Writes the footer and syncs the file, whose name is durable only once the
    /// caller renamed it and synced the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn finish(mut self) -> Result<SnapshotInfo> {
        let file_len = self.offset + self.buffer.len() as u64 + FOOTER_BYTES as u64;
        let info = self.totals.info(self.header, file_len);
        encode_footer(&info, self.header_crc, &mut self.buffer);
        self.write_buffer()?;
        self.file
            .sync()
            .map_err(|e| Error::io("sync", &self.path, e))?;
        Ok(info)
    }

    fn write_buffer(&mut self) -> Result<()> {
        let written = write_gently(&*self.file, &self.buffer, self.offset);
        written.map_err(|e| Error::io("write", &self.path, e))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl TakeBlocks for SnapshotWriter {
    type Error = Error;

    fn take(&mut self, block: Packed<'_>) -> Result<()> {
        let (entries, live_bytes) = (block.entries, block.live_bytes);
        self.push_block(&block.bytes, block.first_key, entries, live_bytes)
    }

    fn refused(&self, why: impl fmt::Display) -> Error {
        Error::Invalid {
            what: "entry",
            reason: why.to_string(),
        }
    }
}

fn encode_header(header: &SnapshotHeader) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    let extension = schema_extension(header.schema);
    let len = HEADER_BYTES + extension.len();
    bytes.extend_from_slice(&(len as u32).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(header.store.as_bytes());
    let origin = header.origin.map_or([0; 16], |origin| *origin.as_bytes());
    bytes.extend_from_slice(&origin);
    bytes.extend_from_slice(&header.lsn.get().to_le_bytes());
    bytes.extend_from_slice(&header.time_micros.to_le_bytes());
    bytes.extend_from_slice(&extension);
    let crc = crc32fast::hash(&bytes);
    ([&MAGIC[..], &crc.to_le_bytes(), &bytes].concat(), crc)
}

fn encode_section(section: &SectionHeader, out: &mut Vec<u8>) {
    let mut bytes = Vec::with_capacity(SECTION_BYTES);
    bytes.extend_from_slice(&SECTION_TAG);
    for number in [section.number, section.len, section.entries] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in [section.live_bytes, section.hash] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    out.extend_from_slice(&bytes);
}

fn encode_footer(info: &SnapshotInfo, header_crc: u32, out: &mut Vec<u8>) {
    let mut bytes = Vec::with_capacity(FOOTER_BYTES);
    bytes.extend_from_slice(&FOOTER_TAG);
    bytes.extend_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(&info.sections.to_le_bytes());
    for number in [info.entries, info.live_bytes, info.file_len, info.hash] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    out.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests;
