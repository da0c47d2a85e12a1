//! Data files that come and go, an index that is behind or damaged, folders of others.

use super::*;
use crate::image::sled::SledBackend;
use crate::image::suite;
use crate::vfs::sim::{Fault, Loss, SimDisk};

fn backend(data_bytes: u64) -> FileBackend {
    FileBackend {
        data_bytes,
        ..FileBackend::default()
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn id(n: u64) -> BlockId {
    BlockId::new(n)
}

#[test]
fn it_is_an_image() {
    for data_bytes in [1, 5_000, DATA_BYTES] {
        let dir = tempfile::tempdir().unwrap();
        suite::suite(&backend(data_bytes), dir.path());
    }
}

#[test]
fn a_file_goes_with_the_last_piece_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(100);
    let image = backend.open(dir.path()).unwrap();
    for n in 0..3 {
        let pieces = [10 * n, 10 * n + 1].map(|n| (id(n), vec![n as u8; 60]));
        image.put(pieces.to_vec()).unwrap();
    }
    image.sync().unwrap();
    let data = |n: u32| format!("{n:08x}.data");
    let index = INDEX_OF_FILES.to_owned();
    assert_eq!(
        names(dir.path()),
        [data(0), data(1), data(2), index.clone()]
    );
    let full = image.bytes_on_disk().unwrap();
    assert_eq!(full, 6 * 60 + index::len(6));

    image.delete(&[id(0), id(10), id(11)]).unwrap();
    // Written elsewhere, and so no longer there.
    image.put(vec![(id(1), vec![9; 60])]).unwrap();
    // The last file too, of which the next piece would have been.
    image.delete(&[id(20), id(21)]).unwrap();
    assert_eq!(names(dir.path()), [data(3), index.clone()]);
    image.delete(&[id(1)]).unwrap();
    image.put(vec![(id(2), vec![2; 60])]).unwrap();
    // No index has spoken of the number, as it does of those below.
    assert_eq!(names(dir.path()), [data(3), index.clone()]);
    drop(image);

    // The index speaks of files that are gone, and not of the one that is there.
    let image = backend.open(dir.path()).unwrap();
    let all: Vec<_> = [0, 1, 2, 10, 11, 20, 21].map(id).to_vec();
    assert_eq!(image.get(&all).unwrap(), vec![None; 7]);
    assert_eq!(names(dir.path()), [index]);
    image.put(vec![(id(3), vec![3; 60])]).unwrap();
    assert_eq!(image.get(&[id(3)]).unwrap(), [Some(vec![3; 60])]);
}

#[test]
fn what_was_not_synced_takes_nothing_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let backend = FileBackend::default();
    let image = backend.open(dir.path()).unwrap();
    image.put(vec![(id(1), vec![1; 60])]).unwrap();
    image.sync().unwrap();
    image
        .put(vec![(id(1), vec![8; 60]), (id(2), vec![2; 60])])
        .unwrap();
    drop(image);
    let image = backend.open(dir.path()).unwrap();
    assert_eq!(
        image.get(&[id(1), id(2)]).unwrap(),
        [Some(vec![1; 60]), None]
    );
}

#[test]
fn a_piece_of_a_cut_file_is_too_short() {
    let dir = tempfile::tempdir().unwrap();
    let backend = FileBackend::default();
    let image = backend.open(dir.path()).unwrap();
    image
        .put(vec![(id(1), vec![1; 60]), (id(2), vec![2; 60])])
        .unwrap();
    image.sync().unwrap();
    drop(image);
    let data = dir.path().join("00000000.data");
    let file = std::fs::OpenOptions::new().write(true).open(data).unwrap();
    file.set_len(70).unwrap();
    let image = backend.open(dir.path()).unwrap();
    assert_eq!(
        image.get(&[id(1), id(2)]).unwrap(),
        [Some(vec![1; 60]), Some(vec![2; 10])]
    );
}

