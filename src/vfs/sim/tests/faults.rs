//! Owns the tests of stops and failures.

use super::*;

fn write_abcd(when: When) -> (SimDisk, Box<dyn VfsFile>) {
    let disk = SimDisk::new(5);
    let file = durable(&disk, "a", b"....");
    disk.stop_at(disk.operations() + 2, when);
    file.write_at(b"AB", 0).unwrap();
    let error = file.write_at(b"CDEFGHIJ", 2).unwrap_err();
    assert!(is_power_loss(&error) && disk.stopped());
    (disk, file)
}

#[test]
fn a_stop_before_midway_and_after_a_write() {
    let live = |when| write_abcd(when).0.crash(Loss::Nothing).read("a").unwrap();
    assert_eq!(live(When::Before), b"AB..");
    assert_eq!(live(When::After), b"ABCDEFGHIJ");
    let midway = live(When::Midway);
    assert_ne!(midway, b"ABCDEFGHIJ");
    assert!(
        midway
            .iter()
            .zip(b"ABCDEFGHIJ")
            .all(|(found, new)| found == new || *found == b'.')
    );
    assert_eq!(midway, live(When::Midway));
}

#[test]
fn after_a_stop_every_call_fails_and_nothing_changes() {
    let (disk, file) = write_abcd(When::After);
    let (before, operations, reads) = (disk.files(), disk.operations(), disk.reads());
    let at = path("a");
    let results = [
        file.read_at(&mut [0], 0).map(drop),
        file.write_at(b"x", 0),
        file.sync(),
        file.set_len(0),
        file.len().map(drop),
        disk.open(at, OpenMode::Read).map(drop),
        disk.open(path("b"), OpenMode::Create).map(drop),
        disk.create_dir(path("d")),
        disk.read_dir(path("")).map(drop),
        disk.metadata(at).map(drop),
        disk.rename(at, path("b")),
        disk.remove_file(at),
        disk.remove_dir_all(path("d")),
        disk.sync_dir(path("")),
        disk.lock(path("lock")).map(drop),
        disk.lock(at).map(drop),
    ];
    assert!(
        results
            .iter()
            .all(|result| is_power_loss(result.as_ref().unwrap_err()))
    );
    assert_eq!(
        (disk.files(), disk.operations(), disk.reads()),
        (before, operations, reads)
    );
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), b"....");
    assert!(!is_power_loss(&ErrorKind::NotFound.into()));
}

#[test]
fn a_stop_after_a_sync_leaves_it_done() {
    for (when, expected) in [(When::Before, b"old"), (When::After, b"new")] {
        let disk = SimDisk::new(0);
        let file = durable(&disk, "a", b"old");
        file.write_at(b"new", 0).unwrap();
        disk.stop_at(disk.operations() + 1, when);
        assert!(is_power_loss(&file.sync().unwrap_err()));
        assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), expected);
    }
}

#[test]
fn a_removal_of_a_folder_stops_midway() {
    let left = |seed| {
        let disk = SimDisk::new(seed);
        disk.create_dir(path("d")).unwrap();
        for name in ["d/a", "d/b", "d/c"] {
            create(&disk, name);
        }
        disk.stop_at(disk.operations() + 1, When::Midway);
        assert!(disk.remove_dir_all(path("d")).is_err());
        disk.files().len()
    };
    assert_eq!(
        (0..50).map(left).collect::<BTreeSet<_>>(),
        BTreeSet::from([0, 1, 2, 3])
    );
}

#[test]
fn every_operation_is_counted_and_traced() {
    let disk = SimDisk::new(0);
    disk.record(true);
    disk.create_dir(path("d")).unwrap();
    let file = create(&disk, "d/a");
    file.write_at(b"abc", 7).unwrap();
    file.set_len(4).unwrap();
    file.sync().unwrap();
    disk.rename(path("d/a"), path("d/b")).unwrap();
    file.read_at(&mut [0; 5], 1).unwrap();
    disk.lock(path("d/lock")).unwrap();
    disk.lock(path("d/lock")).unwrap();
    disk.sync_dir(path("d")).unwrap();
    disk.remove_file(path("d/b")).unwrap();
    disk.remove_dir_all(path("d")).unwrap();
    assert_eq!((disk.operations(), disk.reads()), (10, 2));
    let trace: Vec<_> = disk.trace().iter().map(Operation::to_string).collect();
    let expected = [
        "operation 1: create folder d",
        "operation 2: create d/a",
        "operation 3: write d/a, 3 bytes at 7",
        "operation 4: set length of d/a, 4 bytes",
        "operation 5: sync d/a",
        "operation 6: rename d/a to d/b",
        "read 1: read d/a, 5 bytes at 1",
        "operation 7: create and lock d/lock",
        "read 2: lock d/lock",
        "operation 8: sync folder d",
        "operation 9: remove d/b",
        "operation 10: remove folder d",
    ];
    assert_eq!(trace, expected);
    disk.record(false);
    assert_eq!(disk.trace(), []);
}

