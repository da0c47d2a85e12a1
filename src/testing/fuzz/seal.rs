//! Owns making damaged files look whole: every checksum, hash and length of a file is
//! computed anew, after `docs/format.md` and not with the engine's own encoders, so that
//! a fuzzer gets past them and reaches what is behind. And it gives all files of a store
//! another id, so that a store is the same in every process.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// The bytes of the index of an image in files before its entries, and those of each.
const INDEX_HEAD: usize = 24;
const INDEX_ENTRY: usize = 24;

/// Where a piece is in the files of an image.
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) file: usize,
    pub(super) length: usize,
    pub(super) offset: u64,
}

/// What a file is, by its path in the store's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Format,
    Marks,
    Manifest,
    Segment,
    Snapshot,
    /// The index of an image in files.
    Index,
    /// Pieces of an image, or nothing of ours.
    Other,
}

pub(super) fn kind(path: &Path) -> Kind {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match name {
        "FORMAT" => Kind::Format,
        "marks" => Kind::Marks,
        "MANIFEST" => Kind::Manifest,
        "pieces.index" => Kind::Index,
        _ if name.ends_with(".log") => Kind::Segment,
        _ if name.ends_with(".snap") => Kind::Snapshot,
        _ => Kind::Other,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let field = bytes.get(at..at + 4).and_then(|field| field.first_chunk());
    field.map_or(0, |field| u32::from_le_bytes(*field) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..at + 8).and_then(|field| field.first_chunk());
    field.map_or(0, |field| u64::from_le_bytes(*field))
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + field.len()) {
        place.copy_from_slice(field);
    }
}

/// Puts the CRC of `from..to` at `at`, as far as there are such bytes.
fn crc(bytes: &mut [u8], at: usize, from: usize, to: usize) {
    if let Some(covered) = bytes.get(from..to) {
        let crc = crc32fast::hash(covered);
        put(bytes, at, &crc.to_le_bytes());
    }
}

/// Makes every checksum in a file what it should be.
pub(super) fn seal(path: &Path, bytes: &mut [u8]) {
    match kind(path) {
        Kind::Format => crc(bytes, 8, 12, bytes.len()),
        Kind::Marks => bytes.chunks_mut(512).for_each(|slot| {
            put(slot, 0, b"EVKLMRK\n");
            crc(slot, 8, 12, 512);
        }),
        Kind::Manifest => {
            let len = bytes.len() as u64;
            put(bytes, 16, &len.to_le_bytes());
            crc(bytes, 8, 12, bytes.len());
        }
        Kind::Segment => segment(bytes),
        Kind::Snapshot => snapshot(bytes),
        Kind::Index => {
            let count = bytes.len().saturating_sub(INDEX_HEAD) / INDEX_ENTRY;
            put(bytes, 16, &(count as u64).to_le_bytes());
            crc(bytes, 8, 12, bytes.len());
        }
        Kind::Other => {}
    }
}

/// The head, and all frames as far as their lengths lead.
fn segment(bytes: &mut [u8]) {
    crc(bytes, 8, 12, 4096);
    let mut at = 4096;
    loop {
        let length = u32_at(bytes, at + 4);
        if length < 56 || !length.is_multiple_of(8) || at + length > bytes.len() {
            return;
        }
        crc(bytes, at, at + 4, at + length);
        at += length;
    }
}

fn snapshot(bytes: &mut [u8]) {
    let header = u32_at(bytes, 16);
    crc(bytes, 8, 12, header);
    let Some(footer) = bytes.len().checked_sub(48) else {
        return;
    };
    let mut hashes = Vec::new();
    let mut at = header;
    while at + 36 <= footer {
        let end = at + 36 + u32_at(bytes, at + 12);
        let Some(block) = bytes.get(at + 36..end) else {
            break;
        };
        let hash = xxh3_64(block).to_le_bytes();
        put(bytes, at + 28, &hash);
        crc(bytes, at, at + 4, at + 36);
        hashes.extend_from_slice(&hash);
        at = end;
    }
    let header_crc = u32_at(bytes, 8) as u32;
    put(bytes, footer + 8, &header_crc.to_le_bytes());
    let len = bytes.len() as u64;
    put(bytes, footer + 32, &len.to_le_bytes());
    put(bytes, footer + 40, &xxh3_64(&hashes).to_le_bytes());
    crc(bytes, footer, footer + 4, footer + 48);
}

/// Puts the hash and the length of a piece that was changed into the manifest, if the
/// piece is the whole of a block.
pub(super) fn vouch(manifest: &mut [u8], piece: u64, bytes: &[u8]) {
    let (header, doomed, blocks) = (
        u32_at(manifest, 24),
        u32_at(manifest, 80),
        u32_at(manifest, 84),
    );
    let Some(mut at) = doomed
        .checked_mul(12)
        .and_then(|doomed| doomed.checked_add(header))
    else {
        return;
    };
    for _ in 0..blocks.min(manifest.len()) {
        if manifest.get(at..at + 8) == Some(&piece.to_le_bytes()) && u32_at(manifest, at + 8) == 1 {
            put(manifest, at + 12, &(bytes.len() as u32).to_le_bytes());
            put(manifest, at + 16, &xxh3_64(bytes).to_le_bytes());
        }
        at += 48 + u32_at(manifest, at + 44);
    }
    seal(Path::new("MANIFEST"), manifest);
}

/// What the index of an image in files says.
pub(super) fn entries(index: &[u8]) -> impl Iterator<Item = Entry> {
    let entries = index.get(INDEX_HEAD..).unwrap_or_default();
    entries.chunks_exact(INDEX_ENTRY).map(|entry| Entry {
        id: u64_at(entry, 0),
        file: u32_at(entry, 8),
        length: u32_at(entry, 12),
        offset: u64_at(entry, 16),
    })
}

/// Makes a file one of another store.
pub(super) fn adopt(path: &Path, bytes: &mut [u8], store: [u8; 16]) {
    match kind(path) {
        Kind::Format | Kind::Segment | Kind::Snapshot => put(bytes, 24, &store),
        Kind::Manifest => put(bytes, 32, &store),
        Kind::Marks => bytes.chunks_mut(512).for_each(|slot| put(slot, 16, &store)),
        Kind::Index | Kind::Other => return,
    }
    seal(path, bytes);
}
