//! Owns the manifest: the file that vouches for the image. It names every block with
//! its length and hash, so that what a backend gives back is believed only where it
//! is what was written, and a missing block is seen.
//!
//! The blocks are in ascending order of their first keys; no number is named twice;
//! the file is there whole under its name, or not at all.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::error::{Corruption, Error, Result};
use crate::ids::{BlockId, Lsn, OUT_OF_REACH, StoreId};
use crate::image::cursor::{Cursor, Malformed};
use crate::vfs::{self, Vfs};

/// The newest format that this version reads, and the one that it writes.
pub(crate) const FORMAT: u32 = 1;

/// More than a manifest of a few million blocks needs; a longer file is refused
/// before it is read.
const FILE_BYTES_MAX: u64 = 1 << 30;

const MAGIC: [u8; 8] = *b"EKIMAGE\n";
/// What stands before the bytes that the CRC covers: the magic and the CRC.
const CRC_END: usize = 12;
const HEADER_BYTES: usize = 88;
const DOOMED_BYTES: usize = 12;
const BLOCK_BYTES_MIN: usize = 48;

/// One block of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockMeta {
    /// The lowest key in the block. It holds the keys from here up to the next
    /// block's first key.
    pub(crate) first_key: Box<[u8]>,
    /// The number of its first piece; the others follow without a gap.
    pub(crate) id: BlockId,
    /// How many pieces it was cut into.
    pub(crate) pieces: u32,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// The xxh3-64 of its bytes.
    pub(crate) hash: u64,
    /// How many entries it has.
    pub(crate) entries: u32,
    /// The bytes of its keys and cells.
    pub(crate) live_bytes: u64,
    /// The earliest deadline of its entries, so that what has expired is found without
    /// reading the others; the highest number where none has one.
    pub(crate) deadline: u64,
}

/// What the image is: which blocks, and of which state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The store that it belongs to.
    pub(crate) store: StoreId,
    /// The number of the image's sub-folder that it speaks of.
    pub(crate) folder: u64,
    /// The image holds exactly the state at this LSN.
    pub(crate) lsn: Lsn,
    /// Store time when it was written.
    pub(crate) time_micros: u64,
    /// The schema version of the state at its LSN; 0 where none was declared.
    pub(crate) schema: u32,
    /// The lowest number that no piece has had.
    pub(crate) next_block: BlockId,
    /// Blocks, with their counts of pieces, that this manifest no longer needs and
    /// that may still be in the backend.
    pub(crate) doomed: Vec<(BlockId, u32)>,
    /// The blocks, in ascending order of their first keys.
    pub(crate) blocks: Vec<BlockMeta>,
}

impl Manifest {
    /// How many entries all blocks have.
    pub(crate) fn entries(&self) -> u64 {
        self.blocks
            .iter()
            .map(|block| u64::from(block.entries))
            .sum()
    }

