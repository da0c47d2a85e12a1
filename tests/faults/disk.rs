//! Faults of the disk while a store writes: 15, 16, 17, 20 and 33.

use evenkeel::testing::{Failure, Fault, Loss, Operation, OperationKind};
use evenkeel::{Error, Result, Store, Version};

use crate::life::{LOSSES, Life, PLACE, content, extension, is_no_space, lose_power, operations};
use crate::log::recycling;

fn of_the_log(call: &Operation) -> bool {
    call.path.starts_with(format!("{PLACE}/wal"))
}

/// Goes on after an error: with the store, or with one that is opened again.
fn go_on(life: &mut Life, what: &Operation) {
    life.disk.clear_faults();
    if life.works() {
        let live = content(life.store()).unwrap();
        assert_eq!(live, *life.states.last().unwrap(), "{what}: as it was");
    } else {
        life.open().unwrap_or_else(|e| panic!("{what}: {e}"));
        let at = life.position(life.store(), what);
        assert!(at >= life.acked, "{what}: {at}, {} acked", life.acked);
        life.states.truncate(at + 1);
    }
    let more = life.commits(12);
    more.unwrap_or_else(|e| panic!("{what}: there is room, and {e}"));
    life.check_crashes(what);
    life.close().unwrap();
    life.check_all(&life.disk.crash(Loss::Everything), what);
}

#[test]
fn fault_15_the_disk_is_full_at_a_call_of_the_log() {
    let (mut refused, mut poisoned) = (0, 0);
    for call in operations(Life::new, recycling) {
        let needs_room = [
            OperationKind::Write,
            OperationKind::Create,
            OperationKind::Sync,
            OperationKind::Rename,
        ];
        if !of_the_log(&call) || !needs_room.contains(&call.kind) {
            continue;
        }
        for lasting in [false, true] {
            let mut life = Life::new();
            life.disk.fail(Fault::Operation {
                at: call.ordinal,
                failure: Failure::NoSpace,
                lasting,
            });
            let Err(error) = recycling(&mut life) else {
                let in_an_opening = extension(&call.path) == "tmp";
                assert!(in_an_opening && !lasting, "{call}: nobody heard of it");
                life.check_all(&life.disk.crash(Loss::Everything), &call);
                continue;
            };
            refused += 1;
            match &error {
                Error::Poisoned { .. } => poisoned += 1,
                error => assert!(is_no_space(error), "{call}: {error}"),
            }
            life.check_crashes(&call);
            go_on(&mut life, &call);
        }
    }
    assert!(
        refused > poisoned && poisoned > 100,
        "{refused}, {poisoned}"
    );
}

#[test]
fn fault_15_a_disk_fills_up_and_is_given_room() {
    let mut errors = 0;
    for pages in 20..44 {
        let mut life = Life::new();
        life.disk.set_capacity(Some(pages * 4096));
        let full = (|| {
            life.open()?;
            life.commits(400)
        })();
        let error = full.unwrap_err();
        let typed = matches!(error, Error::Poisoned { .. }) || is_no_space(&error);
        assert!(typed, "{pages} pages: {error}");
        errors += 1;
        let acked = life.acked;
        // Still full: refused again, and what was acknowledged can be read.
        if life.works() {
            let error = life.commits(40).unwrap_err();
            assert!(is_no_space(&error), "{pages} pages: {error}");
            assert_eq!(life.acked, acked);
            assert_eq!(content(life.store()).unwrap(), life.states[acked]);
        }
        life.check_crashes(&format!("{pages} pages"));
        life.disk.set_capacity(None);
        if !life.works() {
            life.open().unwrap();
        }
        life.commits(20).unwrap();
        life.check_crashes(&format!("{pages} pages, and more room"));
    }
    assert_eq!(errors, 24);
}

/// Where the second snapshot of this life is written, with its checkpoint.
fn snapshots(life: &mut Life) -> Result<()> {
    life.open()?;
    life.commits(20)?;
    life.store().snapshot()?;
    life.commits(20)
}

