//! Which backup goes on from an earlier one, and which does not: trimmed logs, other
//! pasts under the same id, damaged predecessors.

use evenkeel::testing::Loss;
use evenkeel::{BackupKind, BackupOptions, RestorePoint, Salvage, Scope};

use crate::parts::{DEST, PLACE, Rig};

fn kind(rig: &mut Rig) -> BackupKind {
    rig.backup().unwrap().kind
}

#[test]
fn one_after_another_goes_on_over_openings_kills_and_snapshots() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(3).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Full);
    // Nothing happened.
    let empty = rig.backup().unwrap();
    assert_eq!(
        (empty.kind, empty.bytes_written),
        (BackupKind::Incremental, 0)
    );
    for round in 0..4 {
        rig.commits(3).unwrap();
        assert_eq!(kind(&mut rig), BackupKind::Incremental, "{round}");
        match round {
            0 => rig.close().unwrap(),
            1 => rig.kill(),
            2 => drop(rig.store().checkpoint().unwrap()),
            _ => drop(rig.store().snapshot().unwrap()),
        }
        rig.open().unwrap();
        // An opening alone is no commit.
        let opened = rig.backup().unwrap();
        assert_eq!(
            (opened.kind, opened.bytes_written),
            (BackupKind::Incremental, 0)
        );
        rig.commits(2).unwrap();
        assert_eq!(kind(&mut rig), BackupKind::Incremental, "{round}");
    }
    rig.check(&"in the end");
}

#[test]
fn a_backup_that_begins_with_a_snapshot_alone_is_gone_on_from() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(40).unwrap();
    rig.store().snapshot().unwrap();
    let full = rig.backup().unwrap();
    assert_eq!(full.files.len(), 2, "no commits behind the snapshot");
    rig.commits(2).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Incremental);
    rig.check(&"a snapshot");
    // One that was restored has no log before its snapshot at all.
    rig.builder()
        .restore(DEST, "data/second", RestorePoint::Latest)
        .unwrap();
    let second = rig.builder().open("data/second").unwrap();
    let kinds = [(); 3].map(|()| second.backup("data/theirs").unwrap().kind);
    assert_eq!(kinds[0], BackupKind::Full);
    assert_eq!(kinds[1..], [BackupKind::Incremental; 2]);
    second.global().set("more", 1).unwrap();
    assert_eq!(
        second.backup("data/theirs").unwrap().kind,
        BackupKind::Incremental
    );
}

#[test]
fn a_log_that_was_trimmed_past_it_makes_a_full_one() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(5).unwrap();
    rig.backup().unwrap();
    rig.commits(80).unwrap();
    rig.store().snapshot().unwrap();
    rig.commits(5).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Full);
    rig.commits(5).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Incremental);
    rig.check(&"trimmed");
}

#[test]
fn without_snapshots_the_log_is_trimmed_by_checkpoints() {
    let mut rig = Rig::with(|builder| builder.snapshots(false));
    rig.open().unwrap();
    rig.commits(80).unwrap();
    rig.close().unwrap();
    rig.open().unwrap();
    rig.commits(80).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Full);
    rig.commits(3).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Incremental);
    rig.close().unwrap();
    rig.open().unwrap();
    rig.commits(80).unwrap();
    rig.backup().unwrap();
    rig.check(&"without snapshots");
}

/// The same id, and even the same LSNs: what was committed decides.
#[test]
fn an_older_copy_of_the_store_that_went_on_by_itself_is_backed_up_in_full() {
    for behind in [0, 2, 6, 20] {
        let mut rig = Rig::new();
        rig.open().unwrap();
        rig.commits(10).unwrap();
        rig.backup().unwrap();
        rig.close().unwrap();
        let old = rig.after(Loss::Nothing);
        rig.open().unwrap();
        rig.commits(6).unwrap();
        rig.backup().unwrap();
        rig.close().unwrap();
        // The folder of backups as it is, the store as it was.
        for path in rig.files(PLACE) {
            rig.disk.remove(path).unwrap();
        }
        for path in old.files(PLACE) {
            rig.disk
                .write(&path, &old.disk.read(&path).unwrap())
                .unwrap();
        }
        rig.open().unwrap();
        for n in 0..behind {
            // As long as what was lost, at the same LSNs and times.
            rig.store()
                .scope(Scope::custom("other"))
                .set("n", n)
                .unwrap();
        }
        assert_eq!(kind(&mut rig), BackupKind::Full, "{behind} commits");
        rig.store().global().set("again", behind).unwrap();
        assert_eq!(kind(&mut rig), BackupKind::Incremental);
        rig.check(&behind);
    }
}

