//! Owns the tests of names: what a power cut does to creates, renames and removals.

use super::*;

/// The names and contents in each of a thousand images.
fn listings(disk: &SimDisk) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let listing = |seed| {
        let image = disk.crash(Loss::Random(seed));
        let files = image.files().into_iter();
        files
            .map(|(path, _)| (path.display().to_string(), image.read(&path).unwrap()))
            .collect()
    };
    SEEDS.map(listing).collect()
}

fn listing(files: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), bytes.as_bytes().to_vec()))
        .collect()
}

#[test]
fn a_synced_file_is_lost_with_its_unsynced_name() {
    let disk = SimDisk::new(0);
    let file = create(&disk, "a");
    file.write_at(b"a", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.crash(Loss::Everything).files(), []);
    assert_eq!(
        listings(&disk),
        BTreeSet::from([listing(&[]), listing(&[("a", "a")])])
    );
    disk.sync_dir(path(".")).unwrap();
    assert_eq!(listings(&disk), BTreeSet::from([listing(&[("a", "a")])]));
}

#[test]
fn a_synced_name_is_lost_with_the_unsynced_name_of_its_folder() {
    let disk = SimDisk::new(0);
    disk.create_dir(path("d")).unwrap();
    durable(&disk, "d/a", b"a");
    assert!(
        disk.crash(Loss::Everything)
            .read_dir(path(""))
            .unwrap()
            .is_empty()
    );
    disk.sync_dir(path("")).unwrap();
    assert_eq!(disk.crash(Loss::Everything).read("d/a").unwrap(), b"a");
}

#[test]
fn a_rename_arrives_before_the_data() {
    let disk = SimDisk::new(0);
    durable(&disk, "a", b"old");
    let file = create(&disk, "a.tmp");
    file.write_at(&[b'n'; 600], 0).unwrap();
    disk.rename(path("a.tmp"), path("a")).unwrap();
    let found: BTreeSet<_> = images(&disk, "a").into_iter().map(Option::unwrap).collect();
    let (mut torn, mut zeros) = (vec![b'n'; 600], vec![0; 600]);
    assert!(found.contains(&torn) && found.contains(&zeros) && found.contains(&vec![]));
    torn[512..].fill(0);
    zeros[512..].fill(b'n');
    assert!(found.contains(&torn) && found.contains(&zeros) && found.contains(&b"old"[..]));
    disk.sync_dir(path("")).unwrap();
    assert_eq!(disk.crash(Loss::Everything).read("a").unwrap(), b"");
}

#[test]
fn a_rename_in_a_folder_leaves_the_old_name_or_the_new() {
    let disk = SimDisk::new(0);
    durable(&disk, "a", b"1");
    durable(&disk, "b", b"2");
    disk.rename(path("a"), path("b")).unwrap();
    create(&disk, "c");
    let old = |c: bool| listing(&[("a", "1"), ("b", "2"), ("c", "")][..2 + usize::from(c)]);
    let new = |c: bool| listing(&[("b", "1"), ("c", "")][..1 + usize::from(c)]);
    assert_eq!(
        listings(&disk),
        BTreeSet::from([old(false), old(true), new(false), new(true)])
    );
}

#[test]
fn a_removal_is_kept_or_lost_and_a_name_taken_again_comes_after_it() {
    let disk = SimDisk::new(0);
    durable(&disk, "a", b"1");
    disk.remove_file(path("a")).unwrap();
    let file = create(&disk, "a");
    file.write_at(b"2", 0).unwrap();
    file.sync().unwrap();
    let possible = [listing(&[("a", "1")]), listing(&[]), listing(&[("a", "2")])];
    assert_eq!(listings(&disk), BTreeSet::from(possible));
}

#[test]
fn a_move_between_folders_never_leaves_a_file_without_a_name() {
    let disk = SimDisk::new(0);
    disk.create_dir(path("d")).unwrap();
    disk.create_dir(path("e")).unwrap();
    durable(&disk, "d/a", b"1");
    disk.sync_dir(path("")).unwrap();
    disk.rename(path("d/a"), path("e/b")).unwrap();
    let (old, new) = (listing(&[("d/a", "1")]), listing(&[("e/b", "1")]));
    let both = listing(&[("d/a", "1"), ("e/b", "1")]);
    assert_eq!(
        listings(&disk),
        BTreeSet::from([old, both.clone(), new.clone()])
    );
    // A sync of the new folder alone may leave the old name.
    let first = disk.crash(Loss::Nothing);
    first.sync_dir(path("e")).unwrap();
    assert_eq!(listings(&first), BTreeSet::from([both, new.clone()]));
    // A sync of the old folder alone takes the new name with it.
    disk.sync_dir(path("d")).unwrap();
    assert_eq!(listings(&disk), BTreeSet::from([new]));
}

