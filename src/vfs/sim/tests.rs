//! Owns the tests of the simulated disk: each thing that it promises to do, found
//! within a fixed number of seeds.

mod faults;
mod names;
mod stacks;

use super::*;
use crate::vfs::{read_file, write_file_atomically};

/// Enough for anything that happens once in fifty images.
const SEEDS: std::ops::Range<u64> = 0..1000;

fn path(path: &str) -> &Path {
    Path::new(path)
}

fn create(disk: &SimDisk, name: &str) -> Box<dyn VfsFile> {
    disk.open(path(name), OpenMode::Create).unwrap()
}

/// A file with these contents, durable with its name.
fn durable(disk: &SimDisk, name: &str, bytes: &[u8]) -> Box<dyn VfsFile> {
    let file = create(disk, name);
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(path(name).parent().unwrap()).unwrap();
    file
}

/// What the file holds in each of a thousand images.
fn images(disk: &SimDisk, name: &str) -> Vec<Option<Vec<u8>>> {
    SEEDS
        .map(|seed| disk.crash(Loss::Random(seed)).read(name))
        .collect()
}

#[test]
fn an_unsynced_write_is_lost_and_a_synced_one_survives() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    file.write_at(b"er", 3).unwrap();
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), b"old");
    assert_eq!(disk.crash(Loss::Nothing).read("a").unwrap(), b"newer");
    file.sync().unwrap();
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), b"newer");
    assert!(
        images(&disk, "a")
            .iter()
            .all(|found| found.as_deref() == Some(b"newer"))
    );
}

#[test]
fn a_killed_process_leaves_unsynced_what_was_unsynced() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    create(&disk, "b");
    let killed = disk.crash(Loss::Nothing);
    assert_eq!(killed.read("a").unwrap(), b"new");
    let cut = killed.crash(Loss::Everything);
    assert_eq!(
        (cut.read("a").unwrap().as_slice(), cut.read("b")),
        (&b"old"[..], None)
    );
}

#[test]
fn a_crash_image_is_a_disk_of_its_own() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", b"one");
    let lock = disk.lock(path("lock")).unwrap();
    let image = disk.crash(Loss::Nothing);
    assert_eq!((image.operations(), image.stopped()), (0, false));
    let reopened = image.open(path("a"), OpenMode::Write).unwrap();
    reopened.write_at(b"two", 0).unwrap();
    file.write_at(b"six", 0).unwrap();
    image.lock(path("lock")).unwrap();
    assert_eq!(disk.read("a").unwrap(), b"six");
    assert_eq!(image.read("a").unwrap(), b"two");
    let held = disk.lock(path("lock")).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::WouldBlock);
    drop(lock);
    disk.lock(path("lock")).unwrap();
}

#[test]
fn a_write_is_torn_at_sectors_and_nowhere_else() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[1; 2048]);
    file.write_at(&[2; 1500], 100).unwrap();
    let mut seen = BTreeSet::new();
    for found in images(&disk, "a") {
        let found = found.unwrap();
        assert_eq!(found.len(), 2048);
        let sectors = [100, 600, 1100, 1550].map(|at| found[at]);
        for (at, byte) in found.iter().enumerate() {
            let written = (100..1600).contains(&at);
            assert_eq!(*byte, if written { sectors[at / 512] } else { 1 });
        }
        seen.insert(sectors);
    }
    assert!(seen.contains(&[1; 4]) && seen.contains(&[2; 4]));
    assert!(seen.contains(&[1, 2, 1, 1]) && seen.contains(&[2, 1, 2, 1]));
}

#[test]
fn a_later_write_is_kept_and_an_earlier_lost_but_not_in_one_sector() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[0; 1024]);
    file.write_at(&[1], 0).unwrap();
    file.write_at(&[2], 1).unwrap();
    file.write_at(&[3], 512).unwrap();
    let found: BTreeSet<_> = images(&disk, "a")
        .into_iter()
        .map(|found| found.map(|bytes| (bytes[0], bytes[1], bytes[512])).unwrap())
        .collect();
    let possible = [
        (0, 0, 0),
        (0, 0, 3),
        (1, 0, 0),
        (1, 0, 3),
        (1, 2, 0),
        (1, 2, 3),
    ];
    assert_eq!(found, BTreeSet::from(possible));
}

#[test]
fn the_length_and_the_data_of_an_append_arrive_each_by_itself() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[1; 512]);
    file.write_at(&[2; 512], 512).unwrap();
    file.write_at(&[3; 512], 1024).unwrap();
    let found: BTreeSet<_> = images(&disk, "a")
        .into_iter()
        .map(|found| {
            found
                .unwrap()
                .chunks(512)
                .map(|sector| sector[0])
                .collect::<Vec<_>>()
        })
        .collect();
    // Nothing, data without the length, the length without data, a gap, and all.
    for expected in [
        &[1][..],
        &[1, 2],
        &[1, 0],
        &[1, 0, 3],
        &[1, 2, 0],
        &[1, 2, 3],
    ] {
        assert!(found.contains(expected), "{expected:?} in {found:?}");
    }
}

