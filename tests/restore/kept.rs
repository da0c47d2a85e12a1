//! What a restored store keeps: deadlines, settings, cursors, caches, imports; and what a
//! store is that was restored more than once.

use std::time::Duration;

use evenkeel::{
    BackupKind, BackupOptions, Clock, Error, Lsn, Quota, RestorePoint, Scope, ScopeKind,
    SetOptions, Store, WatchFilter,
};

use crate::parts::{BACKUPS, COPY, History, builder, shown, time};

fn restore(history: &History, point: impl Into<RestorePoint>) -> Store {
    let builder = history.builder();
    builder.restore(BACKUPS, COPY, point).unwrap();
    builder.open(COPY).unwrap()
}

#[test]
fn deadlines_stay_what_they_were() {
    let mut history = History::new();
    let scope = Scope::job("j");
    let lives = |micros| SetOptions::new().ttl(Duration::from_micros(micros));
    history.commit(|tx| tx.scope(scope.clone()).set_with("short", 1, lives(1_000)));
    let first = history.last();
    history.commit(|tx| {
        tx.scope(scope.clone())
            .set_with("long", 2, lives(1_000_000))
    });
    history.commit(|tx| tx.global().set("ever", 3));
    let backup = history.backup();
    let store = history.store();
    let deadline = |store: &Store, key| store.scope(scope.clone()).expires_at(key).unwrap();
    let wanted = [deadline(&store, "short"), deadline(&store, "long")];
    assert!(wanted[0] < wanted[1] && wanted[0].is_some());

    // What has expired by the time that it is opened is not there, though it was.
    let at_once = restore(&history, RestorePoint::Latest);
    assert_eq!(shown(&at_once), history.last().shown);
    assert_eq!(
        [deadline(&at_once, "short"), deadline(&at_once, "long")],
        wanted
    );
    at_once.close().unwrap();
    history.clock.set_micros(wanted[0].unwrap());
    let later = history.builder().open(COPY).unwrap();
    assert_eq!(deadline(&later, "short"), None);
    assert_eq!(deadline(&later, "long"), wanted[1]);
    assert_eq!(later.expire().unwrap(), 1);
    drop(later);

    // Store time does not go back behind what was restored, whatever the clock says.
    let disk = history.disk.crash(evenkeel::testing::Loss::Nothing);
    history.clock.set_micros(5);
    let earlier = builder(&disk, &history.clock);
    let restored = earlier
        .restore(BACKUPS, "b", time(backup.time_micros))
        .unwrap();
    assert_eq!(restored.origin.restored_at_micros, 5);
    let store = earlier.clone().open("b").unwrap();
    let left = store.scope(scope.clone()).ttl("short").unwrap().unwrap();
    assert!(left < Duration::from_micros(1_000), "{left:?}");
    let ((), commit) = store.submit(|tx| tx.global().set("new", 1)).unwrap();
    commit.wait().unwrap();
    let mut watch = store.watch(WatchFilter::all().from(restored.lsn)).unwrap();
    let told = watch.try_next().unwrap().unwrap();
    assert!(told.lsn() == commit.lsn() && told.time_micros() >= backup.time_micros);

    // As of the first commit.
    let restored = earlier.restore(BACKUPS, "c", first.lsn).unwrap();
    assert_eq!(restored.time_micros, first.micros);
    assert_eq!(shown(&earlier.clone().open("c").unwrap()), first.shown);
}

#[test]
fn settings_cursors_caches_and_imports() {
    let mut history = History::new();
    let store = history.store();
    let (job, cached) = (Scope::job("j"), Scope::custom("c"));
    let hour = Duration::from_secs(3_600);
    store
        .scope(job.clone())
        .set_default_ttl(Some(hour))
        .unwrap();
    store
        .scope(job.clone())
        .set_quota(Quota::new().keys(2))
        .unwrap();
    store
        .set_quota(ScopeKind::Workflow, Quota::new().bytes(100))
        .unwrap();
    for key in ["a", "b", "c"] {
        store
            .scope(cached.clone())
            .cache("pages")
            .insert(key, key)
            .unwrap();
    }
    let seed = [(Scope::Global, "seed", 1)];
    store.import("seed").entries(seed.clone()).unwrap();
    history.many(3);
    let lsn = history.last().lsn;
    store
        .transact(|tx| tx.advance_cursor("audit", lsn))
        .unwrap();
    history.many(2);
    history.backup();
    let (at, wanted) = (store.cursors().unwrap(), shown(&store));

    let copy = restore(&history, RestorePoint::Latest);
    assert_eq!(shown(&copy), wanted);
    assert_eq!(copy.scope(job.clone()).default_ttl().unwrap(), Some(hour));
    assert_eq!(
        copy.scope(job.clone()).quota().unwrap(),
        Quota::new().keys(2)
    );
    assert_eq!(
        copy.quota(ScopeKind::Workflow).unwrap(),
        Quota::new().bytes(100)
    );
    let full = copy.scope(Scope::job("j"));
    let refused = ["a", "b", "c"].map(|key| full.set(key, 1).is_err());
    assert_eq!(refused, [false, false, true], "the quota counts");
    let cache = copy.scope(cached).cache("pages");
    assert_eq!(cache.len().unwrap(), 3);
    assert_eq!(cache.get("b").unwrap(), Some("b".to_owned()));
    let status = copy.import("seed").status().unwrap().unwrap();
    assert!(status.finished && status.imported == 1);
    let again = copy.import("seed").entries(seed).unwrap();
    assert_eq!((again.imported, again.total.imported), (0, 1));

    // A cursor stands where it stood; the log behind it is not in a backup.
    assert_eq!((copy.cursors().unwrap(), at[0].1), (at.clone(), lsn));
    let mut watch = copy.watch(WatchFilter::all().from_cursor("audit")).unwrap();
    let Err(Error::Trimmed { scan_from, .. }) = watch.try_next() else {
        panic!("it was given a log");
    };
    let ((), commit) = copy.submit(|tx| tx.global().set("new", 1)).unwrap();
    assert!(scan_from < commit.lsn());
}

