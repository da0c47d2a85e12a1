//! Owns reading a snapshot back: header and footer when it is opened, so that a cut
//! file is noticed at once, and each section as it is reached. Nothing is given out
//! that was not checked.

use std::fmt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    CRC_END, FOOTER_BYTES, FOOTER_TAG, FORMAT, HEADER_BYTES, MAGIC, SECTION_BYTES, SECTION_TAG,
    SectionHeader, SnapshotHeader, SnapshotInfo, Totals,
};
use crate::clock;
use crate::error::{Corruption, Error, Result};
use crate::ids::{Lsn, StoreId};
use crate::image::block::Block;
use crate::image::cursor::{Cursor, Malformed};
use crate::image::manifest::take_schema;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A header is never longer, whatever extensions a later version adds.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Where the flags of the header are: behind magic, CRC, format and length.
const FLAGS_AT: usize = 20;

/// One block of a snapshot.
#[derive(Debug)]
pub(crate) struct Section {
    /// The block.
    pub(crate) block: Block,
    /// How many entries it has.
    pub(crate) entries: u32,
    /// The bytes of its keys and cells.
    pub(crate) live_bytes: u64,
}

impl Section {
    /// Its lowest key. A section has at least one.
    pub(crate) fn first_key(&self) -> Vec<u8> {
        self.block
            .entry(0)
            .map(|first| first.key())
            .unwrap_or_default()
    }
}

/// A file read by offset, whose errors name it.
struct Source {
    path: PathBuf,
    file: Box<dyn VfsFile>,
    len: u64,
}

impl Source {
    fn corrupt(&self, offset: u64, what: impl fmt::Display) -> Error {
        Corruption::new(&self.path, format!("snapshot: {what}"))
            .offset(offset)
            .into()
    }

    /// What a decoder found in bytes that stand at `base`.
    fn malformed(&self, base: u64) -> impl Fn(Malformed) -> Error {
        move |found| self.corrupt(base + found.at as u64, found.what)
    }

    /// Exactly `len` bytes from `offset`, if the file has that many.
    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        if offset
            .checked_add(len as u64)
            .is_none_or(|end| end > self.len)
        {
            return Err(self.corrupt(self.len, "the file ends too early"));
        }
        let mut bytes = vec![0; len];
        let read = self.file.read_at(&mut bytes, offset);
        let read = read.map_err(|e| Error::io("read", &self.path, e))?;
        if read < len {
            return Err(self.corrupt(offset + read as u64, "the file ends too early"));
        }
        Ok(bytes)
    }
}

