//! Owns archived commits: a file that holds every commit behind one LSN up to another,
//! written once, read in order in bounded memory.
//!
//! Every byte is under a checksum. Each record names the one before it, and the footer
//! counts them all: a record that is missing, doubled or moved is damage.
//!
//! ```text
//! archive := header record* footer
//! header  := magic     8 bytes "EKARCHV\n"
//!            crc       u32  CRC32 of the 52 bytes that follow
//!            format    u32  1
//!            length    u32  64
//!            flags     u32  0
//!            store     16 bytes
//!            from      u64  it holds the commits behind this LSN
//!            to        u64  up to this one, above `from`
//!            zeros up to 64
//! record  := crc       u32  CRC32 of all that follows
//!            length    u32  of the body
//!            previous  u64  LSN of the record before, `from` for the first
//!            lsn       u64  LSN of the commit
//!            time      u64  store time of the commit
//!            body           as in the frame of the log
//! footer  := crc       u32  CRC32 of the 44 bytes that follow
//!            tag       4 bytes "DONE"
//!            commits   u64  how many records there are
//!            last      u64  LSN of the last record; `from` without one
//!            time      u64  its time; 0 without one
//!            length    u64  of the file
//!            hash      u64  XXH3 of all before the footer
//! ```
//! LSNs between two records, and between the last one and `to`, were given to no commit.

use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::head;
use crate::error::{Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::image::cursor::Cursor;
use crate::vfs::window::FileWindow;
use crate::vfs::{OpenMode, Vfs, VfsFile};
use crate::wal::FRAME_BYTES_MAX;

const MAGIC: &[u8; 8] = b"EKARCHV\n";
const FOOTER_TAG: [u8; 4] = *b"DONE";
const HEADER_BYTES: usize = 64;
const RECORD_BYTES: usize = 32;
const FOOTER_BYTES: usize = 48;
const CRC_BYTES: usize = 4;

/// How many bytes are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;

/// What an archive is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveHeader {
    pub(crate) store: StoreId,
    /// It holds the commits behind this LSN,
    pub(crate) from: Lsn,
    /// up to this one.
    pub(crate) to: Lsn,
}

/// What a whole archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArchiveInfo {
    pub(crate) header: ArchiveHeader,
    pub(crate) commits: u64,
    /// The last commit; `from` where there is none.
    pub(crate) last: Lsn,
    /// Its store time; 0 where there is none.
    pub(crate) time_micros: u64,
    /// The length of the file.
    pub(crate) length: u64,
    /// Stands for all of it.
    pub(crate) hash: u64,
}

/// A commit of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    /// The record before it; `from` of the archive for the first.
    pub(crate) previous: Lsn,
    pub(crate) lsn: Lsn,
    pub(crate) time_micros: u64,
    /// As in the frame of the log (`engine::body`).
    pub(crate) body: &'a [u8],
}

/// Writes an archive under a temporary name. Dropped before
/// [`finish`](Self::finish) it leaves a file that is none; whoever chose the name
/// removes it.
pub(crate) struct ArchiveWriter {
    file: Box<dyn VfsFile>,
    path: PathBuf,
    header: ArchiveHeader,
    commits: u64,
    last: Lsn,
    time_micros: u64,
    hash: Box<Xxh3>,
    buffer: Vec<u8>,
    /// Where in the file the buffer belongs.
    offset: u64,
}

