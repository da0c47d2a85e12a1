//! Owns the inputs that each corpus begins with: one for each thing that a target does,
//! so that a fuzzer need not find the grammar of its inputs first.

use std::path::Path;

use super::content::{Base, IN_FILES, base, bases};

pub(super) type Seeds = Vec<(String, Vec<u8>)>;

/// Names them in their order.
pub(super) fn named(seeds: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Seeds {
    let numbered = seeds.into_iter().enumerate();
    numbered
        .map(|(number, (name, bytes))| (format!("seed-{number:02}-{name}"), bytes))
        .collect()
}

pub(super) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A part with its length before it, as `Input::chunk` reads it.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len().min(255);
    join(&[&[len as u8], &bytes[..len]])
}

/// The same with a length of two bytes.
fn long_chunk(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len().min(usize::from(u16::MAX));
    join(&[&(len as u16).to_le_bytes(), &bytes[..len]])
}

/// The first file of that kind in the first store, and its number there.
fn file(beginning: &str) -> (u8, &'static [u8]) {
    file_of(&bases()[0], |name| name.starts_with(beginning))
}

fn file_of(base: &'static Base, is_it: impl Fn(&Path) -> bool) -> (u8, &'static [u8]) {
    let mut files = base.files.iter().enumerate();
    let found = files.find(|(_, (name, _))| is_it(name));
    let (number, (_, bytes)) = found.expect("a file of each kind");
    (number as u8, bytes)
}

pub(super) fn log() -> Seeds {
    let segment = file("wal").1;
    let (head, frames) = segment.split_at(4096);
    let frame = &frames[..usize::from(frames[4])];
    let body = &frames[frame.len()..][56..usize::from(frames[frame.len() + 4])];
    let marks = file("marks").1;
    // A head, then frames of 10 bytes, then what ends it.
    let frames_of = |count: u8, kind: u8, end: &[u8]| {
        let mut part = vec![0, 0, 0, count + 1];
        for _ in 0..count {
            part.extend_from_slice(&[kind, 0]);
            part.extend(chunk(b"\0\0\x01\x01\x01\x02\x01k\x01v"));
            part.push(1);
        }
        join(&[&part, end])
    };
    let folder = |salvage: u8, parts: &[&[u8]]| join(&[&[8, salvage, 0], &parts.concat()]);
    let (opened, whole) = (frames_of(1, 4, &[]), frames_of(5, 0, &[]));
    named([
        ("any-frame", join(&[&[0], frame])),
        ("forged-frame", join(&[&[1], frame])),
        (
            "made-frame",
            join(&[&[2, 13, 13, 14, 13, 15, 0, 9, 0], b"the body"]),
        ),
        ("any-head", join(&[&[3], &head[..96]])),
        ("forged-head", join(&[&[4, 1], &head[12..96]])),
        ("any-marks", join(&[&[5, 0], marks])),
        ("forged-marks", join(&[&[5, 1], marks])),
        ("any-body", join(&[&[6], body])),
        (
            "made-body",
            join(&[
                &[7, 0],
                &chunk(b"\x02w\0\x01"),
                &[3, 1],
                &chunk(b"key"),
                &long_chunk(b"\0\x01"),
                &[2],
                &chunk(b"other"),
            ]),
        ),
        ("a-segment", folder(0, &[&whole])),
        ("two-segments", folder(0, &[&opened, &whole])),
        ("three-segments", folder(0, &[&opened, &whole, &whole])),
        ("a-torn-tail", folder(0, &[&frames_of(4, 0, &[217, 5])])),
        ("a-flip", folder(0, &[&frames_of(4, 0, &[225, 0, 17, 3])])),
        (
            "salvaged",
            folder(1, &[&frames_of(4, 0, &[225, 0, 17, 3]), &whole]),
        ),
        ("zeros", folder(0, &[&frames_of(2, 0, &[209, 0, 8])])),
        (
            "a-gap",
            folder(1, &[&opened, &[0, 0, 0, 2, 0, 240, 40, 0, 0]]),
        ),
    ])
}

