//! Blocks over a folder of files, whole and damaged.

use std::path::Path;

use super::*;
use crate::ids::Lsn;
use crate::image::ImageBackend;
use crate::image::block::BlockBuilder;
use crate::image::folder::FolderBackend;
use crate::vfs::RealVfs;

fn open(folder: &Path, cache_bytes: u64) -> Blocks {
    Blocks::new(
        FolderBackend::new(Arc::new(RealVfs)).open(folder).unwrap(),
        cache_bytes,
    )
}

/// Stores blocks of one entry each, with cells of these lengths.
fn store(blocks: &Blocks, next: u64, lens: &[usize]) -> (Vec<BlockMeta>, BlockId) {
    let mut sink = blocks.sink(BlockId::new(next));
    let put = |(n, len): (usize, &usize)| {
        let mut builder = BlockBuilder::new();
        builder
            .push(&[n as u8], Lsn::new(n as u64), &vec![n as u8; *len])
            .unwrap();
        let (live, deadline) = (builder.live_bytes(), builder.deadline());
        let bytes = builder.finish();
        sink.put(bytes.into(), &[n as u8], 1, live, deadline)
            .unwrap()
    };
    let metas = lens.iter().enumerate().map(put).collect();
    (metas, sink.finish().unwrap())
}

const LENS: [usize; 5] = [0, 10, PIECE_BYTES_MAX, 5 * PIECE_BYTES_MAX, 3_000_000];

#[test]
fn blocks_of_any_length_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = open(dir.path(), 1 << 26);
    let (metas, next) = store(&blocks, 7, &LENS);
    blocks.sync().unwrap();
    let pieces: u64 = metas.iter().map(|meta| u64::from(meta.pieces)).sum();
    assert_eq!(next.get(), 7 + pieces);
    assert_eq!(metas[2].pieces, 2);
    for (n, meta) in metas.iter().enumerate() {
        let block = blocks.read(meta).unwrap();
        let (lsn, cell) = block.find(&[n as u8]).unwrap();
        assert_eq!(lsn, Lsn::new(n as u64));
        assert_eq!(block.cell(cell), vec![n as u8; LENS[n]]);
        assert_eq!(blocks.read_uncached(meta).unwrap().bytes(), block.bytes());
    }
    blocks.delete(&[(metas[3].id, metas[3].pieces)]).unwrap();
    let left = std::fs::read_dir(dir.path()).unwrap().count() as u64;
    assert_eq!(left, pieces - u64::from(metas[3].pieces));
    blocks.delete_from(metas[1].id).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(
        blocks.read(&metas[4]).is_err(),
        "the cache forgets what was removed"
    );
    blocks.close().unwrap();
    assert!(blocks.read(&metas[0]).is_err());
}

#[test]
fn whatever_is_wrong_with_a_block_is_damage_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = open(dir.path(), 0);
    let (metas, _) = store(&blocks, 0, &LENS);
    let file = |id: BlockId| dir.path().join(format!("{:016x}.piece", id.get()));
    let check = |meta: &BlockMeta| {
        let error = blocks.read(meta).unwrap_err();
        assert_eq!(error.kind, ImageErrorKind::Damaged);
        let key = meta.first_key.escape_ascii();
        let name = format!("block {} (keys from \"{key}\" on)", meta.id);
        assert!(error.reason.contains(&name), "{error}");
    };
    // A flip, a cut and a removal, each in the last piece of a block.
    for meta in &metas {
        let last = file(meta.id.advanced(u64::from(meta.pieces) - 1));
        let whole = std::fs::read(&last).unwrap();
        for bit in [0, whole.len() * 4, whole.len() * 8 - 1] {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&last, flipped).unwrap();
            check(meta);
        }
        for len in [0, whole.len() - 1] {
            std::fs::write(&last, &whole[..len]).unwrap();
            check(meta);
        }
        std::fs::remove_file(&last).unwrap();
        check(meta);
        std::fs::write(&last, whole).unwrap();
        blocks.read(meta).unwrap();
    }
    // A manifest that mixes up its lines.
    check(&BlockMeta {
        hash: metas[1].hash ^ 1,
        ..metas[1].clone()
    });
    check(&BlockMeta {
        first_key: [9].into(),
        ..metas[1].clone()
    });
    check(&BlockMeta {
        entries: 2,
        ..metas[1].clone()
    });
    check(&BlockMeta {
        len: 5,
        ..metas[1].clone()
    });
}

#[test]
fn the_cache_is_bounded_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = open(dir.path(), 1 << 20);
    let (metas, _) = store(&blocks, 0, &[10_000; 200]);
    for _ in 0..3 {
        for meta in &metas {
            blocks.read(meta).unwrap();
        }
    }
    let counts = blocks.counts();
    assert_eq!(counts.hits + counts.misses, 600);
    assert!(
        counts.misses >= 200 && counts.bytes <= 1 << 20,
        "{counts:?}"
    );
    blocks.read(&metas[199]).unwrap();
    let before = blocks.counts();
    blocks.read(&metas[199]).unwrap();
    assert_eq!(blocks.counts().hits, before.hits + 1);
    blocks.read_uncached(&metas[0]).unwrap();
    assert_eq!(blocks.counts().misses, before.misses);
}

#[test]
fn threads_that_miss_the_same_block_read_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = open(dir.path(), 1 << 26);
    let (metas, _) = store(&blocks, 0, &[10_000; 50]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                metas
                    .iter()
                    .for_each(|meta| drop(blocks.read(meta).unwrap()))
            });
        }
    });
    let counts = blocks.counts();
    assert_eq!((counts.hits, counts.misses), (150, 50));
}