#[test]
fn an_unsynced_length_is_kept_or_lost() {
    let disk = SimDisk::new(0);
    let file = durable(&disk, "a", &[1; 1000]);
    file.set_len(100).unwrap();
    file.set_len(5000).unwrap();
    let found: BTreeSet<_> = images(&disk, "a")
        .into_iter()
        .map(|found| found.unwrap())
        .map(|bytes| (bytes.len(), bytes.iter().filter(|byte| **byte == 1).count()))
        .collect();
    assert_eq!(
        found,
        BTreeSet::from([(100, 100), (1000, 1000), (5000, 100), (5000, 1000)])
    );
    assert_eq!(disk.read("a").unwrap()[100..], [0; 4900]);
}

#[test]
fn the_same_seed_gives_the_same_image_byte_for_byte() {
    let disk = SimDisk::new(0);
    let mut random = Random::new(9);
    let files: Vec<_> = (0..8)
        .map(|n| durable(&disk, &format!("f{n}"), &[7; 5000]))
        .collect();
    for round in 0..100 {
        let file = &files[random.below(8) as usize];
        file.write_at(
            &vec![round; random.below(3000) as usize],
            random.below(9000),
        )
        .unwrap();
    }
    disk.rename(path("f0"), path("f1")).unwrap();
    disk.remove_file(path("f2")).unwrap();
    let contents = |disk: &SimDisk| -> Vec<_> {
        disk.files()
            .into_iter()
            .map(|(path, _)| (disk.read(&path), path))
            .collect()
    };
    let mut distinct = BTreeSet::new();
    for seed in SEEDS {
        let first = contents(&disk.crash(Loss::Random(seed)));
        assert_eq!(first, contents(&disk.crash(Loss::Random(seed))));
        distinct.insert(first);
    }
    assert!(distinct.len() > 500);
    assert!(distinct.contains(&contents(&disk.crash(Loss::Everything))));
    assert!(distinct.contains(&contents(&disk.crash(Loss::Nothing))));
}

#[test]
fn an_open_file_outlives_its_name() {
    let disk = SimDisk::new(0);
    let (removed, moved) = (durable(&disk, "a", b"a"), durable(&disk, "b", b"b"));
    let replaced = durable(&disk, "c", b"c");
    disk.remove_file(path("a")).unwrap();
    disk.rename(path("b"), path("c")).unwrap();
    disk.sync_dir(path("")).unwrap();
    for (file, byte) in [(&removed, b'a'), (&moved, b'b'), (&replaced, b'c')] {
        file.write_at(b"!", 1).unwrap();
        file.sync().unwrap();
        let mut buf = [0; 2];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 2);
        assert_eq!(buf, [byte, b'!']);
    }
    assert_eq!(disk.files(), [(PathBuf::from("c"), 2)]);
    assert_eq!(disk.read("c").unwrap(), b"b!");
    drop((removed, replaced));
    disk.sync_dir(path("")).unwrap();
    assert_eq!(disk.read("c").unwrap(), b"b!");
}

