//! Owns `crash check`: opening a store that was killed, reading it to its end, and
//! telling what is there and what should not be.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use evenkeel::{Recovery, Store};

use super::audit::{Finding, audit};
use super::{keeping, protocol};
use crate::arguments::Check;
use crate::console::{Failure, Lines, tell};

/// So many contradictions are told one by one.
const TOLD_MAX: u64 = 50;

/// Checks a store and prints its records.
///
/// # Errors
/// Contradictions, damage, and whatever keeps the store from being opened or read.
pub(super) fn check(options: &Check) -> Result<(), Failure> {
    if is_nothing(&options.dir) {
        return Ok(());
    }
    // Sizes of its own, not the writer's: what is read does not depend on them. A small
    // first segment, so that a disk that is nearly full can be looked at.
    let builder = Store::builder().segment_bytes(8 * 1024, 64 * 1024 * 1024);
    let store = keeping(builder, options.keeping).open(&options.dir)?;
    let opened = store.recovery();
    protocol::tell_recovery(&opened);

    let mut lines = Lines::new();
    let mut unwritten = None;
    let (mut records, mut contradictions) = (0, 0);
    let read = audit(&store, |finding| match finding {
        Finding::Have(number) => {
            records += 1;
            if let Err(e) = lines.say(protocol::have(number)) {
                unwritten.get_or_insert(e);
            }
        }
        Finding::Contradiction(what) => {
            contradictions += 1;
            if contradictions <= TOLD_MAX {
                tell(format_args!("contradiction: {what}"));
            }
        }
    });
    if let Err(e) = lines.flush() {
        unwritten.get_or_insert(e);
    }
    read?;
    let verified = store.verify()?;
    for damage in &verified.damage {
        tell(format_args!("damage: {damage}"));
    }
    let now = store.recovery();
    protocol::tell_healed(now.healed.get(opened.healed.len()..).unwrap_or_default());
    if options.figures {
        figures(&store, &now, records)?;
    }
    match store.close() {
        // All that was looked for is there; only its last checkpoint was not written.
        Err(e) if e.is_disk_full() => tell(format_args!("not closed cleanly: {e}")),
        closed => closed?,
    }
    if contradictions > 0 {
        return Err(Failure::new(format_args!(
            "{} contradicts itself in {contradictions} places",
            options.dir.display()
        )));
    }
    if let Some(e) = unwritten {
        return Err(Failure::new(format_args!(
            "stdout does not take the records: {e}"
        )));
    }
    tell(format_args!("{records} records, no contradiction"));
    Ok(())
}

/// A folder that is missing or empty is no store yet, and is left as it is.
fn is_nothing(dir: &Path) -> bool {
    let what = match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => "is empty",
        Err(e) if e.kind() == ErrorKind::NotFound => "does not exist",
        // Whatever else it is, opening says it.
        _ => return false,
    };
    tell(format_args!("{} {what}: no records", dir.display()));
    true
}

fn figures(store: &Store, recovery: &Recovery, records: u64) -> Result<(), Failure> {
    let stats = store.stats()?;
    let cut = recovery.cut.as_ref();
    protocol::tell_figures(&[
        ("records", records),
        ("replayed", recovery.replayed_commits),
        ("cuts", u64::from(cut.is_some())),
        ("healed", recovery.healed.len() as u64),
        ("rebuilds", stats.image_rebuilds),
        ("log_bytes", stats.log_bytes_on_disk),
    ]);
    Ok(())
}