#[test]
fn fault_16_the_disk_is_full_in_a_checkpoint_or_snapshot() {
    let before = operations(Life::new, snapshots).len();
    let both = |life: &mut Life| {
        snapshots(life)?;
        life.store().snapshot().map(drop)
    };
    let mut refused = 0;
    for call in &operations(Life::new, both)[before..] {
        for lasting in [false, true] {
            let mut life = Life::new();
            life.disk.fail(Fault::Operation {
                at: call.ordinal,
                failure: Failure::NoSpace,
                lasting,
            });
            if let Err(error) = both(&mut life) {
                let text = error.to_string();
                assert!(
                    is_no_space(&error) || text.contains("space"),
                    "{call}: {error}"
                );
                refused += 1;
                if let Ok(stats) = life.store().stats() {
                    assert!(stats.last_failure.is_some(), "{call}: {error}");
                }
                let files = life.disk.files();
                let mut unfinished = files.iter().map(|(path, _)| path);
                let unfinished = unfinished.find(|path| {
                    extension(path) == "tmp" && path.starts_with(format!("{PLACE}/snapshots"))
                });
                assert_eq!(unfinished, None, "{call}: it takes room for nothing");
            }
            for loss in LOSSES {
                let image = life.disk.crash(loss);
                let whole = image.files();
                let whole = whole.iter().any(|(path, _)| extension(path) == "snap");
                assert!(whole, "{call}: no snapshot is left");
                life.check_all(&image, call);
            }
            life.disk.clear_faults();
            assert!(life.works(), "{call}: the log is not concerned");
            life.commits(3).unwrap();
            let lsn = life.store().snapshot().unwrap();
            assert_eq!(life.store().stats().unwrap().snapshot_lsn, lsn, "{call}");
            life.check_all(&life.disk.crash(Loss::Everything), call);
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn fault_16_no_room_for_a_checkpoint_and_then_room() {
    let mut life = Life::in_one_segment();
    snapshots(&mut life).unwrap();
    let was = life.store().stats().unwrap();
    life.disk.set_capacity(Some(0));
    for _ in 0..3 {
        assert!(life.store().checkpoint().is_err());
        assert!(life.store().snapshot().is_err());
    }
    // The log's room was taken beforehand.
    life.commits(2).unwrap();
    // What only the image has can be read; it was not opened again for that.
    assert_eq!(content(life.store()).unwrap(), *life.states.last().unwrap());
    assert_eq!(life.store().verify().unwrap().healed, []);
    life.check_crashes(&"no room");
    life.disk.set_capacity(None);
    let lsn = life.store().snapshot().unwrap();
    assert!(lsn > was.snapshot_lsn && lsn > was.image_lsn);
    life.check_all(&life.disk.crash(Loss::Everything), &"room");
}

fn every_call_says_poisoned(store: &Store) {
    let scope = store.global();
    let poisoned = |what: &str, result: Result<()>| {
        let right = matches!(result, Err(Error::Poisoned { .. }));
        assert!(right, "{what}: {result:?}");
    };
    poisoned("get", scope.get::<u32>("a").map(drop));
    poisoned("get_versioned", scope.get_versioned::<u32>("a").map(drop));
    poisoned("contains", scope.contains("a").map(drop));
    poisoned("set", scope.set("a", 1));
    poisoned("delete", scope.delete("a"));
    poisoned("clear", scope.clear());
    poisoned("increment", scope.increment("a", 1).map(drop));
    poisoned("merge", scope.merge("a", 1));
    let set = scope.compare_and_set("a", Version::ZERO, 1);
    poisoned("compare_and_set", set.map(drop));
    let updated = scope.update("a", |n: Option<u32>| n.unwrap_or(0));
    poisoned("update", updated.map(drop));
    poisoned("scan", scope.scan("").map(drop));
    poisoned("keys", scope.keys().map(drop));
    poisoned("len", scope.len().map(drop));
    poisoned("bytes", scope.bytes().map(drop));
    poisoned("transact", store.transact(|tx| tx.global().set("a", 1)));
    let submitted = store.submit(|tx| tx.global().set("a", 1));
    poisoned("submit", submitted.map(drop));
    poisoned("scopes", store.scopes().map(drop));
    poisoned("barrier", store.barrier());
    poisoned("checkpoint", store.checkpoint().map(drop));
    poisoned("snapshot", store.snapshot().map(drop));
    poisoned("verify", store.verify().map(drop));
    poisoned("stats", store.stats().map(drop));
}

#[test]
fn fault_17_a_sync_of_the_log_fails() {
    let calls = operations(Life::new, grouped);
    let mut failed = 0;
    let syncs = calls
        .iter()
        .filter(|call| call.kind == OperationKind::Sync && of_the_log(call));
    for call in syncs {
        let mut life = Life::new();
        life.disk.record(true);
        life.disk.fail(Fault::Operation {
            at: call.ordinal,
            failure: Failure::Io,
            lasting: false,
        });
        let error = grouped(&mut life).unwrap_err();
        if life.works() || !matches!(error, Error::Poisoned { .. }) {
            // A new store or segment that was never used.
            assert!(matches!(error, Error::Io { .. }), "{call}: {error}");
            life.check_crashes(call);
            continue;
        }
        failed += 1;
        let store = life.store().clone();
        assert_eq!(life.disk.operations(), call.ordinal, "it ends there");
        every_call_says_poisoned(&store);
        every_call_says_poisoned(&store);
        assert_eq!(life.disk.operations(), call.ordinal, "nothing is tried");
        assert!(store.close().is_err());
        drop(store);
        life.leave();
        let behind = life.disk.trace();
        let again = behind
            .iter()
            .filter(|c| c.kind == OperationKind::Sync && of_the_log(c) && c.ordinal > call.ordinal);
        assert_eq!(again.count(), 0, "{call}: the sync was tried again");
        life.check_crashes(call);
        life.open().unwrap();
        assert!(life.position(life.store(), call) >= life.acked);
    }
    assert!(failed >= 10, "{failed}");
}

/// Groups of commits that are waited for together, over several segments.
fn grouped(life: &mut Life) -> Result<()> {
    life.open()?;
    for _ in 0..8 {
        let first = life.submit()?;
        life.submit()?.wait()?;
        life.acked = life.states.len() - 1;
        first.wait()?;
        drop(life.submit()?);
    }
    life.store().barrier()?;
    life.acked = life.states.len() - 1;
    Ok(())
}

#[test]
fn fault_17_who_waits_for_a_commit_is_told() {
    let mut life = Life::new();
    life.open().unwrap();
    let early = life.submit().unwrap();
    life.commit().unwrap();
    let (first, second) = (life.submit().unwrap(), life.submit().unwrap());
    life.disk.fail(Fault::LostSync {
        at: life.disk.operations() + 1,
    });
    for commit in [&second, &first, &second] {
        let told = commit.wait();
        assert!(matches!(told, Err(Error::Poisoned { .. })), "{told:?}");
        assert!(!commit.is_durable());
    }
    early.wait().unwrap();
    life.check_crashes(&"told");
}

#[test]
fn fault_20_a_write_is_cut_short() {
    let calls = operations(Life::new, recycling);
    let mut cut = 0;
    for call in calls.iter().filter(|c| c.kind == OperationKind::Write) {
        for failure in [Failure::Io, Failure::NoSpace] {
            let mut life = Life::new();
            life.disk.fail(Fault::ShortWrite {
                at: call.ordinal,
                failure,
            });
            let lived = recycling(&mut life);
            // An opening that finds no room takes less of it.
            let makes_do = failure == Failure::NoSpace && extension(&call.path) == "tmp";
            if of_the_log(call) && !makes_do {
                assert!(lived.is_err(), "{call}: nobody heard of it");
            }
            cut += 1;
            life.check_crashes(call);
            go_on(&mut life, call);
        }
    }
    assert!(cut > 100, "{cut}");
}

#[test]
fn fault_33_a_failed_sync_then_reopening_commits_and_a_power_cut() {
    let calls = operations(Life::new, grouped);
    let syncs = calls
        .iter()
        .filter(|call| call.kind == OperationKind::Sync && of_the_log(call));
    let mut shown = 0;
    for call in syncs {
        let fail = |life: &mut Life| {
            life.disk.fail(Fault::LostSync { at: call.ordinal });
            grouped(life).unwrap_err();
            let acked = life.acked;
            life.open()?;
            let at = life.position(life.store(), call);
            life.states.truncate(at + 1);
            // The page cache shows more than was ever acknowledged.
            let more = usize::from(at > acked);
            // What is shown was made durable before anybody could see it.
            life.acked = at;
            life.check_crashes(call);
            life.commits(3)?;
            Ok::<_, Error>(more)
        };
        let mut life = Life::new();
        shown += fail(&mut life).unwrap();
        life.check_crashes(call);
        life.check_all(&life.disk.crash(Loss::Everything), call);
    }
    assert!(shown > 5, "{shown}");
}

#[test]
fn fault_33_and_the_power_goes_anywhere_behind_it() {
    fn failing(life: &mut Life) -> Result<()> {
        life.open()?;
        life.commits(2)?;
        life.disk.fail(Fault::LostSync {
            at: life.disk.operations() + 1,
        });
        life.commit().unwrap_err();
        life.open()?;
        let at = life.position(life.store(), &"opened again");
        life.states.truncate(at + 1);
        life.acked = at;
        life.commits(2)
    }
    let calls = operations(Life::new, failing);
    let behind = calls
        .iter()
        .rposition(|c| extension(&c.path) == "tmp" && c.kind == OperationKind::Create);
    // The opening's own calls too: from its segment on.
    let behind = behind.unwrap() - 8;
    lose_power(
        Life::new,
        failing,
        &calls[behind..],
        &LOSSES,
        |life, image, what| {
            life.check(image, &what);
        },
    );
}
