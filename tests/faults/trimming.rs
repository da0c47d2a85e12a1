//! Trimming the log to the image, by a store that keeps no snapshots: 11 and 21, when the
//! next opening does keep them.

use evenkeel::testing::{Loss, SimDisk, When};
use evenkeel::{Builder, Result};

use crate::life::PLACE;

const KEYS: u32 = 120;

fn builder(disk: &SimDisk, snapshots: bool) -> Builder {
    disk.store_builder()
        .memtable_bytes(64 * 1024)
        .segment_bytes(8 * 1024, 8 * 1024)
        .block_bytes(1024)
        .snapshots(snapshots)
}

/// Commits until a checkpoint comes by itself, and with it the trimming of many segments.
fn trimmed(disk: &SimDisk) -> Result<u32> {
    let store = builder(disk, false).open(PLACE)?;
    let value = "x".repeat(900);
    let mut acked = 0;
    for key in 0..KEYS {
        if store
            .global()
            .set(format!("k{key:03}"), value.as_str())
            .is_err()
        {
            break;
        }
        acked += 1;
    }
    Ok(acked)
}

#[test]
fn fault_11_a_log_that_was_being_trimmed_to_the_image_has_no_hole() {
    let whole = SimDisk::new(3);
    whole.record(true);
    assert_eq!(trimmed(&whole).unwrap(), KEYS);
    let of_the_log = format!("{PLACE}/wal");
    let gone: Vec<_> = whole
        .trace()
        .into_iter()
        .filter(|call| !call.kind.is_read())
        .filter(|call| call.path.starts_with(&of_the_log))
        .filter(|call| {
            let kind = format!("{:?}", call.kind);
            kind == "RemoveFile" || kind == "Rename"
        })
        .collect();
    assert!(gone.len() > 8, "{gone:?}");
    for call in gone {
        for when in [When::Before, When::After] {
            for seed in 0..24 {
                let disk = SimDisk::new(3);
                disk.stop_at(call.ordinal, when);
                let acked = trimmed(&disk).unwrap_or(0);
                let left = disk.crash(Loss::Random(seed));
                let what = format!("{when:?} {call}, seed {seed}");
                let store = builder(&left, true).open(PLACE);
                let store = store.unwrap_or_else(|e| panic!("{what}: {e}"));
                let found = store.global().len().unwrap();
                assert!(found >= u64::from(acked), "{what}: {found} of {acked}");
                // From now on it can be rebuilt.
                store.close().unwrap();
                // Before the first checkpoint there is none.
                let _ = left.remove(format!("{PLACE}/MANIFEST"));
                let store = builder(&left, true).open(PLACE);
                let store = store.unwrap_or_else(|e| panic!("{what}, without its manifest: {e}"));
                assert_eq!(store.global().len().unwrap(), found, "{what}");
            }
        }
    }
}