pub(super) fn folder() -> Seeds {
    let mut seeds: Vec<(&'static str, Vec<u8>)> = Vec::new();
    for base in 0..6 {
        seeds.push(("undamaged", vec![base << 2]));
    }
    let files = ["FORMAT", "MANIFEST", "marks", "wal", "image", "snapshots"];
    for name in files {
        let (number, bytes) = file(name);
        seeds.push(("flipped", vec![0, 0, number, 20, 0]));
        seeds.push(("zeroed", vec![0, 2, number, 40, 0, 8, 0]));
        seeds.push(("cut", vec![0, 4, number, 30, 0]));
        seeds.push(("removed", vec![0, 6, number, 0, 0]));
        // A number in it, sealed.
        seeds.push(("forged", vec![1, 0x83, number, 60, 2, 3]));
        seeds.push(("forged-byte", vec![1, 0x82, number, 130, 1, 1, 1, 4]));
        seeds.push(("copied", vec![1, 0x88, number, 0, number + 1]));
        let name: &[u8] = match name {
            "FORMAT" => &[0, 13],
            "marks" => &[1, 13],
            "MANIFEST" => &[2, 13],
            "wal" => &[3, 13],
            "snapshots" => &[5, 13],
            _ => &[7, 13],
        };
        let whole = long_chunk(&bytes[..bytes.len().min(600)]);
        seeds.push(("alone", join(&[&[3], name, &[1], &whole])));
    }
    // Another number for a segment that is there.
    seeds.push(("renamed", vec![1, 0x48, 3, 2, file("wal").0, 0]));
    seeds.push(("two-hits", vec![0, 6, 0, 0, 0, 4, file("wal").0, 200, 16]));
    in_files(&mut seeds);
    named(seeds)
}

/// Stores with an image in files: whole, both of its files damaged, and its index forged.
fn in_files(seeds: &mut Vec<(&'static str, Vec<u8>)>) {
    for number in IN_FILES..IN_FILES + 3 {
        let (damage, forgery) = (number << 2, number << 2 | 1);
        let file = |end: &str| {
            let is_it = |name: &Path| name.extension().is_some_and(|found| found == end);
            file_of(base(number), is_it).0
        };
        seeds.push(("files-undamaged", vec![damage]));
        for file in [file("index"), file("data")] {
            seeds.push(("files-flipped", vec![damage, 0, file, 60, 0]));
            seeds.push(("files-cut", vec![damage, 4, file, 90, 0]));
            seeds.push(("files-removed", vec![damage, 6, file, 0, 0]));
        }
        // A length, an offset and a number, sealed.
        let index = file("index");
        seeds.push(("files-forged", vec![forgery, 0x83, index, 36, 2, 2]));
        seeds.push(("files-forged", vec![forgery, 0x83, index, 40, 3, 3]));
        seeds.push(("files-forged", vec![forgery, 0x83, index, 48, 1, 3]));
        seeds.push(("files-emptied", vec![forgery, 0x84, index, 24]));
        seeds.push(("files-forged", vec![forgery, 0x82, file("data"), 90, 1, 1]));
    }
    let index = file_of(base(IN_FILES), |name| name.ends_with("pieces.index")).1;
    // The name with number 8 of those that are not numbered.
    let whole = long_chunk(index);
    seeds.push(("files-alone", join(&[&[3, 11, 20], &[1], &whole])));
}

pub(super) fn value() -> Seeds {
    let all = b"\x09\x05\x01a\x08\x03\x03\x02\x04\xfd\0\0\0\0\0\0\0\x80\x05\0\0\0\0\0\0\xf0\x3f\
                \x01b\x06\x03abc\x01c\x07\x02\0\xff\x01d\x09\0\x01e\x00";
    let made = [
        12, 5, 0, 10, 3, 2, 7, 6, 8, 0, 7, 3, b'a', 0xC3, 0xA9, 1, 9, 2, 0, 255, 2, 0,
    ];
    named([
        ("any-bytes", join(&[&[0], all])),
        ("bytes-list", join(&[&[0], b"\x08\x02\x07\x01a\x06\x01b"])),
        ("made", join(&[&[1, 0, 9, 0], &made])),
        ("deep-lists", vec![2, 200, 0, 0, 100, 0]),
        ("deep-maps", vec![2, 0, 255, 0xFF, 255, 255]),
        ("deep-enough", vec![2, 100, 0, 0xAA, 127, 0, 0]),
        ("long-string", vec![3, 0, 0, 2]),
        ("long-list", vec![3, 1, 2, 2, 3, 6, 0, 0]),
        (
            "json",
            join(&[&[4], br#"{"a":[1,-2.5,1e300,"\u00e9",null,true],"b":{}}"#]),
        ),
        (
            "json-numbers",
            join(&[&[4], b"[18446744073709551615,-9223372036854775808,0.1]"]),
        ),
        ("stored", join(&[&[5, 200, 0, 9], &made])),
        ("stored-beyond", join(&[&[5, 2, 0, 0], &made])),
    ])
}

pub(super) fn keys() -> Seeds {
    let step = join(&[&[2], &chunk(b"w\0"), &chunk(b"s")]);
    named([
        ("any-scope", join(&[&[0], b"\x03w\0\xff\0\x01s\0\x01key"])),
        ("any-component", join(&[&[0], b"a\0\xff\0\x01"])),
        (
            "two-scopes",
            join(&[&[1], &step, &[1], &chunk(b"w"), &chunk(b"k"), &chunk(b"s")]),
        ),
        (
            "one-scope",
            join(&[&[1], &step, &step, &chunk(b"k"), &chunk(b"l")]),
        ),
        (
            "too-long",
            join(&[&[1, 0xF2], &chunk(&[0; 40]), &[50], &chunk(b"x"), &[50, 0]]),
        ),
        (
            "components",
            join(&[&[2], &chunk(b"a\0\xff"), &chunk(b"a\0")]),
        ),
        (
            "prefixes",
            join(&[&[2], &chunk(b"\xff\xff"), &chunk(b"\xff")]),
        ),
        (
            "walls",
            join(&[
                &[3, 0],
                &step,
                &[1],
                &chunk(b"k"),
                &[2, 1],
                &chunk(b"w"),
                &[2, 1],
                &chunk(b"l"),
                &[1, 0],
                &chunk("k\u{10FFFF}".as_bytes()),
                &[3, 0, 1],
                &chunk(b"\0"),
            ]),
        ),
    ])
}

pub(super) fn operations() -> Seeds {
    // A few steps of each kind behind a crash.
    let steps: &[u8] = &[
        0, 0, 1, 120, 80, 0, 16, 2, 200, 0, 12, 32, 1, 5, 7, 15, 2, 0, 3, 150, 40, 11, 4, 1, 26, 5,
        102, 9, 24, 19, 1, 0, 6, 50, 1, 48, 7, 50, 1, 22, 23, 0, 13, 8, 11, 1, 0, 2, 9, 26, 0, 14,
        1, 120, 30, 0, 10, 28, 29, 0, 0, 2, 130, 99, 30, 12, 0, 1, 197, 255, 15, 0, 8, 2,
    ];
    let many: Vec<u8> = steps.iter().copied().cycle().take(400).collect();
    let with = |head: &[u8]| join(&[head, steps]);
    named([
        // Mode; trouble: kind, place (two bytes); loss; dice (two bytes).
        ("stopped-before", with(&[0, 0, 30, 0, 0, 1, 0])),
        ("stopped-midway", with(&[0, 2, 60, 0, 200, 2, 0])),
        ("stopped-after", with(&[0, 3, 90, 0, 64, 3, 0])),
        (
            "stopped-twice",
            with(&[0, 0x80, 70, 0, 0, 2, 12, 0, 220, 4, 0]),
        ),
        ("an-error", with(&[0, 4, 40, 0, 64, 5, 0])),
        ("a-full-disk", with(&[0, 0x64, 40, 0, 0, 6, 0])),
        ("a-short-write", with(&[0, 5, 50, 0, 64, 7, 0])),
        ("a-lost-sync", with(&[0, 6, 50, 0, 0, 0, 1])),
        ("a-failed-read", with(&[0, 7, 9, 0, 64, 1, 1])),
        ("without-snapshots", with(&[1, 1, 80, 0, 140, 2, 1])),
        ("persisted", with(&[2 | 4 << 3, 1, 60, 0, 0, 3, 1])),
        ("many-steps", join(&[&[0, 1, 250, 0, 129, 4, 1], &many])),
        ("in-files-stopped", with(&[3, 2, 90, 0, 200, 2, 0])),
        (
            "in-files-stopped-twice",
            with(&[3, 0x80, 70, 0, 0, 2, 12, 0, 220, 4, 0]),
        ),
        (
            "in-files-without-snapshots",
            with(&[4, 1, 80, 0, 140, 2, 1]),
        ),
        ("in-files-an-error", with(&[4, 4, 95, 0, 64, 5, 0])),
        ("in-files-a-lost-sync", with(&[4, 6, 88, 0, 0, 0, 1])),
        ("in-files-persisted", with(&[5 | 4 << 3, 1, 60, 0, 0, 3, 1])),
        (
            "in-files-many-steps",
            join(&[&[4, 1, 200, 1, 129, 4, 1], &many]),
        ),
    ])
}

pub(super) fn merge() -> Seeds {
    // {"a": {"b": 1}, "c": "x"} and others of its kind.
    let one: &[u8] = &[12, 2, 0, 12, 1, 1, 2, 1, 2, 7, 1, b'x'];
    let two: &[u8] = &[12, 2, 0, 12, 1, 2, 2, 9, 2, 12, 1, 3, 0];
    let three: &[u8] = &[12, 1, 0, 2, 7];
    let in_a_store: &[u8] = &[0, 200, 0, 9];
    named([
        ("maps", join(&[&[1], one, two, three])),
        ("a-leaf-between", join(&[&[1], one, three, two])),
        ("leaves", vec![1, 2, 5, 0, 7, 1, b'a']),
        (
            "merging",
            join(&[
                in_a_store,
                &[0, 0, 0],
                one,
                &[0, 1, 1],
                two,
                &[0, 1, 0],
                three,
            ]),
        ),
        (
            "counting",
            join(&[
                in_a_store,
                &[0, 2, 0, 17, 0, 2, 1, 4, 0, 2, 0, 13, 1, 2, 0, 2],
            ]),
        ),
        (
            "comparing",
            join(&[
                in_a_store,
                &[0, 3, 0, 0],
                one,
                &[0, 3, 1, 0],
                two,
                &[0, 3, 0, 1, 13],
                one,
            ]),
        ),
        (
            "too-large",
            join(&[&[0, 0, 0, 0], &[0, 1, 0], one, &[0, 1, 0], two]),
        ),
    ])
}

pub(super) fn migrations() -> Seeds {
    // What is there: scope, key, number.
    let writes: &[u8] = &[
        9, 0, 0, 5, 1, 0, 3, 1, 1, 4, 2, 0, 6, 2, 3, 7, 3, 0, 8, 3, 2, 9, 1, 4, 1, 0, 2, 2,
    ];
    let head = |flags: u8, checkpoint: u8| join(&[&[flags, writes[0], checkpoint], &writes[1..]]);
    // Three of them, each with its way back: numbers are doubled; a key is renamed and
    // counted in another scope; one is moved and one removed.
    let steps: &[u8] = &[
        2, 1, 1, 0, 0, 3, 0, 1, 2, 0, 0, 0, 1, 4, 1, 9, 2, 3, 13, 0, 13, 4, 1, 11, 0, 7, 1, 0, 5,
        0, 7,
    ];
    let none: &[u8] = &[0, 0];
    let named_with =
        |flags: u8, troubles: &[u8], steps: &[u8]| join(&[&head(flags, 4), troubles, steps]);
    named([
        ("undisturbed", named_with(0, none, steps)),
        ("without-the-image", named_with(2, none, steps)),
        ("killed-before", named_with(1, none, steps)),
        // Trouble: kind, place (two bytes), loss.
        ("stopped", named_with(0, &[1, 2, 30, 0, 0, 0], steps)),
        (
            "stopped-again-and-again",
            named_with(3, &[3, 2, 20, 0, 0, 2, 28, 0, 200, 3, 24, 0, 70, 0], steps),
        ),
        (
            "taken-back-stopped",
            named_with(0, &[0, 2, 2, 25, 0, 0, 2, 33, 0, 70], steps),
        ),
        ("an-error", named_with(0, &[1, 4, 30, 0, 70, 0], steps)),
        ("a-full-disk", named_with(1, &[1, 0x64, 24, 0, 0, 0], steps)),
        (
            "a-lost-sync",
            named_with(0, &[1, 6, 40, 0, 0, 1, 6, 30, 0, 0], steps),
        ),
        ("a-failed-read", named_with(0, &[1, 7, 25, 0, 70, 0], steps)),
        (
            "it-fails",
            named_with(0, &[1, 2, 22, 0, 70, 0], &[0, 0, 0, 15, 9]),
        ),
        ("irreversible", named_with(0, none, &[0, 128, 0, 0, 0, 1])),
        ("empty", vec![0, 0, 0, 1, 2, 24, 0, 70, 0, 1]),
    ])
}
