//! Random histories: writes, checkpoints, snapshots, openings, kills, backups and
//! retentions; every backup that is kept holds what the store had when it was made.

use evenkeel::testing::{Loss, Random};
use evenkeel::{BackupOptions, Retention};

use crate::parts::{Rig, Settings};

const SETTINGS: [Settings; 4] = [
    |builder| builder,
    |builder| builder.snapshots(false).memtable_bytes(64 * 1024),
    |builder| {
        builder
            .snapshot_log_bytes(16 * 1024)
            .memtable_bytes(64 * 1024)
    },
    |builder| builder.segment_bytes(64 * 1024, 64 * 1024),
];

fn live(seed: u64) {
    let mut random = Random::new(seed);
    let settings = SETTINGS[random.below(SETTINGS.len() as u64) as usize];
    let mut rig = Rig::with(settings);
    rig.open().unwrap();
    for step in 0..60 {
        match random.below(12) {
            0..5 => rig.commits(1 + random.below(20)).unwrap(),
            5 => drop(rig.store().checkpoint().unwrap()),
            6 if random.below(2) == 0 => drop(rig.store().snapshot().unwrap()),
            7 => {
                match random.below(3) {
                    0 => rig.close().unwrap(),
                    1 => rig.kill(),
                    // All that is acknowledged is durable.
                    _ => rig = rig.after(Loss::Everything),
                }
                rig.open().unwrap();
            }
            8 => {
                let keep = 1 + random.below(4) as usize;
                if let Ok(backups) = rig.builder().backups(crate::parts::DEST) {
                    for gone in backups.retain(Retention::newest(keep)).unwrap() {
                        rig.kept.remove(&gone).unwrap();
                    }
                    rig.check(&format!("seed {seed}, step {step}"));
                }
            }
            n => {
                let options = BackupOptions::new();
                let full = n == 9 && random.below(3) == 0;
                rig.backup_with(if full { options.full() } else { options })
                    .unwrap();
            }
        }
    }
    if !rig.kept.is_empty() {
        rig.check(&format!("seed {seed}"));
    }
}

#[test]
fn every_kept_backup_of_a_random_history_restores() {
    let runs = std::env::var("EVENKEEL_HISTORIES");
    let runs = runs.map_or(40, |runs| runs.parse().unwrap());
    for seed in 1..=runs {
        println!("seed {seed}");
        live(seed);
    }
}
