//! Points before, in and behind a migration: what is restored is what the log says, and
//! the next opening makes it whole.

use std::sync::Arc;

use evenkeel::testing::SimDisk;
use evenkeel::{
    Builder, Error, Lsn, ManualClock, MigrationScope, RestorePoint, Result, Scope, StateMigration,
    Store,
};

use crate::parts::{BACKUPS, COPY, PLACE, builder};

/// Doubles, so that whatever is migrated twice is seen.
struct Double;

impl StateMigration for Double {
    fn version(&self) -> u32 {
        2
    }

    fn migrate(&self, state: &mut MigrationScope) -> Result<()> {
        state.convert("n", |n: i64| Ok(2 * n))?;
        Ok(())
    }
}

fn lines(store: &Store) -> String {
    let mut lines = Vec::new();
    store.export_json_lines(&mut lines).unwrap();
    String::from_utf8(lines).unwrap()
}

#[test]
fn each_lsn_of_a_migration() {
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::new(1_000_000));
    let old = || -> Builder { builder(&disk, &clock) };
    let new = || old().migration(Double);
    let store = old().open(PLACE).unwrap();
    for i in 0..4 {
        store
            .scope(Scope::job(i.to_string()))
            .set("n", i + 1)
            .unwrap();
    }
    let (before, first) = (lines(&store), store.stats().unwrap().visible_lsn);
    store.close().unwrap();
    let store = new().open(PLACE).unwrap();
    let (after, last) = (lines(&store), store.stats().unwrap().visible_lsn);
    let switched = store.schema_history().unwrap()[0].lsn;
    assert_eq!(store.backup(BACKUPS).unwrap().schema_version, 2);
    store.close().unwrap();
    assert!(first < switched && switched < last);
    let mut seen = (0, 0);
    for at in first.get()..=last.get() {
        let copy = format!("{COPY}-{at}");
        let point = RestorePoint::Lsn(Lsn::new(at));
        let restored = old().restore(BACKUPS, &copy, point).unwrap();
        let is_old = at < switched.get();
        assert_eq!(restored.schema_version, if is_old { 0 } else { 2 }, "{at}");
        match old().open(&copy) {
            Ok(store) => {
                assert!(is_old, "{at}");
                assert_eq!(lines(&store), before, "{at}");
                store.close().unwrap();
                seen.0 += 1;
            }
            Err(Error::NewerSchema { found: 2, .. }) => {
                assert!(!is_old, "{at}");
                seen.1 += 1;
            }
            Err(e) => panic!("{at}: {e}"),
        }
        let store = new().open(&copy).unwrap();
        assert_eq!(lines(&store), after, "{at}");
        assert_eq!(store.schema_version(), 2);
        store.close().unwrap();
    }
    assert!(seen.0 > 1 && seen.1 > 1, "{seen:?}");
}
