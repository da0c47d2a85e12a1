//! Owns the target `log`: what becomes of bytes where frames, heads, marks, segments
//! and the bodies of commits should be.

use std::path::Path;
use std::sync::Arc;

use super::input::Input;
use crate::engine::body::{BodyOp, BodyWriter, read_body, schema_of};
use crate::ids::{Epoch, Lsn, OUT_OF_REACH, SegmentId};
use crate::scope::Scope;
use crate::testing::SimDisk;
use crate::vfs::Vfs;
use crate::wal::suite::{self, Said};
use crate::wal::{Known, Room};

const FOLDER: &str = "wal";
const MARKS: &str = "marks";

/// How many segments one folder has.
const SEGMENTS_MAX: usize = 6;

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 9 {
        0 => suite::any_frame(input.rest(), SegmentId::new(1)),
        1 => suite::forged_frame(input.rest(), SegmentId::new(1)),
        2 => {
            let said = said(&mut input);
            let flip = usize::from(input.u16());
            suite::made_frame(said, input.rest(), flip);
        }
        3 => suite::any_header(input.rest(), SegmentId::new(1)),
        4 => {
            let id = SegmentId::new(u64::from(input.u8()));
            suite::forged_header(input.rest(), id);
        }
        5 => marks(&mut input),
        6 => any_body(input.rest()),
        7 => made_body(&mut input),
        _ => folder(&mut input),
    }
}

fn said(input: &mut Input<'_>) -> Said {
    Said {
        segment: SegmentId::new(input.number()),
        epoch: Epoch::new(input.number()),
        lsn: Lsn::new(input.number()),
        durable: Lsn::new(input.number()),
        time_micros: input.number(),
        kind: 1 + input.u8() % 3,
    }
}

fn marks(input: &mut Input<'_>) {
    let disk = SimDisk::new(0);
    let forged = input.flag();
    let mut bytes = input.rest().to_vec();
    if forged {
        super::seal::seal(Path::new(MARKS), &mut bytes);
    }
    disk.write(MARKS, &bytes).expect("an empty disk");
    suite::any_marks(&disk, Path::new(MARKS));
}

/// Whatever the bytes are: the ops that are read lie inside them, and read the same
/// when they are written again.
fn any_body(bytes: &[u8]) {
    let mut ops = Vec::new();
    let read = read_body(bytes, |op| {
        ops.push(op);
        Ok(())
    });
    let held = |op: &BodyOp<'_>| match op {
        BodyOp::Scope(part) | BodyOp::Delete(part) => part.len(),
        BodyOp::Put(key, cell) => key.len() + cell.len(),
        BodyOp::Clear => 0,
    };
    assert!(ops.iter().map(held).sum::<usize>() <= bytes.len());
    if read.is_ok() {
        let schema = schema_of(bytes).expect("a body that was read has one");
        written_again(schema, &ops);
    }
}

