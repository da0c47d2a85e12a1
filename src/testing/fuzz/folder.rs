//! Owns the target `folder`: opening whatever is where a store should be.
//!
//! ```text
//! input  := mode u8, part*       mode % 4: 0 damage, 1 and 2 forgery, 3 any files;
//!                                mode / 4: the store that it begins with, from 48 on
//!                                one with an image in files
//! ```
//! *Damage* is what a disk does: each file is hit once at most, by a flip, a burst, zeros,
//! a cut, an extension or a removal. No checksum can survive that by chance that a fuzzer
//! could look for, so the store has to show a state that it once had. *Forgery* changes
//! files in any way and may seal them, so that what is behind the checksums is reached:
//! then nothing is known of the state, but that it is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::content::{self, Base, Content, PLACE, base};
use super::input::Input;
use super::seal;
use crate::error::Error;
use crate::scope::Scope;
use crate::state::{Salvage, Store};
use crate::testing::{Loss, SimDisk};
use crate::vfs::Vfs as _;

/// How many parts of an input count.
const PARTS_MAX: usize = 24;

/// No file is made longer than this.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// The index of an image in files.
const INDEX: &str = "pieces.index";

/// A key that is written to a store that opened.
const KEY: &str = "written by the fuzz target";

type Files = BTreeMap<PathBuf, Vec<u8>>;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let base = base(mode >> 2);
    let mut files = match mode % 4 {
        3 => Files::new(),
        _ => base.files.clone(),
    };
    let hits = match mode % 4 {
        0 => Some(damage(&mut input, &mut files)),
        1 | 2 => {
            forge(&mut input, &mut files);
            None
        }
        _ => {
            anything(&mut input, &mut files);
            None
        }
    };
    let disk = disk_with(base, &files);
    for salvage in [Salvage::Refuse, Salvage::CutLog] {
        let copy = disk.crash(Loss::Nothing);
        match hits {
            Some(hits) => after_damage(base, &copy, salvage, hits),
            None => drop(open_and_use(base, &copy, salvage, true)),
        }
    }
}

/// The store's disk with these files in it, and no others.
fn disk_with(base: &Base, files: &Files) -> SimDisk {
    let disk = base.disk.crash(Loss::Nothing);
    let place = Path::new(PLACE);
    for name in base.files.keys().filter(|name| !files.contains_key(*name)) {
        disk.remove(place.join(name)).expect("a file of the base");
    }
    for (name, bytes) in files {
        if base.files.get(name) != Some(bytes) {
            let path = place.join(name);
            make_folders(&disk, path.parent().unwrap_or(place));
            disk.write(&path, bytes).expect("a folder that was made");
        }
    }
    disk
}

fn make_folders(disk: &SimDisk, folder: &Path) {
    if let Some(above) = folder.parent() {
        make_folders(disk, above);
    }
    // It may be there.
    let _ = disk.create_dir(folder);
}

/// Does what a disk may do. Gives how many files were hit.
fn damage(input: &mut Input<'_>, files: &mut Files) -> usize {
    let mut hit = BTreeSet::new();
    for _ in 0..PARTS_MAX {
        if input.is_empty() || files.is_empty() {
            break;
        }
        let kind = input.u8();
        let Some(name) = existing(input, files) else {
            break;
        };
        let at = usize::from(input.u16());
        if !hit.insert(name.clone()) {
            continue;
        }
        let bytes = files.entry(name.clone()).or_default();
        let len = bytes.len().max(1);
        let at = at % len;
        match kind % 7 {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (kind >> 5),
            1 => {
                for byte in bytes.iter_mut().skip(at).take(4) {
                    *byte ^= input.u8();
                }
            }
            2 | 3 => {
                let fill = [0, 0xFF][usize::from(kind & 1)];
                let count = usize::from(input.u16());
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(count)
                    .for_each(|b| *b = fill);
            }
            4 => bytes.truncate(at),
            5 => bytes.resize(
                bytes.len() + 1 + usize::from(input.u16()),
                [0, 0xFF][at & 1],
            ),
            _ => drop(files.remove(&name)),
        }
    }
    hit.len()
}

fn existing(input: &mut Input<'_>, files: &Files) -> Option<PathBuf> {
    let number = input.below(files.len());
    files.keys().nth(number).cloned()
}

