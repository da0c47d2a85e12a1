//! Owns what every image has to do: one suite for all backends. It panics where a
//! backend does not do it.

use std::path::Path;

use crate::ids::BlockId;
use crate::image::{Image, ImageBackend, PIECE_BYTES_MAX, Piece};
use crate::sync::thread;

/// Checks a backend in an empty folder, which exists.
///
/// # Panics
///
/// Panics if the backend breaks a promise of [`Image`].
pub fn suite(backend: &dyn ImageBackend, folder: &Path) {
    let open = || backend.open(folder).expect("opening the folder");
    let image = open();
    an_empty_image_has_nothing(image.as_ref());
    what_was_put_is_there(image.as_ref());
    what_was_deleted_is_gone(image.as_ref());
    pieces_may_be_empty_and_full(image.as_ref());
    many_threads_may_call(image.as_ref());
    image
        .put(vec![piece(900, 50), piece(u64::MAX, 3)])
        .expect("put");
    image.sync().expect("sync");
    assert!(image.bytes_on_disk().expect("size") > 0);
    image.close().expect("close");
    assert!(image.get(&[id(900)]).is_err(), "a closed image answered");
    assert!(
        image.put(vec![piece(901, 1)]).is_err(),
        "a closed image took a piece"
    );
    assert!(image.sync().is_err(), "a closed image synced");
    drop(image);

    // At once, in the same process.
    let image = open();
    expect(
        image.as_ref(),
        &[(900, Some(50)), (901, None), (u64::MAX, Some(3))],
    );
    drop(image);

    // Dropped without a close, what was synced before is still there.
    let image = open();
    expect(image.as_ref(), &[(900, Some(50)), (u64::MAX, Some(3))]);
    image.delete_from(BlockId::ZERO).expect("delete");
    image.sync().expect("sync");
    image.close().expect("close");
    let image = open();
    expect(image.as_ref(), &[(900, None), (u64::MAX, None)]);
    image.close().expect("close");
}

fn an_empty_image_has_nothing(image: &dyn Image) {
    expect(image, &[(0, None), (1, None), (u64::MAX, None)]);
    assert!(image.get(&[]).expect("get").is_empty());
    image.put(Vec::new()).expect("put nothing");
    image.delete(&[id(5)]).expect("delete what is not there");
    image.delete_from(id(5)).expect("delete what is not there");
    image.sync().expect("sync nothing");
}

fn what_was_put_is_there(image: &dyn Image) {
    image
        .put((1..100).map(|n| piece(n, n as usize)).collect())
        .expect("put");
    expect(
        image,
        &[
            (70, Some(70)),
            (1, Some(1)),
            (100, None),
            (99, Some(99)),
            (1, Some(1)),
        ],
    );
    image.put(vec![(id(3), bytes(3, 33))]).expect("put again");
    expect(image, &[(3, Some(33))]);
}

fn what_was_deleted_is_gone(image: &dyn Image) {
    image
        .delete(&[id(10), id(12), id(10), id(1_000)])
        .expect("delete");
    expect(
        image,
        &[(9, Some(9)), (10, None), (11, Some(11)), (12, None)],
    );
    image.delete_from(id(50)).expect("delete");
    expect(image, &[(49, Some(49)), (50, None), (99, None)]);
    image.put(vec![piece(60, 6)]).expect("put");
    expect(image, &[(59, None), (60, Some(6)), (61, None)]);
}

fn pieces_may_be_empty_and_full(image: &dyn Image) {
    let full = PIECE_BYTES_MAX;
    image
        .put((200..240).map(|n| piece(n, full)).collect())
        .expect("put");
    image.put(vec![piece(300, 0)]).expect("put");
    image.sync().expect("sync");
    expect(
        image,
        &[(200, Some(full)), (239, Some(full)), (300, Some(0))],
    );
}

fn many_threads_may_call(image: &dyn Image) {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for n in 0..50 {
                    let n = 400 + thread * 50 + n;
                    image.put(vec![piece(n, 100)]).expect("put");
                    expect(image, &[(n, Some(100)), (200, Some(PIECE_BYTES_MAX))]);
                    if n % 25 == 0 {
                        image.sync().expect("sync");
                    }
                }
            });
        }
    });
    let all: Vec<_> = (400..600).map(|n| (n, Some(100))).collect();
    expect(image, &all);
}

fn expect(image: &dyn Image, wanted: &[(u64, Option<usize>)]) {
    let ids: Vec<_> = wanted.iter().map(|(n, _)| id(*n)).collect();
    let found = image.get(&ids).expect("get");
    assert_eq!(found.len(), wanted.len());
    for (found, (n, len)) in found.into_iter().zip(wanted) {
        assert!(
            found == len.map(|len| bytes(*n, len)),
            "piece {n} is not what was put"
        );
    }
}

fn piece(n: u64, len: usize) -> Piece {
    (id(n), bytes(n, len))
}

fn id(n: u64) -> BlockId {
    BlockId::new(n)
}

/// Bytes that tell pieces and places apart.
fn bytes(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (n.wrapping_mul(31) ^ at.wrapping_mul(at | 1)) as u8)
        .collect()
}
