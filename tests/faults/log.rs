//! Faults of the log's bytes: 9, 10, 11, 32 and 35.

use evenkeel::Result;
use evenkeel::testing::{Loss, OperationKind, SimDisk};

use crate::life::{
    LOSSES, Life, PLACE, extension, frame_at, frames, id_of, lose_power, newest, operations, place,
    segments, u64_at, versions,
};

/// Segments are trimmed, set aside and used again.
pub(crate) fn recycling(life: &mut Life) -> Result<()> {
    life.open()?;
    for _ in 0..3 {
        life.commits(14)?;
        life.store().snapshot()?;
    }
    life.commits(16)
}

/// Whether whole frames of an earlier segment are in this one, which was begun.
fn holds_old_frames(disk: &SimDisk) -> bool {
    segments(disk).iter().any(|path| {
        let bytes = disk.read(path).unwrap();
        let id = id_of(path);
        let mut places = (4096..bytes.len()).step_by(8);
        places.any(|at| frame_at(&bytes, at).is_some() && u64_at(&bytes, at + 8) != id)
    })
}

#[test]
fn fault_9_old_bytes_in_a_recycled_segment() {
    let calls = operations(Life::new, recycling);
    let recycled = calls
        .iter()
        .position(|call| call.kind == OperationKind::Rename && extension(&call.path) == "spare");
    let recycled = recycled.expect("a segment is recycled");
    let mut old = 0;
    let images = lose_power(
        Life::new,
        recycling,
        &calls[recycled..],
        &LOSSES,
        |life, image, what| {
            old += usize::from(holds_old_frames(image));
            life.check(image, &what);
        },
    );
    assert!(images > 200 && old > 50, "{old} of {images} images");
}