    /// The bytes of all keys and cells.
    pub(crate) fn live_bytes(&self) -> u64 {
        let bytes = self.blocks.iter().map(|block| block.live_bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The file's bytes.
    ///
    /// ```text
    /// manifest = magic:"EKIMAGE\n"
    ///            crc:u32            CRC-32 of all that follows it
    ///            format:u32 total_len:u64 header_len:u32 flags:u32
    ///            store:16 folder:u64 lsn:u64 time_micros:u64 next_block:u64
    ///            doomed_count:u32 block_count:u32
    ///            extension          up to header_len, which counts from the magic:
    ///              schema:u32       where one was declared
    ///            doomed * doomed_count
    ///            block * block_count
    /// doomed   = id:u64 pieces:u32
    /// block    = id:u64 pieces:u32 len:u32 hash:u64 entries:u32 live_bytes:u64
    ///            deadline:u64 key_len:u32 key
    /// ```
    ///
    /// Integers are little-endian. Extension bytes and flags that a reader does not
    /// know are skipped: what cannot be skipped raises the format.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if [`decode`](Self::decode) would refuse it: nothing is
    /// written that could not be read.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let invalid = |reason: String| Error::Invalid {
            what: "manifest",
            reason,
        };
        self.check().map_err(|what| invalid(what.to_owned()))?;
        let size = |len: usize| u32::try_from(len).map_err(|e| invalid(e.to_string()));
        let keys: usize = self.blocks.iter().map(|block| block.first_key.len()).sum();
        let extension = schema_extension(self.schema);
        let header_len = HEADER_BYTES + extension.len();
        let total = header_len
            + DOOMED_BYTES * self.doomed.len()
            + BLOCK_BYTES_MIN * self.blocks.len()
            + keys;
        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(total as u64).to_le_bytes());
        bytes.extend_from_slice(&size(header_len)?.to_le_bytes());
        bytes.extend_from_slice(&0_u32.to_le_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        for number in [
            self.folder,
            self.lsn.get(),
            self.time_micros,
            self.next_block.get(),
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&size(self.doomed.len())?.to_le_bytes());
        bytes.extend_from_slice(&size(self.blocks.len())?.to_le_bytes());
        bytes.extend_from_slice(&extension);
        for (id, pieces) in &self.doomed {
            bytes.extend_from_slice(&id.get().to_le_bytes());
            bytes.extend_from_slice(&pieces.to_le_bytes());
        }
        for block in &self.blocks {
            bytes.extend_from_slice(&block.id.get().to_le_bytes());
            bytes.extend_from_slice(&block.pieces.to_le_bytes());
            bytes.extend_from_slice(&block.len.to_le_bytes());
            bytes.extend_from_slice(&block.hash.to_le_bytes());
            bytes.extend_from_slice(&block.entries.to_le_bytes());
            bytes.extend_from_slice(&block.live_bytes.to_le_bytes());
            bytes.extend_from_slice(&block.deadline.to_le_bytes());
            bytes.extend_from_slice(&size(block.first_key.len())?.to_le_bytes());
            bytes.extend_from_slice(&block.first_key);
        }
        let crc = crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(CRC_END - 4..CRC_END) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        Ok(bytes)
    }

    /// The manifest in a file's bytes; `path` is for the error.
    ///
    /// # Errors
    ///
    /// [`Error::NewerFormat`] if the bytes are whole and of a later format;
    /// [`Error::Corrupt`] if they are anything else than one manifest.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let corrupt = |found: Malformed| -> Error {
            let damage = Corruption::new(path, format!("manifest: {}", found.what));
            damage.offset(found.at as u64).into()
        };
        let mut cursor = Cursor::new(bytes);
        let format = check_frame(&mut cursor, bytes).map_err(corrupt)?;
        if format > FORMAT {
            return Err(Error::NewerFormat {
                path: path.to_path_buf(),
                found: format,
                supported: FORMAT,
            });
        }
        let manifest = decode_body(&mut cursor).map_err(corrupt)?;
        let checked = manifest.check();
        checked.map_err(|what| corrupt(Malformed { what, at: CRC_END }))?;
        Ok(manifest)
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode), [`Error::Corrupt`] for another store's manifest,
    /// and [`Error::Io`].
    pub(crate) fn read(vfs: &dyn Vfs, path: &Path, store: StoreId) -> Result<Option<Self>> {
        let bytes = match vfs::read_file(vfs, path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(Corruption::new(path, format!("manifest: {e}")).into());
            }
            Err(e) => return Err(Error::io("read", path, e)),
        };
        let manifest = Self::decode(&bytes, path)?;
        if manifest.store != store {
            let what = format!("manifest of another store, {}", manifest.store);
            return Err(Corruption::new(path, what).into());
        }
        Ok(Some(manifest))
    }

    /// Puts the file in the place of the one before, whole or not at all; it is
    /// durable on return.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode), and [`Error::Io`]: then it is not known which of
    /// the two manifests is there.
    pub(crate) fn write(&self, vfs: &dyn Vfs, path: &Path) -> Result<()> {
        let bytes = self.encode()?;
        vfs::write_file_atomically(vfs, path, &bytes).map_err(|e| Error::io("write", path, e))
    }

    /// What must be true of every manifest, beyond its grammar.
    fn check(&self) -> Result<(), &'static str> {
        let reached = self.folder < OUT_OF_REACH && self.lsn.is_in_reach();
        if !(reached && self.next_block.is_in_reach()) {
            return Err("a number in it was never given");
        }
        let mut runs = BTreeMap::new();
        let blocks = self.blocks.iter().map(|block| (block.id, block.pieces));
        for (id, pieces) in blocks.chain(self.doomed.iter().copied()) {
            if pieces == 0 {
                return Err("a block has no pieces");
            }
            match id.get().checked_add(u64::from(pieces)) {
                Some(end) if end <= self.next_block.get() => {
                    if runs.insert(id.get(), end).is_some() {
                        return Err("two blocks have the same number");
                    }
                }
                _ => return Err("a block's number is beyond the highest given"),
            }
        }
        let mut free_from = 0;
        for (start, end) in runs {
            if start < free_from {
                return Err("two blocks share a piece");
            }
            free_from = end;
        }
        if self
            .blocks
            .iter()
            .any(|block| block.entries == 0 || block.len < block.pieces)
        {
            return Err("a block is empty");
        }
        let ascending = self.blocks.is_sorted_by(|a, b| a.first_key < b.first_key);
        if ascending {
            Ok(())
        } else {
            Err("the blocks are not in ascending order")
        }
    }
}