impl ArchiveWriter {
    /// Begins an archive at `path`, where nothing is.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path, header: ArchiveHeader) -> Result<Self> {
        let file = vfs.open(path, OpenMode::Create);
        Ok(Self {
            file: file.map_err(|e| Error::io("create", path, e))?,
            path: path.to_path_buf(),
            header,
            commits: 0,
            last: header.from,
            time_micros: 0,
            hash: Box::default(),
            buffer: encode_header(&header),
            offset: 0,
        })
    }

    /// Adds a commit, which is behind all that are there. Returns the bytes that it takes.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for one that is out of order or too large.
    pub(crate) fn push(&mut self, lsn: Lsn, time_micros: u64, body: &[u8]) -> Result<u64> {
        let in_order = lsn > self.last && lsn <= self.header.to;
        let length = u32::try_from(body.len()).ok().filter(|_| in_order);
        let length = length.ok_or_else(|| Error::Invalid {
            what: "commit",
            reason: format!("LSN {lsn} cannot be archived behind LSN {}", self.last),
        })?;
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; CRC_BYTES]);
        self.buffer.extend_from_slice(&length.to_le_bytes());
        for number in [self.last.get(), lsn.get(), time_micros] {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
        self.buffer.extend_from_slice(body);
        seal(self.buffer.get_mut(at..).unwrap_or_default());
        (self.last, self.time_micros) = (lsn, time_micros);
        self.commits += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok((RECORD_BYTES + body.len()) as u64)
    }

    /// Ends the archive and syncs the file, whose name is durable only once the caller
    /// renamed it and synced the folder.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn finish(mut self) -> Result<ArchiveInfo> {
        self.write_buffer()?;
        let info = ArchiveInfo {
            header: self.header,
            commits: self.commits,
            last: self.last,
            time_micros: self.time_micros,
            length: self.offset + FOOTER_BYTES as u64,
            hash: self.hash.digest(),
        };
        encode_footer(&info, &mut self.buffer);
        self.write_buffer()?;
        let synced = self.file.sync();
        synced.map_err(|e| Error::io("sync", &self.path, e))?;
        Ok(info)
    }

    fn write_buffer(&mut self) -> Result<()> {
        let written = self.file.write_at(&self.buffer, self.offset);
        written.map_err(|e| Error::io("write", &self.path, e))?;
        self.hash.update(&self.buffer);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        // One large commit need not take its memory to the end.
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}

/// Reads an archive in order: commit after commit, and then what it came to. Nothing is
/// given out that was not checked, and no more is held than a window and one commit.
pub(crate) struct ArchiveReader {
    window: FileWindow,
    info: ArchiveInfo,
    /// Where the next record, or the footer, begins.
    offset: u64,
    commits: u64,
    last: Lsn,
    time_micros: u64,
    hash: Box<Xxh3>,
}

impl ArchiveReader {
    /// Opens an archive and checks its two ends.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] if its header is whole and of a later format;
    /// [`Error::Corrupt`] if an end is damaged, missing or of another store than `store`;
    /// [`Error::Io`].
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, store: StoreId) -> Result<Self> {
        let mut window = FileWindow::open(vfs, path)?;
        let length = window.len();
        let damaged = |at, what: String| Err(head::damaged(path, at, what));
        if length < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return damaged(length, "the file ends too early".into());
        }
        let footer = length - FOOTER_BYTES as u64;
        let bytes = exactly(&mut window, footer, FOOTER_BYTES)?.to_vec();
        // The header last: it is in the window of the first records.
        let bytes_before = exactly(&mut window, 0, HEADER_BYTES)?;
        let mut hash: Box<Xxh3> = Box::default();
        hash.update(bytes_before);
        let header = decode_header(path, bytes_before)?;
        if header.store != store {
            let what = format!("it is of store {}, not of {store}", header.store);
            return damaged(24, what);
        }
        let info = decode_footer(path, &bytes, footer, header)?;
        if info.length != length {
            return damaged(length, "the file has not the length that it names".into());
        }
        Ok(Self {
            window,
            info,
            offset: HEADER_BYTES as u64,
            commits: 0,
            last: header.from,
            time_micros: 0,
            hash,
        })
    }

    /// What header and footer say.
    pub(crate) fn info(&self) -> &ArchiveInfo {
        &self.info
    }

    /// Where the next record, or the footer, begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next commit; `None` behind the last, once all of them together are what the
    /// footer says.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the offset of what is damaged, and [`Error::Io`].
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>> {
        let footer = self.info.length - FOOTER_BYTES as u64;
        let path = self.window.path().to_path_buf();
        let damaged = |at, what: String| Err(head::damaged(&path, at, what));
        if self.offset == footer {
            let found = ArchiveInfo {
                commits: self.commits,
                last: self.last,
                time_micros: self.time_micros,
                hash: self.hash.digest(),
                ..self.info
            };
            return match found == self.info {
                true => Ok(None),
                false => damaged(footer, "the commits are not all that it had".into()),
            };
        }
        let at = self.offset;
        let left = footer.saturating_sub(at);
        if left < RECORD_BYTES as u64 {
            return damaged(at, "a commit is cut short".into());
        }
        let fixed = exactly(&mut self.window, at, RECORD_BYTES)?;
        let body = wide(fixed, 4);
        if body > FRAME_BYTES_MAX as u64 || RECORD_BYTES as u64 + body > left {
            return damaged(at, format!("a commit of {body} bytes cannot be there"));
        }
        let length = RECORD_BYTES + body as usize;
        let bytes = exactly(&mut self.window, at, length)?;
        if crc32fast::hash(&bytes[CRC_BYTES..]) != wide(bytes, 0) as u32 {
            return damaged(at, "the checksum of a commit does not match".into());
        }
        let record = decode_record(&path, at, bytes)?;
        if record.previous != self.last || record.lsn <= self.last {
            let (lsn, previous) = (record.lsn, record.previous);
            let what = format!("commit {lsn}, behind {previous}, follows {}", self.last);
            return damaged(at, what);
        }
        if record.lsn > self.info.header.to {
            return damaged(at, format!("commit {} is beyond its end", record.lsn));
        }
        self.hash.update(bytes);
        self.offset += length as u64;
        self.commits += 1;
        (self.last, self.time_micros) = (record.lsn, record.time_micros);
        Ok(Some(record))
    }
}