#[test]
fn calls_fail_as_posix_says() {
    let disk = SimDisk::new(0);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let open = |name: &str, mode| kind(disk.open(path(name), mode).map(drop));
    disk.create_dir(path("d")).unwrap();
    create(&disk, "d/f");
    create(&disk, "g");
    assert_eq!(open("missing", OpenMode::Read), ErrorKind::NotFound);
    assert_eq!(open("missing/f", OpenMode::Create), ErrorKind::NotFound);
    assert_eq!(
        open("./d/../d/f", OpenMode::Create),
        ErrorKind::AlreadyExists
    );
    assert_eq!(open("/g/f", OpenMode::Create), ErrorKind::NotADirectory);
    assert_eq!(open("d", OpenMode::Write), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.create_dir(path("d"))), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.create_dir(path("."))), ErrorKind::AlreadyExists);
    assert_eq!(kind(disk.rename(path("x"), path("y"))), ErrorKind::NotFound);
    assert_eq!(
        kind(disk.rename(path("d"), path("d/e"))),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        kind(disk.rename(path("g"), path("d"))),
        ErrorKind::IsADirectory
    );
    assert_eq!(
        kind(disk.rename(path("d"), path("g"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(kind(disk.remove_file(path("d"))), ErrorKind::IsADirectory);
    assert_eq!(
        kind(disk.remove_dir_all(path("g"))),
        ErrorKind::NotADirectory
    );
    assert_eq!(kind(disk.sync_dir(path("missing"))), ErrorKind::NotFound);
    disk.create_dir(path("e")).unwrap();
    assert_eq!(
        kind(disk.rename(path("e"), path("d"))),
        ErrorKind::DirectoryNotEmpty
    );
    disk.rename(path("d"), path("e")).unwrap();
    assert_eq!(disk.metadata(path("e/f")).unwrap().unwrap().name, "f");
    assert_eq!(disk.metadata(path("d/f")).unwrap(), None);
    let reader = disk.open(path("g"), OpenMode::Read).unwrap();
    assert!(reader.write_at(b"x", 0).is_err() && reader.set_len(1).is_err());
    let writer = disk.open(path("g"), OpenMode::Write).unwrap();
    assert_eq!(
        kind(writer.write_at(b"x", u64::MAX)),
        ErrorKind::FileTooLarge
    );
    disk.remove_dir_all(path("e")).unwrap();
    let names: Vec<_> = disk
        .read_dir(path(""))
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["g"]);
}

#[test]
fn damage_at_rest_is_there_for_the_process_and_after_a_power_cut() {
    let disk = SimDisk::new(0);
    disk.create_dir(path("d")).unwrap();
    disk.write("d/a", &[0xff; 10]).unwrap();
    disk.write("d/b", b"b").unwrap();
    disk.flip("d/a", 3, 1).unwrap();
    disk.zero("d/a", 8..99).unwrap();
    disk.truncate("d/a", 9).unwrap();
    disk.remove("d/b").unwrap();
    assert!(disk.flip("d/a", 9, 0).is_err() && disk.remove("d/b").is_err());
    let expected = [0xff, 0xff, 0xff, 0xfd, 0xff, 0xff, 0xff, 0xff, 0];
    for disk in [disk.clone(), disk.crash(Loss::Everything)] {
        assert_eq!(disk.read("/d/a").unwrap(), expected);
        assert_eq!(disk.files(), [(PathBuf::from("d/a"), 9)]);
    }
    disk.remove("d").unwrap();
    assert_eq!(disk.crash(Loss::Everything).files(), []);
    assert_eq!(disk.operations(), 1);
}

#[test]
fn a_file_written_atomically_is_whole_or_as_before_wherever_the_power_is_lost() {
    let (old, new) = (vec![1; 700], vec![2; 1300]);
    for operation in 1..=6 {
        for when in [When::Before, When::Midway, When::After] {
            let disk = SimDisk::new(operation);
            write_file_atomically(&disk, path("a"), &old).unwrap();
            disk.stop_at(disk.operations() + operation, when);
            let result = write_file_atomically(&disk, path("a"), &new);
            assert_eq!(
                (result.is_ok(), disk.stopped()),
                (operation == 6, operation < 6)
            );
            for seed in 0..100 {
                let image = disk.crash(Loss::Random(seed));
                let found = image.read("a").unwrap();
                assert!(found == new || (found == old && result.is_err()));
                write_file_atomically(&image, path("a"), &new).unwrap();
                let last = image.crash(Loss::Everything);
                assert_eq!(read_file(&last, path("a"), 1300).unwrap(), new);
            }
        }
    }
}

#[test]
fn what_a_seed_lets_through_can_be_written_out() {
    let disk = SimDisk::new(1);
    let mut random = Random::new(4);
    disk.create_dir(Path::new("d")).unwrap();
    for n in 0..40_u64 {
        let file = disk
            .open(Path::new(&format!("f{n}")), OpenMode::Create)
            .unwrap();
        for _ in 0..random.below(4) {
            let bytes = vec![n as u8 + 1; 1 + random.below(3000) as usize];
            file.write_at(&bytes, random.below(4000)).unwrap();
        }
        match random.below(4) {
            0 => file.sync().unwrap(),
            1 => file.set_len(random.below(2000)).unwrap(),
            2 => {
                let (from, to) = (format!("f{n}"), format!("d/g{n}"));
                disk.rename(Path::new(&from), Path::new(&to)).unwrap();
            }
            _ => disk.sync_dir(Path::new(".")).unwrap(),
        }
    }
    let contents = |disk: &SimDisk| {
        let files = disk.files().into_iter();
        let read = files.map(|(path, _)| (disk.read(&path), path));
        read.collect::<Vec<_>>()
    };
    let mut mixed = 0;
    for seed in 0..200 {
        let arrivals = disk.arrivals(seed);
        let drawn = contents(&disk.crash(Loss::Random(seed)));
        let text = arrivals.to_string();
        let again: Arrivals = text.parse().unwrap();
        assert_eq!(again, arrivals, "{text}");
        assert_eq!(contents(&disk.crash(Loss::Only(again))), drawn, "{text}");
        mixed += u64::from(arrivals.len() > 3 && drawn.len() < 40);
        let none = arrivals.without(0..arrivals.len());
        let worst = contents(&disk.crash(Loss::Everything));
        assert_eq!(contents(&disk.crash(Loss::Only(none))), worst);
    }
    assert!(mixed > 20, "{mixed}");
}