#[test]
fn a_lost_sync_takes_the_data_though_later_syncs_succeed() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[1; 1024]);
    file.write_at(&[2; 2000], 0).unwrap();
    disk.fail(Fault::LostSync { at: 1 });
    assert_eq!(
        file.sync().unwrap_err().raw_os_error(),
        Some(Errno::IO.raw_os_error())
    );
    file.sync().unwrap();
    assert_eq!(disk.read("a").unwrap(), [2; 2000]);
    // A reopened process sees the bytes too, and its sync does not help.
    let disk = disk.crash(Loss::Nothing);
    let file = disk.open(path("a"), OpenMode::Write).unwrap();
    assert_eq!(disk.read("a").unwrap(), [2; 2000]);
    file.write_at(&[3], 600).unwrap();
    file.sync().unwrap();
    // Only the sector that was written to again is new; the length arrives.
    let mut expected = vec![1; 1024];
    expected[512..].fill(2);
    expected[600] = 3;
    expected.resize(2000, 0);
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), expected);
}

#[test]
fn a_sector_that_is_written_to_again_takes_along_what_a_lost_sync_left_in_it() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[1; 1024]);
    file.write_at(&[2; 1024], 0).unwrap();
    disk.fail(Fault::LostSync { at: 1 });
    file.sync().unwrap_err();
    assert!(
        images(&disk, "a")
            .iter()
            .all(|found| found.as_deref() == Some(&[1; 1024][..]))
    );
    file.write_at(&[3], 600).unwrap();
    file.sync().unwrap();
    let mut expected = vec![1; 1024];
    expected[512..].fill(2);
    expected[600] = 3;
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), expected);
}

#[test]
fn an_error_hits_its_operation_once_or_from_there_on() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"old");
    let next = disk.operations() + 1;
    let eio = |at, lasting| Fault::Operation {
        at,
        failure: Failure::Io,
        lasting,
    };
    disk.fail(eio(next + 1, false));
    file.write_at(b"new", 0).unwrap();
    assert!(file.write_at(b"NEW", 0).is_err());
    file.sync().unwrap();
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), b"new");
    disk.fail(eio(next, true));
    assert!(file.sync().is_err() && file.sync().is_err() && disk.sync_dir(path("")).is_err());
    assert_eq!(file.len().unwrap(), 3);
    disk.clear_faults();
    file.sync().unwrap();
}

#[test]
fn an_error_of_a_sync_leaves_the_data_in_doubt() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    disk.fail(Fault::Operation {
        at: 1,
        failure: Failure::Io,
        lasting: false,
    });
    file.sync().unwrap_err();
    let found: BTreeSet<_> = images(&disk, "a").into_iter().map(Option::unwrap).collect();
    assert_eq!(found, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_read_fails_once_or_from_there_on() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"abc");
    disk.fail(Fault::Read {
        at: 2,
        lasting: false,
    });
    let read = || file.read_at(&mut [0; 3], 0);
    assert!(read().is_ok() && read().is_err() && read().is_ok());
    disk.fail(Fault::Read {
        at: 1,
        lasting: true,
    });
    assert!(read().is_err() && disk.metadata(path("a")).is_err());
    file.write_at(b"x", 0).unwrap();
}

#[test]
fn a_short_write_leaves_a_prefix() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "a");
    let mut lengths = BTreeSet::new();
    for _ in 0..50 {
        file.set_len(0).unwrap();
        disk.fail(Fault::ShortWrite {
            at: 1,
            failure: Failure::NoSpace,
        });
        let error = file.write_at(b"abcd", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        let found = disk.read("a").unwrap();
        assert!(b"abcd".starts_with(&found));
        lengths.insert(found.len());
    }
    assert_eq!(lengths, BTreeSet::from([0, 1, 2, 3]));
    assert!(!disk.stopped());
}

#[test]
fn a_full_disk_takes_what_fits_and_frees_what_is_removed() {
    let disk = SimDisk::new(0);
    disk.set_capacity(Some(3 * PAGE_BYTES));
    let file = create(&disk, "a");
    file.set_len(1 << 20).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    let error = file.write_at(&[2; 10_000], 4000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let found = disk.read("a").unwrap();
    assert_eq!((found[12_287], found[12_288]), (2, 0));
    file.write_at(&[3; 12_288], 0).unwrap();
    let other = create(&disk, "b");
    assert!(other.write_at(b"x", 0).is_err());
    disk.remove_file(path("a")).unwrap();
    assert!(
        other.write_at(b"x", 0).is_err(),
        "an open file keeps its room"
    );
    drop(file);
    other.write_at(b"x", 0).unwrap();
    disk.set_capacity(None);
    other.write_at(&[0; 100_000], 0).unwrap();
}

#[test]
fn a_device_without_room_still_removes_and_syncs_folders() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"abc");
    disk.fail(Fault::Operation {
        at: 1,
        failure: Failure::NoSpace,
        lasting: true,
    });
    assert_eq!(
        file.write_at(b"x", 0).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    disk.remove_file(path("a")).unwrap();
    disk.sync_dir(path("")).unwrap();
}

#[test]
fn a_read_only_disk_is_read_and_not_changed() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"abc");
    disk.lock(path("lock")).unwrap();
    disk.set_read_only(true);
    let results = [
        file.write_at(b"x", 0),
        file.sync(),
        disk.open(path("a"), OpenMode::Write).map(drop),
        disk.open(path("b"), OpenMode::Create).map(drop),
        disk.rename(path("a"), path("b")),
        disk.remove_file(path("a")),
        disk.lock(path("lock")).map(drop),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
    disk.open(path("a"), OpenMode::Read)
        .unwrap()
        .read_at(&mut [0; 3], 0)
        .unwrap();
    assert_eq!(disk.read("a").unwrap(), b"abc");
}