#[test]
fn a_folder_that_is_removed_goes_name_by_name() {
    let disk = SimDisk::new(0);
    disk.create_dir(path("d")).unwrap();
    disk.create_dir(path("d/e")).unwrap();
    durable(&disk, "d/e/a", b"1");
    durable(&disk, "d/b", b"2");
    disk.sync_dir(path("")).unwrap();
    disk.remove_dir_all(path("d")).unwrap();
    assert_eq!(disk.files(), []);
    let (a, b) = (listing(&[("d/e/a", "1")]), listing(&[("d/b", "2")]));
    let all = listing(&[("d/b", "2"), ("d/e/a", "1")]);
    let possible = [listing(&[]), a, b, all];
    assert_eq!(listings(&disk), BTreeSet::from(possible));
    disk.sync_dir(path("")).unwrap();
    assert!(
        disk.crash(Loss::Everything)
            .read_dir(path(""))
            .unwrap()
            .is_empty()
    );
}

/// Files with contents of their own are moved to and fro. Whatever arrives of it, a
/// file whose creation was durable keeps a name, and an image can be used.
#[test]
fn no_file_is_lost_to_moves_in_any_order() {
    for run in 0..500 {
        let mut random = Random::new(run);
        let disk = SimDisk::new(0);
        for folder in ["d", "e", "d/s"] {
            disk.create_dir(path(folder)).unwrap();
        }
        for name in ["d/0", "d/1", "d/2"] {
            durable(&disk, name, name.as_bytes());
        }
        disk.sync_dir(path("")).unwrap();
        for round in 0..20 {
            move_something(&disk, &mut random);
            let image = disk.crash(Loss::Random(run * 100 + round));
            let files = image.files();
            let found: BTreeSet<_> = files
                .iter()
                .filter_map(|file| image.read(&file.0))
                .collect();
            assert_eq!(found.len(), 3, "run {run}, round {round}: {files:?}");
            durable(&image, "new", b"3");
            assert!(image.crash(Loss::Everything).read("new").is_some());
        }
    }
}

fn move_something(disk: &SimDisk, random: &mut Random) {
    let is_empty = |folder: &str| disk.files().iter().all(|file| !file.0.starts_with(folder));
    match random.below(12) {
        0 => disk.sync_dir(path("d")).unwrap(),
        1 => disk.sync_dir(path("e")).unwrap(),
        2 => drop(disk.sync_dir(path("n"))),
        // Of these some fail, as the folder is not there.
        3 => drop(disk.rename(path("d/s"), path("e/s"))),
        4 => drop(disk.rename(path("e/s"), path("d/s"))),
        5 => drop(disk.create_dir(path("n"))),
        6 => drop(disk.rename(path("n"), path("d/s"))),
        7 if is_empty("n") => drop(disk.remove_dir_all(path("n"))),
        _ => {
            let folder = ["d", "e", "d/s", "e/s", "n"][random.below(5) as usize];
            let to = format!("{folder}/{}", random.below(4));
            let from = &disk.files()[random.below(3) as usize].0;
            if disk.read(&to).is_none() {
                drop(disk.rename(from, path(&to)));
            }
        }
    }
}

#[test]
fn a_move_waits_for_its_folder_and_a_folder_for_what_moves_out() {
    let disk = SimDisk::new(0);
    disk.create_dir(path("d")).unwrap();
    durable(&disk, "d/a", b"1");
    disk.sync_dir(path("")).unwrap();
    disk.create_dir(path("n")).unwrap();
    disk.create_dir(path("n/m")).unwrap();
    disk.sync_dir(path("n")).unwrap();
    disk.rename(path("d/a"), path("n/m/a")).unwrap();
    disk.remove_dir_all(path("d")).unwrap();
    let is_there = |disk: &SimDisk| listings(disk).iter().all(|files| !files.is_empty());
    assert!(is_there(&disk));
    for folder in ["", "d", "n/m"] {
        let disk = disk.crash(Loss::Nothing);
        drop(disk.sync_dir(path(folder)));
        assert!(is_there(&disk), "{folder}");
    }
}

#[test]
fn a_folder_is_never_in_two_places_nor_within_itself() {
    let disk = SimDisk::new(0);
    for folder in ["a", "b"] {
        disk.create_dir(path(folder)).unwrap();
        durable(&disk, &format!("{folder}/f"), folder.as_bytes());
    }
    disk.sync_dir(path("")).unwrap();
    disk.rename(path("a"), path("b/a")).unwrap();
    let (old, new) = (("a/f", "a"), ("b/a/f", "a"));
    let possible = [[old, ("b/f", "b")], [new, ("b/f", "b")]].map(|files| listing(&files));
    assert_eq!(listings(&disk), BTreeSet::from(possible));
    disk.rename(path("b/a"), path("a")).unwrap();
    disk.rename(path("b"), path("a/b")).unwrap();
    assert!(listings(&disk).iter().all(|files| files.len() == 2));
    disk.sync_dir(path("a")).unwrap();
    let moved = listing(&[("a/b/f", "b"), ("a/f", "a")]);
    assert_eq!(listings(&disk), BTreeSet::from([moved]));
}