#[test]
fn what_the_store_keeps_is_as_of_the_point_too() {
    let mut history = History::new();
    let job = Scope::job("j");
    let first = history.next();
    let store = history.store();
    store
        .scope(job.clone())
        .set_quota(Quota::new().keys(2))
        .unwrap();
    let second = history.next();
    store.scope(job.clone()).set_quota(None).unwrap();
    history.next();
    history.backup();
    for (lsn, quota) in [(first, Quota::new()), (second, Quota::new().keys(2))] {
        let disk = history.disk.crash(evenkeel::testing::Loss::Nothing);
        let builder = builder(&disk, &history.clock);
        builder.restore(BACKUPS, COPY, lsn).unwrap();
        let copy = builder.open(COPY).unwrap();
        assert_eq!(copy.scope(job.clone()).quota().unwrap(), quota);
    }
}

/// A store that was restored is backed up to a folder of its own, and restored again.
#[test]
fn a_restored_store_is_a_store_like_any_other() {
    let mut history = History::new();
    history.many(12);
    let taken = history.backup();
    let copy = restore(&history, RestorePoint::Latest);
    let first = copy.origin().unwrap();
    assert_eq!(first.restored_at(), time(history.clock.now_micros()));

    // Not to the folder of the store that it came from.
    let foreign = copy.backup(BACKUPS);
    let Err(Error::ForeignBackup {
        found, expected, ..
    }) = foreign
    else {
        panic!("{foreign:?}");
    };
    assert_eq!(found, taken.store);

    history.clock.advance(Duration::from_micros(100));
    let own = copy.backup("own").unwrap();
    assert_eq!(own.store, expected);
    copy.global().set("copy", 1).unwrap();
    copy.snapshot().unwrap();
    copy.global().set("copy", 2).unwrap();
    let newest = copy.backup("own").unwrap();
    let wanted = shown(&copy);
    drop(copy);

    let builder = history.builder();
    let restored = builder
        .restore("own", "twice", RestorePoint::Latest)
        .unwrap();
    let twice = builder.clone().open("twice").unwrap();
    assert_eq!(shown(&twice), wanted);
    let second = twice.origin().unwrap();
    assert_eq!((second.store, second.lsn), (own.store, newest.lsn));
    assert_eq!(twice.origins(), [second, first]);
    assert_eq!(restored.origin, second);
    // It outlives snapshots, a rebuilt image and a copy.
    twice.snapshot().unwrap();
    twice.close().unwrap();
    history.disk.remove("twice/MANIFEST").unwrap();
    let twice = builder.clone().open("twice").unwrap();
    assert_eq!(twice.stats().unwrap().image_rebuilds, 1);
    assert_eq!(twice.origins(), [second, first]);
    // And the LSN that a copy begins at can be restored again.
    let point = RestorePoint::Backup(own.number);
    builder.restore("own", "third", point).unwrap();
    let third = builder.clone().open("third").unwrap();
    assert_eq!(shown(&third), history.last().shown);
    assert_eq!(third.origins()[1..], [first]);
    // A store that was not restored came from nowhere.
    assert_eq!(history.store().origin(), None);
    assert_eq!(history.store().origins(), []);
}

#[test]
fn the_store_goes_on_while_it_is_restored_and_so_do_its_backups() {
    let mut history = History::new();
    history.many(5);
    history.backup();
    let copy = restore(&history, RestorePoint::Latest);
    copy.global().set("commits", "not ours").unwrap();
    history.many(3);
    let next = history.backup();
    assert_eq!(next.kind, BackupKind::Incremental);
    let full = history.backup_with(BackupOptions::new().full());
    history.builder().restore(BACKUPS, "b", full.lsn).unwrap();
    let second = history.builder().open("b").unwrap();
    assert_eq!(shown(&second), history.last().shown);
    assert_ne!(shown(&copy), shown(&second));
}

/// A thousand keys and a few changes, with blocks that nothing changed.
#[test]
fn a_larger_base_with_a_log_behind_it() {
    let mut history = History::new();
    let value = "v".repeat(150);
    let scope = |n: u32| Scope::worker(format!("{:02}", n % 20));
    let store = history.store();
    for batch in 0..10 {
        let written = store.transact(|tx| {
            for n in batch * 100..batch * 100 + 100 {
                tx.scope(scope(n)).set(format!("{n:05}"), &value)?;
            }
            Ok(())
        });
        written.unwrap();
    }
    store.snapshot().unwrap();
    let base = store.stats().unwrap().snapshot_lsn;
    history.commit(|tx| {
        tx.scope(scope(3)).clear()?;
        for n in (0..1_000).step_by(37) {
            tx.scope(scope(n)).set(format!("{n:05}"), "new")?;
            tx.scope(scope(n + 1)).delete(format!("{:05}", n + 1))?;
        }
        Ok(())
    });
    history.backup();
    let (restored, shown) = history.restored(RestorePoint::Latest).unwrap();
    assert_eq!(shown, history.last().shown);
    assert!(restored.bytes > 100_000 && restored.lsn > base);
    let old = history.restored(base).unwrap();
    assert_eq!(old.0.entries, 1_000);
    assert!(history.restored(Lsn::new(base.get() - 1)).is_err());
}