/// A name in the folder, of a file that may be there.
fn any_name(input: &mut Input<'_>) -> PathBuf {
    let kind = input.u8() % 12;
    let number = input.number();
    match kind {
        0 => "FORMAT".into(),
        1 => "marks".into(),
        2 => "MANIFEST".into(),
        3 | 4 => format!("wal/{number:016x}.log").into(),
        5 | 6 => format!("snapshots/{number:016x}.snap").into(),
        7 | 8 => format!("image/1/{number:016x}.piece").into(),
        9 => format!("image/{number}/{:016x}.piece", 1).into(),
        10 => format!("wal/{number:016x}.log.tmp").into(),
        _ => {
            let names = [
                "MANIFEST.tmp",
                "FORMAT.tmp",
                "wal/0000000000000001.spare",
                "wal/0000000000000001.log.lost",
                "snapshots/0000000000000001.snap.tmp",
                "stranger",
                "image/file",
                "wal/file",
                "image/1/pieces.index",
                "image/1/00000000.data",
                "image/1/00000001.data",
                "image/1/pieces.index.tmp",
            ];
            names[number as usize % names.len()].into()
        }
    }
}

/// Changes files in any way, and seals some of them.
fn forge(input: &mut Input<'_>, files: &mut Files) {
    for _ in 0..PARTS_MAX {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let sealed = kind & 0x80 != 0;
        let name = match kind & 0x40 {
            0 => existing(input, files).unwrap_or_else(|| "FORMAT".into()),
            _ => any_name(input),
        };
        if kind % 16 == 15 {
            files.remove(&name);
            continue;
        }
        let source = match kind % 16 {
            8..=11 => existing(input, files),
            _ => None,
        };
        let source = source.and_then(|name| files.get(&name)).cloned();
        let bytes = files.entry(name.clone()).or_default();
        change(input, kind % 16, bytes, &source.unwrap_or_default());
        bytes.truncate(FILE_BYTES_MAX);
        if sealed {
            seal::seal(&name, bytes);
            let bytes = bytes.clone();
            vouch_for(&name, &bytes, files);
        }
    }
}

/// The pieces in a file that was changed are what the manifest names.
fn vouch_for(name: &Path, bytes: &[u8], files: &mut Files) {
    let ends = |end: &str| name.extension().is_some_and(|found| found == end);
    let pieces = if ends("piece") {
        let digits = name.file_stem().and_then(|stem| stem.to_str());
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number
            .map(|number| (number, bytes.to_vec()))
            .into_iter()
            .collect()
    } else if ends("index") || ends("data") {
        pieces_in_files(&name.with_file_name(INDEX), files)
    } else {
        Vec::new()
    };
    if let Some(manifest) = files.get_mut(Path::new("MANIFEST")) {
        for (number, bytes) in pieces {
            seal::vouch(manifest, number, &bytes);
        }
    }
}

/// The pieces of an image in files, where its index says that they are.
fn pieces_in_files(index: &Path, files: &Files) -> Vec<(u64, Vec<u8>)> {
    let entries = files.get(index).map_or(&[][..], Vec::as_slice);
    let piece = |entry: seal::Entry| {
        let data = files.get(&index.with_file_name(format!("{:08x}.data", entry.file)))?;
        let begin = usize::try_from(entry.offset).ok()?;
        let end = begin.checked_add(entry.length)?;
        Some((entry.id, data.get(begin..end.min(data.len()))?.to_vec()))
    };
    seal::entries(entries).filter_map(piece).collect()
}

/// Where in a file: anywhere, or a multiple of 8 behind the head of a segment.
fn place(input: &mut Input<'_>, len: usize) -> usize {
    let at = match input.u8() {
        front @ 0..=127 => usize::from(front),
        128..=159 => 4096 + 8 * usize::from(input.u8()),
        160..=175 => len.saturating_sub(usize::from(input.u8())),
        _ => usize::from(input.u16()),
    };
    at % (len + 1)
}