#[test]
fn fault_9_old_frames_right_behind_the_last_one() {
    let mut life = Life::new();
    recycling(&mut life).unwrap();
    let mut tried = 0;
    for _ in 0..12 {
        life.commit().unwrap();
        let image = life.disk.crash(Loss::Nothing);
        let (path, mut bytes) = newest(&image);
        let last = *frames(&bytes).last().unwrap();
        // What the zeros behind the last frame were written over: checksum and
        // length of an old frame, which was as long as the new ones.
        let (at, end) = (last.offset + last.length, last.offset + 2 * last.length);
        if end > bytes.len() || u64_at(&bytes, at + 8) == 0 {
            continue;
        }
        let length = u32::try_from(last.length).unwrap();
        bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        let crc = crc32fast::hash(&bytes[at + 4..end]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        let old = frame_at(&bytes, at).unwrap();
        assert!(u64_at(&bytes, at + 8) < id_of(&path) && old.lsn < last.lsn);
        image.write(&path, &bytes).unwrap();
        let store = life.check_all(&image, &"old frames");
        assert_eq!(store.recovery().cut, None, "it is a clean end");
        tried += 1;
    }
    assert!(tried > 2, "{tried}");
}

/// A store that was killed: what is left of it, its one segment, and the frames in it.
fn killed(commits: usize) -> (Life, SimDisk) {
    let mut life = Life::in_one_segment();
    life.open().unwrap();
    life.commits(commits).unwrap();
    let image = life.disk.crash(Loss::Nothing);
    assert_eq!(segments(&image).len(), 1);
    (life, image)
}

#[test]
fn fault_10_a_frame_twice_is_an_error_or_cut() {
    let (life, image) = killed(8);
    let (path, good) = newest(&image);
    let all = frames(&good);
    let commits: Vec<_> = all.iter().filter(|frame| frame.is_commit).collect();
    let end = all.last().map(|last| last.offset + last.length).unwrap();
    assert_eq!(commits.len(), 8);
    for again in &commits {
        let copy = &good[again.offset..again.offset + again.length];
        // Behind the last one: no mark vouches for it.
        let disk = image.crash(Loss::Nothing);
        let mut bytes = good.clone();
        bytes[end..end + again.length].copy_from_slice(copy);
        disk.write(&path, &bytes).unwrap();
        let store = life.check_all(&disk, &"behind the last");
        let cut = store.recovery().cut.expect("it is reported");
        assert_eq!((cut.offset, cut.segment.get()), (end as u64, 1));
        assert_eq!(cut.bytes, again.length as u64);
        // In another one's place.
        for other in commits.iter().filter(|other| other.lsn != again.lsn) {
            let disk = image.crash(Loss::Nothing);
            let mut bytes = good.clone();
            bytes[other.offset..other.offset + again.length].copy_from_slice(copy);
            disk.write(&path, &bytes).unwrap();
            let error = life.builder(&disk).open(PLACE).unwrap_err();
            let expected = (1, other.offset as u64, other.lsn);
            assert_eq!(place(&error), Some(expected), "{error}");
        }
    }
}

#[test]
fn fault_10_replaying_twice_changes_nothing() {
    let (life, mut image) = killed(8);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let store = life.check_all(&image, &"again");
        assert_eq!(
            store.recovery().replayed_commits,
            8,
            "from the log each time"
        );
        seen.push(versions(&store));
        image = image.crash(Loss::Nothing);
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

#[test]
fn fault_11_a_gap_is_an_error_with_its_place() {
    let (life, image) = killed(8);
    let (path, good) = newest(&image);
    let all = frames(&good);
    for (at, gone) in all.iter().enumerate().filter(|(_, frame)| frame.is_commit) {
        for with_marks in [true, false] {
            // The last one is vouched for by the marks alone.
            if !with_marks && at + 1 == all.len() {
                continue;
            }
            let disk = image.crash(Loss::Nothing);
            let mut bytes = good.clone();
            bytes.drain(gone.offset..gone.offset + gone.length);
            bytes.resize(good.len(), 0);
            disk.write(&path, &bytes).unwrap();
            if !with_marks {
                disk.remove(format!("{PLACE}/marks")).unwrap();
            }
            let error = life.builder(&disk).open(PLACE).unwrap_err();
            let expected = (1, gone.offset as u64, gone.lsn);
            assert_eq!(place(&error), Some(expected), "{error}");
        }
    }
}

#[test]
fn fault_11_a_missing_segment_is_named() {
    let mut life = Life::new();
    life.open().unwrap();
    life.commits(60).unwrap();
    let image = life.disk.crash(Loss::Nothing);
    life.leave();
    let all = segments(&image);
    assert!(all.len() > 5, "{all:?}");
    for gone in 1..all.len() - 1 {
        for count in 1..all.len() - gone {
            let disk = image.crash(Loss::Nothing);
            let last = frames(&image.read(&all[gone - 1]).unwrap()).pop().unwrap();
            for path in &all[gone..gone + count] {
                disk.remove(path).unwrap();
            }
            let error = life.builder(&disk).open(PLACE).unwrap_err();
            // Of several the one that is named by the next that is there.
            let missing = &all[gone + count - 1];
            let expected = (id_of(missing), 0, last.lsn + 1);
            assert_eq!(place(&error), Some(expected), "{error}");
            assert!(error.to_string().contains("is missing"), "{error}");
            assert!(
                error.to_string().contains(missing.to_str().unwrap()),
                "{error}"
            );
        }
    }
}

#[test]
fn fault_32_whole_frames_of_an_earlier_epoch_are_never_replayed() {
    let mut life = Life::in_one_segment();
    life.open().unwrap();
    life.commits(5).unwrap();
    for _ in 0..4 {
        life.written().unwrap();
    }
    let disk = life.disk.crash(Loss::Nothing);
    life.leave();
    // The third of an unsynced group arrived, the first did not.
    let (path, whole) = newest(&disk);
    let unsynced: Vec<_> = frames(&whole).split_off(6);
    assert_eq!(unsynced.len(), 4);
    disk.flip(&path, unsynced[0].offset as u64 + 60, 3).unwrap();
    life.disk = disk;
    life.open().unwrap();
    let cut = life.store().recovery().cut.expect("it is reported");
    assert_eq!(
        (cut.offset, cut.lsn.get()),
        (unsynced[0].offset as u64, unsynced[0].lsn)
    );
    assert_eq!(life.position(life.store(), &"cut"), 5);
    life.states.truncate(6);
    life.commits(3).unwrap();
    // The old bytes are all there again, where they were and behind the new frames.
    let image = life.disk.crash(Loss::Nothing);
    image.write(&path, &whole).unwrap();
    let store = life.check_all(&image, &"in their old place");
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    let image = life.disk.crash(Loss::Nothing);
    let (newer, mut bytes) = newest(&image);
    assert_ne!(newer, path);
    let last = *frames(&bytes).last().unwrap();
    for (from, frame) in unsynced.iter().enumerate() {
        let old = &whole[frame.offset..unsynced[3].offset + unsynced[3].length];
        let at = last.offset + last.length;
        bytes[at..at + old.len()].copy_from_slice(old);
        let image = image.crash(Loss::Nothing);
        image.write(&newer, &bytes).unwrap();
        let store = life.check_all(&image, &format!("from old frame {from} on"));
        assert_eq!(store.recovery().cut, None, "it is a clean end");
    }
}

#[test]
fn fault_35_rot_in_the_last_group_after_a_power_cut_is_a_cut() {
    let mut life = Life::in_one_segment();
    life.open().unwrap();
    life.commits(6).unwrap();
    let (path, bytes) = newest(&life.disk);
    let last = *frames(&bytes).last().unwrap();
    for byte in 0..last.length as u64 {
        // The mark of the last group was written and not synced.
        let image = life.disk.crash(Loss::Everything);
        image.flip(&path, last.offset as u64 + byte, 5).unwrap();
        let store = life.builder(&image).open(PLACE).unwrap();
        assert_eq!(life.position(&store, &"rot"), 5, "the group is gone");
        let cut = store.recovery().cut.expect("it is reported");
        assert_eq!(
            (cut.segment.get(), cut.offset, cut.lsn.get()),
            (1, last.offset as u64, last.lsn)
        );
        assert!(
            cut.bytes > 0 && cut.bytes <= last.length as u64 + 8,
            "{cut:?}"
        );
        // A kill leaves the mark, and so it is damage.
        let image = life.disk.crash(Loss::Nothing);
        image.flip(&path, last.offset as u64 + byte, 5).unwrap();
        let error = life.builder(&image).open(PLACE).unwrap_err();
        let expected = (1, last.offset as u64, last.lsn);
        assert_eq!(place(&error), Some(expected), "{error}");
    }
}