/// Magic, length and CRC, in this order; gives the format, which the CRC covers: a
/// flipped bit in it is damage, not a newer version.
fn check_frame(cursor: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, Malformed> {
    if cursor.array()? != MAGIC {
        return Err(Malformed {
            what: "the file does not begin as one",
            at: 0,
        });
    }
    let crc = cursor.u32()?;
    if crc != crc32fast::hash(bytes.get(CRC_END..).unwrap_or_default()) {
        return Err(Malformed {
            what: "the checksum is wrong",
            at: MAGIC.len(),
        });
    }
    let format = cursor.u32()?;
    if format == 0 {
        return Err(Malformed {
            what: "there is no format 0",
            at: CRC_END,
        });
    }
    if cursor.u64()? != bytes.len() as u64 {
        return Err(cursor.malformed("the file has not the length that it names"));
    }
    Ok(format)
}

fn decode_body(cursor: &mut Cursor<'_>) -> Result<Manifest, Malformed> {
    let header_len = cursor.size()?;
    let _flags = cursor.u32()?;
    let store = StoreId::from_bytes(cursor.array()?);
    let folder = cursor.u64()?;
    let lsn = Lsn::new(cursor.u64()?);
    let time_micros = cursor.u64()?;
    let next_block = BlockId::new(cursor.u64()?);
    let doomed_count = cursor.size()?;
    let block_count = cursor.size()?;
    let schema = take_schema(cursor, header_len)?;
    cursor.check_count(doomed_count, DOOMED_BYTES)?;
    let mut doomed = Vec::with_capacity(doomed_count);
    for _ in 0..doomed_count {
        doomed.push((BlockId::new(cursor.u64()?), cursor.u32()?));
    }
    cursor.check_count(block_count, BLOCK_BYTES_MIN)?;
    let mut blocks = Vec::with_capacity(block_count);
    for _ in 0..block_count {
        blocks.push(decode_block(cursor)?);
    }
    if cursor.remaining() != 0 {
        return Err(cursor.malformed("bytes follow the last block"));
    }
    Ok(Manifest {
        store,
        folder,
        lsn,
        time_micros,
        schema,
        next_block,
        doomed,
        blocks,
    })
}

/// The extension of a header that says the schema version of the state, of manifests and
/// snapshots alike: nothing where none was declared.
pub(crate) fn schema_extension(schema: u32) -> Vec<u8> {
    match schema {
        0 => Vec::new(),
        schema => schema.to_le_bytes().to_vec(),
    }
}

/// Takes the extension of a header of `header_len` bytes, and gives the schema version
/// that it says. What a later version put behind that is skipped.
pub(crate) fn take_schema(cursor: &mut Cursor<'_>, header_len: usize) -> Result<u32, Malformed> {
    let end = header_len.checked_sub(cursor.at());
    let extension = end.ok_or_else(|| cursor.malformed("the header is too short"))?;
    match extension {
        0 => Ok(0),
        1..4 => Err(cursor.malformed("the schema version is cut off")),
        _ => {
            let schema = cursor.u32()?;
            cursor.take(extension - 4)?;
            Ok(schema)
        }
    }
}

fn decode_block(cursor: &mut Cursor<'_>) -> Result<BlockMeta, Malformed> {
    let id = BlockId::new(cursor.u64()?);
    let pieces = cursor.u32()?;
    let len = cursor.u32()?;
    let hash = cursor.u64()?;
    let entries = cursor.u32()?;
    let live_bytes = cursor.u64()?;
    let deadline = cursor.u64()?;
    let key_len = cursor.size()?;
    let first_key = cursor.take(key_len)?.into();
    Ok(BlockMeta {
        first_key,
        id,
        pieces,
        len,
        hash,
        entries,
        live_bytes,
        deadline,
    })
}

#[cfg(test)]
mod tests;
