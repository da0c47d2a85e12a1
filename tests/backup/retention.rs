//! What is kept and what goes: never what a kept backup needs.

use std::time::{Duration, UNIX_EPOCH};

use evenkeel::{BackupKind, BackupOptions, Error, Retention};

use crate::parts::{DEST, Rig, bytes};

/// Full, two that go on, full, two that go on.
fn six() -> Rig {
    let mut rig = Rig::new();
    rig.open().unwrap();
    for n in 0..6 {
        rig.commits(4).unwrap();
        let options = BackupOptions::new();
        let options = if n % 3 == 0 { options.full() } else { options };
        let backup = rig.backup_with(options).unwrap();
        assert_eq!(backup.kind == BackupKind::Full, n % 3 == 0);
    }
    rig
}

#[test]
fn the_newest_are_kept_with_all_that_they_need() {
    for keep in 1..8_usize {
        let mut rig = six();
        let removed = rig.backups().retain(Retention::newest(keep)).unwrap();
        let gone: Vec<u64> = (1..=6_u64.saturating_sub(keep as u64)).collect();
        assert_eq!(removed, gone, "{keep}");
        rig.kept.retain(|number, _| !gone.contains(number));
        rig.check(&keep);
        let again = rig.backups().retain(Retention::newest(keep));
        assert!(again.unwrap().is_empty(), "{keep}");
        // Numbers are not given twice, and the next one goes on.
        rig.commits(1).unwrap();
        let next = rig.backup().unwrap();
        assert_eq!((next.number, next.kind), (7, BackupKind::Incremental));
        rig.check(&keep);
    }
}

#[test]
fn any_one_of_them_can_be_removed_and_the_others_stay_whole() {
    for number in 1..=6 {
        let mut rig = six();
        rig.backups().remove(number).unwrap();
        rig.kept.remove(&number);
        rig.check(&number);
        let again = rig.backups().remove(number);
        assert!(matches!(again, Err(Error::NotInBackup { .. })), "{again:?}");
    }
    let rig = six();
    for number in [3, 1, 6, 2, 5, 4] {
        rig.backups().remove(number).unwrap();
        rig.backups().verify().unwrap();
    }
    assert_eq!(rig.files(DEST).len(), 2, "BACKUP and LOCK");
    assert_eq!(rig.backups().list().unwrap(), []);
}

#[test]
fn those_since_a_time_are_kept_too() {
    let mut rig = six();
    let times: Vec<_> = rig
        .backups()
        .list()
        .unwrap()
        .iter()
        .map(|b| b.time())
        .collect();
    let rule = Retention::newest(1);
    let later = times[3] + Duration::from_micros(1);
    let far = times[5] + Duration::from_secs(1);
    for (rule, gone) in [
        (rule.since(UNIX_EPOCH), &[] as &[u64]),
        (rule.since(times[2]), &[1, 2]),
        (rule.since(later), &[3, 4]),
        (Retention::newest(2).since(far), &[]),
        (rule.since(far), &[5]),
    ] {
        assert_eq!(rig.backups().retain(rule).unwrap(), gone, "{rule:?}");
    }
    rig.kept.retain(|&number, _| number == 6);
    rig.check(&"one is left");
    let none = rig.backups().retain(Retention::newest(0));
    assert!(matches!(none, Err(Error::Invalid { .. })));
}

#[test]
fn a_backup_can_see_to_it_itself() {
    let mut rig = Rig::new();
    rig.open().unwrap();
    for n in 0..8_u64 {
        rig.commits(2).unwrap();
        let options = BackupOptions::new().keep(3);
        let options = if n == 4 { options.full() } else { options };
        rig.backup_with(options).unwrap();
        rig.kept.retain(|&number, _| number + 2 > n);
        rig.check(&n);
    }
    // What the last three do not need went with the first full one.
    let first = format!("{DEST}/log/00000001.log");
    assert_eq!(rig.disk.read(first), None);
}

#[test]
fn where_a_catalog_is_damaged_nothing_goes() {
    for number in 1..=6 {
        let mut rig = six();
        let path = rig.backups().get(number).unwrap().files.remove(0);
        rig.disk.flip(&path, 50, 3).unwrap();
        let before = bytes(&rig.disk, DEST);
        let refused = rig.backups().retain(Retention::newest(1)).unwrap_err();
        assert!(
            matches!(&refused, Error::Corrupt(d) if d.path == path),
            "{refused}"
        );
        assert_eq!(bytes(&rig.disk, DEST), before);
        let listed = rig.backups().list().unwrap_err();
        assert!(
            matches!(&listed, Error::Corrupt(d) if d.path == path),
            "{listed}"
        );
        assert_eq!(rig.backups().numbers().unwrap().len(), 6);
        // The next backup works, says so with what it was to keep, and takes nothing away.
        let kept = rig.backup_with(BackupOptions::new().keep(1));
        assert!(matches!(kept, Err(Error::Corrupt(_))), "{kept:?}");
        let after = bytes(&rig.disk, DEST);
        assert!(
            before
                .iter()
                .all(|(path, bytes)| after.get(path) == Some(bytes))
        );
        let made = rig.backups().verify_backup(7).unwrap().backups.remove(0);
        assert_eq!(made.kind, BackupKind::Full);
        // Without the damaged one all is as it should be.
        rig.backups().remove(number).unwrap();
        rig.backups().verify().unwrap();
        rig.backups().retain(Retention::newest(2)).unwrap();
        assert_eq!(rig.backups().verify().unwrap().backups.len(), 2);
    }
}