#[test]
fn a_store_that_was_salvaged_is_backed_up_in_full() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(6).unwrap();
    rig.backup().unwrap();
    rig.commits(6).unwrap();
    rig.backup().unwrap();
    rig.kill();
    let log = rig.files("data/store/wal");
    rig.disk.flip(&log[0], 7000, 1).unwrap();
    let salvaging = rig.builder().salvage(Salvage::CutLog).open(PLACE).unwrap();
    assert!(!salvaging.recovery().lost.is_empty());
    salvaging.close().unwrap();
    rig.open().unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Full);
    rig.commits(2).unwrap();
    assert_eq!(kind(&mut rig), BackupKind::Incremental);
    rig.check(&"salvaged");
}

/// Whatever an incremental one would need and that is visibly not there any more.
#[test]
fn a_predecessor_that_is_damaged_is_not_built_on() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(40).unwrap();
    rig.store().snapshot().unwrap();
    rig.commits(3).unwrap();
    rig.backup().unwrap();
    rig.commits(3).unwrap();
    rig.backup().unwrap();
    let files = rig.backups().get(2).unwrap().files;
    for path in &files {
        let mut damaged = rig.after(Loss::Nothing);
        let len = damaged.disk.read(path).unwrap().len() as u64;
        damaged.disk.truncate(path, len - 1).unwrap();
        damaged.open().unwrap();
        damaged.commits(1).unwrap();
        let next = damaged.backup().unwrap();
        assert_eq!(next.kind, BackupKind::Full, "{}", path.display());
        damaged.backups().verify_backup(next.number).unwrap();
        let found = damaged.restored(RestorePoint::Backup(next.number)).unwrap();
        assert_eq!(found, damaged.kept[&next.number]);
        // What is good was not taken away.
        for file in &files {
            assert!(damaged.disk.read(file).is_some(), "{}", file.display());
        }
    }
}

#[test]
fn a_full_one_can_be_asked_for_and_needs_nothing_of_the_others() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    rig.commits(40).unwrap();
    rig.store().snapshot().unwrap();
    let first = rig.backup().unwrap();
    let second = rig.backup_with(BackupOptions::new().full()).unwrap();
    assert_eq!(second.kind, BackupKind::Full);
    assert!(first.files.iter().all(|file| !second.files.contains(file)));
    rig.backups().remove(1).unwrap();
    rig.kept.remove(&1);
    rig.check(&"without the first");
}

/// The log behind a state is long against it: the next one begins with a newer state.
#[test]
fn a_long_log_makes_a_new_beginning() {
    let mut rig = Rig::with(|builder| builder.segment_bytes(1 << 20, 64 << 20));
    rig.open().unwrap();
    rig.commits(3).unwrap();
    rig.store().snapshot().unwrap();
    rig.backup().unwrap();
    let value = "v".repeat(15 << 20);
    let mut kinds = Vec::new();
    for n in 0..6 {
        rig.store()
            .global()
            .set("large", format!("{n}{value}"))
            .unwrap();
        if n == 4 {
            rig.store().checkpoint().unwrap();
        }
        kinds.push(kind(&mut rig));
    }
    // Beyond 64 MiB of log, as soon as the store has a newer state.
    let full = kinds.iter().position(|&kind| kind == BackupKind::Full);
    assert!(
        full.is_some_and(|at| at >= 5) || full.is_none(),
        "{kinds:?}"
    );
    rig.store().snapshot().unwrap();
    rig.store().global().set("large", 1).unwrap();
    let last = kind(&mut rig);
    assert!(full.is_some() || last == BackupKind::Full, "{kinds:?}");
    rig.kept.clear();
    rig.check_contents(&"long");
}