fn change(input: &mut Input<'_>, kind: u8, bytes: &mut Vec<u8>, source: &[u8]) {
    let at = place(input, bytes.len());
    match kind {
        0 | 1 => {
            let bit = input.u8() % 8;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        2 => overwrite(bytes, at, input.chunk()),
        3 => {
            let number = input.number().to_le_bytes();
            let width = [1, 2, 4, 8][input.below(4)];
            overwrite(bytes, at, &number[..width]);
        }
        4 => bytes.truncate(at),
        5 => bytes.extend_from_slice(input.chunk()),
        6 => {
            let chunk = input.chunk();
            bytes.splice(at..at, chunk.iter().copied());
        }
        7 => {
            let end = (at + usize::from(input.u16())).min(bytes.len());
            bytes.drain(at..end);
        }
        8 | 9 => *bytes = source.to_vec(),
        10 | 11 => {
            let from = place(input, source.len());
            let part = &source[from..];
            let count = usize::from(input.u16()).min(part.len());
            match kind {
                10 => overwrite(bytes, at, &part[..count]),
                _ => drop(bytes.splice(at..at, part[..count].iter().copied())),
            }
        }
        12 => *bytes = input.long_chunk().to_vec(),
        13 => bytes.resize(bytes.len() + usize::from(input.u16()), 0),
        _ => {
            let add = input.u8().cast_signed();
            if let Some(field) = bytes.get_mut(at..at + 8)
                && let Some(number) = field.first_chunk_mut::<8>()
            {
                let sum = u64::from_le_bytes(*number).wrapping_add_signed(i64::from(add));
                *number = sum.to_le_bytes();
            }
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let place = bytes.iter_mut().skip(at);
    place.zip(with).for_each(|(byte, with)| *byte = *with);
}

/// Files of any bytes.
fn anything(input: &mut Input<'_>, files: &mut Files) {
    for _ in 0..PARTS_MAX {
        if input.is_empty() {
            break;
        }
        let name = any_name(input);
        let sealed = input.flag();
        let mut bytes = input.long_chunk().to_vec();
        if sealed {
            seal::seal(&name, &mut bytes);
        }
        files.insert(name, bytes);
    }
}

/// A store that opens shows a state that it once had, and says so where it is not the
/// last one.
fn after_damage(base: &Base, disk: &SimDisk, salvage: Salvage, hits: usize) {
    let Some((found, reported)) = open_and_use(base, disk, salvage, false) else {
        return;
    };
    let found = found.expect("what no checksum covers was not changed");
    let last = base.history.last();
    if Some(&found) == last {
        return;
    }
    assert!(reported, "something is gone, and nothing was said");
    assert!(
        base.history.contains(&found),
        "a state that never was: {found:?}"
    );
    // One copy of the two was left.
    assert!(
        hits > 1 || salvage == Salvage::CutLog,
        "a single damage changed the state of a {} store",
        if base.closed { "closed" } else { "killed" }
    );
}

/// Opens the store. If there is one: reads it twice, verifies it, writes to it, closes it
/// and opens it again. Gives what it showed, and whether it reported anything.
fn open_and_use(
    base: &Base,
    disk: &SimDisk,
    salvage: Salvage,
    forged: bool,
) -> Option<(Option<Content>, bool)> {
    let before = content::files(disk);
    let store = match base.builder(disk, salvage).open(PLACE) {
        Ok(store) => store,
        Err(e) => {
            refused(&e, || content::files(disk) == before);
            return None;
        }
    };
    let recovery = store.recovery();
    let reported =
        recovery.cut.is_some() || !recovery.healed.is_empty() || !recovery.lost.is_empty();
    let found = read(&store, forged);
    if let Err(e) = store.verify() {
        assert!(matches!(e, Error::Corrupt(_)), "verify gives {e}");
        return Some((found, reported));
    }
    assert_eq!(found, read(&store, forged), "reading changed what is there");
    let found_again = found?;
    let written = store.global().set(KEY, "x");
    written.unwrap_or_else(|e| panic!("a store that verifies takes no write: {e}"));
    let closed = store.close();
    closed.unwrap_or_else(|e| panic!("a store that verifies does not close: {e}"));
    drop(store);
    let store = base.builder(disk, Salvage::Refuse).open(PLACE);
    let store = store.unwrap_or_else(|e| panic!("a store that was closed does not open: {e}"));
    let got: Option<String> = store.global().get(KEY).expect("what was written");
    assert_eq!(got.as_deref(), Some("x"));
    let last = read(&store, forged).expect("what could be read");
    if found_again.hidden || last.hidden {
        return Some((Some(found_again), reported));
    }
    let last = last.without(&Scope::Global, KEY);
    let first = found_again.clone().without(&Scope::Global, KEY);
    assert_eq!(last, first, "opening again shows other things");
    Some((Some(found_again), reported))
}

/// What a store shows, unless its blocks, whole by their hashes, make no sense.
fn read(store: &Store, forged: bool) -> Option<Content> {
    match Content::of(store, forged) {
        Ok(content) => Some(content),
        Err(Error::Corrupt(_)) => None,
        Err(e) => panic!("reading gives {e}"),
    }
}

fn refused(error: &Error, untouched: impl FnOnce() -> bool) {
    match error {
        Error::NewerFormat { .. } | Error::NotAStore { .. } => {
            assert!(untouched(), "refused, and changed: {error}");
        }
        Error::Corrupt(_) => {}
        _ => panic!("opening gives {error}"),
    }
}