/// The bytes of a place that must be there.
fn exactly(window: &mut FileWindow, offset: u64, len: usize) -> Result<&[u8]> {
    let path = window.path().to_path_buf();
    let bytes = window.get(offset, len)?;
    let end = offset + bytes.len() as u64;
    let whole = bytes.get(..len);
    whole.ok_or_else(|| head::damaged(&path, end, "the file ends too early"))
}

fn encode_header(header: &ArchiveHeader) -> Vec<u8> {
    let mut bytes = head::begin(MAGIC, WRITE_BYTES);
    bytes.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(header.store.as_bytes());
    bytes.extend_from_slice(&header.from.get().to_le_bytes());
    bytes.extend_from_slice(&header.to.get().to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    head::seal(&mut bytes);
    bytes
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<ArchiveHeader> {
    let mut cursor = head::open(path, bytes, MAGIC)?;
    let mut fields = || -> std::result::Result<_, _> {
        let known = cursor.u32()? as usize == HEADER_BYTES && cursor.u32()? == 0;
        let header = ArchiveHeader {
            store: StoreId::from_bytes(cursor.array()?),
            from: Lsn::new(cursor.u64()?),
            to: Lsn::new(cursor.u64()?),
        };
        match known && header.from < header.to && header.to.is_in_reach() {
            true => Ok(header),
            false => Err(cursor.malformed("its header makes no sense")),
        }
    };
    fields().map_err(head::malformed(path, 0))
}

fn encode_footer(info: &ArchiveInfo, out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[0; CRC_BYTES]);
    out.extend_from_slice(&FOOTER_TAG);
    let (last, time) = (info.last.get(), info.time_micros);
    for number in [info.commits, last, time, info.length, info.hash] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    seal(out.get_mut(at..).unwrap_or_default());
}

fn decode_footer(path: &Path, bytes: &[u8], at: u64, header: ArchiveHeader) -> Result<ArchiveInfo> {
    let mut cursor = Cursor::new(bytes);
    let mut fields = || -> std::result::Result<_, _> {
        let crc = cursor.u32()?;
        if crc != crc32fast::hash(bytes.get(CRC_BYTES..).unwrap_or_default())
            || cursor.array()? != FOOTER_TAG
        {
            return Err(Cursor::new(bytes).malformed("the file does not end as it was written"));
        }
        Ok(ArchiveInfo {
            header,
            commits: cursor.u64()?,
            last: Lsn::new(cursor.u64()?),
            time_micros: cursor.u64()?,
            length: cursor.u64()?,
            hash: cursor.u64()?,
        })
    };
    fields().map_err(head::malformed(path, at))
}

fn decode_record<'a>(path: &Path, at: u64, bytes: &'a [u8]) -> Result<Record<'a>> {
    let mut cursor = Cursor::new(bytes);
    let mut fields = || -> std::result::Result<_, _> {
        let (_crc, _length) = (cursor.u32()?, cursor.u32()?);
        Ok(Record {
            previous: Lsn::new(cursor.u64()?),
            lsn: Lsn::new(cursor.u64()?),
            time_micros: cursor.u64()?,
            body: cursor.take(cursor.remaining())?,
        })
    };
    fields().map_err(head::malformed(path, at))
}

/// Puts in the checksum of a record or a footer.
fn seal(bytes: &mut [u8]) {
    let crc = crc32fast::hash(bytes.get(CRC_BYTES..).unwrap_or_default());
    if let Some(field) = bytes.get_mut(..CRC_BYTES) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

fn wide(bytes: &[u8], at: usize) -> u64 {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    u64::from(field.map_or(0, u32::from_le_bytes))
}

#[cfg(test)]
mod tests;