/// Reads a snapshot, section by section.
pub(crate) struct SnapshotReader {
    source: Source,
    info: SnapshotInfo,
    /// Where the next section, or the footer, begins.
    offset: u64,
    totals: Totals,
    last_key: Option<Vec<u8>>,
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("SnapshotReader");
        debug
            .field("path", &self.source.path)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl SnapshotReader {
    /// Opens a snapshot and checks its two ends. `store` is whose it has to be; without
    /// it, anybody's will do.
    ///
    /// # Errors
    ///
    /// [`Error::NewerFormat`] if its header is whole and of a later format;
    /// [`Error::Corrupt`] if an end is damaged, missing or of another store;
    /// [`Error::Io`].
    pub(crate) fn open(vfs: &dyn Vfs, path: &Path, store: Option<StoreId>) -> Result<Self> {
        let file = vfs
            .open(path, OpenMode::Read)
            .map_err(|e| Error::io("open", path, e))?;
        let len = file.len().map_err(|e| Error::io("measure", path, e))?;
        let source = Source {
            path: path.to_path_buf(),
            file,
            len,
        };
        let (header, header_len, header_crc) = read_header(&source)?;
        let info = read_footer(&source, header, header_crc)?;
        if header_len as u64 + FOOTER_BYTES as u64 > len {
            return Err(source.corrupt(len, "the file ends too early"));
        }
        if !header.lsn.is_in_reach() {
            return Err(source.corrupt(56, "its LSN was never given"));
        }
        if let Some(store) = store.filter(|store| *store != header.store) {
            let what = format!("it belongs to store {}, not to {store}", header.store);
            return Err(source.corrupt(0, what));
        }
        Ok(Self {
            source,
            info,
            offset: header_len as u64,
            totals: Totals::default(),
            last_key: None,
        })
    }

    /// What the header and the footer say.
    pub(crate) fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Where the next section, or the footer, begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next section; `None` behind the last, once all of them together are what the
    /// footer says.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] with the offset of what is damaged, and [`Error::Io`].
    pub(crate) fn next_section(&mut self) -> Result<Option<Section>> {
        let footer = self.source.len - FOOTER_BYTES as u64;
        if self.offset >= footer {
            let found = self.totals.info(self.info.header, self.source.len);
            if found != self.info {
                return Err(self
                    .source
                    .corrupt(footer, "the sections are not all that it had"));
            }
            return Ok(None);
        }
        let start = self.offset;
        let bytes = self.source.read(start, SECTION_BYTES)?;
        let header = decode_section(&bytes).map_err(self.source.malformed(start))?;
        let block = start + SECTION_BYTES as u64;
        let end = block + u64::from(header.len);
        if header.number != self.totals.sections || end > footer {
            return Err(self.source.corrupt(start, "a section is not in its place"));
        }
        let bytes = self.source.read(block, header.len as usize)?;
        if xxh3_64(&bytes) != header.hash {
            return Err(self
                .source
                .corrupt(block, "the checksum of a section is wrong"));
        }
        let section = Section {
            block: Block::parse(bytes).map_err(self.source.malformed(block))?,
            entries: header.entries,
            live_bytes: header.live_bytes,
        };
        self.check_order(&section, block)?;
        self.totals.add(&header);
        self.offset = end;
        Ok(Some(section))
    }

    fn check_order(&mut self, section: &Section, offset: u64) -> Result<()> {
        let entries = &section.block;
        let last = entries
            .len()
            .checked_sub(1)
            .and_then(|last| entries.entry(last));
        let (Some(first), Some(last)) = (entries.entry(0), last) else {
            return Err(self.source.corrupt(offset, "a section is empty"));
        };
        if self
            .last_key
            .as_ref()
            .is_some_and(|before| first.cmp_key(before).is_le())
        {
            return Err(self
                .source
                .corrupt(offset, "the sections are not in ascending order"));
        }
        let live = entries.live_bytes();
        if entries.len() != section.entries as usize || live != section.live_bytes {
            return Err(self
                .source
                .corrupt(offset, "the counts of a section are wrong"));
        }
        last.key_into(self.last_key.get_or_insert_default());
        Ok(())
    }
}

/// Reads a snapshot from end to end, in constant memory.
///
/// # Errors
///
/// As [`SnapshotReader::open`] and [`SnapshotReader::next_section`].
pub(crate) fn verify(vfs: &dyn Vfs, path: &Path, store: Option<StoreId>) -> Result<SnapshotInfo> {
    let mut reader = SnapshotReader::open(vfs, path, store)?;
    while reader.next_section()?.is_some() {
        clock::give_way();
    }
    Ok(reader.info)
}

/// Reads a snapshot back that was just written.
///
/// # Errors
///
/// As [`verify`], and [`Error::Corrupt`] where it is not what was written.
pub(crate) fn read_back(vfs: &dyn Vfs, path: &Path, written: &SnapshotInfo) -> Result<()> {
    match verify(vfs, path, Some(written.header.store))? == *written {
        true => Ok(()),
        false => {
            let what = "a snapshot that was just written reads back differently";
            Err(Corruption::new(path, what).into())
        }
    }
}

/// The header, its length and its CRC. The CRC covers the format: a flipped bit in it
/// is damage, not a newer version.
fn read_header(source: &Source) -> Result<(SnapshotHeader, usize, u32)> {
    let fixed = source.read(0, HEADER_BYTES)?;
    let mut cursor = Cursor::new(&fixed);
    let mut ends = || -> Result<_, Malformed> {
        if cursor.array()? != MAGIC {
            return Err(Malformed {
                what: "the file does not begin as one",
                at: 0,
            });
        }
        let crc = cursor.u32()?;
        let format = cursor.u32()?;
        let len = cursor.size()?;
        if !(HEADER_BYTES..=HEADER_BYTES_MAX).contains(&len) {
            return Err(cursor.malformed("the header has an impossible length"));
        }
        Ok((crc, format, len))
    };
    let (crc, format, len) = ends().map_err(source.malformed(0))?;
    let bytes = source.read(0, len)?;
    if crc != crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default()) || format == 0 {
        return Err(source.corrupt(0, "the checksum of the header is wrong"));
    }
    if format > FORMAT {
        return Err(Error::NewerFormat {
            path: source.path.clone(),
            found: format,
            supported: FORMAT,
        });
    }
    let mut cursor = Cursor::new(&bytes);
    let mut fields = || -> Result<_, Malformed> {
        cursor.take(FLAGS_AT)?;
        let _flags = cursor.u32()?;
        let store = StoreId::from_bytes(cursor.array()?);
        let origin = cursor.array()?;
        Ok(SnapshotHeader {
            store,
            origin: (origin != [0; 16]).then(|| StoreId::from_bytes(origin)),
            lsn: Lsn::new(cursor.u64()?),
            time_micros: cursor.u64()?,
            schema: take_schema(&mut cursor, len)?,
        })
    };
    Ok((fields().map_err(source.malformed(0))?, len, crc))
}

fn read_footer(source: &Source, header: SnapshotHeader, header_crc: u32) -> Result<SnapshotInfo> {
    let offset = source.len.saturating_sub(FOOTER_BYTES as u64);
    let bytes = source.read(offset, FOOTER_BYTES)?;
    let mut cursor = Cursor::new(&bytes);
    let mut decode = || -> Result<_, Malformed> {
        let crc = cursor.u32()?;
        if crc != crc32fast::hash(bytes.get(cursor.at()..).unwrap_or_default()) {
            return Err(Malformed {
                what: "the file does not end as it was written",
                at: 0,
            });
        }
        let tag: [u8; 4] = cursor.array()?;
        if tag != FOOTER_TAG || cursor.u32()? != header_crc {
            return Err(cursor.malformed("header and footer do not belong together"));
        }
        Ok(SnapshotInfo {
            header,
            sections: cursor.u32()?,
            entries: cursor.u64()?,
            live_bytes: cursor.u64()?,
            file_len: cursor.u64()?,
            hash: cursor.u64()?,
        })
    };
    let info = decode().map_err(source.malformed(offset))?;
    if info.file_len != source.len {
        return Err(source.corrupt(source.len, "the file has not the length that it names"));
    }
    Ok(info)
}

fn decode_section(bytes: &[u8]) -> Result<SectionHeader, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let crc = cursor.u32()?;
    if crc != crc32fast::hash(bytes.get(cursor.at()..).unwrap_or_default()) {
        return Err(Malformed {
            what: "the checksum of a section's header is wrong",
            at: 0,
        });
    }
    if cursor.array()? != SECTION_TAG {
        return Err(cursor.malformed("there should be a section"));
    }
    Ok(SectionHeader {
        number: cursor.u32()?,
        len: cursor.u32()?,
        entries: cursor.u32()?,
        live_bytes: cursor.u64()?,
        hash: cursor.u64()?,
    })
}
