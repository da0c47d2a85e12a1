//! A restore that is killed, or loses its power, at every call: the store is there whole
//! or not at all, the backups are as they were, and the same call again makes it.

use evenkeel::testing::{Loss, OperationKind, SimDisk, When};
use evenkeel::{RestorePoint, Result};

use crate::bad_input::history;
use crate::parts::{BACKUPS, COPY, History, PLACE, builder, files, open_restored};

const LOSSES: [Loss; 4] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Random(3),
    Loss::Random(11),
];
const WHENS: [When; 3] = [When::Before, When::Midway, When::After];

fn restore(history: &History, disk: &SimDisk) -> Result<evenkeel::Restored> {
    builder(disk, &history.clock).restore(BACKUPS, COPY, RestorePoint::Latest)
}

/// What is found on a disk after a crash. True where the store is there.
fn check(history: &History, disk: &SimDisk, acknowledged: bool, what: &str) -> bool {
    for folder in [BACKUPS, PLACE] {
        assert_eq!(files(disk, folder), files(&history.disk, folder), "{what}");
    }
    let there = disk.read(format!("{COPY}/FORMAT")).is_some();
    assert!(there || !acknowledged, "{what}: it was acknowledged");
    if there {
        let store = builder(disk, &history.clock).open(COPY).unwrap();
        assert_eq!(crate::parts::shown(&store), history.last().shown, "{what}");
        assert!(store.verify().unwrap().is_clean(), "{what}");
        assert!(store.origin().is_some());
    } else {
        assert!(
            files(disk, COPY).is_empty(),
            "{what}: a part of it is there"
        );
        let restored = restore(history, disk).unwrap_or_else(|e| panic!("{what}: {e}"));
        let shown = open_restored(disk, &history.clock, &restored);
        assert_eq!(shown, history.last().shown, "{what}");
        let left = files(disk, "new");
        assert!(left.keys().all(|path| path.starts_with(COPY)), "{what}");
    }
    there
}

/// A history that is on its disk whatever is lost later.
fn settled() -> History {
    let mut history = history();
    history.disk = history.disk.crash(Loss::Everything);
    history
}

#[test]
fn a_crash_at_every_call() {
    crash(&settled());
}

/// One whose commits are merged in several passes.
#[test]
fn a_crash_at_every_call_of_several_passes() {
    let mut history = History::new();
    history.many(3);
    for n in 0..150 {
        history
            .store()
            .global()
            .set(format!("{n}"), "x".repeat(900))
            .unwrap();
    }
    history.next();
    history.backup();
    history.close();
    history.disk.record(true);
    let disk = history.disk.crash(Loss::Everything);
    disk.record(true);
    restore(&history, &disk).unwrap();
    let passed = |path: &std::path::Path| path.to_string_lossy().contains("fold-");
    let removed = disk
        .trace()
        .iter()
        .filter(|call| call.kind == OperationKind::RemoveFile && passed(&call.path))
        .count();
    assert!(removed >= 2, "{removed} passes");
    history.disk = history.disk.crash(Loss::Everything);
    crash(&history);
}

fn crash(history: &History) {
    let (mut crashes, mut whole) = (0, 0);
    'calls: for at in 1.. {
        for when in WHENS {
            let disk = history.disk.crash(Loss::Nothing);
            disk.stop_at(at, when);
            let outcome = restore(history, &disk);
            if !disk.stopped() {
                outcome.unwrap();
                break 'calls;
            }
            for loss in LOSSES {
                let what = format!("stop {at} {when:?}, {loss:?}");
                let image = disk.crash(loss);
                whole += u32::from(check(history, &image, outcome.is_ok(), &what));
                crashes += 1;
            }
        }
    }
    assert!(
        crashes > 200 && whole > 5,
        "{crashes} crashes, {whole} whole"
    );
}

/// The second attempt is interrupted too.
#[test]
fn a_crash_of_the_second_attempt() {
    let history = settled();
    let mut crashes = 0;
    for at in (2..).step_by(3) {
        let disk = history.disk.crash(Loss::Nothing);
        disk.stop_at(at, When::Midway);
        let done = restore(&history, &disk);
        if !disk.stopped() {
            done.unwrap();
            break;
        }
        let left = disk.crash(Loss::Random(at));
        if left.read(format!("{COPY}/FORMAT")).is_some() {
            continue;
        }
        for again in (1..).step_by(4) {
            let disk = left.crash(Loss::Nothing);
            disk.stop_at(again, When::Midway);
            let outcome = restore(&history, &disk);
            if !disk.stopped() {
                outcome.unwrap();
                break;
            }
            let what = format!("stops {at} and {again}");
            let image = disk.crash(Loss::Random(again));
            check(&history, &image, outcome.is_ok(), &what);
            crashes += 1;
        }
    }
    assert!(crashes > 50, "{crashes}");
}

/// What an acknowledged restore made is there, whatever is lost then.
#[test]
fn a_power_cut_after_it_was_acknowledged() {
    let history = settled();
    restore(&history, &history.disk).unwrap();
    for loss in LOSSES {
        let image = history.disk.crash(loss);
        assert!(check(&history, &image, true, "acknowledged"));
    }
}