#[test]
fn neither_backend_opens_a_folder_of_the_other() {
    let (files, sled) = (FileBackend::default(), SledBackend::default());
    let backends: [&dyn ImageBackend; 2] = [&files, &sled];
    for (one, other) in [(0, 1), (1, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let image = backends[one].open(dir.path()).unwrap();
        image.put(vec![(id(1), vec![1; 60])]).unwrap();
        image.sync().unwrap();
        image.close().unwrap();
        let before = names(dir.path());
        let error = backends[other].open(dir.path()).unwrap_err();
        assert_eq!(error.kind, ImageErrorKind::Damaged);
        assert_eq!(names(dir.path()), before);
        let image = backends[one].open(dir.path()).unwrap();
        assert_eq!(image.get(&[id(1)]).unwrap(), [Some(vec![1; 60])]);
    }
}

#[test]
fn a_damaged_index_and_strange_names() {
    let dir = tempfile::tempdir().unwrap();
    let strange = ["x.data", "0.data", "ffffffff.data", "0000000G.data"];
    for name in strange {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    let image = FileBackend::default().open(dir.path()).unwrap();
    // One is a data file that no index speaks of.
    assert_eq!(names(dir.path()), ["0.data", "0000000G.data", "x.data"]);
    image.put(vec![(id(1), vec![1])]).unwrap();
    image.sync().unwrap();
    drop(image);
    let index = dir.path().join(INDEX_OF_FILES);
    let mut bytes = std::fs::read(&index).unwrap();
    bytes[30] ^= 4;
    std::fs::write(&index, bytes).unwrap();
    let error = FileBackend::default().open(dir.path()).unwrap_err();
    assert_eq!(error.kind, ImageErrorKind::Damaged);
    assert!(error.reason.contains(INDEX_OF_FILES), "{error}");
}

#[test]
fn a_piece_that_is_too_long_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = FileBackend::default().open(dir.path()).unwrap();
    let pieces = [PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1];
    let pieces = (1..).zip(pieces).map(|(n, len)| (id(n), vec![1; len]));
    let error = image.put(pieces.collect()).unwrap_err();
    assert!(error.reason.contains("piece 2 has 24577 bytes"), "{error}");
    assert_eq!(image.get(&[id(1), id(2)]).unwrap(), [None, None]);
    assert_eq!(image.bytes_on_disk().unwrap(), index::len(0));
}

#[test]
fn a_missing_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = FileBackend::default().open(&dir.path().join("none"));
    assert_eq!(error.unwrap_err().kind, ImageErrorKind::Io);
}

#[test]
fn an_index_that_speaks_of_the_highest_file_leaves_room_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(1);
    let image = backend.open(dir.path()).unwrap();
    image.put(vec![(id(1), vec![1; 9])]).unwrap();
    image.put(vec![(id(2), vec![2; 9])]).unwrap();
    image.sync().unwrap();
    drop(image);
    let path = |n: u32| dir.path().join(format!("{n:08x}.data"));
    std::fs::rename(path(1), path(u32::MAX)).unwrap();
    let index = dir.path().join(INDEX_OF_FILES);
    let mut places = index::decode(&std::fs::read(&index).unwrap()).unwrap();
    places.get_mut(&id(2)).unwrap().file = u32::MAX;
    std::fs::write(&index, index::encode(&places)).unwrap();

    let image = backend.open(dir.path()).unwrap();
    image.put(vec![(id(3), vec![3; 9])]).unwrap();
    // Not the number of one that is gone, and of which the index still speaks.
    image.delete(&[id(1)]).unwrap();
    image.put(vec![(id(4), vec![4; 9])]).unwrap();
    assert!(!path(0).exists() && path(1).exists() && path(2).exists());
    let all = [1, 2, 3, 4].map(id);
    let of = |n: u8| Some(vec![n; 9]);
    assert_eq!(image.get(&all).unwrap(), [None, of(2), of(3), of(4)]);
    // Now it no longer does.
    image.sync().unwrap();
    image.put(vec![(id(5), vec![5; 9])]).unwrap();
    assert!(path(0).exists());
    image.sync().unwrap();
    drop(image);
    let image = backend.open(dir.path()).unwrap();
    assert_eq!(image.get(&all).unwrap(), [None, of(2), of(3), of(4)]);
    assert_eq!(image.get(&[id(5)]).unwrap(), [of(5)]);
}

/// An image on a simulated disk with a piece in it, and another one that is not synced yet.
fn on_a_disk() -> (SimDisk, Box<dyn Image>) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("image")).unwrap();
    let image = open_on(&disk);
    image.put(vec![(id(1), vec![1; 60])]).unwrap();
    image.sync().unwrap();
    image.put(vec![(id(2), vec![2; 60])]).unwrap();
    (disk, image)
}

fn open_on(disk: &SimDisk) -> Box<dyn Image> {
    let backend = FileBackend::new(Arc::new(disk.clone()));
    backend.open(Path::new("image")).unwrap()
}

#[test]
fn a_sync_without_room_is_made_good_by_the_next_one() {
    let (disk, image) = on_a_disk();
    disk.set_capacity(Some(0));
    let error = image.sync().unwrap_err();
    assert_eq!(error.kind, ImageErrorKind::Full);
    disk.set_capacity(None);
    image.sync().unwrap();
    let found = open_on(&disk.crash(Loss::Everything)).get(&[id(1), id(2)]);
    assert_eq!(found.unwrap(), [Some(vec![1; 60]), Some(vec![2; 60])]);
}

/// It says the next time that all is well, of what is lost.
#[test]
fn a_sync_that_failed_is_not_tried_again() {
    let (disk, image) = on_a_disk();
    let at = disk.operations() + 1;
    disk.fail(Fault::LostSync { at });
    for _ in 0..2 {
        assert_eq!(image.sync().unwrap_err().kind, ImageErrorKind::Io);
    }
    let put = image.put(vec![(id(3), vec![3; 60])]);
    assert_eq!(put.unwrap_err().kind, ImageErrorKind::Io);
    let found = open_on(&disk.crash(Loss::Everything)).get(&[id(1), id(2)]);
    assert_eq!(found.unwrap(), [Some(vec![1; 60]), None]);
}