fn written_again(schema: u32, ops: &[BodyOp<'_>]) {
    let mut writer = BodyWriter::new(schema);
    for op in ops {
        match op {
            BodyOp::Scope(scope) => writer.scope(scope),
            BodyOp::Put(key, cell) => writer.write(key, &Some(Arc::from(*cell))),
            BodyOp::Delete(key) => writer.write(key, &None),
            BodyOp::Clear => writer.clear(),
        }
    }
    let mut again = Vec::with_capacity(ops.len());
    let read = read_body(writer.bytes(), |op| {
        again.push(op);
        Ok(())
    });
    assert!(matches!(read, Ok(Ok(()))), "a body that was made: {read:?}");
    assert_eq!(again, ops);
    assert_eq!(schema_of(writer.bytes()), Some(schema));
}

fn made_body(input: &mut Input<'_>) {
    let mut parts = Vec::new();
    while !input.is_empty() {
        parts.push(match input.u8() % 4 {
            0 => (0, Scope::custom(input.text()).encode(), &[][..]),
            1 => (1, input.chunk().to_vec(), input.long_chunk()),
            2 => (2, input.chunk().to_vec(), &[][..]),
            _ => (3, Vec::new(), &[][..]),
        });
    }
    let ops = parts.iter().map(|(kind, key, cell)| match kind {
        0 => BodyOp::Scope(key),
        1 => BodyOp::Put(key, cell),
        2 => BodyOp::Delete(key),
        _ => BodyOp::Clear,
    });
    let schema = u32::try_from(parts.len() * parts.len()).unwrap_or(u32::MAX);
    written_again(schema, &ops.collect::<Vec<_>>());
}

/// A folder of segments, each made of frames that may follow each other, or not, and
/// of any bytes.
fn folder(input: &mut Input<'_>) {
    let disk = SimDisk::new(0);
    disk.create_dir(Path::new(FOLDER)).expect("an empty disk");
    let flags = input.u8();
    // What is known comes from files whose numbers were checked.
    let known = |number: u64| Lsn::new(number % OUT_OF_REACH);
    let reach = known(input.number());
    // The snapshot that is named may be a damaged one, newer than what there is.
    let snapshot = match flags & 2 {
        0 => reach,
        _ => known(input.number()),
    };
    let known = Known {
        store: suite::STORE,
        snapshot,
        reach,
        vouched: reach.max(snapshot),
        fresh_base: None,
        salvage: flags & 1 == 1,
        room: [Room::Ample, Room::Scarce][usize::from(flags >> 2 & 1)],
    };
    let mut chain = Chain::default();
    for _ in 0..SEGMENTS_MAX {
        if input.is_empty() {
            break;
        }
        let (id, bytes) = chain.segment(input);
        let path = suite::path_of(Path::new(FOLDER), id);
        disk.write(path, &bytes).expect("a folder");
    }
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    suite::any_log(&vfs, Path::new(FOLDER), Path::new(MARKS), known);
}

/// What would come next in a log that is as it should be.
#[derive(Default)]
struct Chain {
    id: u64,
    epoch: u64,
    lsn: u64,
}

impl Chain {
    /// One that goes on, or anything else.
    fn next(number: &mut u64, input: &mut Input<'_>) -> u64 {
        *number = match input.u8() {
            0..=199 => number.wrapping_add(1),
            200..=215 => *number,
            216..=231 => number.wrapping_sub(1),
            _ => input.number(),
        };
        *number
    }

    fn segment(&mut self, input: &mut Input<'_>) -> (SegmentId, Vec<u8>) {
        let before = SegmentId::new(self.id);
        let id = SegmentId::new(Self::next(&mut self.id, input));
        let epoch = Epoch::new(Self::next(&mut self.epoch, input));
        let base = match input.u8() {
            0..=199 => self.lsn,
            _ => input.number(),
        };
        self.lsn = base;
        let mut bytes = suite::header_bytes(id, epoch, before, Lsn::new(base));
        for _ in 0..input.below(24) {
            self.part(input, (id, epoch), &mut bytes);
        }
        (id, bytes)
    }

    /// A frame, or bytes.
    fn part(&mut self, input: &mut Input<'_>, (id, epoch): (SegmentId, Epoch), out: &mut Vec<u8>) {
        let tag = input.u8();
        match tag {
            0..=207 => {
                let last = self.lsn;
                let lsn = Lsn::new(Self::next(&mut self.lsn, input));
                let kind = [1, 1, 1, 1, 2, 2, 3, 3][usize::from(tag % 8)];
                let mut body = input.chunk().to_vec();
                if kind == 2 {
                    body.splice(..0, last.to_le_bytes());
                }
                let said = Said {
                    segment: id,
                    epoch,
                    lsn,
                    durable: Lsn::new(last.saturating_sub(u64::from(input.u8()))),
                    time_micros: 1,
                    kind,
                };
                out.extend(suite::frame_bytes(said, &body));
            }
            208..=215 => out.resize(out.len() + usize::from(input.u16()), 0),
            216..=223 => {
                let cut = usize::from(input.u8());
                out.truncate(out.len().saturating_sub(cut));
            }
            224..=231 if !out.is_empty() => {
                let at = input.below(out.len());
                out[at] ^= 1 << (input.u8() % 8);
            }
            _ => out.extend_from_slice(input.chunk()),
        }
    }
}
